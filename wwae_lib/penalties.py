"""How far is the aggregated posterior from the prior N(0, I)?"""

from __future__ import annotations

from torch import Tensor

from .gaussian import moments, total_moments, w2_squared_diagonal, w2_squared_to_standard_normal

__all__ = ["ESTIMATORS", "kl_to_standard_normal", "w2_penalty"]

ESTIMATORS = ("total", "sampled", "diagonal")


def w2_penalty(mean: Tensor, log_variance: Tensor, codes: Tensor, estimator: str = "total") -> Tensor:
    r"""Squared W2 of the aggregated posterior of a batch, taken as Gaussian, to the prior.

    .. math::  W_2^2(N(m, S), N(0, I)) = |m|^2 + \sum_i (\sqrt{\lambda_i(S)} - 1)^2

    (Zhang et al. 2019, abstract, for the idea; the estimators of `m` and `S` are ours to choose):

    * ``total``: without sampling, :math:`S = \operatorname{Cov}(\mu) +
      \overline{\operatorname{diag} \sigma^2}`, the law of total covariance;
    * ``sampled``: mean and covariance of the sampled codes;
    * ``diagonal``: ``total``, its off-diagonal entries ignored.

    Args:
        mean, log_variance: the encoder's :math:`\mu` and :math:`\log \sigma^2`, ``(n, latent)``.
        codes: sampled codes :math:`\mu + \sigma \epsilon`, ``(n, latent)``.
        estimator: one of ``ESTIMATORS``.

    Returns:
        A scalar, not negative, differentiable in all it reads.
    """
    if estimator == "sampled":
        return w2_squared_to_standard_normal(*moments(codes))
    if estimator == "total":
        return w2_squared_to_standard_normal(*total_moments(mean, log_variance.exp()))
    if estimator == "diagonal":
        variance = mean.var(0) + log_variance.exp().mean(0)
        return w2_squared_diagonal(mean.mean(0), variance)
    raise ValueError(f"there is no estimator {estimator!r}; known: {', '.join(ESTIMATORS)}")


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Mean over the batch of :math:`\mathrm{KL}(N(\mu, \operatorname{diag} \sigma^2) \,\|\, N(0, I))`.

    .. math::  \tfrac12 \sum_i (\mu_i^2 + \sigma_i^2 - \log \sigma_i^2 - 1)

    in nats (Kingma & Welling 2014, appendix B). Both arguments ``(n, latent)``; a scalar.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
