"""What a stream holds between its steps: arrays of NumPy, or those of an engine that takes whole steps and is ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from forwardgrad.backends.engine import State, WholeSteps
from forwardgrad.learning.joined import Updates, Weights
from forwardgrad.ops import Array
from forwardgrad.program.moment import MomentReader, Slots


class StreamStep(NamedTuple):
    """What one step of a stream gives.

    Args:
        loss: the sum over the outputs of the weighted mean over the batch; NaN where no targets were given.
        outputs: the value of each node with a loss, `(batch, size)`, from before the update.
    """

    loss: float
    outputs: dict[str, Array]


class Held(NamedTuple):
    """What a step replaces, all of it at once, so that an interrupt leaves the old or the new.

    Args:
        weights: parameters, and what the optimizer remembers.
        state: activations and influence.
        outputs: `(batch, size)` of the last step, by output node.
        grads: of the last step that had targets.
        seen: how many steps there were.
        draw: for random layouts, the number of the signs; `None` takes the next from the counter of the program.
    """

    weights: Weights
    state: State
    outputs: dict[str, Array]
    grads: dict[str, Array]
    seen: int
    draw: int | None


class Holder:
    """Holds what a stream has, and takes steps that are one call of an engine.

    The engine copies what is held into arrays of its own. After its steps they are ahead of what is held here, and are
    copied back when somebody asks.

    Args:
        held: what there is at the beginning.
        updates: how weights are updated.
        reader: reads the arrays of a step.
        make: what makes steps of the engine, when they are first taken; `None` if it has none.
    """

    def __init__(
        self, held: Held, updates: Updates, reader: MomentReader, make: Callable[[], WholeSteps] | None
    ) -> None:
        self._updates, self._reader, self._make = updates, reader, make
        self._steps: WholeSteps | None = None
        self._slots = Slots({}), Slots({}), Slots({})
        self._held, self._ahead, self._learned = held, -1, False

    @property
    def seen(self) -> int:
        """How many steps there were."""
        return self._held.seen + max(self._ahead, 0)

    @property
    def held(self) -> Held:
        """What there is after the last step."""
        if self._ahead > 0 and self._steps is not None:
            self._held, self._ahead, self._learned = self._settled(self._steps), 0, False
        return self._held

    @held.setter
    def held(self, held: Held) -> None:
        self._held, self._ahead, self._learned = held, -1, False

    def _settled(self, steps: WholeSteps) -> Held:
        held, state = self._held, steps.current("state")
        weights, grads = held.weights, held.grads
        if self._learned:
            params = {name: array.copy() for name, array in weights.params.items()} | steps.current("params")
            weights, grads = self._updates.begin(params, steps.memory()), steps.current("grads")
        return Held(weights, {**held.state, **state}, steps.outputs(), grads, self.seen, held.draw)

    def stepped(self, inputs: Any, targets: Any, signals: Any) -> StreamStep | None:
        """Predict, learn and update in one call; without targets, predict.

        `None` if there is no such call, or something is not finite: then nothing has changed.
        """
        steps = self._steps if self._ahead >= 0 else self._ready()
        if steps is None:
            return None
        if targets is None:
            if signals is not None:
                return None
            self._reader.inputs_into(self._slots[0], inputs)
            if not steps.predict():
                return None
            self._ahead += 1
            return StreamStep(math.nan, steps.outputs())
        self._reader.inputs_into(self._slots[0], inputs)
        self._reader.targets_into(self._slots[1], targets)
        self._reader.signals_into(self._slots[2], signals)
        loss = steps.learn()
        if loss != loss:  # NaN
            return None
        self._ahead, self._learned = self._ahead + 1, True
        return StreamStep(loss, steps.outputs())

    def _ready(self) -> WholeSteps | None:
        """The steps of the engine, which go on from what is held."""
        if self._make is None:
            return None
        if self._steps is None:
            self._steps = steps = self._make()
            self._slots = Slots(steps.inputs), Slots(steps.targets), Slots(steps.signals)
        held = self._held
        self._steps.begin(held.weights.params, held.state, self._updates.remembered(held.weights))
        self._ahead = 0
        return self._steps


def copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copies, by name."""
    return {name: array.copy() for name, array in arrays.items()}
