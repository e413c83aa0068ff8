"""What does a WWAE look like in the plane? Data on a curve, and networks that train in seconds."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import roots_genlaguerre
from torch import Tensor, nn
from torch.nn import functional

from ..gaussian import moments, w2_squared_to_standard_normal

__all__ = [
    "DEPARTURES",
    "AccumulatedW2",
    "curve",
    "departure",
    "discriminator_js",
    "networks",
    "sigreg",
    "train",
    "trained_scale",
    "wishart_means_in_the_plane",
]

# Laws of codes that depart from N(0, I) in one respect, in the first codes alone except for the scale.
DEPARTURES = {
    "mean": "mean 0.5",
    "scale": "scale 0.9",
    "correlation": "correlation 0.5",
    "circle": "circle",
}


def curve(t: Tensor) -> Tensor:
    r"""Points :math:`\gamma(t)` of an S-shaped curve in the plane, two halves of unit circles.

    Args:
        t: position along the curve in [0, 1], any shape ``(...)``; uniform `t` is uniform in length.

    Returns:
        ``(..., 2)``. The curve has length :math:`2 \pi` and is symmetric about the origin.
    """
    angle = 2 * math.pi * (t - 0.5)
    return torch.stack([angle.sin(), angle.sign() * (angle.cos() - 1)], -1)


class _Encoder(nn.Module):
    """Points ``(n, 2)`` to mean and log-variance, each ``(n, latent)``."""

    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.layers = _perceptron(2, hidden, 2 * latent)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(points).chunk(2, dim=-1)
        return mean, log_variance


def networks(latent: int, hidden: int = 64) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder between the plane and `latent` dimensions: two hidden layers each."""
    return _Encoder(latent, hidden), _perceptron(latent, hidden, 2)


