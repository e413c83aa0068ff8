"""How good is a trained method? Its images beside real ones, its codes beside the prior; and its pictures."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import data, fidelity, inception, latents, methods, processes, runs
from .data import Images, to_unit
from .experiments import build
from .gaussian import total_moments, w2_squared_to_standard_normal
from .methods import AutoEncoder, Method

__all__ = [
    "MINIMUM_FID_IMAGES",
    "PROTOCOLS",
    "SETS",
    "Protocol",
    "dump",
    "evaluate",
    "fid",
    "load_method",
    "made_images",
    "measure",
    "measure_codes",
    "missing",
    "prior_samples",
    "write_pictures",
]

MINIMUM_FID_IMAGES = inception.FEATURES  # fewer images give a covariance of lower rank
FID_IMAGES = 10_000
CHUNK = 500  # images that pass a network at once
KEPT_CODES = 2000  # test images whose codes a run keeps
NEAREST = 1000  # images whose nearest training images are looked for
GRID = 10  # images a row and a column of a grid
SETS = ("prior", "reconstruction", "interpolation", "gaussian", "mixture", "training")
WITHOUT_ENCODER = ("prior", "training")  # which of them need none
ACTIVE = 0.01  # variance over images of a coordinate's mean above which it is in use


@dataclass(frozen=True)
class Protocol:
    """How many images a distance is measured on, and how.

    Attributes:
        images: made images, and the most images that are reconstructed.
        step: the reference is every so many-th of the held-out images.
    """

    images: int
    step: int


PROTOCOLS = {
    "full": Protocol(FID_IMAGES, 1),
    "brief": Protocol(2_500, 2),
    "selection": Protocol(2_500, 1),  # for settings, on validation images
}


def load_method(run: runs.Run | Path | str) -> Method:
    """The trained method of a run, in evaluation mode, on the CPU; its weights ask for no gradients.

    Args:
        run: the run, its folder, or its name below the results folder, such as ``mnist/wwae/seed-0``.

    Raises:
        RunError: there is no such run, it is damaged, or its weights were left out of this copy.
    """
    run = run if isinstance(run, runs.Run) else runs.load(run)
    method = build(run.experiment)
    try:
        missing = method.state_dict().keys() - method.kept().keys()  # adversaries are not kept
        found = method.load_state_dict(run.weights(), strict=False)
        # Of what is missing, batch normalisation makes up its own count of batches without a word.
        if found.unexpected_keys or not set(found.missing_keys) <= missing:
            raise RuntimeError(f"unexpected {found.unexpected_keys}, missing {found.missing_keys}")
    except RuntimeError as error:
        raise runs.RunError(
            f"{run.path}: the weights are not those of its configuration ({' '.join(str(error).split())})"
        ) from error
    return method.requires_grad_(False).eval()


@inception.full_float32()
def evaluate(
    run: runs.Run,
    images: Images,
    test_images: Images,
    *,
    protocol: str = "full",
    sets: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    redo: bool = False,
    progress: bool = True,
) -> runs.Run:
    """Measure a run from its stored weights, and add the metrics to its record.

    The cheap ones always: those of :func:`measure` and :func:`measure_codes`, and sharpness. Then each set of
    made images is compared with real ones. The record is written after each, so that what was measured
    before an interruption is kept, and is not measured again by the same protocol. The same run, images
    and machine give the same numbers. Processes of ``torchrun`` share the work of the Inception network; the
    first of them does the rest, and writes.

    Args:
        run: the run; its record is replaced.
        images: training images, which classifiers of codes and laws of codes are fitted to.
        test_images: the images held out, of the split that the run recorded: ``test``, or ``valid`` where
            settings are chosen.
        protocol: a name in ``PROTOCOLS``.
        sets: which of ``SETS``; by default ``prior``. Of those that need an encoder, a method without one has
            none.
        device: where to compute.
        redo: measure again what the record holds.
        progress: show progress bars.

    Returns:
        The run with its new record, whose entry ``evaluation`` tells for each set how it was measured.

    Raises:
        ValueError: the protocol or a set is unknown, or there are too few images for a FID.
        RunError: these are not the images that the run recorded.
    """
    _check_images(run, images, test_images)
    todo = missing(run, protocol, sets, redo)  # checks its arguments
    processes.wait()  # every process has read the record before one changes it
    chosen = PROTOCOLS[protocol]
    real = test_images.pixels[:: chosen.step]
    if todo:
        _check_enough(chosen.images, "images")
        _check_enough(len(real), "reference images")
    method = load_method(run).to(device)
    if redo or "codes" not in run.record.get("evaluation", {}):
        counts = {"train_images": len(images), "test_images": len(test_images)}
        cheap = functools.partial(_measure_cheaply, method, images, test_images, run.experiment.seed)
        run = _add(run, "codes", cheap, counts)
    if not todo:
        return run
    how = {
        "protocol": protocol,
        "reference": test_images.split,
        "reference_images": len(real),
        "reference_sha256": _sha256(real),
        "inception_sha256": inception.sha256(),
    }
    for name in todo:
        begun = time.perf_counter()
        pixels = made_images(method, name, chosen.images, run.experiment.seed, images, real)
        _check_enough(len(pixels), f"images of the set {name!r}")
        choice = inception.choose(pixels, real, device, progress)
        network = inception.network(choice.precision)
        see = _features_of_real if name == "training" else inception.features
        made = see(pixels, network, device, progress).to(device)
        real_features = _features_of_real(real, network, device, progress).to(device)
        compare = functools.partial(_compare, name, made, real_features)
        seconds = round(time.perf_counter() - begun, 1)  # for the images and their features
        run = _add(run, name, compare, how | choice.record() | {"images": len(pixels), "seconds": seconds})
    return run


def dump(
    run: runs.Run,
    images: Images,
    test_images: Images,
    folder: Path,
    *,
    protocol: str = "full",
    sets: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
) -> list[Path]:
    """Write the images that :func:`evaluate` compares as PNGs, for another tool to compare.

    Made images go to a folder for each set, the real ones to ``reference``, below ``folder``; they are
    numbered. Arguments and errors are those of :func:`evaluate`; the folder must be new or empty.

    Returns:
        The folders of images.
    """
    from PIL import Image

    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and what is in it would pass for images of this run")
    _check_images(run, images, test_images)
    chosen = missing(run, protocol, sets, redo=True)
    count, step = PROTOCOLS[protocol].images, PROTOCOLS[protocol].step
    real = test_images.pixels[::step]
    method = load_method(run).to(device)
    made = {name: made_images(method, name, count, run.experiment.seed, images, real) for name in chosen}
    for name, pixels in (made | {"reference": real}).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            grey = image.shape[2] == 1
            Image.fromarray(image[..., 0] if grey else image).save(folder / name / f"{number:05}.png")
    return [folder / name for name in (*chosen, "reference")]


def missing(
    run: runs.Run, protocol: str = "full", sets: Sequence[str] | None = None, redo: bool = False
) -> list[str]:
    """Which sets a run can make and has not measured by this protocol.

    Raises:
        ValueError: the protocol or a set is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    wanted = SETS[:1] if sets is None else sets
    if unknown := [name for name in wanted if name not in SETS]:
        raise ValueError(f"there is no set of images {unknown[0]!r}; known: {', '.join(SETS)}")
    possible = SETS if run.experiment.has_encoder else WITHOUT_ENCODER
    done = run.record.get("evaluation", {})
    return [
        name
        for name in SETS
        if name in wanted and name in possible and (redo or done.get(name, {}).get("protocol") != protocol)
    ]


