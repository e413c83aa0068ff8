"""What was tried on validation images before settings were fixed? Tables and figures of the trials."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

from ..data import DATASETS
from ..methods import METHODS
from ..runs import Run, recorded
from . import figures, selection
from .figures import COLOURS, WIDTH
from .selection import compared_methods
from .tables import GLUE, METRICS, cell, enumeration, markdown
from .uncertainty import SEVERAL, measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "at_their_best",
    "before_and_after",
    "by_length",
    "convergence",
    "datasets",
    "figure",
    "lengths",
    "remedies",
    "repeated",
    "shared_choices",
    "summary",
    "table",
    "trade_off",
]

# A kind of trial is a method, and the estimator of the WWAE that is tried as a remedy, or "".
REMEDIES: tuple[tuple[str, str], ...] = (("wwae", ""), *(("wwae", name) for name in selection.REMEDIES))


def methods() -> list[tuple[str, str]]:
    """Every method that has a setting to choose."""
    return [(name, "") for name in selection.CENTRES if "/" not in name]


def datasets(kinds: Sequence[tuple[str, str]] | None = None) -> list[str]:
    """The data sets on which trials of each of some kinds are recorded; by default of any method."""
    if kinds is None:
        return [dataset for dataset in DATASETS if _tried(dataset, methods())]
    return [dataset for dataset in DATASETS if len(_tried(dataset, kinds)) == len(kinds)]


def _tried(dataset: str, kinds: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Run]]:
    """The recorded trials of each kind on a data set."""
    compared = [kind for kind in kinds if kind[0] in compared_methods(dataset)]
    return {kind: trials for kind in compared if (trials := selection.recorded_trials(dataset, *kind))}


def _title(kind: tuple[str, str]) -> str:
    method, remedy = kind
    return f"{METHODS[method].title}{f', {remedy}' if remedy else ''}"


def _spoken(method: str) -> str:
    """What a sentence calls a method: a title with a comma in it reads badly there."""
    kind, _, which = METHODS[method].title.partition(", ")
    named = {"learned variance": f"{kind} with learned variance", "Bernoulli": f"Bernoulli {kind}"}
    return named.get(which, METHODS[method].title)


def _value(run: Run) -> float:
    field, _ = selection.setting(run.experiment.dataset, run.experiment.method)
    return getattr(run.experiment, field)


def _distance(run: Run) -> str:
    measurement = measured([run], "fid")
    return cell(measurement, METRICS["fid"]) if measurement else "-"


def table(dataset: str, kinds: Sequence[tuple[str, str]] | None = None) -> str:
    """Every trial of a setting, a method per row: the value, and the FID to validation images that it gave.

    The lowest of a row is bold where all its trials are recorded. A place stays empty where the method needs
    no trial, and has a dash where one is still to be made.
    """
    tried = _tried(dataset, kinds or methods())
    wanted = {kind: selection.factors(dataset, *kind) for kind in tried}
    columns = sorted({factor for factors in wanted.values() for factor in factors})
    rows = []
    for kind, trials in tried.items():
        best = selection.best_trial(dataset, *kind) if selection.complete(dataset, *kind) else None
        by_value = {_value(run): run for run in trials}
        field, _ = selection.setting(dataset, kind[0])
        cells = []
        for factor in columns:
            value = getattr(selection.trial(dataset, kind[0], factor), field)
            run = by_value.get(value)
            distance = _distance(run) if run else "-"
            bold = "**" if best and value == _value(best) else ""
            cells.append(f"{value:g}: {bold}{distance}{bold}" if factor in wanted[kind] else "")
        rows.append([_title(kind), field.replace("_", " "), *cells])
    heads = [f"{factor:g} times the centre" for factor in columns]
    return markdown(["method", "setting", *heads], rows, words=2)


def summary(dataset: str) -> str:
    """For which methods a value could be chosen, and for which the lowest is at an end of what was tried."""
    if not (tried := _tried(dataset, methods())):
        return ""
    title = DATASETS[dataset].title
    best = {
        kind: selection.best_trial(dataset, *kind) for kind in tried if selection.complete(dataset, *kind)
    }
    missing = [
        _spoken(kind[0]) for kind in methods() if kind[0] in compared_methods(dataset) and kind not in best
    ]
    ends = [
        _spoken(kind[0])
        for kind, run in best.items()
        if _value(run) in {_value(tried[kind][k]) for k in (0, -1)}
    ]
    lines = []
    if best:
        lines.append(
            f"On {title} the trials are complete for {enumeration([_spoken(name) for name, _ in best])}."
        )
    if missing:
        lines.append(f"On {title} trials are still to be made for {enumeration(missing)}.")
    if ends:
        lines.append(f"For {enumeration(ends)} the lowest distance lies at an end of all that was tried.")
    again = [
        f"{_spoken(kind[0])} at {_value(run):g}"
        for kind in tried
        for run in tried[kind]
        if run.experiment.warm_up
    ]
    if again:
        lines.append(
            f"The first training of {enumeration(again)} failed. The table shows the second, in which the "
            f"learning rate rose over {selection.WARM_UP} steps."
        )
    return " ".join(lines)


def at_their_best(dataset: str) -> str:
    """Every method at the value that its trials chose: how far is it from the WWAE?

    A row per method, the lowest distance first. One whose trials are incomplete stands at its centre, if that
    is recorded. Then, in words, who is apart, and what these numbers are not. Empty where the WWAE's trials
    are incomplete, or those of all others.
    """
    names = [name for name, _ in methods() if name in compared_methods(dataset)]
    complete = [name for name in names if selection.complete(dataset, name)]
    if "wwae" not in complete or len(complete) < 2:
        return ""
    best = {name: selection.best_trial(dataset, name) for name in complete}
    centres = {name: selection.recorded(selection.trial(dataset, name, 1.0)) for name in names}
    untuned = [run for name, run in centres.items() if name not in best and run and "fid" in run.metrics]
    ordered = sorted([*best.values(), *untuned], key=lambda run: run.metrics["fid"])
    head = ["method", "setting", "FID to validation images", "less the WWAE's"]
    head += ["squared error per image", "density", "nats a mixture gains"]
    rows = [_beside(run, best["wwae"], run in untuned) for run in ordered]
    told = [
        *_told_apart([run for run in ordered if run not in untuned], best["wwae"]),
        *_incomplete(untuned, [name for name in names if name not in best and not centres[name]]),
        *_of_one_training(dataset, best),
        *convergence(dataset),
        "Density is that of new images among real ones. The nats are those per code that a mixture of ten "
        "Gaussians gains over one, less those of exact draws.",
    ]
    return f"{markdown(head, rows, words=2)}\n\n{' '.join(told)}"


def _beside(run: Run, ours: Run, untuned: bool = False) -> list[str]:
    """A method's best trial, or its only one, beside the WWAE's, as the cells of a row."""
    title = METHODS[run.experiment.method].title
    field, _ = selection.setting(run.experiment.dataset, run.experiment.method)
    difference, error = _difference(run, ours)
    more = (measured([run], key) for key in ("squared_error", "density", "mixture_excess"))
    return [
        f"**{title}**" if run is ours else title,
        f"{field.replace('_', ' ')} {_value(run):g}{', second training' if run.experiment.warm_up else ''}"
        f"{', not chosen by trials' if untuned else ''}",
        _distance(run),
        "" if run is ours else f"{difference:+.1f}{GLUE}({error:.1f})",
        *("-" if value is None else f"{value.mean:.2f}" for value in more),
    ]


def _told_apart(best: Sequence[Run], ours: Run) -> list[str]:
    """Which trainings' distances are more than two standard errors from the WWAE's, and which are not."""
    words = {
        "lower": ("has a lower distance than", "have lower distances than"),
        "higher": ("has a higher distance than", "have higher distances than"),
        "level": ("has about the distance of", "have about the distance of"),
    }
    found: dict[str, list[str]] = {side: [] for side in words}
    for run in best:
        if run is not ours:
            difference, error = _difference(run, ours)
            side = "level" if abs(difference) <= 2 * error else "lower" if difference < 0 else "higher"
            found[side].append(_spoken(run.experiment.method))
    said = [
        f"{enumeration(titles)} {words[side][len(titles) > 1]} the WWAE in these single trainings."
        for side, titles in found.items()
        if titles
    ]
    if again := [_spoken(run.experiment.method) for run in best if run.experiment.warm_up]:
        said.append(
            f"The number of {enumeration(again)} is of a second training, whose learning rate rose at the "
            f"start. The others were trained without that.{_risen(ours.experiment.dataset)}"
        )
    return said


def _risen(dataset: str) -> str:
    """What the rising rate did to the methods that it was tried on, at their centres."""
    changes = []
    for changed in selection.shared_choice_trials(dataset):
        pair = [
            selection.recorded(changed),
            selection.recorded(selection.trial(dataset, changed.method, 1.0)),
        ]
        if changed.variant == "warm_up" and all(run and "fid" in run.metrics for run in pair):
            difference, error = _difference(*pair)
            changes.append(f"that of the {_spoken(changed.method)} by {difference:+.1f}{GLUE}({error:.1f})")
    return f" At their centres it changes the distance of two: {enumeration(changes)}." if changes else ""


def _incomplete(untuned: Sequence[Run], missing: Sequence[str]) -> list[str]:
    """Which methods stand in the table without a choice, and which are absent."""
    said = []
    if untuned:
        titles = enumeration([_spoken(run.experiment.method) for run in untuned])
        stands = (
            "stands at its centre, since its" if len(untuned) == 1 else "stand at their centres, since their"
        )
        said.append(f"{titles} {stands} trials are not complete.")
    if missing:
        titles = enumeration([_spoken(name) for name in missing])
        said.append(f"{titles} {'has' if len(missing) == 1 else 'have'} no trial yet.")
    return said


def _of_one_training(dataset: str, best: Mapping[str, Run]) -> list[str]:
    """What the standard errors leave out: seeds, and that the lowest of several was taken."""
    counts = sorted({len(selection.factors(dataset, name)) for name in best})
    several = " or ".join(map(str, counts))
    said = [
        "The standard errors are of the images that are drawn from one training each. They leave out that "
        f"each number is the lowest of {several}, and that another seed moves it too."
    ]
    spreads = []
    for name in METHODS:
        value = measured(recorded(f"{dataset}/{name}/seed-*"), "fid")
        if value and value.seeds >= SEVERAL:
            spreads.append(f"{value.deviation:.1f} for the {_spoken(name)}")
    if spreads:
        said.append(
            "Over the seeds of the runs of the other pages the FID has a standard deviation of "
            f"{enumeration(spreads)}."
        )
    return said


def _difference(run: Run, ours: Run) -> tuple[float, float]:
    """A distance less the WWAE's, and the standard error of that."""
    difference = run.metrics["fid"] - ours.metrics["fid"]
    return difference, math.hypot(run.metrics["fid_error"], ours.metrics["fid_error"])


