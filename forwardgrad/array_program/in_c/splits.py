"""Splits in C: the axes along which a scan can be computed in parts, since none of its steps reads across them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.instructions import (
    Broadcast,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Reduce,
    ScatterAdd,
    Slice,
    letters_of,
)
from forwardgrad.array_program.regions import Scan, Statement
from forwardgrad.array_program.values import Value

Axes = Mapping[int, int]
"""For axes of a result: which axis of an operand has the same entries."""


def split_axes(scan: Scan, results: Sequence[Value]) -> Iterator[Mapping[Value, int]]:
    """The ways of splitting a scan: for each value that it makes, the axis that is split.

    Args:
        scan: the scan.
        results: what comes out of it.
    """
    first = scan.body.results[0]
    for axis, dim in enumerate(first.dims):
        if dim != affine(1):
            found = _followed(scan, results, {first: axis})
            if found is not None:
                yield found


def _followed(scan: Scan, results: Sequence[Value], axes: dict[Value, int]) -> dict[Value, int] | None:
    """The axis of each value that a scan makes, from that of one of them; none if something is read across it."""
    statements = scan.body.statements
    inside = {value for statement in statements for value in statement.results} | set(results)
    inside -= _from_outside(statements, inside)
    links: list[tuple[Value, Value, Axes]] = []
    for statement in statements:
        pairs = same_entries(statement.instruction)
        if pairs is None:
            return None
        links += [
            (value, operand, shared) for value in statement.results for operand, shared in pairs if operand in inside
        ]
    for series, value in zip(results, scan.body.results, strict=True):
        links.append((value, series, {axis: axis + 1 for axis in range(len(value.dims))}))
    (first, axis), *_ = axes.items()
    apart = [value for each in statements for value in each.results if value in inside and value.dims == first.dims]
    while True:
        before = len(axes)
        for value, operand, shared in links:
            if value in axes:
                there = shared.get(axes[value])
                if there is None or axes.setdefault(operand, there) != there:
                    return None
            elif operand in axes:
                back = [ours for ours, theirs in shared.items() if theirs == axes[operand]]
                if not back:
                    return None
                axes[value] = back[0]
        if len(axes) > before:
            continue
        free = next((value for value in apart if value not in axes), None)
        if free is None:
            return axes if inside <= axes.keys() else None
        axes[free] = axis  # nothing that has an axis reads it, or is read by it


def _from_outside(statements: Sequence[Statement], inside: set[Value]) -> set[Value]:
    """Values that are read out of what is there before a scan."""
    found: set[Value] = set()
    for statement in statements:
        view = isinstance(statement.instruction, Read | Slice | Broadcast | Gather)
        if view and all(value in found or value not in inside for value in statement.instruction.operands):
            found.update(statement.results)
    return found


def same_entries(instruction: Instruction) -> list[tuple[Value, Axes]] | None:
    """For each operand, along which axes an entry of the result needs its entries at the same place only.

    None where that is not known.
    """
    match instruction:
        case Elementwise(arguments=arguments, dims=dims):
            lacking = [len(dims) - len(value.dims) for value in arguments]
            return [
                (value, {less + axis: axis for axis in range(len(value.dims))})
                for value, less in zip(arguments, lacking, strict=True)
            ]
        case Contract(left=left, right=right, axes=axes):
            ours, theirs, result = letters_of(axes)
            return [
                (value, {result.index(letter): axis for axis, letter in enumerate(word) if letter in result})
                for value, word in ((left, ours), (right, theirs))
            ]
        case Read(series=series):
            return [(series, {axis - 1: axis for axis in range(1, len(series.dims))})]
        case Flush(operand=operand):
            return [(operand, {axis: axis for axis in range(len(operand.dims))})]
        case Slice(operand=operand, axis=cut):
            return [(operand, {axis: axis for axis in range(len(operand.dims)) if axis != cut})]
        case Concat(parts=parts, axis=cut):
            return [(part, {axis: axis for axis in range(len(part.dims)) if axis != cut}) for part in parts]
        case Broadcast(operand=operand, axes=axes):
            return [(operand, {there: axis for axis, there in enumerate(axes)})]
        case Gather(operand=operand, axis=first, tables=tables):
            return [(operand, _beside(len(operand.dims), first, len(tables), len(tables[0].dims)))]
        case ScatterAdd(operand=operand, axis=first, sizes=sizes):
            return [(operand, _beside(len(operand.dims), first, 1, len(sizes)))]
        case Reduce(operand=operand, axes=axes):
            kept = [axis for axis in range(len(operand.dims)) if axis not in axes]
            return [(operand, dict(enumerate(kept)))]
        case _:
            return None


def _beside(rank: int, first: int, taken: int, put: int) -> Axes:
    """The axes of an operand before and after some, in the place of which others are put."""
    before = {axis: axis for axis in range(first)}
    return before | {axis - taken + put: axis for axis in range(first + taken, rank)}
