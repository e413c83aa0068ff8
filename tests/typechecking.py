"""The type checker of the tests: beartype, which finds fault with a wrong argument at the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

F = TypeVar("F", bound=Callable)
WHOLE_NUMBERS_ARE_NUMBERS = BeartypeConf(is_pep484_tower=True)


def checked(function: F) -> F:
    """The function with a check of its arguments and of what it returns, unless that is ``Self``."""
    try:
        return beartype(conf=WHOLE_NUMBERS_ARE_NUMBERS)(function)
    except BeartypeDecorHintPep673Exception:  # it knows Self in classes alone that it has decorated itself
        return function
