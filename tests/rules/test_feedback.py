"""Feedback of the user's own: a matrix, or a scale, per edge, in Python and as text, under every backend."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from nets import vanilla

import forwardgrad as fg
from forwardgrad import cells, oracle, render
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.rules.rule import Rule
from forwardgrad.rules.table import rule

BACKENDS = ["interpreter", "numpy", "jax", "c"]


def eprop(**coordinates: Any) -> Rule:
    return dataclasses.replace(rule("eprop"), name="", **coordinates)


# The published recursion, by hand.

LEAK, KAPPA, THRESHOLD, UNITS, CLASSES = 0.8, 0.7, 0.6, 5, 3


def spiking() -> nx.MultiDiGraph[str]:
    """A recurrent layer of LIF units under a leaky readout."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    z = cells.lif(graph, "l", input="x", size=UNITS, leak=LEAK, threshold=THRESHOLD, init="normal(0.6)")
    cells.readout(graph, "y", z, CLASSES, leak=KAPPA, bias=False)
    return graph


def batch() -> tuple[dict[str, Any], dict[str, Any], Any]:
    random = np.random.default_rng(5)
    x, labels = (random.random((23, 6, 4)) < 0.4) * 1.0, random.integers(0, CLASSES, (23, 6))
    return {"x": x}, {"y": labels}, (np.arange(23) > 9) * 1.0


def by_hand(params: Any, matrix: Any) -> dict[str, Any]:
    """E-prop of that network with a feedback matrix `(classes, units)`, as in Bellec et al. 2020.

    Neither an array nor a derivative is one of the library's.
    """
    (inputs, targets, mask), w, u, out = batch(), params["x->l.v"], params["l.z->l.v"], params["l.z->y"]
    x, samples = inputs["x"], 6
    v, z, y = np.zeros((samples, UNITS)), np.zeros((samples, UNITS)), np.zeros((samples, CLASSES))
    read = {"x->l.v": np.zeros((samples, 4)), "l.z->l.v": np.zeros((samples, UNITS)), "l.z->y": np.zeros_like(z)}
    trace = {name: np.zeros((samples, UNITS, read[name].shape[1])) for name in ("x->l.v", "l.z->l.v")}
    grads = {name: np.zeros_like(params[name]) for name in read}
    for t, spikes in enumerate(x):
        read["x->l.v"] = LEAK * read["x->l.v"] + spikes  # low-pass filtered, the trace of the potential
        read["l.z->l.v"] = LEAK * read["l.z->l.v"] + z
        v = LEAK * v + spikes @ w.T + z @ u.T - THRESHOLD * z
        z = (v > THRESHOLD) * 1.0
        psi = 0.3 / THRESHOLD * np.maximum(0, 1 - abs(v - THRESHOLD) / THRESHOLD)
        y = KAPPA * y + z @ out.T
        read["l.z->y"] = KAPPA * read["l.z->y"] + z
        error = np.exp(y - y.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(samples), targets["y"][t]] -= 1
        error *= mask[t] / samples
        grads["l.z->y"] += error.T @ read["l.z->y"]
        for name in trace:
            trace[name] = KAPPA * trace[name] + psi[:, :, None] * read[name][:, None, :]
            grads[name] += ((error @ matrix)[:, :, None] * trace[name]).sum(axis=0)
    return grads


def apart(found: Any, wanted: Any) -> float:
    return max(np.abs(found[name] - wanted[name]).max() / np.abs(wanted[name]).max() for name in wanted)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", ["array", "text", "random"])
