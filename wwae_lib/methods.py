r"""What does each method minimise? Each reads as its equation.

One scale for all auto-encoders: pixels in [0, 1], the squared error :math:`|x - G(z)|^2` summed over
pixels and averaged over the batch, codes with prior N(0, I), and ``penalty_weight`` (lambda) times the
penalty. Each docstring converts its source's convention to that scale.

A method is one class, which says what it is called, what we chose for it and how it is drawn: to add one is
to write it. It names its players, who take turns: auto-encoders are one, ``model``; where a discriminator
learns too there are two. ``loss(images, player)`` is what that player minimises, over its own weights alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import processes
from .data import to_unit
from .networks import Decoder, Discriminator, Encoder, LatentDiscriminator, Shape, size_of
from .penalties import (
    ESTIMATORS,
    AccumulatedMoments,
    cramer_wold_squared,
    kl_to_standard_normal,
    mmd_squared,
    posterior_w2_penalty,
    random_directions,
    sliced_w2_squared,
)
from .shapes import Batch, Codes, Images, PerImage, Scalar

__all__ = [
    "AE",
    "CWAE",
    "GAN",
    "METHODS",
    "SWAE",
    "VAE",
    "WAEGAN",
    "WAEMMD",
    "WGANGP",
    "WWAE",
    "AutoEncoder",
    "BernoulliVAE",
    "LearnedVAE",
    "Loss",
    "Method",
    "squared_error",
]


class Loss(NamedTuple):
    """What is minimised, and its terms before weighting, by name."""

    total: Scalar
    terms: dict[str, Scalar]


def squared_error(images: Images, reconstructions: Images) -> PerImage:
    """Squared error of each image, summed over pixels: ``(n,)``."""
    return (images - reconstructions).square().flatten(1).sum(1)


METHODS: dict[str, type[Method]] = {}  # every method by name, in the order in which the classes stand here


class Method(nn.Module):
    """Players that take turns, a loss for each, and images decoded from the prior N(0, I).

    A class that states a ``name`` is a method of the comparison, entered in ``METHODS``.

    Attributes:
        name: in experiments and in the names of folders.
        title: in figures and tables.
        line: its colour (a name in ``wwae_lib.book.figures.COLOURS``) and dashes in every figure; those of a
            kind share a colour.
        stochastic: whether the encoder has a variance of its own.
        grey_only: whether it is a model of grey images alone.
        times_epochs: how many times as many epochs as the others it is trained for in a comparison.
        takes: the fields of an experiment that :meth:`for_images` takes.
        defaults: what we chose for the fields of its experiments, and ``defaults_on`` by data set.
        players: who trains. ``model`` owns all weights that no other player does; any other player is a
            submodule of its name.
        adversaries: submodules that serve training alone; a finished run does not keep them.
        betas: Adam's, for every player.
        rates: a player's learning rate over the experiment's, where it is not 1.
        latent: dimension of the codes.
    """

    name: str
    title: str
    line: tuple[str, str]
    stochastic: bool = False
    grey_only: bool = False
    times_epochs: int = 1
    takes: tuple[str, ...] = ()
    defaults: dict[str, Any] = {}  # noqa: RUF012
    defaults_on: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    players: tuple[str, ...] = ("model",)
    adversaries: tuple[str, ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    rates: dict[str, float] = {}  # noqa: RUF012
    latent: int
    shape: Shape | None = None  # of its images, where for_images made its networks
    waits: bool = False  # the loss waits for a value, so that a GPU cannot replay its steps

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if name := vars(cls).get("name"):
            if name in METHODS:
                raise ValueError(f"two methods are called {name!r}")
            METHODS[name] = cls

    @classmethod
    def for_images(cls, shape: Shape, network: str = "compact", **options: Any) -> Self:
        """The method with fresh networks, drawn from torch's generator, for images of a shape.

        Args:
            shape: channels, height and width.
            network: the networks' size, a name in :data:`wwae_lib.networks.NETWORKS`.
            options: those of ``takes``.

        Raises:
            ValueError: the network has no size for such images.
        """
        raise NotImplementedError

    def _for(self, shape: Shape) -> Self:
        channels, height, width = shape
        self.shape = channels, height, width
        return self

    def turns(self, step: int) -> tuple[str, ...]:
        """Who moves at a step, in order; steps are counted from 0 over the whole training."""
        return self.players

    def weights(self, player: str) -> list[nn.Parameter]:
        """The parameters that a player trains."""
        if player != "model":
            return list(getattr(self, player).parameters())
        others = {id(w) for name in self.players if name != "model" for w in self.weights(name)}
        return [weight for weight in self.parameters() if id(weight) not in others]

    def kept(self) -> dict[str, Tensor]:
        """The state that a finished run keeps: all but the adversaries'."""
        gone = tuple(f"{name}." for name in self.adversaries)
        return {name: value for name, value in self.state_dict().items() if not name.startswith(gone)}

    def decode(self, codes: Codes) -> Images:
        """Codes ``(n, latent)`` to images in [0, 1]."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Images:
        """`n` images in [0, 1] decoded from the prior; the same codes on every device."""
        codes = torch.randn(n, self.latent, generator=torch.Generator().manual_seed(seed))
        return self.decode(codes.to(next(self.parameters()).device))

    def loss(self, images: Images, player: str = "model") -> Loss:
        """What a player minimises on a batch of images in [0, 1]."""
        raise NotImplementedError

    def forward(self, images: Batch, player: str = "model") -> Loss:
        """The loss, so that what wraps a module (autocast, data parallelism) wraps the loss.

        Training passes uint8 pixels: Fabric rounds other inputs to bfloat16, which cannot tell 253 of 255
        from 254.
        """
        if images.dtype == torch.uint8:
            images = to_unit(images).contiguous(memory_format=torch.channels_last)
        return self.loss(images, player)


# ---------------------------------------------------------------- auto-encoders


class AutoEncoder(Method):
    """An encoder to diagonal Gaussians, a decoder, and the prior N(0, I) on the codes.

    Args:
        encoder: images ``(n, ...)`` to mean and log-variance, each ``(n, latent)``; minus infinity is the
            log-variance of a deterministic encoder.
        decoder: codes ``(n, latent)`` to images ``(n, ...)``.
        latent: dimension of the codes.
        penalty_weight: multiplies the penalty; by default what ``defaults`` says.
    """

    takes = ("latent", "initial_std", "penalty_weight")

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent: int, penalty_weight: float | None = None
    ):
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent
        default = self.defaults.get("penalty_weight", 1.0)
        self.penalty_weight: float = default if penalty_weight is None else penalty_weight
        if not 0 <= self.penalty_weight < math.inf:
            raise ValueError(f"penalty_weight is {penalty_weight}; it must be finite and not negative")

    @classmethod
    def for_images(
        cls,
        shape: Shape,
        network: str = "compact",
        latent: int = 8,
        initial_std: float = 0.01,
        **options: Any,
    ) -> Self:
        size = size_of(network, shape)
        encoder = Encoder(shape, size, latent, initial_std if cls.stochastic else 0.0)
        return cls(encoder, Decoder(shape, size, latent), latent, **options)._for(shape)

    def encode(self, images: Images) -> tuple[Codes, Codes]:
        """Mean and log-variance of each image's code, ``(n, latent)`` each."""
        return self.encoder(images)

    def decode(self, codes: Codes) -> Images:
        return self.decoder(codes)

    def reconstruct(self, images: Images) -> Images:
        """Decode each image's mean code."""
        return self.decode(self.encode(images)[0])

    def draw(self, images: Images) -> tuple[Codes, Codes, Codes]:
        r"""Mean, log-variance and a code :math:`z = \mu + \sigma \epsilon` of each image."""
        mean, log_variance = self.encode(images)
        noise = processes.randn(*mean.shape, like=mean)
        return mean, log_variance, mean + (0.5 * log_variance).exp() * noise

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        raise NotImplementedError

    def loss(self, images: Images, player: str = "model") -> Loss:
        r""":math:`E|x - G(z)|^2 + \lambda \cdot \mathrm{penalty}`."""
        mean, log_variance, codes = self.draw(images)
        reconstruction = squared_error(images, self.decode(codes)).mean()
        penalty = self.penalty(mean, log_variance, codes)
        terms = {"reconstruction": reconstruction, "penalty": penalty}
        return Loss(reconstruction + self.penalty_weight * penalty, terms)


