r"""How far apart are two Gaussians? Moments, and squared W2.

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
name the term that broke, and so does what overflows when squared (in float32, beyond 1e19);
an indefinite matrix is an error where looking costs no wait (CPU).

What is differentiable is so to any order: where a gradient is a matrix function, its own
derivative solves a Lyapunov equation, which again divides by no difference of eigenvalues.
At a singular covariance derivatives are those along covariances of the same rank, as batches
of few points have.
``torch.func.grad``, ``jacrev`` and ``vmap``, ``torch.compile(fullgraph=True)``, and fake and
meta tensors work. Forward mode (``jvp``, ``jacfwd``, and so ``torch.func.hessian``) is an
error of torch: take ``jacrev(jacrev(f))``.
"""

from __future__ import annotations

import contextlib
import functools
import math

import torch
from torch import Tensor, nn

with contextlib.suppress(ImportError):  # in a copy of this file alone, where nothing reads annotations
    from .shapes import Clouds, Grams, Matrices, Values, Vectors

__all__ = [
    "bures_squared",
    "moments",
    "moments_across_processes",
    "total_moments",
    "w2",
    "w2_penalty",
    "w2_squared",
    "w2_squared_diagonal",
    "w2_squared_to_standard_normal",
]


def moments(z) -> tuple[Vectors, Matrices]:
    r"""Mean and unbiased covariance of a batch of points.

    Args:
        z: points, shape ``(..., n, d)`` with ``n >= 2``.

    Returns:
        mean ``(..., d)`` and covariance ``(..., d, d)``, the latter with divisor ``n - 1``.
        Its rank is at most ``n - 1``.

    Raises:
        ValueError: fewer than two points, or no dimension.
    """
    (z,) = floating(z)
    if z.ndim < 2 or z.shape[-2] < 2 or z.shape[-1] < 1:
        raise ValueError(f"moments needs points of shape (..., n >= 2, d >= 1), got {tuple(z.shape)}")
    with full_precision(z):
        mean = z.mean(-2)
        centred = z - mean.unsqueeze(-2)
        return mean, centred.mT @ centred / (z.shape[-2] - 1)


def total_moments(mean, variance) -> tuple[Vectors, Matrices]:
    r"""Unbiased moments of the law that `n` diagonal Gaussians are drawn from, by total covariance.

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
        ValueError: the shapes differ, fewer than two points, or (on the CPU) a negative variance.
    """
    mean, variance = floating(mean, variance)
    if mean.shape != variance.shape:
        raise ValueError(f"mean {tuple(mean.shape)} and variance {tuple(variance.shape)} differ in shape")
    check_variance(variance, "variance")
    centre, covariance = moments(mean)
    return centre, covariance + torch.diag_embed(variance.mean(-2))


