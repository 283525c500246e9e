"""Is the product of graph and automaton explored, pruned and merged as far as credit goes, and no further?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checks import assert_like_oracle, compiled, error
from nets import declare, gru, places, plan_of, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.compiler.labels import label
from forwardgrad.compiler.product import multiply
from forwardgrad.graph import validate
from forwardgrad.rules.paths import All, EdgeView, EpropDeep, Mode, NodeView, PathRule, Synaptic
from forwardgrad.rules.rule import Rule

NAMED = ["all", "eprop-deep", "synaptic", "near", "eprop", "immediate"]


@dataclass(frozen=True)
class Automaton(PathRule):
    """An automaton from two functions."""

    first: Callable[[NodeView], Any]
    then: Callable[[Any, EdgeView, NodeView], Any]

    def start(self, node: NodeView) -> Mode:
        return self.first(node)

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return self.then(mode, edge, target)

    def __str__(self) -> str:
        return "mine"


# What is explored.


def test_eprop_deep_on_a_stack_by_name() -> None:
    """If this fails, credit of a lower layer does not reach the memory of the upper one in the mode of the table."""
    plan = plan_of(stack(), "y", "eprop-deep")
    assert places(plan) == {"a1 (fresh)", "h1 (state)", "a2 (fresh)", "h2 (state)", "y (fresh)"}
    arcs = {(arc.edge, plan.product.places[arc.target].label) for arc in plan.product.arcs}
    assert arcs == {
        *(("a1->h1", "state"), ("h1->h1", "state"), ("h1->a2", "fresh")),
        *(("a2->h2", "state"), ("h2->h2", "state"), ("h2->y", "fresh")),
    }


def test_a_parameter_enters_after_its_edge_even_where_the_edge_is_cut() -> None:
    """If this fails, cutting an edge takes away its own weight's gradient."""
    graph = vanilla(credit="cut")
    plan = plan_of(graph, "y", "all")
    assert {i.parameter for i in plan.product.injections} == set(validate(graph).trainable)
    assert all(arc.edge != "h->h" for arc in plan.product.arcs)
    given = problem(graph, "y")
    assert oracle.reverse(**given.arguments).grads["h->h"].any()
    assert_like_oracle(given, "all")


def test_a_parameter_enters_once_at_each_of_its_sites() -> None:
    """If this fails, a tied weight is counted at one of its sites only."""
    graph = stack()
    for layer in "12":
        graph.edges[f"h{layer}", f"a{layer}", 0]["param"] = "U"
    sites = [i for i in plan_of(graph, "y", "all").product.injections if i.parameter == "U"]
    assert sorted(str(site.edge) for site in sites) == ["h1->a1", "h2->a2"]


def test_nothing_enters_or_passes_a_stop() -> None:
    """If this fails, an op whose declared derivative is zero takes part in credit."""
    graph = vanilla()
    graph.add_node("s", op="stop", size=3)
    graph.remove_edge("h", "y")
    graph.add_edge("h", "s", weight="diagonal")
    graph.add_edge("s", "y", weight="dense")
    plan = plan_of(graph, "y", "all")
    assert places(plan) == {"y (all)"}
    assert set(plan.dead) == {"x->h", "h->h", "h.bias", "h->s"}
    given = problem(graph, "y")
    with pytest.warns(fg.DeadParameterWarning):
        program = fg.compile(graph, loss=given.loss, dead="warn")
    found = program.gradient(given.params, given.inputs, given.targets, block=2).grads
    assert {name for name, gradient in found.items() if gradient.any()} == {"s->y"}


# What is pruned and merged.


def test_places_from_which_no_loss_is_reached_fall_away() -> None:
    """If this fails, influence is stored that no learning signal ever reads."""
    graph = stack()
    graph.add_node("probe", op="linear", size=2)
    graph.add_edge("h2", "probe", value=[[1, 1, 1], [1, 0, 1]])
    graph.add_edge("probe", "probe", value=0.9, delay=1)
    assert places(plan_of(graph, "y", "all")) == places(plan_of(stack(), "y", "all"))
    assert "probe (all)" in places(plan_of(graph, ("y", "probe"), "all"))


def parity() -> Automaton:
    """Counts edges modulo two, and never looks at the count."""
    return Automaton(lambda node: "even", lambda mode, edge, target: "odd" if mode == "even" else "even")


