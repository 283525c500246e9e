"""A whole step of learning as one function: forward, losses, influence, gradients, and new parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.expressions import TERMS, Argument, apply, total
from forwardgrad.array_program.flattened import flattened
from forwardgrad.array_program.instructions import Broadcast, Reduce
from forwardgrad.array_program.lowering.loss_values import LOSSES, LossValues
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.lowering.updates import LIMIT, Update, scale
from forwardgrad.array_program.regions import ArrayProgram, Function, Invoke
from forwardgrad.array_program.specialised import specialised
from forwardgrad.array_program.unrolled import unrolled
from forwardgrad.array_program.values import Dimensions, Value, floats

LEARN, PREDICT = "learn", "predict"
"""The functions: with targets, and without."""

AHEAD, BACK = ("slopes", "advance"), ("credit", "gradients")
"""The functions of a block that run after its forward pass: what advances the state, and what reads the losses."""

SETTINGS = "settings"
"""The group of the numbers that a step reads."""

NUMBERS, STATED = "numbers", ("loss", "state", "grads", "all")
"""The group of the numbers that a step gives, and what they are called: the loss, and sums of squares."""

GIVEN = ("inputs", "targets", "signals", "shares")
"""The groups of what each step is given anew; a share is the factor of a sample's loss."""

TIMES = apply("*", Argument(0), Argument(1))

Key = tuple[str, str]
"""What an array is: the group that it belongs to (`params`, `state`, `inputs`, `numbers`, ...), and its key there."""


@dataclass(frozen=True)
class WholeStep:
    """Steps of one batch size, each one function.

    Args:
        program: a program of the one function.
        function: the function.
        inputs: what each of its inputs is.
        results: what each of its results is; all are arrays of their own. Of the group `numbers` there are `loss`, if
            there are targets; `state` and `grads`, the sums of the squares of the state without its counters and of the
            gradients; and `all`, which is finite if all is that comes from outside and that is made, and if no square
            overflows.
        shapes: of all of these arrays.
    """

    program: ArrayProgram
    function: Function
    inputs: tuple[Key, ...]
    results: tuple[Key, ...]
    shapes: Mapping[Key, tuple[int, ...]]


