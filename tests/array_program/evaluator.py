"""What does an array program compute? A naive evaluator: one instruction after the other, in plain NumPy, no tricks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from forwardgrad.array_program.expressions import Apply, Argument, Number, Tree
from forwardgrad.array_program.instructions import (
    Broadcast,
    Call,
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
from forwardgrad.array_program.regions import ArrayProgram, Body, Invoke, Scan, When
from forwardgrad.array_program.values import Value
from forwardgrad.layouts import draws
from forwardgrad.ops import Array

INFIX: Mapping[str, Callable[..., Any]] = {
    **{"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power, "negate": np.negative},
    **{"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal},
    **{"==": np.equal, "!=": np.not_equal},
}


class Evaluator:
    """Runs the functions of a program.

    Args:
        program: the program.
        calls: the Python functions that it calls, by name.
    """

    def __init__(self, program: ArrayProgram, calls: Mapping[str, Callable[..., Array]] | None = None) -> None:
        self.program, self.calls, self.dtype = program, calls or {}, np.dtype(program.dtype)

    def run(self, name: str, arrays: Mapping[str, Array], symbols: Mapping[str, int]) -> dict[str, Array]:
        """The results of a function by name, given arrays by name; shapes are held to the types all along."""
        function = self.program.function(name)
        inputs = [arrays[value.name] for value in function.inputs]
        results = self.function(name, inputs, symbols)
        return {value.name: array for value, array in zip(function.body.results, results, strict=True)}

    def function(self, name: str, inputs: Sequence[Array], symbols: Mapping[str, int]) -> list[Array]:
        """The results of a function."""
        function = self.program.function(name)
        known = {value.name: np.asarray(array) for value, array in self.program.constants.items()}
        for value, array in zip(function.inputs, inputs, strict=True):
            self.put(known, value, array, symbols)
        return self.body(function.body, known, symbols)

    def put(self, known: dict[str, Array], value: Value, array: Array, symbols: Mapping[str, int]) -> None:
        """Define a value."""
        shape = tuple(dim.at(symbols) for dim in value.dims)
        assert array.shape == shape, f"{value} is {value.type}, {shape}, and came out as {array.shape}"
        known[value.name] = array

    def body(self, body: Body, known: dict[str, Array], symbols: Mapping[str, int]) -> list[Array]:
        """The results of a body, whose values are added to those known."""
        for statement in body.statements:
            match statement.instruction:
                case Scan() as scan:
                    results = self.scan(scan, statement.results, known, symbols)
                case When(form=form, then=then, otherwise=otherwise):
                    results = self.body(then if form.at(symbols) >= 0 else otherwise, dict(known), symbols)
                case Invoke(function=name, arguments=arguments, symbols=other):
                    there = {**symbols, **{symbol: form.at(symbols) for symbol, form in other}}
                    results = self.function(name, [known[value.name] for value in arguments], there)
                case instruction:
                    results = [self.value(instruction, known, symbols)]
            for value, array in zip(statement.results, results, strict=True):
                self.put(known, value, array, symbols)
        return [known[value.name] for value in body.results]

    def scan(
        self, scan: Scan, series: Sequence[Value], known: dict[str, Array], symbols: Mapping[str, int]
    ) -> list[Array]:
        """The results of a scan, which its body reads as far as they are there; the rest holds no numbers yet."""
        length, inside = scan.length.at(symbols), dict(known)
        for value, before in zip(series, scan.before, strict=True):
            inside[value.name] = np.full([dim.at(symbols) for dim in value.dims], np.nan, self.dtype)
            if before is not None:
                past = known[before.name]
                inside[value.name][slice(length, None) if scan.backward else slice(len(past))] = past
        for t in reversed(range(length)) if scan.backward else range(length):
            found = self.body(scan.body, dict(inside), {**symbols, scan.index: t})
            for value, before, array in zip(series, scan.before, found, strict=True):
                ahead = 0 if before is None or scan.backward else len(known[before.name])
                inside[value.name][t + ahead] = array
        return [inside[value.name] for value in series]

    def value(self, instruction: Instruction, known: Mapping[str, Array], symbols: Mapping[str, int]) -> Array:
        """What an instruction makes."""
        arrays = [known[value.name] for value in instruction.operands]
        match instruction:
            case Elementwise(tree=tree, dims=dims):
                made = np.asarray(self.tree(tree, arrays))
                made = made if made.dtype == bool else made.astype(self.dtype)
                return np.broadcast_to(made, [dim.at(symbols) for dim in dims])
            case Contract(axes=axes):
                return np.einsum(axes, *arrays)
            case Read(at=at, or_zero=or_zero):
                index, length = at.at(symbols), len(arrays[0])
                return np.zeros_like(arrays[0][0]) if or_zero and not 0 <= index < length else arrays[0][index]
            case Slice(axis=axis, start=start, size=size, backward=backward):
                indices, length = np.arange(start.at(symbols), (start + size).at(symbols)), arrays[0].shape[axis]
                beyond = (indices < 0) | (indices >= length)
                assert instruction.or_zero or not beyond.any()
                made = np.take(arrays[0], np.where(beyond, 0, indices), axis)
                np.moveaxis(made, axis, 0)[beyond] = 0
                return np.flip(made, axis) if backward else made
            case Concat(axis=axis):
                return np.concatenate(arrays, axis)
            case Broadcast(dims=dims, axes=axes):
                shape = [dim.at(symbols) if axis in axes else 1 for axis, dim in enumerate(dims)]
                return np.broadcast_to(arrays[0].reshape(shape), [dim.at(symbols) for dim in dims])
            case Gather(axis=axis):
                return arrays[0][(slice(None),) * axis + tuple(arrays[1:])]
            case ScatterAdd(axis=axis, sizes=sizes):
                shape = arrays[0].shape
                made = np.zeros((*shape[:axis], *(size.at(symbols) for size in sizes), *shape[axis + 1 :]), self.dtype)
                np.add.at(made, (slice(None),) * axis + tuple(arrays[1:]), arrays[0])
                return made
            case Reduce(axes=axes, word=word):
                return np.asarray(getattr(arrays[0], word)(axis=axes))
            case Flush():
                return np.where(np.abs(arrays[0]) < 2.0**-500, 0, arrays[0])
            case Signs(seed=seed, stream=stream, dims=dims):
                draw, block = (int(array.max()) for array in arrays)
                shape = tuple(dim.at(symbols) for dim in dims)
                return draws.signs(seed, stream, draw, block, shape).astype(self.dtype)
            case _:
                return self.called(instruction, arrays)

    def called(self, instruction: Instruction, arrays: Sequence[Array]) -> Array:
        """What a function makes that the program calls."""
        assert isinstance(instruction, Call), f"no value for {type(instruction).__name__}"
        return self.calls[instruction.function](*arrays)

    def tree(self, tree: Tree, arrays: Sequence[Array]) -> Any:
        """The value of an expression."""
        match tree:
            case Number(value=number):
                return number
            case Argument(place=place):
                return arrays[place]
            case Apply(word=word, operands=operands):
                parts = [self.tree(operand, arrays) for operand in operands]
                if word in ("indicator", "cast"):
                    return np.asarray(parts[0]).astype(self.dtype)
                return (INFIX[word] if word in INFIX else getattr(np, word))(*parts)
