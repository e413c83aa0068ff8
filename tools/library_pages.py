"""Sphinx extension: the library's reference pages, from its docstrings, and what a reader cites.

A page of reStructuredText asks for modules by name, ``.. library:: gaussian penalties``, or for every module
that no other page names, ``.. library::``; ``.. library-overview::`` is the table of all, and
``.. library-names::`` that of the package's own names. So a new module has its reference without anyone's
doing. ``book-citation`` shows CITATION.cff as BibTeX.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, PAGES = ROOT / "wwae_lib", ROOT / "book"
TITLES = {"__main__": "command line"}  # of modules that go by another name
ASKED = re.compile(r"^\.\. library::(.*)$", re.MULTILINE)


# ---------------------------------------------------------------- which modules, on which page


def floors() -> dict[str, int]:
    """Every module with its floor: 0 where it imports no other, else one above the highest it imports."""
    imports = {name: imported(path) for name, path in modules().items()}
    floor_of: dict[str, int] = {}
    while len(floor_of) < len(imports):
        ready = [name for name in sorted(imports.keys() - floor_of) if imports[name] <= floor_of.keys()]
        if not ready:
            raise ValueError(f"modules import one another: {', '.join(sorted(imports.keys() - floor_of))}")
        floor_of |= {name: max((floor_of[below] + 1 for below in imports[name]), default=0) for name in ready}
    return floor_of


def modules() -> dict[str, Path]:
    """The file of every module, by its name below ``wwae_lib``, such as ``book.tables``."""
    files = [path for path in sorted(LIBRARY.rglob("*.py")) if path.stem != "__init__"]
    return {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path for path in files}


def imported(path: Path) -> set[str]:
    """The modules and packages of the library that one imports, wherever in its code.

    Raises:
        ValueError: one is imported by its absolute name.
    """
    package = path.relative_to(LIBRARY).parent.parts
    imports: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) + 1 - node.level] + tuple((node.module or "").split("."))
            base = tuple(filter(None, base))
            inside = {(*base, alias.name) for alias in node.names}  # which may be modules, or names of one
            imports |= {".".join(name) for name in {base, *inside} if _is_module(name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            if any(name.split(".")[0] == LIBRARY.name for name in names):
                raise ValueError(f"{path} imports a module of its own library by an absolute name")
    return imports


def _is_module(name: tuple[str, ...]) -> bool:
    """Is there a module of this name?"""
    return bool(name) and LIBRARY.joinpath(*name).with_suffix(".py").exists()


def pages() -> dict[str, list[str]]:
    """The modules of each page of the reference, from the ground floor up.

    Raises:
        ValueError: a module is asked for twice, or there is none of that name.
    """
    level = floors()
    asked = {
        path.stem: match[1].split()
        for path in sorted(PAGES.glob("*.rst"))
        if (match := ASKED.search(path.read_text(encoding="utf-8")))
    }
    named = [name for names in asked.values() for name in names]
    if wrong := sorted({name for name in named if named.count(name) > 1 or name not in level}):
        raise ValueError(f"the reference asks twice for, or the library lacks: {', '.join(wrong)}")
    rest = sorted(level.keys() - set(named), key=lambda name: (level[name], name))
    return {page: names or rest for page, names in asked.items()}


# ---------------------------------------------------------------- what they hold


def public(name: str) -> dict[str, Any]:
    """The public names of a module and what they stand for, in the order of its source."""
    module = importlib.import_module(f"wwae_lib.{name}")
    source = inspect.getsource(module)
    names = getattr(module, "__all__", ())

    def place(word: str) -> int:
        defined = re.search(rf"^(?:def |class )?{word}\b", source, re.MULTILINE)
        return defined.start() if defined else 0

    return {word: getattr(module, word) for word in sorted(names, key=place)}


def question(name: str) -> str:
    """The first sentences of a module's docstring that fit its first paragraph."""
    text = inspect.getdoc(importlib.import_module(f"wwae_lib.{name}")) or ""
    return " ".join(text.split("\n\n")[0].split())


def reference(name: str) -> list[str]:
    """A module's part of a page: heading, docstring, a table of what it holds, and each in full."""
    full, content = f"wwae_lib.{name}", public(name)
    title = TITLES.get(name, name)
    lines = [f".. _module-{name}:", "", title, "-" * len(title), ""]
    lines += [f".. automodule:: {full}", "   :no-members:", ""]
    if name == "__main__":
        return lines + _command_line()
    lines += [f".. currentmodule:: {full}", ""]
    if documented := [word for word, x in content.items() if is_own_class(x) or inspect.isroutine(x)]:
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {word}" for word in documented), ""]
    for word, thing in content.items():
        if is_own_class(thing):
            family = thing.__bases__ not in ((object,), (tuple,))
            lines += [f".. autoclass:: {word}", "   :members:", *["   :show-inheritance:"] * family, ""]
        elif inspect.isroutine(thing):
            lines += [f".. autofunction:: {word}", ""]
        else:
            lines += [f".. data:: {word}", "   :no-index-entry:", "", *_constant(thing), ""]
    return lines