def moments_across_processes(z, group=None) -> tuple[Vectors, Matrices]:
    r"""Mean and unbiased covariance of the points that all processes hold together.

    Each process passes its share of the batch (the shares may differ in size) and gets the
    moments of the whole, with divisor ``N - 1`` for the `N` points of all processes. Sums are
    taken in two rounds, the mean first, because a covariance from raw second moments cancels.

    The gradient fits data-parallel training, which *averages* the processes' gradients of
    the parameters: backward adds up the processes' derivatives, so that the average is the
    gradient that one process would find on the whole batch. Where ``torch.distributed`` is
    not initialised this is :func:`moments`.

    Args:
        z: this process's points, ``(..., n, d)`` with ``n >= 1``; `d` is the same everywhere.
        group: the process group, by default all processes.

    Returns:
        mean ``(..., d)`` and covariance ``(..., d, d)``, equal in every process.

    Raises:
        ValueError: no point here, or no dimension.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return moments(z)
    (z,) = floating(z)
    if z.ndim < 2 or z.shape[-2] < 1 or z.shape[-1] < 1:
        raise ValueError(f"every process needs points of shape (..., n >= 1, d >= 1), got {tuple(z.shape)}")
    with full_precision(z):
        count = _SumAcrossProcesses.apply(z.new_tensor(z.shape[-2], dtype=torch.float64), group).to(z.dtype)
        mean = _SumAcrossProcesses.apply(z.sum(-2), group) / count
        centred = z - mean.unsqueeze(-2)
        return mean, _SumAcrossProcesses.apply(centred.mT @ centred, group) / (count - 1)


def w2_squared(mean1, cov1, mean2, cov2) -> Values:
    r"""Squared Wasserstein-2 distance between two Gaussians with full covariances.

    .. math::

        W_2^2 = |m_1 - m_2|^2 + \min_{U^\top U = I} \|S_1^{1/2} - U S_2^{1/2}\|_F^2,

    attained by the polar factor `U` of :math:`S_1^{1/2} S_2^{1/2}`. Finite for any pair of
    positive semi-definite matrices, and differentiable in all four arguments:
    :math:`\partial W_2^2 / \partial S_1 = I - T` with
    :math:`T = S_1^{-1/2} (S_1^{1/2} S_2 S_1^{1/2})^{1/2} S_1^{-1/2}`. At a singular `S_1`, where
    the derivative in all directions does not exist, it is that along matrices of the same rank,
    and 0 is taken for `T` on the null space; a second derivative there is an error (on the CPU).

    Args:
        mean1, mean2: ``(..., d)``.
        cov1, cov2: ``(..., d, d)``, symmetric positive semi-definite (only the symmetric
            part is read; eigenvalues negative by rounding count as 0, where numbers that
            float32 holds exactly are taken to have been rounded to it).

    Returns:
        ``(...)``, in the square of the input's units; never negative.

    Raises:
        ValueError: shapes do not fit, or (on the CPU) a covariance is indefinite.
    """
    mean1, cov1, mean2, cov2 = gaussian_pair(mean1, cov1, mean2, cov2)
    with full_precision(mean1):
        return (mean1 - mean2).square().sum(-1) + _BuresSquared.apply(cov1, cov2)[0]


def w2(mean1, cov1, mean2, cov2) -> Values:
    r"""Wasserstein-2 distance between two Gaussians: the root of :func:`w2_squared`, a metric.

    A distance below the rounding of its own terms, :math:`10 d \epsilon
    \sqrt{\operatorname{tr} S_1 + \operatorname{tr} S_2}`, counts as 0. There, where a distance
    has no derivative, the gradient is 0.

    Args, raises: as :func:`w2_squared`.

    Returns:
        ``(...)``, in the input's units; never negative.
    """
    squared = w2_squared(mean1, cov1, mean2, cov2)
    cov1, cov2 = floating(cov1, cov2)
    trace = (cov1.detach().diagonal(dim1=-2, dim2=-1) + cov2.detach().diagonal(dim1=-2, dim2=-1)).sum(-1)
    rounding = (10 * cov1.shape[-1] * torch.finfo(squared.dtype).eps) ** 2 * trace
    return _root(squared, squared <= rounding)


def bures_squared(cov1, cov2) -> Values:
    r"""Squared Bures distance: what :func:`w2_squared` gives for equal means.

    Args:
        cov1, cov2: ``(..., d, d)``, symmetric positive semi-definite.

    Returns:
        ``(...)``, never negative.

    Raises:
        ValueError: as :func:`w2_squared`.
    """
    cov1, cov2 = floating(cov1, cov2)
    zero = cov1.new_zeros(cov1.shape[-1:])
    return w2_squared(zero, cov1, zero, cov2)


def w2_squared_to_standard_normal(mean, cov) -> Values:
    r"""Squared Wasserstein-2 distance of a Gaussian to :math:`N(0, I)`.

    .. math::  W_2^2 = |m|^2 + \sum_i (\sqrt{\lambda_i} - 1)^2

    with :math:`\lambda` the eigenvalues of `S`; gradients :math:`2m` and
    :math:`I - S^{-1/2}`. Chained with :func:`moments`, the term :math:`S^{-1/2}` becomes the
    polar factor of the centred batch, which is bounded, and 0 on the null space of `S`, where
    :math:`S^{-1/2}` is taken as 0.

    Args:
        mean: ``(..., d)``.
        cov: ``(..., d, d)``, symmetric positive semi-definite.

    Returns:
        ``(...)``, never negative.

    Raises:
        ValueError: shapes do not fit, or (on the CPU) the covariance is indefinite.
    """
    mean, cov = floating(mean, cov)
    check_shapes(mean, cov, "mean", "cov")
    with full_precision(mean):
        return mean.square().sum(-1) + _BuresSquaredToIdentity.apply(symmetric(cov))[0]


def w2_penalty(z, variance=None, *, eigensolver: bool | None = None) -> Values:
    r"""Squared W2 to :math:`N(0, I)` of a batch's moments, in one step: the fast WWAE penalty.

    The value of ``w2_squared_to_standard_normal(*moments(z))``. With
    :math:`X = (z - \mathbf{1} \bar z^\top) / \sqrt{n - 1}`, singular values `s` of `X` and its
    polar factor :math:`P = X (X^\top X)^{-1/2}` (0 on the null space),

    .. math::

        W_2^2 = |\bar z|^2 + \sum_{i=1}^{d} (s_i - 1)^2, \qquad
        \frac{\partial W_2^2}{\partial z} = \frac{2}{n} \mathbf{1} \bar z^\top
            + \frac{2}{\sqrt{n - 1}} (X - P).

    With a variance `v` the covariance is :math:`S = X^\top X + \operatorname{diag} v`, as in
    :func:`total_moments`; then `s` are the roots of its eigenvalues, :math:`P = X S^{-1/2}`, and
    :math:`\partial W_2^2 / \partial v = \operatorname{diag}(I - S^{-1/2})`.

    There are two ways to :math:`S^{-1/2}`, by an eigendecomposition of `S`, or of :math:`X X^\top` where
    that is smaller, and by polynomials of it, a fixed number of matrix products, where nothing waits for
    the device. Both resolve directions down to 1e-4 of the largest standard deviation, the gradient in each
    to better than a thousandth, in float64 inside where float32 would not do. Below that the products
    gradually count them as 0, the eigenvalues from 1e-7 on. On a GPU the products are not yet measured.
    Second derivatives take an eigendecomposition in float64 either way.

    Args:
        z: points, ``(..., n, d)`` with ``n >= 2``.
        variance: added to the covariance's diagonal, ``(..., d)``, not negative: for an encoder's
            means, its mean variance. None by default.
        eigensolver: which way; by default the eigendecomposition on a CPU, and the products on a GPU and
            wherever values cannot be looked at (``torch.compile``, fake and meta tensors). Where there is
            no float64 (MPS) the CPU computes it.

    Returns:
        ``(...)``, differentiable; never negative; NaN for input that is not finite.

    Raises:
        ValueError: fewer than two points, no dimension, a variance of another shape, or (on the CPU) a
            negative one.
    """
    z, variance = floating(z, variance) if variance is not None else (*floating(z), None)
    if z.ndim < 2 or z.shape[-2] < 2 or z.shape[-1] < 1:
        raise ValueError(f"w2_penalty needs points of shape (..., n >= 2, d >= 1), got {tuple(z.shape)}")
    if variance is not None and variance.shape != (expected := (*z.shape[:-2], z.shape[-1])):
        raise ValueError(f"w2_penalty needs a variance of shape {expected}, got {tuple(variance.shape)}")
    if variance is not None:
        check_variance(variance, "the variance")
    if z.device.type == "mps":
        variance = None if variance is None else variance.cpu()
        return w2_penalty(z.cpu(), variance, eigensolver=eigensolver).to(z.device)
    if eigensolver is None:
        eigensolver = looking_is_free(z)
    with full_precision(z):
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return _Penalty.apply(z, variance, eigensolver)[0]
        return _PenaltyAtOnce.apply(z, variance, eigensolver)


def w2_squared_diagonal(mean1, variance1, mean2=0.0, variance2=1.0) -> Values:
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
        *floating(mean1, variance1, mean2, variance2)
    )
    if mean1.ndim == 0 or mean1.shape[-1] == 0:
        raise ValueError("w2_squared_diagonal needs at least one dimension")
    for name, variance in (("variance1", variance1), ("variance2", variance2)):
        check_variance(variance, name)
    difference = _root(variance1, variance1 == 0) - _root(variance2, variance2 == 0)
    # sqrt(v) has no derivative at 0: there the value counts v itself, as tr S does.
    at_zero = torch.where(variance1 == 0, variance1, 0) + torch.where(variance2 == 0, variance2, 0)
    return (mean1 - mean2).square().sum(-1) + (difference.square() + at_zero).sum(-1)


class Function(torch.autograd.Function):
    """What follows takes leading dimensions: to ``torch.func.vmap`` it gives one more.

    A ``backward`` that another derivative is to go through is made of functions below that have theirs,
    else of what ``forward`` has already found.
    """

    @classmethod
    def vmap(cls, info, in_dims, *inputs):
        def placed(value, dim):
            if not isinstance(value, Tensor):
                return value
            return value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)

        outputs = cls.apply(*map(placed, inputs, in_dims))
        return outputs, (0,) * len(outputs) if isinstance(outputs, tuple) else 0

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep the inputs and the output; of several, the first is the value, and has the only derivative."""
        found = output[1:] if isinstance(output, tuple) else ()
        ctx.save_for_backward(*inputs, *(found or [output]))
        ctx.mark_non_differentiable(*found)