class WWAE(AutoEncoder):
    r"""Wasserstein-Wasserstein auto-encoder (Zhang et al. 2019).

    .. math::  E|x - G(z)|^2 + \lambda W_2^2(N(m, S), N(0, I))

    with `m`, `S` the moments of the aggregated posterior, by one of several estimators
    (:func:`wwae_lib.penalties.posterior_w2_penalty`).
    """

    name, title, line = "wwae", "WWAE", ("orange", "-")
    stochastic = True
    takes = (*AutoEncoder.takes, "estimator")
    defaults = {"penalty_weight": 10.0}  # noqa: RUF012
    # An encoder that may be random left most of 64 dimensions to noise, which the penalty cannot see.
    defaults_on = {"celeba": {"initial_std": 0.0}}  # noqa: RUF012

    def __init__(
        self, encoder, decoder, latent: int, penalty_weight: float | None = None, estimator: str = "total"
    ):
        super().__init__(encoder, decoder, latent, penalty_weight)
        if estimator not in ESTIMATORS:
            raise ValueError(f"there is no estimator {estimator!r}; known: {', '.join(ESTIMATORS)}")
        self.estimator = estimator
        self.memory = AccumulatedMoments(latent) if estimator == "accumulated" else None
        self.waits = estimator in ("corrected", "accumulated")  # in the eigensolver

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        return posterior_w2_penalty(mean, log_variance, codes, self.estimator, self.memory)


