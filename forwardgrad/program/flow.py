"""What flows through a network under its rules? Influence forward and learning signals back, step by step.

On the product graph, with kept arcs `q -> p` of Jacobian `J` and delay `d`,

    S_p(t) = sum over arcs of J(t) S_q(t - d), plus what the parameter injects at p     its eligibility trace at p
    L_p(t) = dE(t)/dp(t), along arcs of delay 0                                         the learning signal at p
    L_p(t) S_p(t)                                       the part of the gradient of E(t) that passes through p at t

This is the recursion that a program runs with blocks of one step, written out for every place and not for the stored
ones alone (Williams & Zipser 1989, doi 10.1162/neco.1989.1.2.270, on the product graph). Where influence is kept with
loss, it is what is kept at the ends of blocks. It is here to be looked at; nothing that trains depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from forwardgrad.backends.tape import Tape
from forwardgrad.backends.weights import is_elementwise, pull
from forwardgrad.compiler import Plan
from forwardgrad.compiler.factors import arc_structure, factor_structure
from forwardgrad.compiler.product import Arc
from forwardgrad.layouts.influence import Single, Synapses
from forwardgrad.layouts.traces import Site, Stored, Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure, compose, join


@dataclass(frozen=True)
class Influence:
    """The influence of a parameter on a place at one step.

    Args:
        kind: how it is laid out, by the kind of the weight.
        word: its layout.
        array: `(batch, ...)`.
    """

    kind: Synapses | Single
    word: Structure
    array: Array

    def size(self) -> float:
        """Euclidean norm of all its entries, those included that a narrow layout leaves out; root mean square over
        the batch.
        """
        entries = self.kind.widen(self.array, self.word, Structure.DIAGONAL)
        return float(np.sqrt(np.square(entries).sum() / len(entries)))

    def contracted(self, signal: Array) -> Array:
        """Learning signal `(batch, size)` times influence, summed over the batch: a gradient."""
        return self.kind.contract(signal, self.word, self.array)

    def times(self, word: Structure, j: Array) -> Influence:
        """A Jacobian `(batch, seeds, size)` times this."""
        j = np.broadcast_to(j, (len(self.array), *j.shape[1:]))
        return Influence(self.kind, compose(word, self.word), self.kind.carry(word, j, self.word, self.array))

    def plus(self, others: Iterable[Influence]) -> Influence:
        """The sum of this and others."""
        parts = [self, *others]
        word = join(*(part.word for part in parts))
        array = self.kind.widen(self.array, self.word, word)
        for part in parts[1:]:
            array = array + part.kind.widen(part.array, part.word, word)
        return Influence(self.kind, word, array)


@dataclass(frozen=True)
class Moment:
    """One step of one parameter.

    Args:
        step: counted from the start of the block.
        carried: per arc (its index), what comes over it.
        places: per place, that and what the parameter injects there.
    """

    step: int
    carried: Mapping[int, Influence]
    places: Mapping[int, Influence]


class Flow:
    """What flows in one block.

    Args:
        plan: the derived algorithm.
        tape: the block's forward pass.
        seeds: per place that has a signal of its own, `(time, batch, size)`.
    """

    def __init__(self, plan: Plan, tape: Tape, seeds: Mapping[int, Array]) -> None:
        self.plan, self.tape, self.seeds = plan, tape, seeds
        self.signals: dict[int, Array] = {}
        for place in plan.order:
            shape = tape.steps, tape.batch, plan.size(place)
            total = seeds.get(place, np.zeros(shape, tape.dtype))
            for arc in plan.product.leaving[place]:
                if not arc.delay:
                    total = total + self._pulled(arc, self.signals[arc.target])
            self.signals[place] = total

    def _pulled(self, arc: Arc, b: Array) -> Array:
        edge = self.plan.network.edges[arc.edge]
        if not arc.factor.numeric:
            d = self.tape.jacobian(edge.target, edge.port)
            b = (b[..., None, :] @ d)[..., 0, :] if d.ndim == 4 else b * d
        return pull(is_elementwise(edge, arc.factor), self.tape.weights.of(edge, arc.factor), b)

    def of(self, name: str, traces: Traces, stored: Stored, after: Stored | None = None) -> Iterator[Moment]:
        """The steps of a parameter, in order.

        Args:
            name: the parameter.
            traces: what it keeps between blocks.
            stored: that, before this block.
            after: that, after this block, where it is kept with loss: the losses of the last step read it.
        """
        product, words = self.plan.product, words_of(self.plan, name, traces)
        kind = traces.kind
        past = {
            (place, -lag): Influence(kind, traces.held_word(place), traces.held(place, lag, stored))
            for place, lag in traces.entries()
        }
        depth = max(self.plan.depth, default=0)
        order = [place for place in reversed(self.plan.order) if place in words]
        arcs = {
            place: [(i, arc) for i, arc in enumerate(product.arcs) if arc.target == place and arc.source in words]
            for place in order
        }
        for t in range(self.tape.steps):
            carried: dict[int, Influence] = {}
            for place in order:
                parts = [self._injected(kind, traces, site, t) for site in traces.sites if site.place == place]
                for index, arc in arcs[place]:
                    before = past.get((arc.source, t - arc.delay))
                    if before is not None:
                        parts.append(self._carried(arc, before, t))
                        carried[index] = parts[-1]
                nothing = Influence(kind, words[place], self._nothing(name, words[place], place))
                past[place, t] = nothing.plus(parts)
                if after is not None and t == self.tape.steps - 1 and place in traces.places:
                    past[place, t] = Influence(kind, traces.held_word(place), traces.held(place, 1, after))
            yield Moment(t, carried, {place: past[place, t] for place in order})
            for place in order:
                past.pop((place, t - depth), None)

    def _injected(self, kind: Synapses | Single, traces: Traces, site: Site, t: int) -> Influence:
        node = self.plan.product.places[site.place].node
        word, j = self._slope(node, site.port, t)
        return Influence(kind, word, kind.inject(word, j[None], traces.presynaptic(self.tape, site)[t][None]))

    def _carried(self, arc: Arc, before: Influence, t: int) -> Influence:
        edge = self.plan.network.edges[arc.edge]
        weight = self.tape.weights.of(edge, arc.factor)
        if weight is not None:
            word = factor_structure(edge, arc.factor)
            size = self.plan.size(arc.source)
            j = np.asarray(weight)[None] if word is Structure.FULL else np.broadcast_to(weight, (1, 1, size))
            before = before.times(word, j)
        return before if arc.factor.numeric else before.times(*self._slope(edge.target, edge.port, t))

    def _slope(self, node: str, port: str, t: int) -> tuple[Structure, Array]:
        """The derivative of a node by a port at a step, `(batch, seeds, size)`, and its word."""
        declared = self.plan.network.nodes[node]
        word = declared.op.port(port, declared.ports).structure
        d = self.tape.jacobian(node, port)[t]
        return word, d if word is Structure.FULL else np.broadcast_to(d, (self.tape.batch, declared.size))[:, None]

    def _nothing(self, name: str, word: Structure, place: int) -> Array:
        """An influence of zeros."""
        return np.zeros((self.tape.batch, *self.plan.shape(name, word, place)), self.tape.dtype)


def words_of(plan: Plan, name: str, traces: Traces) -> dict[int, Structure]:
    """The layout of a parameter's influence on every place that it reaches: a fixpoint, as for the stored ones."""
    product = plan.product
    words: dict[int, Structure] = {}
    for site in traces.sites:
        words[site.place] = join(words.get(site.place, Structure.ZERO), plan.port_word(site.place, site.port))
    for place in traces.places:
        words[place] = join(words.get(place, Structure.ZERO), traces.held_word(place))
    queue = list(words)
    while queue:
        here = queue.pop()
        for arc in product.leaving[here]:
            word = compose(arc_structure(plan.network, plan.network.edges[arc.edge], arc.factor), words[here])
            if join(word, words.get(arc.target, Structure.ZERO)) != words.get(arc.target):
                words[arc.target] = join(word, words.get(arc.target, Structure.ZERO))
                queue.append(arc.target)
    return words
