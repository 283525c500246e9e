"""Which rules have a name, and how is a rule read from text?"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from forwardgrad import paths
from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.paths import EdgeView, Mode, NodeView, PathRule


@dataclass(frozen=True)
class Rule:
    """A learning rule. Two spellings of one rule compare equal.

    Args:
        paths: which credit paths count.
        name: the name it was asked for by; no part of what the rule is.

    >>> rule("eprop") == rule("synaptic & eprop-deep")
    True
    """

    paths: PathRule
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.name or str(self.paths)


@dataclass(frozen=True)
class Row:
    """A row of the table of named rules.

    Args:
        paths: makes the path rule from the arguments given in brackets.
        keeps: one line on what it keeps and drops.
        source: where it comes from.
        arguments: how they are written, or an empty string.
    """

    paths: Callable[..., PathRule]
    keeps: str
    source: str
    arguments: str = ""


TABLE: Mapping[str, Row] = MappingProxyType(
    {
        "rtrl": Row(paths.All, "every path: the exact gradient", "Williams & Zipser 1989"),
        "eprop-deep": Row(
            paths.EpropDeep,
            "credit through depth and a unit's own state, not through other units in time",
            "Millidge 2025, arXiv 2512.24506 (our reading)",
        ),
        "eprop": Row(
            lambda: paths.EpropDeep() & paths.Synaptic(),
            "one trace per synapse of the own layer, then credit of the same step",
            "Bellec et al. 2020, doi 10.1038/s41467-020-17236-y",
        ),
        "local": Row(
            paths.Near,
            "the exact trace of the own layer, then credit of the same step",
            "Bohnstingl et al. 2020, arXiv 2007.12723",
        ),
        "immediate": Row(paths.Immediate, "credit of the same step only", "Meng et al. 2023, arXiv 2302.14311"),
        "all": Row(paths.All, "every path", "the automaton of rtrl"),
        "synaptic": Row(paths.Synaptic, "all delays before the first mixing edge", "a factor of eprop"),
        "near": Row(paths.Near, "all delays before the first mixing edge between layers", "the automaton of local"),
        "cut": Row(paths.cut, "every path without the named edges", "stop_gradient", "(['u->v', ...])"),
    }
)
"""The named rules and automata."""


def rule(given: str | Rule | PathRule | Any) -> Rule:
    """The rule given by a text, a path rule of the user's, or a rule.

    A text is a name of the table, called as in Python where it takes arguments, several joined by `&`.

    Raises:
        RuleError: if it is none of these.

    >>> str(rule("eprop-deep & cut(['h->y'])").paths)
    "cut(['h->y']) & eprop-deep"
    """
    if isinstance(given, Rule):
        return given
    if isinstance(given, str):
        return Rule(paths.intersection(_term(given, term) for term in _split(given)), given.strip())
    if isinstance(given, PathRule):
        return Rule(given)
    if callable(getattr(given, "start", None)) and callable(getattr(given, "step", None)):
        return Rule(_Foreign(given))
    raise RuleError(
        f"a rule is a text, a Rule or a path rule with start and step, got {type(given).__name__}.",
        f"Named rules: {', '.join(TABLE)}.",
    )


@dataclass(frozen=True)
class _Foreign(PathRule):
    """A user's object with `start` and `step` that is no subclass."""

    automaton: Any

    def start(self, node: NodeView) -> Mode:
        return self.automaton.start(node)

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return self.automaton.step(mode, edge, target)

    def __str__(self) -> str:
        return type(self.automaton).__name__


def _split(text: str) -> list[str]:
    """The terms between the `&` that stand outside quotes."""
    if not text.strip():
        raise RuleError("a rule is empty.", f"Named rules: {', '.join(TABLE)}.")
    return [term.strip() for term in re.findall(r"""(?:[^&'"]|'[^']*'|"[^"]*"|['"])+|(?<=&)(?=&|$)|^(?=&)""", text)]


def _term(text: str, term: str) -> PathRule:
    match = re.fullmatch(r"([A-Za-z][\w-]*)\s*(\(.*\))?", term, re.DOTALL)
    if match is None:
        raise RuleError(
            f"rule {text!r}: cannot read {term!r}.", "Write a rule as eprop-deep, or eprop-deep & cut(['h->h'])."
        )
    name, call = match.groups()
    row = TABLE.get(name)
    if row is None:
        raise RuleError(f"unknown rule {name!r}.", did_you_mean(name, TABLE))
    if bool(row.arguments) != (call is not None):
        raise RuleError(f"rule {text!r}: {name} is written {name}{row.arguments}.")
    return row.paths(*_arguments(text, call or "()"))


def _arguments(text: str, call: str) -> tuple[Any, ...]:
    try:
        inner = call[1:-1].strip()
        return cast("tuple[Any, ...]", ast.literal_eval(f"({inner},)")) if inner else ()
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise RuleError(f"rule {text!r}: cannot read the arguments {call}.") from None
