r"""What else is known of the W2 geometry of Gaussians: maps, shortest paths, barycentres, entropic distances.

Arguments are those of :mod:`wwae_lib.gaussian`, which is what a loss needs; the theory chapters try these.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..gaussian import (
    Function,
    InverseRoot,
    check_shapes,
    eye_like,
    floating,
    full_precision,
    gaussian_pair,
    matched_roots,
    moments,
    symmetric,
    w2_squared,
)
from ..shapes import Matrices, Values, Vectors

__all__ = [
    "barycentre",
    "entropic_w2_squared",
    "gelbrich_bound",
    "geodesic",
    "sinkhorn_divergence",
    "transport_map",
]


def gelbrich_bound(x, y) -> Values:
    r"""Squared W2 of the moments of two samples: a lower bound of the samples' own squared W2.

    Of all laws with given means and covariances, Gaussians are the closest in W2 (Gelbrich
    1990). The laws here are the empirical ones, mass `1/n` on each point, so the covariances
    have divisor `n`: with ``n - 1`` the inequality can fail. Equality holds where an affine
    map with a symmetric positive semi-definite matrix carries one sample to the other.

    Args:
        x, y: ``(..., n, d)`` and ``(..., m, d)``, each with at least two points.

    Returns:
        ``(...)``, differentiable in both samples.

    Raises:
        ValueError: as :func:`~wwae_lib.gaussian.moments` and :func:`~wwae_lib.gaussian.w2_squared`.
    """
    x, y = floating(x, y)
    (mean1, cov1), (mean2, cov2) = moments(x), moments(y)
    n, m = x.shape[-2], y.shape[-2]
    return w2_squared(mean1, cov1 * ((n - 1) / n), mean2, cov2 * ((m - 1) / m))


@torch.no_grad()
def transport_map(mean1, cov1, mean2, cov2) -> tuple[Matrices, Vectors]:
    r"""The optimal map ``T(x) = A x + b`` from one Gaussian to another.

    .. math::

        A = S_2 S_1^{1/2} \bigl((S_1^{1/2} S_2 S_1^{1/2})^{1/2}\bigr)^{+} (S_1^{1/2})^{+},
        \qquad b = m_2 - A m_1,

    with :math:`^+` the pseudo-inverse. For invertible `S_1` it is the symmetric positive
    semi-definite :math:`S_1^{-1/2} (S_1^{1/2} S_2 S_1^{1/2})^{1/2} S_1^{-1/2}` (Knott & Smith
    1984). For singular `S_1` it is the conditional mean of an optimal coupling, and carries
    the first Gaussian to the second unless `S_2` has variance in directions that `S_1`
    cannot serve, :math:`\operatorname{range} S_2 \cap \ker S_1 \neq 0`.

    Args, raises: as :func:`~wwae_lib.gaussian.w2_squared`. Not differentiable.

    Returns:
        `A` of shape ``(..., d, d)`` and `b` of shape ``(..., d)``.
    """
    mean1, cov1, mean2, cov2 = gaussian_pair(mean1, cov1, mean2, cov2)
    with full_precision(mean1):
        _, inverse1, root2, left, values, right = matched_roots(cov1, cov2)
        served = values > torch.finfo(values.dtype).eps * values.shape[-1] * values.amax(-1, keepdim=True)
        matrix = root2 @ (right.mT * served.unsqueeze(-2)) @ left.mT @ inverse1
        return matrix, mean2 - (matrix @ mean1.unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def geodesic(mean1, cov1, mean2, cov2, t) -> tuple[Vectors, Matrices]:
    r"""Mean and covariance at time `t` of the shortest path between two Gaussians.

    McCann's (1997) interpolation: the law of :math:`(1 - t) X + t Y` for an optimal coupling
    of `X` and `Y`, again a Gaussian. Its covariance is :math:`G G^\top` with
    :math:`G = (1 - t) S_1^{1/2} + t S_2^{1/2} U^\top` and `U` the polar factor of
    :math:`S_1^{1/2} S_2^{1/2}`; for invertible `S_1`, :math:`((1 - t) I + t A) S_1
    ((1 - t) I + t A)` with `A` the matrix of :func:`transport_map` (Takatsu 2011). Where both
    covariances are singular there can be several shortest paths; this is one of them.

    Args:
        mean1, cov1, mean2, cov2: as :func:`~wwae_lib.gaussian.w2_squared`.
        t: time in [0, 1], a number or any shape that broadcasts with the batch dimensions.

    Returns:
        mean ``(..., d)`` and covariance ``(..., d, d)``. Not differentiable.

    Raises:
        ValueError: as :func:`~wwae_lib.gaussian.w2_squared`, or a time outside [0, 1].
    """
    mean1, cov1, mean2, cov2 = gaussian_pair(mean1, cov1, mean2, cov2)
    t = torch.as_tensor(t, dtype=mean1.dtype, device=mean1.device)
    if ((t < 0) | (t > 1)).any():
        raise ValueError(f"a time lies in [0, 1], got {t.min().item():.3g} to {t.max().item():.3g}")
    with full_precision(mean1):
        root1, _, root2, left, _, right = matched_roots(cov1, cov2)
        t = t.unsqueeze(-1)
        mean = (1 - t) * mean1 + t * mean2
        t = t.unsqueeze(-1)
        factor = (1 - t) * root1 + t * root2 @ (left @ right).mT
        return mean, factor @ factor.mT


@torch.no_grad()
def barycentre(means, covs, weights=None, *, tolerance=None, max_steps=1000) -> tuple[Vectors, Matrices]:
    r"""The Gaussian that minimises the weighted sum of squared W2 distances to given Gaussians.

    The mean is the weighted mean; the covariance is the limit of the fixed-point iteration of
    Alvarez-Esteban et al. (2016),

    .. math::

        S \leftarrow S^{-1/2} \Bigl(\sum_i w_i (S^{1/2} S_i S^{1/2})^{1/2}\Bigr)^2 S^{-1/2},

    computed without the inverses as :math:`G G^\top`, :math:`G = \sum_i w_i S_i^{1/2} U_i^\top`
    with `U_i` the polar factor of :math:`S^{1/2} S_i^{1/2}`. It converges to the unique
    barycentre if at least one `S_i` of positive weight is invertible.

    Args:
        means, covs: ``(k, d)`` and ``(k, d, d)``.
        weights: ``(k,)``, not negative; they are divided by their sum. Equal by default.
        tolerance: stop when a step moves `S`, in the Frobenius norm, by less than this
            fraction of its size; by default 100 times the rounding of the dtype.
        max_steps: give up after so many.

    Returns:
        mean ``(d,)`` and covariance ``(d, d)``. Not differentiable.

    Raises:
        ValueError: shapes do not fit, or weights are negative or all 0.
        RuntimeError: no convergence.
    """
    means, covs = floating(means, covs)
    check_shapes(means, covs, "means", "covs")
    weights = torch.ones_like(means[:, 0]) if weights is None else floating(weights)[0].to(means)
    if means.ndim != 2 or covs.ndim != 3 or not len(means) == len(covs) == len(weights):
        raise ValueError("means must be (k, d), covs (k, d, d) and weights (k,)")
    if (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("weights must not be negative, and some must be positive")
    weights = weights / weights.sum()
    tolerance = 100 * torch.finfo(means.dtype).eps if tolerance is None else tolerance
    with full_precision(means):
        covs = symmetric(covs)
        mean, cov = weights @ means, (weights[:, None, None] * covs).sum(0)
        for _ in range(max_steps):
            _, _, roots, left, _, right = matched_roots(cov.expand_as(covs), covs)
            factor = (weights[:, None, None] * roots @ (left @ right).mT).sum(0)
            previous, cov = cov, factor @ factor.mT
            if not (cov - previous).norm() > tolerance * previous.norm():
                return mean, cov
    raise RuntimeError(f"the barycentre did not converge to {tolerance:.1g} in {max_steps} steps")


def entropic_w2_squared(mean1, cov1, mean2, cov2, epsilon: float) -> Values:
    r"""Entropy-regularised squared W2 between two Gaussians.

    .. math::

        \min_\pi \mathbb{E}_\pi |X - Y|^2 + \varepsilon \, \mathrm{KL}(\pi \,|\, \mu_1 \otimes \mu_2)
        = |m_1 - m_2|^2 + \operatorname{tr} S_1 + \operatorname{tr} S_2
          - \sum_i \Bigl(\delta_i - \sigma^2 - \sigma^2 \log \frac{\delta_i + \sigma^2}{2 \sigma^2}\Bigr)

    with :math:`\sigma^2 = \varepsilon / 2`, :math:`\delta_i = (4 s_i^2 + \sigma^4)^{1/2}` and
    `s` the singular values of :math:`S_1^{1/2} S_2^{1/2}` (Janati et al. 2020, theorem 1;
    Mallasto et al. 2022). ``ot.sinkhorn(a, b, M, reg=epsilon)`` with `M` the squared distances
    solves the same problem for samples: its plan `P` attains
    ``(P * M).sum() + epsilon * (P * log(P / outer(a, b))).sum()``.

    It is not a distance: it does not vanish for equal Gaussians (:func:`sinkhorn_divergence`
    does). It tends to :func:`~wwae_lib.gaussian.w2_squared` as epsilon goes to 0. Its gradient
    :math:`I - S_2^{1/2} \, 2 (\sigma^2 + (4 S_2^{1/2} S_1 S_2^{1/2} + \sigma^4)^{1/2})^{-1}
    S_2^{1/2}` in `S_1` exists for singular covariances too.

    Args:
        mean1, cov1, mean2, cov2: as :func:`~wwae_lib.gaussian.w2_squared`.
        epsilon: regularisation, positive, in the square of the input's units.

    Returns:
        ``(...)``, differentiable; never negative.

    Raises:
        ValueError: as :func:`~wwae_lib.gaussian.w2_squared`, or epsilon is not positive.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    mean1, cov1, mean2, cov2 = gaussian_pair(mean1, cov1, mean2, cov2)
    with full_precision(mean1):
        return (mean1 - mean2).square().sum(-1) + _EntropicBuresSquared.apply(cov1, cov2, epsilon / 2)[0]


