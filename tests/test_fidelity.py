"""Measures of made images are their formulas, written out another way; errors are the spread of repeats."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from no_float64 import OnMPS
from scipy import ndimage
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from wwae_lib.gaussian import moments, w2_squared
from wwae_lib.measures import fidelity


def samples(n: int = 40, m: int = 50, d: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two samples of unlike laws, float32 as features are."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    other = rng.gamma(2.0, size=(m, d)) @ rng.normal(size=(d, d)) + 0.5
    return torch.tensor(first).float(), torch.tensor(other).float()


# ---------------------------------------------------------------- FID


def test_powers_are_powers():
    factor = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = factor @ factor.mT
    root, inverse = fidelity._powers(covariance)
    torch.testing.assert_close(root @ root, covariance)
    torch.testing.assert_close(root @ inverse, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-9)
    thin = factor[:, :2] @ factor[:, :2].mT  # two of six directions
    root, inverse = fidelity._powers(thin)
    projection = factor[:, :2] @ torch.linalg.pinv(factor[:, :2])
    torch.testing.assert_close(root @ inverse, projection, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(300, 32), (30, 20)])
def test_fid_is_pytorch_fids_and_the_librarys_distance(n, d):
    from pytorch_fid.fid_score import calculate_frechet_distance

    made, real = samples(n, n, d)
    first, second = made.double().numpy(), real.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it passes SciPy's sqrtm an old argument
        expected = calculate_frechet_distance(
            first.mean(0), np.cov(first, rowvar=False), second.mean(0), np.cov(second, rowvar=False)
        )
    distance = fidelity.frechet_distance(made, real).value
    assert distance == pytest.approx(expected, rel=1e-6)
    assert distance == pytest.approx(
        w2_squared(*moments(made.double()), *moments(real.double())).item(), rel=1e-9
    )


def test_fid_where_the_samples_fill_no_volume():
    made, real = samples(20, 30, 25)
    expected = w2_squared(*moments(made.double()), *moments(real.double())).item()
    assert fidelity.frechet_distance(made, real).value == pytest.approx(expected, rel=1e-6)
    assert fidelity.frechet_distance(made, made).value == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shared", ["none", "pairs"])
def test_the_error_of_the_fid_is_its_spread_over_draws_of_what_the_samples_share(shared):
    """Reconstructions are drawn with their originals: taken for independent, their error is far off."""
    rng = np.random.default_rng(1)
    influences = []
    for _ in range(300):
        real = rng.normal(size=(250, 3)) * (1, 2, 3)
        source = real if shared == "pairs" else rng.normal(size=(250, 3)) * (1, 2, 3)
        made = 0.6 * source[:200] + 0.1 * rng.normal(size=(200, 3))
        influences.append(fidelity.frechet_distance(torch.tensor(made), torch.tensor(real), shared))
    values, errors = np.array(influences).T
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)
    last = {
        how: fidelity.frechet_distance(torch.tensor(made), torch.tensor(real), how).error
        for how in fidelity.SHARED
    }
    assert last["unknown"] >= max(last.values())
    if shared == "pairs":
        assert abs(last["none"] / errors[-1] - 1) > 0.2


def test_fid_refuses_what_cannot_be_shared():
    made, real = samples()
    with pytest.raises(ValueError, match="one from each"):
        fidelity.frechet_distance(real, made, "pairs")
    with pytest.raises(ValueError, match="none, pairs or unknown"):
        fidelity.frechet_distance(made, real, "some")


def heavy_tailed(rng: np.random.Generator, n: int, d: int = 48) -> torch.Tensor:
    """Points of decaying variances and heavy tails, as features of images have."""
    scales = rng.gamma(4.0, size=(n, 1)) / 4
    return torch.tensor(rng.normal(size=(n, d)) * scales * np.arange(1, d + 1) ** -0.5)


def test_an_extrapolated_fid_is_that_of_more_images_as_its_error_says():
    """Few images of 48 dimensions: the distance of as many is twice that of four times as many."""
    rng = np.random.default_rng(3)
    real = heavy_tailed(rng, 240)
    wanted = np.mean([fidelity.frechet_distance(1.1 * heavy_tailed(rng, 240), real).value for _ in range(40)])
    few = [1.1 * heavy_tailed(rng, 60) for _ in range(40)]
    plain = np.array([fidelity.frechet_distance(made, real) for made in few])
    extrapolated = np.array([fidelity.frechet_distance(made, real, images=240) for made in few])
    assert plain[:, 0].mean() > 1.5 * wanted
    assert abs(extrapolated[:, 0].mean() - wanted) < 0.15 * (plain[:, 0].mean() - wanted)
    assert (extrapolated[:, 1] > plain[:, 1]).all()
    assert extrapolated[:, 0].std() < 1.2 * extrapolated[:, 1].mean()


def test_an_extrapolated_fid_is_on_the_line_through_all_images_and_halves_of_them():
    made, real = samples(40, 50, 4)
    whole, generator = fidelity.frechet_distance(made, real).value, torch.Generator().manual_seed(0)
    halves = []
    for _ in range(fidelity.SPLITS):
        order = torch.randperm(40, generator=generator)
        parts = made[order].double().split(20)
        halves.append(np.mean([fidelity.frechet_distance(part, real).value for part in parts]))
    slope = (np.mean(halves) - whole) / (1 / 20 - 1 / 40)
    extrapolated = fidelity.frechet_distance(made, real, images=100)
    assert extrapolated.value == pytest.approx(whole + slope * (1 / 100 - 1 / 40), rel=1e-6)
    own = fidelity.frechet_distance(made, real).error
    disagreement = (1 - 40 / 100) * np.std(halves, ddof=1) / math.sqrt(fidelity.SPLITS)
    assert extrapolated.error == pytest.approx(math.hypot(own, disagreement), rel=1e-6)
    assert fidelity.frechet_distance(made, real, images=40) == fidelity.frechet_distance(made, real)


def test_fid_refuses_to_extrapolate_downwards_or_from_nothing():
    made, real = samples()
    with pytest.raises(ValueError, match="39 images is not extrapolated from 40"):
        fidelity.frechet_distance(made, real, images=39)
    with pytest.raises(ValueError, match="four images or more, got 3"):
        fidelity.frechet_distance(made[:3], real, images=39)


def test_fid_refuses():
    made, real = samples()
    with pytest.raises(ValueError, match="moments needs points"):
        fidelity.frechet_distance(made[:1], real)


def test_fids_error_is_the_derivative_by_each_points_weight():
    """The infinitesimal jackknife by finite differences: each point in turn counts a little more."""
    made, real = (sample.double() for sample in samples(12, 15, 3))

    def weighted(sample: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = weights @ sample
        return mean, (sample - mean).mT * weights @ (sample - mean) * (len(sample) / (len(sample) - 1))

    variance, step = 0.0, 1e-5
    for which in (0, 1):
        n = len((made, real)[which])
        slopes = []
        for i in range(n):
            ends = []
            for sign in (1, -1):
                weights = torch.full((n,), (1 - sign * step) / n, dtype=torch.float64)
                weights[i] += sign * step
                laws = [moments(made), moments(real)]
                laws[which] = weighted((made, real)[which], weights)
                ends.append(w2_squared(*laws[0], *laws[1]).item())
            slopes.append((ends[0] - ends[1]) / (2 * step))
        variance += np.var(slopes, ddof=1) / n
    # the derivative of the covariance has n / (n - 1), the library's has not
    assert fidelity.frechet_distance(made, real).error == pytest.approx(math.sqrt(variance), rel=0.08)


def repeats(measure, n: int, times: int, d: int = 3) -> list[fidelity.Estimate]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 0.7, 0.4])[:d]
    draw = [torch.randn(2, n, d, generator=generator) for _ in range(times)]
    return [measure(made * scale + 0.4, real) for made, real in draw]


@pytest.mark.parametrize("measure", [fidelity.frechet_distance, fidelity.kid])
def test_errors_are_the_spread_of_repeats(measure):
    estimates = repeats(measure, n=200, times=300)
    spread = np.std([estimate.value for estimate in estimates], ddof=1)  # itself known to 4 %
    assert math.sqrt(np.mean([estimate.error**2 for estimate in estimates])) == pytest.approx(
        spread, rel=0.15
    )


# ---------------------------------------------------------------- KID


def test_kid_is_its_double_sum():
    made, real = samples(7, 9, 3)

    def kernel(x, y):
        return float((x.double() @ y.double() / 3 + 1) ** 3)

    def over(pairs):
        return np.mean([kernel(x, y) for x, y in pairs])

    within = sum(over(itertools.permutations(sample, 2)) for sample in (made, real))
    expected = within - 2 * over(itertools.product(made, real))
    assert fidelity.kid(made, real).value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("centre", "spread"), [(0, 1), (30, 1), (100, 0.01), (1e3, 0.1)])
def test_kid_has_the_digits_of_its_features(dtype, centre, spread):
    """Of features far from 0 that hardly differ, the kernels agree in their first ten digits."""
    made, real = (centre + spread * sample for sample in samples(40, 50, 16))
    made, real = made.to(dtype), real.to(dtype)
    exact = fidelity.kid(made.double(), real.double())
    rounding = exact.error / 1e5  # of what another draw of the images would move
    assert fidelity.kid(made, real) == pytest.approx(exact, rel=0, abs=rounding)


def test_kid_has_no_bias():
    """Of one law twice it is 0 on average, which an estimate with the diagonal is not."""
    generator = torch.Generator().manual_seed(1)
    estimates = [fidelity.kid(*torch.randn(2, 20, 3, generator=generator)).value for _ in range(400)]
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / math.sqrt(len(estimates))
    assert min(estimates) < 0


def test_kid_refuses_a_single_point():
    with pytest.raises(ValueError, match="two points a sample, got 1 and 50"):
        fidelity.kid(samples()[0][:1], samples()[1])


# ---------------------------------------------------------------- neighbourhoods


def test_neighbourhoods_are_their_definitions():
    made, real = samples(30, 35, 2)
    made = made + real.mean(0)

    def distance(x, y) -> float:
        return math.dist(x.tolist(), y.tolist())

    def radius(sample, i: int, k: int) -> float:
        return sorted(distance(sample[i], other) for j, other in enumerate(sample) if j != i)[k - 1]

    def held(points, centres, k: int) -> list[list[bool]]:
        radii = [radius(centres, i, k) for i in range(len(centres))]
        return [[distance(x, c) <= r for c, r in zip(centres, radii, strict=True)] for x in points]

    wide = np.array(held(made, real, 5))
    assert values(made, real) == pytest.approx(
        {
            "precision": np.mean([any(row) for row in held(made, real, 3)]),
            "recall": np.mean([any(row) for row in held(real, made, 3)]),
            "density": wide.sum() / (5 * len(made)),
            "coverage": wide.any(0).mean(),
        }
    )
    assert 0 < wide.any(0).mean() < 1  # the example decides something


def values(made, real) -> dict[str, float]:
    return {name: estimate.value for name, estimate in fidelity.neighbourhoods(made, real).items()}


def test_neighbourhoods_errors_are_no_less_than_the_spread_of_repeats():
    """By Efron and Stein; within 10 %, for the spread of 60 repeats; and no more than about twice it."""
    estimates = repeats(fidelity.neighbourhoods, n=100, times=60)
    for name in estimates[0]:
        spread = np.std([repeat[name].value for repeat in estimates], ddof=1)
        reported = math.sqrt(np.mean([repeat[name].error ** 2 for repeat in estimates]))
        assert 0.9 * spread < reported < 2.2 * spread, name


def test_neighbourhoods_tell_what_is_wrong():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(300, 3, generator=generator)
    same_law = values(torch.randn(300, 3, generator=generator), real)
    assert min(same_law.values()) > 0.8 and same_law["density"] == pytest.approx(1, abs=0.15)
    narrow = values(0.1 * torch.randn(300, 3, generator=generator), real)
    assert narrow["precision"] > 0.95 and narrow["recall"] < 0.1 and narrow["coverage"] < 0.2
    away = fidelity.neighbourhoods(real + 100, real)
    assert {name: tuple(estimate) for name, estimate in away.items()} == dict.fromkeys(
        ("precision", "recall", "density", "coverage"), (0, 0)
    )


def test_neighbourhoods_need_seven_points():
    made, real = samples()
    with pytest.raises(ValueError, match="needs 7 points a sample, got 6 and 50"):
        fidelity.neighbourhoods(made[:6], real)
    assert all(math.isfinite(estimate.error) for estimate in fidelity.neighbourhoods(made[:7], real).values())


def test_blocks_of_pairs_change_nothing(monkeypatch):
    made, real = samples()
    whole, shares = fidelity.kid(made, real), fidelity.neighbourhoods(made, real)
    monkeypatch.setattr(fidelity, "ROWS", 7)
    monkeypatch.setattr(fidelity, "BLOCK", 7)
    assert fidelity.kid(made, real) == pytest.approx(whole, rel=1e-6)
    assert fidelity.neighbourhoods(made, real) == shares


@pytest.mark.parametrize("n", [30, 8, 45])
def test_neighbourhoods_errors_are_those_of_leaving_groups_out(n):
    """The jackknife again: every variant measured as if there were no other points."""
    made, real = samples(n, 50)
    made, left = made + real.mean(0) - made.mean(0), []
    for which, sample in enumerate((made, real)):
        count = min(fidelity.GROUPS, len(sample))
        for g in range(count):
            pair = [made, real]
            pair[which] = sample[torch.arange(len(sample)) % count != g]
            left.append(fidelity._shares(*pair)[0])
    torch.testing.assert_close(fidelity._shares(made, real)[1:], torch.stack(left))


def test_pairs_are_compared_on_the_features_device(monkeypatch):
    """By torch's fake tensors, which have a device and no values: a mixture of devices is an error."""
    monkeypatch.setattr(fidelity, "_apart", torch.cdist)  # ours looks at values
    with FakeTensorMode():
        made, real = torch.zeros(50, 4, device="cuda"), torch.zeros(60, 4, device="cuda")
        assert fidelity._shares(made, real).device.type == "cuda"
        assert {means.device.type for means in fidelity._mean_kernels(made, real, torch.float32)} == {"cuda"}


