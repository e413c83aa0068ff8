"""The reference pages: every module and public name of the library has its entry, by itself."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import library_pages
import pytest
import yaml
from docutils.nodes import make_id

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(library_pages.modules())
SITE = ROOT / "_build" / "html" / "book"


def files_of_contents() -> set[str]:
    def below(chapter: dict) -> set[str]:
        return {chapter["file"]}.union(*(below(section) for section in chapter.get("sections", ())))

    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return set().union(*(below(chapter) for part in contents["parts"] for chapter in part["chapters"]))


def test_every_module_is_on_one_page_of_the_contents():
    placed = library_pages.pages()
    assert sorted(name for names in placed.values() for name in names) == MODULES
    assert {f"book/{page}" for page in placed} <= files_of_contents()


def test_a_module_stands_above_all_that_it_imports():
    level = library_pages.floors()
    assert level["shapes"] == 0
    assert (
        0 < level["gaussian"] < level["penalties"] < level["methods"] < level["training"] < level["__main__"]
    )


@pytest.mark.parametrize("name", MODULES)
def test_its_entry_says_what_it_holds(name):
    assert library_pages.question(name).strip()
    written = "\n".join(library_pages.reference(name))
    if name == "__main__":
        for command in ("train", "evaluate", "reproduce", "export", "data"):
            assert f"usage: python -m wwae_lib {command}" in written
        return
    module = importlib.import_module(f"wwae_lib.{name}")
    assert module.__all__, f"{name} names nothing public"
    for word, thing in library_pages.public(name).items():
        kind = (
            "class" if library_pages.is_own_class(thing) else "function" if inspect.isroutine(thing) else None
        )
        assert f".. auto{kind}:: {word}\n" in written if kind else f".. data:: {word}\n" in written


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_everything_public_is_documented(name):
    for word, thing in library_pages.public(name).items():
        if library_pages.is_own_class(thing) or inspect.isroutine(thing):
            assert (thing.__doc__ or "").strip(), f"{name}.{word} has no docstring"


def write_library(folder: Path, **sources: str) -> Path:
    """A library of these modules, whose names have ``__`` for a dot."""
    for name, source in sources.items():
        path = folder.joinpath("toy", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder / "toy"


def test_floors_follow_imports_through_packages(tmp_path, monkeypatch):
    sources = {
        "low": "",
        "book__mid": "from ..low import x",
        "book__high": "from . import mid\nfrom .. import low",
    }
    monkeypatch.setattr(library_pages, "LIBRARY", write_library(tmp_path, **sources))
    assert library_pages.floors() == {"low": 0, "book.mid": 1, "book.high": 2}


def test_a_circle_of_imports_is_an_error(tmp_path, monkeypatch):
    sources = {"one": "def late():\n    from . import two", "two": "from .one import late"}
    monkeypatch.setattr(library_pages, "LIBRARY", write_library(tmp_path, **sources))
    with pytest.raises(ValueError, match="one, two"):
        library_pages.floors()


@pytest.mark.parametrize("line", ["import toy.low", "from toy import low", "from toy.low import x"])
def test_an_import_by_absolute_name_is_an_error(tmp_path, monkeypatch, line):
    monkeypatch.setattr(library_pages, "LIBRARY", write_library(tmp_path, low="x = 1", high=line))
    with pytest.raises(ValueError, match="absolute"):
        library_pages.floors()


def test_a_module_asked_for_twice_or_missing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(library_pages, "PAGES", tmp_path)
    (tmp_path / "one.rst").write_text("One\n===\n\n.. library:: gaussian\n")
    (tmp_path / "rest.rst").write_text("Rest\n====\n\n.. library::\n")
    placed = library_pages.pages()
    assert placed["one"] == ["gaussian"] and "gaussian" not in placed["rest"] and "methods" in placed["rest"]
    (tmp_path / "two.rst").write_text("Two\n===\n\n.. library:: gaussian\n")
    with pytest.raises(ValueError, match="gaussian"):
        library_pages.pages()
    (tmp_path / "two.rst").write_text("Two\n===\n\n.. library:: nothing\n")
    with pytest.raises(ValueError, match="nothing"):
        library_pages.pages()


def test_the_built_pages_hold_every_name():
    if not (SITE / "api.html").exists():
        pytest.skip("needs the built site: make book")
    sources = [*(ROOT / "wwae_lib").rglob("*.py"), *(ROOT / "book").glob("*.rst")]
    if max(path.stat().st_mtime for path in sources) > (SITE / "api.html").stat().st_mtime:
        pytest.skip("the built site is older than the library: make book")
    for page, modules in library_pages.pages().items():
        text = (SITE / f"{page}.html").read_text(encoding="utf-8")
        for module in modules:
            anchor = make_id(f"module-{module}")
            assert f'id="{anchor}"' in text, f"{page} lacks {module}: make book"
            words = library_pages.public(module) if module != "__main__" else {}
            for word in words:
                assert f'id="wwae_lib.{module}.{word}"' in text, f"{page} lacks {module}.{word}: make book"
