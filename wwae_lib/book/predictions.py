"""Does a measurement agree with a prediction, and would it have noticed an error of two per cent?"""

from __future__ import annotations

__all__ = ["NOTICED", "agree"]

NOTICED = 0.02  # relative errors of a prediction that every check must notice


def agree(measured: float, predicted: float, within: float) -> None:
    """Assert that a measurement and a prediction differ by at most ``within``.

    A check that would pass for a wrong prediction too is worth nothing: one that 1.02 or 0.98 times the
    prediction would pass is an error, however well the two agree.

    Args:
        measured: what was found.
        predicted: what a formula says; not 0, which no factor changes.
        within: the tolerance, in the same units: rounding, or some standard errors of the measurement.

    Raises:
        AssertionError: they differ by more.
        ValueError: a prediction wrong by two per cent would have passed.
    """
    assert abs(measured - predicted) <= within, f"{measured:.8g} is not {predicted:.8g} to {within:.2g}"
    for factor in (1 - NOTICED, 1 + NOTICED):
        if abs(measured - factor * predicted) <= within:
            raise ValueError(
                f"to {within:.2g}, {measured:.8g} agrees with {predicted:.8g}, but with {factor:g} times "
                "as much too: measure more closely"
            )
