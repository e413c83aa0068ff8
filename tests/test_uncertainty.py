"""Intervals of means and differences, against SciPy's."""

import math

import made_up
import numpy as np
import pytest
from scipy import stats

from wwae_lib.book.uncertainty import Measured, difference, largest_spread, measured, numbers

NAN = math.nan
THREE, OTHER = (24.1, 25.3, 23.8), (31.0, 29.5, 33.2, 30.1)


def without_errors(*values):
    return Measured(values, (NAN,) * len(values))


def test_a_mean_over_seeds_has_the_t_interval():
    one = without_errors(*THREE)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(THREE), scale=stats.sem(THREE))
    assert one.mean == pytest.approx(np.mean(THREE), rel=1e-12)
    assert (one.mean - one.interval, one.mean + one.interval) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0)])
def test_fewer_than_three_seeds_have_no_interval(values):
    assert math.isnan(without_errors(*values).interval)


def test_errors_of_measurement_add_in_squares():
    assert Measured((1.0, 2.0), (0.3, 0.4)).error == pytest.approx(0.25, rel=1e-12)
    assert math.isnan(Measured((1.0, 2.0), (0.3, NAN)).error)


def test_two_methods_over_seeds_differ_by_welch():
    found = difference(without_errors(*THREE), without_errors(*OTHER))
    expected = stats.ttest_ind(THREE, OTHER, equal_var=False).confidence_interval(0.95)
    assert (found.value - found.half, found.value + found.half) == pytest.approx(tuple(expected), rel=1e-12)
    assert found.basis == "3 and 4 seeds, Welch"
    assert found.sure


def test_one_seed_is_lent_the_largest_spread():
    """Of the method itself that is Student's test; of another, Welch's with that method's variance."""
    one, three = without_errors(30.0), without_errors(*THREE)
    own = largest_spread([one, three])
    for a, b, sides in ((one, three, ((30.0,), THREE)), (three, one, (THREE, (30.0,)))):
        found = difference(a, b, own)
        expected = stats.ttest_ind(*sides, equal_var=True).confidence_interval(0.95)
        # Student's pools two degrees of freedom, Welch's lends them to both sides
        assert found.value == pytest.approx(sum(expected) / 2, rel=1e-12)
        assert found.half < (expected.high - expected.low) / 2
        assert found.basis == f"{a.seeds} and {b.seeds} seeds, largest spread of any method"
        assert found.sure
    wide = largest_spread([three, without_errors(10.0, 40.0, 70.0)])
    assert wide == (30.0, 2)
    parts = np.var(THREE, ddof=1) / 3, 30.0**2
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    found = difference(three, one, wide)
    assert found.half == pytest.approx(half, rel=1e-12)
    assert not found.sure


def test_two_seeds_lend_no_spread():
    assert largest_spread([without_errors(1.0, 9.0), without_errors(1.0)]) is None


def test_single_seeds_differ_by_their_own_errors_and_never_surely():
    found = difference(Measured((10.0,), (0.3,)), Measured((11.0,), (0.4,)))
    assert found.value == pytest.approx(-1)
    assert found.half == pytest.approx(stats.norm.ppf(0.975) * 0.5, rel=1e-12)
    assert not found.over_seeds
    assert not found.sure, "an interval for two trained models says nothing of methods"


def test_what_has_no_error_is_never_sure():
    found = difference(without_errors(1.0), Measured((100.0,), (0.1,)))
    assert math.isnan(found.half)
    assert not found.sure
    assert "no error known" in found.basis


def test_equal_seeds_differ_without_doubt():
    found = difference(without_errors(1.0, 1.0), without_errors(2.0, 2.0))
    assert found[:2] == (-1, 0)
    assert found.sure


def test_a_metric_is_read_with_its_error_from_the_runs_that_have_it():
    runs = [
        made_up.run("wwae", 0, fid=20.0, fid_error=0.2),
        made_up.run("wwae", 1, fid=21.0),
        made_up.run("wwae", 2),
    ]
    found = measured(runs, "fid")
    assert found.values == (20, 21)
    assert found.errors[0] == 0.2
    assert math.isnan(found.errors[1])
    assert measured(runs, "kid") is None


def test_what_follows_from_metrics():
    one = made_up.run("wwae", seconds=120, sharpness=0.02, sharpness_data=0.04, knn_accuracy=0.9)
    found = numbers(one)
    assert found["train_minutes"] == 2
    assert found["epoch_seconds"] == pytest.approx(120 / one.experiment.epochs)
    assert found["sharpness_gap"] == pytest.approx(math.log(2))
    assert found["knn_accuracy_error"] == pytest.approx(0.003)
    assert "sharpness_reconstruction_gap" not in found
    assert one.metrics.keys() == {"sharpness", "sharpness_data", "knn_accuracy"}, "the record is as it was"


def test_a_recorded_error_goes_before_the_binomial_one():
    assert numbers(made_up.run("wwae", knn_accuracy=0.9, knn_accuracy_error=0.1))["knn_accuracy_error"] == 0.1
