"""How good is a trained method? Its images are compared with real ones, and its codes with the prior."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import data, files, methods, processes, runs
from ..data import Images, check_pixels, checksum, to_unit
from ..experiments import Experiment
from ..gaussian import total_moments, w2_squared_to_standard_normal
from ..methods import AutoEncoder, Method
from ..precision import distances, wide
from ..shapes import Bytes, Codes, Floats, Labels, PerImage, Pixels
from . import fidelity, inception, latents

__all__ = [
    "MINIMUM_FID_IMAGES",
    "PROTOCOLS",
    "SETS",
    "Protocol",
    "code_metrics",
    "dump",
    "evaluate",
    "fid",
    "missing_sets",
    "possible_sets",
    "prior_samples",
    "quick_metrics",
]

MINIMUM_FID_IMAGES = inception.FEATURES  # fewer images give a covariance of lower rank
FID_IMAGES = 10_000
CHUNK = 500  # images that pass a network at once
NEAREST = 1000  # images whose nearest training images are looked for
SETS = ("prior", "reconstruction", "interpolation", "gaussian", "mixture", "mixture_100", "training")
WITHOUT_ENCODER = ("prior", "training")  # which of them need none
ACTIVE = 0.01  # variance over images of a coordinate's mean above which it is in use


@dataclass(frozen=True)
class Protocol:
    """How many images a distance is measured on.

    Attributes:
        images: made images, and the most images that are reconstructed.
        step: the reference is every ``step``-th of the held-out images.
        extrapolated_to: of how many made images the Frechet distance is, which is extrapolated if that is
            more (:func:`.fidelity.frechet_distance`); by default of those that are made.
    """

    images: int
    step: int
    extrapolated_to: int | None = None


PROTOCOLS = {
    "full": Protocol(FID_IMAGES, 1),
    "extrapolated": Protocol(2_500, 1, FID_IMAGES),  # what a CPU can do for every run
    "brief": Protocol(2_500, 2),
    "selection": Protocol(2_500, 1),  # for settings, on validation images
}


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

    Metrics that need no Inception network come first: those of :func:`quick_metrics` and of
    :func:`code_metrics`, sharpness, and distances to the nearest training images. Then each set of made
    images is compared with real ones. The record is written after each. What was measured before an
    interruption is kept, and is not measured again by the same protocol. The same run, images and machine
    give the same numbers. Processes of ``torchrun`` share the work of the Inception network; the first does
    the rest.

    Args:
        run: the run; its record is replaced.
        images: training images, which classifiers of codes and laws of codes are fitted to.
        test_images: the images held out, of the split that the run recorded: ``test``, or ``valid`` where
            settings are chosen.
        protocol: a name in ``PROTOCOLS``.
        sets: which of ``SETS``; by default ``prior``. For a method without an encoder, those that need one
            are left out.
        device: where to compute.
        redo: measure again what the record holds.
        progress: show progress bars.

    Returns:
        The run with its new record, whose entry ``evaluation`` tells for each set how it was measured.

    Raises:
        ValueError: the protocol or a set is unknown, or there are too few images for an FID.
        RunError: these are not the images that the run recorded; or another process changes the run, or it
            cannot be written to.
    """
    _check_images(run, images, test_images)
    wanted = missing_sets(run, protocol, sets, redo)  # checks its arguments
    without = redo or "codes" not in run.record.get("evaluation", {})
    processes.wait()  # every process has read the record before one changes it
    if wanted:
        _check_enough(PROTOCOLS[protocol].images, "images")
        _check_enough(len(test_images.every(PROTOCOLS[protocol].step)), "reference images")
    if not (wanted or without):
        return run
    with files.owned(run.path) if processes.rank() == 0 else contextlib.nullcontext():
        return _evaluate(run, images, test_images, protocol, wanted, without, device, progress)


