"""Print the built book as one PDF, through the Chromium on PATH, with an outline and links that work.

    python tools/print_book.py _build/html _build/book.pdf

Pages are printed one at a time, in the order of _toc.yml, and joined. A link from page to page leads, in
the PDF, to where its target was printed. The same site gives the same pages.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from playwright.sync_api import Browser, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, Fit, FloatObject, NameObject, NullObject

ROOT = Path(__file__).resolve().parents[1]
# What a screen scrolls or unfolds, paper shows whole or not at all.
STYLE = """
@page { size: A4; margin: 18mm 15mm; @bottom-center { content: counter(page); font: 9pt sans-serif } }
html { font-size: 14px !important; counter-reset: page %d }
#jb-print-docs-body, .headerlink, .copybtn, details.above-input, .prev-next-footer, footer,
a:has(> .viewcode-link) { /* sources are not printed */
    display: none !important }
.bd-main .bd-content .bd-article h1:first-of-type { display: block; margin-top: 0 }
.bd-main .bd-content, .bd-main .bd-article-container { margin: 0 !important; padding: 0 !important }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere }
pre, [class*=highlight], .cell_input, .cell { /* long code is split over sheets */
    display: block !important; overflow: visible !important; break-inside: auto !important }
pre, p { orphans: 4; widows: 4 }
.cell:has(img) { break-after: avoid } /* its caption follows */
img, tr, div.math { break-inside: avoid }
.bd-main .bd-content table { break-inside: auto !important }
span.math { display: inline !important } /* a flexible box would be given a line of its own */
h1, h2, h3, h4, .admonition-title { break-after: avoid }
"""
# Chromium notes down the places of only those targets that are linked to from the same page: so each
# section, and each target that another page links to, is given a link, which nobody sees.
PREPARE = """async (targets) => {
    document.querySelectorAll("details:not(.above-input)").forEach(each => each.open = true);
    document.querySelectorAll("img[loading]").forEach(each => each.loading = "eager");
    const sections = [];
    for (const heading of document.querySelectorAll("article section > :is(h1, h2, h3)")) {
        const title = heading.cloneNode(true);
        title.querySelectorAll(".headerlink").forEach(each => each.remove());
        const words = title.textContent.replace(/\\s+/g, " ").trim();
        sections.push([Number(heading.tagName[1]), heading.parentElement.id, words]);
    }
    for (const target of [...targets, ...sections.map(each => each[1])]) {
        const link = document.createElement("a");
        link.href = "#" + target;
        link.hidden = true;
        document.body.append(link);
    }
    await Promise.all([...document.images].map(each => each.decode()));
    if (window.MathJax?.startup) await MathJax.startup.promise;
    await document.fonts.ready;
    return sections;
}"""


def contents(root: Path = ROOT) -> list[tuple[str, list[str]]]:
    """The book's parts, each with its pages; the root page stands before them, in a part without a name."""
    listed = yaml.safe_load((root / "_toc.yml").read_text())
    parts = [(part["caption"], list(_files(part["chapters"]))) for part in listed["parts"]]
    return [("", [listed["root"]]), *parts]


def _files(entries: list[dict]) -> Iterator[str]:
    """The pages of a table of contents, each before those below it."""
    for entry in entries:
        yield entry["file"]
        yield from _files(entry.get("sections", ()))


def linked_targets(site: Path, pages: list[str]) -> dict[str, set[str]]:
    """For each page, the targets on it that other pages link to."""
    targets: dict[str, set[str]] = {page: set() for page in pages}
    for page in pages:
        file = site / f"{page}.html"
        for link in re.findall(r'href="([^"#:]+\.html)#([^"]+)"', file.read_text(encoding="utf-8")):
            if (other := _page_of(site, (file.parent / unquote(link[0])).resolve())) in targets:
                targets[other].add(link[1])
    return targets


def _page_of(site: Path, file: Path) -> str:
    return os.path.relpath(file, site.resolve()).removesuffix(".html")


