"""One sample, one step: the functions that run in turn, and where the arrays are that they exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from forwardgrad.array_program.in_c.device import DeviceCode, aligned
from forwardgrad.array_program.in_c.expressions import Dialect
from forwardgrad.array_program.in_c.names import identifier
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.values import Value
from forwardgrad.device.lifetimes import Span, packed

NUMBERS = {"steps": 1, "batch": 1, "seeds": 1, "fresh": 0}
"""What the symbols of a block stand for on a device."""

PARTS = ("forward", "slopes", "advance", "losses", "credit", "gradients", "update")
"""The parts of a step in turn. The array program has a function for each but losses and update."""

FUNCTIONS = tuple(part for part in PARTS if part not in ("losses", "update"))
UPDATE = PARTS.index("update")

REST = "rest of "
"""How memory is called that a function needs besides its arrays."""


@dataclass(frozen=True)
class Kept:
    """An array that lasts from one sample to the next.

    Args:
        group: `params`, a part of the optimiser's memory, or `state`.
        key: of the parameter, or of the array of a state.
        name: of its first index in C.
        size: its entries.
    """

    group: str
    key: str
    name: str
    size: int


@dataclass(frozen=True)
class Sample:
    """A step on one sample.

    Args:
        kept: the arrays that last from one sample to the next, in the order of memory.
        calls: for each function of the step, its arrays as expressions of C.
        rest: for each of them, the memory that it needs besides.
        work: the arrays that a step makes: their names in C, and where they begin.
        size: the numbers of the memory for them.
        slopes: for each output, the array that takes the derivative of its loss.
        outputs: for each output, the array of its values.
        gradients: for each trained parameter, the array of its gradient.
        after: for each array of the state, the array of what it is after the step.
    """

    kept: tuple[Kept, ...]
    calls: Mapping[str, tuple[str, ...]]
    rest: Mapping[str, str]
    work: Mapping[str, int]
    size: int
    slopes: Mapping[str, str]
    outputs: Mapping[str, str]
    gradients: Mapping[str, str]
    after: Mapping[str, str]


def kept_arrays(groups: Iterable[tuple[str, Mapping[str, int]]]) -> tuple[Kept, ...]:
    """Arrays of a learner one after the other, given the sizes of each group."""
    found: list[Kept] = []
    for group, sizes in groups:
        for key, size in sizes.items():
            found.append(Kept(group, key, identifier(group, len(found), key), size))
    return tuple(found)


def whole_sample(
    lowered: Lowered, code: DeviceCode, kept: tuple[Kept, ...], outside: Mapping[tuple[str, str], str]
) -> Sample:
    """A step on one sample.

    Args:
        lowered: the array program.
        code: its functions in C, for one step and one sample.
        kept: the arrays that last from one sample to the next.
        outside: for frozen parameters and inputs, by group and key, an expression of C.
    """
    bindings, dialect = lowered.program.bindings, Dialect(lowered.program.dtype)
    where = {(each.group, each.key): f"kept + {each.name}" for each in kept} | dict(outside)
    held: dict[str, str] = {}
    spans: dict[str, Span] = {}
    words: dict[str, str] = {}

    def made(value: Value, part: int) -> None:
        words[value.name] = identifier("w", len(words), value.name)
        spans[value.name] = Span(prod(dim.constant for dim in value.dims), part, part)
        held[value.name] = f"work + {words[value.name]}"

    def read(name: str, part: int) -> str:
        if name in spans:
            spans[name] = Span(spans[name].size, spans[name].first, part)
        return held[name] if name in held else where[bindings[name]]

    calls: dict[str, tuple[str, ...]] = {}
    series = {node: lowered.context.nodes[node] for node in lowered.context.plan.outputs}
    slopes: dict[str, str] = {}
    seeds = {key: name for name, (group, key) in bindings.items() if group == "losses"}
    for part, name in enumerate(PARTS):
        if name == "losses":
            for node, each in series.items():
                read(each.value.name, part)
                seed = Value(seeds.get(node, f"loss of {node}"), each.value.type._replace(dims=each.value.dims[-1:]))
                made(seed, part)
                slopes[node] = held[seed.name]
        elif name in code.functions:
            function = code.functions[name]
            given = [read(value.name, part) for value in function.function.inputs]
            for value in function.outputs:
                made(value, part)
            calls[name] = (*given, *(held[value.name] for value in function.outputs))
            spans[f"{REST}{name}"] = Span(-(-aligned(function.room) // dialect.size), part, part)
    ends = {group: {key: name for name, (g, key) in bindings.items() if g == group} for group in ("grads", "after")}
    gradients, after = ({key: read(name, UPDATE) for key, name in each.items()} for each in ends.values())
    outputs = {
        node: _first(read(each.value.name, UPDATE), each.first.constant * each.value.dims[-1].constant)
        for node, each in series.items()
    }
    places, size = packed({name: span for name, span in spans.items() if span.size})
    rest = {name: f"work + {places[f'{REST}{name}']}" if f"{REST}{name}" in places else "work" for name in calls}
    work = {word: places.get(name, 0) for name, word in words.items()}
    return Sample(kept, calls, rest, work, size, slopes, outputs, gradients, after)


def _first(array: str, entries: int) -> str:
    return f"{array} + {entries}" if entries else array
