"""Published numbers and settings: the file is whole, conversions are right, and tables say what it says."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from urllib.parse import urlparse

import made_up
import pytest
from made_up import seeds
from test_tables import rows

from wwae_lib.book import published
from wwae_lib.book.tables import METRICS
from wwae_lib.data import DATASETS
from wwae_lib.experiments import experiment
from wwae_lib.methods import METHODS
from wwae_lib.runs import Run

PUBLISHED = published.read()


def entry(source: str, method: str) -> dict:
    (row,) = (row for row in PUBLISHED["settings"] if (row["source"], row["method"]) == (source, method))
    return row


class Anything(dict):
    """A reason for everything."""

    def get(self, key, default=None):
        return f"because of {key}"


# ---------------------------------------------------------------- the file


def test_sources_are_well_formed():
    assert PUBLISHED["format"] == 2
    assert set(PUBLISHED) == {"format", "metrics", "scale", "order", "sources", "settings", "results"}
    keys = {"name", "title", "url", "where", "read", "unread", "images", "samples", "reference", "choice"}
    keys |= set(published.SHARED) | (set(published.FIELDS) - {"weight", "adversary_rate"})
    for name, source in PUBLISHED["sources"].items():
        assert source.keys() == keys, name
        assert urlparse(source["url"]).scheme == "https"
        assert source["read"] and source["unread"], name
        assert source["samples"] is None or source["samples"] >= 2048, (
            "the FID's features have that dimension"
        )
        for value in source.values():
            assert not isinstance(value, dict) or set(value) <= set(DATASETS), name
    used = {row["source"] for row in PUBLISHED["results"] + PUBLISHED["settings"]}
    assert used == PUBLISHED["sources"].keys()


def test_results_are_well_formed():
    seen = set()
    for row in PUBLISHED["results"]:
        optional = {"approximate", "codes"}
        values = set(row) - {"source", "dataset", "method", "label"} - optional
        assert values
        assert {key.removesuffix("_spread") for key in values} <= METRICS.keys(), row
        assert all(0 < row[key] < 200 for key in values)
        assert row["dataset"] in DATASETS
        assert row["method"] is None or row["method"] in METHODS
        identity = row["source"], row["dataset"], row["label"]
        assert identity not in seen
        seen.add(identity)


def test_settings_are_well_formed():
    seen = set()
    for row in PUBLISHED["settings"]:
        assert set(row) <= {"source", "method", "error_weight", "pixel_width"} | set(published.FIELDS), row
        assert row["method"] in METHODS
        assert ("error_weight" in row) == ("pixel_width" in row)
        assert (row["source"], row["method"]) not in seen
        seen.add((row["source"], row["method"]))
    without = set(METHODS) - {method for _, method in seen}
    assert without == {"wwae"}


def test_nothing_published_is_said_to_be_of_the_paper_we_could_not_read():
    assert not re.search("wwae(?!_lib)|1902.09323", json.dumps(PUBLISHED), re.IGNORECASE)


def test_codes_of_a_method_without_prior_are_not_said_to_be_drawn_from_one():
    for row in PUBLISHED["results"]:
        if row["label"] == "AE" or row["label"].startswith("RAE"):
            assert "fid" not in row or row["codes"] == "not said", row


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("source", "method", "dataset", "factor"),
    [
        ("tolstikhin2018", "wae_mmd", "mnist", 1 / 0.05),
        ("tolstikhin2018", "wae_mmd", "celeba", 1 / 0.05),
        ("tolstikhin2018", "wae_gan", "celeba", 1 / 0.05),
        ("ghosh2020", "wae_mmd", "mnist", 32 * 32),
        ("ghosh2020", "wae_mmd", "celeba", 1 / 0.05),
        ("ghosh2020", "vae", "celeba", 3),
        ("cwae_code", "cwae", "celeba", 1),
        ("pythae", "wae_gan", "celeba", 1 / 0.05),
    ],
)
def test_a_converted_weight_leaves_the_objective_where_it_was(source, method, dataset, factor):
    """`factor` is what the source divides the squared error by, on its own pixels."""
    rng, shape = random.Random(0), DATASETS[dataset].shape
    pixels = [rng.random() for _ in range(shape[0] * shape[1] * shape[2])]
    made = [rng.random() for _ in pixels]
    wide = 2.0 if (source, dataset) == ("tolstikhin2018", "celeba") else 1.0  # [-1, 1] there
    theirs = sum((wide * a - wide * b) ** 2 for a, b in zip(pixels, made, strict=True)) / factor
    ours = sum((a - b) ** 2 for a, b in zip(pixels, made, strict=True))
    setting, penalty = entry(source, method), 0.37
    objective = theirs + setting["weight"][dataset] * penalty
    converted = ours + published.penalty_weight(setting, dataset) * penalty
    assert converted * theirs == pytest.approx(objective * ours), "the two are not proportional"


def test_weights_read_in_the_authors_code():
    assert published.penalty_weight(entry("tolstikhin2018", "wae_mmd"), "mnist") == 200
    assert published.penalty_weight(entry("tolstikhin2018", "wae_mmd"), "celeba") == 500
    assert [published.penalty_weight(entry("cwae_code", "cwae"), dataset) for dataset in DATASETS] == [
        1,
        10,
        5,
    ]
    assert published.penalty_weight(entry("dai2019", "vae_learned"), "mnist") == 1
    assert published.penalty_weight(entry("dai2019", "wae_mmd"), "mnist") is None
    assert isinstance(published.penalty_weight(entry("kolouri_code", "swae"), "mnist"), str)


def test_a_methods_own_setting_comes_before_its_sources():
    source = PUBLISHED["sources"]["ghosh2020"]
    assert published.stated_values(entry("ghosh2020", "vae"), source, "learning_rate") == {
        "mnist": 1e-4,
        "celeba": 1e-4,
    }
    assert (
        published.stated_values(entry("ghosh2020", "ae"), source, "learning_rate") == source["learning_rate"]
    )
    assert published.stated_values(entry("ghosh2020", "ae"), source, "weight") == {}


# ---------------------------------------------------------------- tables


@pytest.fixture
def runs() -> list[Run]:
    made = seeds("wwae", fid=[24.11, 25.32, 23.83], fid_gaussian=[30.0, 31.0, 32.0])
    made += [made_up.run("vae", fid=31.44), made_up.run("ae", fid_gaussian=28.0)]
    return [*made, made_up.run("wwae", dataset="fashion_mnist", fid=52.123)]


@pytest.mark.parametrize("key", ["fid", "fid_gaussian", "fid_mixture", "fid_reconstruction"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_published_numbers_stand_beside_ours(runs, dataset, key):
    expected = [result for result in PUBLISHED["results"] if result["dataset"] == dataset and key in result]
    table = published.ours_and_published(runs, dataset, key)
    assert bool(table) == bool(expected)
    shown = {row["method"]: row for row in rows(table)} if table else {}
    for result in expected:
        row = shown[METHODS[result["method"]].title if result["method"] else result["label"]]
        number = re.match(r"~?([\d.]+)", row[PUBLISHED["sources"][result["source"]]["name"]]).group(1)
        assert float(number) == result[key]
    if (dataset, key) == ("mnist", "fid"):
        assert shown["WWAE"]["this book"] == "24.4 ± 2.0"
        assert shown["WWAE"]["Ghosh et al. 2020"] == "-"
        assert "AE" not in shown
    if (dataset, key) == ("mnist", "fid_gaussian"):
        assert (shown["AE"]["this book"], shown["AE"]["Ghosh et al. 2020"]) == ("28.0", "58.73")


def test_the_reference_network_has_a_column_of_its_own(runs):
    runs += [made_up.run("vae", variant="reference", fid=12.0)]
    assert "this book, reference network" in published.ours_and_published(runs, "mnist")


def test_every_source_of_results_has_a_protocol():
    text = published.protocols()
    giving = {source["source"] for source in PUBLISHED["results"]}
    for name, source in PUBLISHED["sources"].items():
        assert (f"[{source['name']}]({source['url']})" in text) == (name in giving)
        assert f"[{source['name']}]({source['url']})" in published.sources()


def settings() -> dict[tuple[str, str], dict[str, str]]:
    """Rows of the table by method and setting; a method's name stands in its first row."""
    found, method = {}, ""
    for row in rows(published.method_settings(Anything())):
        method = row["method"] or method
        found[method, row["setting"]] = row
    return found


