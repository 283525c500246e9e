"""In which order does a sweep visit the places?"""

from __future__ import annotations

from forwardgrad.compiler.product import Product
from forwardgrad.graph import Network


def sweep_order(network: Network, product: Product) -> tuple[int, ...]:
    """All places, such that within one step a place comes after every place that its instantaneous arcs lead to.

    The declared order of nodes serves: an arc of delay 0 leads to a node that is later in it. A place that filters by a
    node's leak comes right after that node.
    """
    position = {name: index for index, name in enumerate(network.order)}

    def key(index: int) -> tuple[int, bool]:
        place = product.places[index]
        return -position[place.filtered or place.node], place.filtered is not None

    return tuple(sorted(range(len(product.places)), key=key))
