"""A slice of the comparison: what it holds, and that it comes home whole whatever is killed on the way."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest
import slices
import torch
from conftest import cpu_fabric, small, stand_in, subprocess_environment

from wwae_lib import runs, training
from wwae_lib.book import reproduce, together
from wwae_lib.book.reproduce import PROFILES, Profile


def plan(*words: str, profile: str = "full", **found) -> slices.Plan:
    return slices.Plan(
        words, profile, **{"rehearsal": False, "milliseconds": {}, "failed": {}, "lanes": {}} | found
    )


@pytest.fixture
def few(monkeypatch, digits, test_digits):
    """A profile of short runs on few digits, that are all one kind of step but the last."""
    planned = [small("wwae", seed=seed, epochs=1) for seed in range(2)] + [small("vae", epochs=2)]
    monkeypatch.setitem(PROFILES, "quick", Profile(tuple(planned), embedded=True))
    monkeypatch.setattr(reproduce, "images_of", lambda profile, dataset: (digits, test_digits))
    fabric = cpu_fabric()
    monkeypatch.setattr(training, "choose_fabric", lambda: fabric)
    slices._images.cache_clear()
    yield planned
    slices._images.cache_clear()


@pytest.mark.parametrize(
    ("words", "count"),
    [(["grey:0", "mnist:1"], 33), (["celeba:0"], 9), (["celeba_gp:2"], 1), (["grey:0", "mnist:0"], None)],
)
def test_a_slice_holds_runs_of_the_profile_each_once(words, count):
    if count is None:
        with pytest.raises(ValueError, match="no run 'mnist:0' that is not in the slice already"):
            plan(*words).groups()
        return
    experiments = plan(*words).experiments()
    assert len(set(experiments)) == len(experiments) == count
    assert set(experiments) <= set(PROFILES["full"].experiments)


def test_every_run_of_the_comparison_is_in_a_slice():
    words = [
        f"{part}:{seed}"
        for seed in range(5)
        for part in ("grey", "celeba", "celeba_gp")[: 3 if seed < 3 else 1]
    ]
    assert set(plan(*words, "ablations").experiments()) == set(PROFILES["full"].experiments)


def test_the_longest_of_a_part_begins_first_and_what_failed_is_left_out(few):
    first, second, third = few
    whole = plan("mnist/*", profile="quick", milliseconds={slices.kind(first): 1.0, slices.kind(third): 2.0})
    assert whole.experiments() == [third, first, second]
    assert plan("mnist/*", profile="quick", failed={slices.kind(third): "it"}).experiments() == [
        first,
        second,
    ]


def test_a_rehearsal_has_as_many_runs_and_none_by_the_name_of_a_real_one():
    real, rehearsed = (plan("grey", "ablations", rehearsal=which).experiments() for which in (False, True))
    names = {planned.name for planned in rehearsed}
    assert len(names) == len(real) and not names & {planned.name for planned in real}
    assert {planned.network for planned in rehearsed} == {"tiny"}


def test_a_rehearsal_measures_one_distance(monkeypatch):
    """With all sets that the full profile wants, a processor would measure for three times as long."""
    monkeypatch.setattr(slices.evaluation, "PROTOCOLS", dict(slices.evaluation.PROTOCOLS))
    protocols = slices.evaluation.PROTOCOLS
    for profile, held_out in (("full", 10_000), ("selection", 5_000)):
        whole = plan("mnist", rehearsal=True, profile=profile).whole()
        assert whole.sets == ("prior",) and protocols[whole.protocol].images == 2048
        assert held_out // protocols[whole.protocol].step >= 2048


@pytest.mark.parametrize("what", ["smoke", "start"])
def test_a_word_that_is_no_part_is_an_error(what, capsys, tmp_path, monkeypatch):
    plan("mnist:0").write(tmp_path)
    monkeypatch.setattr(sys, "argv", ["slices.py", what, "cifar:0", "--results", str(tmp_path)])
    assert slices.main() == 1
    assert "there is no part 'cifar'" in capsys.readouterr().err
    assert slices.read(tmp_path) == plan("mnist:0")


def test_what_finished_trials_ask_for_follows(few, tmp_path, monkeypatch):
    planned, made = iter([few[:1], few[:2], few[:2]]), []
    monkeypatch.setattr(slices.Plan, "experiments", lambda self: next(planned))
    monkeypatch.setattr(slices, "_work", lambda *arguments: made.append(arguments))
    plan("mnist/*", profile="quick").write(tmp_path)
    slices.work(tmp_path, math.inf, 3, 1)
    assert [at_once for _, _, _, at_once, _ in made] == [3, 3]


def test_a_slice_waits_until_another_is_trained(few, tmp_path, monkeypatch):
    made, trained = [], slices.folder_of(tmp_path / "other") / "trained"
    monkeypatch.setattr(slices, "_work", lambda *arguments: made.append(trained.exists()))
    plan("mnist/*", profile="quick").write(tmp_path / "there")
    slices.work(tmp_path / "there", time.time() + 0.3, 1, 1, tmp_path / "other")
    assert not made  # the time was up
    trained.parent.mkdir(parents=True)
    threading.Timer(0.3, trained.touch).start()
    slices.work(tmp_path / "there", time.time() + 60, 1, 1, tmp_path / "other")
    assert made == [True]


def test_losses_that_differ_by_more_than_five_per_cent_are_told():
    plain = {"epoch": 1, "seconds": 1.0, "loss": 100.0, "penalty": 0.01}
    assert slices.differing(plain, plain | {"seconds": 9.0, "loss": 104.9, "penalty": 0.1}) == ""
    assert slices.differing(plain, plain | {"loss": 105.1}) == "loss is 105.1, in the plain loop 100"
    assert slices.differing(plain, plain | {"loss": math.nan})


def test_smoke_times_each_kind_and_leaves_out_one_that_fails(few, tmp_path, monkeypatch, capsys):
    fit_together = together.fit_together

    def failing(trainings, **options):
        for planned, result in fit_together(trainings, **options):
            yield planned, RuntimeError("no such kernel") if planned.method == "vae" else result

    monkeypatch.setattr(together, "fit_together", failing)
    monkeypatch.setattr(slices, "_penalty", lambda device: "")
    monkeypatch.setattr(slices, "inception_is_here", lambda: False)
    plan_after = slices.smoke(plan("mnist/*", profile="quick"), tmp_path)
    assert plan_after.milliseconds[slices.kind(few[0])] > 0
    assert plan_after.failed == {slices.kind(few[2]): "RuntimeError: no such kernel"}
    assert slices.read(tmp_path) == plan_after and set(plan_after.lanes) == {"1", "2"}
    assert "FAILED, left out" in capsys.readouterr().out


def test_a_device_that_breaks_in_smoke_is_tried_on_by_another_process(few, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "_epochs", lambda *given: 1 / 0)
    monkeypatch.setattr(slices, "broken", lambda device: True)
    monkeypatch.setattr(
        os, "execve", lambda *given: (_ for _ in ()).throw(SystemExit(given[2][slices.GO_ON]))
    )
    with pytest.raises(SystemExit, match="1"):
        slices.smoke(plan("mnist/*", profile="quick"), tmp_path)
    assert slices.read(tmp_path).failed == {slices.kind(few[0]): "ZeroDivisionError: division by zero"}


def test_as_many_at_once_as_gain_something():
    lanes = {"1": 2.0, "2": 1.2, "4": 1.01, "8": 1.0}
    assert plan("grey", lanes=lanes).best() == 4 and plan("grey").best() == 1
    assert plan("grey", lanes=lanes).crowd(4) == pytest.approx(4 * 1.01 / 2) and plan("grey").crowd(4) == 4


def test_nothing_is_begun_that_could_not_end(few, tmp_path, capsys):
    slow = plan("mnist/*", profile="quick", milliseconds={slices.kind(few[0]): 1.0, slices.kind(few[2]): 1e4})
    slices.train(slow, tmp_path, time.time() + slices.FINISHING + 60, 1)
    done = {planned: slices.stage(slow, tmp_path, planned) for planned in few}
    assert list(done.values()) == ["to publish", "to publish", "to train"]
    assert "no time is left for mnist/vae/seed-0" in capsys.readouterr().out


def test_a_failure_costs_its_own_run_and_the_rest_is_published_and_measured(few, tmp_path, monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(slices, "inception_is_here", lambda: True)
    whole, over = plan("mnist/*", profile="quick"), multiprocessing.Event()
    diverging = runs.Draft(tmp_path / few[0].name)
    diverging.folder.mkdir(parents=True)
    diverging.checkpoint.write_text("damaged")
    slices.folder_of(tmp_path).mkdir()
    over.set()
    slices.train(whole, tmp_path, math.inf, 2)
    slices.finish(whole, tmp_path, math.inf, 0, 1, over)
    assert slices.failures(tmp_path) == {(few[0].name, "to train")}
    assert [slices.stage(whole, tmp_path, planned) for planned in few] == ["to train", "finished", "finished"]
    assert "fid" in runs.load(tmp_path / few[1].name).metrics


def test_without_inception_runs_are_published_and_the_time_is_waited_out(few, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "inception_is_here", lambda: False)
    whole, over = plan("mnist/vae/*", profile="quick"), multiprocessing.Event()
    over.set()
    slices.train(whole, tmp_path, math.inf, 1)
    until = time.time() + 1.5
    slices.finish(whole, tmp_path, until, 0, 1, over)
    assert time.time() >= until and slices.stage(whole, tmp_path, few[2]) == "to measure"


def test_what_is_collected_is_received_whole_in_pieces(few, tmp_path, monkeypatch, capsys):
    stand_in(monkeypatch)
    monkeypatch.setattr(slices, "PIECE", 40_000)
    monkeypatch.setattr(slices, "inception_is_here", lambda: False)
    whole, there, over = plan("mnist/*", profile="quick"), tmp_path / "there", multiprocessing.Event()
    slices.folder_of(there).mkdir(parents=True)
    (slices.folder_of(there) / "plan.json").write_text(json.dumps(vars(whole)))
    over.set()
    slices.train(whole, there, math.inf, 1)
    slices.finish(whole, there, time.time() + 3, 0, 1, over)
    slices.collect(there, tmp_path / "out" / "1", [])
    assert "; 0 are left" in capsys.readouterr().out
    monkeypatch.setattr(slices, "inception_is_here", lambda: True)
    slices.finish(whole, there, math.inf, 0, 1, over)
    while True:  # as many calls as are needed
        slices.collect(there, tmp_path / "out" / f"{time.time()}", ["mnist/vae/*"])
        if "; 0 are left" in capsys.readouterr().out:
            break
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*.tar")]
    assert len(sizes) > 3 and max(sizes) < 80_000  # a run that is larger than a piece stays together
    slices.receive(tmp_path / "out", tmp_path / "home")
    weights = runs.load(tmp_path / "home" / "mnist/vae/seed-0").weights()
    assert weights.keys() == runs.load(there / "mnist/vae/seed-0").weights().keys()
    home = runs.load(tmp_path / "home" / "mnist/wwae/seed-0")
    assert "fid" in home.metrics and not (home.path / runs.WEIGHTS).exists()


def test_a_damaged_piece_is_told_and_costs_no_other(few, tmp_path):
    with pytest.raises(runs.RunError, match="no piece"):
        slices.receive(tmp_path, tmp_path / "home")
    damaged, whole = few[0], plan("mnist/wwae/seed-0", profile="quick")
    there, over = tmp_path / "there", multiprocessing.Event()
    whole.write(there)
    over.set()
    slices.train(whole, there, math.inf, 1)
    slices.finish(whole, there, time.time() + 1, 0, 1, over)
    slices.collect(there, tmp_path / "out", [])
    (piece,) = (tmp_path / "out").glob("*.tar")
    (tmp_path / "out" / "runs-0.tar").write_bytes(piece.read_bytes()[: piece.stat().st_size // 2])
    with pytest.raises(runs.RunError, match=r"runs-0\.tar is damaged"):
        slices.receive(tmp_path / "out", tmp_path / "home")
    assert runs.load(tmp_path / "home" / damaged.name).experiment == damaged


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # what start leaves is to go on
def test_a_slice_that_is_killed_goes_on_and_comes_home_as_if_it_had_not_been(tmp_path, monkeypatch):
    """The real processes on the embedded digits, all killed while one trains."""
    for name, value in subprocess_environment(TORCH_HOME=str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    there, name = tmp_path / "there", "mnist/gan/seed-0"
    whole, draft = plan(name, profile="quick"), runs.Draft(there / name)
    (folder := slices.folder_of(there)).mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(vars(whole)))
    slices.start(there, 5, "--finishers=0")
    with pytest.raises(runs.RunError, match="has begun already"):
        slices.start(there, 5)
    while not reproduce.epochs_done(draft):
        time.sleep(0.01)
    os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)
    while slices.at_work(there):
        time.sleep(0.01)
    assert draft.checkpoint.exists() and slices.stage(whole, there, *whole.experiments()) == "to train"
    slices.start(there, 5, "--finishers=1")
    slices.wait(there, 5)
    assert (folder / "trained").exists()
    slices.collect(there, tmp_path / "out", ["*"])
    slices.receive(tmp_path / "out", tmp_path / "home")
    received = runs.load(tmp_path / "home" / name)
    images = reproduce.images_of(PROFILES["quick"], "mnist")
    alone = training.train(*whole.experiments(), *images, results=tmp_path / "alone", progress=False)
    assert all(torch.equal(received.weights()[name], value) for name, value in alone.weights().items())
