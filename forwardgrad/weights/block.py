"""`block`: a block-diagonal matrix, whose blocks connect groups of units that follow each other."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import whole
from forwardgrad.weights.forms import FORMS, Ends, Pattern
from forwardgrad.weights.kind import Kind
from forwardgrad.weights.sparse import LARGEST_TABLE


def _check(place: str, given: Set[str]) -> None:
    if "blocks" not in given:
        raise GraphError(f"{place}: weight 'block' needs a number of blocks.", "Give 'blocks', such as blocks=4.")


def _pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
    """Entry `(b, i, j)` enters unit i of group b of the target, and reads unit j of group b of the source."""
    blocks, shape = int(attributes["blocks"]), ends.sizes
    if shape[0] % blocks or shape[1] % blocks:
        raise GraphError(
            f"{place}: {blocks} blocks do not divide sizes {shape[0]} (target) and {shape[1]} (source).",
            "Give a number of blocks that divides both.",
        )
    height, width = shape[0] // blocks, shape[1] // blocks
    too_large = GraphError(f"{place}: {blocks} blocks of shape {(height, width)} do not fit into memory.", "Give more.")
    if blocks * height * width > LARGEST_TABLE:
        raise too_large
    try:
        block, row, column = np.indices((blocks, height, width)).reshape(3, -1)
        return Pattern(block * height + row, block * width + column, shape)
    except MemoryError:
        raise too_large from None


def _example(random: np.random.Generator, ends: Ends) -> dict[str, Any] | None:
    shape = ends.sizes
    numbers = [n for n in range(2, min(shape) + 1) if shape[0] % n == shape[1] % n == 0]
    return {"blocks": int(random.choice(numbers))} if numbers else None


BLOCK = Kind(
    "block",
    FORMS["sparse"],
    init="glorot",
    attributes={"blocks": whole(1)},
    check=_check,
    pattern=_pattern,
    example=_example,
)
