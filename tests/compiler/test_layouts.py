"""Is each influence stored in the narrowest layout that the graph allows? Layouts by name, and what they must equal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from checks import assert_like_oracle, error
from nets import declare, plan_of, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.compiler.layouts import depths, words_to
from forwardgrad.graph.files import load
from forwardgrad.structure import Structure


def layouts(graph: Any, rule: str) -> dict[str, dict[str, str]]:
    """By parameter and `"node (mode)"`, the structure word."""
    program = fg.compile(graph, loss={"y": "mse"}, rule=rule)
    return {name: {entry: str(word) for entry, word in d.layouts.items()} for name, d in program.rules.items()}


def at(found: dict[str, dict[str, str]], parameter: str, node: str) -> str:
    """The layout of a parameter's one influence on a node."""
    (word,) = {word for entry, word in found[parameter].items() if entry.split(" ")[0] == node}
    return word


# The shipped graphs, by name.


def test_lif_with_a_shared_leak_under_eprop_stores_one_number_per_input() -> None:
    """If this fails, e-prop of leaky integrate-and-fire units stores a trace per synapse, not one per input."""
    found = layouts(load("lif"), "eprop")
    assert {entry: word for entry, word in found["x->v"].items() if entry.startswith("v ")} == {
        "v (state,own)": "scalar"
    }
    assert {entry: word for entry, word in found["z->v"].items() if entry.startswith("v ")} == {
        "v (state,own)": "scalar"
    }
    filtered = "z (state,own filtered by y)"  # the leak of the readout is moved onto the traces of its source
    assert found["x->v"].keys() == found["z->v"].keys() == {"v (state,own)", filtered}
    assert found["x->v"][filtered] == found["z->v"][filtered] == "diagonal"
    assert at(found, "z->y", "y") == at(found, "y.bias", "y") == "scalar"
    assert set(layouts(load("lif"), "rtrl")["z->v"].values()) == {"full"}


def test_lif_with_a_leak_for_each_unit_stores_one_number_per_synapse() -> None:
    """If this fails, a layout is narrower than the graph allows."""
    graph = load("lif")
    graph.edges["v", "v", 0]["value"] = [0.9 - 0.01 * i for i in range(32)]
    found = layouts(graph, "eprop")
    assert found["x->v"]["v (state,own)"] == found["z->v"]["v (state,own)"] == "diagonal"


def test_lstm_under_eprop_stores_one_number_per_synapse() -> None:
    """If this fails, e-prop of an LSTM costs what RTRL costs, or has another trace than that of the cell state."""
    found = layouts(load("lstm"), "eprop")
    for gate in "ifg":
        for parameter in (f"x->l1.{gate}", f"l1.h->l1.{gate}", f"l1.{gate}.bias"):
            assert found[parameter] == {"l1.c (state,own)": "diagonal"}
    for parameter in ("x->l1.o", "l1.h->l1.o", "l1.o.bias", "l1.h->y", "y.bias"):
        assert found[parameter] == {}
    for name, entries in layouts(load("lstm"), "all").items():
        assert set(entries.values()) == (set() if name in ("l1.h->y", "y.bias") else {"full"})


def test_vanilla_rnn_under_rtrl_is_full() -> None:
    """If this fails, an influence is stored in a layout that cannot hold it."""
    found = layouts(load("elman"), "all")
    assert found == {
        "x->h": {"h (all)": "full"},
        "h->h": {"h (all)": "full"},
        "h.bias": {"h (all)": "full"},
        "h->y": {},
        "y.bias": {},
    }
    assert all(not entries for entries in layouts(load("elman"), "eprop").values())


def test_deep_eprop_is_diagonal_in_the_own_layer_and_full_above() -> None:
    """If this fails, the price of credit through depth is misstated."""
    found = layouts(load("leaky_stack"), "eprop-deep")
    for parameter in ("x->a1", "h1->a1", "a1.bias"):
        assert found[parameter] == {"h1 (state)": "diagonal", "h2 (state)": "full"}
    for parameter in ("h1->a2", "h2->a2", "a2.bias"):
        assert found[parameter] == {"h2 (state)": "diagonal"}
    assert found["h1->y"] == found["h2->y"] == found["y.bias"] == {}
    synaptic = layouts(load("leaky_stack"), "eprop")
    assert synaptic["x->a1"] == {"h1 (state,own)": "diagonal"}


def test_gru_reset_gate_under_eprop_deep_is_full_and_under_eprop_has_no_memory() -> None:
    """If this fails, the price of tracing the reset gate is hidden."""
    deep, plain = layouts(load("gru"), "eprop-deep"), layouts(load("gru"), "eprop")
    for parameter in ("x->l1.r", "l1.h->l1.r", "l1.r.bias"):
        assert deep[parameter] == {"l1.h (state)": "full"}
        assert plain[parameter] == {}
    assert deep["l1.h->l1.z"] == {"l1.h (state)": "diagonal"}


# Exact and cheap where the graph allows.


def independent(**recurrent: Any) -> Any:
    """Dense input weights, then units that only see themselves, through a tanh, then a readout."""
    return vanilla(**{"weight": "diagonal", **recurrent})