def _evaluate(
    run: runs.Run,
    images: Images,
    test_images: Images,
    protocol: str,
    wanted: Sequence[str],
    without: bool,
    device: torch.device | str,
    progress: bool,
) -> runs.Run:
    """The run with the sets that are wanted and, if asked for, all that is measured without Inception."""
    sizes, reference = PROTOCOLS[protocol], test_images.every(PROTOCOLS[protocol].step)
    encoded = _Encoded(runs.load_method(run).to(device), images, test_images)
    seed = run.experiment.seed
    if without:
        entry = {"train_images": len(images), "test_images": len(test_images)}
        run = _add(run, "codes", entry, lambda: _measure_without_inception(encoded, seed))
    network = None
    for name in wanted:
        started = time.perf_counter()
        pixels = encoded.made_images(name, sizes.images, seed, sizes.step)
        _check_enough(len(pixels), f"images of the set {name!r}")
        network = network or _Network(pixels, reference.pixels, reference.sha256, device, progress)
        features = network.features(pixels, real=name == "training")
        seconds = round(time.perf_counter() - started, 1)  # for the images and their features
        entry = network.record() | {
            "protocol": protocol, "reference": reference.split, "images": len(pixels), "seconds": seconds
        }  # fmt: skip
        if sizes.extrapolated_to:
            entry["extrapolated_to"] = sizes.extrapolated_to
        compare = functools.partial(_compare, name, features, network.reference, sizes.extrapolated_to)
        run = _add(run, name, entry, compare)
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

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and what is in it would pass for images of this run")
    _check_images(run, images, test_images)
    names = missing_sets(run, protocol, sets, redo=True)
    count, step = PROTOCOLS[protocol].images, PROTOCOLS[protocol].step
    encoded = _Encoded(runs.load_method(run).to(device), images, test_images)
    written = {name: encoded.made_images(name, count, run.experiment.seed, step) for name in names}
    for name, pixels in (written | {"reference": test_images.every(step).pixels}).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            grey = image.shape[2] == 1
            Image.fromarray(image[..., 0] if grey else image).save(folder / name / f"{number:05}.png")
    return [folder / name for name in (*names, "reference")]


def possible_sets(experiment: Experiment, sets: Sequence[str]) -> list[str]:
    """Which of these sets an experiment's method can make, in the order of ``SETS``.

    Raises:
        ValueError: a set is unknown.
    """
    if unknown := [name for name in sets if name not in SETS]:
        raise ValueError(f"there is no set of images {unknown[0]!r}; known: {', '.join(SETS)}")
    return [name for name in SETS if name in sets and (experiment.has_encoder or name in WITHOUT_ENCODER)]


