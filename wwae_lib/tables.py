"""What did the runs measure? Markdown tables of records, and what methods and metrics are called."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .data import DATASETS
from .experiments import METHODS
from .runs import Run
from .uncertainty import Measured, difference, measured, numbers

__all__ = [
    "DATASET_NAMES",
    "HEADLINE",
    "IMAGES",
    "LATENT",
    "LEGEND",
    "METRICS",
    "NAMES",
    "Metric",
    "across",
    "cell",
    "comparison",
    "compute",
    "markdown",
    "name_of",
    "of_method",
    "peers",
    "plus_minus",
    "protocols",
    "published",
    "settings",
    "table",
]

# How methods, data sets and metrics are called in figures and tables.
NAMES = {
    "wwae": "WWAE",
    "vae": "VAE",
    "vae_learned": "VAE, learned variance",
    "vae_bernoulli": "VAE, Bernoulli",
    "ae": "AE",
    "wae_mmd": "WAE-MMD",
    "wae_gan": "WAE-GAN",
    "swae": "SWAE",
    "cwae": "CWAE",
    "gan": "DCGAN",
    "wgan_gp": "WGAN-GP",
}
DATASET_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "celeba": "CelebA"}
NAMED_ELSEWHERE = ("dataset", "method", "variant")  # in the title of a run's column


class Metric(NamedTuple):
    """What a metric is called, how its value is written, and which end is better, if either."""

    label: str
    form: str
    better: str = ""  # "lower", "higher"; "" where neither is


METRICS = {
    "fid": Metric("FID of prior samples", "{:.1f}", "lower"),
    "fid_gaussian": Metric("FID, Gaussian fitted to the codes", "{:.1f}", "lower"),
    "fid_mixture": Metric("FID, mixture fitted to the codes", "{:.1f}", "lower"),
    "fid_interpolation": Metric("FID of interpolations", "{:.1f}", "lower"),
    "fid_reconstruction": Metric("FID of reconstructions", "{:.1f}", "lower"),
    "kid": Metric("KID of prior samples", "{:.4f}", "lower"),
    "precision": Metric("precision", "{:.3f}", "higher"),
    "recall": Metric("recall", "{:.3f}", "higher"),
    "density": Metric("density", "{:.3f}", "higher"),
    "coverage": Metric("coverage", "{:.3f}", "higher"),
    "sharpness": Metric("sharpness of prior samples", "{:.4f}"),
    "sharpness_reconstruction": Metric("sharpness of reconstructions", "{:.4f}"),
    "sharpness_gap": Metric("distance of samples from the data's sharpness", "{:.3f}", "lower"),
    "sharpness_reconstruction_gap": Metric("the same of reconstructions", "{:.3f}", "lower"),
    "sharpness_data": Metric("sharpness of test images", "{:.4f}"),
    "squared_error": Metric("squared error an image", "{:.2f}", "lower"),
    "knn_accuracy": Metric("nearest neighbours' accuracy", "{:.3f}", "higher"),
    "linear_accuracy": Metric("linear classifier's accuracy", "{:.3f}", "higher"),
    "posterior_w2_squared": Metric("squared W2, posterior to prior", "{:.3f}", "lower"),
    "sliced_w2_squared": Metric("sliced squared W2, posterior to prior", "{:.4f}", "lower"),
    "sliced_w2_squared_floor": Metric("the same of exact draws", "{:.4f}"),
    "ks_mean": Metric("mean Kolmogorov-Smirnov distance", "{:.3f}", "lower"),
    "ks_rejected": Metric("share of coordinates not normal", "{:.2f}", "lower"),
    "henze_zirkler": Metric("Henze-Zirkler statistic", "{:.2f}", "lower"),
    "henze_zirkler_p": Metric("its p-value", "{:.3f}"),
    "effective_dimension": Metric("effective dimension", "{:.2f}"),
    "active_dimensions": Metric("active dimensions", "{:.0f}"),
    "posterior_variance": Metric("mean encoder variance", "{:.4f}"),
    "train_minutes": Metric("training, minutes", "{:.1f}", "lower"),
}
HEADLINE = ("fid", "squared_error", "posterior_w2_squared", "posterior_variance")
IMAGES = (
    *("fid", "fid_gaussian", "fid_mixture", "fid_interpolation", "fid_reconstruction", "kid"),
    *("precision", "recall", "density", "coverage", "sharpness", "squared_error"),
)
LATENT = (
    *("knn_accuracy", "linear_accuracy", "posterior_w2_squared", "sliced_w2_squared", "ks_mean"),
    *("ks_rejected", "henze_zirkler", "effective_dimension", "active_dimensions", "posterior_variance"),
)
LEGEND = (
    "*±: 95% t-interval of the mean over three or more seeds. In brackets: with fewer seeds, the standard "
    "error of measuring the trained model, which leaves out how training spreads. Bold: the best, where its "
    "lead over every other exceeds the 95% uncertainty of the difference. -: not measured, or there is no "
    "such thing.*"
)


def name_of(run: Run) -> str:
    """How figures and tables call a run: its method, and its variant where it has one."""
    chosen = run.experiment
    return NAMES.get(chosen.method, chosen.method) + (
        f" ({chosen.variant.replace('_', ' ')})" if chosen.variant else ""
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table; its first ``words`` columns are words, set left, the others numbers, set right."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


# ---------------------------------------------------------------- single runs


def table(runs: Sequence[Run], keys: Sequence[str] = HEADLINE) -> str:
    """Metrics of recorded runs, a run a row; a column where a run has the metric."""
    found = [numbers(run) for run in runs]
    shown = [key for key in keys if any(key in one for one in found)]
    rows = [
        [name_of(run), *(METRICS[key].form.format(one[key]) if key in one else "-" for key in shown)]
        for run, one in zip(runs, found, strict=True)
    ]
    return markdown(["method", *(METRICS[key].label for key in shown)], rows)


def settings(runs: Sequence[Run]) -> str:
    """Configuration and circumstances of recorded runs, a run a column."""
    columns = [_settings(run) for run in runs]
    rows = [[key, *(column[key] for column in columns)] for key in columns[0]]
    return markdown(["", *map(name_of, runs)], rows, words=len(runs) + 1)


def _settings(run: Run) -> dict[str, str]:
    images, environment = run.record["data"], run.record["environment"]
    machine = [environment["device"], f"{environment['threads']} thread(s)", environment["precision"]]
    return {
        "data": f"{images['train']['images']:,} images, {images['source']}",
        **{
            f"`{key}`": str(value)
            for key, value in run.record["config"].items()
            if key not in NAMED_ELSEWHERE
        },
        "computed on": ", ".join([*machine, f"torch {environment['torch']}"]),
        "training time": f"{environment['train_seconds'] / 60:.0f} min",
    }


# ---------------------------------------------------------------- methods, over their seeds


def of_method(runs: Sequence[Run], dataset: str, variant: str = "") -> dict[str, list[Run]]:
    """The runs of each method on a data set, all seeds, in the order of ``METHODS``."""
    chosen = {method: [] for method in METHODS}
    for run in runs:
        if (run.experiment.dataset, run.experiment.variant) == (dataset, variant):
            chosen[run.experiment.method].append(run)
    return {method: found for method, found in chosen.items() if found}


def comparison(runs: Sequence[Run], dataset: str, keys: Sequence[str] = HEADLINE, variant: str = "") -> str:
    """Metrics of every method on a data set over its seeds, a method a row; ``LEGEND`` explains it."""
    methods = of_method(runs, dataset, variant)
    columns = {key: {name: measured(found, key) for name, found in methods.items()} for key in keys}
    columns = {key: column for key, column in columns.items() if any(column.values())}
    written = {key: _column(column, METRICS[key]) for key, column in columns.items()}
    rows = [
        [NAMES[name], str(len(found)), *(written[key][name] for key in columns)]
        for name, found in methods.items()
    ]
    return markdown(["method", "seeds", *(METRICS[key].label for key in columns)], rows)


def across(runs: Sequence[Run], key: str, variant: str = "") -> str:
    """One metric of every method on every data set that has it, and of how many seeds."""
    head, columns = ["method"], []
    for dataset in DATASETS:
        found = {name: measured(some, key) for name, some in of_method(runs, dataset, variant).items()}
        if any(found.values()):
            head += [DATASET_NAMES[dataset], "seeds"]
            seeds = {name: str(one.seeds) for name, one in found.items() if one}
            columns += [_column(found, METRICS[key]), seeds]
    rows = [
        [NAMES[name], *(column.get(name, "-") for column in columns)]
        for name in METHODS
        if any(name in column for column in columns)
    ]
    return markdown(head, rows)


def cell(one: Measured | None, metric: Metric) -> str:
    """``mean ± interval`` over several seeds, else ``mean (standard error)``, else the mean alone."""
    if one is None:
        return "-"
    if not math.isnan(one.interval):
        return plus_minus(one.mean, one.interval, metric.form)
    form = _form(metric.form, one.error)
    return form.format(one.mean) + ("" if math.isnan(one.error) else f" ({form.format(one.error)})")


def plus_minus(value: float, half: float, form: str, sign: str = "") -> str:
    """``value ± half``, the value alone where half is nan; ``sign`` is that of format specifications."""
    form = _form(form, half)
    text = form.replace(":", f":{sign}").format(value)
    return text if math.isnan(half) else f"{text} ± {form.format(half)}"


def _form(form: str, spread: float) -> str:
    """The format, with as many decimals more as the spread needs to show a digit."""
    decimals = int(form[form.index(".") + 1 : form.index("f")])
    if spread > 0 and float(form.format(spread)) == 0:
        decimals = math.ceil(-math.log10(spread))
    return f"{{:.{decimals}f}}"


def _column(column: Mapping[str, Measured | None], metric: Metric) -> dict[str, str]:
    """The cells of one metric, the best in bold where it is surely so."""
    best = _best({name: one for name, one in column.items() if one}, metric.better)
    cells = {name: cell(one, metric) for name, one in column.items()}
    return cells | ({best: f"**{cells[best]}**"} if best else {})


def _best(column: Mapping[str, Measured], better: str) -> str | None:
    """The method whose lead over every other exceeds its uncertainty, if there is one."""
    if len(column) < 2 or not better:
        return None
    best = (min if better == "lower" else max)(column, key=lambda name: column[name].mean)
    others = [one for name, one in column.items() if name != best]
    return best if all(difference(column[best], one).sure for one in others) else None


# ---------------------------------------------------------------- published numbers


def peers() -> dict[str, Any]:
    """``book/published.json``: sources with their protocols, and the results they give."""
    path = Path(__file__).resolve().parents[1] / "book" / "published.json"
    return json.loads(path.read_text(encoding="utf-8"))


def published(runs: Sequence[Run], dataset: str, key: str = "fid", variant: str = "") -> str:
    """Ours beside what others published for a data set, a method a row and a source a column."""
    theirs = peers()
    results = [one for one in theirs["results"] if one["dataset"] == dataset and key in one]
    sources = [name for name in theirs["sources"] if any(one["source"] == name for one in results)]
    ours = {name: measured(found, key) for name, found in of_method(runs, dataset, variant).items()}
    rows: dict[str, dict[str, str]] = {
        name: {"": cell(one, METRICS[key])} for name, one in ours.items() if one
    }
    for one in results:
        row = rows.setdefault(one["method"] or one["label"], {})
        row[one["source"]] = _peer(one, key)
    order = sorted(rows, key=lambda name: METHODS.index(name) if name in METHODS else len(METHODS))
    head = ["method", "this book", *(theirs["sources"][name]["name"] for name in sources)]
    return markdown(
        head, [[NAMES.get(name, name), *(rows[name].get(s, "-") for s in ["", *sources])] for name in order]
    )


def _peer(one: Mapping[str, Any], key: str) -> str:
    spread = f" ± {one[f'{key}_spread']}" if f"{key}_spread" in one else ""
    return f"{'~' if one.get('approximate') else ''}{one[key]}{spread}"


def protocols(dataset: str | None = None) -> str:
    """How the published numbers were measured, a source a row; of one data set's sources alone if named."""
    theirs = peers()
    used = {one["source"] for one in theirs["results"] if dataset in (None, one["dataset"])}
    rows = [
        [
            f"[{source['name']}]({source['url']}), {source['where']}",
            source["network"] or "-",
            _by_dataset(source["latent"]),
            _by_dataset(source["epochs"]),
            _by_dataset(source["images"]),
            "-" if source["samples"] is None else f"{source['samples']:,}",
            source["reference"] or "-",
            source["choice"] or "-",
        ]
        for name, source in theirs["sources"].items()
        if name in used
    ]
    head = ["source", "network", "latent dimension", "epochs", "images", "samples", "reference", "reported"]
    return markdown(head, rows, words=len(head))


