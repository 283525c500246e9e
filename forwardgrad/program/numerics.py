"""Where and when did a number stop being finite? Looked for only once something is not; until then, one sum a block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from forwardgrad.backends import ShardedArray
from forwardgrad.compiler.keys import is_influence, meaning
from forwardgrad.errors import NonFiniteError
from forwardgrad.ops import Array
from forwardgrad.support import blas

PIECE = 2**13
"""Entries of a scalar product up to which BLAS computes it on one thread; several would wait for each other."""


@dataclass(frozen=True)
class Passed:
    """A block that has been run.

    Args:
        tape: its forward pass: `tape.values(node)` is `(time, batch, size)`.
        loss: sum over its steps.
        outputs: values of the nodes with a loss.
        seeds: the derivative of the loss by each output node, `(time, batch, size)`.
        grads: the gradient of each trained parameter.
        after: the state after it; empty after the last block of a sequence.
        by_inputs: the gradient by each input for which it was asked.
        size, slope: the sums of the squares of the state after it, and of the gradients.
    """

    tape: Any
    loss: float
    outputs: dict[str, Array]
    seeds: dict[str, Array]
    grads: dict[str, Array]
    after: dict[str, Array]
    by_inputs: dict[str, Array]
    size: float
    slope: float

    @property
    def sound(self) -> bool:
        """Whether loss, gradients and the state after the block are finite."""
        state = math.isfinite(self.size) or finite(self.after.values())
        grads = math.isfinite(self.slope) or finite(self.grads.values())
        return state and grads and math.isfinite(self.loss)


def squares(arrays: Iterable[Array]) -> float:
    """The sum of the squares of all entries: not finite if one of them is not, or where squares overflow.

    One pass over each array, by several threads where it is large; to be called where NumPy does not warn of overflow.

    >>> squares([np.array([[3.0], [4.0]])]), squares([np.array([1.0, np.inf])])
    (25.0, inf)
    """
    total = 0.0
    for array in arrays:
        if isinstance(array, ShardedArray):
            total += array.squares()
            continue
        flat = array.ravel()
        if flat.size > PIECE:
            whole = flat.size - flat.size % PIECE
            pieces, flat = flat[:whole].reshape(-1, PIECE), flat[whole:]
            total += float(blas.in_pieces(pieces[:, None, :], pieces[:, :, None]).sum())
        total += float(flat.dot(flat))
    return total


def norm(arrays: Iterable[Array], square: float) -> float:
    """The root of the sum of the squares of all entries, whose sum is known: infinite where squares overflow.

    Where they are so small that squares underflow, they are added up again, relative to the largest.

    >>> tiny = [np.array([3e-30, 4e-30], np.float32)]
    >>> squares(tiny), f"{norm(tiny, squares(tiny)):.6g}"
    (0.0, '5e-30')
    """
    found = list(arrays)
    if not found or not square < max(map(least, {array.dtype for array in found})):
        return math.sqrt(square)
    largest = max((float(np.abs(array).max(initial=0)) for array in found), default=0.0)
    scale = largest or 1.0
    return largest * math.sqrt(sum(float(np.square(np.float64(array) / scale).sum()) for array in found))


@cache
def least(dtype: np.dtype[Any]) -> float:
    """The smallest sum of squares that has all its digits."""
    return float(np.finfo(dtype).tiny) / float(np.finfo(dtype).eps)


def finite(arrays: Iterable[Array]) -> bool:
    """Whether all entries are finite; to be called where NumPy does not warn of overflow."""
    found = list(arrays)
    return math.isfinite(squares(found)) or all(np.isfinite(array).all() for array in found)


def exploded(state: Mapping[str, Array], step: int) -> NonFiniteError | None:
    """The first influence of a state of finite numbers whose norm is no number any more: its square overflows.

    That is a norm of 1.8e19 in single precision and of 1.3e154 in double precision, with which gradients overflow next.
    """
    for key, array in state.items():
        if is_influence(key) and not math.isfinite(squares([array])):
            return NonFiniteError(meaning(key), f"explodes: entries up to {np.abs(array).max():.1e}", step)
    return None


def refuse_update(what: str, arrays: Mapping[str, Array], step: int) -> None:
    """Raise `NonFiniteError` if an array that an update gave is not finite; `what` names the kind of array."""
    if finite(arrays.values()):
        return
    name = next(name for name, array in arrays.items() if not np.isfinite(array).all())
    raise NonFiniteError(f"{what} {name!r}", "would not be finite after the update", step)


def locate(order: Iterable[str], block: Passed, steps: int, run: Callable[[int, Any], Passed]) -> NonFiniteError:
    """What was not finite first in a block that is not sound.

    Values are looked through as they are. Where all are finite, the block is run again step by step, which finds the
    step at which an influence or a gradient was not.

    Args:
        order: the nodes, in the order in which a step computes them.
        block: as it was run.
        steps: how many it has.
        run: `run(t, state)` runs step `t` from a state (`None`: the one before the block).
    """
    found, state = _in_values(list(order), block, steps), None
    for t in range(steps if found is None else 0):
        step = run(t, state)
        found, state = _in_results(step, t), step.after
        if found is not None:
            break
    found = found or _in_results(block, steps - 1)
    assert found is not None  # the block is not sound
    return found


def _in_results(block: Passed, step: int) -> NonFiniteError | None:
    """The first of influence, loss and gradients that is not finite."""
    arrays = {meaning(key): array for key, array in block.after.items()}
    arrays |= {"the loss": np.asarray(block.loss)}
    return _first(arrays | {f"the gradient of {name!r}": array for name, array in block.grads.items()}, step)


def _in_values(order: list[str], block: Passed, steps: int) -> NonFiniteError | None:
    """The first value of a node, or derivative of a loss, that is not finite."""
    series = {f"the value of node {name!r}": block.tape.values(name) for name in order}
    series |= {f"the loss on node {name!r}": seed for name, seed in block.seeds.items()}
    bad = {what: ~np.isfinite(array) for what, array in series.items()}
    first = {what: int(np.argmax(at.any(axis=(1, 2)))) for what, at in bad.items() if at.any()}
    if not first:
        return None
    what = min(first, key=first.__getitem__)  # of one step the earliest in the order, since min takes the first
    return _first({what: series[what][first[what]]}, first[what])


def _first(arrays: Mapping[str, Array], step: int) -> NonFiniteError | None:
    for what, array in arrays.items():
        if not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            at = f" at index {place}" if place else ""
            return NonFiniteError(what, f"is not finite: {array[place]}{at}", step)
    return None
