"""Which way does a sweep go, and where does an adjoint become wide? All that a sweep can know before it runs.

An adjoint is `(batch, seeds, size)`. A unit seed per unit of the target would always do. Where the Jacobian of the
target by a place is diagonal, one seed of ones holds all of it: such an adjoint is kept compact, `(batch, 1, size)`,
and made wide, with a seed per unit, where a path begins to mix units. A sweep from the losses has one seed for good,
and is never made wide.
"""

from __future__ import annotations

from dataclasses import dataclass

from forwardgrad.backends.weights import is_elementwise
from forwardgrad.compiler import Plan
from forwardgrad.compiler.factors import Factor, factor_structure
from forwardgrad.compiler.product import Arc
from forwardgrad.graph import Edge
from forwardgrad.structure import Structure, compose


@dataclass(frozen=True)
class Link:
    """A kept edge, as the place it leaves pulls an adjoint through it.

    Args:
        edge: the declared edge.
        delay: in steps.
        factor: what it multiplies credit by.
        elementwise: whether that multiplies entry by entry.
        port: the place and port whose adjoint is pulled; no port for the adjoint of the node itself.
        size: of the node at the far end.
        widen_before, widen_after: whether the adjoint is made wide before or after the factor.
    """

    edge: Edge
    delay: int
    factor: Factor
    elementwise: bool
    port: tuple[int, str | None]
    size: int
    widen_before: bool
    widen_after: bool


@dataclass(frozen=True)
class Gate:
    """A port of a place, as the adjoint of its node passes through the op.

    Args:
        port: its name, or `None` for the node itself: what a constant in place of a Jacobian is multiplied by.
        mixes: whether the derivative by it is `full`.
        widen: whether the adjoint is made wide before.
    """

    port: str | None
    mixes: bool
    widen: bool


@dataclass(frozen=True)
class Stop:
    """A place on the way of a sweep.

    Args:
        place: its index.
        node: its node.
        size: the node's number of units.
        depth: how many steps before the block it is visited at.
        widen_seed: whether a seed put here is made wide.
        links: the kept edges that leave it.
        gates: its ports through which credit goes on.
    """

    place: int
    node: str
    size: int
    depth: int
    widen_seed: bool
    links: tuple[Link, ...]
    gates: tuple[Gate, ...]


def route(plan: Plan, target: int | None = None) -> tuple[Stop, ...]:
    """The way of a sweep from the losses, or from one stored place.

    Args:
        plan: the derived algorithm.
        target: the place that is seeded, or `None` for the losses.
    """
    words = None if target is None else plan.words[target]
    leaving = plan.product.leaving
    used: set[tuple[int, str | None]] = {(i.place, i.port) for i in plan.product.injections}
    used |= {_port(plan, arc) for arc in plan.product.arcs} | {(place, None) for _, place in plan.product.probes}
    wide = Structure.FULL

    def link(arc: Arc) -> Link:
        edge, port = plan.network.edges[arc.edge], _port(plan, arc)
        before = after = False
        if words is not None:
            at_port = compose(words[arc.target], plan.port_word(*port))
            pulled = compose(at_port, factor_structure(edge, arc.factor))
            before = pulled is wide and at_port is not wide
            after = words[arc.source] is wide and pulled is not wide
        return Link(
            edge, arc.delay, arc.factor, is_elementwise(edge, arc.factor), port, plan.size(arc.target), before, after
        )

    def gate(place: int, port: str | None) -> Gate:
        mixes = plan.port_word(place, port) is wide
        return Gate(port, mixes, words is not None and mixes and words[place] is not wide)

    def stop(place: int) -> Stop:
        node = plan.network.nodes[plan.product.places[place].node]
        kept = [arc for arc in leaving[place] if words is None or arc.target in words]
        ports = [port for port in (*node.ports, None) if (place, port) in used]
        return Stop(
            place=place,
            node=node.name,
            size=node.size,
            depth=plan.depth[place],
            widen_seed=words is not None and words[place] is wide,
            links=tuple(link(arc) for arc in kept),
            gates=tuple(gate(place, p) for p in ports if plan.port_word(place, p) is not Structure.ZERO),
        )

    return tuple(stop(place) for place in plan.order if words is None or place in words)


def _port(plan: Plan, arc: Arc) -> tuple[int, str | None]:
    """The place and port whose adjoint an arc brings back."""
    return arc.target, None if arc.factor.numeric else plan.network.edges[arc.edge].port
