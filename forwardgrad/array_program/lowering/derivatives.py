"""Derivatives: by which ports sweeps pass credit, as expression trees, and which arrays these read."""

from __future__ import annotations

from dataclasses import dataclass

from forwardgrad.array_program.expressions import Tree, places
from forwardgrad.array_program.formulas import formula
from forwardgrad.compiler.plan import Plan
from forwardgrad.ops import VJP, Port
from forwardgrad.structure import Structure

PortName = tuple[str, str]
"""A node and its port."""


@dataclass(frozen=True)
class Derivative:
    """The derivative of a node by a port, which is not the same number at all times.

    Args:
        declared: as the op declares it.
        tree: as an expression of the node's ports and value, and of an adjoint if it is a vector-Jacobian product;
            `None` where it can only be called.
        ports: the ports that it reads.
    """

    declared: Port
    tree: Tree | None
    ports: tuple[str, ...]


def derivatives(plan: Plan) -> dict[PortName, Derivative]:
    """The derivatives that sweeps multiply by."""
    network, product = plan.network, plan.product
    crossed = [(product.places[site.place].node, site.port) for site in product.injections]
    edges = [network.edges[arc.edge] for arc in product.arcs if not arc.factor.numeric]
    found: dict[PortName, Derivative] = {}
    for name, port in dict.fromkeys([*crossed, *((edge.target, edge.port) for edge in edges)]):
        node = network.nodes[name]
        declared = node.op.port(port, node.ports)
        if declared.constant is None:
            readable = declared.structure is Structure.DIAGONAL or isinstance(declared.derivative, VJP)
            tree = formula(node, declared.derivative, len(node.ports) + 1) if readable else None
            read = range(len(node.ports)) if tree is None else set(places(tree))
            ports = tuple(other for place, other in enumerate(node.ports) if place in read)
            found[name, port] = Derivative(declared, tree, ports)
    return found
