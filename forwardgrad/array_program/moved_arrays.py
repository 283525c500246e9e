"""Which arrays NumPy takes for products, and for instructions that move entries about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.instructions import (
    Broadcast,
    Call,
    Concat,
    Contract,
    Flush,
    Gather,
    Instruction,
    Reduce,
    ScatterAdd,
    Signs,
    Slice,
)
from forwardgrad.array_program.memory import Account, Held
from forwardgrad.array_program.numpy_products import template
from forwardgrad.array_program.values import Dimensions

RESHAPED: Mapping[str, tuple[bool, bool]] = {
    "times": (True, False),
    "pulled": (True, False),
    "outer": (True, True),
    "injected": (True, False),
    "carried": (False, True),
    "contracted": (True, True),
}
"""The helpers that reshape their two operands, and which."""


def moved(account: Account, instruction: Instruction, operands: Sequence[Held], dims: Dimensions, kind: str) -> Held:
    """What an instruction other than an expression makes of its operands."""
    match instruction:
        case Contract(axes=axes):
            return _product(account, template(axes), operands[0], operands[1], dims)
        case Flush():
            return operands[0]
        case Slice(or_zero=True) | Concat() | ScatterAdd():
            return _dense(account.computed(*operands, dims=dims, kind=kind))
        case Reduce():
            return account.computed(*operands, dims=dims)
        case Gather(axis=axis):
            array = _dense(account.computed(*operands, dims=dims, kind=kind))
            last = axis == len(dims) - 1
            return array._replace(fresh=False, dense=False, rows=last, ordered=False) if axis else array
        case Signs():
            account.drop(*operands)
            whole = account.take(dims, "int")  # numbers of eight bytes, scaled and then converted
            return account.computed(account.computed(whole, dims=dims, kind="int"), dims=dims)
        case Call():
            copies = [account.computed(account.view(array, array.dims), dims=array.dims) for array in operands]
            return account.computed(account.computed(*copies, *operands, dims=dims), dims=dims)
        case _:
            return _view(account, instruction, operands[0], dims)


def _view(account: Account, instruction: Instruction, array: Held, dims: Dimensions) -> Held:
    """A part of an array, or an array repeated."""
    joined = rows = True
    match instruction:
        case Slice(axis=axis, backward=backward):
            joined = not axis and not backward
            rows = not backward and axis in (0, len(dims) - 1)
        case Broadcast(axes=axes):
            joined = rows = all(dim == Affine(1) for axis, dim in enumerate(dims) if axis not in axes)
        case _:
            ...
    found = account.view(array, dims, dense=joined, rows=rows)
    account.drop(array)
    return found


def _product(account: Account, text: str, left: Held, right: Held, dims: Dimensions) -> Held:
    """A contraction, by its text."""
    helper = text.partition("(")[0]
    if text.startswith("("):
        both = max(left.dims, right.dims, key=len)
        return account.computed(account.operator("*", left, right, both), dims=dims)
    if text == "{0} * {1}":
        return account.operator("*", left, right, dims)
    one, two = RESHAPED.get(helper, (False, False))
    rows = helper in ("times", "pulled", "outer")
    copies = [account.reshaped(array, rows) for array, joined in ((left, one), (right, two)) if joined]
    fresh = helper not in RESHAPED or helper == "outer"
    return _dense(account.computed(left, right, *copies, dims=dims, fresh=fresh))


def _dense(array: Held) -> Held:
    """An array that is made in order, whatever it is made of."""
    return array._replace(dense=True, rows=True, ordered=True)