class VAE(AutoEncoder):
    r"""Variational auto-encoder with a Gaussian decoder of fixed variance (Kingma & Welling 2014).

    .. math::  E|x - G(z)|^2 + 2v \, \mathrm{KL}(q(z|x) \,\|\, N(0, I))

    is :math:`2v` times the negative evidence lower bound with decoder
    :math:`N(G(z), v I)`, up to a constant; ``penalty_weight`` is :math:`2v`.
    """

    name, title, line = "vae", "VAE", ("blue", "-")
    stochastic = True
    defaults = {"penalty_weight": 1.0}  # noqa: RUF012

    def __init__(self, encoder, decoder, latent: int, penalty_weight: float | None = None):
        super().__init__(encoder, decoder, latent, penalty_weight)
        if getattr(encoder, "deterministic", False):
            raise ValueError("initial_std is 0; a VAE's codes need a variance")

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        return kl_to_standard_normal(mean, log_variance)


class LearnedVAE(VAE):
    r"""VAE whose decoder's variance is learned, one number for all pixels (Dai & Wipf 2019, equation 2).

    .. math::

        \frac{1}{2 \gamma} E|x - G(z)|^2 + \frac{D}{2} \log 2 \pi \gamma
            + \lambda \, \mathrm{KL}(q(z|x) \,\|\, N(0, I))

    in nats per image of `D` pixels; :math:`\lambda = 1` is the negative evidence lower bound. At the best
    :math:`\gamma`, the mean squared error of a pixel, the gradient is that of :class:`VAE` with weight
    :math:`2 \gamma`, over :math:`2 \gamma`. It begins at 0.05, about the variance of a pixel.
    """

    name, title, line = "vae_learned", "VAE, learned variance", ("blue", "--")

    def __init__(self, encoder, decoder, latent: int, penalty_weight: float | None = None):
        super().__init__(encoder, decoder, latent, penalty_weight)
        self.log_gamma = nn.Parameter(torch.tensor(math.log(0.05)))

    def loss(self, images: Images, player: str = "model") -> Loss:
        terms = super().loss(images).terms
        pixels = images[0].numel()
        fit = 0.5 * (terms["reconstruction"] * (-self.log_gamma).exp())
        fit = fit + 0.5 * pixels * (math.log(2 * math.pi) + self.log_gamma)
        total = fit + self.penalty_weight * terms["penalty"]
        return Loss(total, terms | {"decoder_variance": self.log_gamma.exp()})


