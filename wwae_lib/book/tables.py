"""What did the runs measure? Markdown tables of records, and what methods and metrics are called."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..data import DATASETS
from ..methods import METHODS
from ..runs import Run
from .selection import compared_methods, draws_from_prior
from .uncertainty import (
    OF_PRIOR,
    SEVERAL,
    Measured,
    Spread,
    difference,
    explained,
    largest_spread,
    measured,
    numbers,
    paired,
    protocols,
)

__all__ = [
    "COST",
    "DECODED",
    "HEADLINE",
    "LEGEND",
    "METRICS",
    "NEIGHBOURS",
    "NORMALITY",
    "QUALITY",
    "SHARPNESS",
    "STRUCTURE",
    "Contest",
    "Metric",
    "by_dataset",
    "cell",
    "common_metrics",
    "comparison",
    "comparisons",
    "configured",
    "contests",
    "counted",
    "enumeration",
    "ex_post_sampling",
    "fid_sample_sizes",
    "fits",
    "markdown",
    "methods_recorded",
    "metric_across_datasets",
    "name_of",
    "near_best",
    "ordinal",
    "penalty_times",
    "plus_minus",
    "rankings",
    "settings",
    "table",
    "training_hours",
    "values_in_words",
]

# variant -> what a contest of runs of this variant is called after its data set
CONTESTS = {"": "", "reference": ", reference network"}
GLUE = "\N{NO-BREAK SPACE}"  # a number and its uncertainty stay on one line
# What tables call the fields of a configuration, and the estimators of the posterior's moments.
SETTINGS = {
    "batch_size": "images per batch",
    "epochs": "epochs",
    "estimator": "moments of the codes",
    "initial_std": "encoder's standard deviation at the start",
    "latent": "dimensions of a code",
    "learning_rate": "learning rate at the start",
    "network": "network",
    "penalty_weight": "weight of the penalty",
    "seed": "seed",
    "warm_up": "steps in which the rate rises",
}
ESTIMATORS = {
    "total": "total covariance",
    "sampled": "one sampled code per image",
    "diagonal": "diagonal of the total covariance",
    "corrected": "total covariance less its bias",
    "accumulated": "accumulated over batches",
    "sliced": "sliced",
}
NAMED_ELSEWHERE = ("dataset", "method", "variant")  # in the title of a run's column


P_VALUE = "p"  # a form: how often chance alone gives as much; of several seeds, the largest
SMALLEST = 0.001  # that is told apart from less


class Metric(NamedTuple):
    """What a metric is called, how its value is written, and which end is better, if either."""

    label: str
    form: str
    better: str = ""  # "lower", "higher"; "" where neither is


METRICS = {
    "fid": Metric("FID of prior samples", "{:.1f}", "lower"),
    "fid_gaussian": Metric("FID, fitted Gaussian", "{:.1f}", "lower"),
    "fid_mixture": Metric("FID, fitted mixture", "{:.1f}", "lower"),
    "fid_mixture_100": Metric("FID, mixture of 100", "{:.1f}", "lower"),
    "fid_interpolation": Metric("FID of interpolations", "{:.1f}", "lower"),
    "fid_reconstruction": Metric("FID of reconstructions", "{:.1f}", "lower"),
    "fid_training": Metric("FID of training images", "{:.1f}"),
    "kid": Metric("KID", "{:.4f}", "lower"),
    "precision": Metric("precision", "{:.3f}", "higher"),
    "recall": Metric("recall", "{:.3f}", "higher"),
    "density": Metric("density", "{:.3f}", "higher"),
    "coverage": Metric("coverage", "{:.3f}", "higher"),
    "sharpness": Metric("sharpness", "{:.4f}"),
    "sharpness_data": Metric("sharpness of test images", "{:.4f}"),
    "sharpness_gap": Metric("gap to test images", "{:.3f}", "lower"),
    "sharpness_reconstruction": Metric("sharpness of reconstructions", "{:.4f}"),
    "sharpness_reconstruction_gap": Metric("gap of reconstructions", "{:.3f}", "lower"),
    "squared_error": Metric("squared error per image", "{:.2f}", "lower"),
    "knn_accuracy": Metric("nearest-neighbour accuracy", "{:.3f}", "higher"),
    "linear_accuracy": Metric("linear accuracy", "{:.3f}", "higher"),
    "posterior_w2_squared": Metric("squared W2, posterior to prior", "{:.3f}", "lower"),
    "posterior_w2_p": Metric("its p-value, at most", P_VALUE),
    "sliced_w2_squared": Metric("sliced squared W2", "{:.4f}", "lower"),
    "sliced_w2_squared_floor": Metric("that of exact draws", "{:.4f}"),
    "mixture_nats": Metric("nats that a mixture gains", "{:.2f}", "lower"),
    "mixture_nats_floor": Metric("that of exact Gaussian draws", "{:.3f}"),
    "mixture_excess": Metric("nats that a mixture gains, less the floor", "{:.2f}", "lower"),
    "ks_mean": Metric("mean Kolmogorov-Smirnov distance", "{:.3f}", "lower"),
    "ks_rejected": Metric("share of coordinates not N(0, 1)", "{:.2f}", "lower"),
    "henze_zirkler": Metric("Henze-Zirkler statistic", "{:.2f}", "lower"),
    "henze_zirkler_p": Metric("its p-value", "{:.3f}"),
    "effective_dimension": Metric("effective dimension", "{:.2f}"),
    "active_dimensions": Metric("active dimensions", "{:.0f}"),
    "posterior_variance": Metric("mean encoder variance", "{:.4f}"),
    "neighbour_distance_5": Metric("samples, nearest 5%", "{:.1f}"),
    "neighbour_distance": Metric("samples, median", "{:.1f}"),
    "neighbour_distance_data_5": Metric("test images, nearest 5%", "{:.1f}"),
    "neighbour_distance_data": Metric("test images, median", "{:.1f}"),
    "train_minutes": Metric("training, minutes", "{:.1f}", "lower"),
    "epoch_seconds": Metric("seconds per epoch", "{:.1f}", "lower"),
}
# What a table shows together.
HEADLINE = ("fid", "squared_error", "posterior_w2_squared", "posterior_variance")
DECODED = ("fid", "fid_gaussian", "fid_mixture", "fid_interpolation", "fid_reconstruction", "squared_error")
QUALITY = ("kid", "precision", "recall", "density", "coverage")
SHARPNESS = ("sharpness_data", "sharpness", "sharpness_gap", "sharpness_reconstruction_gap")
STRUCTURE = (
    "knn_accuracy",
    "linear_accuracy",
    *("effective_dimension", "active_dimensions", "posterior_variance"),
)
NORMALITY = (
    *("posterior_w2_squared", "posterior_w2_p", "sliced_w2_squared", "sliced_w2_squared_floor"),
    *("mixture_nats", "mixture_nats_floor"),
    *("ks_mean", "ks_rejected", "henze_zirkler"),
)
NEIGHBOURS = tuple(f"neighbour_distance{of}" for of in ("_5", "", "_data_5", "_data"))
LAWS = {  # of codes: where new images of one decoder can come from
    "fid": "the prior",
    "fid_gaussian": "a Gaussian fitted to its codes",
    "fid_mixture": "a mixture of ten fitted to its codes",
}
COST = ("train_minutes", "epoch_seconds")
LEGEND = (
    "*±: 95% t-interval of the mean over three or more seeds. In brackets: with fewer seeds, the standard "
    "error of measuring the trained model, which leaves out how training spreads. A cell of fewer seeds "
    "than its row says so. Bold: the best, where its lead over every other exceeds the 95% uncertainty of "
    "the difference over seeds, each by itself; a single run is taken to vary as the method on the same "
    "data that varies most. A dash: not measured, or nothing to measure.*"
)


def name_of(run: Run) -> str:
    """How figures and tables call a run: its method, and its variant where it has one."""
    experiment = run.experiment
    return METHODS[experiment.method].title + (
        f" ({experiment.variant.replace('_', ' ')})" if experiment.variant else ""
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table; its first ``words`` columns are words, set left, the others numbers, set right."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


def enumeration(words: Sequence[str]) -> str:
    """Words as a sentence lists them: "one", "one and another", "one, another and a third".

    Where one holds a comma itself, semicolons part them: "one; another, longer; and a third".
    """
    if len(words) > 1 and any(", " in word for word in words):
        return "; ".join([*words[:-1], f"and {words[-1]}"])
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _threads(n: int) -> str:
    return f"{n} thread{'s' * (n != 1)}"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n != 1)}"


# ---------------------------------------------------------------- single runs


def table(runs: Sequence[Run], keys: Sequence[str] = HEADLINE) -> str:
    """Metrics of recorded runs, a run a row; a column where a run has the metric."""
    metrics = [numbers(run) for run in runs]
    shown = [key for key in keys if any(key in row for row in metrics)]
    rows = [
        [name_of(run), *(_written(row[key], METRICS[key]) if key in row else "-" for key in shown)]
        for run, row in zip(runs, metrics, strict=True)
    ]
    return markdown(["method", *(METRICS[key].label for key in shown)], rows)


def _written(value: float, metric: Metric) -> str:
    if metric.form != P_VALUE:
        return metric.form.format(value)
    return f"{value:.3f}" if value >= SMALLEST else f"< {SMALLEST}"


def values_in_words(runs: Sequence[Run], labels: Sequence[str], keys: Sequence[str]) -> str:
    """What a figure of metrics against a choice shows, in words: of each metric the value at each choice."""
    return " ".join(
        f"{METRICS[key].label}: "
        + ", ".join(
            f"{METRICS[key].form.format(run.metrics[key])} at {label}"
            for run, label in zip(runs, labels, strict=True)
            if key in run.metrics
        )
        + "."
        for key in keys
    )


def common_metrics(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """Those of the metrics that every run has."""
    return [key for key in keys if all(key in run.metrics for run in runs)]


def near_best(runs: Sequence[Run], key: str, share: float = 0.1) -> list[Run]:
    """The runs whose metric is within a share of the best one's, in the order given.

    Raises:
        ValueError: no run has the metric, or neither end of it is better.
    """
    better = METRICS[key].better
    values = [run.metrics[key] for run in runs if key in run.metrics]
    if not values or not better:
        raise ValueError(f"there is no best {key} among these runs")
    best = min(values) if better == "lower" else max(values)
    return [run for run in runs if key in run.metrics and abs(run.metrics[key] - best) <= share * abs(best)]


def methods_recorded(contest: Contest) -> str:
    """Which methods of the comparison are recorded, and which are still to be trained, in words."""
    names = [name_of(some[0]) for some in contest.methods.values()]
    missing = [
        METHODS[name].title for name in compared_methods(contest.dataset) if name not in contest.methods
    ]
    return f"These methods are recorded: {enumeration(names)}." + (
        f" Still to be trained: {enumeration(missing)}." if missing else ""
    )


def settings(runs: Sequence[Run]) -> str:
    """Configuration and circumstances of recorded runs, a run a column."""
    columns = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    absent = {SETTINGS["warm_up"]: "0"}
    rows = [[key, *(column.get(key, absent.get(key, "-")) for column in columns)] for key in keys]
    return markdown(["", *map(name_of, runs)], rows, words=len(runs) + 1)


def _settings(run: Run) -> dict[str, str]:
    images, environment, kind = run.record["data"], run.record["environment"], METHODS[run.experiment.method]
    foreign = {*NAMED_ELSEWHERE, *{"estimator", "penalty_weight", "initial_std"}.difference(kind.takes)}
    machine = [environment["device"], _threads(environment["threads"]), environment["precision"]]
    return {
        "data": f"{images['train']['images']:,} images, {images['source']}",
        **{
            SETTINGS.get(key, key): ESTIMATORS.get(value, str(value)) if key == "estimator" else str(value)
            for key, value in sorted(run.experiment.as_dict().items())
            if key not in foreign and not (key == "warm_up" and value == 0)
        },
        "computed on": ", ".join([*machine, f"torch {environment['torch']}"]),
        "training time": f"{environment['train_seconds'] / 60:.0f} min",
    }


# ---------------------------------------------------------------- methods, over their seeds


class Contest(NamedTuple):
    """Methods trained alike on one data set: its title, and the runs of each method, all seeds."""

    title: str
    dataset: str
    methods: dict[str, list[Run]]

    def measured(self, key: str) -> dict[str, Measured]:
        """A metric of every method that has it."""
        values = {name: measured(runs, key) for name, runs in self.methods.items()}
        return {name: value for name, value in values.items() if value}

    def spread(self, key: str) -> Spread | None:
        """How far a metric varies over seeds at most, which a method of a single seed is taken to do."""
        return largest_spread(self.measured(key).values())


def contests(runs: Sequence[Run]) -> list[Contest]:
    """Every contest that runs belong to, methods in the order of ``METHODS``; other variants are left out."""
    known = []
    for dataset in DATASETS:
        for variant, words in CONTESTS.items():
            here = [
                run for run in runs if (run.experiment.dataset, run.experiment.variant) == (dataset, variant)
            ]
            methods = {name: [run for run in here if run.experiment.method == name] for name in METHODS}
            methods = {name: recorded for name, recorded in methods.items() if recorded}
            if methods:
                known.append(Contest(DATASETS[dataset].title + words, dataset, methods))
    return known


def comparison(contest: Contest, keys: Sequence[str] = HEADLINE) -> str:
    """Metrics of a contest's methods over their seeds, a method a row; ``LEGEND`` explains the cells.

    A cell of fewer seeds than the method has says of how many it is.
    """
    columns = {key: column for key in keys if (column := contest.measured(key))}
    written = []
    for key, column in columns.items():
        fewer = {
            name: f", {_seeds(value.seeds)}"
            for name, value in column.items()
            if value.seeds < len(contest.methods[name])
        }
        cells = _column(column, METRICS[key])
        written.append({name: words + fewer.get(name, "") for name, words in cells.items()})
    rows = [
        [METHODS[name].title, str(len(runs)), *(column.get(name, "-") for column in written)]
        for name, runs in contest.methods.items()
    ]
    return markdown(["method", "seeds", *(METRICS[key].label for key in columns)], rows)


def comparisons(runs: Sequence[Run], keys: Sequence[str] = HEADLINE) -> str:
    """:func:`comparison` of every contest in which one of the metrics was measured, each under its title."""
    return "\n\n".join(
        f"**{contest.title}**\n\n{comparison(contest, keys)}"
        for contest in contests(runs)
        if any(contest.measured(key) for key in keys)
    )


def metric_across_datasets(runs: Sequence[Run], key: str) -> str:
    """One metric of every method in every contest that has it, and of how many seeds."""
    head, columns = ["method"], []
    for contest in contests(runs):
        if values := contest.measured(key):
            head += [contest.title, "seeds"]
            columns += [
                _column(values, METRICS[key]),
                {name: str(value.seeds) for name, value in values.items()},
            ]
    rows = [
        [METHODS[name].title, *(column.get(name, "-") for column in columns)]
        for name in METHODS
        if any(name in column for column in columns)
    ]
    return markdown(head, rows)


def rankings(runs: Sequence[Run], key: str, method: str = "wwae") -> list[str]:
    """Where a method comes in each contest by a metric, how surely, and who is first: some sentences each.

    Where prior samples are judged, a method that has no prior to draw from takes no place.
    """
    metric, lines = METRICS[key], []
    for contest in contests(runs):
        values = contest.measured(key)
        if key in OF_PRIOR:
            values = {name: value for name, value in values.items() if draws_from_prior(name)}
        order = sorted(values, key=lambda name: values[name].mean, reverse=metric.better == "higher")
        if method in values:
            label = metric.label.removesuffix(" of prior samples")
            article = "an" if label.startswith(("FID", *"aeiou")) else "a"
            words = (
                f"On {contest.title} the {METHODS[method].title} has {article} {label} of "
                f"{cell(values[method], metric)}"
            )
            within = _within(values, method, metric.better)
            if len(order) == 2 and within:
                (other,) = values.keys() - {method}
                words += f", and the {METHODS[other].title} {cell(values[other], metric)}"
                lines.append(f"{words}. The two cannot be told apart.")
                continue
            words += f", {ordinal(order.index(method) + 1)} of {counted(len(order))} methods{within}."
            if (first := order[0]) != method:
                few = f" with {_seeds(values[first].seeds)}" * (values[first].seeds != values[method].seeds)
                words += f" The {METHODS[first].title} has the {metric.better[:-2]}est, "
                words += f"{cell(values[first], metric)}{few}."
            lines.append(words)
    return lines


def _within(values: Mapping[str, Measured], method: str, better: str) -> str:
    """Which places the uncertainty allows, where training's spread is known and they are not one."""
    spread = largest_spread(values.values())
    gaps = [difference(values[method], value, spread) for name, value in values.items() if name != method]
    sure = [(gap.value > 0) == (better == "lower") for gap in gaps if gap.sure]
    least, most = 1 + sum(sure), len(values) - sure.count(False)
    if not spread:
        return ", with too few seeds to tell neighbouring places apart" if len(values) > 2 else ""
    if least == most:
        return ""
    return f"; the uncertainty allows any place from {ordinal(least)} to {ordinal(most)}"


