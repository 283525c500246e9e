"""Do slices, selections, parts and pools move numbers and credit as their definition says, and mix where they do?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from checks import assert_like_oracle, error
from nets import declare

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.compiler.labels import label
from forwardgrad.graph import validate
from forwardgrad.testing.problem import Origin, Problem
from forwardgrad.verification import verify

RULES = ["rtrl", "eprop", "eprop-deep", "immediate", "eprop; autapses=implicit"]


def sent(weight: dict[str, Any], x: Any, **target: Any) -> Any:
    """What an edge of this weight makes of a vector, or of an array of its source's shape."""
    shape = {"shape": list(x.shape)} if x.ndim > 1 else {"size": x.size}
    graph = declare({"x": {"op": "input"} | shape, "y": {"op": "linear"} | target}, ("x", "y", weight))
    program = fg.compile(graph, loss={"y": "mse"})
    assert not program.network.parameters
    return program.run({}, {"x": x[None, None]})["y"][0, 0].reshape(program.network.nodes["y"].shape)


X, IMAGE = np.arange(1.0, 8.0), np.arange(1.0, 25.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("weight", "wanted"),
    [
        ({"weight": "slice"}, X),
        ({"weight": "slice", "start": 2}, X[2:]),
        ({"weight": "slice", "stop": -2}, X[:-2]),
        ({"weight": "slice", "start": -3, "stop": 100}, X[-3:]),
        ({"weight": "slice", "start": 1, "stop": 6, "step": 2}, X[1:6:2]),
        ({"weight": "take", "indices": [6, 0, 0]}, X[[6, 0, 0]]),
        ({"weight": "take", "indices": 3}, X[[3]]),
        ({"weight": "take", "indices": np.array([1, 2])}, X[[1, 2]]),
        ({"weight": "pool", "kernel": 2}, (X[:6:2] + X[1:6:2]) / 2),
        ({"weight": "pool", "kernel": 3, "stride": 2, "reduce": "sum"}, X[:5:2] + X[1:6:2] + X[2::2]),
        ({"weight": "pool", "kernel": 2, "padding": 1, "stride": 7}, [X[0] / 2, X[6] / 2]),
    ],
)
def test_values_are_those_of_numpy(weight: dict[str, Any], wanted: Any) -> None:
    """Slices are Python's, and padding counts in a mean."""
    assert np.array_equal(sent(weight, X), wanted)


def test_a_pool_goes_over_each_channel() -> None:
    """A channel of a mean of others is no pool."""
    found = sent({"weight": "pool", "kernel": [3, 2]}, IMAGE)
    assert np.allclose(found, IMAGE.reshape(2, 1, 3, 2, 2).mean(axis=(2, 4)), rtol=0, atol=1e-14)


def test_a_place_is_filled() -> None:
    """And the other units get nothing."""
    assert np.array_equal(sent({"weight": "place", "at": 2}, X, size=10), [0, 0, *X, 0])