@torch.inference_mode()
def made_images(method: Method, name: str, n: int, seed: int, images: Images, real: Tensor) -> Tensor:
    """A set of made images, uint8 on the CPU.

    * ``prior``: `n` decoded draws of the prior;
    * ``reconstruction``: the first `n` real images, decoded from their mean codes;
    * ``interpolation``: `n` decoded midpoints of the mean codes of two real images, drawn at random;
    * ``gaussian``, ``mixture``: `n` decoded draws of a Gaussian, or a mixture of 10 of them, fitted to the
      mean codes of the training images;
    * ``training``: `n` training images, the same for every run: what a generator that has nothing left to
      learn would make, and so the floor of a distance.

    Args:
        method: an auto-encoder, or any method for ``prior``.
        name: one of ``SETS``.
        n: how many; reconstructions and training images are no more than there are.
        seed: decides the draws.
        images: training images.
        real: uint8 pixels of held-out images.
    """
    if name == "prior":
        return prior_samples(method, n, seed)
    if name == "training":
        drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(_seed(0, name)))
        return images.pixels[drawn[:n]]
    drawn = _seed(seed, name)
    if name == "reconstruction":
        codes = encode(method, real[:n])[0]
    elif name == "interpolation":
        means = encode(method, real)[0]
        rng = np.random.default_rng(drawn)
        first = rng.integers(len(means), size=n)
        second = (first + rng.integers(1, len(means), size=n)) % len(means)  # another one
        codes = (means[first] + means[second]) / 2
    else:
        draw = {"gaussian": latents.draw_gaussian, "mixture": latents.draw_mixture}[name]
        codes = draw(encode(method, images.pixels)[0], n, drawn)
    device = next(method.parameters()).device
    return torch.cat([to_pixels(method.decode(some.to(device))) for some in codes.split(CHUNK)])