class BernoulliVAE(VAE):
    r"""VAE whose decoder gives the probability that a pixel is white (Kingma & Welling 2014, appendix C.1).

    .. math::

        -E \sum_i \bigl(x_i \log G_i(z) + (1 - x_i) \log (1 - G_i(z))\bigr)
            + \lambda \, \mathrm{KL}(q(z|x) \,\|\, N(0, I))

    in nats per image; :math:`\lambda = 1` is the negative evidence lower bound where pixels are 0 or 1, and
    its usual stand-in for grey images.
    """

    name, title, line = "vae_bernoulli", "VAE, Bernoulli", ("blue", ":")
    grey_only = True  # a colour's channels are no probabilities of white

    def loss(self, images: Images, player: str = "model") -> Loss:
        mean, log_variance, codes = self.draw(images)
        logits = cast(Decoder, self.decoder).logits(codes)
        each = functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
        cross_entropy, penalty = each.flatten(1).sum(1).mean(), self.penalty(mean, log_variance, codes)
        reconstruction = squared_error(images, logits.detach().sigmoid()).mean()
        terms = {"reconstruction": reconstruction, "cross_entropy": cross_entropy, "penalty": penalty}
        return Loss(cross_entropy + self.penalty_weight * penalty, terms)


class AE(AutoEncoder):
    r"""Plain auto-encoder: :math:`E|x - G(z)|^2` and no penalty, so nothing ties its codes to the prior."""

    name, title, line = "ae", "AE", ("grey", "-")
    defaults = {"penalty_weight": 0.0}  # noqa: RUF012

    def loss(self, images: Images, player: str = "model") -> Loss:
        reconstruction = squared_error(images, self.decode(self.draw(images)[2])).mean()
        return Loss(reconstruction, {"reconstruction": reconstruction})


class WAEMMD(AutoEncoder):
    r"""Wasserstein auto-encoder with a maximum mean discrepancy (Tolstikhin et al. 2018, algorithm 2).

    .. math::  E|x - G(z)|^2 + \lambda \, \mathrm{MMD}_k^2(Q_Z, N(0, I))

    with a deterministic encoder and the unbiased estimate of :func:`wwae_lib.penalties.mmd_squared` from as
    many draws of the prior. The authors' code multiplies the squared error by 0.05, so its :math:`\lambda =
    10` is 200 here for MNIST. For CelebA its pixels lie in [-1, 1], where squared errors are four times as
    large, so that its 100 is 500 here (its first versions had 10).
    """

    name, title, line = "wae_mmd", "WAE-MMD", ("green", "-")
    defaults = {"penalty_weight": 200.0}  # noqa: RUF012
    defaults_on = {"celeba": {"penalty_weight": 500.0}}  # noqa: RUF012

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        whole = processes.gather(codes)
        return mmd_squared(whole, torch.randn_like(whole))