def is_own_class(thing: Any) -> bool:
    """Whether a public name is a class of the library, and no other name for somebody else's."""
    return inspect.isclass(thing) and thing.__module__.startswith(LIBRARY.name)


def _constant(value: Any) -> list[str]:
    """What a constant holds: its value where that is short, else its keys or its size."""
    if inspect.isclass(value):
        return [f"   A type, ``{value.__name__}``."]
    if isinstance(value, dict):
        return [f"   A dictionary by {', '.join(f'``{key}``' for key in value)}."]
    text = repr(value)
    return [f"   ``{text}``" if len(text) < 300 else f"   {len(value)} entries."]


def _command_line() -> list[str]:
    """The help of every command, as a terminal shows it."""
    from wwae_lib.__main__ import parser

    whole = parser()
    commands = next(
        action for action in whole._actions if action.choices and hasattr(action.choices, "items")
    )
    lines: list[str] = []
    for title, command in {"python -m wwae_lib": whole, **commands.choices}.items():
        command.formatter_class = functools.partial(command.formatter_class, width=78)  # not the terminal's
        lines += [title, "~" * len(title), "", ".. code-block:: none", ""]
        lines += [f"   {line}".rstrip() for line in command.format_help().splitlines()] + [""]
    return lines


class Library(Directive):
    """The reference of the modules that this page stands for."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        for name in reversed(pages()[Path(env.docname).name]):  # each is put in front of the last
            path = modules()[name]
            env.note_dependency(str(path))
            self.state_machine.insert_input(reference(name), str(path.relative_to(ROOT)))
        return []


def _read_again_when_a_module_changes(directive: Directive) -> None:
    for path in modules().values():
        directive.state.document.settings.env.note_dependency(str(path))


class Names(Directive):
    """The names that the package itself offers, each with the first sentence of its docstring."""

    def run(self) -> list[nodes.Node]:
        import wwae_lib

        _read_again_when_a_module_changes(self)
        lines = [".. list-table::", "   :widths: 25 75", "   :class: wrapped", ""]
        for name in wwae_lib.__all__:
            thing = getattr(wwae_lib, name)
            role = "class" if inspect.isclass(thing) else "func"
            said = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
            lines += [f"   * - :{role}:`{name} <{thing.__module__}.{thing.__name__}>`", f"     - {said}"]
        self.state_machine.insert_input([*lines, ""], "wwae_lib")
        return []


class Overview(Directive):
    """Every module, the floor it stands on, and the question that it answers."""

    def run(self) -> list[nodes.Node]:
        _read_again_when_a_module_changes(self)
        level = floors()
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 10 22 68", "   :class: wrapped", ""]
        lines += ["   * - floor", "     - module", "     - question"]
        for name in sorted(level, key=lambda name: (level[name], name)):
            link = f":ref:`{TITLES.get(name, name)} <module-{name}>`"
            lines += [f"   * - {level[name]}", f"     - {link}", f"     - {question(name)}"]
        self.state_machine.insert_input([*lines, ""], "wwae_lib")
        return []


# ---------------------------------------------------------------- cite this


def bibtex(citation: dict[str, Any]) -> str:
    """CITATION.cff, as YAML reads it, as a BibTeX entry."""
    names = [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in citation["authors"]]
    fields = {
        "author": " and ".join(f"{{{name}}}" if "," not in name else name for name in names),
        "title": f"{{{citation['title']}}}",
        "year": str(citation["date-released"])[:4],
        "note": f"Version {citation['version']}",
        "url": citation.get("repository-code"),
    }
    width = max(map(len, fields))
    lines = [f"  {key:{width}} = {{{value}}}," for key, value in fields.items() if value]
    return "\n".join(["@misc{wwae_book,", *lines, "}"])


class Citation(Directive):
    """The BibTeX entry of this book."""

    def run(self) -> list[nodes.Node]:
        path = ROOT / "CITATION.cff"
        self.state.document.settings.env.note_dependency(str(path))
        text = bibtex(yaml.safe_load(path.read_text(encoding="utf-8")))
        return [nodes.literal_block(text, text, language="bibtex")]


def _skip(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what NamedTuple writes about its own fields; Attributes says what they are."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def _prose(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading a property's first words, up to a colon, as its type."""
    if what == "property" and lines:
        lines[0] = f": {lines[0]}"


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("library", Library)
    app.add_directive("library-names", Names)
    app.add_directive("library-overview", Overview)
    app.add_directive("book-citation", Citation)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _prose, priority=400)  # napoleon's is 500
    return {"parallel_read_safe": True}
