"""With which settings is each method compared? Tried on validation images, with equal effort for all.

One setting of each method cannot be known without trying: the weight of its penalty or, where it has none,
the learning rate. Each is tried at the same five multiples of a centre, with the book's other settings and
one seed. The setting of the lowest Frechet inception distance of prior samples to validation images is
taken. Where that is the first or the last of a method's values, up to two more are tried beyond it
(:func:`factors`), by the same rule for all. No test image is looked at. Choices that all methods share, such
as the learning rate of auto-encoders, are tried on two of them (:func:`shared_choice_trials`). They are
changed where that lowers the distance of both (:func:`helps`).

What may close the gap between prior and codes is tried in the same way, on the WWAE (:func:`remedies`).

A training can fail in its first steps: the encoder gives all images one code, or the decoder makes one image
of all codes, and none of that changes any more (:func:`failed`). It is then made once more, with a learning
rate that rises slowly, and the second training counts (:func:`second_attempt`). That rule, too, is the same
for all methods.

How long to train is tried too: the main methods at a doubling number of epochs, each on a schedule of its
own. Training has converged where the last doubling changed little (:func:`converged`).

Trials are runs like any other, in a results folder of their own. Of them the book keeps record and history
and, of the WWAE's lengths of training, the pictures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import runs
from ..data import get_dataset
from ..experiments import Experiment, experiment
from ..methods import METHODS

__all__ = [
    "CENTRES",
    "CHOSEN",
    "DIMENSIONS",
    "FACTORS",
    "LENGTHS",
    "REMEDIES",
    "REMEDY",
    "SHARED",
    "Remedy",
    "Setting",
    "best_known",
    "best_trial",
    "chosen",
    "chosen_on",
    "compared_methods",
    "complete",
    "converged",
    "dimension_trials",
    "draws_from_prior",
    "encoder_trials",
    "factors",
    "failed",
    "folder",
    "further",
    "helps",
    "last_attempt",
    "length_trials",
    "recorded",
    "recorded_length_trials",
    "remedied",
    "remedies",
    "second_attempt",
    "second_attempts",
    "setting",
    "shared_choice_trials",
    "trial",
    "trials",
]

FOLDER = "selection"  # below the results folder
EPOCHS = 25
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
BELOW, ABOVE = (0.03, 0.01), (30.0, 100.0)  # tried where the lowest distance lies at that end of FACTORS
REMEDIES = ("sliced", "corrected", "accumulated")  # estimators, of wwae_lib.penalties.ESTIMATORS
DIMENSIONS = {"mnist": (8, 16, 32), "fashion_mnist": (8, 16, 32), "celeba": (32, 64, 128)}  # of codes
LENGTHS = (6, 12, 25, 50, 100)  # epochs
WARM_UP = 400  # steps in which the learning rate rises, about an epoch of the grey sets
SHARED: dict[str, dict[str, Any]] = {  # beside the settings of every method's trials, which are the baseline
    "normalised": {"network": "normalised"},
    "rate_half": {"learning_rate": 5e-4},
    "rate_double": {"learning_rate": 2e-3},
    "warm_up": {"warm_up": WARM_UP},
    "batch_64": {"batch_size": 64},
    "latent_double": {},  # twice the data set's dimensions of codes
}
SHARED_ON = ("wwae", "vae_learned")  # methods with unlike penalties
MAIN = ("wwae", "vae_learned", "ae", "gan")  # whose lengths are tried
LITTLE = 0.02  # share of the squared error
FLAT = 0.025  # share of the data's sharpness; the mean image has 0.007 to 0.018 of it, a blurred face 0.035


class Setting(NamedTuple):
    """What is tried of a method: a field of its experiment, and the value that the trials lie around."""

    field: str
    centre: float


# Where a source gives a value, it is the centre or among the trials, on the scale of wwae_lib.methods.
# WAE-GAN's 200 is ten times the centre: without batch normalisation its codes are held to the prior before
# they carry anything. A plain auto-encoder has nothing to set.
CENTRES: dict[str, Setting] = {
    "wwae": Setting("penalty_weight", 10.0),
    "vae": Setting("penalty_weight", 0.1),
    "vae_learned": Setting("penalty_weight", 1.0),
    "vae_bernoulli": Setting("penalty_weight", 1.0),
    "wae_mmd": Setting("penalty_weight", 200.0),
    "wae_gan": Setting("penalty_weight", 20.0),
    "swae": Setting("penalty_weight", 100.0),
    "cwae": Setting("penalty_weight", 1.0),
    "gan": Setting("learning_rate", 2e-4),
    "wgan_gp": Setting("learning_rate", 1e-4),
    "celeba/wae_mmd": Setting("penalty_weight", 500.0),
    "celeba/wae_gan": Setting("penalty_weight", 50.0),
}


# What the trials chose, once all of a method's were made on a data set: a test holds it to their records.
CHOSEN: dict[str, dict[str, Any]] = {
    "mnist/wwae": {"penalty_weight": 1.0},
    "mnist/vae": {"penalty_weight": 0.3},
    "mnist/vae_learned": {"penalty_weight": 3.0},
    "mnist/wae_mmd": {"penalty_weight": 60.0, "warm_up": WARM_UP},
    "mnist/wae_gan": {"penalty_weight": 2.0},
    "mnist/swae": {"penalty_weight": 10.0},
    "mnist/cwae": {"penalty_weight": 3.0},
}


class Remedy(NamedTuple):
    """What the trials of dimensions chose: how many, and the law that new codes are drawn from."""

    latent: int
    law: str  # a metric of wwae_lib.book.dimensions.LAWS


# The lowest distance that new images of the WWAE with its own penalty had on validation images: a test holds
# it to the records.
REMEDY: dict[str, Remedy] = {"mnist": Remedy(16, "fid_mixture")}


def chosen(dataset: str, method: str, **changes: Any) -> Experiment:
    """The experiment of a method with the setting that its trials chose, by default what it began from."""
    return experiment(dataset, method, **CHOSEN.get(f"{dataset}/{method}", {}) | changes)


def best_known(dataset: str, method: str, **changes: Any) -> Experiment:
    """The experiment of a method with the setting that its trials chose on this data set or else on MNIST.

    The latter where images have the shape of MNIST's, and the networks and codes therefore their sizes. It
    stands in until the data set's own trials are made.
    """
    known = CHOSEN.get(f"{chosen_on(dataset, method)}/{method}", {})
    return experiment(dataset, method, **known | changes)


def chosen_on(dataset: str, method: str) -> str:
    """The data set whose trials chose the setting of :func:`best_known`; nothing where none did."""
    if f"{dataset}/{method}" in CHOSEN:
        return dataset
    alike = get_dataset(dataset).shape == get_dataset("mnist").shape
    return "mnist" if alike and f"mnist/{method}" in CHOSEN else ""


def compared_methods(dataset: str) -> list[str]:
    """The methods that are compared on a data set, by name: those of grey images are not on colours."""
    channels = get_dataset(dataset).shape[0]
    return [name for name, kind in METHODS.items() if channels == 1 or not kind.grey_only]


def setting(dataset: str, method: str) -> Setting:
    """What is tried of a method on a data set; by default the weight of its penalty, around what we chose."""
    if known := CENTRES.get(f"{dataset}/{method}") or CENTRES.get(method):
        return known
    return Setting("penalty_weight", experiment(dataset, method).penalty_weight)


def trial(dataset: str, method: str, factor: float, remedy: str = "") -> Experiment:
    """The method with its setting at a multiple of the centre; the WWAE perhaps with another estimator."""
    field, centre = setting(dataset, method)
    times = f"times_{factor:g}".replace(".", "_")
    # five significant digits: 0.3 times 0.1 is 0.03, without what binary fractions add to it
    changes: dict[str, Any] = {field: float(f"{factor * centre:.5g}"), "variant": times}
    if remedy:
        changes |= {"estimator": remedy, "variant": f"{remedy}_{times}"}
    return experiment(dataset, method, epochs=EPOCHS * METHODS[method].times_epochs, **changes)


def trials(dataset: str) -> Iterator[Experiment]:
    """Every method's trials at the five multiples on a data set, the centres of all methods first."""
    for factor in sorted(FACTORS, key=lambda factor: abs(factor - 1)):
        for method in compared_methods(dataset):
            if setting(dataset, method).centre:
                yield trial(dataset, method, factor)


