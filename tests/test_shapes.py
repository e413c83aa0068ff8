"""The tests check the shapes that signatures promise: a wrong one is an error at the call that brings it."""

from __future__ import annotations

import pytest
import torch

from wwae_lib import methods, networks
from wwae_lib.measures import evaluation

pytest.importorskip("beartype")
jaxtyping = pytest.importorskip("jaxtyping")
GREY = (1, 28, 28)


def pixels(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    "call",
    [
        lambda: methods.squared_error(torch.zeros(3, 4), torch.zeros(3, 1)),  # which torch would broadcast
        lambda: methods.VAE.for_images(GREY, "tiny").penalty(*torch.zeros(2, 3, 2), torch.zeros(3, 4)),
        lambda: networks.LatentDiscriminator(2)(torch.zeros(2)),
        lambda: evaluation.to_pixels(pixels(3)),
        lambda: evaluation.encode(methods.VAE.for_images(GREY, "tiny"), pixels(28, 28)),
    ],
)
def test_a_wrong_shape_or_kind_of_number_is_named(call):
    with pytest.raises(jaxtyping.TypeCheckError, match="Type-check error whilst checking the parameters"):
        call()
