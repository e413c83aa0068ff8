"""Check the text of book, README and library: spelling, headings, alternative texts, links, formulas.

python tools/check_text.py

Spelling is codespell's: its list of words that people misspell, which is silent about names and terms, and
its list of British and American spellings, read backwards. Links to other sites are checked by syntax alone;
those within the built book by tools/check_site.py, and roles such as {doc} and {eq} by the strict build.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import codespell_lib

ROOT = Path(__file__).resolve().parents[1]
WORD = re.compile(r"[a-zA-Z]+(?:'[a-z]+)?")
# Listed as American and good British too, in the meaning that they have here.
ALSO_BRITISH = {
    "analog",
    "check",
    "checks",
    "disk",
    "disks",
    "draft",
    "drafts",
    "inquiry",
    "license",
    "math",
    "meter",
}
ALSO_BRITISH |= {"practice", "program", "programs"}


class Text(NamedTuple):
    """A page, a cell or a docstring: where it begins, and what it says."""

    path: Path
    line: int  # of its first line; 0 where lines mean nothing
    place: str  # such as "cell 3", or nothing
    words: str

    def at(self, position: int) -> str:
        line = f":{self.line + self.words.count(chr(10), 0, position)}" if self.line else ""
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}{line}{self.place}"


# ---------------------------------------------------------------- what is read


def pages(root: Path = ROOT) -> list[Path]:
    book = [path for kind in ("*.md", "*.rst", "*.ipynb") for path in (root / "book").glob(kind)]
    return sorted([*root.glob("*.md"), *book])


def modules(root: Path = ROOT) -> list[Path]:
    return sorted(path for folder in ("wwae_lib", "tests", "tools") for path in (root / folder).glob("*.py"))


def texts(path: Path) -> list[Text]:
    """What a page says; of a notebook its Markdown cells, of a module its docstrings and comments."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = enumerate(json.loads(source)["cells"])
        return [
            Text(path, 0, f" cell {number}", "".join(cell["source"]))
            for number, cell in cells
            if cell["cell_type"] == "markdown"
        ]
    if path.suffix == ".py":
        return [*_docstrings(path, source), *_comments(path, source)]
    return [Text(path, 1, "", source)]


def _docstrings(path: Path, source: str) -> Iterator[Text]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            words := ast.get_docstring(node)
        ):
            yield Text(path, node.body[0].lineno, "", words)


def _comments(path: Path, source: str) -> Iterator[Text]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path, token.start[0], "", token.string)


