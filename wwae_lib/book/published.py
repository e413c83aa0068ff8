"""What have others published, how did they measure it, and with which settings did they train?

All of it is in ``book/published.json``, where each source says what of it was read and what could not be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..data import DATASETS
from ..experiments import Experiment, experiment
from ..methods import METHODS
from ..runs import Run, RunError, checkout
from .tables import GLUE, METRICS, by_dataset, cell, contests, markdown

__all__ = [
    "FIELDS",
    "SHARED",
    "method_settings",
    "ours_and_published",
    "penalty_weight",
    "protocols",
    "read",
    "shared_settings",
    "sources",
    "stated_values",
]

# What a method's settings are called in tables: those of its own, and those that are ours for all methods.
FIELDS = {
    "weight": "weight of the penalty",
    "latent": "latent dimension",
    "learning_rate": "learning rate",
    "adversary_rate": "learning rate of the discriminator",
    "betas": "Adam's decay rates",
    "batch_size": "batch size",
    "epochs": "epochs",
}
SHARED = {
    "network": "network",
    "batch_norm": "batch normalisation",
    "schedule": "schedule of the learning rate",
    "noise": "noise on images before the encoder",
    "pretraining": "training before training",
}


def read() -> dict[str, Any]:
    """``book/published.json``: sources with their protocols, settings of methods, and results.

    Raises:
        RunError: the library was installed without the book.
    """
    if not (root := checkout()):
        raise RunError("published numbers come with the book's checkout, and this library is not in one")
    path = root / "book" / "published.json"
    return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- results


def ours_and_published(runs: Sequence[Run], dataset: str, key: str = "fid") -> str:
    """Ours beside what others published for a data set, a method a row and a source a column.

    Returns:
        Markdown, or nothing where no source gives this metric.
    """
    theirs = read()
    results = [result for result in theirs["results"] if result["dataset"] == dataset and key in result]
    if not results:
        return ""
    columns: dict[str, dict[str, str]] = {}
    for contest in contests(runs):
        if contest.dataset == dataset and (values := contest.measured(key)):
            title = contest.title.replace(DATASETS[dataset].title, "this book")
            columns[title] = {name: cell(result, METRICS[key]) for name, result in values.items()}
    for name, source in theirs["sources"].items():
        if column := {
            result["method"] or result["label"]: _peer(result, key)
            for result in results
            if result["source"] == name
        }:
            columns[source["name"]] = column
    named = list(dict.fromkeys(name for column in columns.values() for name in column))
    order = [name for name in METHODS if name in named] + [name for name in named if name not in METHODS]
    rows = [
        [
            METHODS[name].title if name in METHODS else name,
            *(column.get(name, "-") for column in columns.values()),
        ]
        for name in order
    ]
    return markdown(["method", *columns], rows)


def _peer(result: Mapping[str, Any], key: str) -> str:
    spread = f"{GLUE}±{GLUE}{result[f'{key}_spread']}" if f"{key}_spread" in result else ""
    codes = f" (codes: {result['codes']})" if "codes" in result else ""
    return f"{'~' if result.get('approximate') else ''}{result[key]}{spread}{codes}"


def protocols() -> str:
    """How the published numbers were measured, a source of results a row."""
    known = read()
    giving = {result["source"] for result in known["results"]}
    fields = ("network", "latent", "batch_size", "epochs", "images", "samples", "reference", "choice")
    rows = [
        [f"{_link(source)}, {source['where']}", *(by_dataset(source[field], _text) for field in fields)]
        for name, source in known["sources"].items()
        if name in giving
    ]
    head = ["source", "network", "latent dimension", "batch size", "epochs"]
    return markdown([*head, "images", "samples", "reference", "reported"], rows, words=9)


def sources() -> str:
    """What of each source was read, and what could not be, a source a row."""
    rows = [
        [_link(source), source["title"], source["read"], source["unread"]]
        for source in read()["sources"].values()
    ]
    return markdown(["source", "", "read", "not read"], rows, words=4)


def _link(source: Mapping[str, Any]) -> str:
    return f"[{source['name']}]({source['url']})"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:,g}" if isinstance(value, int | float) else str(value)


# ---------------------------------------------------------------- settings


def penalty_weight(setting: Mapping[str, Any], dataset: str) -> Any:
    r"""The weight of a method's penalty in a source, on the scale of :mod:`wwae_lib.methods`.

    Where the source minimises :math:`a |x - G(z)|^2 + \lambda \cdot \mathrm{penalty}`, pixels `w` wide,
    it is :math:`\lambda / (a w^2)` here. A weight of which no `a` is given is as the source has it.

    Args:
        setting: an entry of ``settings`` in ``book/published.json``.
        dataset: one that the entry is about.

    Returns:
        A number, or words where the source has none, or None where it says nothing.
    """
    theirs = _of(setting.get("weight"), dataset)
    scale = _of(setting.get("error_weight"), dataset)
    if scale is None or not isinstance(theirs, int | float):
        return theirs
    width = _of(setting["pixel_width"], dataset)
    return float(Fraction(str(theirs)) / (Fraction(scale) * width**2))


def stated_values(setting: Mapping[str, Any], source: Mapping[str, Any], field: str) -> dict[str, Any]:
    """What a source says of a field, by data set: of the method or, where it says nothing there, of all."""
    latent = setting.get("latent", source["latent"])
    covered = latent if isinstance(latent, Mapping) else DATASETS
    values = {
        dataset: penalty_weight(setting, dataset)
        if field == "weight"
        else _of(setting.get(field, source.get(field)), dataset)
        for dataset in covered
    }
    return {dataset: value for dataset, value in values.items() if value is not None}


def method_settings(reasons: Mapping[str, str], runs: Sequence[Run] = ()) -> str:
    """Published settings of every method beside ours.

    Args:
        reasons: why ours differ, by field of ``FIELDS``, or by method and field as in ``"swae/weight"``.
        runs: records whose settings are ours, on the data sets that have one; without any, ours are what the
            book would run.

    Raises:
        ValueError: one of ours differs from that of the first source which has a value for the data set,
            and no reason is given.
    """
    known = read()
    recorded = {
        (contest.dataset, method): some[0].experiment
        for contest in reversed(contests(runs))
        for method, some in contest.methods.items()
    }
    rows = []
    for method in METHODS:
        planned = {} if runs else {dataset: experiment(dataset, method) for dataset in DATASETS}
        configured = planned | {
            dataset: made for (dataset, name), made in reversed(recorded.items()) if name == method
        }
        entries = [
            (known["sources"][entry["source"]], entry)
            for entry in known["settings"]
            if entry["method"] == method
        ]
        title = METHODS[method].title
        for field, label in FIELDS.items():
            stated = [(source["name"], stated_values(entry, source, field)) for source, entry in entries]
            if stated := [(name, values) for name, values in stated if values]:
                ours = {dataset: _ours(made, field) for dataset, made in configured.items()}
                why = _why(f"{method}/{field}", reasons, ours, [values for _, values in stated])
                shown = by_dataset(ours, _text) if ours else "not trained yet"
                rows.append([title, label, _gathered(stated), shown, why])
                title = ""
    return markdown(["method", "setting", "published (source)", "ours", "why it differs"], rows, words=5)


def shared_settings(ours: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Published settings beside those that are ours for all methods alike.

    Args:
        ours: by field of ``SHARED``, words or words by data set.
        reasons: why ours differ, by field.
    """
    sources = read()["sources"].values()
    rows = []
    for field, label in SHARED.items():
        stated = [(source["name"], source[field]) for source in sources if source[field] is not None]
        rows.append([label, _gathered(stated), by_dataset(ours[field]), reasons[field]])
    return markdown(["setting", "published (source)", "ours", "why it differs"], rows, words=4)


