"""The explorers in headless Chromium, from disk, the network cut.

Needs `make book` and a Chromium on PATH; without either these tests are skipped, but for those of the
formulas, for which Node or Chromium will do.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import EXPLORERS, PHONE, ROOT, SITE, opened, scrolls_sideways, settled
from PIL import Image

from wwae_lib import runs
from wwae_lib.book import explorers
from wwae_lib.book.geometry import transport_map
from wwae_lib.data import DATASETS
from wwae_lib.gaussian import w2_squared

AUDIT = Path(__file__).with_name("audit.js")
RESULTS = ROOT / "book" / "results"


def gaussians(generator: np.random.Generator, n: int) -> list[dict]:
    """Pairs of Gaussians as the page writes them, with standard deviations between 0.15 and 1.5."""
    errors = []
    for _ in range(2 * n):
        angle, axes = generator.uniform(0, np.pi), generator.uniform(0.15, 1.5, 2)
        (a, b), (_, c) = explorers._covariance(angle, axes)
        errors.append({"mean": generator.normal(size=2).tolist(), "cov": [a, b, c]})
    return [{"first": x, "second": y} for x, y in zip(errors[:n], errors[n:], strict=True)]


def full(covariance: list[float]) -> torch.Tensor:
    a, b, c = covariance
    return torch.tensor([[a, b], [b, c]], dtype=torch.float64)


def ours(first: dict, second: dict) -> float:
    mean = [torch.tensor(g["mean"], dtype=torch.float64) for g in (first, second)]
    return w2_squared(mean[0], full(first["cov"]), mean[1], full(second["cov"])).item()


@pytest.fixture
def by_the_page(request):
    """Calls a JavaScript function where the Gaussian explorer's own file is loaded: in Node, or Chromium."""
    script = (explorers.explorer_folder() / "gaussian.js").read_text(encoding="utf-8")

    def call(function: str, value: object):
        if node := shutil.which("node"):
            around = "globalThis.window = globalThis; globalThis.document = { getElementById: () => null };"
            program = f"{around}{script}\nconsole.log(JSON.stringify(({function})({json.dumps(value)})));"
            done = subprocess.run([node, "-"], input=program, check=True, capture_output=True, text=True)
            return json.loads(done.stdout)
        page = request.getfixturevalue("chromium").new_page()
        page.add_script_tag(content=script)
        return page.evaluate(function, value)

    return call


def test_the_pages_formulas_are_the_librarys(by_the_page):
    pairs = gaussians(np.random.default_rng(0), 200)
    pairs += [{"first": pair["first"], "second": pair["first"]} for pair in pairs[:5]]
    found = by_the_page(
        """(pairs) => pairs.map(({first, second}) => {
            const g = wwaeExplorer.gaussian;
            return {
                w2: g.w2Squared(first, second), root: g.root(first.cov), axes: g.axes(first.cov),
                map: g.mapMatrix(first, second), third: g.between(first, second, 0.3),
                sent: g.transport(first, second, g.mapMatrix(first, second), [0.3, -0.7]),
            };
        })""",
        pairs,
    )
    # Entries are at most a few units, variances at least 0.02: double precision leaves far less than 1e-12.
    close = {"rtol": 1e-12, "atol": 1e-12}
    for pair, page_says in zip(pairs, found, strict=True):
        first, second = pair["first"], pair["second"]
        assert page_says["w2"]["total"] == pytest.approx(ours(first, second), rel=1e-12, abs=1e-12)
        assert page_says["w2"]["bures"] >= 0
        root, matrix = full(page_says["root"]), full(page_says["map"])
        torch.testing.assert_close(root @ root, full(first["cov"]), **close)
        assert (torch.linalg.eigvalsh(root) > 0).all()
        zero = torch.zeros(2, dtype=torch.float64)
        expected = transport_map(zero, full(first["cov"]), zero, full(second["cov"]))[0]
        # Through S1^{-1/2} twice: the condition number of S1, at most 100, multiplies the rounding.
        torch.testing.assert_close(matrix, expected, rtol=1e-11, atol=1e-11)
        at, *means = (
            torch.tensor(x, dtype=torch.float64) for x in ([0.3, -0.7], first["mean"], second["mean"])
        )
        sent = means[1] + expected @ (at - means[0])
        np.testing.assert_allclose(page_says["sent"], sent.numpy(), rtol=1e-10, atol=1e-10)
        # Constant speed: the distance from the start at t is t times the whole.
        assert ours(first, page_says["third"]) == pytest.approx(
            0.09 * ours(first, second), rel=1e-9, abs=1e-12
        )
        again = explorers._covariance(page_says["axes"]["angle"], page_says["axes"]["axes"])
        np.testing.assert_allclose(again, full(first["cov"]).numpy(), **close)


