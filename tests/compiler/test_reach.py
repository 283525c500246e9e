"""Is the pattern of SnAp-n the published one, whatever nodes the layer is made of, and whatever shares a parameter?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, error
from nets import declare, gru, problem, vanilla

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.layouts.snap import MaskedTraces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem, refactored


def ring(size: int) -> Any:
    """The mask of units that hear one neighbour each, and not themselves."""
    return np.roll(np.eye(size, dtype=int), 1, axis=0)


def sparse_lstm() -> nx.MultiDiGraph[str]:
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=4)
    for gate in (v for _, v, e in list(graph.out_edges("l.h", data=True)) if e.get("delay")):
        graph.edges["l.h", gate, 0].update(weight="sparse", mask=ring(4), init=None)
    cells.readout(graph, "y", input="l.h", size=2)
    return graph


def leaky_ring() -> nx.MultiDiGraph[str]:
    graph = vanilla(weight="sparse", mask=ring(4))
    graph.nodes["h"]["size"] = 4
    graph.add_edge("h", "h", value=0.3, delay=1)
    return graph


NETS: dict[str, Callable[[], nx.MultiDiGraph[str]]] = {
    "vanilla": vanilla,
    "ring": lambda: vanilla(weight="sparse", mask=ring(3)),
    "leaky ring": leaky_ring,
    "gru": gru,  # whose reset gate mixes within a step, which widens even SnAp-1
    "lstm on a ring": sparse_lstm,
}


def published(given: Problem, order: int) -> dict[tuple[str, str], Array]:
    """Per parameter and state node, which entries of the influence SnAp-n keeps, `(units, entries)`.

    A step of the recurrent core maps its state to the next. Which parameter reaches which unit in one step, and which
    unit which, is found by differences of one forward step; SnAp-n keeps what is reached within n of them.
    """
    network, epsilon = given.network, 1e-6
    state = [name for name in network.nodes if network.history(name)]
    sizes = [network.nodes[name].size for name in state]
    ends = np.cumsum(sizes)[:-1]
    random = np.random.default_rng(3)
    before = random.normal(size=sum(sizes))
    inputs = {name: x[:1, :1] for name, x in given.inputs.items()}

    def step(before: Array, params: dict[str, Array]) -> Array:
        graph = given.graph.copy()
        for name, part in zip(state, np.split(before, ends), strict=True):
            graph.nodes[name]["initial"] = part
        after = oracle.forward(graph, params, inputs)
        return np.concatenate([after[name][0, 0] for name in state])

    start = step(before, given.params)
    along = [step(before + epsilon * unit, given.params) for unit in np.eye(len(before))]
    transition = np.abs(np.stack(along, axis=1) - start[:, None]) > 1e-12
    kept: dict[tuple[str, str], Array] = {}
    for name, param in given.params.items():
        moved: list[Array] = []
        for entry in np.eye(param.size):
            bumped = {**given.params, name: param + epsilon * entry.reshape(param.shape)}
            moved.append(step(before, bumped))
        found = reached = np.abs(np.stack(moved, axis=1) - start[:, None]) > 1e-12
        for _ in range(order - 1):
            reached = (transition.astype(int) @ reached.astype(int)) > 0
            found = found | reached
        kept |= {(name, node): part for node, part in zip(state, np.split(found, ends), strict=True)}
    return kept


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("net", NETS)
def test_snap_keeps_what_a_parameter_reaches_within_n_steps_of_the_core(net: str, order: int) -> None:
    """If this fails, the pattern is not the published one on layers of the kind it was published for."""
    given = problem(NETS[net](), "y", gain=1.5)
    plan = fg.compile(given.graph, {"y": "mse"}, f"snap({order})").plan
    wanted, compared = published(given, order), 0
    for name in given.params:
        traces = MaskedTraces(plan, name, np.float64)
        for place in traces.places:
            if plan.layouts[name, place] is not Structure.FULL:
                continue
            pattern, mask = wanted[name, plan.product.places[place].node], traces.mask(place)
            mask = np.ones_like(pattern) if mask is None else mask
            assert np.array_equal(mask.reshape(len(pattern), -1), pattern), (name, place)
            compared += not pattern.all()
    assert compared or order > 1


def alif_like() -> nx.MultiDiGraph[str]:
    """A leaky unit and an adaptation that it drives a step later, which only then comes back to it."""
    return declare(
        {
            "x": {"op": "input", "size": 2},
            "v": {"op": "tanh", "size": 3, "bias": True},
            "a": {"op": "linear"},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"weight": "dense", "delay": 1}),
        ("v", "v", {"value": 0.4, "delay": 1}),
        ("v", "a", {"value": 0.5, "delay": 1}),
        ("a", "a", {"value": 0.7, "delay": 1}),
        ("a", "v", {"value": -0.6}),
        ("v", "y", {"weight": "dense"}),
    )


def test_what_a_unit_holds_of_itself_is_no_transition() -> None:
    """If this fails, SnAp-1 drops a unit's own slow state, which e-prop keeps at the same price."""
    given = problem(alif_like(), "y", steps=9, gain=1.5)
    graph = given.graph.copy()
    graph.remove_edge("v", "v", 0)  # without recurrence through other units nothing is lost
    alone = replace(given, graph=graph, params={n: p for n, p in given.params.items() if n != "v->v"})
    for each, exact in ((alone, True), (given, False)):
        program = fg.compile(each.graph, {"y": "mse"}, "snap(1)")
        found = program.gradient(each.params, each.inputs, each.targets, block=1).grads
        assert (error(found, oracle.reverse(**each.arguments).grads) <= TOLERANCE) is exact


