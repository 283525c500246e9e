"""What should a stream come to? Steps and updates by hand, numbers to step through, and optimizers of all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import forwardgrad as fg
from forwardgrad.learning.fptt import FPTT
from forwardgrad.learning.optimizers import LARS, RMSprop
from forwardgrad.learning.schedules import StepDecay
from forwardgrad.learning.transforms import Accumulated, Clipped, Scheduled
from forwardgrad.ops import Array
from forwardgrad.program.stream import StreamStep

ROUNDING = 1e-12
DRAW = 3


def data(program: fg.Program, steps: int, batch: int, seed: int = 0) -> list[tuple[dict[str, Array], dict[str, Array]]]:
    """Inputs and targets `(batch, ...)` of each step, by node."""
    random, nodes = np.random.default_rng(seed), program.network.nodes

    def target(name: str) -> Array:
        size = nodes[name].size
        return random.integers(0, size, batch) if program.losses[name].labels else random.normal(size=(batch, size))

    def inputs(name: str) -> Array:
        return random.normal(size=(batch, nodes[name].size)) * 2

    return [
        ({name: inputs(name) for name in program.network.inputs}, {name: target(name) for name in program.losses})
        for _ in range(steps)
    ]


def timed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of a block of one step."""
    return {name: array[None] for name, array in arrays.items()}


class ByHand:
    """What a stream should come to: a call of `step`, and one of the optimizer, per time step."""

    def __init__(self, program: fg.Program, params: Mapping[str, Array], batch: int, optimizer: Any, draw: int = DRAW):
        self.program, self.optimizer = program, optimizer
        self.params, self.state = dict(params), program.start(batch, draw=draw)
        trained = (*program.rules, *program.plan.followers)
        self.memory = optimizer.start({name: self.params[name] for name in trained}) if optimizer else {}

    def step(self, inputs: Any, targets: Any, mask: Any = None, signals: Any = None) -> StreamStep:
        """The same step by hand."""
        self.state, step = self.program.step(
            self.params,
            timed(inputs),
            timed(targets),
            mask,
            None if signals is None else timed(signals),
            state=self.state,
        )
        self.grads = step.grads
        if self.optimizer:
            self.params, self.memory = self.optimizer.update(self.params, step.grads, self.memory)
        return StreamStep(step.loss, {name: array[0] for name, array in step.outputs.items()})


class InBlocks(fg.Learner):
    """A learner by blocks alone: each is one of `Program.step`, also where a learner takes single steps."""

    def _stepped(self, piece: Any) -> None:
        return None


class Normalized(fg.SGD):
    """Gradient descent along the direction of each gradient: it does not act entry by entry."""

    def update(self, params: Any, grads: Any, state: Any) -> Any:
        """One step, each gradient of norm 1."""
        return super().update(params, {name: g / (1e-9 + np.linalg.norm(g)) for name, g in grads.items()}, state)


OPTIMIZERS: dict[str, Any] = {
    "momentum": fg.SGD(0.02, momentum=0.9, weight_decay=0.1),
    "adam": fg.Adam(0.01, weight_decay=0.1),
    "rmsprop": RMSprop(0.01),
    "scheduled": Scheduled(fg.Adam(0.01), StepDecay(2, 0.5)),
    "lars": LARS(0.1),
    "clipped": Clipped(fg.SGD(0.1), norm=0.1),
    "clipped twice": Clipped(Clipped(fg.SGD(0.1), norm=0.05), norm=0.1),
    "clipped entries": Clipped(fg.SGD(0.1), norm=0.1, value=0.02),
    "accumulated": Accumulated(fg.Adam(0.01), 3),
    "fptt": FPTT(fg.SGD(0.02)),
    "own": Normalized(0.01),
}
