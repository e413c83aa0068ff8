"""How sure is a number? One metric of a method over its seeds, and the difference of two methods."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import ndtri, stdtr, stdtrit

from ..exact_draws import p_value
from ..runs import Run

__all__ = [
    "LEVEL",
    "OF_PRIOR",
    "SEVERAL",
    "Difference",
    "Measured",
    "Spread",
    "difference",
    "explained",
    "holm",
    "largest_spread",
    "measured",
    "numbers",
    "over_seeds",
    "paired",
    "protocols",
    "ratio",
]

LEVEL = 0.95  # of every interval in the book, two-sided
SEVERAL = 3  # so many seeds show how training spreads; fewer show the error of the measurement alone


@dataclass(frozen=True)
class Measured:
    """One metric of one method: a value a seed, and each value's own standard error (nan: not known).

    A value's own error is that of measuring one trained model on a sample of images. It says nothing of
    what another seed would have trained.
    """

    values: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def seeds(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds, divisor n - 1; nan for one seed."""
        return statistics.stdev(self.values) if self.seeds > 1 else math.nan

    @property
    def interval(self) -> float:
        """Half-width of the 95% t-interval of the mean over seeds; nan for fewer than ``SEVERAL``."""
        if self.seeds < SEVERAL:
            return math.nan
        return _t(self.seeds - 1) * self.deviation / math.sqrt(self.seeds)

    @property
    def error(self) -> float:
        """Standard error of the mean from the values' own errors alone; nan where one is not known."""
        return math.hypot(*self.errors) / self.seeds


def measured(runs: Sequence[Run], key: str) -> Measured | None:
    """A metric of the runs that have it, with ``<key>_error`` as its own error; ``None`` where none has."""
    rows = [row for row in map(numbers, runs) if key in row]
    errors = tuple(row.get(f"{key}_error", math.nan) for row in rows)
    return Measured(tuple(row[key] for row in rows), errors) if rows else None


def numbers(run: Run) -> dict[str, float]:
    r"""A run's metrics, and what follows from them.

    * ``train_minutes``, ``epoch_seconds``: how long its training took, and an epoch of it;
    * ``sharpness_gap``, ``sharpness_reconstruction_gap``: how far prior samples and reconstructions are from
      as sharp as the test images, :math:`|\log(\text{sharpness} / \text{sharpness of data})|`;
    * ``mixture_excess``: ``mixture_nats`` less their floor, the same of exact Gaussian draws;
    * ``posterior_w2_p``: how often as many exact draws of the prior read at least ``posterior_w2_squared``
      (:func:`wwae_lib.exact_draws.p_value`). It is an upper bound: where the encoder states a variance, the
      reading scatters less than that of drawn codes;
    * ``knn_accuracy_error``, ``linear_accuracy_error``: binomial, over the test images.
    """
    seconds = run.record["environment"]["train_seconds"]
    values = run.metrics | {"train_minutes": seconds / 60, "epoch_seconds": seconds / run.experiment.epochs}
    for key in ("sharpness", "sharpness_reconstruction"):
        if values.get(key) and values.get("sharpness_data"):  # images of one grey have no logarithm
            values[f"{key}_gap"] = abs(math.log(values[key] / values["sharpness_data"]))
            if f"{key}_error" in values:
                values[f"{key}_gap_error"] = values[f"{key}_error"] / values[key]
    if {"mixture_nats", "mixture_nats_floor"} <= values.keys():
        values["mixture_excess"] = values["mixture_nats"] - values["mixture_nats_floor"]
        both = values.get("mixture_nats_error", math.nan), values.get("mixture_nats_floor_error", math.nan)
        values["mixture_excess_error"] = math.hypot(*both)
    images = run.record["data"]["test"]["images"]
    if (reading := values.get("posterior_w2_squared")) is not None:
        values["posterior_w2_p"] = p_value(reading, images, run.experiment.latent).item()
    for key in ("knn_accuracy", "linear_accuracy"):
        if key in values:
            values.setdefault(f"{key}_error", math.sqrt(values[key] * (1 - values[key]) / images))
    return values