def counted(n: int) -> str:
    """A number in words, up to twelve."""
    words = (
        "no",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    )
    return words[n] if n < len(words) else str(n)


def ordinal(n: int) -> str:
    """A place in words, up to the twelfth."""
    words = (
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
    )
    return words[n - 1] if 0 < n <= len(words) else f"{n}th"


def fid_sample_sizes(runs: Sequence[Run]) -> str:
    """Of how many images, against how many, the FIDs of prior samples are; the custom; and the floor."""
    lines = []
    for contest in contests(runs):
        hows = [
            run.record["evaluation"]["prior"]
            for recorded in contest.methods.values()
            for run in recorded
            if "prior" in run.record.get("evaluation", {})
        ]
        counts = {(how.get("extrapolated_to", 0), how["images"], how["reference_images"]) for how in hows}
        if counts:
            words = enumeration(
                [
                    (f"{wanted:,} images, extrapolated from " if wanted else "")
                    + f"{made:,} images against {real:,}"
                    for wanted, made, real in sorted(counts)
                ]
            )
            words += ", which do not compare with each other" * (len(counts) > 1)
            lines.append(f"- {contest.title}: {words}. {_floor(contest)}")
    return "\n".join(lines)


def _floor(contest: Contest) -> str:
    """What training images themselves read; they are the same for every run that has measured them."""
    metrics = [row for recorded in contest.methods.values() for row in map(numbers, recorded)]
    floors = sorted({(row["fid_training"], row.get("fid_training_error", math.nan)) for row in metrics
                    if "fid_training" in row})  # fmt: skip
    if not floors:
        return "The floor, the FID of training images, is not measured."
    cells = [cell(Measured((value,), (error,)), METRICS["fid_training"]) for value, error in floors]
    return f"The floor, the FID of training images, is {enumeration(cells)}."


