"""Gradients: the part of a block in the gradient of each parameter, inside it and through what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Argument, total
from forwardgrad.array_program.instructions import Read
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.context import NOW, Context
from forwardgrad.array_program.lowering.gates import Gate
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.last_step import LAST, Ended
from forwardgrad.array_program.lowering.swept import Swept, invoked
from forwardgrad.array_program.regions import Function, When
from forwardgrad.array_program.values import Type, Value

DOC = """The block's part of the gradient: inside the block, and through the influence on what was before it.
A fresh state holds no influence."""

LOSSY = """
Where a layout loses something, the last step counts through what is stored after the block."""

STEPS = affine("steps")

Through = Callable[[Builder], Value]
"""Makes what comes through what was before the block, where that is read."""


@dataclass(frozen=True)
class Sweeps:
    """The sweeps that gradients read.

    Args:
        whole: from all losses of the block.
        ended: from those of the last step, where layouts lose something.
        earlier: from those before it; `None` where no layout does.
    """

    whole: Swept
    ended: Ended
    earlier: Swept | None


def gradients(context: Context, influences: Mapping[str, Influence], sweeps: Sweeps) -> Function:
    """The function of the gradients.

    Args:
        context: of the lowering.
        influences: by parameter.
        sweeps: from the losses.
    """
    builder = Builder()
    lossy = [influence for influence in influences.values() if context.plan.rules[influence.name].lossy]
    lossless = [influence for influence in influences.values() if influence not in lossy]
    results = {i.name: _result(context, i.name, i.gradient_dims) for i in influences.values()}
    _of_lossless(builder, lossless, sweeps.whole, results)
    if lossy:
        _of_lossy(builder, lossy, sweeps, results)
    for follower, name in context.plan.followers.items():
        if name in results:
            results[follower] = _result(context, follower, results[name].dims)
            builder.elementwise(Argument(0), results[name], name=results[follower].name)
    return context.function("gradients", DOC + LOSSY if lossy else DOC, builder, list(results.values()))


def _result(context: Context, name: str, shape: Sequence[Affine]) -> Value:
    word = context.names.of(f"grad_{name}", "gradient", name)
    return context.given("grads", name, word, Type("float", tuple(shape)))


def _of_lossless(builder: Builder, influences: Sequence[Influence], swept: Swept, results: Mapping[str, Value]) -> None:
    """The gradients where layouts lose nothing: one sweep from all losses."""
    inside = {i.name: _sum(builder, i, "inside", _inside(builder, i, swept.ports, STEPS)) for i in influences}
    carried = _with_past(builder, inside, {i: _through(i, swept.past) for i in influences}, results)
    for name, value in inside.items():
        if name not in carried:
            builder.elementwise(Argument(0), value, name=results[name].name)


def _of_lossy(builder: Builder, influences: Sequence[Influence], sweeps: Sweeps, results: Mapping[str, Value]) -> None:
    """The gradients where layouts lose something: what the losses of the last step give, and those before it."""
    assert sweeps.earlier is not None
    ended, context = sweeps.ended, influences[0].context
    last = {gate: Adjoint(value, None) for gate, value in ended.ports.items()}
    at_end = {
        i.name: _sum(builder, i, "at_end", _held(builder, i, ended) + _inside(builder, i, last, affine(1), LAST))
        for i in influences
    }
    longer, one_step = Builder(builder), Builder(builder)
    ports, past = invoked(context, longer, sweeps.earlier, STEPS - 1, "earlier")
    inside = {
        i.name: _sum(longer, i, "inside", [at_end[i.name], *_inside(longer, i, ports, STEPS - 1)]) for i in influences
    }
    sums, late_sums = (
        {i.name: Value(context.names.of(f"{word}_{i.name}", word, i.name), results[i.name].type) for i in influences}
        for word in ("sum", "late_sum")
    )
    through = {i: _through(i, past) for i in influences}
    late = {i: _late(i, ended) for i in influences}
    longer_sums = inside | _with_past(longer, inside, through, sums)
    one_step_sums = at_end | _with_past(one_step, at_end, late, late_sums)
    both = longer.body(*longer_sums.values()), one_step.body(*one_step_sums.values())
    builder.define(tuple(results[name] for name in at_end), When(STEPS - 2, *both))


def _sum(builder: Builder, influence: Influence, word: str, terms: Sequence[Value]) -> Value:
    """The sum of parts of a gradient, under a name."""
    terms = terms or [builder.fill(0.0, *influence.gradient_dims)]
    name = influence.context.names.of(f"{word}_{influence.name}", word, influence.name)
    return builder.kept(builder.elementwise(total(len(terms)), *terms), name)


def _with_past(
    builder: Builder,
    inside: Mapping[str, Value],
    through: Mapping[Influence, Sequence[Through]],
    results: Mapping[str, Value],
) -> dict[str, Value]:
    """Sums of what comes from inside a block and, unless it is fresh, through what was before it; where there is any.

    Args:
        builder: of the function.
        inside: the one, by parameter.
        through: the other.
        results: the names of the sums.
    """
    carried, sums = Builder(builder), dict[str, Value]()
    for influence, terms in through.items():
        if terms:
            summed = [inside[influence.name], *(term(carried) for term in terms)]
            sums[influence.name] = carried.elementwise(total(len(summed)), *summed)
    if sums:
        both = carried.body(*sums.values()), Builder().body(*(inside[name] for name in sums))
        builder.define(tuple(results[name] for name in sums), When(-affine("fresh"), *both))
    return {name: results[name] for name in sums}


# Parts of a gradient.


def _inside(
    builder: Builder, influence: Influence, ports: Mapping[Gate, Adjoint], count: Affine, first: Affine = NOW
) -> list[Value]:
    """What comes from that many steps of the block from one on."""
    terms: list[Value] = []
    for site in influence.sites:
        if (b := ports.get((site.place, site.port))) is not None:
            x = influence.presynaptic(builder, site, count, first)
            terms.append(influence.synapses.gradient(builder, b.value, x))
    return terms


def _held(builder: Builder, influence: Influence, ended: Ended) -> list[Value]:
    """What comes through what is stored after the block."""
    arrived = {
        place: builder.add(Read(ended.arrived[place], NOW)) for place in influence.places if place in ended.arrived
    }
    return [influence.contract(builder, place, 1, adjoint, after=True) for place, adjoint in arrived.items()]


def _through(influence: Influence, past: Mapping[int, Adjoint]) -> list[Through]:
    """What comes through what was stored on each place, at each lag."""

    def term(place: int, lag: int) -> Through:
        at = affine(influence.depth(place) - lag)
        return lambda builder: influence.contract(builder, place, lag, builder.add(Read(past[place].value, at)))

    lags = [(place, lag) for place in influence.places for lag in range(1, influence.depth(place) + 1)]
    return [term(place, lag) for place, lag in lags if place in past]


def _late(influence: Influence, ended: Ended) -> list[Through]:
    """What the last step sends past all that is stored after it, where it is the only step."""

    def term(place: int, lag: int) -> Through:
        late = ended.late[place, lag]
        return lambda builder: influence.contract(builder, place, lag, builder.add(Read(late, NOW)))

    return [term(*entry) for entry in ended.late if entry[0] in influence.places]
