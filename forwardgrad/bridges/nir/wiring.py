"""How are the primitives of a NIR graph wired? Delays in steps, cycles, and which links become edges."""

from __future__ import annotations

from typing import cast

import networkx as nx

from forwardgrad.bridges.nir.primitives import LINKS, NEURONS, WINDOWED, Primitive
from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import MOST

PASSING = frozenset({"Delay", "Flatten", "Through"})
"""What only passes on what it gets, later or in another shape."""


class Wiring:
    """What is known of the edges of a NIR graph before any is added here.

    Args:
        flat: the primitives.
        dt: seconds per step.

    Raises:
        GraphError: if a delay is not a whole number of steps, or a cycle has neither a neuron nor a delay.
    """

    def __init__(self, flat: nx.DiGraph[str], dt: float) -> None:
        self.flat, self.dt = flat, dt
        self.primitives: dict[str, Primitive] = {name: flat.nodes[name]["primitive"] for name in flat}
        self.steps = {name: self._steps(name) for name, each in self.primitives.items() if each.kind == "Delay"}
        self.recurrent = self._recurrent()
        self.origins = self._origins()
        self.contracted = self._contracted()

    def _steps(self, name: str) -> int:
        """A delay in steps."""
        seconds = self.primitives[name].array("delay").reshape(-1)
        if (seconds != seconds[0]).any():
            raise GraphError(
                f"{self.primitives[name].place}: its units have different delays, from {seconds.min():g} to "
                f"{seconds.max():g}; here an edge has one."
            )
        steps = float(seconds[0]) / self.dt
        if not 0 <= steps <= MOST or abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
            raise GraphError(
                f"{self.primitives[name].place}: a delay of {seconds[0]:g} is {steps:g} steps of dt = {self.dt:g}, "
                "and must be a whole number of them, at least 0."
            )
        return round(steps)

    def _recurrent(self) -> set[tuple[str, str]]:
        """The edges that leave a neuron on a cycle without a delay.

        Raises:
            GraphError: if such a cycle has no neuron.
        """
        instant: nx.DiGraph[str] = nx.DiGraph(
            self.flat.subgraph(set(self.flat) - {n for n, d in self.steps.items() if d})
        )
        component = {name: i for i, each in enumerate(nx.strongly_connected_components(instant)) for name in each}
        found = {
            (source, target)
            for source, target in instant.edges
            if self.primitives[source].kind in NEURONS and component[source] == component[target]
        }
        instant.remove_edges_from(found)
        if not nx.is_directed_acyclic_graph(instant):
            raise GraphError(f"cycle of NIR nodes without a neuron or a Delay: {_loop(instant)}.")
        return found

    def _lag(self, source: str, target: str) -> int:
        return int((source, target) in self.recurrent)

    def _origins(self) -> dict[str, tuple[str, int]]:
        """For each node that passes on what one other gives: which one that is, and how many steps ago."""
        passing = [n for n in self.flat if self.primitives[n].kind in PASSING and self.flat.in_degree(n) == 1]
        origins: dict[str, tuple[str, int]] = {}
        inner = self.flat.subgraph(passing)
        if not nx.is_directed_acyclic_graph(inner):
            raise GraphError(f"cycle of NIR nodes that nothing enters: {_loop(inner)}.")
        for name in nx.topological_sort(inner):
            (before,) = self.flat.predecessors(name)
            source, delay = origins.get(before, (before, self._lag(before, name)))
            origins[name] = source, delay + self.steps.get(name, 0)
        return origins

    def arrivals(self, name: str) -> list[tuple[str, int]]:
        """What enters a primitive: from which one, and how many steps ago."""
        return [self.origins.get(source, (source, self._lag(source, name))) for source in self.flat.predecessors(name)]

    def _contracted(self) -> dict[str, tuple[str, int]]:
        """The links that become one edge into the node of another primitive: which one, and with what further delay."""
        found: dict[str, tuple[str, int]] = {}
        for name, primitive in self.primitives.items():
            if primitive.kind in LINKS and self.flat.in_degree(name) == 1:
                *passed, target = self._onward(name)
                after = sum(self.steps.get(each, 0) for each in (*passed, target))
                late_bias = after and "bias" in primitive.fields
                flattened = primitive.kind in WINDOWED and any(
                    self.primitives[each].kind == "Flatten" for each in passed
                )
                if target != name and self.primitives[target].kind not in LINKS and not late_bias and not flattened:
                    found[name] = target, after
        dense: dict[str, list[str]] = {}
        for name, (target, _) in found.items():
            if self.primitives[name].kind in ("Linear", "Affine"):
                dense.setdefault(target, []).append(name)
        for names in dense.values():
            for name in names if len(names) > 1 else ():
                if self.primitives[name].kind == "Affine":
                    del found[name]  # whose bias it is can then be told
        return found

    def _onward(self, name: str) -> list[str]:
        """The nodes that only pass on what a primitive gives, and the one they lead to; itself if there are several."""
        onward: list[str] = []
        last = name
        while len(targets := list(self.flat.successors(last))) == 1:
            last = targets[0]
            onward.append(last)
            if last not in self.origins:
                return onward
        return [name]

    def is_readout(self, name: str) -> bool:
        """Whether a neuron does not spike and leads to outputs alone."""
        waiting = list(self.flat.successors(name)) if self.primitives[name].kind in ("I", "LI", "CubaLI") else []
        found = bool(waiting)
        while waiting and found:
            target = waiting.pop()
            if target in self.origins:
                waiting.extend(self.flat.successors(target))
            else:
                found = self.primitives[target].kind == "Output"
        return found


def _loop(graph: nx.DiGraph[str]) -> str:
    """A cycle as text."""
    names = [str(edge[0]) for edge in cast("list[tuple[str, str]]", nx.find_cycle(graph))]
    return " -> ".join(map(repr, [*names, names[0]]))