def _by_dataset(value: Any) -> str:
    """A value that is the same for every data set, or one for each."""
    if not isinstance(value, dict):
        return "-" if value is None else str(value)
    if len(set(map(str, value.values()))) == 1 and len(value) == len(DATASET_NAMES):
        return str(next(iter(value.values())))
    return ", ".join(f"{one} ({DATASET_NAMES[name]})" for name, one in value.items()) or "-"


# ---------------------------------------------------------------- what it cost


def compute(runs: Sequence[Run]) -> str:
    """Runs and hours of training, by data set and machine."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        environment = run.record["environment"]
        machine = f"{environment['device']}, {environment['threads']} thread(s), {environment['precision']}"
        groups.setdefault((run.experiment.dataset, machine), []).append(run)
    rows = [
        [
            DATASET_NAMES[dataset],
            machine,
            str(len(groups[dataset, machine])),
            _hours(groups[dataset, machine]),
        ]
        for dataset, machine in sorted(groups, key=lambda group: (list(DATASETS).index(group[0]), group[1]))
    ]
    if len(rows) > 1:
        rows.append(["together", "", str(len(runs)), _hours(runs)])
    return markdown(["data set", "trained on", "runs", "hours of training"], rows, words=2)


def _hours(runs: Sequence[Run]) -> str:
    return f"{sum(run.record['environment']['train_seconds'] for run in runs) / 3600:.1f}"
