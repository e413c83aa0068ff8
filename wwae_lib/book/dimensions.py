"""What separates new images from real ones: the decoder, or the law that codes are drawn from?

Auto-encoders with codes of several dimensions (:func:`.selection.dimension_trials`), each decoded from its
own codes and from four laws. The distance of reconstructions describes what encoder and decoder lose. What a
law adds to it describes what is lost because new codes do not lie where the codes of images do. The two are
no exact shares, for a Frechet distance is not additive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

from ..data import DATASETS
from ..methods import METHODS
from ..runs import Run, exists, load
from ..runs import recorded as recorded_runs
from .figures import COLOURS, WIDTH
from .reproduce import PROFILES, results_folder
from .tables import METRICS, Contest, cell, contests, counted, enumeration, markdown, plus_minus
from .uncertainty import Measured, difference, measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from . import selection

__all__ = [
    "LAWS",
    "Best",
    "best",
    "control",
    "datasets",
    "figure",
    "fitted_summary",
    "laws",
    "recorded",
    "seen_on_lines",
    "summary",
    "table",
    "tested",
    "tested_summary",
    "tested_table",
]

OWN = "fid_reconstruction"
LAWS = {  # where new codes can come from
    "fid": "the prior",
    "fid_gaussian": "a fitted Gaussian",
    "fid_mixture": "a fitted mixture of 10",
    "fid_mixture_100": "a fitted mixture of 100",
}
NOISY = 0.1  # of the prior's variance, from which on an encoder's noise is no trifle
# The columns of tables, those that carry the message first, for a phone has room for two of them.
SHOWN = {
    **{law: f"from {LAWS[law]}" for law in ("fid", "fid_mixture")},
    OWN: "FID of reconstructions",
    **{law: f"from {LAWS[law]}" for law in ("fid_gaussian", "fid_mixture_100")},
    "squared_error": "squared error per image",
}
LINES = {
    OWN: ("grey", "-"),
    "fid": ("orange", "-"),
    "fid_gaussian": ("blue", "--"),
    "fid_mixture": ("green", "-."),
    "fid_mixture_100": ("purple", ":"),
}


class Best(NamedTuple):
    """The lowest distance of new images: whose codes, from which law, a key of ``LAWS``."""

    run: Run
    law: str


def recorded(dataset: str) -> dict[tuple[str, str], list[Run]]:
    """The recorded runs of each method and estimator on a data set, the fewest dimensions first."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for experiment in selection.dimension_trials(dataset):
        run = selection.last_attempt(experiment)
        if run and OWN in run.metrics:
            kinds.setdefault((experiment.method, experiment.estimator), []).append(run)
    return kinds


def laws(run: Run) -> list[str]:
    """The laws, of ``LAWS``, that a run was measured with; a plain auto-encoder has no prior to draw from."""
    return [law for law in LAWS if law in run.metrics and (law != "fid" or run.experiment.method != "ae")]


def datasets() -> list[str]:
    """The data sets on which at least one of the runs is recorded."""
    return [dataset for dataset in DATASETS if recorded(dataset)]


def title(kind: tuple[str, str]) -> str:
    """What figures and tables call it."""
    method, estimator = kind
    return METHODS[method].title + (f", {estimator}" if estimator != "total" else "")


def table(dataset: str) -> str:
    """A run per row: squared error and distance of reconstructions, and the distance of each law's images.

    The lowest distance of new images in a row is bold, unless its training failed.
    """
    rows = []
    for kind, runs in recorded(dataset).items():
        for run in runs:
            measured_laws = laws(run)
            lowest = "" if selection.failed(run) else min(measured_laws, key=run.metrics.__getitem__)
            cells = _cells([run], SHOWN)
            cells = [f"**{cell}**" if key == lowest else cell for key, cell in zip(SHOWN, cells, strict=True)]
            noise = run.metrics.get("posterior_variance")
            cells.append("-" if noise is None else f"{noise:.2f}")
            rows.append([title(kind), str(run.experiment.latent), *cells])
    return markdown(["method", "dimensions", *SHOWN.values(), "encoder's mean variance"], rows, words=1)


def control(dataset: str) -> list[str]:
    """For each number of dimensions: what laws fitted after training give without a penalty, and with one."""
    kinds = recorded(dataset)
    with_penalty = {run.experiment.latent: run.metrics for run in kinds.get(("wwae", "total"), [])}
    return [
        f"{run.experiment.latent} dimensions: an auto-encoder without a penalty has "
        f"{run.metrics['fid_gaussian']:.1f} from a fitted Gaussian and {run.metrics['fid_mixture']:.1f} from "
        f"a fitted mixture of 10. The WWAE has {ours['fid']:.1f} from the prior, {ours['fid_gaussian']:.1f} "
        f"and {ours['fid_mixture']:.1f}."
        for run in kinds.get(("ae", "total"), [])
        if not selection.failed(run) and (ours := with_penalty.get(run.experiment.latent))
    ]