class Lyapunov(Function):
    """The X with R X + X R = G, for symmetric R without negative eigenvalues; 0 on R's null space."""

    @staticmethod
    def forward(matrix: Matrices, right: Matrices) -> Matrices:
        bad = not_finite(matrix)
        values, vectors = torch.linalg.eigh(_identity_where(bad, matrix))
        values = values.clamp_min(0)
        sums = values.unsqueeze(-1) + values.unsqueeze(-2)
        cut = torch.finfo(values.dtype).eps * values.shape[-1] * values[..., -1:, None]
        turned = vectors.mT @ right @ vectors / sums.masked_fill(sums <= cut, torch.inf)
        return (vectors @ turned @ vectors.mT).masked_fill(bad[..., None, None], torch.nan)

    @staticmethod
    def backward(ctx, grad: Tensor):
        matrix, _, solution = ctx.saved_tensors
        adjoint = Lyapunov.apply(matrix, grad)
        return -(adjoint @ solution.mT + solution.mT @ adjoint), adjoint


class InverseRoot(Function):
    """S^{-1/2}, and 0 on the null space of S."""

    @staticmethod
    def forward(cov: Matrices) -> Matrices:
        bad = not_finite(cov)
        return powers(*eigh(cov, bad))[1].masked_fill(bad[..., None, None], torch.nan)

    @staticmethod
    def backward(ctx, grad: Tensor):
        # J S J = I: J' S^{1/2} + S^{1/2} J' = -J S' J; and S' turns the null space, with projection N
        cov, inverse = ctx.saved_tensors
        null = eye_like(cov) - symmetric(inverse @ cov @ inverse)
        within = -inverse @ Lyapunov.apply(symmetric(cov @ inverse), grad) @ inverse
        turn = inverse @ inverse @ inverse
        return within + turn @ grad @ null + null @ grad @ turn


