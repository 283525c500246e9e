"""Is the oracle right? By finite differences, by hand, and by literally listing the paths of small unrolled nets."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings

from forwardgrad import oracle
from forwardgrad.errors import DataError, GraphError, OpError, RuleError
from forwardgrad.ops import losses
from forwardgrad.rules.paths import EdgeView, NodeView, PathRule
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import problems
from tests.oracle.small_problems import NAMED, assert_same, declare, differ, problem


def layer(**recurrent: Any) -> nx.MultiDiGraph[str]:
    """A tanh layer with a recurrent edge and a linear readout."""
    return declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"delay": 1} | recurrent),
        ("h", "y", {"weight": "dense"}),
    )


# Against finite differences.


@settings(max_examples=30, deadline=None)
@given(problems(smooth=True, credit=False, max_batch=2))
def test_rtrl_is_the_gradient_that_finite_differences_find(drawn: Problem) -> None:
    """If this fails, the reference that everything else is held against is wrong."""
    exact = oracle.reverse(**drawn.arguments)
    assume(any(gradient.any() for gradient in exact.grads.values()))
    # A live gradient far below the loss drowns in the rounding of the differences.
    assume(max(np.abs(gradient).max() for gradient in exact.grads.values()) > 1e-3 * exact.loss)
    near, far = (oracle.finite_difference(**drawn.arguments, epsilon=epsilon) for epsilon in (1e-5, 2e-5))
    assert exact.loss == near.loss
    # Richardson: the error of order epsilon ** 2 falls out, which a net on the way to chaos needs.
    extrapolated = {name: (4 * near.grads[name] - far.grads[name]) / 3 for name in near.grads}
    assert_same(exact.grads, extrapolated, 1e-6)


@pytest.mark.parametrize("loss", losses.names())
def test_each_loss_against_finite_differences(loss: str) -> None:
    """If this fails, a loss and its gradient do not belong together, or labels are read wrongly."""
    given_ = problem(layer(weight="dense"), "h", "y", loss=loss)
    if losses.get(loss).labels:
        labels = {name: np.arange(12).reshape(6, 2) * 5 % target.shape[2] for name, target in given_.targets.items()}
        given_ = replace(given_, targets=labels)
    exact, near = oracle.reverse(**given_.arguments), oracle.finite_difference(**given_.arguments)
    assert all(gradient.any() for gradient in exact.grads.values())
    assert_same(exact.grads, near.grads, 1e-7)


# By hand.


def test_linear_recurrence_has_its_closed_form() -> None:
    """h(t) = a h(t-1) + w x(t) from h(-1) = i: h(t) = a^(t+1) i + w sum_k a^(t-k) x(k)."""
    a, w, i, steps = 0.8, 1.5, 0.3, 7
    x, y = np.random.default_rng(0).normal(size=(2, steps))
    graph = declare(
        {"x": {"op": "input", "size": 1}, "h": {"op": "linear", "initial": i}},
        ("x", "h", {"weight": "scalar"}),
        ("h", "h", {"weight": "scalar", "delay": 1}),
    )
    arguments: dict[str, Any] = {
        "graph": graph,
        "params": {"x->h": w, "h->h": a},
        "inputs": {"x": x[:, None, None]},
        "targets": {"h": y[:, None, None]},
        "loss": {"h": "mse"},
    }
    t = np.arange(steps)
    ago = np.maximum(0, t[:, None] - t)  # t - k
    kernel = np.where(t[:, None] >= t, a**ago, 0)
    slope = np.where(t[:, None] > t, ago * a ** np.maximum(0, ago - 1), 0)
    h = a ** (t + 1) * i + w * kernel @ x
    error = 2 * (h - y)

    exact = oracle.reverse(**arguments)
    np.testing.assert_allclose(exact.outputs["h"].ravel(), h)
    np.testing.assert_allclose(exact.loss, np.sum((h - y) ** 2))
    np.testing.assert_allclose(exact.grads["x->h"], error @ kernel @ x)
    np.testing.assert_allclose(exact.grads["h->h"], error @ ((t + 1) * a**t * i + w * slope @ x))
    now = oracle.reverse(**arguments, rule="immediate")
    np.testing.assert_allclose(now.grads["x->h"], error @ x)
    np.testing.assert_allclose(now.grads["h->h"], error @ np.concatenate([[i], h[:-1]]))


def test_a_long_delay_reads_the_initial_value_until_it_is_over() -> None:
    """If this fails, weights of delayed edges miss the part of their gradient that comes from before the start."""
    i, d = np.array([0.5, -1.0]), np.array([0.7, -0.9])
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "initial": i}},
        ("x", "h"),
        ("h", "h", {"weight": "diagonal", "delay": 3}),
    )
    x = np.random.default_rng(1).normal(size=(5, 1, 2))
    result = oracle.reverse(graph, {"h->h": d}, {"x": x}, {"h": 0 * x}, {"h": "mse"})
    x0, x1, x2, x3, x4 = x[:, 0]
    h = np.array([x0 + d * i, x1 + d * i, x2 + d * i, x3 + d * (x0 + d * i), x4 + d * (x1 + d * i)])
    slopes = np.array([i, i, i, x0 + 2 * d * i, x1 + 2 * d * i])
    np.testing.assert_allclose(result.outputs["h"][:, 0], h)
    np.testing.assert_allclose(result.grads["h->h"], np.sum(h * slopes, axis=0))  # 2 h / size * slope, size 2


def test_eprop_of_a_leaky_layer_is_the_published_recursion() -> None:
    """Bellec et al. 2020: a trace leaking by alpha, then a filter leaking by kappa, then the learning signal."""
    alpha, kappa = 0.8, 0.6
    graph = declare(
        {"x": {"op": "input", "size": 2}, "v": {"op": "linear", "size": 3}, "z": {"op": "tanh"}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"value": alpha, "delay": 1}),
        ("z", "v", {"weight": "dense", "delay": 1}),
        ("v", "z"),
        ("z", "y", {"weight": "dense"}),
        ("y", "y", {"value": kappa, "delay": 1}),
    )
    given_ = problem(graph, "y", steps=9, batch=1)
    values = {name: value[:, 0] for name, value in oracle.forward(graph, given_.params, given_.inputs).items()}
    expected = {name: np.zeros_like(given_.params[name]) for name in ("x->v", "z->v", "z->y")}
    for name, source, delay in (("x->v", "x", 0), ("z->v", "z", 1), ("z->y", "z", 0)):
        read = values[source] if not delay else np.vstack([np.zeros((1, 3)), values[source][:-1]])
        vector = np.zeros(read.shape[1])
        trace = np.zeros_like(given_.params[name])
        for t in range(9):
            error = values["y"][t] - given_.targets["y"][t, 0]  # 2 / size = 1
            if name == "z->y":
                trace = kappa * trace + read[t]
                expected[name] += np.outer(error, trace[0])
            else:
                vector = alpha * vector + read[t]
                trace = kappa * trace + np.outer(1 - values["z"][t] ** 2, vector)
                expected[name] += (given_.params["z->y"].T @ error)[:, None] * trace
    assert_same(oracle.reverse(**given_.arguments, rule="eprop").grads, expected)
    assert differ(oracle.reverse(**given_.arguments).grads, expected) == {"x->v", "z->v"}


def test_a_shared_parameter_gathers_the_gradients_of_its_places() -> None:
    """If this fails, a place where a shared weight stands is forgotten or counted twice."""
    graph = layer(weight="dense")
    graph.add_edge("h", "h", weight="dense", delay=2)
    apart = problem(graph, "y")
    apart.params["h->h#1"] = apart.params["h->h"]
    tied = graph.copy()
    for key in (0, 1):
        tied.edges["h", "h", key]["param"] = "w"
    one = {name: array for name, array in apart.params.items() if not name.startswith("h->h")}
    together = replace(apart, graph=tied, params=one | {"w": apart.params["h->h"]})
    for rule in NAMED:
        parts = oracle.reverse(**apart.arguments, rule=rule).grads
        whole = oracle.reverse(**together.arguments, rule=rule).grads
        assert parts["h->h#1"].any()
        np.testing.assert_allclose(whole["w"], parts["h->h"] + parts["h->h#1"], rtol=1e-12)


def test_masks_weight_steps_samples_and_nodes() -> None:
    """If this fails, a mask is applied at a wrong step or sample, or changes the divisor of the batch mean."""
    given_ = problem(layer(weight="dense"), "h", "y", steps=4, batch=3)
    random = np.random.default_rng(3)
    weights = {"h": random.random((4, 3)), "y": random.random((4, 3))}

    def with_mask(mask: Any) -> oracle.OracleResult:
        return oracle.reverse(**replace(given_, mask=mask).arguments, rule="eprop-deep")

    expected = defaultdict(float)
    total = 0.0
    for name, t, b in itertools.product(("h", "y"), range(4), range(3)):
        one = {node: np.zeros((4, 1)) for node in ("h", "y")}
        one[name][t] = weights[name][t, b] / 3  # one sample alone, then divided by the size of the batch
        part = oracle.reverse(
            given_.graph,
            given_.params,
            {node: array[:, [b]] for node, array in given_.inputs.items()},
            {node: array[:, [b]] for node, array in given_.targets.items()},
            given_.loss,
            "eprop-deep",
            one,
        )
        total += part.loss
        for parameter, gradient in part.grads.items():
            expected[parameter] = expected[parameter] + gradient
    found = with_mask(weights)
    np.testing.assert_allclose(found.loss, total)
    assert_same(found.grads, expected)

    same = np.array([0.0, 1.0, 0.5, 2.0])
    assert_same(with_mask(same).grads, with_mask({"h": np.tile(same[:, None], 3), "y": same}).grads)
    assert_same(with_mask({"h": same}).grads, with_mask({"h": same, "y": np.ones(4)}).grads)
    assert differ(with_mask(same).grads, with_mask({"h": same}).grads)


# Rules.


def test_credit_cut_cuts_under_every_rule_and_keep_keeps_under_every_rule() -> None:
    """If this fails, the graph cannot overrule a rule; and a cut must leave the edge its own gradient."""
    plain, cut_, keep = (problem(layer(weight="dense", credit=credit), "y") for credit in (None, "cut", "keep"))
    by_rule = oracle.reverse(**plain.arguments, rule="cut(['h->h'])").grads
    by_graph = oracle.reverse(**cut_.arguments).grads
    assert_same(by_graph, by_rule)
    assert by_graph["h->h"].any()
    exact = oracle.reverse(**plain.arguments).grads
    assert differ(by_graph, exact) == {"x->h", "h->h"}
    for rule in ("immediate", "eprop-deep", "cut(['h->h'])", "immediate & eprop-deep"):
        assert_same(oracle.reverse(**keep.arguments, rule=rule).grads, exact)
    assert_same(oracle.reverse(**cut_.arguments, rule="immediate & eprop-deep").grads, by_graph)


@pytest.mark.parametrize("rule", ["eprop", "eprop-deep", "immediate"])
def test_rules_differ_from_rtrl_on_a_mixing_layer(rule: str) -> None:
    """If this fails, equalities between rules say nothing, since the nets in use carry no credit through time."""
    mixing = problem(layer(weight="dense"), "y")
    exact = oracle.reverse(**mixing.arguments).grads
    assert differ(oracle.reverse(**mixing.arguments, rule=rule).grads, exact) == {"x->h", "h->h"}


def test_rules_agree_with_rtrl_where_units_are_independent() -> None:
    """A diagonal recurrence is implicit: e-prop drops nothing."""
    independent = problem(layer(weight="diagonal"), "y")
    exact = oracle.reverse(**independent.arguments).grads
    for rule in ("eprop", "eprop-deep", "local"):
        assert_same(oracle.reverse(**independent.arguments, rule=rule).grads, exact)
    assert differ(oracle.reverse(**independent.arguments, rule="immediate").grads, exact)


@pytest.mark.parametrize("rule", NAMED)
@pytest.mark.parametrize("recurrent", [{"weight": "dense"}, {"weight": "diagonal"}, {"value": 0.9 * np.eye(3)}])
def test_relays_after_a_delay_declare_the_same_network(rule: str, recurrent: dict[str, Any]) -> None:
    """If this fails, labels depend on how a delay is spelled."""
    direct = problem(layer(**recurrent), "y")
    graph = layer(**recurrent)
    graph.remove_edge("h", "h")
    graph.add_node("one", op="linear")
    graph.add_node("two", op="linear")
    graph.add_edge("h", "one", delay=1)
    graph.add_edge("one", "two")
    graph.add_edge("two", "h", **recurrent | ({} if "value" in recurrent else {"param": "h->h"}))
    relayed = replace(direct, graph=graph)
    assert_same(
        oracle.reverse(**relayed.arguments, rule=rule).grads, oracle.reverse(**direct.arguments, rule=rule).grads
    )


def test_each_parameter_travels_by_the_first_rule_that_matches_it() -> None:
    """If this fails, rules given by pattern leak into each other."""
    given_ = problem(layer(weight="dense"), "h", "y")
    apart = {rule: oracle.reverse(**given_.arguments, rule=rule).grads for rule in ("rtrl", "immediate")}
    mixed = oracle.reverse(**given_.arguments, rule={"h->h": "rtrl", "h->*": "rtrl", "*": "immediate"}).grads
    expected = {name: apart["immediate" if name == "x->h" else "rtrl"][name] for name in mixed}
    assert_same(mixed, expected)
    assert differ(mixed, apart["rtrl"]) == {"x->h"}
    with pytest.raises(RuleError, match="'x->h' matches no pattern"):
        oracle.reverse(**given_.arguments, rule={"h*": "rtrl"})
    with pytest.raises(RuleError, match="no edge 'h->x'"):
        oracle.reverse(**given_.arguments, rule="cut(['h->x'])")


class Counting(PathRule):
    """Counts edges without end, and cuts once it has counted enough."""

    def __init__(self, most: float) -> None:
        self.most = most

    def start(self, node: NodeView) -> int:
        return 0

    def step(self, mode: Any, edge: EdgeView, target: NodeView) -> int | None:
        return mode + 1 if mode < self.most else None


def test_an_automaton_may_have_any_number_of_modes() -> None:
    """If this fails, the oracle needs a finite table of modes before it starts."""
    given_ = problem(layer(weight="dense"), "y")
    assert_same(
        oracle.reverse(**given_.arguments, rule=Counting(np.inf)).grads, oracle.reverse(**given_.arguments).grads
    )
    one_edge = oracle.reverse(**given_.arguments, rule=Counting(1)).grads
    assert_same(one_edge, oracle.reverse(**given_.arguments, rule="immediate").grads)


def test_nothing_passes_a_stop_and_frozen_weights_have_no_gradient() -> None:
    """If this fails, an op of structure `zero` leaks credit, or a frozen parameter is trained."""
    graph = layer(weight="dense", trainable=False)
    graph.add_node("s", op="stop")
    graph.remove_edge("h", "y")
    graph.add_edge("h", "s", weight="diagonal")
    graph.add_edge("s", "y", weight="dense")
    result = oracle.reverse(**problem(graph, "y").arguments)
    assert result.grads.keys() == {"x->h", "h->s", "s->y"}
    assert not result.grads["x->h"].any()
    assert not result.grads["h->s"].any()
    assert result.grads["s->y"].any()


# Arguments.


def test_ops_without_a_true_derivative_are_refused_by_finite_differences() -> None:
    """If this fails, a surrogate is held against differences that say nothing about it."""
    graph = layer(weight="dense")
    graph.nodes["h"].update(op="spike", threshold=0.1)
    given_ = problem(graph, "y")
    assert oracle.reverse(**given_.arguments).grads["x->h"].any()
    with pytest.raises(OpError, match=r"node 'h': .*'spike'"):
        oracle.finite_difference(**given_.arguments)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"params": {}}, DataError, "params: 'x->h' is missing"),
        ({"params": {"x->h": 0, "h->h": 0, "h->y": 0, "h->z": 0}}, DataError, "params: unknown name 'h->z'"),
        ({"params": {"x->h": 0, "h->h": 0, "h->y": 0}}, DataError, r"parameter 'x->h': needs shape \(3, 2\), got \(\)"),
        ({"inputs": {}}, DataError, "inputs: 'x' is missing"),
        ({"inputs": np.zeros((6, 2, 2))}, DataError, "inputs: needs a mapping"),
        ({"inputs": {"x": np.zeros((6, 2))}}, DataError, "input 'x': needs shape"),
        ({"inputs": {"x": np.zeros((6, 2, 3))}}, DataError, "input 'x': needs shape"),
        ({"inputs": {"x": np.zeros((0, 2, 2))}}, DataError, "each at least 1"),
        ({"inputs": {"x": [[[1.0]], [1.0]]}}, DataError, "unequal lengths"),
        ({"inputs": {"x": np.full((6, 2, 2), "a")}}, DataError, "expected numbers, got dtype <U1"),
        ({"inputs": {"x": np.full((6, 2, 2), np.nan)}}, DataError, "NaN or infinite"),
        ({"targets": {"h": np.zeros((6, 2, 3))}}, DataError, "targets: unknown name 'h'"),
        ({"targets": {"y": np.zeros((5, 2, 2))}}, DataError, "target 'y': needs shape"),
        ({"loss": {"y": "cross_entropy"}}, DataError, "target 'y': needs shape"),
        ({"loss": {"y": "cross_entropy"}, "targets": {"y": np.full((6, 2), 2)}}, DataError, "from 0 to 1"),
        ({"loss": {"q": "mse"}}, GraphError, "loss: the graph has no node 'q'"),
        ({"loss": {}}, GraphError, "needs at least one node"),
        ({"loss": {"y": "mes"}}, OpError, "unknown loss 'mes'"),
        ({"mask": np.ones(5)}, DataError, "mask of 'y': needs shape"),
        ({"mask": {"h": np.ones(6)}}, DataError, "mask: node 'h' has no loss"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    """If this fails, a slip in the arguments ends in an error of NumPy's, or in a number."""
    arguments = problem(layer(weight="dense"), "y").arguments | changed
    with pytest.raises(error, match=message):
        oracle.reverse(**arguments)
    with pytest.raises(error, match=message):
        oracle.finite_difference(**arguments)


def test_a_graph_without_inputs_and_a_useless_epsilon_are_refused() -> None:
    """If this fails, the number of steps is guessed, or differences are divided by zero."""
    alone = declare({"h": {"op": "linear", "size": 1, "bias": True}})
    with pytest.raises(DataError, match="no input node"):
        oracle.forward(alone, {"h.bias": [0.0]}, {})
    with pytest.raises(DataError, match="epsilon must be greater than 0"):
        oracle.finite_difference(**problem(layer(weight="dense"), "y").arguments, epsilon=0.0)