def missing_sets(
    run: runs.Run, protocol: str = "full", sets: Sequence[str] | None = None, redo: bool = False
) -> list[str]:
    """Which sets a run can make and has not measured by this protocol.

    Raises:
        ValueError: the protocol or a set is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    entries = run.record.get("evaluation", {})
    return [
        name
        for name in possible_sets(run.experiment, SETS[:1] if sets is None else sets)
        if redo or entries.get(name, {}).get("protocol") != protocol
    ]


class _Encoded:
    """A method with its training and held-out images, which are encoded and reconstructed once at most.

    Args:
        method: on the device where to compute, in evaluation mode.
        images: training images.
        test_images: held-out images.
    """

    def __init__(self, method: Method, images: Images, test_images: Images):
        self.method, self.images, self.test_images = method, images, test_images

    @functools.cached_property
    def train_codes(self) -> tuple[Codes, Codes]:
        """Means and variances of the codes of the training images, ``(n, latent)`` each."""
        return encode(self._auto_encoder(), self.images.pixels)

    @functools.cached_property
    def test_codes(self) -> tuple[Codes, Codes]:
        """Means and variances of the codes of the held-out images, ``(n, latent)`` each."""
        return encode(self._auto_encoder(), self.test_images.pixels)

    @functools.cached_property
    def reconstructions(self) -> tuple[Pixels, PerImage]:
        """Held-out images decoded from their mean codes, uint8, and the squared error of each, ``(n,)``."""
        return _reconstruct(self._auto_encoder(), self.test_images.pixels, self.test_codes[0])

    def _auto_encoder(self) -> AutoEncoder:
        assert isinstance(self.method, AutoEncoder), "other methods have no codes"
        return self.method

    @torch.inference_mode()
    def made_images(self, name: str, n: int, seed: int, step: int = 1) -> Pixels:
        """A set of made images, uint8 on the CPU.

        * ``prior``: `n` decoded draws of the prior;
        * ``reconstruction``: the first `n` reference images, decoded from their mean codes;
        * ``interpolation``: `n` decoded midpoints of the mean codes of two reference images, drawn at
          random;
        * ``gaussian``, ``mixture``, ``mixture_100``: `n` decoded draws of a Gaussian, or a mixture of 10 or
          100 of them, fitted to the mean codes of the training images;
        * ``training``: `n` training images, the same for every run. They are what a generator would make
          that has nothing left to learn, so that their distance is the floor of the others'.

        Args:
            name: one of ``SETS``; all but ``prior`` and ``training`` need an auto-encoder.
            n: how many; reconstructions and training images are no more than there are.
            seed: decides the draws.
            step: the reference images are every ``step``-th of the held-out images.
        """
        if name == "prior":
            return prior_samples(self.method, n, seed)
        if name == "training":
            order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(_seed(0, name)))
            return self.images.pixels[order[:n]]
        if name == "reconstruction":
            return self.reconstructions[0][::step][:n]
        drawn_by = _seed(seed, name)
        if name == "interpolation":
            codes = _midpoints(self.test_codes[0][::step], n, drawn_by)
        else:
            draw = {
                "gaussian": latents.draw_gaussian,
                "mixture": latents.draw_mixture,
                "mixture_100": functools.partial(latents.draw_mixture, components=100),
            }[name]
            codes = draw(self.train_codes[0], n, drawn_by)
        device = device_of(self.method)
        return torch.cat([to_pixels(self.method.decode(chunk.to(device))) for chunk in codes.split(CHUNK)])


def _midpoints(codes: Tensor, n: int, seed: int) -> Tensor:
    """`n` midpoints of two different codes, drawn at random."""
    rng = np.random.default_rng(seed)
    first = rng.integers(len(codes), size=n)
    second = (first + rng.integers(1, len(codes), size=n)) % len(codes)
    return (codes[first] + codes[second]) / 2


class _Network:
    """The Inception network, in the precision that serves, and the features of the reference images.

    Args:
        made: the images that are made first, by which the precision is chosen.
        reference: real images; both uint8, ``(n, C, H, W)``.
        checksum: the SHA-256 of the reference.
        device: where the network runs.
        progress: show progress bars.
    """

    def __init__(
        self, made: Tensor, reference: Tensor, checksum: str, device: torch.device | str, progress: bool
    ):
        self.pixels, self.checksum, self.device, self.progress = reference, checksum, device, progress
        self.choice = inception.choose(made, reference, device, progress)
        self.network = inception.network(self.choice.precision)

    def features(self, pixels: Tensor, real: bool = False) -> Tensor:
        """Features of images, ``(n, d)``; those of real images are cached on the disk."""
        if real:
            features = _cached_features(pixels, checksum(pixels), self.network, self.device, self.progress)
        else:
            features = inception.features(pixels, self.network, self.device, self.progress)
        return features.to(self.device)

    def record(self) -> dict[str, Any]:
        """What a run's record says of the network and of the reference."""
        reference = {"reference_images": len(self.pixels), "reference_sha256": self.checksum}
        return reference | {"inception_sha256": inception.sha256(), **self.choice.record()}

    @functools.cached_property
    def reference(self) -> Tensor:
        """The reference's features, ``(m, d)``."""
        features = _cached_features(self.pixels, self.checksum, self.network, self.device, self.progress)
        return features.to(self.device)


def _compare(name: str, made: Tensor, real: Tensor, images: int | None) -> tuple[dict[str, float], dict]:
    """Metrics of a set from features; of prior samples under bare names, and more of them.

    The Frechet distance is that of so many ``images``, the others are of those that there are.
    """
    suffix = "" if name == "prior" else f"_{name}"
    shared = {"reconstruction": "pairs", "interpolation": "unknown"}.get(name, "none")
    measured = _Measured()
    distance = functools.partial(fidelity.frechet_distance, made, real, shared, images=images)
    measured.try_to(lambda: {f"fid{suffix}": distance()}, f"fid{suffix}")
    if name == "prior":
        measured.try_to(lambda: {"kid": fidelity.kid(made, real)}, "kid")
        neighbourhoods = ("precision", "recall", "density", "coverage")
        measured.try_to(lambda: fidelity.neighbourhoods(made, real), *neighbourhoods)
    return measured.metrics, {"unmeasured": measured.why}


class _Measured:
    """Metrics, and why some could not be measured, by name."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.why: dict[str, str] = {}

    def try_to(self, compute: Callable[[], dict[str, Any]], *names: str) -> None:
        """Add what is computed, numbers or estimates; or say of these names why it cannot be."""
        try:
            results = compute()
        except ValueError as error:
            self.why |= dict.fromkeys(names, str(error))
        else:
            estimates = {name: value for name, value in results.items() if isinstance(value, tuple)}
            self.metrics |= results | _with_errors(estimates)


def _with_errors(estimates: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Each number under its name, its standard error under ``<name>_error``."""
    values = {name: value for name, (value, _) in estimates.items()}
    return values | {f"{name}_error": error for name, (_, error) in estimates.items()}


