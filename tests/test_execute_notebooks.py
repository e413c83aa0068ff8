"""tools/execute_notebooks.py: the same bytes twice, no parameter unknown, no notebook half written."""

from __future__ import annotations

import json
from pathlib import Path

import execute_notebooks
import nbformat
import pytest
from conftest import subprocess_environment
from nbformat.v4 import new_code_cell, new_notebook


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Writes a notebook of the given cells, tagged by their first line's comment, if any."""
    monkeypatch.setenv("PYTHONPATH", subprocess_environment()["PYTHONPATH"])

    def write(*sources: str) -> Path:
        cells = []
        for source in sources:
            tag, found, rest = source.partition(": ")
            tags = {"tags": [tag]} if found and tag in ("parameters", "nbval-ignore-output") else {}
            cells.append(new_code_cell(rest if tags else source, metadata=tags))
        path = tmp_path / "page.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write


def outputs(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [output.text for cell in cells for output in cell.outputs]


PARAMETERS = 'parameters: PROFILE = "quick"  # which\nSEED = 0\nRATE = 0.5'
SHOW = "import sys\nprint(PROFILE, SEED, RATE, flush=True)\nprint('and more')"
TIME = "nbval-ignore-output: import time\nprint(time.perf_counter_ns())"


def test_twice_gives_the_same_bytes(notebook):
    path = notebook(PARAMETERS, SHOW, TIME)
    assert execute_notebooks.main([str(path)]) == 0
    first = path.read_bytes()
    assert execute_notebooks.main([str(path), "-p", "SEED", "0"]) == 0  # its own value changes nothing
    assert path.read_bytes() == first
    assert outputs(path)[0] == "quick 0 0.5\nand more\n"
    setup, parameters, *_ = json.loads(first)["cells"]
    assert "".join(setup["source"]) == execute_notebooks.SETUP and setup["outputs"] == []
    assert parameters["metadata"] == {"tags": ["parameters"]} and b"papermill" not in first

    record = path.parent / "results" / "notebooks.json"
    assert not record.exists()
    measured = outputs(path)[1]
    execute_notebooks.main([str(path), "--measure"])
    assert outputs(path)[1] != measured and len(json.loads(path.read_bytes())["cells"]) == 4
    took = json.loads(record.read_text())["page"]
    assert 0.05 < took["processor_seconds"] < 60 and 2e7 < took["peak_bytes"] < 2e9


def test_the_users_results_folder_is_not_the_books(notebook, monkeypatch, tmp_path):
    path = notebook("import os\nprint(os.environ.get('WWAE_RESULTS'))")
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path))
    assert execute_notebooks.main([str(path)]) == 0
    assert outputs(path) == ["None\n"]


