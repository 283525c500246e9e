"""How is a sequence cut into blocks? One at a time, so that a stream never has to fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from forwardgrad.arrays import read_inputs, read_targets, shape_without_inputs
from forwardgrad.compiler import Plan
from forwardgrad.cost import choose_block
from forwardgrad.errors import DataError
from forwardgrad.losses import Loss
from forwardgrad.ops import Array

Length = int | Literal["auto"]
"""Steps per block, or `auto`: chosen from program, batch and memory."""


@dataclass(frozen=True)
class Block:
    """A few consecutive steps, run with fixed weights.

    Args:
        inputs: `(time, batch, size)` by input node.
        targets: `(time, batch, size)` or `(time, batch)` by output node.
        mask: `(time, batch)` by output node; a node left out has weight 1.
        batch: number of samples.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    mask: dict[str, Array]
    batch: int


def blocks(
    plan: Plan, losses: Mapping[str, Loss], dtype: Any, given: tuple[Any, Any, Any], length: Length
) -> Iterator[tuple[Block, bool]]:
    """The blocks of a sequence, each with whether it is the last: that one needs no advance.

    Args:
        plan: the derived algorithm.
        losses: by output node.
        dtype: of the arrays.
        given: inputs, targets and mask, or an iterable of pieces `(inputs, targets[, mask])`, `None` and `None`.
        length: steps per block; a piece longer than that is cut.

    Raises:
        DataError: if an array does not fit, or the length is not one.
    """
    if length != "auto" and (isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"block must be 'auto' or a whole number >= 1, got {length!r}.")
    found = (block for piece in _pieces(*given) for block in _cut(plan, losses, dtype, piece, length))
    ahead = next(found, None)
    while ahead is not None:
        block, ahead = ahead, next(found, None)
        yield block, ahead is None


def _pieces(inputs: Any, targets: Any, mask: Any) -> Iterable[Any]:
    if isinstance(inputs, Mapping):
        return [(inputs, targets, mask)]
    if targets is not None or mask is not None:
        raise DataError("targets and mask come with the pieces, where inputs is an iterable of pieces.")
    if not isinstance(inputs, Iterable):
        raise DataError(f"inputs must be a mapping or an iterable of pieces, got {type(inputs).__name__}.")
    return cast("Iterable[Any]", inputs)


def _cut(plan: Plan, losses: Mapping[str, Loss], dtype: Any, piece: Any, length: Length) -> Iterator[Block]:
    if not isinstance(piece, tuple | list) or len(cast("list[Any]", piece)) not in (2, 3):
        raise DataError("each piece of a sequence must be (inputs, targets) or (inputs, targets, mask).")
    inputs, targets, *rest = cast("list[Any]", piece)
    values, shape = read_inputs(plan.network, inputs, dtype, (None, None))
    shape = shape or shape_without_inputs(targets, losses)
    goals = read_targets(plan.network, losses, targets, rest[0] if rest else None, shape, dtype)
    size = choose_block(plan, shape[1], dtype) if length == "auto" else int(length)
    for at in range(0, shape[0], size):
        now = slice(at, at + size)
        yield Block(
            {name: array[now] for name, array in values.items()},
            {name: goal.values[now] for name, goal in goals.items()},
            {name: goal.weight[now] for name, goal in goals.items() if goal.weight is not None},
            shape[1],
        )
