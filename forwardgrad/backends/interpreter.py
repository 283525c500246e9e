"""What does a derived algorithm compute? The interpreter that defines it: one block at a time, in four moves.

Forward, adjoint sweep, contract, advance (Schmidhuber 1992, Neural Computation 4(2):243-248, generalised to every path
rule). With fixed weights and lossless layouts the gradient does not depend on how time is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from forwardgrad.backends.onestep import Factors, StepJacobians, step_jacobians
from forwardgrad.backends.route import route
from forwardgrad.backends.sweep import Adjoints, sweep
from forwardgrad.backends.tape import Tape
from forwardgrad.compiler import Plan
from forwardgrad.layouts.traces import Part, Passed
from forwardgrad.ops import Array

Params = Mapping[str, Array]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Memory:
    """What a program carries from block to block.

    Args:
        values: per node that delayed edges read, `(lag, batch, size)`, the most recent first.
        influence: per parameter and part of what it stores, `(lag, batch, ...)`.
    """

    values: Mapping[str, Array]
    influence: Mapping[tuple[str, Part], Array]

    def of(self, name: str) -> dict[Part, Array]:
        """What one parameter stores."""
        return {part: array for (owner, part), array in self.influence.items() if owner == name}


class Interpreter:
    """Executes a plan.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.

    Raises:
        RuleError: if a lossy layout does not fit a parameter.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.dtype = plan, dtype
        self.traces = {name: plan.rules[name].kept.traces(plan, name, dtype) for name in plan.entries}
        self.loss_route = route(plan)
        self.place_routes = {place: route(plan, place) for place in plan.stored}
        self._history = {name: n for name in plan.network.nodes if (n := plan.network.history(name))}
        self._shapes = {
            (name, part): shape for name, traces in self.traces.items() for part, shape in traces.shapes().items()
        }

    def history(self) -> dict[str, int]:
        """How many past values of each node must be kept, where any."""
        return self._history

    def start(self, batch: int) -> Memory:
        """The memory before t = 0: initial values, and no influence."""
        nodes = self.plan.network.nodes
        of_values, of_influence = self.shapes(batch)
        return Memory(
            {name: np.full(shape, nodes[name].initial, self.dtype) for name, shape in of_values.items()},
            {key: np.zeros(shape, self.dtype) for key, shape in of_influence.items()},
        )

    def shapes(self, batch: int) -> tuple[dict[str, tuple[int, ...]], dict[tuple[str, Part], tuple[int, ...]]]:
        """The shapes of the arrays of a `Memory`: of the values, and of the influence."""
        nodes = self.plan.network.nodes
        return (
            {name: (n, batch, nodes[name].size) for name, n in self._history.items()},
            {key: (lags, batch, *rest) for key, (lags, *rest) in self._shapes.items()},
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

    def gradients(
        self,
        tape: Tape,
        memory: Memory,
        after: Memory | None,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The block's part of the gradient of each parameter, through the kept paths, and that by probed inputs.

        Args:
            tape: the block's forward pass.
            memory: what came before the block.
            after: the memory after the block; needed where a layout is lossy.
            losses: the gradient of the loss by each output node, `(steps, batch, size)`.
            signals: the learning signals that the user gives, by node, shaped alike.
        """
        seeds = self._seeds(tape, losses, signals)
        last = {(place, t): seed for (place, t), seed in seeds.items() if t == tape.steps - 1}
        earlier = {key: seed for key, seed in seeds.items() if key not in last}
        whole = cache(lambda: sweep(tape, self.loss_route, seeds))
        before_last = cache(lambda: sweep(tape, self.loss_route, earlier))
        at_last = cache(lambda ends: sweep(tape, self.loss_route, last, ends))
        grads: dict[str, Array] = {}
        for name, traces in self.traces.items():
            old = memory.of(name)
            if not traces.lossy:
                grads[name] = traces.gradient(tape, [whole()], [(whole().boundary, old)])
                continue
            assert after is not None
            ended = at_last(traces.places)
            held = {(place, 1): adjoint for place, adjoint in ended.held.items()}
            sweeps = [before_last(), ended]
            through = [(held, after.of(name)), *((found.boundary, old) for found in sweeps)]
            grads[name] = traces.gradient(tape, sweeps, through)
        grads |= {follower: grads[name].copy() for follower, name in self.plan.followers.items()}
        return grads, {name: self._by_input(tape, place, whole) for name, place in self.plan.product.probes}

    def _by_input(self, tape: Tape, place: int, whole: Callable[[], Adjoints]) -> Array:
        """The adjoint of an input at every step of the block, `(steps, batch, size)`."""
        total = np.zeros((tape.steps, tape.batch, self.plan.size(place)), self.dtype)
        if (found := whole().at_port(place, None)) is not None:
            steps, b = found
            total[steps] = b[:, :, 0]
        return total

    def _seeds(
        self, tape: Tape, losses: Mapping[str, Array], signals: Mapping[str, Array]
    ) -> dict[tuple[int, int], Array]:
        """The learning signals by place and step, `(batch, 1, size)`."""
        sources = {"loss": losses, "given": signals, "none": dict[str, Array]()}
        seeds: dict[tuple[int, int], Array] = {}
        for stop in self.loss_route:
            seed = sources[self.plan.product.places[stop.place].signal].get(stop.node)
            if seed is not None:
                seeds |= {(stop.place, t): seed[t][:, None] for t in range(tape.steps)}
        return seeds

    @property
    def lossy(self) -> bool:
        """Whether the gradient of a block needs the memory after it."""
        return any(traces.lossy for traces in self.traces.values())

    def advance(self, tape: Tape, memory: Memory) -> Memory:
        """The memory after the block."""

        @cache
        def rows(place: int, lag: int) -> Adjoints:
            size = self.plan.network.nodes[self.plan.product.places[place].node].size
            seed = np.ones((tape.batch, 1, size), self.dtype)
            return sweep(tape, self.place_routes[place], {(place, tape.steps - lag): seed})

        def pulled(seeds: Mapping[tuple[int, int], Array]) -> Adjoints:
            by_step = {(place, tape.steps - lag): seed[:, None] for (place, lag), seed in seeds.items()}
            return sweep(tape, self.loss_route, by_step)

        @cache
        def stepped(place: int) -> StepJacobians:
            factors = Factors(lambda node, port: tape.jacobian(node, port)[0], tape.weights.of)
            return step_jacobians(self.place_routes[place], place, factors, np.dtype(self.dtype).type)

        block = Passed(tape, rows, pulled, stepped)
        values = {name: tape.last(name) for name in memory.values}
        stored = {name: traces.advance(block, memory.of(name)) for name, traces in self.traces.items()}
        return Memory(values, {(name, part): array for name, own in stored.items() for part, array in own.items()})
