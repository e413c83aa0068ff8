"""Every work that a docstring of the library names, by authors and year, is in the bibliography."""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENTRY = re.compile(r"@\w+\{(\w+),(.*?)\n\}", re.DOTALL)
AUTHOR = re.compile(r"author\s*=\s*\{(.*?)\},?\n", re.DOTALL)
YEAR = re.compile(r"year\s*=\s*\{?(\d{4})")
# "Name 1990", "Name & Name (1990", "Name, Name & Name 1990", "Name et al. 1990", "Name's (1990"
NAMED = re.compile(
    r"([A-Z][\w-]+)(?:'s)?(?:(?:, [A-Z][\w-]+)*,? (?:&|and) [A-Z][\w-]+| et al\.)?,? \(?((?:18|19|20)\d\d)\b"
)


def plain(name: str) -> str:
    """A family name without accents, TeX's or others', in small letters; of a double one the last."""
    name = re.sub(r"\\[a-zA-Z]+\s*|[^\w\s-]", "", unicodedata.normalize("NFKD", name))
    return re.split(r"[\s-]", name.strip())[-1].lower()


def listed(bibliography: str) -> set[tuple[str, str]]:
    cited = set()
    for _, fields in ENTRY.findall(bibliography):
        author, year = AUTHOR.search(fields), YEAR.search(fields)
        cited.add((plain(author[1].split(" and ")[0].split(",")[0]), year[1]))
    return cited


def named(text: str) -> set[tuple[str, str]]:
    return {(plain(name), year) for name, year in NAMED.findall(" ".join(text.split()))}


def docstrings(path: Path) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)
    ]
    return [ast.get_docstring(node) or "" for node in nodes]


def test_every_work_that_a_docstring_names_is_in_the_bibliography():
    known = listed((ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    missing = {
        (path.name, *work)
        for path in sorted((ROOT / "wwae_lib").rglob("*.py"))
        for text in docstrings(path)
        for work in named(text) - known
    }
    assert missing == set()


def test_works_are_found_as_docstrings_name_them():
    text = "(Dowson & Landau 1982; Bhatia, Jain & Lim 2019); McCann's (1997); Bai\n& Silverstein (2004, s. 5)"
    assert named(text) == {("dowson", "1982"), ("bhatia", "2019"), ("mccann", "1997"), ("bai", "2004")}
    entry = "@article{x,\n  author = {{\\'A}lvarez-Esteban, P. and B, C.},\n  year = {2016}\n}\n"
    assert listed(entry) == {("esteban", "2016")} == named("Alvarez-Esteban et al. (2016)")
    assert ("binkowski", "2018") in listed("@a{b,\n author = {Bi{\\'n}kowski, M},\n year = 2018\n}")
