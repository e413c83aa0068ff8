"""The table, figure and sentences on codes of several dimensions follow from the records."""

from __future__ import annotations

import dataclasses

import made_up
import pytest
from matplotlib import pyplot as plt

from wwae_lib.book import dimensions, reproduce, selection, tables
from wwae_lib.book.reproduce import PROFILES

# distances by method, estimator and dimensions: of reconstructions, and from each law in order
DISTANCES = {
    ("wwae", "total", 8): (25.0, 28.0, 28.5, 27.0, 26.0),
    ("wwae", "total", 32): (10.0, 40.0, 30.0, 20.0, 16.5),
    ("ae", "total", 8): (24.0, 90.0, 29.0, 27.5, 26.5),
}


@pytest.fixture(autouse=True)
def records(monkeypatch):
    def of(experiment):
        key = (experiment.method, experiment.estimator, experiment.latent)
        if experiment.dataset != "mnist" or key not in DISTANCES:
            return None
        values = dict(zip((dimensions.OWN, *dimensions.LAWS), DISTANCES[key], strict=True))
        errors = {f"{name}_error": 0.5 for name in values}
        run = made_up.run(experiment.method, squared_error=9.0, **values, **errors)
        return dataclasses.replace(run, record=run.record | {"config": experiment.as_dict()})

    monkeypatch.setattr(selection, "last_attempt", of)


def test_every_run_is_a_row_and_its_lowest_law_is_bold():
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in dimensions.table("mnist").splitlines()
    ]
    rows = {
        (line[0], line[1]): [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in line[2:]] for line in lines
    }
    assert rows["WWAE", "32"] == [
        "40.0 (0.5)", "20.0 (0.5)", "10.0 (0.5)", "30.0 (0.5)", "**16.5 (0.5)**", "9.00", "-"
    ]  # fmt: skip
    assert rows["AE", "8"] == [
        "-", "27.5 (0.5)", "24.0 (0.5)", "29.0 (0.5)", "**26.5 (0.5)**", "9.00", "-"
    ]  # fmt: skip
    assert len(lines) == 2 + len(DISTANCES)


def test_the_lowest_distance_of_new_images_is_named_with_what_separates_it():
    assert dimensions.best("mnist").run.experiment.latent == 32
    said = dimensions.summary("mnist")
    assert "WWAE: with 8 and 32 dimensions the distance of reconstructions is 25.0 and 10.0" in said
    assert "that of images from the prior is 28.0 and 40.0" in said
    assert "is 16.5: WWAE with 32 dimensions, its codes drawn from a fitted mixture of 100." in said
    assert said.endswith("Its reconstructions have 10.0.")
    assert " AE: with" not in said  # of one run there is nothing to compare


def test_a_training_that_failed_is_said_to_have_and_is_not_drawn(monkeypatch):
    recorded = selection.last_attempt

    def of(experiment):
        run = recorded(experiment)
        if run and run.experiment.method == "wwae" and run.experiment.latent == 32:
            run.record["metrics"] |= {
                **{"squared_error": 28.0, "posterior_w2_squared": 1234.0},
                **{"sharpness_reconstruction": 0.001, "sharpness_data": 0.2},
            }
        return run

    monkeypatch.setattr(selection, "last_attempt", of)
    said = dimensions.summary("mnist")
    assert "The training of WWAE with 32 dimensions failed: its squared error stayed at 28 per image" in said
    assert "1,234 from the prior" in said and "WWAE: with" not in said
    figure = dimensions.figure("mnist")
    try:
        assert [list(axis.lines[0].get_xdata()) for axis in figure.axes] == [[8], [8]]
    finally:
        plt.close(figure)
    assert "| WWAE | 32 | 40.0" in dimensions.table("mnist") and "| 28.00 |" in dimensions.table("mnist")


def test_noise_and_second_trainings_are_told_and_the_control_is(monkeypatch):
    recorded = selection.last_attempt

    def of(experiment):
        run = recorded(experiment)
        if run and (run.experiment.method, run.experiment.latent) == ("wwae", 32):
            run.record["metrics"] |= {"posterior_variance": 0.43}
        if run and run.experiment.method == "ae":
            run.record["config"] |= {"warm_up": 400}
        return run

    monkeypatch.setattr(selection, "last_attempt", of)
    assert dimensions.table("mnist").splitlines()[3].endswith("| 0.43 |")
    said = dimensions.summary("mnist")
    assert "With 32 dimensions the encoder of WWAE hides codes in noise: its mean variance is 0.43." in said
    assert "The first training of AE with 8 dimensions failed; the table has the second" in said
    (line,) = dimensions.control("mnist")
    assert line.startswith("8 dimensions: an auto-encoder without a penalty has 29.0 from a fitted Gaussian")
    assert line.endswith("The WWAE has 28.0 from the prior, 28.5 and 27.0.")


def test_what_lines_see_is_said_where_both_are_recorded(monkeypatch):
    assert dimensions.seen_on_lines("mnist") == []
    monkeypatch.setitem(DISTANCES, ("wwae", "sliced", 32), (11.0, 38.0, 30.0, 20.0, 16.5))
    recorded = selection.last_attempt
    codes = {
        "total": {"sliced_w2_squared": 0.01, "sliced_w2_squared_floor": 0.001, "mixture_nats": 5.0},
        "sliced": {"sliced_w2_squared": 0.002, "mixture_nats": 4.0},
    }

    def of(experiment):
        if run := recorded(experiment):
            run.record["metrics"] |= codes[experiment.estimator]
        return run

    monkeypatch.setattr(selection, "last_attempt", of)
    (said,) = dimensions.seen_on_lines("mnist")
    assert said.startswith("32 dimensions: ") and "0.0100 without and 0.0020 with the lines" in said
    assert "exact draws have 0.0010" in said and "gains 5.0 and 4.0 nats" in said
    assert said.endswith("Prior samples have a distance of 40.0 and 38.0.")


