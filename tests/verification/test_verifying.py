"""Does the verification pass what is right, find what is wrong, and say what it could not compare?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from checks import compiled
from hypothesis import given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad.compiler import Plan
from forwardgrad.ops import registry
from forwardgrad.rules.table import TABLE
from forwardgrad.structure import Structure
from forwardgrad.testing.strategies import problems, rule_mappings
from forwardgrad.verification import verify
from forwardgrad.verification.classes import SMALL, classes, small_sizes


def leaky_readout() -> nx.MultiDiGraph[str]:
    """A recurrent layer of 40 units, and a readout whose leak is cheaper to filter at its sources."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=30)
    graph.add_node("h", op="tanh", size=40)
    graph.add_node("y", op="linear", size=20)
    graph.add_edge("x", "h", weight="dense")
    graph.add_edge("h", "h", weight="dense", delay=1)
    graph.add_edge("h", "y", weight="dense")
    graph.add_edge("y", "y", value=0.8, delay=1)
    return graph


def changed(program: fg.Program, change: Callable[[Plan], Plan]) -> fg.Program:
    """The program that another plan makes."""
    plan = change(program.plan)
    return fg.Program(program.graph, plan, program.losses, program.chosen, program.dtype, program.backend)


RULES = [
    name if example is None else example
    for name, example in {
        name: {"hops": "hops(1)", "window": "window(2)", "snap": "snap(1)", "settle": "settle(4)"}.get(name)
        for name in TABLE
    }.items()
    if name not in ("cut", "dsf", "kf-rtrl")  # which need edges, constants or one dense weight
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["leaky_stack", "lstm", "alif"])
def test_shipped_graphs_pass(name: str, rule: str) -> None:
    """A check that refuses what is right is switched off."""
    backend = "interpreter" if rule == "eprop" else "numpy"
    found = verify(fg.compile(fg.load(name), rule=rule, backend=backend, dead="ignore"))
    assert found.passed
    assert not any("zero in all runs" in text for text in found.unverified)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_what_is_compiled_passes(data: st.DataObject) -> None:
    """Whatever graph and rule: ties, masks, parallel edges, constants per unit, functions of users, signals."""
    problem = data.draw(problems(brought=True))
    rule = data.draw(rule_mappings(problem))
    program = compiled(problem, rule)
    found = verify(program)
    assert found.passed or not found.runs or set(program.rules) <= set(program.plan.dead), (found, problem)
    assert found.runs or found.unverified


def test_the_decisions_are_those_of_the_real_sizes() -> None:
    """On two units, the leak would cost less where it is: compiling again would check another program."""
    program = fg.compile(leaky_readout(), loss={"y": "mse"}, rule="eprop")
    assert any(place.filtered for place in program.plan.product.places)
    assert verify(program).passed


def narrowed(plan: Plan) -> Plan:
    """The first influence that is stored in full, diagonal."""
    key = next(key for key, word in plan.layouts.items() if word is Structure.FULL)
    return replace(plan, layouts={**plan.layouts, key: Structure.DIAGONAL})


def other_leak(plan: Plan) -> Plan:
    """Filtered by a leak that is not that of the readout."""
    arcs = [
        replace(arc, factor=replace(arc.factor, values=(0.7,))) if arc.factor.values == (0.8,) else arc
        for arc in plan.product.arcs
    ]
    return replace(plan, product=replace(plan.product, arcs=tuple(arcs)))


def without_an_arc(plan: Plan) -> Plan:
    """A kept edge is forgotten, as when two places are merged of which only one has it."""
    delayed = next(arc for arc in plan.product.arcs if arc.delay and arc.source != arc.target)
    return replace(plan, product=replace(plan.product, arcs=tuple(a for a in plan.product.arcs if a != delayed)))


