"""The page of trials shows what is recorded, and says what is not."""

from __future__ import annotations

import dataclasses

import made_up
import pytest
from matplotlib import pyplot as plt

from wwae_lib.book import selection, tables, trials
from wwae_lib.runs import Run


def recorded(experiment, **metrics) -> Run:
    run = made_up.run(experiment.method, dataset=experiment.dataset, **metrics)
    data = run.record["data"] | {"test": {"split": "valid", "images": 5_000}}
    record = run.record | {"config": experiment.as_dict(), "data": data}
    return dataclasses.replace(run, record=record)


@pytest.fixture
def some(monkeypatch):
    """On MNIST, all trials of the WWAE, whose lowest distance is the last, and two of the VAE."""
    fids = {
        ("wwae", ""): dict(zip(selection.FACTORS, (50.0, 40.0, 35.0, 33.0, 31.0), strict=True))
        | {30.0: 30.0, 100.0: 29.0},
        ("wwae", "sliced"): dict(zip(selection.FACTORS, (27.0, 26.0, 25.0, 33.0, 31.0), strict=True)),
        ("wwae", "corrected"): dict(zip(selection.FACTORS, (30.0, 29.5, 30.0, 33.0, 31.0), strict=True)),
        ("vae", ""): {1.0: 45.0, 3.0: 47.0},
    }
    found = [
        recorded(selection.trial("mnist", name, factor, remedy), fid=fid, fid_error=0.4)
        for (name, remedy), values in fids.items()
        for factor, fid in values.items()
    ]

    def of(experiment) -> Run | None:
        return next((run for run in found if run.experiment == experiment), None)

    monkeypatch.setattr(selection, "recorded", of)
    monkeypatch.setattr(
        selection, "recorded_length_trials",
        lambda dataset, method: [
            recorded(one, fid=60.0 - one.epochs / 10, fid_error=0.4, fid_training=5.5, squared_error=10.0)
            for one in selection.length_trials(dataset)
            if one.method == method == "wwae" and one.epochs < 100
        ],
    )  # fmt: skip
    return found


def test_every_trial_is_in_its_place_and_the_lowest_is_bold_once_all_are_there(some):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in trials.table("mnist").splitlines()]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["WWAE"][:2] == ["penalty weight", "1: 50.0 (0.4)".replace(" (", "\N{NO-BREAK SPACE}(")]
    assert rows["WWAE"][-1].startswith("1000: **29.0") and rows["WWAE"][3].startswith("10: 35.0")
    assert rows["VAE"][1] == "0.01: -" and rows["VAE"][3].startswith("0.1: 45.0")
    assert "**" not in "".join(rows["VAE"])
    assert rows["VAE"][-2:] == ["", ""]  # it asks for no trial beyond the five
    assert trials.datasets() == ["mnist"]


def test_what_is_missing_and_what_lies_at_an_end_is_said(some):
    said = trials.summary("mnist")
    assert said.startswith(
        "On MNIST the trials are complete for WWAE. On MNIST trials are still to be made for VAE, VAE with"
    )
    assert "DCGAN and WGAN-GP." in said  # those without any trial, too
    assert "For WWAE the lowest distance lies at an end" in said


def taking_for(first, second, some):
    """What records say where a second attempt counts for a first."""
    return lambda asked: next(
        (run for run in some if run.experiment == (second if asked == first else asked)), None
    )


