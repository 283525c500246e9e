"""The backend `c`: an array program as C, compiled by the machine's compiler, its functions called block by block."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from forwardgrad.array_program.c_source import PrintedFunction, Unit, unit
from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.numpy_helpers import number
from forwardgrad.array_program.values import Value
from forwardgrad.backends.c_cache import shared_library
from forwardgrad.backends.c_compiler import find_compiler
from forwardgrad.backends.engine import State
from forwardgrad.backends.lowered import Groups, LoweredBlock, LoweredEngine
from forwardgrad.backends.refusals import refuse_calls, refuse_large
from forwardgrad.compiler import Plan
from forwardgrad.layouts.draws import signs
from forwardgrad.ops import Array
from forwardgrad.support import reuse

LINE = 64
"""Bytes of a line of the cache, at which arrays in between begin."""

DRAWS = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 3, *[ctypes.c_void_p] * 3)
"""The function that draws random signs: of which number, for how many steps and samples, by and into which arrays."""


class Call(ctypes.Structure):
    """What a function in C is told besides its arrays."""

    _fields_ = (
        *((symbol, ctypes.c_ssize_t) for symbol in SYMBOLS),
        ("constants", ctypes.c_void_p),
        ("signs", DRAWS),
    )


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

    @cached_property
    def unit(self) -> Unit:
        """The program as C."""
        refuse_calls(self.lowered, "c", "C")
        return unit(self.lowered.program, self.lowered.functions)

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
        arrays.update(self.compiled.run(name, arrays, symbols))

    def advance(self, tape: LoweredBlock, state: Mapping[str, Array], fresh: bool) -> State:
        arrays = self._derived(tape) | {"fresh": fresh}
        self.call("advance", arrays, {"params": tape.params, "state": state})
        made = self.results("after", arrays)
        return {key: made[key] for key in self._held.all}


@dataclass(frozen=True)
class _Ready:
    """A function of a shared object, ready to be called."""

    printed: PrintedFunction
    run: Any
    room: Any


class CompiledUnit:
    """The functions of a program in a shared object. They can be called by several threads at once.

    Args:
        unit: the program as C.
        library: what was compiled of it.
        constants: the constants of the program.
        dtype: what `float` stands for.
    """

    def __init__(
        self, unit: Unit, library: ctypes.CDLL, constants: Mapping[Value, Array], dtype: np.dtype[Any]
    ) -> None:
        self.unit, self.dtypes = unit, {"float": dtype, "int": np.dtype(np.intp), "bool": np.dtype(np.bool_)}
        self._library = library
        self._held = [self._array(value, array) for value, array in constants.items()]
        self._constants = _pointers(self._held)
        self._draws = DRAWS(self._draw)
        self._functions: dict[str, _Ready] = {}

    def run(self, name: str, arrays: Mapping[str, Any], symbols: Mapping[str, int]) -> dict[str, Array]:
        """What a function gives, by name.

        Args:
            name: of the function in the program.
            arrays: those that it reads, by name, and others.
            symbols: the numbers that `steps`, `batch` and `fresh` stand for.
        """
        ready = self._function(name)
        function = ready.printed.function
        given = [self._array(value, arrays[value.name]) for value in function.inputs]
        made = [
            reuse.empty(tuple(dim.at(symbols) for dim in value.dims), self.dtypes[value.type.dtype])
            for value in ready.printed.outputs
        ]
        call = Call(*(symbols.get(symbol, 1) for symbol in SYMBOLS), ctypes.addressof(self._constants), self._draws)
        reference = ctypes.byref(call)
        number = self.dtypes["float"]
        rest = reuse.empty(((ready.room(reference) + LINE) // number.itemsize,), number)
        first = rest.__array_interface__["data"][0]
        ready.run(reference, _pointers([*given, *made]), first + -first % LINE)
        known = dict(zip(function.inputs, given, strict=True)) | dict(zip(ready.printed.outputs, made, strict=True))
        known |= dict(zip(self.unit.constants, self._held, strict=True))
        return {value.name: known[value] for value in function.body.results}

    def _function(self, name: str) -> _Ready:
        if name not in self._functions:
            printed = self.unit.functions[name]
            run, room = self._library[printed.name], self._library[printed.room]
            run.argtypes, run.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p), None
            room.argtypes, room.restype = (ctypes.c_void_p,), ctypes.c_size_t
            self._functions[name] = _Ready(printed, run, room)
        return self._functions[name]

    def _array(self, value: Value, array: Any) -> Array:
        """An array as C reads it: of the right type, row by row."""
        return np.ascontiguousarray(array, self.dtypes[value.type.dtype]).reshape(np.shape(array))

    def _draw(self, stream: int, steps: int, batch: int, draw: int, block: int, into: int) -> None:
        """Draw random signs, the same ones as under any backend."""
        wanted, symbols = self.unit.signs[stream], {"steps": steps, "batch": batch}
        shapes = [[dim.at(symbols) for dim in dims] for dims in (wanted.draw.dims, wanted.block.dims, wanted.dims)]
        counts, blocks, result = (
            self._at(place, shape) for place, shape in zip((draw, block, into), shapes, strict=True)
        )
        result[...] = signs(wanted.seed, wanted.stream, number(counts), number(blocks), result.shape)

    def _at(self, place: int, shape: Sequence[int]) -> Array:
        """The array of numbers at an address."""
        dtype = self.dtypes["float"]
        count = int(np.prod(shape)) * dtype.itemsize
        memory: Any = (ctypes.c_char * count).from_address(place)
        return np.frombuffer(memory, dtype).reshape(shape)


def _pointers(arrays: Sequence[Array]) -> Any:
    """The addresses of arrays, as C takes them."""
    return (ctypes.c_void_p * max(len(arrays), 1))(*[array.__array_interface__["data"][0] for array in arrays])