def fits(runs: Sequence[Run]) -> str:
    """The squared error of training images in the last epoch, and of test images, of every auto-encoder.

    Then in words where one that minimises this error alone has more of it than the WWAE.
    """
    rows, unfinished = [], []
    for contest in contests(runs):
        for name, some in contest.methods.items():
            if not some[0].experiment.has_encoder:
                continue
            trained = statistics.fmean(run.history()[-1]["reconstruction"] for run in some)
            tested = statistics.fmean(run.metrics["squared_error"] for run in some)
            form = METRICS["squared_error"].form.format
            cells = [form(trained), form(tested), f"{tested / trained - 1:+.0%}"]
            rows.append([contest.title, METHODS[name].title, str(len(some)), *cells])
        last = {row[1]: float(row[3]) for row in rows if row[0] == contest.title}
        if last.get(METHODS["ae"].title, 0.0) > last.get(METHODS["wwae"].title, math.inf):
            unfinished.append(contest.title)
    head = ["data", "method", "seeds", "training images, last epoch", "test images", "more"]
    text = markdown(head, rows, words=2)
    if unfinished:
        text += (
            f"\n\nOn {enumeration(unfinished)} the {METHODS['ae'].title}, which minimises nothing but this "
            "error, has more of it on training images than the WWAE. So its training has not reached its "
            "optimum."
        )
    return text


