"""Losses as instructions: the value of each sample, and its derivative by the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.instructions import Broadcast, Contract, Reduce
from forwardgrad.array_program.values import Value

X, Y, Z = Argument(0), Argument(1), Argument(2)

LossValues = tuple[Value, Value]
"""The loss of each sample at each step, `(steps, batch)`, and its derivative by the output, `(steps, batch, size)`."""


def _squared_error(b: Builder, y: Value, target: Value) -> LossValues:
    size = float(y.dims[2].constant)
    less = b.elementwise(apply("-", X, Y), y, target)
    squares = b.add(Reduce(b.elementwise(apply("*", X, X), less), (2,)))
    return b.elementwise(apply("/", X, Number(size)), squares), b.elementwise(apply("*", X, Number(2 / size)), less)


def _bernoulli(b: Builder, y: Value, target: Value) -> LossValues:
    size = float(y.dims[2].constant)
    terms = b.elementwise(apply("-", apply("logaddexp", Number(0.0), X), apply("*", Y, X)), y, target)
    value = b.elementwise(apply("/", X, Number(size)), b.add(Reduce(terms, (2,))))
    chance = apply("+", Number(0.5), apply("*", Number(0.5), apply("tanh", apply("*", Number(0.5), X))))
    return value, b.elementwise(apply("/", apply("-", chance, Y), Number(size)), y, target)


def _cross_entropy(b: Builder, y: Value, target: Value) -> LossValues:
    """Of targets that are 1 at the label, and 0 elsewhere."""
    largest = b.add(Reduce(y, (2,), "max"))
    less = b.elementwise(apply("-", X, Y), y, b.add(Broadcast(largest, y.dims, (0, 1))))
    powers = b.elementwise(apply("exp", X), less)
    whole = b.add(Reduce(powers, (2,)))
    value = b.elementwise(apply("-", apply("log", X), Y), whole, b.add(Contract(less, target, "tbi,tbi->tb")))
    wide = b.add(Broadcast(whole, y.dims, (0, 1)))
    return value, b.elementwise(apply("-", apply("/", X, Y), Z), powers, wide, target)


def _signal(b: Builder, y: Value, signal: Value) -> LossValues:
    return b.add(Contract(y, signal, "tbi,tbi->tb")), signal


LOSSES: Mapping[str, Callable[[Builder, Value, Value], LossValues]] = {
    "mse": _squared_error,
    "bernoulli": _bernoulli,
    "cross_entropy": _cross_entropy,
    "signal": _signal,
}
"""By name: functions of the output and the target, `(steps, batch, size)` each."""
