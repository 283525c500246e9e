"""How is a sequence cut into blocks? One at a time, so that a stream never has to fit in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from forwardgrad.compiler import Plan
from forwardgrad.errors import DataError
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.program.border import read_inputs, read_signals, read_targets, shape_without_inputs
from forwardgrad.program.cost import choose_block
from forwardgrad.support.attributes import is_whole

Length = int | Literal["auto"] | None
"""Steps per block; `auto`: chosen from program, batch and memory; `None`: each piece of a stream is a block."""


@dataclass(frozen=True)
class Block:
    """A few consecutive steps, run with fixed weights.

    Args:
        inputs: `(time, batch, size)` by input node.
        targets: `(time, batch, size)` or `(time, batch)` by output node.
        mask: `(time, batch)` by output node; a node left out has weight 1.
        signals: `(time, batch, size)` by node on which the user gives the learning signal.
        steps: how many.
        batch: number of samples.
        lent: whether the arrays are those of a piece that a stream may overwrite as soon as it is asked for more.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    mask: dict[str, Array]
    signals: dict[str, Array]
    steps: int
    batch: int
    lent: bool = False

    def kept(self) -> Block:
        """The block with arrays of its own, if these are lent."""
        if not self.lent:
            return self
        inputs, targets, mask, signals = (
            {name: array.copy() for name, array in group.items()}
            for group in (self.inputs, self.targets, self.mask, self.signals)
        )
        return Block(inputs, targets, mask, signals, self.steps, self.batch)


def cut(
    plan: Plan,
    losses: Mapping[str, Loss],
    signalled: Collection[str],
    dtype: Any,
    pieces: Iterable[Any],
    length: Length,
) -> Iterator[Block]:
    """The blocks of a stream, none made before it is asked for.

    Args:
        plan: the derived algorithm.
        losses: by output node.
        signalled: the nodes on which the user gives learning signals.
        dtype: of the arrays.
        pieces: `(inputs, targets)`, `(inputs, targets, mask)` or `(inputs, targets, mask, signals)`, arrays as in
            `Program.step`. Blocks are views of them: a piece must not change until the next one is asked for.
        length: steps per block; a piece longer than that is cut.

    Raises:
        DataError: if an array does not fit, or the length is not one.
    """
    if length not in (None, "auto") and not (is_whole(length) and int(length) >= 1):
        raise DataError(f"block must be 'auto' or a whole number >= 1, got {length!r}.")
    if isinstance(pieces, Mapping) or not isinstance(pieces, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            f"a stream is an iterable of (inputs, targets) or (inputs, targets, mask), got {type(pieces).__name__}.",
            "For one piece, write [(inputs, targets)].",
        )
    lent = not isinstance(pieces, list | tuple)  # these run no code of others when they are asked for more
    for piece in pieces:
        yield from _cut(plan, losses, signalled, dtype, piece, length, lent)


def marking_last(blocks: Iterator[Block]) -> Iterator[tuple[Block, bool]]:
    """Each block, and whether it is the last one: that one needs no advance.

    This looks one block ahead. The stream may write what comes next into the arrays of the block before it, so these
    are copied first.
    """
    ahead = next(blocks, None)
    while ahead is not None:
        block = ahead.kept()
        ahead = next(blocks, None)
        yield block, ahead is None


def _cut(
    plan: Plan,
    losses: Mapping[str, Loss],
    signalled: Collection[str],
    dtype: Any,
    piece: Any,
    length: Length,
    lent: bool,
) -> Iterator[Block]:
    if not isinstance(piece, tuple | list) or len(cast("list[Any]", piece)) not in (2, 3, 4):
        raise DataError(
            "each piece of a sequence must be (inputs, targets), with a mask and signals behind where there are any."
        )
    inputs, targets, *rest = cast("list[Any]", piece)
    values, shape = read_inputs(plan.network, inputs, dtype, (None, None))
    shape = shape or shape_without_inputs(targets, losses)
    mask, signals = (*rest, None, None)[:2]
    goals = read_targets(plan.network, losses, targets, mask, shape, dtype)
    given = read_signals(plan.network, signalled, signals, dtype, shape)
    size = choose_block(plan, shape[1], dtype) if length == "auto" else int(length or shape[0])
    for at in range(0, shape[0], size):
        now = slice(at, at + size)
        yield Block(
            {name: array[now] for name, array in values.items()},
            {name: goal.values[now] for name, goal in goals.items()},
            {name: goal.weight[now] for name, goal in goals.items() if goal.weight is not None},
            {name: signal[now] for name, signal in given.items()},
            min(size, shape[0] - at),
            shape[1],
            lent and at + size >= shape[0],
        )
