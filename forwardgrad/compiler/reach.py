"""Which units does a parameter's influence reach within n - 1 transitions? The pattern that the layout `snap(n)` keeps.

A transition is one step of the recurrent core: one kept delayed edge, whatever its delay, then instantaneous edges.
(SnAp: Menick et al. 2021, arXiv 2006.07232.) The pattern is found unit by unit, and not on labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.compiler.factors import arc_structure
from forwardgrad.compiler.labels import port_structure
from forwardgrad.compiler.product import Arc, Injection, Product
from forwardgrad.errors import RuleError
from forwardgrad.graph import Network
from forwardgrad.structure import Structure

Pattern = NDArray[np.bool_]

LARGEST = 2**26
"""The most entries of a pattern from which it is found unit by unit: a byte each, in several copies."""


def reached_units(
    network: Network, product: Product, order: Sequence[int], sites: Sequence[Injection], units: int, within: int
) -> dict[int, Pattern]:
    """For every place that is reached, which of its units each unit of the parameter's own node reaches.

    Args:
        network: the validated graph.
        product: the pruned product.
        order: its places in the order of a sweep.
        sites: where the parameter enters.
        units: number of units of the node that it enters.
        within: n: the parameter's own units are reached within 1.

    Returns:
        Per place, `(size of its node, units)`.

    Raises:
        RuleError: if there are too many units to go through one by one.
    """
    largest = max([units, *(network.nodes[place.node].size for place in product.places)])
    if units * largest > LARGEST:
        raise RuleError(
            f"layout 'snap({within})': a pattern of {largest:,} times {units:,} units is too large to be found.",
            "Make the nodes smaller, or take another rule.",
        )
    seeds: dict[int, Pattern] = {}
    for site in sites:
        full = port_structure(network, product.places[site.place].node, site.port) is Structure.FULL
        own = np.ones((units, units), bool) if full else np.eye(units, dtype=bool)
        seeds[site.place] = seeds.get(site.place, np.zeros_like(own)) | own
    found = _spread(network, product, order, seeds)
    for _ in range(within - 1):
        moved = _transition(network, product, found)
        after = _joined([found, _spread(network, product, order, moved)])
        if all(place in found and np.array_equal(pattern, found[place]) for place, pattern in after.items()):
            break
        found = after
    return found


def _spread(
    network: Network, product: Product, order: Sequence[int], seeds: Mapping[int, Pattern]
) -> dict[int, Pattern]:
    """What is reached within a step: along instantaneous arcs."""
    entering = product.entering
    found = dict(seeds)
    for place in reversed(order):
        arcs = [arc for arc in entering[place] if not arc.delay and arc.source in found]
        for arc in arcs:
            reached = _through(network, arc, found[arc.source])
            found[place] = found[place] | reached if place in found else reached
    return found


def _transition(network: Network, product: Product, found: Mapping[int, Pattern]) -> dict[int, Pattern]:
    """What is reached over one delayed arc."""
    return _joined(
        [
            {arc.target: _through(network, arc, found[arc.source])}
            for arc in product.arcs
            if arc.delay and arc.source in found
        ]
    )


def _joined(parts: Sequence[Mapping[int, Pattern]]) -> dict[int, Pattern]:
    joined: dict[int, Pattern] = {}
    for part in parts:
        for place, pattern in part.items():
            joined[place] = joined[place] | pattern if place in joined else pattern
    return joined


def _through(network: Network, arc: Arc, pattern: Pattern) -> Pattern:
    """What one arc reaches from a pattern."""
    edge = network.edges[arc.edge]
    if arc_structure(network, edge, arc.factor) is not Structure.FULL:
        return pattern
    size = network.nodes[edge.target].size
    port_mixes = port_structure(network, edge.target, edge.port) is Structure.FULL
    matrix: Any = np.ones((size, len(pattern)), bool)
    if edge.pattern is not None and not port_mixes:
        matrix = np.zeros(edge.pattern.shape, bool)
        matrix[edge.pattern.rows, edge.pattern.columns] = True
    if arc.factor.kind == "rest":
        matrix[np.diag_indices(size)] = False
    return (matrix.astype(np.int64) @ pattern.astype(np.int64)) > 0