@pytest.mark.parametrize(
    ("graph", "rule", "fault"),
    [
        (fg.load("elman"), "rtrl", narrowed),
        (fg.load("gru"), "rtrl", narrowed),
        (leaky_readout(), "eprop", other_leak),
        (fg.load("lstm"), "rtrl", without_an_arc),
        (fg.load("alif"), "eprop", without_an_arc),
    ],
)
def test_wrong_decisions_are_found(graph: nx.MultiDiGraph[str], rule: str, fault: Callable[[Plan], Plan]) -> None:
    """A check that cannot fail is none. The message says where to look."""
    loss = graph.graph.get("loss") or {"y": "mse"}
    right = fg.compile(graph, loss=loss, rule=rule)
    assert verify(right).passed
    with pytest.raises(fg.CheckError, match=r"(?s)verify: .*On 2 units: x, "):
        verify(changed(right, fault))


def test_classes_are_tied_by_all_that_ties_sizes() -> None:
    """Otherwise the small graph would be refused, or a parameter would not fit all its edges."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name in ("x", "a", "b", "c", "y"):
        graph.add_node(name, op="input" if name == "x" else "tanh", size=5)
    graph.add_edge("x", "a", weight="dense", param="shared")
    graph.add_edge("a", "b", weight="dense", param="shared")
    graph.add_edge("b", "c", weight="diagonal")
    graph.add_edge("c", "y", weight="dense")
    graph.add_edge("c", "c", weight="dense", delay=1)
    program = fg.compile(graph, loss={"y": "mse"})
    assert classes(program) == (("x", "a", "b", "c"), ("y",))
    assert verify(program).passed


def test_any_two_classes_differ_in_some_run() -> None:
    """Only then does a transposed weight between them not fit."""
    groups = [[str(number)] for number in range(11)]
    runs = small_sizes(groups)
    assert {size for run in runs for size in run.values()} == set(SMALL)
    for i in range(11):
        for j in range(i):
            assert any(run[str(i)] != run[str(j)] for run in runs)


def test_arrays_of_the_graph_are_drawn_again() -> None:
    """Fixed weights, masks, vectors of options, biases, constants of a rule: each has a size."""
    random = np.random.default_rng(0)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=7)
    graph.add_node("z", op="spike", size=6, threshold=random.uniform(0.1, 0.2, 6), bias=random.uniform(0, 1, 6))
    graph.add_node("v", op="linear", size=6, initial=np.arange(6.0))
    graph.add_node("y", op="tanh", size=4)
    graph.add_edge("x", "v", weight="sparse", mask=(random.random((6, 7)) < 0.2).astype(float))
    graph.add_edge("v", "v", delay=1, value=np.linspace(0.5, 0.9, 6))
    graph.add_edge("z", "v", delay=1, weight="dense", value=random.normal(size=(6, 6)))
    graph.add_edge("v", "z")
    graph.add_edge("z", "y", weight="sparse", density=0.3, init=0.5)
    graph.add_edge("y", "y", weight="dense", delay=2, init=np.eye(4))
    for rule in (
        "eprop-deep",
        fg.Rule(
            fg.compile(graph, loss={"y": "mse"}).chosen["z->y"].paths, operator={"v->v": [0.5, 0.6, 0.7, 0.5, 0.6, 0.7]}
        ),
    ):
        found = verify(fg.compile(graph, loss={"y": "mse"}, rule=rule))
        assert found.passed
        assert not found.unverified


def test_a_loss_that_ties_sizes_is_named() -> None:
    """It cannot be computed on other sizes, and nobody must take silence for success."""
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    weighted = fg.Loss(
        "weighted",
        lambda y, target: (weights * (y - target) ** 2).sum(-1) / 2,
        lambda y, target: weights * (y - target),
    )
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=3)
    graph.add_node("y", op="tanh", size=4)
    graph.add_edge("x", "y", weight="dense")
    with pytest.warns(
        fg.errors.UnverifiedWarning, match=r"cannot be checked on nodes of two and three units\. ValueError"
    ):
        program = fg.compile(graph, loss={"y": weighted}, verify=True)
    assert not verify(program).passed


def dense(op: str, **attributes: object) -> nx.MultiDiGraph[str]:
    """One layer."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=3)
    graph.add_node("y", op=op, size=4, **attributes)
    graph.add_edge("x", "y", weight="dense")
    return graph


