r"""How near are made images to real ones? From features of both, and from pixels.

Every function of two samples takes the made images' features first, ``(n, d)``, and the real ones' second,
``(m, d)``. Standard errors are over the draw of the images from the same trained weights; what another seed
of the training would give is not in them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..data import to_unit
from ..gaussian import eigh, moments, not_finite, powers
from ..precision import distances, wide
from ..shapes import Covariance, OtherPoints, PerImage, Points

__all__ = ["Estimate", "frechet_distance", "kid", "mean_of", "neighbourhoods", "sharpness"]

ROWS = 1000  # rows of distances, or images, that are in memory at once
BLOCK = 250  # rows of a kernel matrix that are in memory at once: half the pairs within are done twice
SHARED = ("none", "pairs", "unknown")  # what made and real images may have in common
GROUPS = 20  # that a sample is split into, to leave out one at a time
SPLITS = 2  # into halves, from which a distance is extrapolated


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def frechet_distance(
    made: Points, real: OtherPoints, shared: str = "none", *, images: int | None = None
) -> Estimate:
    r"""Frechet inception distance (Heusel et al. 2017, equation 6), and its standard error.

    .. math::  W_2^2\bigl(N(m_1, S_1), N(m_2, S_2)\bigr)

    of the samples' moments, in float64. The error is the infinitesimal jackknife's (Jaeckel 1972; Efron
    1982, section 6.3). With `T` the matrix of the optimal map, whose derivative in :math:`S_1` is
    :math:`I - T`, an image of features `x` moves the distance by, up to a constant,

    .. math::  u(x) = 2 (m_1 - m_2)^\top (x - m_1) + |x - m_1|^2 - (x - m_1)^\top T \, (x - m_1)

    over `n`, and a real image of features `y` by the same kind of :math:`v(y)` over `m`. Where the samples
    are independent, the squared error is :math:`\operatorname{Var}(u) / n + \operatorname{Var}(v) / m`. Where
    the first real images are those that the made ones reconstruct, each pair moves the distance by
    :math:`u / n + v / m` together. Where made images depend on the real ones in another way, the sum of both
    errors stands for that of the distance, which it is at most.

    That says how far the number scatters. Its bias is about proportional to `1/n` (Chong & Forsyth 2020), by
    a factor that depends on the method: distances of few images compare only roughly. With ``images`` the
    distance of that many, `N`, is extrapolated from the :math:`F_n` of all and the mean :math:`F_{n/2}` of
    the halves of two random splits, against the same real images:

    .. math::  F_N = F_n - (1 - n/N) \, (F_{n/2} - F_n)

    The disagreement of the two splits is added to the error.

    :func:`wwae_lib.gaussian.w2_squared` gives the same distance by a singular value decomposition; the two
    eigendecompositions here take a fraction of its time in 2048 dimensions, and give `T` as well.

    Args:
        made, real: features, ``(n, d)`` and ``(m, d)``.
        shared: what the samples have in common: ``none``, ``pairs`` (the i-th made image is made from the
            i-th real one), or ``unknown``.
        images: of how many made images the distance is wanted; by default of those that there are.

    Raises:
        ValueError: fewer than two points in a sample (four to extrapolate from), features that are not
            finite, more made images than real ones that they are made from, or more than are wanted.
    """
    if shared not in SHARED:
        raise ValueError(f"shared is {shared!r}; it must be none, pairs or unknown")
    if shared == "pairs" and len(made) > len(real):
        raise ValueError(f"{len(made)} images cannot be made from {len(real)} real ones, one from each")
    images = len(made) if images is None else images
    if images < len(made):
        raise ValueError(
            f"the distance of {images} images is not extrapolated from {len(made)}, which are more"
        )
    made, real = _finite(made, real)
    (mean1, cov1), (mean2, cov2) = moments(made), moments(real)
    root, inverse = _powers(cov2)
    middle, middle_inverse = _powers(root @ cov1 @ root)  # (S2^1/2 S1 S2^1/2)^1/2
    shift = mean1 - mean2
    value = shift.square().sum() + cov1.trace() + cov2.trace() - 2 * middle.trace()
    there, back = root @ middle_inverse @ root, inverse @ middle @ inverse
    u, v = (
        (2 * sign * (centred @ shift) + ((centred - centred @ map_) * centred).sum(1)) / len(centred)
        for centred, map_, sign in ((made - mean1, there, 1), (real - mean2, back, -1))
    )
    error = _error_of_sum(u, v, shared)
    if images > len(made):
        halves = _distances_of_halves(made, mean2, cov2, root)
        share = 1 - len(made) / images
        value = value - share * (halves.mean() - value)
        error = math.hypot(error, share * halves.std().item() / math.sqrt(SPLITS))
    return Estimate(value.clamp_min(0).item(), error)


def _distances_of_halves(made: Points, mean: Tensor, cov: Covariance, root: Covariance) -> Tensor:
    """Mean distance of the two halves of a sample to real moments, for each of some splits, ``(SPLITS,)``."""
    generator = torch.Generator().manual_seed(0)  # the same splits for every method
    half, each = len(made) // 2, []
    if half < 2:
        raise ValueError(f"a distance is extrapolated from four images or more, got {len(made)}")
    for _ in range(SPLITS):
        order = torch.randperm(len(made), generator=generator).to(made.device)
        for part in (made[order[:half]], made[order[half : 2 * half]]):
            some_mean, some_cov = moments(part)
            middle = torch.linalg.eigvalsh(root @ some_cov @ root).clamp_min(0).sqrt()
            traces = some_cov.trace() + cov.trace() - 2 * middle.sum()
            each.append((some_mean - mean).square().sum() + traces)
    return torch.stack(each).view(SPLITS, 2).mean(1)


def _error_of_sum(u: Tensor, v: Tensor, shared: str) -> float:
    """Standard error of the sum of what each image adds, given what the two samples share."""
    made, real = (math.sqrt(len(each) * each.var().item()) for each in (u, v))
    if shared == "unknown":
        return made + real
    if shared == "none":
        return math.hypot(made, real)
    pairs = len(u) * (u + v[: len(u)]).var().item()
    return math.sqrt(pairs + (len(v) - len(u)) * v.var().item())


def _powers(covariance: Covariance) -> tuple[Covariance, Covariance]:
    """The square root, and its inverse on the directions in which there is any variance."""
    return powers(*eigh(covariance, not_finite(covariance)))


def kid(made: Points, real: OtherPoints) -> Estimate:
    r"""Kernel inception distance (Binkowski et al. 2018, section 4), and its standard error.

    The unbiased estimate, from all pairs, of the squared maximum mean discrepancy with kernel
    :math:`k(x, y) = (x^\top y / d + 1)^3`. Its expectation is 0 where the laws agree, so that
    it can be negative. The error is the first term of Hoeffding's decomposition of a U-statistic
    (Serfling 1980, section 5.3): with
    :math:`h(x) = \overline{k(x, \text{made})} - \overline{k(x, \text{real})}`, its square is
    :math:`4 \operatorname{Var}(h) / n` over made images plus the same over real ones.

    Raises:
        ValueError: fewer than two points in a sample, or features that are not finite.
    """
    if min(len(made), len(real)) < 2:
        raise ValueError(f"kid needs two points a sample, got {len(made)} and {len(real)}")
    dtype = torch.promote_types(torch.promote_types(made.dtype, real.dtype), torch.float32)
    n, (over_made, over_real) = len(made), _mean_kernels(*_finite(made, real), dtype)
    within, across = (over_made[:n], over_real[n:]), (over_real[:n], over_made[n:])
    value = within[0].mean() + within[1].mean() - across[0].mean() - across[1].mean()
    variance = sum(4 * (own - other).var() / len(own) for own, other in zip(within, across, strict=True))
    return Estimate(value.item(), math.sqrt(float(variance)))


def neighbourhoods(made: Points, real: OtherPoints) -> dict[str, Estimate]:
    r"""How many points lie in the balls about the other sample's points?

    The radius of a ball is the distance of its centre to its `k`-th nearest other point of its own sample.
    Errors are the jackknife's, by groups: in turn, a twentieth of one sample is left out, radii and all, and
    the error's square is :math:`\frac{19}{20} \sum_g (\theta_g - \bar\theta)^2` over the made groups plus
    the same over the real ones. Its expectation is no less than the variance (Efron & Stein 1981); for counts
    of neighbours, which are no smooth functions of the sample, it is up to four times as much.

    Returns:
        ``precision``: share of made points within a ball of a real one, `k` = 3; ``recall``: the same with
        the samples exchanged (Kynkaanniemi et al. 2019, equation 2, who use VGG-16 features).
        ``density``: the mean number of real points' balls that a made point lies in, over `k` = 5 (its
        expectation is 1 where the laws agree, and it may exceed 1); ``coverage``: share of these balls that
        hold a made point (Naeem et al. 2020, equations 4 and 5).

    Raises:
        ValueError: a sample has no more than 6 points, or features that are not finite.
    """
    if min(len(made), len(real)) <= 6:
        raise ValueError(
            f"the 5-th nearest of all but one needs 7 points a sample, got {len(made)} and {len(real)}"
        )
    shares, count = _shares(*_finite(made, real)), min(GROUPS, len(made))
    without = shares[1 : count + 1], shares[count + 1 :]  # a group of made points, of real ones
    squares = torch.stack([left.var(0, correction=0) * (len(left) - 1) for left in without]).sum(0)
    names = ("precision", "recall", "density", "coverage")
    return dict(zip(names, map(Estimate, shares[0].tolist(), squares.sqrt().tolist()), strict=True))


def sharpness(pixels: Tensor) -> Estimate:
    r"""Variance of an image's Laplacian, averaged over images (Tolstikhin et al. 2018, section 4).

    Pixels become numbers in [0, 1], colours become grey by :math:`0.299 R + 0.587 G + 0.114 B`; the kernel is
    ((0, 1, 0), (1, -4, 1), (0, 1, 0)), applied where it lies within the image. Blur lowers the number; noise
    raises it.

    Args:
        pixels: uint8 ``(n, 1 or 3, H, W)``, both sides at least 3.
    """
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    weights = torch.tensor([0.299, 0.587, 0.114]) if pixels.shape[1] == 3 else torch.ones(1)
    each = []
    for chunk in pixels.split(ROWS):
        grey = torch.einsum("nchw,c->nhw", to_unit(chunk), weights)[:, None]
        each.append(functional.conv2d(grey, kernel).flatten(1).double().var(1, correction=0))
    return mean_of(torch.cat(each))


def mean_of(each: PerImage) -> Estimate:
    """The mean of a number that each image has, ``(n,)``, and its standard error."""
    return Estimate(each.mean().item(), (each.var() / len(each)).sqrt().item())


def _finite(made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Features in float64.

    Raises:
        ValueError: they are not all finite.
    """
    made, real = wide(made), wide(real)
    for sample, name in ((made, "made"), (real, "real")):
        if bad := (~sample.isfinite()).any(1).sum().item():
            raise ValueError(f"the features of {bad} of {len(sample)} {name} images are not finite")
    return made, real


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """Distances rounded to float32, in which two ways of computing the same one agree: ties are ties."""
    return distances(x, y).float()