def failed(run: runs.Run) -> bool:
    """Whether a training failed: what it makes of images is hardly sharper than the mean of all images.

    A method that reconstructs nothing cannot fail in this way.
    """
    sharpness = run.metrics.get("sharpness_reconstruction")
    return sharpness is not None and sharpness < FLAT * run.metrics["sharpness_data"]


def second_attempt(experiment: Experiment) -> Experiment:
    """The experiment with a warm-up of the learning rate, for where the first training failed."""
    return dataclasses.replace(experiment, warm_up=WARM_UP, variant=f"{experiment.variant}_warm_up")


def second_attempts(experiments: Iterable[Experiment]) -> Iterator[Experiment]:
    """The second attempts at those of these experiments whose recorded training failed.

    One that had a warm-up failed with it, and is not made again.
    """
    for planned in experiments:
        first = None if planned.warm_up else _load(planned)
        if first and failed(first):
            yield second_attempt(planned)


def further(experiments: Iterable[Experiment]) -> Iterator[Experiment]:
    """The trials beyond the five that the recorded ones of these ask for (:func:`factors`)."""
    kinds = dict.fromkeys((planned.dataset, planned.method, _remedy(planned)) for planned in experiments)
    for dataset, method, remedy in kinds:
        for factor in factors(dataset, method, remedy):
            if factor not in FACTORS:
                yield trial(dataset, method, factor, remedy)


