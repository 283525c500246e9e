"""The backend `c`: an array program as C, compiled by the machine's compiler, its functions called block by block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

from forwardgrad.array_program.buffers import analysed
from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.fused_scans import fused
from forwardgrad.array_program.in_c.source import Unit, unit
from forwardgrad.array_program.lowering.loss_values import LOSSES
from forwardgrad.array_program.lowering.updates import schedule
from forwardgrad.array_program.recomputed import recomputed
from forwardgrad.backends.c_cache import shared_library
from forwardgrad.backends.c_calls import CompiledUnit
from forwardgrad.backends.c_compiler import find_compiler
from forwardgrad.backends.c_stream import CompiledSteps, CSteps
from forwardgrad.backends.chained import by_calls
from forwardgrad.backends.engine import Ahead, State, WholeSteps
from forwardgrad.backends.lowered import Groups, LoweredBlock, LoweredEngine
from forwardgrad.backends.refusals import refuse_calls, refuse_large
from forwardgrad.compiler import Plan
from forwardgrad.ops import Array

ADDRESSES = "addresses of arrays"
"""The key, among the arrays of a block, of where they are; it cannot be the name of an array."""


class CEngine(LoweredEngine):
    """An `Engine` that runs an array program as C. It is printed and compiled when a block is run for the first time.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.

    Raises:
        MissingExtraError: if the machine has no C compiler.
        CompilerError: if its compiler does not work.
        RuleError: if the program calls functions of Python, or is too large to be written out.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.compiler = find_compiler()
        refuse_large(plan, "c")
        super().__init__(plan, dtype)
        self._steps = dict[Any, CompiledSteps]()

    @cached_property
    def unit(self) -> Unit:
        """The program as C."""
        refuse_calls(self.lowered, "c", "C")
        program = fused(recomputed(self.lowered.program, "slopes"))
        return unit(program, analysed(program))

    @cached_property
    def compiled(self) -> CompiledUnit:
        """The program, compiled and loaded."""
        constants = {value: self.lowered.program.constants[value] for value in self.unit.constants}
        return CompiledUnit(self.unit, shared_library(self.unit.text, self.compiler), constants, self.dtype)

    def call(self, name: str, arrays: dict[str, Any], groups: Groups) -> None:
        function = self.unit.functions[name].function
        for value in function.inputs:
            if value.name not in arrays:
                group, key = self._bindings[value.name]
                arrays[value.name] = groups[group][key]
        symbols = {symbol: int(arrays[symbol]) for symbol in SYMBOLS if symbol in arrays}
        arrays.update(self.compiled.run(name, arrays, symbols, arrays.setdefault(ADDRESSES, {})))

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
        numbers = schedule(optimizer, clip)
        if numbers is None or not LOSSES.keys() >= set(losses.values()):
            return None

        def make() -> WholeSteps:
            refuse_calls(self.lowered, "c", "C")
            key = tuple(losses.items()), numbers.update, batch
            if key not in self._steps:  # kept for the streams that follow
                self._steps[key] = CompiledSteps(self.lowered, losses, numbers.update, batch, counters, self.compiler)
            return CSteps(self._steps[key], numbers, self.dtype)

        return make

    def advance(self, tape: LoweredBlock, state: Mapping[str, Array], fresh: bool) -> State:
        arrays = self._derived(tape) | {"fresh": fresh}
        self.call("advance", arrays, {"params": tape.params, "state": state})
        made = self.results("after", arrays)
        return {key: made[key] for key in self._held.all}