def _add(
    run: runs.Run, name: str, entry: dict, compute: Callable[[], tuple[dict[str, float], dict]]
) -> runs.Run:
    """Compute metrics, and add them to the record as it is on the disk then, in the first process.

    Args:
        run: whose record.
        name: of the record's entry below ``evaluation``.
        entry: how they were measured.
        compute: gives the metrics, and other entries of the record.
    """
    if processes.rank() == 0:
        metrics, more = compute()
        run = runs.load(run.path)
        entries = run.record.get("evaluation", {}) | {name: entry}
        run = run.add_metrics(metrics, evaluation=entries, **more)
    processes.wait()
    return run if processes.rank() == 0 else runs.load(run.path)


def _check_images(run: runs.Run, images: Images, test_images: Images) -> None:
    for given, part in ((images, "train"), (test_images, "test")):
        if given.sha256 != (recorded := run.record["data"][part]["sha256"]):
            raise runs.RunError(
                f"{run.path} has the {part} images with SHA-256 {recorded[:16]}..., "
                f"those at hand have {given.sha256[:16]}... ({given.source})"
            )


def _check_enough(n: int, kind: str) -> None:
    if n < MINIMUM_FID_IMAGES:
        raise ValueError(
            f"FID needs at least {MINIMUM_FID_IMAGES:,} {kind}, one per feature; got {n:,} (without sets of "
            "images, --sets none, everything else is measured)"
        )


# ---------------------------------------------------------------- metrics without the Inception network


def _measure_without_inception(encoded: _Encoded, seed: int) -> tuple[dict[str, float], dict]:
    """Every metric that needs no Inception network, and other entries of the record."""
    method, test_images = encoded.method, encoded.test_images
    shown = {"": prior_samples(method, len(test_images), seed), "_data": test_images.pixels}
    metrics, more = _nearest_training(encoded.images.pixels, shown)
    if isinstance(method, AutoEncoder):
        shown["_reconstruction"] = encoded.reconstructions[0]
        mean, variance = encoded.test_codes
        each = {"posterior_variance": variance.mean(0).tolist(), "code_variance": mean.var(0).tolist()}
        of_codes = _code_metrics(encoded, seed)
        metrics |= _quick_metrics(encoded) | of_codes.metrics
        more["unmeasured"] = of_codes.why
        if np.isfinite(list(each.values())).all():
            more["latent"] = each
    return metrics | _with_errors({f"sharpness{of}": fidelity.sharpness(x) for of, x in shown.items()}), more


def _nearest_training(training: Tensor, shown: dict[str, Tensor]) -> tuple[dict[str, float], dict]:
    """How far samples, and held-out images, are from the training image nearest to them.

    A method that memorises makes samples nearer to training images than other real images are. The distance
    of samples alone says nothing, for it depends on the data.

    Returns:
        Of the first 1,000 images of each kind, root mean square difference of pixels in grey levels of 255:
        the metrics ``neighbour_distance`` (the median) and ``neighbour_distance_5`` (the 5 % nearest), and
        with the suffix ``_data`` of held-out images; and the entry ``neighbours`` of the record, all
        percentiles.
    """
    count = min(NEAREST, *map(len, shown.values()))
    metrics: dict[str, float] = {}
    entry: dict[str, Any] = {"images": count}
    for of, pixels in shown.items():
        first = pixels[:count]
        errors = (first.double() - training[nearest(first, training)].double()).square().flatten(1)
        distances = errors.mean(1).sqrt()
        percentiles = distances.quantile(torch.linspace(0, 1, 101, dtype=torch.float64)).tolist()
        metrics |= {f"neighbour_distance{of}": percentiles[50], f"neighbour_distance{of}_5": percentiles[5]}
        entry["test" if of else "samples"] = percentiles
    return metrics, {"neighbours": entry}


def nearest(images: Tensor, among: Tensor) -> Labels:
    """Index of the image of smallest squared pixel difference to each image, all uint8 ``(n, C, H, W)``."""
    check_pixels(images)
    check_pixels(among)
    points, best = images.flatten(1), []
    for chunk in among.split(2000):
        best.append(distances(points, chunk.flatten(1)).min(1))
    values, places = (torch.stack(parts) for parts in zip(*best, strict=True))
    closest = values.argmin(0)
    return closest * 2000 + places.gather(0, closest[None])[0]