def remedies(dataset: str) -> Iterator[Experiment]:
    """The WWAE's trials with each estimator that may bring its codes nearer to the prior."""
    for factor in sorted(FACTORS, key=lambda factor: abs(factor - 1)):
        for remedy in REMEDIES:
            yield trial(dataset, "wwae", factor, remedy)


def dimension_trials(dataset: str) -> Iterator[Experiment]:
    """Auto-encoders with codes of several dimensions: the more, the less is lost in an image's own code, and
    the farther the codes may lie from a law that one can draw from.

    One without a penalty, the WWAE, and the WWAE that sees beyond two moments. Both with a tenth of the
    centre, which on MNIST gave the lowest distance of the five.
    """
    for remedy in ("", "sliced"):
        for latent in DIMENSIONS[dataset]:
            for method in ("wwae", "ae") if not remedy else ("wwae",):
                changes: dict[str, Any] = {"latent": latent, "variant": f"latent_{latent}", "epochs": EPOCHS}
                if method == "wwae":
                    changes["penalty_weight"] = trial(dataset, method, 0.1).penalty_weight
                if remedy:
                    changes |= {"estimator": remedy, "variant": f"{remedy}_latent_{latent}"}
                yield experiment(dataset, method, **changes)


def remedied(dataset: str, seeds: Iterable[int], epochs: int) -> Iterator[Experiment]:
    """The WWAE with the dimensions that were chosen, and an auto-encoder without a penalty beside it.

    That one needs the warm-up with so many dimensions, as its trials showed.
    """
    changes = {"latent": REMEDY[dataset].latent, "epochs": epochs}
    variant = f"latent_{changes['latent']}"
    for seed in seeds:
        yield chosen(dataset, "wwae", seed=seed, variant=variant, **changes)
        yield second_attempt(chosen(dataset, "ae", seed=seed, variant=variant, **changes))


def factors(dataset: str, method: str, remedy: str = "") -> tuple[float, ...]:
    """The multiples of the centre that belong to a method's trials, ascending.

    The five, and one more beyond the first or the last of them as often as all are recorded and the lowest
    distance lies there, until two more were tried on that side.
    """
    known = {
        factor: run.metrics["fid"]
        for factor in (*BELOW, *FACTORS, *ABOVE)
        if (run := recorded(trial(dataset, method, factor, remedy))) and "fid" in run.metrics
    }
    below, above, tried = list(BELOW), list(ABOVE), list(FACTORS)
    while all(factor in known for factor in tried):
        lowest = min(tried, key=known.__getitem__)
        if lowest == tried[0] and below:
            tried.insert(0, below.pop(0))
        elif lowest == tried[-1] and above:
            tried.append(above.pop(0))
        else:
            break
    return tuple(tried)


def shared_choice_trials(dataset: str) -> Iterator[Experiment]:
    """Choices that all methods share, changed one at a time, on two methods with unlike penalties."""
    for variant, changes in SHARED.items():
        for method in SHARED_ON:
            baseline = trial(dataset, method, 1.0)
            if variant == "latent_double":
                changes = {"latent": 2 * baseline.latent}
            yield dataclasses.replace(baseline, variant=variant, **changes)


def helps(dataset: str, variant: str) -> bool | None:
    """Whether a shared choice lowers the distance of every method that it was tried on, and so is taken.

    None where a trial of it, or of the baseline, is not recorded yet.
    """
    lower = []
    for changed in shared_choice_trials(dataset):
        if changed.variant == variant:
            pair = recorded(changed), recorded(trial(dataset, changed.method, 1.0))
            if not all(run and "fid" in run.metrics for run in pair):
                return None
            with_change, without = (run.metrics["fid"] for run in pair if run)
            lower.append(with_change < without)
    return all(lower)


def length_trials(dataset: str) -> Iterator[Experiment]:
    """The main methods, trained for a doubling number of epochs; the short ones of all methods first."""
    for epochs in LENGTHS:
        for method in MAIN:
            yield chosen(dataset, method, epochs=epochs, variant=f"epochs_{epochs}")


