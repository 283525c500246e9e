"""Gates: the ports of places through which credit goes, and the adjoints that stand for them."""

from __future__ import annotations

from collections.abc import Callable

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.expressions import Number
from forwardgrad.array_program.lowering.adjoints import Adjoint, through_op
from forwardgrad.array_program.lowering.context import Context, Series
from forwardgrad.array_program.values import Value
from forwardgrad.compiler.product import Arc

Gate = tuple[int, str | None]
"""A place and its port, or the node itself."""


class Gates:
    """The gates of a plan.

    Args:
        context: of the lowering.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.plan = context, context.plan

    def declared(self, arc: Arc) -> Gate:
        """The place and port whose adjoint an arc brings back."""
        return arc.target, None if arc.factor.numeric else self.context.network.edges[arc.edge].port

    def of(self, place: int, port: str | None) -> Gate:
        """A gate, or the place itself where their adjoints are the same."""
        return (place, None) if port is None or self.slope(place, port) == Number(1.0) else (place, port)

    def slope(self, place: int, port: str) -> Series | Number:
        """The derivative of a place by a port."""
        name = self.plan.product.places[place].node
        node = self.context.network.nodes[name]
        declared = node.op.port(port, node.ports)
        return self.context.slopes[name, port] if declared.constant is None else Number(float(declared.constant))

    def name(self, gate: Gate) -> str:
        """The name of a gate's adjoints."""
        place, port = gate
        wanted = f"d_{self.context.place(place)}"
        return self.context.names.of(wanted if port is None else f"{wanted}_{port}", "adjoint", gate)

    def through(self, builder: Builder, b: Adjoint, gate: Gate, read: Callable[[Series], Value]) -> Adjoint:
        """The adjoint of a gate, given that of its place.

        Args:
            builder: of the body in which it is needed.
            b: the adjoint of the place.
            gate: the gate.
            read: what is read of a derivative over time: the steps of the adjoint.
        """
        if gate[1] is None:
            return b
        slope = self.slope(gate[0], gate[1])
        return through_op(builder, b, slope if isinstance(slope, Number) else read(slope), self.plan.port_word(*gate))
