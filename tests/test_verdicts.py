"""Verdicts on made-up records: all four outcomes of every kind of test, and the abstract word for word."""

import math

import made_up
import pytest
from made_up import seeds
from scipy import stats

from wwae_lib.book import verdicts
from wwae_lib.book.tables import GLUE
from wwae_lib.book.verdicts import ABSTRACT, CLAIMS, VERDICTS

LOW, HIGH, WIDE = [20.0, 20.5, 19.8], [30.0, 31.0, 29.5], [10.0, 20.0, 30.0]


def judged(claim: str, runs, timings=None) -> str:
    return verdicts.verdicts(runs, timings or {})[claim].verdict


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_quoted_word_for_word(claim):
    assert CLAIMS[claim].quote in ABSTRACT


def test_the_rule():
    assert verdicts._judge(["for", "for"]) == "holds"
    assert verdicts._judge(["for", "open"]) == "holds in part"
    assert verdicts._judge(["for", "against"]) == "holds in part"
    assert verdicts._judge(["for", "against", "against"]) == "does not hold"
    assert verdicts._judge(["against", "open"]) == "does not hold"
    assert verdicts._judge(["open"]) == "cannot be tested"
    assert verdicts._judge([]) == "cannot be tested"


def test_without_records_nothing_can_be_tested():
    found = verdicts.verdicts([], {})
    assert {one.verdict for one in found.values()} == {"cannot be tested"}
    for one in found.values():
        assert "No run that this test needs is recorded." in verdicts.evidence(one)
    assert verdicts.table(found).count("no record") == len(CLAIMS)


# ---------------------------------------------------------------- one method against a family


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (LOW, HIGH, "holds"),
        (HIGH, LOW, "does not hold"),
        (LOW, WIDE, "cannot be tested"),
        (WIDE, WIDE, "cannot be tested"),
    ],
)
def test_fid_against_the_vae_over_seeds(ours, theirs, verdict):
    runs = seeds("wwae", fid=ours) + seeds("vae", fid=theirs)
    assert judged("fid-vaes", runs) == verdict
    p = stats.ttest_ind(ours, theirs, equal_var=False).pvalue
    assert (verdict != "cannot be tested") == (p < 0.05)


def test_the_best_vae_counts_and_so_does_the_default_one():
    runs = seeds("wwae", fid=LOW) + seeds("vae", fid=HIGH)
    runs += seeds("vae_learned", fid=[10.0, 10.1, 10.2]) + seeds("vae_bernoulli", fid=[99.0, 98.0, 97.0])
    found = verdicts.verdicts(runs, {})["fid-vaes"]
    assert found.verdict == "holds in part"
    assert [(one.rival, one.says) for one in found.findings] == [
        ("VAE", "for"),
        ("VAE, learned variance", "against"),
    ]


def test_a_claim_that_holds_on_one_data_set_and_not_on_another_holds_in_part():
    runs = seeds("wwae", fid=LOW) + seeds("vae", fid=HIGH)
    runs += seeds("wwae", "celeba", fid=HIGH) + seeds("vae", "celeba", fid=LOW)
    assert judged("fid-vaes", runs) == "holds in part"


def test_higher_is_better_where_it_is():
    runs = seeds("wwae", density=[0.9, 0.91, 0.89]) + seeds("gan", density=[0.5, 0.51, 0.49])
    assert judged("quality-gans", runs) == "holds"
    assert judged("quality-vaes", runs) == "cannot be tested"
    runs = seeds("gan", density=[0.9, 0.91, 0.89]) + seeds("wwae", density=[0.5, 0.51, 0.49])
    assert judged("quality-gans", runs) == "does not hold"


def test_single_seeds_stay_open_and_the_page_says_so():
    runs = [made_up.run("wwae", fid=20.0, fid_error=0.3), made_up.run("gan", fid=99.0, fid_error=0.3)]
    found = verdicts.verdicts(runs, {})["fid-gans"]
    assert found.verdict == "cannot be tested"
    assert "one seed cannot show how training spreads" in verdicts.evidence(found)


def test_a_single_run_is_lent_the_spread_of_the_method_that_varies_most():
    runs = [*seeds("wwae", fid=LOW), made_up.run("gan", fid=30.0, fid_error=0.1)]
    assert judged("fid-gans", runs) == "holds"
    assert judged("fid-gans", runs + seeds("vae", fid=WIDE)) == "cannot be tested"


