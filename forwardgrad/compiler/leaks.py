"""Can a leaky readout's influence be stored per synapse? Its leak commutes with the weights that lead into it.

Let y(t) = k y(t - 1) + W z(t) with a fixed number k. Influence on y is full, since W mixes units:

    S_y(t) = k S_y(t - 1) + W S_z(t)

With fixed weights the same influence is W F(t), where F filters the influence on the source by the same leak:

    F(t) = k F(t - 1) + S_z(t)

F has the layout of S_z, which is one number a synapse where e-prop's is. That is the trace that Bellec et al. 2020
(doi 10.1038/s41467-020-17236-y) print, their filter by the readout's kappa. The values of the declared graph, and the
state, stay as they are.

In the product: a place that holds y and keeps its leak is split. What comes over a mixing edge goes through a place for
F, and then to a place for y without the leak; what enters at y itself goes on as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forwardgrad.compiler.factors import WEIGHT, Factor, arc_structure
from forwardgrad.compiler.product import Arc, Place, Product
from forwardgrad.graph import Network
from forwardgrad.structure import Structure


def filter_sources(
    network: Network, product: Product, price: Callable[[Product], tuple[int, int]]
) -> tuple[Product, list[str]]:
    """The product with leaky places split wherever that costs less.

    Args:
        network: the validated graph.
        product: the pruned and merged product.
        price: how many numbers a sample a product stores, and, where these are equal, how many influences are full.

    Returns:
        The product, and the nodes whose leak filters their sources now.
    """
    filtered: list[str] = []
    least: tuple[int, int] | None = None
    for node in dict.fromkeys(place.node for place in product.places):
        found = product
        for index in _holding(product, node):
            leak = _leak(network, found, index)
            if leak is not None:
                found = _split(network, found, index, leak)
        if found is product:
            continue
        found = _reached(found)
        least = price(product) if least is None else least
        if (less := price(found)) < least:
            product, least = found, less
            filtered.append(node)
    return product, filtered


def _holding(product: Product, node: str) -> list[int]:
    """The places of a node that may be split."""
    return [
        index
        for index in product.places_of.get(node, [])
        if product.places[index].filtered is None and not product.places[index].lossy
    ]


def _leak(network: Network, product: Product, place: int) -> Arc | None:
    """The one arc by which a place keeps itself, if it is a fixed number; `None` where there is nothing to split."""
    loops = [arc for arc in product.leaving[place] if arc.target == place]
    mixing = [arc for arc in product.entering[place] if _mixes_into(network, arc, place)]
    if len(loops) != 1 or not mixing or loops[0].factor != WEIGHT:
        return None
    edge = network.edges[loops[0].edge]
    node = network.nodes[edge.target]
    fixed = edge.kind == "identity" or (edge.kind == "scalar" and edge.value is not None)
    ports = {edge.port, *(network.edges[arc.edge].port for arc in mixing)}
    constant = all(node.op.port(port, node.ports).constant is not None for port in ports)
    return loops[0] if fixed and constant else None


def _mixes_into(network: Network, arc: Arc, place: int) -> bool:
    if arc.target != place or arc.source == place or arc.factor.numeric:
        return False
    return arc_structure(network, network.edges[arc.edge], arc.factor) is Structure.FULL


def _split(network: Network, product: Product, place: int, leak: Arc) -> Product:
    """The product in which what comes to a place over mixing arcs is filtered at their sources."""
    edge = network.edges[leak.edge]
    node, here = network.nodes[edge.target], product.places[place]
    through = node.op.port(edge.port, node.ports).constant
    assert through is not None
    number = through * (1.0 if edge.value is None else float(edge.value))
    places, arcs = list(product.places), list(product.arcs)
    places.append(replace(here, label=f"{here.label} from filtered sources"))
    bare = len(places) - 1
    arcs += [replace(arc, source=bare) for arc in product.arcs if arc.source == place and arc != leak]
    filters: dict[tuple[int, int], int] = {}
    for arc in [arc for arc in product.arcs if _mixes_into(network, arc, place)]:
        source = product.places[arc.source]
        if (arc.source, arc.delay) not in filters:
            filters[arc.source, arc.delay] = len(places)
            late = f" {arc.delay} steps late" if arc.delay else ""
            label = f"{source.label} filtered by {node.name}{late}"
            places.append(Place(source.node, label, "none", filtered=node.name))
            own = filters[arc.source, arc.delay]
            arcs.append(Arc(arc.edge, arc.source, own, arc.delay, Factor("leak", values=(1.0,))))
            arcs.append(Arc(leak.edge, own, own, leak.delay, Factor("leak", values=(number,))))
        arcs.remove(arc)
        arcs.append(Arc(arc.edge, filters[arc.source, arc.delay], bare, 0, arc.factor))
    return replace(product, places=tuple(places), arcs=tuple(arcs))


def _reached(product: Product) -> Product:
    """The product without places that no parameter and no input reaches any more."""
    starts = [injection.place for injection in product.injections] + [place for _, place in product.probes]
    kept = product.reach(starts)
    number = {index: new for new, index in enumerate(kept)}
    return replace(
        product,
        places=tuple(product.places[index] for index in kept),
        arcs=tuple(
            replace(arc, source=number[arc.source], target=number[arc.target])
            for arc in product.arcs
            if arc.source in number
        ),
        injections=tuple(replace(i, place=number[i.place]) for i in product.injections),
        probes=tuple((name, number[place]) for name, place in product.probes),
    )
