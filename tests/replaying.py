"""In place of a CUDA graph, on a CPU: what a step does is noted down once, and from then on only repeated.

What is repeated are the operations below autograd, on the very tensors of the first time; Python is not asked
again. So a learning rate, a counter or a branch that the host decides is frozen here as it is in a graph, and
what a graph cannot hold is refused: a look at a value, a tensor made of Python's numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

LOOKS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}
BRINGS = {"lift_fresh"}


class Tape(TorchDispatchMode):
    """Within ``with tape:`` what is done is noted down, to be repeated by ``tape.replay()``."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        by_mask = name == "index" and any(where.dtype == torch.bool for where in _tensors(args[1]))
        if name in LOOKS | BRINGS or by_mask:
            raise RuntimeError(f"a graph cannot hold {function}: it looks at a value, or brings one along")
        out = function(*args, **kwargs)
        given = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        fresh = not function._schema.is_mutable and any(
            tensor.untyped_storage().data_ptr() not in given for tensor in _tensors(out)
        )
        if fresh or function._schema.is_mutable:  # all others are views
            self.calls.append((function, args, kwargs, out if fresh else None))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, out in self.calls:
            again = function(*args, **kwargs)
            for old, new in zip(_tensors(out), _tensors(again) if out is not None else [], strict=True):
                old.detach().copy_(new)

    def signature(self) -> list[str]:
        """What is done, without the data: operations, shapes, and every number that comes from Python."""

        def bare(value):
            return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value

        return [f"{function} {tree_map(bare, (args, kwargs))}" for function, args, kwargs, _ in self.calls]


class Recorded:
    """In place of a ``torch.cuda.CUDAGraph``: its first replay is what was done while it was noted down."""

    def __init__(self, take: Callable[[], None]) -> None:
        self.tape, self.begun = Tape(), False
        with self.tape:
            take()

    def replay(self) -> None:
        if self.begun:
            self.tape.replay()
        self.begun = True


def _tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
