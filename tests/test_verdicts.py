"""Verdicts on made-up records: every outcome of every kind of test, and the abstract word for word."""

import math

import made_up
import numpy as np
import pytest
from made_up import seeds
from scipy import stats

from wwae_lib.book import selection, verdicts
from wwae_lib.book.tables import GLUE
from wwae_lib.book.verdicts import ABSTRACT, CLAIMS, DEFAULT_RIVAL, FAMILIES, OUTCOMES

LOW, HIGH, WIDE = [20.0, 20.5, 19.8], [30.0, 31.0, 29.5], [10.0, 20.0, 30.0]
HOLDS, CONTRADICTED, TIE, OPEN, UNTESTED = OUTCOMES
PLANNED = sum(len(claim.places) for claim in CLAIMS.values())  # tests, whatever is recorded


def verdict_on(claim: str, runs, timings=None) -> verdicts.Verdict:
    return verdicts.verdicts(runs, timings or {})[claim]


def outcome(claim: str, runs, timings=None, place: str = "MNIST") -> str:
    return verdict_on(claim, runs, timings).outcomes[place]


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_quoted_word_for_word(claim):
    assert CLAIMS[claim].quote in ABSTRACT


def test_rivals_belong_to_their_families():
    assert DEFAULT_RIVAL == {"VAEs": "vae_learned", "GANs": "gan"}, "named on the page, with the reason"
    assert all(name in FAMILIES[family] for family, name in DEFAULT_RIVAL.items())


def test_without_records_nothing_is_tested():
    judged = verdicts.verdicts([], {})
    assert {verdict.verdict for verdict in judged.values()} == {UNTESTED}
    for verdict in judged.values():
        assert "no record has the measure of both sides" in verdicts.evidence(verdict)
    assert verdicts.table(judged).count("no record") == len(CLAIMS)
    assert f"Of {PLANNED} primary tests that are planned, 0 could be made." in verdicts.test_counts(judged)


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ({"A": HOLDS, "B": HOLDS}, "holds"),
        ({"A": HOLDS, "B": UNTESTED}, "holds on A, not tested on B"),
        ({"A": OPEN, "B": HOLDS, "C": CONTRADICTED}, "holds on B, contradicted on C, open on A"),
        ({"A": CONTRADICTED, "B": UNTESTED, "C": CONTRADICTED}, "contradicted on A and C, not tested on B"),
        ({"A": TIE, "B": OPEN}, "a tie on A, open on B"),
        ({"A": OPEN}, "open"),
        ({"A, reference network": HOLDS, "B": OPEN}, "holds on A (reference network), open on B"),
    ],
)
def test_the_verdict_in_words(outcomes, words):
    assert verdicts._in_words(outcomes) == words


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (LOW, HIGH, HOLDS),
        (HIGH, LOW, CONTRADICTED),
        (LOW, WIDE, OPEN),
        (WIDE, WIDE, OPEN),
        (LOW, [20.1, 20.4, 19.9], TIE),
        ([20.0, 22.5, 18.0], [20.1, 20.4, 19.9], OPEN),
    ],
)
def test_fid_against_the_vae_over_seeds(ours, theirs, expected):
    runs = seeds("wwae", fid=ours) + seeds("vae_learned", fid=theirs)
    verdict = verdict_on("fid-vaes", runs)
    (finding,) = verdict.findings
    assert (finding.setting, finding.outcome) == ("MNIST", expected)
    assert verdict.verdict == f"{expected} on MNIST, not tested on Fashion-MNIST and CelebA"
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    assert finding.p == pytest.approx(test.pvalue, rel=1e-9)
    # of the same runs the claim of stability is tested only against GANs
    assert finding.corrected == pytest.approx(min(1, PLANNED * test.pvalue), rel=1e-9)
    low, high = test.confidence_interval()
    assert (expected == TIE) == (max(abs(low), abs(high)) < 0.1 * np.mean(theirs))


def test_only_the_default_rival_has_a_vote():
    runs = seeds("wwae", fid=LOW) + seeds("vae", fid=HIGH) + seeds("vae_bernoulli", fid=[9.0, 9.1, 9.2])
    verdict = verdict_on("fid-vaes", runs)
    assert (verdict.verdict, verdict.findings) == (UNTESTED, ())
    assert [finding.rival for finding in verdict.secondary] == ["VAE", "VAE, Bernoulli"]
    assert verdict.secondary[0].result.startswith("-10.1")