class WAEGAN(AutoEncoder):
    r"""Wasserstein auto-encoder with a discriminator of codes (Tolstikhin et al. 2018, algorithm 1).

    The discriminator `D` tells draws of the prior from codes; the auto-encoder fools it:

    .. math::

        \min_D \; E \log(1 + e^{-D(p)}) + E \log(1 + e^{D(z)}), \qquad
        \min_{Q, G} \; E|x - G(z)|^2 + \lambda E \log(1 + e^{-D(z)})

    with a deterministic encoder; logits, non-saturating. :math:`\lambda` converts as in :class:`WAEMMD`;
    Adam's :math:`\beta_1 = 0.5` as in the authors' code, and half the rate for the discriminator, as it has
    for MNIST. Its option to add the prior's log-density to `D`, which it uses for CelebA, is not used.
    """

    name, title, line = "wae_gan", "WAE-GAN", ("green", "--")
    # The authors' 200 for MNIST held our networks, which have no batch normalisation, to the mean image
    # for 900 steps; with 20 they left it.
    defaults = {"penalty_weight": 20.0}  # noqa: RUF012
    defaults_on = {"celeba": {"penalty_weight": 50.0}}  # noqa: RUF012
    players = ("discriminator", "model")
    adversaries = ("discriminator",)
    betas = (0.5, 0.999)
    rates = {"discriminator": 0.5}  # noqa: RUF012

    def __init__(
        self, encoder, decoder, latent: int, penalty_weight: float | None = None, *, discriminator=None
    ):
        super().__init__(encoder, decoder, latent, penalty_weight)
        self.discriminator = discriminator or LatentDiscriminator(latent)

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        with _frozen(self.discriminator):
            return functional.softplus(-self.discriminator(codes)).mean()

    def loss(self, images: Images, player: str = "model") -> Loss:
        if player == "model":
            return super().loss(images)
        with torch.no_grad():
            codes = self.draw(images)[2]
        prior = processes.randn(*codes.shape, like=codes)
        return _told_apart(self.discriminator, prior, codes)


class SWAE(AutoEncoder):
    r"""Sliced-Wasserstein auto-encoder (Kolouri et al. 2018).

    .. math::  E|x - G(z)|^2 + \lambda \, \mathrm{SW}_2^2(Q_Z, N(0, I))

    with a deterministic encoder, as many draws of the prior, and 50 random directions a batch, as in the
    authors' code. The distance is an average over directions
    (:func:`wwae_lib.penalties.sliced_w2_squared`), about :math:`1 / d` of the squared W2.
    """

    name, title, line = "swae", "SWAE", ("purple", "-")
    defaults = {"penalty_weight": 100.0}  # noqa: RUF012
    directions = 50

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        whole = processes.gather(codes)
        directions = random_directions(self.latent, self.directions, whole)
        return sliced_w2_squared(whole, torch.randn_like(whole), directions)


class CWAE(AutoEncoder):
    r"""Cramer-Wold auto-encoder (Knop et al. 2020).

    .. math::  E|x - G(z)|^2 + \lambda \log d_{\mathrm{cw}}^2(Q_Z, N(0, I))

    with a deterministic encoder and no draw of the prior (:func:`wwae_lib.penalties.cramer_wold_squared`).
    The scale is the authors', where :math:`\lambda = 1`; as their code does we add 1e-7 under the
    logarithm. The penalty may be negative.
    """

    name, title, line = "cwae", "CWAE", ("purple", "--")

    def penalty(self, mean: Codes, log_variance: Codes, codes: Codes) -> Scalar:
        return (cramer_wold_squared(processes.gather(codes)) + 1e-7).log()


# ---------------------------------------------------------------- generative adversarial networks


class GAN(Method):
    r"""Generative adversarial network with the non-saturating loss (Goodfellow et al. 2014, section 3).

    .. math::

        \min_D \; E \log(1 + e^{-D(x)}) + E \log(1 + e^{D(G(p))}), \qquad
        \min_G \; E \log(1 + e^{-D(G(p))})

    with `p` drawn from N(0, I); Adam with :math:`\beta_1 = 0.5` (Radford et al. 2016). Both move once a
    batch. It has no encoder and no reconstruction.

    Args:
        discriminator: images ``(n, ...)`` to logits ``(n,)``.
        generator: codes ``(n, latent)`` to images.
        latent: dimension of the codes.
    """

    name, title, line = "gan", "DCGAN", ("yellow", "-")
    takes = ("latent",)
    # 64 dimensions as Lucic et al. (2018)
    defaults = {"latent": 64, "learning_rate": 2e-4, "batch_size": 64}  # noqa: RUF012
    players = ("discriminator", "generator")
    adversaries = ("discriminator",)
    betas = (0.5, 0.999)

    def __init__(self, discriminator: nn.Module, generator: nn.Module, latent: int):
        super().__init__()
        self.discriminator, self.generator, self.latent = discriminator, generator, latent

    @classmethod
    def for_images(cls, shape: Shape, network: str = "compact", latent: int = 64) -> Self:
        normed = dataclasses.replace(size_of(network, shape), batch_norm=True)  # to train on any network
        return cls(Discriminator(shape, normed, True), Decoder(shape, normed, latent), latent)._for(shape)

    def decode(self, codes: Codes) -> Images:
        return self.generator(codes)

    def invent(self, images: Images) -> Images:
        """As many images as there are, from the prior."""
        return self.generator(processes.randn(len(images), self.latent, like=images))

    def loss(self, images: Images, player: str = "generator") -> Loss:
        if player == "generator":
            with _frozen(self.discriminator):
                return Loss(functional.softplus(-self.discriminator(self.invent(images))).mean(), {})
        with torch.no_grad():
            invented = self.invent(images)
        return _told_apart(self.discriminator, images, invented)


