"""README, CONTRIBUTING and citation: what they name exists, and the picture is that of the recorded run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from pybtex.database import parse_string

from wwae_lib import __version__, runs
from wwae_lib.__main__ import parser

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import library_pages  # noqa: E402
import readme_picture  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def commands(path: Path) -> list[str]:
    """The indented command lines of a page, without their comments."""
    lines = re.findall(r"^    (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [line.split("  #")[0].strip() for line in lines if re.match(r"make|\.venv|export", line)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_and_targets_that_a_page_names_exist(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:book|tests|tools|wwae_lib)/[\w./-]*)`", text):
        assert "NAME" in name or (ROOT / name).exists() or name.startswith("book/results/mnist/wwae-mine"), (
            name
        )
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)(?=[ `\n])", "\n".join(commands(path)) + "\n")) <= set(targets)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_page_parse(path):
    ours = [line.split("wwae_lib ", 1)[1].split() for line in commands(path) if "-m wwae_lib " in line]
    assert len(ours) >= 4
    for words in ours:
        if words[-1] != "--help":
            assert parser().parse_args(words).command == words[0]
    for script in re.findall(r"tools/\w+\.py", "\n".join(commands(path))):
        assert (ROOT / script).exists()


def test_the_picture_is_small_and_drawn_from_the_recorded_run():
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [ROOT / target for _, target in shown] == [readme_picture.PICTURE]
    assert len(shown[0][0]) > 40  # says what is seen
    assert readme_picture.PICTURE.stat().st_size < 100_000
    run = ROOT / "book" / "results" / readme_picture.RUN
    if not run.exists():
        pytest.skip(f"{readme_picture.RUN} is not recorded")
    with Image.open(readme_picture.PICTURE) as picture:
        source = picture.text["Source"]
    assert source == readme_picture.origin(runs.load(run)), "out of date: python tools/readme_picture.py"


def test_the_results_table_has_its_place():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- results:start -->") == text.count("<!-- results:end -->") == 1
    assert text.index("<!-- results:start -->") < text.index("<!-- results:end -->")


def test_what_the_readme_says_of_the_dcgan_on_faces_is_recorded():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "The one training of the DCGAN broke down there." in text
    faces = runs.recorded("celeba/*/seed-*", results=ROOT / "book" / "results")
    recorded = {run.experiment.name: run.metrics["fid"] for run in faces}
    (broken,) = (fid for name, fid in recorded.items() if "/gan/" in name)
    assert broken > 2 * recorded["celeba/wwae/seed-0"]


def test_versions_agree():
    project = (ROOT / "pyproject.toml").read_text()
    assert CITATION["version"] == __version__
    assert f'version = "{__version__}"' in project


def test_the_books_bibtex_is_what_citation_cff_says():
    (entry,) = parse_string(library_pages.bibtex(CITATION), "bibtex").entries.values()
    assert entry.fields["title"].strip("{}") == CITATION["title"]
    assert entry.fields["year"] == str(CITATION["date-released"].year)
    assert len(entry.persons["author"]) == len(CITATION["authors"])
    people = {"authors": [{"family-names": "Doe", "given-names": "Jane"}, {"name": "A group of people"}]}
    (entry,) = parse_string(library_pages.bibtex(CITATION | people), "bibtex").entries.values()
    names = [" ".join([*p.first_names, *p.last_names]) for p in entry.persons["author"]]
    assert names == ["Jane Doe", "{A group of people}"]


def test_the_paper_is_cited_alike_in_both_places():
    (paper,) = CITATION["references"]
    library = parse_string((ROOT / "book" / "references.bib").read_text(encoding="utf-8"), "bibtex")
    entry = library.entries["zhang2019wwae"]
    assert re.sub("[{}]", "", entry.fields["title"]) == paper["title"]
    assert entry.fields["year"] == str(paper["year"]) and entry.fields["journal"] == paper["journal"]
    assert [p.last_names[0] for p in entry.persons["author"]] == [a["family-names"] for a in paper["authors"]]
