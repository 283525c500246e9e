"""Which credit paths count? Deterministic automata over the labels of edges.

A path rule reads the edges of a path from where a parameter enters to a loss. It holds a mode, and says for every edge
what the mode becomes, or `None`, which cuts the path. The compiler multiplies the declared graph with the automaton and
differentiates the product exactly; it knows no rule by name.

A user's own rule is a subclass (or any object with `start` and `step`):

>>> class NoSelfLoops(PathRule):
...     def start(self, node):
...         return "anywhere"
...     def step(self, mode, edge, target):
...         return None if edge.source == edge.target else mode
>>> str(NoSelfLoops() & Synaptic())
'NoSelfLoops & synaptic'
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from forwardgrad.errors import RuleError, did_you_mean

Mode = Hashable
"""What an automaton remembers: any hashable value but `None`."""


@dataclass(frozen=True)
class NodeView:
    """What a rule sees of a node.

    Args:
        name: its name.
        state: whether it has an outgoing delayed edge inside its component.
        output: whether it has a loss.
        output_layer: whether its component holds a node that has a loss, or leads to one by edges that do not mix: no
            weights between units lie between the layer and that loss.
        recurrent: whether an edge of its component joins nodes of it: the component is a recurrent layer.
        leaky_readout: whether its component is recurrent, holds a node that has a loss, and has no edge that mixes.
    """

    name: str
    state: bool = False
    output: bool = False
    output_layer: bool = False
    recurrent: bool = False
    leaky_readout: bool = False


@dataclass(frozen=True)
class EdgeView:
    """What a rule sees of an edge.

    Args:
        source, target, key: as in the declared graph.
        delay: whole number of steps.
        mixing: whether its Jacobian moves credit between units.
        recurrent: whether both ends lie in one component.
        role: the word the graph gives it, or `None`.
    """

    source: str
    target: str
    key: int | str = 0
    delay: int = 0
    mixing: bool = False
    recurrent: bool = False
    role: str | None = None

    @property
    def explicit(self) -> bool:
        """Recurrent and mixing: recurrence through other units."""
        return self.recurrent and self.mixing

    @property
    def name(self) -> str:
        """`"u->v"`, or `"u->v#key"` when the key is not 0."""
        return f"{self.source}->{self.target}" + ("" if self.key == 0 else f"#{self.key}")


class PathRule(ABC):
    """A deterministic automaton over edges. Rules compose: `a & b` keeps the paths that both keep."""

    @abstractmethod
    def start(self, node: NodeView) -> Mode | None:
        """The mode in which a parameter's influence arrives at the node it enters; `None` leaves it untrained."""

    @abstractmethod
    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        """The mode after an edge, or `None` where the path is cut. It must not depend on anything else."""

    def advance(self, mode: Mode, edge: EdgeView, target: NodeView, credit: str | None) -> Mode | None:
        """`step` under the edge's attribute `credit`: `cut` always cuts; `keep` keeps the mode where it would cut."""
        if credit == "cut":
            return None
        after = self.step(mode, edge, target)
        return mode if after is None and credit == "keep" else after

    def check(self, edges: Collection[str]) -> None:  # noqa: B027 (a hook that most rules need not fill)
        """Raise `RuleError` if the rule cannot serve a graph with edges of these names. By default it always can."""

    @property
    def named_edges(self) -> frozenset[str]:
        """The edges that the rule means by name, such as those that `cut` cuts. By default there are none."""
        return frozenset()

    @property
    def as_spelled(self) -> bool:
        """Whether it counts edges as they are declared, so that a relay after a delay makes a difference."""
        return False

    def met(self, other: PathRule) -> PathRule | None:
        """The rule that keeps what both keep, where one of this kind does; `None` where only their product does."""
        return self if self == other else None

    def __and__(self, other: PathRule) -> PathRule:
        return intersection([self, other]) if isinstance(other, PathRule) else NotImplemented  # pyright: ignore[reportUnnecessaryIsInstance]

    def __str__(self) -> str:
        return type(self).__name__