def _cells(runs: Sequence[Run], keys: Iterable[str]) -> list[str]:
    """The metrics of some runs of one kind; a dash for a law that they were not measured with."""
    drawn = laws(runs[0])
    return [_written(runs, key) if key in drawn or key not in LAWS else "-" for key in keys]


def _written(runs: Sequence[Run], key: str) -> str:
    measurement = measured(runs, key)
    return cell(measurement, METRICS[key]) if measurement else "-"


def best(dataset: str) -> Best:
    """The lowest distance of new images among the recorded runs of a data set."""
    choices = [Best(run, law) for runs in recorded(dataset).values() for run in runs for law in laws(run)]
    return min(choices, key=lambda choice: choice.run.metrics[choice.law])


def summary(dataset: str) -> str:
    """What more dimensions do to reconstructions and to new images, what failed, and the lowest distance."""
    lines = []
    for kind, runs in recorded(dataset).items():
        trained = [run for run in runs if not selection.failed(run)]
        if len(trained) > 1:
            law = laws(trained[0])[0]
            dims, own, new = (
                enumeration([str(value) for value in values])
                for values in (
                    [run.experiment.latent for run in trained],
                    [f"{run.metrics[OWN]:.1f}" for run in trained],
                    [f"{run.metrics[law]:.1f}" for run in trained],
                )
            )
            lines.append(
                f"{title(kind)}: with {dims} dimensions the distance of reconstructions is {own}, and that "
                f"of images from {LAWS[law]} is {new}."
            )
        lines += [
            f"The first training of {title(kind)} with {run.experiment.latent} dimensions failed; the table "
            f"has the second, in which the learning rate rose over {run.experiment.warm_up} steps."
            for run in trained
            if run.experiment.warm_up
        ]
        lines += [
            f"With {run.experiment.latent} dimensions the encoder of {title(kind)} hides codes in noise: its "
            f"mean variance is {variance:.2f}."
            for run in trained
            if (variance := run.metrics.get("posterior_variance", 0.0)) > NOISY
        ]
        lines += [
            f"The training of {title(kind)} with {run.experiment.latent} dimensions failed"
            f"{', and so did the second one' * bool(run.experiment.warm_up)}: its squared error stayed at "
            f"{run.metrics['squared_error']:.0f} per image, and its codes lie at a squared "
            f"distance of {run.metrics['posterior_w2_squared']:,.0f} from the prior."
            for run in runs
            if run not in trained
        ]
    run, law = best(dataset)
    kind = (run.experiment.method, run.experiment.estimator)
    lines.append(
        f"The lowest distance of new images on {DATASETS[dataset].title} is {run.metrics[law]:.1f}: "
        f"{title(kind)} with {run.experiment.latent} dimensions, its codes drawn from {LAWS[law]}. "
        f"Its reconstructions have {run.metrics[OWN]:.1f}."
    )
    return " ".join(lines)


def tested(dataset: str) -> list[list[Run]]:
    """Runs of several seeds on test images: the WWAE's long ones, and what the trials chose.

    Empty until a run of the latter is recorded.
    """
    plain = _made(dataset, "long", "wwae")
    remedied = (_made(dataset, "beyond", method) for method in ("wwae", "ae"))
    kinds = [runs for runs in remedied if runs]
    return [runs for runs in (plain, *kinds) if runs] if kinds else []


def _made(dataset: str, profile: str, method: str) -> list[Run]:
    """The recorded runs of a method in a profile."""
    planned = [one for one in PROFILES[profile].experiments if (one.dataset, one.method) == (dataset, method)]
    paths = [results_folder(profile) / one.name for one in planned]
    there = [load(path) for path in paths if exists(path)]
    return [run for run in there if run.experiment in planned]


def tested_table(dataset: str) -> str:
    """An auto-encoder per row, on test images: mean over seeds and, from three on, the 95% interval."""
    rows, shown = [], {key: words for key, words in SHOWN.items() if key != "fid_mixture_100"}
    for runs in tested(dataset):
        kind = runs[0].experiment
        rows.append([METHODS[kind.method].title, str(kind.latent), *_cells(runs, shown), str(len(runs))])
    return markdown(["method", "dimensions", *shown.values(), "seeds"], rows, words=1)


