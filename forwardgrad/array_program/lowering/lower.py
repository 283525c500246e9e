"""The lowering: all functions of a plan's array program, in the order in which a block runs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from forwardgrad.array_program.lowering.advance import advance, advance_place
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.forward import forward, stage_functions
from forwardgrad.array_program.lowering.gradients import gradients
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.slopes import slopes
from forwardgrad.array_program.lowering.sweep import Swept, credit, jacobian, pulled
from forwardgrad.array_program.regions import ArrayProgram, Function
from forwardgrad.compiler.plan import Plan


@dataclass(frozen=True)
class Lowered:
    """A plan as an array program, and what its arrays stand for.

    Args:
        program: the functions.
        context: the names of the arrays of the forward pass.
        credit: what the sweep from the losses gives.
        jacobians: what the sweep from each stored place gives.
        pulled: what the sweep from adjoints gives that lossy layouts hand over, if any do.
    """

    program: ArrayProgram
    context: Context
    credit: Swept
    jacobians: Mapping[int, Swept]
    pulled: Swept | None


def lower(plan: Plan, dtype: Any, pulling: Collection[int] = ()) -> Lowered:
    """The array program of a plan.

    Of parameters with lossy layouts it has the sweeps, not what becomes of influence.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
        pulling: the places whose adjoints lossy layouts hand over.
    """
    context = Context(plan, dtype)
    parts = stage_functions(context)
    derived = slopes(context)
    from_losses = credit(
        context, {p for name, places in plan.entries.items() if plan.rules[name].lossy for p in places}
    )
    from_places = {target: jacobian(context, target) for target in plan.stored}
    from_given = pulled(context, pulling) if pulling else None
    weights = _weights(context)
    influences = {name: Influence(context, name) for name in plan.entries if not plan.rules[name].lossy}
    advances = [
        advance_place(context, target, swept, stored)
        for target, swept in from_places.items()
        if (stored := [influence for influence in influences.values() if target in influence.places])
    ]
    functions = [
        *weights,
        *parts,
        forward(context, weights, parts),
        derived,
        from_losses.function,
        gradients(context, influences, from_losses),
        *(swept.function for swept in from_places.values()),
        *((from_given.function,) if from_given else ()),
        *advances,
        advance(context, advances),
    ]
    program = ArrayProgram(context.dtype.name, tuple(functions), context.constants, context.bindings)
    return Lowered(program, context, from_losses, from_places, from_given)


def _weights(context: Context) -> list[Function]:
    """The function that makes arrays of the parameters, if any are made."""
    made = [value for statement in context.weights.statements for value in statement.results if not value.unnamed]
    doc = "What is made of the parameters once a block."
    return [context.function("weights", doc, context.weights, made)] if made else []
