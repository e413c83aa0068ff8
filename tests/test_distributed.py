"""Two processes on half batches compute what one does on the whole; what they leave, one can go on with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import share_of_training as script
import torch
from conftest import cpu_fabric, small, stand_in, subprocess_environment

from wwae_lib import processes, runs, training
from wwae_lib.measures import evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What two processes found, and one."""
    folder = tmp_path_factory.mktemp("distributed")
    file = str(Path(script.__file__))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, file, folder], env=subprocess_environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    script.main(folder)
    return folder


def results_of(folder: Path, world: int, rank: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"found-{world}-{rank}.pt", weights_only=True)


@pytest.mark.parametrize("case", script.CASES)
def test_half_batches_give_the_loss_and_gradients_of_the_whole(case, folder):
    whole, halves = results_of(folder, 1, 0), [results_of(folder, 2, rank) for rank in (0, 1)]
    names = [name for name in whole if name.startswith(f"{case} ")]
    assert len(names) >= 3
    for name in names:
        for half in halves:
            # Fabric hands a loss out in float32; gradients stay in float64.
            tolerance = 3e-7 if whole[name].ndim == 0 and name.split()[-1].isalpha() else 1e-12
            torch.testing.assert_close(half[name], whole[name], rtol=tolerance, atol=1e-13, msg=name)
    assert any(whole[name].abs().max() > 1e-3 for name in names[1:])


@pytest.mark.parametrize("method", script.TRAINED)
def test_training_in_two_processes_is_training_in_one(method, folder):
    """But for float32 sums taken in another order, which training amplifies."""
    name = small(method, epochs=2).name
    alone, shared = (runs.load(folder / f"results-{world}" / name) for world in (1, 2))
    assert alone.record["environment"]["processes"] == 1 and shared.record["environment"]["processes"] == 2
    for a, b in zip(alone.history(), shared.history(), strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-3, abs=1e-4
        )
    assert alone.metrics == pytest.approx({name: shared.metrics[name] for name in alone.metrics}, rel=1e-2)


def test_two_processes_measure_what_one_does(folder, digits, test_digits, tmp_path, monkeypatch):
    stand_in(monkeypatch)
    path = folder / "results-2" / small("wwae", epochs=2).name
    shared = runs.load(path)
    assert shared.record["evaluation"].keys() == {"codes", *evaluation.SETS}
    shutil.copytree(path, tmp_path / "run")
    alone = evaluation.evaluate(
        runs.load(tmp_path / "run"), digits, test_digits, sets=evaluation.SETS, redo=True, progress=False
    )
    assert shared.metrics == pytest.approx(alone.metrics, rel=1e-5)
    assert not list((folder / "data-2").rglob("*.part*"))


def test_batches_that_cannot_be_dealt_out(digits, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(ValueError, match="a batch of 64 cannot be shared equally by 3 processes"):
        training.fit_experiment(small(), digits, fabric=cpu_fabric(), progress=False)
    with pytest.raises(ValueError, match="4 rows cannot be dealt out equally to 3"):
        processes.share(torch.zeros(4))


def test_one_process_has_it_all():
    whole = torch.arange(6.0).view(3, 2)
    assert processes.count() == 1 and processes.rank() == 0
    assert processes.share(whole) is not None and torch.equal(processes.share(whole), whole)
    assert processes.gather(whole) is whole
    torch.manual_seed(0)
    drawn = processes.randn(3, 2, like=whole)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn(3, 2))


def test_a_checkpoint_of_two_processes_resumes_in_one(folder, digits, test_digits):
    draft = runs.Draft(folder / "interrupted" / small(epochs=3).name)
    assert draft.load_checkpoint()[1]["epoch"] == 1
    options = {"fabric": cpu_fabric(), "progress": False}
    resumed = training.train(
        small(epochs=3), digits, test_digits, results=folder / "interrupted", resume=True, **options
    )
    whole = training.train(small(epochs=3), digits, test_digits, results=folder / "whole", **options)
    for a, b in zip(resumed.history(), whole.history(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
    assert resumed.metrics == pytest.approx(whole.metrics, rel=1e-2)
