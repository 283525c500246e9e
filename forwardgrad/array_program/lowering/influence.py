"""Influence: what is stored of one parameter, where it enters, and what becomes of it. Here without loss.

Layouts that lose something are subclasses, in `lossy/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import total
from forwardgrad.array_program.instructions import Read
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.context import NOW, Context
from forwardgrad.array_program.lowering.gates import Gate
from forwardgrad.array_program.lowering.synapses import Single, Synapses, synapses
from forwardgrad.array_program.regions import Function
from forwardgrad.array_program.values import Dimensions, Type, Value
from forwardgrad.compiler.keys import influence_key
from forwardgrad.compiler.product import Injection
from forwardgrad.layouts.traces import Part
from forwardgrad.structure import Structure, compose


class Influence:
    """The influence of one parameter.

    Args:
        context: of the lowering.
        name: the parameter.
    """

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name, self.plan = context, name, context.plan
        self.places = self.plan.entries[name]
        self.sites = [site for site in self.plan.product.injections if site.parameter == name]
        self.shape = tuple(map(affine, context.network.parameters[name].shape))
        self.gradient_dims = (affine("batch"), *self.shape) if self.plan.per_sample else self.shape
        self._arrays: dict[tuple[str, Part], Value] = {}

    @cached_property
    def synapses(self) -> Synapses | Single:
        """How it is injected, carried and contracted."""
        return synapses(self.context, self.name)

    # What is stored.

    def layout(self, place: int) -> Structure:
        """The word of the influence on a place."""
        return self.plan.layouts[self.name, place]

    def dims(self, place: int) -> Dimensions:
        """The dimensions of the influence on a place, at one lag."""
        return affine("batch"), *map(affine, self.plan.stored_shape(self.name, place))

    def depth(self, place: int) -> int:
        """The lags that are stored on a place."""
        return self.plan.depth[place]

    @property
    def parts(self) -> Sequence[Part]:
        """All that is stored."""
        return self.places

    def shape_of(self, part: Part) -> tuple[int, ...]:
        """The shape of what is stored, for one sample, with the lags before it."""
        assert isinstance(part, int)
        return self.depth(part), *self.plan.stored_shape(self.name, part)

    def stored(self, part: Part) -> Value:
        """What is stored before the block, `[lags batch ...]`, the latest first."""
        return self._array("state", "s", part)

    def advanced(self, part: Part) -> Value:
        """What is stored after the block."""
        return self._array("after", "new", part)

    def made(self, place: int) -> Value:
        """What the function that advances a place gives."""
        return self.advanced(place)

    def advanced_as(self, place: int) -> str:
        """What the function that advances a place says of it."""
        return f"The influence on {self.context.place(place)} after the block: J S + I."

    def _array(self, group: str, word: str, part: Part) -> Value:
        if (group, part) not in self._arrays:
            lags, *shape = self.shape_of(part)
            where = part if isinstance(part, str) else f"on_{self.context.place(part)}"
            kind = Type("float", (affine(lags), affine("batch"), *map(affine, shape)))
            identifier = self.context.names.of(f"{word}_{self.name}_{where}", group, self.name, part)
            key = influence_key(self.plan, self.name, part)
            self._arrays[group, part] = self.context.given(group, key, identifier, kind)
        return self._arrays[group, part]

    def read(self, builder: Builder, place: int, lag: int, *, after: bool = False) -> Value:
        """What is stored on a place at a lag, before the block or after it."""
        return builder.add(Read(self.advanced(place) if after else self.stored(place), affine(lag - 1)))

    def expanded(self, builder: Builder, place: int, lag: int, *, after: bool = False) -> Value:
        """The influence on a place at a lag, before the block or after it."""
        return self.read(builder, place, lag, after=after)

    def compressed(self, builder: Builder, place: int, lag: int, influence: Value) -> Value:
        """An influence as it is stored."""
        return influence

    # What becomes of it.

    def presynaptic(self, builder: Builder, site: Injection, count: Affine, first: Affine = NOW) -> Value | None:
        """What the parameter multiplies at a site, in that many steps of the block from one on; `None` for a bias."""
        if site.edge is None:
            return None
        edge = self.context.network.edges[site.edge]
        return self.context.nodes[edge.source].cut(builder, first, count, edge.delay)

    def injected(self, builder: Builder, target: int, ports: Mapping[Gate, Adjoint], steps: Affine) -> Value | None:
        """What enters in that many steps from the first of a block, in the layout of the target; `None` for nothing."""
        layout, terms = self.layout(target), list[Value]()
        for site in self.sites:
            if (j := ports.get((site.place, site.port))) is None or j.word is None:
                continue
            x = self.presynaptic(builder, site, steps)
            value = self.synapses.inject(builder, j.word, j.value, x)
            terms.append(self.synapses.widen(builder, value, j.word, layout))
        return builder.elementwise(total(len(terms)), *terms) if terms else None

    def carried(self, builder: Builder, target: int, past: Mapping[int, Adjoint]) -> list[Value]:
        """What was there before the block, times the Jacobian of the target by it; the terms of a sum."""
        found: list[Value] = []
        for place in self.places:
            layout = self.layout(place)
            if (j := past.get(place)) is None or j.word is None or layout is Structure.ZERO:
                continue
            for lag in range(1, self.depth(place) + 1):
                stored = self.expanded(builder, place, lag)
                jacobian = builder.add(Read(j.value, affine(self.depth(place) - lag)))
                sparse = self.context.vanishes(target) or self.context.vanishes(place)
                value = self.synapses.carry(builder, j.word, jacobian, layout, stored, sparse)
                found.append(self.synapses.widen(builder, value, compose(j.word, layout), self.layout(target)))
        return found

    def entering(self, builder: Builder, target: int, lag: int, ports: Mapping[Gate, Adjoint]) -> Mapping[Value, Value]:
        """What a layout wants to know of all steps up to a lag, by what it calls that. Most want nothing."""
        return {}

    def contract(self, builder: Builder, place: int, lag: int, adjoint: Value, *, after: bool = False) -> Value:
        """The gradient through what is stored on a place, given its adjoint `[batch units]`."""
        influence = self.expanded(builder, place, lag, after=after)
        return self.synapses.contract(builder, adjoint, self.layout(place), influence)

    def own(self) -> Function | None:
        """The function that makes what the parameter stores beside, or of, what is on its places; if there is one."""
        return None