def test_only_the_primary_measure_has_a_vote():
    good, bad = [0.9, 0.91, 0.89], [0.5, 0.51, 0.49]
    runs = seeds("wwae", density=good, precision=bad) + seeds("gan", density=bad, precision=good)
    assert outcome("quality-gans", runs) == HOLDS
    assert [finding.question for finding in verdict_on("quality-gans", runs).secondary] == [
        "precision (higher is better)"
    ]
    assert outcome("quality-gans", seeds("wwae", precision=good) + seeds("gan", precision=bad)) == UNTESTED


def test_secondary_measures_that_lean_to_a_side_are_named_in_view():
    """They have no vote, and nobody should have to unfold a table to see that they all point one way."""
    runs = [
        *seeds("wwae", knn_accuracy=[0.96, 0.961, 0.962], linear_accuracy=[0.95, 0.951, 0.952]),
        *seeds("vae_learned", knn_accuracy=[0.96, 0.961, 0.962], linear_accuracy=[0.90, 0.901, 0.902]),
    ]
    text = verdicts.evidence(verdict_on("latent", runs)).partition(":::{dropdown}")[0]
    assert (
        "One speaks for the claim: the linear accuracy against the VAE with learned variance on MNIST" in text
    )
    alike = [run for run in runs if run.experiment.method == "wwae"]
    alike += seeds("vae_learned", knn_accuracy=[0.96, 0.961, 0.962], linear_accuracy=[0.951, 0.95, 0.952])
    assert "None differs by more than chance explains" in verdicts.evidence(verdict_on("latent", alike))


def test_a_ratio_to_what_may_be_nothing_is_not_printed():
    ours = [made_up.run("wwae", density=0.044, density_error=0.009)]
    for error, printed in ((0.0001, False), (0.00001, True)):
        theirs = [made_up.run("gan", density=0.0001, density_error=error)]
        (finding,) = verdict_on("quality-gans", [*ours, *theirs]).findings
        assert ("times" in finding.ratio) is printed


def test_a_single_seed_decides_nothing_and_the_page_says_so():
    """Not by a spread that it borrows, nor by its own error, however far the values are apart."""
    wide = [made_up.run("gan", fid=999.0, fid_error=0.1)]
    for ours in (seeds("wwae", fid=LOW), [made_up.run("wwae", fid=20.0, fid_error=0.1)]):
        verdict = verdict_on("fid-gans", ours + wide)
        assert verdict.outcomes["MNIST"] == OPEN
        assert math.isnan(verdict.findings[0].p)
        assert "there are too few seeds" in verdicts.evidence(verdict)
        family = verdicts.test_counts(verdicts.verdicts(ours + wide, {}))
        assert "0 could be made. For 2 there are too few seeds" in family  # and stability
    two = seeds("wwae", fid=LOW) + seeds("gan", fid=[90.0, 90.1])
    assert outcome("fid-gans", two) == OPEN


def test_holms_correction_counts_every_planned_test_whatever_is_recorded():
    """What is significant alone is open beside the others, made or not."""
    ours, theirs = [20.0, 21.0, 19.5], [23.6, 25.5, 22.6]
    runs = seeds("wwae", fid=ours) + seeds("vae_learned", fid=theirs)
    p = stats.ttest_ind(ours, theirs, equal_var=False).pvalue
    assert 0.05 / PLANNED < p < 0.05
    finding = verdict_on("fid-vaes", runs).findings[0]
    assert (finding.outcome, finding.p, finding.corrected) == (
        OPEN,
        pytest.approx(p),
        pytest.approx(PLANNED * p),
    )
    for dataset in ("fashion_mnist", "celeba"):
        runs += seeds("wwae", dataset, fid=WIDE) + seeds("vae_learned", dataset, fid=WIDE)
    assert verdict_on("fid-vaes", runs).findings[0].corrected == pytest.approx(PLANNED * p)
    counts = verdicts.test_counts(verdicts.verdicts(runs, {}))
    assert f"Of {PLANNED} primary tests that are planned, 3 could be made." in counts
    assert "Taken alone, 1 reaches significance at 5%" in counts and "are planned, 0 do." in counts


