"""How good is a trained method? Reconstruction, the aggregated posterior, FID; and the pictures of a run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from . import methods, runs
from .data import Images, data_root, to_unit
from .gaussian import moments, total_moments, w2_squared, w2_squared_to_standard_normal
from .methods import AutoEncoder, Method

__all__ = [
    "MINIMUM_FID_IMAGES",
    "evaluate",
    "fid",
    "inception_network",
    "load_method",
    "measure",
    "write_pictures",
]

MINIMUM_FID_IMAGES = 2048  # the features' dimension: fewer images give a covariance of lower rank
FID_IMAGES = 10_000
CHUNK = 500  # images that pass a network at once
KEPT_CODES = 2000  # test images whose codes a run keeps
GRID = 10  # images a row and a column of a grid


def load_method(run: runs.Run) -> Method:
    """The trained method of a run, in evaluation mode, on the CPU."""
    method = methods.build(run.experiment)
    try:
        missing = method.state_dict().keys() - method.kept().keys()  # adversaries are not kept
        found = method.load_state_dict(run.weights(), strict=False)
        if found.unexpected_keys or set(found.missing_keys) != missing:
            raise RuntimeError(f"unexpected {found.unexpected_keys}, missing {found.missing_keys}")
    except RuntimeError as error:
        raise runs.RunError(
            f"{run.path}: the weights are not those of its configuration ({' '.join(str(error).split())})"
        ) from error
    return method.eval()


def evaluate(
    run: runs.Run, test_images: Images, *, device: torch.device | str = "cpu", progress: bool = True
) -> runs.Run:
    """Measure a run from its stored weights, FID included, and add the metrics to its record.

    Args:
        run: the run; its record is replaced.
        test_images: the official test split, at least 2,048 images for the FID.
        device: where to compute.
        progress: show progress bars.

    Raises:
        ValueError: too few test images for the FID.
    """
    method = load_method(run).to(device)
    samples = prior_samples(method, FID_IMAGES, run.experiment.seed)
    found = measure(method, test_images) | {"fid": fid(samples, test_images.pixels, device, progress)}
    protocol = {
        "fid_samples": len(samples),
        "fid_reference": len(test_images),
        "inception_sha256": inception_sha256(inception_network()),
    }
    return run.add_metrics(found, evaluation=protocol)


@torch.inference_mode()
def measure(method: Method, test_images: Images) -> dict[str, float]:
    """The cheap metrics, all on test images; none for a method without an encoder.

    Returns:
        ``squared_error``: squared error an image of decoding the mean code, summed over pixels in [0, 1];
        ``posterior_w2_squared``: squared W2 of the aggregated posterior, by its total moments, to N(0, I);
        ``posterior_variance``: the encoder's variance, averaged over images and dimensions.
    """
    if not isinstance(method, AutoEncoder):
        return {}
    device = next(method.parameters()).device
    errors, means, variances = [], [], []
    for pixels in test_images.pixels.split(CHUNK):
        batch = to_unit(pixels.to(device))
        mean, log_variance = method.encode(batch)
        errors.append(methods.squared_error(batch, method.decode(mean)))
        means.append(mean)
        variances.append(log_variance.exp())
    mean, variance = torch.cat(means).double(), torch.cat(variances).double()
    return {
        "squared_error": torch.cat(errors).double().mean().item(),
        "posterior_w2_squared": w2_squared_to_standard_normal(*total_moments(mean, variance)).item(),
        "posterior_variance": variance.mean().item(),
    }


@torch.inference_mode()
def prior_samples(method: Method, n: int, seed: int) -> Tensor:
    """`n` images decoded from the prior, as the uint8 pixels a PNG would hold, on the CPU."""
    return torch.cat(
        [
            # Always a whole chunk: the first numbers that torch draws depend on how many are asked for.
            to_pixels(method.sample(CHUNK, _sample_seed(seed, start))[: n - start])
            for start in range(0, n, CHUNK)
        ]
    )


def to_pixels(images: Tensor) -> Tensor:
    """Numbers in [0, 1] to the nearest uint8 pixels, on the CPU."""
    return images.mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8)


def _sample_seed(seed: int, start: int) -> int:
    return int(np.random.SeedSequence((seed, start, 2048)).generate_state(1)[0])


# ---------------------------------------------------------------- pictures


@torch.inference_mode()
def write_pictures(method: Method, images: Images, test_images: Images, folder: Path, seed: int) -> None:
    """Write a run's grids of images, and codes of its first test images.

    * ``samples.png``: 10 x 10 from the prior, the first of those that the FID sees;
    * ``neighbours.png``: the first ten of them, each above the training image nearest to it;
    * ``reconstructions.png``: rows of originals, each above its row of reconstructions, 50 test images;
    * ``interpolations.png``: a row leads from one test image to another along the straight line of codes;
    * ``codes.safetensors``: mean, std (half precision) and label of the first 2,000 test images' codes.

    A method without an encoder interpolates between draws of the prior, and has neither reconstructions
    nor codes.
    """
    device = next(method.parameters()).device
    samples = prior_samples(method, GRID * GRID, seed)
    _write_grid(folder / "samples.png", samples)
    shown = samples[:GRID]
    _write_grid(folder / "neighbours.png", torch.cat([shown, images.pixels[nearest(shown, images.pixels)]]))
    if isinstance(method, AutoEncoder):
        _write_reconstructions(method, test_images, folder)
        ends = method.encode(to_unit(test_images.pixels[: 2 * GRID].to(device)))[0]
    else:
        generator = torch.Generator().manual_seed(_sample_seed(seed, FID_IMAGES))
        ends = torch.randn(2 * GRID, method.latent, generator=generator).to(device)
    share = torch.linspace(0, 1, GRID, device=device)[:, None]
    lines = [method.decode(torch.lerp(a, b, share)) for a, b in zip(ends[:GRID], ends[GRID:], strict=True)]
    _write_grid(folder / "interpolations.png", to_pixels(torch.cat(lines)))


def nearest(images: Tensor, among: Tensor) -> Tensor:
    """Index of the image of smallest squared pixel difference to each image, all uint8 ``(n, C, H, W)``."""
    points, best = to_unit(images).flatten(1), []
    for chunk in among.split(2000):
        best.append(torch.cdist(points, to_unit(chunk).flatten(1)).min(1))
    values, places = (torch.stack(parts) for parts in zip(*best, strict=True))
    closest = values.argmin(0)
    return closest * 2000 + places.gather(0, closest[None])[0]


def _write_reconstructions(method: AutoEncoder, test_images: Images, folder: Path) -> None:
    """What of a run's pictures needs an encoder."""
    device = next(method.parameters()).device
    originals = to_unit(test_images.pixels[: GRID * GRID // 2].to(device))
    rebuilt = method.reconstruct(originals)
    rows = [row for pair in zip(originals.split(GRID), rebuilt.split(GRID), strict=True) for row in pair]
    _write_grid(folder / "reconstructions.png", to_pixels(torch.cat(rows)))

    mean, log_variance = method.encode(to_unit(test_images.pixels[:KEPT_CODES].to(device)))
    codes = {
        "mean": mean.half().cpu(),
        "std": (0.5 * log_variance).exp().half().cpu(),
        "label": test_images.labels[:KEPT_CODES].clone(),
    }
    with runs.write_aside(folder / "codes.safetensors") as part:
        save_file(codes, part)


def _write_grid(path: Path, pixels: Tensor) -> None:
    """uint8 ``(n, C, H, W)`` as one PNG, ``GRID`` images a row."""
    from PIL import Image

    n, channels, height, width = pixels.shape
    grid = pixels.view(n // GRID, GRID, channels, height, width).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(n // GRID * height, GRID * width, channels).numpy()
    with runs.write_aside(path) as part:
        Image.fromarray(grid[..., 0] if channels == 1 else grid).save(part, "PNG", optimize=True)


# ---------------------------------------------------------------- FID


def fid(
    images: Tensor, reference: Tensor, device: torch.device | str = "cpu", progress: bool = True
) -> float:
    r"""Frechet inception distance (Heusel et al. 2017) of images to a reference set.

    .. math::  W_2^2\bigl(N(m_1, S_1), N(m_2, S_2)\bigr)

    of the moments of 2048 features of pytorch-fid's Inception network, in float64, by
    :func:`wwae_lib.gaussian.w2_squared`. Grey images are repeated to three channels; each is resized to
    299 x 299 as pytorch-fid does. The reference's moments are cached in the data folder, by the
    checksums of its pixels and of the network.

    Args:
        images, reference: uint8 ``(N, C, H, W)``, at least 2,048 each.
        device: where the network runs.
        progress: show progress bars.

    Raises:
        ValueError: fewer than 2,048 images.
    """
    for name, pixels in (("images", images), ("reference images", reference)):
        if len(pixels) < MINIMUM_FID_IMAGES:
            raise ValueError(
                f"FID needs at least {MINIMUM_FID_IMAGES:,} {name}, one a feature; got {len(pixels):,}"
            )
    network = inception_network()
    moments1 = moments(inception_features(images, network, device, progress).double())
    return w2_squared(*moments1, *_reference_moments(reference, network, device, progress)).item()


def inception_network() -> nn.Module:
    """pytorch-fid's Inception network up to the 2048 pooled features, ready to infer.

    Its weights come from torch.hub's cache (``TORCH_HOME``), or are downloaded into it. Batch
    normalisation is folded into the convolutions before it: the same features, to rounding, sooner.
    """
    from pytorch_fid.inception import InceptionV3

    network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    for module in list(network.modules()):
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    return network.to(memory_format=torch.channels_last)


@torch.inference_mode()
def inception_features(
    images: Tensor, network: nn.Module, device: torch.device | str = "cpu", progress: bool = True
) -> Tensor:
    """Features ``(N, 2048)`` float32 of uint8 images ``(N, C, H, W)``, on the CPU."""
    network = network.to(device)
    features = torch.empty(len(images), 2048)
    size = 50
    bar = tqdm(total=len(images), desc="FID features", unit="img", disable=not progress)
    with bar:
        for start in range(0, len(images), size):
            batch = to_unit(images[start : start + size].to(device)).expand(-1, 3, -1, -1)
            (out,) = network(batch.contiguous(memory_format=torch.channels_last))
            features[start : start + size] = out.flatten(1).cpu()
            bar.update(len(batch))
    return features


def inception_sha256(network: nn.Module) -> str:
    """Checksum of every weight that the features depend on."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _reference_moments(
    reference: Tensor, network: nn.Module, device, progress: bool
) -> tuple[Tensor, Tensor]:
    """Moments of the reference's features, from the cache where they are."""
    pixels = hashlib.sha256(reference.contiguous().numpy()).hexdigest()
    key = json.dumps({"pixels": pixels, "inception": inception_sha256(network)})
    path = data_root() / "fid" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        tensors, metadata = runs.read_tensors(path)
        if metadata.get("key") != key or tensors.keys() != {"mean", "covariance"}:
            raise runs.RunError(f"{path} holds the moments of other images or another network; delete it")
        return tensors["mean"], tensors["covariance"]
    mean, covariance = moments(inception_features(reference, network, device, progress).double())
    with runs.write_aside(path) as part:
        save_file({"mean": mean, "covariance": covariance}, part, {"key": key})
    return mean, covariance