def train(method: nn.Module, steps: int, keep, n: int = 256, learning_rate: float = 2e-3, seed: int = 0):
    """Train on fresh points of the curve with Adam.

    Args:
        method: what is trained; ``method.loss(points)`` returns a named tuple with a ``total``.
        steps: number of batches.
        keep: steps after which to keep a copy of the method (0: before training).
        n: points a batch.
        learning_rate: Adam's, falling to 0 along a half cosine.
        seed: of the points and of the encoder's noise.

    Returns:
        ``{step: copy of the method}``.
    """
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(method.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    kept = {}
    for step in range(steps + 1):
        if step in keep:
            kept[step] = copy.deepcopy(method)
        optimiser.zero_grad()
        method.loss(curve(torch.rand(n))).total.backward()
        optimiser.step()
        schedule.step()
    return kept


class AccumulatedW2:
    r"""Squared W2 to N(0, I) of moments averaged over past batches, with the current one's gradient.

    With :math:`\bar m`, :math:`\bar S` the averages with weights :math:`(1 - \rho) \rho^k`, the value is
    that of :math:`N(\bar m, \bar S)`; the gradient is :math:`2 \bar m` times the current mean's and
    :math:`I - \bar S^{-1/2}` times the current covariance's, with weight 1 and not :math:`1 - \rho`.

    Args:
        decay: :math:`\rho` in [0, 1).
    """

    def __init__(self, decay: float):
        self.decay, self.memory = decay, None

    def __call__(self, z: Tensor) -> Tensor:
        """Codes ``(..., n, d)`` to ``(...)``; the batch joins the average, which begins at the first."""
        current = moments(z)
        now = [moment.detach() for moment in current]
        past = self.memory or now
        self.memory = [old.lerp(new, 1 - self.decay) for old, new in zip(past, now, strict=True)]
        averages = [
            average + (one - new) for average, one, new in zip(self.memory, current, now, strict=True)
        ]
        return w2_squared_to_standard_normal(*averages)


def departure(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw codes ``(..., d)``, ``d >= 2``, from a law of ``DEPARTURES``, or from N(0, I) for ``"none"``."""
    z = torch.randn(shape, generator=generator)
    if kind == "mean":
        z[..., 0] += 0.5
    elif kind == "scale":
        z *= 0.9
    elif kind == "correlation":
        z[..., 1] = 0.5 * z[..., 0] + 0.75**0.5 * z[..., 1]
    elif kind == "circle":  # radius sqrt(2): mean 0 and covariance I
        z[..., :2] *= 2**0.5 / z[..., :2].norm(dim=-1, keepdim=True)
    elif kind != "none":
        raise ValueError(f"there is no departure {kind!r}; known: {', '.join(DEPARTURES)}")
    return z


def trained_scale(
    penalty, d: int, n: int, steps: int = 400, rate: float = 0.025, seed: int = 0, batches: int = 1
) -> float:
    """Where a penalty alone drives a linear encoder z = A x of data x ~ N(0, I): the scale of its codes.

    Gradient descent from A = I / 2 on fresh batches each step. Where the codes' law is N(0, I) the
    scale is 1.

    Args:
        penalty: codes ``(batches, n, d)`` to what is minimised on each batch, ``(batches,)``.
        d, n: dimension, and points a batch.
        steps: of gradient descent; the first half is not measured.
        rate: of gradient descent.
        seed: of the data.
        batches: over which each step averages, to be rid of noise.

    Returns:
        root mean square of A's singular values, the codes' standard deviation, over the second half.
    """
    generator = torch.Generator().manual_seed(seed)
    matrix = (torch.eye(d) / 2).requires_grad_()
    optimiser = torch.optim.SGD([matrix], rate)
    squares = []
    for _ in range(steps):
        optimiser.zero_grad()
        penalty(torch.randn(batches, n, d, generator=generator) @ matrix.mT).mean().backward()
        optimiser.step()
        squares.append(matrix.detach().square().sum() / d)
    return torch.stack(squares[steps // 2 :]).mean().sqrt().item()


def wishart_means_in_the_plane(function, nu: int, nodes: int = 40) -> float:
    r"""Mean of a function of a 2 x 2 sample covariance of normal codes, without sampling error.

    The covariance :math:`\hat S` of :math:`\nu + 1` draws of N(0, I) is :math:`A A^\top / \nu` with
    independent entries of the triangular `A`: roots of :math:`\chi^2_\nu` and :math:`\chi^2_{\nu - 1}` on
    the diagonal, a normal one below (Bartlett 1933). Gauss's rules for the three laws are exact up to degree
    ``2 * nodes - 1`` in the squares and the normal.

    Args:
        function: of the trace and of the root of the determinant of :math:`\hat S`, each ``(k,)``; the trace
            of its root is :math:`(\operatorname{tr} + 2 \sqrt{\det})^{1/2}`.
        nu: degrees of freedom, at least 2 and at most 300, beyond which the rules' weights overflow.
        nodes: of each rule.

    Raises:
        ValueError: other degrees of freedom.
    """
    if not 2 <= nu <= 300:
        raise ValueError(f"nu must lie between 2 and 300, got {nu}")
    squares = [roots_genlaguerre(nodes, (nu - k) / 2 - 1) for k in range(2)]
    (a, a_mass), (b, b_mass) = ((2 * x, w / w.sum()) for x, w in squares)
    c, c_mass = hermegauss(nodes)
    trace = (a[:, None, None] + b[:, None] + c**2) / nu
    root = np.broadcast_to(np.sqrt(a[:, None, None] * b[:, None]) / nu, trace.shape)
    mass = a_mass[:, None, None] * b_mass[:, None] * c_mass / c_mass.sum()
    return float((mass * function(trace, root)).sum())


def sigreg(z: Tensor, directions: Tensor, nodes: int = 17) -> Tensor:
    r"""Mean over directions of Epps and Pulley's statistic for N(0, 1), as LeJEPA regularises with it.

    .. math::

        \frac1L \sum_l \int \Bigl| \frac1n \sum_j e^{i t \theta_l^\top z_j} - e^{-t^2/2} \Bigr|^2
            e^{-t^2/2} \, dt

    (Epps & Pulley 1983; Balestriero & LeCun 2025), by the trapezoidal rule on [-5, 5].

    Args:
        z: codes ``(..., n, d)``.
        directions: unit vectors as columns, ``(d, L)``.
        nodes: of the rule.

    Returns:
        ``(...)``, not negative, differentiable.
    """
    t = torch.linspace(-5, 5, nodes, dtype=z.dtype, device=z.device)
    normal = (-t.square() / 2).exp()
    angles = (z @ directions).unsqueeze(-1) * t
    apart = (angles.cos().mean(-3) - normal).square() + angles.sin().mean(-3).square()
    return torch.trapezoid(apart * normal, t).mean(-1)


def discriminator_js(draw, fresh: bool, steps: int = 150, hidden: int = 64, seed: int = 0):
    r"""Jensen-Shannon divergence as a discriminator estimates it, on its last batch and on a new one.

    .. math::  \mathrm{JS} = \log 2 + \tfrac12 \sup_D \bigl( E_{Q} \log D + E_{P} \log (1 - D) \bigr)

    (Goodfellow et al. 2014, theorem 1), with `D` a perceptron of one hidden layer trained by Adam.

    Args:
        draw: called without arguments, returns points of `Q` and of `P`, each ``(repeats, n, d)``; a
            discriminator is trained for each repeat.
        fresh: whether to draw a new batch for each step, or to train on the first one throughout.
        steps: of Adam.
        hidden: width of the hidden layer.
        seed: of the initial weights.

    Returns:
        estimate on the last batch of the training and on one never seen, each ``(repeats,)``, in nats.
    """
    q, p = draw()
    repeats, _, d = q.shape
    generator = torch.Generator().manual_seed(seed)
    inner = (torch.randn(repeats, d, hidden, generator=generator) / d**0.5).requires_grad_()
    bias = torch.randn(repeats, 1, hidden, generator=generator).requires_grad_()
    outer = (torch.randn(repeats, hidden, 1, generator=generator) / hidden**0.5).requires_grad_()

    def divergence(q: Tensor, p: Tensor) -> Tensor:
        def logit(z: Tensor) -> Tensor:
            return torch.baddbmm(bias, z, inner).relu() @ outer

        log_likelihood = functional.logsigmoid(logit(q)) + functional.logsigmoid(-logit(p))
        return math.log(2) + log_likelihood.mean((-1, -2)) / 2

    optimiser = torch.optim.Adam([inner, bias, outer], 0.02)
    for step in range(steps):
        if fresh and step:
            q, p = draw()
        optimiser.zero_grad()
        (-divergence(q, p).sum()).backward()
        optimiser.step()
    with torch.no_grad():
        return divergence(q, p), divergence(*draw())


def _perceptron(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, after)
    )
