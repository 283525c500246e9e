"""Does `snap(n)` give what it gives by definition: all influence in full, of which a mask is kept at block ends?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, error
from nets import declare, gru, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import cells, layouts
from forwardgrad.layouts import table
from forwardgrad.layouts.jacobians import Diagonal, Scaled, Wide, total
from forwardgrad.layouts.snap import MaskedTraces
from forwardgrad.layouts.traces import Traces
from forwardgrad.ops import Array


class InFull(MaskedTraces):
    """The same pattern, put on an influence that was computed in full."""

    def contracted(self, place: int, adjoint: Array, stored: Array) -> Array:
        return Traces.contracted(self, place, adjoint, stored)

    def renewed(self, block: Any, place: int, lag: int, stored: Any) -> Array:
        return Traces.renewed(self, block, place, lag, stored)


@contextmanager
def in_full() -> Iterator[None]:
    known = layouts.SNAP
    layouts.add(replace(known, traces=InFull), replace=True)
    try:
        yield
    finally:
        table.add(known, replace=True)


def uneven(size: int = 5) -> Any:
    """A mask whose rows have no, one, two and all entries."""
    mask = np.zeros((size, size), int)
    mask[1, 0] = mask[2, [0, 3]] = mask[3, [3]] = 1
    mask[4] = 1
    return mask


def sparse_gru() -> nx.MultiDiGraph[str]:
    graph = gru(size=5)
    for u, v, key, edge in list(graph.edges(keys=True, data=True)):
        if edge.get("weight") == "dense" and graph.nodes[u].get("size") == graph.nodes[v].get("size") == 5:
            graph.edges[u, v, key].update(weight="sparse", mask=uneven(), init=None)
    return graph


def sparse(**more: Any) -> nx.MultiDiGraph[str]:
    graph = vanilla(weight="sparse", mask=uneven(), **more)
    graph.nodes["h"]["size"] = 5
    return graph


def lstm() -> nx.MultiDiGraph[str]:
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=3)
    cells.lstm(graph, "m", input="l.h", size=2)
    cells.readout(graph, "y", input="m.h", size=2)
    return graph


def adaptive() -> nx.MultiDiGraph[str]:
    """Slow states, a softmax inside the loop, a scalar and a diagonal weight, and a leak that every unit has."""
    return declare(
        {
            "x": {"op": "input", "size": 2},
            "v": {"op": "tanh", "size": 3, "bias": True},
            "a": {"op": "linear"},
            "p": {"op": "softmax"},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"weight": "dense", "delay": 2}),
        ("v", "a", {"weight": "scalar", "delay": 1}),
        ("a", "a", {"weight": "diagonal", "delay": 1}),
        ("a", "v", {"value": -0.6}),
        ("v", "p", {}),
        ("p", "v", {"weight": "sparse", "mask": 1 - np.eye(3, dtype=int), "delay": 1}),
        ("v", "y", {"weight": "dense"}),
    )


def blocked() -> nx.MultiDiGraph[str]:
    """Groups of units that hear themselves alone: a pattern that `snap(2)` keeps in full, and other groups' not."""
    graph = vanilla(weight="block", blocks=2)
    graph.nodes["h"]["size"] = 6
    return graph


