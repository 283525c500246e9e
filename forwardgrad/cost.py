"""What does a program cost? Bytes of influence, activations and one block, known before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from forwardgrad.backends.estimates import KroneckerTraces, RankOneTraces
from forwardgrad.backends.traces import Traces
from forwardgrad.compiler import Plan
from forwardgrad.compiler.labels import port_structure
from forwardgrad.compiler.layouts import stored_shape
from forwardgrad.structure import Structure, compose

LONG = 2**12
"""Steps of a block from which on its price is a straight line."""

BLOCK_BUDGET = 256 * 2**20
"""Bytes that the arrays of one block may take where the block length is chosen by itself."""


@dataclass(frozen=True)
class Cost:
    """What a program stores, in bytes, and what it computes.

    Args:
        batch: number of samples.
        block: steps per block.
        influence: per trained parameter, between blocks.
        flops: per trained parameter, floating-point operations of carrying its influence a step, with blocks of one.
        values: the past values that delayed edges read, between blocks.
        working: the most that a block takes beside the state it starts from: the state after it, values, adjoints and
            what is in work (an estimate).
    """

    batch: int
    block: int
    influence: Mapping[str, int]
    flops: Mapping[str, int]
    values: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.influence.values()) + self.values + self.working

    def __str__(self) -> str:
        return (
            f"batch {self.batch}, block {self.block}: influence {sum(self.influence.values()):,} bytes, "
            f"values {self.values:,}, one block about {self.working:,}"
        )


@dataclass(frozen=True)
class _Numbers:
    """Counts of numbers, per sample, in the order in which a block makes its arrays. `backends/` says which those are.

    Args:
        plan: the derived algorithm.
        block: steps per block.
    """

    plan: Plan
    block: int

    @cached_property
    def ports(self) -> Mapping[int, tuple[str | None, ...]]:
        """Per place, the ports at which a sweep notes an adjoint."""
        plan, found = self.plan, dict[tuple[int, str | None], None]()
        for injection in plan.product.injections:
            found[injection.place, injection.port] = None
        for arc in plan.product.arcs:
            found[arc.target, None if arc.factor.numeric else plan.network.edges[arc.edge].port] = None
        ports: dict[int, tuple[str | None, ...]] = {}
        for place, port in found:
            if plan.port_word(place, port) is not Structure.ZERO:
                ports[place] = (*ports.get(place, ()), port)
        return ports

    @cached_property
    def tape(self) -> int:
        """Values, ports, and Jacobians of the ops."""
        total = 0
        for node in self.plan.network.nodes.values():
            past = self.plan.network.history(node.name)
            total += node.size * (past + self.block * (1 + len(node.ports)))
        used = {(self.plan.product.places[place].node, port) for place, ports in self.ports.items() for port in ports}
        for name, port in used:
            node = self.plan.network.nodes[name]
            word = Structure.SCALAR if port is None else port_structure(self.plan.network, name, port)
            if word is Structure.FULL:
                total += self.block * node.size**2
            elif word is Structure.DIAGONAL and len(node.ports) != 2:  # of a product of two it is the other port
                total += self.block * node.size
        return total + 3 * self.block * sum(self.plan.network.nodes[name].size for name in self.plan.outputs)

    def seeds(self, target: int, word: Structure) -> int:
        """Seeds of an adjoint of that word, in a sweep from a stored place."""
        return self.plan.size(target) if word is Structure.FULL else 1

    def at_port(self, target: int, place: int, port: str | None) -> int:
        """Numbers of a port's adjoint in one step of a sweep from a stored place."""
        word = compose(self.plan.words[target][place], self.plan.port_word(place, port))
        return self.seeds(target, word) * self.plan.size(place)

    def visits(self, target: int, lag: int) -> tuple[dict[int, int], dict[int, int]]:
        """How often a sweep from a stored place visits each place: inside the block, and before it."""
        plan = self.plan
        ages: dict[int, set[int]] = {place: set() for place in plan.words[target]}
        ages[target].add(0)
        inside = self.block - lag
        entering = plan.product.entering
        for age in range(inside + 1):
            for place in plan.order:
                if age in ages.get(place, ()):
                    for arc in entering[place]:
                        if arc.source in ages:
                            ages[arc.source].add(age + arc.delay)
        return (
            {place: sum(age <= inside for age in found) for place, found in ages.items()},
            {place: sum(age > inside for age in found) for place, found in ages.items()},
        )

    def sweep(self, target: int | None, lag: int = 1) -> int:
        """What a sweep leaves behind, from a stored place so many steps before the block's end, or from the losses."""
        plan = self.plan
        if target is None:
            of_block = sum(plan.size(place) * len(ports) for place, ports in self.ports.items())
            return self.block * of_block + sum(plan.size(p) * depth for p, depth in enumerate(plan.depth))
        words, (inside, before) = plan.words[target], self.visits(target, lag)
        of_block = sum(inside[p] * self.at_port(target, p, port) for p in words for port in self.ports.get(p, ()))
        return of_block + sum(self.seeds(target, word) * plan.size(p) * before[p] for p, word in words.items())

    @property
    def swept(self) -> int:
        """What the sweeps of a block leave behind that grows with its length."""
        ports = [
            (target, p, port)
            for target in self.plan.stored
            for p in self.plan.words[target]
            for port in self.ports.get(p, ())
        ]
        return self.tape + self.block * sum(self.at_port(*each) for each in ports) + self.sweep(None)

    def advance(self, traces: Mapping[str, Traces]) -> int:
        """The most at any time while influence is advanced: all of it anew, and what is in work beside it."""
        made, peak, swept = self.tape, 0, set[tuple[int, int]]()
        for own in traces.values():
            made += sum(prod(shape) for shape in own.shapes().values())
            before = 0
            for place, lag in own.entries():
                if lag > self.block:
                    continue
                if (place, lag) not in swept:
                    swept.add((place, lag))
                    made += self.sweep(place, lag)
                if isinstance(own, RankOneTraces | KroneckerTraces):
                    continue
                peak = max(peak, made + before + self.carried(own, place, lag))
                before = prod(own.full_shape(place))
            if isinstance(own, RankOneTraces):
                peak = max(peak, made + self.sweep(None) + 2 * prod(self.plan.network.parameters[own.name].shape))
            if isinstance(own, KroneckerTraces):
                stored = sum(prod(shape) for shape in own.shapes().values())
                peak = max(peak, made + stored * (2 + self.block))
        return peak

    def carried(self, own: Traces, place: int, lag: int) -> int:
        """What is in work while one parameter's influence on one place is advanced."""
        plan, words, full = self.plan, self.plan.words[place], prod(own.full_shape(place))
        layout, (inside, before) = plan.layouts[own.name, place], self.visits(place, lag)

        def numbers(word: Structure) -> int:
            return prod(stored_shape(plan.network, plan.network.parameters[own.name], word, own.size(place)))

        peak = held = 0
        for site in own.sites:
            if not inside.get(site.place):
                continue
            word = compose(words[site.place], plan.port_word(site.place, site.port))
            steps = inside[site.place]
            stacked = steps * self.at_port(place, site.place, site.port)
            read = 0 if site.edge is None else steps * plan.network.nodes[plan.network.edges[site.edge].source].size
            product = steps * (products(own) * numbers(word) + gathered(own))
            widened = full if word is not layout else 0
            peak = max(peak, held + stacked + read + numbers(word) + max(product, widened))
            held = stacked + numbers(word)
        sources = [source for source in own.places for _ in range(before.get(source, 0))]
        for count, source in enumerate(sources):
            word = compose(words[source], plan.layouts[own.name, source])
            decoded = prod(own.full_shape(source)) if own.lossy else 0
            result, last = numbers(word), numbers(word) if count else 0
            peak = max(peak, held + last + result + max(decoded, full if word is not layout else 0))
        return full + peak

    def gradients(self, traces: Mapping[str, Traces]) -> int:
        """The most at any time while gradients are read off."""
        made = self.tape + sum(prod(s) for own in traces.values() for s in own.shapes().values())
        made += self.sweep(None) * (2 if any(own.lossy for own in traces.values()) else 1)
        return made + max((self.contracted(own) for own in traces.values()), default=0)

    def contracted(self, own: Traces) -> int:
        """What is in work while one parameter's gradient is read off."""
        plan, peak = self.plan, 0
        for site in own.sites:
            read = 1 if site.edge is None else plan.network.nodes[plan.network.edges[site.edge].source].size
            product = products(own) * prod(plan.network.parameters[own.name].shape) + gathered(own)
            peak = max(peak, self.block * (plan.size(site.place) + read + product))
        for place in own.places:
            word = plan.layouts[own.name, place]
            full = prod(own.full_shape(place))
            decoded = full if own.lossy and not isinstance(own, RankOneTraces | KroneckerTraces) else 0
            peak = max(peak, decoded + (full if word is Structure.DIAGONAL else 0))
        return peak


