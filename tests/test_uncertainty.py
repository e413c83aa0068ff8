"""Intervals of means and differences, against SciPy's."""

import math

import made_up
import numpy as np
import pytest
from scipy import stats

from wwae_lib.book.uncertainty import (
    Difference,
    Measured,
    Spread,
    difference,
    explained,
    holm,
    largest_spread,
    measured,
    numbers,
    over_seeds,
    paired,
    protocols,
    ratio,
)

NAN = math.nan
THREE, OTHER = (24.1, 25.3, 23.8), (31.0, 29.5, 33.2, 30.1)


def without_errors(*values):
    return Measured(values, (NAN,) * len(values))


def test_a_mean_over_seeds_has_the_t_interval():
    metric = without_errors(*THREE)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(THREE), scale=stats.sem(THREE))
    assert metric.mean == pytest.approx(np.mean(THREE), rel=1e-12)
    assert (metric.mean - metric.interval, metric.mean + metric.interval) == pytest.approx(
        (low, high), rel=1e-12
    )


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0)])
def test_fewer_than_three_seeds_have_no_interval(values):
    assert math.isnan(without_errors(*values).interval)


def test_errors_of_measurement_add_in_squares():
    assert Measured((1.0, 2.0), (0.3, 0.4)).error == pytest.approx(0.25, rel=1e-12)
    assert math.isnan(Measured((1.0, 2.0), (0.3, NAN)).error)


def test_two_methods_over_seeds_differ_by_welch():
    gap = difference(without_errors(*THREE), without_errors(*OTHER))
    expected = stats.ttest_ind(THREE, OTHER, equal_var=False).confidence_interval(0.95)
    assert (gap.value - gap.half, gap.value + gap.half) == pytest.approx(tuple(expected), rel=1e-12)
    assert gap.basis == "3 and 4 seeds, Welch"
    assert gap.sure


def test_one_seed_is_lent_the_largest_spread():
    """Of the method itself that is Student's test; of another, its variance, and no more freedom."""
    single, three = without_errors(30.0), without_errors(*THREE)
    spread = largest_spread([single, three])
    for a, b, sides in ((single, three, ((30.0,), THREE)), (three, single, (THREE, (30.0,)))):
        gap = difference(a, b, spread)
        expected = stats.ttest_ind(*sides, equal_var=True).confidence_interval(0.95)
        assert gap.value == pytest.approx(sum(expected) / 2, rel=1e-12)
        assert gap.half == pytest.approx((expected.high - expected.low) / 2, rel=1e-12)
        assert gap.basis == f"{a.seeds} and {b.seeds} seeds, largest spread of any method"
        assert gap.sure
    wide = largest_spread([three, without_errors(10.0, 40.0, 70.0)])
    assert wide == (30.0, 2)
    parts = np.var(THREE, ddof=1) / 3, 30.0**2
    half = stats.t.ppf(0.975, 2) * math.sqrt(sum(parts))
    gap = difference(three, single, wide)
    assert gap.half == pytest.approx(half, rel=1e-12)
    assert not gap.sure


def test_two_single_runs_that_borrow_one_spread_have_its_degrees_of_freedom():
    gap = difference(without_errors(1.0), without_errors(2.0), largest_spread([without_errors(*THREE)]))
    assert gap.freedom == 2
    half = stats.t.ppf(0.975, 2) * np.std(THREE, ddof=1) * math.sqrt(2)
    assert gap.half == pytest.approx(half, rel=1e-12)


def test_two_seeds_lend_no_spread():
    assert largest_spread([without_errors(1.0, 9.0), without_errors(1.0)]) is None


def test_single_seeds_differ_by_their_own_errors_and_never_surely():
    gap = difference(Measured((10.0,), (0.3,)), Measured((11.0,), (0.4,)))
    assert gap.value == pytest.approx(-1)
    assert gap.half == pytest.approx(stats.norm.ppf(0.975) * 0.5, rel=1e-12)
    assert not gap.over_seeds
    assert not gap.sure, "an interval for two trained models says nothing of methods"


def test_what_has_no_error_is_never_sure():
    gap = difference(without_errors(1.0), Measured((100.0,), (0.1,)))
    assert math.isnan(gap.half)
    assert not gap.sure
    assert "no error known" in gap.basis


def test_equal_seeds_differ_without_doubt():
    gap = difference(without_errors(1.0, 1.0), without_errors(2.0, 2.0))
    assert (gap.value, gap.half) == (-1, 0)
    assert (gap.below(0), gap.above(0)) == (0, 1)
    assert gap.sure


def test_p_values_are_those_of_scipy():
    gap = difference(without_errors(*THREE), without_errors(*OTHER))
    for bound in (0, -3.0, 2.0):
        shifted = [value - bound for value in THREE]
        for alternative, p in (("less", gap.below(bound)), ("greater", gap.above(bound))):
            expected = stats.ttest_ind(shifted, OTHER, equal_var=False, alternative=alternative).pvalue
            assert p == pytest.approx(expected, rel=1e-9)
    normal = Difference(1.0, 0.5, math.inf, "")
    assert normal.above(0) == pytest.approx(stats.norm.sf(2), rel=1e-9)
    assert normal.below(math.inf) == normal.above(-math.inf) == 0