def print_pages(browser: Browser, site: Path, pages: list[str]) -> Iterator[tuple[str, list, PdfReader]]:
    """Each page's name, sections (level, target, title) and PDF, its sheets numbered on from the last."""
    targets, sheets = linked_targets(site, pages), 0
    tab = browser.new_page(color_scheme="light")
    tab.set_default_timeout(0)  # a busy machine is slow, not wrong
    for page in pages:
        tab.goto((site / f"{page}.html").resolve().as_uri())
        tab.add_style_tag(content=STYLE % sheets)
        sections = tab.evaluate(PREPARE, sorted(targets[page]))
        printed = PdfReader(io.BytesIO(tab.pdf(prefer_css_page_size=True, print_background=True)))
        sheets += len(printed.pages)
        yield page, sections, printed


def join(
    site: Path, parts: list[tuple[str, list[str]]], printed: Iterator[tuple[str, list, PdfReader]]
) -> PdfWriter:
    """Printed pages as one document: outlined by parts, pages and sections, linked into one another."""
    writer = PdfWriter()
    part_of = {pages[0]: caption for caption, pages in parts if caption}
    places: dict[tuple[str, str], ArrayObject] = {}  # by page and target; "" is the page's beginning
    sheets: list[str] = []  # the page that each sheet is of
    above: list = [None]  # the outline's entries that are open: the part, the page, its section
    for page, sections, document in printed:
        first = len(sheets)
        sheets += [page] * len(document.pages)
        writer.append(document, import_outline=False)
        places[page, ""] = _place(writer, first, None)
        anchors = {
            unquote(name.removeprefix("/")): place for name, place in document.named_destinations.items()
        }
        heights = {
            key: (first + document.get_destination_page_number(p), p.top) for key, p in anchors.items()
        }
        places |= {(page, key): _place(writer, *height) for key, height in heights.items()}
        if page in part_of:
            above = [writer.add_outline_item(title=part_of[page], page_number=first)]
        for level, target, title in sections:
            number, height = heights[target]
            entry = writer.add_outline_item(
                title=title, page_number=number, parent=above[level - 1], fit=Fit.xyz(top=height)
            )
            above[level:] = [entry]
    for page, sheet in zip(sheets, writer.pages, strict=True):
        for link in sheet.get("/Annots", ()):
            _lead_within(link.get_object(), site, page, places)
    return writer


def _place(writer: PdfWriter, number: int, top: float | None) -> ArrayObject:
    height = NullObject() if top is None else FloatObject(top)
    sheet = writer.pages[number].indirect_reference
    return ArrayObject([sheet, NameObject("/XYZ"), NullObject(), height, NullObject()])


def _lead_within(link: DictionaryObject, site: Path, page: str, places: dict) -> None:
    """Turn a link to a page or target of the book into one to its place in the document.

    Raises:
        ValueError: it leads to a file that is not printed.
    """
    if isinstance(named := link.get("/Dest"), str):
        key = page, unquote(named.removeprefix("/"))
    elif (address := urlsplit(str(link.get("/A", {}).get("/URI", "")))).scheme == "file":
        key = _page_of(site, Path(unquote(address.path))), unquote(address.fragment)
    else:
        return
    if (place := places.get(key) or places.get((key[0], ""))) is None:
        raise ValueError(f"{page} links to {key[0]}, which is not in the book")
    link.pop("/A", None)
    link[NameObject("/Dest")] = place


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def main(site: Path, target: Path) -> None:
    if (path := chromium()) is None:
        sys.exit("error: Chromium prints the book, and there is none on PATH")
    parts = contents()
    pages = [page for _, chapters in parts for page in chapters]
    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=options)
        book = join(site, parts, _with_progress(print_pages(browser, site, pages), len(pages)))
        browser.close()
    configuration = yaml.safe_load((ROOT / "_config.yml").read_text())
    book.metadata = {"/Title": configuration["title"], "/Author": configuration["author"]}  # no dates
    book.page_mode = "/UseOutlines"
    book.compress_identical_objects()  # each page came with its own fonts
    aside = target.with_suffix(".part.pdf")
    book.write(aside)
    aside.replace(target)
    print(f"{target}: {len(book.pages)} sheets, {target.stat().st_size / 1e6:.1f} MB")


def _with_progress(printed: Iterator, total: int) -> Iterator:
    for number, page in enumerate(printed, start=1):
        print(f"printed {number} of {total}: {page[0]}", flush=True)
        yield page


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("site", type=Path, help="the folder of the built pages")
    asked.add_argument("pdf", type=Path, help="the file to write")
    given = asked.parse_args()
    main(given.site, given.pdf)