def sinkhorn_divergence(mean1, cov1, mean2, cov2, epsilon: float) -> Values:
    r"""Debiased entropic squared W2 between two Gaussians, 0 if and only if they are equal.

    :math:`W_\varepsilon(1, 2) - \tfrac12 W_\varepsilon(1, 1) - \tfrac12 W_\varepsilon(2, 2)`
    with :func:`entropic_w2_squared` (Feydy et al. 2019; Janati et al. 2020).

    Args, raises: as :func:`entropic_w2_squared`.

    Returns:
        ``(...)``; not negative but for rounding.
    """
    across = entropic_w2_squared(mean1, cov1, mean2, cov2, epsilon)
    within1 = entropic_w2_squared(mean1, cov1, mean1, cov1, epsilon)
    within2 = entropic_w2_squared(mean2, cov2, mean2, cov2, epsilon)
    return across - (within1 + within2) / 2


class _EntropicBuresSquared(Function):
    """The entropic value at equal means as Bures' plus a sum of positive terms: nothing cancels."""

    @staticmethod
    def forward(cov1: Tensor, cov2: Tensor, s2: float) -> tuple[Tensor, ...]:
        root1, _, root2, left, values, right = matched_roots(cov1, cov2)
        delta = (4 * values.square() + s2**2).sqrt()
        # 2s - (delta - s2) + s2 log((delta + s2) / (2 s2)), rearranged
        excess = 2 * values * (1 + s2 / (delta + 2 * values)) / (delta + s2)
        excess = s2 * (excess + (2 * values.square() / (s2 * (delta + s2))).log1p())
        value = (root1 - left @ right @ root2).square().sum((-1, -2)) + excess.sum(-1)
        slope, factor1, factor2 = (2 / (s2 + delta)).unsqueeze(-1), left.mT @ root1, right @ root2
        return value, factor2.mT @ (slope * factor2), factor1.mT @ (slope * factor1)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.s2 = inputs[2]
        ctx.save_for_backward(*inputs[:2], *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, grad: Tensor, *_):
        cov1, cov2, there, back = ctx.saved_tensors
        if torch.is_grad_enabled():
            there, back = _entropic_map(cov1, cov2, ctx.s2), _entropic_map(cov2, cov1, ctx.s2)
        eye, grad = eye_like(cov1), grad[..., None, None]
        return (
            grad * (eye - there) if ctx.needs_input_grad[0] else None,
            grad * (eye - back) if ctx.needs_input_grad[1] else None,
            None,
        )


def _entropic_map(cov1: Tensor, cov2: Tensor, s2: float) -> Tensor:
    """2 A (s2 + D)^{-1} A with A = S2^{1/2} and D^2 = 4 A S1 A + s2^2."""
    eye = eye_like(cov1)
    root = symmetric(cov2 @ InverseRoot.apply(cov2))
    square = 4 * symmetric(root @ cov1 @ root) + s2**2 * eye
    return 2 * root @ torch.linalg.inv(square @ InverseRoot.apply(square) + s2 * eye) @ root