def _mean_kernels(made: Points, real: OtherPoints, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of each point of both samples: the mean of k over the made points, and over the real ones, but itself.

    The products are of differences from the mean, in the type of the features: what that rounds is no more
    than what the features were rounded by. All else is in float64. The kernel is symmetric, so that most
    pairs of points are looked at once.
    """
    points = torch.cat([made, real]) / math.sqrt(made.shape[1])
    members = torch.arange(len(points), device=points.device) < len(made)
    members = torch.stack([members, ~members], 1).to(points)
    sums = -((points.square().sum(1) + 1) ** 3)[:, None] * members
    centre = points.mean(0)
    linear = points @ centre - centre.square().sum() / 2 + 0.5
    centred = (points - centre).to(dtype)
    for first in range(0, len(points), BLOCK):
        rows, later = slice(first, first + BLOCK), slice(first + BLOCK, None)
        kernel = (linear[rows, None] + linear[first:]).add_(centred[rows] @ centred[first:].mT)
        kernel *= kernel.square()
        sums[rows] += kernel @ members[first:]
        sums[later] += kernel[:, BLOCK:].mT @ members[rows]
    over_made, over_real = (sums / (members.sum(0) - members)).unbind(1)
    return over_made, over_real


def _shares(made: Tensor, real: Tensor) -> Tensor:
    """Precision, recall, density and coverage: of all points, then without each group of made, of real ones.

    ``(1 + made groups + real groups, 4)``. Some rows of the distances are in memory at once. A point that is
    left out has a ball that holds nothing.
    """
    (made_radii, made_kept), (real_radii, real_kept) = _radii(made), _radii(real)
    variants = [*((m, 0) for m in range(len(made_kept))), *((0, r) for r in range(1, len(real_kept)))]
    precise = torch.zeros(len(variants), len(made), dtype=torch.bool, device=made.device)
    dense = torch.zeros(len(variants), len(made), device=made.device)
    recalled, covered = torch.zeros(2, len(variants), len(real), dtype=torch.bool, device=made.device)
    for rows in torch.arange(len(real), device=made.device).split(ROWS):
        across = _apart(real[rows], made)
        for at, (m, r) in enumerate(variants):
            inside = across <= real_radii[r, rows, 1:]
            dense[at] += inside.sum(0)
            covered[at, rows] = (inside & made_kept[m]).any(1)
            precise[at] |= (across <= real_radii[r, rows, :1]).any(0)
            recalled[at, rows] = (across <= made_radii[m, :, 0]).any(1)
    pairs = ((made_kept[m], real_kept[r]) for m, r in variants)
    of_made, of_real = (torch.stack(part) for part in zip(*pairs, strict=True))
    shares = (
        _mean(precise, of_made),
        _mean(recalled, of_real),
        _mean(dense, of_made) / 5,
        _mean(covered, of_real),
    )
    return torch.stack(shares, dim=1)


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    """Over what is kept of each row."""
    return (values * kept).sum(1, dtype=torch.float64) / kept.sum(1)


def _radii(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of each point to its third and its fifth nearest other, and which points are there.

    ``(1 + groups, n, 2)`` and ``(1 + groups, n)``: of all, then without each group in turn, every so many-th
    point. What is left out has a radius of minus infinity.
    """
    n, radii = len(sample), []
    count = min(GROUPS, n)
    for rows in torch.arange(n, device=sample.device).split(ROWS):
        among = _apart(sample[rows], sample)
        # a point is none of its own neighbours
        among[torch.arange(len(rows), device=rows.device), rows] = torch.inf
        apart = functional.pad(among, (0, -n % count), value=torch.inf).unflatten(1, (-1, count))
        nearest = apart.topk(min(5, apart.shape[1]), dim=1, largest=False).values  # of each group
        left = [nearest, *(torch.cat([nearest[..., :g], nearest[..., g + 1 :]], 2) for g in range(count))]
        radii.append(torch.stack([x.flatten(1).topk(5, largest=False).values[:, [2, 4]] for x in left]))
    groups = torch.arange(count, device=sample.device)
    kept = torch.arange(n, device=sample.device) % count != groups[:, None]
    kept = torch.cat([kept.new_ones(1, n), kept])
    return torch.cat(radii, dim=1).where(kept[..., None], -torch.inf), kept