OF_PRIOR = ("fid", "kid", "precision", "recall", "density", "coverage")


def protocols(runs: Iterable[Run], key: str) -> set[tuple[str, str] | None]:
    """By which protocols, against which images, a metric of made images was measured; ``None``: not said.

    More than one do not compare: a distance depends on how many images it is of, and on the reference.
    Metrics that compare no sets of images have no protocol: the set is empty.
    """
    name = "prior" if key in OF_PRIOR else key.removeprefix("fid_")
    if name == key:
        return set()
    hows = [run.record.get("evaluation", {}).get(name) for run in runs if key in run.metrics]
    return {(how["protocol"], how["reference_sha256"]) if how else None for how in hows}


class Spread(NamedTuple):
    """Standard deviation of a metric over seeds, and its degrees of freedom."""

    deviation: float
    freedom: int


def largest_spread(methods: Iterable[Measured]) -> Spread | None:
    """Of the method that varies most, among those of ``SEVERAL`` seeds; ``None`` where there is none."""
    known = [Spread(method.deviation, method.seeds - 1) for method in methods if method.seeds >= SEVERAL]
    return max(known, default=None)


@dataclass(frozen=True)
class Difference:
    """An estimated difference, with what its t-interval is made of.

    Attributes:
        value: the difference.
        error: its standard error; nan where it is not known.
        freedom: degrees of freedom of the error; infinite for a normal law.
        basis: where the error is from.
        over_seeds: whether the interval holds for methods, or for two trained models alone.
    """

    value: float
    error: float
    freedom: float
    basis: str
    over_seeds: bool = True

    @property
    def half(self) -> float:
        """Half-width of the 95% interval; nan where the error is not known."""
        return _t(self.freedom) * self.error

    @property
    def sure(self) -> bool:
        """Whether zero lies outside an interval that holds for methods."""
        return self.over_seeds and abs(self.value) > self.half  # False for nan

    def below(self, bound: float) -> float:
        """p-value of the one-sided test whose alternative is that the difference lies below a bound."""
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        return float(stdtr(self.freedom, (self.value - bound) / self.error))

    def above(self, bound: float) -> float:
        """p-value of the one-sided test whose alternative is that the difference lies above a bound."""
        return Difference(-self.value, self.error, self.freedom, self.basis).below(-bound)

    def within(self, margin: float) -> bool:
        """Whether the whole 95% interval lies within a margin of zero."""
        return abs(self.value) + self.half < margin  # False for nan


def difference(first: Measured, second: Measured, spread: Spread | None = None) -> Difference:
    """``first`` minus ``second``, of runs that have nothing in common.

    * Over seeds: Welch's interval (Welch 1947), with the degrees of freedom of Satterthwaite (1946).
    * A side of a single seed is taken to vary as ``spread`` says: the largest of any method on the same data,
      since one run does not tell its own. That adds no information, and so no degrees of freedom: the
      interval has no more than those of the spread that is lent.
    * Where no spread is known: from the values' own errors, normal. That is an interval for two trained
      models. It leaves out how training spreads, so that no statement on methods is ``sure`` by it.
    """
    value = first.mean - second.mean
    sides = [Spread(side.deviation, side.seeds - 1) if side.seeds > 1 else spread for side in (first, second)]
    counts = first.seeds, second.seeds
    if None not in sides:
        error, freedom = _welch([(side, n) for side, n in zip(sides, counts, strict=True)])
        if min(counts) > 1:
            return Difference(value, error, freedom, f"{counts[0]} and {counts[1]} seeds, Welch")
        basis = f"{counts[0]} and {counts[1]} seeds, largest spread of any method"
        return Difference(value, error, min(freedom, spread.freedom), basis)
    error = math.hypot(first.error, second.error)
    seeds = "1 seed each" if counts == (1, 1) else f"{counts[0]} and {counts[1]} seeds"
    basis = f"{seeds}, " + ("no error known" if math.isnan(error) else "own errors")
    return Difference(value, error, math.inf, basis, over_seeds=False)


