"""Is a parameter's gradient exact, and if not, why not? By proof on the product."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from forwardgrad.compiler.product import Product
from forwardgrad.compiler.pruning import reaching_nodes
from forwardgrad.graph import Network
from forwardgrad.rules.rule import Rule


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
    cut_edges = {cut.edge for cut in losses}
    names = [name for name in network.edges if name in cut_edges]
    number = {name: index for index, name in enumerate(names)}
    marks: dict[int, int] = {}
    for cut in losses:
        marks[cut.source] = marks.get(cut.source, 0) | 1 << number[cut.edge]
    return {name: tuple(names[edge] for edge in edges) for name, edges in product.reached_marks(marks).items()}


def substitutions(product: Product, rules: Mapping[str, Rule]) -> dict[str, tuple[str, ...]]:
    """What else keeps each parameter's gradient from being exact, in words: none, if nothing does.

    Args:
        product: the pruned product: only what leads on to a learning signal counts.
        rules: the rule of each parameter.
    """
    found: dict[str, tuple[str, ...]] = {}
    inexact = [arc for arc in product.arcs if not arc.factor.exact]
    marks: dict[int, int] = {}
    for number, arc in enumerate(inexact):
        marks[arc.source] = marks.get(arc.source, 0) | 1 << number
    reached = product.reached_marks(marks)
    texts = [f"{arc.factor} on {arc.edge}" for arc in inexact]
    for name, rule in rules.items():
        starts = product.sites.get(name, [])
        reasons = dict.fromkeys(texts[number] for number in reached.get(name, []))
        if rule.signalled and starts:
            reasons["learning signal of the user's"] = None
        if rule.lossy and starts:
            reasons[f"layout {rule.layout}"] = None
        if not rule.carry and starts:
            reasons["no carry over the ends of blocks"] = None
        found[name] = tuple(reasons)
    return found
