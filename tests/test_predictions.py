"""The predictions of the theory chapters: every check of one would notice an error of two per cent."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import matplotlib
import pytest

from wwae_lib.book import predictions

BOOK = Path(__file__).resolve().parents[1] / "book"
# How many predictions each chapter checks at least; the slow test runs the chapters and scales each of them.
CHAPTERS = {
    "gaussian_w2": 1,
    "numerical_ot": 3,
    "objective": 9,
    "mini_batch": 40,
    "gaussian_geometry": 10,
    "use_penalty": 10,
}


def code_cells(chapter: str) -> list[str]:
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in code if "setup" not in cell["metadata"].get("tags", ())]


def test_what_agrees_passes_and_what_does_not_fails():
    predictions.agree(1.001, 1.0, 0.005)
    predictions.agree(-1.001, -1.0, 0.005)
    with pytest.raises(AssertionError, match=r"1\.03 is not 1"):
        predictions.agree(1.03, 1.0, 0.005)


@pytest.mark.parametrize(("measured", "within"), [(1.0, 0.021), (1.011, 0.012), (0.985, 0.016)])
def test_a_check_that_two_per_cent_would_pass_is_an_error(measured, within):
    with pytest.raises(ValueError, match="measure more closely"):
        predictions.agree(measured, 1.0, within)


def test_nothing_agrees_with_a_prediction_of_zero():
    with pytest.raises(ValueError, match="measure more closely"):
        predictions.agree(0.0, 0.0, 0.1)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_checks_its_predictions_so(chapter):
    calls = [
        node
        for source in code_cells(chapter)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "agree"
    ]
    assert calls


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_fails_with_any_of_its_predictions_scaled_by_two_per_cent(chapter, monkeypatch):
    """One run of the chapter: where it checks a prediction, the same check of the scaled one must fail."""
    checked, agree = [], predictions.agree

    def scaled(measured, predicted, within):
        agree(measured, predicted, within)
        for factor in (0.98, 1.02):
            with pytest.raises(AssertionError):
                assert abs(measured - factor * predicted) <= within
        checked.append((measured, predicted, within))

    matplotlib.use("Agg")
    monkeypatch.chdir(BOOK)
    monkeypatch.setattr(predictions, "agree", scaled)  # before a chapter imports it
    names: dict[str, object] = {"__name__": "__main__"}
    for source in code_cells(chapter):
        exec(compile(source, chapter, "exec"), names)
    assert len(checked) >= CHAPTERS[chapter]
