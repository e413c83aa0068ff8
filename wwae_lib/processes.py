"""How do several processes compute what one would on the whole batch?

Each process of ``torchrun`` holds an equal share of a batch, and data-parallel training averages the
processes' gradients. A mean over the batch is then right by itself. What sees the batch as a whole, such
as a maximum mean discrepancy, sees it through :func:`gather`; random numbers are drawn for the whole
batch by every process, from equal generators, and each keeps its share. In a single process every
function here is the plain thing its name says.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

__all__ = ["count", "gather", "rand", "randn", "rank", "share", "wait"]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def count() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _several() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if _several() else 0


def wait() -> None:
    """Return once every process has come here."""
    if _several():
        distributed.barrier()


def share(whole: Tensor) -> Tensor:
    """This process's rows of what every process holds, ``(count * n, ...)`` to ``(n, ...)``.

    Raises:
        ValueError: the rows cannot be dealt out equally.
    """
    if len(whole) % count():
        raise ValueError(f"{len(whole)} rows cannot be dealt out equally to {count()} processes")
    return whole.chunk(count())[rank()]


def gather(own: Tensor) -> Tensor:
    """Rows of all processes, in the order of :func:`share`: ``(n, ...)`` to ``(count * n, ...)``.

    Backward adds up what every process derives from these rows, so that the average over processes of
    the parameters' gradients is the gradient of one process on the whole.
    """
    return _Gather.apply(own) if count() > 1 else own


def randn(*shape: int, like: Tensor) -> Tensor:
    """Normal numbers ``shape`` of the dtype and device of ``like``: this process's share."""
    return share(torch.randn(shape[0] * count(), *shape[1:], dtype=like.dtype, device=like.device))


def rand(*shape: int, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), as :func:`randn`."""
    return share(torch.rand(shape[0] * count(), *shape[1:], dtype=like.dtype, device=like.device))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(count())]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return share(total)
