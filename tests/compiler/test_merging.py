"""Does the compiler warn where a delayed edge back makes one layer of two, and only if a rule stores less by that?"""

from __future__ import annotations

import warnings
from typing import Any

import networkx as nx
import pytest
from nets import declare, stack

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.errors import MergedLayersWarning
from forwardgrad.graph import library
from forwardgrad.graph.ends import ends


def warned(graph: nx.MultiDiGraph[str], rule: Any, **given: Any) -> list[str]:
    """What the compiler warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fg.compile(graph, dict.fromkeys(ends(graph)[1] or ["y"], "mse"), rule, **given)
    return [str(warning.message) for warning in found if warning.category is MergedLayersWarning]


def fed_back(**attributes: Any) -> nx.MultiDiGraph[str]:
    """Two leaky layers, with a delayed edge from the second back to the first."""
    graph = stack()
    graph.add_edge("h2", "a1", weight="dense", delay=1, **attributes)
    return graph


def two_layers(cell: Any, *back: tuple[str, str]) -> nx.MultiDiGraph[str]:
    """Two cells and a readout, with delayed dense edges back."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    cells.readout(graph, "y", input=cell(graph, "l2", input=cell(graph, "l1", input="x", size=3), size=3), size=1)
    for source, target in back:
        graph.add_edge(source, target, "back", weight="dense", delay=1)
    return graph


def test_an_edge_back_from_a_later_layer_is_named_with_what_is_no_longer_stored() -> None:
    """If this fails, eprop-deep silently stores nothing upward."""
    (text,) = warned(fed_back(), "eprop-deep")
    assert "edge 'h2->a1': this delayed edge leads back from a later layer" in text
    assert "rule 'eprop-deep' does not store the influence of 'h1->a1' on 'h2'" in text
    assert "role='topdown'" in text
    program = fg.compile(fed_back(), {"y": "mse"}, "eprop-deep", dead="ignore")
    assert not any("h2" in place for place in program.rules["h1->a1"].layouts)
    apart = fg.compile(fed_back(role="topdown"), {"y": "mse"}, "eprop-deep")
    assert any("h2" in place for place in apart.rules["h1->a1"].layouts)


@pytest.mark.parametrize(
    ("cell", "back", "stored"),
    [
        (cells.leaky_tanh, [("l2.h", "l1.a")], "l2.h"),
        (cells.lif, [("l2.z", "l1.v")], "l2.v"),
        (cells.alif, [("l2.z", "l1.v")], "l2.a"),
        (cells.gru, [("l2.h", "l1.r"), ("l2.h", "l1.z"), ("l2.h", "l1.n")], "l2.h"),
        (cells.lstm, [("l2.h", f"l1.{gate}") for gate in "ifog"], "l2.c"),
    ],
)
def test_gates_do_not_hide_edges_back(cell: Any, back: list[tuple[str, str]], stored: str) -> None:
    """If this fails, layers of cells are merged without a word, since no single one of the edges merges them."""
    (text,) = warned(two_layers(cell, *back), "eprop-deep")
    assert f"edge '{back[0][0]}->" in text
    assert ("(and" in text) == (len(back) > 1)
    assert f"on '{stored}'" in text
    assert not warned(two_layers(cell), "eprop-deep")


def test_a_relay_behind_the_delay_changes_nothing_but_the_name() -> None:
    """If this fails, two declarations of one network get different warnings."""
    graph = stack()
    graph.add_node("late", op="linear", size=3)
    graph.add_edge("h2", "late", delay=1)
    graph.add_edge("late", "a1", weight="dense")
    (text,) = warned(graph, "eprop-deep")
    assert "edge 'h2->late'" in text


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "ostl", "immediate", "window(2)", "snap(1)", "uoro"])
def test_rules_that_store_no_less_get_no_warning(rule: str) -> None:
    """If this fails, those are warned who lose nothing."""
    assert not warned(fed_back(), rule)


def test_the_role_topdown_a_common_layer_and_dead_ignore_are_silent() -> None:
    """If this fails, there is no way to say what is meant."""
    assert not warned(fed_back(role="topdown"), "eprop-deep")
    assert not warned(fed_back(), "eprop-deep", dead="ignore")
    graph = fed_back()
    for node in ("a1", "h1", "a2", "h2"):
        graph.nodes[node]["layer"] = "both"
    assert not warned(graph, "eprop-deep")


@pytest.mark.parametrize("name", library.names())
def test_shipped_graphs_are_silent(name: str) -> None:
    """If this fails, who uses what is shipped is told to change it."""
    graph = fg.load(name)
    square = name not in ("ei_pair", "low_rank")  # dsf puts a constant in place of square matrices
    for rule in ("rtrl", "eprop", "eprop-deep", "ostl", "immediate", "hops(2)", "snap(1)", *["dsf(0.5)"] * square):
        assert not warned(graph, rule, dead="warn")


def test_populations_that_are_one_layer_by_design_are_silent() -> None:
    """Excitatory and inhibitory units that act on each other a step later: none of them is the later layer."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "e": {"op": "linear", "size": 3},
            "re": {"op": "tanh"},
            "i": {"op": "linear", "size": 2},
            "ri": {"op": "tanh"},
            "y": {"op": "linear", "size": 1},
        },
        ("x", "e", {"weight": "dense"}),
        ("e", "e", {"value": 0.8, "delay": 1}),
        ("e", "re"),
        ("re", "i", {"weight": "dense", "delay": 1}),
        ("i", "i", {"value": 0.5, "delay": 1}),
        ("i", "ri"),
        ("ri", "e", {"weight": "dense", "delay": 1}),
        ("re", "y", {"weight": "dense"}),
        ("ri", "y", {"weight": "dense"}),
    )
    assert not warned(graph, "eprop-deep")


def test_stages_of_one_layer_are_silent() -> None:
    """A layer of two dense stages, of which only the second has a memory: without its recurrence there is one layer."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "s": {"op": "tanh", "size": 3},
            "h": {"op": "linear", "size": 3},
            "y": {"op": "linear", "size": 1},
        },
        ("x", "s", {"weight": "dense"}),
        ("h", "s", {"weight": "dense", "delay": 1}),
        ("s", "h", {"weight": "dense"}),
        ("h", "h", {"value": 0.8, "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )
    assert not warned(graph, "eprop-deep")
