"""Is a gradient called exact if and only if it is, and are the edges named at which credit is dropped?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from checks import assert_like_oracle, compiled, error
from hypothesis import event, given, settings
from hypothesis import strategies as st
from nets import declare, gru, problem, readout_of_features, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems


def dropped(graph: Any, rule: Any, *outputs: str) -> dict[str, tuple[str, ...]]:
    """By parameter, the edges at which credit is dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.DeadParameterWarning)
        program = fg.compile(graph, loss=dict.fromkeys(outputs or ("y",), "mse"), rule=rule, dead="warn")
    assert all(derived.exact == (not derived.dropped) for derived in program.rules.values())
    return {name: derived.dropped for name, derived in program.rules.items()}


def test_eprop_is_exact_behind_one_leaky_readout() -> None:
    """If this fails, e-prop of a feed-forward net loses the filter of its readout, or knows not that it is exact."""
    for rule in ("eprop", "eprop-deep", "synaptic", "near"):
        given_ = problem(readout_of_features(), "y")
        program = assert_like_oracle(given_, rule)
        assert all(derived.exact for derived in program.rules.values())
        found = program.gradient(given_.params, given_.inputs, given_.targets, block=2).grads
        assert error(found, oracle.reverse(**given_.arguments).grads) < 1e-12
    assert dropped(readout_of_features(), "immediate") == dict.fromkeys(("x->h", "h->y"), ("y->y",))


def test_a_readout_behind_a_readout_is_not_exact_under_eprop_unless_it_has_the_role() -> None:
    """If this fails, memory between the layers of a readout is dropped in silence."""
    graph = readout_of_features()
    graph.add_node("out", op="tanh", size=2)
    graph.add_edge("y", "out", weight="dense")
    assert dropped(graph, "eprop", "out")["x->h"] == ("y->y",)
    assert dropped(graph, "eprop-deep", "out")["x->h"] == ()
    graph.edges["y", "y", 0]["role"] = "readout"
    assert dropped(graph, "eprop", "out")["x->h"] == ()
    assert_like_oracle(problem(graph, "out"), "eprop")


def test_what_eprop_drops_in_a_vanilla_rnn() -> None:
    """If this fails, a listing names wrong edges for the plainest of networks."""
    for rule in ("eprop", "eprop-deep", "immediate", "synaptic"):
        found = dropped(vanilla(), rule)
        assert found["h->y"] == ()
        assert {found[name] for name in ("x->h", "h->h", "h.bias")} == {("h->h",)}
    for rule in ("all", "near"):
        assert set(dropped(vanilla(), rule).values()) == {()}


@pytest.mark.parametrize(
    ("rule", "of_lower", "of_upper"),
    [
        ("all", (), ()),
        ("eprop-deep", ("h1->a1", "h2->a2"), ("h2->a2",)),
        ("eprop", ("h1->a1", "h2->a2", "h2->h2"), ("h2->a2",)),
        ("near", ("h2->a2", "h2->h2"), ()),
        ("immediate", ("h1->a1", "h1->h1", "h2->a2", "h2->h2"), ("h2->a2", "h2->h2")),
        ("cut(['h1->a2'])", ("h1->a2",), ()),
        ("eprop-deep & near", ("h1->a1", "h2->a2", "h2->h2"), ("h2->a2",)),
    ],
)
def test_what_each_rule_drops_in_a_stack(rule: str, of_lower: tuple[str, ...], of_upper: tuple[str, ...]) -> None:
    """If this fails, credit through depth is not told apart from credit through memory."""
    found = dropped(stack(), rule)
    assert {found[name] for name in ("x->a1", "h1->a1")} == {of_lower}
    assert {found[name] for name in ("h1->a2", "h2->a2")} == {of_upper}
    assert found["h2->y"] == ()


def test_what_eprop_drops_in_a_gru() -> None:
    """If this fails, a gate's lost memory is not listed."""
    into = ("l.h->l.z", "l.h->l.r")
    plain, deep = dropped(gru(), "eprop"), dropped(gru(), "eprop-deep")
    for unit in "zn":
        assert set(plain[f"x->l.{unit}"]) == {"l.reset->l.n", *into}
    # Credit of the reset gate has crossed a mixing edge: all memory behind it is dropped.
    assert set(plain["x->l.r"]) == {*into, "l.h->l.reset", "l.h->l.kept"}
    assert set(deep["x->l.r"]) == {*into, "l.reset->l.n"}
    assert plain["l.h->y"] == plain["y.bias"] == ()


def test_a_cut_behind_which_no_loss_lies_does_not_spoil_exactness() -> None:
    """If this fails, a gradient that is exact is called an approximation."""
    graph = vanilla(weight="diagonal")
    graph.add_node("probe", op="tanh", size=2)
    graph.add_edge("h", "probe", weight="dense", trainable=False, delay=1)
    graph.add_edge("probe", "probe", value=[[0.5, 0.1], [0.2, 0.5]], delay=1)
    for rule in ("eprop", "eprop-deep", "cut(['h->probe'])"):
        assert set(dropped(graph, rule).values()) == {()}
        program = assert_like_oracle(problem(graph, "y"), rule)
        assert program.rules["x->h"].exact
    heard = dropped(graph, "eprop", "y", "probe")
    assert heard["x->h"] == ("probe->probe",)
    assert heard["h->y"] == ()