def matched_roots(
    cov1: Matrices, cov2: Matrices
) -> tuple[Matrices, Matrices, Matrices, Matrices, Vectors, Matrices]:
    """The root of S1 and its pseudo-inverse, the root of S2, and the SVD of root1 @ root2.

    left @ right turns root2 into the best match of root1. NaN where an input is not finite.
    """
    bad = not_finite(cov1, cov2)
    root1, inverse1 = powers(*eigh(cov1, bad))
    root2, _ = powers(*eigh(cov2, bad))
    left, values, right = torch.linalg.svd(root1 @ root2)
    root1, inverse1, root2 = (
        x.masked_fill(bad[..., None, None], torch.nan) for x in (root1, inverse1, root2)
    )
    return root1, inverse1, root2, left, values, right


def powers(values: Vectors, vectors: Matrices) -> tuple[Matrices, Matrices]:
    """S^{1/2} and the pseudo-inverse S^{-1/2}."""
    root = vectors * values.sqrt().unsqueeze(-2) @ vectors.mT
    inverse = vectors * inverse_root(values).unsqueeze(-2) @ vectors.mT
    return root, inverse


def inverse_root(values: Vectors) -> Vectors:
    """lambda^{-1/2}, and 0 where lambda is 0 up to the rounding of an eigensolver."""
    cut = values[..., -1:] * (torch.finfo(values.dtype).eps * values.shape[-1])
    return values.masked_fill(values <= cut, torch.inf).rsqrt()


def eigh(cov: Matrices, bad: Tensor) -> tuple[Vectors, Matrices]:
    """Eigenvalues (negative rounding removed) and eigenvectors; the identity's where ``bad``."""
    values, vectors = torch.linalg.eigh(_identity_where(bad, cov))
    lowest, largest = values[..., 0], values[..., -1]
    if known_to_hold((lowest < -_rounding(cov) * largest.abs()).any()):
        raise ValueError(
            f"not a covariance: its eigenvalues reach from {lowest.min().item():.3g} to "
            f"{largest.max().item():.3g}, and a covariance has none below 0"
        )
    return values.clamp_min(0), vectors


def _rounding(cov: Tensor) -> float:
    """How far below 0, relative to the largest, rounding may have moved an eigenvalue.

    Numbers in float64 that float32 holds exactly were rounded to it before they came here.
    """
    dtype = cov.dtype
    if dtype == torch.float64 and known_to_hold((cov.float() == cov).all()):
        dtype = torch.float32
    return torch.finfo(dtype).eps ** 0.5