def shown(page) -> float:
    """The squared distance as the page prints it, checked against the library for the state on the screen."""
    first, second = page.evaluate("wwaeExplorer.gaussian.gaussians()")
    number = float(page.locator("#gaussian-explorer [data-value=total]").inner_text())
    assert number == pytest.approx(ours(first, second), abs=0.00501)  # two decimals
    return number


def handle(page, name: str):
    return page.locator(f"#gaussian-explorer [data-handle={name}]")


def centre(locator) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag_by_mouse(page, locator, by: tuple[float, float]) -> None:
    x, y = centre(locator)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0] / 2, y + by[1] / 2)
    page.mouse.move(x + by[0], y + by[1])
    page.mouse.up()


def drag_by_touch(page, start: tuple[float, float], by: tuple[float, float]) -> None:
    session = page.context.new_cdp_session(page)
    (x, y), steps = start, 6
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for k in range(1, steps + 1):
        point = {"x": x + by[0] * k / steps, "y": y + by[1] * k / steps}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


HANDLES = [f"{which}-{part}" for which in ("first", "second") for part in ("mean", "axis0", "axis1")]


def test_two_gaussians_are_drawn_before_any_touch_and_without_javascript(browser):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        live = shown(page)
        arrows = lambda: page.locator("#gaussian-explorer .ex-particles").get_attribute("d").count("M")  # noqa: E731
        usual = arrows()
        assert usual > 20
        page.get_by_role("button", name="To N(0, I)").click()
        assert arrows() == usual, "as many arrows, however narrow the Gaussian"
    with opened(browser, EXPLORERS, java_script_enabled=False) as page:
        figure = page.locator("#gaussian-explorer")
        assert figure.locator("svg").bounding_box()["height"] > 200
        assert float(figure.locator("b").first.inner_text()) == live
        assert figure.locator("noscript").count() == 1
        present = json.loads(page.locator("#latent-explorer").get_attribute("data-runs"))
        assert page.locator("#latent-explorer .ex-map").count() == len(next(iter(present.values())))


@pytest.mark.parametrize("preset", ["shifted", "turned", "prior"])
def test_a_link_opens_the_gaussians_at_an_example(browser, preset):
    with opened(browser, EXPLORERS, f"?gaussian={preset}#two-gaussians", mathematics=False) as page:
        first, second = page.evaluate("wwaeExplorer.gaussian.gaussians()")
        turned = page.evaluate("wwaeExplorer.gaussian.state.shapes.map((s) => s.angle)")
        shown(page)
    means_agree = np.allclose(first["mean"], second["mean"])
    assert means_agree == (preset == "turned")
    assert np.allclose(first["cov"], second["cov"]) == (preset == "shifted")
    assert (turned[1] == 0) == (preset == "prior")


def test_a_chapter_opens_the_gaussians_at_its_own_example(browser):
    with opened(browser, SITE / "book" / "gaussian_w2.html", mathematics=False) as page:
        first, second = page.evaluate("wwaeExplorer.gaussian.gaussians()")
        assert shown(page) > 0 and first["mean"] == second["mean"]


def test_two_gaussians_by_mouse(browser):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        page.locator("#gaussian-explorer svg").scroll_into_view_if_needed()
        seen = [shown(page)]
        for name in HANDLES:
            before = page.evaluate("JSON.stringify(wwaeExplorer.gaussian.state.shapes)")
            drag_by_mouse(page, handle(page, name), (-25, 18))
            after = page.evaluate("JSON.stringify(wwaeExplorer.gaussian.state.shapes)")
            assert before != after, name
            seen.append(shown(page))
        assert len(set(seen)) == len(seen)
        page.get_by_role("button", name="Same mean, turned").click()
        assert page.locator("[data-value=mean]").inner_text() == "0.00"
        assert shown(page) > 0
        page.get_by_role("button", name="Shifted only").click()
        assert page.locator("[data-value=bures]").inner_text() == "0.00"
        page.get_by_role("button", name="Start").click()
        assert shown(page) == seen[0]


def test_two_gaussians_by_keyboard(browser):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        before = shown(page)
        handle(page, "first-mean").focus()
        page.keyboard.press("ArrowRight")
        mean = page.evaluate("wwaeExplorer.gaussian.state.shapes[0].mean")
        start = explorers.GAUSSIANS[0]["mean"]
        assert mean == pytest.approx([start[0] + 0.1, start[1]])
        page.keyboard.press("Tab")  # to its first axis
        for key in ("ArrowUp", "ArrowLeft", "Shift+ArrowUp"):
            page.keyboard.press(key)
        shape = page.evaluate("wwaeExplorer.gaussian.state.shapes[0]")
        assert shape["axes"][0] == pytest.approx(explorers.GAUSSIANS[0]["axes"][0] + 0.3)
        assert shape["angle"] == pytest.approx(explorers.GAUSSIANS[0]["angle"] + np.pi / 36)
        assert shown(page) != before
        spoken = handle(page, "first-axis0").get_attribute("aria-valuetext")
        assert re.search(r"standard deviation \d\.\d\d, turned by \d+ degrees", spoken)
        page.locator("#ex-geodesic").focus()
        page.keyboard.press("Home")
        assert page.evaluate("wwaeExplorer.gaussian.state.t") == 0
        page.wait_for_function(
            "document.querySelector('#gaussian-explorer [role=status]').textContent.includes('mean part')"
        )


