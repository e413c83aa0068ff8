"""A newcomer's commands: help that can be followed, errors of one line, and a run in the end."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import cpu_fabric, stand_in, subprocess_environment

from wwae_lib import __main__ as command_line
from wwae_lib import data, processes, runs, training
from wwae_lib.__main__ import main
from wwae_lib.book import explorers, reproduce
from wwae_lib.measures import evaluation

TINY = [
    "--network",
    "tiny",
    "--latent",
    "2",
    "--epochs",
    "1",
    "--batch-size",
    "200",
    "--precision",
    "32-true",
]


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["data"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    output = capsys.readouterr().out
    assert left.value.code == 0 and "usage: python -m wwae_lib" in output
    if command == ["train"]:
        for option in ("--method", "--embedded", "--resume", "--restart", "--penalty-weight", "--results"):
            assert option in output
    if not command:
        assert "examples:" in output and "WWAE_DATA" in output and "WWAE_RESULTS" in output


def test_it_runs_as_a_module_and_says_errors_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "wwae_lib", "data", "cifar"],
        capture_output=True, text=True, cwd=tmp_path, env=subprocess_environment(),
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: there is no data set cifar; known: mnist, fashion_mnist, celeba\n"


def test_train_and_evaluate_end_to_end_without_data_or_network(tmp_path, capsys, no_network):
    results = tmp_path / "mine"
    words = [
        "train",
        "mnist",
        "--embedded",
        *TINY,
        "--variant",
        "try",
        "--seed",
        "3",
        "--results",
        str(results),
    ]
    assert main(words) == 0
    output = capsys.readouterr()
    assert "4,000 training images: embedded: 5,000 MNIST digits" in output.out
    assert "squared_error" in output.out and "wwae-try/seed-3" in output.out
    run = runs.load(results / "mnist" / "wwae-try" / "seed-3")
    assert run.experiment.latent == 2 and run.record["data"]["train"]["images"] == 4000
    assert not (tmp_path / "results").exists()

    assert main([*words, "--resume"]) == 0  # nothing is left to do
    assert runs.load(run.path).record == run.record
    capsys.readouterr()

    assert main(["evaluate", str(run.path)]) == 1
    assert_one_line(
        capsys, "FID needs at least 2,048 reference images, one per feature; got 1,000", "--sets none"
    )
    assert main(["evaluate", str(run.path), "--sets", "none"]) == 0
    assert "knn_accuracy" in runs.load(run.path).metrics


def test_embedded_runs_are_kept_apart_from_the_books(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WWAE_RESULTS")
    assert main(["train", "mnist", "--embedded", *TINY]) == 0
    path = tmp_path / "data" / "quick" / "mnist" / "wwae" / "seed-0"
    assert runs.load(path).record["data"]["source"].startswith("embedded")
    assert f"run: {path}" in capsys.readouterr().out


def test_a_finished_run_is_not_replaced_by_another_unasked(tmp_path, capsys):
    words = ["train", "mnist", "--embedded", *TINY]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--seed", "0", "--learning-rate", "0.002"]) == 1
    assert_one_line(capsys, "learning_rate was 0.001, is now 0.002", "variant keeps both")
    assert main([*words, "--learning-rate", "0.002", "--restart"]) == 0
    (record,) = (tmp_path / "results").glob("mnist/*/*/run.json")
    assert runs.load(record.parent).experiment.learning_rate == 0.002


def test_whoever_reads_may_stop(tmp_path):
    output = subprocess.run(
        f"{sys.executable} -m wwae_lib reproduce --profile full --dry-run --results {tmp_path} | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert output.stdout.count("\n") == 1 and output.stderr == ""


def assert_one_line(capsys, *parts: str) -> None:
    output = capsys.readouterr().err
    assert output.startswith("error: ") and output.count("\n") == 1 and "Traceback" not in output, output
    for part in parts:
        assert part in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--latent", "0"], "latent is 0"),
        (["--penalty-weight", "-1"], "penalty_weight is -1.0"),
        (["--penalty-weight", "nan"], "penalty_weight is nan"),
        (["--batch-size", "4001"], "a batch of 4001 is larger than the 4000 images"),
        (["--batch-size", "1"], "batch_size is 1"),
        (["--epochs", "0"], "epochs is 0"),
        (["--learning-rate", "0"], "learning_rate is 0.0"),
        (["--seed", "-3"], "seed is -3"),
        (["--network", "huge"], "there is no network 'huge'; known: tiny, compact"),
        (["--estimator", "full"], "there is no estimator 'full'"),
        (["--method", "vae", "--estimator", "diagonal"], "only the WWAE has one, vae has none"),
        (["--variant", "../../x"], "variant '../../x' may hold only"),
        (["--accelerator", "abacus"], "abacus"),
        (["--accelerator", "tpu"], "there is no accelerator 'tpu' here"),
        (["--side", "64"], "--side and --grey are for your own pictures"),
        (["--grey"], "--side and --grey are for your own pictures"),
    ],
)
def test_options_that_cannot_be(words, said, capsys, tmp_path):
    assert main(["train", "mnist", "--embedded", *words]) == 1
    assert_one_line(capsys, said)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["train"],
        ["train", "cifar"],
        ["train", "mnist", "--method", "flow"],
        ["train", "mnist", "--latent", "many"],
        ["train", "mnist", "--resume", "--restart"],
        ["train", "mnist", "--precision", "4"],
        ["train", "mnist", "--lambda", "3"],
        ["evaluate"],
    ],
)
def test_words_that_are_no_command(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    output = capsys.readouterr().err
    assert left.value.code == 2 and "usage: " in output and "error: " in output and "Traceback" not in output


def test_embedded_is_for_mnist_alone(capsys):
    assert main(["train", "fashion_mnist", "--embedded"]) == 1
    assert_one_line(capsys, "--embedded: only mnist has embedded digits")


def test_data_that_cannot_be_had(capsys, no_network):
    assert main(["train", "fashion_mnist"]) == 1
    assert_one_line(capsys, "FashionMNIST is not in", "WWAE_DATA")
    assert main(["data", "mnist"]) == 1  # which never falls back
    assert_one_line(capsys, "MNIST is not in", "could not be downloaded")


def test_evaluate_nothing_and_damage(capsys, tmp_path, finished):
    assert main(["evaluate", "mnist/wwae/seed-8"]) == 1
    assert_one_line(capsys, "there is no run in", "seed-8")
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    (path / "weights.safetensors").write_bytes(b"half")
    assert main(["evaluate", str(path)]) == 1
    assert_one_line(capsys, "weights.safetensors is not the file that run.json recorded")


def test_evaluate_refuses_other_images(capsys, finished, no_network):
    """The run was trained on 400 digits; those at hand are 4,000."""
    assert main(["evaluate", str(finished.path)]) == 1
    assert_one_line(capsys, "has the train images with SHA-256", "those at hand have")


@pytest.fixture
def digits_at_hand(monkeypatch, digits, test_digits):
    stand_in(monkeypatch)
    monkeypatch.setattr(data, "embedded_digits", {"train": digits, "test": test_digits}.__getitem__)


def test_evaluate_adds_the_sets_asked_for_and_shows_the_metrics(capsys, finished, tmp_path, digits_at_hand):
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        shutil.copytree(finished.path, path)
    assert main(["evaluate", *map(str, paths), "--sets", "none"]) == 0
    assert "fid" not in runs.load(paths[0]).metrics and "knn_accuracy" in runs.load(paths[0]).metrics
    assert main(["evaluate", str(paths[0]), "--protocol", "brief", "--sets", "prior,mixture"]) == 0
    output = capsys.readouterr().out
    assert "fid_mixture_error" in output and "squared_error" in output
    record = runs.load(paths[0]).record
    assert {name: how.get("protocol") for name, how in record["evaluation"].items()} == {
        "codes": None, "prior": "brief", "mixture": "brief",
    }  # fmt: skip
    assert main(["evaluate", str(paths[1]), "--sets", "all"]) == 0
    assert runs.load(paths[1]).record["evaluation"].keys() == {"codes", *evaluation.SETS}
    runs.load(paths[1]).add_metrics({"fid": -1.0})
    assert main(["evaluate", str(paths[1])]) == 0
    assert runs.load(paths[1]).metrics["fid"] == -1
    assert main(["evaluate", str(paths[1]), "--redo"]) == 0
    assert runs.load(paths[1]).metrics["fid"] > 0
    capsys.readouterr()
    assert main(["evaluate", str(paths[1]), "--sets", "noise"]) == 1
    assert_one_line(capsys, "there is no set of images 'noise'; known: prior")


def test_evaluate_dumps_images_and_measures_nothing(capsys, finished, tmp_path, digits_at_hand):
    folder = tmp_path / "images"
    words = ["evaluate", str(finished.path), "--dump", str(folder)]
    assert main(words) == 0
    assert f"    61 images in {folder / 'prior'}" in capsys.readouterr().out
    assert len(list((folder / "reference").glob("*.png"))) == 100
    assert runs.load(finished.path).record == finished.record
    assert main(words) == 1
    assert_one_line(capsys, "images is not empty")
    assert main(["evaluate", "one", "two", "--dump", str(folder)]) == 1
    assert_one_line(capsys, "--dump writes the images of one run; got 2")


def test_flags_reach_what_they_are_for(monkeypatch, finished, digits_at_hand, tmp_path):
    """Each option that is passed on, with a value that is not its default."""
    asked, fabric = [], cpu_fabric()

    def chosen(accelerator="auto", precision="auto"):
        asked.append((accelerator, precision))
        return fabric

    monkeypatch.setattr(training, "choose_fabric", chosen)
    trained = {}
    monkeypatch.setattr(training, "train", lambda *given, **how: trained.update(how) or finished)
    words = ["--accelerator", "cpu", "--precision", "bf16-mixed", "--resume", "--results", str(tmp_path)]
    assert main(["train", "mnist", "--embedded", *words]) == 0
    assert asked == [("cpu", "bf16-mixed")] and (trained["resume"], trained["restart"]) == (True, False)
    assert trained["results"] == tmp_path and trained["fabric"] is not None
    assert main(["train", "mnist", "--embedded", "--restart"]) == 0
    assert (trained["resume"], trained["restart"]) == (False, True)

    monkeypatch.setattr(training, "choose_fabric", lambda *given: asked.append(given) or CudaFabric())
    measured = {}
    monkeypatch.setattr(evaluation, "evaluate", lambda *given, **how: measured.update(how) or finished)
    words = ["--accelerator", "cuda", "--protocol", "brief", "--sets", "prior,training", "--redo"]
    assert main(["evaluate", str(finished.path), *words]) == 0
    assert asked[-1] == ("cuda", "32-true") and measured == {
        "protocol": "brief", "sets": ["prior", "training"], "device": torch.device("cuda"), "redo": True,
    }  # fmt: skip

    made = {}
    monkeypatch.setattr(reproduce, "reproduce", lambda *given, **how: made.update(how, given=given) or {})
    words = ["--jobs", "3", "--accelerator", "cuda", "--minutes", "7", "--only", "mnist/vae/*"]
    assert main(["reproduce", *words, "--results", str(tmp_path)]) == 0
    profile, experiments, results = made.pop("given")
    assert made == {"jobs": 3, "accelerator": "cuda", "minutes": 7.0} and results == tmp_path
    assert profile is reproduce.PROFILES["quick"] and [planned.method for planned in experiments] == ["vae"]


class CudaFabric:
    device = torch.device("cuda")


@pytest.mark.parametrize("held_out", ["test", "valid"])
def test_a_run_is_measured_on_the_images_that_it_recorded(monkeypatch, finished, held_out):
    """On its held-out split alone: a reference with training images in it flatters who memorises."""
    record = finished.record | {"data": {
        "source": "official MNIST",
        "train": finished.record["data"]["train"],
        "test": finished.record["data"]["test"] | {"split": held_out},
    }}  # fmt: skip
    asked = []
    monkeypatch.setattr(data, "load", lambda dataset, split, **how: asked.append((dataset, split, how)))
    for part in ("train", "test"):
        command_line._images_of(runs.Run(finished.path, record), part, None)
    assert asked == [("mnist", split, {"fall_back": False}) for split in ("train", held_out)]


def test_a_home_in_a_path_is_the_users(monkeypatch, tmp_path, finished):
    """A shell leaves the ~ of --results=~/x as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    trained = {}
    monkeypatch.setattr(training, "train", lambda *given, **how: trained.update(how) or finished)
    assert main(["train", "mnist", "--embedded", "--results=~/x"]) == 0
    assert trained["results"] == tmp_path / "x"
    shutil.copytree(finished.path, tmp_path / "mine")
    assert runs.load("~/mine").record == finished.record


