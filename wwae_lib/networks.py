"""What are the encoder, the decoder and the discriminators, per data set?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .shapes import Codes, Images, PerImage

__all__ = ["NETWORKS", "Decoder", "Discriminator", "Encoder", "LatentDiscriminator", "Size", "size_of"]

Shape = tuple[int, int, int]  # channels, height and width of an image


@dataclass(frozen=True)
class Size:
    """Channels of the strided convolutions, outermost first; widths of the dense layers, 0 for none."""

    channels: tuple[int, ...]
    encoder_dense: int
    decoder_dense: int
    batch_norm: bool = False


# name -> side of the image in pixels -> size. compact: about 1 M parameters for 28 x 28, no batch
# normalisation, the decoder the smaller half, so that a reader's browser can load it; normalised: the same
# with it, tried by wwae_lib.book.selection. reference: for
# 28 x 28 the encoder and decoder of InfoGAN (Chen et al. 2016, appendix C.1), in which Lucic et al. (2018)
# and Dai & Wipf (2019) compare GANs and VAEs; for 64 x 64 the channels of the WAE (Tolstikhin et al. 2018,
# appendix C.2) with the filters of DCGAN (Radford et al. 2016), 4 x 4, and the decoder the encoder's
# mirror: it begins at 4 x 4, where the WAE's begins at 8 x 8 with 5 x 5 filters.
NETWORKS: dict[str, dict[int, Size]] = {
    "tiny": {28: Size((8, 16), 32, 32), 64: Size((8, 16, 16), 32, 32)},
    "compact": {28: Size((32, 64), 192, 64), 64: Size((32, 64, 128), 96, 96)},
    "normalised": {28: Size((32, 64), 192, 64, True), 64: Size((32, 64, 128), 96, 96, True)},
    "reference": {28: Size((64, 128), 1024, 1024, True), 64: Size((128, 256, 512, 1024), 0, 0, True)},
}


def size_of(network: str, shape: Shape) -> Size:
    """The size of a network for images of a shape.

    Raises:
        ValueError: there is no such network, or it has no size for such images.
    """
    if network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}; known: {', '.join(NETWORKS)}")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"the shape of an image is (1 or 3 channels, height, width); got {tuple(shape)}. Of a batch it "
            "is images.shape[1:]"
        )
    sizes, side = NETWORKS[network], shape[-1]
    like = 28 if side == 32 else side  # two halvings lead to 8 x 8 in place of 7 x 7
    if like not in sizes:
        raise ValueError(
            f"network {network!r} has no size for {side} x {side} images; it has 28, 32 and 64 pixels a side"
        )
    return sizes[like]


class Encoder(nn.Module):
    """Image to the mean and log-variance of a diagonal Gaussian over codes.

    ``(n, C, side, side)`` in [0, 1] to a pair of ``(n, latent)``: each strided convolution halves
    the side; one more looks around at the smallest; two dense layers. Without batch normalisation a
    code depends on its own image alone, in training as in evaluation; with it, in evaluation. Before
    training every standard deviation is about ``initial_std``; where that is 0 the encoder is
    deterministic: the log-variance is minus infinity and has no weights.
    """

    def __init__(self, shape: Shape, size: Size, latent: int, initial_std: float = 1.0):
        super().__init__()
        _check_dimensions(latent)
        if not 0 <= initial_std <= 10:
            raise ValueError(f"initial_std is {initial_std}; it must lie between 0 and 10")
        layers, features = _convolutions(shape, size, nn.ReLU(), size.batch_norm, size.batch_norm)
        self.deterministic = initial_std == 0
        last = nn.Linear(features, latent if self.deterministic else 2 * latent)
        self.layers = nn.Sequential(*layers, last)
        if not self.deterministic:
            nn.init.constant_(last.bias[latent:], 2 * math.log(initial_std))

    def forward(self, images: Images) -> tuple[Codes, Codes]:
        answer = self.layers(images).float()
        if self.deterministic:
            return answer, torch.full_like(answer, -torch.inf)
        mean, log_variance = answer.chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Codes ``(n, latent)`` to images ``(n, C, side, side)`` in [0, 1]: the encoder mirrored."""

    def __init__(self, shape: Shape, size: Size, latent: int):
        super().__init__()
        _check_dimensions(latent)
        channels, side = (*size.channels[::-1], shape[0]), _smallest(shape, size)
        norm, features = size.batch_norm, channels[0] * side**2
        width = size.decoder_dense
        layers: list[nn.Module] = _dense(latent, width, nn.ReLU(), norm) if width else []
        layers += _dense(width or latent, features, nn.ReLU(), norm)
        layers += [nn.Unflatten(1, (channels[0], side, side))]
        if not norm:
            layers += [nn.Conv2d(channels[0], channels[0], 3, padding=1), nn.ReLU()]
        for before, after in itertools.pairwise(channels[:-1]):
            layers += [_TransposedConv2d(before, after, bias=not norm)]
            layers += [nn.BatchNorm2d(after)] * norm + [nn.ReLU()]
        layers += [_TransposedConv2d(channels[-2], channels[-1])]
        self.layers = nn.Sequential(*layers)

    def forward(self, codes: Codes) -> Images:
        return self.logits(codes).sigmoid()

    def logits(self, codes: Codes) -> Images:
        """What the images are the sigmoid of."""
        return self.layers(codes).float()


