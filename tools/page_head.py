"""How does a page look from outside? A Sphinx extension: description, preview and icon of every page.

The description is the page's takeaway, or its first paragraph. Previews in other places need absolute
addresses: where there is a repository on GitHub they are those of its published pages, else the picture is
left out.
"""

from __future__ import annotations

import re
from html import escape

import colab
from docutils import nodes

TITLE = "Wasserstein-Wasserstein Auto-Encoders, reproduced"
LONGEST = 220  # characters of a description
PICTURE = "_static/overview.png"
GITHUB = re.compile(r"https://github\.com/([^/]+)/([^/]+)")


def description(doctree) -> str:
    """The takeaway, else the first paragraph; whole sentences of it, as far as they fit."""
    boxes = [box for box in doctree.findall(nodes.admonition) if "tip" in box.get("classes", ())]
    paragraphs = list((boxes[0] if boxes else doctree).findall(nodes.paragraph))
    text = re.sub(r"\s+", " ", paragraphs[0].astext() if paragraphs else "").strip()
    if len(text) <= LONGEST:
        return text
    cut = text[:LONGEST]
    return cut[: cut.rindex(". ") + 1] if ". " in cut else cut.rsplit(" ", 1)[0] + " ..."


def published() -> str | None:
    """The address of the published site, where the repository is on GitHub."""
    found = GITHUB.fullmatch(colab.address() or "")
    return f"https://{found[1].lower()}.github.io/{found[2]}/" if found else None


def _describe(app, page: str, template: str, context: dict, doctree) -> None:
    if doctree is None:
        return
    title = re.sub("<[^>]+>", "", context.get("title", "")) or TITLE
    whole = title if title == TITLE else f"{title}: {TITLE}"
    if title == TITLE:
        context["docstitle"] = ""  # or the tab would say it twice
    words = {"og:title": whole, "og:type": "article", "og:site_name": TITLE}
    said = description(doctree)
    if said:
        words["og:description"] = said
    if site := published():
        words |= {"og:url": f"{site}{page}.html", "og:image": site + PICTURE}
    tags = [f'<meta property="{name}" content="{escape(text)}">' for name, text in words.items()]
    if said and 'name="description"' not in context["metatags"]:
        tags.append(f'<meta name="description" content="{escape(said)}">')
    context["metatags"] += "\n" + "\n".join(tags) + "\n"


def setup(app) -> dict:
    app.connect("html-page-context", _describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
