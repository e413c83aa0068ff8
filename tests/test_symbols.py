"""Every symbol that a theory chapter uses in several places is in the table of symbols."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = ("gaussian_w2", "numerical_ot", "objective", "mini_batch", "gaussian_geometry")
DRESS = "mathcal|mathfrak|mathbb|mathbf|mathrm|operatorname|hat|bar|tilde|widehat"
SYMBOL = re.compile(rf"\\(?:{DRESS})\s*\{{?\\?[a-zA-Z]+\}}?|\\[a-zA-Z]+|[a-zA-Z]")
WORDS = re.compile(r"\\(?:text|begin|end|underbrace)\{[^}]*\}|\\dot\b")
# TeX's punctuation, relations and functions that have one meaning in all of mathematics.
UNIVERSAL = re.compile(
    r"\\([bB]ig[lr]|dots|frac|tfrac|ge|le|ne|in|inf|min|max|sup|log|int|infty|mapsto|to|q?quad|sim|sqrt"
    r"|sum|times|top|cdot|mid|underbrace|textstyle|exp|pm)"
)
BOUND = set("abehopruvxy")  # arguments of functions and variables of one proof


def symbols(markdown: str) -> set[str]:
    displayed = re.findall(r"\$\$(.*?)\$\$", markdown, re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.*?\$\$", "", markdown, flags=re.DOTALL))
    symbols = SYMBOL.findall(" ".join(WORDS.sub("", formula) for formula in displayed + inline))
    return {re.sub(r"[\s{}]", "", symbol) for symbol in symbols}


def used(chapter: str) -> set[str]:
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    times = Counter(symbol for text in prose for symbol in symbols(text))
    return {symbol for symbol, count in times.items() if count > 1}


def explained() -> set[str]:
    rows = re.findall(r"^\| ([^|]+) \|", (BOOK / "symbols.md").read_text(encoding="utf-8"), re.MULTILINE)
    return set().union(*map(symbols, rows))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_symbol_of_a_chapter_is_explained(chapter):
    missing = used(chapter) - explained() - BOUND
    assert {symbol for symbol in missing if not UNIVERSAL.fullmatch(symbol)} == set()


def test_the_search_sees_symbols_where_they_are():
    assert symbols(r"a $\hat S_1$ and $\mathcal{W}$, $$x \sim P$$ but not Q") == {
        r"\hatS", r"\mathcalW", "x", r"\sim", "P",
    }  # fmt: skip
    assert {"S", "W", r"\lambda", r"\operatorname" + "tr"} <= used("gaussian_w2")
