"""What do the WWAE and the VAE minimise? Each reads as its equation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .data import SHAPES
from .experiments import Experiment
from .networks import NETWORKS, Decoder, Encoder
from .penalties import ESTIMATORS, kl_to_standard_normal, w2_penalty

__all__ = ["VAE", "WWAE", "AutoEncoder", "Loss", "build", "squared_error"]


class Loss(NamedTuple):
    """What is minimised, and its terms before weighting."""

    total: Tensor
    reconstruction: Tensor
    penalty: Tensor


def squared_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared error summed over pixels, one number an image: ``(n,)``."""
    return (images - reconstructions).square().flatten(1).sum(1)


class AutoEncoder(nn.Module):
    """An encoder to diagonal Gaussians, a decoder, and the prior N(0, I) on the codes.

    Args:
        encoder: images ``(n, ...)`` to mean and log-variance, each ``(n, latent)``.
        decoder: codes ``(n, latent)`` to images ``(n, ...)``.
        latent: dimension of the codes.
        penalty_weight: multiplies the penalty.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int, penalty_weight: float):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent, self.penalty_weight = latent, penalty_weight

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of each image's code, ``(n, latent)`` each."""
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Decode each image's mean code."""
        return self.decode(self.encode(images)[0])

    def sample(self, n: int, seed: int) -> Tensor:
        """`n` images decoded from the prior; the same codes on every device."""
        codes = torch.randn(n, self.latent, generator=torch.Generator().manual_seed(seed))
        return self.decode(codes.to(next(self.parameters()).device))

    def penalty(self, mean: Tensor, log_variance: Tensor, codes: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(self, images: Tensor) -> Loss:
        r""":math:`E|x - G(z)|^2 + \lambda \cdot \mathrm{penalty}`, with :math:`z = \mu + \sigma \epsilon`."""
        mean, log_variance = self.encode(images)
        codes = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        reconstruction = squared_error(images, self.decode(codes)).mean()
        penalty = self.penalty(mean, log_variance, codes)
        return Loss(reconstruction + self.penalty_weight * penalty, reconstruction, penalty)

    forward = loss  # so that what wraps a module (autocast, data parallelism) wraps the loss


class WWAE(AutoEncoder):
    r"""Wasserstein-Wasserstein auto-encoder (Zhang et al. 2019).

    .. math::  E|x - G(z)|^2 + \lambda W_2^2(N(m, S), N(0, I))

    with `m`, `S` the moments of the aggregated posterior, by one of three estimators
    (:func:`wwae_lib.penalties.w2_penalty`).
    """

    def __init__(self, encoder, decoder, latent: int, penalty_weight: float = 10.0, estimator: str = "total"):
        super().__init__(encoder, decoder, latent, penalty_weight)
        if estimator not in ESTIMATORS:
            raise ValueError(f"there is no estimator {estimator!r}; known: {', '.join(ESTIMATORS)}")
        self.estimator = estimator

    def penalty(self, mean: Tensor, log_variance: Tensor, codes: Tensor) -> Tensor:
        return w2_penalty(mean, log_variance, codes, self.estimator)


class VAE(AutoEncoder):
    r"""Variational auto-encoder with a Gaussian decoder of fixed variance (Kingma & Welling 2014).

    .. math::  E|x - G(z)|^2 + 2v \, \mathrm{KL}(q(z|x) \,\|\, N(0, I))

    is :math:`2v` times the negative evidence lower bound with decoder
    :math:`N(G(z), v I)`, up to a constant; ``penalty_weight`` is :math:`2v`.
    """

    def penalty(self, mean: Tensor, log_variance: Tensor, codes: Tensor) -> Tensor:
        return kl_to_standard_normal(mean, log_variance)


def build(experiment: Experiment) -> AutoEncoder:
    """The method of an experiment with fresh weights, drawn from torch's generator.

    Raises:
        ValueError: the network does not exist for the data set's images.
    """
    shape = SHAPES[experiment.dataset]
    sizes = NETWORKS[experiment.network]
    if shape[-1] not in sizes:
        raise ValueError(f"network {experiment.network!r} has no size for {shape[-1]} x {shape[-1]} images")
    size, latent = sizes[shape[-1]], experiment.latent
    networks = Encoder(shape, size, latent, experiment.initial_std), Decoder(shape, size, latent)
    if experiment.method == "wwae":
        return WWAE(*networks, latent, experiment.penalty_weight, experiment.estimator)
    if experiment.method == "vae":
        return VAE(*networks, latent, experiment.penalty_weight)
    raise ValueError(f"there is no method {experiment.method!r}")
