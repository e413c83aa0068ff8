"""The built book in headless Chromium, from disk, the network cut: what the tests of the pages share."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from wwae_lib.book import explorers

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
EXPLORERS = SITE / "book" / "explorers.html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TYPESET = "window.MathJax && MathJax.startup && MathJax.startup.promise"
OUTSIDE = re.compile(r"^(https?|wss?|ftp):")
# Reduced motion: the theme scrolls smoothly otherwise, and what is measured would still be moving.
DESK = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def assert_current() -> None:
    for path in explorers.explorer_folder().iterdir():
        built = SITE / "_static" / "explorers" / path.name
        assert built.exists() and built.read_bytes() == path.read_bytes(), (
            f"{built} is out of date: make book"
        )


def _fault(request) -> list[str]:
    """What failed; not what a page no longer needs: it is left, or shows a figure's other twin."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url} failed: {request.failure}"]


@contextlib.contextmanager
def opened(
    browser, path: Path, query: str = "", mathematics: bool = True, asked: list[str] | None = None, **context
):
    """A page opened from disk. When it closes: nothing failed in it, and nothing was asked of the network.

    What it asks for, from the first on, goes to the list ``asked``.

    Without `mathematics` formulas stay TeX, and the page opens in a third of the time.
    """
    complaints: list[str] = []
    with contextlib.closing(browser.new_context(**(DESK | context))) as own:
        own.set_default_timeout(120_000)  # a busy machine is slow, not wrong
        page = own.new_page()
        page.route(OUTSIDE, lambda route: (complaints.append(route.request.url), route.abort()))
        if not mathematics:
            page.route(re.compile("tex-mml-chtml"), lambda route: route.fulfill(body=""))
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if asked is not None:
            page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: complaints.extend(_fault(request)))
        page.goto(path.as_uri() + query)
        if mathematics and context.get("java_script_enabled", True):
            page.evaluate(TYPESET)
        yield page
        assert not complaints, "\n".join(complaints)


def scrolls_sideways(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def settled(page) -> None:
    """Two frames: what was asked for is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
