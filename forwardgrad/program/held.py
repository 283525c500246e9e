"""What there is between single time steps: arrays of NumPy, or those of an engine that takes whole steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from forwardgrad.backends.engine import State, WholeSteps
from forwardgrad.learning.joined import Updates, Weights, settings
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.program.moment import StepSlots


class Held(NamedTuple):
    """What a step replaces, all of it at once, so that an interrupt leaves the old or the new.

    Args:
        weights: parameters, and what the optimizer remembers.
        state: activations and influence.
        outputs: `(batch, size)` of the last step, by output node.
        grads: of the last step that had targets.
        squares: the sums of the squares of the state, without what counts, and of the gradients.
        seen: how many steps there were.
        draw: for random layouts, the number of the signs; `None` takes the next from the counter of the program.
    """

    weights: Weights
    state: State
    outputs: dict[str, Array]
    grads: dict[str, Array]
    squares: tuple[float, float]
    seen: int
    draw: int | None


class Holder:
    """Holds what there is between two steps, and takes steps that are one call of an engine.

    The engine copies what is held into arrays of its own, which are then all there is of it. They are copied back when
    somebody asks.

    Args:
        held: what there is at the beginning.
        updates: how weights are updated.
        batch: number of samples.
        make: what makes steps of the engine, when they are first taken; `None` if it has none.
    """

    def __init__(self, held: Held, updates: Updates, batch: int, make: Callable[[], WholeSteps] | None) -> None:
        self._updates, self._batch, self._make = updates, batch, make
        self._steps: WholeSteps | None = None
        self._slots: StepSlots | None = None
        self._order: tuple[tuple[str, ...], tuple[str, ...]] = (), ()
        self._found: Held | None = None  # what was copied back after the last step
        self._held, self._begun = held, False

    @property
    def _engine(self) -> WholeSteps | None:
        """The steps of the engine, if it has what there is."""
        return self._steps if self._begun else None

    @property
    def seen(self) -> int:
        """How many steps there were."""
        engine = self._engine
        return self._held.seen + (0 if engine is None else engine.taken)

    @property
    def held(self) -> Held:
        """What there is after the last step."""
        if (engine := self._engine) is None:
            return self._held
        if self._found is None:
            self._found = self._copied(engine)
        return self._found

    @held.setter
    def held(self, held: Held) -> None:
        self._held, self._begun, self._found = held, False, None

    def _copied(self, engine: WholeSteps) -> Held:
        rest, (params, _) = self._held, self._order
        weights = self._updates.begin(ordered(params, engine, "params", rest.weights.params), engine.memory())
        return Held(weights, self.state(), self.outputs(), self.grads(), self.squares, self.seen, rest.draw)

    def state(self) -> State:
        """Activations and influence after the last step; they are not to be written into."""
        engine, rest = self._engine, self._held.state
        return rest if engine is None else ordered(self._order[1], engine, "state", rest)

    def outputs(self) -> dict[str, Array]:
        """The outputs of the last step, `(batch, size)` by node, copied."""
        engine = self._engine
        return copied(self._held.outputs) if engine is None or not engine.taken else engine.outputs()

    def grads(self) -> dict[str, Array]:
        """The gradients of the last step that had targets; they are not to be written into."""
        engine = self._engine
        return self._held.grads if engine is None or not engine.learned else engine.current("grads")

    @property
    def squares(self) -> tuple[float, float]:
        """The sums of the squares of the state after the last step, without what counts, and of its gradients."""
        engine = self._engine
        return self._held.squares if engine is None or not engine.taken else engine.squares

    def change(self, optimizer: Optimizer, clip: float | None) -> bool:
        """Let the engine go on with other settings of the same kind of optimizer; whether it can."""
        return self._make is None if self._steps is None else self._steps.change(settings(optimizer), clip)

    def slots(self) -> StepSlots | None:
        """What the next step of the engine reads; `None` if it has no such step."""
        if not self._begun:
            self._begin()
        return self._slots

    def learn(self) -> float:
        """Predict, learn and update in one call, from these arrays, and give the loss.

        It is NaN if something is not finite: then nothing has changed.
        """
        assert self._steps is not None
        self._found = None
        return self._steps.learn()

    def predict(self) -> bool:
        """The same without targets; whether all is finite."""
        assert self._steps is not None
        self._found = None
        return self._steps.predict()

    def _begin(self) -> None:
        """The engine goes on from what is held, of which only that is kept here which it leaves alone."""
        if self._make is None:
            return
        if (steps := self._steps) is None:
            steps = self._make()
            slots = StepSlots(steps, self._batch)
            self._steps, self._slots = steps, slots
        held = self._held
        params, state = held.weights.params, held.state
        steps.begin(params, state, self._updates.remembered(held.weights))
        rest = Weights(without(params, steps.names("params")), {})
        self._order = tuple(params), tuple(state)
        left = held._replace(weights=rest, state=without(state, steps.names("state")))
        self._held, self._begun = left, True


def ordered(names: Iterable[str], engine: WholeSteps, group: str, rest: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a group and the rest, in this order."""
    arrays = {**engine.current(group), **rest}
    return {name: arrays[name] for name in names}


def without(arrays: Mapping[str, Array], names: Collection[str]) -> dict[str, Array]:
    """The arrays of other names."""
    return {name: array for name, array in arrays.items() if name not in names}


def copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copies, by name."""
    return {name: array.copy() for name, array in arrays.items()}
