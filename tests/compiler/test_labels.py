"""Does every edge and node get the labels of its structure, and does each rule make of them what its table says?"""

from __future__ import annotations

from typing import Any

import pytest
from nets import declare, stack

from forwardgrad.compiler.labels import Labels, label
from forwardgrad.graph import validate
from forwardgrad.rules.paths import All, Cut, EdgeView, EpropDeep, Immediate, Near, NodeView, PathRule, Synaptic, cut


def labels(graph: Any, *outputs: str) -> Labels:
    return label(validate(graph), outputs)


def together(found: Labels) -> set[frozenset[str]]:
    """The components as sets of nodes."""
    return {frozenset(n for n in found.nodes if found.components[n] == c) for c in found.components.values()}


# Labels.


def test_components_states_and_outputs_of_a_stack() -> None:
    """If this fails, a layer is not what its loops make it, or a rule cannot tell where losses are."""
    found = labels(stack(), "y")
    assert together(found) == {frozenset(c) for c in (["x"], ["a1", "h1"], ["a2", "h2"], ["y"])}
    assert {name for name, node in found.nodes.items() if node.state} == {"h1", "h2"}
    assert {name for name, node in found.nodes.items() if node.output} == {"y"}
    assert {name for name, node in found.nodes.items() if node.output_layer} == {"y"}
    assert {name for name, node in found.nodes.items() if node.recurrent} == {"a1", "h1", "a2", "h2"}
    assert not any(node.leaky_readout for node in found.nodes.values())
    assert {name for name, edge in found.edges.items() if edge.recurrent} == {
        *("h1->a1", "h1->h1", "a1->h1", "h2->a2", "h2->h2", "a2->h2")
    }
    assert {name for name, edge in found.edges.items() if edge.explicit} == {"h1->a1", "h2->a2"}
    assert {name for name, edge in found.edges.items() if edge.delay} == {"h1->a1", "h1->h1", "h2->a2", "h2->h2"}


def test_a_loss_inside_a_layer_marks_its_whole_component() -> None:
    """If this fails, feedback matrices replace other weights than those that lead into an output's layer."""
    found = labels(stack(), "a1")
    assert {name for name, node in found.nodes.items() if node.output} == {"a1"}
    assert {name for name, node in found.nodes.items() if node.output_layer} == {"a1", "h1"}


# What a loss says of the layers behind it.


def readouts(**leak: Any) -> Any:
    """A stack with a second layer of the same units above it, and a readout with a leak."""
    graph = stack()
    graph.add_edge("y", "y", **(leak or {"value": 0.5}), delay=1)
    graph.add_node("copy", op="linear")
    graph.add_edge("h2", "copy")
    graph.add_node("late", op="tanh")
    graph.add_edge("copy", "late", weight="diagonal", delay=2)
    graph.add_node("chosen", op="softmax")
    graph.add_edge("h2", "chosen")
    graph.add_node("still", op="stop")
    graph.add_edge("h2", "still")
    return graph


@pytest.mark.parametrize(
    ("output", "layers"),
    [
        ("h2", {"a2", "h2"}),
        ("copy", {"a2", "h2", "copy"}),
        ("late", {"a2", "h2", "copy", "late"}),
        ("chosen", {"chosen"}),  # a softmax mixes
        ("still", {"still"}),  # and no credit passes through a stop
        ("y", {"y"}),
    ],
)
def test_a_layer_of_an_output_is_one_that_no_mixing_edge_parts_from_a_loss(output: str, layers: set[str]) -> None:
    """If this fails, feedback in place of the weights into an output depends on whether the output is copied."""
    graph = readouts()
    graph.nodes[output].setdefault("size", 3)
    found = labels(graph, output)
    assert {name for name, node in found.nodes.items() if node.output_layer} == layers


@pytest.mark.parametrize(
    ("leak", "leaky"),
    [
        ({"value": 0.5}, {"y"}),
        ({"weight": "scalar"}, {"y"}),
        ({"weight": "diagonal"}, {"y"}),
        ({"weight": "dense"}, set()),
        ({"value": 0.5, "role": "topdown"}, set()),  # belongs to no layer
    ],
)
def test_a_leaky_readout_holds_a_loss_and_remembers_without_mixing(leak: dict[str, Any], leaky: set[str]) -> None:
    """If this fails, the recurrence of an output's layer passes for the leak of a readout, or such a leak is lost."""
    found = labels(readouts(**leak), "y", "a1")
    assert {name for name, node in found.nodes.items() if node.leaky_readout} == leaky


