"""On which graphs, rules and block lengths is a planted fault looked for?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from nets import declare, problem, stack, vanilla

from forwardgrad import cells, oracle
from forwardgrad.ops import Array
from forwardgrad.testing import Problem


def delays() -> Problem:
    """Recurrence with delays of one and three, values before the start, and a tied weight."""
    graph = vanilla(delay=3, param="U")
    graph.nodes["h"]["initial"] = [0.5, -0.4, 0.3]
    graph.add_edge("h", "h", key="tied", weight="dense", delay=1, param="U")
    return problem(graph, "y", steps=9)


def depth() -> Problem:
    """Two layers with losses on both, and feedback."""
    graph = stack()
    graph.add_edge("h2", "a1", weight="dense", delay=1, role="topdown")
    return problem(graph, "y", "h1", steps=8)


def elements() -> Problem:
    """Units that see only themselves, a product, and a leaky readout."""
    graph = declare(
        {"x": {"op": "input", "size": 3}, "v": {"op": "linear", "size": 3, "bias": True}, "g": {"op": "sigmoid"}}
        | {"h": {"op": "mul"}, "y": {"op": "linear", "size": 2}},
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"weight": "diagonal", "delay": 2}),
        ("v", "g", {"weight": "scalar"}),
        ("v", "h", {"port": "a"}),
        ("g", "h", {"port": "b"}),
        ("h", "v", {"weight": "scalar", "delay": 1}),
        ("h", "y", {"weight": "sparse", "mask": [[1, 0, 1], [0, 1, 1]]}),
        ("y", "y", {"value": 0.6, "delay": 1}),
    )
    return problem(graph, "y", steps=8)


def inside() -> Problem:
    """A layer that mixes its units within a step."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "size": 3}, "m": {"op": "tanh", "size": 3}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"value": 0.7, "delay": 1}),
        ("h", "m", {"weight": "dense"}),
        ("m", "h", {"weight": "diagonal", "delay": 1}),
        ("m", "y", {"weight": "dense"}),
    )
    return problem(graph, "y", steps=8)


def gates() -> Problem:
    """Units with gates, which share their sources; a delayed edge into another layer; an output far behind."""
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=3)
    graph.add_node("m", op="tanh", size=2)
    graph.add_edge("l.h", "m", weight="dense", delay=2)
    graph.add_edge("l.h", "m", key="late", weight="dense", delay=1)
    graph.add_node("y", op="linear", size=2)
    graph.add_edge("m", "y", weight="dense", delay=1)
    return problem(graph, "y", "l.h", steps=9)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "delays": delays,
    "depth": depth,
    "elements": elements,
    "inside": inside,
    "gates": gates,
}
RULES = ("all", "eprop-deep", "eprop", "near")


BLOCKS = (1, 2, 5)


@cache
def wanted(name: str, rule: str) -> dict[str, Array]:
    """What the oracle finds; no fault reaches it."""
    return oracle.reverse(**PROBLEMS[name]().arguments, rule=rule).grads