def passed_on() -> nx.MultiDiGraph[str]:
    """A bias that enters by a constant, and credit that comes back to it through one unit of another layer."""
    return declare(
        {"n0": {"op": "linear", "size": 3, "bias": 0.2}, "n1": {"op": "sin", "size": 1}}
        | {"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}},
        ("x", "n0", {"weight": "dense"}),
        ("n0", "n0", {"weight": "sparse", "mask": [[0, 1, 0], [1, 0, 0], [0, 0, 1]], "delay": 1}),
        ("n0", "n1", {"weight": "dense"}),
        ("n1", "n0", {"weight": "sparse", "mask": [[0], [1], [0]], "delay": 1}),
        ("n1", "y", {"weight": "dense"}),
        ("n0", "y", {"weight": "dense"}),
    )


def narrowed() -> nx.MultiDiGraph[str]:
    """A place on which each row keeps its own unit alone, and one that leads to it on which rows keep two or none."""
    return declare(
        {"x": {"op": "input", "size": 2}, "a": {"op": "sigmoid", "size": 3, "bias": 0.1}, "c": {"op": "one_minus"}}
        | {"m": {"op": "square", "size": 2}, "y": {"op": "linear", "size": 2}},
        ("x", "a", {"weight": "dense"}),
        ("a", "c", {}),
        ("a", "m", {"weight": "sparse", "mask": [[1, 1, 0], [1, 0, 0]]}),
        ("m", "a", {"weight": "dense", "delay": 1}),
        ("c", "c", {"weight": "diagonal", "delay": 2}),
        ("c", "a", {"weight": "sparse", "mask": [[1, 0, 0], [1, 1, 0], [0, 0, 0]], "delay": 1}),
        ("a", "a", {"weight": "diagonal", "delay": 1}),
        ("c", "y", {"weight": "dense"}),
    )


NETS: dict[str, Callable[[], nx.MultiDiGraph[str]]] = {
    "passed on": passed_on,
    "narrowed": narrowed,
    "dense": lambda: vanilla(),
    "late": lambda: vanilla(delay=3),
    "sparse": sparse,
    "sparse and late": lambda: sparse(delay=2),
    "groups": blocked,
    "stack": lambda: stack(),
    "gru": lambda: gru(),
    "sparse gru": sparse_gru,
    "lstm": lstm,
    "adaptive": adaptive,
}


@pytest.mark.parametrize("backend", ["numpy", "interpreter"])
@pytest.mark.parametrize("net", NETS)
def test_what_is_kept_is_what_a_mask_keeps_of_the_whole(net: str, backend: str) -> None:
    """If this fails, an entry that is kept is computed from other entries than it should be."""
    given = problem(NETS[net](), "y", steps=7, gain=1.5)
    partial = 0
    for order in (1, 2, 3):
        program = fg.compile(given.graph, {"y": "mse"}, f"snap({order})", backend=backend)
        partial += sum(len(traces._partial) for traces in program._engine.traces.values())
        with in_full():
            whole = fg.compile(given.graph, {"y": "mse"}, f"snap({order})", backend="interpreter")
        for block in (1, 2, 4):
            found, wanted = (
                each.gradient(given.params, given.inputs, given.targets, block=block).grads for each in (program, whole)
            )
            assert error(found, wanted) <= TOLERANCE, (order, block)
        assert all(np.abs(g).max() > 1e-6 for g in wanted.values())
    assert partial, "no pattern leaves anything out"


def test_the_rule_text_gives_mixed_rules_the_same_gradients() -> None:
    """If this fails, credit of a step passes through influence that other parameters compress."""
    given = problem(stack(), "y", steps=7, gain=1.5)
    rules = {"x->a1": "snap(1)", "h1->a1": "eprop", "*": "rtrl"}
    for backend in ("numpy", "interpreter"):
        mixed = fg.compile(given.graph, {"y": "mse"}, rules, backend=backend)
        found = mixed.gradient(given.params, given.inputs, given.targets, block=1).grads
        for name, rule in (("x->a1", "snap(1)"), ("h1->a1", "eprop"), ("h2->a2", "rtrl")):
            alone = fg.compile(given.graph, {"y": "mse"}, rule, backend=backend)
            wanted = alone.gradient(given.params, given.inputs, given.targets, block=1).grads
            assert error({name: found[name]}, {name: wanted[name]}) <= TOLERANCE


def test_a_step_of_snap_makes_no_influence_in_full() -> None:
    """If this fails, SnAp-1 costs n^3 numbers where n^2 are kept: memory is what tells."""
    graph = vanilla()
    graph.nodes["h"]["size"] = 60
    snap, full = (fg.compile(graph, {"y": "mse"}, rule) for rule in ("snap(1)", "rtrl"))
    kept = sum(snap.cost(4, 1).influence.values())
    assert snap.cost(4, 1).working < 6 * kept
    assert full.cost(4, 1).working > 50 * kept
    assert snap.rules["h->h"].flops < full.rules["h->h"].flops / 50


def as_array(jacobian: Any, shape: tuple[int, int]) -> Array:
    rows, columns = np.indices(shape)
    return np.broadcast_to(jacobian.at(rows, columns), (2, *shape))


def test_a_jacobian_that_is_put_off_is_the_product_of_its_factors() -> None:
    """If this fails, an entry that is read is another one than the array would have there."""
    random = np.random.default_rng(0)
    d, e, f = (random.normal(size=(2, n)) for n in (3, 4, 5))
    w, v, u = random.normal(size=(3, 4)), random.normal(size=(4, 5)), random.normal(size=(2, 3, 4))
    first = Diagonal(d)
    wide = d[:, :, None] * w * e[:, None]
    lazy = first.times(w).scaled(e)
    assert isinstance(lazy, Scaled)
    assert np.allclose(as_array(first, (3, 3)), d[:, :, None] * np.eye(3))
    assert np.allclose(as_array(lazy, (3, 4)), wide)
    assert np.allclose(as_array(lazy.times(v).scaled(f), (3, 5)), wide @ v * f[:, None])
    both = total([first, total([first.times(np.ones((3, 3))), first])])
    dense = 2 * d[:, :, None] * np.eye(3) + d[:, :, None]
    assert np.allclose(as_array(both, (3, 3)), dense)
    assert np.allclose(as_array(both.times(w), (3, 4)), dense @ w)
    assert np.allclose(as_array(both.times(u), (3, 4)), dense @ u)
    assert isinstance(first.times(u), Wide)
