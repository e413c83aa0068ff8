"""A number in a notebook's text is computed beside it, or proved here: none is only typed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from wwae_lib import data
from wwae_lib.book import celeba
from wwae_lib.measures import evaluation, inception, latents, pictures

BOOK = Path(__file__).resolve().parents[1] / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)
# What is no measurement: code, addresses, a place in a source, a year, a level of confidence.
NOT_OURS = re.compile(
    r"`[^`]*`|\]\([^)]*\)|https?://\S+|\b(?:theorem|proposition|remark|section|equation|lemma)\W+\d+(?:\.\d+)*"
    r"|\bet al\. \d{4}|\b95(?: per cent|%)"
)
NUMBER = re.compile(r"(?<![\w.,/-])\d+(?:[.,]\d+)*(?!\w)")
brief, full = evaluation.PROTOCOLS["brief"].images, evaluation.PROTOCOLS["full"].images

# The numbers that a text has and its code has not, and what each is.
PROVED: dict[str, dict[str, float]] = {
    "celeba": {"202,599": sum(data.DATASETS["celeba"].sizes.values()), "2,000": pictures.KEPT_CODES},
    "comparison": {"255": 2**8 - 1, "2,000": pictures.KEPT_CODES},
    "deviations": {"2,500": brief},
    "gaussian_geometry": {
        **{"0.01": 1 / 100, "0.99": 1 - 1 / 100, "0.04": 4 * 0.01},
        "0.0001": 4 * (1 - math.sqrt(0.99)) ** 2,
    },
    "gaussian_w2": {"2,048": inception.FEATURES},
    "mini_batch": {
        "0.0026": 8 / 10**4 + 72 / (4 * 9999),
        "0.00058": math.sqrt(2 * 8 + 18) / 10**4,
        "0.91": 1 - (64 + 1) / (8 * 99) - 1 / 100,  # d = 64, n = 100
        "0.999": 1 - 0.001,
        "1.998": 2 * (1 - 0.001),
    },
    # the potentials x^2 + 2 x of N(0, 1) and y^2 / 2 + y of N(1, 4) have variances 6 and 24
    "numerical_ot": {"0.34": math.sqrt((6 + 24) / 256)},
    "intro": {"2,000": pictures.KEPT_CODES},
    "mnist": {"2,000": pictures.KEPT_CODES},
    "fashion_mnist": {"2,000": pictures.KEPT_CODES},
    "objective": {
        "0.0912": 4 - 4 * math.sqrt(3 / math.pi),
        "0.4551": 4 - 2 * math.sqrt(math.pi),
        "0.046": 2 - 2 * math.sqrt(3 / math.pi),
        "0.005": 0.01 / 2,  # half of the tails' mass
    },
    "protocol": {
        "140": celeba.BOX[2] - celeba.BOX[0],
        "2048": inception.FEATURES,
        "299": 299,  # pytorch-fid's own, to which its network resizes
        "10,000": full,
        "2,500": evaluation.PROTOCOLS["extrapolated"].images,
        "2,048": evaluation.MINIMUM_FID_IMAGES,
        "500": latents.DIRECTIONS,
        "0.01": evaluation.ACTIVE,
    },
    "selection": {
        "60,000": sum(data.GREY_SIZES[part] for part in ("train", "valid")),
        "5,000": data.GREY_SIZES["valid"],
        "2,500": evaluation.PROTOCOLS["selection"].images,
    },
}


def typed(text: str) -> Iterator[str]:
    """The numbers of a text: whole ones above 100, all others; of a formula those with a decimal point."""
    for formula in FORMULA.findall(text):
        yield from re.findall(r"\d+\.\d+", formula)
    for number in NUMBER.findall(NOT_OURS.sub(" ", FORMULA.sub(" ", text))):
        if "." in number or int(plain(number)) > 100:
            yield number


def computed(notebook: nbformat.NotebookNode) -> set[str]:
    """The numbers of a notebook's code and outputs."""
    found: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = [output.get("data", {}) | {"text": output.get("text")} for output in cell.outputs]
            words = [value for data in shown for kind, value in data.items() if kind.startswith("text")]
            found |= set(re.findall(r"\d+(?:[.,_]\d+)*", cell.source + json.dumps(words)))
    return {plain(number) for number in found}


def plain(number: str) -> str:
    return number.replace(",", "").replace("_", "")


def test_the_numbers_that_are_proved_are_the_numbers_that_are_said():
    for numbers in PROVED.values():
        for said, value in numbers.items():
            digits = len(said.partition(".")[2])
            assert f"{value:.{digits}f}" == plain(said), said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_number_of_the_text_is_only_typed(path):
    notebook = nbformat.read(path, as_version=4)
    known, proved = computed(notebook), PROVED.get(path.stem, {})
    text = [
        number for cell in notebook.cells if cell.cell_type == "markdown" for number in typed(cell.source)
    ]
    unproved = {number for number in text if plain(number) not in known and number not in proved}
    assert not unproved, "compute them in a cell, or prove them in this file"
    assert proved.keys() <= set(text), "what is proved here is no longer said there"


def test_numbers_are_found_where_they_stand():
    text = "Of 2,500 images `3000` (theorem 4.1), 0.5 of [x](y/77.md), $\\approx 0.046$; et al. 2019: 77"
    assert list(typed(text)) == ["0.046", "2,500", "0.5"]