def test_a_cut_that_a_parameter_never_reaches_does_not_spoil_its_exactness() -> None:
    """If this fails, one approximate parameter makes all others approximate."""
    found = dropped(stack(), {"x->a1": "immediate", "*": "rtrl"})
    assert found["x->a1"]
    assert set(found.values()) == {(), found["x->a1"]}


def test_a_cut_by_the_graph_counts_like_one_by_the_rule() -> None:
    """If this fails, RTRL of a graph with credit cut is called exact."""
    found = dropped(vanilla(credit="cut"), "rtrl")
    assert found == {**dict.fromkeys(("x->h", "h->h", "h.bias"), ("h->h",)), "h->y": ()}
    assert set(dropped(vanilla(credit="keep"), "eprop").values()) == {()}


def test_the_reset_of_a_spiking_unit_is_listed() -> None:
    """If this fails, the reset that e-prop ignores is not named."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "v": {"op": "linear", "size": 3},
            "z": {"op": "spike"},
            "y": {"op": "linear"},
        },
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"value": 0.9, "delay": 1}),
        ("z", "v", {"key": "reset", "value": -1.0, "delay": 1, "role": "reset"}),
        ("v", "z"),
        ("z", "y"),
    )
    assert dropped(graph, "eprop") == {"x->v": ("z->v#reset",)}
    assert dropped(graph, "rtrl") == {"x->v": ()}


# Soundness on random graphs.


@given(data=st.data(), drawn=problems(most_steps=8))
@settings(max_examples=40, deadline=None)
def test_what_is_called_exact_is_exact(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, the proof of exactness overlooks a cut."""
    rule = data.draw(path_rules(drawn.edges))
    program = compiled(drawn, rule)
    exact = [name for name, derived in program.rules.items() if derived.exact]
    event(f"exact: {'all' if len(exact) == len(program.rules) else 'some' if exact else 'none'}")
    found = program.gradient(drawn.params, drawn.inputs, drawn.targets, block=2, mask=drawn.mask).grads
    whole = drawn.graph.copy()
    for _, _, attributes in whole.edges(data=True):
        attributes.pop("credit", None)
    wanted = oracle.reverse(**{**drawn.arguments, "graph": whole}, rule="all").grads
    assert error({name: found[name] for name in exact}, {name: wanted[name] for name in exact}) < 1e-10


# Dead parameters.


def hidden_behind(edge: dict[str, Any]) -> Any:
    """A layer that reaches the loss through one edge only."""
    graph = vanilla()
    graph.remove_edge("h", "y")
    graph.add_edge("h", "y", weight="dense", **edge)
    return graph


def test_a_parameter_without_a_path_to_a_loss_is_refused_by_name() -> None:
    """If this fails, a parameter silently never learns."""
    with pytest.raises(fg.RuleError) as caught:
        fg.compile(hidden_behind({"delay": 1}), loss={"y": "mse"}, rule="immediate")
    assert "parameter 'x->h' (and 2 more): rule 'immediate' keeps no path from it to a loss." in str(caught.value)
    assert "Credit is cut at: h->h, h->y. Freeze it with trainable=False" in str(caught.value)
    fg.compile(hidden_behind({"delay": 1}), loss={"y": "mse"}, rule="rtrl")


def test_a_parameter_from_which_no_loss_can_be_reached_is_refused_under_every_rule() -> None:
    """If this fails, a loose end of the graph is compiled without a word."""
    with pytest.raises(fg.RuleError, match=r"parameter 'h->y'.*\n.*no edge leads on to a loss"):
        fg.compile(vanilla(), loss={"h": "mse"}, rule="rtrl")


def test_a_dead_parameter_may_be_a_warning_and_then_has_gradient_zero() -> None:
    """If this fails, `dead="warn"` raises, stays silent, or leaves the parameter out of the gradients."""
    given_ = problem(hidden_behind({"credit": "cut"}), "y")
    with pytest.warns(
        fg.DeadParameterWarning, match=r"parameter 'x->h' \(and 2 more\).*Credit is cut at: h->y"
    ) as caught:
        program = fg.compile(given_.graph, loss=given_.loss, dead="warn")
    assert len(caught) == 1
    found = program.gradient(given_.params, given_.inputs, given_.targets, block=2).grads
    assert {name for name, gradient in found.items() if gradient.any()} == {"h->y"}
    assert {name: found[name].shape for name in ("x->h", "h->h", "h.bias")} == {
        **{"x->h": (3, 2), "h->h": (3, 3), "h.bias": (3,)}
    }
    assert not program.rules["x->h"].layouts
    assert np.isfinite(program.cost(batch=2).total)
