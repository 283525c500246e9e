"""On random graphs, over all named rules: a loss on a layer, or on an identity copy of it, is one and the same loss."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, compiled, error
from hypothesis import assume, event, given, note, reject, settings
from hypothesis import strategies as st
from nets import declare, problem, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.rules import table as rules
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import problems

ARGUMENTS = {"hops": "(2)", "snap": "(2)", "window": "(2)", "dsf": "(0.5)"}
ROWS = [name + ARGUMENTS.get(name, "") for name in rules.TABLE if name not in ("cut", "settle")]
"""The rules for which a copy of an output is no other output; to `settle` it is one message more."""
VARIANTS = ["ostl; feedback=random", "reservoir; feedback=adaptive", "near; layout=snap(1)", "eprop; autapses=implicit"]


def recurrence(given_: Problem, node: str) -> str:
    """What the recurrence of a node's layer does: `none`, `leaks` or `mixes`. Worked out here apart from labels."""
    network = given_.network
    edges = [edge for edge in network.edges.values() if edge.role != "topdown"]
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(network.nodes)
    graph.add_edges_from((edge.source, edge.target) for edge in edges)
    layer = next(nodes for nodes in nx.strongly_connected_components(graph) if node in nodes)
    inside = [edge for edge in edges if {edge.source, edge.target} <= layer]
    softmax = [edge for edge in inside if network.nodes[edge.target].op.name == "softmax"]
    mixes = softmax or [edge for edge in inside if edge.kind in ("dense", "sparse") and not edge.moves]
    return "mixes" if mixes else "leaks" if inside else "none"


def copied(given_: Problem, chosen: list[str]) -> Problem:
    """The problem with the losses of these nodes on identity copies of them."""
    graph = given_.graph.copy()
    names = {name: f"copy of {name}" if name in chosen else name for name in given_.loss}
    for name in chosen:
        graph.add_node(names[name], op="linear", size=given_.network.nodes[name].size)
        graph.add_edge(name, names[name])

    def moved(by_node: dict[str, Any]) -> dict[str, Any]:
        return {names[name]: each for name, each in by_node.items()}

    mask = moved(given_.mask) if isinstance(given_.mask, dict) else given_.mask
    return replace(given_, graph=graph, loss=moved(dict(given_.loss)), targets=moved(given_.targets), mask=mask)


def with_feedback(given_: Problem, program: fg.Program) -> Problem:
    """The problem with matrices of adaptive feedback, drawn from their names."""
    drawn = {
        name: np.random.default_rng(zlib.crc32(name.encode())).normal(size=p.shape)
        for name, p in program.plan.parameters.items()
        if name not in given_.params
    }
    return replace(given_, params=given_.params | drawn)


def outcome(given_: Problem, rule: str, block: int, **options: Any) -> dict[str, Array] | str:
    """The gradient, or the message with which the rule refuses the graph."""
    try:
        program = compiled(given_, rule, **options)
    except fg.RuleError as refused:
        return str(refused)
    full = with_feedback(given_, program)
    return program.gradient(full.params, full.inputs, full.targets, block=block, mask=full.mask).grads


def assert_same(one: dict[str, Array] | str, other: dict[str, Array] | str) -> None:
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        assert error(one, other) <= TOLERANCE


STACKS = problems(
    most_steps=6, min_nodes=2, max_nodes=3, deep=True, components=3, kinds=("dense", "sparse", "diagonal")
)
"""Recurrent layers on each other, most of which mix."""


