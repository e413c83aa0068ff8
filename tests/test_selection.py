"""Settings are chosen on validation images alone, with the same effort for every method."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
from pathlib import Path

import choose_settings
import made_up
import pytest
from conftest import small, stand_in

from wwae_lib import data, runs
from wwae_lib.book import reproduce, selection
from wwae_lib.book.reproduce import PROFILES, Profile
from wwae_lib.experiments import experiment
from wwae_lib.measures import evaluation
from wwae_lib.methods import METHODS


def test_every_method_is_tried_equally_often_and_equally_long():
    tried = collections.defaultdict(list)
    for one in PROFILES["selection"].experiments:
        if one.variant in selection.SHARED:
            continue
        tried[one.dataset, one.method].append(one)
    expected = {(dataset, method) for dataset in data.DATASETS for method in METHODS if method != "ae"}
    assert tried.keys() == expected - {("celeba", "vae_bernoulli")}
    for (dataset, method), some in tried.items():
        field, centre = selection.setting(dataset, method)
        assert field == ("learning_rate" if not experiment("mnist", method).has_encoder else "penalty_weight")
        values = sorted(getattr(one, field) / centre for one in some)
        assert values == pytest.approx(selection.FACTORS)
        assert {one.epochs for one in some} == {75 if method == "wgan_gp" else 25}
        assert {one.seed for one in some} == {0}
        others = [{k: v for k, v in one.as_dict().items() if k not in (field, "variant")} for one in some]
        assert all(other == others[0] for other in others)


def test_a_shared_choice_changes_one_thing_of_the_baseline():
    for one in selection.shared_choice_trials("mnist"):
        baseline = selection.trial("mnist", one.method, 1.0).as_dict()
        changed = {key for key, value in one.as_dict().items() if value != baseline[key]}
        assert changed == {"variant", *(selection.SHARED[one.variant] or {"latent"})}
        assert one in PROFILES["selection"].experiments


def test_the_table_of_what_is_chosen_is_written_from_the_records(monkeypatch, capsys):
    monkeypatch.setenv("WWAE_RESULTS", str(Path(__file__).resolve().parents[1] / "book" / "results"))
    table = choose_settings.TABLE.search(choose_settings.MODULE.read_text(encoding="utf-8"))
    assert all(choose_settings.entry("mnist", method) in table[0] for method in ("wwae", "wae_mmd"))
    monkeypatch.setattr(selection, "recorded_trials", lambda dataset, method: [])
    assert choose_settings.entry("celeba", "wgan_gp") == ""
    assert capsys.readouterr().err == "celeba/wgan_gp: 0 of 5 trials\n"


def test_what_is_chosen_is_what_the_complete_trials_say(monkeypatch):
    """Typed, so that a plan of runs does not change while trials are being recorded; and held to them."""
    monkeypatch.setenv("WWAE_RESULTS", str(Path(__file__).resolve().parents[1] / "book" / "results"))
    complete = {
        f"{dataset}/{method}": {
            name: value
            for name in (field, "warm_up")
            if (value := getattr(selection.best_trial(dataset, method).experiment, name))
        }
        for dataset in data.DATASETS
        for method in selection.compared_methods(dataset)
        for field, centre in [selection.setting(dataset, method)]
        if centre and selection.complete(dataset, method)
    }
    assert complete == selection.CHOSEN
    assert selection.chosen("mnist", "vae_learned", seed=2).penalty_weight == 3.0
    assert selection.chosen("celeba", "wwae") == experiment("celeba", "wwae")
    planned = {one.name: one for one in PROFILES["long"].experiments}
    for name, settings in complete.items():
        for field, value in settings.items():
            assert getattr(planned[f"{name}/seed-0"], field) == value


def test_a_data_set_without_trials_borrows_those_of_mnist_where_images_have_its_shape(monkeypatch):
    known = {
        "mnist/wwae": {"penalty_weight": 1.0},
        "mnist/swae": {"penalty_weight": 9.0, "warm_up": 7},
        "fashion_mnist/swae": {"penalty_weight": 5.0},
    }
    monkeypatch.setattr(selection, "CHOSEN", known)
    assert selection.best_known("mnist", "wwae", seed=3) == experiment(
        "mnist", "wwae", penalty_weight=1.0, seed=3
    )
    assert selection.best_known("fashion_mnist", "wwae", epochs=2).penalty_weight == 1.0
    assert selection.best_known("celeba", "wwae") == experiment("celeba", "wwae")
    assert selection.best_known("fashion_mnist", "cwae") == experiment("fashion_mnist", "cwae")
    own = selection.best_known("fashion_mnist", "swae")
    assert (own.penalty_weight, own.warm_up) == (5.0, experiment("fashion_mnist", "swae").warm_up)


def test_a_value_is_written_as_one_reads_it():
    assert selection.trial("mnist", "vae", 0.3).penalty_weight == 0.03
    assert selection.trial("mnist", "gan", 0.3).learning_rate == 6e-5
    assert selection.trial("mnist", "wwae", 0.1).name == "mnist/wwae-times_0_1/seed-0"


@pytest.fixture
def tried(tmp_path, monkeypatch, digits, test_digits):
    """Trials of a small WWAE, made by the profile's own path; the validation images are digits."""
    splits = {
        "train": digits,
        "valid": data.Images(test_digits.pixels, test_digits.labels, "mnist", "valid", "made up"),
    }
    monkeypatch.setattr(data, "load", lambda dataset, split, fall_back: splits[split])
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path))
    monkeypatch.setattr(selection, "BELOW", ())
    monkeypatch.setattr(selection, "ABOVE", ())
    monkeypatch.setattr(selection, "FLAT", 0.0)  # after one epoch all reconstructions are still blurred
    stand_in(monkeypatch)
    monkeypatch.setitem(evaluation.PROTOCOLS, "selection", evaluation.Protocol(31, 1))
    made = small("wwae", epochs=1)
    monkeypatch.setattr(
        selection, "experiment", lambda *names, **changes: small("wwae", **changes | {"epochs": 1})
    )
    profile = Profile(
        tuple(selection.trial("mnist", "wwae", factor) for factor in selection.FACTORS),
        protocol="selection", held_out="valid",
    )  # fmt: skip
    for one in profile.experiments:
        reproduce._train_and_measure(one, profile, selection.folder(), "cpu")
    return made


