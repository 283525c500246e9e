"""Single time steps, one after another, each with an update: what a stream takes, and a learner of such blocks."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from forwardgrad.backends.engine import Back, State
from forwardgrad.errors import NonFiniteError
from forwardgrad.learning.joined import Weights, unclipped, updates
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.program import budget, numerics
from forwardgrad.program.border import Given, Target, read_params
from forwardgrad.program.execution import Execution, batch_of
from forwardgrad.program.held import Held, Holder, copied
from forwardgrad.program.moment import StepSlots


class Open(NamedTuple):
    """A step of which credit can still be asked.

    Args:
        held: what there was before it.
        values: `(1, batch, size)` by input node.
        outputs: the same by output node.
        back: gives the gradients.
    """

    held: Held
    values: dict[str, Array]
    outputs: dict[str, Array]
    back: Back


class SingleSteps:
    """Takes time steps of a batch from arrays that are checked, and holds what there is between them.

    Args:
        execution: executes blocks.
        batch: number of samples.
        optimizer: changes the parameters after each step that has targets; `None` leaves them as they are.
        clip: largest joint norm of the gradients that the optimizer gets, or `None`.

    Attributes:
        updates: how the optimizer does that.
    """

    def __init__(
        self, execution: Execution, batch: int, optimizer: Optimizer | None, clip: float | None = None
    ) -> None:
        plan, self._execution = execution.plan, execution
        self.batch, self.optimizer, self.clip = batch, optimizer, clip
        self.trained = (*plan.entries, *plan.followers)
        inner, limit = unclipped(optimizer, clip)
        self.updates = updates(inner, self.trained, limit)
        self._ahead = execution.stepper(batch)
        nothing = Held(Weights({}, {}), {}, {}, {}, (0.0, 0.0), 0, None)
        self._holder = Holder(nothing, self.updates, batch, execution.whole_steps(inner, limit, batch))

    def begin(
        self, params: Mapping[str, Array], memory: Mapping[str, Array] | None, state: State, seen: int, draw: int | None
    ) -> None:
        """Go on from parameters, what the optimizer remembers, if it does yet, and a state.

        Args:
            params: by name; none of them is written into.
            memory: in the form of `optimizer.start(params)`.
            state: activations and influence; not written into.
            seen: how many steps there were.
            draw: for random layouts, the number of the signs.
        """
        first = self.updates.begin(params, memory)
        self.held = Held(first, state, {}, {}, (0.0, 0.0), seen, draw)

    def go_on(self, params: Any, memory: Mapping[str, Array], state: Any, seen: int) -> bool:
        """Begin from arrays that anyone may have written into, as `Program.step` does; they are checked.

        Returns:
            Whether it can: a state is of this batch, and the optimizer knows what is remembered.

        Raises:
            DataError: if an array does not fit.
        """
        state = self._execution.read_state(state)
        weights = read_params(self._execution.plan.parameters, params, self._execution.dtype)
        fits = batch_of(state) in (None, self.batch) and self.updates.knows(weights, memory)
        if fits:
            self.begin(weights, memory, state, seen, None)
        return fits

    def change(self, optimizer: Optimizer, clip: float | None) -> bool:
        """Let another optimizer of the same kind make the updates that follow; whether it is one."""
        (inner, limit), (before, former) = unclipped(optimizer, clip), unclipped(self.optimizer, self.clip)
        if inner is None or type(inner) is not type(before) or (limit is None) != (former is None):
            return False
        self.optimizer = None  # an interrupt leaves neither
        if not (self.updates.change(inner, limit) and self._holder.change(inner, limit)):
            return False
        self.optimizer, self.clip = optimizer, clip
        return True

    @property
    def held(self) -> Held:
        """What there is after the last step."""
        return self._holder.held

    @held.setter
    def held(self, held: Held) -> None:
        self._holder.held = held

    @property
    def seen(self) -> int:
        """How many steps there were."""
        return self._holder.seen

    def outputs(self) -> dict[str, Array]:
        """The outputs of the last step, `(batch, size)` by node, copied."""
        return self._holder.outputs()

    def grads(self) -> dict[str, Array]:
        """The gradients of the last step that had targets; they are not to be written into."""
        return self._holder.grads()

    def norms(self) -> tuple[float, float]:
        """The norms of the state after the last step, and of its gradients, as in a `Step`."""
        (size, slope), least = self._holder.squares, numerics.least(self._execution.dtype)
        state = self._execution.measured(self._holder.state()) if size < least else {}
        grads = self.grads() if slope < least else {}
        return numerics.norm(state.values(), size), numerics.norm(grads.values(), slope)

    def slots(self) -> StepSlots | None:
        """The arrays that a step reads which is one call of the engine, to be filled; `None` if it has no such step."""
        return self._holder.slots()

    def learn_at_once(self) -> float:
        """Such a step with targets, and its loss: NaN where something is not finite. Then nothing has changed."""
        return self._holder.learn()

    def predict_at_once(self) -> bool:
        """Such a step without targets; whether all is finite, and something has changed."""
        return self._holder.predict()

    def learn(self, values: dict[str, Array], goals: dict[str, Target], signals: dict[str, Array]) -> float:
        """Predict, learn and update, and give the loss.

        Args:
            values, signals: `(1, batch, size)` by node.
            goals: by output node.

        Raises:
            NonFiniteError: if loss, gradients, state or updated parameters are not finite, or the norm of an influence
                overflows. Nothing has changed then.
        """
        if (slots := self.slots()) is not None:
            slots.fill(values, goals, self._execution.shared(signals))
            loss = self.learn_at_once()
            if loss == loss:  # not NaN
                return loss
        return self.learn_in_parts(values, goals, signals)

    def learn_in_parts(self, values: dict[str, Array], goals: dict[str, Target], signals: dict[str, Array]) -> float:
        """The same by several calls of any engine."""
        held = self.held
        outputs, after, back = self._ahead(held.weights.params, held.state, values)
        loss, seeds = self._execution.evaluate(outputs, goals)
        grads = back(seeds, self._execution.shared(signals))
        gathered = self.updates.gathered(grads)
        size, slope = numerics.squares(self._execution.measured(after).values()), numerics.squares(gathered)
        if not math.isfinite(loss + slope + size):
            loss, outputs, after, grads = self.examined(held, values, goals, signals)
            gathered = self.updates.gathered(grads)
        weights = self._updated(grads, gathered, math.isfinite(slope))
        self.held = Held(weights, after, _now(outputs), grads, (size, slope), held.seen + 1, held.draw)
        return loss

    def predict(self, values: dict[str, Array], *, open: bool) -> Open:
        """Take a step without targets.

        Args:
            values: as for `learn`.
            open: whether its parameters are copied, so that credit can be asked of it after updates.

        Raises:
            NonFiniteError: if outputs or state are not finite, or the norm of an influence overflows.
        """
        before = held = self.held
        if open:
            before = held._replace(weights=replace(held.weights, params=copied(held.weights.params)))
        outputs, after, back = self._ahead(before.weights.params, held.state, values)
        size = numerics.squares(self._execution.measured(after).values())
        if not math.isfinite(size + numerics.squares(outputs.values())):
            nodes = self._execution.plan.network.nodes
            signals = {name: np.zeros((1, self.batch, nodes[name].size)) for name in self._execution.signalled}
            _, outputs, after, _ = self.examined(held, values, {}, signals)
        squares = size, held.squares[1]
        self.held = held._replace(state=after, outputs=_now(outputs), squares=squares, seen=held.seen + 1)
        return Open(before, values, outputs, back)

    def credit(self, asked: Open, goals: dict[str, Target], signals: dict[str, Array]) -> dict[str, Array]:
        """The gradient of a step that was predicted; raises `NonFiniteError`."""
        loss, seeds = self._execution.evaluate(asked.outputs, goals)
        grads = asked.back(seeds, self._execution.shared(signals))
        if math.isfinite(loss + numerics.squares(grads.values())):
            return grads
        return self.examined(asked.held, asked.values, goals, signals)[3]

    def update(self, grads: dict[str, Array]) -> None:
        """Let the optimizer change the parameters by a gradient; raises `NonFiniteError`."""
        gathered = self.updates.gathered(grads)
        weights = self._updated(grads, gathered, math.isfinite(numerics.squares(gathered)))
        self.held = self.held._replace(weights=weights)

    def examined(
        self, held: Held, values: dict[str, Array], goals: dict[str, Target], signals: dict[str, Array]
    ) -> tuple[float, dict[str, Array], State, dict[str, Array]]:
        """What `Program.step` gives in place of numbers that are not finite, or the error by which it names the first.

        Numbers whose squares overflow are looked at here, too; they are errors in an influence alone.
        """
        given = Given(held.weights.params, values, goals, signals)
        try:
            after, step = self._execution.run_block(given, held.state, (1, self.batch))
        except NonFiniteError as error:
            raise error.later(held.seen) from None
        if (found := numerics.exploded(after, held.seen)) is not None:
            raise found
        return step.loss, step.outputs, after, step.grads

    def _updated(self, grads: dict[str, Array], gathered: Any, sound: bool) -> Weights:
        """The weights after the update, which are finite; what is remembered may not be where squares overflow."""
        held, ours = self.held, self.updates
        weights = ours.updated(held.weights, grads, gathered)
        if not math.isfinite(numerics.squares(ours.changed(weights))):
            numerics.refuse_update("parameter", weights.params, held.seen)
        if not sound:
            numerics.refuse_update("memory of the optimizer", ours.remembered(weights), held.seen)
        return weights


def _now(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a block of one step, without its axis."""
    return {name: array[0] for name, array in outputs.items()}


@contextmanager
def told(what: str) -> Generator[None]:
    """Numbers that are not finite, and memory that runs out, are told in our words; `what` names the call."""
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            yield
    except MemoryError:
        with budget.told(what):
            raise
