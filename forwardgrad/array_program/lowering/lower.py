"""The lowering: all functions of a plan's array program, in the order in which a block runs them."""

from __future__ import annotations

from typing import Any

from forwardgrad.array_program.checker import check
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.forward import forward, stage_functions
from forwardgrad.array_program.regions import ArrayProgram, Function
from forwardgrad.compiler.plan import Plan


def lower(plan: Plan, dtype: Any) -> tuple[ArrayProgram, Context]:
    """The array program of a plan, and what its arrays stand for.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """
    context = Context(plan, dtype)
    parts = stage_functions(context)
    weights = _weights(context)
    functions = (*weights, *parts, forward(context, weights, parts))
    return check(ArrayProgram(context.dtype.name, functions, context.constants, context.bindings)), context


def _weights(context: Context) -> list[Function]:
    """The function that makes arrays of the parameters, if any are made."""
    made = [value for statement in context.weights.statements for value in statement.results if not value.unnamed]
    doc = "What is made of the parameters once a block."
    return [context.function("weights", doc, context.weights, made)] if made else []
