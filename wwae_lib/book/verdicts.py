"""Which claims of the paper's abstract hold? Verdicts computed from records by one rule, stated here."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scipy.special import fdtri, ndtri, stdtrit

from ..runs import Run, results_root
from .tables import DATASET_NAMES, METRICS, NAMES, cell, contests, markdown, plus_minus
from .uncertainty import LEVEL, Difference, Measured, difference, numbers

__all__ = [
    "ABSTRACT",
    "CLAIMS",
    "RULE",
    "VERDICTS",
    "Claim",
    "Finding",
    "Verdict",
    "benchmarks",
    "evidence",
    "summary",
    "table",
    "verdicts",
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
VERDICTS = ("holds", "holds in part", "does not hold", "cannot be tested")
RULE = (
    "A claim is put to several tests. A test speaks *for* the claim or *against* it where the difference "
    "exceeds its 95% uncertainty over seeds; else it stays *open*. A method with a single run is taken to "
    "vary as the method on the same data that varies most; where no method has three seeds, the test stays "
    "open. Where a claim is one of equality, a share is allowed and named: 25% of a time, 10% of an FID. "
    "Times without an interval are compared by that share alone; normality is a test at 5%. A claim "
    "**holds** if every test speaks for it; it **holds in part** if some do, and no fewer than speak against "
    "it; it **does not hold** if more speak against it; it **cannot be tested** with these records if none "
    "speaks either way. Among VAEs and among GANs there are two rivals on each data set: the one of default "
    "settings, and the one that is best in the metric at hand, chosen after the fact and so in its own "
    "favour. Intervals are not widened for the number of tests."
)

VAES = ("vae", "vae_learned", "vae_bernoulli")  # the first of each family is the one of default settings
GANS = ("gan", "wgan_gp")
# What counts as equal where a record holds no uncertainty, or where equality is what is claimed.
SLOWER = 1.25  # times in this ratio, on machines that do other work besides
WORSE = 0.1  # a gain of this share of the FID

FOR, AGAINST, OPEN = "for", "against", "open"


class Finding(NamedTuple):
    """One test of a claim: where, what, both sides and the outcome as text, on what basis, what it says."""

    setting: str
    question: str
    ours: str
    rival: str
    theirs: str
    result: str
    basis: str
    says: str


class Claim(NamedTuple):
    """A statement of the abstract: in short, word for word, as we read it; its tests; its numbers' place."""

    name: str
    quote: str
    reading: str
    tested: str
    link: str
    tests: Callable[[Sequence[Run], Mapping[str, Any]], Iterator[Finding]]


class Verdict(NamedTuple):
    """A claim, what its tests found, and which of ``VERDICTS`` follows."""

    claim: Claim
    findings: tuple[Finding, ...]
    verdict: str