def test_data_sets_are_judged_apart():
    runs = seeds("wwae", fid=LOW) + seeds("vae_learned", fid=HIGH)
    runs += seeds("wwae", "celeba", fid=HIGH) + seeds("vae_learned", "celeba", fid=LOW)
    words = "holds on MNIST, contradicted on CelebA, not tested on Fashion-MNIST"
    assert verdict_on("fid-vaes", runs).verdict == words


def test_distances_by_different_protocols_do_not_compare():
    ours, theirs = seeds("wwae", fid=LOW), seeds("vae_learned", fid=HIGH)
    for run in (*ours, *theirs):
        run.record["evaluation"] = {"prior": {"protocol": "brief", "reference_sha256": "a"}}
    assert outcome("fid-vaes", ours + theirs) == HOLDS
    theirs[1].record["evaluation"] = {"prior": {"protocol": "full", "reference_sha256": "b"}}
    assert outcome("fid-vaes", ours + theirs) == UNTESTED
    assert "by one protocol" in verdicts.evidence(verdict_on("fid-vaes", ours + theirs))


def test_runs_of_other_variants_decide_nothing():
    runs = [made_up.run("wwae", seed, variant="lambda_1", fid=1.0 + seed) for seed in range(3)]
    assert verdict_on("fid-vaes", runs + seeds("vae_learned", fid=HIGH)).verdict == UNTESTED


def test_sharper_means_closer_to_the_data():
    data = [0.04] * 3

    def sharp(method, *values):
        return seeds(method, sharpness=list(values), sharpness_data=data)

    blurred, close, noisy = (0.010, 0.0101, 0.0102), (0.035, 0.0352, 0.0355), (0.400, 0.404, 0.405)

    def judged(ours, theirs):
        return outcome("sharpness", sharp("wwae", *ours) + sharp("vae_learned", *theirs))

    assert judged(close, blurred) == HOLDS
    assert judged(blurred, close) == judged(noisy, close) == CONTRADICTED
    assert judged(close, close) == TIE


# ---------------------------------------------------------------- equality


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        ([0.03, 0.031, 0.032], HOLDS),
        ([0.5, 0.51, 0.49], CONTRADICTED),
        ([-0.5, -0.51, -0.49], CONTRADICTED),
        ([0.02, 0.1, 0.06], OPEN),
        ([0.09, 0.11, 0.10], OPEN),
    ],
)
def test_gaussian_codes_are_an_equality_within_a_margin(nats, expected):
    runs = seeds("wwae", mixture_nats=[value - 0.01 for value in nats], mixture_nats_floor=[-0.01] * 3)
    (finding,) = verdict_on("gaussians", runs).findings
    assert finding.outcome == expected
    inside = max(
        stats.ttest_1samp(nats, -0.1, alternative="greater").pvalue,
        stats.ttest_1samp(nats, 0.1, alternative="less").pvalue,
    )
    outside = min(
        stats.ttest_1samp(nats, -0.1, alternative="less").pvalue,
        stats.ttest_1samp(nats, 0.1, alternative="greater").pvalue,
    )
    assert finding.p == pytest.approx(2 * min(inside, outside), rel=1e-6)


def test_gaussian_codes_of_a_single_seed_are_open():
    runs = [made_up.run("wwae", mixture_nats=0.03, mixture_nats_error=0.001, mixture_nats_floor=0.0)]
    (finding,) = verdict_on("gaussians", runs).findings
    assert finding.outcome == OPEN and math.isnan(finding.p), "and it leaves the count of tests"


def test_what_images_show_of_the_mixture_is_paired_and_has_no_vote():
    runs = seeds("wwae", fid_gaussian=[20.0, 30.0, 40.0], fid_mixture=[18.1, 28.0, 37.9])
    verdict = verdict_on("gaussians", runs)
    assert verdict.verdict == UNTESTED
    (finding,) = verdict.secondary
    assert finding.result.replace(GLUE, " ").startswith("+2.0 ±") and finding.basis == "3 seeds, paired"


# ---------------------------------------------------------------- times


def timed(dataset: str = "mnist", **seconds: list[float]) -> dict:
    steps = [{"dataset": dataset, "method": name, "seconds": value} for name, value in seconds.items()]
    environment = {"device": "cpu", "threads": 1}
    return {"penalty_benchmark": {"environment": environment, "measured": [], "steps": steps}}


