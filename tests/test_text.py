"""tools/check_text.py: the text is sound, and each kind of fault would be found."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import check_site  # noqa: E402
import check_text  # noqa: E402

SITE = ROOT / "_build" / "html"


def test_the_text_is_sound():
    assert check_text.problems() == []


def test_it_reads_every_page_and_module():
    names = {path.name for path in [*check_text.pages(), *check_text.modules()]}
    assert {
        "README.md",
        "CONTRIBUTING.md",
        "symbols.md",
        "api.rst",
        "objective.ipynb",
        "gaussian.py",
    } <= names
    assert len(check_text.dictionary()) > 50_000


def faults(folder: Path, text: str, name: str = "README.md") -> list[str]:
    folder.joinpath("other.md").write_text("# Other\n")
    folder.joinpath(name).write_text(text)
    return check_text.problems(folder)


SOUND = """\
# Title

The colour of $\\mathcal{optimizer}$ and `color`, see [the other page](other.md#other), <https://example.org/x>.

## Section

```{admonition} Takeaway
A directive holds prose.
```

```python
# neither a title nor colored prose: [x](missing.md)
```

### Below

![A blue square](other.md)

$$
\\begin{aligned} a &= \\left( b \\right) \\end{aligned}
$$ (eq-ot-x)
"""


def test_a_sound_page_passes(tmp_path):
    assert faults(tmp_path, SOUND) == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("The colour", "The colour is recieved", "README.md:3: 'recieved'; write received"),
        ("The colour", "The color", "README.md:3: 'color'; write colour"),
        ("holds prose", "holds minimized prose", "README.md:8: 'minimized'; write minimised"),
        ("# Title", "Words", "no title before"),
        ("## Section", "# Section", "README.md:5: a second title"),
        ("### Below", "#### Below", "README.md:15: heading of level 4 after one of level 2"),
        ("![A blue square]", "![]", "README.md:17: a picture without alternative text"),
        ("![A blue square](other.md)", '<img src="other.md" alt="">', "without alternative text"),
        ("![A blue square](other.md)", "```{figure} other.md\nCaption\n```", "without alternative text"),
        ("other.md#other", "missing.md", "README.md:3: missing.md leads to no file"),
        ("https://example", "http://example", "README.md:3: http://example.org/x is not https"),
        ("https://example.org", "https://example", "names no site"),
        ("aligned}", "align}", "use aligned"),
        ("\\end{aligned}", "", "do not match"),
        ("\\right)", ")", "do not match"),
        ("$$ (eq-ot-x)", "", "nothing closes"),
    ],
)
def test_a_faulty_page_fails(tmp_path, before, after, complaint):
    assert before in SOUND
    complaints = faults(tmp_path, SOUND.replace(before, after))
    assert any(complaint in line for line in complaints), complaints


def test_notebooks_are_read_as_one_page_and_named_by_cell(tmp_path):
    (tmp_path / "book").mkdir()
    cells = [("markdown", "# Title"), ("code", "color = 1"), ("markdown", "### Too deep, and colored")]
    notebook = {"cells": [{"cell_type": kind, "source": [text]} for kind, text in cells]}
    complaints = faults(tmp_path, json.dumps(notebook), "book/page.ipynb")
    assert [fault.split("page.ipynb ")[1] for fault in complaints] == [
        "cell 2: 'colored'; write coloured",
        "cell 2: heading of level 3 after one of level 1",
    ]


def test_docstrings_and_comments_are_read_and_names_are_not(tmp_path):
    (tmp_path / "tools").mkdir()
    module = '"""Words, `color`."""\n\nwidht = color = "recieve"  # it was recieved\n'
    (fault,) = faults(tmp_path, module, "tools/module.py")
    assert fault.endswith("tools/module.py:3: 'recieved'; write received")


# ---------------------------------------------------------------- the built site


class Article(HTMLParser):
    """Levels of the headings within the article, and pictures without alternative text."""

    def __init__(self, path: Path):
        super().__init__()
        self.inside, self.levels, self.undescribed = 0, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "article":
            self.inside += 1
        elif self.inside and len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self.levels.append(int(tag[1]))
        elif self.inside and tag == "img" and not (values.get("alt") or "").strip():
            self.undescribed.append(values.get("src"))

    def handle_endtag(self, tag):
        self.inside -= tag == "article"


@pytest.fixture(scope="module")
def built() -> list[Path]:
    """The pages of the book as built, where they are those of the sources."""
    if not (SITE / "index.html").exists():
        pytest.skip("needs the built site: make book")
    changed = max(
        path.stat().st_mtime for path in [*check_text.pages(), ROOT / "_toc.yml", ROOT / "_config.yml"]
    )
    if changed > (SITE / "index.html").stat().st_mtime:
        pytest.skip("the built site is older than its pages: make book")
    return sorted((SITE / "book").glob("*.html"))


def test_every_link_of_the_built_site_leads_somewhere(built):
    assert check_site.problems(SITE) == []


def test_built_pages_have_headings_in_order_and_described_pictures(built):
    for path in built:
        article = Article(path)
        assert article.undescribed == [], path.name
        assert article.levels[0] == 1 and article.levels.count(1) == 1, path.name
        steps = [b - a for a, b in zip(article.levels, article.levels[1:], strict=False)]
        assert max(steps, default=0) <= 1, f"{path.name}: {article.levels}"
