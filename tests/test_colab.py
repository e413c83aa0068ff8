"""The book's buttons: they lead to the repository that was built, or are not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import colab
import execute_notebooks
import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Reader", "-c", "user.email=reader@example.org")
    done = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("https://github.com/somebody/a-fork.git", "https://github.com/somebody/a-fork"),
        ("https://github.com/somebody/a.fork", "https://github.com/somebody/a.fork"),
        ("https://user:secret@github.com/somebody/fork.git", "https://github.com/somebody/fork"),
        ("git@github.com:somebody/fork.git", "https://github.com/somebody/fork"),
        ("ssh://git@github.com/somebody/fork/", "https://github.com/somebody/fork"),
        ("https://example.org/github.com/somebody/fork.git", None),
        ("https://notgithub.com/somebody/fork.git", None),
        ("../elsewhere", None),
        (None, None),
    ],
)
def test_the_address_is_the_remotes(checkout, remote, found):
    if remote:
        git(checkout, "remote", "add", "origin", remote)
    assert colab.address(checkout) == found


def test_a_folder_inside_somebody_elses_checkout_has_no_address(checkout):
    git(checkout, "remote", "add", "origin", "https://github.com/somebody/else")
    (checkout / "unpacked").mkdir()
    assert colab.address(checkout / "unpacked") is None


@pytest.fixture
def notebook(tmp_path) -> Path:
    cells = [
        nbformat.v4.new_markdown_cell("# A page"),
        nbformat.v4.new_code_cell("print(1)"),
    ]
    path = tmp_path / "page.ipynb"
    whole = execute_notebooks.with_setup(nbformat.v4.new_notebook(cells=cells))
    nbformat.write(execute_notebooks.clean(whole), path)
    return path


def test_the_set_up_cell_learns_where_it_comes_from(notebook):
    for commit in ("abc", "def"):  # a second time as the first
        colab.stamp(notebook, "https://github.com/somebody/fork", commit)
        _, setup, other = nbformat.read(notebook, as_version=4).cells
        assert 'REPOSITORY = "https://github.com/somebody/fork"  #' in setup.source
        assert f'COMMIT = "{commit}"  #' in setup.source
        assert other.source == "print(1)"


def test_a_notebook_without_a_set_up_cell_is_an_error(notebook):
    content = nbformat.read(notebook, as_version=4)
    del content.cells[1]
    nbformat.write(content, notebook)
    with pytest.raises(ValueError, match="0 cells tagged setup"):
        colab.stamp(notebook, "https://github.com/somebody/fork", "abc")


@pytest.mark.parametrize("remote", ["git@github.com:somebody/fork.git", None])
def test_a_built_page_has_a_button_where_there_is_a_repository(checkout, notebook, remote):
    """The book's own configuration, of a book of one page."""
    for folder in ("tools", "book/_static", "book/_templates"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("explorers"))
    for file in ("_config.yml", "book/references.bib"):
        shutil.copy(ROOT / file, checkout / file)
    shutil.copy(notebook, checkout / "book" / "intro.ipynb")
    (checkout / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    git(checkout, "add", "_toc.yml")
    git(checkout, "commit", "--quiet", "-m", "A book")
    if remote:
        git(checkout, "remote", "add", "origin", remote)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = checkout / "_build" / "html"
    page = (built / "book" / "intro.html").read_text()
    source = (built / "_sources" / "book" / "intro.ipynb").read_text()
    target = "https://colab.research.google.com/github/somebody/fork/blob/gh-pages/_sources/book/intro.ipynb"
    if remote:
        assert f'href="{target}"' in page and 'href="https://github.com/somebody/fork"' in page
        assert git(checkout, "rev-parse", "HEAD") in source
        assert source.count("https://github.com/somebody/fork") == 1
    else:
        assert "colab.research" not in page and "github.com" not in source
    assert "find_spec" not in page  # the set-up cell is for those who run the notebook
    json.loads(source)


def test_the_set_up_cell_does_nothing_where_the_library_is(capfd):
    names = {}
    exec(execute_notebooks.SETUP, names)
    assert capfd.readouterr() == ("", "")
    assert "run" not in names and "REPOSITORY" not in names


def test_the_set_up_cell_says_what_it_lacks(tmp_path):
    """Without library, checkout and address: one sentence, and nothing is installed."""
    cell = tmp_path / "cell.py"
    cell.write_text(execute_notebooks.SETUP)
    isolated = [sys.executable, "-I", "-S", cell]  # of the standard library alone
    done = subprocess.run(isolated, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("or fill in REPOSITORY and COMMIT")


def test_the_configuration_holds_no_address():
    assert "repository" not in yaml.safe_load((ROOT / "_config.yml").read_text())
