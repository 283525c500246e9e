"""Arithmetic: how many additions, multiplications and other functions of numbers the instructions of a program are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod

from forwardgrad.array_program.expressions import Apply, Tree
from forwardgrad.array_program.instructions import Contract, Elementwise, Flush, Instruction, Reduce, ScatterAdd
from forwardgrad.array_program.regions import ArrayProgram, Body, Invoke, Scan, When
from forwardgrad.array_program.values import Dimensions

Counts = Counter[Dimensions]
"""Operations for each entry of arrays, by the dimensions of these."""


def counted(instruction: Instruction) -> tuple[int, Dimensions]:
    """The operations of an instruction without a body: how many for each entry of an array, and its dimensions.

    Those of your own function are not known.
    """
    match instruction:
        case Contract(left=left, right=right, axes=axes):
            read, result = axes.split("->")
            sizes = dict(zip(read.replace(",", ""), (*left.dims, *right.dims), strict=True))
            return 1 if set(result) == set(sizes) else 2, tuple(sizes.values())
        case Elementwise(tree=tree, dims=dims):
            return words(tree), dims
        case Reduce(operand=operand) | ScatterAdd(operand=operand):
            return 1, operand.dims
        case Flush(operand=operand, every=1):
            return 2, operand.dims
        case _:
            return 0, ()


def words(tree: Tree) -> int:
    """How many words of the vocabulary an expression applies."""
    return 1 + sum(map(words, tree.operands)) if isinstance(tree, Apply) else 0


def operations(program: ArrayProgram, function: str, symbols: Mapping[str, int]) -> Counts:
    """The operations of a function, with those that it invokes.

    At the ends of a block, where some terms of a scan are zero, they are counted all the same; what a scan flushes
    every few steps is not.

    Args:
        program: the program.
        function: its name.
        symbols: numbers for its symbols, which decide its tests.
    """
    return _counts(program, program.function(function).body, symbols)


def total(counts: Counts, symbols: Mapping[str, int]) -> int:
    """How many operations these are."""
    return sum(each * prod(dim.at(symbols) for dim in dims) for dims, each in counts.items())


def _counts(program: ArrayProgram, body: Body, symbols: Mapping[str, int]) -> Counts:
    counts = Counts()
    for statement in body.statements:
        match statement.instruction:
            case Scan(length=length, index=index, body=steps):
                inside = _counts(program, steps, {**symbols, index: 0})
                counts.update({(length, *dims): each for dims, each in inside.items()})
            case When(form=form, then=then, otherwise=otherwise):
                counts.update(_counts(program, then if form.at(symbols) >= 0 else otherwise, symbols))
            case Invoke(function=name, symbols=forms):
                there = {**symbols, **{symbol: form.at(symbols) for symbol, form in forms}}
                known = dict(forms)
                for dims, each in operations(program, name, there).items():
                    counts[tuple(dim.replaced(known) for dim in dims)] += each
            case instruction:
                each, dims = counted(instruction)
                counts[dims] += each
    return counts
