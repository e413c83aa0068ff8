"""What the build adds to pages: dark twins of figures, an index of sections, tips, a zip, a description."""

import json
import re
import zipfile

import dark_figures
import numpy as np
import page_head
import page_index
import pytest
import take_away
from docutils import nodes
from PIL import Image

PAGE = """<html><body><article><h1>Whole<a class="headerlink" href="#x">#</a></h1>
<section id="top"><h1>Whole</h1><p>Opening words.</p>
<section id="part"><h2>Part</h2><p>Mode collapse is rare.</p><pre>code</pre>
<div class="math notranslate" id="equation-eq-a"><span class="eqno">(1)</span>\\[a &lt; b\\]</div>
<div class="proof theorem admonition" id="thm"><p class="admonition-title">Theorem 1</p>
<section id="c"><p>All <a href="#y">is</a> well.</p></section></div></section></section>
<dl class="glossary"><dt id="term-code">code</dt><dd><p>A few numbers.</p></dd></dl>
</article></body></html>"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_a_section_has_its_own_words_and_no_subsections(page):
    whole, part = page_index.sections(page, "book/page.html")
    assert (whole["title"], whole["anchor"], whole["text"]) == ("Whole", "", "Opening words.")
    assert (part["title"], part["anchor"]) == ("Part", "part")
    assert "Mode collapse is rare." in part["text"] and "code" not in part["text"]


def test_tips_hold_what_a_link_leads_to_without_links(page):
    tips = page_index.tips(page, "book/page.html")
    assert tips["book/page.html#equation-eq-a"] == "\\[a &lt; b\\]"
    assert "All is well." in tips["book/page.html#thm"] and "<a" not in tips["book/page.html#thm"]
    assert tips["book/page.html#term-code"] == "<p><b>code</b></p><p>A few numbers.</p>"


def test_the_dark_twin_mirrors_lightness_and_keeps_hues():
    pixels = np.array([[[255, 255, 255], [0, 0, 0], [0, 114, 178]]], np.uint8)
    paper, ink, blue = dark_figures.darkened(pixels)[0].astype(int)
    np.testing.assert_allclose(paper, 0x12, atol=2)  # the dark theme's page
    assert ink.min() > 225
    assert blue.argmax() == 2 and blue.argmin() == 0


def test_photographs_stay_as_they_are(tmp_path):
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[40:140, 100:200] = (200, 120, 80)
    pixels[40:140, 200:206] = 254  # white at its edge
    pixels[10:14, 10:60] = 0  # a line
    photographs = dark_figures.photographs(pixels)
    assert (
        photographs[40:140, 100:200].all() and not photographs[:35].any() and not photographs[:, 210:].any()
    )
    assert not dark_figures.photographs(pixels[:30]).any()


def test_a_page_shows_one_of_two_figures(tmp_path):
    Image.fromarray(np.full((20, 30, 3), 255, np.uint8)).save(tmp_path / "a.png")
    html = '<img alt="A line" src="../_images/a.png" /> <img class="x" src="../_images/a.png" />'
    changed = dark_figures.with_twins(html, tmp_path)
    light, dark, other = re.findall("<img[^>]+>", changed)
    assert 'class="only-light"' in light and 'alt="A line"' in light and 'width="30"' in light
    assert 'class="only-dark"' in dark and 'alt="A line"' in dark and "a-dark.png" in dark
    assert other == '<img class="x" src="../_images/a.png" />'
    assert (tmp_path / "a-dark.png").exists()
    assert dark_figures.with_twins(changed, tmp_path) == changed


def test_the_zip_holds_what_a_notebook_needs(tmp_path):
    target = tmp_path / take_away.NAME
    take_away.write(target)
    with zipfile.ZipFile(target) as archive:
        names = {name.removeprefix("wwae-book/") for name in archive.namelist()}
        record = json.loads(archive.read("wwae-book/book/results/mnist/wwae/seed-0/run.json"))
    assert record["config"]["dataset"] == "mnist"
    assert {"wwae_lib/__init__.py", "tools/install_book.py", "pyproject.toml", "book/mnist.ipynb"} <= names
    # by these the library knows that it lies beside the book, and finds its numbers
    assert {"_toc.yml", "book/published.json"} <= names
    weights = {name for name in names if name.endswith("weights.safetensors")}
    wanted = {name for some in take_away.WEIGHED.values() for name in some}
    assert weights == {f"book/results/{name}/weights.safetensors" for name in wanted}
    assert target.stat().st_size < 45_000_000


def test_the_zip_has_the_networks_that_notebooks_load():
    """Each notebook that loads networks is named, with a run for every place of its code that loads some."""
    loads = re.compile(r"by_law\(|load_method\(|wwae_lib\.load\(|weights\.safetensors")
    found = {}
    for path in (take_away.ROOT / "book").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        if places := len(loads.findall(code)):
            found[path.stem] = places
    assert found.keys() == take_away.WEIGHED.keys() - {"README"}
    assert all(len(take_away.WEIGHED[name]) >= places for name, places in found.items())


def test_a_description_is_whole_sentences_of_the_takeaway():
    box = nodes.admonition("", nodes.title("", "Takeaway"), nodes.paragraph("", "One. Two. " + 60 * "long "))
    box["classes"] = ["tip"]
    document = nodes.section("", nodes.paragraph("", "Not this."), box)
    assert page_head.description(document) == "One. Two."


def test_a_notebooks_bar_says_what_it_took(tmp_path):
    (tmp_path / "book" / "results").mkdir(parents=True)
    took = {"a": (3.2, 0.41e9), "b": (61.0, 1.0e9), "c": (130.0, 2.01e9)}
    record = {name: {"processor_seconds": s, "peak_bytes": b} for name, (s, b) in took.items()}
    (tmp_path / "book" / "results" / "notebooks.json").write_text(json.dumps(record))
    said = {name: take_away.cost(name, tmp_path) for name in took}
    assert said["a"] == "runs for 10 s on one core, in 0.5 GB of memory"
    assert said["b"] == "runs for 70 s on one core, in 1.0 GB of memory"
    assert said["c"] == "runs for 4 min on one core, in 2.1 GB of memory"
    assert take_away.cost("d", tmp_path) is None


def test_every_notebook_was_measured():
    for path in (take_away.ROOT / "book").glob("*.ipynb"):
        assert take_away.cost(path.stem), f"tools/execute_notebooks.py {path.stem} --measure"
