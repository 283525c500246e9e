"""Does an automaton with several runs count a path once?"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, error
from nets import problem, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.rules.paths import EdgeView, NodeView


class GuessesTheEnd:
    """Keeps every path, along many runs: at each delayed edge it may guess that no explicit edge will follow."""

    def start(self, node: NodeView) -> Iterable[str]:
        return ["open", "closed"]

    def step(self, mode: str, edge: EdgeView, target: NodeView) -> Iterable[str]:
        if mode == "open":
            return ["open", "closed"] if edge.delay else ["open"]
        return [] if edge.explicit else ["closed"]


def test_a_path_counts_once_however_many_runs_keep_it() -> None:
    """If this fails, a nondeterministic automaton counts a path once a run."""
    given = problem(vanilla(), "y")
    program = assert_like_oracle(given, fg.determinised(GuessesTheEnd()))
    exact = oracle.reverse(**given.arguments, rule="rtrl").grads
    assert max(float(np.abs(g).max()) for g in exact.values()) > 1e-3
    found = program.gradient(given.params, given.inputs, given.targets, block=2).grads
    assert error(found, exact) <= TOLERANCE


class OnlyClosed(GuessesTheEnd):
    """Guesses at once that no explicit edge follows."""

    def start(self, node: NodeView) -> Iterable[str]:
        return ["closed"]


def test_a_path_that_no_run_keeps_is_cut() -> None:
    """If this fails, runs that have died are taken to go on."""
    given = problem(vanilla(), "y")
    assert_like_oracle(given, fg.determinised(OnlyClosed()))
    cut = oracle.reverse(**given.arguments, rule=fg.determinised(OnlyClosed())).grads
    assert error(cut, oracle.reverse(**given.arguments, rule="hops(1)").grads) <= TOLERANCE
    assert error(cut, oracle.reverse(**given.arguments, rule="rtrl").grads) > 1e-3


def test_a_set_of_modes_without_the_wrapper_is_refused_with_a_way_out() -> None:
    """If this fails, a nondeterministic automaton given bare ends in a bare error."""

    class Bare(GuessesTheEnd):
        def start(self, node: NodeView) -> Iterable[str]:
            return {"open"}

    graph: nx.MultiDiGraph[str] = vanilla()
    with pytest.raises(fg.RuleError, match="determinised"):
        fg.compile(graph, loss={"y": "mse"}, rule=Bare())
    with pytest.raises(fg.RuleError, match="start and step"):
        fg.determinised(3)
