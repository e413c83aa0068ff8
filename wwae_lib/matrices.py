"""How are functions of covariances computed, so that none of their derivatives is NaN? For :mod:`.gaussian`.

Matrices have any leading dimensions. The eigendecomposition refuses NaN: what is not finite is set aside
before it, and NaN afterwards.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from .shapes import Matrices, Vectors

__all__ = [
    "Function",
    "InverseRoot",
    "Lyapunov",
    "check_shapes",
    "eigh",
    "eye_like",
    "floating",
    "full_precision",
    "gaussian_pair",
    "inverse_root",
    "known_to_hold",
    "looking_is_free",
    "matched_roots",
    "not_finite",
    "powers",
    "symmetric",
]


class Function(torch.autograd.Function):
    """What follows takes leading dimensions: to ``torch.func.vmap`` it gives one more.

    A ``backward`` that another derivative is to go through is made of functions below that have theirs,
    else of what ``forward`` has already found.
    """

    @classmethod
    def __init_subclass__(cls, **settings):
        super().__init_subclass__(**settings)
        cls.vmap = staticmethod(functools.partial(_with_one_more_dimension, cls))


def _with_one_more_dimension(function, info, in_dims, *inputs):
    def placed(value, dim):
        if not isinstance(value, Tensor):
            return value
        return value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)

    outputs = function.apply(*map(placed, inputs, in_dims))
    return outputs, (0,) * len(outputs) if isinstance(outputs, tuple) else 0


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
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx, grad: Tensor):
        matrix, solution = ctx.saved_tensors
        adjoint = Lyapunov.apply(matrix, grad)
        return -(adjoint @ solution.mT + solution.mT @ adjoint), adjoint


class InverseRoot(Function):
    """S^{-1/2}, and 0 on the null space of S."""

    @staticmethod
    def forward(cov: Matrices) -> Matrices:
        bad = not_finite(cov)
        return powers(*eigh(cov, bad))[1].masked_fill(bad[..., None, None], torch.nan)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs, output)

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
    bad = bad[..., None, None]
    return (
        root1.masked_fill(bad, torch.nan),
        inverse1.masked_fill(bad, torch.nan),
        root2.masked_fill(bad, torch.nan),
        left,
        values,
        right,
    )


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
    return torch.autocast(kind, enabled=False) if there else nullcontext()
