"""A device without float64 and eigensolver, as Apple's GPUs are: the processor's numbers under its name."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_map_only


class OnMPS(torch.Tensor):
    """A tensor that says it is on MPS and, like those, refuses what does not exist there. No derivatives."""

    @staticmethod
    def __new__(cls, inside: torch.Tensor):
        how = {"strides": inside.stride(), "dtype": inside.dtype, "device": "mps"}
        return torch.Tensor._make_wrapper_subclass(cls, inside.shape, **how)

    def __init__(self, inside: torch.Tensor):
        self.inside = inside

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        args, kwargs = tree_map_only(cls, lambda one: one.inside, (args, dict(kwargs or {})))
        to = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else "mps"
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        if "eigh" in function.__name__ or "svd" in function.__name__:
            raise NotImplementedError(f"{function} is not implemented for the MPS device")

        def placed(one: torch.Tensor) -> torch.Tensor:
            if to == "cpu":
                return one
            if one.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
            return cls(one)

        return tree_map_only(torch.Tensor, placed, function(*args, **kwargs))
