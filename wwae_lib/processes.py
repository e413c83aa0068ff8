"""How do several processes compute what one would on the whole batch?

Each process of ``torchrun`` holds an equal share of a batch, and data-parallel training averages the
processes' gradients. A mean over the batch is then right without further ado. A function of the whole batch,
such as a maximum mean discrepancy, gets it through :func:`gather`. Every process draws the random numbers of
the whole batch, from equal generators, and keeps its share. In a single process these functions pass on what
they are given.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

__all__ = ["count", "free_cores", "gather", "normalise_whole_batch", "rand", "randn", "rank", "share", "wait"]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def count() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _several() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def free_cores() -> int:
    """Processor cores that nothing else kept busy in the last minute, by the machine's load; at least one.

    More threads than these would wait for each other: beside other work, two threads on two cores can take
    ten times as long as one. Where the system does not report its load, all cores count as free.
    """
    cores = os.cpu_count() or 1
    try:
        busy = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return cores
    return max(1, round(cores - busy))


def wait() -> None:
    """Wait until every process is here."""
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


def normalise_whole_batch(module: nn.Module) -> None:
    """Let the module's batch normalisation see the whole batch, in place of this process's share of it.

    Parameters and buffers stay the same objects, under the same names. torch's ``SyncBatchNorm`` exists on
    CUDA devices alone, where no test could compare it with one process on the whole batch.
    """
    for parent in list(module.modules()) if count() > 1 else ():
        for name, child in parent.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, _BatchNorm(child))


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of what all processes hold (Ioffe & Szegedy 2015, algorithm 1)."""

    def __init__(self, original: nn.modules.batchnorm._BatchNorm):
        super().__init__(original.num_features, original.eps, original.momentum)
        for name in self.state_dict():
            setattr(self, name, getattr(original, name))
        self.train(original.training)

    def _check_input_dim(self, x: Tensor) -> None:
        """Images as well as vectors."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = self._mean(wide)
        centred = wide - mean
        variance = self._mean(centred.square())
        n = count() * x.numel() // self.num_features
        kept: Any = self  # torch's types allow for a layer that keeps no statistics
        with torch.no_grad():
            kept.running_mean.lerp_(mean.flatten(), self.momentum)
            kept.running_var.lerp_(variance.flatten() * (n / (n - 1)), self.momentum)
            kept.num_batches_tracked += 1
        weight, bias = (p.view_as(mean) for p in (self.weight, self.bias))
        return torch.addcmul(bias, centred * (variance + self.eps).rsqrt(), weight).to(x.dtype)

    def _mean(self, x: Tensor) -> Tensor:
        """Over all processes, whose shares are equal, and all but the channels: ``(1, channels, 1, ...)``."""
        return gather(x.mean((0, *range(2, x.ndim)), keepdim=True)).mean(0, keepdim=True)


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
