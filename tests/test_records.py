"""The committed pages and the committed records agree: every table, number by number."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from wwae_lib import runs
from wwae_lib.book import forest, reproduce, selection, tables, verdicts
from wwae_lib.book.reproduce import PROFILES
from wwae_lib.book.tables import GLUE, METRICS
from wwae_lib.data import DATASETS
from wwae_lib.exact_draws import p_value
from wwae_lib.experiments import experiment
from wwae_lib.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results"
README = runpy.run_path(str(ROOT / "tools" / "render_readme.py"))

METHOD_OF = {kind.title: method for method, kind in METHODS.items()}
TITLES = {dataset: row.title for dataset, row in DATASETS.items()}
KEY_OF = {metric.label: key for key, metric in METRICS.items()}
DERIVED = {
    "train_minutes": lambda record: record["environment"]["train_seconds"] / 60,
    "epoch_seconds": lambda record: record["environment"]["train_seconds"] / record["config"]["epochs"],
    "sharpness_gap": lambda record: gap(record["metrics"], "sharpness"),
    "sharpness_reconstruction_gap": lambda record: gap(record["metrics"], "sharpness_reconstruction"),
    "mixture_excess": lambda record: excess(record["metrics"]),
}


def gap(metrics: dict[str, float], key: str) -> float | None:
    if key not in metrics or "sharpness_data" not in metrics:
        return None
    return abs(np.log(metrics[key]) - np.log(metrics["sharpness_data"]))


def excess(metrics: dict[str, float]) -> float | None:
    if "mixture_nats" not in metrics or "mixture_nats_floor" not in metrics:
        return None
    return metrics["mixture_nats"] - metrics["mixture_nats_floor"]


@pytest.fixture(scope="module")
def records() -> list[dict]:
    """Every record as the file has it, read by nothing of ours."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*/*/seed-*/run.json"))]


def of(records: list[dict], contest: str, method: str) -> list[dict]:
    """Records of a method in the contest of a title."""
    data, _, network = contest.partition(", ")
    dataset = next(name for name, words in TITLES.items() if words == data)
    wanted = {"dataset": dataset, "method": method, "variant": "reference" if network else ""}
    return [record for record in records if wanted.items() <= record["config"].items()]


def values(records: list[dict], key: str) -> list[float]:
    numbers = [DERIVED[key](record) if key in DERIVED else record["metrics"].get(key) for record in records]
    return [value for value in numbers if value is not None]


def p_value_of(records: list[dict]) -> str:
    """The largest p-value over seeds, as a table has it; the test of p_value itself simulates its law."""
    readings = [
        p_value(reading, record["data"]["test"]["images"], record["config"]["latent"]).item()
        for record in records
        if (reading := record["metrics"].get("posterior_w2_squared")) is not None
    ]
    if not readings:
        return "-"
    return "< 0.001" if max(readings) < 0.001 else f"{max(readings):.3f}"


