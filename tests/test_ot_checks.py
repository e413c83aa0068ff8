"""The experiments against numerical optimal transport: their tools, each against something independent."""

import time

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from wwae_lib import gaussian
from wwae_lib.book import ot_checks

PAIRS = [ot_checks.example_pair(d) for d in (1, 2, 5)]


def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"d={len(p.mean1)}")
def test_squared_distance_is_potentials_plus_matching_cost(pair):
    potentials = ot_checks.Potentials.of(pair)
    x, y = pair.sample(20, rng())
    parts = potentials.first(x)[:, None] + potentials.second(y)[None, :] + potentials.matching_cost(x, y)
    np.testing.assert_allclose(parts, cdist(x, y, "sqeuclidean"), rtol=0, atol=1e-11)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"d={len(p.mean1)}")
def test_potentials_have_the_mean_and_variance_claimed(pair):
    potentials = ot_checks.Potentials.of(pair)
    x, y = pair.sample(200_000, rng())
    values = potentials.first(x), potentials.second(y)
    sigma = potentials.variance**0.5
    error = sum(v.mean() for v in values) - gaussian.w2_squared(*pair).item()
    assert abs(error) < 4 * sigma / 200_000**0.5
    # The variance of a quadratic in Gaussians is known to a relative (kurtosis / n)^{1/2} < 1%.
    assert sum(v.var() for v in values) == pytest.approx(sigma**2, rel=0.04)


def test_map_of_the_potentials_carries_the_second_law():
    pair = PAIRS[-1]
    potentials = ot_checks.Potentials.of(pair)
    np.testing.assert_allclose(potentials.map(pair.mean1), pair.mean2)
    np.testing.assert_allclose(potentials.matrix @ pair.cov1 @ potentials.matrix, pair.cov2, atol=1e-12)


@pytest.mark.parametrize("d", [1, 3])
def test_exact_solver_agrees_with_assignment(d):
    x, y = rng().normal(size=(2, 40, d))
    cost = cdist(x, y, "sqeuclidean")
    assert ot_checks.exact_w2_squared(x, y) == pytest.approx(
        cost[linear_sum_assignment(cost)].mean(), rel=1e-12
    )


def test_points_with_prescribed_moments():
    pair = PAIRS[-1]
    x = ot_checks.with_moments(rng().uniform(size=(30, 5)), pair.mean2, pair.cov2)
    np.testing.assert_allclose(x.mean(0), pair.mean2, atol=1e-13)
    np.testing.assert_allclose(np.cov(x.T, ddof=0), pair.cov2, atol=1e-13)


def test_matching_cost_exceeds_its_bound_in_the_mean():
    pair = ot_checks.example_pair(5)
    (estimates,) = ot_checks.convergence(pair, {64: 10}, seed=1)
    assert estimates.matching.min() > 0
    assert estimates.matching.mean() > ot_checks.matching_lower_bound(pair, 64)
    assert (estimates.plug_in > estimates.gelbrich).all()


def test_matching_bound_in_one_dimension_by_hand():
    # d = 1, N(0, 1) and N(1, 4): (2/3) Gamma(3/2)^2 (1 * 4)^{1/2} n^{-2} = (pi / 3) n^{-2}.
    assert ot_checks.matching_lower_bound(ot_checks.example_pair(1), 10) == pytest.approx(np.pi / 300)


def test_convergence_repeats_itself():
    first, second = (ot_checks.convergence(PAIRS[0], {8: 2, 16: 3}, seed=5) for _ in range(2))
    assert [e.n for e in first] == [8, 16]
    assert [e.plug_in.shape for e in first] == [(2,), (3,)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.plug_in, b.plug_in)


def test_slope_of_a_power_law():
    sizes = (10, 100, 1000)
    noise = rng().normal(size=(3, 400))
    values = [n**-0.25 * (1 + 0.1 * e) for n, e in zip(sizes, noise, strict=True)]
    slope, error = ot_checks.log_log_slope(sizes, values, lambda v: v.mean(-1))
    # Standard error by hand: 0.1 / 400^{1/2} on each log, over the norm of the centred logs.
    assert error == pytest.approx(0.005 / (np.log(10) * 2**0.5), rel=0.2)
    assert abs(slope + 0.25) < 4 * error


def test_bootstrap_band_of_a_mean():
    values = rng().normal(size=1000)
    value, lower, upper = ot_checks.bootstrap_band(values, lambda v: v.mean(-1))
    assert value == pytest.approx(values.mean())
    assert upper - lower == pytest.approx(2 * 1.96 / 1000**0.5, rel=0.15)


def test_grid_has_the_gaussians_moments():
    pair = PAIRS[1]
    points, weights = ot_checks.product_grid(pair.mean2, pair.cov2, 25)
    assert weights.sum() == pytest.approx(1)
    centred = points - pair.mean2
    np.testing.assert_allclose(weights @ points, pair.mean2, atol=1e-12)
    np.testing.assert_allclose((centred * weights[:, None]).T @ centred, pair.cov2, atol=1e-6)


def test_entropic_cost_lies_above_the_exact_one_and_tends_to_it():
    x, y = PAIRS[1].sample(50, rng())
    exact = ot_checks.exact_w2_squared(x, y)
    costs = [ot_checks.entropic_w2_of_samples(x, y, epsilon) for epsilon in (4.0, 1.0, 0.25)]
    assert costs[0] > costs[1] > costs[2] > exact
    # KL(P | a b^T) <= log n for every plan.
    assert all(c - exact <= e * np.log(50) for c, e in zip(costs, (4.0, 1.0, 0.25), strict=True))


def test_medians_of_interleaved_tasks():
    medians = ot_checks.interleaved_medians(
        {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.02)}, rounds=3, spell=0.01
    )
    assert medians["short"] >= 0.001
    assert medians["long"] >= 0.02
    assert medians["long"] > 2 * medians["short"]