def joined(**more: Any) -> nx.MultiDiGraph[str]:
    """Gates from one matrix, cut into two; the state is put beside the input and comes back."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "xh": {"op": "concat"},
            "g": {"op": "sigmoid", "size": 6, "bias": True},
            "a": {"op": "tanh"},
            "b": {"op": "linear"},
            "h": {"op": "mul", "size": 3},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "xh", {"port": "0"} | more),
        ("h", "xh", {"port": "1", "delay": 1}),
        ("xh", "g", {"weight": "dense"}),
        ("g", "a", {"weight": "slice", "stop": 3}),
        ("g", "b", {"weight": "take", "indices": [5, 3, 4]}),
        ("a", "h", {"port": "a"}),
        ("b", "h", {"port": "b"}),
        ("h", "y", {"weight": "dense"}),
    )
    graph.graph["loss"] = {"y": "mse"}
    return graph


def apart() -> nx.MultiDiGraph[str]:
    """The same network with a matrix for each part: rows of the two halves, columns of input and state."""
    return declare(
        {
            "x": {"op": "input", "size": 2},
            "ga": {"op": "sigmoid", "size": 3, "bias": True},
            "gb": {"op": "sigmoid", "size": 3, "bias": True},
            "a": {"op": "tanh"},
            "h": {"op": "mul"},
            "y": {"op": "linear", "size": 2},
        },
        *(("x", g, {"weight": "dense"}) for g in ("ga", "gb")),
        *(("h", g, {"weight": "dense", "delay": 1}) for g in ("ga", "gb")),
        ("ga", "a"),
        ("a", "h", {"port": "a"}),
        ("gb", "h", {"port": "b"}),
        ("h", "y", {"weight": "dense"}),
    )


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_those_of_the_oracle(rule: str) -> None:
    """In both backends, in blocks shorter than the sequence."""
    assert_like_oracle(Problem.tame(joined(), {"y": "mse"}, Origin(seed=1, steps=7)), rule, blocks=(1, 3))


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "immediate"])
def test_one_matrix_cut_into_parts_learns_as_its_parts(rule: str, backend: str) -> None:
    """Moving credit changes nothing of it: if slices mixed, e-prop would cut a gate from its state."""
    skip_without(backend)
    one = fg.compile(joined(), rule=rule, backend=backend)
    two = fg.compile(apart(), loss={"y": "mse"}, rule=rule)
    params, random = one.init(seed=3), np.random.default_rng(4)
    w, bias = params["xh->g"], random.normal(size=6)
    params["g.bias"], second = bias, [5, 3, 4]
    split = {
        **{"x->ga": w[:3, :2], "h->ga": w[:3, 2:], "x->gb": w[second, :2], "h->gb": w[second, 2:]},
        **{"ga.bias": bias[:3], "gb.bias": bias[second], "h->y": params["h->y"]},
    }
    data = {"x": random.normal(size=(8, 2, 2))}, {"y": random.normal(size=(8, 2, 2))}
    found, wanted = (p.gradient(given, *data, block=2).grads for p, given in ((one, params), (two, split)))
    assert np.abs(wanted["h->gb"]).max() > 1e-4
    assert np.allclose(found["xh->g"][:3], np.hstack([wanted["x->ga"], wanted["h->ga"]]), rtol=0, atol=1e-13)
    assert np.allclose(found["xh->g"][second], np.hstack([wanted["x->gb"], wanted["h->gb"]]), rtol=0, atol=1e-13)
    assert np.allclose(found["g.bias"], [*wanted["ga.bias"], *wanted["gb.bias"][[1, 2, 0]]], rtol=0, atol=1e-13)


def test_snap_counts_no_transition_where_units_only_move() -> None:
    """SnAp-1 keeps the gates of a unit, in whichever rows of one matrix they are; both forms keep the same."""
    test_one_matrix_cut_into_parts_learns_as_its_parts("snap(1)", "numpy")


def test_gradients_are_slopes_of_the_loss() -> None:
    """Finite differences know nothing of parts but the values."""
    problem = Problem.tame(joined(), {"y": "mse"}, Origin(seed=2, steps=5))
    wanted = oracle.finite_difference(**problem.arguments).grads
    found = fg.compile(problem.graph).gradient(problem.params, problem.inputs, problem.targets, block=2).grads
    assert np.abs(wanted["xh->g"]).max() > 1e-3
    assert error(found, wanted) < 1e-6


def test_selections_do_not_mix_and_pools_do() -> None:
    """What the rules see of them."""
    graph = joined()
    graph.add_node("p", op="linear")
    graph.add_edge("h", "p", weight="pool", kernel=3)
    graph.add_edge("p", "y", weight="dense")
    network = validate(graph)
    mixing = {name for name, edge in label(network, ("y",)).edges.items() if edge.mixing}
    assert mixing == {"xh->g", "h->y", "h->p", "p->y"}


def test_sizes_and_shapes_follow_from_parts_and_to_them() -> None:
    """Channels are put one behind the other where the axes behind them agree; a part gets what is left."""
    nodes = {
        "a": {"op": "input", "shape": [2, 5]},
        "b": {"op": "input", "shape": [1, 5]},
        "c": {"op": "concat"},
        "d": {"op": "concat", "size": 20},
        "e": {"op": "tanh", "bias": True},
        "y": {"op": "linear", "size": 1},
    }
    network = validate(
        declare(
            nodes,
            ("b", "c", {"port": "1"}),
            ("a", "c", {"port": "0"}),
            ("c", "d", {"port": "0"}),
            ("e", "d", {"port": "1"}),
            ("d", "y", {"weight": "dense"}),
        )
    )
    assert {name: node.shape for name, node in network.nodes.items() if name in "cde"} == {
        "c": (3, 5),
        "d": (20,),
        "e": (5,),
    }


def test_files_pictures_equations_and_the_check_know_them(tmp_path: Path) -> None:
    """A kind that works only in Python is half a kind."""
    declared = joined()
    for name in ("g.toml", "g.json"):
        fg.save(declared, tmp_path / name)
        assert validate(fg.load(tmp_path / name)).nodes["xh"].size == 5
    source = fg.render.graph(declared).source
    assert "slice 3×6" in source
    assert "concat" in source
    program = fg.compile(declared, rule="eprop")
    assert program.rules["xh->g"].equations
    assert verify(program).passed


def refused(weight: dict[str, Any], **target: Any) -> nx.MultiDiGraph[str]:
    return declare({"x": {"op": "input", "size": 5}, "h": {"op": "linear"} | target}, ("x", "h", weight))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (refused({"weight": "slice", "start": 5}), "the slice is empty; the source has 5 units"),
        (refused({"weight": "slice", "step": -1}), "attribute 'step' must be a whole number >= 1"),
        (
            refused({"weight": "slice", "stop": 3}, size=2),
            "node 'h' would have size 3, but node 'h' with 'size' makes it 2",
        ),
        (refused({"weight": "take"}), "needs to know which units"),
        (refused({"weight": "take", "indices": [0, 5]}), "'indices' has 5, and the source has 5 units"),
        (refused({"weight": "take", "indices": [-1]}), "attribute 'indices' must be"),
        (refused({"weight": "place", "at": 3}, size=7), "units 3 to 7 are filled, and the target has 7"),
        (refused({"weight": "place", "at": 3}), "its size cannot be inferred"),
        (refused({"weight": "place", "at": 0, "part": 0}), "Give one of the two"),
        (refused({"weight": "place", "part": 1}), "part 0 is missing; it has 1"),
        (refused({"weight": "pool"}), "needs the size of its windows"),
        (refused({"weight": "pool", "kernel": 6}), "does not fit into"),
        (refused({"weight": "pool", "kernel": 2, "reduce": "max"}), "'reduce' must be one of mean, sum"),
        (refused({"weight": "slice", "trainable": True}), "has no parameter, so 'trainable' has no meaning"),
        (refused({"weight": "slice", "init": "zeros"}), "has no parameter, so 'init' has no meaning"),
        (refused({"weight": "slice", "value": np.ones(5)}), "weight 'slice' has no value"),
        (refused({"indices": [0]}), "'indices' belongs to weight 'take', got no 'weight'"),
        (refused({}, op="concat"), "(?s)its ports '0', '1', ..., got none.*Give port='0'"),
        (refused({"port": "a"}, op="concat"), "got 'a'"),
        (refused({"port": "1"}, op="concat"), "part 0 is missing"),
        (refused({"port": "0", "weight": "dense"}, op="concat", size=3), "(?s)this edge has a weight.*Put a node"),
        (refused({"port": "0"}, op="concat", size=6), "of 1 parts"),
    ],
)
def test_what_does_not_fit_is_refused(graph: nx.MultiDiGraph[str], message: str) -> None:
    """In the user's words."""
    with pytest.raises(fg.GraphError, match=message):
        validate(graph)
