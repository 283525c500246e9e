"""What does a derived algorithm compute? The interpreter that defines it: one block at a time, in four moves.

Forward, adjoint sweep, contract, advance (Schmidhuber 1992, Neural Computation 4(2):243-248, generalised to every path
rule). With fixed weights the gradient does not depend on how time is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.backends.influence import influence_of
from forwardgrad.backends.route import route
from forwardgrad.backends.sweep import Adjoints, sweep
from forwardgrad.backends.tape import Tape
from forwardgrad.compiler import Plan
from forwardgrad.compiler.product import Injection
from forwardgrad.ops import Array
from forwardgrad.structure import compose

Params = Mapping[str, Array]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Memory:
    """What a program carries from block to block.

    Args:
        values: per node that delayed edges read, `(lag, batch, size)`, the most recent first.
        influence: per parameter and place, `(lag, batch, *layout)`.
    """

    values: Mapping[str, Array]
    influence: Mapping[tuple[str, int], Array]


class Interpreter:
    """Executes a plan.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.dtype = plan, dtype
        self.kinds = {name: influence_of(plan.network, plan.network.parameters[name]) for name in plan.entries}
        self.loss_route = route(plan)
        self.place_routes = {place: route(plan, place) for place in plan.stored}
        self._history = {name: n for name in plan.network.nodes if (n := plan.network.history(name))}
        self.sites: dict[str, list[Injection]] = {name: [] for name in plan.entries}
        for injection in plan.product.injections:
            self.sites[injection.parameter].append(injection)

    def history(self) -> dict[str, int]:
        """How many past values of each node must be kept, where any."""
        return self._history

    def influence_shape(self, name: str, place: int) -> tuple[int, ...]:
        """Shape of one sample's influence of a parameter on a place, at one lag."""
        size = self.plan.network.nodes[self.plan.product.places[place].node].size
        return self.kinds[name].stored_shape(self.plan.layouts[name, place], size)

    def start(self, batch: int) -> Memory:
        """The memory before t = 0: initial values, and no influence."""
        nodes = self.plan.network.nodes
        of_values, of_influence = self.shapes(batch)
        return Memory(
            {name: np.full(shape, nodes[name].initial, self.dtype) for name, shape in of_values.items()},
            {key: np.zeros(shape, self.dtype) for key, shape in of_influence.items()},
        )

    def shapes(self, batch: int) -> tuple[dict[str, tuple[int, ...]], dict[tuple[str, int], tuple[int, ...]]]:
        """The shapes of the arrays of a `Memory`: of the values, and of the influence."""
        nodes = self.plan.network.nodes
        return (
            {name: (n, batch, nodes[name].size) for name, n in self._history.items()},
            {
                (name, place): (self.plan.depth[place], batch, *self.influence_shape(name, place))
                for name, places in self.plan.entries.items()
                for place in places
            },
        )

    def forward(self, params: Params, values: Mapping[str, Array], inputs: Mapping[str, Array], shape: Shape) -> Tape:
        """Run the declared graph for a block.

        Args:
            params: the parameters, by name.
            values: as in `Memory`.
            inputs: `(steps, batch, size)` by input node.
            shape: `(steps, batch)`.
        """
        return Tape(self.plan.network, params, values, inputs, *shape, self.dtype)

    def gradients(self, tape: Tape, memory: Memory, losses: Mapping[str, Array]) -> dict[str, Array]:
        """The block's part of the gradient of each parameter, through the kept paths.

        Args:
            tape: the block's forward pass.
            memory: what came before the block.
            losses: the gradient of the loss by each output node, `(steps, batch, size)`.
        """
        seeds = {
            (stop.place, t): losses[stop.node][t][:, None]
            for stop in self.loss_route
            if stop.node in losses
            for t in range(tape.steps)
        }
        adjoints = sweep(tape, self.loss_route, seeds)
        return {name: self._gradient(tape, memory, adjoints, name) for name in self.plan.entries}

    def _gradient(self, tape: Tape, memory: Memory, adjoints: Adjoints, name: str) -> Array:
        kind = self.kinds[name]
        total = np.zeros(self.plan.network.parameters[name].shape, self.dtype)
        for site in self.sites[name]:
            if (found := adjoints.at_port(site.place, site.port)) is not None:
                steps, b = found
                total = total + kind.gradient(b[:, :, 0], self._presynaptic(tape, site)[steps])
        for place in self.plan.entries[name]:
            stored = memory.influence[name, place]
            for lag in range(1, self.plan.depth[place] + 1):
                if (adjoint := adjoints.boundary.get((place, lag))) is not None:
                    word = self.plan.layouts[name, place]
                    total = total + kind.contract(adjoint[:, 0], word, stored[lag - 1])
        return total

    def _presynaptic(self, tape: Tape, site: Injection) -> Array:
        """What a parameter multiplies at a site: `(steps, batch, source)`, or `(steps, batch)` of ones for a bias."""
        if site.edge is None:
            return np.ones((tape.steps, tape.batch), self.dtype)
        edge = self.plan.network.edges[site.edge]
        return tape.values(edge.source, edge.delay)

    def advance(self, tape: Tape, memory: Memory) -> Memory:
        """The memory after the block: influence' = Jacobian x influence + injections, per stored place and lag."""
        values = {name: tape.last(name) for name in memory.values}
        influence = {key: np.zeros_like(stored) for key, stored in memory.influence.items()}
        for place in self.plan.stored:
            size = self.plan.network.nodes[self.plan.product.places[place].node].size
            names = [name for name, places in self.plan.entries.items() if place in places]
            for lag in range(1, self.plan.depth[place] + 1):
                if lag > tape.steps:  # the step lies before this block: only its lag has grown
                    for name in names:
                        influence[name, place][lag - 1] = memory.influence[name, place][lag - 1 - tape.steps]
                    continue
                seed = np.ones((tape.batch, 1, size), self.dtype)
                adjoints = sweep(tape, self.place_routes[place], {(place, tape.steps - lag): seed})
                for name in names:
                    influence[name, place][lag - 1] = self._carried(tape, memory, adjoints, name, place)
        return Memory(values, influence)

    def _carried(self, tape: Tape, memory: Memory, adjoints: Adjoints, name: str, target: int) -> Array:
        """The influence of a parameter on a place at a step of the block, `(batch, *layout)`."""
        kind, words, layout = self.kinds[name], self.plan.words[target], self.plan.layouts[name, target]
        total = np.zeros((tape.batch, *self.influence_shape(name, target)), self.dtype)
        for site in self.sites[name]:
            found = adjoints.at_port(site.place, site.port) if site.place in words else None
            if found is None:
                continue
            steps, j = found
            word = compose(words[site.place], self.plan.port_word(site.place, site.port))
            injected = kind.inject(word, j, self._presynaptic(tape, site)[steps])
            total += kind.widen(injected, word, layout)
        for place in self.plan.entries[name]:
            for lag in range(1, self.plan.depth[place] + 1):
                if (j := adjoints.boundary.get((place, lag))) is None:
                    continue
                word, stored = words[place], self.plan.layouts[name, place]
                carried = kind.carry(word, j, stored, memory.influence[name, place][lag - 1])
                total += kind.widen(carried, compose(word, stored), layout)
        return total
