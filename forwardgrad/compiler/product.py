"""Which pairs of node and mode can a parameter's credit reach? The product of the graph with its path automata.

A place is a node in a mode of a rule. Arcs are the edges that the rule keeps. From here on an approximation is an exact
algorithm on this smaller graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.compiler.labels import Labels, edge_structure, port_structure
from forwardgrad.errors import RuleError
from forwardgrad.graph import Network
from forwardgrad.paths import EdgeView, Mode, NodeView, PathRule
from forwardgrad.structure import Structure

LIMIT = 50_000
"""Places at which an automaton is taken to have no end."""


@dataclass(frozen=True)
class Place:
    """A node in a mode; `label` is the mode's name, unique among the places of the node."""

    node: str
    label: str


@dataclass(frozen=True)
class Arc:
    """A kept edge between two places (their indices)."""

    edge: str
    source: int
    target: int


@dataclass(frozen=True)
class Injection:
    """Where a parameter enters: after an edge (or as a bias, `edge` being `None`), at a port of the place's node."""

    parameter: str
    place: int
    port: str
    edge: str | None


@dataclass(frozen=True)
class Dropped:
    """An edge that a rule, or the edge's attribute `credit`, cuts at a place that can be reached."""

    edge: str
    source: int
    by_credit: bool


@dataclass(frozen=True)
class Product:
    """A product graph: what all later stages work on.

    Args:
        places: the nodes of the product.
        arcs: its edges.
        injections: where parameters enter.
        dropped: the cuts that were met, their sources being indices of the product as it was explored.
    """

    places: tuple[Place, ...]
    arcs: tuple[Arc, ...]
    injections: tuple[Injection, ...]
    dropped: tuple[Dropped, ...]

    def arcs_from(self) -> list[list[Arc]]:
        """The arcs that leave each place."""
        leaving: list[list[Arc]] = [[] for _ in self.places]
        for arc in self.arcs:
            leaving[arc.source].append(arc)
        return leaving

    def arcs_into(self) -> list[list[Arc]]:
        """The arcs that enter each place."""
        entering: list[list[Arc]] = [[] for _ in self.places]
        for arc in self.arcs:
            entering[arc.target].append(arc)
        return entering

    def reach(self, starts: Sequence[int]) -> list[int]:
        """The places that can be reached from these, themselves included, in increasing order."""
        leaving = self.arcs_from()
        found, queue = set(starts), deque(starts)
        while queue:
            for arc in leaving[queue.popleft()]:
                if arc.target not in found:
                    found.add(arc.target)
                    queue.append(arc.target)
        return sorted(found)


class _Explorer:
    """Explores the product of one network with several automata, breadth first from the injections."""

    def __init__(self, network: Network, labels: Labels) -> None:
        self.network, self.labels = network, labels
        self.rules: list[PathRule] = []
        self.index: dict[tuple[int, str, Mode], int] = {}
        self.queue: deque[tuple[int, str, Mode]] = deque()
        self.arcs: list[Arc] = []
        self.dropped: list[Dropped] = []
        self.leaving = {
            name: [
                edge
                for edge in network.edges.values()
                # A port of structure `zero` passes no credit under any rule: such an edge is no path at all.
                if edge.source == name and edge_structure(network, edge) is not Structure.ZERO
            ]
            for name in network.nodes
        }

    def rule(self, rule: PathRule) -> int:
        if rule not in self.rules:
            rule.check(self.labels.edges.keys())
            self.rules.append(rule)
        return self.rules.index(rule)

    def place(self, rule: int, node: str, mode: Mode) -> int:
        found = (rule, node, mode)
        try:
            known = self.index.get(found)
        except TypeError:
            raise RuleError(f"rule '{self.rules[rule]}': mode {mode!r} at node {node!r} is not hashable.") from None
        if known is None:
            known = self.index[found] = len(self.index)
            self.queue.append(found)
            if known >= LIMIT:
                raise RuleError(
                    f"rule '{self.rules[rule]}': more than {LIMIT:,} pairs of node and mode.",
                    f"The last mode met is {mode!r} at node {node!r}. An automaton needs a finite number of modes.",
                )
        return known

    def explore(self) -> None:
        while self.queue:
            rule, node, mode = self.queue.popleft()
            source = self.index[rule, node, mode]
            for edge in self.leaving[node]:
                view, target = self.labels.edges[edge.name], self.labels.nodes[edge.target]
                after = _advance(self.rules[rule], mode, view, target, edge.credit)
                if after is None:
                    self.dropped.append(Dropped(edge.name, source, edge.credit == "cut"))
                else:
                    self.arcs.append(Arc(edge.name, source, self.place(rule, edge.target, after)))


def _start(rule: PathRule, node: NodeView) -> Mode:
    try:
        mode = rule.start(node)
    except Exception as error:
        raise RuleError(
            f"rule '{rule}': start(node {node.name!r}) failed.", f"{type(error).__name__}: {error}"
        ) from error
    if mode is None:
        raise RuleError(f"rule '{rule}': start(node {node.name!r}) returned None.", "A mode is anything but None.")
    return mode


def _advance(rule: PathRule, mode: Mode, edge: EdgeView, target: NodeView, credit: str | None) -> Mode | None:
    try:
        return rule.advance(mode, edge, target, credit)
    except Exception as error:
        raise RuleError(
            f"rule '{rule}': step({mode!r}, edge {edge.name!r}, node {target.name!r}) failed.",
            f"{type(error).__name__}: {error}",
        ) from error


def multiply(network: Network, labels: Labels, rules: Mapping[str, PathRule]) -> Product:
    """The product of the network with the rule of each parameter, as far as credit reaches.

    Args:
        network: the validated graph.
        labels: its labels.
        rules: the path rule of each trainable parameter; equal rules share their places.

    Raises:
        RuleError: if a rule returns a mode it must not, has no end of modes, or names an unknown edge.
    """
    explorer = _Explorer(network, labels)
    injections: list[Injection] = []
    for name, rule in rules.items():
        number = explorer.rule(rule)
        parameter = network.parameters[name]
        edges = [network.edges[edge] for edge in parameter.edges]
        sites = [(edge.target, edge.port, edge.name) for edge in edges]
        if parameter.node is not None:
            sites = [(parameter.node, network.nodes[parameter.node].bias_port, None)]
        for node, port, edge in sites:
            if port_structure(network, node, port) is Structure.ZERO:
                continue
            mode = _start(rule, labels.nodes[node])
            injections.append(Injection(name, explorer.place(number, node, mode), port, edge))
    explorer.explore()
    places = tuple(Place(node, text(mode)) for _, node, mode in explorer.index)
    return Product(places, tuple(explorer.arcs), tuple(injections), tuple(explorer.dropped))


def text(mode: Mode) -> str:
    """How a mode is printed: the modes of a composed rule joined by commas."""
    return ",".join(map(text, mode)) if isinstance(mode, tuple) else str(mode)  # pyright: ignore[reportUnknownVariableType]
