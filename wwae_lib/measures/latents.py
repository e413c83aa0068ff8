r"""What structure do codes have, and how near is their law to the prior N(0, I)?

Codes are ``(n, d)``. What is fitted is fitted to codes of training images and scored on codes of test images.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from ..gaussian import moments
from ..precision import distances
from ..shapes import Labels, OtherLabels, OtherPoints, Points

__all__ = [
    "accuracies",
    "draw_gaussian",
    "draw_mixture",
    "effective_dimension",
    "henze_zirkler",
    "marginal_normality",
    "mixture_nats",
    "sliced_w2_to_prior",
]

NEIGHBOURS = 5
COMPONENTS = 10
DIRECTIONS = 500
NEIGHBOURLY = 0.01  # the kernel's sum over a normal point's neighbours, below which a test sees none
ROWS = 1000


def accuracies(
    codes: Points, labels: Labels, test_codes: OtherPoints, test_labels: OtherLabels
) -> dict[str, float]:
    """Share of test codes whose class is guessed from training codes, by two classifiers of scikit-learn.

    Returns:
        ``knn_accuracy``: by a vote of the 5 nearest training codes;
        ``linear_accuracy``: by logistic regression on standardised codes, scikit-learn's penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = {
        "knn_accuracy": KNeighborsClassifier(NEIGHBOURS),
        "linear_accuracy": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    }
    fitted = {name: model.fit(codes.numpy(), labels.numpy()) for name, model in models.items()}
    return {
        name: float(model.score(test_codes.numpy(), test_labels.numpy())) for name, model in fitted.items()
    }


def sliced_w2_to_prior(codes: Points, seed: int) -> tuple[float, float]:
    r"""Squared sliced Wasserstein-2 distance of codes to N(0, I), over 500 random directions; its error.

    .. math::

        \frac{1}{Ln} \sum_{l=1}^{L} \sum_{i=1}^{n}
            \bigl((\theta_l^\top z)_{(i)} - \Phi^{-1}((i - \tfrac12) / n)\bigr)^2

    (Bonneel et al. 2015): on each line the prior is N(0, 1), and its quantiles stand for draws of it.

    The standard error is over the draw of the codes, the directions given. On a line, a code of place `x`
    moves the distance by its Kantorovich potential, whose derivative is twice the way :math:`x - T(x)` to the
    quantile; with `u` the mean over lines of a code's centred potentials, the squared error is
    :math:`\operatorname{Var}(u) / n` (del Barrio & Loubes 2019).
    """
    codes = codes.double()
    n, d = codes.shape
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(DIRECTIONS, d, dtype=torch.float64, generator=generator)
    quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    total, moved = 0.0, torch.zeros(n, dtype=torch.float64)
    for part in functional.normalize(directions, dim=1).split(50):
        places, order = (codes @ part.mT).sort(0)
        ways = places - quantiles[:, None]
        total += ways.square().mean(0).sum().item()
        steps = (ways[1:] + ways[:-1]) * places.diff(dim=0)  # twice the mean way, by the trapezoidal rule
        potential = functional.pad(steps.cumsum(0), (0, 0, 1, 0))
        centred = potential - potential.mean(0)
        moved += torch.zeros_like(centred).scatter_(0, order, centred).sum(1)
    return total / DIRECTIONS, ((moved / DIRECTIONS).var() / n).sqrt().item()


def marginal_normality(codes: Points) -> dict[str, float]:
    """Kolmogorov-Smirnov tests of each coordinate against N(0, 1).

    Returns:
        ``ks_mean``: the largest difference of distribution functions, averaged over coordinates;
        ``ks_rejected``: share of coordinates rejected at 5 % after Holm (1979).
    """
    from scipy import stats

    tests = [stats.kstest(column, "norm") for column in codes.double().numpy().T]
    p = np.sort([test.pvalue for test in tests])
    passed = np.flatnonzero(p > 0.05 / np.arange(len(p), 0, -1))
    rejected = passed[0] if len(passed) else len(p)
    return {
        "ks_mean": float(np.mean([test.statistic for test in tests])),
        "ks_rejected": float(rejected / len(p)),
    }


