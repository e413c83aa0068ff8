"""How far is the aggregated posterior from the prior N(0, I)?"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .gaussian import moments, total_moments, w2_squared_diagonal, w2_squared_to_standard_normal

__all__ = ["ESTIMATORS", "expected_root_trace", "kl_to_standard_normal", "mmd_squared", "w2_penalty"]

ESTIMATORS = ("total", "sampled", "diagonal")


def w2_penalty(mean: Tensor, log_variance: Tensor, codes: Tensor, estimator: str = "total") -> Tensor:
    r"""Squared W2 of the aggregated posterior of a batch, taken as Gaussian, to the prior.

    .. math::  W_2^2(N(m, S), N(0, I)) = |m|^2 + \sum_i (\sqrt{\lambda_i(S)} - 1)^2

    (Zhang et al. 2019, abstract, for the idea; the estimators of `m` and `S` are ours to choose):

    * ``total``: without sampling, :math:`S = \operatorname{Cov}(\mu) +
      \overline{\operatorname{diag} \sigma^2}`, the law of total covariance;
    * ``sampled``: mean and covariance of the sampled codes;
    * ``diagonal``: ``total``, its off-diagonal entries ignored.

    Args:
        mean, log_variance: the encoder's :math:`\mu` and :math:`\log \sigma^2`, ``(n, latent)``.
        codes: sampled codes :math:`\mu + \sigma \epsilon`, ``(n, latent)``.
        estimator: one of ``ESTIMATORS``.

    Returns:
        A scalar, not negative, differentiable in all it reads.
    """
    if estimator == "sampled":
        return w2_squared_to_standard_normal(*moments(codes))
    if estimator == "total":
        return w2_squared_to_standard_normal(*total_moments(mean, log_variance.exp()))
    if estimator == "diagonal":
        variance = mean.var(0) + log_variance.exp().mean(0)
        return w2_squared_diagonal(mean.mean(0), variance)
    raise ValueError(f"there is no estimator {estimator!r}; known: {', '.join(ESTIMATORS)}")


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Mean over the batch of :math:`\mathrm{KL}(N(\mu, \operatorname{diag} \sigma^2) \,\|\, N(0, I))`.

    .. math::  \tfrac12 \sum_i (\mu_i^2 + \sigma_i^2 - \log \sigma_i^2 - 1)

    in nats (Kingma & Welling 2014, appendix B). Both arguments ``(n, latent)``; a scalar.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()


def mmd_squared(z: Tensor, prior: Tensor) -> Tensor:
    r"""Unbiased estimate of the squared maximum mean discrepancy of two samples.

    .. math::

        \frac{1}{n(n-1)} \sum_{i \ne j} \bigl(k(z_i, z_j) + k(p_i, p_j)\bigr)
            - \frac{2}{n^2} \sum_{i, j} k(z_i, p_j)

    with a sum of inverse multiquadratic kernels :math:`k(x, y) = \sum_C C / (C + |x - y|^2)`,
    :math:`C = 2 d s` for `s` = 0.1, 0.2, 0.5, 1, 2, 5, 10 (Tolstikhin et al. 2018, section 4 and the
    authors' code, for a prior of variance 1). Its expectation is 0 where the laws agree, so that a
    value can be negative. Time and memory grow with the square of `n`.

    Args:
        z: codes, ``(n, d)`` with ``n >= 2``.
        prior: as many points drawn from the prior, ``(n, d)``.

    Returns:
        A scalar, differentiable in both.

    Raises:
        ValueError: the shapes differ, or fewer than two points.
    """
    if z.shape != prior.shape or z.ndim != 2 or z.shape[0] < 2:
        raise ValueError(f"mmd_squared needs two (n >= 2, d), got {tuple(z.shape)} and {tuple(prior.shape)}")
    n, d = z.shape
    within = _multiquadratic(functional.pdist(z), d).sum() + _multiquadratic(functional.pdist(prior), d).sum()
    across = _multiquadratic(torch.cdist(z, prior), d).sum()
    return 2 * within / (n * (n - 1)) - 2 * across / n**2


def expected_root_trace(n: int, d: int) -> float:
    r"""Mean of :math:`\operatorname{tr} S^{1/2}` over covariances `S` of `n` exact draws of N(0, I).

    The eigenvalues follow Marchenko and Pastur's law with ratio :math:`c = d / (n - 1)` on
    :math:`[a, b] = [(1 - \sqrt c)^2, (1 + \sqrt c)^2]`; Bai & Silverstein (2004, section 5) give
    the next term of a sum :math:`\sum f(\lambda_i)` over them. With
    :math:`x = 1 + c + 2 \sqrt c \cos \theta` both are integrals over a period:

    .. math::

        d \int_0^\pi \sqrt x \, \frac{2 \sin^2 \theta}{\pi x} d\theta
        + \frac{\sqrt a + \sqrt b}{4} - \frac{1}{2 \pi} \int_0^\pi \sqrt x \, d\theta.

    Good to about 0.1 % of `d` (and better the larger `n` and `d`), also where ``n <= d``.

    Args:
        n: points, at least 2.
        d: dimensions.
    """
    c = d / (n - 1)
    theta = (torch.arange(4096, dtype=torch.float64) + 0.5) * math.pi / 4096
    root = (1 + c + 2 * c**0.5 * theta.cos()).sqrt()
    ends = (abs(1 - c**0.5) + 1 + c**0.5) / 4
    return (2 * d * (theta.sin().square() / root).mean() + ends - root.mean() / 2).item()


def _multiquadratic(distance: Tensor, d: int) -> Tensor:
    square = distance.square()
    return sum(2 * d * s / (2 * d * s + square) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