def not_finite(*matrices: Tensor) -> Tensor:
    """Where a number of one of them is not finite."""
    return ~functools.reduce(torch.add, [matrix.sum((-1, -2)) for matrix in matrices]).isfinite()


def _identity_where(bad: Tensor, matrix: Tensor) -> Tensor:
    """The solver of eigenvalues refuses NaN."""
    return torch.where(bad[..., None, None], eye_like(matrix), matrix)


def eye_like(matrix: Tensor) -> Tensor:
    """The identity of a matrix's size, dtype and device."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def symmetric(matrix: Matrices) -> Matrices:
    """The symmetric part of a matrix."""
    return (matrix + matrix.mT) / 2


def looking_is_free(tensor: Tensor) -> bool:
    """Whether a value can be looked at, and at no cost: elsewhere that would wait for the device.

    A tensor of another class (fake ones are) may have no values, and none has any while code is compiled.
    """
    ordinary = type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu"
    return ordinary and not torch.compiler.is_compiling()


def known_to_hold(condition: Tensor) -> bool:
    """Whether it holds; False where it is not known, because looking is not free, or vmap forbids it."""
    if not looking_is_free(condition):
        return False
    try:
        return bool(condition)
    except RuntimeError:
        return False


def gaussian_pair(mean1, cov1, mean2, cov2) -> tuple[Tensor, ...]:
    """Two checked Gaussians; the covariances symmetric and of one shape."""
    mean1, cov1, mean2, cov2 = floating(mean1, cov1, mean2, cov2)
    check_shapes(mean1, cov1, "mean1", "cov1")
    check_shapes(mean2, cov2, "mean2", "cov2")
    if mean1.shape[-1] != mean2.shape[-1]:
        raise ValueError(f"the Gaussians have {mean1.shape[-1]} and {mean2.shape[-1]} dimensions")
    cov1, cov2 = torch.broadcast_tensors(symmetric(cov1), symmetric(cov2))
    return mean1, cov1, mean2, cov2


def check_shapes(mean: Tensor, cov: Tensor, mean_name: str, cov_name: str) -> None:
    d = mean.shape[-1] if mean.ndim else 0
    if d < 1 or cov.shape[-2:] != (d, d):
        raise ValueError(
            f"{mean_name} must be (..., d) and {cov_name} (..., d, d), "
            f"got {tuple(mean.shape)} and {tuple(cov.shape)}"
        )


def check_variance(variance: Tensor, name: str) -> None:
    """Refuse a negative variance, where looking is free: a logarithm is easily passed in its place."""
    if known_to_hold((variance < 0).any()):
        least = variance.min().item()
        raise ValueError(f"{name} holds {least:.3g}: a variance cannot be negative (is it a logarithm?)")


def floating(*values) -> tuple[Tensor, ...]:
    """Tensors of one dtype, the widest given and at least float32, on one device."""
    if (
        len(values) == 1
        and isinstance(values[0], Tensor)
        and values[0].dtype in (torch.float32, torch.float64)
    ):
        return values
    tensors = [v if isinstance(v, (int, float)) else torch.as_tensor(v) for v in values]
    dtype = torch.float32
    for t in tensors:
        if isinstance(t, Tensor):
            dtype = torch.promote_types(dtype, t.dtype)
    places = (t.device for t in tensors if isinstance(t, Tensor) and t.device.type != "cpu")
    device = next(places, torch.device("cpu"))

    def placed(t) -> Tensor:
        if not isinstance(t, Tensor):  # filled in there: to copy a number to a device would wait for it
            return torch.full((), t, dtype=dtype, device=device)
        return t.to(dtype) if t.ndim else t.to(device, dtype)

    return tuple(map(placed, tensors))


def full_precision(like: Tensor):
    """Autocast off: in bfloat16 a covariance keeps two digits."""
    kind = like.device.type
    there = torch.amp.autocast_mode.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if there else contextlib.nullcontext()


class _SumAcrossProcesses(torch.autograd.Function):
    """The sum over all processes; its derivative is the sum of theirs."""

    @staticmethod
    def forward(ctx, value: Tensor, group) -> Tensor:
        ctx.group = group
        total = value.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _SumAcrossProcesses.apply(grad, ctx.group), None


class _Map(Function):
    """The matrix T of the optimal map from N(0, S1) to N(0, S2), as w2_squared's gradient has it."""

    @staticmethod
    def forward(cov1: Matrices, cov2: Matrices) -> Matrices:
        return _procrustes(cov1, cov2)[1]

    @staticmethod
    def backward(ctx, grad: Tensor):
        # T S1 T = S2; with A = S1^{1/2} the matrices M = A T A and X = A T' A have
        # M X + X M = A (S2' - T S1' T) A
        cov, _, matrix = ctx.saved_tensors
        inverse = InverseRoot.apply(cov)
        if known_to_hold(((inverse @ cov @ inverse).diagonal(dim1=-2, dim2=-1) < 0.5).any()):
            raise RuntimeError("a second derivative of w2_squared in a singular covariance does not exist")
        root = symmetric(cov @ inverse)
        adjoint = Lyapunov.apply(symmetric(root @ matrix @ root), inverse @ grad @ inverse)
        adjoint = root @ adjoint @ root
        return -matrix @ adjoint @ matrix, adjoint


