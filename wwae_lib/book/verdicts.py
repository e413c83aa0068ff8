"""Which claims of the paper's abstract hold? Verdicts computed from records by one rule, stated here.

Each claim has one primary measure, one rival and, where a tie or an equality is in question, one margin.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scipy.special import fdtr, fdtri, ndtri

from ..data import DATASETS
from ..methods import METHODS
from ..runs import Run, results_root
from . import selection
from .tables import GLUE, METRICS, Contest, cell, contests, counted, enumeration, markdown, plus_minus
from .uncertainty import (
    LEVEL,
    SEVERAL,
    Difference,
    Measured,
    difference,
    explained,
    holm,
    over_seeds,
    paired,
    protocols,
    ratio,
)

__all__ = [
    "ABSTRACT",
    "CLAIMS",
    "DEFAULT_RIVAL",
    "OUTCOMES",
    "PENALTIES",
    "RULE",
    "Claim",
    "Effect",
    "Finding",
    "Verdict",
    "evidence",
    "penalties_timed",
    "read_benchmarks",
    "summary",
    "table",
    "test_counts",
    "verdicts",
    "why_these_rivals",
]

# Word for word, slips included, as the paper's page at arxiv.org/abs/1902.09323 gives it.
ABSTRACT = (
    "To address the challenges in learning deep generative models (e.g.,the blurriness of variational "
    "auto-encoder and the instability of training generative adversarial networks, we propose a novel deep "
    "generative model, named Wasserstein-Wasserstein auto-encoders (WWAE). We formulate WWAE as minimization "
    "of the penalized optimal transport between the target distribution and the generated distribution. By "
    "noticing that both the prior P_Z and the aggregated posterior Q_Z of the latent code Z can be well "
    "captured by Gaussians, the proposed WWAE utilizes the closed-form of the squared Wasserstein-2 distance "
    "for two Gaussians in the optimization process. As a result, WWAE does not suffer from the sampling "
    "burden and it is computationally efficient by leveraging the reparameterization trick. Numerical "
    "results evaluated on multiple benchmark datasets including MNIST, fashion- MNIST and CelebA show that "
    "WWAE learns better latent structures than VAEs and generates samples of better visual quality and "
    "higher FID scores than VAEs and GANs."
)
# What is said of a claim on one data set; in this order where data sets differ.
HOLDS, CONTRADICTED, TIE, OPEN, UNTESTED = OUTCOMES = (
    "holds",
    "contradicted",
    "a tie",
    "open",
    "not tested",
)
RULE = (
    "Each claim has one primary measure, one rival, and one test for each data set. They are written down "
    "in the library, and were chosen with the book's first runs in sight, of a few epochs, and before the "
    "long ones. Other measures and rivals stand beside them as secondary evidence, without a vote.\n\nOn a "
    "data set the claim **holds**, or is **contradicted**, where the difference is more than chance "
    f"explains: where the p-value of its two-sided test is at most {1 - LEVEL:.0%} after Holm's "
    "correction {cite:p}`holm1979` for all primary tests of all claims together, those included that cannot "
    "be made yet. Differences of methods are tested over seeds by Welch's test {cite:p}`welch1947` with "
    "Satterthwaite's degrees of freedom, and spreads over seeds by the F test, which takes logarithms of "
    "FIDs to be normal. Times of a step are tested by Student's test of the logarithms of ratios, paired by "
    "visits on one machine; they speak of that machine alone. A claim of equality names a margin, and is "
    "judged by two one-sided tests {cite:p}`schuirmann1987`: it holds where the difference lies surely "
    "within the margin, and is contradicted where it lies surely outside. Its p-value here is twice that of "
    "the weaker of the two, so that it compares with the two-sided ones. Where a claim of superiority is "
    "neither, it is **a tie** if the whole 95% interval of the difference, without a correction, lies within "
    "a margin, which is named too; else it is **open**. A method with fewer than "
    f"{'three' if SEVERAL == 3 else SEVERAL} seeds cannot decide anything: the test stays open. What no "
    "record tells is **not tested**."
)

# The rival of each family, and all its members.
DEFAULT_RIVAL = {"VAEs": "vae_learned", "GANs": "gan"}
FAMILIES = {"VAEs": ("vae_learned", "vae", "vae_bernoulli"), "GANs": ("gan", "wgan_gp")}
# Margins: what counts as no difference.
SHARE = 0.1  # of the rival's value, where differences are read as shares of it
ACCURACY = 0.01  # one image in a hundred
LOGARITHM = 0.1  # of a sharpness, about a tenth of it
NATS = 0.1  # a code is exp(0.1) = 1.1 times as likely on geometric average


class Effect(NamedTuple):
    """The number behind a finding, as a figure draws it.

    Attributes:
        value: the estimate: a difference, or the logarithm of a ratio.
        low: lower end of its 95% interval; nan where there is none.
        high: upper end.
        holds: the values of which the claim is true, an open interval.
        margin: half the width of the differences that count as none; 0 where no margin is named.
        scale: what the number is, in words.
        logarithmic: whether it is the logarithm of a ratio.
    """

    value: float
    low: float
    high: float
    holds: tuple[float, float]
    margin: float = 0.0
    scale: str = ""
    logarithmic: bool = False


class Finding(NamedTuple):
    """One test of a claim, or one piece of secondary evidence.

    Attributes:
        setting: the data set, or another circumstance.
        question: the measure.
        ours: the WWAE's side as text.
        rival: who the other side is.
        theirs: the other side as text.
        result: the effect and its 95% interval, as a difference.
        ratio: the same, as a ratio.
        basis: where the interval is from.
        p: two-sided; nan where there are too few seeds for a test.
        leans: the outcome if the test is significant.
        tie: whether the interval lies within the margin of a tie.
        corrected: p after Holm.
        outcome: one of ``OUTCOMES``.
        effect: the number itself, where there is one.
    """

    setting: str
    question: str
    ours: str
    rival: str
    theirs: str
    result: str
    ratio: str
    basis: str
    p: float = math.nan
    leans: str = OPEN
    tie: bool = False
    corrected: float = math.nan
    outcome: str = OPEN
    effect: Effect | None = None


Tests = Callable[[Sequence[Run], Mapping[str, Any]], Iterator[Finding]]


class Claim(NamedTuple):
    """A statement of the abstract, and how it is judged.

    Attributes:
        name: in short.
        quote: word for word.
        reading: as we read it.
        measure: the primary measure, with rival and margin.
        reason: why this one.
        link: where on the page of the comparison all numbers stand.
        primary: gives at most one finding for each place.
        secondary: gives findings without a vote.
        places: where the claim is put to the test.
    """

    name: str
    quote: str
    reading: str
    measure: str
    reason: str
    link: str
    primary: Callable[[Sequence[Run], Mapping[str, Any]], Iterator[Finding]]
    secondary: Callable[[Sequence[Run], Mapping[str, Any]], Iterator[Finding]]
    places: tuple[str, ...] = tuple(row.title for row in DATASETS.values())


class Verdict(NamedTuple):
    """A claim, its primary findings with their outcomes, the secondary ones, and the verdict in words."""

    claim: Claim
    findings: tuple[Finding, ...]
    secondary: tuple[Finding, ...]
    verdict: str

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome in each place."""
        tested = {finding.setting: finding.outcome for finding in self.findings}
        return tested | {
            place: UNTESTED
            for place in self.claim.places
            if not any(setting.startswith(place) for setting in tested)
        }


