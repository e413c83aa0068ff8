"""How far is the aggregated posterior from the prior N(0, I)?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from . import gaussian, processes
from .exact_draws import expected_root_trace
from .gaussian import floating, moments_across_processes, w2_squared_diagonal, w2_squared_to_standard_normal
from .precision import wide
from .shapes import Codes, Covariance, Mean, Scalar

__all__ = [
    "ESTIMATORS",
    "AccumulatedMoments",
    "bias_corrected",
    "cramer_wold_squared",
    "kl_to_standard_normal",
    "mmd_squared",
    "posterior_w2_penalty",
    "random_directions",
    "sliced_w2_squared",
    "sliced_w2_squared_to_standard_normal",
]

ESTIMATORS = ("total", "sampled", "diagonal", "corrected", "accumulated", "sliced")
LINES = 50  # on which ``sliced`` projects a batch's codes, as many as the sliced auto-encoder has
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels of the maximum mean discrepancy


def posterior_w2_penalty(
    mean: Codes,
    log_variance: Codes,
    codes: Codes,
    estimator: str = "total",
    memory: AccumulatedMoments | None = None,
) -> Scalar:
    r"""Squared W2 of the aggregated posterior of a batch, taken as Gaussian, to the prior.

    .. math::  W_2^2(N(m, S), N(0, I)) = |m|^2 + \sum_i (\sqrt{\lambda_i(S)} - 1)^2

    (Zhang et al. 2019, abstract, for the idea; the estimators of `m` and `S` are ours to choose):

    * ``total``: without sampling, :math:`S = \operatorname{Cov}(\mu) +
      \overline{\operatorname{diag} \sigma^2}`, the law of total covariance;
    * ``sampled``: mean and covariance of the sampled codes;
    * ``diagonal``: ``total``, its off-diagonal entries ignored;
    * ``corrected``: ``total`` less the bias that noiseless codes have on a batch (:func:`bias_corrected`),
      which is too much while the encoder has noise;
    * ``accumulated``: ``total``, averaged over past batches (:class:`AccumulatedMoments`);
    * ``sliced``: ``total``, and beside it what it cannot see: `d` times the squared W2 of sampled codes to
      the prior on 50 random lines (:func:`sliced_w2_squared_to_standard_normal`), no longer a distance of
      Gaussians. Times `d`, because a shift :math:`\delta` of the mean is :math:`|\delta|^2 / d` on an
      average line.

    Where several processes train together, the moments are those of the whole batch: `latent` times
    `latent` numbers pass between them, however large the batch.

    Args:
        mean, log_variance: the encoder's :math:`\mu` and :math:`\log \sigma^2`, ``(n, latent)``.
        codes: sampled codes :math:`\mu + \sigma \epsilon`, ``(n, latent)``.
        estimator: one of ``ESTIMATORS``.
        memory: of past batches, for ``accumulated``.

    Returns:
        A scalar, differentiable in all it reads; not negative unless corrected.

    Raises:
        ValueError: an unknown estimator, none to remember with, or arguments of different shapes.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"there is no estimator {estimator!r}; known: {', '.join(ESTIMATORS)}")
    _check_alike(mean, log_variance, codes)
    mean, log_variance, codes = floating(mean, log_variance, codes)
    if processes.count() == 1 and estimator == "sampled":
        return gaussian.w2_penalty(codes)
    if processes.count() == 1 and estimator == "total":
        return gaussian.w2_penalty(mean, log_variance.exp().mean(0))
    if estimator == "sliced":
        moments_only = posterior_w2_penalty(mean, log_variance, codes)
        whole, latent = processes.gather(codes), codes.shape[1]
        lines = random_directions(latent, LINES, whole)
        return moments_only + latent * sliced_w2_squared_to_standard_normal(whole, lines)
    if estimator == "diagonal":
        centre, covariance = moments_across_processes(mean)
        return w2_squared_diagonal(centre, covariance.diagonal() + _mean_variance(log_variance))
    # in float64: a covariance in float32 forgets directions of little variance
    centre, covariance = moments_across_processes(wide(codes if estimator == "sampled" else mean))
    if estimator != "sampled":
        covariance = covariance + _mean_variance(log_variance).diag_embed().to(covariance)
    if estimator == "accumulated":
        if memory is None:
            raise ValueError("the estimator 'accumulated' needs a memory of past batches")
        centre, covariance = memory(centre, covariance)
    if estimator == "corrected":
        return bias_corrected(centre, covariance, len(mean) * processes.count()).to(mean)
    return w2_squared_to_standard_normal(centre, covariance).to(mean)


