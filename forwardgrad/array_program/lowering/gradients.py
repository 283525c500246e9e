"""Gradients: the part of a block in the gradient of each parameter, inside it and through what was before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, total
from forwardgrad.array_program.instructions import Read
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.sweep import Swept
from forwardgrad.array_program.regions import Function, When
from forwardgrad.array_program.values import Value

DOC = """The block's part of the gradient: inside the block, and through the influence on what was before it.
A fresh state holds no influence."""


def gradients(context: Context, influences: Mapping[str, Influence], swept: Swept) -> Function:
    """The function of the gradients.

    Args:
        context: of the lowering.
        influences: of the parameters whose gradient it finds.
        swept: the sweep from the losses.
    """
    builder = Builder()
    carried = Builder(builder)
    inside = {name: _inside(builder, influence, swept) for name, influence in influences.items()}
    names = [name for name, influence in influences.items() if any(p in swept.past for p in influence.places)]
    through: dict[str, Value] = {}
    for name in names:
        terms = [inside[name], *_through(carried, influences[name], swept)]
        through[name] = carried.elementwise(total(len(terms)), *terms)
    results = {name: _result(context, name, value) for name, value in inside.items()}
    if names:
        both = carried.body(*through.values()), Builder().body(*(inside[name] for name in names))
        builder.define(tuple(results[name] for name in names), When(-affine("fresh"), *both))
    for name in inside:
        if name not in through:
            builder.elementwise(Argument(0), inside[name], name=results[name].name)
    for follower, name in context.plan.followers.items():
        if name in results:
            results[follower] = _result(context, follower, results[name])
            builder.elementwise(Argument(0), results[name], name=results[follower].name)
    return context.function("gradients", DOC, builder, list(results.values()))


def _result(context: Context, name: str, value: Value) -> Value:
    return context.given("grads", name, context.names.of(f"grad_{name}", "gradient", name), value.type)


def _inside(builder: Builder, influence: Influence, swept: Swept) -> Value:
    """The gradient that comes from inside the block."""
    terms: list[Value] = []
    for site in influence.sites:
        if (b := swept.ports.get((site.place, site.port))) is not None:
            x = influence.presynaptic(builder, site, affine("steps"))
            terms.append(influence.synapses.gradient(builder, b.value, x))
    terms = terms or [builder.fill(0.0, *influence.shape)]
    word = influence.context.names.of(f"inside_{influence.name}", "inside", influence.name)
    return builder.kept(builder.elementwise(total(len(terms)), *terms), word)


def _through(builder: Builder, influence: Influence, swept: Swept) -> Sequence[Value]:
    """What comes through the influence on each stored place, at each lag."""
    found: list[Value] = []
    for place in influence.places:
        if (past := swept.past.get(place)) is None:
            continue
        depth = influence.depth(place)
        for lag in range(1, depth + 1):
            adjoint = builder.add(Read(past.value, affine(depth - lag)))
            stored = builder.add(Read(influence.stored(place), affine(lag - 1)))
            found.append(influence.synapses.contract(builder, adjoint, influence.layout(place), stored))
    return found
