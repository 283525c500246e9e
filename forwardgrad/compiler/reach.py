"""Which units does a parameter's influence reach within n - 1 transitions? The pattern that the layout `snap(n)` keeps.

A transition moves credit to other units in time: it crosses a delay, or several, and then the first edge that mixes.
Edges that do not mix lead to other quantities of the same unit, and are free; so is all that happens in the step in
which the parameter enters, or in which a transition ends. So a delay counts the same however it is spelled: split, or
with an identity relay after it. Where the state of a unit is renewed at every step, as in vanilla, gated and LSTM
layers, transitions are steps of the recurrent core (SnAp: Menick et al. 2021, arXiv 2006.07232).

The pattern is found unit by unit, and not on labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from forwardgrad.compiler.factors import arc_structure
from forwardgrad.compiler.labels import edge_mixes, port_structure
from forwardgrad.compiler.product import Arc, Injection, Product
from forwardgrad.errors import RuleError
from forwardgrad.graph import Network, Parameter
from forwardgrad.structure import Structure

Pattern = NDArray[np.bool_]

LARGEST = 2**26
"""The most entries of a pattern from which it is found unit by unit: a byte each, in several copies."""


def reached_units(
    network: Network,
    product: Product,
    order: Sequence[int],
    parameter: Parameter,
    sites: Sequence[Injection],
    within: int,
) -> dict[int, Pattern]:
    """For every place that is reached, which of its units each row of a parameter reaches.

    Args:
        network: the validated graph.
        product: the pruned product.
        order: its places in the order of a sweep.
        parameter: whose influence. It has a row per unit of the node it enters; a scalar is one row that enters at all
            units, of nodes of any size.
        sites: where it enters.
        within: n: the units at which a row enters are reached within 1.

    Returns:
        Per place, `(size of its node, rows)`.

    Raises:
        RuleError: if there are too many units to go through one by one.
    """
    sizes = {site.place: network.nodes[product.places[site.place].node].size for site in sites}
    rows = 1 if parameter.kind == "scalar" else max(sizes.values(), default=0)
    largest = max([rows, *(network.nodes[place.node].size for place in product.places)])
    if rows * largest > LARGEST:
        raise RuleError(
            f"layout 'snap({within})': a pattern of {largest:,} times {rows:,} units is too large to be found.",
            "Make the nodes smaller, or take another rule.",
        )
    seeds: dict[int, Pattern] = {}
    for site in sites:
        full = port_structure(network, product.places[site.place].node, site.port) is Structure.FULL
        all_ = full or parameter.kind == "scalar"
        own = np.ones((sizes[site.place], rows), np.bool_) if all_ else np.eye(rows, dtype=np.bool_)
        seeds[site.place] = seeds[site.place] | own if site.place in seeds else own
    fresh = _spread(network, product, order, seeds)
    for _ in range(within - 1):
        moved = _transition(network, product, fresh, _held(network, product, fresh))
        after = _spread(network, product, order, _joined([fresh, moved]))
        if all(place in fresh and np.array_equal(pattern, fresh[place]) for place, pattern in after.items()):
            break
        fresh = after
    return _joined([fresh, _held(network, product, fresh)])


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


def _held(network: Network, product: Product, fresh: Mapping[int, Pattern]) -> dict[int, Pattern]:
    """What a unit holds of itself: what is reached over delays from fresh places, along arcs that do not mix."""
    found: dict[int, Pattern] = {}
    queue = deque((arc, fresh[arc.source]) for arc in product.arcs if arc.delay and arc.source in fresh)
    while queue:
        arc, pattern = queue.popleft()
        if _mixes(network, arc):
            continue
        pattern, before = _through(network, arc, pattern), found.get(arc.target)
        after = pattern if before is None else before | pattern
        if before is None or not np.array_equal(before, after):
            found[arc.target] = after
            queue += [(onward, after) for onward in product.leaving[arc.target]]
    return found


def _transition(
    network: Network, product: Product, fresh: Mapping[int, Pattern], held: Mapping[int, Pattern]
) -> dict[int, Pattern]:
    """What is reached over one arc that mixes, and is delayed itself or comes after a delay."""
    return _joined(
        [
            {arc.target: _through(network, arc, patterns[arc.source])}
            for arc in product.arcs
            for patterns in ((fresh, held) if arc.delay else (held,))
            if arc.source in patterns and _mixes(network, arc)
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
    size, rest = network.nodes[edge.target].size, arc.factor.kind == "rest"
    port_mixes = port_structure(network, edge.target, edge.port) is Structure.FULL
    if edge.pattern is None or port_mixes:  # from each unit to all; from all but itself where the diagonal is apart
        if rest:
            return pattern.sum(axis=0) > pattern
        return np.broadcast_to(pattern.any(axis=0), (size, pattern.shape[1]))
    rows, columns = np.asarray(edge.pattern.rows), np.asarray(edge.pattern.columns)
    if rest:
        rows, columns = rows[rows != columns], columns[rows != columns]
    heard = np.split(columns, np.cumsum(np.bincount(rows, minlength=size))[:-1])
    return np.stack([pattern[units].any(axis=0) for units in heard])


def _mixes(network: Network, arc: Arc) -> bool:
    edge = network.edges[arc.edge]
    if arc_structure(network, edge, arc.factor) is not Structure.FULL:
        return False
    return edge_mixes(network, edge) or arc.factor.kind in ("random", "adaptive")