def test_methods_are_compared_at_their_best_once_their_trials_are_complete(some, monkeypatch):
    assert trials.at_their_best("mnist") == ""  # the VAE's are not
    for factor, fid in zip((0.1, 0.3, 10.0), (50.0, 46.0, 49.0), strict=True):
        some.append(recorded(selection.trial("mnist", "vae", factor), fid=fid, fid_error=0.3))
    table, _, said = trials.at_their_best("mnist").replace(tables.GLUE, " ").partition("\n\n")
    first, second = table.splitlines()[2:]
    assert first == "| **WWAE** | penalty weight 1000 | 29.0 (0.4) |  | - | - | - |"
    assert second == "| VAE | penalty weight 0.1 | 45.0 (0.4) | +16.0 (0.6) | - | - | - |"
    assert said.startswith("VAE has a higher distance than the WWAE in these single trainings.")
    assert "DCGAN and WGAN-GP have no trial yet" in said
    assert "each number is the lowest of 5 or 7" in said
    some.append(recorded(selection.trial("mnist", "gan", 1.0), fid=9.0, fid_error=0.3))
    untuned = trials.at_their_best("mnist").replace(tables.GLUE, " ")
    assert (
        "| DCGAN | learning rate 0.0002, not chosen by trials | 9.0 (0.3) | -20.0 (0.5) | - | - | - |"
        in untuned
    )
    assert "DCGAN stands at its centre, since its trials are not complete." in untuned
    assert "DCGAN has a lower" not in untuned
    assert trials.at_their_best("celeba") == ""
    some[:] = [run for run in some if run.experiment != selection.trial("mnist", "vae", 1.0)]
    again = selection.second_attempt(selection.trial("mnist", "vae", 1.0))
    monkeypatch.setattr(selection, "recorded", taking_for(selection.trial("mnist", "vae", 1.0), again, some))
    some.append(recorded(again, fid=20.0, fid_error=0.3))
    said = trials.at_their_best("mnist").replace(tables.GLUE, " ")
    assert "| VAE | penalty weight 0.1, second training | 20.0 (0.3) | -9.0 (0.5) | - | - | - |" in said
    assert "The number of VAE is of a second training" in said and "trained without that" in said
    assert "The first training of VAE at 0.1 failed." in trials.summary("mnist")


def test_where_no_trials_are_complete_nothing_is_said_of_such(some):
    some[:] = [run for run in some if run.experiment.method == "vae"]
    assert trials.summary("mnist").startswith("On MNIST trials are still to be made for WWAE, VAE, ")
    assert trials.summary("celeba") == ""


def test_the_figure_has_a_line_per_method(some):
    figure = trials.figure("mnist")
    try:
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["WWAE", "VAE"]
        assert list(figure.axes[0].lines[0].get_xdata()) == [*selection.FACTORS, 30.0, 100.0]
        assert list(figure.axes[0].lines[1].get_ydata()) == [29.0]
    finally:
        plt.close(figure)


def test_the_trade_off_follows_each_methods_weight_where_there_are_trials_and_reconstructions(
    some,
):
    for number, run in enumerate(some):
        run.record["metrics"]["squared_error"] = 9.0 + number
    some += [
        recorded(selection.trial("mnist", "gan", factor), fid=30.0, fid_error=0.4) for factor in (0.3, 1.0)
    ]
    figure = trials.trade_off("mnist")
    try:
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["WWAE", "VAE"]
        wwae, largest = figure.axes[0].lines[:2]
        by_weight = sorted(
            (run for run in some if (run.experiment.method, run.experiment.estimator) == ("wwae", "total")),
            key=lambda run: run.experiment.penalty_weight,
        )
        assert list(wwae.get_xdata()) == [run.metrics["squared_error"] for run in by_weight]
        assert list(wwae.get_ydata()) == [run.metrics["fid"] for run in by_weight]
        assert list(largest.get_ydata()) == [by_weight[-1].metrics["fid"]]
    finally:
        plt.close(figure)


def test_a_shared_choice_is_taken_where_it_lowers_the_distance_of_both_methods(some):
    assert trials.shared_choices("mnist") == ""
    lower = {"normalised": (36.0, 40.0), "rate_double": (34.0, 39.0), "batch_64": (34.0, None)}
    for one in selection.shared_choice_trials("mnist"):
        fids = lower.get(one.variant, (None, None))
        if fid := fids[selection.SHARED_ON.index(one.method)]:
            some.append(recorded(one, fid=fid, fid_error=0.4))
    some.append(recorded(selection.trial("mnist", "vae_learned", 1.0), fid=41.0, fid_error=0.4))
    assert [selection.helps("mnist", variant) for variant in lower] == [False, True, None]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in trials.shared_choices("mnist").splitlines()
        if line.startswith("|")
    ]
    assert lines[2][:2] == ["as in all trials", "35.0\N{NO-BREAK SPACE}(0.4)"]
    assert {line[0]: line[3] for line in lines[3:]} == {
        trials.CHOICES[variant]: {True: "lower for both", False: "not lower for both", None: "to be made"}[
            selection.helps("mnist", variant)
        ]
        for variant in selection.SHARED
    }
    assert trials.shared_choices("mnist").endswith(
        "What lowers the distance of both is twice the learning rate."
    )
    some[:] = [run for run in some if run.experiment.variant != "rate_double"]
    assert "so the choice stays as it is" in trials.shared_choices("mnist")