class Discriminator(nn.Module):
    """Images ``(n, C, side, side)`` to one number each, ``(n,)``: how real it looks.

    The encoder's convolutions with leaky ReLUs and, as in DCGAN (Radford et al. 2016), no batch
    normalisation in the first. With ``batch_norm`` off there is none at all: the critic of a WGAN-GP is
    penalised image by image (Gulrajani et al. 2017, section 4).
    """

    def __init__(self, shape: Shape, size: Size, batch_norm: bool):
        super().__init__()
        layers, features = _convolutions(shape, size, nn.LeakyReLU(0.2), False, batch_norm)
        self.layers = nn.Sequential(*layers, nn.Linear(features, 1))

    def forward(self, images: Images) -> PerImage:
        return self.layers(images).float()[:, 0]


class LatentDiscriminator(nn.Module):
    """Codes ``(n, latent)`` to one number each, ``(n,)``, as Tolstikhin et al. (2018, appendix C)."""

    def __init__(self, latent: int, width: int = 512, depth: int = 4):
        super().__init__()
        widths = (latent, *[width] * depth)
        layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, codes: Codes) -> PerImage:
        return self.layers(codes).float()[:, 0]


class _TransposedConv2d(nn.ConvTranspose2d):
    """torch's with 4 x 4 filters, which doubles the side. On a CPU the bias is added after the convolution.

    There oneDNN's backward in bfloat16 takes up to nearly twice as long with a bias as without one. On other
    devices the convolution adds it itself, as torch's does.
    """

    def __init__(self, before: int, after: int, bias: bool = True):
        super().__init__(before, after, 4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None or x.device.type != "cpu":
            return super().forward(x)
        out = functional.conv_transpose2d(x, self.weight, None, stride=2, padding=1)
        return out.add_(self.bias.to(out.dtype)[:, None, None])


def _convolutions(
    shape: Shape, size: Size, activation: nn.Module, norm_first: bool, norm: bool
) -> tuple[list[nn.Module], int]:
    """Image to features: the layers, and how many features there are."""
    channels, side = (shape[0], *size.channels), _smallest(shape, size)
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(channels)):
        normed = norm if number else norm_first
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not normed)]
        layers += [nn.BatchNorm2d(after)] * normed + [activation]
    if not size.batch_norm:
        layers += [nn.Conv2d(channels[-1], channels[-1], 3, padding=1), activation]
    layers += [nn.Flatten()]
    features = channels[-1] * side**2
    if width := size.encoder_dense:
        layers += _dense(features, width, activation, norm)
    return layers, width or features


def _dense(before: int, after: int, activation: nn.Module, norm: bool) -> list[nn.Module]:
    return [nn.Linear(before, after, bias=not norm), *[nn.BatchNorm1d(after)] * norm, activation]


def _check_dimensions(latent: int) -> None:
    if latent < 1:
        raise ValueError(f"latent is {latent}; it must be at least 1")


def _smallest(shape: Shape, size: Size) -> int:
    """Side of the image after every halving."""
    side, halvings = shape[-1], len(size.channels)
    if shape[-2] != side or side % 2**halvings:
        raise ValueError(f"images of {shape[-2]} x {side} pixels cannot be halved {halvings} times")
    return side // 2**halvings
