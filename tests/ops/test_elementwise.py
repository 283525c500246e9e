"""Are the ops that act on units alone the functions that they are called after, through every engine?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from checks import assert_like_oracle, compiled, error
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import ops, oracle

Array = np.ndarray[Any, Any]

X = np.linspace(-6.0, 6.0, 97)[None]

FUNCTIONS = {
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "hard_sigmoid": lambda x: 0 if x <= -3 else 1 if x >= 3 else (x + 3) / 6,
    "abs": math.fabs,
    "cos": math.cos,
    "log": math.log,
    "sqrt": math.sqrt,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str) -> None:
    """If this fails, the op computes another function than its name says."""
    x = np.abs(X) + 0.1 if ops.get(name).positive else X
    wanted = [[FUNCTIONS[name](number) for number in x[0]]]
    np.testing.assert_allclose(ops.get(name).evaluate([x], {}), wanted, rtol=1e-14, atol=1e-15)


def test_gelu_is_near_the_exact_one() -> None:
    """If this fails, the approximation is worse than the paper's."""
    exact = [[0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in X[0]]]
    assert np.abs(ops.get("gelu").evaluate([X], {}) - exact).max() < 5e-4


def net(name: str) -> Any:
    """A recurrent node `h` of this op, with two ports for `maximum`; its ports are positive where they have to be."""
    op = ops.get(name)
    nodes = {
        "x": {"op": "input", "size": 2},
        "u": {"op": "exp" if op.positive else "linear", "size": 3, "bias": np.array([0.3, -0.2, 0.1])},
        "w": {"op": "tanh", "size": 3},
        "h": {"op": name},
        "y": {"op": "linear", "size": 2},
    }
    edges = [("x", "u", {"weight": "dense"}), ("x", "w", {"weight": "dense"}), ("h", "y", {"weight": "dense"})]
    edges += [("u", "h", {"port": op.ports[0].name}), ("w", "u", {"weight": "dense"})]
    edges += [("h", "w", {"weight": "dense", "delay": 1})]
    if len(op.ports) > 1:
        edges.append(("w", "h", {"port": op.ports[1].name}))
    return problem(declare(nodes, *edges), "y", steps=6)


NEW = (*FUNCTIONS, "maximum")


@pytest.mark.parametrize("rule", ["rtrl", "eprop"])
@pytest.mark.parametrize("name", NEW)
def test_gradients(name: str, rule: str) -> None:
    """If this fails, credit through the op is wrong in printed source or in the interpreter."""
    given = net(name)
    assert_like_oracle(given, rule, blocks=(1, 4))
    if rule == "rtrl":
        wanted = oracle.finite_difference(**given.arguments)
        assert max(np.abs(g).max() for g in wanted.grads.values()) > 1e-3
        assert error(oracle.reverse(**given.arguments).grads, wanted.grads) < 1e-6


@pytest.mark.parametrize("name", NEW)
def test_jax_reads_them(name: str) -> None:
    """If this fails, a formula has a word that JAX is not told, or means something else there."""
    pytest.importorskip("jax")
    given = net(name)
    found = compiled(given, "rtrl", backend="jax").gradient(given.params, given.inputs, given.targets, block=4)
    assert error(found.grads, oracle.reverse(**given.arguments).grads) < 1e-10


def test_maximum_shares_credit_where_its_ports_are_equal() -> None:
    """If this fails, a tie counts credit twice, or loses it."""
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 2.0]])
    op = ops.get("maximum")
    y = op.evaluate([a, b], {})
    assert y.tolist() == [[2.0, 2.0, 3.0]]
    assert op.jacobian("a", ("a", "b"), [a, b], y, {}).tolist() == [[0.0, 0.5, 1.0]]
    assert op.jacobian("b", ("a", "b"), [a, b], y, {}).tolist() == [[1.0, 0.5, 0.0]]


@pytest.mark.parametrize(("name", "why"), [("log", "h"), ("sqrt", "h")])
def test_numbers_that_an_op_does_not_take_are_named(name: str, why: str) -> None:
    """If this fails, the logarithm of a negative number ends in NaN parameters, without a word about where."""
    given = net(name)
    given.graph.nodes["u"]["op"] = "linear"
    with pytest.raises(fg.NonFiniteError, match=f"node '{why}'"):
        compiled(given, "rtrl").gradient(given.params, given.inputs, given.targets, block=2)


@pytest.mark.parametrize(
    ("surrogate", "width", "dampening", "paper"),
    [
        # Bellec et al. 2020: 0.3 / v_th max(0, 1 - |v - v_th| / v_th), v_th = 0.6
        ("triangle", 0.6, 0.5, lambda v: 0.3 / 0.6 * max(0.0, 1 - abs((v - 0.6) / 0.6))),
        # Zenke & Ganguli 2018: 1 / (beta |v - v_th| + 1)^2, beta = 10
        ("fast_sigmoid", 0.1, 1.0, lambda v: 1 / (10 * abs(v - 0.6) + 1) ** 2),
        # Fang et al. 2021: alpha / 2 / (1 + (pi / 2 alpha (v - v_th))^2), alpha = 2
        ("arctan", 0.5, 1.0, lambda v: 1 / (1 + (math.pi / 2 * 2 * (v - 0.6)) ** 2)),
        # Zenke & Vogels 2021: the derivative of a sigmoid, s (1 - s) with s = sigmoid(beta (v - v_th)), beta = 10
        ("sigmoid", 0.1, 0.25, lambda v: 1 / (1 + math.exp(-10 * (v - 0.6))) / (1 + math.exp(10 * (v - 0.6)))),
        # Wu et al. 2018: 1 / a where |v - v_th| < a / 2, a = 0.5
        ("boxcar", 0.5, 2.0, lambda v: 2.0 * (abs(v - 0.6) < 0.25)),
        # Wu et al. 2018: the normal density of deviation 0.4
        ("gaussian", 0.4, 0.9973557010035818, lambda v: math.exp(-((v - 0.6) ** 2) / 0.32) / math.sqrt(0.32 * math.pi)),
    ],
)
def test_surrogates_are_those_of_their_papers(surrogate: str, width: float, dampening: float, paper: Any) -> None:
    """If this fails, a surrogate has another height or width than its source says."""
    options = {"threshold": 0.6, "surrogate": surrogate, "width": width, "dampening": dampening}
    v = np.linspace(-1.013, 1.987, 61)[None]
    op = ops.get("spike")
    found = op.jacobian("in", ("in",), [v], op.evaluate([v], options), options)
    np.testing.assert_allclose(found, [[paper(number) for number in v[0]]], atol=1e-12)
