"""Legal graphs: what validation fills in, and how parameters are drawn at first."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

from forwardgrad import oracle
from forwardgrad.errors import DataError, GraphError
from forwardgrad.graph import draw, validate
from forwardgrad.ops import Op, Port, registry
from tests.graph.small_graphs import H, X, declare, edge, tie

# Legal graphs.


def test_sizes_travel_along_edges_that_keep_them() -> None:
    """If this fails, users must write sizes that the graph already fixes."""
    linear = {"op": "linear"}
    graph = declare(
        {"x": X, "a": linear, "b": linear, "c": linear, "d": linear, "e": linear, "f": linear, "g": linear},
        [
            ("x", "a", {"weight": "dense"}),
            ("b", "a", {}),  # against the edge
            ("b", "b", {"weight": "diagonal", "init": np.full(4, 0.5), "delay": 1}),
            ("a", "c", {"value": np.ones((5, 4))}),
            ("c", "d", {"weight": "sparse", "mask": np.ones((6, 5))}),
            ("d", "e", {"weight": "dense", "init": np.ones((7, 6))}),
            ("e", "f", {"value": 2.0}),
            ("a", "g", {"weight": "dense", "param": "p"}),
            ("x", "g", {"weight": "dense", "init": np.ones((2, 3))}),
        ],
    )
    assert {name: node.size for name, node in validate(graph).nodes.items()} == {
        "x": 3,
        "a": 4,
        "b": 4,
        "c": 5,
        "d": 6,
        "e": 7,
        "f": 7,
        "g": 2,
    }


@pytest.mark.parametrize("key", ["bias", "initial", "threshold", "dampening"])
def test_size_is_read_off_an_array_of_the_node(key: str) -> None:
    """If this fails, an array that fixes the size does not."""
    graph = declare({"x": X, "h": {"op": "spike", key: [0.5, 1.0]}}, [("x", "h", {"weight": "dense"})])
    assert validate(graph).nodes["h"].size == 2


def test_size_travels_between_edges_that_share_a_parameter() -> None:
    """If this fails, a stack with tied weights needs its sizes twice."""
    h = {"op": "tanh"}
    graph = declare(
        {"x": X, "a": {**h, "size": 3}, "b": h},
        [("x", "a", {"weight": "dense", "param": "p"}), ("a", "b", {"weight": "dense", "param": "p"})],
    )
    network = validate(graph)
    assert network.nodes["b"].size == 3
    assert network.parameters["p"].edges == ("x->a", "a->b")
    assert network.parameters["p"].shape == (3, 3)


def test_default_names_of_parameters() -> None:
    """If this fails, saved parameters are found under other names than documented."""
    graph = declare(
        {"x": X, "h": {**H, "bias": True}},
        [
            ("x", "h", {"weight": "dense"}),
            ("h", "h", {"weight": "dense", "delay": 1}),
            ("h", "h", {"weight": "diagonal", "delay": 2}),
            ("h", "h", {"weight": "scalar", "delay": 3, "key": "slow"}),
            ("h", "h", {"value": -1.0, "delay": 1, "key": "reset"}),
        ],
    )
    network = validate(graph)
    shapes = {name: parameter.shape for name, parameter in network.parameters.items()}
    assert shapes == {"x->h": (8, 3), "h->h": (8, 8), "h->h#1": (8,), "h->h#slow": (), "h.bias": (8,)}
    assert network.edges["h->h#reset"].param is None
    assert network.history("h") == 3
    assert network.inputs == ("x",)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(2.0, "scalar"), (np.float32(2), "scalar"), (np.ones(3), "diagonal"), (np.ones((2, 3)), "dense")],
)
def test_kind_is_read_off_the_shape_of_a_value(value: Any, kind: str) -> None:
    """If this fails, a fixed weight acts as another kind than its shape says."""
    network = validate(declare({"x": X, "h": {"op": "linear"}}, [("x", "h", {"value": value})]))
    (found,) = network.edges.values()
    assert found.kind == kind
    assert found.value is not None
    assert not found.value.flags.writeable
    assert found.value.shape == np.shape(value)
    assert not network.parameters


def test_trainability() -> None:
    """If this fails, a frozen weight is trained or a trainable one is not."""
    graph = declare(
        {
            "x": X,
            "h": {"op": "tanh", "size": 3, "bias": 0.5, "bias_trainable": False},
            "y": {"op": "linear", "bias": True},
        },
        [("x", "h", {"weight": "dense", "trainable": False}), ("h", "y", {"trainable": False}), ("x", "y", {})],
    )
    network = validate(graph)
    assert list(network.parameters) == ["x->h", "h.bias", "y.bias"]
    assert network.trainable == ("y.bias",)
    assert draw(network.parameters["h.bias"], 0).tolist() == [0.5] * 3


def test_pattern_is_row_major_and_fixed_by_its_seed() -> None:
    """If this fails, saved sparse weights land on other entries."""
    mask = np.array([[0, 1, 1], [1, 0, 0]])
    network = validate(declare({"x": X, "h": {"op": "linear"}}, [("x", "h", {"weight": "sparse", "mask": mask})]))
    pattern = network.parameters["x->h"].pattern
    assert pattern is not None
    assert list(zip(pattern.rows, pattern.columns, strict=True)) == [(0, 1), (0, 2), (1, 0)]
    assert network.parameters["x->h"].fan == (1.5, 1.0)

    def drawn(seed: int) -> Any:
        return validate(edge(weight="sparse", density=0.5, pattern_seed=seed)).parameters["x->h"].pattern

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_ports_of_a_product_and_of_a_bias() -> None:
    """If this fails, a product multiplies other things than declared."""
    graph = declare(
        {"x": X, "m": {"op": "mul", "bias": True, "bias_port": "gain"}},
        [("x", "m", {"port": "a"}), ("x", "m", {"port": "b", "delay": 1}), ("x", "m", {"port": "a", "delay": 2})],
    )
    node = validate(graph).nodes["m"]
    assert node.ports == ("a", "b", "gain")
    assert node.bias == "m.bias"
    assert node.bias_port == "gain"


@pytest.mark.parametrize("port", ["in", "b", "gain"])
def test_a_named_bias_port_is_a_port_of_a_product_whatever_its_name(port: str) -> None:
    """If this fails, the name of the default port is refused where any other name would do."""
    graph = declare({"x": X, "m": {"op": "mul", "bias": 2.0, "bias_port": port}}, [("x", "m", {"port": "a"})])
    node = validate(graph).nodes["m"]
    assert (node.ports, node.bias_port) == (("a", port), port)
    doubled = oracle.forward(graph, {"m.bias": np.full(node.size, 2.0)}, {"x": np.ones((1, 1, node.size))})["m"]
    assert np.array_equal(doubled, np.full((1, 1, node.size), 2.0))


def test_a_bias_without_a_port_needs_one_called_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a bias is added where nobody said, or the error blames a name that nobody wrote."""
    monkeypatch.setitem(registry._table, "half", Op("half", lambda u: u / 2, (Port("u", lambda u, y: 0.5 + 0 * u),)))
    half = {"op": "half", "bias": True}
    with pytest.raises(GraphError, match="op 'half' has no port 'in' for the bias") as refused:
        validate(declare({"x": X, "h": half}, [("x", "h", {"port": "u"})]))
    assert "Name a 'bias_port': u." in str(refused.value)
    assert validate(declare({"x": X, "h": half | {"bias_port": "u"}}, [("x", "h", {"port": "u"})])).nodes["h"].bias
    product = declare({"x": X, "m": {"op": "mul", "bias": True}}, [("x", "m", {}), ("x", "m", {"port": "b"})])
    assert validate(product).nodes["m"].bias_port == "in"


