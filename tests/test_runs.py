"""A run on disk is whole and ours, or a clear error; a killed process leaves the old one or the new one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import killing
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from wwae_lib import evaluation, runs
from wwae_lib.runs import FILES, Draft, RunError


@pytest.fixture
def run(finished, tmp_path) -> runs.Run:
    """A finished run of its own."""
    path = tmp_path / "results" / "mnist" / "wwae" / "seed-0"
    shutil.copytree(finished.path, path)
    return runs.load(path)


def change_record(run: runs.Run, change) -> None:
    record = json.loads((run.path / "run.json").read_text())
    change(record)
    (run.path / "run.json").write_text(json.dumps(record))


# ---------------------------------------------------------------- what a run holds


def test_a_run_holds_what_it_promises(run, digits, test_digits):
    assert sorted(p.name for p in run.path.iterdir()) == sorted([*FILES, "run.json"])
    record = run.record
    assert record["format"] == runs.FORMAT
    assert record["config"] == run.experiment.as_dict()
    assert record["data"]["train"] == {"split": "train", "images": 400, "sha256": digits.sha256}
    assert record["data"]["test"] == {"split": "test", "images": 100, "sha256": test_digits.sha256}
    assert record["data"]["source"].startswith("embedded: 5,000 MNIST digits")
    for key in ("python", "torch", "device", "precision", "git_commit", "train_seconds", "threads"):
        assert record["environment"][key] not in ("", None)
    assert record["environment"]["precision"] == "32-true"
    assert {"squared_error", "posterior_w2_squared", "posterior_variance"} <= run.metrics.keys()
    assert all(isinstance(value, float) and np.isfinite(value) for value in run.metrics.values())


def test_a_run_is_found_by_folder_by_relative_folder_and_by_name(run, tmp_path, monkeypatch):
    assert runs.load("mnist/wwae/seed-0").path == run.path  # below WWAE_RESULTS
    assert runs.load(str(run.path)).path == run.path
    monkeypatch.chdir(run.path.parent)
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path / "elsewhere"))
    assert runs.load("seed-0").path == run.path
    assert runs.load(Path("seed-0")).record == run.record


def test_results_root(monkeypatch):
    monkeypatch.setenv("WWAE_RESULTS", "~/results")
    assert runs.results_root() == Path.home() / "results"
    monkeypatch.delenv("WWAE_RESULTS")
    assert runs.results_root() == Path(runs.__file__).resolve().parents[1] / "book" / "results"


def test_history_weights_codes_and_grids(run, test_digits):
    history = run.history()
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert history[0].keys() == {"epoch", "learning_rate", "loss", "reconstruction", "penalty", "seconds"}
    for line in history:
        expected = line["reconstruction"] + run.experiment.penalty_weight * line["penalty"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)  # float32 sums
    stored = load_file(run.path / "weights.safetensors")
    assert all(value.dtype == torch.float16 for value in stored.values())
    assert all(value.dtype == torch.float32 for value in run.weights().values())

    codes = run.codes()
    assert codes["mean"].shape == codes["std"].shape == (100, 3)
    assert codes["mean"].dtype == codes["std"].dtype == torch.float32
    assert codes["label"].tolist() == test_digits.labels.tolist()
    mean, log_variance = evaluation.load_method(run).encode(test_digits.pixels / 255)
    torch.testing.assert_close(codes["mean"], mean.detach(), rtol=2e-3, atol=1e-3)  # kept in half precision
    torch.testing.assert_close(codes["std"], (log_variance / 2).exp().detach(), rtol=2e-3, atol=1e-3)

    for name in ("samples", "reconstructions", "interpolations"):
        grid = run.grid(name)
        assert grid.shape == (280, 280) and grid.dtype == np.uint8


def test_adding_metrics_keeps_the_others_and_is_there_at_once(run):
    more = run.add_metrics({"fid": 12.5}, evaluation={"fid_samples": 10_000})
    assert more.metrics == run.metrics | {"fid": 12.5}
    again = runs.load(run.path)
    assert again.record == more.record and again.record["evaluation"] == {"fid_samples": 10_000}


def test_a_metric_that_is_no_number_is_refused_and_the_record_kept(run):
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(ValueError):
        run.add_metrics({"fid": float("nan")})
    assert (run.path / "run.json").read_bytes() == before
    assert sorted(p.name for p in run.path.iterdir()) == sorted([*FILES, "run.json"])


# ---------------------------------------------------------------- damage


def test_a_copy_may_hold_record_and_history_alone(run):
    for name in set(FILES) - {"metrics.jsonl"}:
        (run.path / name).unlink()
    bare = runs.load(run.path)
    assert bare.metrics == run.metrics and len(bare.history()) == 3
    for read in (bare.weights, bare.codes, lambda: bare.grid("samples")):
        with pytest.raises(RunError, match=r"is not in this copy.*train it again"):
            read()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in FILES
        for damage in ("missing", "cut", "one bit", "empty", "a folder")
        if damage != "missing" or name == "metrics.jsonl"
    ],
)
def test_every_damaged_file_is_named(run, name, damage):
    path = run.path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "a folder":
        path.mkdir()
    with pytest.raises(RunError, match=name) as caught:
        runs.load(run.path)
    assert "restore it or train again" in str(caught.value)


RECORDS = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "binary": lambda text: "\udcff\udcfe\0",
    "a list": lambda text: "[]",
    "a number": lambda text: "3",
    "foreign": lambda text: '{"name": "package", "version": "1.0.0"}',
}


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_or_foreign_record(run, damage):
    path = run.path / "run.json"
    path.write_bytes(RECORDS[damage](path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"run.json is damaged or not a run's record"):
        runs.load(run.path)


@pytest.mark.parametrize("version", [runs.FORMAT + 1, 0, "1", None])
def test_another_format(run, version):
    change_record(run, lambda record: record.update(format=version, new_things=True))
    with pytest.raises(RunError, match=rf"run.json has format .*this library reads {runs.FORMAT}"):
        runs.load(run.path)


@pytest.mark.parametrize("key", ["config", "environment", "data", "metrics", "files"])
def test_a_record_that_lacks_a_part(run, key):
    change_record(run, lambda record: record.pop(key))
    with pytest.raises(RunError, match=f"lacks '{key}'"):
        runs.load(run.path)
    change_record(run, lambda record: record.update({key: [1]}))
    with pytest.raises(RunError, match=f"lacks '{key}'"):
        runs.load(run.path)


@pytest.mark.parametrize("change", [{"latent": 0}, {"latent": "8"}, {"width": 3}, {"method": "flow"}])
def test_a_record_of_no_experiment_of_ours(run, change):
    change_record(run, lambda record: record["config"].update(change))
    with pytest.raises(RunError, match=r"run.json describes no experiment of this library"):
        runs.load(run.path)


def test_weights_of_another_configuration(run):
    change_record(run, lambda record: record["config"].update(latent=4))
    with pytest.raises(RunError, match="weights are not those of its configuration"):
        evaluation.load_method(runs.load(run.path))


def test_there_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"there is no run in .*seed-9"):
        runs.load("mnist/wwae/seed-9")
    with pytest.raises(RunError, match="there is no run in"):
        runs.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"\x08" + b"\0" * 7 + b"{}      "])
def test_read_tensors_of_a_file_that_holds_none(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    if content.startswith(b"\x08"):  # an empty dictionary is a valid file
        assert runs.read_tensors(path) == ({}, {})
        return
    with pytest.raises(RunError, match=r"x.safetensors cannot be read as safetensors"):
        runs.read_tensors(path)


# ---------------------------------------------------------------- writing


def test_write_aside_leaves_the_old_file_and_no_other_when_it_fails(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with runs.write_atomically(path) as part:
        part.write_text("old")
        written = part.stat().st_ino
    assert path.stat().st_ino == written  # renamed, not copied: no moment at which it is half there
    with pytest.raises(KeyboardInterrupt), runs.write_atomically(path) as part:
        part.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_a_clear_error_and_the_old_file_stays(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    said = r"file.txt cannot be written .*No space left.*is kept"
    with pytest.raises(RunError, match=said), runs.write_atomically(path) as part:
        part.write_text("half of the n")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def save_a_checkpoint_on_a_full_disk(folder: Path) -> None:
    import resource
    import signal

    draft = Draft(folder / "seed-0")
    state = {"format": 1, "history": [], "epoch": 1, "experiment": {}, "images": ""}
    draft.save_checkpoint({"method.x": torch.ones(10)}, state)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        draft.save_checkpoint({"method.x": torch.zeros(1_000_000)}, state)
    except RunError as error:
        (folder / "said").write_text(str(error))


def test_a_checkpoint_that_does_not_fit_the_disk_leaves_the_one_before(tmp_path):
    """The limit on a file's size stands for a full disk."""
    killing.run_for(None, save_a_checkpoint_on_a_full_disk, tmp_path)
    assert "checkpoint.safetensors cannot be written" in (tmp_path / "said").read_text()
    draft = Draft(tmp_path / "seed-0")
    assert draft.load_checkpoint()[0]["method.x"].tolist() == [1.0] * 10
    assert sorted(p.name for p in draft.folder.iterdir()) == ["checkpoint.safetensors", "metrics.jsonl"]


