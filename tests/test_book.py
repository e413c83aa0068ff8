"""The book's notebooks and assets: executed, clean, in order, complete."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import execute_notebooks
import library_pages
import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code_cells(path: Path) -> list[dict]:
    return [c for c in cells(path) if c["cell_type"] == "code" and "".join(c["source"]).strip()]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def test_every_cell_was_executed_once_in_order(notebook):
    # nbval passes a cell that was never executed: it has no output to compare.
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_no_cell_failed_or_wrote_to_stderr(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", "".join(cell["source"])
            assert output.get("name") != "stderr", "".join(output.get("text", ""))


def test_every_drawing_cell_holds_its_picture(notebook):
    # tools/compare_pictures.py compares what is there.
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        if "figures.show(" in source:
            kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})}
            assert kinds & {"image/png", "image/jpeg"}, source


def test_every_picture_is_told_in_words(notebook):
    # figures.show puts them into the output, tools/execute_notebooks.py where the book's builder looks.
    for cell in code_cells(notebook):
        shown = [
            o["metadata"] for o in cell["outputs"] if {"image/png", "image/jpeg"} & o.get("data", {}).keys()
        ]
        words = [" ".join(of.get("alt", "") for of in outputs.values()) for outputs in shown]
        assert all(len(alternative) >= 40 for alternative in words), "".join(cell["source"])
        assert cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "") == " ".join(words)


def test_no_notebook_outgrows_a_megabyte(notebook):
    assert notebook.stat().st_size < 1_000_000


def test_it_opens_with_its_takeaway(notebook):
    first = "".join(cells(notebook)[0]["source"])
    assert first.startswith("# ")
    opening = [
        cell
        for cell in cells(notebook)
        if not {"setup", "parameters"} & set(cell["metadata"].get("tags", ()))
    ]
    assert "{admonition} Takeaway" in "".join("".join(cell["source"]) for cell in opening[:2])


def test_it_sets_itself_up_and_then_states_its_parameters(notebook):
    setup, *others = code_cells(notebook)
    assert "".join(setup["source"]) == execute_notebooks.SETUP
    assert setup["metadata"]["tags"] == ["setup", "remove-cell"] and setup["outputs"] == []
    sources = ["".join(cell["source"]) for cell in others]
    stated = nbformat.read(notebook, as_version=4)
    given = execute_notebooks.parameters(stated, notebook)  # literals, or an error
    if given:
        assert "parameters" in others[0]["metadata"]["tags"]
        assert given["PROFILE"] == "quick"
    for name in given:
        assert any(re.search(rf"\b{name}\b", source) for source in sources[1:]), f"{name} is not used"
    assert not any("pip install" in source for source in sources)


def test_code_fits_its_column(notebook):
    # On a screen of 1,440 pixels a line of code has room for so many characters.
    for cell in code_cells(notebook):
        for line in "".join(cell["source"]).splitlines():
            assert len(line) <= 88, line


def test_it_holds_no_trace_of_the_machine(notebook):
    text = notebook.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}


def test_every_page_is_in_the_table_of_contents_and_the_other_way_round():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {contents["root"]}
    chapters = [chapter for part in contents["parts"] for chapter in part["chapters"]]
    for chapter in chapters:
        listed.add(chapter["file"])
        chapters += chapter.get("sections", ())
    pages = [path for kind in ("*.md", "*.rst") for path in (ROOT / "book").glob(kind)]
    there = {f"book/{path.stem}" for path in [*NOTEBOOKS, *pages]}
    assert listed == there


@pytest.mark.parametrize("name", ["book/_static/mathjax", "tests/vendored"])
def test_vendored_files_are_those_that_were_vendored(name):
    folder = ROOT / name
    sums = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    actual = {
        f"./{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("SHA256SUMS", "VENDORED.md")
    }
    assert actual == sums


def test_nothing_but_the_command_line_imports_the_books_own_modules():
    importers = {name: library_pages.imported(path) for name, path in library_pages.modules().items()}
    core = {name: imports for name, imports in importers.items() if not name.startswith("book.")}
    assert {
        name for name, imports in core.items() if any(below.startswith("book.") for below in imports)
    } == {"__main__"}
    assert len(core) < len(importers)


def test_the_imports_hold_no_circle():
    assert library_pages.floors().keys() == library_pages.modules().keys()  # a circle is an error


class TestSiteCheck:
    """tools/check_site.py finds what it is there to find."""

    def check(self, folder: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, ROOT / "tools" / "check_site.py", folder]
        return subprocess.run(command, capture_output=True, text=True)

    def write(self, folder: Path, body: str) -> None:
        (folder / "other.html").write_text("<h1 id='there'>Other</h1>")
        (folder / "index.html").write_text(f"<html><body>{body}</body></html>")

    def test_a_sound_site_passes(self, tmp_path):
        self.write(tmp_path, "<a href='other.html#there'>x</a> <a href='https://example.org'>out</a>")
        assert self.check(tmp_path).returncode == 0

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("<a href='missing.html'>x</a>", "leads to no file"),
            ("<a href='other.html#missing'>x</a>", "leads to no anchor"),
            ("<a href='#missing'>x</a>", "leads to no anchor"),
            ("<img src='missing.png' alt='A line'>", "leads to no file"),
            ("<img src='index.html'>", "without alternative text"),
            ("<img src='index.html' alt=' '>", "without alternative text"),
            ("<img src='index.html' alt='../index.html'>", "without alternative text"),
            ("<script src='https://example.org/x.js'></script>", "from the network"),
            ("<link rel='stylesheet' href='//example.org/x.css'>", "from the network"),
        ],
    )
    def test_a_broken_site_fails(self, tmp_path, body, complaint):
        self.write(tmp_path, body)
        faults = self.check(tmp_path)
        assert faults.returncode == 1
        assert complaint in faults.stdout

    def test_an_empty_site_fails(self, tmp_path):
        assert self.check(tmp_path).returncode == 1
