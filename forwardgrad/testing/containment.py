"""Is every credit path that one rule keeps kept by another? Decided on the product of both automata with the graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx

from forwardgrad.compiler.labels import Labels, edge_structure, label, port_structure
from forwardgrad.errors import CheckError, GraphError, RuleError, VacuousError
from forwardgrad.graph import Edge, Network, validate
from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule
from forwardgrad.rules.rule import Rule
from forwardgrad.rules.table import rule as read_rule
from forwardgrad.structure import Structure
from forwardgrad.testing.vacuity import Vacuity, refuse

LIMIT = 50_000
"""Places of the product of both automata at which the search is given up."""


@dataclass(frozen=True)
class Path:
    """A credit path: where a parameter enters, the edges that its credit crosses, and the loss at the end.

    Args:
        parameter: its name.
        start: the node it enters.
        edges: the edges crossed, in order; with the part of the weight where autapses are apart.
        loss: the node at the end.
        cut: how many of these edges the rule that drops it crosses before it cuts; `None`: it leaves the start
            untrained.

    >>> print(Path("x->h", "h", ("h->h (delay 1)", "h->y"), "y", cut=0))
    x->h into h; h->h (delay 1); h->y; loss on y
    """

    parameter: str
    start: str
    edges: tuple[str, ...]
    loss: str
    cut: int | None

    def __str__(self) -> str:
        return "; ".join([f"{self.parameter} into {self.start}", *self.edges, f"loss on {self.loss}"])


def assert_contained(
    rule_a: Any,
    rule_b: Any,
    graph: nx.MultiDiGraph[str],
    loss: Mapping[str, Any] | None = None,
    *,
    allow: Collection[str] = (),
) -> None:
    """Assert that every credit path which rule a keeps on a graph is kept by rule b.

    It is decided, for paths of every length: a path is a word over the labelled edges, and the words that a accepts and
    b does not are sought in the product of both automata. Feedback and constants are left aside: they change by what a
    path multiplies credit, not which paths there are.

    Args:
        rule_a, rule_b: rules, as for `compile`; one rule each, not a mapping.
        graph: a declared graph.
        loss: the loss of each output node; by default the one its file names.
        allow: kinds of vacuity (`Vacuity`) not to refuse.

    Raises:
        CheckError: if a path is kept by a and not by b; the message prints a shortest one.
        VacuousError: if both keep the very same paths on this graph, which cannot tell them apart; or a keeps none.
        RuleError: if a rule drops more than paths (a lossy layout, `carry=False`).
        GraphError: if the graph is malformed or has no loss.

    >>> import forwardgrad as fg
    >>> assert_contained("eprop", "eprop-deep", fg.load("leaky_stack"))
    >>> assert_contained("eprop-deep", "eprop", fg.load("leaky_stack"))
    Traceback (most recent call last):
    forwardgrad.errors.CheckError: rule 'eprop-deep' keeps a path of parameter 'x->a1' that rule 'eprop' drops.
      x->a1 into a1; a1->h1; h1->a2; a2->h2; h2->h2 (delay 1); h2->y; loss on y
      'eprop' cuts it at edge 4 of 5, h2->h2 (delay 1).
    """
    a, b = _lossless(rule_a), _lossless(rule_b)
    found = escaping(a, b, graph, loss)
    if found is not None:
        if found.cut is None:
            how = f"{str(b)!r} leaves {found.parameter!r} untrained."
        else:
            how = f"{str(b)!r} cuts it at edge {found.cut + 1} of {len(found.edges)}, {found.edges[found.cut]}."
        raise CheckError(
            f"rule {str(a)!r} keeps a path of parameter {found.parameter!r} that rule {str(b)!r} drops.",
            str(found),
            how,
        )
    refuse([_keeps_nothing(a, graph, loss), _same(a, b, graph, loss)], allow)


class _Nothing(PathRule):
    """The rule that leaves every parameter untrained."""

    def start(self, node: NodeView) -> Mode | None:
        return None

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return None


def _keeps_nothing(a: Rule, graph: nx.MultiDiGraph[str], loss: Mapping[str, Any] | None) -> VacuousError | None:
    if escaping(a, _Nothing(), graph, loss) is not None:
        return None
    text = f"rule {str(a)!r} keeps no path to a loss on this graph: it is contained in every rule."
    return VacuousError(Vacuity.ZERO_GRADIENT, text, "Give a graph and losses on which it keeps something.")


def _lossless(given: Any) -> Rule:
    rule = read_rule(given)
    if rule.lossy or not rule.carry:
        what = f"layout {rule.layout!r}" if rule.carry else "carry=False"
        raise RuleError(f"rule '{rule}': {what} drops more than paths, at the ends of blocks.", "Compare its paths.")
    return rule


def _same(a: Rule, b: Rule, graph: nx.MultiDiGraph[str], loss: Mapping[str, Any] | None) -> VacuousError | None:
    if escaping(b, a, graph, loss) is not None:
        return None
    return VacuousError(
        Vacuity.SAME_RULES,
        f"rules {str(a)!r} and {str(b)!r} keep the same paths on this graph: it cannot tell them apart.",
        "Give a graph on which the wider rule keeps more.",
    )


def escaping(
    rule_a: Any, rule_b: Any, graph: nx.MultiDiGraph[str], loss: Mapping[str, Any] | None = None
) -> Path | None:
    """A shortest credit path that rule a keeps and rule b does not, or `None` where there is none.

    Args:
        rule_a, rule_b, graph, loss: as for `assert_contained`.

    Raises:
        RuleError, GraphError: as for `assert_contained`.

    >>> import forwardgrad as fg
    >>> escaping("immediate", "rtrl", fg.load("elman")) is None
    True
    >>> escaping("rtrl", "immediate", fg.load("elman")).edges
    ('h->h (delay 1)', 'h->y')
    """
    network = validate(graph)
    outputs = tuple(loss or graph.graph.get("loss") or ())
    if not outputs or any(name not in network.nodes for name in outputs):
        raise GraphError(f"loss on {list(outputs)!r}: name nodes of the graph.", "Such as loss={'y': 'mse'}.")
    a, b = _lossless(rule_a), _lossless(rule_b)
    for rule in (a, b):
        rule.paths.check(network.edges)
    return _Search(network, label(network, outputs), a, b).run()


@dataclass(frozen=True)
class _State:
    """A node, the mode of a, and that of b: `None` where b has cut."""

    node: str
    a: Mode
    b: Mode | None


@dataclass(frozen=True)
class _Letter:
    """An edge, or a part of its weight, as each rule reads it."""

    edge: Edge
    text: str
    a: EdgeView
    b: EdgeView


class _Search:
    """Breadth first through the product, from every place where a parameter enters; stops where b has cut at a loss."""

    def __init__(self, network: Network, labels: Labels, a: Rule, b: Rule) -> None:
        self.network, self.labels, self.a, self.b = network, labels, a, b
        self.leaving: dict[str, list[_Letter]] = {name: [] for name in network.nodes}
        for edge in network.edges.values():
            if edge_structure(network, edge) is not Structure.ZERO:
                self.leaving[edge.source] += self._letters(edge)
        self.before: dict[_State, tuple[_State, _Letter] | str] = {}
        self.queue: deque[_State] = deque()

    def _letters(self, edge: Edge) -> list[_Letter]:
        view = self.labels.edges[edge.name]
        text = edge.name + (f" (delay {edge.delay})" if edge.delay else "")
        implicit = [rule.autapses == "implicit" for rule in (self.a, self.b)]
        if not any(implicit) or not self.labels.autapses(self.network, edge):
            return [_Letter(edge, text, view, view)]
        a, b = (replace(view, mixing=False) if own else view for own in implicit)
        return [_Letter(edge, f"{text}, diagonal", a, b), _Letter(edge, f"{text}, rest", view, view)]

    def run(self) -> Path | None:
        for name in self.network.trainable:
            for node in self._entered(name):
                view = self.labels.nodes[node]
                start = self.a.paths.start(view)
                if start is not None:
                    self._reach(_State(node, start, self.b.paths.start(view)), name)
        while self.queue:
            state = self.queue.popleft()
            if state.b is None and self.labels.nodes[state.node].output:
                return self._path(state)
            for letter in self.leaving[state.node]:
                target = self.labels.nodes[letter.edge.target]
                after = _advance(self.a.paths, state.a, letter.a, target, letter.edge)
                if after is not None:
                    other = None if state.b is None else _advance(self.b.paths, state.b, letter.b, target, letter.edge)
                    self._reach(_State(target.name, after, other), (state, letter))
        return None

    def _entered(self, name: str) -> list[str]:
        parameter = self.network.parameters[name]
        if parameter.node is not None:
            sites = [(parameter.node, self.network.nodes[parameter.node].bias_port)]
        else:
            sites = [(self.network.edges[e].target, self.network.edges[e].port) for e in parameter.edges]
        return [node for node, port in sites if port_structure(self.network, node, port) is not Structure.ZERO]

    def _reach(self, state: _State, by: tuple[_State, _Letter] | str) -> None:
        if state in self.before:
            return
        self.before[state] = by
        self.queue.append(state)
        if len(self.before) > LIMIT:
            raise RuleError(
                f"rules '{self.a}' and '{self.b}' reach more than {LIMIT:,} places of their product.",
                f"The last modes met are {state.a!r} and {state.b!r}. An automaton needs a finite number of modes.",
            )

    def _path(self, state: _State) -> Path:
        loss, letters = state.node, list[_Letter]()
        while not isinstance(found := self.before[state], str):
            state, letter = found
            letters.append(letter)
        edges = tuple(letter.text for letter in reversed(letters))
        return Path(found, state.node, edges, loss, None if state.b is None else self._crossed(state, letters[::-1]))

    def _crossed(self, state: _State, letters: list[_Letter]) -> int:
        """How many edges b crosses before it cuts."""
        mode = state.b
        for number, letter in enumerate(letters):
            mode = _advance(self.b.paths, mode, letter.b, self.labels.nodes[letter.edge.target], letter.edge)
            if mode is None:
                return number
        return len(letters)


def _advance(paths: PathRule, mode: Mode, view: EdgeView, target: NodeView, edge: Edge) -> Mode | None:
    try:
        return paths.advance(mode, view, target, edge.credit)
    except Exception as error:
        raise RuleError(
            f"rule '{paths}': step({mode!r}, edge {edge.name!r}, node {target.name!r}) failed.",
            f"{type(error).__name__}: {error}",
        ) from error