def test_the_lowest_distance_to_validation_images_is_taken(tried):
    found = selection.recorded_trials("mnist", "wwae")
    assert [run.experiment.penalty_weight for run in found] == [1.0, 3.0, 10.0, 30.0, 100.0]
    assert {run.record["evaluation"]["prior"]["reference"] for run in found} == {"valid"}
    best = selection.best_trial("mnist", "wwae")
    assert best.metrics["fid"] == min(run.metrics["fid"] for run in found)
    with pytest.raises(ValueError, match=r"0 of 5 trials like .*/wwae-sliced_times_1/seed-0"):
        selection.best_trial("mnist", "wwae", "sliced")
    file = found[2].path / "run.json"
    record = json.loads(file.read_text())
    record["data"]["test"]["split"] = "test"
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="validation images alone"):
        selection.best_trial("mnist", "wwae")
    assert not runs.recorded()  # trials are none of the book's runs


@pytest.fixture
def fids(monkeypatch, made):
    """Recorded distances of the WWAE's trials by factor, as a test fills them in."""
    filled = {}

    def recorded(experiment):
        by_name = {selection.trial("mnist", "wwae", factor).name: fid for factor, fid in filled.items()}
        return made(fid=by_name[experiment.name]) if experiment.name in by_name else None

    monkeypatch.setattr(selection, "recorded", recorded)
    return filled