# What all methods share, in words: (what is tried, what it would be otherwise).
CHOICES = {
    "normalised": "batch normalisation in the auto-encoder's networks",
    "rate_half": "half the learning rate",
    "rate_double": "twice the learning rate",
    "warm_up": "a learning rate that rises at the start",
    "batch_64": "half the batch",
    "latent_double": "twice the dimensions of codes",
}


def shared_choices(dataset: str) -> str:
    """Every choice that methods share, with the distance of both methods that tried it; and what follows.

    The first row is what the others change in one place. Empty where none is recorded.
    """
    of = {name: selection.recorded(selection.trial(dataset, name, 1.0)) for name in selection.SHARED_ON}
    rows = [["as in all trials", *map(_shared_cell, of.values()), ""]]
    verdicts = {True: "lower for both", False: "not lower for both", None: "to be made"}
    by_name = {trial.name: selection.recorded(trial) for trial in selection.shared_choice_trials(dataset)}
    if not any(by_name.values()):
        return ""
    for variant, words in CHOICES.items():
        tried = [
            by_name[trial.name]
            for trial in selection.shared_choice_trials(dataset)
            if trial.variant == variant
        ]
        rows.append([words, *map(_shared_cell, tried), verdicts[selection.helps(dataset, variant)]])
    taken = [words for variant, words in CHOICES.items() if selection.helps(dataset, variant)]
    head = ["choice", *(METHODS[name].title for name in of), "distance"]
    text = (
        f"What lowers the distance of both is {enumeration(taken)}."
        if taken
        else "None of those that were tried lowers the distance of both, so the choice stays as it is."
    )
    return markdown(head, rows) + "\n\n" + text


