"""The values that attributes of nodes and edges may have: each check gives what is expected, or an empty text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np


def is_whole(value: object) -> bool:
    """Whether a value is a whole number (and not a truth value)."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


MOST = 2**31 - 1
"""The largest size, delay or seed: what any machine can count to, so that no array library meets a larger number."""


def whole(least: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not is_whole(value) or value < least:
            return f"a whole number >= {least}"
        return "" if value <= MOST else f"a whole number <= {MOST}"

    return check


def sizes(least: int) -> Callable[[Any], str]:
    one = whole(least)

    def check(value: Any) -> str:
        several = value.ndim > 0 if isinstance(value, np.ndarray) else isinstance(value, list | tuple)
        given: list[Any] = list(cast("Sequence[Any]", value)) if several else [value]
        wrong = not given or any(one(each) for each in given)
        return f"a whole number >= {least}, or a list of them, one for each axis" if wrong else ""

    return check


def word(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and (value in choices or (not choices and value)):
            return ""
        return "one of " + ", ".join(choices) if choices else "a word"

    return check


def truth(value: Any) -> str:
    return "" if isinstance(value, bool | np.bool_) else "True or False"


def numbers(value: Any) -> np.ndarray[Any, Any] | None:
    """The value as a float array, or `None` where it is not made of finite numbers, none of them masked."""
    try:
        array = np.asanyarray(value)
    except ValueError:  # rows of unequal length
        return None
    if isinstance(array, np.ma.MaskedArray):
        return None
    if array.dtype.kind not in "biuf" or array.size == 0:
        return None
    with np.errstate(over="ignore"):  # from long doubles
        array = np.asarray(array).astype(np.float64)
    return array if np.isfinite(array).all() else None


def finite(value: Any) -> str:
    return "a finite number or an array of them" if isinstance(value, bool) or numbers(value) is None else ""


def show(value: Any) -> str:
    """A value as errors show it: its text, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."