def products(own: Traces) -> int:
    """How many arrays of products are in work where a parameter injects: none for a dense weight's matrix product.

    A sparse weight gathers the rows first, and then makes the products.
    """
    return {"dense": 0, "sparse": 2}.get(own.plan.network.parameters[own.name].kind, 1)


def gathered(own: Traces) -> int:
    """How many numbers a step a sparse weight gathers from its source."""
    parameter = own.plan.network.parameters[own.name]
    return prod(parameter.shape) if parameter.kind == "sparse" else 0


def working_bytes(plan: Plan, traces: Mapping[str, Traces], batch: int, block: int, dtype: Any) -> int:
    """The most bytes that a block takes beside the state it starts from: the new state, and all that is in work."""
    if block > LONG:  # beyond the longest delay a block grows by the same with every step
        one, two = (working_bytes(plan, traces, batch, length, dtype) for length in (LONG - 1, LONG))
        return two + (block - LONG) * (two - one)
    found, parameters = _Numbers(plan, block), plan.parameters
    grads = sum(prod(parameters[name].shape) for name in plan.rules)
    return (batch * max(found.advance(traces), found.gradients(traces)) + grads) * np.dtype(dtype).itemsize


def block_bytes(plan: Plan, batch: int, block: int, dtype: Any) -> int:
    """The bytes of a block that grow with its length."""
    return batch * _Numbers(plan, block).swept * np.dtype(dtype).itemsize


def choose_block(plan: Plan, batch: int, dtype: Any) -> int:
    """A block length from the program, the batch and memory, never from the length of the sequence.

    A block costs about one sweep a seed, and carrying the influence once: about as many steps as the widest sweep has
    seeds balances the two (Schmidhuber 1992). Between 16 and 128, and less where memory is short.
    """
    sizes = [plan.network.nodes[plan.product.places[target].node].size for target in plan.stored]
    block = min(128, max([16, *sizes]))
    while block > 1 and block_bytes(plan, batch, block, dtype) > BLOCK_BUDGET:
        block //= 2
    return block