def verdicts(runs: Sequence[Run], timings: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdict on each claim of ``CLAIMS``, by its key.

    Args:
        runs: the records to judge by; variants that belong to no comparison are left aside.
        timings: what the benchmarks recorded (:func:`read_benchmarks`); may be empty.
    """
    made = {
        key: Verdict(claim, tuple(claim.primary(runs, timings)), tuple(claim.secondary(runs, timings)), "")
        for key, claim in CLAIMS.items()
    }
    # Which tests there are does not depend on the records: one that cannot be made yet counts as one that
    # shows nothing.
    p = [1.0 if math.isnan(one.p) else one.p for verdict in made.values() for one in verdict.findings]
    missing = sum(list(verdict.outcomes.values()).count(UNTESTED) for verdict in made.values())
    corrected, judged = iter(holm(p + [1.0] * missing)), {}
    for key, verdict in made.items():
        findings = tuple(_judged(finding, next(corrected)) for finding in verdict.findings)
        verdict = verdict._replace(findings=findings)
        judged[key] = verdict._replace(verdict=_in_words(verdict.outcomes))
    return judged


def _judged(finding: Finding, corrected: float) -> Finding:
    """``RULE``, on one data set."""
    if math.isnan(finding.p):
        return finding
    outcome = finding.leans if corrected <= 1 - LEVEL else TIE if finding.tie else OPEN
    return finding._replace(corrected=corrected, outcome=outcome)


def _in_words(outcomes: Mapping[str, str]) -> str:
    """The verdict of all places: one word where they agree, else each outcome with its places."""
    if len(set(outcomes.values())) == 1:
        return next(iter(outcomes.values()))
    short = {place.replace(", reference", " (reference") + ")" * ("," in place): place for place in outcomes}
    return ", ".join(
        f"{outcome} on {enumeration([name for name, place in short.items() if outcomes[place] == outcome])}"
        for outcome in OUTCOMES
        if outcome in outcomes.values()
    )


def read_benchmarks() -> dict[str, Any]:
    """Recorded timings by the name of their file, ``penalty_benchmark`` and ``performance``, if there."""
    paths = [results_root() / f"{name}.json" for name in ("penalty_benchmark", "performance")]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()}


# ---------------------------------------------------------------- effects


def _effect(gap: Difference, form: str) -> str:
    return plus_minus(gap.value, gap.half, form, "+")


def _times(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A ratio and its 95% interval, in words."""
    return f"{value:.2f} times" + ("" if math.isnan(low) else f" ({low:.2f} to {high:.2f})")


def _power(exponent: float) -> str:
    """The exponential of a number, as a power where it is too large to be read."""
    return f"{math.exp(exponent):.2f}" if abs(exponent) < math.log(1000) else f"$e^{{{exponent:.1f}}}$"


def _superior(finding: Finding, gap: Difference, better: str, margin: float = 0.0) -> Finding:
    """The two-sided test of no difference, and whether it is a tie within the margin."""
    for_us = (gap.value < 0) == (better == "lower")
    p = 2 * min(gap.below(0), gap.above(0))
    return finding._replace(p=min(1.0, p), leans=HOLDS if for_us else CONTRADICTED, tie=gap.within(margin))


def _equal(finding: Finding, gap: Difference, low: float, high: float) -> Finding:
    """Two one-sided tests (Schuirmann 1987) that the difference lies within, and two that it lies outside."""
    inside = max(gap.above(low), gap.below(high))
    outside = min(gap.below(low), gap.above(high))
    leans = HOLDS if inside < outside else CONTRADICTED
    return finding._replace(p=min(1.0, 2 * min(inside, outside)), leans=leans)


# ---------------------------------------------------------------- metrics of runs


def _better_than(family: str, key: str, margin: Callable[[float], float]) -> Tests:
    """The WWAE against the family's default rival, in one metric."""

    def tests(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
        for contest in contests(runs):
            values = contest.measured(key)
            if comparison := _compared(contest, key, DEFAULT_RIVAL[family]):
                finding, gap = comparison
                theirs = values[DEFAULT_RIVAL[family]]
                allowed = margin(abs(theirs.mean))
                finding = finding._replace(effect=finding.effect._replace(margin=allowed))
                if min(values["wwae"].seeds, theirs.seeds) >= SEVERAL:
                    finding = _superior(finding, gap, METRICS[key].better, allowed)
                yield finding

    return tests


def _beside(family: str, *keys: str) -> Tests:
    """All measures against all members of a family, less the primary test, whose measure is the first."""

    def evidence(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
        for contest in contests(runs):
            for key in keys:
                for name in FAMILIES[family]:
                    primary = key == keys[0] and name == DEFAULT_RIVAL[family]
                    if not primary and (comparison := _compared(contest, key, name)):
                        finding, gap = comparison
                        values = contest.measured(key)
                        tested = min(values[side].seeds for side in ("wwae", name)) >= SEVERAL
                        yield _superior(finding, gap, METRICS[key].better) if tested else finding

    return evidence


def _compared(contest: Contest, key: str, name: str) -> tuple[Finding, Difference] | None:
    """The WWAE's metric and another method's, with the difference, where both have it by one protocol."""
    values, metric = contest.measured(key), METRICS[key]
    if not ({"wwae", name} <= values.keys() and _alike(contest, key, name)):
        return None
    ours, theirs = values["wwae"], values[name]
    gap, quotient = difference(ours, theirs, contest.spread(key)), ratio(ours, theirs)
    if abs(theirs.mean) <= 2 * theirs.error:  # a ratio to what may be 0 says nothing
        quotient = None
    finding = Finding(
        contest.title,
        f"{metric.label} ({metric.better} is better)",
        cell(ours, metric),
        METHODS[name].title,
        cell(theirs, metric),
        _effect(gap, metric.form),
        _times(*quotient) if quotient else "-",
        _based(gap),
        effect=Effect(
            *(gap.value, gap.value - gap.half, gap.value + gap.half),
            (-math.inf, 0) if metric.better == "lower" else (0, math.inf),
            scale=f"{metric.label}: WWAE less {METHODS[name].title}",
        ),
    )
    return finding, gap


def _based(gap: Difference) -> str:
    """Where an interval is from, with the degrees of freedom of Student's law where it is that."""
    return gap.basis + ("" if math.isinf(gap.freedom) else f", {gap.freedom:.1f} degrees of freedom")


def _alike(contest: Contest, key: str, name: str) -> bool:
    """Whether all runs of the WWAE and of another method have a metric by one protocol."""
    return len(protocols([*contest.methods["wwae"], *contest.methods[name]], key)) < 2


def _share_of(rival: float) -> float:
    return SHARE * rival


def _fixed(margin: float) -> Callable[[float], float]:
    return lambda rival: margin


def _gaussian_codes(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """What a mixture of ten gains over one Gaussian, beyond what it gains on exact Gaussian draws."""
    metric = METRICS["mixture_excess"]
    for contest in contests(runs):
        if ours := contest.measured("mixture_excess").get("wwae"):
            gap = over_seeds(ours.values, f"seed{'s' * (ours.seeds > 1)}")
            finding = Finding(
                contest.title,
                f"{metric.label} (within {NATS:g} counts as none)",
                cell(ours, metric),
                "exact draws",
                "0",
                _effect(gap, metric.form),
                f"a code is {_power(gap.value)} times as likely",
                gap.basis,
                effect=Effect(
                    *(gap.value, gap.value - gap.half, gap.value + gap.half),
                    (-NATS, NATS),
                    scale="nats per code that a mixture gains over one Gaussian",
                ),
            )
            yield _equal(finding, gap, -NATS, NATS) if ours.seeds >= SEVERAL else finding


def _beside_gaussian_codes(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """Other methods' codes by the same measure; and whether images show the difference."""
    for contest in contests(runs):
        for name in contest.methods:
            if name != "wwae" and (comparison := _compared(contest, "mixture_excess", name)):
                yield comparison[0]
        ours = contest.methods.get("wwae", ())
        if gap := paired(ours, "fid_gaussian", "fid_mixture"):
            both = [run for run in ours if {"fid_gaussian", "fid_mixture"} <= run.metrics.keys()]
            contest_of_both = Contest(contest.title, contest.dataset, {"wwae": both})
            gaussian, mixture = (
                contest_of_both.measured(key)["wwae"] for key in ("fid_gaussian", "fid_mixture")
            )
            yield Finding(
                contest.title,
                "FID by a Gaussian fitted to the codes, and by a mixture of ten",
                cell(gaussian, METRICS["fid"]),
                "mixture",
                cell(mixture, METRICS["fid"]),
                _effect(gap, METRICS["fid"].form),
                _times(gaussian.mean / mixture.mean),
                gap.basis,
            )


def _steadier(*rivals: str) -> Tests:
    """How much the FID's logarithm varies over seeds, by Fisher's test of a ratio of variances."""

    def tests(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
        for contest in contests(runs):
            values = contest.measured("fid")
            for name in rivals:
                if {"wwae", name} <= values.keys() and _alike(contest, "fid", name):
                    yield _spread_ratio(contest.title, values["wwae"], name, values[name])

    return tests


def _spread_ratio(setting: str, ours: Measured, name: str, theirs: Measured) -> Finding:
    question, seeds = "relative spread of the FID over seeds", f"{ours.seeds} and {theirs.seeds} seeds"
    if min(ours.seeds, theirs.seeds) < SEVERAL:
        return Finding(setting, question, "-", METHODS[name].title, "-", "-", "-", seeds)
    first, second = (statistics.stdev(map(math.log, side.values)) for side in (ours, theirs))
    quotient = second / first if first else math.inf
    freedom = theirs.seeds - 1, ours.seeds - 1
    low, high = (quotient / math.sqrt(fdtri(*freedom, p)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    below = float(fdtr(*freedom, quotient**2)) if first else 1.0
    return Finding(
        setting,
        question,
        f"{first:.1%}",
        METHODS[name].title,
        f"{second:.1%}",
        f"{100 * (first - second):+.1f} points",
        f"theirs is {_times(quotient, low, high)}",
        f"{seeds}, F",
        p=2 * min(below, 1 - below),
        leans=HOLDS if quotient > 1 else CONTRADICTED,
        effect=Effect(
            *map(_logarithm, (quotient, low, high)),
            (0, math.inf),
            scale=f"spread of the FID over seeds: {METHODS[name].title} over WWAE",
            logarithmic=True,
        ),
    )


# ---------------------------------------------------------------- times


Steps = dict[str, dict[str, list[float]]]


def _steps(timings: Mapping[str, Any]) -> Steps:
    """Seconds of a step of training by data set and method: one number for each visit of a round.

    The record of whole steps is that of tools/benchmark_penalty.py. For a data set that it leaves out,
    medians of tools/benchmark.py stand in, a single number each, which nothing can be tested by.
    """
    visited, medians = {}, {}
    for entry in timings.get("penalty_benchmark", {}).get("steps", ()):
        visited.setdefault(DATASETS[entry["dataset"]].title, {})[entry["method"]] = entry["seconds"]
    for entry in timings.get("performance", {}).get("steps", ()):
        if entry["network"] == "compact":
            seconds = [entry["step_seconds"]["median"]]
            medians.setdefault(DATASETS[entry["dataset"]].title, {})[entry["method"]] = seconds
    return medians | visited


def _step(
    setting: str, ours: Sequence[float], name: str, theirs: Sequence[float]
) -> tuple[Finding, Difference]:
    """The logarithm of a ratio of times, theirs over ours; visits are paired."""
    if len(ours) == 1:
        gap = Difference(math.log(theirs[0] / ours[0]), math.nan, math.inf, "medians, no pairs", False)
    else:
        gap = over_seeds([math.log(b / a) for a, b in zip(ours, theirs, strict=True)], "pairs of visits")
    return _in_time(setting, statistics.median(ours), name, statistics.median(theirs), gap), gap


def _logarithm(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _longer(gap: Difference) -> str:
    """How much longer ours takes, with its 95% interval, from the logarithm of theirs over ours."""
    value, *ends = (math.expm1(-gap.value + sign * gap.half) for sign in (0, -1, 1))
    if math.isnan(gap.half):
        return f"{math.expm1(-gap.value):+.1%}"
    return f"{value:+.1%} ({ends[0]:+.1%} to {ends[1]:+.1%})"


def _in_time(setting: str, ours: float, name: str, theirs: float, gap: Difference) -> Finding:
    ends = [math.exp(gap.value + sign * gap.half) for sign in (-1, 1)]
    return Finding(
        setting,
        "time of a step of training",
        f"{1e3 * ours:.1f} ms",
        METHODS[name].title,
        f"{1e3 * theirs:.1f} ms",
        _longer(gap),
        f"theirs is {_times(math.exp(gap.value), *ends)}",
        gap.basis,
        effect=Effect(
            *(gap.value, gap.value - gap.half, gap.value + gap.half),
            (0, math.inf),
            scale=f"time of a step of training: {METHODS[name].title} over WWAE",
            logarithmic=True,
        ),
    )


PAIRS = 6  # fewer could not reach 5% even if they all agreed: 2 / 2**6 = 3%
SAMPLED = ("swae", "wae_mmd")  # their penalties compare the codes with draws of the prior
PENALTIES = {
    "sliced": "sliced W2, 50 directions (SWAE)",
    "sliced_10": "sliced W2, 10 directions",
    "mmd": "MMD, seven scales (WAE-MMD)",
    "mmd_one_scale": "MMD, one scale",
    "sinkhorn": "Sinkhorn divergence",
    "cramer_wold": "Cramer-Wold (CWAE), which draws nothing",
}


def _saves_time(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """A whole step against that of the quickest method that samples, chosen in its own favour."""
    for setting, seconds in _steps(timings).items():
        rivals = [name for name in SAMPLED if name in seconds]
        if "wwae" in seconds and rivals:
            name = min(rivals, key=lambda rival: statistics.median(seconds[rival]))
            finding, gap = _step(setting, seconds["wwae"], name, seconds[name])
            finding = finding._replace(effect=finding.effect._replace(margin=math.log(1 + SHARE)))
            tested = gap.over_seeds
            yield _superior(finding, gap, "higher", math.log(1 + SHARE)) if tested else finding


def _penalties_beside(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """Other methods' steps; and the penalty alone with its gradient, against others of the same codes."""
    for setting, seconds in _steps(timings).items():
        for name in (*SAMPLED, "cwae"):
            if {"wwae", name} <= seconds.keys():
                yield _step(setting, seconds["wwae"], name, seconds[name])[0]
    record = timings.get("penalty_benchmark", {})
    seconds = {
        (timing["n"], timing["d"], timing["method"]): timing["seconds"]
        for timing in record.get("measured", ())
    }
    for (n, d, method), theirs in seconds.items():
        if method in penalties_timed(record) and (ours := seconds.get((n, d, "w2_penalty"))):
            yield Finding(
                f"n = {n:,}, d = {d}",
                "time of the penalty with its gradient, n codes of dimension d",
                f"{1e3 * ours:.2f} ms",
                PENALTIES[method],
                f"{1e3 * theirs:.2f} ms",
                f"{1e3 * (ours - theirs):+.2f} ms",
                f"theirs is {_times(theirs / ours)}",
                f"medians, {record['environment']['device']}, {_threads(record)}",
            )


def _threads(record: Mapping[str, Any]) -> str:
    n = record["environment"]["threads"]
    return f"{n} thread{'s' * (n != 1)}"


def penalties_timed(record: Mapping[str, Any]) -> dict[str, str]:
    """Which rivals of the penalty a record timed as they train, and what they are called.

    An older record timed a copy of the maximum mean discrepancy that no method trains with, and that is
    slower; it is left aside.
    """
    timed = {timing["method"] for timing in record.get("measured", ())}
    trained = record.get("environment", {}).get("as_trained")
    return {
        name: words for name, words in PENALTIES.items() if name in timed and (trained or name == "sinkhorn")
    }


def _no_slower(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """A whole step with the penalty against one without."""
    findings = {pair.setting: pair for pair in _recorded_pairs(timings.get("performance", {}))}
    for setting, seconds in _steps(timings).items():
        if {"wwae", "ae"} <= seconds.keys() and len(seconds["wwae"]) > 1:
            finding, gap = _step(setting, seconds["wwae"], "ae", seconds["ae"])
            findings[setting] = _no_longer(finding, gap) if gap.over_seeds else finding
    longest = -math.log(1 + SHARE)
    for pair in findings.values():
        yield pair._replace(effect=pair.effect._replace(holds=(longest, math.inf)))


def _no_longer(finding: Finding, gap: Difference) -> Finding:
    """Theirs over ours: no less than the margin, and as much more as it likes."""
    return _equal(finding, gap, -math.log(1 + SHARE), math.inf)


def _recorded_pairs(record: Mapping[str, Any]) -> Iterator[Finding]:
    """Steps side by side of tools/benchmark.py, whose bootstrap interval stands for an error."""
    for pairs in record.get("penalty", ()):
        low, high = (math.log1p(share) for share in pairs["interval_95"])
        error = (high - low) / 2 / float(ndtri((1 + LEVEL) / 2))
        basis = f"{pairs['pairs']} pairs, bootstrap"
        gap = Difference(-math.log1p(pairs["share_of_pairs"]), error, pairs["pairs"] - 1, basis)
        ours, theirs = pairs["wwae_step_seconds"]["median"], pairs["ae_step_seconds"]["median"]
        finding = _in_time(DATASETS[pairs["dataset"]].title, ours, "ae", theirs, gap)
        yield _no_longer(finding, gap) if pairs["pairs"] >= PAIRS else finding


def _steps_beside(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    for setting, seconds in _steps(timings).items():
        for name in seconds:
            if name not in ("wwae", "ae") and "wwae" in seconds:
                yield _step(setting, seconds["wwae"], name, seconds[name])[0]


# ---------------------------------------------------------------- the claims


CHALLENGES = (
    "To address the challenges in learning deep generative models (e.g.,the blurriness of variational "
    "auto-encoder and the instability of training generative adversarial networks"
)
BETTER = "generates samples of better visual quality and higher FID scores than VAEs and GANs"
TENTH = f"a difference of less than {SHARE:.0%} of the rival's value is a tie"
OF_SIZES = (DATASETS["mnist"].title, DATASETS["celeba"].title)  # Fashion-MNIST's images have MNIST's size
VAE, GAN = (METHODS[DEFAULT_RIVAL[family]].title for family in ("VAEs", "GANs"))
DENSITY = (
    "Visual quality is how real an image looks, and not whether all kinds of images are there. Of the "
    "measures of fidelity, density is the one that single outliers among the real images do not move "
    "{cite:p}`naeem2020`, and it is not the FID again, which is a claim of its own."
)
CLAIMS = {
    "gaussians": Claim(
        "Gaussian codes",
        "both the prior P_Z and the aggregated posterior Q_Z of the latent code Z can be well captured by "
        "Gaussians",
        "The prior is Gaussian by choice; in question is the aggregated posterior of a trained WWAE. This "
        "is a claim of equality.",
        "nats per code that a mixture of ten Gaussians gains over one on held-out codes, less the same of "
        f"exact Gaussian draws; the margin is {NATS:g} nats, with which a code is {math.exp(NATS):.2f} "
        "times as likely",
        "It says how much one Gaussian misses, and not what that costs new images, for which secondary "
        "evidence stands below. A test of normality cannot say it: with ten thousand codes it rejects every "
        "law that a network makes, by however little.",
        "latent",
        _gaussian_codes,
        _beside_gaussian_codes,
    ),
    "sampling": Claim(
        "no sampling burden",
        "WWAE does not suffer from the sampling burden",
        "The penalty draws no sample of the prior and, by the law of total covariance, none of the codes. "
        "That is so by construction. In question is whether the draws are a burden to those who need them: "
        "whether a whole step of training takes them longer. The moments still come from a batch, and err "
        "as {doc}`objective` says.",
        "time of a whole step of training, against the quickest of the methods whose penalty samples "
        f"({enumeration([METHODS[name].title for name in SAMPLED])}); "
        f"a ratio within {1 + SHARE:g} either way is a tie",
        "A burden is felt in training as a whole. The penalty alone can be made to look quick or slow by the "
        "choice of its rival.",
        "cost",
        _saves_time,
        _penalties_beside,
        OF_SIZES,
    ),
    "efficiency": Claim(
        "computational efficiency",
        "it is computationally efficient by leveraging the reparameterization trick",
        "We read it as: training a WWAE takes hardly longer than training without any penalty. All methods "
        "here use the "
        "reparameterization trick or need none, so that what it contributes is not tested. This is a claim "
        "of equality, on one side.",
        f"time of a whole step of training, against the {METHODS['ae'].title} without penalty; the margin is "
        f"a ratio of {1 + SHARE:g}",
        "The auto-encoder without penalty is what every one of these methods must at least compute.",
        "cost",
        _no_slower,
        _steps_beside,
        OF_SIZES,
    ),
    "latent": Claim(
        "better latent structure than VAEs",
        "WWAE learns better latent structures than VAEs",
        "We read it as: its codes tell the classes apart better than a VAE's. No method was told them. For "
        "faces the attributes of CelebA would be the classes; the images at hand come without them.",
        f"accuracy of the five nearest neighbours on the codes, against the {VAE}; a difference of less than "
        f"{ACCURACY:g} is a tie",
        "Structure is which codes are near each other. A vote of neighbours asks just that, whatever the "
        "shape of the classes and the scale of the codes.",
        "latent",
        _better_than("VAEs", "knn_accuracy", _fixed(ACCURACY)),
        _beside("VAEs", "knn_accuracy", "linear_accuracy", "sliced_w2_squared"),
    ),
    "quality-vaes": Claim(
        "better visual quality than VAEs",
        BETTER,
        "No measure is a pair of eyes.",
        f"density of prior samples, against the {VAE}; {TENTH}",
        DENSITY,
        "quality",
        _better_than("VAEs", "density", _share_of),
        _beside("VAEs", "density", "precision", "kid"),
    ),
    "fid-vaes": Claim(
        "better FID than VAEs",
        BETTER,
        "We take higher to mean better, which for a Fréchet inception distance is lower.",
        f"FID of prior samples, against the {VAE}; {TENTH}",
        "The claim names it.",
        "fid",
        _better_than("VAEs", "fid", _share_of),
        _beside("VAEs", "fid"),
    ),
    "quality-gans": Claim(
        "better visual quality than GANs",
        BETTER,
        "The abstract makes the claim about VAEs and GANs together. The two methods are not set alike: "
        "[the section on rivals](#verdict-rivals) has what differs.",
        f"density of prior samples, against the {GAN}; {TENTH}",
        DENSITY,
        "quality",
        _better_than("GANs", "density", _share_of),
        _beside("GANs", "density", "precision", "kid"),
    ),
    "fid-gans": Claim(
        "better FID than GANs",
        BETTER,
        "We take higher to mean better here too. The two methods are not set alike: [the section on "
        "rivals](#verdict-rivals) has what differs.",
        f"FID of prior samples, against the {GAN}; {TENTH}",
        "The claim names it.",
        "fid",
        _better_than("GANs", "fid", _share_of),
        _beside("GANs", "fid"),
    ),
    "sharpness": Claim(
        "sharper than VAEs",
        CHALLENGES,
        "The abstract names blurriness as a challenge, and does not say that the WWAE overcomes it. We read "
        "it as a claim that the sharpness of its new images is nearer to that of the data than the "
        "sharpness of a VAE's.",
        "distance, on a logarithmic scale, of the sharpness of prior samples from that of test images, "
        f"against the {VAE}; a difference of less than {LOGARITHM:g} is a tie",
        "Blur lowers the variance of the Laplacian and noise raises it. The distance from the data "
        "punishes both.",
        "quality",
        _better_than("VAEs", "sharpness_gap", _fixed(LOGARITHM)),
        _beside("VAEs", "sharpness_gap", "sharpness_reconstruction_gap"),
    ),
    "stability": Claim(
        "more stable than GANs",
        CHALLENGES,
        "The abstract names instability as a challenge, and does not say that the WWAE overcomes it. We "
        "read it as a claim that the results of its training differ less from seed to seed than those of a "
        "GAN.",
        f"standard deviation of the logarithm of the FID over seeds, against the {GAN}",
        "It is the spread relative to the size of the FID. Three seeds tell only very different spreads "
        "apart.",
        "fid",
        _steadier(DEFAULT_RIVAL["GANs"]),
        _steadier(*FAMILIES["GANs"][1:]),
    ),
}


# ---------------------------------------------------------------- words


def why_these_rivals(runs: Sequence[Run]) -> str:
    """Why the claims on VAEs and GANs name the rivals that they name."""
    fixed, learned = (METHODS[name].title for name in ("vae", DEFAULT_RIVAL["VAEs"]))
    lines = [
        f"Of the VAEs, the rival is the {learned}. The {fixed} has a decoder of a fixed variance: a weight "
        "of the KL term that nobody derived from the data. Where this variance is far above what "
        "reconstructions miss, the VAE blurs by choice, and to win against it says nothing of W2. The "
        "learned variance is the one that the likelihood asks for. Its weight is still a choice."
    ]
    rival = DEFAULT_RIVAL["VAEs"]
    judged = {
        contest.title: contest.methods[rival][0].experiment.penalty_weight
        for contest in contests(runs)
        if rival in contest.methods
    }
    for dataset, row in DATASETS.items():
        preferred = selection.CHOSEN.get(f"{dataset}/{rival}", {}).get("penalty_weight", 1.0)
        if preferred != 1 and (places := [title for title, weight in judged.items() if weight == preferred]):
            lines.append(
                f"The trials on {row.title} ({{doc}}`selection`) find a lower FID at a weight of "
                f"{preferred:g}, with which the loss is no longer a likelihood. The runs that are judged "
                f"here have that weight on {enumeration(places)}."
            )
    if untried := [
        contest.title
        for contest in contests(runs)
        if contest.title in judged and not selection.chosen_on(contest.dataset, rival)
    ]:
        lines.append(
            f"On {enumeration(untried)} no trial has chosen its weight yet, and another may do far better."
        )
    numbers = []
    for contest in contests(runs):
        weights = {run.experiment.penalty_weight for run in contest.methods.get("vae", ())}
        missed = contest.measured("squared_error").get(DEFAULT_RIVAL["VAEs"])
        if len(weights) == 1 and missed:
            pixels = math.prod(DATASETS[contest.dataset].shape)
            numbers.append(
                f"On {contest.title} the {fixed} takes a variance of {weights.pop() / 2:g} for each pixel; "
                f"the reconstructions of the {learned} miss it by {missed.mean / pixels:.3f} on average."
            )
    paragraphs = lines, [*numbers, *_weaker_rival(runs)], [_unlike_gans(runs)]
    return "\n\n".join(" ".join(some) for some in paragraphs if some)


def _weaker_rival(runs: Sequence[Run]) -> Iterator[str]:
    """Where another VAE than the rival is ahead of the WWAE, by the FID of prior samples."""
    for contest in contests(runs):
        values = contest.measured("fid")
        for name in FAMILIES["VAEs"][1:]:
            if {name, "wwae", DEFAULT_RIVAL["VAEs"]} <= values.keys() and values[name].mean < min(
                values["wwae"].mean, values[DEFAULT_RIVAL["VAEs"]].mean
            ):
                seeds = "one seed" if values[name].seeds == 1 else f"{values[name].seeds} seeds"
                yield (
                    f"On {contest.title} the {METHODS[name].title}, with {seeds}, has a lower FID than both, "
                    f"{cell(values[name], METRICS['fid'])}. So a draw with the rival does not speak for all "
                    "VAEs there."
                )


def _unlike_gans(runs: Sequence[Run]) -> str:
    """What sets the rival among the GANs apart from the WWAE beside its method: sentences."""
    lines = [
        f"Of the GANs, the rival is the {GAN}, the plainer one, which is trained with as many images as the "
        "WWAE. No trials have chosen its learning rate yet. But it is given more than the WWAE in other "
        "ways: its networks normalise their batches, without which they do not train."
    ]
    for contest in contests(runs):
        if {"wwae", DEFAULT_RIVAL["GANs"]} <= contest.methods.keys():
            ours, theirs = (contest.methods[name][0].experiment for name in ("wwae", DEFAULT_RIVAL["GANs"]))
            steps = ours.batch_size / theirs.batch_size * theirs.epochs / ours.epochs
            minutes = contest.measured("train_minutes")
            longer = minutes[theirs.method].mean / minutes[ours.method].mean
            given = [f"made {steps:.2g} times as many steps", f"took {longer:.1f} times as long"]
            if theirs.latent != ours.latent:
                given.insert(0, f"has {theirs.latent} dimensions of codes where the WWAE has {ours.latent}")
            lines.append(f"On {contest.title} it {enumeration(given)}.")
    lines.append(
        "So the claims about GANs compare two methods as they are commonly set, and not a penalty with an "
        "adversary at equal means."
    )
    return " ".join(lines)


def test_counts(judged: Mapping[str, Verdict]) -> str:
    """How many primary tests there are, how many stand Holm's correction, and how many wait for seeds."""
    findings = [finding for verdict in judged.values() for finding in verdict.findings]
    tested = [finding for finding in findings if not math.isnan(finding.p)]
    alone = sum(finding.p <= 1 - LEVEL for finding in tested)
    stand = sum(finding.corrected <= 1 - LEVEL for finding in tested)
    untested = sum(list(verdict.outcomes.values()).count(UNTESTED) for verdict in judged.values())
    left = {
        "there are too few seeds or no paired times": len(findings) - len(tested),
        "there is no record": untested,
    }
    why = ", and ".join(f"for {count} {words}" for words, count in left.items() if count)
    return (
        f"Of {len(findings) + untested} primary tests that are planned, {len(tested)} could be made."
        f"{f' F{why[1:]}.' if why else ''} Taken alone, {alone} reach{'es' * (alone == 1)} significance at "
        f"{1 - LEVEL:.0%}; after Holm's correction, which counts all that are planned, {stand} "
        f"do{'es' * (stand == 1)}."
    )


def table(judged: Mapping[str, Verdict]) -> str:
    """One row a claim, as Markdown: its name leads to all its tests."""
    rows = [
        [
            f"[{verdict.claim.name}](#verdict-{key})<br>“{verdict.claim.quote}”",
            f"**{verdict.verdict}**",
            verdict.claim.measure,
            "<br>".join(_in_short(finding) for finding in verdict.findings) or "no record",
        ]
        for key, verdict in judged.items()
    ]
    return markdown(["claim, word for word", "verdict", "primary measure", "effect"], rows, words=4)


def _in_short(finding: Finding) -> str:
    effect = finding.result if finding.ratio == "-" else f"{finding.result}; {finding.ratio}"
    return f"{finding.setting}, {finding.rival}: {effect}, **{finding.outcome}**"


def evidence(verdict: Verdict, figure: str = "") -> str:
    """A claim with how it is judged and its verdict, as Markdown; the numbers of all its tests are folded.

    Args:
        verdict: the verdict on the claim.
        figure: HTML that shows the primary tests (:func:`wwae_lib.book.forest.forest`), placed before them.
    """
    claim = verdict.claim
    parts = [
        f"> “{claim.quote}”",
        claim.reading,
        f"Primary measure: {claim.measure}. {claim.reason}",
        figure,
    ]
    undecided = enumeration([finding.setting for finding in verdict.findings if math.isnan(finding.p)])
    if undecided:
        parts.append(
            f"On {undecided} there are too few seeds, or no pairs of times, for a test. An interval that "
            "stands there borrows the spread of another method on the same data, or is that of the "
            "measurement alone; neither decides anything."
        )
    if untested := [place for place, outcome in verdict.outcomes.items() if outcome == UNTESTED]:
        parts.append(
            f"Not tested on {enumeration(untested)}: no record has the measure of both sides, by one "
            "protocol."
        )
    parts.append(_secondary_in_words(verdict.secondary))
    parts.append(f"Verdict: **{verdict.verdict}**. [All numbers of this kind](#comparison-{claim.link}).")
    head = ["data", "measure", "WWAE", "against", "", "difference, ± at 95%", "ratio", "from"]
    folded = []
    if verdict.findings:
        rows = [
            [finding[0], finding.outcome, *finding[1:8], _p(finding.p), _p(finding.corrected)]
            for finding in verdict.findings
        ]
        with_outcome = [head[0], "outcome", *head[1:], "p", "after Holm"]  # in view on a phone too
        folded.append(markdown(with_outcome, rows, words=len(with_outcome)))
    if verdict.secondary:
        folded.append("Secondary evidence, without a vote and without correction:")
        folded.append(markdown(head, [finding[:8] for finding in verdict.secondary], words=len(head)))
    if said := explained(" ".join(finding.basis for finding in (*verdict.findings, *verdict.secondary))):
        folded.append(f"*{said}*")
    if folded:
        parts += [":::{dropdown} All numbers", *folded, ":::"]
    return "\n\n".join(filter(None, parts))


def _secondary_in_words(secondary: Sequence[Finding]) -> str:
    """Which secondary measures lean to a side over seeds, one at a time and uncorrected: sentences."""
    tested = [finding for finding in secondary if not math.isnan(finding.p)]
    if not tested:
        return ""
    lines = [
        f"Of the secondary measures, {counted(len(tested))} could be tested over seeds, each by itself and "
        "without a correction."
    ]
    for outcome, side in {HOLDS: "for the claim", CONTRADICTED: "against it"}.items():
        leaning = [finding for finding in tested if finding.p <= 1 - LEVEL and finding.leans == outcome]
        if leaning:
            speak = "speaks" if len(leaning) == 1 else "speak"
            named = enumeration([_named(finding) for finding in leaning])
            lines.append(f"{counted(len(leaning)).capitalize()} {speak} {side}: {named}.")
    return " ".join(lines if len(lines) > 1 else [*lines, "None differs by more than chance explains."])


def _named(finding: Finding) -> str:
    measure, rival = finding.question.partition(" (")[0], finding.rival.replace(", ", " with ")
    p = _p(finding.p)
    p = GLUE.join(["p", *(p if "<" in p else f"= {p}").split(" ")])
    return f"the {measure} against the {rival} on {finding.setting} ({p})"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def summary(judged: Mapping[str, Verdict]) -> str:
    """The verdict on each claim, as a Markdown list."""
    return "\n".join(f"- {verdict.claim.name}: **{verdict.verdict}**" for verdict in judged.values())