def test_two_gaussians_by_touch_without_holding_the_page(browser):
    with opened(browser, EXPLORERS, mathematics=False, **PHONE) as page:
        page.locator("#gaussian-explorer svg").scroll_into_view_if_needed()
        height = page.evaluate("scrollY")
        for name in ("first-mean", "second-axis0"):
            before = shown(page)
            drag_by_touch(page, centre(handle(page, name)), (20, 40))
            assert shown(page) != before, name
        assert page.evaluate("scrollY") == height, "a handle was dragged, and the page went with it"
        page.get_by_role("button", name="Start").tap()
        before = shown(page)
        frame = page.locator("#gaussian-explorer svg").bounding_box()
        drag_by_touch(page, (frame["x"] + 15, frame["y"] + 200), (0, -150))
        page.wait_for_function(f"scrollY > {height + 50}")
        assert shown(page) == before
        assert not scrolls_sideways(page)


def test_play_runs_to_the_end(browser):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        assert page.evaluate("wwaeExplorer.gaussian.state.t") > 0.3
        page.get_by_role("button", name="Play").click()
        assert page.evaluate("wwaeExplorer.gaussian.state.t") < 0.3, "it starts at 0"
        page.wait_for_function("wwaeExplorer.gaussian.state.t === 1")
        assert page.get_by_role("button", name="Play").is_visible()


# ---------------------------------------------------------------- the latent explorer


Decoders = dict[tuple[str, str], Any]


def decoders_of(results: Path) -> Decoders:
    """The decoders that the page should hold, as torch has them."""
    groups = explorers.shown(results).items()
    return {(name, run.experiment.method): runs.load_method(run) for name, group in groups for run in group}


@pytest.fixture(scope="module")
def decoders() -> Decoders:
    """Those of the book's recorded runs."""
    decoders = decoders_of(RESULTS)
    assert ("mnist", "wwae") in decoders
    return decoders


@pytest.fixture(scope="module")
def small_site(shelf, tmp_path_factory) -> Path:
    """A page with the explorers of small runs on every data set, whatever the book has recorded so far."""
    root = tmp_path_factory.mktemp("site")
    folder, page = root / "_static" / "explorers", root / "book" / "explorers.html"
    explorers.export(folder, shelf)
    for name in ("explorers.css", "networks.js", "latent.js", "faces.js"):
        shutil.copy(explorers.explorer_folder() / name, folder)
    for k, path in enumerate(sorted(folder.glob("celeba-*.png"))):
        draw_test_card(path, k)
    stills = [(folder / f"{name}-still.html").read_text(encoding="utf-8") for name in ("latent", "faces")]
    scripts = [
        f'<script defer src="../_static/explorers/{name}.js"></script>'
        for name in ("networks", "latent", "faces")
    ]
    head = '<link rel="stylesheet" href="../_static/explorers/explorers.css">'
    head += '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    space = '<div style="height: 60rem"></div>'
    body = "".join([*stills, space, *scripts])
    page.parent.mkdir()
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="light"><head>{head}</head><body>{body}</body></html>'
    )
    return page


def draw_test_card(path: Path, blue: int) -> None:
    """Each image of a sheet in a colour of its own: small runs decode nearly the same everywhere."""
    with Image.open(path) as image:
        pixels = np.asarray(image).copy()
    side = len(pixels) // explorers.FACES
    for row in range(explorers.FACES):
        for column in range(12):
            left = column * side + explorers.GAP * ((column > 0) + (column > 10))
            colour = [20 + 20 * column, 30 + 60 * row, 50 + 150 * blue, 255]
            pixels[row * side : (row + 1) * side, left : left + side] = colour
    Image.fromarray(pixels).save(path)


@pytest.fixture(params=["small runs", "the book"])
def site(request) -> tuple[Path, Path]:
    """A page with explorers, and the results folder that it was exported from."""
    if request.param == "the book":
        return EXPLORERS, RESULTS
    return request.getfixturevalue("small_site"), request.getfixturevalue("shelf")


def show_map(page, dataset: str | None = None) -> None:
    """Scroll to the map and, where a name is given, show that data set."""
    page.locator("#latent-explorer").scroll_into_view_if_needed()
    page.wait_for_function("window.wwaeExplorer && wwaeExplorer.ready")
    if dataset and page.evaluate("wwaeExplorer.ready") != dataset:
        page.locator("#ex-dataset").select_option(dataset)
        page.wait_for_function(f"wwaeExplorer.ready === '{dataset}'")
    page.locator("#latent-explorer .ex-columns").scroll_into_view_if_needed()
    settled(page)


