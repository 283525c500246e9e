"""The lowering: all functions of a plan's array program, in the order in which a block runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from forwardgrad.array_program.buffers import Analysed, analysed
from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.lowering.advance import advance, advance_place
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.forward import forward, stage_functions
from forwardgrad.array_program.lowering.gradients import Sweeps, gradients
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.last_step import last_step
from forwardgrad.array_program.lowering.lossy.by_layout import influence
from forwardgrad.array_program.lowering.lossy.patterned import PatternedInfluence, advance_patterned
from forwardgrad.array_program.lowering.lossy.rank_one import RankOneInfluence
from forwardgrad.array_program.lowering.slopes import slopes
from forwardgrad.array_program.lowering.sweep import credit, earlier_credit, jacobian, pulled
from forwardgrad.array_program.lowering.swept import Swept
from forwardgrad.array_program.regions import ArrayProgram, Function
from forwardgrad.array_program.values import Value, floats
from forwardgrad.compiler.plan import Plan


@dataclass(frozen=True)
class Lowered:
    """A plan as an array program, and what its arrays stand for.

    Args:
        program: the functions.
        context: the names of the arrays of the forward pass.
        credit: what the sweep from the losses gives.
        jacobians: what the sweep from each stored place gives.
        influences: what is stored of each parameter.
    """

    program: ArrayProgram
    context: Context
    credit: Swept
    jacobians: Mapping[int, Swept]
    influences: Mapping[str, Influence]

    @cached_property
    def functions(self) -> Mapping[str, Analysed]:
        """The functions with what printed source and price share, by name."""
        return analysed(self.program)


def lower(plan: Plan, dtype: Any) -> Lowered:
    """The array program of a plan.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """
    context = Context(plan, dtype)
    parts, derived = stage_functions(context), slopes(context)
    lossy = {name for name in plan.entries if plan.rules[name].lossy}
    builder = Builder()
    ended = last_step(context, builder, {place for name in lossy for place in plan.entries[name]})
    from_losses = credit(context, builder, ended)
    earlier = earlier_credit(context, ended) if lossy else None
    from_places = {target: jacobian(context, target) for target in plan.stored}
    weights = _weights(context)
    influences = {name: influence(context, name) for name in plan.entries}
    advances = [each for target, swept in from_places.items() for each in _advances(context, target, swept, influences)]
    sent_back, own = _own(context, list(influences.values()))
    functions = [
        *weights,
        *parts,
        forward(context, weights, parts),
        derived,
        from_losses.function,
        *((earlier.function,) if earlier else ()),
        gradients(context, influences, Sweeps(from_losses, ended, earlier)),
        *(swept.function for swept in from_places.values()),
        *((sent_back.function,) if sent_back else ()),
        *advances,
        *own,
        advance(context, advances, own),
    ]
    program = ArrayProgram(context.dtype.name, tuple(functions), context.constants, context.bindings)
    return Lowered(program, context, from_losses, from_places, influences)


def _advances(context: Context, target: int, swept: Swept, influences: Mapping[str, Influence]) -> Iterator[Function]:
    """The functions that advance the influence on a place."""
    stored = [each for each in influences.values() if target in each.places]
    patterned = [each for each in stored if isinstance(each, PatternedInfluence) and each.block(target) is not None]
    if others := [each for each in stored if each not in patterned]:
        yield advance_place(context, target, swept, others)
    if patterned:
        yield advance_patterned(context, target, swept, patterned)


def _own(context: Context, influences: Sequence[Influence]) -> tuple[Swept | None, list[Function]]:
    """The functions of what single parameters store, and the sweep that some of them run."""
    estimated = [each for each in influences if isinstance(each, RankOneInfluence)]
    given = {
        place: Value(
            context.names.of(f"given_{context.place(place)}", "seeds", place),
            floats("steps", "batch", context.plan.size(place)),
        )
        for place in dict.fromkeys(place for each in estimated for place in each.places)
    }
    sent_back = pulled(context, given) if given else None
    for each in estimated:
        each.sent_back, each.given = sent_back, given
    return sent_back, [function for each in influences if (function := each.own()) is not None]


def _weights(context: Context) -> list[Function]:
    """The function that makes arrays of the parameters, if any are made."""
    made = [value for statement in context.weights.statements for value in statement.results if not value.unnamed]
    doc = "What is made of the parameters once a block."
    return [context.function("weights", doc, context.weights, made)] if made else []