@pytest.mark.parametrize("graph", [vanilla(), stack(), gru()], ids=["vanilla", "stack", "gru"])
def test_modes_that_do_not_matter_are_merged(graph: Any) -> None:
    """If this fails, a rule with more modes than it needs costs more than the rule it equals."""
    needed, redundant = plan_of(graph, "y", "all"), plan_of(graph, "y", parity())
    explored = multiply(
        needed.network, label(needed.network, ("y",)), dict.fromkeys(needed.network.trainable, Rule(parity()))
    )
    assert len(explored.places) > len(needed.product.places)  # there is something to merge
    assert len(redundant.product.places) == len(needed.product.places)
    assert len(redundant.product.arcs) == len(needed.product.arcs)
    assert sorted(redundant.layouts.values()) == sorted(needed.layouts.values())
    given = problem(graph, "y")
    exact = oracle.reverse(**given.arguments).grads
    program = assert_like_oracle(given, parity())
    assert error(program.gradient(given.params, given.inputs, given.targets, block=2).grads, exact) < 1e-12


def test_modes_that_matter_are_not_merged() -> None:
    """If this fails, two places are made one whose futures differ."""
    first_hop_only = Automaton(
        lambda node: 0, lambda mode, edge, target: mode + edge.explicit if mode + edge.explicit <= 1 else None
    )
    plan = plan_of(vanilla(), "y", first_hop_only)
    assert {"h (0)", "h (1)"} <= places(plan)
    given = problem(vanilla(), "y")
    program = assert_like_oracle(given, first_hop_only)
    one_hop = program.gradient(given.params, given.inputs, given.targets, block=1).grads
    for other in ("all", "eprop"):
        assert error(one_hop, oracle.reverse(**given.arguments, rule=other).grads) > 1e-3


def test_equal_rules_of_several_parameters_share_their_places() -> None:
    """If this fails, the cost of a sweep grows with the number of parameters."""
    once = plan_of(stack(), "y", "all")
    twice = plan_of(stack(), "y", {name: "rtrl" if "h" in name else All() for name in once.network.trainable})
    assert twice.product == once.product
    mixed = plan_of(stack(), "y", {name: "immediate" if name == "x->a1" else "all" for name in once.network.trainable})
    assert len(mixed.product.places) > len(once.product.places)


def test_rules_share_what_futures_they_have_in_common() -> None:
    """If this fails, the readout is stored once for every rule in use."""
    plan = plan_of(vanilla(), "y", {"x->h": "immediate", "h->h": "all", "h->y": "eprop", "h.bias": "near"})
    assert sum(place.node == "y" for place in plan.product.places) == 1
    assert sum(place.node == "h" for place in plan.product.places) == 2  # with memory, and without


# Automata that cannot be served.


def refused(rule: Any, *words: str) -> None:
    with pytest.raises(fg.RuleError) as caught:
        fg.compile(vanilla(), loss={"y": "mse"}, rule=rule)
    for word in words:
        assert word in str(caught.value)


def test_an_automaton_without_end_is_refused() -> None:
    """If this fails, the compiler runs until memory is full."""
    counting = Automaton(lambda node: 0, lambda mode, edge, target: mode + 1)
    refused(counting, "rule 'mine': more than 128 modes of one node.", "needs a finite number of modes")


@pytest.mark.parametrize(
    ("rule", "mode"),
    [
        (Automaton(lambda node: [0], lambda mode, edge, target: mode), "[0]"),
        (Automaton(lambda node: 0, lambda mode, edge, target: {"count": 1}), "{'count': 1}"),
    ],
)
def test_a_mode_that_is_not_hashable_is_refused(rule: Automaton, mode: str) -> None:
    """If this fails, a list as a mode ends in a bare TypeError."""
    refused(rule, "rule 'mine'", f"mode {mode} at node 'h' is not hashable")


@pytest.mark.parametrize("product", [False, True])
def test_a_start_that_returns_none_leaves_parameters_untrained(product: bool) -> None:
    """If this fails, a parameter without a mode to start in has a gradient of zero, or steps see the mode None."""
    rule: PathRule = Automaton(lambda node: "now" if node.name == "y" else None, lambda mode, edge, target: mode)
    given = problem(vanilla(), "y")
    program = assert_like_oracle(given, rule & Synaptic() if product else rule)
    assert program.plan.untrained == ("x->h", "h->h", "h.bias")
    found = program.gradient(given.params, given.inputs, given.targets, block=3).grads
    assert found.keys() == {"h->y"}
    assert np.abs(found["h->y"]).max() > 1e-3


def test_a_rule_that_trains_a_shared_weight_at_one_place_only_is_refused() -> None:
    """If this fails, a shared weight gets a part of its gradient and says nothing."""
    graph = vanilla(param="W")
    graph.add_node("g", op="tanh", size=3)
    graph.add_edge("h", "g", weight="dense", param="W")
    graph.add_edge("g", "y", weight="dense")
    rule = Automaton(lambda node: None if node.name == "g" else "now", lambda mode, edge, target: mode)
    with pytest.raises(fg.RuleError, match="trains parameter 'W' where it enters one node, not another"):
        fg.compile(graph, loss={"y": "mse"}, rule=rule)