def ex_post_sampling(runs: Sequence[Run]) -> str:
    """Penalty against whitening after the fact: auto-encoders sampled from several laws, and what follows."""
    parts = []
    for contest in contests(runs):
        methods = {
            name: encoding for name, encoding in contest.methods.items() if encoding[0].experiment.has_encoder
        }
        encoding = contest._replace(methods=methods)
        if encoding.measured("fid"):
            table = comparison(encoding, (*LAWS, "fid_reconstruction"))
            parts += [f"**{contest.title}**", table, "\n".join(f"- {line}" for line in _whitened(encoding))]
    text = "\n\n".join(parts)
    return f"{text}\n\n*{said}*" if (said := explained(text)) else text


def _whitened(contest: Contest) -> list[str]:
    """What the records say of one contest, and what they leave open: whole sentences."""
    laws = {key: contest.measured(key) for key in LAWS}
    lines = [_floor(contest)]
    penalised = {name: value for name, value in laws["fid"].items() if name != "ae"}
    best = min(penalised, key=lambda name: penalised[name].mean, default=None)
    if best:
        words = f"{cell(penalised[best], METRICS['fid'])} ({_seeds(penalised[best].seeds)})"
        lines.append(
            "Of the auto-encoders with a penalty, sampled from the prior, "
            f"{METHODS[best].title} has the lowest FID, {words}; "
            "it is chosen after the fact, in its own favour."
        )
    plain = {key: values["ae"] for key, values in laws.items() if "ae" in values}
    if "ae" not in contest.methods:
        lines.append("There is no run of an auto-encoder without penalty.")
    for key, law in LAWS.items():
        if key == "fid" or "ae" not in contest.methods:
            continue
        if key not in plain:
            lines.append(f"The {METHODS['ae'].title} without penalty is not measured from {law}.")
        elif (
            best and len(protocols(contest.methods["ae"], key) | protocols(contest.methods[best], "fid")) > 1
        ):
            lines.append(
                f"The FID of the {METHODS['ae'].title} without penalty, sampled from {law}, was measured by "
                f"another protocol than that of {METHODS[best].title}: they do not compare."
            )
        elif best:
            gap = difference(
                plain[key], penalised[best], largest_spread([*laws[key].values(), *penalised.values()])
            )
            shown = plus_minus(gap.value, gap.half, METRICS["fid"].form, "+")
            few = sum(side.seeds < SEVERAL for side in (plain[key], penalised[best]))
            conclusion = f"this is {'more than' if gap.sure else 'within'} the 95% uncertainty over seeds"
            if few:
                who = "neither has" if few == 2 else "one of the two has not"
                conclusion = f"{who} {SEVERAL} seeds, so that this decides nothing"
            lines.append(
                f"The {METHODS['ae'].title} without penalty, sampled from {law}, has an FID of "
                f"{cell(plain[key], METRICS['fid'])} ({_seeds(plain[key].seeds)}). "
                f"Less that of {METHODS[best].title} this is {shown} ({gap.basis}); {conclusion}."
            )
    return lines + _changes(contest)


