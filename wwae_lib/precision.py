"""With how many digits does a device compute, and how is none of them lost?"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["computes_bf16", "distances", "wide"]

LOST = 1e-4  # a squared distance below this share of what it is the difference of has lost four digits
ROWS = 1000  # pairs of points whose differences are in memory at once


def wide(values: Tensor) -> Tensor:
    """The same in float64: on their device, or on the CPU where the device has no float64 (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def distances(x: Tensor, y: Tensor) -> Tensor:
    r"""Euclidean distances of every two points, all their digits right: ``(n, d)``, ``(m, d)`` to ``(n, m)``.

    A matrix product gives them as :math:`|x|^2 + |y|^2 - 2 x^\top y`, which says nothing of two points that
    are nearer to each other than to the origin by many orders of magnitude. So the origin is the mean of `y`,
    the numbers are float64, and where more than four digits cancel, the difference of the points is taken
    itself. Equal points are 0 apart. No derivative.
    """
    x, y = wide(x.detach()), wide(y.detach())
    centre = y.mean(0)
    here, there = x - centre, y - centre
    sizes = here.square().sum(1)[:, None] + there.square().sum(1)
    squares = sizes.addmm(here, there.mT, alpha=-2)
    for i, j in (pairs.unbind(1) for pairs in (squares < LOST * sizes).nonzero().split(ROWS)):
        squares[i, j] = (x[i] - y[j]).square().sum(1)
    return squares.sqrt_()


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16; not, where this torch cannot tell."""
    try:
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        # a private operator, which Apple's wheels lack, and a later torch may
        return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