def encoder_trials(dataset: str) -> Iterator[Experiment]:
    """The WWAE with a random encoder, where its experiments have a deterministic one.

    As long as the shortest of the trials of lengths, which stands beside it.
    """
    (plain,) = (
        short for short in length_trials(dataset) if (short.method, short.epochs) == ("wwae", LENGTHS[0])
    )
    if plain.initial_std == 0:
        started = Experiment(dataset=dataset, method="wwae").initial_std
        yield dataclasses.replace(plain, initial_std=started, variant=f"random_{plain.variant}")


def folder() -> Path:
    """Where the trials are recorded."""
    return runs.results_root() / FOLDER


def recorded_trials(dataset: str, method: str, remedy: str = "") -> list[runs.Run]:
    """The recorded trials of a method on a data set, the smallest value first."""
    made = (recorded(trial(dataset, method, factor, remedy)) for factor in factors(dataset, method, remedy))
    return [run for run in made if run]


def complete(dataset: str, method: str, remedy: str = "") -> bool:
    """Whether every trial of a method on a data set is recorded, so that its setting can be chosen."""
    return len(recorded_trials(dataset, method, remedy)) == len(factors(dataset, method, remedy))


def recorded_length_trials(dataset: str, method: str) -> list[runs.Run]:
    """The recorded trials of a method's length of training, the shortest first.

    Where the same training is recorded among the trials of settings or of dimensions, that one serves.
    """
    tried = (*trials(dataset), *dimension_trials(dataset))
    others = {dataclasses.replace(other, variant=""): other for other in tried}
    made = []
    for length in length_trials(dataset):
        if length.method == method:
            twin = others.get(dataclasses.replace(length, variant=""))
            made.append(recorded(length) or (recorded(twin) if twin else None))
    return [run for run in made if run]


def _remedy(experiment: Experiment) -> str:
    return experiment.estimator if experiment.estimator in REMEDIES else ""


def recorded(experiment: Experiment) -> runs.Run | None:
    """The record of a trial that counts, if there is one: where its training failed, the second attempt's."""
    run = last_attempt(experiment)
    return None if run and failed(run) and not run.experiment.warm_up else run


def last_attempt(experiment: Experiment) -> runs.Run | None:
    """The last record of a trial, failed or not: that of the second attempt, if there is one."""
    return _load(second_attempt(experiment)) or _load(experiment)


def _load(experiment: Experiment) -> runs.Run | None:
    """The record of a trial or, where there is none, of the same training as one of the lengths."""
    path = folder() / experiment.name
    if (path / "run.json").exists():
        return runs.load(path)
    twin = dataclasses.replace(experiment, variant=f"epochs_{experiment.epochs}")
    path = folder() / twin.name
    run = runs.load(path) if (path / "run.json").exists() else None
    return run if run and run.experiment == twin else None


def best_trial(dataset: str, method: str, remedy: str = "") -> runs.Run:
    """The trial of the lowest Frechet inception distance.

    Raises:
        ValueError: a trial was not made, or not measured, or saw test images.
    """
    tried, wanted = recorded_trials(dataset, method, remedy), factors(dataset, method, remedy)
    if len(tried) < len(wanted) or not all("fid" in run.metrics for run in tried):
        name = trial(dataset, method, 1.0, remedy).name
        raise ValueError(
            f"{len(tried)} of {len(wanted)} trials like {name} are recorded: reproduce --profile selection"
        )
    if any(run.record["data"]["test"]["split"] != "valid" for run in tried):
        raise ValueError("a setting is chosen on validation images alone")
    return min(tried, key=lambda run: run.metrics["fid"])


def draws_from_prior(method: str) -> bool:
    """Whether new images of a method are judged: a plain auto-encoder has no prior to draw them from."""
    return method != "ae"


def converged(shorter: runs.Run, longer: runs.Run) -> bool:
    """Whether twice the epochs changed little, so that training for the shorter time is enough.

    The squared error of validation images moved by less than 2 %, where the method reconstructs; and the
    Frechet inception distance of prior samples by less than the standard error of the difference, where it
    draws from a prior.
    """
    before, after = shorter.metrics, longer.metrics
    still = True
    if draws_from_prior(longer.experiment.method):
        error = math.hypot(before["fid_error"], after["fid_error"])
        still &= abs(after["fid"] - before["fid"]) < error
    if "squared_error" in after:
        moved = abs(after["squared_error"] - before["squared_error"])
        still &= moved < LITTLE * after["squared_error"]
    return still