def _changes(contest: Contest) -> list[str]:
    """How much the FID of each method changes where something else takes the prior's place."""
    lines = []
    for key, law in (LAWS | {"fid_reconstruction": "the codes of test images themselves"}).items():
        changes = {
            name: gap
            for name, recorded in contest.methods.items()
            if key != "fid" and (gap := paired(recorded, key, "fid"))
        }
        words = []
        for basis in dict.fromkeys(gap.basis for gap in changes.values()):
            alike = [
                f"{METHODS[name].title} {plus_minus(gap.value, gap.half, METRICS['fid'].form, '+')}"
                for name, gap in changes.items()
                if gap.basis == basis
            ]
            words.append(f"{enumeration(alike)} ({'each ' * (len(alike) > 1)}{basis})")
        if words:
            lines.append(f"With {law} in the place of the prior, the FID changes thus: {'; '.join(words)}.")
    return lines


def cell(value: Measured, metric: Metric) -> str:
    """``mean ± interval`` over several seeds, else ``mean (standard error)``, else the mean alone."""
    if metric.form == P_VALUE:
        return _written(max(value.values), metric)
    if not math.isnan(value.interval):
        return plus_minus(value.mean, value.interval, metric.form)
    form = _form(metric.form, value.error)
    return form.format(value.mean) + (
        "" if math.isnan(value.error) else f"{GLUE}({form.format(value.error)})"
    )