class _BuresSquared(Function):
    """min over orthogonal U of |A1 - U A2|^2 with A = S^{1/2}; gradients I - T."""

    @staticmethod
    def forward(cov1: Matrices, cov2: Matrices) -> tuple[Values, Matrices, Matrices]:
        return _procrustes(cov1, cov2)

    @staticmethod
    def backward(ctx, grad: Tensor, *_):
        covs, maps, gradients = ctx.saved_tensors[:2], ctx.saved_tensors[2:], [None, None]
        for i in range(2):
            if ctx.needs_input_grad[i]:
                matrix = _Map.apply(covs[i], covs[1 - i]) if torch.is_grad_enabled() else maps[i]
                gradients[i] = grad[..., None, None] * (eye_like(matrix) - matrix)
        return tuple(gradients)


class _BuresSquaredToIdentity(Function):
    """sum (sqrt(lambda) - 1)^2; gradient I - S^{-1/2}."""

    @staticmethod
    def forward(cov: Matrices) -> tuple[Values, Matrices]:
        bad = not_finite(cov)
        values, vectors = eigh(cov, bad)
        slope = 1 - inverse_root(values)
        gradient = vectors * slope.unsqueeze(-2) @ vectors.mT
        value = (values.sqrt() - 1).square().sum(-1)
        return value.masked_fill(bad, torch.nan), gradient.masked_fill(bad[..., None, None], torch.nan)

    @staticmethod
    def backward(ctx, grad: Tensor, _):
        cov, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = eye_like(cov) - InverseRoot.apply(cov)
        return grad[..., None, None] * gradient


class _Penalty(Function):
    """w2_penalty; the gradients are finished in forward, which passes over the batch fewer times."""

    @staticmethod
    def forward(z: Clouds, variance: Vectors | None, eigensolver: bool) -> tuple[Values, Clouds, Grams]:
        return (_by_eigenvalues if eigensolver else _by_products)(z, variance)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:2], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # zeros as large as the batch, for what has no derivative

    @staticmethod
    def backward(ctx, grad: Tensor | None, *_):
        if grad is None:
            return None, None, None
        z, variance, gradient, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient, weight = _penalty_gradient(z, variance)
        by_variance = None
        if ctx.needs_input_grad[1]:
            by_variance = weight.diagonal(dim1=-2, dim2=-1) * grad.unsqueeze(-1)
        return gradient * (grad[..., None, None] if grad.ndim else grad), by_variance, None


class _PenaltyAtOnce(torch.autograd.Function):
    """The same where nothing transforms it: a form that torch.func cannot read, and a fifth quicker."""

    @staticmethod
    def forward(ctx, z: Clouds, variance: Vectors | None, eigensolver: bool) -> Values:
        value, *found = _Penalty.forward(z, variance, eigensolver)
        ctx.save_for_backward(z, variance, *found)
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Penalty.backward(ctx, grad)


def _penalty_gradient(z: Clouds, variance: Vectors | None) -> tuple[Clouds, Grams]:
    """The penalty's gradient in the points, and I - S^{-1/2}: both may be differentiated again."""
    wide = None if variance is None else variance.double()
    mean, centred, gram, lacking = _gram(z.double(), wide)
    weight = eye_like(gram) - InverseRoot.apply(gram)
    _, gradient = _value_and_gradient(mean.new_zeros(mean.shape[:-2]), weight, mean, centred, lacking)
    return gradient.to(z.dtype), weight.to(z.dtype)