def test_sharper_means_closer_to_the_data():
    data = [0.04] * 3

    def sharp(method, *values):
        return seeds(method, sharpness=list(values), sharpness_data=data)

    blurred, close, noisy = (0.010, 0.011, 0.0105), (0.035, 0.036, 0.0355), (0.400, 0.410, 0.405)
    assert judged("sharpness", sharp("wwae", *close) + sharp("vae", *blurred)) == "holds"
    assert judged("sharpness", sharp("wwae", *blurred) + sharp("vae", *close)) == "does not hold"
    assert judged("sharpness", sharp("wwae", *noisy) + sharp("vae", *close)) == "does not hold"
    assert judged("sharpness", sharp("wwae", *close) + sharp("vae", *close)) == "cannot be tested"


def test_latent_structure_that_is_better_in_one_way_alone_holds_in_part():
    runs = seeds("wwae", knn_accuracy=[0.95, 0.951, 0.949], sliced_w2_squared=[0.3, 0.31, 0.29])
    runs += seeds("vae", knn_accuracy=[0.90, 0.901, 0.899], sliced_w2_squared=[0.1, 0.11, 0.09])
    assert judged("latent", runs) == "holds in part"


def test_runs_of_other_variants_decide_nothing():
    runs = [made_up.run("wwae", variant="lambda_1", fid=1.0, fid_error=0.1)]
    runs += [made_up.run("vae", fid=9.0, fid_error=0.1)]
    assert judged("fid-vaes", runs) == "cannot be tested"


# ---------------------------------------------------------------- the other kinds of test


@pytest.mark.parametrize(
    ("p", "gaussian", "mixture", "verdict"),
    [
        ([0.4, 0.3, 0.2], [20.0, 20.1, 19.9], [19.9, 20.0, 19.8], "holds"),
        ([0.0, 0.0, 0.0], [20.0, 20.1, 19.9], [19.9, 20.0, 19.8], "holds in part"),
        ([0.0, 0.0, 0.0], [20.0, 20.1, 19.9], [9.9, 10.0, 9.8], "does not hold"),
        ([0.4, 0.0, 0.2], [20.0, 29.1, 12.9], [19.9, 10.0, 19.8], "cannot be tested"),
    ],
)
def test_gaussian_codes(p, gaussian, mixture, verdict):
    runs = seeds("wwae", henze_zirkler_p=p, fid_gaussian=gaussian, fid_mixture=mixture)
    assert judged("gaussians", runs) == verdict


def test_the_mixture_of_a_single_seed_is_judged_by_its_own_errors():
    def gain(mixture, **errors):
        return [made_up.run("wwae", fid_gaussian=20.0, fid_mixture=mixture, **errors)]

    known = {"fid_gaussian_error": 0.3, "fid_mixture_error": 0.3}
    assert judged("gaussians", gain(19.9, **known)) == "holds"
    assert judged("gaussians", gain(10.0, **known)) == "does not hold"
    assert judged("gaussians", gain(18.0, **known)) == "cannot be tested"
    assert judged("gaussians", gain(10.0)) == "cannot be tested"


def timed(**seconds) -> dict:
    measured = [{"n": 100, "d": 8, "method": name, "seconds": value} for name, value in seconds.items()]
    return {"penalty_benchmark": {"environment": {"device": "cpu", "threads": 1}, "measured": measured}}


@pytest.mark.parametrize(
    ("mmd", "sinkhorn", "verdict"),
    [
        (5.0, 9.0, "holds"),
        (5.0, 0.5, "holds in part"),
        (1.0, 0.5, "does not hold"),
        (1.1, 0.9, "cannot be tested"),
    ],
)
def test_sampling_burden(mmd, sinkhorn, verdict):
    timings = timed(w2_penalty=1.0, mmd=mmd, sinkhorn=sinkhorn, pythonot=99.0)
    assert judged("sampling", [], timings) == verdict


@pytest.mark.parametrize(
    ("vae", "mmd", "verdict"),
    [
        (600, 700, "holds"),
        (600, 300, "holds in part"),
        (400, 300, "does not hold"),
        (None, None, VERDICTS[-1]),
    ],
)
def test_efficiency(vae, mmd, verdict):
    runs = [made_up.run("wwae", seconds=600.0)]
    runs += [made_up.run("vae", seconds=vae)] if vae else []
    runs += [made_up.run("wae_mmd", seconds=mmd)] if mmd else []
    assert judged("efficiency", runs) == verdict


