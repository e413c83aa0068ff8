"""The benchmark: it times the training that is used, counts right, and the chapter says what it recorded."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wwae_lib import experiments, methods, training

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "book" / "results" / "performance.json"
KEYS = {
    "steps": {"dataset", "network", "method", "batch_size", "precision", "step_seconds", "flops"}
    | {"images_per_second", "share_of_roofline"},
    "penalty": {"dataset", "network", "latent", "batch_size", "ae_step_seconds", "wwae_step_seconds"}
    | {"penalty_seconds", "share_alone", "share_of_pairs", "interval_95", "pairs"},
    "trainers": {"trainer", "precision", "step_seconds", "to_wwae_lib"},
    "inception": {"network", "image_seconds", "speed_to_pytorch_fid"},
}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "tools" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(record: dict) -> None:
    assert record["format"] == 1
    assert {"git_commit", "processor", "threads", "precision", "torch"} <= set(record["environment"])
    rates = {key: value for key, value in record["roofline"].items() if key != "fastest"}
    assert min(rates.values()) > 0
    assert {f"flops_per_second_{key}" for key in record["roofline"]["fastest"]} < rates.keys()
    for table, keys in KEYS.items():
        for row in record[table]:
            assert set(row) == keys
            for name, timed in row.items():
                if isinstance(timed, dict):
                    assert 0 < timed["lower_quartile"] <= timed["median"] <= timed["upper_quartile"], name
                    assert timed["count"] >= 3
    for row in record["steps"]:
        seconds = row["step_seconds"]["median"]
        assert row["images_per_second"] == pytest.approx(row["batch_size"] / seconds)
        peak = record["roofline"][f"flops_per_second_{row['precision']}"]
        assert row["share_of_roofline"] == pytest.approx(row["flops"] / seconds / peak)
        assert row["share_of_roofline"] <= 1
    for row in record["penalty"]:
        assert row["share_alone"] == pytest.approx(row["penalty_seconds"] / row["ae_step_seconds"]["median"])
        low, high = row["interval_95"]
        assert low <= row["share_of_pairs"] <= high


def test_quick_benchmark_writes_its_record(tmp_path):
    target = tmp_path / "performance.json"
    command = [sys.executable, ROOT / "tools" / "benchmark.py", "--quick", "--without-peers"]
    command += ["--without-inception", "--device", "cpu", "--threads", "1", "--output", target]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    record = json.loads(target.read_text())
    check(record)
    assert record["quick"]
    assert [row["method"] for row in record["steps"]] == ["ae", "wwae", "wgan_gp"]
    assert {row["trainer"] for row in record["trainers"]} == {"wwae_lib", "wwae_lib, float32", "plain loop"}
    assert record["left_out"] == [{"method": "pythae", "reason": "--without-peers"}]


@pytest.mark.parametrize("method", ["wwae", "wgan_gp"])
def test_what_is_timed_is_training_itself(benchmark, method):
    planned = experiments.experiment("mnist", method, network="tiny", epochs=1, batch_size=8)
    torch.manual_seed(0)
    images = benchmark.pixels("mnist", 48)
    timed = benchmark.Stopwatch(accelerator="cpu", precision="32-true", devices=1)
    steps = [
        training.fit_experiment(planned, images, fabric=fabric, progress=False)[0].state_dict()
        for fabric in (timed, training.choose_fabric("cpu", "32-true"))
    ]
    assert all(torch.equal(steps[0][name], steps[1][name]) for name in steps[1])
    assert len(timed.durations()) == 48 // 8 - 1
    assert min(timed.durations()) > 0


def test_operations_are_counted(benchmark):
    """A linear layer: twice its weights an image forward, as much again for each of its two gradients."""
    x, weight = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    with benchmark._Operations() as operations:
        (x @ weight).sum().backward()
    assert operations.count == 3 * 2 * 5 * 7 * 3
    planned = experiments.experiment("mnist", "ae", network="tiny", batch_size=4)
    weights = sum(w.numel() for w in experiments.build(planned).parameters() if w.ndim == 2)
    assert benchmark.flops(planned) > 5 * 2 * 4 * weights  # convolutions besides


def test_the_operations_of_the_roofline_are_counted_as_those_of_a_step(benchmark):
    """Products, linear layers and convolutions of several sizes, by the formulas that count a step's."""
    tried = benchmark.operations(torch.device("cpu"), torch.float32, 64)
    assert {name.split(",")[0] for name in tried} == {"matrix product", "linear layer", "convolution"}
    assert len({count for count, _ in tried.values()}) > 5
    for name, (count, work) in tried.items():
        with benchmark._Operations() as operations:
            work()
        assert count == operations.count, name


def test_nothing_is_faster_than_the_roofline(benchmark, monkeypatch):
    """Which is the fastest of what was tried, the better of two times; a step beyond it is an error."""
    seconds = {"slow": 2.0, "fast": 0.5}
    tried = {name: (1e9, lambda name=name: name) for name in seconds}
    monkeypatch.setattr(benchmark, "operations", lambda *arguments: tried)
    monkeypatch.setattr(benchmark, "_several_seconds", lambda work, device: [9.0, seconds.get(work(), 1.0)])
    before = benchmark.roofline(torch.device("cpu"), 4)
    assert before["flops_per_second_32-true"] == 2e9 and before["fastest"]["32-true"] == "fast"
    seconds["slow"] = 0.25
    after = benchmark.roofline(torch.device("cpu"), 4)
    about = {"method": "ae", "dataset": "mnist", "network": "tiny", "precision": "32-true"}
    row = about | {"flops": 3e9, "step_seconds": {"median": 1.0}}
    roof = benchmark.beside_roofline([row], before, after)
    assert roof["flops_per_second_32-true"] == 4e9 and roof["fastest"]["32-true"] == "slow"
    assert row["share_of_roofline"] == 0.75
    with pytest.raises(RuntimeError, match=r"ae on mnist, tiny, reaches 1\.50 of the roofline of 2 GFLOP/s"):
        benchmark.beside_roofline([row], before, before)


def test_turns_are_fair(benchmark):
    """Every task once a round, in more than one order."""
    seen = []
    tasks = {name: lambda name=name: seen.append(name) or 1.0 for name in "abc"}
    seconds = benchmark.take_turns(tasks, 10)
    assert seconds == {name: [1.0] * 10 for name in "abc"}
    rounds = {tuple(seen[i : i + 3]) for i in range(0, 30, 3)}
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(rounds) > 2


def test_the_record_of_the_book():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    check(record)
    assert not record["quick"]
    assert {row["method"] for row in record["steps"]} <= set(methods.METHODS)


def test_the_chapter_says_what_was_recorded():
    """Its outputs are the record's: ours, pythae's, and every method's speed on the compact network."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    notebook = json.loads((ROOT / "book" / "performance.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    for row in record["steps"]:
        assert f"{row['images_per_second']:,.0f}" in text, row["method"]
    for row in record["trainers"]:
        assert f"{row['to_wwae_lib']['median']:.2f}" in text, row["trainer"]
    for row in record["penalty"]:
        assert f"{row['share_alone']:.2%}" in text
    assert record["environment"]["git_commit"][:12] in text
    penalties = json.loads((RECORD.parent / "penalty_benchmark.json").read_text(encoding="utf-8"))
    for row in penalties["measured"]:
        shown = f"{1e3 * row['seconds']:,.0f}" if row["seconds"] > 1 else f"{1e3 * row['seconds']:.3g}"
        assert shown in text, row["method"]
