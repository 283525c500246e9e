"""A reading of array programs in JAX: functions of `jax.numpy` and `lax.scan`, to be traced for one length and batch.

An instruction is one call here, and a scan one `lax.scan`. What its body reads of its own results, at any lag, is
carried as a window of the latest steps. Nothing here imports JAX before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Apply, Argument, Number, Tree
from forwardgrad.array_program.inlining import bodies
from forwardgrad.array_program.instructions import (
    Broadcast,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Reduce,
    ScatterAdd,
    Signs,
    Slice,
)
from forwardgrad.array_program.numpy_helpers import number
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, Invoke, Scan, When
from forwardgrad.array_program.values import Value
from forwardgrad.layouts.draws import signs

Traced = Any
"""An array of JAX, or what stands for one while a function is traced."""

WORDS: Mapping[str, str] = {
    **{"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "**": "power", "negate": "negative"},
    **{"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "==": "equal", "!=": "not_equal"},
}
"""Words of expressions whose functions have another name in `jax.numpy`."""


@dataclass(frozen=True)
class Split:
    """Samples that are split over devices, each of which runs a program on its own.

    Args:
        axis: the name of the devices' axis.
        batch: number of samples in all.
        devices: number of devices.
    """

    axis: str
    batch: int
    devices: int


@dataclass(frozen=True)
class Reading:
    """The functions of a program, as functions of JAX.

    Args:
        program: the program.
        jax: the module `jax`.
        split: how samples are split, if they are: the functions then get and give those of one device.
    """

    program: ArrayProgram
    jax: ModuleType
    split: Split | None = None

    def traced(self, name: str, arrays: Sequence[Traced], symbols: Mapping[str, int]) -> list[Traced]:
        """The results of a function, given its inputs in order.

        Args:
            name: of the function.
            arrays: its inputs.
            symbols: the numbers that `steps`, `batch` and `fresh` stand for.
        """
        return _Trace(self, symbols).function(self.program.function(name), arrays)


class _Scope(dict[str, Traced]):
    """Arrays by name; and the windows of a scan's own results, of which each step reads earlier ones.

    A window is a sequence of arrays, the latest step first, and the index at which the present step would stand.
    """

    def __init__(self, known: Mapping[str, Traced], windows: Mapping[str, tuple[Sequence[Traced], int]]) -> None:
        super().__init__(known)
        self.windows = dict(windows)


class _Trace:
    """Traces functions for one set of symbols."""

    def __init__(self, reading: Reading, symbols: Mapping[str, int]) -> None:
        self.reading, self.symbols = reading, dict(symbols)
        self.jax, self.jnp = reading.jax, reading.jax.numpy
        self.dtype = np.dtype(reading.program.dtype)

    def function(self, function: Function, arrays: Sequence[Traced]) -> list[Traced]:
        """The results of a function."""
        known = {value.name: array for value, array in self.reading.program.constants.items()}
        for value, array in zip(function.inputs, arrays, strict=True):
            known[value.name] = self.jnp.asarray(array, self.dtype if value.type.dtype == "float" else None)
        return self.body(function.body, _Scope(known, {}))

    def body(self, body: Body, scope: _Scope) -> list[Traced]:
        """The results of a body, whose values are added to a scope."""
        for statement in body.statements:
            match statement.instruction:
                case Scan() as scan:
                    results = self.scan(scan, statement.results, scope)
                case When() as when:
                    results = self.when(when, scope)
                case Invoke(function=name, arguments=arguments, symbols=other):
                    there = {**self.symbols, **{symbol: form.at(self.symbols) for symbol, form in other}}
                    results = self.reading.traced(name, [scope[value.name] for value in arguments], there)
                case instruction:
                    results = [self.value(instruction, scope)]
            scope.update((value.name, array) for value, array in zip(statement.results, results, strict=True))
        return [scope[value.name] for value in body.results]

    def when(self, when: When, scope: _Scope) -> list[Traced]:
        """The results of one of two bodies, which is known while tracing."""
        return self.body(when.then if when.form.at(self.symbols) >= 0 else when.otherwise, _copied(scope))

    def scan(self, scan: Scan, series: Sequence[Value], scope: _Scope) -> list[Traced]:
        """The results of a scan."""
        length = scan.length.at(self.symbols)
        deepest = {value.name: 0 for value in series}
        for read in _reads(scan.body):
            if read.series.name in deepest:
                deepest[read.series.name] = max(deepest[read.series.name], self._lag(read, scan, series))
        before = [None if value is None else scope[value.name] for value in scan.before]
        windows = tuple(
            tuple(self._earlier(scan, value, past, lag) for lag in range(1, deepest[value.name] + 1))
            for value, past in zip(series, before, strict=True)
        )

        def step(carried: Any, t: Traced) -> Any:
            inside = _copied(scope)
            for value, window, past in zip(series, carried, before, strict=True):
                ahead = 0 if scan.backward or past is None else len(past)
                inside.windows[value.name] = window, ahead
            there = _Trace(self.reading, {**self.symbols, scan.index: t})
            there.backward = scan.backward
            made = there.body(scan.body, inside)
            shifted = tuple((new, *window[:-1]) if window else () for new, window in zip(made, carried, strict=True))
            return shifted, tuple(made)

        steps = np.arange(length, dtype=np.int32)
        _, stacked = self.jax.lax.scan(step, windows, steps, reverse=scan.backward)
        results: list[Traced] = []
        for past, now in zip(before, stacked, strict=True):
            parts = [now] if past is None else [now, past] if scan.backward else [past, now]
            results.append(self.jnp.concatenate(parts) if len(parts) > 1 else now)
        return results

    backward = False
    """Whether the innermost scan goes backward."""

    def _lag(self, read: Read, scan: Scan, series: Sequence[Value]) -> int:
        """How many steps ago what is read was made."""
        place = [value.name for value in series].index(read.series.name)
        past = scan.before[place]
        offset = (read.at - scan.index).at(self.symbols)
        ahead = 0 if scan.backward or past is None else past.dims[0].at(self.symbols)
        return offset if scan.backward else ahead - offset

    def _earlier(self, scan: Scan, value: Value, past: Traced | None, lag: int) -> Traced:
        """What a result was `lag` steps before the first."""
        if past is None or lag > len(past):
            return self.jnp.zeros([dim.at(self.symbols) for dim in value.dims[1:]], self.dtype)
        return past[lag - 1] if scan.backward else past[len(past) - lag]

    # Single instructions.

    def value(self, instruction: Instruction, scope: _Scope) -> Traced:
        """What an instruction makes."""
        if isinstance(instruction, Read):
            return self.read(instruction, scope)
        jnp, arrays = self.jnp, [scope[value.name] for value in instruction.operands]
        match instruction:
            case Elementwise(tree=tree, dims=dims):
                made = self.tree(tree, arrays)
                made = jnp.asarray(made)
                made = made if made.dtype.kind == "b" else made.astype(self.dtype)
                return jnp.broadcast_to(made, self.sizes(dims))
            case Contract(axes=axes):
                return jnp.einsum(axes, *arrays, precision=self.precision, preferred_element_type=self.dtype)
            case Slice():
                return self.slice(instruction, arrays[0])
            case Concat(axis=axis):
                return jnp.concatenate(arrays, axis)
            case Broadcast(dims=dims, axes=axes):
                missing = [axis for axis in range(len(dims)) if axis not in axes]
                return jnp.broadcast_to(jnp.expand_dims(arrays[0], missing), self.sizes(dims))
            case Gather(axis=axis):
                return jnp.asarray(arrays[0])[(slice(None),) * axis + tuple(arrays[1:])]
            case ScatterAdd(axis=axis, sizes=sizes, unique=unique):
                shape = arrays[0].shape
                made = jnp.zeros((*shape[:axis], *self.sizes(sizes), *shape[axis + 1 :]), self.dtype)
                return made.at[(slice(None),) * axis + tuple(arrays[1:])].add(arrays[0], unique_indices=unique)
            case Reduce(axes=axes, word=word):
                return getattr(jnp, word)(arrays[0], axis=axes)
            case Flush(ones=ones):
                return jnp.where(jnp.abs(arrays[0]) < self.least(ones), 0, arrays[0])
            case Signs(seed=seed, stream=stream, dims=dims):
                return self.signs(seed, stream, arrays[0], arrays[1], dims)
            case _:
                raise AssertionError(f"JAX has no reading of {type(instruction).__name__}")

    def sizes(self, dims: Sequence[Affine]) -> list[int]:
        """Dimensions as numbers."""
        return [dim.at(self.symbols) for dim in dims]

    @property
    def precision(self) -> Any:
        """Of products: the user's setting; else the highest, since a GPU would round to ten bits otherwise."""
        return self.jax.config.jax_default_matmul_precision or "highest"

    def least(self, ones: bool) -> float:
        """Below what an entry is flushed, as in `numpy_helpers.flush`."""
        single = self.dtype.itemsize <= 4
        return (2.0**-93 if single else 2.0**-515) if ones else (2.0**-120 if single else 2.0**-1016)

    def read(self, read: Read, scope: _Scope) -> Traced:
        """One entry of the first axis."""
        name = read.series.name
        index: Any = read.at.at(self.symbols)
        if name in scope.windows and name not in scope:
            window, ahead = scope.windows[name]
            lag = _offset(read.at, self.symbols)
            return window[(lag if self.backward else ahead - lag) - 1]
        series = scope[name]
        if isinstance(index, int):
            beyond = not 0 <= index < len(series)
            return self.jnp.zeros_like(series[0]) if read.or_zero and beyond else series[index]
        if not read.or_zero:
            return self.jax.lax.dynamic_index_in_dim(series, index, keepdims=False)
        inside = (index >= 0) & (index < len(series))
        at = self.jnp.clip(index, 0, len(series) - 1)
        return self.jnp.where(inside, self.jax.lax.dynamic_index_in_dim(series, at, keepdims=False), 0)

    def slice(self, cut: Slice, array: Traced) -> Traced:
        """A range of an axis."""
        first, length = cut.start.at(self.symbols), array.shape[cut.axis]
        last = first + cut.size.at(self.symbols)
        made = self.jax.lax.slice_in_dim(array, min(max(first, 0), length), min(max(last, 0), length), axis=cut.axis)
        below, above = max(min(last, 0) - first, 0), max(last - max(first, length), 0)
        if below or above:
            made = self.jnp.pad(made, [(below, above) if axis == cut.axis else (0, 0) for axis in range(made.ndim)])
        return self.jnp.flip(made, cut.axis) if cut.backward else made

    def signs(self, seed: int, stream: str, draw: Traced, block: Traced, dims: Sequence[Affine]) -> Traced:
        """Random signs, drawn outside of JAX: the same ones as under any backend."""
        split = self.reading.split
        samples = self.symbols if split is None else {**self.symbols, "batch": split.batch}
        shape = tuple(dim.at(samples) for dim in dims)

        def drawn(draw: Any, block: Any) -> Any:
            return signs(seed, stream, number(np.asarray(draw)), number(np.asarray(block)), shape).astype(np.int8)

        kind = self.jax.ShapeDtypeStruct(shape, np.int8)  # in any precision
        made = self.jax.pure_callback(drawn, kind, draw, block)
        return (made if split is None else self.own(made, dims, split)).astype(self.dtype)

    def own(self, array: Traced, dims: Sequence[Affine], split: Split) -> Traced:
        """Of an array with all samples, those of this device."""
        axis, size = dims.index(affine("batch")), self.symbols["batch"]
        more = size * split.devices - split.batch
        array = self.jnp.pad(array, [(0, more if each == axis else 0) for each in range(array.ndim)], "edge")
        first = self.jax.lax.axis_index(split.axis) * size
        return self.jax.lax.dynamic_slice_in_dim(array, first, size, axis)

    def tree(self, tree: Tree, arrays: Sequence[Traced]) -> Any:
        """The value of an expression."""
        match tree:
            case Number(value=value):
                return value
            case Argument(place=place):
                return arrays[place]
            case Apply(word=word, operands=operands):
                parts = [self.tree(operand, arrays) for operand in operands]
                if word in ("indicator", "cast"):
                    return self.jnp.asarray(parts[0]).astype(self.dtype)
                return getattr(self.jnp, WORDS.get(word, word))(*parts)


def _copied(scope: _Scope) -> _Scope:
    return _Scope(scope, scope.windows)


def _reads(body: Body) -> Iterator[Read]:
    """The reads of a body, and of the bodies in it."""
    for part in bodies(body):
        for statement in part.statements:
            if isinstance(statement.instruction, Read):
                yield statement.instruction


def _offset(form: Affine, symbols: Mapping[str, Any]) -> int:
    """An index less that of the step, which is not known while tracing."""
    return form.constant + sum(factor * symbols[s] for s, factor in form.terms if isinstance(symbols[s], int))
