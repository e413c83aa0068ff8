"""How sure is a number? One metric of a method over its seeds, and the difference of two methods."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import ndtri, stdtrit

from ..runs import Run

__all__ = [
    "LEVEL",
    "SEVERAL",
    "Difference",
    "Measured",
    "Spread",
    "difference",
    "largest_spread",
    "measured",
    "numbers",
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
    found = [one for one in map(numbers, runs) if key in one]
    errors = tuple(one.get(f"{key}_error", math.nan) for one in found)
    return Measured(tuple(one[key] for one in found), errors) if found else None


def numbers(run: Run) -> dict[str, float]:
    r"""A run's metrics, and what follows from them.

    * ``train_minutes``, ``epoch_seconds``: how long its training took, and an epoch of it;
    * ``sharpness_gap``, ``sharpness_reconstruction_gap``: how far prior samples and reconstructions are from
      as sharp as the test images, :math:`|\log(\text{sharpness} / \text{sharpness of data})|`;
    * ``knn_accuracy_error``, ``linear_accuracy_error``: binomial, over the test images.
    """
    seconds = run.record["environment"]["train_seconds"]
    found = run.metrics | {"train_minutes": seconds / 60, "epoch_seconds": seconds / run.experiment.epochs}
    for key in ("sharpness", "sharpness_reconstruction"):
        if found.get(key) and found.get("sharpness_data"):  # images of one grey have no logarithm
            found[f"{key}_gap"] = abs(math.log(found[key] / found["sharpness_data"]))
            if f"{key}_error" in found:
                found[f"{key}_gap_error"] = found[f"{key}_error"] / found[key]
    for key in ("knn_accuracy", "linear_accuracy"):
        if key in found:
            images = run.record["data"]["test"]["images"]
            found.setdefault(f"{key}_error", math.sqrt(found[key] * (1 - found[key]) / images))
    return found


class Spread(NamedTuple):
    """Standard deviation of a metric over seeds, and its degrees of freedom."""

    deviation: float
    freedom: int


def largest_spread(methods: Iterable[Measured]) -> Spread | None:
    """Of the method that varies most, among those of ``SEVERAL`` seeds; ``None`` where there is none."""
    known = [Spread(one.deviation, one.seeds - 1) for one in methods if one.seeds >= SEVERAL]
    return max(known, default=None)


class Difference(NamedTuple):
    """Of two means: its value, half-width of its 95% interval (nan: not known), and where that is from.

    ``over_seeds`` tells whether the interval holds for methods, or for two trained models alone.
    """

    value: float
    half: float
    basis: str
    over_seeds: bool = True

    @property
    def sure(self) -> bool:
        """Whether zero lies outside an interval that holds for methods."""
        return self.over_seeds and abs(self.value) > self.half  # False for nan


def difference(first: Measured, second: Measured, spread: Spread | None = None) -> Difference:
    """``first`` minus ``second``, taken as independent.

    * Over seeds: Welch's interval (Welch 1947).
    * A side of a single seed is taken to vary as ``spread`` says: the largest of any method on the same data,
      since one run does not tell its own.
    * Where no spread is known: from the values' own errors, normal. That is an interval for two trained
      models. It leaves out how training spreads, so that no statement on methods is ``sure`` by it.
    """
    value = first.mean - second.mean
    sides = [Spread(one.deviation, one.seeds - 1) if one.seeds > 1 else spread for one in (first, second)]
    if None not in sides:
        counts = first.seeds, second.seeds
        half = _welch([(side, n) for side, n in zip(sides, counts, strict=True)])
        lent = ", Welch" if min(counts) > 1 else ", largest spread of any method"
        return Difference(value, half, f"{counts[0]} and {counts[1]} seeds{lent}")
    half = float(ndtri((1 + LEVEL) / 2)) * math.hypot(first.error, second.error)
    basis = "1 seed each, " + ("no error known" if math.isnan(half) else "own errors")
    return Difference(value, half, basis, over_seeds=False)


def _welch(sides: Sequence[tuple[Spread, int]]) -> float:
    parts = [(side.deviation**2 / n, side.freedom) for side, n in sides]
    total = sum(part for part, _ in parts)
    if not total:
        return 0.0
    freedom = total**2 / sum(part**2 / freedom for part, freedom in parts)
    return _t(freedom) * math.sqrt(total)


def _t(freedom: float) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2))
