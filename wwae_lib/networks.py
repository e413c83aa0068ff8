"""What are the encoder and the decoder, per data set?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["NETWORKS", "Decoder", "Encoder", "Size"]


@dataclass(frozen=True)
class Size:
    """Channels of the strided convolutions, outermost first, and width of the dense layer."""

    channels: tuple[int, ...]
    dense: int


# name -> side of the image in pixels -> size. compact: about 1 M parameters for 28 x 28.
NETWORKS: dict[str, dict[int, Size]] = {
    "tiny": {28: Size((8, 16), 32), 64: Size((8, 16, 16), 32)},
    "compact": {28: Size((32, 64), 128), 64: Size((32, 64, 128), 256)},
}


class Encoder(nn.Module):
    """Image to the mean and log-variance of a diagonal Gaussian over codes.

    ``(n, C, side, side)`` in [0, 1] to a pair of ``(n, latent)``: each strided convolution halves
    the side; one more looks around at the smallest; two dense layers. No batch normalisation, so
    that a code depends on its own image alone, in training as in evaluation. Before training every
    standard deviation is about ``initial_std``.
    """

    def __init__(self, shape: tuple[int, int, int], size: Size, latent: int, initial_std: float = 1.0):
        super().__init__()
        channels, side = (shape[0], *size.channels), _smallest(shape, size)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(channels[-1], channels[-1], 3, padding=1), nn.ReLU(), nn.Flatten()]
        layers += [
            nn.Linear(channels[-1] * side**2, size.dense),
            nn.ReLU(),
            nn.Linear(size.dense, 2 * latent),
        ]
        self.layers = nn.Sequential(*layers)
        nn.init.constant_(layers[-1].bias[latent:], 2 * math.log(initial_std))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(images).float().chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Codes ``(n, latent)`` to images ``(n, C, side, side)`` in [0, 1]: the encoder mirrored."""

    def __init__(self, shape: tuple[int, int, int], size: Size, latent: int):
        super().__init__()
        channels, side = (*size.channels[::-1], shape[0]), _smallest(shape, size)
        layers: list[nn.Module] = [nn.Linear(latent, size.dense), nn.ReLU()]
        layers += [nn.Linear(size.dense, channels[0] * side**2), nn.ReLU()]
        layers += [nn.Unflatten(1, (channels[0], side, side))]
        layers += [nn.Conv2d(channels[0], channels[0], 3, padding=1), nn.ReLU()]
        for before, after in itertools.pairwise(channels):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(codes).float().sigmoid()


def _smallest(shape: tuple[int, int, int], size: Size) -> int:
    """Side of the image after every halving."""
    side, halvings = shape[-1], len(size.channels)
    if shape[-2] != side or side % 2**halvings:
        raise ValueError(f"images of {shape[-2]} x {side} pixels cannot be halved {halvings} times")
    return side // 2**halvings