def test_a_remedy_is_said_to_help_where_it_is_clearly_lower_at_its_best(some):
    said = trials.remedies("mnist")
    assert "WWAE, sliced lowers the distance: 25.0 at its best weight, 10, against 29.0" in said
    assert "WWAE, corrected does not clearly change the distance: 29.5" in said
    assert "The trials of WWAE, accumulated are not complete." in said
    assert trials.datasets(trials.REMEDIES[:3]) == ["mnist"] and trials.datasets(trials.REMEDIES) == []


def test_lengths_of_training(some):
    lines = trials.lengths("mnist").splitlines()
    assert lines[0] == "| epochs | WWAE |" and lines[-1] == "| 100 | - |"
    assert "57.5" in lines[-3] and "; 10.00" in lines[-3]
    assert trials.convergence("mnist") == [
        "The WWAE has not converged after 25 epochs: 50 epochs still changed it."
    ]


def test_the_figure_of_lengths_has_a_line_per_method_and_the_floor(some):
    figure = trials.by_length("mnist")
    try:
        left, right = figure.axes
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["WWAE"]
        epochs = [one for one in selection.LENGTHS if one < 100]
        assert list(left.lines[0].get_xdata()) == list(right.lines[0].get_xdata()) == epochs
        assert list(left.lines[0].get_ydata()) == [60.0 - one / 10 for one in epochs]
        assert list(right.lines[0].get_ydata()) == [10.0] * len(epochs)
        floor = next(line for line in left.lines if line.get_linestyle() == "--")
        assert list(floor.get_ydata()) == [5.5, 5.5]
    finally:
        plt.close(figure)


def test_pictures_of_the_shortest_and_the_longest_training_stand_side_by_side(some, finished, monkeypatch):
    lengths = selection.recorded_length_trials("mnist", "wwae")
    with_pictures = [dataclasses.replace(run, path=finished.path) for run in lengths]
    monkeypatch.setattr(selection, "recorded_length_trials", lambda dataset, method: with_pictures)
    figure = trials.before_and_after("mnist")
    try:
        titles = [axis.get_title() or axis.get_title(loc="left") for axis in figure.axes]
        assert titles == ["validation images", "6 epochs", "50 epochs"]
    finally:
        plt.close(figure)
    monkeypatch.setattr(selection, "recorded_length_trials", lambda dataset, method: lengths[:1])
    with pytest.raises(ValueError, match="1 lengths of mnist/wwae"):
        trials.before_and_after("mnist")


def test_a_training_that_was_made_twice_shows_what_rounding_does(some, monkeypatch):
    chosen = selection.best_trial("mnist", "wwae")
    again = made_up.run("wwae", fid=31.0, fid_error=0.5)
    again.record["config"] |= chosen.experiment.as_dict() | {"variant": "epochs_25"}
    lengths = {"wwae": [again]}
    monkeypatch.setattr(selection, "recorded_length_trials", lambda dataset, method: lengths.get(method, []))
    said = trials.repeated("mnist").replace(tables.GLUE, " ")
    assert "the WWAE has 31.0 (0.5) here and 29.0 (0.4) there." in said
    again.record["metrics"] |= chosen.metrics
    assert trials.repeated("mnist") == ""


def test_the_spread_over_seeds_is_told_where_there_are_seeds(monkeypatch):
    seeds = made_up.seeds("vae", fid=[40.0, 42.0, 44.0])
    monkeypatch.setattr(trials, "recorded", lambda pattern: seeds if "/vae/" in pattern else [])
    monkeypatch.setattr(selection, "factors", lambda dataset, name: (0.1, 1.0))
    first, second = trials._of_one_training("mnist", {"vae": seeds[0]})
    assert "each number is the lowest of 2, and another" not in first and "lowest of 2, and that" in first
    assert second.endswith("a standard deviation of 2.0 for the VAE.")