def point(page, method: str = "wwae") -> dict:
    """The code on the screen and the picture below the map, as grey levels."""
    return page.evaluate(
        """(method) => {
            const canvas = document.querySelectorAll("#latent-explorer .ex-picture")
                [Object.keys(wwaeExplorer.state.points).indexOf(method)];
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const {dataset, points} = wwaeExplorer.state;
            const {code, place} = points[method];
            const picture = Array.from(data).filter((_, i) => i % 4 === 0);
            return {dataset, code: Array.from(code), place: Array.from(place), picture};
        }""",
        method,
    )


def assert_drawn(page, decoders, method: str = "wwae") -> list[float]:
    """The picture is what torch decodes from the code on the screen; returns the code's place on the map."""
    settled(page)
    state = point(page, method)
    with torch.inference_mode():
        expected = decoders[state["dataset"], method].decode(torch.tensor([state["code"]])).flatten().numpy()
    np.testing.assert_allclose(255 - np.array(state["picture"]), 255 * expected, atol=0.51)
    return state["place"]


def marker(page, k: int = 0):
    return page.locator("#latent-explorer .ex-marker").nth(k)


def test_the_page_decodes_as_torch_does(browser, decoders):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        for (dataset, method), model in decoders.items():
            codes = 1.5 * torch.randn(12, model.latent, generator=torch.Generator().manual_seed(0))
            codes[0] = 0
            page.evaluate("(dataset) => wwaeExplorer.load(dataset)", dataset)
            drawn = page.evaluate(
                """([dataset, method, codes]) =>
                    codes.map((code) => Array.from(wwaeExplorer.decode(dataset, method, code)))""",
                [dataset, method, codes.tolist()],
            )
            with torch.inference_mode():
                expected = model.decode(codes).permute(0, 2, 3, 1).flatten(1).numpy()
            # 1e-3 is promised; the weights are the same numbers, so only the order of sums differs.
            np.testing.assert_allclose(np.array(drawn), expected, atol=1e-5)
        fastest = page.evaluate(
            """([dataset, method, code]) => {
                const once = () => {
                    const start = performance.now();
                    wwaeExplorer.decode(dataset, method, code);
                    return performance.now() - start;
                };
                return Math.min(...Array.from({length: 30}, once));
            }""",
            [dataset, method, codes[1].tolist()],
        )
        assert fastest < 20  # milliseconds


def test_decoders_come_when_the_reader_does(browser, decoders):
    asked: list[str] = []
    with opened(browser, EXPLORERS, mathematics=False, asked=asked) as page:
        settled(page)
        still = page.locator("#latent-explorer")
        assert still.locator(".ex-map .ex-dots").count() >= 10  # drawn already
        assert asked_for(asked) == set()
        before = still.locator(".ex-columns").bounding_box()["height"]
        show_map(page)
        first = next(iter(explorers.shown(RESULTS)))
        assert f"{first}-wwae.js" in asked_for(asked)
        assert_drawn(page, decoders)
        assert still.locator(".ex-columns").bounding_box()["height"] == pytest.approx(before, abs=40)


def test_a_small_step_on_a_map_of_two_dimensions_is_a_small_change(browser, decoders):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        show_map(page)
        assert page.evaluate("wwaeExplorer.state.dataset.endsWith('_plane')"), "a plane opens the explorer"
        assert not page.locator("#ex-others").is_visible()
        marker(page).focus()
        changes, before = [], np.array(point(page)["picture"], float)
        for k in range(60):
            page.keyboard.press("ArrowRight" if k < 30 else "ArrowUp")  # a tenth of a standard deviation each
            settled(page)
            now = np.array(point(page)["picture"], float)
            changes.append(np.abs(now - before).mean())
            before = now
        assert max(changes) < 15  # of 255, on average over pixels
        assert_drawn(page, decoders)


def test_names_of_classes_do_not_overlap(browser, decoders):
    for context in ({}, PHONE):
        with opened(browser, EXPLORERS, mathematics=False, **context) as page:
            for dataset in explorers.shown(RESULTS):
                show_map(page, dataset)
                overlaps = page.evaluate(
                    """() => [...document.querySelectorAll("#latent-explorer .ex-map")].flatMap((map) => {
                        const names = [...map.querySelectorAll(".ex-name")];
                        const boxes = names.map((e) => e.getBoundingClientRect());
                        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) =>
                            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
                            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.35 * a.height));
                    }).length"""
                )
                assert overlaps == 0, dataset


def test_the_explorer_draws_from_the_prior(browser, decoders):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        show_map(page, "mnist")
        codes = []
        for _ in range(3):
            page.get_by_role("button", name="Draw from the prior").click()
            assert_drawn(page, decoders)
            codes.append(point(page)["code"])
            assert codes[-1] == point(page, "vae")["code"]  # one draw, decoded by both
        assert len({tuple(code) for code in codes}) == 3


