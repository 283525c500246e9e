"""What random layouts count: the number of the draw, and the blocks in it."""

from __future__ import annotations

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.values import Value
from forwardgrad.layouts.draws import COUNT, DRAW, PERIOD


def counted(builder: Builder, influence: Influence) -> list[Value]:
    """The numbers of the draw and of the block, after the block."""
    draw, blocks = influence.advanced(DRAW), influence.advanced(COUNT)
    builder.elementwise(Argument(0), influence.stored(DRAW), name=draw.name)
    following = apply("+", Argument(0), Number(1))
    again = apply("where", apply("<", Argument(0), Number(PERIOD - 1)), following, Number(0))
    builder.elementwise(again, influence.stored(COUNT), name=blocks.name)
    return [draw, blocks]
