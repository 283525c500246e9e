"""Which way does a sweep go, and where does an adjoint become wide? All that a sweep can know before it runs.

An adjoint is `(batch, seeds, size)`. A unit seed per unit of the target would always do. Where the Jacobian of the
target by a place is diagonal, one seed of ones holds all of it: such an adjoint is kept compact, `(batch, 1, size)`,
and made wide, with a seed per unit, where a path begins to mix units. A sweep from the losses has one seed for good,
and is never made wide.
"""

from __future__ import annotations

from dataclasses import dataclass

from forwardgrad.compiler import Plan
from forwardgrad.compiler.labels import weight_structure
from forwardgrad.graph import Edge
from forwardgrad.structure import Structure, compose


@dataclass(frozen=True)
class Link:
    """A kept edge, as the place it leaves pulls an adjoint through it.

    Args:
        edge: the declared edge.
        port: the place and port whose adjoint is pulled.
        widen_before, widen_after: whether the adjoint is made wide before or after the transposed weight.
    """

    edge: Edge
    port: tuple[int, str]
    widen_before: bool
    widen_after: bool


@dataclass(frozen=True)
class Gate:
    """A port of a place, as the adjoint of its node passes through the op.

    Args:
        port: its name.
        mixes: whether the derivative by it is `full`.
        widen: whether the adjoint is made wide before.
    """

    port: str
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
    leaving = plan.product.arcs_from()
    used = {(injection.place, injection.port) for injection in plan.product.injections}
    used |= {(arc.target, plan.network.edges[arc.edge].port) for arc in plan.product.arcs}
    wide = Structure.FULL

    def link(place: int, target: int, edge: Edge) -> Link:
        if words is None:
            return Link(edge, (target, edge.port), False, False)
        at_port = compose(words[target], plan.port_word(target, edge.port))
        pulled = compose(at_port, weight_structure(edge))
        return Link(
            edge,
            (target, edge.port),
            pulled is wide and at_port is not wide,
            words[place] is wide and pulled is not wide,
        )

    def gate(place: int, port: str) -> Gate:
        word = plan.port_word(place, port)
        widen = words is not None and word is wide and words[place] is not wide
        return Gate(port, word is wide, widen)

    def stop(place: int) -> Stop:
        node = plan.network.nodes[plan.product.places[place].node]
        kept = [arc for arc in leaving[place] if words is None or arc.target in words]
        return Stop(
            place=place,
            node=node.name,
            size=node.size,
            depth=plan.depth[place],
            widen_seed=words is not None and words[place] is wide,
            links=tuple(link(place, arc.target, plan.network.edges[arc.edge]) for arc in kept),
            gates=tuple(
                gate(place, port)
                for port in node.ports
                if (place, port) in used and plan.port_word(place, port) is not Structure.ZERO
            ),
        )

    return tuple(stop(place) for place in plan.order if words is None or place in words)