def test_settings_beside_ours():
    row = settings()["WAE-MMD", "weight of the penalty"]
    assert row["published (source)"].startswith("200 (MNIST); 500 (CelebA): Tolstikhin et al. 2018<br>")
    assert "2,000 (CelebA)" in row["published (source)"]
    assert settings()["WAE-MMD", "Adam's decay rates"]["ours"] == "0.9, 0.999"
    assert settings()["WAE-MMD", "Adam's decay rates"]["why it differs"] == "because of wae_mmd/betas"
    assert settings()["WAE-GAN", "Adam's decay rates"]["why it differs"] == "-"
    assert ("AE", "weight of the penalty") not in settings()


def test_ours_are_the_defaults(monkeypatch):
    monkeypatch.setitem(METHODS["wae_mmd"].defaults_on, "celeba", {"penalty_weight": 500.0, "batch_size": 77})
    assert experiment("celeba", "wae_mmd").penalty_weight == 500
    row = settings()["WAE-MMD", "weight of the penalty"]
    assert (row["ours"], row["why it differs"]) == (
        "200 (MNIST, Fashion-MNIST); 500 (CelebA)",
        "because of wae_mmd/weight",
    )
    monkeypatch.setitem(METHODS["wae_mmd"].defaults_on, "fashion_mnist", {"penalty_weight": 100.0})
    assert settings()["WAE-MMD", "weight of the penalty"]["why it differs"] == "-"
    assert "77 (CelebA)" in settings()["WAE-MMD", "batch size"]["ours"]


def test_ours_are_those_of_the_records_where_there_are_any():
    run = made_up.run("wae_mmd")
    config = run.record["config"] | {"penalty_weight": 60.0}
    run = dataclasses.replace(run, record=run.record | {"config": config})
    shown = rows(published.method_settings(Anything(), [run]))
    row = next(row for row in shown if row["method"] == "WAE-MMD")
    assert row["ours"] == "60 (MNIST)"
    assert row["why it differs"] == "because of wae_mmd/weight"
    row = next(row for row in shown if row["method"] == "WGAN-GP")
    assert (row["ours"], row["why it differs"]) == ("not trained yet", "-")


def test_a_difference_wants_a_reason():
    fields = {name: "so" for name in published.FIELDS if name != "epochs"}
    with pytest.raises(ValueError, match=r"vae/epochs is not what its first source has \(MNIST, "):
        published.method_settings(fields)


def test_what_is_ours_for_all_stands_beside_what_each_source_has():
    words = dict.fromkeys(published.SHARED, "ours")
    by_setting = {row["setting"]: row for row in rows(published.shared_settings(words, words))}
    assert by_setting.keys() == set(published.SHARED.values())
    text = by_setting["batch normalisation"]["published (source)"]
    assert "yes: Ghosh et al. 2020, Dai & Wipf 2019, Tolstikhin et al. 2018, pythae<br>" in text
