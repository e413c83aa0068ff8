"""Which shapes do the tensors have that pass from one function to another?

These are types of jaxtyping. The tests check them at every call (``tests/conftest.py``): sizes that have the
same name in a signature must agree. Type checkers read them as tensors; else they cost nothing.
"""

from __future__ import annotations

from jaxtyping import Float, Integer, Shaped, UInt8
from torch import Tensor

__all__ = [
    "Batch",
    "Bytes",
    "Codes",
    "Covariance",
    "Floats",
    "Images",
    "Labels",
    "Mean",
    "Others",
    "PerImage",
    "Pixels",
    "Points",
    "Scalar",
]

Scalar = Float[Tensor, ""]
PerImage = Float[Tensor, " n"]  # a number of each image
Labels = Integer[Tensor, " n"]
Codes = Float[Tensor, "n latent"]  # or their means, variances, log-variances
Points = Float[Tensor, "n d"]
Mean = Float[Tensor, " d"]
Covariance = Float[Tensor, "d d"]
Pixels = UInt8[Tensor, "n channels height width"]  # 0, ..., 255
Others = UInt8[Tensor, "m channels height width"]  # as many as they may be
Images = Float[Tensor, "n *image"]  # numbers in [0, 1], of any shape
Batch = Shaped[Tensor, "n *image"]  # images or their pixels
Bytes = UInt8[Tensor, "*shape"]
Floats = Float[Tensor, "*shape"]