def test_only_data_sets_with_records_are_shown():
    assert dimensions.datasets() == ["mnist"]


def test_the_figure_has_a_panel_per_kind_and_a_line_per_law():
    figure = dimensions.figure("mnist")
    try:
        assert [axis.get_title() for axis in figure.axes] == ["WWAE", "AE"]
        lines = figure.axes[0].lines
        assert [list(line.get_ydata()) for line in lines] == [
            [DISTANCES["wwae", "total", d][place] for d in (8, 32)] for place in range(5)
        ]
        assert len(figure.axes[1].lines) == 4  # an AE has no prior
    finally:
        plt.close(figure)


def test_what_was_chosen_is_the_lowest_of_the_wwae_on_validation_images(monkeypatch):
    monkeypatch.undo()
    for dataset, remedy in selection.REMEDY.items():
        tried = dimensions.recorded(dataset)["wwae", "total"]
        assert {run.record["data"]["test"]["split"] for run in tried} == {"valid"}
        choices = [
            (run.metrics[law], run.experiment.latent, law) for run in tried for law in dimensions.laws(run)
        ]
        assert min(choices)[1:] == remedy


@pytest.fixture
def tested(monkeypatch, tmp_path):
    """Three seeds of the WWAE of the comparison, of the remedy, and one of an auto-encoder."""
    made = {}
    values = {
        ("long", "wwae"): [{"fid": x, "fid_mixture": 25.0, "fid_training": 2.0} for x in (27.0, 28.0, 29.0)],
        ("beyond", "wwae"): [{"fid": 26.0, "fid_mixture": x} for x in (14.0, 15.0, 16.0)],
        ("beyond", "ae"): [{"fid": 99.0, "fid_mixture": 15.5}],
    }
    for (profile, method), some in values.items():
        planned = [
            one for one in PROFILES[profile].experiments if (one.dataset, one.method) == ("mnist", method)
        ]
        for one, metrics in zip(planned, some, strict=False):
            errors = {f"{name}_error": 0.5 for name in metrics}
            run = made_up.run(method, squared_error=9.0, fid_reconstruction=17.0, **metrics, **errors)
            made[reproduce.results_folder(profile) / one.name] = dataclasses.replace(
                run, record=run.record | {"config": one.as_dict()}
            )
    monkeypatch.setattr(dimensions, "exists", made.__contains__)
    monkeypatch.setattr(dimensions, "load", made.__getitem__)
    return made


def test_the_remedy_is_judged_on_test_images_over_seeds(tested):
    lines = [
        line.replace("\N{NO-BREAK SPACE}", " ") for line in dimensions.tested_table("mnist").splitlines()
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    seeds = [["WWAE", "8", "3"], ["WWAE", "16", "3"], ["AE", "16", "1"]]
    assert [[*row[:2], row[-1]] for row in rows] == seeds
    assert rows[0][2] == "28.0 ± 2.5" and rows[2][2:4] == ["-", "15.5 (0.5)"]
    said = dimensions.tested_summary("mnist").replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("WWAE with 16 dimensions has 15.0 ± 2.5 from a fitted mixture of 10.")
    assert "From the prior it has 26.0 ± 0.0." in said
    assert "has 28.0 ± 2.5: a difference of -13.0 ± 2.3 (3 and 3 seeds, Welch)." in said
    assert "AE with 16 dimensions has 15.5 (0.5) from a fitted mixture of 10." in said
    assert said.endswith("As many real training images have 2.0.")


def test_the_remedy_is_shown_without_the_comparisons_run(tested):
    for path in [path for path in tested if path.parts[-2] == "wwae"]:
        del tested[path]
    said = dimensions.tested_summary("mnist").replace("\N{NO-BREAK SPACE}", " ")
    assert "15.0 ± 2.5 from a fitted mixture" in said and "a difference of" not in said


def test_nothing_is_judged_before_the_remedy_is_recorded(tested):
    assert len(dimensions.tested("mnist")) == 3 and dimensions.tested("celeba") == []
    for path in list(tested):
        if "beyond" in path.parts:
            del tested[path]
    assert dimensions.tested("mnist") == []


def test_a_mixture_in_the_comparison_is_told_with_the_penalty_and_without():
    runs = [
        made_up.run(
            "wwae", dataset="fashion_mnist", fid=62.1, fid_error=0.9, fid_mixture=44.1, fid_training=1.9
        )
    ]
    runs += [made_up.run("ae", dataset="fashion_mnist", fid=205.6, fid_mixture=48.5, fid_mixture_error=0.7)]
    (contest,) = tables.contests(runs)
    assert dimensions.fitted_summary(contest).replace(tables.GLUE, " ") == (
        "WWAE has 44.1 from a fitted mixture of 10 (one seed), and 62.1 (0.9) from the prior. "
        "AE has 48.5 (0.7) from a fitted mixture of 10 (one seed). As many real training images have 1.9."
    )
    (contest,) = tables.contests([made_up.run("wwae", dataset="fashion_mnist", fid=62.1)])
    assert dimensions.fitted_summary(contest) == ""