def test_no_matrix_of_all_pairs_is_held(monkeypatch):
    """Of neighbourhoods and of kernels, some rows at once."""
    shapes = []

    class Shapes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                shapes.append(result.numel())
            return result

    monkeypatch.setattr(fidelity, "ROWS", 10)
    monkeypatch.setattr(fidelity, "BLOCK", 10)
    made, real = samples(400, 400)
    with Shapes():
        fidelity.kid(made, real)
        fidelity.neighbourhoods(made, real)
    assert max(shapes) < 400 * 400 / 2


def collapsed(n: int = 60, d: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Made and real features that hardly differ, far from 0; and no made one is near a real one."""
    generator = torch.Generator().manual_seed(0)
    real = 100 + 0.01 * torch.randn(n, d, generator=generator)
    return real.mean(0) + 0.2 + 1e-3 * torch.randn(n, d, generator=generator), real


def test_neighbourhoods_of_nearly_equal_features_are_those_of_the_same_features_made_larger():
    made, real = collapsed()
    away = made.double() - 100, real.double() - 100  # of which nothing cancels
    assert values(made, real) == values(*away) and values(made, real)["precision"] == 0
    assert fidelity.kid(made, real).value == pytest.approx(fidelity.kid(made.double(), real.double()).value)


@pytest.mark.parametrize("rows", [7, 1000])
def test_a_point_on_the_edge_of_a_ball_is_in_it(monkeypatch, rows):
    """The fifth neighbour's distance is computed twice, with other roundings."""
    monkeypatch.setattr(fidelity, "ROWS", rows)
    points = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    assert values(points.flip(0), points)["density"] == pytest.approx(6 / 5, rel=1e-12)


def test_copies_of_the_real_points_cover_them_all():
    _, real = collapsed()
    doubled = torch.cat([real, real, real, real, real, real])  # five others at distance 0 of each
    for sample in (real, doubled):
        measured = values(sample, sample)
        assert measured["precision"] == measured["recall"] == measured["coverage"] == 1
    assert values(real, real)["density"] == pytest.approx(6 / 5)  # a ball's centre, and the five within
    assert values(doubled, doubled)["density"] == pytest.approx(6 / 5)


@pytest.mark.parametrize("measure", [fidelity.frechet_distance, fidelity.kid, fidelity.neighbourhoods])
@pytest.mark.parametrize("worst", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(measure, worst):
    made, real = samples()
    spoilt = real.clone()
    spoilt[[3, 5], 2] = worst
    with pytest.raises(ValueError, match="the features of 2 of 50 real images are not finite"):
        measure(made, spoilt)
    with pytest.raises(ValueError, match="the features of 2 of 50 made images are not finite"):
        measure(spoilt, real)


@pytest.mark.parametrize("measure", [fidelity.frechet_distance, fidelity.kid, fidelity.neighbourhoods])
def test_a_device_without_float64_gives_the_same(measure):
    made, real = samples()
    assert measure(OnMPS(made), OnMPS(real)) == measure(made, real)


# ---------------------------------------------------------------- sharpness


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_is_scipys_laplacian(channels):
    pixels = torch.randint(0, 256, (5, channels, 8, 9), dtype=torch.uint8)
    expected = []
    for image in pixels.double().numpy() / 255:
        grey = image[0] if channels == 1 else 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        expected.append(ndimage.laplace(grey)[1:-1, 1:-1].var())
    error = np.std(expected, ddof=1) / math.sqrt(5)
    assert fidelity.sharpness(pixels) == pytest.approx((np.mean(expected), error), rel=1e-5)


def test_blur_lowers_sharpness(digits):
    blurred = ndimage.gaussian_filter(digits.pixels.numpy(), (0, 0, 1, 1))
    soft, sharp = (fidelity.sharpness(pixels).value for pixels in (torch.from_numpy(blurred), digits.pixels))
    assert 0 < soft < 0.3 * sharp
