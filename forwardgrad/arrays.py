"""An argument as an array of numbers, or the reason why it is none. Programs and oracles take and refuse the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np

from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.ops import Array
from forwardgrad.support.attributes import is_whole

UNMASKED = (
    "Pass what counts as mask=, weights (time, batch) such as ~np.ma.getmaskarray(target).any(axis=-1), and the target "
    "as target.filled(0)."
)
"""What to do with masked targets."""


def check_names(what: str, given: Any, expected: Collection[str], whole: bool = True) -> None:
    """Raise `DataError` unless `given` is a mapping with the expected names (all, if `whole`) and no others."""
    if not isinstance(given, Mapping):
        raise DataError(f"{what}: expected a mapping from names to arrays, got {type(given).__name__}.")
    for name in given:  # pyright: ignore[reportUnknownVariableType]
        if name not in expected:
            raise DataError(f"{what}: unknown name {name!r}.", did_you_mean(name, expected) or "None is expected.")
    for name in expected if whole else ():
        if name not in given:
            raise DataError(f"{what}: {name!r} is missing.", f"Expected: {', '.join(map(repr, expected))}.")


def array_of(what: str, value: Any, unmasked: str = "Give numbers for all entries, as array.filled(0) does.") -> Array:
    """The value as an array of whatever type.

    Args:
        what: names it in errors.
        value: an array, numbers in lists, or whatever has `__array__`.
        unmasked: what to do with a masked array, whose mask would be lost.

    Raises:
        DataError: if it is masked, or is not an array.
    """
    try:
        array = np.asanyarray(value)
    except MemoryError:
        raise
    except Exception as error:  # `__array__` is code of other libraries
        if isinstance(error, ValueError) and isinstance(value, list | tuple):
            raise DataError(f"{what}: is not an array; its rows have unequal lengths.") from None
        raise DataError(f"{what}: {type(value).__name__} does not become an array: {error}") from error
    if isinstance(array, np.ma.MaskedArray) or _holds_masked(value):
        raise DataError(f"{what}: is a masked array, and its mask would be lost.", unmasked)
    return np.asarray(array)


def _holds_masked(value: Any) -> bool:
    """Whether there is a masked array in nested lists, which NumPy makes plain without a word."""
    if isinstance(value, list | tuple):
        return any(map(_holds_masked, cast("list[Any]", value)))
    return isinstance(value, np.ma.MaskedArray)


def truths(what: str, value: Any, shape: tuple[int, ...]) -> Array:
    """The value as an array of truth values of this shape; raises `DataError`."""
    array = array_of(what, value)
    if array.shape != shape or array.dtype != np.bool_:
        raise DataError(f"{what} must be {shape} truth values, got {array.dtype} of shape {array.shape}.")
    return array


def numeric(what: str, value: Any, dtype: Any, *unmasked: str) -> Array:
    """The value as an array of numbers of this dtype; arguments and errors as for `array_of`."""
    if type(value) is np.ndarray and value.dtype == dtype:  # most are; streams of single steps feel the rest
        return value
    array = array_of(what, value, *unmasked)
    if array.dtype.kind not in "biuf":
        kind = "" if isinstance(value, np.ndarray | list | tuple) else f" of {type(value).__name__}"  # pyright: ignore[reportUnknownArgumentType]
        hint = "Convert it first, as with array.astype(float)." if array.dtype == np.object_ else ""
        raise DataError(f"{what}: expected numbers, got dtype {array.dtype}{kind}.", hint)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is then refused
        return array.astype(dtype, copy=False)


def finite(what: str, array: Array, axes: str, hint: str = "Values must be finite.") -> Array:
    """The array, all of whose values are finite; raises `DataError`, which names the first that is not."""
    if not np.logical_and.reduce(np.isfinite(array), axis=None):
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{what}: {array[place]} at {axes} = {place}.", hint)
    return array


def count(what: str, given: Any) -> int:
    """A whole number of at least 1; raises `DataError`."""
    if not is_whole(given) or given < 1:
        raise DataError(f"{what} must be a whole number >= 1, got {given!r}.")
    return int(given)