def verdicts(runs: Sequence[Run], timings: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdict on each claim of ``CLAIMS``, by its key.

    Args:
        runs: the records to judge by; variants that belong to no comparison are left aside.
        timings: what the benchmarks recorded (:func:`benchmarks`); may be empty.
    """
    found = {}
    for key, claim in CLAIMS.items():
        findings = tuple(claim.tests(runs, timings))
        found[key] = Verdict(claim, findings, _judge([finding.says for finding in findings]))
    return found


def _judge(said: Sequence[str]) -> str:
    """``RULE``."""
    if set(said) == {FOR}:
        return "holds"
    if said.count(AGAINST) > said.count(FOR):
        return "does not hold"
    return "holds in part" if FOR in said else "cannot be tested"


def benchmarks() -> dict[str, Any]:
    """Recorded timings by the name of their file, ``penalty_benchmark`` and ``performance``, if there."""
    paths = [results_root() / f"{name}.json" for name in ("penalty_benchmark", "performance")]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()}


# ---------------------------------------------------------------- tests


def _better_than(family: Sequence[str], *keys: str) -> Callable[..., Iterator[Finding]]:
    """The WWAE against a family: its default member and the one best in the metric, on each data set."""

    def tests(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
        for contest in contests(runs):
            for key in keys:
                found = contest.measured(key)
                theirs = {name: found[name] for name in family if name in found}
                if "wwae" in found and theirs:
                    for name in _rivals(theirs, METRICS[key].better):
                        gap = difference(found["wwae"], theirs[name], contest.spread(key))
                        yield _compared(contest.title, key, found["wwae"], name, theirs[name], gap)

    return tests


def _rivals(theirs: Mapping[str, Measured], better: str) -> list[str]:
    """The default (the first) and the best, which may be the same."""
    best = (min if better == "lower" else max)(theirs, key=lambda name: theirs[name].mean)
    return list(dict.fromkeys([next(iter(theirs)), best]))


def _compared(
    setting: str, key: str, ours: Measured, name: str, theirs: Measured, gap: Difference
) -> Finding:
    metric = METRICS[key]
    says = OPEN if not gap.sure else FOR if (gap.value < 0) == (metric.better == "lower") else AGAINST
    result = plus_minus(gap.value, gap.half, metric.form, "+")
    question = f"{metric.label} ({metric.better} is better)"
    sides = cell(ours, metric), NAMES[name], cell(theirs, metric)
    return Finding(setting, question, *sides, result, gap.basis, says)


def _gaussian_codes(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """Is normality of the codes rejected? Is a mixture so much better that the images show it?"""
    for contest in contests(runs):
        if p := contest.measured("henze_zirkler_p").get("wwae"):
            rejected = sum(value < 1 - LEVEL for value in p.values)
            says = FOR if not rejected else AGAINST if rejected == p.seeds else OPEN
            yield Finding(
                contest.title,
                "are the codes normal? (Henze-Zirkler test at 5%)",
                ", ".join("p < 0.001" if value < 0.001 else f"p = {value:.3f}" for value in p.values),
                "",
                "",
                f"rejected for {rejected} of {p.seeds}",
                _seeds(p.seeds),
                says,
            )
        gaussian, mixture = (contest.measured(key).get("wwae") for key in ("fid_gaussian", "fid_mixture"))
        if gaussian and mixture and gaussian.seeds == mixture.seeds:
            yield _as_good_as_a_mixture(contest.title, gaussian, mixture)


def _as_good_as_a_mixture(setting: str, gaussian: Measured, mixture: Measured) -> Finding:
    """Equality within ``WORSE``, as both ends of the interval tell; seeds are paired."""
    gains = [one - other for one, other in zip(gaussian.values, mixture.values, strict=True)]
    value, allowed = statistics.fmean(gains), WORSE * gaussian.mean
    if gaussian.seeds > 1:
        t = float(stdtrit(gaussian.seeds - 1, (1 + LEVEL) / 2))
        half, basis = t * statistics.stdev(gains) / math.sqrt(len(gains)), f"{gaussian.seeds} seeds, paired"
    else:
        half = float(ndtri((1 + LEVEL) / 2)) * math.hypot(gaussian.error, mixture.error)
        basis = _seeds(1) + (", no error known" if math.isnan(half) else ", own errors")
    says = FOR if value + half < allowed else AGAINST if value - half > allowed else OPEN
    form = METRICS["fid"].form
    return Finding(
        setting,
        f"FID by a Gaussian fitted to the codes, less by a mixture (up to {WORSE:.0%} counts as none)",
        cell(gaussian, METRICS["fid"]),
        "mixture",
        cell(mixture, METRICS["fid"]),
        plus_minus(value, half, form, "+"),
        basis,
        says,
    )


def _quicker_than_sampling(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """The penalty's time, with its gradient, against penalties that compare codes with draws of the prior."""
    sampling = {"mmd": "MMD of the WAE", "sinkhorn": "Sinkhorn divergence", "sliced": "sliced W2"}
    if (record := timings.get("penalty_benchmark")) is None:
        return
    seconds = {(one["n"], one["d"], one["method"]): one["seconds"] for one in record["measured"]}
    environment = record["environment"]
    for (n, d, method), theirs in seconds.items():
        if method in sampling and (ours := seconds.get((n, d, "w2_penalty"))):
            ratio = theirs / ours
            says = FOR if ratio > SLOWER else AGAINST if ratio < 1 / SLOWER else OPEN
            yield Finding(
                f"n = {n:,}, d = {d}",
                f"time of the penalty, n codes of dimension d (a factor of {SLOWER:g} counts as none)",
                f"{1e3 * ours:.2f} ms",
                sampling[method],
                f"{1e3 * theirs:.2f} ms",
                f"{ratio:.1f} times",
                f"medians, {environment['device']}, {environment['threads']} thread(s)",
                says,
            )


RELATIVES = ("vae", "wae_mmd", "swae")


def _no_slower(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """A step's time, with the penalty and against relatives; without a benchmark, an epoch's of the runs."""
    if record := timings.get("performance"):
        yield from _penalty_in_a_step(record)
        yield from _steps_beside(record)
    else:
        yield from _epochs_beside(runs)


def _penalty_in_a_step(record: Mapping[str, Any]) -> Iterator[Finding]:
    for one in record["penalty"]:
        low, high = (1 + share for share in one["interval_95"])
        yield Finding(
            f"{DATASET_NAMES[one['dataset']]}, {one['network']}",
            f"a step with the penalty, to one without (a factor of {SLOWER:g} counts as none)",
            f"{1e3 * one['wwae_step_seconds']['median']:.1f} ms",
            NAMES["ae"],
            f"{1e3 * one['ae_step_seconds']['median']:.1f} ms",
            f"{1 + one['share_of_pairs']:.3f} times ({low:.3f} to {high:.3f})",
            f"{one['pairs']} pairs, {record['environment']['device']}",
            FOR if high < SLOWER else AGAINST if low > SLOWER else OPEN,
        )


def _steps_beside(record: Mapping[str, Any]) -> Iterator[Finding]:
    seconds = {
        (one["dataset"], one["network"], one["method"]): one["step_seconds"] for one in record["steps"]
    }
    for (dataset, network, method), ours in seconds.items():
        for name in RELATIVES if method == "wwae" else ():
            if theirs := seconds.get((dataset, network, name)):
                yield _ratio_of_times(
                    f"{DATASET_NAMES[dataset]}, {network}",
                    "a step",
                    ours["median"],
                    name,
                    theirs["median"],
                    f"medians of {ours['count']}, {record['environment']['device']}",
                )


def _epochs_beside(runs: Sequence[Run]) -> Iterator[Finding]:
    for contest in contests(runs):
        for name in RELATIVES:
            pairs = [
                (one, other)
                for one in contest.methods.get("wwae", ())
                for other in contest.methods.get(name, ())
                if _circumstances(one) == _circumstances(other)
            ]
            if pairs:
                ours, theirs = (
                    statistics.fmean(numbers(run)["epoch_seconds"] for run in side)
                    for side in zip(*pairs, strict=True)
                )
                basis = "means over seeds, from the records of the runs"
                yield _ratio_of_times(contest.title, "an epoch", ours, name, theirs, basis)


def _ratio_of_times(setting: str, what: str, ours: float, name: str, theirs: float, basis: str) -> Finding:
    unit, scale = ("s", 1) if ours >= 1 else ("ms", 1e3)
    return Finding(
        setting,
        f"time of {what} of training (up to {SLOWER:g} times counts as no longer)",
        f"{scale * ours:.1f} {unit}",
        NAMES[name],
        f"{scale * theirs:.1f} {unit}",
        f"{ours / theirs:.2f} times",
        basis,
        FOR if ours / theirs < SLOWER else AGAINST,
    )


def _circumstances(run: Run) -> tuple[Any, ...]:
    environment, chosen = run.record["environment"], run.experiment
    machine = tuple(environment[key] for key in ("device", "threads", "precision"))
    return (*machine, chosen.network, chosen.batch_size, run.record["data"]["train"]["images"])


def _steadier(runs: Sequence[Run], timings: Mapping[str, Any]) -> Iterator[Finding]:
    """How much the FID's logarithm varies over seeds, by Fisher's interval for a ratio of deviations."""
    for contest in contests(runs):
        several = {name: one for name, one in contest.measured("fid").items() if one.seeds > 1}
        for name in GANS:
            if "wwae" in several and name in several:
                yield _spread_ratio(contest.title, several["wwae"], name, several[name])


def _spread_ratio(setting: str, ours: Measured, name: str, theirs: Measured) -> Finding:
    first, second = (statistics.stdev(map(math.log, one.values)) for one in (ours, theirs))
    ratio = second / first if first else math.inf
    freedom = theirs.seeds - 1, ours.seeds - 1
    low, high = (ratio / math.sqrt(fdtri(*freedom, p)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Finding(
        setting,
        "relative spread of the FID over seeds",
        f"{first:.1%}",
        NAMES[name],
        f"{second:.1%}",
        f"{ratio:.2f} times ({low:.2f} to {high:.2f})",
        f"{ours.seeds} and {theirs.seeds} seeds, F",
        FOR if low > 1 else AGAINST if high < 1 else OPEN,
    )


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"


CHALLENGES = (
    "To address the challenges in learning deep generative models (e.g.,the blurriness of variational "
    "auto-encoder and the instability of training generative adversarial networks"
)
BETTER = "generates samples of better visual quality and higher FID scores than VAEs and GANs"
CLAIMS = {
    "gaussians": Claim(
        "Gaussian codes",
        "both the prior P_Z and the aggregated posterior Q_Z of the latent code Z can be well captured by "
        "Gaussians",
        "The prior is Gaussian by choice; in question is the aggregated posterior of a trained WWAE.",
        "normality of test images' codes; FID of images whose codes are drawn from a Gaussian fitted to the "
        "codes, against a mixture of ten",
        "latent",
        _gaussian_codes,
    ),
    "sampling": Claim(
        "no sampling burden",
        "WWAE does not suffer from the sampling burden",
        "The penalty draws no sample of the prior and, by the law of total covariance, none of the codes. "
        "What that saves of the penalty is measured here, and of a whole step by the next claim. The moments "
        "still come from a batch, and err as {doc}`objective` says.",
        "time of the penalty, against penalties that compare codes with draws of the prior",
        "cost",
        _quicker_than_sampling,
    ),
    "efficiency": Claim(
        "computational efficiency",
        "it is computationally efficient by leveraging the reparameterization trick",
        "Training a WWAE takes no longer than training its relatives. They all use the reparameterization "
        "trick or need none, so that what it contributes is not tested.",
        "time of training, with the penalty and without; against the VAE, the WAE-MMD and the SWAE on the "
        "same machine",
        "cost",
        _no_slower,
    ),
    "latent": Claim(
        "better latent structure than VAEs",
        "WWAE learns better latent structures than VAEs",
        "Its codes tell the classes apart better, and their distribution is closer to the prior.",
        "accuracy of nearest neighbours and of a linear classifier on the codes; sliced W2 of the codes to "
        "the prior",
        "latent",
        _better_than(VAES, "knn_accuracy", "linear_accuracy", "sliced_w2_squared"),
    ),
    "quality-vaes": Claim(
        "better visual quality than VAEs",
        BETTER,
        "No measure is a pair of eyes; three stand in for it, of which two look at fidelity alone.",
        "KID, precision and density of prior samples",
        "quality",
        _better_than(VAES, "kid", "precision", "density"),
    ),
    "fid-vaes": Claim(
        "better FID than VAEs",
        BETTER,
        "Higher is read as better, which for a Fréchet inception distance is lower.",
        "FID of prior samples",
        "fid",
        _better_than(VAES, "fid"),
    ),
    "quality-gans": Claim(
        "better visual quality than GANs",
        BETTER,
        "As for VAEs. The GANs' budget of training, in {doc}`deviations`, is short for them.",
        "KID, precision and density of prior samples",
        "quality",
        _better_than(GANS, "kid", "precision", "density"),
    ),
    "fid-gans": Claim(
        "better FID than GANs",
        BETTER,
        "As for VAEs: lower. The GANs' budget of training, in {doc}`deviations`, is short for them.",
        "FID of prior samples",
        "fid",
        _better_than(GANS, "fid"),
    ),
    "sharpness": Claim(
        "sharper than VAEs",
        CHALLENGES,
        "A WWAE's images are closer than those of VAEs to as sharp as the data.",
        "distance, on a logarithmic scale, of the sharpness of samples and of reconstructions from that of "
        "test images",
        "quality",
        _better_than(VAES, "sharpness_gap", "sharpness_reconstruction_gap"),
    ),
    "stability": Claim(
        "more stable than GANs",
        CHALLENGES,
        "From seed to seed the training of a WWAE ends less differently than that of a GAN.",
        "spread of the FID over seeds, relative to its size, against each GAN",
        "fid",
        _steadier,
    ),
}


# ---------------------------------------------------------------- words


def table(found: Mapping[str, Verdict]) -> str:
    """One row a claim, as Markdown: its name leads to all its tests."""
    rows = [
        [
            f"[{one.claim.name}](#verdict-{key})<br>“{one.claim.quote}”",
            f"**{one.verdict}**",
            one.claim.tested,
            _in_short(one.findings),
        ]
        for key, one in found.items()
    ]
    return markdown(["claim, word for word", "verdict", "tested by", "evidence"], rows, words=4)


def _in_short(findings: Sequence[Finding], most: int = 4) -> str:
    """How many tests say what, and what the first question gave."""
    if not findings:
        return "no record"
    first = [one for one in findings if one.question == findings[0].question]
    lines = [f"{', '.join(filter(None, (one.setting, one.rival)))}: {one.result}" for one in first[:most]]
    more = [f"and {len(first) - most} more"] if len(first) > most else []
    return "<br>".join([_counts(findings), f"{findings[0].question}:", *lines, *more])


def evidence(one: Verdict) -> str:
    """A claim with every test behind its verdict, as Markdown."""
    claim = one.claim
    parts = [f"> “{claim.quote}”", f"{claim.reading} Tested by: {claim.tested}."]
    if one.findings:
        head = ["data", "question", "WWAE", "against", "", "result, ± at 95%", "from", "says"]
        parts.append(markdown(head, one.findings, words=len(head)))
    else:
        parts.append("No run that this test needs is recorded.")
    if any(finding.basis.startswith("1 seed each") for finding in one.findings):
        parts.append(
            "With one seed each, the uncertainty is that of measuring two trained models: one seed cannot "
            "show how training spreads, and the test stays open."
        )
    link = f"[All numbers of this kind](#comparison-{claim.link})."
    return "\n\n".join([*parts, f"Verdict: **{one.verdict}**. {link}"])


def summary(found: Mapping[str, Verdict]) -> str:
    """How many claims, and which, got each verdict, as a Markdown list."""
    plural = dict(zip(VERDICTS, ("hold", "hold in part", "do not hold", VERDICTS[-1]), strict=True))
    lines = []
    for verdict in VERDICTS:
        some = [one for one in found.values() if one.verdict == verdict]
        if some:
            said = plural[verdict] if len(some) > 1 else verdict
            names = [f"{one.claim.name} ({_counts(one.findings) or 'no record'})" for one in some]
            lines.append(f"- {len(some)} of {len(found)} {said}: {'; '.join(names)}.")
    return "\n".join(lines)


def _counts(findings: Sequence[Finding]) -> str:
    said = [finding.says for finding in findings]
    return ", ".join(f"{said.count(word)} {word}" for word in (FOR, AGAINST, OPEN) if word in said)