def test_other_parameters_leave_the_book_as_it_is(notebook, tmp_path, capsys):
    path = notebook(PARAMETERS, SHOW)
    before = path.read_bytes()
    words = ["-p", "SEED", "3", "-p", "RATE", "2", "-p", "PROFILE", "full", "--to", str(tmp_path / "other")]
    assert execute_notebooks.main([str(path), *words]) == 0
    assert path.read_bytes() == before
    assert outputs(tmp_path / "other" / "page.ipynb") == ["full 3 2.0\nand more\n"]
    assert str(tmp_path / "other") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-p", "SEEED", "1"], "no parameter SEEED; known: PROFILE, RATE, SEED"),
        (["-p", "SEED", "one"], "SEED is 'one'; it must be a whole number"),
        (["-p", "SEED", "1.5"], "SEED is '1.5'"),
        (["-p", "SEED", "-1"], "SEED is -1; it must be from 0 to 4294967295"),
        (["-p", "SEED", "99999999999"], "SEED is 99999999999; it must be from 0 to 4294967295"),
        (["-p", "SEED", "True"], "SEED is 'True'; it must be a whole number"),
        (["-p", "SEED", ""], "SEED is ''; it must be a whole number"),
        (["-p", "RATE", "fast"], "RATE is 'fast'; it must be a number"),
        (["-p", "SEED", "1", "-p", "SEED", "2"], "SEED is given more than once"),
        (["-p", "PROFILE", "fulll"], "PROFILE is 'fulll'; it must be quick or full"),
    ],
)
def test_what_is_no_parameter_is_an_error(notebook, capsys, words, complaint):
    path = notebook(PARAMETERS, SHOW)
    before = path.read_bytes()
    assert execute_notebooks.main([str(path), *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
    assert path.read_bytes() == before


NO_NOTEBOOKS = {
    "no JSON": b"import os\n" * 20,
    "no cells": b"[]",
    "bytes": bytes(range(128, 256)),
    "nothing": b"",
}


@pytest.mark.parametrize("content", NO_NOTEBOOKS.values(), ids=NO_NOTEBOOKS)
def test_a_file_that_is_no_notebook_is_one_line(tmp_path, capsys, content):
    (tmp_path / "page.ipynb").write_bytes(content)
    assert execute_notebooks.main([str(tmp_path / "page.ipynb")]) == 2
    said = capsys.readouterr().err
    assert f"error: {tmp_path / 'page.ipynb'} is no notebook (" in said and said.count("\n") == 1


def test_where_nothing_can_be_written_is_found_before_it_executes(notebook, tmp_path, capsys):
    path, there = notebook(PARAMETERS, "1 / 0"), tmp_path / "there"
    there.write_text("a file")
    assert execute_notebooks.main([str(path), "-p", "SEED", "3", "--to", str(there)]) == 2
    said = capsys.readouterr().err
    assert f"error: {there} cannot be written to (" in said and "--to" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (execute_notebooks.NoSuchKernel("python3"), "No such kernel named python3; install one with"),
        (RuntimeError("Kernel died\nTraceback"), "RuntimeError: Kernel died"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_ends_an_execution_is_one_line(notebook, monkeypatch, capsys, failure, complaint):
    path = notebook("1")

    def fail(*given, **options):
        raise failure

    monkeypatch.setattr(execute_notebooks.papermill, "execute_notebook", fail)
    before = path.read_bytes()
    assert execute_notebooks.main([str(path)]) == 1
    said = capsys.readouterr().err
    assert complaint in said and f"{path} is as it was" in said and said.count("\n") == 1
    assert path.read_bytes() == before


def test_notebooks_of_the_book_go_by_their_names(capsys):
    assert execute_notebooks.main(["nothere"]) == 2
    assert "there is no notebook nothere; the book has ablations, " in capsys.readouterr().err
    book = [Path("book/mnist.ipynb"), Path("book/celeba.ipynb")]
    assert execute_notebooks.notebook_path(Path("celeba"), book) == book[1]
    with pytest.raises(ValueError, match="there is no notebook elsewhere/celeba"):
        execute_notebooks.notebook_path(Path("elsewhere/celeba"), book)


@pytest.mark.parametrize(
    "line", ["SEED = int('3')", "import math", "SEED = OTHER = 3", "print(1)", "SEED: int = 3", "SEED == 3"]
)
def test_parameters_are_literals(notebook, capsys, line):
    path = notebook(f"parameters: {line}")
    assert execute_notebooks.main([str(path)]) == 2
    assert f"{path}: not a literal given to a name, as parameters must be: {line}" in capsys.readouterr().err


def test_parameters_are_python(notebook, capsys):
    path = notebook("parameters: SEED = = 3")
    assert execute_notebooks.main([str(path)]) == 2
    said = capsys.readouterr().err
    assert f"error: {path}: the cell of its parameters is no Python (" in said and said.count("\n") == 1


def test_a_notebook_that_fails_is_left_as_it_was(notebook, capsys):
    path = notebook("1 / 0")
    before = path.read_bytes()
    assert execute_notebooks.main([str(path)]) == 1
    said = capsys.readouterr().err
    assert f"error: {path}, cell " in said and "ZeroDivisionError: division by zero" in said
    assert path.read_bytes() == before and list(path.parent.glob("*.part*")) == []


def test_only_the_cells(notebook):
    path = notebook("1 / 0")
    for _ in range(2):
        assert execute_notebooks.main(["--cells", str(path)]) == 0
        setup, other = nbformat.read(path, as_version=4).cells
        assert setup.source == execute_notebooks.SETUP and other.source == "1 / 0"
