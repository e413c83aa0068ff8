"""What was tried on validation images before settings were fixed? Tables and figures of the trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

from .. import selection
from ..data import DATASETS
from ..methods import METHODS
from ..runs import Run
from .figures import COLOURS, WIDTH
from .tables import METRICS, cell, markdown
from .uncertainty import measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["convergence", "datasets", "figure", "lengths", "summary", "table"]


def datasets() -> list[str]:
    """The data sets on which trials of a setting are recorded."""
    return [dataset for dataset in DATASETS if _tried(dataset)]


def _tried(dataset: str) -> dict[str, list[Run]]:
    """The recorded trials of each method on a data set."""
    methods = dict.fromkeys(name for name in selection.CENTRES if "/" not in name)
    return {name: some for name in methods if (some := selection.recorded_trials(dataset, name))}


def _value(run: Run) -> float:
    field, _ = selection.setting(run.experiment.dataset, run.experiment.method)
    return getattr(run.experiment, field)


def _distance(run: Run, key: str = "fid") -> str:
    one = measured([run], key)
    return cell(one, METRICS["fid"]) if one else "-"


def table(dataset: str) -> str:
    """Every trial of a setting, a method per row: the value, and the FID to validation images that it gave.

    The lowest of a row is bold where all five values are recorded.
    """
    rows = []
    for name, some in _tried(dataset).items():
        field, _ = selection.setting(dataset, name)
        whole = len(some) == len(selection.FACTORS)
        best = selection.best_trial(some) if whole else None
        by_value = {_value(run): run for run in some}
        cells = []
        for factor in selection.FACTORS:
            value = getattr(selection.trial(dataset, name, factor), field)
            told = _distance(by_value[value]) if value in by_value else "-"
            cells.append(f"{value:g}: {f'**{told}**' if by_value.get(value) is best and whole else told}")
        rows.append([METHODS[name].title, field.replace("_", " "), *cells])
    heads = [f"{factor:g} times the centre" for factor in selection.FACTORS]
    return markdown(["method", "setting", *heads], rows, words=2)


def summary(dataset: str) -> str:
    """For which methods a value could be chosen, and for which the lowest is at an end of what was tried."""
    tried, title = _tried(dataset), DATASETS[dataset].title
    whole = {name: trials for name, trials in tried.items() if len(trials) == len(selection.FACTORS)}
    best = {name: selection.best_trial(trials) for name, trials in whole.items()}
    missing = [METHODS[name].title for name in tried if name not in best]
    ends = [METHODS[name].title for name, run in best.items() if run in (tried[name][0], tried[name][-1])]
    lines = []
    if best:
        lines.append(
            f"On {title} the trials are complete for {_and([METHODS[name].title for name in best])}."
        )
    if missing:
        lines.append(f"On {title} trials are still to be made for {_and(missing)}.")
    if ends:
        lines.append(f"For {_and(ends)} the lowest distance lies at an end of the values tried.")
    return " ".join(lines)


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def figure(dataset: str) -> Figure:
    """FID to validation images against the multiple of the centre, a line per method, the lowest filled."""
    drawn, axis = plt.subplots(figsize=(WIDTH, 3.4))
    for name, some in _tried(dataset).items():
        _, centre = selection.setting(dataset, name)
        colour, dash = METHODS[name].line
        places, heights = [_value(run) / centre for run in some], [run.metrics["fid"] for run in some]
        axis.plot(
            places,
            heights,
            dash,
            color=COLOURS[colour],
            marker="o",
            mfc="white",
            ms=4,
            label=METHODS[name].title,
        )
        lowest = heights.index(min(heights))
        axis.plot(places[lowest], heights[lowest], "o", color=COLOURS[colour], ms=4)
    axis.set(xscale="log", yscale="log", xlabel="multiple of the centre", ylabel="FID to validation images")
    axis.set_xticks(selection.FACTORS, [f"{factor:g}" for factor in selection.FACTORS])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axis.yaxis.set_major_formatter("{x:g}")
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn


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


def _ends(run: Run) -> str:
    """The FID by which a run is judged, and its squared error where it has one."""
    fid = _distance(run, selection.judging_metric(run.experiment.method))
    error = run.metrics.get("squared_error")
    return fid if error is None else f"{fid}; {METRICS['squared_error'].form.format(error)}"


def convergence(dataset: str) -> Sequence[str]:
    """For each main method, a sentence on whether its longest training has converged, by the book's rule."""
    lines = []
    for name in selection.MAIN:
        some = selection.recorded_length_trials(dataset, name)
        if len(some) > 1:
            shorter, longer = some[-2:]
            few, many = shorter.experiment.epochs, longer.experiment.epochs
            title = METHODS[name].title
            lines.append(
                f"{title} has converged after {few} epochs: {many} epochs changed little."
                if selection.converged(shorter, longer)
                else f"{title} has not converged after {few} epochs: {many} epochs still changed it."
            )
    return lines
