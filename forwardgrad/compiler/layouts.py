"""How much must be stored? A fixpoint of structure words over the product gives the layout of every influence."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from forwardgrad.compiler.factors import arc_structure
from forwardgrad.compiler.labels import port_structure
from forwardgrad.compiler.product import Product
from forwardgrad.graph import Network, Parameter
from forwardgrad.structure import Structure, compose, join


def depths(product: Product) -> tuple[int, ...]:
    """How many past steps of each place kept delayed edges read: the largest delay that leaves it."""
    deepest = [0] * len(product.places)
    for arc in product.arcs:
        deepest[arc.source] = max(deepest[arc.source], arc.delay)
    return tuple(deepest)


def words_to(network: Network, product: Product, target: int) -> dict[int, Structure]:
    """The structure word of the Jacobian of a target place by every place that leads to it, over paths of any length.

    The empty path counts: the word of the target by itself is at least `scalar`.
    """
    entering = product.entering
    words = {target: Structure.SCALAR}
    queue = deque([target])
    while queue:
        here = queue.popleft()
        for arc in entering[here]:
            word = compose(words[here], arc_structure(network, network.edges[arc.edge], arc.factor))
            before = words.get(arc.source, Structure.ZERO)
            if join(before, word) > before:
                words[arc.source] = join(before, word)
                queue.append(arc.source)
    return words


def entries(product: Product, depth: Sequence[int], carried: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The places at which each parameter's influence is stored: those it reaches and a kept delayed edge leaves.

    Args:
        product: the pruned product.
        depth: how many past steps of each place are read.
        carried: the parameters whose influence is carried over the ends of blocks; the others store nothing.
    """
    held = set(carried)
    read = [index for index, steps in enumerate(depth) if steps]
    reached = product.reached_marks({index: 1 << number for number, index in enumerate(read)})
    return {name: tuple(read[number] for number in numbers) for name, numbers in reached.items() if name in held}


def stored_shape(
    network: Network, parameter: Parameter, word: Structure, target: int, by_synapse: bool
) -> tuple[int, ...]:
    """Shape of one sample's influence of a parameter on a place, at one lag, in the layout of that word.

    Args:
        network: the validated graph.
        parameter: whose influence.
        word: structure word of the Jacobian that leads from where the parameter enters to the place.
        target: number of units of the place's node.
        by_synapse: whether synapses that share an entry of the parameter are kept apart in full influence.
    """
    if parameter.kind == "scalar":
        return (target,)
    if word is Structure.FULL:
        return (target, *(parameter.synapses if by_synapse else parameter.shape))
    if word is Structure.DIAGONAL:
        return parameter.synapses
    return (network.nodes[network.edges[parameter.edges[0]].source].size,) if parameter.edges else ()


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
        sites = product.sites.get(name, [])
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
