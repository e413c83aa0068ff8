"""The table, figure and sentences on codes of several dimensions follow from the records."""

from __future__ import annotations

import dataclasses

import made_up
import pytest
from matplotlib import pyplot as plt

from wwae_lib.book import dimensions, selection

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
        "9.00", "10.0 (0.5)", "40.0 (0.5)", "30.0 (0.5)", "20.0 (0.5)", "**16.5 (0.5)**"
    ]  # fmt: skip
    assert rows["AE", "8"][2:] == ["-", "29.0 (0.5)", "27.5 (0.5)", "**26.5 (0.5)**"]
    assert len(lines) == 2 + len(DISTANCES)


def test_the_lowest_distance_of_new_images_is_named_with_what_separates_it():
    assert dimensions.best("mnist").run.experiment.latent == 32
    said = dimensions.summary("mnist")
    assert "WWAE: from 8 to 32 dimensions the distance of reconstructions goes from 25.0 to 10.0" in said
    assert "that of images from the prior from 28.0 to 40.0" in said
    assert "is 16.5: WWAE with 32 dimensions, its codes drawn from a fitted mixture of 100." in said
    assert said.endswith("Its reconstructions have 10.0.")
    assert " AE: from" not in said  # of one run there is nothing to compare


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
    assert "1,234 from the prior" in said and "WWAE: from" not in said
    figure = dimensions.figure("mnist")
    try:
        assert [list(axis.lines[0].get_xdata()) for axis in figure.axes] == [[8], [8]]
    finally:
        plt.close(figure)
    assert "| WWAE | 32 | 28.00 |" in dimensions.table("mnist")


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