def test_exporting_nothing_is_an_error_and_overwrites_nothing(capsys, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "faces-still.html").write_text("faces")
    assert main(["export", "--results", str(tmp_path / "TYPO"), "--folder", str(folder)]) == 1
    assert_one_line(capsys, "has no runs on mnist, fashion_mnist, celeba to show", "TYPO")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("faces-still.html", "faces")]


def test_exporting_a_part_does_not_overwrite_the_books_stills(capsys, finished, tmp_path, monkeypatch):
    shutil.copytree(finished.path, tmp_path / "some" / finished.experiment.name)
    monkeypatch.setattr(explorers, "export", lambda *given: pytest.fail("it wrote"))
    assert main(["export", "--results", str(tmp_path / "some")]) == 1
    assert_one_line(capsys, "has no runs on fashion_mnist, celeba to show", "--folder")


def test_without_mnist_the_last_lines_say_what_was_trained_and_how_to_measure_it(
    capsys, no_network, monkeypatch, tmp_path
):
    monkeypatch.delenv("WWAE_RESULTS")
    with pytest.warns(UserWarning, match="EMBEDDED DIGITS"):
        assert main(["train", "mnist", *TINY]) == 0
    *_, warned, told = capsys.readouterr().out.splitlines()
    assert "MNIST was not there" in warned and "5,000 embedded digits" in warned
    path = tmp_path / "data" / "quick" / "mnist" / "wwae" / "seed-0"
    assert (
        told == f"to measure it: python -m wwae_lib evaluate {path} --sets none"
    )  # too few digits for an FID
    assert main(["evaluate", str(path), "--sets", "none"]) == 0