def test_the_map_by_mouse(browser, decoders):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        show_map(page, "mnist")
        start = assert_drawn(page, decoders)
        drag_by_mouse(page, marker(page), (60, -45))
        moved = assert_drawn(page, decoders)
        assert moved[0] > start[0] + 0.2 and moved[1] > start[1] + 0.2
        frame = page.locator("#latent-explorer .ex-map").first.bounding_box()
        page.mouse.click(frame["x"] + frame["width"] * 0.25, frame["y"] + frame["height"] * 0.5)
        left = assert_drawn(page, decoders)
        assert left[0] < -1 and abs(left[1]) < 0.1
        page.locator("#ex-others").select_option("zero")
        assert_drawn(page, decoders)
        place, code = (np.array(point(page)[key]) for key in ("place", "code"))
        assert np.linalg.norm(code) == pytest.approx(
            np.linalg.norm(place), abs=1e-4
        )  # nothing outside the plane
        page.locator("#ex-map-plane").select_option("1")
        assert_drawn(page, decoders)
        page.locator("#ex-from").select_option("4")
        page.locator("#ex-interpolation").fill("0.5")
        place = assert_drawn(page, decoders)
        codes, labels = decoders_codes()
        first, last = (explorers.typical(codes, labels, label) for label in (4, explorers.PAIRS["mnist"][1]))
        np.testing.assert_allclose(point(page)["code"], (codes[first] + codes[last]) / 2, atol=1e-6)
        page.locator("#latent-explorer .ex-classes button").nth(1).click()
        assert page.locator("#latent-explorer .ex-map").first.locator(".ex-dots.ex-faint").count() == 9


def test_the_readers_data_set_is_shown_and_its_runs_alone(browser, site):
    page_file, results = site
    decoders = decoders_of(results)
    recorded: dict[str, list[str]] = {}
    for dataset, method in decoders:
        recorded.setdefault(dataset, []).append(method)
    asked: list[str] = []
    with opened(browser, page_file, mathematics=False, asked=asked) as page:
        assert json.loads(page.locator("#latent-explorer").get_attribute("data-runs")) == recorded
        show_map(page)
        chooser = page.locator("#ex-dataset")
        assert chooser.is_visible() == (len(recorded) > 1)
        first = next(iter(recorded))
        assert asked_for(asked) == {f"{first}-{method}.js" for method in recorded[first]}
        for dataset in [*reversed(recorded), *recorded]:
            if len(recorded) > 1:
                chooser.select_option(dataset)
            page.wait_for_function(f"wwaeExplorer.ready === '{dataset}'")
            for method in recorded[dataset]:
                assert_drawn(page, decoders, method)
            assert page.locator("#latent-explorer .ex-classes button").all_inner_texts() == list(
                DATASETS[dataset.removesuffix("_plane")].classes
            )
            assert page.locator("#latent-explorer .ex-name").count() == 10 * len(recorded[dataset])
            assert not scrolls_sideways(page)
        assert asked_for(asked) == {f"{dataset}-{method}.js" for dataset, method in decoders}


def asked_for(urls: list[str]) -> set[str]:
    """The decoders among what a page asked for."""
    return {found[1] for url in urls if (found := re.search(r"explorers/(\w+-\w+\.js)", url))}


def decoders_codes() -> tuple[torch.Tensor, torch.Tensor]:
    kept = runs.load(RESULTS / "mnist" / "wwae" / "seed-0").codes()
    return kept["mean"], kept["label"]


def test_the_map_by_keyboard(browser, decoders):
    with opened(browser, EXPLORERS, mathematics=False) as page:
        show_map(page, "mnist")
        for k, method in enumerate(
            json.loads(page.locator("#latent-explorer").get_attribute("data-runs"))["mnist"]
        ):
            start = assert_drawn(page, decoders, method)
            marker(page, k).focus()
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("Shift+ArrowDown")
            moved = assert_drawn(page, decoders, method)
            assert moved == pytest.approx([start[0] - 0.1, start[1] - 0.5], abs=1e-5)
            assert "nearest encoded image" in marker(page, k).get_attribute("aria-valuetext")
        page.locator("#ex-interpolation").focus()
        page.keyboard.press("End")
        assert_drawn(page, decoders)
        codes, labels = decoders_codes()
        last = explorers.typical(codes, labels, explorers.PAIRS["mnist"][1])
        np.testing.assert_allclose(point(page)["code"], codes[last], atol=1e-6)
        page.wait_for_function(
            "document.querySelector('#latent-explorer [role=status]').textContent.includes('nearest code')"
        )


