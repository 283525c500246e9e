"""The advance: the state after a block, whose influence is S' = J S + I on every stored place and at every lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Argument, total
from forwardgrad.array_program.instructions import Broadcast, Concat, Flush, Read, Slice
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.sweep import Gate, Swept
from forwardgrad.array_program.regions import Function, Invoke, When
from forwardgrad.array_program.values import Type, Value
from forwardgrad.compiler.keys import value_key
from forwardgrad.structure import Structure, compose


def advance_place(context: Context, target: int, swept: Swept, influences: Sequence[Influence]) -> Function:
    """The function that advances the influence on one place.

    Args:
        context: of the lowering.
        target: the place.
        swept: the sweep from it.
        influences: of the parameters that store something on it.
    """
    name, builder = context.place(target), Builder()
    lags = [_lag(context, builder, target, lag, swept, influences) for lag in range(1, context.plan.depth[target] + 1)]
    results: list[Value] = []
    for influence, values in zip(influences, zip(*lags, strict=True), strict=True):
        rows = [builder.add(Broadcast(v, (affine(1), *v.dims), tuple(range(1, 1 + len(v.dims))))) for v in values]
        stacked = builder.add(Concat(tuple(rows), 0)) if len(rows) > 1 else rows[0]
        results.append(influence.advanced(target))
        builder.add(Flush(stacked), results[-1].name)
    doc = f"The influence on {name} after the block: J S + I."
    return context.function(context.names.of(f"advance_{name}", "advance", target), doc, builder, results)


def _lag(
    context: Context, builder: Builder, target: int, lag: int, swept: Swept, influences: Sequence[Influence]
) -> list[Value]:
    """The influence of each parameter at a lag, `[batch ...]`: a step of the block, or one before it."""
    inside, before = Builder(builder), Builder(builder)
    found = _at_step(context, inside if lag > 1 else builder, target, lag, swept, influences)
    if lag == 1:
        return found
    old = [before.add(Read(i.stored(target), affine(lag - 1) - "steps")) for i in influences]
    words = [context.names.of(f"lag_{lag}_{i.name}", "lag", lag, i.name) for i in influences]
    results = tuple(Value(word, value.type) for word, value in zip(words, found, strict=True))
    builder.define(results, When(affine("steps") - lag, inside.body(*found), before.body(*old)))
    return list(results)


def _at_step(
    context: Context, builder: Builder, target: int, lag: int, swept: Swept, influences: Sequence[Influence]
) -> list[Value]:
    """The influence at a step of the block: what it injects up to there and, unless it is fresh, what it carries."""
    steps = affine("steps") - (lag - 1)
    ports, past = _invoked(context, builder, swept, lag)
    injected = [
        builder.kept(_injected(builder, i, target, ports, steps), context.names.of(f"injected_{i.name}", lag, i.name))
        for i in influences
    ]
    carried = Builder(builder)
    sums: list[Value] = []
    for influence, value in zip(influences, injected, strict=True):
        terms = [value, *_carried(carried, influence, target, past)]
        sums.append(carried.elementwise(total(len(terms)), *terms))
    if not carried.statements:
        return injected
    words = [context.names.of(f"carried_{i.name}", "carried", lag, i.name) for i in influences]
    results = tuple(Value(word, value.type) for word, value in zip(words, sums, strict=True))
    builder.define(results, When(-affine("fresh"), carried.body(*sums), Builder().body(*injected)))
    return list(results)


def _invoked(
    context: Context, builder: Builder, swept: Swept, lag: int
) -> tuple[Mapping[Gate, Adjoint], Mapping[int, Adjoint]]:
    """What a sweep gives that starts at a lag: the same function, of a shorter block."""
    shorter = {"steps": affine("steps") - (lag - 1)} if lag > 1 else {}
    function = swept.function
    arguments: list[Value] = []
    for value in function.inputs:
        size = value.dims[0].replaced(shorter) if value.dims else None
        cut = size is not None and size != value.dims[0]
        arguments.append(builder.add(Slice(value, 0, affine(0), size)) if size is not None and cut else value)
    there: dict[Value, Value] = {}
    for value in function.body.results:
        name = context.names.of(f"{value.name}_{lag}", "at lag", lag, value.name) if lag > 1 else value.name
        there[value] = Value(name, Type(value.type.dtype, tuple(dim.replaced(shorter) for dim in value.dims)))
    produced = tuple(value.type for value in there.values())
    builder.define(tuple(there.values()), Invoke(function.name, tuple(arguments), produced, tuple(shorter.items())))
    ports = {gate: Adjoint(there[b.value], b.word) for gate, b in swept.ports.items()}
    return ports, {place: Adjoint(there[b.value], b.word) for place, b in swept.past.items()}


def _injected(
    builder: Builder, influence: Influence, target: int, ports: Mapping[Gate, Adjoint], steps: Affine
) -> Value:
    """What enters in the block, in the layout of the target."""
    layout, terms = influence.layout(target), list[Value]()
    for site in influence.sites:
        if (j := ports.get((site.place, site.port))) is None or j.word is None:
            continue
        x = influence.presynaptic(builder, site, steps)
        value = influence.synapses.inject(builder, j.word, j.value, x)
        terms.append(influence.synapses.widen(builder, value, j.word, layout))
    terms = terms or [builder.fill(0.0, *influence.stored(target).dims[1:])]
    return builder.elementwise(total(len(terms)), *terms)


def _carried(builder: Builder, influence: Influence, target: int, past: Mapping[int, Adjoint]) -> list[Value]:
    """What was there before the block, times the Jacobian of the target by it."""
    found: list[Value] = []
    for place in influence.places:
        layout = influence.layout(place)
        if (j := past.get(place)) is None or j.word is None or layout is Structure.ZERO:
            continue
        for lag in range(1, influence.depth(place) + 1):
            stored = builder.add(Read(influence.stored(place), affine(lag - 1)))
            jacobian = builder.add(Read(j.value, affine(influence.depth(place) - lag)))
            value = influence.synapses.carry(builder, j.word, jacobian, layout, stored)
            found.append(influence.synapses.widen(builder, value, compose(j.word, layout), influence.layout(target)))
    return found


def advance(context: Context, parts: Sequence[Function]) -> Function:
    """The function of the whole state: the last values of nodes, and the influence on all places."""
    builder, results = Builder(), list[Value]()
    for name, series in context.nodes.items():
        if history := context.network.history(name):
            word = context.names.of(f"last_{name}", "last", name)
            last = Slice(series.value, 0, affine("steps"), affine(history), backward=True)
            results.append(builder.elementwise(Argument(0), builder.add(last), name=word))
            context.given("after", value_key(name), word, results[-1].type)
    for part in parts:
        context.invoke(builder, part)
        results += part.body.results
    return context.function("advance", "The state after the block, as far as it is lossless.", builder, results)