def test_eprop_with_feedback_of_ones_own_is_the_published_recursion(backend: str, way: str) -> None:
    """If this fails, another matrix than the one given brings credit back, or it is used in some places only."""
    skip_without(backend)
    drawn = np.random.default_rng(3).normal(size=(CLASSES, UNITS))
    if way == "random":
        drawn = random_feedback("l.z->y", (CLASSES, UNITS), 7, 1.0)
    chosen: Any = {
        "array": eprop(feedback={"l.z->y": drawn}),
        "text": f"eprop; feedback={{l.z->y: {drawn.tolist()}}}",
        "random": "eprop; feedback={l.z->y: random(1.0)}, seed=7",
    }[way]
    program = fg.compile(spiking(), {"y": "cross_entropy"}, chosen, backend=backend)
    params = program.init(2)
    expected = by_hand(params, drawn)
    assert min(np.abs(g).max() for g in expected.values()) > 1e-3  # it spikes
    for block in (1, 4, 23):
        assert apart(program.gradient(params, *batch()[:2], mask=batch()[2], block=block).grads, expected) < 1e-10
    assert apart(by_hand(params, params["l.z->y"]), expected) > 0.1


# Weights of every kind.


def kinds() -> nx.MultiDiGraph[str]:
    """Leaky units, over which credit comes back by a dense, a sparse, a diagonal, a scalar weight and a kernel."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    graph.add_node("h", op="tanh", size=4, shape=[1, 4])
    graph.add_edge("x", "h", weight="dense")
    graph.add_edge("h", "h", value=0.5, delay=1)
    graph.add_node("y", op="linear", size=4, shape=[1, 4])
    options = {"dense": {}, "sparse": {"density": 0.6}, "diagonal": {}, "scalar": {}}
    for kind, more in {**options, "conv1d": {"kernel": 3, "padding": 1}}.items():
        graph.add_edge("h", "y", kind, weight=kind, **more)
    return graph


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_matrix_takes_the_place_of_a_weight_of_any_kind(backend: str) -> None:
    """If this fails, an array stands for other entries of a sparse weight or a kernel than the weight's own do."""
    skip_without(backend)
    plain = fg.compile(kinds(), {"y": "mse"}, "eprop")
    random = np.random.default_rng(1)
    shapes = {name: p.shape for name, p in plain.network.parameters.items() if name.startswith("h->y")}
    assert len(set(shapes.values())) == 5
    own = {name: random.normal(size=shape) for name, shape in shapes.items()}
    params = plain.init(4)
    data = {"x": random.normal(size=(7, 2, 4))}, {"y": random.normal(size=(7, 2, 4))}
    program = fg.compile(kinds(), {"y": "mse"}, eprop(feedback=own), backend=backend)
    reference = oracle.reverse(kinds(), params, *data, {"y": "mse"}, rule=program.chosen["x->h"])
    exact = oracle.reverse(kinds(), params, *data, {"y": "mse"}, rule="eprop")
    # The weights themselves as feedback change nothing.
    swapped = eprop(feedback={name: params[name] for name in own})
    same = oracle.reverse(kinds(), params, *data, {"y": "mse"}, rule=swapped)
    assert apart(same.grads, exact.grads) < 1e-12
    assert apart(reference.grads, {"x->h": exact.grads["x->h"]}) > 0.1
    for block in (1, 3, 7):
        assert apart(program.gradient(params, *data, block=block).grads, reference.grads) < 1e-10


@pytest.mark.parametrize("rule_", ["eprop", "eprop-deep", "rtrl", "hops(2)"])
def test_the_oracle_of_small_sizes_follows(rule_: str) -> None:
    """If this fails, `verify=True` breaks on a matrix of one size, or compares without it."""
    name = "h2->y"
    graph = fg.load("leaky_stack")
    shape = fg.compile(graph, rule="rtrl").network.parameters[name].shape
    matrix = np.random.default_rng(0).normal(size=shape)
    fg.compile(graph, rule=dataclasses.replace(rule(rule_), name="", feedback={name: matrix}), verify=True)


# Adaptive feedback.


def test_adaptive_feedback_starts_from_its_scale_and_aligns_where_both_decay() -> None:
    """If this fails, feedback of N(0, 1) starts like a weight, or is not moved by the gradient of its weight."""
    wide = vanilla()
    wide.nodes["h"]["size"] = 400
    program = fg.compile(wide, {"y": "mse"}, "eprop; feedback=adaptive(2.5)")
    params = program.init(1)
    assert np.std(params["h->y.feedback"]) == pytest.approx(2.5, rel=0.1)
    assert np.std(params["h->y"]) < 0.1
    assert np.std(program.init(2)["h->y.feedback"] - params["h->y.feedback"]) > 1
    data = {"x": np.ones((4, 1, 2))}, {"y": np.ones((4, 1, 2))}
    grads = program.gradient(params, *data).grads
    np.testing.assert_array_equal(grads["h->y.feedback"], grads["h->y"])

    def after(decay: float) -> tuple[float, float]:
        learner = fg.Learner(program, params, fg.SGD(1e-3, weight_decay=decay))
        learner.fit([data] * 200)
        weight, feedback = learner.params["h->y"].ravel(), learner.params["h->y.feedback"].ravel()
        gap = float(np.linalg.norm(feedback - weight) / np.linalg.norm(params["h->y.feedback"] - params["h->y"]))
        return gap, float(weight @ feedback / np.linalg.norm(weight) / np.linalg.norm(feedback))

    # Both take the same update, so that their difference decays alone: by (1 - rate * decay) an update.
    assert after(0.0)[0] == pytest.approx(1, abs=1e-12)
    assert after(5.0)[0] == pytest.approx((1 - 5e-3) ** 200, abs=1e-9)
    assert after(5.0)[1] > after(0.0)[1]


def test_one_matrix_of_adaptive_feedback_has_one_scale() -> None:
    """If this fails, which of two numbers holds depends on the order of parameters."""
    two = {"x->h": "eprop; feedback=adaptive(1)", "*": "eprop; feedback=adaptive(2)"}
    with pytest.raises(fg.RuleError, match="'h->y': two rules start it from different standard deviations"):
        fg.compile(vanilla(), {"y": "mse"}, two)


# Text, copies and files.

NAMES = ["a.b->c d", "l1.h->l1.f#rec", "*->y", "λ→y", "h->y", "a->b;c", "a&b->c", "it's->y", "a, b->c", 'q"->y']


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", ["random", "adaptive", "signal", "random(0.5)", [[1.5, -2.0], [1e-30, 3.0]], 0.25])
def test_any_name_of_an_edge_is_read_back(name: str, given: Any) -> None:
    """If this fails, a checkpoint of a rule that names such an edge cannot be read."""
    made = eprop(feedback={name: given})
    again = rule(made.text)
    assert again == made
    assert hash(again) == hash(made)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


@pytest.mark.parametrize("name", ["a.b->c d", "l1.h->l1.f#rec", "*->y", "λ→y", "h->y", "x(1)->y", "-> y"])
def test_words_in_mappings_need_no_quotes(name: str) -> None:
    """If this fails, the documentation promises what is refused."""
    made = eprop(feedback={name: "random", "z": "signal"}, operator={name: 0.5}, seed=2)
    assert rule(f"eprop; feedback={{ {name} :random,z: signal }}, operator={{{name}:0.5}}, seed=2") == made
    assert rule(f"eprop; feedback={{'{name}': 'random', 'z': signal}}, operator={{'{name}':.5}}; seed=2") == made
    assert rule(f"rtrl & cut([{name}])") == rule(f"rtrl & cut(['{name}'])")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("eprop; feedback={h->y: rnadom}", ("unknown feedback 'rnadom'", "random")),
        ("eprop; feedback={h->y: random(0)}", ("feedback on 'h->y'", "random(1.0)")),
        ("eprop; feedback={h->y: random(nan)}", ("feedback on 'h->y'", "random(1.0)")),
        ("eprop; feedback={h->y: exact(2)}", ("feedback on 'h->y'", "random(1.0)")),
        ("eprop; feedback={h->y: [[1, 2], [3]]}", ("feedback on 'h->y'", "array of finite numbers")),
        ("eprop; feedback={h->y: []}", ("feedback on 'h->y'", "array of finite numbers")),
        ("eprop; feedback={h->y: [a]}", ("feedback on 'h->y'", "array of finite numbers")),
        ("eprop; feedback={h->y: True}", ("feedback on 'h->y'", "array of finite numbers")),
        ("eprop; feedback={h->y random}", ("must be a word or a mapping",)),
        ("eprop; feedback={h->y: random", ("cannot read",)),
        ("eprop; feedback={h->q: [[1, 2]]}", ("feedback on 'h->q' fits nothing", "h->y")),
        ("eprop; feedback={h->y: [[1, 2]]}", ("edge 'h->y'", "(1, 2)", "(2, 3)", "array (1, 2)")),
        ("eprop; feedback={h->y: 0.5}", ("edge 'h->y'", "shape ()", "(2, 3)")),
        ("eprop; feedback={h->y: [[1, 2], [3, 4], [5, 6]]}", ("(3, 2)", "(2, 3)", "transpose")),
        ("eprop; feedback=[[1, 2]]", ("must be a word or a mapping",)),
    ],
)
def test_what_is_no_feedback_is_refused_by_edge_and_shape(given: str, words: tuple[str, ...]) -> None:
    """If this fails, a slip becomes another matrix, or an error of NumPy's."""
    with pytest.raises(fg.RuleError) as caught:
        fg.compile(vanilla(), {"y": "mse"}, given)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("bad", [np.full((2, 3), np.nan), np.ones((2, 3)) * 1j, np.array([["a"]]), None, object(), {}])
