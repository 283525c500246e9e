"""How does the interpreter serve a program? Its memory is put into a flat state, and taken out of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from forwardgrad.backends.chained import by_calls
from forwardgrad.backends.engine import Ahead, State, WholeSteps
from forwardgrad.backends.interpreter import Interpreter, Memory, Shape
from forwardgrad.backends.tape import Tape
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import influence_key, value_key
from forwardgrad.ops import Array


class Interpreted:
    """An `Engine` that interprets.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self._interpreter = Interpreter(plan, dtype)
        self.traces = self._interpreter.traces
        self.lossy = self._interpreter.lossy
        self._values = {value_key(name): name for name in self._interpreter.history()}
        self._influence = {
            influence_key(plan, name, part): (name, part)
            for name, traces in self.traces.items()
            for part in traces.shapes()
        }

    def _state(self, memory: Memory) -> State:
        state = {key: memory.values[name] for key, name in self._values.items()}
        return state | {key: memory.influence[entry] for key, entry in self._influence.items()}

    def _memory(self, state: Mapping[str, Array]) -> Memory:
        return Memory(
            {name: state[key] for key, name in self._values.items()},
            {entry: state[key] for key, entry in self._influence.items()},
        )

    def start(self, batch: int) -> State:
        return self._state(self._interpreter.start(batch))

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        values, influence = self._interpreter.shapes(batch)
        found = {key: values[name] for key, name in self._values.items()}
        return found | {key: influence[entry] for key, entry in self._influence.items()}

    def keeps(self, array: Any) -> bool:
        return False

    def forward(
        self, params: Mapping[str, Array], state: Mapping[str, Array], inputs: Mapping[str, Array], shape: Shape
    ) -> Tape:
        values = {name: state[key] for key, name in self._values.items()}
        return self._interpreter.forward(params, values, inputs, shape)

    def gradients(
        self,
        tape: Tape,
        state: Mapping[str, Array],
        after: Mapping[str, Array] | None,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
        fresh: bool,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        then = None if after is None else self._memory(after)
        return self._interpreter.gradients(tape, self._memory(state), then, losses, signals)

    def advance(self, tape: Tape, state: Mapping[str, Array], fresh: bool) -> State:
        return self._state(self._interpreter.advance(tape, self._memory(state)))

    def stepper(self, outputs: Collection[str], batch: int) -> Ahead:
        return by_calls(self, outputs, batch)

    def whole_steps(
        self,
        losses: Mapping[str, str],
        optimizer: Mapping[str, Any] | None,
        clip: float | None,
        batch: int,
        counters: Collection[str],
    ) -> Callable[[], WholeSteps] | None:
        return None
