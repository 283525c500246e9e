"""The sweep from the losses of the last step alone, which ends at what is stored after it; for layouts that lose.

Such a layout compresses at the end of a block, before the losses of its last step are read off. So their credit is
multiplied with the compressed influence at the stored places, and goes on only past them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import total
from forwardgrad.array_program.lowering.adjoints import Adjoint, over_edge
from forwardgrad.array_program.lowering.context import Context, Series
from forwardgrad.array_program.lowering.gates import Gate, Gates
from forwardgrad.array_program.lowering.weights import weight
from forwardgrad.array_program.values import Value
from forwardgrad.compiler.factors import factor_structure
from forwardgrad.compiler.product import Arc
from forwardgrad.structure import Structure

LAST = affine("steps") - 1
"""The last step of a block."""


@dataclass(frozen=True)
class Ended:
    """What the losses of the last step send back; all of it has an axis for that step.

    Args:
        arrived: per place at which credit ends, what arrives there, `[1 batch size]`.
        ports: the adjoints of ports at which parameters enter, where credit comes past these places.
        late: what goes from there to earlier steps, by place and delay.
    """

    arrived: Mapping[int, Value] = field(default_factory=dict[int, Value])
    ports: Mapping[Gate, Value] = field(default_factory=dict[Gate, Value])
    late: Mapping[tuple[int, int], Value] = field(default_factory=dict[tuple[int, int], Value])

    @cached_property
    def results(self) -> list[Value]:
        """All values, each of them once."""
        return list(dict.fromkeys([*self.arrived.values(), *self.ports.values(), *self.late.values()]))


def last_step(context: Context, builder: Builder, ends: Collection[int]) -> Ended:
    """Sweep from the losses of the last step.

    Args:
        context: of the lowering.
        builder: of the function in which it is needed.
        ends: the places at which something is stored that a layout loses from.
    """
    sweep = _LastStep(context, builder)
    for place in context.plan.order:
        if place in context.lossy_places and (terms := sweep.terms(place)):
            sweep.put(place, builder.elementwise(total(len(terms)), *terms), place in ends)
    sites: list[Gate] = [(site.place, site.port) for site in context.plan.product.injections]
    ports = {site: b for site in sites if (b := sweep.at(site)) is not None}
    return Ended(sweep.arrived, ports, sweep.late())


class _LastStep:
    """The adjoints of one step."""

    def __init__(self, context: Context, builder: Builder) -> None:
        self.context, self.builder, self.gates = context, builder, Gates(context)
        self.leaving = context.plan.product.leaving
        self.arrived: dict[int, Value] = {}
        self.found: dict[Gate, Value] = {}

    def terms(self, place: int) -> list[Value]:
        """What comes to a place from its loss, and from others."""
        seeds = [Series(seed).cut(self.builder, LAST, affine(1)) for seed in self.context.seeds(place)]
        back = [self.back(arc) for arc in self.leaving[place] if not arc.delay]
        return seeds + [value for value in back if value is not None]

    def put(self, place: int, value: Value, ends: bool) -> None:
        """The adjoint of a place, where credit ends or goes on."""
        name = self.context.place(place)
        if ends:
            name = self.context.names.of(f"at_{name}", "arrived", place)
            self.arrived[place] = self.builder.kept(value, name)
        else:
            name = self.context.names.of(f"{self.gates.name((place, None))}_last", "last", place)
            self.found[place, None] = self.builder.kept(value, name)

    def at(self, gate: Gate) -> Value | None:
        """The adjoint of a gate, if credit reaches it."""
        if self.context.plan.port_word(*gate) is Structure.ZERO:
            return None
        gate = self.gates.of(*gate)
        b = self.found.get((gate[0], None))
        if gate not in self.found and b is not None:
            found = self.gates.through(self.builder, Adjoint(b, None), gate, self.last)
            name = self.context.names.of(f"{self.gates.name(gate)}_last", "last", gate)
            self.found[gate] = self.builder.kept(found.value, name)
        return self.found.get(gate)

    def last(self, series: Series) -> Value:
        return series.cut(self.builder, LAST, affine(1))

    def back(self, arc: Arc) -> Value | None:
        """What an arc brings back, if credit reaches its end."""
        b, edge = self.at(self.gates.declared(arc)), self.context.network.edges[arc.edge]
        if b is None:
            return None
        factor = weight(self.context, edge, arc.factor)
        return over_edge(self.builder, Adjoint(b, None), factor, factor_structure(edge, arc.factor)).value

    def late(self) -> dict[tuple[int, int], Value]:
        """What goes to earlier steps, by place and delay."""
        by_entry: dict[tuple[int, int], list[Arc]] = {}
        for arc in (arc for arcs in self.leaving for arc in arcs if arc.delay):
            by_entry.setdefault((arc.source, arc.delay), []).append(arc)
        late: dict[tuple[int, int], Value] = {}
        for (place, delay), arcs in by_entry.items():
            terms = [value for arc in arcs if (value := self.back(arc)) is not None]
            if terms:
                name = self.context.names.of(f"late_{self.context.place(place)}_{delay}", "late", place, delay)
                late[place, delay] = self.builder.kept(self.builder.elementwise(total(len(terms)), *terms), name)
        return late