def henze_zirkler(codes: Points) -> tuple[float, float]:
    r"""Statistic and p-value of the test of multivariate normality of Henze & Zirkler (1990).

    With :math:`y` the codes standardised by their own mean and covariance (divisor `n`) and
    :math:`\beta = 2^{-1/2} ((2d + 1) n / 4)^{1 / (d + 4)}`

    .. math::

        T = \frac1n \sum_{i, j} e^{-\beta^2 |y_i - y_j|^2 / 2}
            - \frac{2}{(1 + \beta^2)^{d/2}} \sum_i e^{-\beta^2 |y_i|^2 / (2 (1 + \beta^2))}
            + \frac{n}{(1 + 2 \beta^2)^{d/2}}

    whose law under normality is close to a log-normal with the mean and variance of their theorem 3.1. It
    asks for a normal law, whichever its moments. Time grows with the square of `n`.

    Raises:
        ValueError: fewer than `d + 1` points, or they lie in a subspace; or so many dimensions that even
            normal points are all too far apart for the kernel, and the statistic is 1 whatever their law.
    """
    from scipy import stats

    n, d = codes.shape
    mean, covariance = moments(codes.double())
    factor, failed = torch.linalg.cholesky_ex(covariance * ((n - 1) / n))
    if n <= d or failed:
        raise ValueError(f"the Henze-Zirkler test needs codes of full rank, got {n} points of {d} dimensions")
    y = torch.linalg.solve_triangular(factor, (codes.double() - mean).mT, upper=False).mT
    b = (((2 * d + 1) * n / 4) ** (1 / (d + 4))) ** 2 / 2  # beta squared
    a, w = 1 + 2 * b, (1 + b) * (1 + 3 * b)
    if n * a ** (-d / 2) < NEIGHBOURLY:
        raise ValueError(f"{n} points of {d} dimensions are too far apart for the Henze-Zirkler test")
    pairs = sum(distances(rows, y).square().mul(-b / 2).exp().sum().item() for rows in y.split(ROWS))
    single = (-b / (2 * (1 + b)) * y.square().sum(1)).exp().sum().item()
    statistic = pairs / n - 2 * (1 + b) ** (-d / 2) * single + n * (1 + 2 * b) ** (-d / 2)

    centre = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    spread = 2 * (1 + 4 * b) ** (-d / 2)
    spread += 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
    spread -= 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    shape = math.sqrt(math.log1p(spread / centre**2))
    law = stats.lognorm(shape, scale=centre**2 / math.sqrt(spread + centre**2))
    return statistic, float(law.sf(statistic))


def effective_dimension(codes: Points) -> float:
    r"""Participation ratio :math:`(\operatorname{tr} S)^2 / \operatorname{tr} S^2` of the codes' covariance.

    `d` where all directions vary alike, 1 where a single one varies.
    """
    covariance = moments(codes.double())[1]
    return (covariance.trace() ** 2 / covariance.square().sum()).item()


def mixture_nats(codes: Points, test_codes: OtherPoints, seed: int) -> tuple[float, float]:
    r"""Nats per code that a mixture of 10 Gaussians gains over one Gaussian on held-out codes; its error.

    .. math::  \frac1m \sum_{j=1}^m \bigl(\log q(z_j) - \log p(z_j)\bigr)

    over `m` test codes, with `p` the Gaussian of the moments of the training codes and `q` a mixture of 10,
    of full covariances, fitted to them by expectation maximisation. The mean of the logarithmic score, a
    proper one (Gneiting & Raftery 2007, section 4.1), is larger for `q` by
    :math:`\mathrm{KL}(Q \| p) - \mathrm{KL}(Q \| q)` if `Q` is the codes' law: how much of the way from one
    Gaussian to `Q` the mixture covers. Where `Q` is a Gaussian it is a little below 0, for the mixture fits
    what is not there. It does not change where all codes are mapped affinely. The standard error is over the
    draw of the test codes, the two fits given; another start may find another optimum of `q`, so that the
    number is a lower estimate of what ten Gaussians could gain.

    Args:
        codes: training codes, ``(n, d)``.
        test_codes: held-out codes, ``(m, d)``.
        seed: of the k-means that the fit begins with.

    Raises:
        ValueError: fewer training codes than 10 times `d` + 1, or codes that lie in a subspace.
    """
    n, d = codes.shape
    mean, covariance = moments(codes.double())
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if n < COMPONENTS * (d + 1) or failed:
        raise ValueError(f"ten Gaussians need codes that span the space, got {n} points of {d} dimensions")
    train, test = (
        torch.linalg.solve_triangular(factor, (part.double() - mean).mT, upper=False).mT
        for part in (codes, test_codes)
    )
    normal = -0.5 * (test.square().sum(1) + d * math.log(2 * math.pi))
    gains = torch.from_numpy(_mixture(train, seed).score_samples(test.numpy())) - normal
    return gains.mean().item(), (gains.var() / len(gains)).sqrt().item()


def draw_gaussian(codes: Points, n: int, seed: int) -> OtherPoints:
    """`n` draws of the Gaussian with the codes' mean and covariance, ``(n, d)`` float32."""
    mean, covariance = moments(codes.double())
    values, vectors = torch.linalg.eigh(covariance)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, codes.shape[1], dtype=torch.float64, generator=generator)
    return (mean + noise * values.clamp_min(0).sqrt() @ vectors.mT).float()


def draw_mixture(codes: Points, n: int, seed: int, components: int = COMPONENTS) -> OtherPoints:
    """`n` draws of a mixture of 10 or more Gaussians fitted to codes, ``(n, d)`` float32 (Ghosh et al. 2020).

    Full covariances, by scikit-learn's expectation maximisation from its k-means start.
    """
    drawn, _ = _mixture(codes.double(), seed, components).sample(n)
    return torch.from_numpy(np.random.default_rng(seed).permutation(drawn)).float()


def _mixture(codes: Points, seed: int, components: int = COMPONENTS):
    """scikit-learn's mixture of Gaussians, fitted to codes."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(components, covariance_type="full", random_state=seed % 2**32)
    return mixture.fit(codes.numpy())
