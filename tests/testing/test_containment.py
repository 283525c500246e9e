"""Is containment of rules decided, for paths of every length, with a path that shows where it fails?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import gru, readout_of_features, stack, vanilla

import forwardgrad as fg
from forwardgrad import CheckError, VacuousError, testing
from forwardgrad.rules.paths import Immediate
from forwardgrad.testing import Problem, Vacuity
from forwardgrad.testing.containment import escaping
from forwardgrad.testing.strategies import path_rules, problems

LOSS = {"y": "mse"}
CONTAINED = [
    ("eprop", "eprop-deep"),
    ("eprop-deep", "rtrl"),
    ("eprop", "synaptic"),
    ("synaptic", "near"),
    ("immediate", "rtrl"),
    ("hops(1)", "hops(2)"),
    ("window(1)", "window(3)"),
    ("eprop & cut(['h1->h1'])", "eprop"),
]


@pytest.mark.parametrize(("inner", "outer"), CONTAINED)
def test_the_order_of_the_named_rules(inner: str, outer: str) -> None:
    """If it failed, a rule would keep paths that a wider one drops, or no graph would tell them apart."""
    graph = stack()
    graph.add_edge("a1", "a2", key="late", weight="dense", delay=1)
    testing.assert_contained(inner, outer, graph, LOSS)
    with pytest.raises(CheckError, match="keeps a path of parameter"):
        testing.assert_contained(outer, inner, graph, LOSS)


def test_a_shortest_path_is_printed() -> None:
    """If it failed, a user would not see which path is at issue, nor where the other rule cuts it."""
    with pytest.raises(CheckError) as caught:
        testing.assert_contained("rtrl", "window(2)", vanilla(), LOSS)
    assert str(caught.value).splitlines() == [
        "rule 'rtrl' keeps a path of parameter 'x->h' that rule 'window(2)' drops.",
        "  x->h into h; h->h (delay 1); h->h (delay 1); h->h (delay 1); h->y; loss on y",
        "  'window(2)' cuts it at edge 3 of 4, h->h (delay 1).",
    ]


def test_a_long_path_is_found() -> None:
    """If it failed, containment would be decided on short paths only."""
    found = escaping("rtrl", "window(200)", vanilla(), LOSS)
    assert found is not None
    assert len(found.edges) == 202
    assert found.cut == 200


def test_a_fault_in_an_automaton_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, an automaton that no longer cuts what it must would go unseen."""
    testing.assert_contained("immediate", "hops(3)", stack(), LOSS)
    monkeypatch.setattr(Immediate, "step", lambda self, mode, edge, target: mode)
    with pytest.raises(CheckError, match=r"'hops\(3\)' cuts it at edge"):
        testing.assert_contained("immediate", "hops(3)", stack(), LOSS)


def test_rules_that_cannot_differ_here_are_refused() -> None:
    """If it failed, containment on a graph where both rules are one would count as a result."""
    with pytest.raises(VacuousError, match="'eprop' and 'rtrl' keep the same paths") as caught:
        testing.assert_contained("eprop", "rtrl", readout_of_features(), LOSS)
    assert caught.value.kind is Vacuity.SAME_RULES
    testing.assert_contained("eprop", "rtrl", readout_of_features(), LOSS, allow=["same rules"])


def test_a_rule_that_keeps_nothing_is_refused() -> None:
    """If it failed, a rule that trains nothing would be contained in all others, as if that said something."""
    nothing = vanilla()
    nothing.edges["h", "y", 0]["trainable"] = False
    with pytest.raises(VacuousError, match="keeps no path to a loss") as caught:
        testing.assert_contained("reservoir", "rtrl", nothing, LOSS)
    assert caught.value.kind is Vacuity.ZERO_GRADIENT


def test_untrained_parameters_keep_no_path() -> None:
    """If it failed, a rule that leaves layers as drawn would be called as wide as RTRL."""
    testing.assert_contained("reservoir", "rtrl", vanilla(), LOSS)
    with pytest.raises(CheckError, match="'reservoir' leaves 'x->h' untrained"):
        testing.assert_contained("rtrl", "reservoir", vanilla(), LOSS)


def test_the_diagonal_of_a_weight_is_a_path_of_its_own() -> None:
    """If it failed, rules that differ only in autapses would be called one."""
    graph = vanilla()
    del graph.nodes["h"]["bias"]
    testing.assert_contained("eprop", "eprop; autapses=implicit", gru(), LOSS, allow=["same rules"])
    with pytest.raises(CheckError, match=r"h->h \(delay 1\), diagonal"):
        testing.assert_contained("eprop; autapses=implicit", "immediate", graph, LOSS)


@pytest.mark.parametrize("rule", ["snap(1)", "uoro", "tbptt"])
def test_rules_that_drop_more_than_paths_are_refused(rule: str) -> None:
    """If it failed, a compression would be called equal to its automaton."""
    with pytest.raises(fg.RuleError, match="drops more than paths"):
        testing.assert_contained(rule, "rtrl", vanilla(), LOSS)


def test_wrong_use() -> None:
    """If it failed, a missing loss or an automaton without end would end in a bare error, or never."""
    with pytest.raises(fg.GraphError, match="name nodes of the graph"):
        testing.assert_contained("eprop", "rtrl", vanilla())

    class Endless(fg.PathRule):
        def start(self, node: Any) -> Any:
            return 0

        def step(self, mode: Any, edge: Any, target: Any) -> Any:
            return mode + 1

    with pytest.raises(fg.RuleError, match="An automaton needs a finite number of modes"):
        testing.assert_contained(Endless(), "rtrl", vanilla(), LOSS)


def words(graph: nx.MultiDiGraph[str], rule: Any, loss: Any, longest: int) -> set[tuple[Any, ...]]:
    """The paths of bounded length that a rule keeps, found one by one: parameter, start, edges."""
    program = fg.compile(graph, loss, "rtrl", dead="ignore")
    network, labels = program.network, program.plan.labels
    kept: set[tuple[Any, ...]] = set()
    live = []
    for name in network.trainable:
        parameter = network.parameters[name]
        nodes = [parameter.node] if parameter.node else [network.edges[e].target for e in parameter.edges]
        live += [((name, v), v, rule.start(labels.nodes[v])) for v in nodes]
    for _ in range(longest + 1):
        kept |= {word for word, v, mode in live if mode is not None and labels.nodes[v].output}
        live = [
            ((*word, e.name), e.target, rule.advance(mode, labels.edges[e.name], labels.nodes[e.target], e.credit))
            for word, v, mode in live
            if mode is not None
            for e in network.edges.values()
            if e.source == v
        ]
    return kept


@given(data=st.data(), drawn=problems(max_nodes=3, max_size=2))
@settings(max_examples=80)
def test_it_agrees_with_all_paths_up_to_a_length(data: st.DataObject, drawn: Problem) -> None:
    """If it failed, the decision would call a rule contained that is not, or print a path that is none."""
    a, b = data.draw(path_rules(drawn.edges)), data.draw(path_rules(drawn.edges))
    found = escaping(a, b, drawn.graph, drawn.loss)
    outside = words(drawn.graph, a, drawn.loss, 4) - words(drawn.graph, b, drawn.loss, 4)
    if found is None:
        assert not outside
    else:
        shortest = min((len(word) - 2 for word in outside), default=None)
        assert len(found.edges) == shortest if shortest is not None else len(found.edges) > 4