def test_the_map_by_touch_without_holding_the_page(browser, decoders):
    with opened(browser, EXPLORERS, mathematics=False, **PHONE) as page:
        show_map(page)
        page.evaluate("document.querySelector('#latent-explorer .ex-map').scrollIntoView({block: 'center'})")
        start = assert_drawn(page, decoders)
        height = page.evaluate("scrollY")
        drag_by_touch(page, centre(marker(page)), (25, -25))
        moved = assert_drawn(page, decoders)
        assert moved[0] > start[0] + 0.3 and moved[1] > start[1] + 0.3
        assert page.evaluate("scrollY") == height, "the ring was dragged, and the page went with it"
        frame = page.locator("#latent-explorer .ex-map").first.bounding_box()
        corner = frame["x"] + 0.15 * frame["width"], frame["y"] + 0.85 * frame["height"]
        page.touchscreen.tap(*corner)
        tapped = assert_drawn(page, decoders)
        assert tapped[0] < -1.5 and tapped[1] < -1.5
        drag_by_touch(page, (corner[0], frame["y"] + 0.3 * frame["height"]), (0, -150))
        page.wait_for_function(f"scrollY > {height + 50}")
        assert assert_drawn(page, decoders) == tapped
        assert not scrolls_sideways(page)


# ---------------------------------------------------------------- a digit drawn by hand


INTRO = SITE / "book" / "intro.html"
SEVEN = [(0.25, 0.25), (0.75, 0.25), (0.45, 0.8)]


def drawing(page) -> dict:
    """What the page saw last, with the pictures on the screen, ink on paper."""
    return page.evaluate(
        """() => {
            const {image, code, seen, cost, shown} = wwaeExplorer.drawing;
            const again = [...document.querySelectorAll("#draw-explorer canvas.ex-again")];
            const pictures = again.map((canvas) => {
                const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return Array.from(data).filter((_, i) => i % 4 === 0);
            });
            const codes = seen.map((one) => Array.from(one.code));
            return {image: image && Array.from(image), codes, pictures, cost, shown};
        }"""
    )


def assert_seen(page, decoders, encoded: bool = True) -> dict:
    """Codes and pictures are those of torch: for what was drawn, or for a code that was drawn at random."""
    page.wait_for_function("!document.querySelector('#draw-explorer[aria-busy]')")
    page.wait_for_function("wwaeExplorer.drawing.answered > 0")
    page.wait_for_timeout(200)  # the last of what piled up
    drawn = drawing(page)
    assert (drawn["image"] is not None) == encoded
    for method, code, picture in zip(("wwae", "vae"), drawn["codes"], drawn["pictures"], strict=True):
        model = decoders["mnist", method]
        with torch.inference_mode():
            if encoded:
                image = torch.tensor(drawn["image"]).view(1, 1, 28, 28)
                # eight bits a weight move a code, whose coordinates are about 1, by about 0.01
                np.testing.assert_allclose(code, model.encoder(image)[0][0].numpy(), atol=0.04)
            expected = model.decode(torch.tensor([code])).flatten().numpy()
        np.testing.assert_allclose(255 - np.array(picture), 255 * expected, atol=0.51)
    return drawn


def on_paper(page, points):
    frame = page.locator("#draw-explorer .ex-paper").bounding_box()
    return [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in points]


def test_a_digit_drawn_by_mouse_is_encoded_and_drawn_again(browser, decoders):
    asked: list[str] = []
    with opened(browser, INTRO, mathematics=False, asked=asked) as page:
        page.locator("#draw-explorer").scroll_into_view_if_needed()
        settled(page)
        assert page.locator("#draw-explorer .ex-dots").count() == 20  # two maps, drawn already
        assert not any("explorers/mnist-" in url for url in asked), "the networks come when the reader does"
        for _ in range(4):  # on a busy machine a step can wait for others: one stroke that need not is enough
            first, *others = on_paper(page, SEVEN)
            page.get_by_role("button", name="Clear").click()
            page.evaluate("wwaeExplorer.drawing.cost = 0")
            page.mouse.move(*first)
            page.mouse.down()
            for place in others:
                page.mouse.move(*place, steps=12)
            page.mouse.up()
            seen_in_page = assert_seen(page, decoders)
            assert seen_in_page["shown"] == "drawing"
            if seen_in_page["cost"] < 16:
                break
        ink = np.array(seen_in_page["image"]).reshape(28, 28)
        rows, columns = np.nonzero(ink > 0.5)
        assert 17 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21  # as MNIST's, whatever the size of the hand
        middle = (ink * np.arange(28)[:, None]).sum() / ink.sum(), (ink * np.arange(28)).sum() / ink.sum()
        np.testing.assert_allclose(middle, 13.5, atol=0.5)
        assert seen_in_page["cost"] < 16  # milliseconds that the page is busy with a step of a stroke
        assert "7" in page.locator("#draw-explorer .ex-reading").first.inner_text()
        page.get_by_role("button", name="New digit", exact=True).click()
        page.wait_for_function("wwaeExplorer.drawing.code")
        new = assert_seen(page, decoders, encoded=False)
        assert new["codes"][0] == new["codes"][1] != seen_in_page["codes"][0]
        page.get_by_role("button", name="Test digit").click()
        page.wait_for_function("wwaeExplorer.drawing.image")
        assert_seen(page, decoders)
        page.get_by_role("button", name="Clear").click()
        assert page.evaluate("wwaeExplorer.drawing.strokes.length") == 0


