"""What recursions written by hand share."""

from __future__ import annotations

from typing import Any

import numpy as np
from checks import assert_like_oracle, error
from nets import declare

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.testing import Problem

Grads = dict[str, Array]


def values_of(given: Problem) -> dict[str, Array]:
    return oracle.forward(given.graph, given.params, given.inputs)


def before(value: Array, initial: float = 0.0) -> Array:
    """A value one step before, `(time, batch, size)`."""
    return np.concatenate([np.full_like(value[:1], initial), value[:-1]])


def readout_error(given: Problem, values: dict[str, Array]) -> Array:
    """The derivative of the mean squared error by the output `y`, `(time, batch, size)`."""
    y = values["y"]
    return 2 * (y - given.targets["y"]) / (y.shape[1] * y.shape[2])


def outer(a: Array, b: Array) -> Array:
    """`(batch, n)` and `(batch, m)` to `(batch, n, m)`."""
    return a[:, :, None] * b[:, None, :]


def agree(given: Problem, rule: str, expected: Grads, blocks: tuple[int, ...] = (1, 3)) -> fg.Program:
    """Assert that these gradients, all of them live, come out of the program and of the oracle."""
    assert all(np.abs(gradient).max() > 1e-6 for gradient in expected.values())
    program = assert_like_oracle(given, rule, blocks)
    for block in (*blocks, given.steps):
        found = program.gradient(given.params, given.inputs, given.targets, block=block).grads
        assert error({name: found[name] for name in expected}, expected) < 1e-10
    return program


def differ(given: Problem, rule: str, expected: Grads) -> bool:
    """Whether another rule gives other gradients."""
    other = oracle.reverse(**given.arguments, rule=rule).grads
    return error({name: other[name] for name in expected}, expected) > 1e-3


def spiking(adaptive: bool) -> Any:
    """Recurrent integrate-and-fire units with a leaky readout; adaptive ones raise their threshold when they spike."""
    graph = declare(
        {"x": {"op": "input", "size": 3}, "v": {"op": "linear", "size": 4}}
        | {"z": {"op": "spike", "threshold": 0.6, "dampening": 0.5, "width": 2.0}, "y": {"op": "linear", "size": 2}},
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"value": 0.9, "delay": 1}),
        ("z", "v", {"weight": "dense", "delay": 1}),
        ("z", "v", {"key": "reset", "value": -0.6, "delay": 1, "role": "reset"}),
        ("z", "y", {"weight": "dense"}),
        ("y", "y", {"value": 0.8, "delay": 1}),
    )
    if adaptive:
        graph.add_node("a", op="linear", size=4)
        graph.add_node("d", op="linear", size=4)
        graph.add_edge("z", "a", delay=1)
        graph.add_edge("a", "a", value=0.95, delay=1)
        graph.add_edge("v", "d")
        graph.add_edge("a", "d", value=-0.3)
        graph.add_edge("d", "z")
    else:
        graph.add_edge("v", "z")
    return graph