def plus_minus(value: float, half: float, form: str, sign: str = "") -> str:
    """``value ± half``, the value alone where half is nan; ``sign`` is that of format specifications."""
    form = _form(form, half)
    text = form.replace(":", f":{sign}").format(value)
    return text if math.isnan(half) else f"{text}{GLUE}±{GLUE}{form.format(half)}"


def _form(form: str, spread: float) -> str:
    """The format, with as many decimals more as the spread needs to show a digit."""
    decimals = int(form[form.index(".") + 1 : form.index("f")])
    if spread > 0 and float(form.format(spread)) == 0:
        decimals = math.ceil(-math.log10(spread))
    return f"{{:.{decimals}f}}"


def _column(column: Mapping[str, Measured], metric: Metric) -> dict[str, str]:
    """The cells of one metric, the best in bold where it is surely so."""
    best = _best(column, metric.better)
    cells = {name: cell(value, metric) for name, value in column.items()}
    return cells | ({best: f"**{cells[best]}**"} if best else {})


def _best(column: Mapping[str, Measured], better: str) -> str | None:
    """The method whose lead over every other exceeds its uncertainty, if there is one."""
    if len(column) < 2 or not better:
        return None
    best = (min if better == "lower" else max)(column, key=lambda name: column[name].mean)
    spread = largest_spread(column.values())
    others = [value for name, value in column.items() if name != best]
    return best if all(difference(column[best], value, spread).sure for value in others) else None


