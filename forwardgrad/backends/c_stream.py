"""Whole steps in C: arrays that stay where they are, and one call per step, new parameters included."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from forwardgrad.array_program.buffers import analysed
from forwardgrad.array_program.in_c.source import unit
from forwardgrad.array_program.in_c.totals import adding
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.lowering.updates import Schedule, Update, schedule
from forwardgrad.array_program.lowering.whole_step import (
    GIVEN,
    LEARN,
    NUMBERS,
    PREDICT,
    SETTINGS,
    STATED,
    Key,
    WholeStep,
    learning_step,
    predicting_step,
)
from forwardgrad.backends.c_cache import shared_library
from forwardgrad.backends.c_calls import LINE, BoundCall, CompiledUnit, address_of
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


class Progress(NamedTuple):
    """How far steps have come; replaced as a whole, so that an interrupt leaves the old or the new.

    Args:
        turns: in which of the two arrays of each kind parameters and state are now.
        taken: steps since the beginning.
        learned: those of them that had targets.
        squares: the sums of the squares of the state and of the gradients after the last ones.
    """

    turns: tuple[int, int] = (0, 0)
    taken: int = 0
    learned: int = 0
    squares: tuple[float, float] = (0.0, 0.0)


class CSteps:
    """Steps, each one call of C, in arrays of its own.

    A step writes into other arrays than it reads: what it makes is there twice, and with each step that is taken the
    two change places. So a step that fails leaves everything as it was.

    Args:
        compiled: the functions.
        numbers: what their update reads.
        dtype: of all arrays.

    Attributes:
        inputs, targets, signals: the arrays that the next step reads, `(batch, size)` by node.
        shares: the factor of each sample's loss in the next step, `(batch,)` by node.
    """

    def __init__(self, compiled: CompiledSteps, numbers: Schedule, dtype: np.dtype[Any]) -> None:
        self._compiled, self._schedule = compiled, numbers
        whole, _ = compiled.of(LEARN)
        self._dtype = dtype
        settings = tuple(word for group, word in whole.inputs if group == SETTINGS)
        self._words = {SETTINGS: settings, NUMBERS: STATED}
        self._numbers = {group: self._zeros((len(words),)) for group, words in self._words.items()}
        one = {key: self._new(key, shape) for key, shape in whole.shapes.items()}
        written = {key: whole.shapes[key] for key in whole.results}
        other = {key: self._new(key, shape) for key, shape in written.items()}
        self._arrays = one, one | other
        self._groups = tuple(map(_by_group, self._arrays))
        self._runs: dict[tuple[str, tuple[int, int]], BoundCall] = {}
        self._progress, self._updates = Progress(), 0
        self.inputs, self.targets, self.signals, self.shares = map(self._moment, GIVEN)
        self._outputs = [{key: array[0] for key, array in groups["outputs"].items()} for groups in self._groups]
        self._set(numbers.fixed)

    def _new(self, key: Key, shape: tuple[int, ...]) -> Array:
        """An array; a single number is part of one."""
        group, name = key
        if group in self._numbers:
            place = self._words[group].index(name)
            return self._numbers[group][place : place + 1].reshape(())
        return self._zeros(shape)

    def _zeros(self, shape: tuple[int, ...]) -> Array:
        """Zeros that begin at a line of the cache: loops read and write whole lines then."""
        memory = np.zeros(prod(shape) * self._dtype.itemsize + LINE, np.uint8)
        return np.ndarray(shape, self._dtype, memory, -address_of(memory) % LINE)

    def _moment(self, group: str) -> dict[str, Array]:
        return {key: array[0] for key, array in self._groups[0].get(group, {}).items()}

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
        self._progress = Progress()
        for key in began.keys() & self._arrays[0].keys():
            self._arrays[0][key][...] = began[key]
        self._updates = int(memory.get(COUNT, 0))

    def change(self, optimizer: Mapping[str, Any] | None, clip: float | None) -> bool:
        """Go on with other settings of the same kind of optimizer; whether it is one."""
        changed = schedule(optimizer, clip)
        if changed is None or changed.update != self._schedule.update:
            return False
        self._schedule = changed
        self._set(changed.fixed)
        return True

    @property
    def taken(self) -> int:
        """How many steps have been taken since it began."""
        return self._progress.taken

    @property
    def learned(self) -> int:
        """How many of them had targets."""
        return self._progress.learned

    @property
    def squares(self) -> tuple[float, float]:
        """The sums of the squares of the state after the last step, without what counts, and of its gradients."""
        return self._progress.squares

    def learn(self) -> float:
        """Take a step from `inputs` and `targets`, and give its loss; NaN if it is not taken.

        That is so if something would not be finite, or a square of it.
        """
        counted, now = self._schedule.counted, self._progress
        if counted is not None:
            self._set(counted(self._updates + now.learned + 1))
        self._run(LEARN)
        loss, state, grads, whole = self._numbers[NUMBERS].tolist()
        if not math.isfinite(whole):
            return math.nan
        of_params, of_state = now.turns
        self._progress = Progress((1 - of_params, 1 - of_state), now.taken + 1, now.learned + 1, (state, grads))
        return loss

    def predict(self) -> bool:
        """Take a step from `inputs` without learning; whether it is taken, as in `learn`."""
        self._run(PREDICT)
        state, grads, whole = self._numbers[NUMBERS].tolist()[1:]
        if not math.isfinite(whole):
            return False
        (of_params, of_state), taken, learned, _ = self._progress
        self._progress = Progress((of_params, 1 - of_state), taken + 1, learned, (state, grads))
        return True

    def _run(self, name: str) -> None:
        key = name, self._progress.turns
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = self._bound(name)
        run()

    def _bound(self, name: str) -> BoundCall:
        """A function with the arrays that it reads and writes now."""
        whole, compiled = self._compiled.of(name)
        read = [self._arrays[self._turn(key)][key] for key in whole.inputs]
        written = [self._arrays[1 - self._turn(key)][key] for key in whole.results]
        symbols = {"steps": 1, "batch": self._compiled.batch, "seeds": 1, "fresh": 0}
        return compiled.bound(name, symbols, [*read, *written])

    def _turn(self, key: Key) -> int:
        return self._progress.turns[key[0] in WITH_EACH_STEP]

    def outputs(self) -> dict[str, Array]:
        """The outputs after the last step, `(batch, size)` by node, copied."""
        return {name: array.copy() for name, array in self._outputs[self._progress.turns[1]].items()}

    def names(self, group: str) -> Collection[str]:
        """The names of the arrays of a group; parameters and parts of a state that no step needs are missing."""
        return self._groups[0].get(group, {}).keys()

    def current(self, group: str) -> dict[str, Array]:
        """The arrays of a group (`params`, `state`, `grads`) after the last step, copied."""
        groups = self._groups[self._progress.turns[group in WITH_EACH_STEP]]
        return {key: array.copy() for key, array in groups.get(group, {}).items()}

    def memory(self) -> dict[str, Array]:
        """What the optimizer remembers after the last step, in its own form, copied."""
        parts = self._schedule.update.memory
        found = {f"{part}:{key}": array for part in parts for key, array in self.current(part).items()}
        if self._schedule.counted is None:
            return found
        return {COUNT: np.array(self._updates + self._progress.learned), **found}


def _by_group(arrays: Mapping[Key, Array]) -> dict[str, dict[str, Array]]:
    """Arrays by group, and there by key."""
    found: dict[str, dict[str, Array]] = {}
    for (group, key), array in arrays.items():
        found.setdefault(group, {})[key] = array
    return found