def test_a_machine_without_a_home_is_told_what_to_set(capsys, monkeypatch):
    """Neither HOME nor an entry for the user, as in containers of another user."""
    for name in ("WWAE_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", homeless)
    assert main(["data", "mnist"]) == 1
    assert_one_line(capsys, "no home folder", "WWAE_DATA")


def test_results_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = ["train", "mnist", "--embedded", *TINY, "--results", str(tmp_path / "file")]
    assert main(words) == 1
    output = capsys.readouterr().err
    assert "error: " in output and str(tmp_path / "file") in output and "Traceback" not in output


def test_an_interrupt_is_one_line_and_can_be_resumed(capsys, tmp_path, monkeypatch):
    words = ["train", "mnist", "--embedded", *TINY, "--results", str(tmp_path / "mine")]
    save = runs.Draft.save_checkpoint

    def interrupted(self, tensors, state):
        save(self, tensors, state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Draft, "save_checkpoint", interrupted)
        assert main(words) == 130
    output = capsys.readouterr().err
    assert "--resume" in output and "the last checkpoint is kept in" in output and "Traceback" not in output
    assert main([*words, "--resume"]) == 0


def test_an_interrupt_of_the_first_epoch_does_not_say_that_something_is_kept(capsys, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    words = ["train", "mnist", "--embedded", *TINY, "--results", str(tmp_path / "mine")]
    monkeypatch.setattr(training.Steps, "take", interrupted)
    assert main(words) == 130
    said = capsys.readouterr().err
    assert "no epoch was finished, so that nothing is kept" in said and "--resume" not in said
    monkeypatch.setattr(data, "load", interrupted)
    assert main(["data", "mnist"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was kept\n"
    assert not list((tmp_path / "mine").rglob(".*.lock"))


def test_an_interrupt_while_torch_is_imported_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt\n")
    environment = subprocess_environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "wwae_lib", "data"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted before anything began\n")


def test_data_checks_what_is_there(capsys, monkeypatch, test_digits, tmp_path):
    monkeypatch.setattr(data, "load", lambda dataset, split, fall_back: test_digits)
    assert main(["data", "mnist"]) == 0
    output = capsys.readouterr().out
    assert str(tmp_path / "data") in output
    assert "mnist train: 100 images, checked" in output and "mnist test: 100 images" in output


def test_a_mistake_in_the_settings_is_told_before_images_are_fetched(capsys, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *names, **options: pytest.fail("images were fetched"))
    assert main(["train", "fashion_mnist", "--network", "huge"]) == 1
    assert_one_line(capsys, "there is no network 'huge'")


def test_to_resume_nothing_is_said(capsys, tmp_path):
    words = ["train", "mnist", "--embedded", *TINY, "--resume", "--results", str(tmp_path / "there")]
    assert main(words) == 0
    assert "there is nothing to resume in" in capsys.readouterr().err
    assert main(words) == 0  # finished, and returned as it is
    assert "nothing to resume" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried too much")]
)
def test_too_little_memory_is_one_line(error, capsys, monkeypatch):
    def large(*arguments, **options):
        raise error

    monkeypatch.setattr(training, "train", large)
    assert main(["train", "mnist", "--embedded", *TINY]) == 1
    assert_one_line(capsys, "the memory does not suffice", "--batch-size")


def test_a_bug_is_not_dressed_up_as_an_error_of_the_user(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(training, "train", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train", "mnist", "--embedded", *TINY])


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("cores", "load", "free"), [(2, 0.1, 2), (2, 0.9, 1), (2, 7.0, 1), (16, 3.2, 13), (None, 0.0, 1)]
)
def test_free_cores(monkeypatch, cores, load, free):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 99.0, 99.0))
    assert processes.free_cores() == free
    monkeypatch.delattr(os, "getloadavg")  # as on Windows
    assert processes.free_cores() == (cores or 1)


@pytest.mark.parametrize(("most", "asked", "left"), [(1, None, 1), (5, None, 2), (1, "2", 2)])
def test_a_busy_machine_is_given_fewer_threads_and_that_is_said(monkeypatch, capsys, most, asked, left):
    """But not more than torch takes by itself, and not where the user chose their number."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    torch.set_num_threads(2)
    try:
        command_line._choose_threads(most)
        assert torch.get_num_threads() == left
    finally:
        torch.set_num_threads(1)
    assert ("using 1 of 2 threads" in capsys.readouterr().err) == (left == 1)


@pytest.mark.parametrize(("network", "most"), [("tiny", 1), ("compact", 7)])
def test_training_begins_with_the_threads_that_are_fastest(monkeypatch, network, most):
    monkeypatch.setattr(processes, "free_cores", lambda: 7)
    seen = []
    monkeypatch.setattr(command_line, "_choose_threads", seen.append)

    def enough(*arguments):
        raise ValueError("enough")

    monkeypatch.setattr(training, "choose_fabric", enough)
    assert main(["train", "mnist", "--embedded", "--network", network, "--precision", "32-true"]) == 1
    assert seen == [most]