def outputs(name: str) -> str:
    """All Markdown that a notebook's cells show, a cell after the other."""
    notebook = json.loads((ROOT / "book" / f"{name}.ipynb").read_text(encoding="utf-8"))
    shown = [
        "".join(output["data"]["text/markdown"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    return "\n\n".join(shown).replace(GLUE, " ")


def found_tables(text: str) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title (a bold line above, if there is one), head and rows of every Markdown table."""
    parsed, title = [], ""
    for block in text.split("\n\n"):
        if bold := re.fullmatch(r"\*\*(.+)\*\*", block.strip()):
            title = bold.group(1)
        elif block.startswith("| "):
            lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.strip().splitlines()]
            parsed.append((title, lines[0], lines[2:]))
            title = ""
    return parsed


def assert_cell(cell: str, expected: list[float], errors: list[float | None]) -> None:
    """A cell is the mean of the values, with their t-interval, or their error, or alone."""
    if not expected:
        assert cell == "-"
        return
    cell, _, fewer = cell.partition(", ")
    assert not fewer or fewer.split()[0] == str(len(expected)), "a cell of fewer seeds than its row says so"
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", cell)]
    decimals = len(re.match(r"\**-?\d+\.?(\d*)", cell).group(1))
    rounding = 0.5001 * 10.0**-decimals
    assert abs(numbers[0] - np.mean(expected)) <= rounding, cell
    if len(expected) >= 3:
        assert "±" in cell
        half = stats.t.ppf(0.975, len(expected) - 1) * stats.sem(expected)
        assert abs(numbers[1] - half) <= rounding, cell
    elif None not in errors:
        assert "(" in cell
        assert abs(numbers[1] - np.sqrt(np.sum(np.square(errors))) / len(errors)) <= rounding, cell
    else:
        assert len(numbers) == 1, cell


def error(record: dict, key: str) -> float | None:
    """The standard error of a record's metric, where it is known."""
    metrics = record["metrics"]
    if f"{key}_error" in metrics:
        return metrics[f"{key}_error"]
    if key in ("knn_accuracy", "linear_accuracy"):
        return np.sqrt(metrics[key] * (1 - metrics[key]) / record["data"]["test"]["images"])
    if key.endswith("_gap") and f"{key[:-4]}_error" in metrics:
        return metrics[f"{key[:-4]}_error"] / metrics[key[:-4]]
    return None


def test_every_number_of_the_comparison_is_that_of_the_records(records):
    checked = 0
    for title, head, body in found_tables(outputs("comparison")):
        for row in body if head[0] == "method" else []:
            for column, cell in zip(head[1:], row[1:], strict=True):
                if column in KEY_OF:  # a contest's table: metrics are columns
                    of_method, key = of(records, title, METHOD_OF[row[0]]), KEY_OF[column]
                elif column.split(",")[0] in TITLES.values():  # contests are columns
                    of_method, key = of(records, column, METHOD_OF[row[0]]), "fid"
                elif column.startswith("this book") and row[0] in METHOD_OF:
                    data, _, label = title.partition(": ")
                    contest = data + column.removeprefix("this book")
                    of_method, key = of(records, contest, METHOD_OF[row[0]]), KEY_OF[label]
                else:
                    continue  # numbers of seeds, checked with their table, and published numbers
                if key == "posterior_w2_p":
                    assert cell == p_value_of(of_method)
                    continue
                with_it = [record for record in of_method if values([record], key)]
                assert_cell(cell, values(with_it, key), [error(record, key) for record in with_it])
                checked += cell != "-"
    measured = sum(len(record["metrics"]) > 4 for record in records if record["config"]["variant"] == "")
    assert checked >= max(1, measured)


def test_every_published_number_of_the_comparison_is_in_the_file():
    theirs = json.loads((ROOT / "book" / "published.json").read_text())
    sources = {source["name"]: key for key, source in theirs["sources"].items()}
    checked, keys = 0, set()
    for title, head, body in found_tables(outputs("comparison")):
        data, _, label = title.partition(": ")
        for column, name in enumerate(head):
            for row in body if name in sources else []:
                if row[column] != "-":
                    dataset = next(key for key, words in TITLES.items() if words == data)
                    (result,) = (
                        result
                        for result in theirs["results"]
                        if (result["source"], result["dataset"]) == (sources[name], dataset)
                        and (METHODS[result["method"]].title if result["method"] else result["label"])
                        == row[0]
                    )
                    key = KEY_OF[label]
                    number, *spread = re.findall(r"\d+(?:\.\d+)?", row[column])
                    assert float(number) == result[key]
                    assert [float(s) for s in spread] == [result[s] for s in [f"{key}_spread"] if s in result]
                    checked += 1
                    keys.add(key)
    assert {"fid", "fid_gaussian"} <= keys
    assert checked == sum(key in result for result in theirs["results"] for key in keys)


def lent(records: list[dict], contest: str, key: str) -> tuple[float, int] | None:
    """The largest standard deviation over three or more seeds that a method of the contest has."""
    samples = [values(of(records, contest, method), key) for method in METHODS]
    return max(
        ((np.std(sample, ddof=1), len(sample) - 1) for sample in samples if len(sample) > 2), default=None
    )


def half_width(a: list[float], b: list[float], spread: tuple[float, int] | None) -> float | None:
    """Of Welch's interval, where a single value is lent a spread with the freedom that it has."""
    if min(len(a), len(b)) > 1:
        interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        return (interval.high - interval.low) / 2
    if spread is None:
        return None
    sides = [np.std(sample, ddof=1) if len(sample) > 1 else spread[0] for sample in (a, b)]
    freedom = min([spread[1], *(len(sample) - 1 for sample in (a, b) if len(sample) > 1)])
    error = np.sqrt(sum(side**2 / len(sample) for side, sample in zip(sides, (a, b), strict=True)))
    return stats.t.ppf(0.975, freedom) * error


def verdict_rows() -> list[dict[str, str]]:
    """Every row of the verdict's tables of evidence."""
    secondary = ["data", "question", "ours", "rival", "theirs", "difference", "ratio", "from"]
    primary = [secondary[0], "outcome", *secondary[1:], "p", "holm"]
    return [
        dict(zip(primary if "outcome" in head else secondary, row, strict=True))
        for _, head, body in found_tables(outputs("verdict"))
        for row in (body if head[0] == "data" else [])
    ]


def metric_of(row: dict[str, str]) -> str | None:
    """The metric that a row compares methods in, if it is one."""
    label = re.sub(r" \((lower|higher) is better\)$", "", row["question"])
    return None if label == row["question"] else KEY_OF[label]


def sides(records: list[dict], row: dict[str, str], key: str) -> list[list[float]]:
    return [values(of(records, row["data"], method), key) for method in ("wwae", METHOD_OF[row["rival"]])]


def test_every_difference_of_the_verdict_follows_from_the_records(records):
    checked = 0
    for row in verdict_rows():
        if (key := metric_of(row)) is None:
            continue
        a, b = sides(records, row, key)
        gap, *half = (float(x) for x in re.findall(r"[-+]?\d+(?:\.\d+)?", row["difference"]))
        rounding = 0.5001 * 10.0 ** -len(row["difference"].split(" ")[0].partition(".")[2])
        assert abs(gap - (np.mean(a) - np.mean(b))) <= rounding, row
        expected = half_width(a, b, lent(records, row["data"], key))
        if expected is not None:
            assert abs(half[0] - expected) <= rounding, row
        rival = of(records, row["data"], METHOD_OF[row["rival"]])
        own = np.hypot.reduce([one["metrics"].get(f"{key}_error", np.nan) for one in rival]) / len(rival)
        if min(*a, *b) > 0 and not np.mean(b) <= 2 * own:  # a ratio to what may be 0 says nothing
            ratio, *ends = (float(x) for x in re.findall(r"\d+\.\d+", row["ratio"]))
            assert abs(ratio - stats.gmean(a) / stats.gmean(b)) <= 0.00501, row
            if min(len(a), len(b)) > 1:
                interval = stats.ttest_ind(np.log(a), np.log(b), equal_var=False).confidence_interval(0.95)
                assert np.abs(np.exp(interval) - ends).max() <= 0.00501, row
        else:
            assert row["ratio"] == "-"
        checked += 1
    pairs = {"wwae", "vae"} <= {
        record["config"]["method"] for record in records if "fid" in record["metrics"]
    }
    assert checked or not pairs


def test_every_outcome_of_the_verdict_follows_from_the_records(records):
    """p by SciPy, Holm's correction over all that are planned, the outcome; a single seed decides nothing."""
    primary = [row for row in verdict_rows() if "outcome" in row]
    assert [row["outcome"] for row in primary if row["p"] == "-"].count("open") == sum(
        row["p"] == "-" for row in primary
    )
    tested = [row for row in primary if row["p"] != "-"]

    def number(text: str) -> float:
        return 0.0005 if text.startswith("<") else float(text)

    for row in tested:
        if key := metric_of(row):
            a, b = sides(records, row, key)
            assert min(len(a), len(b)) >= 3, "fewer seeds decide nothing"
            assert abs(number(row["p"]) - stats.ttest_ind(a, b, equal_var=False).pvalue) <= 0.00051, row
            if row["outcome"] in ("holds", "contradicted"):
                better = (np.mean(a) < np.mean(b)) == (METRICS[key].better == "lower")
                assert better == (row["outcome"] == "holds"), row
    order, largest, slack = sorted(tested, key=lambda row: number(row["p"])), 0.0, 0.0
    planned = sum(len(claim.places) for claim in verdicts.CLAIMS.values())
    for place, row in enumerate(order):
        product = (planned - place) * number(row["p"])
        if product > largest:  # each p is read to half a thousandth
            largest, slack = min(1.0, product), 0.00051 * (planned - place + 1)
        assert abs(number(row["holm"]) - largest) <= slack, row
        assert (row["outcome"] in ("holds", "contradicted")) == (number(row["holm"]) <= 0.05), row
    said = re.search(r"Of (\d+) primary tests that are planned, (\d+) could be made", outputs("verdict"))
    assert (int(said[1]), int(said[2])) == (planned, len(tested))


@pytest.mark.parametrize(
    ("folder", "profiles"),
    [
        ("", ("full", "long", "ablations")),
        (selection.FOLDER, ("selection", "remedies", "dimensions", "convergence")),
        ("beyond", ("beyond",)),
    ],
)
def test_every_recorded_run_has_the_configuration_and_protocol_of_a_profile(folder, profiles, monkeypatch):
    """The whole configuration, of which a run's name tells a part."""
    monkeypatch.setenv("WWAE_RESULTS", str(RESULTS))  # recorded trials may ask for trials beyond the five
    for path in (RESULTS / folder).glob("*/*/seed-*/run.json"):
        record = json.loads(path.read_text())
        trained = experiment(**record["config"])
        makers = [PROFILES[name] for name in profiles if trained in reproduce.select(PROFILES[name])]
        assert makers, f"no profile trains {record['config']}"
        assert str(path.parent.relative_to(RESULTS / folder)) == trained.name
        entries = record.get("evaluation", {})
        assert any(
            all(entries.get(name, {}).get("protocol") == profile.protocol for name in profile.sets[:1])
            for profile in makers
        ), f"{trained.name} is not measured as its profile says"


def test_the_pages_are_what_the_library_makes_of_the_records(monkeypatch):
    # nbval tests this by executing the notebooks; here it takes no kernel and covers the summaries too.
    monkeypatch.setenv("WWAE_RESULTS", str(RESULTS))
    recorded = runs.recorded()
    judged = verdicts.verdicts(recorded, verdicts.read_benchmarks())
    assert tables.metric_across_datasets(recorded, "fid").replace(GLUE, " ") in outputs("comparison")
    assert verdicts.table(judged).replace(GLUE, " ") in outputs("verdict")
    assert verdicts.summary(judged).replace(GLUE, " ") in outputs("verdict")
    assert verdicts.why_these_rivals(recorded).replace(GLUE, " ") in outputs("verdict")
    assert tables.ex_post_sampling(recorded).replace(GLUE, " ") in outputs("comparison")
    assert tables.training_hours(recorded) in outputs("deviations")
    for verdict in judged.values():
        assert verdicts.evidence(verdict, forest.forest(verdict)).replace(GLUE, " ") in outputs("verdict")


def test_choices_are_those_of_the_records(records):
    ((_, _, body),) = (
        table for table in found_tables(outputs("deviations")) if "weight of the penalty" in table[1]
    )
    fields = ("penalty_weight", "latent", "learning_rate", "batch_size", "epochs")
    for row in body:
        *choices, steps, seeds = row[1:]
        for field, cell in zip(fields, choices, strict=True):
            if cell == "-":  # a GAN without a penalty has no weight
                assert field not in METHODS[METHOD_OF[row[0]]].takes
                continue
            configured = {
                record["config"][field]
                for record in records
                if METHODS[record["config"]["method"]].title == row[0] and record["config"]["variant"] == ""
            }
            assert {float(value) for value in re.sub(r"\(.*?\)", "", cell).split(";")} == configured
        method = METHOD_OF[row[0]]
        everywhere = [of(records, title, method) for title in TITLES.values()]
        assert seeds == ", ".join(str(len(of_method)) for of_method in everywhere)
        of_sets = list(filter(None, everywhere))
        config, images = of_sets[0][0]["config"], of_sets[0][0]["data"]["train"]["images"]
        batches = config["epochs"] * (images // config["batch_size"])
        assert int(steps.replace(",", "")) == (batches // 5 if method == "wgan_gp" else batches)
    trained = {
        record["config"]["method"] for record in records if record["config"]["variant"] in ("", "reference")
    }
    assert {row[0] for row in body} == {METHODS[method].title for method in trained}


# ---------------------------------------------------------------- README


def test_readme_shows_the_records(monkeypatch):
    monkeypatch.setenv("WWAE_RESULTS", str(RESULTS))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert README["rendered"](text, runs.recorded()) == text, "run python tools/render_readme.py"


def test_readme_follows_a_record_that_changes(tmp_path, monkeypatch):
    source = RESULTS / "mnist" / "wwae" / "seed-0"
    shutil.copytree(source, tmp_path / "mnist" / "wwae" / "seed-0")
    file = tmp_path / "mnist" / "wwae" / "seed-0" / "run.json"
    record = json.loads(file.read_text())
    record["metrics"]["fid"] = 123.4
    file.write_text(json.dumps(record))
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path))
    text = f"before\n{README['START']}\noutdated\n{README['END']}\nafter\n"
    made = README["rendered"](text, runs.recorded())
    assert "123.4" in made
    assert "outdated" not in made
    assert made.startswith("before\n") and made.endswith("\nafter\n")
    assert README["rendered"](made, runs.recorded()) == made


@pytest.mark.parametrize("marks", ["", "END START", "START START END", "START"])
def test_readme_without_its_marks_is_refused(marks):
    text = marks.replace("START", README["START"]).replace("END", README["END"])
    with pytest.raises(ValueError, match="once"):
        README["rendered"](text, [])


def test_the_command_says_when_readme_is_behind(tmp_path, monkeypatch, capsys):
    readme, main = tmp_path / "README.md", README["main"]
    readme.write_text(f"{README['START']}\noutdated\n{README['END']}\n")
    monkeypatch.setitem(main.__globals__, "README", readme)

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["render_readme.py", *options])
        return main()

    assert call("--check") == 1
    assert "README.md is behind the records" in capsys.readouterr().err
    assert "outdated" in readme.read_text()
    assert call() == call("--check") == 0
    assert "outdated" not in readme.read_text()