def _shared_cell(run: Run | None) -> str:
    return "-" if run is None else _distance(run)


def remedies(dataset: str) -> str:
    """How each remedy's best trial compares with the WWAE's best, in a sentence each.

    A difference counts where it is more than twice its standard error, which is of the images drawn and of
    one seed.
    """
    without = selection.best_trial(dataset, "wwae")
    lines = []
    for kind in REMEDIES[1:]:
        if not selection.complete(dataset, *kind):
            lines.append(f"The trials of {_title(kind)} are not complete.")
            continue
        best = selection.best_trial(dataset, *kind)
        loss, error = _difference(best, without)
        verb = "lowers" if loss < -2 * error else "raises" if loss > 2 * error else "does not clearly change"
        lines.append(
            f"{_title(kind)} {verb} the distance: {best.metrics['fid']:.1f} at its best weight, "
            f"{_value(best):g}, against {without.metrics['fid']:.1f}, a difference of {loss:+.1f} with a "
            f"standard error of {error:.1f}."
        )
    return " ".join(lines)


def figure(dataset: str, kinds: Sequence[tuple[str, str]] | None = None) -> Figure:
    """FID to validation images against the multiple of the centre, a line per method.

    The lowest of a line is filled where all its trials are recorded.
    """
    drawn, axis = plt.subplots(figsize=(WIDTH, 3.4))
    dashes = dict(zip(selection.REMEDIES, (":", "--", "-."), strict=True))
    factors = {*selection.FACTORS}
    for kind, trials in _tried(dataset, kinds or methods()).items():
        _, centre = selection.setting(dataset, kind[0])
        colour, dash = METHODS[kind[0]].line
        multiples, distances = (
            [_value(run) / centre for run in trials],
            [run.metrics["fid"] for run in trials],
        )
        factors |= {*selection.factors(dataset, *kind)}
        axis.plot(
            multiples,
            distances,
            dashes.get(kind[1], dash),
            color=COLOURS[colour],
            marker="o",
            mfc="white",
            ms=4,
            label=_title(kind),
        )
        if selection.complete(dataset, *kind):
            lowest = distances.index(min(distances))
            axis.plot(multiples[lowest], distances[lowest], "o", color=COLOURS[colour], ms=4)
    axis.set(xscale="log", yscale="log", xlabel="multiple of the centre", ylabel="FID to validation images")
    axis.set_xticks(sorted(factors), [f"{factor:g}" for factor in sorted(factors)])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axis.yaxis.set_major_formatter("{x:g}")
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn


def trade_off(dataset: str) -> Figure:
    """FID to validation images against the squared error of reconstructions, a line per method.

    Along a line the weight of the method's penalty grows; the mark of its largest weight is filled.
    """
    drawn, axis = plt.subplots(figsize=(WIDTH, 3.6))
    for kind, trials in _tried(dataset, methods()).items():
        if len(trials) < 2 or not all("squared_error" in run.metrics for run in trials):
            continue  # of one point there is no line, and a GAN reconstructs nothing
        colour, dash = METHODS[kind[0]].line
        errors, distances = ([run.metrics[key] for run in trials] for key in ("squared_error", "fid"))
        style = {"color": COLOURS[colour], "marker": "o", "ms": 4}
        axis.plot(errors, distances, dash, mfc="white", label=_title(kind), **style)
        axis.plot(errors[-1], distances[-1], **style)
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="squared error per image, validation", ylabel="FID to validation images")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 4, 5, 7)))
        ticks.set_major_formatter("{x:g}")
    axis.minorticks_off()
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn


def by_length(dataset: str) -> Figure:
    """FID and squared error of the main methods on validation images, against the epochs of training.

    The dashed line is the FID of as many real training images, which no method can be expected to beat.
    """
    drawn, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    floors = []
    for name in selection.MAIN:
        trained = selection.recorded_length_trials(dataset, name)
        if not trained:
            continue
        colour, dash = METHODS[name].line
        style = {"ls": dash, "color": COLOURS[colour], "marker": "o", "mfc": "white", "ms": 4}
        style["label"] = METHODS[name].title
        epochs = [run.experiment.epochs for run in trained]
        if selection.draws_from_prior(name):
            distances, errors = ([run.metrics[key] for run in trained] for key in ("fid", "fid_error"))
            left.errorbar(epochs, distances, errors, elinewidth=1, **style)
        if all("squared_error" in run.metrics for run in trained):
            right.plot(epochs, [run.metrics["squared_error"] for run in trained], **style)
        floors += [run.metrics["fid_training"] for run in trained if "fid_training" in run.metrics]
    if floors:
        left.axhline(sum(floors) / len(floors), color=COLOURS["grey"], ls="--", lw=1.2)
        left.annotate(
            "real training images", (1, floors[0]), (-2, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", fontsize="small",
        )  # fmt: skip
    left.set(title="FID, validation", yscale="log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    right.set(title="squared error, validation")
    for axis in (left, right):
        axis.set(xscale="log", xlabel="epochs")
        axis.set_xticks(selection.LENGTHS, map(str, selection.LENGTHS))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    entries = {
        label: handle
        for axis in (right, left)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(entries.values(), entries, loc="outside lower center", ncols=4)
    return drawn


def before_and_after(dataset: str, method: str = "wwae") -> Figure:
    """New images of a method after the shortest and after the longest recorded training, of the same codes.

    Raises:
        ValueError: fewer than two lengths are recorded.
        RunError: one of the two was recorded without its pictures.
    """
    trained = selection.recorded_length_trials(dataset, method)
    if len(trained) < 2:
        raise ValueError(f"{len(trained)} lengths of {dataset}/{method}: reproduce --profile convergence")
    ends = trained[0], trained[-1]
    return figures.samples(ends, [f"{run.experiment.epochs} epochs" for run in ends])


def lengths(dataset: str) -> str:
    """FID and squared error of the main methods on validation images, a length of training per row."""
    recorded = {name: selection.recorded_length_trials(dataset, name) for name in selection.MAIN}
    tried = {name: trials for name, trials in recorded.items() if trials}
    rows = []
    for epochs in selection.LENGTHS:
        cells = []
        for some in tried.values():
            run = next((run for run in some if run.experiment.epochs == epochs), None)
            cells.append("-" if run is None else _ends(run))
        rows.append([str(epochs), *cells])
    return markdown(["epochs", *(METHODS[name].title for name in tried)], rows)


def repeated(dataset: str) -> str:
    """Where a length of training repeats a trial in all but its name: how far apart are the two?"""
    apart = []
    for name in selection.MAIN:
        if not (name in selection.CENTRES and selection.complete(dataset, name)):
            continue
        best = selection.best_trial(dataset, name)
        for run in selection.recorded_length_trials(dataset, name):
            same = dataclasses.replace(run.experiment, variant=best.experiment.variant) == best.experiment
            if same and _distance(run) != _distance(best):
                apart.append(f"the {_spoken(name)} has {_distance(run)} here and {_distance(best)} there")
    if not apart:
        return ""
    return (
        "A length that is that of the trials above is one of them, trained again by a later version of the "
        f"library, which rounds in another order: {enumeration(apart)}. So far can rounding alone move a "
        "training."
    )


def _ends(run: Run) -> str:
    """The FID and the squared error of a run, each where it is judged by it."""
    shown = [_distance(run)] if selection.draws_from_prior(run.experiment.method) else []
    if (error := run.metrics.get("squared_error")) is not None:
        shown.append(METRICS["squared_error"].form.format(error))
    return "; ".join(shown)


def convergence(dataset: str) -> Sequence[str]:
    """For each main method, a sentence on whether its longest training has converged, by the book's rule."""
    lines = []
    for name in selection.MAIN:
        some = selection.recorded_length_trials(dataset, name)
        pairs = [
            (a, b) for a, b in itertools.pairwise(some) if b.experiment.epochs < 2.5 * a.experiment.epochs
        ]
        if pairs:  # the last doubling
            shorter, longer = pairs[-1]
            few, many = shorter.experiment.epochs, longer.experiment.epochs
            title = f"The {_spoken(name)}"
            lines.append(
                f"{title} has converged after {few} epochs: {many} epochs changed little."
                if selection.converged(shorter, longer)
                else f"{title} has not converged after {few} epochs: {many} epochs still changed it."
            )
    return lines
