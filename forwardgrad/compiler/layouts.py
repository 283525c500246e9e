"""How much must be stored? A fixpoint of structure words over the product gives the layout of every influence."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from forwardgrad.compiler.labels import edge_structure, port_structure
from forwardgrad.compiler.product import Product
from forwardgrad.graph import Network
from forwardgrad.structure import Structure, compose, join


def depths(network: Network, product: Product) -> tuple[int, ...]:
    """How many past steps of each place kept delayed edges read: the largest delay that leaves it."""
    deepest = [0] * len(product.places)
    for arc in product.arcs:
        deepest[arc.source] = max(deepest[arc.source], network.edges[arc.edge].delay)
    return tuple(deepest)


def words_to(network: Network, product: Product, target: int) -> dict[int, Structure]:
    """The structure word of the Jacobian of a target place by every place that leads to it, over paths of any length.

    The empty path counts: the word of the target by itself is at least `scalar`.
    """
    entering = product.arcs_into()
    words = {target: Structure.SCALAR}
    queue = deque([target])
    while queue:
        here = queue.popleft()
        for arc in entering[here]:
            word = compose(words[here], edge_structure(network, network.edges[arc.edge]))
            before = words.get(arc.source, Structure.ZERO)
            if join(before, word) > before:
                words[arc.source] = join(before, word)
                queue.append(arc.source)
    return words


def entries(product: Product, depth: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The places at which each parameter's influence is stored: those it reaches and a kept delayed edge leaves."""
    stored: dict[str, tuple[int, ...]] = {}
    for name in dict.fromkeys(injection.parameter for injection in product.injections):
        reached = product.reach([i.place for i in product.injections if i.parameter == name])
        stored[name] = tuple(index for index in reached if depth[index])
    return stored


def layouts(
    network: Network,
    product: Product,
    stored: Mapping[str, Sequence[int]],
    words: Mapping[int, Mapping[int, Structure]],
) -> dict[tuple[str, int], Structure]:
    """The layout of each parameter's influence on each place that stores one.

    It is the join over the parameter's sites of the word that leads from the site to the place.

    Args:
        network: the validated graph.
        product: the pruned product.
        stored: the places of each parameter (`entries`).
        words: `words_to` of each of these places.
    """
    found: dict[tuple[str, int], Structure] = {}
    for name, places in stored.items():
        sites = [injection for injection in product.injections if injection.parameter == name]
        for place in places:
            found[name, place] = join(
                *(
                    compose(
                        words[place][site.place], port_structure(network, product.places[site.place].node, site.port)
                    )
                    for site in sites
                    if site.place in words[place]
                )
            )
    return found