def test_nothing_is_passed_where_nothing_is_compared() -> None:
    """Two gradients of zero agree, whatever the program does; so do no gradients at all."""
    silent = verify(fg.compile(dense("spike", threshold=1e3), loss={"y": "mse"}))
    assert silent.runs
    assert not silent.passed
    assert "x->y' is zero in all runs" in silent.text
    frozen = dense("tanh")
    frozen.edges["x", "y", 0]["trainable"] = False
    none = verify(fg.compile(frozen, loss={"y": "mse"}))
    assert not none.passed
    assert "No parameter is trained" in none.text
    cut = verify(fg.compile(fg.load("elman"), rule="cut('h->y')", dead="ignore"))
    assert cut.passed
    assert cut.unverified == (
        "The rules keep no path to a loss from 'x->h', 'h->h', 'h.bias', so their gradient is zero.",
    )


def test_lossy_layouts_are_named() -> None:
    """What they lose has no reference here."""
    with pytest.warns(
        fg.errors.UnverifiedWarning, match=r"In place of layout 'snap\(1\)' the lossless one was compared"
    ):
        fg.compile(fg.load("elman"), rule="snap(1)", verify=True)


def test_compile_verifies_where_it_is_asked_to() -> None:
    """In silence, when all was compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fg.compile(fg.load("lstm"), rule="eprop", verify=True, dtype="float32")


def vanishing(layers: int = 20) -> nx.MultiDiGraph[str]:
    """Saturating layers, whose first gradients are a small part of the last."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    for n in range(layers):
        graph.add_node(f"h{n}", op="sigmoid", size=4)
        graph.add_edge(f"h{n - 1}" if n else "x", f"h{n}", weight="dense")
        graph.add_edge(f"h{n}", f"h{n}", weight="diagonal", delay=1)
    graph.add_node("y", op="linear", size=2)
    graph.add_edge(f"h{layers - 1}", "y", weight="dense")
    return graph


def test_gradients_that_vanish_are_not_passed_in_silence() -> None:
    """If this fails, an error in a gradient is hidden by the size of another."""
    program = fg.compile(vanishing(), loss={"y": "mse"}, rule="eprop")
    assert any("'x->h0' is less than 0.0001 of the largest" in text for text in verify(program).unverified)
    program = fg.compile(vanishing(3), loss={"y": "mse"}, rule="eprop")
    assert not verify(program).unverified
    arc = next(arc for arc in program.plan.product.arcs if arc.edge == "h0->h0")
    rest = tuple(a for a in program.plan.product.arcs if a != arc)
    with pytest.raises(fg.CheckError, match=r"'x->h0'|'h0->h0'"):
        verify(changed(program, lambda plan: replace(plan, product=replace(plan.product, arcs=rest))))


def test_ops_that_draw_at_random_are_named() -> None:
    """If this fails, the compiler is blamed for what no two runs share."""
    noise, scale = np.random.default_rng(0), np.zeros(1)
    fg.register_op(
        "noisy_", value=lambda x: x + scale * noise.normal(size=x.shape), derivative=lambda x, y: np.ones_like(x)
    )
    scale += 1  # registration would have refused it
    try:
        graph = dense("noisy_")
        found = verify(fg.compile(graph, loss={"y": "mse"}))
    finally:
        registry._table.pop("noisy_")
    assert not found.passed
    assert "draws at random" in found.text


@pytest.mark.parametrize(("given", "told"), [((fg.load("elman"),), "expected a compiled program"), ((), "seed")])
def test_what_cannot_be_verified_is_refused(given: tuple[object, ...], told: str) -> None:
    """If this fails, users read an error of Python's."""
    with pytest.raises(fg.DataError, match=told):
        verify(*(given or (fg.compile(fg.load("elman")),)), seed=0 if given else -1)  # type: ignore[arg-type]