@given(data=st.data(), drawn=STACKS | problems(most_steps=6), row=st.sampled_from([*ROWS, *VARIANTS]))
@settings(max_examples=20, deadline=None)
def test_an_identity_readout_changes_no_gradient(data: st.DataObject, drawn: Problem, row: str) -> None:
    """If this fails, a rule keeps other credit because an output is copied, though the network computes the same."""
    words = {name: recurrence(drawn, name) for name in drawn.loss}
    free = [name for name, word in words.items() if word != "leaks"]
    assume(free)
    chosen = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
    other = copied(drawn, chosen)
    note(repr(other))
    event(f"recurrence: {', '.join(sorted({words[name] for name in chosen}))}")
    for rule in (row, "ostl", "reservoir", "eprop-random"):
        one, two = outcome(drawn, rule, 1), outcome(other, rule, 1)
        event("refused" if isinstance(one, str) else "compared")
        assert_same(two, one)
    assert_same(outcome(other, row, 3, backend="interpreter"), outcome(drawn, row, 3, backend="interpreter"))


LOSSLESS = [
    text
    for text in [*ROWS, *VARIANTS, "settle(2)", "settle(4)"]
    if (r := rules.rule(text)).layout == "lossless" and r.carry
]


@given(drawn=problems(most_steps=8), rule=st.sampled_from([text for text in LOSSLESS if "dsf" not in text]))
@settings(max_examples=15, deadline=None)
def test_every_row_gives_the_oracles_gradient_on_random_graphs(drawn: Problem, rule: str) -> None:
    """If this fails, compiler and oracle differ in which layers are outputs', or readouts that leak."""
    try:
        program = compiled(drawn, rule)
    except fg.RuleError:  # such as feedback over an identity into a softmax
        reject()
    assert_like_oracle(with_feedback(drawn, program), rule)


# Graphs by hand, on which it must make a difference elsewhere.


def two_layers(**upper: Any) -> nx.MultiDiGraph[str]:
    """Two recurrent layers; the recurrence of the upper one, `b`, is given, and dense by default."""
    return declare(
        {
            "x": {"op": "input", "size": 2},
            "a": {"op": "tanh", "size": 3, "bias": True},
            "b": {"op": "tanh", "size": 3, "bias": True},
        },
        ("x", "a", {"weight": "dense"}),
        ("a", "a", {"weight": "dense", "delay": 1}),
        ("a", "a", {"value": 0.4, "delay": 1}),
        ("a", "b", {"weight": "dense"}),
        ("b", "b", {"weight": "dense", "delay": 1} | upper),
    )


def ostl_by_its_equations(given_: Problem) -> Array:
    """The gradient of `a->a`: e(t) = D(t) e(t-1) + I(t) in layer a, times the same-step signal from above."""
    values, params = oracle.forward(given_.graph, given_.params, given_.inputs), given_.params
    trace, total = np.zeros((given_.batch, 3, 3, 3)), np.zeros((3, 3))
    for t in range(given_.steps):
        a, b = values["a"][t], values["b"][t]
        before = values["a"][t - 1] if t else 0 * a
        carry = params["a->a"] + 0.4 * np.eye(3)
        trace = np.einsum("bi,ij,bjkl->bikl", 1 - a**2, carry, trace)
        trace += np.einsum("bi,ik,bl->bikl", 1 - a**2, np.eye(3), before)
        signal = 2 * (b - given_.targets["b"][t]) / b.size
        total += np.einsum("bi,bikl->kl", ((1 - b**2) * signal) @ params["a->b"], trace)
    return total


def test_ostl_on_a_recurrent_top_layer_is_the_published_rule_and_says_what_it_drops() -> None:
    """If this fails, the top layer's recurrence is a part of every lower layer's credit, and said to be exact."""
    given_ = problem(two_layers(), "b", steps=9, gain=1.5)
    wanted = ostl_by_its_equations(given_)
    assert np.abs(wanted).max() > 1e-2
    for each in (given_, copied(given_, ["b"])):
        program = assert_like_oracle(each, "ostl")
        found = program.gradient(each.params, each.inputs, each.targets, block=2).grads
        assert error({"a->a": found["a->a"]}, {"a->a": wanted}) <= TOLERANCE
        assert program.rules["a->a"].dropped == ("b->b",)
        assert not program.rules["a->a"].exact
        assert program.rules["b->b"].exact
    exact = oracle.reverse(**given_.arguments).grads
    assert error({"a->a": exact["a->a"]}, {"a->a": wanted}) > 1e-2


