"""Checks of the arguments of tasks, in the words of who called."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.support.attributes import is_whole


def whole(task: str, **arguments: tuple[Any, Any]) -> None:
    """Check whole numbers in the order given.

    Args:
        task: the name of the function that was called.
        arguments: of each argument its value and the least that it may be.

    Raises:
        DataError: naming the first that is none, or too small.
    """
    for name, (value, least) in arguments.items():
        if not is_whole(value) or value < least:
            raise DataError(f"{task}: {name} must be a whole number of at least {least}, got {value!r}.")


def interval(task: str, name: str, value: Any, least: int) -> None:
    """Check a pair of whole numbers, the second not below the first.

    Raises:
        DataError: if it is none.
    """
    pair = cast("tuple[Any, ...]", tuple(value)) if isinstance(value, tuple | list) else ()
    if len(pair) != 2 or not all(map(is_whole, pair)) or not least <= pair[0] <= pair[1]:
        raise DataError(f"{task}: {name} must be two whole numbers from {least} on, in rising order, got {value!r}.")


def probability(task: str, name: str, value: Any) -> None:
    """Check a probability.

    Raises:
        DataError: if it is none.
    """
    if not (isinstance(value, int | float | np.floating) and 0 <= value <= 1):
        raise DataError(f"{task}: {name} is a probability, from 0 to 1, got {value!r}.")
