"""What does the compiler hand to a backend? The pruned product with its layouts and orders, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.compiler.decisions import Decision, Kind
from forwardgrad.compiler.exactness import dropped_edges
from forwardgrad.compiler.labels import Labels, label, port_structure
from forwardgrad.compiler.layouts import depths, entries, layouts, words_to
from forwardgrad.compiler.product import Product, multiply
from forwardgrad.compiler.pruning import live_places, merge, prune
from forwardgrad.compiler.schedule import sweep_order
from forwardgrad.graph import Network
from forwardgrad.paths import PathRule
from forwardgrad.structure import Structure, compose


@dataclass(frozen=True)
class Plan:
    """A derived algorithm, ready to be executed.

    Args:
        network: the validated graph.
        labels: its labels.
        outputs: the nodes that have a loss.
        product: the pruned product graph.
        depth: per place, how many past steps of it kept delayed edges read; 0 where none do.
        order: all places in the order of a sweep.
        entries: per parameter, the places at which its influence is stored.
        words: per stored place, the structure word of its Jacobian by each place that leads to it.
        layouts: per parameter and stored place, the structure word its influence is stored in.
        dropped: per parameter, the edges at which it loses credit; none: its gradient is exact.
        dead: the trainable parameters without a kept path to a loss.
        decisions: what was decided on the way.
    """

    network: Network
    labels: Labels
    outputs: tuple[str, ...]
    product: Product
    depth: tuple[int, ...]
    order: tuple[int, ...]
    entries: Mapping[str, tuple[int, ...]]
    words: Mapping[int, Mapping[int, Structure]]
    layouts: Mapping[tuple[str, int], Structure]
    dropped: Mapping[str, tuple[str, ...]]
    dead: tuple[str, ...]
    decisions: tuple[Decision, ...]

    @property
    def stored(self) -> tuple[int, ...]:
        """The places at which some parameter's influence is stored, in increasing order."""
        return tuple(sorted(self.words))

    def port_word(self, place: int, port: str) -> Structure:
        """The structure word of the derivative of a place's node by a port."""
        return port_structure(self.network, self.product.places[place].node, port)

    def seed_word(self, target: int, place: int, port: str) -> Structure:
        """The structure word of the Jacobian of a stored place by a port of a place that leads to it."""
        return compose(self.port_word(place, port), self.words[target][place])


def make_plan(network: Network, outputs: Sequence[str], rules: Mapping[str, PathRule]) -> Plan:
    """Compile: label, multiply, prune, merge, lay out, order.

    Args:
        network: the validated graph.
        outputs: the nodes that have a loss.
        rules: the path rule of each trainable parameter.

    Raises:
        RuleError: if a rule cannot serve this graph.
    """
    labels = label(network, outputs)
    explored = multiply(network, labels, rules)
    product = merge(prune(explored, outputs))
    depth = depths(network, product)
    stored = entries(product, depth)
    words = {place: words_to(network, product, place) for place in sorted({p for ps in stored.values() for p in ps})}
    words_of_layouts = layouts(network, product, stored, words)
    alive = {injection.parameter for injection in product.injections}
    return Plan(
        network=network,
        labels=labels,
        outputs=tuple(outputs),
        product=product,
        depth=depth,
        order=sweep_order(network, product),
        entries={name: stored.get(name, ()) for name in rules},
        words=words,
        layouts=words_of_layouts,
        dropped={**dict.fromkeys(rules, ()), **dropped_edges(network, explored, outputs)},
        dead=tuple(name for name in rules if name not in alive),
        decisions=tuple(_decisions(network, explored, product, outputs, words_of_layouts)),
    )


def _decisions(
    network: Network,
    explored: Product,
    product: Product,
    outputs: Sequence[str],
    found: Mapping[tuple[str, int], Structure],
) -> list[Decision]:
    def at(place: int) -> str:
        return f"{explored.places[place].node} in mode {explored.places[place].label}"

    decisions = [
        Decision(Kind.CUT_BY_CREDIT if cut.by_credit else Kind.CUT_BY_RULE, cut.edge, f"leaving {at(cut.source)}")
        for cut in explored.dropped
    ]
    decisions += [
        Decision(Kind.KEPT_BY_CREDIT, arc.edge, f"leaving {at(arc.source)}")
        for arc in explored.arcs
        if network.edges[arc.edge].credit == "keep"
    ]
    live = live_places(explored, outputs)
    decisions += [
        Decision(Kind.PLACE_DROPPED, at(index), "no loss behind it")
        for index in range(len(explored.places))
        if index not in live
    ]
    decisions += [
        Decision(Kind.MODES_MERGED, place.node, place.label) for place in product.places if "|" in place.label
    ]
    decisions += [
        Decision(Kind.LAYOUT, f"{name} on {product.places[place].node}", f"{word}, mode {product.places[place].label}")
        for (name, place), word in found.items()
    ]
    return decisions
