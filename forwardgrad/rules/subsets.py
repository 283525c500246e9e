"""Automata of several modes at once as path rules, by the subset construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from forwardgrad.errors import RuleError
from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule


@dataclass(frozen=True)
class Determinised(PathRule):
    """A nondeterministic automaton made deterministic: its mode is the set of all modes that it could be in.

    A path counts once, if any run of the automaton keeps it, and not once a run. Made by `determinised`.
    """

    automaton: Any

    def start(self, node: NodeView) -> Mode | None:
        return frozenset(self.automaton.start(node)) or None

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        modes = cast("frozenset[Mode]", mode)
        return frozenset(after for each in modes for after in self.automaton.step(each, edge, target)) or None

    def __str__(self) -> str:
        return f"determinised {type(self.automaton).__name__}"


def determinised(automaton: Any) -> Determinised:
    """The path rule of a nondeterministic automaton.

    Args:
        automaton: an object with `start(node)` and `step(mode, edge, target)` that return any number of modes; none at
            all cuts the run.

    Raises:
        RuleError: if it has not these methods.

    >>> class OneDelaySomewhere:
    ...     def start(self, node):
    ...         return {"before"}
    ...     def step(self, mode, edge, target):
    ...         return {"before", "after"} if mode == "before" and edge.delay else {mode}
    >>> rule, edge = determinised(OneDelaySomewhere()), EdgeView("h", "h", delay=1)
    >>> sorted(rule.step(frozenset({"before"}), edge, NodeView("h")))
    ['after', 'before']
    """
    if not callable(getattr(automaton, "start", None)) or not callable(getattr(automaton, "step", None)):
        raise RuleError(f"determinised: an automaton has start and step, got {type(automaton).__name__}.")
    return Determinised(automaton)
