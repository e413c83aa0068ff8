r"""How far apart are two Gaussians? Moments, and the squared Wasserstein-2 distance.

For Gaussians :math:`N(m_1, S_1)` and :math:`N(m_2, S_2)` on :math:`\mathbb{R}^d`,

.. math::

    W_2^2 = |m_1 - m_2|^2 + \operatorname{tr} S_1 + \operatorname{tr} S_2
            - 2 \operatorname{tr} \bigl(S_1^{1/2} S_2 S_1^{1/2}\bigr)^{1/2}

(Dowson & Landau 1982; Olkin & Pukelsheim 1982; Givens & Shortt 1984). What follows the
first term is the squared Bures distance. The loss of a WWAE, the checks of the theory
chapters and the Frechet inception distance are all this one formula.

Two things decide how it is computed here:

* The formula subtracts nearly equal numbers when the Gaussians are close. The same value is
  the Procrustes distance :math:`\min_U \|S_1^{1/2} - U S_2^{1/2}\|_F^2` over orthogonal `U`
  (Bhatia, Jain & Lim 2019), a sum of squares: it can be neither negative nor
  cancelled away.
* Differentiating an eigendecomposition divides by differences of eigenvalues, so it gives
  NaN where two are equal: at `S = I`, the optimum itself. The gradient is known in closed
  form, :math:`I - T` with `T` the matrix of the optimal transport map, and is used instead.

Every function takes any leading batch dimensions, broadcasts them, accepts what
``torch.as_tensor`` accepts, and computes in the widest dtype it is given, at least float32,
whatever autocast says. NaN or infinity in the input gives NaN, so that a training loop can
name the term that broke; an indefinite matrix is an error where looking costs no wait (CPU).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "moments",
    "total_moments",
    "w2_squared",
    "w2_squared_diagonal",
    "w2_squared_to_standard_normal",
]


def moments(z) -> tuple[Tensor, Tensor]:
    r"""Mean and unbiased covariance of a batch of points.

    Args:
        z: points, shape ``(..., n, d)`` with ``n >= 2``.

    Returns:
        mean ``(..., d)`` and covariance ``(..., d, d)``, the latter with divisor ``n - 1``.
        Its rank is at most ``n - 1``.

    Raises:
        ValueError: fewer than two points, or no dimension.
    """
    (z,) = _floating(z)
    if z.ndim < 2 or z.shape[-2] < 2 or z.shape[-1] < 1:
        raise ValueError(f"moments needs points of shape (..., n >= 2, d >= 1), got {tuple(z.shape)}")
    with _full_precision(z):
        mean = z.mean(-2)
        centred = z - mean.unsqueeze(-2)
        return mean, centred.mT @ centred / (z.shape[-2] - 1)


def total_moments(mean, variance) -> tuple[Tensor, Tensor]:
    r"""Moments of an equal mixture of `n` diagonal Gaussians, by the law of total covariance.

    For codes :math:`z_i \sim N(\mu_i, \operatorname{diag} \sigma_i^2)` the aggregated
    posterior has mean :math:`\bar\mu` and covariance
    :math:`\operatorname{Cov}(\mu) + \overline{\operatorname{diag} \sigma^2}`: no code is
    sampled, and the covariance has full rank whenever every mean variance is positive.

    Args:
        mean: encoder means, ``(..., n, d)`` with ``n >= 2``.
        variance: encoder variances (not standard deviations), same shape.

    Returns:
        mean ``(..., d)`` and covariance ``(..., d, d)``; ``Cov`` has divisor ``n - 1``.

    Raises:
        ValueError: the shapes differ, or fewer than two points.
    """
    mean, variance = _floating(mean, variance)
    if mean.shape != variance.shape:
        raise ValueError(f"mean {tuple(mean.shape)} and variance {tuple(variance.shape)} differ in shape")
    centre, covariance = moments(mean)
    return centre, covariance + torch.diag_embed(variance.mean(-2))


def w2_squared(mean1, cov1, mean2, cov2) -> Tensor:
    r"""Squared Wasserstein-2 distance between two Gaussians with full covariances.

    .. math::

        W_2^2 = |m_1 - m_2|^2 + \min_{U^\top U = I} \|S_1^{1/2} - U S_2^{1/2}\|_F^2,

    attained by the polar factor `U` of :math:`S_1^{1/2} S_2^{1/2}`. Finite for any pair of
    positive semi-definite matrices, and differentiable once in all four arguments:
    :math:`\partial W_2^2 / \partial S_1 = I - T` with
    :math:`T = S_1^{-1/2} (S_1^{1/2} S_2 S_1^{1/2})^{1/2} S_1^{-1/2}`. On the null space of
    `S_1`, where the derivative does not exist, `T` is taken as 0.

    Args:
        mean1, mean2: ``(..., d)``.
        cov1, cov2: ``(..., d, d)``, symmetric positive semi-definite (only the symmetric
            part is read; eigenvalues negative by rounding count as 0).

    Returns:
        ``(...)``, in the square of the input's units; never negative.

    Raises:
        ValueError: shapes do not fit, or (on the CPU) a covariance is indefinite.
    """
    mean1, cov1, mean2, cov2 = _floating(mean1, cov1, mean2, cov2)
    _check_shapes(mean1, cov1, "mean1", "cov1")
    _check_shapes(mean2, cov2, "mean2", "cov2")
    if mean1.shape[-1] != mean2.shape[-1]:
        raise ValueError(f"the Gaussians have {mean1.shape[-1]} and {mean2.shape[-1]} dimensions")
    with _full_precision(mean1):
        cov1, cov2 = torch.broadcast_tensors(_symmetric(cov1), _symmetric(cov2))
        return (mean1 - mean2).square().sum(-1) + _BuresSquared.apply(cov1, cov2)


def w2_squared_to_standard_normal(mean, cov) -> Tensor:
    r"""Squared Wasserstein-2 distance of a Gaussian to :math:`N(0, I)`.

    .. math::  W_2^2 = |m|^2 + \sum_i (\sqrt{\lambda_i} - 1)^2

    with :math:`\lambda` the eigenvalues of `S`; gradients :math:`2m` and
    :math:`I - S^{-1/2}`. Chained with :func:`moments`, the latter is the polar factor of the
    centred batch: bounded, and 0 on the null space of `S`, where :math:`S^{-1/2}` is taken
    as 0.

    Args:
        mean: ``(..., d)``.
        cov: ``(..., d, d)``, symmetric positive semi-definite.

    Returns:
        ``(...)``, never negative.

    Raises:
        ValueError: shapes do not fit, or (on the CPU) the covariance is indefinite.
    """
    mean, cov = _floating(mean, cov)
    _check_shapes(mean, cov, "mean", "cov")
    with _full_precision(mean):
        return mean.square().sum(-1) + _BuresSquaredToIdentity.apply(_symmetric(cov))


def w2_squared_diagonal(mean1, variance1, mean2=0.0, variance2=1.0) -> Tensor:
    r"""Squared Wasserstein-2 distance between Gaussians with diagonal covariances.

    .. math::  W_2^2 = |m_1 - m_2|^2 + \sum_i (s_{1,i} - s_{2,i})^2

    with `s` the standard deviations. The second Gaussian defaults to :math:`N(0, I)`. Where
    a variance is 0 its derivative does not exist and is taken as 1, the derivative of the
    trace alone (the rule of :func:`w2_squared`).

    Args:
        mean1, mean2: ``(..., d)``, or a number for all dimensions.
        variance1, variance2: ``(..., d)``, not negative, or a number.

    Returns:
        ``(...)``, never negative.

    Raises:
        ValueError: the shapes do not broadcast or have no dimension, or (on the CPU) a
            variance is negative.
    """
    mean1, variance1, mean2, variance2 = torch.broadcast_tensors(
        *_floating(mean1, variance1, mean2, variance2)
    )
    if mean1.ndim == 0 or mean1.shape[-1] == 0:
        raise ValueError("w2_squared_diagonal needs at least one dimension")
    for name, variance in (("variance1", variance1), ("variance2", variance2)):
        if variance.device.type == "cpu" and (variance < 0).any():
            raise ValueError(f"{name} holds {variance.min().item():.3g}: a variance cannot be negative")
    difference = _standard_deviation(variance1) - _standard_deviation(variance2)
    # sqrt(v) has no derivative at 0: there the value counts v itself, as tr S does.
    at_zero = torch.where(variance1 == 0, variance1, 0) + torch.where(variance2 == 0, variance2, 0)
    return (mean1 - mean2).square().sum(-1) + (difference.square() + at_zero).sum(-1)


class _BuresSquared(torch.autograd.Function):
    """min over orthogonal U of |A1 - U A2|^2 with A = S^{1/2}; gradients I - T."""

    @staticmethod
    def forward(ctx, cov1: Tensor, cov2: Tensor) -> Tensor:
        bad = ~(torch.isfinite(cov1).all((-1, -2)) & torch.isfinite(cov2).all((-1, -2)))
        values1, vectors1 = _eigh(cov1, bad)
        values2, vectors2 = _eigh(cov2, bad)
        root1, inverse1 = _powers(values1, vectors1)
        root2, inverse2 = _powers(values2, vectors2)
        left, _, right = torch.linalg.svd(root1 @ root2)
        polar = left @ right  # root1 ~ polar root2 is the best match, so polar root2 - root1 = residual
        residual = root1 - polar @ root2
        ctx.save_for_backward(root1, inverse1, root2, inverse2, polar, bad)
        return residual.square().sum((-1, -2)).masked_fill(bad, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        root1, inverse1, root2, inverse2, polar, bad = ctx.saved_tensors
        grad = grad.masked_fill(bad, torch.nan)[..., None, None]
        return (
            grad * _one_minus_map(root1, inverse1, polar @ root2) if ctx.needs_input_grad[0] else None,
            grad * _one_minus_map(root2, inverse2, polar.mT @ root1) if ctx.needs_input_grad[1] else None,
        )


class _BuresSquaredToIdentity(torch.autograd.Function):
    """sum (sqrt(lambda) - 1)^2; gradient I - S^{-1/2}."""

    @staticmethod
    def forward(ctx, cov: Tensor) -> Tensor:
        bad = ~torch.isfinite(cov).all((-1, -2))
        values, vectors = _eigh(cov, bad)
        ctx.save_for_backward(values, vectors, bad)
        return (values.sqrt() - 1).square().sum(-1).masked_fill(bad, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        values, vectors, bad = ctx.saved_tensors
        slope = 1 - _inverse_root(values)
        gradient = vectors * slope.unsqueeze(-2) @ vectors.mT
        return grad.masked_fill(bad, torch.nan)[..., None, None] * gradient


def _eigh(cov: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (negative rounding removed) and eigenvectors; the identity's where ``bad``."""
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    values, vectors = torch.linalg.eigh(torch.where(bad[..., None, None], eye, cov))
    if cov.device.type == "cpu":  # elsewhere looking at the values would wait for the device
        lowest, largest = values.amin(-1), values.abs().amax(-1)
        if (lowest < -(torch.finfo(cov.dtype).eps ** 0.5) * largest).any():
            raise ValueError(
                f"not a covariance: its eigenvalues reach from {lowest.min().item():.3g} to "
                f"{values.max().item():.3g}, and a covariance has none below 0"
            )
    return values.clamp_min(0), vectors


