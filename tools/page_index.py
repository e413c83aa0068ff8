"""What is on every page? A Sphinx extension: search by section, and what a link leads to.

A page opened from disk may load scripts and nothing else. So the build reads its own pages and writes two:
``_static/sections.js``, the text of every section, which search.html looks through, and ``_static/tips.js``,
what equations, theorems, references and terms say, which the pages show where a link to one is pointed at.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from bs4 import BeautifulSoup, Tag

LONGEST = 900  # characters of a tip's text: a theorem and not its proof
SKIPPED = "script, style, svg, pre, .headerlink, details.hide, .toctree-wrapper, mjx-container, .ex-message"


def sections(page: Path, name: str) -> list[dict[str, str]]:
    """The sections of a page, in order: title, anchor, and the text that is theirs and no subsection's."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article")
    if article is None or article.h1 is None:
        return []
    for unwanted in article.select(SKIPPED):
        unwanted.decompose()
    whole, found = _text(article.h1), []
    for section in article.select("section"):
        head = section.find(re.compile("^h[1-6]$"), recursive=False)
        if head is not None:
            own = [part for part in section.children if isinstance(part, Tag) and part.name != "section"]
            text = " ".join(_text(part) for part in own if part is not head)
            anchor = "" if head.name == "h1" else section.get("id", "")
            found.append({"page": name, "whole": whole, "title": _text(head), "anchor": anchor, "text": text})
    return found


def tips(page: Path, name: str) -> dict[str, str]:
    """What a link shows, by ``page#anchor``: an equation's TeX, or HTML without links of its own."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    found: dict[str, str] = {}
    for equation in soup.select("div.math[id]"):
        for number in equation.select(".eqno"):
            number.decompose()
        found[equation["id"]] = _escaped(equation.get_text().strip())
    for proof in soup.select("div.proof[id]"):
        found[proof["id"]] = _inner(proof)
    for citation in soup.select("div.citation[id]"):
        found[citation["id"]] = _inner(citation)
    for term in soup.select("dl.glossary dt[id]"):
        meaning = term.find_next_sibling("dd")
        if meaning:
            found[term["id"]] = f"<p><b>{_escaped(_text(term))}</b></p>{_inner(meaning)}"
    return {f"{name}#{anchor}": html for anchor, html in found.items()}


def _text(tag: Tag) -> str:
    return re.sub(r"\s+", " ", tag.get_text(" ", strip=True)).replace("#", "").strip()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _inner(tag: Tag) -> str:
    """HTML of a tag's content, paragraph by paragraph as far as a tip goes; links and anchors become text."""
    parts, length = [], 0
    shown = ("> p", "> div p", "> span", "> div > div.math", "> section p", "> section > div.math")
    for part in tag.select(", ".join(f":scope {one}" for one in shown)):
        copy = BeautifulSoup(str(part), "html.parser")
        for unwanted in copy.select(".headerlink, .eqno, .backrefs"):
            unwanted.decompose()
        for link in copy.select("a"):
            link.unwrap()
        for one in copy.select("[id]"):
            del one["id"]
        parts.append(str(copy))
        length += len(copy.get_text())
        if length > LONGEST:
            break
    return "".join(parts)


def _write(app, exception) -> None:
    if exception is not None or app.builder.format != "html":
        return
    root, texts, known = Path(app.outdir), [], {}
    for page in sorted((root / "book").glob("*.html")):
        name = page.relative_to(root).as_posix()
        texts += sections(page, name)
        known |= tips(page, name)
    static = root / "_static"
    for file, call, content in (("sections.js", "wwaeSections", texts), ("tips.js", "wwaeTips", known)):
        written = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        (static / file).write_text(f"{call}({written});\n", encoding="utf-8")


def setup(app) -> dict:
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