WHENCE = {  # what the words of a basis mean
    "own errors": "Own errors are of measuring the trained models, and leave out how training spreads.",
    "largest spread of any method": (
        "Where an interval has the largest spread of any method, a single run is taken to vary as the method "
        "on the same data that varies most."
    ),
    "error bounded from above": (
        "An error that is bounded from above is the sum of two standard errors, the most that it can be for "
        "two measurements of one run."
    ),
    "pairs of visits": (
        "A visit times some steps of one method. Those of one round, soon after each other, make a pair."
    ),
}


def explained(text: str) -> str:
    """What the words mean that say, in a text, where its intervals are from: a sentence each."""
    return " ".join(meaning for words, meaning in WHENCE.items() if words in text)


def ratio(first: Measured, second: Measured) -> tuple[float, float, float] | None:
    """Ratio of two geometric means and the ends of its 95% interval, Welch's of the logarithms.

    ``None`` where a value is not positive; the ends are nan where a side has a single seed.
    """
    if min(*first.values, *second.values) <= 0:
        return None
    logarithms = [Measured(tuple(map(math.log, side.values)), side.errors) for side in (first, second)]
    gap = difference(*logarithms)
    half = gap.half if min(first.seeds, second.seeds) > 1 else math.nan
    return math.exp(gap.value), math.exp(gap.value - half), math.exp(gap.value + half)


def paired(runs: Sequence[Run], first: str, second: str) -> Difference | None:
    """A metric minus another of the same runs; ``None`` where no run has both, by one protocol.

    Two measurements of one run share its weights, and often the images they are held against. Over
    ``SEVERAL`` seeds the differences of each run speak for themselves. With fewer, the sum of the two
    standard errors stands for that of the difference, which it is at most, however they depend on each other.
    """
    comparable = [run for run in runs if len(protocols([run], first) | protocols([run], second)) < 2]
    both = [row for row in map(numbers, comparable) if {first, second} <= row.keys()]
    if not both:
        return None
    if len(both) >= SEVERAL:
        return over_seeds([row[first] - row[second] for row in both])
    errors = [row.get(f"{key}_error", math.nan) for row in both for key in (first, second)]
    value = statistics.fmean(row[first] - row[second] for row in both)
    basis = f"{len(both)} seed{'s' * (len(both) > 1)}, error bounded from above"
    return Difference(value, sum(errors) / len(both), math.inf, basis, over_seeds=False)


def over_seeds(values: Sequence[float], sample: str = "seeds, paired") -> Difference:
    """The mean of a number of each run, such as a difference within it, by Student's interval."""
    if len(values) < SEVERAL:
        return Difference(statistics.fmean(values), math.nan, math.inf, f"{len(values)} {sample}", False)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Difference(statistics.fmean(values), error, len(values) - 1, f"{len(values)} {sample}")


def holm(p: Sequence[float]) -> list[float]:
    """p-values that account for their number (Holm 1979), in the order given.

    If all that are at most a level are rejected, a true hypothesis is among them with a probability of at
    most that level, however the tests depend on each other.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def _welch(sides: Sequence[tuple[Spread, int]]) -> tuple[float, float]:
    """Standard error of a difference of means, and its degrees of freedom."""
    parts = [(side.deviation**2 / n, side.freedom) for side, n in sides]
    total = sum(part for part, _ in parts)
    if not total:
        return 0.0, min(freedom for _, freedom in parts)
    return math.sqrt(total), total**2 / sum(part**2 / freedom for part, freedom in parts)


def _t(freedom: float) -> float:
    level = (1 + LEVEL) / 2
    return float(ndtri(level) if math.isinf(freedom) else stdtrit(freedom, level))