def _compare(name: str, made: Tensor, real: Tensor) -> tuple[dict[str, float], dict]:
    """Metrics of a set from features; of prior samples under bare names, and more of them."""
    suffix = "" if name == "prior" else f"_{name}"
    shared = {"reconstruction": "pairs", "interpolation": "unknown"}.get(name, "none")
    found = {f"fid{suffix}": fidelity.frechet_distance(made, real, shared)}
    if name == "prior":
        found |= {"kid": fidelity.kid(made, real), **fidelity.neighbourhoods(made, real)}
    return _with_errors(found), {}


def _with_errors(found: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Each number under its name, its standard error under ``<name>_error``."""
    values = {name: value for name, (value, _) in found.items()}
    return values | {f"{name}_error": error for name, (_, error) in found.items()}


def _add(
    run: runs.Run, name: str, measure: Callable[[], tuple[dict[str, float], dict]], how: dict
) -> runs.Run:
    """What is measured, and how, written into the record as it is on the disk then, by the first process.

    Args:
        run: whose record.
        name: of the entry below ``evaluation``.
        measure: gives metrics, and other entries of the record.
        how: the entry.
    """
    if processes.rank() == 0:
        found, more = measure()
        now = runs.load(run.path)
        now.add_metrics(found, evaluation=now.record.get("evaluation", {}) | {name: how}, **more)
    processes.wait()
    return runs.load(run.path)


def _check_images(run: runs.Run, images: Images, test_images: Images) -> None:
    for given, part in ((images, "train"), (test_images, "test")):
        if (found := given.sha256()) != (recorded := run.record["data"][part]["sha256"]):
            raise runs.RunError(
                f"{run.path} has the {part} images with SHA-256 {recorded[:16]}..., "
                f"those at hand have {found[:16]}... ({given.source})"
            )


def _check_enough(n: int, what: str) -> None:
    if n < MINIMUM_FID_IMAGES:
        raise ValueError(
            f"FID needs at least {MINIMUM_FID_IMAGES:,} {what}, one a feature; got {n:,} (without sets of "
            "images, --sets none, everything else is measured)"
        )


# ---------------------------------------------------------------- cheap metrics


def _measure_cheaply(
    method: Method, images: Images, test_images: Images, seed: int
) -> tuple[dict[str, float], dict]:
    """Everything that needs no Inception network: metrics, and the record's entry ``latent``."""
    found = measure(method, test_images) | measure_codes(method, images, test_images, seed)
    shown = {"": prior_samples(method, len(test_images), seed), "_data": test_images.pixels}
    if isinstance(method, AutoEncoder):
        whole = len(test_images)
        shown["_reconstruction"] = made_images(
            method, "reconstruction", whole, seed, images, test_images.pixels
        )
    found |= _with_errors({f"sharpness{of}": fidelity.sharpness(pixels) for of, pixels in shown.items()})
    near, more = _nearest_training(images.pixels, {of: shown[of] for of in ("", "_data")})
    found |= near
    if not isinstance(method, AutoEncoder):
        return found, more
    mean, variance = encode(method, test_images.pixels)
    each = {"posterior_variance": variance.mean(0).tolist(), "code_variance": mean.var(0).tolist()}
    return found, more | {"latent": each}


def _nearest_training(training: Tensor, shown: dict[str, Tensor]) -> tuple[dict[str, float], dict]:
    """How far samples, and held-out images, are from the training image nearest to them.

    A method that memorises makes samples nearer to training images than other real images are; one distance
    alone says nothing, for it depends on the data.

    Returns:
        Of the first 1,000 images of each kind, root mean square difference of pixels in grey levels of 255:
        the metrics ``neighbour_distance`` (the median) and ``neighbour_distance_5`` (the 5 % nearest), and
        with the suffix ``_data`` of held-out images; and the entry ``neighbours`` of the record, all
        percentiles.
    """
    found, entry = {}, {"images": min(NEAREST, *map(len, shown.values()))}
    for of, pixels in shown.items():
        some = pixels[: entry["images"]]
        apart = (
            (some.double() - training[nearest(some, training)].double()).square().flatten(1).mean(1).sqrt()
        )
        percentiles = apart.quantile(torch.linspace(0, 1, 101, dtype=torch.float64)).tolist()
        found |= {f"neighbour_distance{of}": percentiles[50], f"neighbour_distance{of}_5": percentiles[5]}
        entry["test" if of else "samples"] = percentiles
    return found, {"neighbours": entry}


@torch.inference_mode()
def encode(method: AutoEncoder, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of the codes of uint8 images, ``(n, latent)`` each, float32 on the CPU."""
    device = next(method.parameters()).device
    parts = [method.encode(to_unit(some.to(device))) for some in pixels.split(CHUNK)]
    means, log_variances = zip(*parts, strict=True)
    return torch.cat(means).float().cpu(), torch.cat(log_variances).float().exp().cpu()


def measure_codes(method: Method, images: Images, test_images: Images, seed: int) -> dict[str, float]:
    """What structure the codes have; nothing for a method without an encoder.

    Returns:
        On mean codes: ``knn_accuracy``, ``linear_accuracy`` (:func:`wwae_lib.latents.accuracies`; not for
        CelebA, whose labels are identities), ``effective_dimension``, ``active_dimensions`` (coordinates
        whose mean varies by more than 0.01, Burda et al. 2016, section 4).
        On one code drawn for each test image: ``sliced_w2_squared``, and ``sliced_w2_squared_floor`` of as
        many exact draws; ``ks_mean``, ``ks_rejected``; ``henze_zirkler``, ``henze_zirkler_p``.
        On one code drawn for each image, fitted to training images': ``mixture_nats``, and
        ``mixture_nats_floor`` of as many exact draws (:func:`wwae_lib.latents.mixture_nats`).
    """
    if not isinstance(method, AutoEncoder):
        return {}
    mean, variance = encode(method, test_images.pixels)
    train_mean, train_variance = encode(method, images.pixels)
    generator = torch.Generator().manual_seed(_seed(seed, "codes"))
    noise, exact = torch.randn(2, *mean.shape, generator=generator)
    drawn = mean + variance.sqrt() * noise
    train_noise, train_exact = torch.randn(2, *train_mean.shape, generator=generator)
    train_drawn = train_mean + train_variance.sqrt() * train_noise
    sliced = {"": drawn, "_floor": exact}
    found = {
        **_with_errors(
            {
                f"sliced_w2_squared{of}": latents.sliced_w2_to_prior(codes, _seed(seed, "directions"))
                for of, codes in sliced.items()
            }
        ),
        "effective_dimension": latents.effective_dimension(mean),
        "active_dimensions": int((mean.double().var(0) > ACTIVE).sum()),
        **latents.marginal_normality(drawn),
    }
    with contextlib.suppress(ValueError):  # codes of no volume, or of too many dimensions for the test
        found["henze_zirkler"], found["henze_zirkler_p"] = latents.henze_zirkler(drawn)
    with contextlib.suppress(ValueError):  # codes of no volume, or too few
        start = _seed(seed, "mixture of codes")
        gains = {"": latents.mixture_nats(train_drawn, drawn, start)}
        gains["_floor"] = latents.mixture_nats(train_exact, exact, start)
        found |= _with_errors({f"mixture_nats{of}": gain for of, gain in gains.items()})
    if data.about(images.dataset).classes:
        found |= latents.accuracies(train_mean, images.labels, mean, test_images.labels)
    return found


@inception.full_float32()
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
        **_with_errors({"squared_error": fidelity.mean_of(torch.cat(errors).double())}),
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


def _seed(seed: int, purpose: str) -> int:
    """A seed for each purpose, which no other shares."""
    return int(np.random.SeedSequence((seed, *purpose.encode())).generate_state(1)[0])


def _sample_seed(seed: int, start: int) -> int:
    return int(np.random.SeedSequence((seed, start, 2048)).generate_state(1)[0])


# ---------------------------------------------------------------- pictures


@inception.full_float32()
@torch.inference_mode()
def write_pictures(method: Method, images: Images, test_images: Images, folder: Path, seed: int) -> None:
    """Write a run's grids of images, and codes of test images.

    * ``samples.png``: 10 x 10 from the prior, the first of those that the FID sees;
    * ``neighbours.png``: the first ten of them, each above the training image nearest to it;
    * ``reconstructions.png``: rows of originals, each above its row of reconstructions, 50 test images;
    * ``interpolations.png``: a row leads from one test image to another along the straight line of codes;
    * ``codes.safetensors``: mean, std (half precision) and label of 2,000 codes, of every so many-th test
      image (the first of MNIST's are no sample of them all).

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

    kept = slice(0, None, max(1, len(test_images) // KEPT_CODES))
    mean, variance = (part[:KEPT_CODES] for part in encode(method, test_images.pixels[kept]))
    codes = {
        "mean": mean.half(),
        "std": variance.sqrt().half(),
        "label": test_images.labels[kept][:KEPT_CODES].clone(),
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
    """Frechet inception distance of images to a reference set (:func:`wwae_lib.fidelity.frechet_distance`).

    The reference's features are cached in the data folder, by the checksums of its pixels and of the network.

    Args:
        images, reference: uint8 ``(N, C, H, W)``, at least 2,048 each.
        device: where the network runs.
        progress: show progress bars.

    Raises:
        ValueError: fewer than 2,048 images.
    """
    for pixels, name in ((images, "images"), (reference, "reference images")):
        _check_enough(len(pixels), name)
    network = inception.network(inception.choose(images, reference, device, progress).precision)
    made = inception.features(images, network, device, progress)
    return fidelity.frechet_distance(made, _features_of_real(reference, network, device, progress)).value


def _features_of_real(reference: Tensor, network: nn.Module, device, progress: bool) -> Tensor:
    """Features of real images, from the cache where they are."""
    how = {"pixels": _sha256(reference), "inception": inception.sha256(), "precision": network.precision}
    key = json.dumps(how)
    path = data.data_root() / "fid" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if processes.gather(torch.tensor([int(path.exists())], device=device)).all():
        tensors, metadata = runs.read_tensors(path)
        if metadata.get("key") != key or tensors.keys() != {"features"}:
            raise runs.RunError(f"{path} holds the features of other images or another network; delete it")
        return tensors["features"]
    features = inception.features(reference, network, device, progress)
    if processes.rank() == 0:
        with runs.write_aside(path) as part:
            save_file({"features": features}, part, {"key": key})
    return features


def _sha256(pixels: Tensor) -> str:
    return hashlib.sha256(pixels.contiguous().numpy()).hexdigest()
