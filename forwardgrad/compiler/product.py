"""Which pairs of node and mode can a parameter's credit reach? The product of the graph with its path automata.

A place is a node in a mode of a rule. Arcs are the edges that the rule keeps. From here on an approximation is an exact
algorithm on this smaller graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType

from forwardgrad.compiler.factors import WEIGHT, Factor, readings
from forwardgrad.compiler.labels import Labels, port_structure
from forwardgrad.compiler.marks import elements, reachable
from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.graph import Edge, Network
from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule
from forwardgrad.rules.rule import LABELS, Rule
from forwardgrad.structure import Structure

LIMIT = 128
"""Modes of a node beyond which an automaton is refused: a program's source grows with their square."""


@dataclass(frozen=True)
class Place:
    """A node in a mode.

    Args:
        node: its name.
        label: the mode's name, unique among the places of the node.
        signal: what seeds the sweep here: `loss`, `given` by the user, or `none`.
        filtered: the leaky node by whose leak this place filters what it holds; `None` for the node itself.
        lossy: whether influence on it is compressed. Then what is stored is part of the rule, and is left as it is.
    """

    node: str
    label: str
    signal: str = "none"
    filtered: str | None = None
    lossy: bool = False


@dataclass(frozen=True)
class Arc:
    """A kept edge between two places (their indices), with its delay and what it multiplies credit by."""

    edge: str
    source: int
    target: int
    delay: int
    factor: Factor = WEIGHT


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
        untrained: the parameters that their rule leaves as they are.
        probes: the places of inputs at which the adjoint of their values is asked for, by input.
    """

    places: tuple[Place, ...]
    arcs: tuple[Arc, ...]
    injections: tuple[Injection, ...]
    dropped: tuple[Dropped, ...]
    untrained: tuple[str, ...] = ()
    probes: tuple[tuple[str, int], ...] = ()

    @cached_property
    def leaving(self) -> list[list[Arc]]:
        """The arcs that leave each place."""
        leaving: list[list[Arc]] = [[] for _ in self.places]
        for arc in self.arcs:
            leaving[arc.source].append(arc)
        return leaving

    @cached_property
    def entering(self) -> list[list[Arc]]:
        """The arcs that enter each place."""
        entering: list[list[Arc]] = [[] for _ in self.places]
        for arc in self.arcs:
            entering[arc.target].append(arc)
        return entering

    @cached_property
    def places_of(self) -> dict[str, list[int]]:
        """The places of each node."""
        places: dict[str, list[int]] = {}
        for index, place in enumerate(self.places):
            places.setdefault(place.node, []).append(index)
        return places

    @cached_property
    def sites(self) -> dict[str, list[Injection]]:
        """Where each parameter enters, by its name."""
        sites: dict[str, list[Injection]] = {}
        for injection in self.injections:
            sites.setdefault(injection.parameter, []).append(injection)
        return sites

    def reached_marks(self, marks: Mapping[int, int]) -> dict[str, list[int]]:
        """The marks that each parameter's credit reaches, in increasing order.

        Args:
            marks: of some places: sets of whole numbers, as bits.
        """
        own = [marks.get(index, 0) for index in range(len(self.places))]
        found = reachable([[arc.target for arc in arcs] for arcs in self.leaving], own)
        known: dict[int, list[int]] = {}
        reached: dict[str, list[int]] = {}
        for name, sites in self.sites.items():
            bits = 0
            for site in sites:
                bits |= found[site.place]
            if bits not in known:
                known[bits] = elements(bits)
            reached[name] = known[bits]
        return reached

    def reach(self, starts: Sequence[int]) -> list[int]:
        """The places that can be reached from these, themselves included, in increasing order."""
        leaving = self.leaving
        found, queue = set(starts), deque(starts)
        while queue:
            for arc in leaving[queue.popleft()]:
                if arc.target not in found:
                    found.add(arc.target)
                    queue.append(arc.target)
        return sorted(found)


class _Explorer:
    """Explores the product of one network with several rules, breadth first from the injections."""

    def __init__(self, network: Network, labels: Labels) -> None:
        self.network, self.labels = network, labels
        self.rules: list[Rule] = []
        self.readings: list[dict[str, list[tuple[Edge, EdgeView, Factor]]]] = []
        self.index: dict[tuple[int, str, Mode], int] = {}
        self.modes: dict[tuple[int, str], int] = {}
        self.queue: deque[tuple[int, str, Mode]] = deque()
        self.arcs: list[Arc] = []
        self.dropped: list[Dropped] = []

    def rule(self, rule: Rule) -> int:
        """The number of a rule; equal rules share their places."""
        if rule in self.rules:
            return self.rules.index(rule)
        _check(rule, self.labels)
        leaving: dict[str, list[tuple[Edge, EdgeView, Factor]]] = {name: [] for name in self.network.nodes}
        for edge in self.network.edges.values():
            found = readings(self.network, self.labels, rule, edge)
            leaving[edge.source] += [(edge, view, factor) for view, factor in found]
        self.rules.append(rule)
        self.readings.append(leaving)
        return len(self.rules) - 1

    def place(self, rule: int, node: str, mode: Mode) -> int:
        found = (rule, node, mode)
        try:
            known = self.index.get(found)
        except TypeError:
            raise RuleError(
                f"rule '{self.rules[rule].paths}': mode {mode!r} at node {node!r} is not hashable.",
                "A rule returns one mode; wrap an automaton that returns several in forwardgrad.determinised.",
            ) from None
        if known is None:
            known = self.index[found] = len(self.index)
            self.queue.append(found)
            self.modes[rule, node] = self.modes.get((rule, node), 0) + 1
            if self.modes[rule, node] > LIMIT:
                raise RuleError(
                    f"rule '{self.rules[rule]}': more than {LIMIT} modes of one node.",
                    f"The last mode met is {mode!r} at node {node!r}. An automaton needs a finite number of modes.",
                )
        return known

    def explore(self) -> None:
        """Follow every edge from every place."""
        while self.queue:
            rule, node, mode = self.queue.popleft()
            source = self.index[rule, node, mode]
            for edge, view, factor in self.readings[rule][node]:
                target = self.labels.nodes[edge.target]
                after = _advance(self.rules[rule].paths, mode, view, target, edge.credit)
                if after is None:
                    self.dropped.append(Dropped(edge.name, source, edge.credit == "cut"))
                    continue
                self.arcs.append(Arc(edge.name, source, self.place(rule, edge.target, after), edge.delay, factor))

    def signal(self, rule: int, node: str) -> str:
        """What seeds a place of this rule and node."""
        view = self.labels.nodes[node]
        if self.rules[rule].signalled:
            return "given" if self.rules[rule].signals(view) else "none"
        return "loss" if view.output else "none"


def _check(rule: Rule, labels: Labels) -> None:
    """Refuse a rule whose patterns or edges are not those of the graph."""
    rule.paths.check(labels.edges.keys())
    for axis, pairs in (("feedback", rule.feedback), ("operator", rule.operator)):
        for pattern, word in pairs:
            names = labels.nodes if word == "signal" else [*labels.edges, *(labels.nodes if word == "exact" else ())]
            known = pattern in LABELS if axis == "operator" else pattern == "*"
            if not known and not any(fnmatchcase(name, pattern) for name in names):
                raise RuleError(f"rule '{rule}': {axis} on {pattern!r} fits nothing.", did_you_mean(pattern, names))


def _start(rule: PathRule, node: NodeView) -> Mode | None:
    try:
        return rule.start(node)
    except Exception as error:
        raise RuleError(
            f"rule '{rule}': start(node {node.name!r}) failed.", f"{type(error).__name__}: {error}"
        ) from error


def _advance(rule: PathRule, mode: Mode, edge: EdgeView, target: NodeView, credit: str | None) -> Mode | None:
    try:
        return rule.advance(mode, edge, target, credit)
    except Exception as error:
        raise RuleError(
            f"rule '{rule}': step({mode!r}, edge {edge.name!r}, node {target.name!r}) failed.",
            f"{type(error).__name__}: {error}",
        ) from error


def multiply(
    network: Network, labels: Labels, rules: Mapping[str, Rule], probed: Mapping[str, Rule] = MappingProxyType({})
) -> Product:
    """The product of the network with the rule of each parameter, as far as credit reaches.

    Args:
        network: the validated graph.
        labels: its labels.
        rules: the rule of each trainable parameter.
        probed: the rule of each input whose own gradient is asked for.

    Raises:
        RuleError: if a rule returns a mode it must not, has no end of modes, or names an unknown edge.
    """
    explorer = _Explorer(network, labels)
    injections: list[Injection] = []
    untrained: list[str] = []
    for name, rule in rules.items():
        number = explorer.rule(rule.along)
        sites = _sites(network, name)
        modes = [_start(rule.paths, labels.nodes[node]) for node, _, _ in sites]
        if any(mode is None for mode in modes):
            if any(mode is not None for mode in modes):
                raise RuleError(f"rule '{rule}': trains parameter {name!r} where it enters one node, not another.")
            untrained.append(name)
            continue
        for (node, port, edge), mode in zip(sites, modes, strict=True):
            if port_structure(network, node, port) is not Structure.ZERO:
                injections.append(Injection(name, explorer.place(number, node, mode), port, edge))
    probes: list[tuple[str, int]] = []
    for name, rule in probed.items():
        if (mode := _start(rule.paths, labels.nodes[name])) is not None:
            probes.append((name, explorer.place(explorer.rule(rule.along), name, mode)))
    explorer.explore()
    places = tuple(
        Place(node, text(mode), explorer.signal(rule, node), lossy=explorer.rules[rule].lossy)
        for rule, node, mode in explorer.index
    )
    arcs, dropped = tuple(explorer.arcs), tuple(explorer.dropped)
    return Product(places, arcs, tuple(injections), dropped, tuple(untrained), tuple(probes))


def _sites(network: Network, name: str) -> list[tuple[str, str, str | None]]:
    """Where a parameter enters: node, port, and edge (`None` for a bias)."""
    parameter = network.parameters[name]
    if parameter.node is not None:
        return [(parameter.node, network.nodes[parameter.node].bias_port, None)]
    edges = [network.edges[edge] for edge in parameter.edges]
    return [(edge.target, edge.port, edge.name) for edge in edges]


def text(mode: Mode) -> str:
    """How a mode is printed: the modes of a composed rule joined by commas."""
    return ",".join(map(text, mode)) if isinstance(mode, tuple) else str(mode)  # pyright: ignore[reportUnknownVariableType]