def test_new_digits_are_draws_from_the_prior(browser, decoders):
    with opened(browser, INTRO, mathematics=False) as page:
        codes = []
        for _ in range(40):
            page.evaluate("wwaeExplorer.drawing.answered = 0")
            page.get_by_role("button", name="New digit", exact=True).click()
            page.wait_for_function("wwaeExplorer.drawing.answered > 0")
            codes.append(page.evaluate("Array.from(wwaeExplorer.drawing.code)"))
    drawn = np.array(codes)  # 40 x 8 standard normals: mean within 4 standard errors, and so the variance
    assert abs(drawn.mean()) < 4 / drawn.size**0.5
    assert abs(drawn.var() - 1) < 4 * (2 / drawn.size) ** 0.5


def test_a_digit_drawn_by_keyboard(browser, decoders):
    with opened(browser, INTRO, mathematics=False) as page:
        page.locator("#draw-explorer canvas.ex-drawn").focus()
        page.keyboard.press("Space")
        for _ in range(5):
            page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")  # the pen is up: this draws nothing
        seen_in_page = assert_seen(page, decoders)
        ink = np.array(seen_in_page["image"]).reshape(28, 28) > 0.5
        assert ink.any(1).sum() >= 15 and ink.any(0).sum() <= 4  # a straight stroke
        page.wait_for_function(
            "document.querySelector('#draw-explorer [role=status]').textContent.includes('nearest code')"
        )
        page.keyboard.press("Delete")
        assert page.evaluate("wwaeExplorer.drawing.shown") == "nothing"


def test_a_digit_drawn_by_touch_without_holding_the_page(browser, decoders):
    with opened(browser, INTRO, mathematics=False, **PHONE) as page:
        page.evaluate("document.querySelector('#draw-explorer').scrollIntoView({block: 'center'})")
        height = page.evaluate("scrollY")
        drag_by_touch(page, on_paper(page, [(0.5, 0.15)])[0], (5, 110))
        assert_seen(page, decoders)
        assert page.evaluate("scrollY") == height, "a digit was drawn, and the page went with it"
        assert not scrolls_sideways(page)


def test_drawing_works_where_there_are_no_workers(browser, decoders):
    with opened(browser, INTRO, mathematics=False) as page:
        page.evaluate("delete window.Worker")
        page.get_by_role("button", name="Test digit").click()
        assert_seen(page, decoders)


# ---------------------------------------------------------------- faces


def show_faces(page, results: Path) -> bool:
    """Scroll to the faces; false where no run on them is recorded, which the page must say."""
    recorded = [run.experiment.method for run in explorers.recorded(results, "celeba")]
    assert page.locator("#faces-explorer .ex-sheet").count() == len(recorded)
    if not recorded:
        assert page.get_by_text("no run on CelebA").is_visible()
        return False
    page.locator("#faces-explorer").scroll_into_view_if_needed()
    page.locator("#faces-explorer .ex-faces").scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('#faces-explorer img')].every((e) => e.complete)")
    return True


def assert_faces(page, page_file: Path) -> tuple[int, int]:
    """What is shown is the marked cell of each sheet, between its photographs; returns its row and step."""
    settled(page)
    row, step = page.evaluate("[wwaeExplorer.faces.row, wwaeExplorer.faces.step]")
    sheets = []
    for frame in page.locator("#faces-explorer .ex-sheet").all():
        path = page_file.parent / frame.locator("img").get_attribute("src")
        with Image.open(path) as image:
            sheets.append(np.asarray(image.convert("RGB")))
        side = len(sheets[-1]) // explorers.FACES
        left = side + explorers.GAP + step * side
        inside, mark = frame.bounding_box(), frame.locator(".ex-mark").bounding_box()
        assert mark["x"] - inside["x"] == pytest.approx(left * inside["width"] / sheets[-1].shape[1], abs=2)
        assert mark["y"] - inside["y"] == pytest.approx(row * inside["height"] / explorers.FACES, abs=2)
    columns = [(sheets[0], 0), *((sheet, left) for sheet in sheets), (sheets[0], sheets[0].shape[1] - side)]
    canvases = page.locator("#faces-explorer .ex-stage canvas").all()
    for canvas, (sheet, left) in zip(canvases, columns, strict=True):
        with Image.open(io.BytesIO(canvas.screenshot())) as image:
            shown = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX)).astype(float)
        expected = sheet[row * side : (row + 1) * side, left : left + side]
        middle = slice(side // 8, -side // 8)  # the corners are round
        # Of 255: it was enlarged and reduced again.
        assert np.abs(shown - expected)[middle, middle].mean() < 12
    return row, step


def test_faces_by_mouse(browser, site):
    page_file, results = site
    with opened(browser, page_file, mathematics=False) as page:
        if not show_faces(page, results):
            return
        assert assert_faces(page, page_file) == (0, 5)  # drawn before any touch
        frame = page.locator("#faces-explorer .ex-sheet").last.bounding_box()
        at = lambda x, y: (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])  # noqa: E731
        page.mouse.move(*at(0.25, 0.6))
        page.mouse.down()
        assert assert_faces(page, page_file) == (2, 1)
        page.mouse.move(*at(0.8, 0.9))  # along the row, though the hand does not keep to it
        page.mouse.up()
        assert assert_faces(page, page_file) == (2, 8)
        page.mouse.move(*at(0.5, 0.1))
        assert assert_faces(page, page_file) == (2, 8)
        page.get_by_role("button", name="Pair 4").click()
        page.locator("#ex-faces-t").fill("0")
        assert assert_faces(page, page_file) == (3, 0)


