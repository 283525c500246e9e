"""Is every malformed graph refused in words that help, and is a legal one read as the schema says?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardgrad.errors import ForwardgradError, GraphError
from forwardgrad.graph import draw, validate
from forwardgrad.graph.schema import EDGE, INITS, NODE
from forwardgrad.support.attributes import MOST
from tests.graph.small_graphs import H, X, declare, edge, node, tie

EDGE_XH = "edge 'x' -> 'h' (key 0): "

# What is wrong: the graph, and the words its error must have.
MALFORMED: dict[str, tuple[Any, list[str]]] = {
    # The graph as a whole.
    "not a graph": ({"x": X}, ["networkx.MultiDiGraph, got dict", "forwardgrad.load"]),
    "not directed": (nx.MultiGraph([("a", "b")]), ["networkx.MultiDiGraph, got MultiGraph"]),
    "empty": (nx.MultiDiGraph(), ["has no nodes", "add_node"]),
    "name not a string": (declare({3: X}), ["node 3: names of nodes are non-empty strings", "Did you mean '3'?"]),
    "empty name": (declare({"": X}), ["names of nodes are non-empty strings"]),
    "key": (edge(key=(1, 2)), ["edge 'x' -> 'h' (key (1, 2)): the key of an edge is a whole number or a string"]),
    "truth as key": (edge(key=True), ["(key True): the key of an edge"]),
    "edges of one name": (
        declare(
            {"a": X, "b": X, "a->b": {"op": "linear"}},
            [("a", "a->b", {}), ("a", "a->b", {"key": "0"}), ("a", "a->b", {"key": "1"}), ("a", "a->b", {"key": 1})],
        ),
        ["edge 'a' -> 'a->b' (key '1') and edge 'a' -> 'a->b' (key 1) have one name, 'a->a->b#1'"],
    ),
    "cycle without delay": (
        declare({"x": X, "a": {"op": "tanh"}, "b": {"op": "tanh"}}, [("x", "a", {}), ("a", "b", {}), ("b", "a", {})]),
        ["cycle without delay: 'a' -> 'b' -> 'a'.", "delay=1"],
    ),
    "loop without delay": (
        declare({"x": X, "h": {"op": "tanh"}}, [("x", "h", {}), ("h", "h", {"delay": 0})]),
        ["cycle without delay: 'h' -> 'h'."],
    ),
    # Nodes.
    "no op": (declare({"x": X, "h": {}}, [("x", "h", {})]), ["node 'h': has no 'op'", "add_node"]),
    "node made by an edge": (declare({"x": X}, [("x", "hh", {})]), ["node 'hh': has no 'op'"]),
    "unknown op": (node(op="tahn"), ["node 'h': unknown op 'tahn'.", "Did you mean 'tanh'?"]),
    "op not a word": (node(op=["tanh"]), ["node 'h': unknown op ['tanh']"]),
    "unknown node attribute": (node(sise=3), ["node 'h': unknown attribute 'sise'.", "Did you mean 'size'?"]),
    "option of another op": (node(threshold=1.0), ["node 'h': unknown attribute 'threshold'"]),
    "size zero": (node(size=0), ["node 'h': attribute 'size' must be a whole number >= 1, got 0."]),
    "size of units and a half": (node(size=2.5), ["node 'h': attribute 'size' must be a whole number >= 1, got 2.5."]),
    "size a truth": (node(size=True), ["node 'h': attribute 'size' must be a whole number"]),
    "size beyond machines": (node(size=10**12), ["node 'h': attribute 'size'", f"<= {MOST}, got 1000000000000"]),
    "size too long to print": (node(size=1 << 40000), ["node 'h': attribute 'size'", "thousands of digits"]),
    "bias a word": (node(bias="yes"), ["node 'h': attribute 'bias' must be True, False, a finite number or an array"]),
    "bias nan": (node(bias=float("nan")), ["node 'h': attribute 'bias'", "finite", "nan"]),
    "bias of another size": (
        node(bias=[1.0, 2.0]),
        ["'bias' of shape (2,)", "node 'h' would have size 2", "makes it 8"],
    ),
    "bias matrix": (node(bias=[[1.0]]), ["node 'h': 'bias' must be a number or of shape (8,), got (1, 1)."]),
    "bias port unknown": (
        node(bias=True, bias_port="inn"),
        ["node 'h': op 'tanh' has no port 'inn' for the bias.", "Did you mean 'in'?"],
    ),
    "bias port without bias": (node(bias_port="in"), ["node 'h': 'bias_port' is given without a bias.", "bias=True"]),
    "bias_trainable without bias": (
        node(bias_trainable=False),
        ["node 'h': 'bias_trainable' is given without a bias."],
    ),
    "bias_trainable a number": (
        node(bias=True, bias_trainable=1),
        ["attribute 'bias_trainable' must be True or False"],
    ),
    "initial masked": (
        node(initial=np.ma.array([1.0, 2.0], mask=[0, 1])),
        ["node 'h': attribute 'initial' must be a finite number or an array"],
    ),
    "initial a word": (node(initial="zero"), ["node 'h': attribute 'initial' must be a finite number or an array"]),
    "initial of another size": (node(initial=np.ones(4)), ["'initial' of shape (4,)", "node 'h' would have size 4"]),
    "initial matrix": (node(initial=np.ones((8, 1))), ["node 'h': 'initial'", "of shape (8,), got (8, 1)."]),
    "layer a number": (node(layer=1), ["node 'h': attribute 'layer' must be a word, got 1."]),
    "surrogate": (
        node(op="spike", surrogate="triangel"),
        ["node 'h': attribute 'surrogate' must be one of triangle, boxcar", "'triangel'"],
    ),
    "dampening": (node(op="spike", dampening=0.0), ["node 'h': attribute 'dampening' must be a number greater than 0"]),
    "threshold of another size": (node(op="spike", threshold=[1.0, 2.0]), ["'threshold' of shape (2,)", "node 'h'"]),
    "threshold matrix": (node(op="spike", threshold=[[1.0]]), ["node 'h': 'threshold'", "(8,), got (1, 1)"]),
    "input without size": (declare({"x": {"op": "input"}}), ["node 'x': its size cannot be inferred.", "'size'"]),
    "size behind dense": (
        declare({"x": X, "h": {"op": "tanh"}}, [("x", "h", {"weight": "dense"})]),
        ["node 'h': its size cannot be inferred.", "Give it 'size'"],
    ),
    "nothing comes in": (declare({"x": X, "h": H}), ["node 'h': has no in-edge and no bias.", "bias=True"]),
    "edge into an input": (
        declare({"x": X, "z": X}, [("x", "z", {})]),
        ["node 'z': an input takes neither edges nor a bias.", "edge 'x' -> 'z' (key 0)"],
    ),
    "bias on an input": (declare({"x": {**X, "bias": True}}), ["node 'x': an input takes", "It has a bias."]),
    "unknown port": (
        edge(weight="dense", port="inn"),
        [EDGE_XH + "op 'tanh' of 'h' has no port 'inn'.", "Did you mean 'in'?"],
    ),
    "one port of a product": (
        declare({"x": X, "m": {"op": "mul"}}, [("x", "m", {"port": "a"})]),
        ["node 'm': op 'mul' needs at least 2 ports, got 'a'.", "'port'"],
    ),
    "bias of a product": (
        declare({"x": X, "m": {"op": "mul", "bias": True}}, [("x", "m", {"port": "a"}), ("x", "m", {"port": "b"})]),
        ["node 'm': op 'mul' has no port 'in' for the bias.", "'bias_port': a, b"],
    ),
    "a bias port that an op lacks, and none is named": (
        declare({"x": X, "h": {"op": "tanh", "bias": True, "bias_port": "gain"}}, [("x", "h", {})]),
        ["node 'h': op 'tanh' has no port 'gain' for the bias.", "Known: in."],
    ),
    "only a bias in a product": (
        declare({"m": {"op": "mul", "size": 2, "bias": True}}),
        ["node 'm'", "at least 2 ports"],
    ),
    # Edges, one attribute at a time.
    "unknown edge attribute": (
        edge(wieght="dense"),
        [EDGE_XH + "unknown attribute 'wieght'.", "Did you mean 'weight'?"],
    ),
    "weight": (edge(weight="full"), [EDGE_XH + "attribute 'weight' must be one of identity, scalar", "got 'full'"]),
    "delay below zero": (edge(weight="dense", delay=-1), [EDGE_XH + "attribute 'delay'", ">= 0, got -1"]),
    "delay a fraction": (edge(weight="dense", delay=1.0), [EDGE_XH + "attribute 'delay'", "got 1.0"]),
    "delay beyond machines": (edge(weight="dense", delay=10**30), [EDGE_XH + "attribute 'delay'", f"<= {MOST}"]),
    "port a number": (edge(weight="dense", port=0), [EDGE_XH + "attribute 'port' must be a word"]),
    "trainable a word": (
        edge(weight="dense", trainable="no"),
        [EDGE_XH + "attribute 'trainable' must be True or False"],
    ),
    "init a stranger": (edge(weight="dense", init="xavier"), [EDGE_XH + "attribute 'init'", "glorot", "'xavier'"]),
    "init unreadable": (
        edge(weight="dense", init="normal(a)"),
        [EDGE_XH, "'normal(a)' is not readable", "normal(0.1)"],
    ),
    "init code": (edge(weight="dense", init="normal(__import__('os'))"), [EDGE_XH, "is not readable"]),
    "init unclosed": (edge(weight="dense", init="normal(0.1"), [EDGE_XH, "is not readable"]),
    "init with a tail": (edge(weight="dense", init="normal(0.1) twice"), [EDGE_XH, "is not readable"]),
    "init nested": (edge(weight="dense", init="normal" + "(" * 9999), [EDGE_XH, "is not readable"]),
    "init infinite": (edge(weight="dense", init="normal(inf)"), [EDGE_XH, "'normal(inf)' is not readable"]),
    "init half": (edge(weight="dense", init="uniform(1)"), [EDGE_XH, "has 1 arguments, and 'uniform' takes 2"]),
    "init too much": (edge(weight="dense", init="glorot(2)"), [EDGE_XH, "has 1 arguments, and 'glorot' takes 0"]),
    "init deviation": (
        edge(weight="dense", init="normal(-1)"),
        [EDGE_XH, "deviation of 'normal' must not be negative"],
    ),
    "init bounds": (edge(weight="dense", init="uniform(1, 0)"), [EDGE_XH, "must ascend", "uniform(0, 1)?"]),
    "init square": (
        declare({"x": X, "h": {"op": "tanh"}}, [("x", "h", {"weight": "diagonal", "init": "orthogonal"})]),
        [EDGE_XH + "init 'orthogonal' needs a dense weight", "(3,)"],
    ),
    "init of another shape": (
        edge(weight="dense", init=np.ones((3, 8))),
        [EDGE_XH + "weight 'dense' needs init of shape (8, 3), got (3, 8).", "Did you mean its transpose?"],
    ),
    "init vector": (edge(weight="dense", init=np.ones(3)), [EDGE_XH + "'init' must be", "of shape (8, 3), got (3,)"]),
    "param empty": (edge(weight="dense", param=""), [EDGE_XH + "attribute 'param' must be a word"]),
    "role a number": (edge(weight="dense", role=1), [EDGE_XH + "attribute 'role' must be a word"]),
    "credit": (
        edge(weight="dense", credit="kepp"),
        [EDGE_XH + "attribute 'credit' must be one of cut, keep, got 'kepp'"],
    ),
    # Edges, attributes together.
    "value nan": (edge(value=np.full((8, 3), np.nan)), [EDGE_XH + "attribute 'value' must be a finite number"]),
    "value ragged": (edge(value=[[1.0], [1.0, 2.0]]), [EDGE_XH + "attribute 'value'"]),
    "value complex": (edge(value=2j), [EDGE_XH + "attribute 'value'", "got 2j"]),
    "value empty": (edge(value=[]), [EDGE_XH + "attribute 'value'"]),
    "value a word": (edge(value="one"), [EDGE_XH + "attribute 'value'", "'one'"]),
    "value too large": (edge(value=np.longdouble("1e400")), [EDGE_XH + "attribute 'value' must be a finite number"]),
    "value transposed": (
        edge(weight="dense", value=np.ones((3, 8))),
        [
            EDGE_XH + "weight 'dense' needs value of shape (8, 3), got (3, 8).",
            "'h' has size 8, 'x' has size 3; a dense weight is (size of target, size of source).",
            "Did you mean its transpose?",
        ],
    ),
    "value of another shape": (
        edge(value=np.ones((8, 4))),
        [EDGE_XH + "weight 'dense' needs value of shape (8, 3), got (8, 4).", "'h' has size 8, 'x' has size 3"],
    ),
    "value of three dimensions": (edge(value=np.ones((8, 3, 1))), [EDGE_XH, "of shape (8, 3), got (8, 3, 1)."]),
    "value of another kind": (
        edge(weight="dense", value=2.0),
        [EDGE_XH + "weight 'dense' needs value of shape (8, 3), got ().", "Leave out 'weight'"],
    ),
    "value and trainable": (
        edge(value=np.ones((8, 3)), trainable=True),
        [EDGE_XH + "'value' fixes the weight, and 'trainable' asks to train it.", "Use 'init' in place of 'value'"],
    ),
    "value and init": (edge(value=np.ones((8, 3)), init=0.0), [EDGE_XH + "'value' fixes the weight, so 'init' has no"]),
    "value and param": (edge(value=np.ones((8, 3)), param="p"), [EDGE_XH + "'value' fixes the weight, so 'param' has"]),
    "value and identity": (edge(value=1.0, weight="identity"), [EDGE_XH + "weight 'identity' has no value."]),
    "identity and init": (edge(init=1.0), [EDGE_XH + "weight 'identity' has no parameter, so 'init'", "Give 'weight'"]),
    "identity and param": (edge(param="p"), [EDGE_XH + "weight 'identity' has no parameter, so 'param'"]),
    "identity and trainable": (edge(trainable=True), [EDGE_XH + "weight 'identity' has no parameter, so 'trainable'"]),
    "identity of unequal sizes": (
        edge(),
        [
            "edge 'x' -> 'h' (key 0) of weight 'identity': 'x' and 'h' must have one size, got 3 and 8.",
            "node 'x' with 'size'",
            "node 'h' with 'size'",
            "'dense', 'sparse', 'block'",
        ],
    ),
    "diagonal of unequal sizes": (edge(weight="diagonal"), ["edge 'x' -> 'h' (key 0) of weight 'diagonal'", "3 and 8"]),
    "scalar of unequal sizes": (edge(value=2.0), ["edge 'x' -> 'h' (key 0) of weight 'scalar'", "3 and 8"]),
    "diagonal value": (edge(value=np.ones(5)), ["edge 'x' -> 'h' (key 0) with 'value' of shape (5,)", "size 5"]),
    "sparse without pattern": (edge(weight="sparse"), [EDGE_XH + "weight 'sparse' needs a pattern.", "'mask', or"]),
    "mask on dense": (
        edge(weight="dense", mask=[[1]]),
        [EDGE_XH + "'mask' belongs to weight 'sparse', got weight 'dense'"],
    ),
    "density on identity": (
        edge(density=0.5),
        [EDGE_XH + "'density' belongs to weight 'sparse', got no 'weight'"],
    ),
    "mask and density": (
        edge(weight="sparse", mask=np.ones((8, 3)), density=0.5),
        [EDGE_XH + "a pattern is given by 'mask', or by 'density' and 'pattern_seed'"],
    ),
    "mask of numbers": (
        edge(weight="sparse", mask=np.full((8, 3), 2)),
        [EDGE_XH + "attribute 'mask' must be a two-dim"],
    ),
    "mask a vector": (edge(weight="sparse", mask=[1, 0, 1]), [EDGE_XH + "attribute 'mask' must be a two-dimensional"]),
    "mask transposed": (
        edge(weight="sparse", mask=np.ones((3, 8))),
        [EDGE_XH + "weight 'sparse' needs mask of shape (8, 3), got (3, 8).", "Did you mean its transpose?"],
    ),
    "mask of another shape": (edge(weight="sparse", mask=np.ones((8, 4))), [EDGE_XH, "(8, 3), got (8, 4)"]),
    "mask of zeros": (
        edge(weight="sparse", mask=np.zeros((8, 3))),
        [EDGE_XH + "the pattern of the sparse weight is empty"],
    ),
    "density zero": (
        edge(weight="sparse", density=0),
        [EDGE_XH + "attribute 'density' must be a number in (0, 1], got 0"],
    ),
    "density above one": (edge(weight="sparse", density=1.5), [EDGE_XH + "attribute 'density'", "got 1.5"]),
    "density too low": (edge(weight="sparse", density=1e-9), [EDGE_XH + "the pattern of the sparse weight is empty"]),
    "pattern_seed": (edge(weight="sparse", density=0.5, pattern_seed=-1), [EDGE_XH + "attribute 'pattern_seed'"]),
    "sparse value of another length": (
        edge(weight="sparse", mask=np.ones((8, 3)), value=np.ones(5)),
        [EDGE_XH + "weight 'sparse' needs value of shape (24,), got (5,)."],
    ),
    # Shared parameters.
    "tie of kinds": (
        tie({"weight": "dense"}, {"weight": "diagonal"}),
        [
            "edge 'x' -> 'a' (key 0) and edge 'x' -> 'b' (key 0) share parameter 'p'",
            "differ in kind: dense and diagonal.",
        ],
    ),
    "tie of kinds and sizes": (
        declare(
            {"x": X, "h": H},
            [("x", "h", {"weight": "dense", "param": "p"}), ("h", "h", {"weight": "scalar", "param": "p", "delay": 1})],
        ),
        ["share parameter 'p' and differ in kind: dense and scalar."],
    ),
    "tie of shapes": (
        declare(
            {"x": X, "h": H},
            [("x", "h", {"weight": "dense", "param": "p"}), ("h", "h", {"weight": "dense", "param": "p", "delay": 1})],
        ),
        ["edge 'h' -> 'h' (key 0), which shares a parameter with edge 'x' -> 'h' (key 0)", "3 and 8"],
    ),
    "tie of sparse shapes": (
        tie({"weight": "sparse", "mask": np.eye(3)}, {"weight": "sparse", "mask": np.ones((3, 3))}),
        ["share parameter 'p' and differ in shape: (3,) and (9,)."],
    ),
    "tie of patterns": (
        tie({"weight": "sparse", "mask": np.eye(3)}, {"weight": "sparse", "mask": np.eye(3)[::-1]}),
        ["share parameter 'p' and differ in pattern: they have other synapses.", "another 'param'"],
    ),
    "tie of trainability": (
        tie({"weight": "dense"}, {"weight": "dense", "trainable": False}),
        ["edge 'x' -> 'b' (key 0) share parameter 'p' and differ in trainability: True and False."],
    ),
    "tie of inits": (
        tie({"weight": "dense", "init": "glorot"}, {"weight": "dense", "init": 0.5}),
        ["edge 'x' -> 'b' (key 0): parameter 'p' has two different 'init'.", "on one edge only"],
    ),
    "parameter named like a bias": (
        declare({"x": X, "h": {**H, "bias": True}}, [("x", "h", {"weight": "dense", "param": "h.bias"})]),
        ["node 'h': its bias and an edge have one parameter name, 'h.bias'.", "another 'param'"],
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_graph_is_refused_in_words_that_help(name: str) -> None:
    """If this fails, a user sees a bare Python error, or one that does not say where to look."""
    graph, words = MALFORMED[name]
    with pytest.raises(GraphError) as error:
        validate(graph)
    for word in words:
        assert word in str(error.value)
    assert len(max(str(error.value).splitlines(), key=len)) < 250  # no arrays poured out


def test_pattern_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a typing error in a size ends in a MemoryError that does not name the edge."""

    class Full:
        def random(self, shape: tuple[int, ...]) -> None:
            raise MemoryError

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Full())
    with pytest.raises(GraphError, match=r"edge 'x' -> 'h' \(key 0\): a pattern of shape \(8, 3\)"):
        validate(edge(weight="sparse", density=0.5))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10) | st.just(10**40),
    st.floats(),
    st.text(max_size=3) | st.sampled_from([*INITS, "normal(", "uniform(1,2)", "dense", "sparse", "tanh", "mul", "in"]),
    st.lists(st.integers(0, 1), max_size=3),
    st.lists(st.lists(st.integers(0, 2), max_size=3), max_size=3),
    st.sampled_from(
        [np.ones(3), np.ones((3, 3)), np.array(2.0), np.array([], dtype=float), np.array(["a"]), {}, object()]
    ),
)


@given(
    st.dictionaries(st.sampled_from([*NODE, "threshold", "label"]), JUNK, max_size=3),
    st.dictionaries(st.sampled_from([*EDGE, "color"]), JUNK, max_size=4),
    st.dictionaries(st.sampled_from(list(EDGE)), JUNK, max_size=3),
)
def test_junk_is_refused_by_our_own_errors(on_node: Any, on_edge: Any, on_loop: Any) -> None:
    """If this fails, some attribute reaches NumPy or networkx unchecked."""
    graph = declare(
        {"x": X, "h": {"op": "linear", **on_node}}, [("x", "h", on_edge), ("h", "h", {"delay": 1, **on_loop})]
    )
    try:
        network = validate(graph)
    except ForwardgradError:
        return
    for parameter in network.parameters.values():
        assert np.isfinite(draw(parameter, 0)).all()
