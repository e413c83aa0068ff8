"""The public names: few, lazy, documented, and those that README uses."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import subprocess_environment

import wwae_lib
from wwae_lib import gaussian, methods, runs

ROOT = Path(__file__).resolve().parents[1]


def test_importing_the_library_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import wwae_lib; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=subprocess_environment())
    imported = {name.split(".")[0] for name in done.stdout.decode().split()} - sys.stdlib_module_names
    assert imported == {"wwae_lib"}, done.stderr


def test_every_public_name_is_there_and_documented():
    assert set(wwae_lib.__all__) <= set(dir(wwae_lib))
    for name in wwae_lib.__all__:
        thing = getattr(wwae_lib, name)
        assert inspect.getdoc(thing)
        module, _, there = wwae_lib._HOMES[name].partition(":")
        assert thing is getattr(importlib.import_module(f"wwae_lib.{module}"), there or name)
    assert wwae_lib.w2_penalty is gaussian.w2_penalty and wwae_lib.WWAE is methods.WWAE


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse(Path(wwae_lib.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module + f":{alias.name}" * (alias.name != alias.asname)
        for node in block.body
        for alias in node.names
    }
    assert seen == wwae_lib._HOMES


def test_a_name_that_is_not_public_is_an_error():
    with pytest.raises(AttributeError, match="'wwae_lib' has no attribute 'w3_penalty'"):
        _ = wwae_lib.w3_penalty
    with pytest.raises(ImportError, match="w3_penalty"):
        exec("from wwae_lib import w3_penalty")


def test_a_loaded_method_samples_encodes_decodes_and_reconstructs(finished, test_digits):
    method = wwae_lib.load(finished.path)
    images = test_digits.pixels[:7] / 255
    mean, log_variance = method.encode(images)
    assert mean.shape == log_variance.shape == (7, method.latent)
    assert torch.equal(method.decode(mean), method.reconstruct(images))
    samples = method.sample(5)
    assert samples.shape == (5, 1, 28, 28) and not samples.requires_grad
    assert not method.training and torch.equal(samples, runs.load_method(finished).sample(5))


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(runs.RunError, match="mnist/wwae/seed-7"):
        wwae_lib.load("mnist/wwae/seed-7")


def test_the_examples_of_readme_run(monkeypatch):
    monkeypatch.setenv("WWAE_RESULTS", str(ROOT / "book" / "results"))
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shown = {}
    for example in examples:
        torch.manual_seed(0)
        exec(example, shown)
    assert shown["digits"].shape == (100, 1, 28, 28) and 0.05 < shown["digits"].mean() < 0.3
    assert shown["samples"].shape == (5000, 20)
    assert shown["invented"].shape == (16, 1, 28, 28) and not shown["method"].training