def test_faces_by_keyboard(browser, site):
    page_file, results = site
    with opened(browser, page_file, mathematics=False) as page:
        if not show_faces(page, results):
            return
        slider = page.locator("#ex-faces-t")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert assert_faces(page, page_file) == (0, 6)
        assert slider.get_attribute("aria-valuetext") == "t = 0.67, pair 1"
        page.keyboard.press("End")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert assert_faces(page, page_file) == (1, 9)
        assert page.get_by_role("button", name="Pair 2").get_attribute("aria-pressed") == "true"


def test_faces_by_touch_without_holding_the_page(browser, site):
    page_file, results = site
    with opened(browser, page_file, mathematics=False, **PHONE) as page:
        if not show_faces(page, results):
            return
        page.evaluate("document.querySelector('#faces-explorer .ex-sheet').scrollIntoView({block: 'center'})")
        height = page.evaluate("scrollY")
        frame = page.locator("#faces-explorer .ex-sheet").first.bounding_box()
        start = frame["x"] + 0.2 * frame["width"], frame["y"] + 0.6 * frame["height"]
        drag_by_touch(page, start, (0.5 * frame["width"], 10))
        assert page.evaluate("scrollY") == height, "a face was dragged, and the page went with it"
        assert assert_faces(page, page_file) == (2, 7)
        page.evaluate(f"scrollTo(0, {height})")  # the faces above may have been scrolled into view
        for _ in range(5):  # Chromium takes a tap soon after a swipe for the end of the swipe
            page.wait_for_timeout(500)
            page.touchscreen.tap(start[0], frame["y"] + 0.1 * frame["height"])
            page.wait_for_timeout(300)
            if page.evaluate("wwaeExplorer.faces.row") == 0:
                break
        assert assert_faces(page, page_file) == (0, 1)
        page.evaluate(f"scrollTo(0, {height})")
        drag_by_touch(page, (frame["x"] + 0.5 * frame["width"], start[1]), (0, -150))
        page.wait_for_function(f"scrollY > {height + 50}")
        assert page.evaluate("[wwaeExplorer.faces.row, wwaeExplorer.faces.step]") == [0, 1]
        assert not scrolls_sideways(page)


def test_faces_without_javascript(browser, site):
    page_file, results = site
    with opened(browser, page_file, java_script_enabled=False) as page:
        sheets = page.locator("#faces-explorer .ex-sheet img")
        assert sheets.count() == len(explorers.recorded(results, "celeba"))
        for sheet in sheets.all():
            sheet.scroll_into_view_if_needed()
            assert sheet.bounding_box()["height"] > 100
            assert "photograph" in sheet.get_attribute("alt")


# ---------------------------------------------------------------- access


def test_explorers_are_named_large_enough_and_in_contrast(browser, decoders):
    for scheme in ("light", "dark"):
        with opened(browser, EXPLORERS, mathematics=False, color_scheme=scheme, **PHONE) as page:
            show_map(page)
            faults = page.evaluate(AUDIT.read_text())
            assert faults == [], scheme
        with opened(browser, INTRO, mathematics=False, color_scheme=scheme, **PHONE) as page:
            page.get_by_role("button", name="Test digit").click()
            page.wait_for_function("wwaeExplorer.drawing.answered > 0")
            faults = page.evaluate(AUDIT.read_text())
            assert faults == [], scheme
    with opened(browser, EXPLORERS, mathematics=False) as page:
        show_map(page)
        session = page.context.new_cdp_session(page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        roles = (
            "button",
            "slider",
            "combobox",
            "link",
            "textbox",
            "image",
            "checkbox",
            "switch",
            "searchbox",
        )
        seen = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
        assert len([node for node in seen if node["role"]["value"] == "slider"]) >= 6 + 2
        nameless = [node["role"]["value"] for node in seen if not node["name"].get("value", "").strip()]
        assert nameless == []
