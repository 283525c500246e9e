"""What does the compiler hand to a backend? The pruned product with its layouts and orders, frozen."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from forwardgrad.compiler.decisions import Decision, Kind
from forwardgrad.compiler.exactness import dropped_edges, substitutions
from forwardgrad.compiler.factors import feedback_name
from forwardgrad.compiler.labels import Labels, label, port_structure
from forwardgrad.compiler.layouts import depths, entries, layouts, stored_shape, words_to
from forwardgrad.compiler.leaks import filter_sources
from forwardgrad.compiler.product import Injection, Product, multiply
from forwardgrad.compiler.pruning import live_places, merge, prune
from forwardgrad.compiler.reach import Pattern, reached_units
from forwardgrad.compiler.schedule import sweep_order
from forwardgrad.errors import RuleError
from forwardgrad.graph import Network, Parameter
from forwardgrad.rules.rule import Rule
from forwardgrad.structure import Structure


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
        rules: the rule of each trained parameter.
        dropped: per parameter, the edges at which it loses credit.
        reasons: per parameter, what else keeps its gradient from being exact.
        untrained: the trainable parameters that their rule leaves as they are; they have no gradient.
        followers: the parameters of adaptive feedback, each with the trained parameter whose gradient it takes.
        probed: the rule of each input by which the gradient is asked for.
        per_sample: whether gradients keep the axis of the batch.
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
    rules: Mapping[str, Rule]
    dropped: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, tuple[str, ...]]
    untrained: tuple[str, ...]
    followers: Mapping[str, str]
    probed: Mapping[str, Rule]
    per_sample: bool
    dead: tuple[str, ...]
    decisions: tuple[Decision, ...]

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """All parameters: those of the graph, and matrices of adaptive feedback."""
        extra: dict[str, Parameter] = {}
        for name, followed in self.followers.items():
            declared = self.network.parameters[followed]
            scale = self._scales[name]
            init = declared.init if scale is None else f"normal({scale!r})"
            extra[name] = replace(declared, name=name, edges=(), init=init)
        return {**self.network.parameters, **extra}

    @property
    def _scales(self) -> Mapping[str, float | None]:
        """The standard deviation from which each matrix of adaptive feedback starts, where a rule gives it."""
        return {
            feedback_name(arc.edge): arc.factor.feedback.scale
            for arc in self.product.arcs
            if arc.factor.kind == "adaptive"
        }

    @cached_property
    def remembered(self) -> dict[Hashable, Any]:
        """What has been found out about it, by whoever did, for as long as it lives."""
        return {}

    @property
    def stored(self) -> tuple[int, ...]:
        """The places at which some parameter's influence is stored, in increasing order."""
        return tuple(sorted(self.words))

    @cached_property
    def one_step_before(self) -> Mapping[int, frozenset[int]]:
        """Per stored place, the places from which one delayed arc and then instantaneous ones lead to it."""
        return {target: self._before(target) for target in self.stored}

    def _before(self, target: int) -> frozenset[int]:
        entering = self.product.entering
        found, queue, before = {target}, [target], set[int]()
        while queue:
            for arc in entering[queue.pop()]:
                if arc.delay:
                    before.add(arc.source)
                elif arc.source not in found:
                    found.add(arc.source)
                    queue.append(arc.source)
        return frozenset(before)

    def size(self, place: int) -> int:
        """Number of units of a place's node."""
        return self.network.nodes[self.product.places[place].node].size

    def sites(self, name: str) -> Sequence[Injection]:
        """Where a parameter enters."""
        return self.product.sites.get(name, [])

    def stored_shape(self, name: str, place: int) -> tuple[int, ...]:
        """Shape of a parameter's influence on a stored place, for one sample and lag."""
        return self.shape(name, self.layouts[name, place], place)

    def shape(self, name: str, word: Structure, place: int) -> tuple[int, ...]:
        """Shape of a parameter's influence on a place in the layout of a word, for one sample and lag."""
        parameter, by_synapse = self.network.parameters[name], self.rules[name].by_synapse
        return stored_shape(self.network, parameter, word, self.size(place), by_synapse)

    def reached(self, name: str, within: int) -> Mapping[int, Pattern]:
        """Per stored place, which of its units each row of a parameter reaches within n: `(size, rows)`."""
        parameter = self.network.parameters[name]
        found = reached_units(self.network, self.product, self.order, parameter, self.sites(name), within)
        rows = next(iter(found.values())).shape[1] if found else 0
        return {p: found.get(p, np.zeros((self.size(p), rows), np.bool_)) for p in self.entries[name]}

    def port_word(self, place: int, port: str | None) -> Structure:
        """The structure word of the derivative of a place's node by a port, or by itself."""
        if port is None:
            return Structure.SCALAR
        return port_structure(self.network, self.product.places[place].node, port)