def _ours(planned: Experiment, field: str) -> Any:
    kind = METHODS[planned.method]
    if field == "betas":
        return list(kind.betas)
    if field == "adversary_rate":
        return planned.learning_rate * kind.rates.get(kind.adversaries[0], 1.0)
    return getattr(planned, "penalty_weight" if field == "weight" else field)


def _why(
    name: str, reasons: Mapping[str, str], ours: Mapping[str, Any], theirs: Sequence[Mapping[str, Any]]
) -> str:
    """The reason of a difference from the first source that gives a value; a dash where there is none."""
    first = {dataset: values[dataset] for values in reversed(theirs) for dataset in values}
    differs = [
        DATASETS[dataset].title
        for dataset in first
        if dataset in ours and not _same(ours[dataset], first[dataset])
    ]
    reason = reasons.get(name) or reasons.get(name.partition("/")[2])
    if differs and not reason:
        raise ValueError(f"{name} is not what its first source has ({', '.join(differs)}): say why")
    return reason if differs else "-"


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs)
    return ours == theirs


def _gathered(stated: Sequence[tuple[str, Any]]) -> str:
    """Each value with the names of those who have it, a line each."""
    names: dict[str, list[str]] = {}
    for name, value in stated:
        texts = {_text(each) for each in value.values()} if isinstance(value, Mapping) else {_text(value)}
        text = texts.pop() if len(texts) == 1 else by_dataset(value, _text)
        names.setdefault(text, []).append(name)
    return "<br>".join(f"{text}: {', '.join(who)}" for text, who in names.items())


def _of(value: Any, dataset: str) -> Any:
    return value.get(dataset) if isinstance(value, Mapping) else value
