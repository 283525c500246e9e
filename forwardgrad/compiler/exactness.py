"""Is a parameter's gradient exact, and if not, at which edges does its rule drop credit? By proof on the product."""

from __future__ import annotations

from collections.abc import Collection

from forwardgrad.compiler.product import Product
from forwardgrad.compiler.pruning import reaching_nodes
from forwardgrad.graph import Network


def dropped_edges(network: Network, product: Product, outputs: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The edges at which each parameter loses credit: none means that its gradient is exact.

    A cut loses credit if it can be reached from an injection of the parameter, and a loss could be reached behind it in
    the declared graph.

    Args:
        network: the validated graph.
        product: the product before pruning, with its cuts.
        outputs: the nodes that have a loss.
    """
    reaching = reaching_nodes(network, outputs)
    losses = [cut for cut in product.dropped if network.edges[cut.edge].target in reaching]
    dropped: dict[str, tuple[str, ...]] = {}
    for parameter in dict.fromkeys(injection.parameter for injection in product.injections):
        reached = set(product.reach([i.place for i in product.injections if i.parameter == parameter]))
        edges = {cut.edge for cut in losses if cut.source in reached}
        dropped[parameter] = tuple(name for name in network.edges if name in edges)
    return dropped