def _check_alike(*arguments: Tensor) -> None:
    shapes = [tuple(one.shape) for one in arguments]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][0] < 1:
        raise ValueError(f"all arguments must be (n >= 1, latent); got {', '.join(map(str, shapes))}")


def _mean_variance(log_variance: Tensor) -> Tensor:
    """Of the whole batch, ``(latent,)``."""
    return processes.gather(log_variance.exp().mean(0, keepdim=True)).mean(0)


def bias_corrected(mean: Tensor, cov: Tensor, n: int) -> Tensor:
    r"""Squared W2 to N(0, I) from the moments of `n` points, corrected for the bias of a finite sample.

    .. math::

        |m|^2 - \tfrac1n \operatorname{tr} S + \operatorname{tr} S + d
        - \tfrac{2 d}{R(n, d)} \operatorname{tr} S^{1/2}

    with `R` the mean root trace of :func:`~wwae_lib.exact_draws.expected_root_trace`: the first two terms are
    unbiased for any law, the last where the codes are normal with covariance :math:`s I`. For exact draws of
    N(0, I) the mean is 0, so that a value can be negative.

    Args:
        mean, cov: sample moments of a batch, ``(d,)`` and ``(d, d)``, without an encoder's variance.
        n: its points, at least 2.
    """
    d = mean.shape[-1]
    squares, trace = mean.square().sum(-1), cov.diagonal(dim1=-2, dim2=-1).sum(-1)
    plain = w2_squared_to_standard_normal(mean, cov)
    twice_root_trace = squares + trace + d - plain
    return plain - trace / n - (d / expected_root_trace(n, d) - 1) * twice_root_trace


class AccumulatedMoments(nn.Module):
    r"""Moments averaged over past batches, with the gradient of the current one at full weight.

    The value is :math:`\bar m \leftarrow \rho \bar m + (1 - \rho) m` and likewise for `S`, beginning at
    the prior's; the derivative by the current batch's moments is the identity and not :math:`1 - \rho`.

    Args:
        latent: dimension of the codes.
        decay: :math:`\rho` in [0, 1).
    """

    mean: Tensor
    cov: Tensor

    def __init__(self, latent: int, decay: float = 0.9):
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must lie in [0, 1)")
        self.decay = decay
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("cov", torch.eye(latent))

    def forward(self, mean: Mean, cov: Covariance) -> tuple[Mean, Covariance]:
        """Moments of a batch, ``(d,)`` and ``(d, d)``, to the average that they have joined."""
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(mean.to(self.mean), 1 - self.decay)
                self.cov.lerp_(cov.to(self.cov), 1 - self.decay)
        past = self.mean.to(mean, copy=True), self.cov.to(cov, copy=True)
        return past[0] + (mean - mean.detach()), past[1] + (cov - cov.detach())