QUICK, SLOW, NEAR = [1.0, 1.01, 1.02, 0.99], [1.3, 1.31, 1.33, 1.28], [1.05, 1.06, 1.06, 1.04]


@pytest.mark.parametrize(
    ("ours", "mmd", "swae", "expected"),
    [
        (QUICK, SLOW, SLOW, HOLDS),
        (SLOW, QUICK, SLOW, CONTRADICTED),
        (QUICK, SLOW, [1.01, 1.0, 1.02, 0.98], TIE),
        (QUICK, SLOW, [0.7, 1.2, 1.5, 0.9], OPEN),
    ],
)
def test_sampling_burden_is_a_whole_step_of_the_quickest_that_samples(ours, mmd, swae, expected):
    timings = timed(wwae=ours, wae_mmd=mmd, swae=swae, cwae=[0.1] * 4, ae=[0.1] * 4)
    verdict = verdict_on("sampling", [], timings)
    assert verdict.outcomes["MNIST"] == expected
    rival, seconds = min((("SWAE", swae), ("WAE-MMD", mmd)), key=lambda finding: np.median(finding[1]))
    (finding,) = verdict.findings
    assert finding.rival == rival
    assert finding.p == pytest.approx(stats.ttest_1samp(np.log(seconds) - np.log(ours), 0).pvalue, rel=1e-6)


def test_penalties_alone_are_secondary_with_the_cheap_ones_and_say_what_they_are():
    row = {"n": 100, "d": 8}
    names = (
        "w2_penalty",
        "mmd",
        "mmd_one_scale",
        "sliced",
        "sliced_10",
        "cramer_wold",
        "sinkhorn",
        "pythonot",
    )
    timings = timed()
    record = timings["penalty_benchmark"]
    record["measured"] = [row | {"method": name, "seconds": 2.0} for name in names]
    copies = [finding.rival for finding in verdict_on("sampling", [], timings).secondary]
    assert not any("MMD" in name for name in copies), "a copy that nobody trains with is no rival"
    record["environment"]["as_trained"] = True
    verdict = verdict_on("sampling", [], timings)
    assert verdict.verdict == UNTESTED
    assert len(verdict.secondary) == len(names) - 2
    assert "draws nothing" in verdict.secondary[-2].rival


@pytest.mark.parametrize(
    ("ours", "expected"), [(NEAR, HOLDS), (QUICK, HOLDS), (SLOW, CONTRADICTED), ([0.9, 1.2, 1.1, 1.3], OPEN)]
)
def test_efficiency_is_an_equality_on_one_side(ours, expected):
    timings = timed(wwae=ours, ae=QUICK, swae=[0.1] * 4)
    (finding,) = verdict_on("efficiency", [], timings).findings
    assert finding.outcome == expected
    logs = np.log(QUICK) - np.log(ours)
    sides = [stats.ttest_1samp(logs, -math.log(1.1), alternative=a).pvalue for a in ("less", "greater")]
    assert finding.p == pytest.approx(min(1, 2 * min(sides)), rel=1e-6)


def test_two_visits_decide_nothing():
    timings = timed(wwae=[1.0, 1.0], ae=[1.0, 1.0], swae=[9.0, 9.1])
    assert outcome("efficiency", [], timings) == outcome("sampling", [], timings) == OPEN


@pytest.mark.parametrize(
    ("share", "interval", "pairs", "expected"),
    [
        (0.02, (0.01, 0.03), 8, HOLDS),
        (0.40, (0.35, 0.45), 8, CONTRADICTED),
        (0.09, (0.04, 0.14), 8, OPEN),
        (0.02, (0.019, 0.021), 3, OPEN),
    ],
)
def test_without_a_record_of_whole_steps_pairs_beside_the_ae_are_judged(share, interval, pairs, expected):
    """And a rival that was not timed in pairs is open."""
    seconds = {"median": 0.1, "count": 3}
    where = {"dataset": "mnist", "network": "compact"}
    pair = {"share_of_pairs": share, "interval_95": interval, "pairs": pairs}
    pair |= {"ae_step_seconds": seconds, "wwae_step_seconds": seconds}
    steps = [where | {"method": name, "step_seconds": seconds} for name in ("wwae", "ae", "swae")]
    timings = {"performance": {"penalty": [where | pair], "steps": steps}}
    (finding,) = verdict_on("efficiency", [], timings).findings
    assert finding.outcome == expected
    assert outcome("sampling", [], timings) == OPEN
    timings |= timed(wwae=SLOW, ae=QUICK)
    assert outcome("efficiency", [], timings) == CONTRADICTED, "whole steps go before"
    timings |= timed("celeba", wwae=QUICK, ae=QUICK)
    assert outcome("efficiency", [], timings) == expected, "and leave to others what they leave out"
    assert outcome("efficiency", [], timings, "CelebA") == HOLDS


