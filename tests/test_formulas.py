"""Formulas on a phone (book/_static/formulas.js): what is too wide is broken into lines, and says the same.

Needs `make book` and a Chromium on PATH; without either these tests are skipped.
"""

from __future__ import annotations

import json
import re

import pytest
from browsing import ROOT, SITE, opened, settled

PAGES = ("gaussian_w2", "numerical_ot", "objective", "mini_batch", "gaussian_geometry")
# Every displayed formula of a page, broken in both ways, as it was before MathJax.
BROKEN = """(texts) => texts.map((tex) => [
    atRelations(tex), inLines(asLines(statements(tex, true))), statements(tex, true).flat().length])"""


def said(tex: str) -> str:
    """A formula without what only sets it: lines, alignment, blanks."""
    tex = re.sub(
        r"\\begin\{(aligned|split)\}|\\end\{(aligned|split)\}|\\\\(?:\[\w+\])?|\\q?quad(?![a-zA-Z])", "", tex
    )
    return re.sub(r"[&\s]", "", tex)


def formulas(name: str) -> list[str]:
    text = (ROOT / "book" / f"{name}.ipynb").read_text(encoding="utf-8")
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return [
        tex for cell in cells for tex in re.findall(r"^\$\$\n(.*?)\n\$\$", cell, re.DOTALL | re.MULTILINE)
    ]


def test_lines_say_what_the_formula_said(browser):
    texts = [tex for name in PAGES for tex in formulas(name) if "{cases}" not in tex and "matrix}" not in tex]
    assert len(texts) > 70
    with opened(browser, SITE / "book" / "cite.html", mathematics=False) as page:
        found = page.evaluate(BROKEN, texts)
    for tex, (at_relations, everywhere, lines) in zip(texts, found, strict=True):
        assert said(at_relations) == said(tex) and said(everywhere) == said(tex)
        assert everywhere.count(r"\\") == lines - 1


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        ("a = b + c", ["a", "= b", "+ c"]),
        (r"f(x = y) \le |a - b|^2 - \| c + d \|", [r"f(x = y)", r"\le |a - b|^2", r"- \| c + d \|"]),
        (
            r"R_+ = - x_{i + j}, \qquad \text{so} \qquad y < z",
            ["R_+", "= - x_{i + j},", r"\text{so} \quad y", "< z"],
        ),
        (
            r"\left( a = b \right) \sim P(x \mid z) - \frac{1 + 2}{3}",
            [r"\left( a = b \right)", r"\sim P(x \mid z)", r"- \frac{1 + 2}{3}"],
        ),
        (r"\begin{aligned} a &= b \\ &\quad + c \end{aligned}", ["a", "= b", "+ c"]),
    ],
)
def test_breaks_are_at_the_top_level(browser, tex, expected):
    with opened(browser, SITE / "book" / "cite.html", mathematics=False) as page:
        (found,) = page.evaluate(
            "(texts) => texts.map((tex) => statements(tex, true).flat().filter(bare))", [tex]
        )
    clean = [re.sub(r"\s+", " ", re.sub(r"^\s*\\quad", "", piece)).strip() for piece in found]
    assert clean == expected


SCROLLED = """() => [...document.querySelectorAll("div.math.scrolls")].map((e) => written.get(e))"""


@pytest.mark.parametrize("name", PAGES)
def test_no_formula_scrolls_on_a_phone(browser, name):
    wide = {"viewport": {"width": 1440, "height": 900}}
    with opened(browser, SITE / "book" / f"{name}.html", **wide) as page:
        assert page.locator(".math.broken").count() == 0
        page.set_viewport_size({"width": 390, "height": 844})
        settled(page)
        page.evaluate("fitting")
        assert page.evaluate(SCROLLED) == []
        assert page.locator(".math.broken").count() > 0
        page.set_viewport_size(wide["viewport"])
        settled(page)
        page.evaluate("fitting")
        assert page.locator(".math.broken").count() == 0