def test_within_a_margin_is_the_whole_interval():
    gap = Difference(1.0, 0.5, math.inf, "")
    assert gap.within(1.99) and not gap.within(1.97)
    assert not Difference(0.0, NAN, math.inf, "").within(9)


def test_measurements_of_the_same_runs_are_paired():
    """What varies from run to run alike is in neither interval; without seeds the errors add up at most."""
    fid, mixture = [20.0, 30.0, 40.0], [18.1, 28.0, 37.9]
    runs = made_up.seeds("wwae", fid=fid, fid_mixture=mixture)
    gap = paired([*runs, made_up.run("wwae", 3, fid=1.0)], "fid", "fid_mixture")
    expected = stats.ttest_rel(fid, mixture).confidence_interval(0.95)
    assert (gap.value - gap.half, gap.value + gap.half) == pytest.approx(tuple(expected), rel=1e-9)
    assert gap.basis == "3 seeds, paired"
    run = made_up.run("wwae", fid=20.0, fid_error=0.3, fid_mixture=18.0, fid_mixture_error=0.4)
    single = paired([run], "fid", "fid_mixture")
    assert single.half == pytest.approx(stats.norm.ppf(0.975) * 0.7, rel=1e-9)
    assert (single.basis, single.sure) == ("1 seed, error bounded from above", False)
    assert paired(runs, "fid", "kid") is None


def test_measurements_by_two_protocols_are_not_paired():
    run = made_up.run("wwae", fid=20.0, fid_mixture=18.0, squared_error=9.0)
    how = {"reference_sha256": "a"}
    run.record["evaluation"] = {"prior": how | {"protocol": "full"}, "mixture": how | {"protocol": "brief"}}
    assert paired([run], "fid", "fid_mixture") is None
    run.record["evaluation"]["mixture"]["protocol"] = "full"
    assert paired([run], "fid", "fid_mixture").value == pytest.approx(-2 * -1)
    assert protocols([run], "fid") == protocols([run], "fid_mixture") == {("full", "a")}
    assert protocols([run], "squared_error") == set()
    assert protocols([run], "kid") == set(), "it has none"


def test_fewer_than_three_runs_have_no_interval_of_their_own():
    gap = over_seeds([1.0, 1.1])
    assert math.isnan(gap.half) and not gap.sure
    values = [1.0, 1.1, 0.9]
    assert over_seeds(values).half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))


def test_where_an_interval_is_from_is_explained_where_it_is_said():
    one, other = Measured((20.0,), (0.5,)), Measured((25.0,), (0.5,))
    said = explained(difference(one, other).basis)
    assert said.startswith("Own errors are of measuring") and "largest spread" not in said
    assert "largest spread" in explained(difference(one, other, Spread(1.0, 2)).basis)
    assert explained("3 and 3 seeds") == ""


def test_ratios_are_welchs_of_logarithms():
    value, low, high = ratio(without_errors(*THREE), without_errors(*OTHER))
    expected = stats.ttest_ind(np.log(THREE), np.log(OTHER), equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(np.exp(expected)), rel=1e-9)
    assert value == pytest.approx(stats.gmean(THREE) / stats.gmean(OTHER), rel=1e-9)
    assert math.isnan(ratio(without_errors(1.0), without_errors(*THREE))[1])
    assert ratio(without_errors(0.0, 1.0), without_errors(*THREE)) is None


def test_holm():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979: 4, 3, 2 and 1 times, in order
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_a_metric_is_read_with_its_error_from_the_runs_that_have_it():
    runs = [
        made_up.run("wwae", 0, fid=20.0, fid_error=0.2),
        made_up.run("wwae", 1, fid=21.0),
        made_up.run("wwae", 2),
    ]
    metric = measured(runs, "fid")
    assert metric.values == (20, 21)
    assert metric.errors[0] == 0.2
    assert math.isnan(metric.errors[1])
    assert measured(runs, "kid") is None


def test_what_follows_from_metrics():
    run = made_up.run("wwae", seconds=120, sharpness=0.02, sharpness_data=0.04, knn_accuracy=0.9)
    derived = numbers(run)
    assert derived["train_minutes"] == 2
    assert derived["epoch_seconds"] == pytest.approx(120 / run.experiment.epochs)
    assert derived["sharpness_gap"] == pytest.approx(math.log(2))
    assert derived["knn_accuracy_error"] == pytest.approx(0.003)
    assert "sharpness_reconstruction_gap" not in derived
    gains = {"mixture_nats": 1.5, "mixture_nats_error": 0.3}
    gains |= {"mixture_nats_floor": -0.5, "mixture_nats_floor_error": 0.4}
    gained = numbers(made_up.run("wwae", **gains))
    assert (gained["mixture_excess"], gained["mixture_excess_error"]) == pytest.approx((2, 0.5))
    assert run.metrics.keys() == {"sharpness", "sharpness_data", "knn_accuracy"}, "the record is as it was"


def test_a_recorded_error_goes_before_the_binomial_one():
    assert numbers(made_up.run("wwae", knn_accuracy=0.9, knn_accuracy_error=0.1))["knn_accuracy_error"] == 0.1
