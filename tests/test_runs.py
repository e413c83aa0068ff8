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
from safetensors.torch import load_file

from wwae_lib import files, runs
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
    mean, log_variance = runs.load_method(run).encode(test_digits.pixels / 255)
    torch.testing.assert_close(codes["mean"], mean.detach(), rtol=2e-3, atol=1e-3)  # kept in half precision
    torch.testing.assert_close(codes["std"], (log_variance / 2).exp().detach(), rtol=2e-3, atol=1e-3)

    for name in ("samples", "reconstructions", "interpolations"):
        grid = run.grid(name)
        assert grid.shape == (280, 280) and grid.dtype == np.uint8


def test_adding_metrics_keeps_the_others_and_is_there_at_once(run):
    more = run.add_metrics({"fid": 12.5}, evaluation={"prior": {"images": 10_000}})
    assert more.metrics == run.metrics | {"fid": 12.5}
    again = runs.load(run.path)
    assert again.record == more.record and again.record["evaluation"] == {"prior": {"images": 10_000}}


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_recorded_as_missing_and_why(run, worst):
    more = run.add_metrics({"fid": worst, "kid": 1.0}, unmeasured={"recall": "too few points"})
    again = runs.load(run.path)
    assert again.record == more.record
    assert again.record["metrics"] == run.metrics | {"fid": None, "recall": None, "kid": 1.0}
    assert again.metrics == run.metrics | {"kid": 1.0}
    assert again.record["unmeasured"] == {"fid": f"not finite: {worst}", "recall": "too few points"}
    once_more = again.add_metrics({"fid": 2.0, "recall": 0.5})  # measured after all
    assert once_more.metrics["fid"] == 2 and "unmeasured" not in once_more.record


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
        runs.load_method(runs.load(run.path))


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
        assert runs.read_tensors(path, checked=False) == ({}, {})
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
        runs.settle(path)
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
        before = content_of(path.parent)
        assert runs.load(path).record == finished.record, state
        assert content_of(path.parent) == before  # reading changes nothing
        runs.settle(path)
        assert runs.load(path).record == finished.record, state
        assert not old.exists() and (state == "new half") == new.exists()


def content_of(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below one."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_reading_never_writes(run, tmp_path):
    """Whatever stands beside a run, or beside what is none."""
    garbage = run.path.with_name(".seed-0.new")
    garbage.mkdir()
    (garbage / "run.json").write_text("{}")
    (garbage / "thesis.tex").write_text("years of work")
    project = tmp_path / "project"
    (tmp_path / ".project.old").mkdir()
    (tmp_path / ".project.old" / "notes").write_text("mine")
    before = content_of(tmp_path)
    assert runs.load(run.path).record == run.record and len(runs.recorded()) == 1
    for name in (project, "mnist/wwae/seed-9", run.path.parent):
        with pytest.raises(RunError, match="there is no run in"):
            runs.load(name)
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("place", [".seed-0.new", ".seed-0.old"])
def test_only_a_whole_run_takes_the_place_of_another(run, place):
    """Garbage of a hidden name neither replaces a good run nor is deleted."""
    other = run.path.with_name(place)
    shutil.copytree(run.path, other)
    (other / "weights.safetensors").write_bytes(b"half")
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"holds what is no part of a run and would be lost: thesis.tex"):
        draft_like(run, run.path).publish({k: v for k, v in run.record.items() if k != "files"})
    assert runs.load(run.path).record == run.record
    assert (other / "thesis.tex").read_text() == "years of work"


def test_a_damaged_newer_run_does_not_replace_a_good_one(run):
    """A record is there, and the weights are not as they were written: the disk failed in between."""
    newer = run.path.with_name(".seed-0.new")
    shutil.copytree(run.path, newer)
    (newer / "weights.safetensors").write_bytes(b"half")
    runs.settle(run.path)
    assert runs.load(run.path).record == run.record
    run.path.rename(run.path.with_name(".seed-0.old"))
    assert runs.load(run.path).record == run.record  # of the two, the whole one
    runs.settle(run.path)
    assert run.path.is_dir() and runs.load(run.path).record == run.record


@pytest.mark.parametrize("name", ["notes.txt", "samples.png"])
def test_a_users_files_are_not_deleted_with_a_run(run, name):
    """A file, or a folder that has the name of a file of ours."""
    mine = run.path / name
    if name == "samples.png":
        mine.unlink()
        mine.mkdir()
        mine = mine / "drawing"
    mine.write_text("mine")
    draft = draft_like(run, run.path)
    with pytest.raises(RunError, match=rf"{run.path} holds what is no part of a run.*: {name}; move it away"):
        draft.publish({k: v for k, v in run.record.items() if k != "files"})
    assert mine.read_text() == "mine" and draft.checkpoint.exists()


def test_a_run_behind_a_symbolic_link_is_replaced_where_it_is(finished, tmp_path):
    disk = tmp_path / "disk"
    link = tmp_path / "results" / "seed-0"
    link.parent.mkdir()
    disk.mkdir()
    link.symlink_to(disk / "seed-0")
    record = {k: v for k, v in finished.record.items() if k != "files"}
    for generation in (1.0, 2.0, 3.0):
        draft_like(finished, link).publish(record | {"metrics": {"generation": generation}})
        assert runs.load(link).metrics == {"generation": generation}
    assert link.is_symlink() and os.listdir(disk) == ["seed-0"] and os.listdir(link.parent) == ["seed-0"]