def kl_to_standard_normal(mean: Codes, log_variance: Codes) -> Scalar:
    r"""Mean over the batch of :math:`\mathrm{KL}(N(\mu, \operatorname{diag} \sigma^2) \,\|\, N(0, I))`.

    .. math::  \tfrac12 \sum_i (\mu_i^2 + \sigma_i^2 - \log \sigma_i^2 - 1)

    in nats (Kingma & Welling 2014, appendix B). Both arguments ``(n, latent)``; a scalar.

    Raises:
        ValueError: the shapes differ, or there is no code.
    """
    _check_alike(mean, log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()


def mmd_squared(z: Tensor, prior: Tensor, scales: Sequence[float] = SCALES) -> Scalar:
    r"""Unbiased estimate of the squared maximum mean discrepancy of two samples.

    .. math::

        \frac{1}{n(n-1)} \sum_{i \ne j} \bigl(k(z_i, z_j) + k(p_i, p_j)\bigr)
            - \frac{2}{n^2} \sum_{i, j} k(z_i, p_j)

    with a sum of inverse multiquadratic kernels :math:`k(x, y) = \sum_C C / (C + |x - y|^2)`,
    :math:`C = 2 d s` for each scale `s` (Tolstikhin et al. 2018, section 4 and, for the scales, the
    authors' code, for a prior of variance 1). Its expectation is 0 where the laws agree, so that a
    value can be negative. Time and memory grow with the square of `n`.

    Args:
        z: codes, ``(n, d)`` with ``n >= 2``.
        prior: as many points drawn from the prior, ``(n, d)``.
        scales: of the kernels, 0.1 to 10 by default.

    Returns:
        A scalar, differentiable in both.

    Raises:
        ValueError: the shapes differ, or fewer than two points.
    """
    if z.shape != prior.shape or z.ndim != 2 or z.shape[0] < 2:
        raise ValueError(f"mmd_squared needs two (n >= 2, d), got {tuple(z.shape)} and {tuple(prior.shape)}")
    z, prior = floating(z, prior)
    n, d = z.shape
    constants = torch.cat([z.new_full((1,), 2 * d * s) for s in scales])  # filled in there: nothing waits
    # by the points' differences: the products that are faster from 25 points on cancel
    across = torch.cdist(z, prior, compute_mode="donot_use_mm_for_euclid_dist")
    distances = functional.pdist(z), functional.pdist(prior), across.flatten()
    with torch.autocast(z.device.type, enabled=False):
        kernels = _Multiquadratics.apply(torch.cat(distances), constants)
    pairs = n * (n - 1)
    return 2 * kernels[:pairs].sum() / pairs - 2 * kernels[pairs:].sum() / n**2


def sliced_w2_squared(z: Tensor, prior: Tensor, directions: Tensor) -> Scalar:
    r"""Squared sliced Wasserstein-2 distance of two samples, an average over directions.

    .. math::

        \frac{1}{Ln} \sum_{l=1}^{L} \sum_{i=1}^{n}
            \bigl((\theta_l^\top z)_{(i)} - (\theta_l^\top p)_{(i)}\bigr)^2

    with :math:`_{(i)}` the `i`-th smallest: on a line the optimal plan pairs points by rank (Bonneel et
    al. 2015; Kolouri et al. 2018, equation 15, which sums over directions and points where this averages).

    Args:
        z, prior: as many points each, ``(n, d)``.
        directions: unit vectors :math:`\theta_l` as columns, ``(d, L)``.

    Returns:
        A scalar, not negative, differentiable in both samples.

    Raises:
        ValueError: the samples' shapes differ.
    """
    if z.shape != prior.shape or z.ndim != 2:
        raise ValueError(f"sliced_w2_squared needs two (n, d), got {tuple(z.shape)} and {tuple(prior.shape)}")
    with torch.autocast(z.device.type, enabled=False):
        ranked, expected = (z @ directions).sort(0).values, (prior @ directions).sort(0).values
    return (ranked - expected).square().mean()


def random_directions(d: int, n: int, like: Tensor) -> Tensor:
    """`n` unit vectors, uniform on the sphere, as columns ``(d, n)`` of the dtype and device of ``like``.

    Every process draws the same.
    """
    return functional.normalize(torch.randn(n, d, dtype=like.dtype, device=like.device), dim=1).mT


def sliced_w2_squared_to_standard_normal(z: Tensor, directions: Tensor) -> Tensor:
    r"""Squared W2 of a sample's projections to N(0, 1), exact and without a draw of it, averaged.

    On a line the optimal plan is monotone: the `i`-th smallest of `n` points goes to the part of N(0, 1)
    between its quantiles :math:`a_{i-1} = \Phi^{-1}(\tfrac{i-1}{n})` and :math:`a_i`, whose mean is
    :math:`q_i = n (\varphi(a_{i-1}) - \varphi(a_i))`. So

    .. math::

        W_2^2\Bigl(\frac1n \sum_i \delta_{y_i}, N(0, 1)\Bigr)
            = \frac1n \sum_{i=1}^n (y_{(i)} - q_i)^2 + 1 - \frac1n \sum_{i=1}^n q_i^2,

    with :math:`y = \theta^\top z` (Villani 2003, theorem 2.18, for the plan). Even for exact draws it is
    not 0: about 0.024 for 128 of them.

    Args:
        z: codes, ``(n, d)``.
        directions: unit vectors :math:`\theta_l` as columns, ``(d, L)``.

    Returns:
        A scalar, not negative, differentiable in the codes.
    """
    with torch.autocast(z.device.type, enabled=False):
        expected = _means_between_quantiles(len(z), z)
        ranked = (z @ directions).sort(0).values
    return (ranked - expected[:, None]).square().mean() + 1 - expected.square().mean()


def _means_between_quantiles(n: int, like: Tensor) -> Tensor:
    """Means of N(0, 1) on `n` intervals of equal mass, ascending, ``(n,)``; made where ``like`` is."""
    shares = torch.arange(n + 1, dtype=like.dtype, device=like.device) / n
    heights = (-torch.erfinv(2 * shares - 1).square()).exp() / math.sqrt(2 * math.pi)  # at the quantiles
    return n * (heights[:-1] - heights[1:])


def cramer_wold_squared(z: Tensor) -> Scalar:
    r"""Squared Cramer-Wold distance of a sample to N(0, I).

    The squared :math:`L^2` distance of the densities of all projections to a line, each smoothed by
    :math:`N(0, \gamma)`, averaged over directions. With :math:`\gamma = (4 / 3n)^{2/5}`, Silverman's
    rule, and :math:`K = 1 / (2d - 3)`

    .. math::

        \frac{1}{2 \sqrt \pi} \Bigl[ \frac{1}{n^2} \sum_{i,j} (\gamma + K |z_i - z_j|^2)^{-1/2}
        + (1 + \gamma)^{-1/2}
        - \frac{2}{n} \sum_i (\gamma + \tfrac12 + K |z_i|^2)^{-1/2} \Bigr]

    (Knop et al. 2020, equation for a large latent dimension: Kummer's function is replaced by
    :math:`{}_1F_1(\frac12; \frac d2; -s) \approx (1 + 4s / (2d - 3))^{-1/2}`, off by at most 0.022 for
    d = 8 and 0.0023 for d = 64).

    Args:
        z: codes, ``(n, d)`` with ``d >= 2``.

    Returns:
        A scalar, differentiable.

    Raises:
        ValueError: no code, or fewer than two dimensions, for which the formula does not hold.
    """
    if z.ndim != 2 or z.shape[0] < 1 or z.shape[1] < 2:
        raise ValueError(f"the Cramer-Wold distance needs codes (n >= 1, d >= 2), got {tuple(z.shape)}")
    (z,) = floating(z)
    n, d = z.shape
    gamma, scale = (4 / (3 * n)) ** 0.4, 1 / (2 * d - 3)
    pairs = 2 * (gamma + scale * functional.pdist(z).square()).rsqrt().sum() + n * gamma**-0.5
    cross = (gamma + 0.5 + scale * z.square().sum(1)).rsqrt().mean()
    return (pairs / n**2 + (1 + gamma) ** -0.5 - 2 * cross) / (2 * math.sqrt(math.pi))


class _Multiquadratics(torch.autograd.Function):
    """Sum over `C` of C / (C + distance^2), less what it is at distance 0, where no digit is lost.

    All scales at once, in place; the slope is finished in forward. The discrepancy is the same, for its
    weights add up to 0.
    """

    @staticmethod
    def forward(ctx, distance: Tensor, constants: Tensor) -> Tensor:
        squares = distance.square()
        inverses = (constants.unsqueeze(1) + squares).reciprocal_()
        total = -squares * (torch.ones_like(constants)[None] @ inverses)[0]
        ctx.save_for_backward(distance * (-2 * constants[None] @ inverses.square_())[0])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (slope,) = ctx.saved_tensors
        return grad * slope, None
