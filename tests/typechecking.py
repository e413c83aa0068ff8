"""The type checker of the tests: beartype, which finds fault with a wrong argument at the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception

F = TypeVar("F", bound=Callable)


def checked(function: F) -> F:
    """The function with a check of its arguments and of what it returns, unless that is ``Self``."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:  # it knows Self in classes alone that it has decorated itself
        return function