def tested_summary(dataset: str) -> str:
    """How near the remedy brings new images to real ones on test images, with a penalty and without."""
    latent, law = selection.REMEDY[dataset]
    lines, plain = [], None
    for runs in tested(dataset):
        kind = runs[0].experiment
        if kind.latent != latent:
            plain = measured(runs, "fid")
            continue
        if after := measured(runs, law):
            name = f"{METHODS[kind.method].title} with {latent} dimensions"
            lines.append(f"{name} has {_words(after)} from {LAWS[law]}.")
            if kind.method == "wwae" and (before := measured(runs, "fid")):
                lines.append(f"From the prior it has {_words(before)}.")
            if kind.method == "wwae" and plain:
                beside = contests(recorded_runs(f"{dataset}/*/*"))  # whose spread a single run is lent
                gap = difference(after, plain, beside[0].spread("fid") if beside else None)
                apart = plus_minus(gap.value, gap.half, "{:.1f}", "+")
                lines.append(
                    "The WWAE of the comparison, with fewer dimensions and from the prior, has "
                    f"{_words(plain)}: a difference of {apart} ({gap.basis})."
                )
    floors = [floor for runs in tested(dataset) if (floor := measured(runs, "fid_training"))]
    if floors:
        lines.append(f"As many real training images have {floors[0].mean:.1f}.")
    return " ".join(lines)


def fitted_summary(contest: Contest) -> str:
    """How near to real ones a fitted mixture brings new images in a comparison, of the WWAE and the AE."""
    prior, mixture = (contest.measured(key) for key in ("fid", "fid_mixture"))
    lines = [
        f"{METHODS[name].title} has {_words(mixture[name])} from {LAWS['fid_mixture']} "
        f"({counted(mixture[name].seeds)} seed{'s' * (mixture[name].seeds > 1)})"
        + (f", and {_words(prior[name])} from the prior." if name == "wwae" else ".")
        for name in ("wwae", "ae")
        if name in mixture
    ]
    if lines and (floors := contest.measured("fid_training")):
        lines.append(f"As many real training images have {next(iter(floors.values())).mean:.1f}.")
    return " ".join(lines)


def _words(value: Measured) -> str:
    return cell(value, METRICS["fid"])


def seen_on_lines(dataset: str) -> list[str]:
    """For each number of dimensions, what the sliced penalty does to the codes and to prior samples."""
    kinds = recorded(dataset)
    plain, sliced = (
        {run.experiment.latent: run.metrics for run in kinds.get(("wwae", estimator), [])}
        for estimator in ("total", "sliced")
    )
    return [
        f"{latent} dimensions: the squared sliced distance of the codes from the prior is "
        f"{before['sliced_w2_squared']:.4f} without and {after['sliced_w2_squared']:.4f} with the lines, and "
        f"exact draws have {before['sliced_w2_squared_floor']:.4f}. A mixture of ten gains "
        f"{before['mixture_nats']:.1f} and {after['mixture_nats']:.1f} nats per code over one Gaussian. "
        f"Prior samples have a distance of {before['fid']:.1f} and {after['fid']:.1f}."
        for latent in sorted(plain.keys() & sliced.keys())
        for before, after in [(plain[latent], sliced[latent])]
    ]


def figure(dataset: str) -> Figure:
    """Distance against the codes' dimensions: a panel per kind of auto-encoder, a line per law.

    Trainings that failed are left out.
    """
    kinds = {
        kind: trained
        for kind, runs in recorded(dataset).items()
        if (trained := [run for run in runs if not selection.failed(run)])
    }
    drawn, axes = plt.subplots(
        1, len(kinds), figsize=(WIDTH, 3.2), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    labels = {OWN: "their own codes"} | LAWS
    for axis, (kind, runs) in zip(axes[0], kinds.items(), strict=True):
        for key in (OWN, *laws(runs[0])):
            colour, dash = LINES[key]
            points = [(run.experiment.latent, run.metrics[key]) for run in runs]
            axis.plot(
                *zip(*points, strict=True), dash, color=COLOURS[colour], marker="o", ms=3, label=labels[key]
            )
        axis.set(title=title(kind), xlabel="dimensions", xscale="log", yscale="log")
        axis.set_xticks(selection.DIMENSIONS[dataset], [str(d) for d in selection.DIMENSIONS[dataset]])
        axis.margins(x=0.1)
        axis.minorticks_off()
    axes[0, 0].set_ylabel("FID to validation images")
    axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn
