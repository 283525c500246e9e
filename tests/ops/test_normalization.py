"""Do layers that are normalised have the values and the full Jacobians of their papers?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from c_backend import skip_without
from checks import TOLERANCE, assert_like_oracle, error, jax_in_a_hurry
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import ops, oracle, testing
from forwardgrad.structure import Structure


def test_layer_norm_has_mean_0_and_deviation_1() -> None:
    """If this fails, units are scaled by something else than Ba et al. 2016, equation 4."""
    x = np.random.default_rng(0).normal(3.0, 5.0, (4, 7))
    y = ops.get("layer_norm").evaluate([x], {"epsilon": 1e-5})
    wanted = [[(unit - np.mean(row)) / np.sqrt(np.var(row) + 1e-5) for unit in row] for row in x]
    np.testing.assert_allclose(y, wanted, rtol=1e-12)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=1), 1, atol=1e-5)


def test_rms_norm_has_a_mean_square_of_1() -> None:
    """If this fails, units are scaled by something else than Zhang & Sennrich 2019, equation 4."""
    x = np.random.default_rng(0).normal(3.0, 5.0, (4, 7))
    y = ops.get("rms_norm").evaluate([x], {"epsilon": 0.5})
    wanted = [[unit / np.sqrt(sum(row * row) / 7 + 0.5) for unit in row] for row in x]
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


@pytest.mark.parametrize("epsilon", [1e-5, 0.7, np.array([0.1, 0.5, 2.0])])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_jacobians(name: str, epsilon: Any) -> None:
    """If this fails, the small number under the root is forgotten in the derivative, or one for each unit is."""
    testing.assert_op(name, options={"epsilon": epsilon})


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "snap(1)"])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_gradients(name: str, rule: str) -> None:
    """If this fails, credit between the units of a normalised layer is lost, or is not what the rule says."""
    nodes = {
        "x": {"op": "input", "size": 2},
        "a": {"op": "linear", "size": 4, "bias": True},
        "n": {"op": name, "epsilon": 0.1},
        "h": {"op": "tanh", "bias": True},
        "y": {"op": "linear", "size": 2},
    }
    edges = [("x", "a", {"weight": "dense"}), ("h", "a", {"weight": "dense", "delay": 1}), ("a", "n")]
    edges += [("n", "h", {"weight": "diagonal"}), ("h", "y", {"weight": "dense"})]
    given = problem(declare(nodes, *edges), "y", steps=6)
    if rule == "snap(1)":
        wanted = fg.compile(given.graph, loss=given.loss, rule=rule, backend="interpreter")
        found = fg.compile(given.graph, loss=given.loss, rule=rule)
        arguments = (given.params, given.inputs, given.targets)
        for parameter, gradient in wanted.gradient(*arguments, block=2).grads.items():
            np.testing.assert_allclose(found.gradient(*arguments, block=2).grads[parameter], gradient, atol=1e-12)
        return
    program = assert_like_oracle(given, rule, blocks=(1, 4))
    if rule == "rtrl":
        assert set(program.rules["h->a"].layouts.values()) == {Structure.FULL}
        alone: dict[str, Any] = {}
        exec(program.source(), alone)
        _, printed = alone["gradient"](given.params, given.inputs, given.targets, block=4)
        for parameter, gradient in program.gradient(given.params, given.inputs, given.targets, block=4).grads.items():
            np.testing.assert_allclose(printed[parameter], gradient, rtol=1e-12, atol=1e-14)
        differences = oracle.finite_difference(**given.arguments).grads
        for parameter, gradient in oracle.reverse(**given.arguments).grads.items():
            np.testing.assert_allclose(gradient, differences[parameter], atol=1e-6)


def test_a_small_number_that_is_none_is_refused() -> None:
    """If this fails, a layer of equal units ends in NaN."""
    graph = declare({"x": {"op": "input", "size": 2}, "n": {"op": "rms_norm", "epsilon": 0.0}}, ("x", "n"))
    with pytest.raises(fg.GraphError, match="node 'n': attribute 'epsilon' must be"):
        fg.compile(graph, loss={"n": "mse"})


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "rms_norm"])
def test_each_group_along_the_last_axis_is_a_layer_of_its_own(name: str) -> None:
    """If this fails, a shape means nothing to an op that is said to serve its last axis."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "a": {"op": "linear", "size": 12, "bias": True},
            "n": {"op": name, "size": 12, "shape": [2, 2, 3]},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "a", {"weight": "dense"}),
        ("n", "a", {"weight": "dense", "delay": 1}),
        ("a", "n"),
        ("n", "y", {"weight": "dense"}),
    )
    given = problem(graph, "y", steps=6)
    values = oracle.forward(given.graph, given.params, given.inputs)
    options = dict(fg.compile(graph, loss=given.loss).network.nodes["n"].options)
    assert options.pop("along") == 3
    rows = values["a"].reshape(-1, 3)
    np.testing.assert_allclose(values["n"].reshape(-1, 3), ops.get(name).evaluate([rows], options), rtol=1e-12)
    for rule in ("rtrl", "eprop"):
        assert_like_oracle(given, rule, blocks=(1, 4))
    wanted = oracle.finite_difference(graph, given.params, given.inputs, given.targets, given.loss).grads
    program = fg.compile(graph, loss=given.loss, rule="rtrl")
    found = program.gradient(given.params, given.inputs, given.targets, block=2).grads
    for parameter, gradient in wanted.items():
        np.testing.assert_allclose(found[parameter], gradient, rtol=1e-4, atol=1e-7)
    printed: dict[str, Any] = {}
    exec(program.source(), printed)
    _, alone = printed["gradient"](given.params, given.inputs, given.targets, block=2)
    for parameter, gradient in alone.items():
        np.testing.assert_allclose(found[parameter], gradient, rtol=0, atol=1e-12)


@pytest.fixture(autouse=True, scope="module")
def _compiled_in_a_hurry() -> Iterator[None]:
    """What is run once need not be fast."""
    yield from jax_in_a_hurry()


BACKENDS = ("interpreter", "numpy", "jax", "c")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_reads_the_same_formulas(backend: str) -> None:
    """If this fails, a backend sums over other units than those of a group, or has another Jacobian."""
    skip_without(backend)
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "a": {"op": "linear", "size": 6, "bias": True},
            "s": {"op": "softmax", "shape": [2, 3]},
            "c": {"op": "linear", "bias": True},
            "l": {"op": "layer_norm", "epsilon": np.linspace(0.1, 0.9, 6)},
            "r": {"op": "rms_norm", "shape": [3, 2], "epsilon": 0.2},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "a", {"weight": "dense"}),
        ("r", "a", {"weight": "dense", "delay": 1}),
        ("a", "s"),
        ("s", "c", {"weight": "dense"}),
        ("a", "l"),
        ("l", "c", {"weight": "diagonal"}),
        ("c", "r"),
        ("r", "y", {"weight": "dense"}),
    )
    given = problem(graph, "y", steps=4)
    program = fg.compile(graph, loss=given.loss, rule="rtrl", backend=backend)
    wanted = oracle.reverse(**given.arguments, rule="rtrl")
    found = program.gradient(given.params, given.inputs, given.targets, block=2)
    assert abs(found.loss - wanted.loss) <= TOLERANCE
    assert error(found.grads, wanted.grads) <= TOLERANCE


@pytest.mark.usefixtures("tables_as_before")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_formula_of_your_own_over_groups(backend: str) -> None:
    """If this fails, only the library can write ops that mix units for every backend."""
    skip_without(backend)
    size = "(1 + group.sum(np.abs(x)))"
    fg.register_op(
        "shared_gain",
        ops.Formula(f"g * x / {size} + group.max(g)"),
        ops.VJP(f"b * g / {size} - np.sign(x) * group.sum(b * g * x) / {size} ** 2", "x, y, b"),
        "full",
        options={"g": 1.0},
    )
    testing.assert_op("shared_gain", options={"g": np.array([0.5, 1.5, 2.0])})
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "h": {"op": "shared_gain", "size": 3, "bias": True, "g": np.array([0.5, 1.5, 2.0])},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "dense", "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )
    given = problem(graph, "y", steps=4)
    for dtype, bound in (("float64", TOLERANCE), ("float32", 1e-4)):
        program = fg.compile(graph, loss=given.loss, rule="rtrl", backend=backend, dtype=dtype)
        found = program.gradient(given.params, given.inputs, given.targets, block=2).grads
        assert error(found, oracle.reverse(**given.arguments, rule="rtrl").grads) <= bound


@pytest.mark.usefixtures("tables_as_before")
@pytest.mark.parametrize(
    ("value", "derivative", "said"),
    [
        ("x - group.median(x)", ops.VJP("b", "x, y, b"), "reads group.median, which a group has not"),
        ("x", ops.VJP("b", "x, b"), r"takes 2 arguments \(x, b\); expected 3(.|\n)*the adjoint"),
        ("x", ops.VJP("b + c", "x, y, b"), "reads 'c', which is not known"),
        ("x", ops.VJP("group - b", "x, y, group"), "an argument 'group'"),
    ],
)
def test_formulas_that_are_none_are_refused(value: str, derivative: Any, said: str) -> None:
    """If this fails, a misspelled product fails in the middle of a run."""
    with pytest.raises(fg.OpError, match=said):
        fg.register_op("wrong", ops.Formula(value), derivative, "full")


@pytest.mark.usefixtures("tables_as_before")
def test_a_full_derivative_that_is_a_function_is_told_how_to_be_written() -> None:
    """If this fails, who is refused learns nothing of `VJP`."""
    skip_without("jax")
    fg.register_op("mine", ops.Formula("1.0 * x"), lambda x, y: np.eye(x.shape[1])[None].repeat(len(x), 0), "full")
    graph = declare({"x": {"op": "input", "size": 2}, "h": {"op": "mine", "size": 2}}, ("x", "h", {"weight": "dense"}))
    program = fg.compile(graph, loss={"h": "mse"}, backend="jax")
    with pytest.raises(fg.RuleError, match=r"derivative of op 'mine' by port 'in'(.|\n)*ops\.VJP\('"):
        program.gradient(program.init(), {"x": np.ones((2, 1, 2))}, {"h": np.ones((2, 1, 2))})