# Two ways to the penalty's value, its gradient in the points, and the matrix I - S^{-1/2}, on whose diagonal
# is the gradient in a variance. A Gram matrix in float32 tells nothing of standard deviations below about a
# thousandth of the largest, and products with its inverse root lose as much: both can do it in float64.


def _by_eigenvalues(z: Clouds, variance: Vectors | None) -> tuple[Values, Clouds, Grams]:
    mean, centred, gram, lacking = _gram(z, variance)
    if not math.isfinite(gram.sum().item()):  # the solver refuses NaN: set such batches aside
        bad = ~gram.sum((-1, -2), keepdim=True).isfinite()
        variance = None if variance is None else variance.masked_fill(bad[..., 0], 0)
        value, gradient, weight = _by_eigenvalues(z.masked_fill(bad, 0), variance)
        value = value.masked_fill(bad[..., 0, 0], torch.nan)
        return value, gradient.masked_fill(bad, torch.nan), weight.masked_fill(bad, torch.nan)
    values, vectors = torch.linalg.eigh(gram)
    if z.dtype == torch.float32 and not _float32_suffices(values, mean):
        wide = _by_eigenvalues(z.double(), None if variance is None else variance.double())
        value, gradient, weight = (part.float() for part in wide)
        return value, gradient, weight
    cut = torch.finfo(values.dtype).eps * values.shape[-1]
    # for one batch, to look at two numbers is quicker than to mask
    regular = values.ndim == 1 and values[0].item() > cut * values[-1].item()
    roots = (values if regular else values.clamp_min_(0)).sqrt()
    short = roots - 1
    slope = short / roots
    if not regular:
        slope.masked_fill_(values <= cut * values[..., -1:], 1)
    weight = vectors * slope.unsqueeze(-2) @ vectors.mT
    return *_value_and_gradient(_squared_norm(short), weight, mean, centred, lacking), weight


def _float32_suffices(values: Tensor, mean: Tensor) -> bool:
    """Whether float32 resolves the smallest eigenvalue, beside the largest and the mean's own rounding."""
    if values.ndim == 1:
        return values[0].item() > max(1e-3 * values[-1].item(), 1e-8 * _squared_norm(mean[0]).item())
    least = torch.maximum(1e-3 * values[..., -1], 1e-8 * _squared_norm(mean.squeeze(-2)))
    return bool((values[..., 0] > least).all())


# The best odd polynomials a x + b x^3 + c x^5, one after the other: each brings its predecessor's range, at
# first [5e-5, 1], as near to 1 as it can (by a linear programme on a grid, for a, b, c and the distance), the
# range widened by a hundredth against rounding. After these eight the distance is 0.004. The tests compute
# all of it anew.
_TO_ONE = (
    (8.4279, -24.5299, 17.8501),
    (4.2113, -3.0646, 0.5577),
    (4.1985, -3.0537, 0.5559),
    (4.15, -3.0182, 0.5511),
    (3.9791, -2.9099, 0.5415),
    (3.4127, -2.5137, 0.4982),
    (2.4198, -1.7543, 0.4187),
    (1.9085, -1.2831, 0.3753),
)
_CUBIC = (1.875, -1.25, 0.375)  # leaves of a small distance to 1 its third power (Bjorck & Bowie 1971)


def _by_products(z: Clouds, variance: Vectors | None) -> tuple[Values, Clouds, Grams]:
    mean, centred, gram, lacking = _gram(z.double(), None if variance is None else variance.double())
    tiny, eye = torch.finfo(gram.dtype).tiny, eye_like(gram)
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp_min(tiny)
    unit = gram / trace
    # (sum lambda^4)^(1/4) is not below the largest eigenvalue, as the polynomials need, and close to it
    scale = (trace * torch.linalg.matrix_norm(unit @ unit, keepdim=True).sqrt()).clamp_min(tiny)
    # W above Y, which become S^{-1/2} and S^{1/2} of the scaled S: W^T Y goes to 1 as its roots do
    d = len(eye)
    pair = torch.cat((eye.expand_as(gram), gram / scale), -2).view(-1, 2 * d, d)
    for a, b, c in _TO_ONE if z.dtype == torch.float32 else (*_TO_ONE, _CUBIC):
        square = pair[:, :d].mT @ pair[:, d:]
        pair = torch.baddbmm(pair, pair, torch.baddbmm(square, square, square, beta=b, alpha=c), beta=a)
    # the last one, (35 x^3 - 42 x^5 + 15 x^7) / 8, is cubic too and takes what is nearly 0 to 0
    square = pair[:, :d].mT @ pair[:, d:]
    higher = torch.baddbmm(square, square, square, beta=-5.25, alpha=1.875)
    pair = pair @ torch.baddbmm(square, square, higher, beta=4.375)
    inverse, root = pair.view(*gram.shape[:-2], 2 * d, d).split(d, -2)
    weight = eye - inverse / scale.sqrt()
    value = (root * scale.sqrt() - eye).square().sum((-1, -2))
    value, gradient = _value_and_gradient(value, weight, mean, centred, lacking)
    return value.to(z.dtype), gradient.to(z.dtype), weight.to(z.dtype)