def test_arrays_that_hold_no_numbers_are_refused(bad: Any) -> None:
    """If this fails, a program computes with what is no number."""
    with pytest.raises(fg.RuleError, match=r"feedback on 'h->y' must be a word or an array of finite numbers"):
        eprop(feedback={"h->y": bad})


def test_a_matrix_is_copied_and_travels_with_a_checkpoint(tmp_path: Any) -> None:
    """If this fails, a learner that was read back learns by another matrix, or by one that its user changed."""
    matrix = np.asfortranarray(np.random.default_rng(2).normal(size=(2, 3)).astype(np.float32))
    matrix.flags.writeable = False
    lent = np.zeros((2, 2, 3))
    lent[1] = matrix
    made = eprop(feedback={"h->y": lent[1]})
    lent[:] = 0
    assert made == eprop(feedback={"h->y": matrix})
    program = fg.compile(vanilla(), {"y": "mse"}, made)
    data = {"x": np.ones((6, 1, 2))}, {"y": np.ones((6, 1, 2))}
    learner = fg.Learner(program, program.init(0), fg.SGD(0.1))
    learner.fit([data], block=4)
    learner.save(tmp_path / "l.npz")
    again = fg.Learner.load(tmp_path / "l.npz")
    assert again.program.chosen["x->h"] == made
    for each in (learner, again):
        each.fit([data], block=4)
    for name in learner.params:
        np.testing.assert_array_equal(again.params[name], learner.params[name])
    other = fg.compile(vanilla(), {"y": "mse"}, eprop(feedback={"h->y": matrix + 1}))
    with pytest.raises(fg.FileError, match="belongs to another program; what differs: rules"):
        fg.Learner.load(tmp_path / "l.npz", other)


def test_listing_equations_and_pictures_say_where_feedback_replaces_the_weight() -> None:
    """If this fails, who reads a derived rule takes its gradient for that of the weights."""
    large = np.full((2, 3), 0.123456789)
    program = fg.compile(vanilla(), {"y": "mse"}, eprop(feedback={"h->y": large}))
    assert "fixed feedback on h->y" in str(program)
    assert "array (2, 3)" in str(program)
    assert "0.123456789" not in str(program)
    assert not program.rules["x->h"].exact
    assert program.rules["h->y"].exact
    assert "fixed feedback in place of the weight of h->y" in str(program.rules["x->h"].equation)
    assert "(fixed feedback)" in render.credit(program, "x->h").source
    assert "fixed feedback" not in render.credit(program, "h->y").source
