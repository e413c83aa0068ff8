r"""Does optimal transport that knows nothing of Gaussians agree with the closed form?

The experiments of the chapter "Against numerical optimal transport": samples of two known
Gaussians, exact solvers (PythonOT) on the samples, the closed form on the samples' moments,
and the errors of both. Nothing here is used in training.

The tool is an identity. With :math:`T(x) = A x + b` the optimal map from
:math:`N(m_1, S_1)` to :math:`N(m_2, S_2)` and :math:`\delta = m_1 - m_2`,

.. math::

    |x - y|^2 = \varphi(x) + \psi(y) + (y - T x)^\top A^{-1} (y - T x)

for all `x` and `y`, where

.. math::

    \varphi(x) &= |\delta|^2 + 2 \delta^\top (x - m_1) + (x - m_1)^\top (I - A) (x - m_1), \\
    \psi(y) &= -2 \delta^\top (y - m_2) + (y - m_2)^\top (I - A^{-1}) (y - m_2).

So the optimal cost between two samples is the mean of the potentials, an unbiased estimate of
:math:`W_2^2`, plus the cost of matching, never negative, which is the bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import ot
from numpy.typing import NDArray
from scipy.linalg import toeplitz
from scipy.special import gammaln, kl_div

from . import geometry

__all__ = [
    "Estimates",
    "GaussianPair",
    "Potentials",
    "bootstrap_band",
    "convergence",
    "entropic_w2_of_samples",
    "exact_w2_squared",
    "example_pair",
    "interleaved_medians",
    "log_log_slope",
    "matching_lower_bound",
    "product_grid",
    "with_moments",
]

Array = NDArray[np.float64]


class GaussianPair(NamedTuple):
    """Two Gaussians, in the order of arguments of :mod:`wwae_lib.gaussian`."""

    mean1: Array
    cov1: Array
    mean2: Array
    cov2: Array

    def sample(self, n: int, rng: np.random.Generator, repeats: int | None = None) -> tuple[Array, Array]:
        """`n` independent points of each law, ``(n, d)``; with ``repeats`` ``(repeats, n, d)``."""
        shape = n if repeats is None else (repeats, n)
        x = rng.multivariate_normal(self.mean1, self.cov1, shape, method="cholesky")
        y = rng.multivariate_normal(self.mean2, self.cov2, shape, method="cholesky")
        return x, y


def example_pair(d: int) -> GaussianPair:
    r"""The pair that the chapter measures on: correlated, with covariances that do not commute.

    .. math::  S_1 = (0.7^{|i - j|})_{ij}, \qquad S_2 = (s_i s_j (-0.5)^{|i - j|})_{ij},

    with `s` going evenly from 2 to 1, :math:`m_1 = 0` and :math:`m_2 = d^{-1/2} (1, \dots, 1)`.
    For ``d = 1`` these are `N(0, 1)` and `N(1, 4)`: :math:`W_2^2 = 1 + (2 - 1)^2 = 2`.
    """
    steps = np.arange(d)
    scale = np.linspace(2, 1, d)
    cov2 = scale[:, None] * toeplitz((-0.5) ** steps) * scale
    return GaussianPair(np.zeros(d), toeplitz(0.7**steps), np.full(d, d**-0.5), cov2)


@dataclass(frozen=True)
class Potentials:
    """Kantorovich potentials of a pair of Gaussians, and what they say of sampling error.

    Attributes:
        pair: the two Gaussians, with invertible covariances.
        matrix: `A` of the optimal map ``T(x) = m2 + A (x - m1)``.
        inverse: its inverse.
    """

    pair: GaussianPair
    matrix: Array
    inverse: Array

    @classmethod
    def of(cls, pair: GaussianPair) -> Potentials:
        matrix = geometry.transport_map(*pair)[0].numpy()
        return cls(pair, matrix, np.linalg.inv(matrix))

    def first(self, x: Array) -> Array:
        """phi, for points ``(..., d)``: ``(...)``."""
        u, difference = x - self.pair.mean1, self.pair.mean1 - self.pair.mean2
        return difference @ difference + 2 * u @ difference + _quadratic(u, np.eye(u.shape[-1]) - self.matrix)

    def second(self, y: Array) -> Array:
        """psi, for points ``(..., d)``: ``(...)``."""
        v, difference = y - self.pair.mean2, self.pair.mean1 - self.pair.mean2
        return -2 * v @ difference + _quadratic(v, np.eye(v.shape[-1]) - self.inverse)

    def map(self, x: Array) -> Array:
        """T, the optimal map."""
        return self.pair.mean2 + (x - self.pair.mean1) @ self.matrix

    def matching_cost(self, x: Array, y: Array) -> Array:
        """(y - Tx)' A^{-1} (y - Tx) for every pair of points: ``(n, d)``, ``(m, d)`` to ``(n, m)``."""
        factor = np.linalg.cholesky(self.inverse)
        return ot.dist(self.map(x) @ factor, y @ factor)

    @property
    def variance(self) -> float:
        r"""sigma^2 = Var phi(X) + Var psi(Y): `n` times the variance of the mean of the potentials.

        For a Gaussian `u` with covariance `S`, :math:`\operatorname{Var}(a^\top u + u^\top B u)
        = a^\top S a + 2 \operatorname{tr}(B S B S)`.
        """
        difference = self.pair.mean1 - self.pair.mean2
        total = 0.0
        for cov, matrix in ((self.pair.cov1, self.matrix), (self.pair.cov2, self.inverse)):
            product = (np.eye(len(cov)) - matrix) @ cov
            total += 4 * difference @ cov @ difference + 2 * np.trace(product @ product)
        return float(total)