def _inverse_root(values: Tensor) -> Tensor:
    """lambda^{-1/2}, and 0 where lambda is 0 up to the rounding of an eigensolver."""
    cut = torch.finfo(values.dtype).eps * values.shape[-1] * values.amax(-1, keepdim=True)
    kept = values > cut
    return torch.where(kept, values, 1).rsqrt() * kept


def _powers(values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """S^{1/2} and the pseudo-inverse S^{-1/2}."""
    root = vectors * values.sqrt().unsqueeze(-2) @ vectors.mT
    inverse = vectors * _inverse_root(values).unsqueeze(-2) @ vectors.mT
    return root, inverse


def _one_minus_map(root: Tensor, inverse: Tensor, matched: Tensor) -> Tensor:
    """I - T, where T = S^{-1/2} U B carries S = root^2 to B^2 and matched = U B."""
    eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
    return eye - _symmetric(inverse @ matched @ (root @ inverse))


def _standard_deviation(variance: Tensor) -> Tensor:
    positive = variance != 0
    return torch.where(positive, variance, 1).sqrt() * positive


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


def _floating(*values) -> tuple[Tensor, ...]:
    """Tensors of one dtype, the widest given and at least float32, on one device."""
    tensors = [torch.as_tensor(v) for v in values]
    dtype = torch.float32
    for t, v in zip(tensors, values, strict=True):
        if not isinstance(v, (int, float)):
            dtype = torch.promote_types(dtype, t.dtype)
    device = next((t.device for t in tensors if t.device.type != "cpu"), torch.device("cpu"))
    return tuple(t.to(dtype) if t.ndim else t.to(device, dtype) for t in tensors)


def _full_precision(like: Tensor):
    """Autocast off: in bfloat16 a covariance keeps two digits."""
    return torch.autocast(like.device.type, enabled=False)


def _check_shapes(mean: Tensor, cov: Tensor, mean_name: str, cov_name: str) -> None:
    d = mean.shape[-1] if mean.ndim else 0
    if d < 1 or cov.shape[-2:] != (d, d):
        raise ValueError(
            f"{mean_name} must be (..., d) and {cov_name} (..., d, d), "
            f"got {tuple(mean.shape)} and {tuple(cov.shape)}"
        )
