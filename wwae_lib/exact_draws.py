r"""What does the penalty read on a few exact draws of the prior, where the truth is 0?

The moments of `n` points err, so that :func:`wwae_lib.gaussian.w2_penalty` is not 0 on exact draws of N(0, I)
either. Its mean there is the floor that a training can reach; its whole law says whether a reading is more
than chance.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .gaussian import floating
from .precision import wide
from .shapes import Values

__all__ = ["expected_root_trace", "p_value", "reading_moments", "small_sample_bias"]


def small_sample_bias(n: int, d: int, *, diagonal: bool = False) -> float:
    r"""What the squared W2 to :math:`N(0, I)` reads, on average, on `n` exact draws of it.

    To first order in :math:`1/n`, with :math:`(\sqrt\lambda - 1)^2 \approx (\lambda -
    1)^2 / 4`: the mean contributes :math:`\mathbb{E}|\bar z|^2 = d/n`, the covariance
    :math:`\tfrac14 \mathbb{E}\|S - I\|_F^2`, for the unbiased `S` of normal draws equal to
    :math:`d(d + 1) / (4(n - 1))`, or :math:`d / (2(n - 1))` from its diagonal alone.

    Args:
        n: points, at least 2. The next order matters unless `n` is well above `d`.
        d: dimensions.
        diagonal: for :func:`~wwae_lib.gaussian.w2_squared_diagonal` instead of the full covariance.

    Raises:
        ValueError: fewer than two points, or no dimension.
    """
    _check_counts(n, d)
    return d / n + (d / (2 * (n - 1)) if diagonal else d * (d + 1) / (4 * (n - 1)))


@functools.cache
def expected_root_trace(n: int, d: int) -> float:
    r"""Mean of :math:`\operatorname{tr} S^{1/2}` over covariances `S` of `n` exact draws of N(0, I).

    The eigenvalues follow Marchenko and Pastur's law with ratio :math:`c = d / \nu`,
    :math:`\nu = n - 1`, on :math:`[a, b] = [(1 - \sqrt c)^2, (1 + \sqrt c)^2]`; Bai & Silverstein
    (2004, section 5) give the next term of a sum :math:`\sum f(\lambda_i)` over them. With
    :math:`x = 1 + c + 2 \sqrt c \cos \theta` both are integrals over a period:

    .. math::

        d \int_0^\pi \sqrt x \, \frac{2 \sin^2 \theta}{\pi x} d\theta
        + \frac{\sqrt a + \sqrt b}{4} - \frac{1}{2 \pi} \int_0^\pi \sqrt x \, d\theta
        + \frac{7 d}{128 \nu^2}.

    The last term is what the expansion for fixed `d` has besides, to the order :math:`\nu^{-2}`; for
    :math:`d > \nu` rows and columns change places in it. Good to about 0.1 % of `d`, and better the larger
    `n` and `d`, also where ``n <= d``.

    Args:
        n: points, at least 2.
        d: dimensions.

    Raises:
        ValueError: fewer than two points, or no dimension.
    """
    _check_counts(n, d)
    nu = n - 1
    c = d / nu
    root = _marchenko_pastur_points(c).sqrt()
    ends = (abs(1 - c**0.5) + 1 + c**0.5) / 4
    smaller, larger = min(d, nu), max(d, nu)
    rest = 7 * smaller / (128 * larger**2) * max(1, c) ** 0.5
    sines = _angles().sin().square()
    return (2 * d * (sines / root).mean() + ends - root.mean() / 2).item() + rest


@functools.cache
def reading_moments(n: int, d: int) -> tuple[float, float, float]:
    r"""Mean, standard deviation and skewness of the penalty on `n` exact draws of N(0, I).

    The penalty is :func:`~wwae_lib.gaussian.w2_penalty`. For fixed `d`,
    :math:`n W \to \chi^2_d + \tfrac12 \chi^2_D` in law with :math:`D = d (d + 1) / 2`: the mean's squares
    and, by :math:`(\sqrt\lambda - 1)^2 \approx (\lambda - 1)^2 / 4`, the covariance's. Where
    `d` is not small beside `n` the mean is :math:`d/n + 2 (d - R)` with `R` of :func:`expected_root_trace`,
    and the covariance's share of the variance, :math:`D / (2 \nu^2)`, is multiplied by its limit as `d`
    and :math:`\nu = n - 1` grow together, relative to that for small :math:`c = d / \nu`:

    .. math::

        \frac{4}{c^2} \cdot \frac12 \sum_{k \ge 1} k \, a_k^2, \qquad
        a_k = \frac2\pi \int_0^\pi (x - 2 \sqrt x) \cos k \theta \, d\theta, \quad
        x = 1 + c + 2 \sqrt c \cos \theta

    (Bai & Silverstein 2004, theorem 1.1). The third central moment is :math:`8 d / n^3 + D / \nu^3`, the
    limit's.

    Args:
        n: points, at least 2.
        d: dimensions.

    Returns:
        three numbers; the second is good to about 2 %, for ``n < 5`` to 5 %.

    Raises:
        ValueError: fewer than two points, or no dimension.
    """
    _check_counts(n, d)
    nu, pairs = n - 1, d * (d + 1) / 2
    c = d / nu
    points = _marchenko_pastur_points(c)
    orders = torch.arange(1, 256, dtype=points.dtype)
    coefficients = 2 * ((points - 2 * points.sqrt()) * (orders[:, None] * _angles()).cos()).mean(-1)
    growth = 2 / c**2 * (orders * coefficients.square()).sum().item()
    variance = 2 * d / n**2 + growth * pairs / (2 * nu**2)
    return (
        d / n + 2 * (d - expected_root_trace(n, d)),
        variance**0.5,
        (8 * d / n**3 + pairs / nu**3) / variance**1.5,
    )


def p_value(reading, n: int, d: int) -> Values:
    r"""How often `n` exact draws of N(0, I) read at least as much: is a reading of the penalty significant?

    The upper tail, at the reading, of the gamma law with the mean, standard deviation and skewness of
    :func:`reading_moments` (Pearson's type III). A small value says that the codes' mean and covariance are
    not the prior's; a value that is not small says nothing of what two moments do not see.

    Args:
        reading: of the penalty on `n` codes without a variance, any shape ``(...)``.
        n: points, at least 2.
        d: dimensions.

    Returns:
        ``(...)``, in [0, 1], in float64. Where the truth is 0.05 or 0.01 it errs by about a tenth of that,
        from ``n >= 10`` on, and for ``n <= d`` too.

    Raises:
        ValueError: fewer than two points, or no dimension.
    """
    mean, deviation, skewness = reading_moments(n, d)
    (reading,) = floating(reading)
    reading = wide(reading)
    shape = torch.as_tensor(4 / skewness**2, dtype=reading.dtype, device=reading.device)
    scaled = shape + shape.sqrt() * (reading - mean) / deviation
    return torch.special.gammaincc(shape, scaled.clamp_min(0))


def _check_counts(n: int, d: int) -> None:
    if n < 2 or d < 1:
        raise ValueError(f"needs n >= 2 points of d >= 1 dimensions, got n = {n}, d = {d}")


def _angles() -> Tensor:
    """Midpoints of [0, pi], for means over it."""
    return (torch.arange(4096, dtype=torch.float64) + 0.5) * math.pi / 4096


def _marchenko_pastur_points(c: float) -> Tensor:
    """The eigenvalue of ratio c = d / (n - 1) at each of the angles."""
    return 1 + c + 2 * c**0.5 * _angles().cos()