# ---------------------------------------------------------------- killed while publishing


def draft_like(run: runs.Run, path: Path) -> Draft:
    """A draft of ``path`` with the files of a run, ready to be published, a checkpoint beside them."""
    draft = Draft(path)
    shutil.copytree(run.path, draft.folder)
    (draft.folder / "run.json").unlink()
    draft.checkpoint.write_bytes(b"a checkpoint")
    return draft


def publish(path: Path, record: dict) -> None:
    Draft(path).publish(record)


def hidden(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p.name.startswith("."))


@pytest.mark.parametrize("there_is_an_old_one", [False, True])
def test_publishing_killed_before_every_single_change_of_a_folder(finished, tmp_path, there_is_an_old_one):
    record = {key: finished.record[key] for key in ("config", "environment", "data")}
    old, new = record | {"metrics": {"generation": 1.0}}, record | {"metrics": {"generation": 2.0}}
    kill_at, seen = 0, set()
    while True:
        path = tmp_path / f"{kill_at}" / "seed-0"
        if there_is_an_old_one:
            draft_like(finished, path).publish(old)
        draft = draft_like(finished, path)
        whole = killing.operations(publish, path, new, kill_at=kill_at)
        if whole is not None:
            break
        try:
            generation = runs.load(path).metrics["generation"]
        except RunError as error:
            assert not there_is_an_old_one and "there is no run" in str(error)
            generation = 0.0
        seen.add(generation)
        # Whatever the state, what is loaded stays what it is, and publishing again completes it.
        if generation < 2:
            assert draft.checkpoint.read_bytes() == b"a checkpoint"
            draft.publish(new)
        assert runs.load(path).metrics["generation"] == 2
        assert set(hidden(path)) <= {".seed-0.draft"}
        kill_at += 1
        shutil.rmtree(path.parent)
    assert seen == {float(there_is_an_old_one), 2.0}  # killed early and killed late
    assert kill_at > 10 and runs.load(path).metrics["generation"] == 2 and hidden(path) == []


