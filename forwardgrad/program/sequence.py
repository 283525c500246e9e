"""A sequence as blocks from the start state, weights frozen, each block priced before it is executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from forwardgrad.backends import State
from forwardgrad.errors import DataError
from forwardgrad.ops import Array
from forwardgrad.program.blocks import Block, marking_last
from forwardgrad.program.execution import Execution, Step, read_draw


@dataclass(frozen=True)
class Result:
    """What a sequence gives: the loss summed over time, and the gradient of each trainable parameter."""

    loss: float
    grads: dict[str, Array]


def total(steps: Iterable[Step]) -> Result:
    """The sum over the blocks of a sequence."""
    loss, grads = 0.0, dict[str, Array]()
    for step in steps:
        loss += step.loss
        grads = {name: step.grads[name] + grads[name] if grads else step.grads[name] for name in step.grads}
    return Result(loss, grads)


def as_pieces(what: str, inputs: Any, targets: Any, mask: Any, signals: Any) -> Iterable[Any]:
    """The pieces of a sequence: one, if arrays are given, or those of the iterable that is given in their place."""
    if isinstance(inputs, Mapping):
        return [(cast("Mapping[str, Any]", inputs), targets, mask, signals)]
    if targets is not None or mask is not None or signals is not None:
        raise DataError(f"{what}: targets, mask and signals come with the pieces of an iterable.")
    return inputs


def executed(
    execution: Execution,
    what: str,
    params: Mapping[str, Array],
    blocks: Iterator[Block],
    draw: Any,
    fits: Callable[..., None],
) -> Iterator[tuple[State, State, Block, Step]]:
    """Execute blocks one after another from the start state.

    Args:
        execution: executes a block.
        what: names the call in errors.
        params: `{name: array}`.
        blocks: not empty.
        draw: the number of the signs of random layouts, if one is given.
        fits: refuses a block that costs more memory than it may; asked whenever a block is the longest so far.

    Yields:
        The states before and after a block, the block, and what it gives.
    """
    state, passed, longest, number = None, 0, 0, read_draw(what, draw)
    for block, last in marking_last(blocks):
        if block.steps > longest:
            fits(block.batch, block.steps, held=state, last=last, what=what)
            longest = block.steps
        before = execution.start(block.batch, number) if state is None else state
        arguments = params, before, block.inputs, block.targets, block.mask, block.signals
        after, step = execution.step(*arguments, fresh=state is None, last=last, at=passed)
        yield before, after, block, step
        state, passed = after, passed + block.steps
    if state is None:
        raise DataError(f"{what}: the sequence is empty.")