def trained(share: float, interval: tuple[float, float], **seconds: float) -> dict:
    """A record of the benchmark of training."""
    step = {name: {"median": value, "count": 5} for name, value in seconds.items()}
    where = {"dataset": "mnist", "network": "compact"}
    penalty = {"share_of_pairs": share, "interval_95": interval, "pairs": 24}
    penalty |= {"ae_step_seconds": step["ae"], "wwae_step_seconds": step["wwae"]}
    steps = [where | {"method": name, "step_seconds": value} for name, value in step.items()]
    environment = {"device": "cpu (x86_64)"}
    return {"performance": {"environment": environment, "penalty": [where | penalty], "steps": steps}}


@pytest.mark.parametrize(
    ("share", "interval", "vae", "says", "verdict"),
    [
        (0.02, (0.01, 0.03), 0.1, ["for", "for"], "holds"),
        (0.40, (0.30, 0.50), 0.1, ["against", "for"], "holds in part"),
        (0.40, (0.30, 0.50), 0.05, ["against", "against"], "does not hold"),
        (0.20, (0.10, 0.30), 0.1, ["open", "for"], "holds in part"),
    ],
)
def test_efficiency_by_the_benchmark_of_training(share, interval, vae, says, verdict):
    timings = trained(share, interval, ae=0.1, wwae=0.1, vae=vae)
    slow = [made_up.run("wwae", seconds=999.0), made_up.run("vae", seconds=1.0)]
    found = verdicts.verdicts(slow, timings)["efficiency"]
    assert [one.says for one in found.findings] == says, "the benchmark goes before times beside other work"
    assert found.verdict == verdict


def test_benchmarks_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path))
    assert verdicts.benchmarks() == {}
    (tmp_path / "performance.json").write_text('{"format": 1}')
    assert verdicts.benchmarks() == {"performance": {"format": 1}}


def test_times_of_different_machines_are_not_compared():
    other = made_up.run("vae", seconds=100.0)
    other.record["environment"]["device"] = "another"
    assert judged("efficiency", [made_up.run("wwae", seconds=600.0), other]) == "cannot be tested"


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([20.0, 20.1, 19.9], [10.0, 20.0, 40.0], "holds"),
        ([10.0, 20.0, 40.0], [20.0, 20.1, 19.9], "does not hold"),
        ([20.0, 20.5, 19.5], [20.0, 21.0, 19.0], "cannot be tested"),
    ],
)
def test_stability_by_the_ratio_of_spreads(ours, theirs, verdict):
    runs = seeds("wwae", fid=ours) + seeds("gan", fid=theirs)
    assert judged("stability", runs) == verdict
    f = stats.tvar([math.log(x) for x in theirs]) / stats.tvar([math.log(x) for x in ours])
    two_sided = 2 * min(stats.f.cdf(f, 2, 2), stats.f.sf(f, 2, 2))
    assert (verdict != "cannot be tested") == (two_sided < 0.05)


def test_stability_in_part():
    runs = seeds("wwae", fid=[20.0, 20.1, 19.9])
    runs += seeds("gan", fid=[10.0, 20.0, 40.0]) + seeds("wgan_gp", fid=[20.0, 20.1, 19.9])
    assert judged("stability", runs) == "holds in part"


def test_one_seed_says_nothing_of_stability():
    runs = [made_up.run("wwae", fid=20.0, fid_error=0.1), made_up.run("gan", fid=90.0, fid_error=0.1)]
    found = verdicts.verdicts(runs, {})["stability"]
    assert (found.verdict, found.findings) == ("cannot be tested", ())


# ---------------------------------------------------------------- words


def test_the_page_says_what_was_found():
    runs = seeds("wwae", fid=LOW) + seeds("vae", fid=HIGH) + seeds("gan", fid=[5.0, 5.1, 4.9])
    found = verdicts.verdicts(runs, {})
    row = next(line for line in verdicts.table(found).splitlines() if "#verdict-fid-vaes" in line)
    assert "**holds**" in row
    expected = stats.ttest_ind(LOW, HIGH, equal_var=False)
    half = expected.confidence_interval().high - (sum(LOW) - sum(HIGH)) / 3
    assert f"{(sum(LOW) - sum(HIGH)) / 3:.1f} ± {half:.1f}".replace(" ", GLUE) in row
    assert (
        "2 of 10 hold: computational efficiency (1 for); better FID than VAEs (1 for)."
        in verdicts.summary(found)
    )
    assert "1 of 10 does not hold: better FID than GANs (1 against)." in verdicts.summary(found)
    assert "Verdict: **does not hold**." in verdicts.evidence(found["fid-gans"])