def _gram(z: Clouds, variance: Vectors | None) -> tuple[Tensor, Clouds, Grams, Values | None]:
    """Mean, centred points X, S, and what S lacks of the penalty.

    S = X^T X / (n - 1) + diag v, which lacks nothing; or X X^T / (n - 1) where that is smaller. The latter
    has no eigenvalue for some directions, and always 0 for that of the mean, on which the mean of the others
    is put: the gradient there meets only zeros.
    """
    n, d = z.shape[-2:]
    mean = z.mean(-2, keepdim=True)
    centred = z - mean
    if n > d or variance is not None:
        gram = (centred.mT @ centred).mul_(1 / (n - 1))
        if variance is not None:
            gram = gram + variance.diag_embed()
        return mean, centred, gram, None
    gram = (centred @ centred.mT).mul_(1 / (n - 1))
    put = gram.diagonal(dim1=-2, dim2=-1).mean(-1) * (n / (n - 1))
    return mean, centred, gram.add_(put[..., None, None] / n), d - n + 1 - (put.sqrt() - 1).square()


def _value_and_gradient(
    bures: Values, weight: Grams, mean: Tensor, centred: Clouds, lacking: Values | None
) -> tuple[Values, Clouds]:
    """The penalty and its gradient in the points, from the sum of (s - 1)^2, I - S^{-1/2} and _gram's."""
    n = centred.shape[-2]
    value = bures + _squared_norm(mean.squeeze(-2))
    left, right = centred, weight
    if lacking is not None:
        value, left, right = value + lacking, weight, centred
    if centred.ndim == 2:
        return value, torch.addmm(mean, left, right, beta=2 / n, alpha=2 / (n - 1))
    return value, (left @ right).mul_(2 / (n - 1)).add_(mean, alpha=2 / n)


def _procrustes(cov1: Matrices, cov2: Matrices) -> tuple[Values, Matrices, Matrices]:
    """The least |A1 - U A2|^2 over orthogonal U, with A = S^{1/2}, and T from either side."""
    root1, inverse1, root2, left, values, right = matched_roots(cov1, cov2)
    inverse2 = powers(*eigh(cov2, not_finite(cov1, cov2)))[1]
    polar = left @ right  # the best match, but for rounding where roots are near 0:
    value = (root1 - polar @ root2).square().sum((-1, -2))
    direct = (root1 - root2).square().sum((-1, -2))  # the identity can be better, for equal S it is exact
    served = values > torch.finfo(values.dtype).eps * values.shape[-1] * values.amax(-1, keepdim=True)
    polar = left * served.unsqueeze(-2) @ right
    polar = torch.where((direct < value)[..., None, None], eye_like(root1), polar)
    maps = _map(root1, inverse1, polar @ root2), _map(root2, inverse2, polar.mT @ root1)
    return torch.minimum(value, direct), *maps


def _map(root: Matrices, inverse: Matrices, matched: Matrices) -> Matrices:
    """T = S^{-1/2} U B, which carries S = root^2 to B^2, for matched = U B, or what comes closest.

    On a singular S the symmetric T that has, off the range of S, the rows and columns of the map and of its
    transpose: I - T is then the derivative along covariances of the same rank.
    """
    across = inverse @ matched
    return across + across.mT - symmetric(across @ (root @ inverse))


def _root(value: Tensor, zero: Tensor) -> Tensor:
    """The square root, and 0 with derivative 0 where ``zero``."""
    return torch.where(zero, 1, value).sqrt().masked_fill(zero, 0)


def _squared_norm(vector: Vectors) -> Values:
    """Along the last dimension; for one vector ``torch.dot`` is the quickest."""
    return vector.dot(vector) if vector.ndim == 1 else torch.linalg.vecdot(vector, vector)