# ---------------------------------------------------------------- choices and cost


def by_dataset(value: Any, form: Callable[[Any], str] = str) -> str:
    """A value that holds for every data set, or the value of each, data sets that share one together."""
    if not isinstance(value, Mapping):
        return "-" if value is None else form(value)
    shared: dict[str, list[str]] = {}
    for dataset, each in value.items():
        shared.setdefault(form(each), []).append(DATASETS[dataset].title)
    if len(value) == len(DATASETS) and len(shared) == 1:
        return next(iter(shared))
    return "; ".join(f"{each} ({', '.join(names)})" for each, names in shared.items()) or "-"


def configured(runs: Sequence[Run], field: str, method: str = "wwae") -> str:
    """What a method's experiments were configured to, by data set where they differ."""
    values = {
        contest.dataset: f"{value:g}" if isinstance(value, float) else str(value)
        for contest in reversed(contests(runs))
        if method in contest.methods
        for value in [getattr(contest.methods[method][0].experiment, field)]
    }
    distinct = set(values.values())
    return distinct.pop() if len(distinct) == 1 else by_dataset(dict(reversed(values.items())))


def penalty_times(timings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Milliseconds of each penalty with its gradient, by size of the batch, from the benchmark's record."""
    sizes = list(dict.fromkeys((timing["n"], timing["d"]) for timing in timings["measured"]))
    seconds = {
        (timing["method"], timing["n"], timing["d"]): timing["seconds"] for timing in timings["measured"]
    }
    rows = [
        [
            words,
            *(f"{1e3 * seconds[method, *size]:.2f}" if (method, *size) in seconds else "-" for size in sizes),
        ]
        for method, words in names.items()
    ]
    return markdown(["milliseconds", *(f"{n:,} codes, d = {d}" for n, d in sizes)], rows)


def training_hours(runs: Sequence[Run]) -> str:
    """Runs and hours of training, by data set and machine."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        environment = run.record["environment"]
        machine = ", ".join(
            [environment["device"], _threads(environment["threads"]), environment["precision"]]
        )
        groups.setdefault((run.experiment.dataset, machine), []).append(run)
    rows = [
        [
            DATASETS[dataset].title,
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
