"""A reverse sweep over the product graph: cycles step by step, all the rest for the block at once.

From the losses it gives the adjoints of ports inside the block and of the boundary before it. From a stored place at
the end of the block it gives the Jacobian of that place by the boundary, and by the ports at which parameters enter.
From given adjoints of several places it gives what all of them together send back to these ports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import total
from forwardgrad.array_program.instructions import Flush, Read, Slice
from forwardgrad.array_program.lowering.adjoints import Adjoint, Word, fitted, over_edge
from forwardgrad.array_program.lowering.context import STEP, Context, Series
from forwardgrad.array_program.lowering.gates import Gate, Gates
from forwardgrad.array_program.lowering.last_step import Ended
from forwardgrad.array_program.lowering.stages import groups
from forwardgrad.array_program.lowering.swept import Swept
from forwardgrad.array_program.lowering.weights import weight
from forwardgrad.array_program.regions import Scan
from forwardgrad.array_program.values import Value, floats
from forwardgrad.compiler.factors import factor_structure
from forwardgrad.compiler.product import Arc
from forwardgrad.structure import Structure, compose

LAST = affine(1) - "steps"
"""Where a block begins in an array that holds its last step alone."""

FLUSHED = 8
"""Steps after which decaying adjoints are flushed."""


def credit(context: Context, builder: Builder, ended: Ended) -> Swept:
    """The sweep from the losses, as a block runs it: over all steps, and from the last step alone where layouts lose.

    Args:
        context: of the lowering.
        builder: holds the sweep from the last step.
        ended: what that gives.
    """
    doc = "The sweep from the losses: adjoints of ports inside the block, and of what was before it."
    if ended.results:
        doc += "\nWhere a layout loses something, that of the last step: it ends at what is stored after the block."
    places = [place for place in context.plan.order if place not in context.lossy_places]
    return _Sweep(context, places, builder=builder).swept("credit", doc, ended.results)


def earlier_credit(context: Context, ended: Ended) -> Swept:
    """The sweep from the losses of all steps but the last, where layouts lose something.

    Args:
        context: of the lowering.
        ended: what comes from the losses of the last step.
    """
    doc = "The sweep from the losses before the last step, where a layout loses something."
    return _Sweep(context, context.lossy_places, late=ended.late).swept(
        context.names.of("credit_earlier", "sweep"), doc
    )


def jacobian(context: Context, target: int) -> Swept:
    """The sweep from a stored place at the end of the block."""
    name = context.place(target)
    doc = f"The sweep from {name} at the end of the block: its Jacobian by what was before, and by ports inside."
    sweep = _Sweep(context, context.plan.words[target], target)
    return sweep.swept(context.names.of(f"jacobian_{name}", "jacobian", target), doc)


def pulled(context: Context, given: Mapping[int, Value]) -> Swept:
    """The sweep from adjoints of places that are given, `[steps batch size]`."""
    doc = "The sweep from adjoints that are given: what they send back to ports inside the block."
    reached = {place for target in given for place in context.plan.words[target]}
    return _Sweep(context, reached, given=given).swept(context.names.of("sent_back", "sweep"), doc)


class _Sweep:
    """Lowers one sweep: from the losses, from a target, or from places whose adjoints are given."""

    def __init__(
        self,
        context: Context,
        places: Collection[int],
        target: int | None = None,
        *,
        given: Mapping[int, Value] | None = None,
        late: Mapping[tuple[int, int], Value] | None = None,
        builder: Builder | None = None,
    ) -> None:
        self.context, self.plan, self.gates = context, context.plan, Gates(context)
        self.target, self.given, self.late = target, given, late or {}
        plan = self.plan
        self.words = None if target is None else plan.words[target]
        self.places = [place for place in plan.order if place in places]
        known = set(self.places)
        self.leaving = {
            place: [
                arc
                for arc in plan.product.leaving[place]
                if arc.target in known and plan.port_word(*self.gates.declared(arc)) is not Structure.ZERO
            ]
            for place in self.places
        }
        sites: list[Gate] = [(site.place, site.port) for site in plan.product.injections if site.place in known]
        if target is None and given is None and late is None:  # all losses of the block
            sites += [(place, None) for _, place in plan.product.probes]
        self.sites = [gate for gate in dict.fromkeys(sites) if plan.port_word(*gate) is not Structure.ZERO]
        self.builder = Builder() if builder is None else builder
        self.series: dict[Gate, Adjoint] = {}
        """The adjoints of gates at all steps."""
        self.now: dict[Gate, Adjoint] = {}
        """The adjoints of gates at the present step of a scan."""

    def swept(self, name: str, doc: str, more: Sequence[Value] = ()) -> Swept:
        """The function, and what it gives beside more values."""
        arcs = [(arc.target, arc.source) for place in self.places for arc in self.leaving[place]]
        for members, cyclic in groups(self.places, arcs):
            if cyclic:
                self._scan(members)
            else:
                self._place_of_block(members[0])
        stored = self.plan.stored if self.given is None else ()
        past = {place: b for place in stored if place in self.leaving and (b := self._boundary(place))}
        ports: dict[Gate, Adjoint] = {gate: self.series[self.gates.of(*gate)] for gate in self.sites}
        results = dict.fromkeys([*(b.value for b in (*ports.values(), *past.values())), *more])
        return Swept(self.context.function(name, doc, self.builder, list(results)), ports, past)

    # Gates.

    def _gates(self, place: int) -> list[Gate]:
        """The gates of a place that are read: by injections, or over arcs from any place."""
        return list(self._readers[place])

    @cached_property
    def _readers(self) -> Mapping[int, Mapping[Gate, list[Arc]]]:
        """The gates of each place that are read, with the arcs over which; injections read over none."""
        found: dict[int, dict[Gate, list[Arc]]] = {place: {} for place in self.places}
        arcs = [(self.gates.declared(arc), arc) for place in self.places for arc in self.leaving[place]]
        for (place, port), arc in sorted(
            [*((site, None) for site in self.sites), *arcs], key=lambda pair: str(pair[0])
        ):
            readers = found[place].setdefault(self.gates.of(place, port), [])
            if arc is not None:
                readers.append(arc)
        return found

    def _word(self, place: int) -> Word:
        return None if self.words is None else self.words[place]

    def _dims(self, word: Word, place: int) -> tuple[int, ...]:
        """The axes of an adjoint of that word, behind steps and batch."""
        size = self.plan.size(place)
        if word is Structure.FULL:
            return (self.plan.size(self.target or 0), size) if self.target is not None else (size,)
        return () if word is Structure.SCALAR else (size,)

    # What comes back to a place.

    def _back(
        self, builder: Builder, place: int, arcs: Sequence[Arc], start: Affine | None = None, size: Affine | None = None
    ) -> list[Value]:
        """What comes back to a place over arcs.

        Args:
            builder: of the body in which it is needed.
            place: the place.
            arcs: the arcs.
            start, size: at that many steps of the block from one on, before its delay; `None` for the step of a scan.
        """
        found: list[Value] = []
        for arc in arcs:
            gate, edge = self.gates.of(*self.gates.declared(arc)), self.context.network.edges[arc.edge]
            if size is not None:
                b = self._cut(builder, self.series[gate], affine(arc.delay) + (start or 0), size)
            elif arc.delay:
                b = self._read(builder, self.series[gate], affine(arc.delay) + STEP)
            else:
                b = self.now[gate]
            b = over_edge(builder, b, weight(self.context, edge, arc.factor), factor_structure(edge, arc.factor))
            found.append(fitted(self.context, builder, b, self.plan.size(place), self._word(place)))
        return found

    def _cut(self, builder: Builder, b: Adjoint, start: Affine, size: Affine) -> Adjoint:
        if start == affine(0) and size == b.value.dims[0]:
            return b
        inside = start.never_negative and (b.value.dims[0] - start - size).never_negative
        return Adjoint(builder.add(Slice(b.value, 0, start, size, or_zero=not inside)), b.word)

    def _read(self, builder: Builder, b: Adjoint, at: Affine) -> Adjoint:
        return Adjoint(builder.add(Read(b.value, at, or_zero=True)), b.word)

    def _seeds(self, place: int) -> list[Value]:
        """What the sweep is given at a place, at all steps."""
        if self.given is not None:
            return [self.given[place]] if place in self.given else []
        seeds = self.context.seeds(place) if self.target is None else []
        return seeds + self._late(place, lambda delay: affine(delay) - "steps", affine("steps"))

    def _late(self, place: int, start: Callable[[int], Affine], count: Affine) -> list[Value]:
        """What comes from a step after the block to that many steps of a place, the first of them by the delay."""
        found = [(delay, late) for (where, delay), late in self.late.items() if where == place]
        return [self.builder.add(Slice(late, 0, start(delay), count, or_zero=True)) for delay, late in found]

    def _unit(self, place: int) -> Value:
        """The adjoint of the target by itself at the last step, `[1 batch ...]`."""
        ones = self.builder.fill(1.0, 1, "batch", *self._dims(self._word(place), place)[:1])
        b = Adjoint(ones, Structure.SCALAR if self._word(place) is Structure.SCALAR else Structure.DIAGONAL)
        name = self.context.names.of(f"seed_{self.context.place(place)}", "seed", place)
        return self.builder.kept(fitted(self.context, self.builder, b, self.plan.size(place), self._word(place)), name)

    def _total(self, builder: Builder, terms: Sequence[Value]) -> Value:
        return builder.elementwise(total(len(terms)), *terms)

    # All steps at once.

    def _block_terms(self, place: int, arcs: Sequence[Arc]) -> list[Value]:
        """What comes to a place over arcs, and from the losses."""
        return self._seeds(place) + self._back(self.builder, place, arcs, affine(0), affine("steps"))

    def _place_of_block(self, place: int) -> None:
        """The adjoints of a place and of its gates, at all steps."""
        builder, word = self.builder, self._word(place)
        terms = self._block_terms(place, self.leaving[place])
        if place == self.target:
            terms.append(builder.add(Slice(self._unit(place), 0, LAST, affine("steps"), or_zero=True)))
        terms = terms or [builder.fill(0.0, "steps", "batch", *self._dims(word, place))]
        value = self._total(builder, terms)
        b = Adjoint(builder.kept(value, self.gates.name((place, None))), word)
        for gate in dict.fromkeys([(place, None), *self._gates(place)]):
            value = self.gates.through(builder, b, gate, lambda series: series.block(builder))
            self.series[gate] = Adjoint(builder.kept(value.value, self.gates.name(gate)), value.word)

    # Step by step.

    def _scan(self, members: Sequence[int]) -> None:
        """The adjoints of the places of a cycle."""
        body, inside = Builder(self.builder), set(members)
        outside: dict[int, Value] = {}
        for place in members:
            terms = self._block_terms(place, [arc for arc in self.leaving[place] if arc.target not in inside])
            if terms:
                name = self.context.names.of(f"{self.gates.name((place, None))}_outside", "outside", place)
                outside[place] = self.builder.kept(self._total(self.builder, terms), name)
        late = {
            self.gates.of(*self.gates.declared(arc)) for place in members for arc in self.leaving[place] if arc.delay
        }
        stacked = [gate for place in members for gate in self._gates(place) if self._outlives(gate, inside)]
        for gate in stacked:
            word = self._word(gate[0])
            word = None if word is None else compose(word, self.plan.port_word(*gate))
            kind = floats("steps", "batch", *self._dims(word, gate[0]))
            self.series[gate] = Adjoint(Value(self.gates.name(gate), kind), word)
        values: dict[Value, Value] = {}
        for place in members:
            b = Adjoint(self._at_step(body, place, inside, outside.get(place)), self._word(place))
            for gate in self._gates(place):
                found = self.gates.through(body, b, gate, lambda series: series.at(body))
                value = found.value
                if gate in late and gate in stacked:
                    value = body.add(Flush(value, FLUSHED, ones=self.target is not None))
                if gate in stacked:
                    name = self.context.names.of(f"{self.gates.name(gate)}_now", "now", gate)
                    value = values[self.series[gate].value] = body.own(value, list(values.values()), name)
                self.now[gate] = Adjoint(value, found.word)
        scan = Scan(STEP, affine("steps"), True, (None,) * len(values), body.body(*values.values()))
        self.builder.define(tuple(values), scan)

    def _outlives(self, gate: Gate, inside: Collection[int]) -> bool:
        """Whether the adjoint of a gate is read in other steps, or outside the cycle."""
        injected = any(self.gates.of(*site) == gate for site in self.sites if site[0] == gate[0])
        return injected or any(arc.delay or arc.source not in inside for arc in self._readers[gate[0]][gate])

    def _at_step(self, body: Builder, place: int, inside: Collection[int], outside: Value | None) -> Value:
        """The adjoint of a place at the step of the scan."""
        terms = [] if outside is None else [Series(outside).at(body)]
        terms += self._back(body, place, [arc for arc in self.leaving[place] if arc.target in inside])
        if place == self.target:
            terms.append(body.add(Read(self._unit(place), LAST + STEP, or_zero=True)))
        name = self.context.names.of(f"{self.gates.name((place, None))}_now", "now", place)
        return terms[0] if len(terms) == 1 else body.elementwise(total(len(terms)), *terms, name=name)

    # The boundary.

    def _boundary(self, place: int) -> Adjoint | None:
        """The adjoint of a stored place at the steps before the block."""
        depth = self.plan.depth[place]
        arcs = [arc for arc in self.leaving[place] if arc.delay]
        if not arcs:
            return None
        terms = self._back(self.builder, place, arcs, affine(-depth), affine(depth))
        terms += self._late(place, lambda delay: affine(delay - depth) - "steps", affine(depth))
        name = self.context.names.of(f"past_{self.gates.name((place, None))}", "past adjoint", place)
        return Adjoint(self.builder.named(self._total(self.builder, terms), name), self._word(place))