def test_trials_go_on_past_an_end_until_the_lowest_is_inside(fids):
    assert selection.factors("mnist", "wwae") == selection.FACTORS
    fids |= dict(zip(selection.FACTORS, (28.0, 29.0, 30.0, 34.0, 40.0), strict=True))
    assert selection.factors("mnist", "wwae") == (0.03, *selection.FACTORS)
    assert not selection.complete("mnist", "wwae")
    wanted = reproduce.select(PROFILES["selection"], "mnist/wwae-times_0_03/seed-0")
    assert [one.penalty_weight for one in wanted] == [0.3]
    fids[0.03] = 28.5  # the lowest lies inside now
    assert selection.factors("mnist", "wwae") == (0.03, *selection.FACTORS)
    assert selection.complete("mnist", "wwae")
    fids[0.03] = 27.0
    assert selection.factors("mnist", "wwae") == (0.01, 0.03, *selection.FACTORS)
    fids[0.01] = 26.0  # two past the end is where it stops
    assert selection.factors("mnist", "wwae") == (0.01, 0.03, *selection.FACTORS)
    assert selection.complete("mnist", "wwae")


def test_trials_go_on_past_the_upper_end_too(fids):
    fids |= dict(zip(selection.FACTORS, (40.0, 34.0, 30.0, 29.0, 28.0), strict=True))
    assert selection.factors("mnist", "wwae") == (*selection.FACTORS, 30.0)


def test_each_remedy_is_tried_as_the_method_is():
    tried = PROFILES["remedies"].experiments
    for dataset in data.DATASETS:
        for remedy in selection.REMEDIES:
            some = [one for one in tried if (one.dataset, one.estimator) == (dataset, remedy)]
            plain = [selection.trial(dataset, "wwae", factor).as_dict() for factor in selection.FACTORS]
            as_plain = [{**one.as_dict(), "estimator": "total"} for one in some]
            for one in as_plain:
                one["variant"] = one["variant"].removeprefix(f"{remedy}_")
            assert sorted(as_plain, key=str) == sorted(plain, key=str)


def test_codes_of_every_dimension_are_tried_with_and_without_a_penalty():
    for dataset in data.DATASETS:
        tried = list(selection.dimension_trials(dataset))
        assert len({one.name for one in tried}) == len(tried)
        for kind in (("wwae", "total"), ("wwae", "sliced"), ("ae", "total")):
            some = [one for one in tried if (one.method, one.estimator) == kind]
            assert [one.latent for one in some] == list(selection.DIMENSIONS[dataset])
            assert len({(one.penalty_weight, one.epochs, one.seed) for one in some}) == 1
        assert experiment(dataset, "wwae").latent in selection.DIMENSIONS[dataset]


def test_training_has_converged_where_twice_the_epochs_change_little(made):
    assert selection.converged(made(fid=30.0, squared_error=10.0), made(fid=29.5, squared_error=9.9))
    assert not selection.converged(made(fid=30.0, squared_error=10.0), made(fid=28.0, squared_error=9.9))
    assert not selection.converged(made(fid=30.0, squared_error=10.0), made(fid=29.5, squared_error=9.7))


def test_a_training_that_failed_is_made_once_more_and_the_second_counts(monkeypatch, made):
    trial = selection.trial("mnist", "wae_mmd", 0.3)
    flat = {"sharpness_reconstruction": 0.0013, "sharpness_data": 0.18}
    records = {trial.name: made("wae_mmd", fid=231.0, **flat)}
    monkeypatch.setattr(selection, "_load", lambda experiment: records.get(experiment.name))
    assert selection.failed(records[trial.name]) and selection.recorded(trial) is None
    assert selection.last_attempt(trial) is records[trial.name]
    (again,) = selection.second_attempts(PROFILES["selection"].experiments)
    assert again == dataclasses.replace(trial, variant="times_0_3_warm_up", warm_up=selection.WARM_UP)
    assert reproduce.select(PROFILES["selection"], again.name) == (again,)
    with pytest.raises(ValueError, match="no run's name"):  # no trial of remedies failed
        reproduce.select(PROFILES["remedies"], again.name)
    second = made("wae_mmd", fid=230.0, **flat)
    second.record["config"] = again.as_dict()
    records[again.name] = second
    assert selection.recorded(trial) is second  # whatever came of it
    warmed_up = [one for one in PROFILES["selection"].experiments if one.warm_up]
    assert warmed_up and not list(selection.second_attempts(warmed_up))
    records |= {one.name: made("wwae", fid=231.0, **flat) for one in warmed_up}
    assert not list(selection.second_attempts(warmed_up))  # they failed with it
    assert not selection.failed(made("gan", fid=20.0))
    assert not selection.failed(made(fid=200.0, sharpness_reconstruction=0.0064, sharpness_data=0.18))


