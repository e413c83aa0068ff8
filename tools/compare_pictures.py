"""Are the pictures of an executed notebook those that it was committed with, and the words for them?

nbval compares neither. A pytest plugin (``conftest.py`` installs it) that adds both to its comparison of a
cell's outputs: the pictures' number, kinds, alternative texts and sizes are the same, and no square of 8
pixels is another on average by more than a tenth of the way from black to white. Another processor's rounding
is far below that; a bar that is 1 % longer is not.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

SQUARE = 8  # pixels
MOST = 255 / 10
KINDS = {"image/png", "image/jpeg"}


def pictures(outputs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, bytes]]:
    """Kind, alternative text and bytes of each picture that a cell shows."""
    return [
        (
            kind,
            output.get("metadata", {}).get(kind, {}).get("alt", ""),
            base64.b64decode(output["data"][kind]),
        )
        for output in outputs
        for kind in KINDS
        if kind in output.get("data", {})
    ]


def difference(shown: Iterable[Mapping[str, Any]], committed: Iterable[Mapping[str, Any]]) -> str:
    """What of the pictures in a cell's outputs differs, in words; empty where nothing does."""
    now, before = pictures(shown), pictures(committed)
    if len(now) != len(before):
        return f"the cell shows {len(now)} pictures, and {len(before)} are committed"
    for number, ((kind, words, content), (old_kind, old_words, old)) in enumerate(
        zip(now, before, strict=True), start=1
    ):
        if kind != old_kind:
            return f"picture {number} is {kind}, and {old_kind} is committed"
        if words != old_words:
            return f"picture {number} is told in other words:\n  {words}\ncommitted:\n  {old_words}"
        if found := _apart(content, old):
            return f"picture {number} is another: {found}"
    return ""


def _apart(content: bytes, old: bytes) -> str:
    if content == old:
        return ""
    one, other = (_pixels(some) for some in (content, old))
    if one.shape != other.shape:
        return (
            f"its size is {one.shape[1]} x {one.shape[0]}, and {other.shape[1]} x {other.shape[0]} committed"
        )
    errors = np.abs(one - other).mean(2)
    errors = np.pad(errors, [(0, -side % SQUARE) for side in errors.shape])
    squares = errors.reshape(errors.shape[0] // SQUARE, SQUARE, -1, SQUARE).mean((1, 3))
    y, x = np.unravel_index(squares.argmax(), squares.shape)
    if squares[y, x] <= MOST:
        return ""
    return f"about pixel ({x * SQUARE}, {y * SQUARE}) it differs by {squares[y, x]:.0f} of 255"


def _pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def install() -> None:
    """Let nbval compare pictures too."""
    from nbval.plugin import IPyNbCell

    compare = IPyNbCell.compare_outputs

    def compare_outputs(self, test, ref, skip_compare=None) -> bool:
        if not compare(self, test, ref, skip_compare):
            return False
        if found := difference(test, ref):
            self.comparison_traceback.append(found)
        return not found

    IPyNbCell.compare_outputs = compare_outputs