class WGANGP(Method):
    r"""Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, algorithm 1).

    .. math::

        \min_f \; E f(G(p)) - E f(x) + \lambda E (|\nabla f(\hat x)| - 1)^2, \qquad
        \min_G \; -E f(G(p))

    with :math:`\hat x` uniform on the line between an image and an invented one. The critic moves at every
    batch, the generator at every fifth; Adam with :math:`\beta = (0, 0.9)`; :math:`\lambda = 10` there and
    here (gradients are of pixels in [0, 1] here, in [-1, 1] there: the critic differs by that scale).

    Args: as :class:`GAN`; ``penalty_weight`` is :math:`\lambda`.
    """

    name, title, line = "wgan_gp", "WGAN-GP", ("sky", "-")
    takes = ("latent", "penalty_weight")
    defaults = {  # noqa: RUF012
        **{"latent": 64, "learning_rate": 1e-4, "penalty_weight": 10.0, "batch_size": 64},
        "epochs": 18,
    }
    times_epochs = 3  # its generator moves at every fifth batch
    players = ("critic", "generator")
    adversaries = ("critic",)
    betas = (0.0, 0.9)
    critic_steps = 5

    def __init__(self, critic: nn.Module, generator: nn.Module, latent: int, penalty_weight: float = 10.0):
        super().__init__()
        self.critic, self.generator = critic, generator
        self.latent, self.penalty_weight = latent, penalty_weight

    @classmethod
    def for_images(cls, shape: Shape, network: str = "compact", latent: int = 64, **options: Any) -> Self:
        size = size_of(network, shape)
        critic = Discriminator(shape, size, False)
        generator = Decoder(shape, dataclasses.replace(size, batch_norm=True), latent)
        return cls(critic, generator, latent, **options)._for(shape)

    decode = GAN.decode
    invent = GAN.invent

    def turns(self, step: int) -> tuple[str, ...]:
        return self.players if (step + 1) % self.critic_steps == 0 else self.players[:1]

    def gradient_penalty(self, images: Images, invented: Images) -> Scalar:
        """Mean squared excess over 1 of the critic's gradient, at random points between."""
        share = processes.rand(len(images), *[1] * (images.ndim - 1), like=images)
        between = torch.lerp(images, invented, share).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def loss(self, images: Images, player: str = "generator") -> Loss:
        if player == "generator":
            with _frozen(self.critic):
                return Loss(-self.critic(self.invent(images)).mean(), {})
        with torch.no_grad():
            invented = self.invent(images)
        distance = self.critic(images).mean() - self.critic(invented).mean()
        penalty = self.gradient_penalty(images, invented)
        return Loss(self.penalty_weight * penalty - distance, {"distance": distance, "penalty": penalty})


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """What is computed inside has no gradient to the network's own weights, which saves its time."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _told_apart(discriminator: nn.Module, real: Batch, made: Batch) -> Loss:
    """Cross-entropy, in nats, of telling real from made; 2 log 2 where it cannot."""
    missed = functional.softplus(-discriminator(real)).mean()
    fooled = functional.softplus(discriminator(made)).mean()
    return Loss(missed + fooled, {"missed": missed, "fooled": fooled})