@pytest.mark.parametrize("recurrent", [{}, {"delay": 2}, {"weight": "scalar"}])
def test_diagonal_recurrence_is_diagonal_under_exact_rtrl(recurrent: dict[str, Any]) -> None:
    """If this fails, RTRL is dear where the graph makes it cheap."""
    given = problem(independent(**recurrent), "y", steps=8)
    program = assert_like_oracle(given, "all", blocks=(1, 2, 3))
    for parameter in ("x->h", "h.bias", "h->h"):
        assert {str(word) for word in program.rules[parameter].layouts.values()} == {"diagonal"}
        assert program.rules[parameter].exact
    assert program.rules["x->h"].shapes["h (all)"] == (3, 2)
    now = oracle.reverse(**given.arguments, rule="immediate").grads
    assert error(oracle.reverse(**given.arguments).grads, now) > 1e-3  # there is memory to carry


def test_one_shared_number_of_a_linear_unit_is_scalar_under_exact_rtrl() -> None:
    """If this fails, a plain filter of the inputs is stored once for every unit."""
    graph = declare(
        {"x": {"op": "input", "size": 4}, "h": {"op": "linear", "size": 3, "bias": True}, "z": {"op": "tanh"}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "scalar", "delay": 1}),
        ("h", "z"),
        ("z", "y", {"weight": "dense"}),
    )
    program = assert_like_oracle(problem(graph, "y"), "all")
    assert {name: d.shapes.get("h (all)") for name, d in program.rules.items()} == {
        **{"x->h": (4,), "h->h": (3,), "z->y": None, "h.bias": ()}
    }
    assert str(program.rules["x->h"].layouts["h (all)"]) == "scalar"


@pytest.mark.parametrize(
    ("weight", "shapes"),
    [
        ({"weight": "dense"}, {"scalar": (3,), "diagonal": (3, 3), "full": (3, 3, 3)}),
        ({"weight": "diagonal"}, {"scalar": (3,), "diagonal": (3,), "full": (3, 3)}),
        ({"weight": "scalar"}, {"scalar": (3,), "diagonal": (3,), "full": (3,)}),
        (
            {"weight": "sparse", "mask": [[1, 0, 1], [0, 1, 0], [1, 1, 0]]},
            {"scalar": (3,), "diagonal": (5,), "full": (3, 5)},
        ),
    ],
)
@pytest.mark.parametrize("word", ["scalar", "diagonal", "full"])
def test_shape_of_each_weight_kind_in_each_layout(weight: dict[str, Any], shapes: dict[str, Any], word: str) -> None:
    """If this fails, a layout stores more or fewer numbers than its table says, or the wrong ones."""
    state: dict[str, Any] = {
        "scalar": {"value": 0.7},
        "diagonal": {"value": [0.7, 0.8, -0.6]},
        "full": {"value": [[0.5, 0.3, -0.2], [0.1, 0.6, 0.4], [-0.4, 0.2, 0.5]]},
    }[word]
    graph = declare(
        {"x": {"op": "input", "size": 3}, "h": {"op": "linear", "size": 3}, "y": {"op": "tanh", "size": 3}},
        ("x", "h", weight),
        ("h", "h", {"delay": 1, **state}),
        ("h", "y"),
    )
    program = assert_like_oracle(problem(graph, "y"), "all", blocks=(1, 2, 3))
    assert str(program.rules["x->h"].layouts["h (all)"]) == word
    assert program.rules["x->h"].shapes["h (all)"] == shapes[word]
    assert program.rules["x->h"].bytes == 8 * math.prod(shapes[word])


def test_a_shared_parameter_stores_the_join_over_its_sites() -> None:
    """If this fails, an influence is stored in the layout of one site and the other does not fit into it."""
    graph = declare(
        {"x": {"op": "input", "size": 3}, "h": {"op": "linear", "size": 3}, "g": {"op": "tanh", "size": 3}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense", "param": "W"}),
        ("x", "g", {"weight": "dense", "param": "W"}),
        ("g", "h", {"value": [0.5, -0.6, 0.7]}),
        ("h", "h", {"value": 0.8, "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )
    program = assert_like_oracle(problem(graph, "y"), "all")
    assert str(program.rules["W"].layouts["h (all)"]) == "diagonal"
    alone = graph.copy()
    alone.edges["x", "g", 0]["param"] = "V"
    words = layouts(alone, "all")
    assert (words["W"]["h (all)"], words["V"]["h (all)"]) == ("scalar", "diagonal")


# The parts of the analysis.


def test_words_join_over_all_paths_and_start_at_the_place_itself() -> None:
    """If this fails, the word of a Jacobian forgets one of several paths, or the empty path."""
    plan = plan_of(stack(), "y", "eprop-deep")
    index = {place.node: i for i, place in enumerate(plan.product.places)}
    words = {plan.product.places[i].node: word for i, word in words_to(plan.network, plan.product, index["h2"]).items()}
    assert words == {
        "h2": Structure.SCALAR,
        "a2": Structure.SCALAR,
        "h1": Structure.FULL,
        "a1": Structure.FULL,
    }


def test_depth_is_the_longest_kept_delay() -> None:
    """If this fails, influence is stored at more lags than a rule reads, or at too few."""
    graph = vanilla(delay=3)
    graph.add_edge("h", "h", key="short", weight="diagonal", delay=2)
    plans = {rule: plan_of(graph, "y", rule) for rule in ("all", "eprop", "immediate")}
    found = {rule: max(depths(plan.product)) for rule, plan in plans.items()}
    assert found == {"all": 3, "eprop": 2, "immediate": 0}
    given = problem(graph, "y", steps=9)
    for rule in found:
        assert_like_oracle(given, rule, blocks=(1, 2, 4))
