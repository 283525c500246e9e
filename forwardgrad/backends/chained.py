"""One step of a stream as two calls, ahead and back: the functions of a block in their order, without dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.array_program import numpy_helpers
from forwardgrad.backends.engine import Ahead, Back, Engine, State
from forwardgrad.backends.loading import load
from forwardgrad.compiler.keys import is_influence
from forwardgrad.ops import Array

AHEAD, BACK = ("forward", "slopes"), ("credit", "gradients")
"""The functions before and after the advance of the state. No loss is read by the first, nor by the advance."""

SYMBOLS: tuple[str, ...] = ("steps", "batch", "fresh")


@dataclass(frozen=True)
class Part:
    """A function of a program, ready to be called.

    Args:
        run: the function.
        words: the names of what it takes.
        bound: those of them that come from outside, each with the group that holds it and its key there.
        results: the names of what it gives.
    """

    run: Callable[..., Any]
    words: tuple[str, ...]
    bound: tuple[tuple[str, str, str], ...]
    results: tuple[str, ...]

    def __call__(self, arrays: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        """What it gives, by name."""
        made = self.run(*[arrays[word] for word in self.words])
        return zip(self.results, (made,) if len(self.results) == 1 else made, strict=True)


def by_calls(engine: Engine, outputs: Collection[str], batch: int) -> Ahead:
    """A step by the calls that make a block, for any engine."""

    def ahead(
        params: Mapping[str, Array], state: State, inputs: Mapping[str, Array]
    ) -> tuple[dict[str, Array], State, Back]:
        tape = engine.forward(params, state, inputs, (1, batch))
        values = {name: tape.values(name).copy() for name in outputs}
        after = engine.advance(tape, state, False)

        def back(losses: Mapping[str, Array], signals: Mapping[str, Array]) -> dict[str, Array]:
            return engine.gradients(tape, state, after, losses, signals, False)[0]

        return values, after, back

    return ahead


@dataclass(frozen=True)
class Names:
    """What the arrays of a program are called.

    Args:
        outputs: for each output node the array of its values over time, and at which place of it the block begins.
        after: for each key of a state the array after the block, in the order of a state.
        grads: for each trained parameter its gradient.
    """

    outputs: Mapping[str, tuple[str, int]]
    after: Mapping[str, str]
    grads: Mapping[str, str]


def chained(parts: Mapping[str, Part], names: Names, batch: int) -> Ahead:
    """A step as one function, which calls the functions of a program.

    Args:
        parts: these functions, by name.
        names: of arrays.
        batch: number of samples.
    """
    outside = {name: part.run for name, part in parts.items()} | {_local("steps"): 1, _local("batch"): batch}
    outside |= {_local("fresh"): False, "settled": _settled, "noting_underflow": numpy_helpers.noting_underflow}
    return load(written(parts, names), outside)["ahead"]


def written(parts: Mapping[str, Part], names: Names) -> str:
    """The text of that function: `ahead(params, state, inputs)`, which returns outputs, state, and `back`."""
    known = set(SYMBOLS)
    lines = ["def ahead(params, state, inputs):"]
    for name in AHEAD:
        lines += _indented(1, _call(name, parts[name], known))
    *arguments, call = _call("advance", parts["advance"], known) or ["pass"]
    lines += _indented(1, [*arguments, "noted = []", "with noting_underflow(noted):", f"    {call}"])
    lines += _indented(1, [f"after = settled({_dictionary(names.after)}, noted)"])
    lines += ["", "    def back(losses, signals):"]
    for name in BACK:
        lines += _indented(2, _call(name, parts[name], known))
    lines += _indented(2, [f"return {_dictionary(names.grads)}", ""])
    outputs = (f"{node!r}: {_local(word)}[{at}:{at + 1}].copy()" for node, (word, at) in names.outputs.items())
    lines += _indented(1, [f"return {{{', '.join(outputs)}}}, after, back"])
    return "\n".join(lines) + "\n"


def _local(word: str) -> str:
    """A variable for an array, told apart from functions and groups, whose names an array may have."""
    return f"a_{word}"


def _indented(depth: int, lines: Iterable[str]) -> list[str]:
    return [f"{'    ' * depth}{line}" for line in lines]


def _dictionary(words: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{key!r}: {_local(word)}' for key, word in words.items())}}}"


def _call(name: str, part: Part, known: set[str]) -> list[str]:
    """The lines that call a function; what it takes from outside, and what it gives, is known after them."""
    if not part.results:
        return []
    lines = [f"{_local(word)} = {group}[{key!r}]" for word, group, key in part.bound if word not in known]
    known.update(word for word, _, _ in part.bound)
    made = ", ".join("_" if word in known else _local(word) for word in part.results)
    known.update(part.results)
    return [*lines, f"{made} = {name}({', '.join(map(_local, part.words))})"]


def _settled(after: State, noted: list[int]) -> State:
    """A state as the next block reads it: nothing subnormal where a product was, and each array in one piece."""
    if noted:
        numpy_helpers.flush_all(array for key, array in after.items() if is_influence(key))
    for key, array in after.items():
        if not array.flags.c_contiguous:  # as in a state that is read from a file
            after[key] = np.ascontiguousarray(array)
    return after