@pytest.mark.parametrize("order", [1, 2])
def test_splitting_a_delay_does_not_shorten_what_snap_keeps(order: int) -> None:
    """If this fails, the units of a delay line count as transitions, and a layer two steps late learns nothing."""
    given = problem(vanilla(delay=2), "y", steps=9, gain=1.5)
    spelled = [given, *(replace(given, graph=refactored(given.graph, {"h->h": early})) for early in (1, 2))]
    for backend in ("numpy", "interpreter"):
        for block in (1, 2, 4):
            grads = [
                fg.compile(each.graph, {"y": "mse"}, f"snap({order})", backend=backend)
                .gradient(each.params, each.inputs, each.targets, block=block)
                .grads
                for each in spelled
            ]
            assert all(error(other, grads[0]) <= TOLERANCE for other in grads[1:])
    exact, immediate = (oracle.reverse(**given.arguments, rule=rule).grads for rule in ("rtrl", "immediate"))
    assert error(grads[0], immediate) > 1e-2
    assert (error(grads[0], exact) <= TOLERANCE) is (order > 1)


# Shared parameters.


def chain(kind: str, sizes: tuple[int, int], *, tied: bool, **more: Any) -> nx.MultiDiGraph[str]:
    """Two layers, each with a recurrent weight of that kind; these share one parameter or have one each."""
    names = ("leak", "leak") if tied else ("leak of h", "leak of k")
    return declare(
        {
            "x": {"op": "input", "size": 2},
            "h": {"op": "tanh", "size": sizes[0], "bias": True},
            "k": {"op": "tanh", "size": sizes[1]},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "h", {"weight": "dense"}),
        ("h", "k", {"weight": "dense"}),
        ("k", "y", {"weight": "dense"}),
        ("h", "h", {"weight": kind, "param": names[0], "delay": 1} | more),
        ("k", "k", {"weight": kind, "param": names[1], "delay": 1} | more),
    )


@pytest.mark.parametrize(
    ("kind", "sizes"), [("scalar", (2, 3)), ("scalar", (3, 2)), ("scalar", (3, 3)), ("diagonal", (3, 3))]
)
@pytest.mark.parametrize("rule", ["snap(1)", "snap(2)"])
def test_a_shared_leak_has_the_sum_of_the_gradients_of_each(kind: str, sizes: tuple[int, int], rule: str) -> None:
    """If this fails, a scalar on nodes of unequal size cannot be compressed, or a site of a shared weight is lost."""
    given = problem(chain(kind, sizes, tied=True), "y", steps=9, gain=1.5)
    params = {n: p for n, p in given.params.items() if n != "leak"} | dict.fromkeys(
        ("leak of h", "leak of k"), given.params["leak"]
    )
    apart = replace(given, graph=chain(kind, sizes, tied=False), params=params)
    for backend in ("numpy", "interpreter"):
        for block in (1, 2, 9):
            one, two = (
                fg.compile(each.graph, {"y": "mse"}, rule, backend=backend)
                .gradient(each.params, each.inputs, each.targets, block=block)
                .grads
                for each in (given, apart)
            )
            summed = {"leak": two["leak of h"] + two["leak of k"]}
            assert np.abs(two["leak of h"]).max() > 1e-3
            assert np.abs(two["leak of k"]).max() > 1e-3
            assert error({"leak": one["leak"]}, summed) <= TOLERANCE


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_shared_weight_that_mixes_is_exact_past_the_longest_way(kind: str) -> None:
    """If this fails, a site of a shared weight has no pattern of its own."""
    more = {"mask": ring(3)} if kind == "sparse" else {}
    given = problem(chain(kind, (3, 3), tied=True, **more), "y", steps=9, gain=1.5)
    exact = oracle.reverse(**given.arguments).grads
    for order, same in ((1, False), (3, True)):
        program = fg.compile(given.graph, {"y": "mse"}, f"snap({order})")
        found = program.gradient(given.params, given.inputs, given.targets, block=1).grads
        assert (error(found, exact) <= TOLERANCE) is same