def test_a_plain_auto_encoder_is_judged_by_its_reconstructions_alone(made):
    runs = [made("ae", fid=fid, squared_error=10.0) for fid in (250.0, 200.0)]
    assert selection.converged(*runs)
    assert not selection.converged(runs[0], made("ae", fid=250.0, squared_error=9.7))


def test_a_gan_is_judged_by_its_distance_alone(made):
    assert selection.converged(made("gan", fid=30.0), made("gan", fid=29.5))
    assert not selection.converged(made("gan", fid=30.0), made("gan", fid=20.0))


@pytest.fixture
def made():
    """A run with these metrics, whose distances have an error of a half."""

    def one(method: str = "wwae", **metrics: float) -> runs.Run:
        errors = {f"{name}_error": 0.5 for name in metrics if name.startswith("fid")}
        return made_up.run(method, **metrics, **errors)

    return one


def test_lengths_double():
    tried = PROFILES["convergence"].experiments
    for dataset in data.DATASETS:
        for method in selection.MAIN:
            some = [one for one in selection.length_trials(dataset) if one.method == method]
            assert [one.epochs for one in some] == list(selection.LENGTHS)
            assert set(some) <= set(tried)
    assert len({one.name for one in tried}) == len(tried)
    assert all(1.9 <= b / a <= 2.1 for a, b in itertools.pairwise(selection.LENGTHS))


def test_a_random_encoder_is_tried_where_the_experiments_have_a_deterministic_one():
    assert not [*selection.encoder_trials("mnist"), *selection.encoder_trials("fashion_mnist")]
    (random,) = selection.encoder_trials("celeba")
    shortest = next(one for one in selection.length_trials("celeba") if one.method == "wwae")
    assert random.initial_std > shortest.initial_std == 0
    assert dataclasses.replace(random, initial_std=0, variant=shortest.variant) == shortest
    assert random in PROFILES["convergence"].experiments


def test_a_length_that_is_a_trial_of_dimensions_is_not_made_twice(monkeypatch):
    made = next(one for one in selection.dimension_trials("mnist") if one.method == "ae")
    assert (made.variant, made.epochs) == ("latent_8", selection.EPOCHS)
    run = runs.Run(Path("ae"), {"config": made.as_dict()})
    monkeypatch.setattr(selection, "recorded", lambda asked: run if asked == made else None)
    assert selection.recorded_length_trials("mnist", "ae") == [run]
    assert selection.recorded_length_trials("mnist", "wwae") == []


def test_a_training_serves_as_trial_of_a_setting_and_of_a_length(monkeypatch, tmp_path):
    any_run = Path(selection.__file__).parents[2] / "book/results/mnist/wwae/seed-0"
    record = json.loads((any_run / "run.json").read_text())
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path))
    monkeypatch.setattr(selection, "CHOSEN", {})
    trial = selection.trial("celeba", "wwae", 1.0)
    (length,) = (
        one
        for one in selection.length_trials("celeba")
        if (one.method, one.epochs) == ("wwae", selection.EPOCHS)
    )
    for made, asked in ((length, trial), (trial, length)):
        folder = selection.folder() / made.name
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_bytes((any_run / "metrics.jsonl").read_bytes())
        (folder / "run.json").write_text(json.dumps(record | {"config": made.as_dict()}))
        assert selection.recorded_trials("celeba", "wwae")[0].experiment == made
        assert selection.recorded_length_trials("celeba", "wwae")[0].experiment == made
        assert asked.name != made.name
        (folder / "run.json").unlink()
    # one of a weight that is not tried does not serve
    folder = selection.folder() / length.name
    other = record | {"config": length.as_dict() | {"penalty_weight": 7.0}}
    (folder / "run.json").write_text(json.dumps(other))
    assert selection.recorded_trials("celeba", "wwae") == []