@dataclass(frozen=True)
class Both(PathRule):
    """The paths that all factors keep: the product automaton. Made by `a & b`."""

    factors: tuple[PathRule, ...]

    def start(self, node: NodeView) -> Mode | None:
        modes = tuple(factor.start(node) for factor in self.factors)
        return None if any(mode is None for mode in modes) else modes

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return self.advance(mode, edge, target, None)

    def advance(self, mode: Mode, edge: EdgeView, target: NodeView, credit: str | None) -> Mode | None:
        modes = cast("tuple[Mode, ...]", mode)
        after = tuple(f.advance(m, edge, target, credit) for f, m in zip(self.factors, modes, strict=True))
        return None if any(mode is None for mode in after) else after

    def check(self, edges: Collection[str]) -> None:
        for factor in self.factors:
            factor.check(edges)

    @property
    def named_edges(self) -> frozenset[str]:
        return frozenset[str]().union(*(factor.named_edges for factor in self.factors))

    @property
    def as_spelled(self) -> bool:
        return any(factor.as_spelled for factor in self.factors)

    def __str__(self) -> str:
        return " & ".join(map(str, self.factors))


def intersection(rules: Iterable[PathRule]) -> PathRule:
    """The paths that all rules keep, in one spelling: flat, sorted, without repetition and without `all`.

    Several of one kind are made one where they can: of `hops` and of `window` the narrowest, of `cut` the union.
    """
    flat: list[PathRule] = []
    for rule in rules:
        for factor in rule.factors if isinstance(rule, Both) else (rule,):
            if not isinstance(factor, All):
                flat = _met(flat, factor)
    if len(flat) > 1:
        return Both(tuple(sorted(flat, key=str)))
    return flat[0] if flat else All()


def _met(factors: list[PathRule], factor: PathRule) -> list[PathRule]:
    """The factors and one more, made one with one of its kind where that can be."""
    for index, other in enumerate(factors):
        if (both := other.met(factor)) is not None:
            return [*factors[:index], both, *factors[index + 1 :]]
    return [*factors, factor]


@dataclass(frozen=True)
class All(PathRule):
    """Every path: RTRL (Williams & Zipser 1989); with the whole sequence as one block, BPTT."""

    def start(self, node: NodeView) -> Mode:
        return "all"

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return mode

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True)
class EpropDeep(PathRule):
    """Credit through depth and through a unit's own state, never through other units in time.

    Our reading of Millidge, *Generalising E-prop to Deep Networks* (arXiv 2512.24506). Modes: `fresh` (no state node of
    this component reached yet), `state` (one was reached), `carried` (a delay was crossed since), `readout` (may only
    reach a loss of this step). Edges of role `reset` and `topdown` are cut.
    """

    def start(self, node: NodeView) -> Mode:
        return self._arrive("fresh", node)

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        after = None if edge.role in ("reset", "topdown") else self._cross(mode, edge)
        return self._arrive(after, target)

    @staticmethod
    def _arrive(mode: Mode | None, node: NodeView) -> Mode | None:
        return "state" if node.state and mode in ("fresh", "carried") else mode

    @staticmethod
    def _cross(mode: Mode, edge: EdgeView) -> Mode | None:
        if mode == "readout":
            return "readout" if edge.delay == 0 else None
        if not edge.recurrent:
            return "fresh"
        if edge.delay:
            # A source of such an edge is a state node; only `credit = keep` brings another mode to it.
            return None if edge.explicit else "carried"
        if edge.explicit:
            return {"fresh": "fresh", "state": "readout", "carried": None}[cast("str", mode)]
        return mode

    def __str__(self) -> str:
        return "eprop-deep"


@dataclass(frozen=True)
class Synaptic(PathRule):
    """All delays stand before the first mixing edge, so that a trace is one number per synapse.

    After it (mode `outside`) instantaneous edges are kept, and delayed ones of role `readout` or inside a leaky
    readout: such a leak filters traces without widening what they must store. Where the recurrence of an output's layer
    mixes, the layer is one like any other, and an identity readout of it changes nothing.
    """

    def start(self, node: NodeView) -> Mode:
        return "own"

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        if mode == "own":
            return "outside" if self._leaves(edge) else "own"
        kept = edge.delay == 0 or (edge.recurrent and target.leaky_readout) or edge.role == "readout"
        return "outside" if kept else None

    def _leaves(self, edge: EdgeView) -> bool:
        return edge.mixing

    def __str__(self) -> str:
        return "synaptic"


@dataclass(frozen=True)
class Near(Synaptic):
    """Like `synaptic`, but mixing edges inside a component do not count: OSTL with H (Bohnstingl et al. 2020)."""

    def _leaves(self, edge: EdgeView) -> bool:
        return edge.mixing and not edge.recurrent

    def __str__(self) -> str:
        return "near"


@dataclass(frozen=True)
class Immediate(PathRule):
    """No delayed edge at all: credit of the same step only (SLTT, Meng et al. 2023, arXiv 2302.14311)."""

    def start(self, node: NodeView) -> Mode:
        return "now"

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return None if edge.delay else mode

    def __str__(self) -> str:
        return "immediate"


@dataclass(frozen=True)
class Hops(PathRule):
    """At most `order - 1` explicit edges, whatever their delays; all else is kept.

    "m-order e-prop" of Martin-Sanchez, Bohte & Otte (arXiv 2207.11439), in our reading: with `order` past the longest
    chain of explicit edges it is RTRL. It is deep by itself; `hops(m) & synaptic` is its shallow form.
    """

    order: int

    def start(self, node: NodeView) -> Mode:
        return 0

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        hops = cast("int", mode) + edge.explicit
        return hops if hops < self.order else None

    def met(self, other: PathRule) -> PathRule | None:
        return Hops(min(self.order, other.order)) if isinstance(other, Hops) else None

    def __str__(self) -> str:
        return f"hops({self.order})"


@dataclass(frozen=True)
class Window(PathRule):
    """A total delay of at most `steps` behind the injection: forward BPTT truncated to a sliding window."""

    steps: int

    def start(self, node: NodeView) -> Mode:
        return 0

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        age = cast("int", mode) + edge.delay
        return age if age <= self.steps else None

    def met(self, other: PathRule) -> PathRule | None:
        return Window(min(self.steps, other.steps)) if isinstance(other, Window) else None

    def __str__(self) -> str:
        return f"window({self.steps})"


@dataclass(frozen=True)
class Readouts(PathRule):
    """Trains what enters no recurrent layer, or a leaky readout; other recurrent layers stay as drawn: a reservoir."""

    def start(self, node: NodeView) -> Mode | None:
        return "readout" if node.leaky_readout or not node.recurrent else None

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return mode

    def __str__(self) -> str:
        return "reservoir"


@dataclass(frozen=True)
class Cut(PathRule):
    """Every path that crosses none of the named edges (`"u->v"`, `"u->v#key"`)."""

    edges: tuple[str, ...]

    def start(self, node: NodeView) -> Mode:
        return "kept"

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return None if edge.name in self.edges else mode

    def check(self, edges: Collection[str]) -> None:
        for name in self.edges:
            if name not in edges:
                raise RuleError(f"rule {str(self)!r}: the graph has no edge {name!r}.", did_you_mean(name, edges))

    @property
    def named_edges(self) -> frozenset[str]:
        return frozenset(self.edges)

    def met(self, other: PathRule) -> PathRule | None:
        return Cut(tuple(sorted({*self.edges, *other.edges}))) if isinstance(other, Cut) else None

    def __str__(self) -> str:
        return f"cut({list(self.edges)!r})"


def cut(edges: str | Iterable[str]) -> Cut:
    """The rule that cuts these edges.

    Raises:
        RuleError: if no edge is named, or a name is not a string.

    >>> str(cut(["h->h"]) & Immediate())
    "cut(['h->h']) & immediate"
    """
    given: Any = edges
    names: list[Any] = [given] if isinstance(given, str) or not isinstance(given, Iterable) else [*cast(Any, given)]
    if not names or not all(isinstance(name, str) for name in names):
        raise RuleError(f"cut({edges!r}): needs names of edges, such as cut(['h->h']).")
    return Cut(tuple(sorted(set(names))))


def hops(order: int) -> Hops:
    """The rule that keeps at most `order - 1` explicit edges; raises `RuleError` unless `order` is whole and >= 1."""
    return Hops(whole_number("hops(m)", order, 1))


def window(steps: int) -> Window:
    """The rule that keeps a total delay of at most `steps`; raises `RuleError` unless it is whole and >= 0."""
    return Window(whole_number("window(k)", steps, 0))


def whole_number(name: str, value: object, least: int) -> int:
    """The argument of a rule, as it was given; raises `RuleError` unless it is whole and at least this."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RuleError(f"{name} needs a whole number >= {least}, got {value!r}.")
    return value