class _Chain:
    """Functions of a program run one after another, which exchange arrays by name."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered, self.builder = lowered, Builder()
        self.arrays: dict[str, Value] = {}
        self.inputs: dict[Value, Key] = {}
        self._names = {value.name for value in lowered.program.constants}

    def of(self, value: Value, key: Key | None = None) -> Value:
        """The array of that name; if nothing has made it, it comes from outside, where it is called `key`."""
        if value.name not in self.arrays:
            self.arrays[value.name] = value
            self.inputs[value] = key or self.lowered.program.bindings[value.name]
            self._names.add(value.name)
        return self.arrays[value.name]

    def invoke(self, name: str) -> None:
        """Run a function of the program."""
        function = self.lowered.program.function(name)
        if not function.body.results:
            return
        given = tuple(self.of(value) for value in function.inputs)
        results = tuple(Value(self._fresh(value.name), value.type) for value in function.body.results)
        self.builder.define(results, Invoke(name, given, tuple(value.type for value in results)))
        self.arrays.update((inside.name, value) for inside, value in zip(function.body.results, results, strict=True))

    def setting(self, name: str) -> Value:
        """A number that comes from outside."""
        return self.of(Value(f"{SETTINGS} of {name}", floats()), (SETTINGS, name))

    def result(self, value: Value, key: Key) -> Value:
        """An array that comes out under a name of its own."""
        return self.builder.elementwise(Argument(0), value, name=self._fresh(f"{key[0]} made of {key[1]}"))

    def _fresh(self, name: str) -> str:
        while name in self._names:
            name += " again"  # names of a program have no spaces
        self._names.add(name)
        return name


def learning_step(
    lowered: Lowered, losses: Mapping[str, str], update: Update, batch: int, counters: Iterable[str]
) -> WholeStep:
    """A step with targets: the new state, the gradients, and parameters after the update.

    Args:
        lowered: the functions of a block.
        losses: the loss of each output node, by name.
        update: how parameters change.
        batch: number of samples.
        counters: keys of what counts, in the state, and measures nothing.
    """
    chain = _Chain(lowered)
    chain.invoke("forward")
    outputs = {node: _loss(chain, node, LOSSES[loss]) for node, loss in losses.items()}
    for name in (*AHEAD, *BACK):
        chain.invoke(name)
    b = chain.builder
    loss = _added(b, [b.add(Reduce(value, (0, 1))) for value, _ in outputs.values()])
    made: dict[Key, Value] = {("outputs", node): y for node, (_, y) in outputs.items()}
    made |= _state(chain)
    made |= _updated(chain, update)
    return _finished(chain, LEARN, made, batch, counters, {"loss": loss})


def predicting_step(lowered: Lowered, outputs: Iterable[str], batch: int, counters: Iterable[str]) -> WholeStep:
    """A step without targets: the new state. Arguments are those of `learning_step`; `outputs` are nodes."""
    chain = _Chain(lowered)
    for name in ("forward", *AHEAD):
        chain.invoke(name)
    made: dict[Key, Value] = {("outputs", node): _values(chain, node) for node in outputs}
    return _finished(chain, PREDICT, made | _state(chain), batch, counters, {})


def _values(chain: _Chain, node: str) -> Value:
    """The values of a node, `(steps, batch, size)`."""
    series = chain.lowered.context.nodes[node]
    return replace(series, value=chain.arrays[series.value.name]).block(chain.builder)


def _loss(chain: _Chain, node: str, formula: Callable[[Builder, Value, Value], LossValues]) -> LossValues:
    """The part of each sample in the loss of a node, whose slope the functions that follow read, and its values."""
    b, y = chain.builder, _values(chain, node)
    value, slope = formula(b, y, chain.of(Value(f"targets of {node}", y.type), ("targets", node)))
    share = chain.of(Value(f"shares of {node}", value.type), ("shares", node))
    adjoint = b.elementwise(TIMES, slope, b.add(Broadcast(share, y.dims, (0, 1))))
    for name, binding in chain.lowered.program.bindings.items():
        if binding == ("losses", node):
            chain.arrays[name] = adjoint
    return b.elementwise(TIMES, value, share), y


def _state(chain: _Chain) -> dict[Key, Value]:
    """The state after the step."""
    bindings = chain.lowered.program.bindings
    return {("state", key): chain.arrays[name] for name, (group, key) in bindings.items() if group == "after"}


def _updated(chain: _Chain, update: Update) -> dict[Key, Value]:
    """The gradients, and each trained parameter after the update, with what is remembered of it."""
    bindings = chain.lowered.program.bindings
    words = {binding: name for name, binding in bindings.items()}
    settings = [chain.setting(name) for name in update.settings]
    factor = _factor(chain) if update.clipped else None
    found: dict[Key, Value] = {}
    for name, (group, key) in bindings.items():
        if group == "grads":
            gradient = chain.arrays[name]
            word = words.get(("params", key), f"params of {key}")
            parameter = chain.of(Value(word, gradient.type), ("params", key))
            held = [chain.of(Value(f"{part} of {key}", gradient.type), (part, key)) for part in update.memory]
            limited = gradient if factor is None else chain.builder.elementwise(TIMES, gradient, factor)
            given = parameter, limited, *held, *settings
            keys = (("params", key), *((part, key) for part in update.memory))
            found["grads", key] = gradient
            for place, tree in zip(keys, update.trees, strict=False):  # without trees nothing is updated
                found[place] = chain.builder.elementwise(tree, *given)
    return found


def _factor(chain: _Chain) -> Value:
    """What all gradients are multiplied by before they are used."""
    grads = [chain.arrays[name] for name, (group, _) in chain.lowered.program.bindings.items() if group == "grads"]
    square = _squares(chain.builder, grads)
    return chain.builder.elementwise(scale(Argument(0), Argument(1)), square, chain.setting(LIMIT))


def _finished(
    chain: _Chain,
    name: str,
    made: Mapping[Key, Value],
    batch: int,
    counters: Iterable[str],
    numbers: Mapping[str, Value],
) -> WholeStep:
    """The function as it runs: no symbol and no call is left in it."""
    b, counters = chain.builder, set(counters)
    results = {key: chain.result(value, key) for key, value in made.items()}
    parts: dict[str, list[Value]] = {"state": [], "grads": [], "others": []}
    for (group, key), value in results.items():
        if key not in counters or group != "state":
            parts[group if group in parts else "others"].append(value)
    parts["others"] += [value for value, (group, _) in chain.inputs.items() if group in GIVEN]
    squares = {group: _squares(b, arrays) for group, arrays in parts.items()}
    numbers = {**numbers, "state": squares["state"], "grads": squares["grads"]}
    numbers["all"] = _added(b, [*numbers.values(), squares["others"]])
    results |= {(NUMBERS, word): chain.result(value, (NUMBERS, word)) for word, value in numbers.items()}
    function = Function(name, "A whole step.", tuple(chain.inputs), b.body(*results.values()))
    program, symbols = chain.lowered.program, {"steps": 1, "batch": batch, "seeds": 1, "fresh": 0}
    whole = specialised(replace(program, functions=(*program.functions, function)), [name], symbols)
    alone = check(unrolled(flattened(whole, name)))
    keys = {value: key for key, value in results.items()} | chain.inputs
    shapes = {key: tuple(dim.at(symbols) for dim in value.dims) for value, key in keys.items()}
    return WholeStep(alone, alone.function(name), tuple(chain.inputs.values()), tuple(results), shapes)


def _squares(b: Builder, arrays: Sequence[Value]) -> Value:
    """The sum of all squares. Those of equal shapes are added up entry by entry, in the loop that makes them."""
    alike: dict[Dimensions, list[Value]] = {}
    for array in arrays:
        alike.setdefault(array.dims, []).append(array)
    sums: list[Value] = []
    for dims, group in alike.items():
        for first in range(0, len(group), TERMS):
            some = group[first : first + TERMS]
            squares = [apply("*", Argument(place), Argument(place)) for place in range(len(some))]
            entries = b.elementwise(reduce(partial(apply, "+"), squares), *some)
            sums.append(b.add(Reduce(entries, tuple(range(len(dims))))) if dims else entries)
    return _added(b, sums)


def _added(b: Builder, values: Sequence[Value]) -> Value:
    return b.elementwise(total(len(values)), *values) if values else b.fill(0.0)