def test_times_are_not_asked_of_images_of_the_same_size_twice():
    verdict = verdict_on("efficiency", [], timed(wwae=QUICK, ae=QUICK))
    assert verdict.verdict == "holds on MNIST, not tested on CelebA"


def test_benchmarks_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path))
    assert verdicts.read_benchmarks() == {}
    (tmp_path / "performance.json").write_text('{"format": 1}')
    assert verdicts.read_benchmarks() == {"performance": {"format": 1}}


# ---------------------------------------------------------------- stability


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([20.0, 20.1, 19.9], [10.0, 20.0, 40.0], HOLDS),
        ([10.0, 20.0, 40.0], [20.0, 20.1, 19.9], CONTRADICTED),
        ([20.0, 20.5, 19.5], [20.0, 21.0, 19.0], OPEN),
    ],
)
def test_stability_by_the_ratio_of_spreads(ours, theirs, expected):
    # the FID's claim on the same runs is a test of its own, which Holm's correction counts
    runs = seeds("wwae", fid=ours) + seeds("gan", fid=theirs)
    (finding,) = verdict_on("stability", runs).findings
    f = stats.tvar([math.log(x) for x in theirs]) / stats.tvar([math.log(x) for x in ours])
    assert finding.p == pytest.approx(2 * min(stats.f.cdf(f, 2, 2), stats.f.sf(f, 2, 2)), rel=1e-6)
    assert finding.outcome == expected


def test_one_seed_says_nothing_of_stability():
    runs = [*seeds("wwae", fid=LOW), made_up.run("gan", fid=90.0, fid_error=0.1)]
    assert outcome("stability", runs) == OPEN


# ---------------------------------------------------------------- words


def test_the_page_says_what_was_found():
    runs = seeds("wwae", fid=LOW) + seeds("vae_learned", fid=HIGH) + seeds("gan", fid=[5.0, 5.1, 4.9])
    every = verdicts.verdicts(runs, {})
    row = next(line for line in verdicts.table(every).splitlines() if "#verdict-fid-vaes" in line)
    assert "**holds on MNIST, not tested on Fashion-MNIST and CelebA**" in row
    expected = stats.ttest_ind(LOW, HIGH, equal_var=False)
    half = expected.confidence_interval().high - (sum(LOW) - sum(HIGH)) / 3
    assert f"{(sum(LOW) - sum(HIGH)) / 3:.1f} ± {half:.1f}".replace(" ", GLUE) in row
    assert "- better FID than GANs: **contradicted on MNIST" in verdicts.summary(every)
    text = verdicts.evidence(every["fid-gans"])
    assert "Not tested on Fashion-MNIST and CelebA" in text
    assert "Verdict: **contradicted on MNIST, not tested on Fashion-MNIST and CelebA**." in text


def test_the_page_says_why_the_rival_is_the_fair_one(monkeypatch):
    monkeypatch.setattr(selection, "CHOSEN", {"mnist/vae_learned": {"penalty_weight": 3.0}})
    runs = seeds("vae", squared_error=[1.0]) + seeds("vae_learned", squared_error=[784 * 0.015])
    assert "no trial has chosen" not in verdicts.why_these_rivals(runs)
    runs += seeds("vae_learned", "celeba", squared_error=[100.0])
    assert "On CelebA no trial has chosen its weight yet" in verdicts.why_these_rivals(runs)
    words = verdicts.why_these_rivals(runs)
    assert "takes a variance of 0.5 for each pixel" in words
    assert "miss it by 0.015 on average" in words