@pytest.mark.parametrize("product", [False, True])
def test_a_step_or_start_that_raises_is_reported_with_the_place_where(product: bool) -> None:
    """If this fails, a slip in a user's automaton ends in a bare KeyError from inside the compiler."""

    def fail(*_: Any) -> Any:
        raise KeyError("fresh")

    step: PathRule = Automaton(lambda node: "a", fail)
    start: PathRule = Automaton(fail, lambda mode, edge, target: "a")
    refused(step & Synaptic() if product else step, "edge 'h->h'", "node 'h'", "failed", "KeyError: 'fresh'")
    refused(start & Synaptic() if product else start, "start(node 'h') failed", "KeyError: 'fresh'")


def test_an_object_with_start_and_step_is_a_rule() -> None:
    """If this fails, a user must inherit from the library to write a rule."""

    class Plain:
        def start(self, node: NodeView) -> str:
            return EpropDeep().start(node)  # type: ignore[return-value]

        def step(self, mode: str, edge: EdgeView, target: NodeView) -> Any:
            return EpropDeep().step(mode, edge, target)

    given = problem(stack(), "y")
    ours = compiled(given, "eprop-deep").gradient(given.params, given.inputs, given.targets, block=2)
    theirs = compiled(given, Plain()).gradient(given.params, given.inputs, given.targets, block=2)
    assert error(theirs.grads, ours.grads) == 0
    assert "Plain" in str(compiled(given, Plain()))


# `credit` and roles on the graph.


@pytest.mark.parametrize("rule", [*NAMED, "eprop & near"])
def test_credit_keep_opens_an_edge_under_every_rule(rule: str) -> None:
    """If this fails, `keep` holds for some rules only, or for one factor of a product."""
    kept = problem(vanilla(credit="keep"), "y")
    exact = oracle.reverse(**kept.arguments, rule="all").grads
    program = assert_like_oracle(kept, rule)
    assert error(program.gradient(kept.params, kept.inputs, kept.targets, block=2).grads, exact) < 1e-12
    plain = problem(vanilla(), "y")
    differs = error(oracle.reverse(**plain.arguments, rule=rule).grads, exact) > 1e-3
    assert differs is (rule not in ("all", "near"))


def test_keep_holds_for_each_factor_of_a_composed_rule_by_itself() -> None:
    """If this fails, `keep` restores the whole product mode, and a factor that did not cut forgets its edge."""
    graph = stack()
    graph.edges["h1", "a1", 0]["credit"] = "keep"
    given = problem(graph, "y", steps=8)
    assert_like_oracle(given, "eprop-deep & synaptic")
    by_factor = oracle.reverse(**given.arguments, rule="eprop-deep & synaptic").grads

    class Together(PathRule):
        """The product as one automaton, whose mode stays as a whole."""

        def start(self, node: NodeView) -> Mode:
            return (EpropDeep() & Synaptic()).start(node)

        def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
            return (EpropDeep() & Synaptic()).step(mode, edge, target)

    assert error(by_factor, oracle.reverse(**given.arguments, rule=Together()).grads) > 1e-4


@pytest.mark.parametrize("role", ["reset", "topdown"])
def test_eprop_cuts_resets_and_topdown_feedback_and_rtrl_does_not(role: str) -> None:
    """If this fails, credit runs along an edge that e-prop declares cut."""
    graph = vanilla(weight="diagonal")
    source = "h" if role == "reset" else "y"
    weight = {"value": -0.5} if role == "reset" else {"value": [[0.5, -0.4], [0.3, 0.6], [-0.5, 0.4]]}
    graph.add_edge(source, "h", key="back", delay=1, role=role, **weight)
    given = problem(graph, "y")
    for rule in ("eprop", "eprop-deep"):
        program = assert_like_oracle(given, rule)
        assert f"{source}->h#back" in program.rules["x->h"].dropped
        cut = oracle.reverse(**given.arguments, rule=f"cut(['{source}->h#back'])").grads
        assert error(program.gradient(given.params, given.inputs, given.targets, block=2).grads, cut) < 1e-12
    assert error(oracle.reverse(**given.arguments).grads, cut) > 1e-3


def test_delays_between_layers_and_from_inputs_are_served() -> None:
    """If this fails, an edge with a delay that is in no loop loses its influence at block ends."""
    graph = declare(
        {"x": {"op": "input", "size": 2, "initial": 0.3}, "h": {"op": "tanh", "size": 3, "initial": 0.2}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense", "delay": 2}),
        ("h", "y", {"weight": "dense", "delay": 3}),
    )
    given = problem(graph, "y", steps=8)
    for rule in ("all", "eprop-deep"):
        program = assert_like_oracle(given, rule, blocks=(1, 2, 3, 5))
        assert dict(program.rules["x->h"].lags) == {f"h ({'all' if rule == 'all' else 'fresh'})": 3}
    assert "x->h" in compiled(given, "immediate").rules
    assert not oracle.reverse(**given.arguments, rule="immediate").grads["x->h"].any()
