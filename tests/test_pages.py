"""Every page of the built book: it reads well, moves little, is light, and open to all; and the search.

Needs `make book` and a Chromium on PATH; without either these tests are skipped.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import DESK, EXPLORERS, SITE, TYPESET, opened, scrolls_sideways, settled

AXE = Path(__file__).parent / "vendored" / "axe.min.js"  # what a page lacks for those who cannot see it well
WIDTHS = (390, 768, 1440)


def pages() -> list[Path]:
    """Every page of the book itself; those that Sphinx adds (index, search) hold no text of ours."""
    return sorted((SITE / "book").glob("*.html"))


def test_the_cut_network_is_noticed(browser):
    with (
        pytest.raises(AssertionError, match=r"example\.org"),
        opened(browser, EXPLORERS, mathematics=False) as page,
    ):
        page.evaluate("fetch('https://example.org/x').catch(() => 0)")


READ = """() => {
    const drawn = (e) => e.querySelector("mjx-container");
    const bare = [...document.querySelectorAll(".math")].filter((e) => !drawn(e));
    const article = document.querySelector("article").cloneNode(true);
    article.querySelectorAll("pre, code, script, mjx-container").forEach((e) => e.remove());
    const raw = /\\$\\$|\\\\[([]|\\\\begin\\{|\\{(eq|cite|doc|ref)[:}]/;
    const count = (selector) => document.querySelectorAll(selector).length;
    return {
        "formulas not typeset": bare.map((e) => e.textContent),
        "raw TeX": article.textContent.match(raw)?.[0] ?? null,
        "failed formulas": count("mjx-merror, .math .error"),
        "titles": count("article h1"),
        "images not described": count("article img:not([alt]), article img[alt='']"),
        "language": document.documentElement.lang,
    };
}"""
READS_WELL = {
    "formulas not typeset": [],
    "raw TeX": None,
    "failed formulas": 0,
    "titles": 1,
    "images not described": 0,
    "language": "en",
}
SHIFTS = """
    window.shifts = [];
    new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value)))
        .observe({type: "layout-shift", buffered: true});
"""
# Formulas hold thousands of elements, which MathJax describes by itself; tables may have an empty corner; a
# long signature is to Sphinx a list without terms.
AUDIT_PAGE = """(rule) => {
    document.querySelectorAll("mjx-container").forEach((e) => e.replaceChildren("x"));
    const all = {rules: {"empty-table-header": {enabled: false}}};
    const only = rule ? {runOnly: {type: "rule", values: [rule]}} : all;
    const options = {resultTypes: ["violations"], preload: false, ...only};
    return axe.run({exclude: ["dt.sig > dl"]}, options).then(({violations}) => violations.map(
        ({id, nodes}) => `${id} (${nodes.length}): ${nodes[0].target} ${nodes[0].html.slice(0, 120)}`));
}"""
# A page's budget, in Lighthouse's terms: what is sent, compressed, figures apart; requests; how far things
# move while it loads; the main thread's own time in seconds, which a busy machine does not lengthen.
# Lighthouse calls a shift of 0.1 good, which all pages keep to but one, with notation in its first screen.
BUDGET = {"bytes": 1_000_000, "requests": 60, "shift": 0.15, "seconds": 8.0}


def test_every_page_reads_well_is_light_and_open_to_all(browser):
    """At every width, in light and dark: one visit a page, for its formulas are the slowest of all."""
    assert len(pages()) >= 3
    asked: list[str] = []
    faults: list[str] = []
    with opened(browser, pages()[0], color_scheme="light") as page:
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(SHIFTS)
        processor = page.context.new_cdp_session(page)
        processor.send("Performance.enable", {"timeDomain": "threadTicks"})
        for path in pages():
            asked.clear()
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(DESK["viewport"])
            before = thread_seconds(processor)
            page.goto(path.as_uri())
            page.evaluate(TYPESET)
            settled(page)
            cost = {
                "bytes": sent_bytes(asked),
                "requests": len(asked),
                "shift": page.evaluate("shifts.reduce((sum, x) => sum + x, 0)"),
                "seconds": thread_seconds(processor) - before,
            }
            found = page.evaluate(READ)
            faults += [f"{path.name}: {k} {v}" for k, v in found.items() if v != READS_WELL[k]]
            faults += [f"{path.name}: {k} {v} > {BUDGET[k]}" for k, v in cost.items() if v > BUDGET[k]]
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                if scrolls_sideways(page):
                    faults.append(f"{path.name}: scrolls sideways at {width} pixels")
            page.evaluate(AXE.read_text(encoding="utf-8"))
            faults += [f"{path.name}: {fault}" for fault in page.evaluate(AUDIT_PAGE, None)]
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            faults += [f"{path.name}, dark: {fault}" for fault in page.evaluate(AUDIT_PAGE, "color-contrast")]
    assert not faults, "\n".join(faults)


def thread_seconds(session) -> float:
    """What the main thread of a page has computed so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")


def sent_bytes(urls: list[str]) -> int:
    """Size of what a page loads, figures apart, as a web server sends it; fonts are compressed already."""
    files = {Path(unquote(urlsplit(url).path)) for url in urls if url.startswith("file:")}
    assert len(files) > 5
    return sum(compressed(path) for path in files if path.suffix not in (".png", ".svg", ".jpg"))


@functools.cache
def compressed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes()))


def test_an_audit_finds_what_is_wrong(browser, tmp_path):
    """A button without a name, grey on grey, and a page that moves."""
    page_file = tmp_path / "bad.html"
    page_file.write_text(
        "<!doctype html><html lang='en'><title>Bad</title><link rel='icon' href='data:,'><main><h1>Bad</h1>"
        "<button></button><p style='color: #999; background: #aaa'>Grey</p></main>"
    )
    with opened(browser, page_file, mathematics=False) as page:
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = {fault.split()[0] for fault in page.evaluate(AUDIT_PAGE, None)}
        assert found == {"button-name", "color-contrast"}
        assert [fault.split()[0] for fault in page.evaluate(AUDIT_PAGE, "color-contrast")] == [
            "color-contrast"
        ]


def test_search_works_from_disk(browser):
    with opened(browser, SITE / "search.html", "?q=Wasserstein") as page:
        page.wait_for_selector("#search-results li a")
        link = page.locator("#search-results li a").first
        assert (SITE / urlsplit(link.get_attribute("href")).path).exists()


# ---------------------------------------------------------------- the Gaussian explorer
