"""The backend `jax`: an array program, traced and compiled by JAX for each length of a block and each batch."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.jax_reading import Reading
from forwardgrad.array_program.regions import Function
from forwardgrad.array_program.values import Value
from forwardgrad.backends.chained import AHEAD, BACK
from forwardgrad.backends.devices import is_trace
from forwardgrad.backends.engine import Ahead, Back, State
from forwardgrad.backends.lowered import Groups, LoweredBlock, LoweredEngine
from forwardgrad.backends.refusals import refuse_calls, refuse_large
from forwardgrad.compiler import Plan
from forwardgrad.errors import MissingExtraError
from forwardgrad.ops import Array


def load_jax() -> ModuleType:
    """The module `jax`; raises `MissingExtraError` where it is not installed."""
    try:
        return import_module("jax")
    except ImportError as error:
        raise MissingExtraError("backend 'jax' needs JAX: pip install \"forwardgrad[jax]\"") from error


def offer_cpus(number: int) -> None:
    """Let JAX make that many devices of the CPU, unless it is in use already, or was told how many."""
    config = load_jax().config
    if config.jax_num_cpu_devices < 1 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        with suppress(RuntimeError):  # it is in use
            config.update("jax_num_cpu_devices", number)


class JaxEngine(LoweredEngine):
    """An `Engine` that runs an array program under JAX. What it is given and gives are arrays of NumPy.

    Double precision is on in its own calls alone; the setting of the process stays as it is.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays, with which it computes.
        traces: the dtype in which influence comes out of a block; that of the program if it is empty.

    Raises:
        MissingExtraError: if JAX is not installed.
        RuleError: if the program calls functions of Python, or is too large to be written out.
    """

    def __init__(self, plan: Plan, dtype: Any, traces: str = "") -> None:
        self.jax = load_jax()
        refuse_large(plan, "jax")
        super().__init__(plan, dtype)
        narrow = np.dtype(getattr(self.jax.numpy, traces)) if traces else self.dtype
        self.kept = {key: narrow if is_trace(key, shape) else self.dtype for key, shape in self.shapes(1).items()}
        """The dtype in which each array of a state is kept."""

    @cached_property
    def reading(self) -> Reading:
        """The functions of the program."""
        refuse_calls(self.lowered, "jax", "JAX")
        return Reading(self.lowered.program, self.jax)

    @cached_property
    def _functions(self) -> Mapping[str, Function]:
        return {function.name: function for function in self.reading.program.functions}

    @cached_property
    def _compiled(self) -> Any:
        return self.jax.jit(self._traced, static_argnums=(0, 1))

    def _traced(self, name: str, symbols: Sequence[tuple[str, int]], arrays: Sequence[Any]) -> list[Any]:
        made = self.reading.traced(name, arrays, dict(symbols))
        return [self._narrowed(value, array) for value, array in zip(self._results(name), made, strict=True)]

    def _results(self, name: str) -> Sequence[Value]:
        return self._functions[name].body.results

    def _narrowed(self, value: Value, array: Any) -> Any:
        """What comes out of a function, influence as it is kept."""
        group, key = self._bindings.get(value.name, ("", ""))
        return array.astype(self.kept[key]) if group == "after" and self.kept[key] != self.dtype else array

    def _precision(self) -> Any:
        """The context in which arrays have the dtype of the program."""
        return self.jax.enable_x64(True) if self.dtype == np.float64 else nullcontext()

    def call(self, name: str, arrays: dict[str, Any], groups: Groups) -> None:
        function = self._functions[name]
        for value in function.inputs:
            if value.name not in arrays:
                group, key = self._bindings[value.name]
                arrays[value.name] = groups[group][key]
        symbols = tuple((symbol, int(arrays[symbol])) for symbol in SYMBOLS if symbol in arrays)
        with self._precision():
            made = self._compiled(name, symbols, [arrays[value.name] for value in function.inputs])
        arrays.update((value.name, array) for value, array in zip(function.body.results, made, strict=True))

    def gradients(
        self,
        tape: LoweredBlock,
        state: Mapping[str, Array],
        after: Mapping[str, Array] | None,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
        fresh: bool,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        grads, by_inputs = super().gradients(tape, state, after, losses, signals, fresh)
        return _arrays(grads), by_inputs

    def advance(self, tape: LoweredBlock, state: Mapping[str, Array], fresh: bool) -> State:
        arrays = self._derived(tape) | {"fresh": fresh}
        self.call("advance", arrays, {"params": tape.params, "state": state})
        made = self.results("after", arrays)
        return _arrays({key: made[key] for key in self._held.all})

    def stepper(self, outputs: Collection[str], batch: int) -> Ahead:
        """A step as two calls of compiled functions, ahead and back."""
        series = {name: self.series(name) for name in outputs}
        made = {value.name for name in (*AHEAD, "advance") for value in self._functions[name].body.results}
        later = {value.name for name in BACK for value in self._functions[name].inputs} & made
        sizes = {"steps": 1, "batch": batch, "fresh": 0}

        def run_ahead(groups: Groups) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
            arrays: dict[str, Any] = dict(sizes)
            for name in (*AHEAD, "advance"):
                self.call(name, arrays, groups)
            after = self.results("after", arrays)
            found = {n: arrays[e.value.name][e.first.constant : e.first.constant + 1] for n, e in series.items()}
            return found, {key: after[key] for key in self._held.all}, {name: arrays[name] for name in later}

        def run_back(arrays: dict[str, Any], groups: Groups) -> dict[str, Any]:
            arrays = arrays | sizes
            for name in BACK:
                self.call(name, arrays, groups)
            return self.results("grads", arrays)

        first, second = self.jax.jit(run_ahead), self.jax.jit(run_back)

        def ahead(
            params: Mapping[str, Array], state: State, inputs: Mapping[str, Array]
        ) -> tuple[dict[str, Array], State, Back]:
            groups = {"params": params, "state": state}
            with self._precision():
                found, then, rest = first({**groups, "inputs": inputs})
            after = _arrays(then)

            def back(losses: Mapping[str, Array], signals: Mapping[str, Array]) -> dict[str, Array]:
                with self._precision():
                    return _arrays(second(rest, {**groups, "after": after, "losses": losses, "signals": signals}))

            return _arrays(found), after, back

        return ahead


def _arrays(found: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in found.items()}