def test_one_mixing_edge_without_delay_makes_an_outputs_layer_like_any_other() -> None:
    """If this fails, only delayed edges count, and credit goes through other units of an output's layer in time."""
    graph = readouts()
    assert labels(graph, "h1", "y").nodes["y"].leaky_readout
    graph.add_node("again", op="linear", size=2)
    graph.add_edge("y", "again", weight="dense")
    graph.add_edge("again", "y", weight="scalar", delay=1)
    assert not labels(graph, "h1", "y").nodes["y"].leaky_readout
    assert labels(graph, "h1", "y").nodes["y"].output_layer


def test_feedback_makes_one_component_unless_its_role_is_topdown() -> None:
    """If this fails, feedback from a later layer melts two layers into one, or the opposite."""
    joined, apart = stack(), stack()
    joined.add_edge("h2", "a1", weight="dense", delay=1)
    apart.add_edge("h2", "a1", weight="dense", delay=1, role="topdown")
    assert frozenset({"a1", "h1", "a2", "h2"}) in together(labels(joined, "y"))
    assert labels(joined, "y").edges["h1->a2"].explicit
    assert together(labels(apart, "y")) == together(labels(stack(), "y"))
    feedback = labels(apart, "y").edges["h2->a1"]
    assert (feedback.recurrent, feedback.explicit, feedback.role) == (False, False, "topdown")


