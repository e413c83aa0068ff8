"""tools/print_book.py: sheets in the book's order, an outline, and no link that leaves the document."""

from __future__ import annotations

import re
from pathlib import Path

import print_book
import pytest
from pypdf import PdfReader

PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>{title}</title></head><body>
<article class="bd-article"><section id="{id}"><h1>{title}<a class="headerlink" href="#{id}">#</a></h1>
{body}</section></article></body></html>"""
LONG = "".join(f"<p>line {number}</p>" for number in range(80))  # more than a sheet


@pytest.fixture
def site(tmp_path) -> Path:
    (tmp_path / "book").mkdir()
    pages = {
        "first": ("One", "<a href='second.html#far'>far</a> <a href='https://example.org/'>out</a>"),
        "second": ("Two", f"{LONG}<section id='far'><h2>Far</h2><a href='#two'>up</a></section>"),
    }
    for name, (title, body) in pages.items():
        text = PAGE.format(title=title, id=title.lower(), body=body.replace("'", '"'))
        (tmp_path / "book" / f"{name}.html").write_text(text)
    return tmp_path


@pytest.fixture
def contents(monkeypatch):
    parts = [("", ["book/first"]), ("Part", ["book/second"])]
    monkeypatch.setattr(print_book, "contents", lambda: parts)


def links(document: PdfReader) -> list:
    return [link.get_object() for sheet in document.pages for link in sheet.get("/Annots", ())]


@pytest.mark.skipif(print_book.chromium() is None, reason="needs Chromium on PATH")
def test_a_book_of_two_pages(site, contents, tmp_path):
    for name in ("once", "twice"):
        print_book.main(site, tmp_path / f"{name}.pdf")
    document = PdfReader(tmp_path / "once.pdf")
    assert len(document.pages) >= 3
    for number, sheet in enumerate(document.pages, start=1):
        words = sheet.extract_text().split()
        assert str(number) in (words[0], words[-1])  # at the foot, through the whole book

    first, part, (second, (far,)) = document.outline
    assert [entry.title for entry in (first, part, second, far)] == ["One", "Part", "Two", "Far"]
    places = [document.get_destination_page_number(entry) for entry in (first, part, second, far)]
    assert places == [0, 1, 1, len(document.pages) - 1]

    across, out, up = links(document)
    assert out["/A"]["/URI"] == "https://example.org/"
    assert across["/Dest"][0].get_object() == document.pages[-1].get_object()
    assert up["/Dest"][0].get_object() == document.pages[1].get_object()
    assert b"file:" not in (tmp_path / "once.pdf").read_bytes()
    assert "/CreationDate" not in document.metadata


@pytest.mark.skipif(print_book.chromium() is None, reason="needs Chromium on PATH")
def test_a_link_out_of_the_book_to_a_file_is_an_error(site, contents, tmp_path):
    page = site / "book" / "first.html"
    page.write_text(page.read_text().replace("second.html#far", "third.html"))
    with pytest.raises(ValueError, match="book/first links to book/third, which is not in the book"):
        print_book.main(site, tmp_path / "book.pdf")


def test_the_books_contents_are_those_of_the_table():
    (_, root), *parts = print_book.contents()
    assert root == ["book/intro"] and all(caption for caption, _ in parts)
    table = (print_book.ROOT / "_toc.yml").read_text()
    below = [page for _, pages in parts for page in pages]
    assert [*root, *below] == re.findall(r"(?:root|file): (\S+)", table)  # at whatever depth, in its order