@torch.inference_mode()
def encode(method: AutoEncoder, pixels: Pixels) -> tuple[Codes, Codes]:
    """Means and variances of the codes of uint8 images, ``(n, latent)`` each, float32 on the CPU."""
    device = device_of(method)
    parts = [method.encode(to_unit(chunk.to(device))) for chunk in pixels.split(CHUNK)]
    means, log_variances = zip(*parts, strict=True)
    return torch.cat(means).float().cpu(), torch.cat(log_variances).float().exp().cpu()


@torch.inference_mode()
def _reconstruct(method: AutoEncoder, pixels: Pixels, means: Codes) -> tuple[Pixels, PerImage]:
    """Images decoded from their mean codes, uint8, and the squared error of each, ``(n,)``, on the CPU."""
    device, rebuilt, errors = device_of(method), [], []
    for originals, codes in zip(pixels.split(CHUNK), means.split(CHUNK), strict=True):
        decoded = method.decode(codes.to(device))
        errors.append(methods.squared_error(to_unit(originals.to(device)), decoded).cpu())
        rebuilt.append(to_pixels(decoded))
    return torch.cat(rebuilt), torch.cat(errors)


def device_of(method: Method) -> torch.device:
    return next(method.parameters()).device


def code_metrics(method: Method, images: Images, test_images: Images, seed: int) -> dict[str, float]:
    """What structure the codes have; nothing for a method without an encoder.

    Returns:
        On mean codes: ``knn_accuracy``, ``linear_accuracy`` (:func:`~wwae_lib.measures.latents.accuracies`;
        not for CelebA, whose labels are identities), ``effective_dimension``, ``active_dimensions``
        (coordinates whose mean varies by more than 0.01, Burda et al. 2016, section 4).
        On one code drawn for each test image: ``sliced_w2_squared``, and ``sliced_w2_squared_floor`` of as
        many exact draws; ``ks_mean``, ``ks_rejected``; ``henze_zirkler``, ``henze_zirkler_p``.
        On one code drawn for each image, fitted to training images': ``mixture_nats``, and
        ``mixture_nats_floor`` of as many exact draws (:func:`wwae_lib.measures.latents.mixture_nats`).
    """
    if not isinstance(method, AutoEncoder):
        return {}
    return _code_metrics(_Encoded(method, images, test_images), seed).metrics


def _code_metrics(encoded: _Encoded, seed: int) -> _Measured:
    measured = _Measured()
    if not all(part.isfinite().all() for part in (*encoded.train_codes, *encoded.test_codes)):
        measured.why = {"codes": "the codes of some images are not finite"}
        return measured
    generator = torch.Generator().manual_seed(_seed(seed, "codes"))
    drawn = _draw(*encoded.test_codes, generator)
    _beside_the_prior(measured, _draw(*encoded.train_codes, generator), drawn, seed)
    mean, images, test_images = encoded.test_codes[0], encoded.images, encoded.test_images
    measured.metrics["effective_dimension"] = latents.effective_dimension(mean)
    measured.metrics["active_dimensions"] = int((mean.double().var(0) > ACTIVE).sum())
    if data.get_dataset(images.dataset).classes:
        labelled = encoded.train_codes[0], images.labels, mean, test_images.labels
        measured.try_to(lambda: latents.accuracies(*labelled), "knn_accuracy", "linear_accuracy")
    return measured


def _beside_the_prior(
    measured: _Measured, train: tuple[Tensor, Tensor], test: tuple[Codes, Codes], seed: int
) -> None:
    """Add how far drawn codes are from the prior, and how far as many exact draws of it are, the floor."""
    directions, start = _seed(seed, "directions"), _seed(seed, "mixture of codes")
    for of, pair in {"": (train[0], test[0]), "_floor": (train[1], test[1])}.items():
        distance = latents.sliced_w2_to_prior(pair[1], directions)
        measured.metrics |= _with_errors({f"sliced_w2_squared{of}": distance})
        name = f"mixture_nats{of}"
        measured.try_to(lambda pair=pair, name=name: {name: latents.mixture_nats(*pair, start)}, name)
    measured.metrics |= latents.marginal_normality(test[0])
    # codes of no volume, or of too many dimensions for the test; or too few, or not finite
    names = ("henze_zirkler", "henze_zirkler_p")
    measured.try_to(lambda: dict(zip(names, latents.henze_zirkler(test[0]), strict=True)), *names)


