"""The advance: the state after a block, whose influence is S' = J S + I on every stored place and at every lag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, total
from forwardgrad.array_program.instructions import Broadcast, Concat, Flush, Read, Slice
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.swept import Swept, invoked
from forwardgrad.array_program.regions import Function, When
from forwardgrad.array_program.values import Value
from forwardgrad.compiler.keys import value_key

Step = tuple[Sequence[Value], Mapping[Value, Value]]
"""The influence of each parameter at a lag, `[batch ...]`, and what else their layouts want to know there."""

AtStep = Callable[[Builder, int], Step]
"""Makes these where a lag is a step of the block."""


def advance_place(context: Context, target: int, swept: Swept, influences: Sequence[Influence]) -> Function:
    """The function that advances the influence on one place.

    Args:
        context: of the lowering.
        target: the place.
        swept: the sweep from it.
        influences: of the parameters that store something on it.
    """

    def at_step(builder: Builder, lag: int) -> Step:
        return _at_step(context, builder, target, lag, swept, influences)

    return by_lags(context, target, influences, at_step)


def by_lags(context: Context, target: int, influences: Sequence[Influence], at_step: AtStep) -> Function:
    """The function that advances the influence on one place, given what it is at a step.

    Args:
        context: of the lowering.
        target: the place.
        influences: of the parameters that store something on it.
        at_step: makes the influence of each of them, and what else they want to know of that step.
    """
    name, builder = context.place(target), Builder()
    lags = [
        _lag(context, builder, lag, influences, target, at_step) for lag in range(1, context.plan.depth[target] + 1)
    ]
    results: list[Value] = []
    for influence, values in zip(influences, zip(*(found for found, _ in lags), strict=True), strict=True):
        rows = [builder.add(Broadcast(v, (affine(1), *v.dims), tuple(range(1, 1 + len(v.dims))))) for v in values]
        stacked = builder.add(Concat(tuple(rows), 0)) if len(rows) > 1 else rows[0]
        results.append(influence.made(target))
        builder.add(Flush(stacked), results[-1].name)
    results += [value for _, entering in lags for value in entering]
    doc = "\n".join(dict.fromkeys(influence.advanced_as(target) for influence in influences))
    identifier = context.names.of(f"advance_{name}", "advance", target, *(i.name for i in influences))
    return context.function(identifier, doc, builder, results)


def _lag(
    context: Context, builder: Builder, lag: int, influences: Sequence[Influence], target: int, at_step: AtStep
) -> Step:
    """The influence of each parameter at a lag: a step of the block, or one before it."""
    inside, before = Builder(builder), Builder(builder)
    found, entering = at_step(inside if lag > 1 else builder, lag)
    if lag == 1:
        for wanted, value in entering.items():
            builder.named(value, wanted.name)
        return found, entering
    old = [before.add(Read(i.stored(target), affine(lag - 1) - "steps")) for i in influences]
    old += [before.fill(0.0, *value.dims) for value in entering]
    words = [context.names.of(f"lag_{lag}_{i.name}", "lag", lag, i.name) for i in influences]
    results = [Value(word, value.type) for word, value in zip(words, found, strict=True)]
    new = inside.body(*found, *entering.values())
    builder.define((*results, *entering), When(affine("steps") - lag, new, before.body(*old)))
    return results, entering


def _at_step(
    context: Context, builder: Builder, target: int, lag: int, swept: Swept, influences: Sequence[Influence]
) -> Step:
    """The influence at a step of the block: what it injects up to there and, unless it is fresh, what it carries."""
    steps = affine("steps") - (lag - 1)
    ports, past = invoked(context, builder, swept, steps, str(lag) if lag > 1 else "")
    injected: list[Value | None] = []
    for influence in influences:
        value, word = influence.injected(builder, target, ports, steps), f"injected_{influence.name}"
        named = None if value is None else builder.kept(value, context.names.of(word, lag, influence.name))
        injected.append(named)
    sums = with_carried(builder, lag, target, influences, injected, lambda inner, i: i.carried(inner, target, past))
    made = [i.compressed(builder, target, lag, value) for i, value in zip(influences, sums, strict=True)]
    entering = [i.entering(builder, target, lag, ports) for i in influences]
    return made, {wanted: value for each in entering for wanted, value in each.items()}


def with_carried(
    builder: Builder,
    lag: int,
    target: int,
    influences: Sequence[Influence],
    injected: Sequence[Value | None],
    carried: Callable[[Builder, Influence], Sequence[Value]],
    word: str = "carried",
) -> list[Value]:
    """What is injected and, unless the state is fresh, what is carried.

    Args:
        builder: of the function.
        lag, target: at which all this is.
        influences: of the parameters.
        injected: the one; `None` for nothing.
        carried: makes the terms of the other.
        word: how their sums are called.
    """
    stale, fresh = Builder(builder), Builder(builder)
    sums, alone = list[Value](), list[Value]()
    for influence, value in zip(influences, injected, strict=True):
        terms = [*([] if value is None else [value]), *carried(stale, influence)]
        alone.append(fresh.fill(0.0, *influence.dims(target)) if value is None else value)
        sums.append(stale.elementwise(total(len(terms)), *terms) if terms else stale.fill(0.0, *alone[-1].dims))
    if not stale.statements:
        return alone
    words = [i.context.names.of(f"{word}_{i.name}", "carried", lag, i.name) for i in influences]
    results = tuple(Value(word, value.type) for word, value in zip(words, sums, strict=True))
    builder.define(results, When(-affine("fresh"), stale.body(*sums), fresh.body(*alone)))
    return list(results)


def advance(context: Context, parts: Sequence[Function], own: Sequence[Function]) -> Function:
    """The function of the whole state: the last values of nodes, and the influence on all places.

    Args:
        context: of the lowering.
        parts: the functions that advance places.
        own: those that make of it what single parameters store.
    """
    builder, results = Builder(), list[Value]()
    for name, series in context.nodes.items():
        if history := context.network.history(name):
            word = context.names.of(f"last_{name}", "last", name)
            last = Slice(series.value, 0, affine("steps"), affine(history), backward=True)
            results.append(builder.elementwise(Argument(0), builder.add(last), name=word))
            context.given("after", value_key(name), word, results[-1].type)
    for part in (*parts, *own):
        context.invoke(builder, part)
        results += [value for value in part.body.results if context.bindings.get(value.name, ("", ""))[0] == "after"]
    return context.function("advance", "The state after the block.", builder, results)