def test_order_follows_edges_without_delay() -> None:
    """If this fails, a node is computed before what it reads."""
    linear = {"op": "linear"}
    graph = declare(
        {"c": linear, "b": linear, "a": linear, "x": X},
        [("x", "a", {}), ("a", "b", {}), ("b", "c", {}), ("c", "a", {"delay": 1})],
    )
    network = validate(graph)
    assert network.order == ("x", "a", "b", "c")
    assert tuple(network.nodes) == ("c", "b", "a", "x")


def test_a_digraph_is_read_and_nothing_is_changed() -> None:
    """If this fails, validation edits the user's graph."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("x", op="input", size=3, label="input", color="red")
    graph.add_node("h", op="linear", bias=None)
    graph.add_edge("x", "h", delay=None, style="dashed")
    before = (dict(graph.nodes(data=True)), list(graph.edges(data=True)))
    assert list(validate(graph).edges) == ["x->h"]  # pyright: ignore[reportArgumentType]
    assert (dict(graph.nodes(data=True)), list(graph.edges(data=True))) == before


def drawn(init: Any, shape: tuple[int, int] = (200, 300), kind: str = "dense", seed: int = 0) -> np.ndarray[Any, Any]:
    sizes = {"x": {"op": "input", "size": shape[1]}, "h": {"op": "tanh", "size": shape[0]}}
    return draw(validate(declare(sizes, [("x", "h", {"weight": kind, "init": init})])).parameters["x->h"], seed)


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("glorot", 2 / 500),
        ("he", 2 / 300),
        ("lecun", 1 / 300),
        ("normal", 0.01),
        ("normal(0.5)", 0.25),
        ("uniform", 0.01 / 3),
        ("uniform(-3, 3)", 3.0),
        (" normal ( 0.5 ) ", 0.25),
        (None, 2 / 500),
    ],
)
def test_random_inits_have_the_variance_they_name(init: Any, variance: float) -> None:
    """If this fails, networks start with weights of another scale than declared."""
    w = drawn(init)
    assert w.shape == (200, 300)
    assert abs(w.mean()) < 0.02 * np.sqrt(variance)
    assert w.var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (20, 20), (1, 1)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, int]) -> None:
    """If this fails, 'orthogonal' changes lengths."""
    w = drawn("orthogonal(0.5)", shape)
    small = w @ w.T if shape[0] <= shape[1] else w.T @ w
    assert np.allclose(small, 0.25 * np.eye(min(shape)), atol=1e-12)


def test_plain_inits() -> None:
    """If this fails, weights do not start where the graph says."""
    assert np.array_equal(drawn("identity", (3, 4)), np.eye(3, 4))
    assert np.array_equal(drawn("ones", (2, 2)), np.ones((2, 2)))
    assert np.array_equal(drawn("zeros", (2, 2)), np.zeros((2, 2)))
    assert np.array_equal(drawn(0.25, (2, 2)), np.full((2, 2), 0.25))
    assert np.array_equal(drawn([[1, 2], [3, 4]], (2, 2)), [[1.0, 2.0], [3.0, 4.0]])
    assert drawn(None, (4, 4), "diagonal").shape == (4,)
    assert 0.1 <= drawn(None, (4, 4), "scalar") <= 0.9


def test_each_parameter_is_drawn_from_a_stream_of_its_own() -> None:
    """If this fails, adding an edge to a graph changes how all others start."""
    assert np.array_equal(drawn("normal", (4, 4)), drawn("normal", (4, 4)))
    assert not np.array_equal(drawn("normal", (4, 4)), drawn("normal", (4, 4), seed=1))
    both = validate(
        declare({"x": X, "h": H, "g": H}, [("x", "h", {"weight": "dense"}), ("x", "g", {"weight": "dense"})])
    ).parameters
    assert not np.array_equal(draw(both["x->h"], 0), draw(both["x->g"], 0))
    assert np.array_equal(draw(both["x->h"], 0), draw(validate(edge(weight="dense")).parameters["x->h"], 0))


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
def test_seed_must_be_a_whole_number(seed: Any) -> None:
    """If this fails, a wrong seed ends in an error of NumPy."""
    with pytest.raises(DataError, match="a seed must be a whole number >= 0"):
        draw(validate(edge(weight="dense")).parameters["x->h"], seed)


@pytest.mark.parametrize(
    ("one", "other"), [(0.5, np.float64(0.5)), (1, 1.0), (np.ones((3, 3)), np.ones((3, 3)).tolist())]
)
def test_edges_that_share_a_parameter_may_repeat_its_init(one: Any, other: Any) -> None:
    """If this fails, equal starts are refused because their types differ."""
    validate(tie({"weight": "dense", "init": one}, {"weight": "dense", "init": other}))
