"""Which shapes do the tensors have that pass from one function to another?

These are types of jaxtyping. The tests check them at every call (``tests/conftest.py``): sizes that have the
same name in a signature must agree. Nothing else needs jaxtyping: without it each type is that of a tensor.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

if TYPE_CHECKING or find_spec("jaxtyping"):
    from jaxtyping import Float, Integer, Shaped, UInt8
else:

    class Shaped:
        """``Shaped[Tensor, "n d"]`` is ``Tensor``."""

        def __class_getitem__(cls, arguments: tuple[type, str]) -> type:
            return arguments[0]

    Float = Integer = UInt8 = Shaped

__all__ = [
    "Batch",
    "Bytes",
    "Clouds",
    "Codes",
    "Covariance",
    "Floats",
    "Grams",
    "Images",
    "Labels",
    "Matrices",
    "Mean",
    "OtherLabels",
    "OtherPoints",
    "PerImage",
    "Pixels",
    "Points",
    "Scalar",
    "Values",
    "Vectors",
]

Scalar: TypeAlias = Float[Tensor, ""]
PerImage: TypeAlias = Float[Tensor, " n"]  # a number of each image
Labels: TypeAlias = Integer[Tensor, " n"]
OtherLabels: TypeAlias = Integer[Tensor, " m"]
Codes: TypeAlias = Float[Tensor, "n latent"]  # or their means, variances, log-variances
Points: TypeAlias = Float[Tensor, "n d"]
OtherPoints: TypeAlias = Float[Tensor, "m d"]
Mean: TypeAlias = Float[Tensor, " d"]
Covariance: TypeAlias = Float[Tensor, "d d"]
Values: TypeAlias = Float[Tensor, "*batch"]
Vectors: TypeAlias = Float[Tensor, "*batch d"]
Clouds: TypeAlias = Float[Tensor, "*batch n d"]  # of points
Matrices: TypeAlias = Float[Tensor, "*batch d d"]
Grams: TypeAlias = Float[Tensor, "*batch k k"]  # of points or of dimensions
Pixels: TypeAlias = UInt8[Tensor, "n channels height width"]  # 0, ..., 255
Images: TypeAlias = Float[Tensor, "n *image"]  # numbers in [0, 1], of any shape
Batch: TypeAlias = Shaped[Tensor, "n *image"]  # images or their pixels
Bytes: TypeAlias = UInt8[Tensor, "*shape"]
Floats: TypeAlias = Float[Tensor, "*shape"]
