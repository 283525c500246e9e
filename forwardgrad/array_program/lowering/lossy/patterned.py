"""The layout `snap(n)`: influence on the units that a parameter's own reaches within n - 1 transitions (SnAp-n).

Menick et al. 2021, arXiv 2006.07232. Where a row reaches its own unit alone, an influence is one number per entry, and
what carries it is the diagonal of a Jacobian. Where a row reaches more, its kept entries are a block `[units reached,
entries of the row]`, and a Jacobian carries blocks to blocks: for each row a product of small matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import total
from forwardgrad.array_program.instructions import Gather, Read, ScatterAdd
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.advance import Step, by_lags, with_carried
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.gates import Gate
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.lossy.by_rows import RowLayout
from forwardgrad.array_program.lowering.lossy.one_step import OneStep
from forwardgrad.array_program.lowering.lossy.sampled import Maker, Sampled, sampled
from forwardgrad.array_program.lowering.swept import Swept, invoked
from forwardgrad.array_program.lowering.synapses import Synapses
from forwardgrad.array_program.regions import Function, When
from forwardgrad.array_program.values import Dimensions, Value
from forwardgrad.compiler.product import Injection
from forwardgrad.layouts.patterns import Block
from forwardgrad.layouts.snap import MaskedTraces
from forwardgrad.layouts.traces import Part
from forwardgrad.ops import Array
from forwardgrad.structure import Structure


class Jacobians(Protocol):
    """The Jacobians of a place over a block, and what parameters multiply in it."""

    def at_port(self, place: int, port: str) -> Sampled | None:
        """By a port at which a parameter enters, with an axis for steps or without; `None` where it is zero."""
        ...

    def before(self, place: int, lag: int) -> Sampled | None:
        """By a place, that many steps before the block."""
        ...

    def presynaptic(self, influence: Influence, site: Injection) -> Value | None:
        """What a parameter multiplies at a site, with steps where the Jacobian by its port has them; `None` for 1."""
        ...

    def inside(self, builder: Builder) -> Jacobians:
        """The same for a body inside."""
        ...


@dataclass(frozen=True)
class Several:
    """Over several steps.

    Args:
        context: of the lowering.
        builder: of the body in which they are read.
        steps: how many steps.
        ports, past: what a sweep from the place gives.
    """

    context: Context
    builder: Builder
    steps: Affine
    ports: Mapping[Gate, Adjoint]
    past: Mapping[int, Adjoint]

    def at_port(self, place: int, port: str) -> Sampled | None:
        b = self.ports.get((place, port))
        return None if b is None else self._sampled(b, place)

    def before(self, place: int, lag: int) -> Sampled | None:
        if (b := self.past.get(place)) is None:
            return None
        depth = self.context.plan.depth[place]
        return self._sampled(Adjoint(self.builder.add(Read(b.value, affine(depth - lag))), b.word), place)

    def _sampled(self, b: Adjoint, place: int) -> Sampled:
        return sampled(Maker(self.context, self.builder), b, self.context.plan.size(place))

    def presynaptic(self, influence: Influence, site: Injection) -> Value | None:
        return influence.presynaptic(self.builder, site, self.steps)

    def inside(self, builder: Builder) -> Several:
        return replace(self, builder=builder)


class PatternedInfluence(Influence):
    """The influence of one parameter under `snap(n)`.

    Args:
        context: of the lowering.
        name: the parameter.
        traces: its layout, as the interpreter runs it.
    """

    def __init__(self, context: Context, name: str, traces: MaskedTraces) -> None:
        super().__init__(context, name)
        self.traces = traces

    @cached_property
    def by_rows(self) -> RowLayout:
        """How it is laid out by rows, where only some entries are kept."""
        blocks = [block for place in self.places if (block := self.block(place)) is not None]
        return RowLayout(self.context, self.name, blocks[0].rows)

    def shape_of(self, part: Part) -> tuple[int, ...]:
        return self.traces.shapes()[part]

    def dims(self, place: int) -> Dimensions:
        """The dimensions of what is stored on a place, at one lag, or of the influence where all is kept."""
        if self.block(place) is None:
            return super().dims(place)
        return affine("batch"), *map(affine, self.shape_of(place)[1:])

    def block(self, place: int) -> Block | None:
        """The kept entries on a place, row by row; `None` where all are kept."""
        return self.traces.partial(place)

    def advanced_as(self, place: int) -> str:
        if self.block(place) is None:
            return super().advanced_as(place)
        kept = f"The influence on {self.context.place(place)} after the block: J S + I, as far as it is kept."
        return f"{kept}\nA block of one step makes of J what it reads."

    def is_empty(self, place: int) -> bool:
        """Whether nothing is stored on a place."""
        return 0 in self.shape_of(place)

    # Places on which all entries are kept, and scalar weights.

    def expanded(self, builder: Builder, place: int, lag: int, *, after: bool = False) -> Value:
        stored, block, units = self.read(builder, place, lag, after=after), self.block(place), self.plan.size(place)
        if block is not None:
            where = np.unravel_index(block.back, block.table.shape)
            row, line = where[:2]
            entry = row if len(where) == 2 or self.by_rows.single else block.rows.table[row, where[2]]
            tables = self._table("reached_units", block.units[row, line]), self._table("kept_entries", entry)
            return builder.add(ScatterAdd(stored, 1, tables, (affine(units), self.by_synapse.shape[0]), unique=True))
        kept = self.traces.kept(place)
        if kept is None:
            return stored
        tables = (self._table("kept_units", np.flatnonzero(kept)),)
        return builder.add(ScatterAdd(stored, 1, tables, (affine(units),), unique=True))

    def compressed(self, builder: Builder, place: int, lag: int, influence: Value) -> Value:
        kept = self.traces.kept(place)
        if kept is None:
            return influence
        return builder.add(Gather(influence, 1, (self._table("kept_units", np.flatnonzero(kept)),)))

    def _table(self, word: str, indices: Array) -> Value:
        return self.context.constant(f"{word}_{self.name}", indices, "int")

    # Places on which some are kept.

    def contract(self, builder: Builder, place: int, lag: int, adjoint: Value, *, after: bool = False) -> Value:
        block = self.block(place)
        if block is None:
            return super().contract(builder, place, lag, adjoint, after=after)
        if self.is_empty(place):
            return builder.fill(0.0, *self.gradient_dims)
        stored = self.read(builder, place, lag, after=after)
        if not block.own:
            gradient = self.by_rows.contracted(builder, adjoint, block, stored)
            return self.by_synapse.collapse(builder, gradient, len(self.by_synapse.kept))
        first = Maker(self.context, builder).first(adjoint, block.rows.units)
        assert isinstance(first, Value)
        return self.synapses.contract(builder, first, Structure.DIAGONAL, stored)

    def entering_parts(self, builder: Builder, target: int, jacobians: Jacobians) -> list[Value]:
        """What a block injects into the kept entries of a place, the terms of a sum."""
        block, parts = self._block(target), list[Value]()
        for site in self.sites if not self.is_empty(target) else ():
            if (j := jacobians.at_port(site.place, site.port)) is None:
                continue
            x = jacobians.presynaptic(self, site)
            if block.own:
                make = Maker(self.context, builder)
                own = make.array(j.diagonal(make, block.rows.units), "batch", block.rows.units)
                own = make.named(own, "injecting")
                parts.append(self.by_synapse.enter(builder, own, x))
            else:
                parts.append(self.by_rows.injected(builder, j, block, x))
        return parts

    def carried_parts(self, builder: Builder, target: int, jacobians: Jacobians) -> list[Value]:
        """What is carried into the kept entries of a place, the terms of a sum."""
        parts: list[Value] = []
        for place in self.places if not self.is_empty(target) else ():
            for lag in range(1, self.depth(place) + 1) if not self.is_empty(place) else ():
                if (j := jacobians.before(place, lag)) is not None:
                    stored = self.read(builder, place, lag)
                    parts.append(self._carried(builder, j, self._block(target), place, stored))
        return parts

    def _carried(self, builder: Builder, j: Sampled, target: Block, place: int, stored: Value) -> Value:
        source, word = self.block(place), self.layout(place)
        if target.own and (word is not Structure.FULL if source is None else source.own):
            make = Maker(self.context, builder)
            own = j.diagonal(make, target.rows.units)
            own = make.named(own, "carrying") if isinstance(own, Value) and own.dims else own
            word = word if source is None else Structure.DIAGONAL
            return self.by_synapse.scale(builder, own, word, stored)
        if source is None:
            by_rows = self.by_rows.stored(builder, word, stored, self.plan.size(place))
        else:
            by_rows = self.by_rows.kept(builder, source, stored)
        return self.by_rows.carried(builder, j, target, by_rows)

    @property
    def by_synapse(self) -> Synapses:
        assert isinstance(self.synapses, Synapses)  # a scalar weight has no rows
        return self.synapses

    def _block(self, place: int) -> Block:
        block = self.block(place)
        assert block is not None
        return block


def advance_patterned(
    context: Context, target: int, swept: Swept, influences: Sequence[PatternedInfluence]
) -> Function:
    """The function that advances the influence on a place of which only some entries are kept.

    A block of one step makes of a Jacobian what it reads; one of more steps makes it in full, since paths inside a
    block are all kept.

    Args:
        context: of the lowering.
        target: the place.
        swept: the sweep from it.
        influences: of the parameters that keep some entries of theirs there.
    """

    def several(builder: Builder, lag: int) -> list[Value]:
        steps = affine("steps") - (lag - 1)
        found = invoked(context, builder, swept, steps, str(lag) if lag > 1 else "")
        return _sums(builder, target, lag, influences, Several(context, builder, steps, *found))

    def at_step(builder: Builder, lag: int) -> Step:
        if lag > 1:
            return several(builder, lag), {}
        longer, one_step = Builder(builder), Builder(builder)
        alone = _sums(one_step, target, 1, influences, OneStep(context, one_step, target), "entering", "following")
        both = several(longer, 1), alone
        names = [context.names.of(f"lag_1_{i.name}", "lag", 1, i.name) for i in influences]
        results = [Value(name, value.type) for name, value in zip(names, both[0], strict=True)]
        bodies = longer.body(*both[0]), one_step.body(*both[1])
        builder.define(tuple(results), When(affine("steps") - 2, *bodies))
        return results, {}

    return by_lags(context, target, influences, at_step)


def _sums(
    builder: Builder,
    target: int,
    lag: int,
    influences: Sequence[PatternedInfluence],
    jacobians: Jacobians,
    injected: str = "injected",
    carried: str = "carried",
) -> list[Value]:
    """What is injected and, unless the state is fresh, what is carried; by which words they are called."""
    values: list[Value | None] = []
    for influence in influences:
        terms = influence.entering_parts(builder, target, jacobians)
        name = influence.context.names.of(f"{injected}_{influence.name}", lag, influence.name)
        values.append(builder.kept(builder.elementwise(total(len(terms)), *terms), name) if terms else None)

    def parts(inner: Builder, influence: Influence) -> list[Value]:
        assert isinstance(influence, PatternedInfluence)
        return influence.carried_parts(inner, target, jacobians.inside(inner))

    return with_carried(builder, lag, target, influences, values, parts, carried)
