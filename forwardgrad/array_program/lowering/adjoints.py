"""Adjoints: what becomes of one on its way back through an op and over an edge, by the word of what it holds.

An adjoint lacks the axes that its word does not ask for: `scalar` has none for units, `diagonal` one, `full` one for
seeds and one for units. An adjoint of the losses has no word, and one axis for units. Before these stand steps and
batch, or in a scan the batch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.instructions import Broadcast, Contract, ScatterAdd
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.weights import Weight, scaled
from forwardgrad.array_program.values import Value
from forwardgrad.structure import Structure, compose

Word = Structure | None

LETTERS: Mapping[Word, str] = {None: "i", Structure.SCALAR: "", Structure.DIAGONAL: "i", Structure.FULL: "si"}
"""The axes of an adjoint behind steps and batch."""


@dataclass(frozen=True)
class Adjoint:
    """A value with its word; `None` in a sweep from the losses."""

    value: Value
    word: Word

    @property
    def lead(self) -> str:
        """The letters of its axes before those of its word."""
        return "tb"[2 - (len(self.value.dims) - len(LETTERS[self.word])) :]


def through_op(builder: Builder, b: Adjoint, slope: Value | Number, word: Structure) -> Adjoint:
    """The adjoint of a port, given that of the node and the derivative, a number or an array of that word."""
    if isinstance(slope, Number):
        return Adjoint(scaled(builder, slope, b.value), b.word)
    found = None if b.word is None else compose(b.word, word)
    ours, theirs, result = {
        (None, Structure.FULL): ("i", "ij", "j"),
        (Structure.SCALAR, Structure.FULL): ("", "sj", "sj"),
        (Structure.DIAGONAL, Structure.FULL): ("s", "sj", "sj"),
        (Structure.FULL, Structure.FULL): ("si", "ij", "sj"),
    }.get((b.word, word), (LETTERS[b.word], LETTERS[word], LETTERS[found]))
    return Adjoint(times(builder, b.value, b.lead + ours, slope, b.lead + theirs, b.lead + result), found)


def over_edge(builder: Builder, b: Adjoint, factor: Weight, word: Structure) -> Adjoint:
    """What an adjoint of a port brings back over an edge, whose factor has that word."""
    found = None if b.word is None else compose(b.word, word)
    if not isinstance(factor, Value) or not factor.dims:
        return Adjoint(scaled(builder, factor, b.value), found)
    ours, theirs, result = LETTERS[b.word], "i", LETTERS[found]
    if len(factor.dims) == 2:
        ours, theirs, result = {
            None: ("i", "ij", "j"),
            Structure.SCALAR: ("", "sj", "sj"),
            Structure.DIAGONAL: ("s", "sj", "sj"),
            Structure.FULL: ("si", "ij", "sj"),
        }[b.word]
    return Adjoint(times(builder, b.value, b.lead + ours, factor, theirs, b.lead + result), found)


def times(
    builder: Builder, left: Value, ours: str, right: Value, theirs: str, result: str, sparse: bool = False
) -> Value:
    """A product by axes: entry by entry where no axis is summed, and each array has the last axes of the result."""
    if result.endswith(ours) and result.endswith(theirs):
        return builder.elementwise(apply("*", Argument(0), Argument(1)), left, right)
    summed = not set(ours + theirs) <= set(result)
    return builder.add(Contract(left, right, f"{ours},{theirs}->{result}", sparse and summed))


def fitted(context: Context, builder: Builder, b: Adjoint, size: int, word: Word) -> Value:
    """An adjoint of a place of that many units, with the axes of a word at least as wide."""
    value = b.value
    if b.word is None or b.word is word:
        return value
    lead = len(b.lead)
    if b.word is Structure.SCALAR:
        value = builder.add(Broadcast(value, (*value.dims, affine(size)), tuple(range(lead))))
    if word is Structure.FULL:
        unit = context.constant(f"units_{size}", np.arange(size), "int")
        value = builder.add(ScatterAdd(value, lead, (unit, unit), (affine(size), affine(size)), unique=True))
    return value
