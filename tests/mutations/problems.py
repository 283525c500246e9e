"""On which graphs, rules and block lengths is a planted fault looked for?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
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


def filtered() -> Problem:
    """Leaky readouts of units that see only themselves; a minus sign stands before one of them."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": 4}, "q": {"op": "linear", "size": 2}}
        | {"y": {"op": "one_minus", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "diagonal", "delay": 1}),
        ("h", "y", {"weight": "dense"}),
        ("y", "y", {"value": 0.7, "delay": 1}),
        ("h", "q", {"weight": "dense", "delay": 2}),
        ("q", "q", {"value": -0.6, "delay": 2}),
    )
    return problem(graph, "y", "q", steps=9)


def masked() -> Problem:
    """Two losses on one component, each with a mask of its own; one sample is left out."""
    graph = stack()
    graph.add_edge("h2", "a1", weight="dense", delay=1)
    found = problem(graph, "h1", "h2", steps=7)
    weights = np.linspace(0.0, 2.0, found.steps)
    return replace(found, mask={"h1": weights, "h2": weights[:, None] * np.array([1.0, 0.0])})


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "delays": delays,
    "depth": depth,
    "elements": elements,
    "inside": inside,
    "gates": gates,
    "filtered": filtered,
    "masked": masked,
}
RULES = ("all", "eprop-deep", "eprop", "near")
BLOCKS = (1, 2, 5)


@dataclass(frozen=True)
class Case:
    """A problem under a rule, and the rule whose gradient it must have: another one where two come to the same.

    Args:
        problem: its name.
        rule: a rule, or one for each parameter.
        like: the rule of the reference, where it is not the same.
    """

    problem: str
    rule: Any
    like: Any = None

    def __str__(self) -> str:
        return f"{self.problem}, {'mixed rules' if isinstance(self.rule, dict) else self.rule}"

    def given(self) -> Problem:
        """The problem, with the matrices that adaptive feedback asks for."""
        found = PROBLEMS[self.problem]()
        if "adaptive" not in str(self.rule):
            return found
        matrices = {f"{ADAPTED}.feedback": np.linspace(-1, 1, 9).reshape(3, 3) * [1, 2, -1]}
        return replace(found, params=found.params | matrices)

    def signals(self) -> dict[str, Array]:
        """Learning signals for all nodes that the rule names."""
        given, random = self.given(), np.random.default_rng(11)
        shape = (given.steps, given.batch)
        text = str(self.rule)
        nodes = [name for name in given.network.nodes if f"{{'{name}': 'signal'}}" in text]
        nodes += list(given.loss) if "feedback=signal" in text else []
        return {name: random.normal(size=(*shape, given.network.nodes[name].size)) for name in nodes}

    def wanted(self, block: int) -> dict[str, Array]:
        """What the oracle finds; no fault of the engine or the compiler reaches it."""
        return _wanted(CASES.index(self), block if "carry=False" in str(self.rule) else None)


@cache
def _wanted(index: int, block: int | None) -> dict[str, Array]:
    case = CASES[index]
    rule = case.rule if case.like is None else case.like
    return oracle.reverse(**case.given().arguments, rule=rule, signals=case.signals(), block=block).grads


ADAPTED = "h1->a1"
AXES = [
    Case("depth", {"x->a1": "all; feedback=signal", "*": "all"}),
    Case("depth", "all; feedback={'h1': 'signal'}"),
    Case("filtered", "eprop"),
    Case("depth", "eprop; autapses=implicit"),
    Case("depth", "all; autapses=implicit", like="all"),
    Case("depth", "hops(2); autapses=implicit"),
    Case("depth", "all; feedback=random, seed=3"),
    Case("depth", "all; feedback={'h1->a1': 'random'}, seed=1"),
    Case("depth", f"all; feedback={{'{ADAPTED}': 'adaptive'}}"),
    Case("depth", "all; operator={'h1->h1': [0.9, 0.3, -0.5], 'a2->h2': 0.4}"),
    Case("depth", "all; carry=False"),
    Case("delays", "all; layout=snap(9)", like="all"),
    Case("masked", "all"),
    Case("masked", "eprop-deep"),
]
"""Each coordinate of a rule, and what else a problem may have."""

CASES = AXES + [Case(name, rule) for name in list(PROBLEMS)[:5] for rule in RULES]
