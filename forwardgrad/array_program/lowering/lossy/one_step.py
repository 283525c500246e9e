"""The sweep from a stored place over a block of one step, such that only what is read of its Jacobian is made."""

from __future__ import annotations

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Number
from forwardgrad.array_program.instructions import Broadcast, Read
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.gates import Gate, Gates
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.lossy.sampled import Diagonal, Maker, Sampled, named, summed
from forwardgrad.array_program.lowering.weights import Weight, weight
from forwardgrad.array_program.values import Value
from forwardgrad.compiler.product import Arc, Injection
from forwardgrad.structure import Structure


class OneStep:
    """The Jacobians of a place over one step.

    Args:
        context: of the lowering.
        builder: of the body in which they are read.
        target: the place.
    """

    def __init__(self, context: Context, builder: Builder, target: int) -> None:
        self.context, self.plan, self.target = context, context.plan, target
        self.make, self.gates = Maker(context, builder), Gates(context)
        self._places: dict[int, Sampled | None] = {}
        self._ports: dict[Gate, Sampled | None] = {}

    def inside(self, builder: Builder) -> OneStep:
        """The same for a body inside; what both read is made in each."""
        return OneStep(self.context, builder, self.target)

    def presynaptic(self, influence: Influence, site: Injection) -> Value | None:
        """What a parameter multiplies at a site in the step."""
        if site.edge is None:
            return None
        edge = self.context.network.edges[site.edge]
        series = self.context.nodes[edge.source]
        return self.make.builder.add(Read(series.value, series.first - edge.delay))

    def at_port(self, place: int, port: str | None) -> Sampled | None:
        """By a port in the step itself; `None` where it is zero."""
        if self.plan.port_word(place, port) is Structure.ZERO:
            return None
        gate = self.gates.of(place, port)
        if gate not in self._ports:
            adjoint = self._at_place(place)
            if adjoint is not None and gate[1] is not None:
                through = self._through(adjoint, place, gate[1])
                adjoint = named(self.make, through, f"{self.gates.name(gate)}_now")
            self._ports[gate] = adjoint
        return self._ports[gate]

    def before(self, place: int, lag: int) -> Sampled | None:
        """By a place, that many steps before."""
        return self._over([arc for arc in self.plan.product.leaving[place] if arc.delay == lag])

    def _at_place(self, place: int) -> Sampled | None:
        if place not in self._places:
            own: list[Sampled] = [Diagonal(None)] if place == self.target else []
            found = self._over([arc for arc in self.plan.product.leaving[place] if not arc.delay])
            parts = own if found is None else [*own, found]
            word = f"{self.gates.name((place, None))}_now"
            self._places[place] = named(self.make, summed(self.make, parts), word) if parts else None
        return self._places[place]

    def _over(self, arcs: list[Arc]) -> Sampled | None:
        """What comes back over arcs."""
        parts: list[Sampled] = []
        for arc in arcs:
            if arc.target not in self.plan.words[self.target]:
                continue
            b = self.at_port(*self.gates.declared(arc))
            if b is not None:
                parts.append(self._times(b, weight(self.context, self.context.network.edges[arc.edge], arc.factor)))
        return summed(self.make, parts) if parts else None

    def _times(self, b: Sampled, factor: Weight) -> Sampled:
        if isinstance(factor, Value) and len(factor.dims) == 2:
            return b.times(self.make, factor)
        return b.scaled(self.make, factor)

    def _through(self, adjoint: Sampled, place: int, port: str) -> Sampled:
        """An adjoint of a place times the derivative by a port."""
        slope, word = self.gates.slope(place, port), self.plan.port_word(place, port)
        if isinstance(slope, Number):
            return adjoint.scaled(self.make, slope)
        value = self.make.named(self.make.builder.add(Read(slope.value, slope.first)), f"{slope.value}_now")
        if word is Structure.FULL:
            return adjoint.times(self.make, value)
        if word is Structure.SCALAR:
            dims = (*value.dims, affine(self.plan.size(place)))
            value = self.make.builder.add(Broadcast(value, dims, tuple(range(len(value.dims)))))
        return adjoint.scaled(self.make, value)