@pytest.mark.parametrize("weight", [{"weight": "scalar"}, {"weight": "diagonal"}, {"value": 0.6}])
@pytest.mark.parametrize("rule", ["ostl", "eprop"])
def test_the_filter_of_a_leaky_readout_is_kept(weight: dict[str, Any], rule: str) -> None:
    """If this fails, the exception for leaky readouts is gone, or holds for what is a layer of its own."""
    given_ = problem(two_layers(weight="diagonal") if "value" not in weight else two_layers(), "b", steps=8, gain=1.5)
    attributes = given_.graph.edges["b", "b", 0]
    attributes.pop("weight", None)
    attributes.update(weight)
    given_ = replace(given_, params=problem(given_.graph, "b").params)
    program = assert_like_oracle(given_, rule)
    assert "b->b" not in program.rules["a.bias"].dropped
    hidden = assert_like_oracle(copied(given_, ["b"]), rule)
    assert "b->b" in hidden.rules["a.bias"].dropped


def test_a_reservoir_leaves_a_recurrent_layer_as_drawn_also_where_the_loss_stands_on_it() -> None:
    """If this fails, a layer is frozen or trained by where a loss is written."""
    given_ = problem(two_layers(), "b")
    for each in (given_, copied(given_, ["b"])):
        program = compiled(each, "reservoir")
        assert not program.rules
        assert set(program.plan.untrained) == set(given_.params)
    leaky = compiled(problem(two_layers(weight="diagonal"), "b"), "reservoir")
    assert leaky.rules.keys() == {"a->b", "b->b", "b.bias"}


@pytest.mark.parametrize("rule", ["eprop-random", "eprop-adaptive", "rflo"])
def test_feedback_leads_into_the_layer_of_an_output_however_it_is_spelled(rule: str) -> None:
    """If this fails, exact weights bring credit back where the rule promises a matrix in their place."""
    given_ = problem(two_layers(), "b", steps=8, gain=1.5)
    word = "adaptive" if "adaptive" in rule else "random"
    for each in (given_, copied(given_, ["b"])):
        program = compiled(each, rule)
        assert program.rules["a->a"].reasons == (f"{word} feedback on a->b",)
        assert not program.rules["b->b"].reasons
        assert_like_oracle(with_feedback(each, program), rule)


def test_a_readout_with_a_nonlinearity_behind_its_weights_has_feedback_too() -> None:
    """If this fails, an output that is its weights' sum and then a function of each unit has exact feedback."""
    graph = vanilla()
    graph.add_node("p", op="sigmoid", size=2)
    graph.add_edge("y", "p")
    program = fg.compile(graph, {"p": "mse"}, "eprop-random")
    assert program.rules["x->h"].reasons == ("random feedback on h->y",)


@pytest.mark.parametrize("init", ["normal(0.3)", "orthogonal", "glorot", "he"])
def test_random_feedback_is_independent_of_the_weight_drawn_from_the_same_seed(init: str) -> None:
    """If this fails, random feedback is the transposed weight in disguise, and learns like the exact rule."""
    graph = vanilla()
    graph.edges["h", "y", 0]["init"] = init
    for name in ("h", "y"):
        graph.nodes[name]["size"] = 60
    for seed in (0, 1):
        weight = fg.compile(graph, {"y": "mse"}, f"eprop-random; seed={seed}").init(seed)["h->y"]
        matrix = random_feedback("h->y", weight.shape, seed)
        for one, other in ((weight, matrix), (np.abs(weight), np.abs(matrix))):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.08  # 1 / 60 is one deviation
    assert not np.array_equal(matrix, random_feedback("h->y#1", weight.shape, seed))