def matching_lower_bound(pair: GaussianPair, n: float) -> float:
    r"""What the mean cost of matching, the bias of the optimal cost between samples, exceeds.

    .. math::

        \frac{2 d}{d + 2} \, \Gamma(1 + d/2)^{2/d} \, (\det S_1 \det S_2)^{1/(2d)} \, n^{-2/d},

    from the mean squared distance of a point to the nearest of `n` others.
    """
    d = len(pair.mean1)
    log_determinants = np.linalg.slogdet(pair.cov1)[1] + np.linalg.slogdet(pair.cov2)[1]
    log_bound = 2 / d * gammaln(1 + d / 2) + log_determinants / (2 * d) - 2 / d * np.log(n)
    return float(2 * d / (d + 2) * np.exp(log_bound))


def exact_w2_squared(x: Array, y: Array) -> float:
    """Squared W2 between two samples, exactly: sorting in one dimension, network simplex beyond.

    Args:
        x, y: ``(n, d)`` and ``(m, d)``, with equal weights on the points.
    """
    if x.shape[1] == 1:
        return float(ot.wasserstein_1d(x[:, 0], y[:, 0], p=2))  # PythonOT returns the p-th power
    return float(ot.emd2([], [], ot.dist(x, y), numItermax=10_000_000))


def entropic_w2_of_samples(x: Array, y: Array, epsilon: float) -> float:
    r"""Entropic squared W2 between two samples, in the convention of :mod:`wwae_lib.gaussian`.

    ``<P, C> + epsilon KL(P | a b^T)`` at the plan `P` of ``ot.sinkhorn`` with uniform weights
    `a` and `b`. Plain matrix scaling, the quickest of PythonOT's variants: for `epsilon` below
    about 1/500 of the largest squared distance it underflows, and ``ot.solve`` is the one to use.

    Args:
        x, y: ``(n, d)`` and ``(m, d)``.
        epsilon: regularisation, positive, in the square of the points' units.
    """
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    cost = ot.dist(x, y)
    plan = ot.sinkhorn(a, b, cost, epsilon, numItermax=10_000, stopThr=1e-7)
    return float((plan * cost).sum() + epsilon * kl_div(plan, np.outer(a, b)).sum())


def with_moments(points: Array, mean: Array, cov: Array) -> Array:
    """An affine image of the points whose mean and covariance (divisor `n`) are exactly those given.

    Args:
        points: ``(n, d)`` with ``n > d``, in general position.
    """
    centred = points - points.mean(0)
    factor = np.linalg.cholesky(centred.T @ centred / len(points))
    return mean + np.linalg.solve(factor, centred.T).T @ np.linalg.cholesky(cov).T


