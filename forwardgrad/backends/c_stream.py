"""Whole steps in C: arrays that stay where they are, and one call per step, new parameters included."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import Any

import numpy as np

from forwardgrad.array_program.buffers import analysed
from forwardgrad.array_program.in_c.source import unit
from forwardgrad.array_program.in_c.totals import adding
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.lowering.updates import Schedule, Update
from forwardgrad.array_program.lowering.whole_step import (
    GIVEN,
    LEARN,
    NUMBERS,
    PREDICT,
    SETTINGS,
    SHARE,
    STATED,
    Key,
    WholeStep,
    learning_step,
    predicting_step,
)
from forwardgrad.backends.c_cache import shared_library
from forwardgrad.backends.c_calls import LINE, CompiledUnit, address_of
from forwardgrad.backends.c_compiler import Compiler
from forwardgrad.backends.engine import State
from forwardgrad.ops import Array

COUNT = "count"
"""Under which an optimizer remembers how many updates there were, if it does."""

WITH_EACH_STEP = ("state", "outputs")
"""The groups that change with each step, and not only with those that learn."""

Compiled = tuple[WholeStep, CompiledUnit]


class CompiledSteps:
    """The functions of whole steps of one kind, compiled when they are first asked for.

    Args:
        lowered: the functions of a block.
        losses: the name of the loss of each output node.
        update: how parameters change.
        batch: number of samples.
        counters: keys of what counts, in a state.
        compiler: of the machine.
    """

    def __init__(
        self,
        lowered: Lowered,
        losses: Mapping[str, str],
        update: Update,
        batch: int,
        counters: Collection[str],
        compiler: Compiler,
    ) -> None:
        self.losses, self.update, self.batch = losses, update, batch
        self._lowered, self._counters, self._compiler = lowered, counters, compiler
        self._made = dict[str, Compiled]()

    def of(self, name: str) -> Compiled:
        """A function, `learn` or `predict`."""
        if name not in self._made:
            self._made[name] = self._compiled(self._lowering(name))
        return self._made[name]

    def _lowering(self, name: str) -> WholeStep:
        if name == PREDICT:
            return predicting_step(self._lowered, self.losses, self.batch, self._counters)
        return learning_step(self._lowered, self.losses, self.update, self.batch, self._counters)

    def _compiled(self, whole: WholeStep) -> Compiled:
        functions = {name: adding(each) for name, each in analysed(whole.program).items()}
        printed = unit(whole.program, functions)
        constants = {value: whole.program.constants[value] for value in printed.constants}
        library = shared_library(printed.text, self._compiler)
        return whole, CompiledUnit(printed, library, constants, np.dtype(whole.program.dtype))


class CSteps:
    """Steps, each one call of C, in arrays of its own.

    A step writes into other arrays than it reads: what it makes is there twice, and with each step that is taken the
    two change places. So a step that fails leaves everything as it was.

    Args:
        compiled: the functions.
        schedule: the numbers that their update reads.
        dtype: of all arrays.

    Attributes:
        inputs, targets, signals: the arrays that the next step reads, `(batch, size)` by node.
        squares: the sums of the squares of the state and of the gradients after the last step.
    """

    def __init__(self, compiled: CompiledSteps, schedule: Schedule, dtype: np.dtype[Any]) -> None:
        self._compiled, self._schedule = compiled, schedule
        whole, _ = compiled.of(LEARN)
        self._dtype = dtype
        self._numbers = {group: self._zeros((len(words),)) for group, words in self._words().items()}
        one = {key: self._new(key, shape) for key, shape in whole.shapes.items()}
        written = {key: whole.shapes[key] for key in whole.results}
        other = {key: self._new(key, shape) for key, shape in written.items()}
        self._arrays = one, one | other
        self._runs: dict[tuple[str, tuple[int, int]], Callable[[], None]] = {}
        self._turns, self._updates, self.squares = (0, 0), 0, (0.0, 0.0)
        self.inputs, self.targets, self.signals = map(self._moment, GIVEN)
        self._outputs = [
            {key: array[0] for (group, key), array in arrays.items() if group == "outputs"} for arrays in self._arrays
        ]
        self._set({SHARE: 1 / compiled.batch, **schedule.fixed})

    def _words(self) -> dict[str, tuple[str, ...]]:
        """The names of single numbers, in order, by group."""
        return {SETTINGS: (SHARE, *self._schedule.update.settings), NUMBERS: STATED}

    def _new(self, key: Key, shape: tuple[int, ...]) -> Array:
        """An array; a single number is part of one."""
        group, name = key
        if group in self._numbers:
            place = self._words()[group].index(name)
            return self._numbers[group][place : place + 1].reshape(())
        return self._zeros(shape)

    def _zeros(self, shape: tuple[int, ...]) -> Array:
        """Zeros that begin at a line of the cache: loops read and write whole lines then."""
        memory = np.zeros(prod(shape) * self._dtype.itemsize + LINE, np.uint8)
        return np.ndarray(shape, self._dtype, memory, -address_of(memory) % LINE)

    def _moment(self, group: str) -> dict[str, Array]:
        return {key: array[0] for (where, key), array in self._arrays[0].items() if where == group}

    def _set(self, numbers: Mapping[str, float]) -> None:
        for key, number in numbers.items():
            self._arrays[0][SETTINGS, key][...] = number

    def begin(self, params: Mapping[str, Array], state: State, memory: Mapping[str, Array]) -> None:
        """Go on from there; what is given is copied.

        Args:
            params: by name.
            state: activations and influence.
            memory: what the optimizer remembers, in the form of `optimizer.start(params)`.
        """
        parts = self._schedule.update.memory
        began = {("params", key): array for key, array in params.items()}
        began |= {("state", key): array for key, array in state.items()}
        for part in parts:
            began |= {(part, key): memory[f"{part}:{key}"] for group, key in self._arrays[0] if group == part}
        self._turns = 0, 0
        for key in began.keys() & self._arrays[0].keys():
            self._arrays[0][key][...] = began[key]
        self._updates = int(memory.get(COUNT, 0))

    def learn(self) -> float:
        """Take a step from `inputs` and `targets`, and give its loss; NaN if it is not taken.

        That is so if something would not be finite, or a square of it.
        """
        counted = self._schedule.counted
        if counted is not None:
            self._set(counted(self._updates + 1))
        of_params, of_state = self._turns
        self._run(LEARN)
        loss, state, grads, whole = self._numbers[NUMBERS].tolist()
        if not math.isfinite(whole):
            return math.nan
        self._turns, self._updates, self.squares = (1 - of_params, 1 - of_state), self._updates + 1, (state, grads)
        return loss

    def predict(self) -> bool:
        """Take a step from `inputs` without learning; whether it is taken, as in `learn`."""
        self._run(PREDICT)
        if not math.isfinite(self._numbers[NUMBERS][-1]):
            return False
        self._turns = self._turns[0], 1 - self._turns[1]
        return True

    def _run(self, name: str) -> None:
        run = self._runs.get((name, self._turns))
        if run is None:
            run = self._runs[name, self._turns] = self._bound(name)
        run()

    def _bound(self, name: str) -> Callable[[], None]:
        """A function with the arrays that it reads and writes now."""
        whole, compiled = self._compiled.of(name)
        read = [self._arrays[self._turn(key)][key] for key in whole.inputs]
        written = [self._arrays[1 - self._turn(key)][key] for key in whole.results]
        symbols = {"steps": 1, "batch": self._compiled.batch, "seeds": 1, "fresh": 0}
        return compiled.bound(name, symbols, [*read, *written])

    def _turn(self, key: Key) -> int:
        return self._turns[key[0] in WITH_EACH_STEP]

    def outputs(self) -> dict[str, Array]:
        """The outputs after the last step, `(batch, size)` by node, copied."""
        return {name: array.copy() for name, array in self._outputs[self._turns[1]].items()}

    def current(self, group: str) -> dict[str, Array]:
        """The arrays of a group (`params`, `state`, `grads`) after the last step, copied.

        Parameters and parts of a state that a step neither reads nor makes are missing.
        """
        arrays = self._arrays[self._turns[group in WITH_EACH_STEP]]
        return {key: array.copy() for (where, key), array in arrays.items() if where == group}

    def memory(self) -> dict[str, Array]:
        """What the optimizer remembers after the last step, in its own form, copied."""
        schedule = self._schedule
        found = {f"{part}:{key}": a for part in schedule.update.memory for key, a in self.current(part).items()}
        return {COUNT: np.array(self._updates), **found} if schedule.counted is not None else found