def test_a_half_deleted_older_publication_never_replaces_a_good_run(finished, tmp_path):
    """Killed while an older ``.new`` was cleared away: its record goes first, so that it cannot count."""
    path = tmp_path / "seed-0"
    record = {key: finished.record[key] for key in ("config", "environment", "data", "metrics")}
    draft_like(finished, path).publish(record)
    draft_like(finished, path)
    shutil.copytree(path, runs._new(path))  # complete, but its process was killed before the swap
    first_three = 3
    assert killing.operations(publish, path, record, kill_at=first_three) is None
    assert runs.load(path).metrics == finished.metrics


def test_runs_left_by_hand_in_each_state_of_the_swap_are_settled(finished, tmp_path):
    """.new is complete with its record; .old is what was there before."""
    for state in ("new half", "new whole", "old and new", "old only", "path and old"):
        path = tmp_path / state.replace(" ", "-") / "seed-0"
        new, old = runs._new(path), path.with_name(".seed-0.old")
        for folder, wanted in (
            (path, state in ("new half", "new whole", "path and old")),
            (new, state in ("new half", "new whole", "old and new")),
            (old, "old" in state),
        ):
            if wanted:
                shutil.copytree(finished.path, folder)
        if state == "new half":
            (new / "run.json").unlink()
        loaded = runs.load(path)
        assert loaded.record == finished.record, state
        assert not old.exists() and (state == "new half") == new.exists()


# ---------------------------------------------------------------- checkpoints


GOOD = {"format": runs.FORMAT, "epoch": 2, "history": [], "experiment": {}, "images": ""}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "not a checkpoint of this library"),
        ("{", "not a checkpoint of this library"),
        ("[]", "not a checkpoint of this library"),
        (json.dumps({"epoch": 2}), "not a checkpoint of this library"),
        (json.dumps(GOOD | {"format": runs.FORMAT + 1}), f"has format {runs.FORMAT + 1}"),
        (json.dumps({"format": runs.FORMAT + 1}), f"has format {runs.FORMAT + 1}"),
        (json.dumps({"format": runs.FORMAT, "epoch": 2}), "lacks experiment, history, images"),
    ],
)
def test_a_foreign_checkpoint(tmp_path, state, said):
    draft = Draft(tmp_path / "seed-0")
    draft.folder.mkdir()
    save_file({"x": torch.zeros(3)}, draft.checkpoint, None if state is None else {"state": state})
    with pytest.raises(RunError, match=said):
        draft.load_checkpoint()


def test_a_checkpoint_cut_anywhere(tmp_path):
    draft = Draft(tmp_path / "seed-0")
    draft.save_checkpoint({"method.x": torch.zeros(30)}, GOOD)
    assert draft.load_checkpoint()[1] == GOOD
    content = draft.checkpoint.read_bytes()
    for length in (0, 7, 8, 20, len(content) // 2, len(content) - 1):
        draft.checkpoint.write_bytes(content[:length])
        with pytest.raises(RunError, match=r"checkpoint.safetensors cannot be read as safetensors"):
            draft.load_checkpoint()


def test_a_draft_is_hidden_and_can_be_discarded(tmp_path):
    draft = Draft(tmp_path / "seed-0")
    draft.discard()  # nothing there
    draft.save_checkpoint({"method.x": torch.zeros(3)}, GOOD | {"history": [{"epoch": 1}]})
    assert hidden(draft.path) == [".seed-0.draft"]
    assert (draft.folder / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
    assert os.listdir(tmp_path) == [".seed-0.draft"]
    draft.discard()
    assert os.listdir(tmp_path) == []