@dataclass(frozen=True)
class Estimates:
    """What independent pairs of samples say of W2^2: one number a repeat, each ``(repeats,)``.

    Attributes:
        n: points in each sample.
        plug_in: the optimal cost between the samples.
        gelbrich: the closed form on the samples' moments (:func:`wwae_lib.book.geometry.gelbrich_bound`).
        potentials: the mean of the potentials, which needs the laws: a yardstick, no estimator.
    """

    n: int
    plug_in: Array
    gelbrich: Array
    potentials: Array

    @property
    def matching(self) -> Array:
        """The cost of matching: what the optimal cost adds to the mean of the potentials."""
        return self.plug_in - self.potentials


def convergence(pair: GaussianPair, repeats: Mapping[int, int], seed: int) -> list[Estimates]:
    """Estimate W2^2 from samples of growing size.

    Args:
        pair: the laws to draw from.
        repeats: how many independent pairs of samples to draw for each size.
        seed: of the one random generator.
    """
    rng, potentials, results = np.random.default_rng(seed), Potentials.of(pair), []
    for n, count in repeats.items():
        x, y = pair.sample(n, rng, count)
        results.append(
            Estimates(
                n=n,
                plug_in=np.array([exact_w2_squared(a, b) for a, b in zip(x, y, strict=True)]),
                gelbrich=geometry.gelbrich_bound(x, y).numpy(),
                potentials=potentials.first(x).mean(-1) + potentials.second(y).mean(-1),
            )
        )
    return results


def bootstrap_band(
    values: Array,
    statistic: Callable[[Array], Array],
    *,
    level: float = 0.95,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic of independent repeats with its percentile bootstrap interval (Efron 1979).

    Args:
        values: ``(repeats,)``.
        statistic: reduces the last axis, e.g. ``lambda v: v.mean(-1)``.

    Returns:
        the statistic, and the lower and upper end of the interval.
    """
    tail = 50 * (1 - level)
    lower, upper = np.percentile(statistic(_resamples(values, draws, seed)), [tail, 100 - tail])
    return float(statistic(values)), float(lower), float(upper)


def log_log_slope(
    sizes: Sequence[int],
    values: Sequence[Array],
    statistic: Callable[[Array], Array],
    *,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """Least-squares slope of log(statistic) against log(size), with its standard error.

    The standard error is the bootstrap's: the repeats are resampled at every size.

    Args:
        sizes: the sample sizes.
        values: for every size the repeats, ``(repeats,)``.
        statistic: reduces the last axis to a positive number.

    Returns:
        slope and standard error.
    """
    logs = np.log(np.asarray(sizes, dtype=float))
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
    slope = sum(w * np.log(statistic(v)) for w, v in zip(weights, values, strict=True))
    resampled = sum(
        w * np.log(statistic(_resamples(v, draws, seed + number)))
        for number, (w, v) in enumerate(zip(weights, values, strict=True))
    )
    return float(slope), float(np.std(resampled, ddof=1))


def product_grid(mean: Array, cov: Array, size: int, extent: float = 6.0) -> tuple[Array, Array]:
    """A Gaussian as weights on a grid along its principal axes, for solvers that want a histogram.

    The trapezoidal rule converges geometrically for Gaussian integrands (Trefethen & Weideman
    2014): what is left is the mass beyond ``extent`` standard deviations.

    Args:
        mean, cov: ``(d,)`` and ``(d, d)``.
        size: points along each axis.
        extent: half the width of the grid, in standard deviations.

    Returns:
        points ``(size**d, d)`` and weights ``(size**d,)`` that sum to 1.
    """
    values, vectors = np.linalg.eigh(cov)
    ticks = np.linspace(-extent, extent, size)
    nodes = np.stack(np.meshgrid(*[ticks] * len(mean), indexing="ij"), -1).reshape(-1, len(mean))
    weights = np.exp(-(nodes**2).sum(-1) / 2)
    return mean + nodes * np.sqrt(values) @ vectors.T, weights / weights.sum()


def interleaved_medians(
    tasks: Mapping[str, Callable[[], object]], rounds: int, spell: float = 0.02
) -> dict[str, float]:
    """Median wall-clock seconds of a call of each task.

    The tasks take turns, so that a busy machine slows all alike. In its turn a task is called
    until ``spell`` seconds have passed, so that a short one is measured warm, as a training
    loop would find it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < spell:
                task()
                calls += 1
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def _quadratic(u: Array, matrix: Array) -> Array:
    return ((u @ matrix) * u).sum(-1)


def _resamples(values: Array, draws: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return values[rng.integers(len(values), size=(draws, len(values)))]
