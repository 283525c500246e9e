"""Cases that were defects once, each with what it was mistaken for."""

from __future__ import annotations

import tracemalloc
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, error

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.rules.table import rule
from forwardgrad.testing.examining import examine
from forwardgrad.testing.problem import Origin

SEVEN: Any = {"samples": 2, "origin": Origin(steps=7)}


def readouts_of_readouts() -> nx.MultiDiGraph[str]:
    """A vanilla layer, a leaky readout, and a leaky readout of that."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("h", op="tanh", size=3, bias=True)
    graph.add_node("y", op="linear", size=2)
    graph.add_node("z", op="linear", size=3)
    graph.add_edge("x", "h", weight="dense")
    graph.add_edge("h", "h", weight="dense", delay=1)
    graph.add_edge("h", "y", weight="dense")
    graph.add_edge("y", "y", value=0.6, delay=1)
    graph.add_edge("y", "z", weight="dense")
    graph.add_edge("z", "z", value=-0.7, delay=1)
    return graph


@pytest.mark.parametrize("lossy", ["snap(1)", "snap(2)", "uoro; seed=3"])
def test_a_lossy_gradient_does_not_depend_on_the_rules_of_others(lossy: str) -> None:
    """If this fails, what a lossy rule compresses follows the price of other parameters' influence."""
    random = np.random.default_rng(0)
    x = {"x": random.normal(size=(8, 2, 2))}
    targets = {"y": random.normal(size=(8, 2, 2)), "z": random.normal(size=(8, 2, 3))}
    found = []
    for chosen in (lossy, {"h->h": lossy, "*": "eprop"}, {"h->h": lossy, "*": "rtrl"}):
        program = fg.compile(readouts_of_readouts(), {"y": "mse", "z": "mse"}, chosen)
        grads = program.gradient(program.init(0), x, targets, block=1).grads
        found.append({"h->h": grads["h->h"]})
        assert not any("filtered" in place for place in program.rules["h->h"].layouts)
    exact = fg.compile(readouts_of_readouts(), {"y": "mse", "z": "mse"}, "rtrl")
    reference = {"h->h": exact.gradient(exact.init(0), x, targets, block=1).grads["h->h"]}
    assert error(found[0], found[1]) <= TOLERANCE
    assert error(found[0], found[2]) <= TOLERANCE
    assert error(found[0], reference) > 1e-6 or lossy == "snap(2)"  # two transitions reach all of a dense layer


def test_an_edge_may_be_left_out_of_random_feedback() -> None:
    """If this fails, an exemption before a wider pattern is lost."""
    graph = readouts_of_readouts()
    spared = fg.compile(graph, {"y": "mse"}, rule('eprop; feedback={"h->y": "exact", "*": "random"}'), dead="ignore")
    assert "random" not in spared.rules["x->h"].verdict
    assert "random" in fg.compile(graph, {"y": "mse"}, "eprop-random", dead="ignore").rules["x->h"].verdict
    assert rule("eprop; feedback={'h->y': 'exact'}") == rule("eprop")


@pytest.mark.parametrize("chosen", ["eprop-adaptive", "eprop; feedback=signal", "tbptt", "eprop-random"])
def test_every_rule_with_a_reference_can_be_checked(chosen: str) -> None:
    """If this fails, `check` cannot serve rules of the table that the oracle can."""
    assert all(found.sample.passed for found in examine(fg.load("elman"), {"y": "mse"}, chosen, **SEVEN))
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("h", op="tanh", size=3)
    graph.add_edge("x", "h", weight="dense")
    graph.add_edge("h", "h", weight="dense", delay=1)
    assert all(found.sample.passed for found in examine(graph, {"h": "mse"}, chosen, **SEVEN))


def test_the_price_of_an_endless_block_is_found_at_once() -> None:
    """If this fails, asking for a price takes as long as running."""
    program = fg.compile(fg.load("leaky_stack"), rule="eprop")
    assert program.cost(1, 10**12).working > program.cost(1, 10**6).working > program.cost(1, 4000).working
    assert program.cost(1, 6000).working == pytest.approx(program.cost(1, 4000).working * 1.5, rel=0.02)


def test_factors_of_one_kind_are_one() -> None:
    """If this fails, two spellings of one rule are unequal."""
    assert rule("hops(3) & hops(2)") == rule("hops(2)")
    assert rule("window(3) & window(5)") == rule("window(3)")
    assert rule("cut(['a->b']) & cut(['b->b'])") == rule("cut(['b->b', 'a->b'])")
    assert rule("hops(3) & hops(2)") != rule("hops(3)")


def test_arguments_that_once_ended_in_bare_errors() -> None:
    """If this fails, a slip of the pen ends in an error that is not ours."""
    graph = fg.load("elman")
    program = fg.compile(graph)
    x = {"x": np.ones((3, 1, 1))}
    given: Any = (graph, program.init(), x, {"y": np.ones((3, 1, 1))}, {"y": "mse"})
    calls: list[Any] = [
        lambda: rule("rtrl; operator=(1, 2)"),
        lambda: rule("rtrl; feedback=(1, 2)"),
        lambda: oracle.reverse(*given, rule="tbptt", block=0),
        lambda: oracle.reverse(*given, rule="eprop; feedback=signal", signals=3),  # type: ignore[arg-type]
        lambda: oracle.reverse(*given, rule={"zz": "rtrl", "*": "eprop"}),
        lambda: program.pattern(["h"]),  # type: ignore[arg-type]
        lambda: fg.SGD(10**400),
        lambda: fg.Learner(program, program.init(), fg.SGD),  # type: ignore[arg-type]
        lambda: fg.Learner.load(None),
        lambda: fg.Learner(program, program.init(), fg.SGD(0.1)).save(None),
    ]
    for call in calls:
        with pytest.raises(fg.ForwardgradError):
            call()


@pytest.mark.parametrize("chosen", ["eprop", "rtrl"])
def test_the_price_of_sparse_weights_counts_what_they_gather(chosen: str) -> None:
    """If this fails, a budget lets through blocks of sparse weights that take twice the memory."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("h", op="tanh", size=64)
    graph.add_node("y", op="linear", size=64)
    graph.add_edge("x", "h", weight="dense")
    graph.add_edge("h", "h", delay=1, weight="sparse", density=0.6)
    graph.add_edge("h", "y", weight="sparse", density=0.6)
    program = fg.compile(graph, {"y": "mse"}, chosen)
    params, x, y = program.init(0), {"x": np.ones((16, 4, 2))}, {"y": np.ones((16, 4, 64))}
    state, _ = program.step(params, x, y, state=program.start(4))
    tracemalloc.start()
    try:
        program.step(params, x, y, state=state)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert program.cost(4, 16).working == pytest.approx(peak, rel=0.1)