def make_plan(
    network: Network,
    outputs: Sequence[str],
    rules: Mapping[str, Rule],
    probed: Mapping[str, Rule] = MappingProxyType({}),
    per_sample: bool = False,
) -> Plan:
    """Compile: label, multiply, prune, merge, lay out, order.

    Args:
        network: the validated graph.
        outputs: the nodes that have a loss.
        rules: the rule of each trainable parameter.
        probed: the rule of each input whose own gradient is asked for.
        per_sample: whether gradients keep the axis of the batch.

    Raises:
        RuleError: if a rule cannot serve this graph.
    """
    labels = label(network, outputs)
    explored = multiply(network, labels, rules, probed)
    trained = {name: rule for name, rule in rules.items() if name not in explored.untrained}
    carried = {name: rule.by_synapse for name, rule in trained.items() if rule.carry}
    product, filtered = filter_sources(
        network, merge(prune(explored)), lambda product: _influences(network, product, carried).price
    )
    found = _influences(network, product, carried)
    alive = {injection.parameter for injection in product.injections}
    return Plan(
        network=network,
        labels=labels,
        outputs=tuple(outputs),
        product=product,
        depth=found.depth,
        order=sweep_order(network, product),
        entries={name: found.entries.get(name, ()) for name in trained},
        words=found.words,
        layouts=found.layouts,
        rules=trained,
        dropped={**dict.fromkeys(trained, ()), **dropped_edges(network, explored, outputs)},
        reasons=substitutions(product, trained),
        untrained=explored.untrained,
        followers=_followers(network, product, trained),
        probed=dict(probed),
        per_sample=per_sample,
        dead=tuple(name for name in trained if name not in alive),
        decisions=tuple(_decisions(network, explored, product, found.layouts, filtered)),
    )


@dataclass(frozen=True)
class _Influences:
    """What a product stores: fields of a `Plan`, and their price: numbers a sample, and how many layouts are full."""

    depth: tuple[int, ...]
    entries: Mapping[str, tuple[int, ...]]
    words: Mapping[int, Mapping[int, Structure]]
    layouts: Mapping[tuple[str, int], Structure]
    price: tuple[int, int]


def _influences(network: Network, product: Product, carried: Mapping[str, bool]) -> _Influences:
    """What a product stores of the parameters that are carried, each with whether it is by synapse."""
    depth = depths(product)
    stored = entries(product, depth, carried)
    entered = set(product.reach([injection.place for injection in product.injections]))
    words = {
        place: {source: word for source, word in words_to(network, product, place).items() if source in entered}
        for place in sorted({p for ps in stored.values() for p in ps})
    }
    found = layouts(network, product, stored, words)
    numbers = sum(
        depth[place] * prod(stored_shape(network, network.parameters[name], word, size, carried[name]))
        for (name, place), word in found.items()
        for size in [_size(network, product, place)]
    )
    full = sum(word is Structure.FULL for word in found.values())
    return _Influences(depth, stored, words, found, (numbers, full))


def _size(network: Network, product: Product, place: int) -> int:
    return network.nodes[product.places[place].node].size


def _followers(network: Network, product: Product, trained: Collection[str]) -> dict[str, str]:
    followers: dict[str, str] = {}
    scales: dict[str, float | None] = {}
    for arc in product.arcs:
        if arc.factor.kind != "adaptive":
            continue
        scale = arc.factor.feedback.scale
        if scales.setdefault(arc.edge, scale) != scale:
            raise RuleError(
                f"adaptive feedback on edge {arc.edge!r}: two rules start it from different standard deviations.",
                "There is one matrix for all parameters: give one number.",
            )
        followed = network.edges[arc.edge].param or ""
        if followed not in trained:
            raise RuleError(
                f"adaptive feedback on edge {arc.edge!r}: its weight {followed!r} is not trained.",
                "Adaptive feedback changes as the weight does; use random feedback.",
            )
        followers[feedback_name(arc.edge)] = followed
    return followers


def _decisions(
    network: Network,
    explored: Product,
    product: Product,
    found: Mapping[tuple[str, int], Structure],
    filtered: Sequence[str],
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
    live = live_places(explored)
    decisions += [
        Decision(Kind.PLACE_DROPPED, at(index), "no loss behind it")
        for index in range(len(explored.places))
        if index not in live
    ]
    decisions += [
        Decision(Kind.MODES_MERGED, place.node, place.label) for place in product.places if "|" in place.label
    ]
    decisions += [Decision(Kind.LEAK_FILTERED, node, "its leak commutes with the weights into it") for node in filtered]
    decisions += [
        Decision(Kind.LAYOUT, f"{name} on {product.places[place].node}", f"{word}, mode {product.places[place].label}")
        for (name, place), word in found.items()
    ]
    return decisions