def blank(pattern: str, text: str) -> str:
    """Replace what a pattern finds by spaces, so that every other character keeps its place."""
    return re.sub(pattern, lambda m: re.sub(r"\S", " ", m[0]), text, flags=re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    """A page without its listings. A fence of a directive, ```{name}, holds prose and stays."""
    text = blank(r"^(`{3,})(?!\{|`)[^\n]*\n.*?^\1$", text)
    text = blank(r"^(`{3,})\{(raw|code-block|literalinclude|bibliography|include)\}.*?^\1$", text)
    return blank(r"(?<=\n\n)(?: {4}[^\n]*\n)+", text)


def prose(text: str) -> str:
    """What of a page is English: no listings, code, formulas, addresses or roles' targets."""
    text = blank(r"<!--.*?-->|^`{3,}(?:\{[\w:-]+\})?", without_code(text))
    for pattern in (
        r"\$\$.*?\$\$",
        r":math:`[^`]*`",
        r"\$[^$\n]+\$",
        r"`+[^`]+`+",
        r"https?://\S+",
        r"\]\([^)]*\)",
    ):
        text = blank(pattern, text)
    return blank(r"^\s*:[a-z-]+:[^\n]*$|^\.\. [\w-]+::[^\n]*$|\((?:eq|fig|tab)-[\w-]+\)", text)


# ---------------------------------------------------------------- what is checked


@cache
def dictionary() -> dict[str, str]:
    """Misspelt or American words and what to write instead."""
    folder = Path(codespell_lib.__file__).parent / "data"
    words: dict[str, str] = {}
    for line in (folder / "dictionary_en-GB_to_en-US.txt").read_text(encoding="utf-8").splitlines():
        british, american = line.lower().split("->")
        words[american.strip(" ,")] = british
    for word in ALSO_BRITISH:
        words.pop(word, None)
    for line in (folder / "dictionary.txt").read_text(encoding="utf-8").splitlines():
        wrong, right = line.lower().split("->")
        words[wrong] = right.strip(" ,")
    return words


def misspelt(text: Text) -> Iterator[str]:
    for match in WORD.finditer(prose(text.words)):
        if right := dictionary().get(match[0].lower()):
            yield f"{text.at(match.start())}: {match[0]!r}; write {right}"


def headings(whole: list[Text]) -> Iterator[str]:
    """One title, first, and no level skipped below it. (reStructuredText: Sphinx itself insists.)"""
    level = 0
    for text in whole:
        for match in re.finditer(r"^(#+) ", without_code(text.words), re.MULTILINE):
            deep = len(match[1])
            if (level == 0) != (deep == 1):
                yield f"{text.at(match.start())}: " + (
                    "a second title" if level else "no title before this heading"
                )
            elif deep > level + 1:
                yield f"{text.at(match.start())}: heading of level {deep} after one of level {level}"
            level = deep
    if not level and whole:
        yield f"{whole[0].at(0)}: no title"


def pictures(text: Text) -> Iterator[str]:
    """Alternative texts of pictures, in Markdown, HTML and directives."""
    words = blank(r"`[^`\n]+`", without_code(text.words))
    for match in re.finditer(r"!\[(\s*)\]", words):
        yield f"{text.at(match.start())}: a picture without alternative text"
    for match in re.finditer(r"<img\b[^>]*>", words):
        if not re.search(r'\balt="[^"]*\S[^"]*"', match[0]):
            yield f"{text.at(match.start())}: a picture without alternative text"
    for match in re.finditer(
        r"^(`{3,}|:{3,})\{(?:image|figure)\}.*?^\1$", text.words, re.MULTILINE | re.DOTALL
    ):
        if not re.search(r"^:alt: \S", match[0], re.MULTILINE):
            yield f"{text.at(match.start())}: a picture without alternative text"


def links(text: Text) -> Iterator[str]:
    """Links to files lead to one; links to other sites are https and well formed."""
    words = (
        blank(r"(?<!`)`[^`\n]+`(?!`)", without_code(text.words)) if text.path.suffix != ".py" else text.words
    )
    for match in re.finditer(r"\]\(\s*<?([^)>\s]*)", words):
        target = match[1]
        if target.startswith("#") or urlsplit(target).scheme:
            continue
        if not target or not (text.path.parent / unquote(target.split("#")[0])).exists():
            yield f"{text.at(match.start())}: {target or 'a link'} leads to no file"
    for match in re.finditer(r"\b(\w+)://([^\s<>\"'`)\]}|]*)", words):
        address = match[0].rstrip(".,;:")
        parts = urlsplit(address)
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
            yield f"{text.at(match.start())}: {address} is not https"
        elif parts.scheme == "https" and not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname or ""):
            yield f"{text.at(match.start())}: {address} names no site"


def formulas(text: Text) -> Iterator[str]:
    """TeX that MathJax refuses or shows raw."""
    words = blank(r"``[^`]+``|`[^`\n]*\$[^`\n]*`", without_code(text.words))
    if words.count("$$") % 2:
        yield f"{text.at(words.rindex('$$'))}: $$ that nothing closes"
    for match in re.finditer(r"\$\$(.*?)\$\$|^\.\. math::(.*?)(?=^\S|\Z)", words, re.MULTILINE | re.DOTALL):
        formula = match[0]
        if environment := re.search(r"\\begin\{(align|equation|gather|eqnarray|multline)\*?\}", formula):
            place = text.at(match.start())
            yield f"{place}: {environment[0]} inside a displayed formula; use aligned or gathered"
        opened, closed = (
            re.findall(r"\\begin\{(\w+\*?)\}", formula),
            re.findall(r"\\end\{(\w+\*?)\}", formula),
        )
        if sorted(opened) != sorted(closed):
            yield f"{text.at(match.start())}: \\begin and \\end do not match"
        if len(re.findall(r"\\left(?![a-z])", formula)) != len(re.findall(r"\\right(?![a-z])", formula)):
            yield f"{text.at(match.start())}: \\left and \\right do not match"


def problems(root: Path = ROOT) -> list[str]:
    wrong: list[str] = []
    for path in [*pages(root), *modules(root)]:
        whole = texts(path)
        checks = (
            [misspelt, links, formulas] if path.suffix == ".py" else [misspelt, pictures, links, formulas]
        )
        wrong += [fault for text in whole for check in checks for fault in check(text)]
        if path.suffix in (".md", ".ipynb") and "{include}" not in path.read_text(encoding="utf-8")[:20]:
            wrong += headings(whole)
    return wrong


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    wrong = problems()
    print("\n".join(wrong) or f"{len(pages())} pages and {len(modules())} modules read well")
    sys.exit(bool(wrong))
