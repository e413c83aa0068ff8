"""A picture that shows something else is noticed, and one that another processor drew is not."""

from __future__ import annotations

import base64
import io

import compare_pictures
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbval.plugin import IPyNbCell
from PIL import Image


def output(drawn: bytes, alt: str = "Two bars.", kind: str = "image/png") -> nbformat.NotebookNode:
    data = base64.b64encode(drawn).decode()
    return nbformat.v4.new_output("display_data", data={kind: data}, metadata={kind: {"alt": alt}})


def bars(*heights: float, **options) -> bytes:
    figure, axis = plt.subplots(figsize=(5.4, 2.8), dpi=150)
    axis.bar(range(len(heights)), heights, **options)
    axis.set_ylim(0, 1.2)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    return drawn.getvalue()


def noisy(drawn: bytes) -> bytes:
    """Off by a few levels, as an edge is that falls a hair beside the pixel's."""
    with Image.open(io.BytesIO(drawn)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    pixels += np.random.default_rng(0).integers(-9, 10, pixels.shape)
    again = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(again, "PNG")
    return again.getvalue()


PICTURE = bars(0.8, 1.0)
DIFFERENT = {
    "1 % of a bar": [output(bars(0.8, 1.01))],
    "another colour": [output(bars(0.8, 1.0, color="orange"))],
    "two bars exchanged": [output(bars(1.0, 0.8))],
    "other words": [output(PICTURE, "Three bars.")],
    "no words": [nbformat.v4.new_output("display_data", data=output(PICTURE).data)],
    "one more": [output(PICTURE), output(PICTURE)],
    "none": [nbformat.v4.new_output("stream", text="x")],
    "another kind": [output(PICTURE, kind="image/jpeg")],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_picture_that_differs_is_noticed(what):
    assert compare_pictures.difference(DIFFERENT[what], [output(PICTURE)])


def test_a_picture_of_another_size_is_noticed():
    small = io.BytesIO()
    Image.new("RGB", (100, 80)).save(small, "PNG")
    assert "size" in compare_pictures.difference([output(small.getvalue())], [output(PICTURE)])


@pytest.mark.parametrize("drawn", [PICTURE, noisy(PICTURE)], ids=["the same", "with other roundings"])
def test_the_same_picture_is_the_same(drawn):
    assert compare_pictures.difference([output(drawn)], [output(PICTURE)]) == ""


def test_nbval_compares_pictures(monkeypatch):
    """In every cell that it compares."""
    cell = object.__new__(IPyNbCell)
    cell.comparison_traceback = []
    colours = type("C", (), {"FAIL": "", "ENDC": "", "OKBLUE": ""})
    monkeypatch.setattr(IPyNbCell, "colors", colours, raising=False)
    skipped = ("metadata", "output_type", "image/png", "image/jpeg")
    assert cell.compare_outputs([output(PICTURE)], [output(PICTURE)], skipped)
    assert not cell.compare_outputs([output(bars(1.0, 0.8))], [output(PICTURE)], skipped)
    assert "is another" in cell.comparison_traceback[-1]