@pytest.mark.parametrize(
    ("weight", "mixing"),
    [
        ({}, False),
        ({"weight": "scalar"}, False),
        ({"weight": "diagonal"}, False),
        ({"value": 0.5}, False),
        ({"value": [0.5, 0.5, 0.5]}, False),
        ({"weight": "dense"}, True),
        ({"value": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, True),
        ({"weight": "sparse", "mask": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, True),
    ],
)
def test_mixing_is_a_dense_or_sparse_weight_whatever_its_pattern(weight: dict[str, Any], mixing: bool) -> None:
    """If this fails, labels depend on the numbers in a weight."""
    graph = declare({"x": {"op": "input", "size": 3}, "h": {"op": "tanh", "size": 3}}, ("x", "h", weight))
    assert labels(graph, "h").edges["x->h"].mixing is mixing


def test_an_edge_into_an_op_that_mixes_is_mixing() -> None:
    """If this fails, a softmax is taken for an op of each unit alone."""
    graph = declare({"x": {"op": "input", "size": 3}, "h": {"op": "softmax"}, "g": {"op": "mul"}})
    graph.add_edge("x", "h")
    graph.add_edge("h", "g", port="a")
    graph.add_edge("g", "g", port="b", delay=1)
    found = labels(graph, "g").edges
    assert [found[name].mixing for name in ("x->h", "h->g", "g->g")] == [True, False, False]


def test_a_state_node_has_a_delayed_edge_inside_its_component() -> None:
    """If this fails, a delay between layers, or a loop's other nodes, count as state."""
    graph = declare(
        {"x": {"op": "input", "size": 3}, "h": {"op": "tanh", "size": 3}, "z": {"op": "tanh"}, "y": {"op": "linear"}},
        ("x", "h", {"delay": 1}),
        ("h", "z"),
        ("z", "h", {"delay": 1}),
        ("h", "y", {"delay": 2}),
    )
    assert {name for name, node in labels(graph, "y").nodes.items() if node.state} == {"z"}


# The table of eprop-deep (rows are modes, columns kinds of edges), for targets that are not state nodes.

INSTANT = {"instant": EdgeView("u", "v", recurrent=True), "explicit": EdgeView("u", "v", recurrent=True, mixing=True)}
DELAYED = {
    "implicit": EdgeView("u", "v", delay=1, recurrent=True),
    "explicit delayed": EdgeView("u", "v", delay=1, recurrent=True, mixing=True),
}
ACROSS = {
    "across": EdgeView("u", "v"),
    "across mixing": EdgeView("u", "v", mixing=True),
    "across delayed": EdgeView("u", "v", delay=2),
    "across mixing delayed": EdgeView("u", "v", delay=1, mixing=True),
}
EDGES = {**INSTANT, **DELAYED, **ACROSS}

TABLE: dict[str, dict[str, str | None]] = {
    "fresh": {"instant": "fresh", "explicit": "fresh"} | dict.fromkeys(ACROSS, "fresh"),
    "state": {"instant": "state", "explicit": "readout", "implicit": "carried", "explicit delayed": None}
    | dict.fromkeys(ACROSS, "fresh"),
    "carried": {"instant": "carried", "explicit": None, "implicit": "carried", "explicit delayed": None}
    | dict.fromkeys(ACROSS, "fresh"),
    "readout": {"instant": "readout", "explicit": "readout", "implicit": None, "explicit delayed": None}
    | {"across": "readout", "across mixing": "readout", "across delayed": None, "across mixing delayed": None},
}
CELLS = [(mode, edge, after) for mode, row in TABLE.items() for edge, after in row.items()]


@pytest.mark.parametrize(("mode", "edge", "after"), CELLS)
def test_eprop_deep_cell_by_cell(mode: str, edge: str, after: str | None) -> None:
    """If this fails, eprop-deep is not the automaton of its table."""
    assert EpropDeep().step(mode, EDGES[edge], NodeView("v")) == after
    arrived = {"fresh": "state", "carried": "state"}.get(str(after), after)
    assert EpropDeep().step(mode, EDGES[edge], NodeView("v", state=True)) == arrived


def test_eprop_deep_starts_fresh_or_at_a_state_and_cuts_two_roles() -> None:
    """If this fails, an injection at a state node counts as behind it, or a reset passes credit."""
    assert EpropDeep().start(NodeView("v")) == "fresh"
    assert EpropDeep().start(NodeView("v", state=True)) == "state"
    for mode in TABLE:
        for role in ("reset", "topdown"):
            for delay in (0, 1):
                edge = EdgeView("u", "v", delay=delay, recurrent=role == "reset", role=role)
                assert EpropDeep().step(mode, edge, NodeView("v", state=True)) is None
        readout = EdgeView("u", "v", recurrent=True, role="readout")
        assert EpropDeep().step(mode, readout, NodeView("v")) == TABLE[mode]["instant"]


@pytest.mark.parametrize(("rule", "leaves"), [(Synaptic(), True), (Near(), False)])
def test_synaptic_and_near_leave_their_own_side_at_a_mixing_edge(rule: PathRule, leaves: bool) -> None:
    """If this fails, a trace of one number a synapse is taken behind a mixing edge, or near is not OSTL with H."""
    here, out = NodeView("v"), NodeView("v", leaky_readout=True)
    assert rule.start(here) == rule.start(out) == "own"
    for name in ("instant", "implicit", "across", "across delayed"):
        assert rule.step("own", EDGES[name], here) == "own"
    for name in ("explicit", "explicit delayed"):
        assert rule.step("own", EDGES[name], here) == ("outside" if leaves else "own")
    for name in ("across mixing", "across mixing delayed"):
        assert rule.step("own", EDGES[name], here) == "outside"


@pytest.mark.parametrize("rule", [Synaptic(), Near()])
def test_outside_delays_count_only_at_an_output_or_as_a_readout(rule: PathRule) -> None:
    """If this fails, the filter of a leaky readout is lost, or memory of upper layers is kept."""
    here, out = NodeView("v"), NodeView("v", leaky_readout=True)
    for name in ("instant", "explicit", "across", "across mixing"):
        assert rule.step("outside", EDGES[name], here) == "outside"
    for name in ("implicit", "explicit delayed"):
        assert rule.step("outside", EDGES[name], here) is None
        assert rule.step("outside", EDGES[name], out) == "outside"
    for name in ("across delayed", "across mixing delayed"):
        assert rule.step("outside", EDGES[name], out) is None
    for recurrent in (True, False):
        readout = EdgeView("u", "v", delay=1, recurrent=recurrent, role="readout")
        assert rule.step("outside", readout, here) == "outside"


def test_all_immediate_and_cut() -> None:
    """If this fails, the simplest rules keep or drop other paths than they say."""
    node = NodeView("v")
    for edge in EDGES.values():
        assert All().step(All().start(node), edge, node) is not None
        assert (Immediate().step(Immediate().start(node), edge, node) is None) is (edge.delay > 0)
    chosen = cut(["u->v#1", "u->v", "u->v"])
    assert chosen == Cut(("u->v", "u->v#1"))
    for key, kept in ((0, False), (1, False), ("1", False), (2, True)):
        assert (chosen.step(chosen.start(node), EdgeView("u", "v", key), node) is not None) is kept


def test_credit_overrules_each_factor_by_itself() -> None:
    """If this fails, `keep` on an edge brings back what one factor cut and resets what another one counted."""
    both = EpropDeep() & Synaptic()
    edge, node = EDGES["explicit delayed"], NodeView("v", state=True)
    assert both.advance(("state", "own"), edge, node, None) is None
    # eprop-deep would cut, so its mode stays; synaptic would not, so its mode moves on.
    assert both.advance(("state", "own"), edge, node, "keep") == ("state", "outside")
    assert both.advance(("state", "own"), EDGES["implicit"], node, "keep") == ("state", "own")
    assert both.advance(("state", "own"), EDGES["implicit"], node, "cut") is None