def _draw(mean: Codes, variance: Codes, generator: torch.Generator) -> tuple[Codes, Codes]:
    """A code of each image, and as many exact draws of the prior, ``(n, latent)`` each."""
    noise, exact = torch.randn(2, *mean.shape, generator=generator)
    return mean + variance.sqrt() * noise, exact


@inception.full_float32()
def quick_metrics(method: Method, test_images: Images) -> dict[str, float]:
    """Metrics that take one pass over the test images; none for a method without an encoder.

    Returns:
        ``squared_error``: squared error per image of decoding the mean code, summed over pixels in [0, 1];
        ``posterior_w2_squared``: squared W2 of the aggregated posterior, by its total moments, to N(0, I);
        ``posterior_variance``: the encoder's variance, averaged over images and dimensions.
    """
    if not isinstance(method, AutoEncoder):
        return {}
    return _quick_metrics(_Encoded(method, test_images, test_images))


def _quick_metrics(encoded: _Encoded) -> dict[str, float]:
    mean, variance = (wide(codes) for codes in encoded.test_codes)
    return {
        **_with_errors({"squared_error": fidelity.mean_of(wide(encoded.reconstructions[1]))}),
        "posterior_w2_squared": w2_squared_to_standard_normal(*total_moments(mean, variance)).item(),
        "posterior_variance": variance.mean().item(),
    }


@torch.inference_mode()
def prior_samples(method: Method, n: int, seed: int) -> Pixels:
    """`n` images decoded from the prior, as the uint8 pixels a PNG would hold, on the CPU."""
    return torch.cat(
        [
            # Always a whole chunk: the first numbers that torch draws depend on how many are asked for.
            to_pixels(method.sample(CHUNK, sample_seed(seed, start))[: n - start])
            for start in range(0, n, CHUNK)
        ]
    )


def to_pixels(images: Floats) -> Bytes:
    """Numbers in [0, 1] to the nearest uint8 pixels, on the CPU."""
    return images.mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8)


def _seed(seed: int, purpose: str) -> int:
    """A seed for each purpose, which no other shares."""
    return int(np.random.SeedSequence((seed, *purpose.encode())).generate_state(1)[0])


def sample_seed(seed: int, start: int) -> int:
    return int(np.random.SeedSequence((seed, start, 2048)).generate_state(1)[0])


# ---------------------------------------------------------------- FID


def fid(
    images: Tensor, reference: Tensor, device: torch.device | str = "cpu", progress: bool = True
) -> float:
    """Frechet inception distance of images to a reference set (:func:`.fidelity.frechet_distance`).

    The reference's features are cached in the data folder, by the checksums of its pixels and of the network.

    Args:
        images, reference: uint8 ``(N, C, H, W)``, at least 2,048 each.
        device: where the network runs.
        progress: show progress bars.

    Raises:
        ValueError: fewer than 2,048 images, or no uint8 ones.
    """
    for pixels, name in ((images, "images"), (reference, "reference images")):
        check_pixels(pixels, name)
        _check_enough(len(pixels), name)
    network = _Network(images, reference, checksum(reference), device, progress)
    return fidelity.frechet_distance(network.features(images), network.reference).value


def _cached_features(pixels: Tensor, sha256: str, network: nn.Module, device, progress: bool) -> Tensor:
    """Features of real images, from the cache on the disk where they are there."""
    key = json.dumps({"pixels": sha256, "inception": inception.sha256(), "precision": network.precision})
    path = data.data_root() / "fid" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    cached = _read_features(path, key) if path.exists() else None
    everywhere = processes.gather(torch.tensor([int(cached is not None)], device=device)).all()
    if cached is not None and everywhere:
        return cached
    features = inception.features(pixels, network, device, progress)
    if processes.rank() == 0:
        try:
            files.write_tensors(path, {"features": features}, key=key)
        except files.RunError as error:
            warnings.warn(f"features of real images are computed every time: {error}", stacklevel=2)
    return features


def _read_features(path: Path, key: str) -> Tensor | None:
    """What a file of the cache holds; None, with a warning, if it is damaged: it is only a cache."""
    try:
        tensors, about = files.read_tensors(path)
        if about != {"key": key} or tensors.keys() != {"features"}:
            raise files.RunError(f"{path} holds the features of other images or another network")
    except files.RunError as error:
        warnings.warn(f"features of real images are computed again: {error}", stacklevel=2)
        return None
    return tensors["features"]