def test_a_link_that_an_earlier_version_left_is_cleared_away(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    run.path.with_name(".seed-0.old").symlink_to(tmp_path / "elsewhere")
    draft_like(run, run.path).publish({k: v for k, v in run.record.items() if k != "files"})
    assert hidden(run.path) == [] and (tmp_path / "elsewhere").exists()


def test_copies_are_on_the_disk_before_the_record_is(run, monkeypatch):
    synced, fsync = [], os.fsync

    def noting(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition(".part")[0])
        fsync(descriptor)

    draft = draft_like(run, run.path)
    monkeypatch.setattr(os, "fsync", noting)
    draft.publish({k: v for k, v in run.record.items() if k != "files"})
    assert sorted(synced[:-1]) == sorted(FILES) and synced[-1] == "run.json"


# ---------------------------------------------------------------- what a record may hold


HOSTILE = {
    "metrics of words": lambda r: r["metrics"].update(fid="12"),
    "NaN": lambda r: r["metrics"].update(fid=float("nan")),
    "infinite": lambda r: r["metrics"].update(fid=float("inf")),
    "a metric that is true": lambda r: r["metrics"].update(fid=True),
    "a metric that is a list": lambda r: r["metrics"].update(fid=[1.0]),
    "no seconds": lambda r: r["environment"].pop("train_seconds"),
    "seconds in words": lambda r: r["environment"].update(train_seconds="long"),
    "no device": lambda r: r["environment"].pop("device"),
    "no source": lambda r: r["data"].pop("source"),
    "no split": lambda r: r["data"]["test"].pop("split"),
    "images in words": lambda r: r["data"]["train"].update(images="many"),
    "no training images": lambda r: r["data"].pop("train"),
    "training images a list": lambda r: r["data"].update(train=[]),
    "a checksum that is a number": lambda r: r["data"]["test"].update(sha256=3),
    "files of numbers": lambda r: r["files"].update({"metrics.jsonl": 3}),
    "evaluation a list": lambda r: r.update(evaluation=[1]),
    "a set that is a number": lambda r: r.update(evaluation={"prior": 3}),
    "a protocol that is a number": lambda r: r.update(evaluation={"prior": {"protocol": 3}}),
    "latent a number": lambda r: r.update(latent=3),
    "variances in words": lambda r: r.update(latent={"posterior_variance": ["x"], "code_variance": [1.0]}),
    "no code variance": lambda r: r.update(latent={"posterior_variance": [1.0]}),
    "neighbours without images": lambda r: r.update(neighbours={"samples": [1.0], "test": [1.0]}),
    "no latent dimension": lambda r: r["config"].pop("latent"),
    "a method that is a list": lambda r: r["config"].update(method=["wwae"]),
    "a data set that is a number": lambda r: r["config"].update(dataset=3),
    "a weight in words": lambda r: r["config"].update(penalty_weight="10"),
    "a seed that is true": lambda r: r["config"].update(seed=True),
    "reasons a list": lambda r: r.update(unmeasured=[1]),
    "a format that is true": lambda r: r.update(format=True),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_a_record_that_is_not_as_it_must_be(run, change):
    change_record(run, HOSTILE[change])
    with pytest.raises(RunError, match=r"run\.json (has|lacks|describes|is)"):
        runs.load(run.path)


def test_a_record_nested_beyond_all_depth(run):
    (run.path / "run.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="damaged"):
        runs.load(run.path)


@pytest.mark.parametrize(
    "lines",
    ["{", "3", '{"epoch": 2}', '{"epoch": 1, "loss": NaN}', '{"epoch": 1, "loss": "x"}', '{"loss": 1}'],
)
def test_a_history_that_is_none(run, lines):
    history = run.path / "metrics.jsonl"
    history.write_text(lines)
    change_record(run, lambda record: record["files"].update({"metrics.jsonl": files.sha256(history)}))
    with pytest.raises(RunError, match=r"metrics\.jsonl .*restore it or train again"):
        runs.load(run.path).history()


@pytest.mark.parametrize(
    "name", ["mnist/wwae/seed-1", "mnist/vae/seed-0", "fashion_mnist/wwae/seed-0", "mnist/wwae-try/seed-0",
             "mnist/wwae/seed-0 copy", "mnist/wwae/seed-00"]
)  # fmt: skip
def test_a_run_in_the_place_of_another_does_not_count_for_it(run, tmp_path, name):
    other = tmp_path / "results" / name
    shutil.copytree(run.path, other)
    for read in (lambda: runs.load(other), lambda: runs.load(name), runs.recorded):
        with pytest.raises(RunError, match=r"holds mnist/wwae/seed-0: move it where its name says"):
            read()
    assert runs.load(run.path).record == run.record


def test_a_run_may_be_copied_to_a_place_of_no_name(run, tmp_path):
    for name in ("mine", "a/b/c", "mnist", "3/seed-0"):
        shutil.copytree(run.path, tmp_path / "copies" / name)
        assert runs.load(tmp_path / "copies" / name).record == run.record


def test_what_is_being_replaced_does_not_count(run):
    for hidden_name in (".seed-0.new", ".seed-0.old", ".seed-0.draft"):
        shutil.copytree(run.path, run.path.with_name(hidden_name))
    assert [run_of.path for run_of in runs.recorded()] == [run.path]


def test_the_committed_records_are_as_they_must_be():
    root = Path(__file__).resolve().parents[1] / "book" / "results"
    committed = [*runs.recorded(results=root), *runs.recorded(results=root / "selection")]
    assert len(committed) >= 60 and all(run.history() for run in committed)


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
    about = {} if state is None else {"state": state}
    files.write_tensors(draft.checkpoint, {"x": torch.zeros(3)}, **about)
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
