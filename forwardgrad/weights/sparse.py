"""`sparse`: the entries of a matrix at a fixed pattern, which is given by a mask or drawn by density."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import numbers, whole
from forwardgrad.weights.forms import FORMS, Ends, Pattern
from forwardgrad.weights.kind import Kind

LARGEST_PATTERN = 2**28
"""The most entries of a matrix of which a sparse pattern is drawn."""

LARGEST_TABLE = LARGEST_PATTERN // 4
"""The most entries that may be kept."""


def _mask(value: Any) -> str:
    array = numbers(value)
    ok = array is not None and array.ndim == 2 and bool(np.isin(array, (0, 1)).all())
    return "" if ok else "a two-dimensional array of 0 and 1, (size of target, size of source)"


def _density(value: Any) -> str:
    number = numbers(value)
    ok = not isinstance(value, bool) and number is not None and number.ndim == 0 and 0 < float(number) <= 1
    return "" if ok else "a number in (0, 1]"


def _check(place: str, given: Set[str]) -> None:
    if "mask" in given and len(given) > 1:
        raise GraphError(f"{place}: a pattern is given by 'mask', or by 'density' and 'pattern_seed', not by both.")
    if not given & {"mask", "density"}:
        raise GraphError(f"{place}: weight 'sparse' needs a pattern.", "Give 'mask', or 'density' and 'pattern_seed'.")


def _pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
    shape = ends.sizes
    if attributes.get("mask") is not None:
        mask = numbers(attributes["mask"])
        assert mask is not None  # the schema has checked it
        if mask.shape != shape:
            raise GraphError(f"{place}: weight 'sparse' needs a mask of shape {shape}, got {mask.shape}.")
    else:
        density, entries = float(attributes["density"]), shape[0] * shape[1]
        too_large = GraphError(
            f"{place}: a pattern of shape {shape} drawn by 'density' does not fit into memory.",
            "Make the nodes smaller.",
        )
        if entries > LARGEST_PATTERN or entries * density > LARGEST_TABLE:
            raise too_large
        random = np.random.default_rng(int(attributes.get("pattern_seed") or 0))
        try:
            mask = np.empty(shape, np.bool_)
            for row in mask:  # a row at a time: the same numbers as all at once, in an eighth of the memory
                row[:] = random.random(shape[1]) < density
        except MemoryError:
            raise too_large from None
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise GraphError(
            f"{place}: the pattern of the sparse weight is empty.", "Give a larger 'density' or another mask."
        )
    return Pattern(rows, columns, shape)


def _example(random: np.random.Generator, ends: Ends) -> dict[str, Any]:
    """A mask or a density, with at least one entry."""
    shape = ends.sizes
    seed = int(random.integers(2**16))
    mask = np.random.default_rng(seed).random(shape) < 0.6
    if not mask.any():
        return {"density": 1.0}
    return {"density": 0.6, "pattern_seed": seed} if random.random() < 0.5 else {"mask": mask.astype(int)}


SPARSE = Kind(
    "sparse",
    FORMS["sparse"],
    init="glorot",
    sizing=("mask",),
    attributes={"mask": _mask, "density": _density, "pattern_seed": whole(0)},
    check=_check,
    pattern=_pattern,
    example=_example,
)
