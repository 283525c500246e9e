"""Which rules have a name, and how is a rule read from text? One table; each row is a point in the space of rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.ops.formula import parsed
from forwardgrad.rules import paths
from forwardgrad.rules.paths import PathRule
from forwardgrad.rules.rule import Foreign, Rule
from forwardgrad.rules.settling import settle
from forwardgrad.rules.spelling import quoted, split

__all__ = ["TABLE", "Row", "Rule", "rule"]


@dataclass(frozen=True)
class Row:
    """A row of the table of named rules.

    Args:
        make: makes the rule, or the path rule of an automaton, from the arguments given in brackets.
        keeps: one line on what it keeps and drops.
        source: where it comes from.
        limits: one line on known limits; empty for a bare automaton.
        arguments: how they are written, or an empty string.
    """

    make: Callable[..., Rule | PathRule]
    keeps: str
    source: str
    limits: str = ""
    arguments: str = ""


def _eprop() -> PathRule:
    return paths.EpropDeep() & paths.Synaptic()


_BELLEC = "Bellec et al. 2020, doi 10.1038/s41467-020-17236-y"
_FULL = "influence is full where units mix: n^3 numbers a dense recurrent weight"

RULES: Mapping[str, Row] = MappingProxyType(
    {
        "bptt": Row(
            lambda: Rule(paths.All()),
            "every path; the rule rtrl, with the whole sequence as one block",
            "Werbos 1990, doi 10.1109/5.58337",
            "the block length is an argument of execution; memory then grows with the sequence",
        ),
        "rtrl": Row(
            lambda: Rule(paths.All()),
            "every path: the exact gradient",
            "Williams & Zipser 1989, doi 10.1162/neco.1989.1.2.270",
            _FULL + "; no dearer than e-prop where recurrence is elementwise",
        ),
        "tbptt": Row(
            lambda: Rule(paths.All(), carry=False),
            "every path inside a block; drops what crosses the ends of blocks",
            "Williams & Peng 1990, doi 10.1162/neco.1990.2.4.490",
            "the gradient depends on the block length",
        ),
        "immediate": Row(
            lambda: Rule(paths.Immediate()),
            "credit of the same step; drops every delayed edge",
            "SLTT: Meng et al. 2023, arXiv 2302.14311",
            "learns no memory but what the untrained recurrence holds",
        ),
        "reservoir": Row(
            lambda: Rule(paths.Readouts()),
            "exact for parameters outside recurrent layers and in leaky readouts; other recurrent layers stay as drawn",
            "Jaeger 2001 (GMD report 148)",
            "parameters of recurrent layers are frozen, absent from grads",
        ),
        "eprop": Row(
            lambda: Rule(_eprop()),
            "a trace a synapse along a unit's own state, then credit of the same step and readout leaks",
            _BELLEC,
            "drops credit through other units in time, and the memory of layers above",
        ),
        "eprop-random": Row(
            lambda: Rule(_eprop(), feedback="random"),
            "the paths of eprop; fixed random matrices in place of the weights into output layers bring credit back",
            _BELLEC,
            "as eprop; learning signals need not align with the loss",
        ),
        "eprop-adaptive": Row(
            lambda: Rule(_eprop(), feedback="adaptive"),
            "the paths of eprop; feedback matrices that learn as the weights do (Kolen & Pollack 1994)",
            _BELLEC,
            "as eprop; aligns only if weights and feedback decay",
        ),
        "eprop-deep": Row(
            lambda: Rule(paths.EpropDeep()),
            "credit through depth and a unit's own state; drops credit through other units in time",
            "Millidge 2025, arXiv 2512.24506 (our reading)",
            "influence on layers above a parameter's own is full: O(L^2 n^3) numbers",
        ),
        "hops": Row(
            lambda order: Rule(paths.hops(order)),
            "at most m - 1 explicit edges, and all else",
            "m-order e-prop: Martin-Sanchez et al. 2022, arXiv 2207.11439 (our reading)",
            "m = 2 costs n^3 numbers, m >= 3 as much as rtrl and more",
            "(m)",
        ),
        "ostl": Row(
            lambda: Rule(paths.Near()),
            "the exact trace of the own layer, then credit of the same step and readout leaks (OSTL with H)",
            "Bohnstingl et al. 2020, arXiv 2007.12723",
            "full influence in every recurrent layer; drops the memory of layers above",
        ),
        "ostl-feedforward": Row(
            lambda: Rule(_eprop()),
            "the paths of eprop (OSTL without H)",
            "Bohnstingl et al. 2020, arXiv 2007.12723",
            "as eprop",
        ),
        "ottt": Row(
            lambda: Rule(_eprop()),
            "the paths of eprop; on LIF layers with one shared leak the trace is the filtered input",
            "Xiao et al. 2022, arXiv 2210.04195",
            "as eprop; the rank-one layout is derived, and is lost where leaks differ",
        ),
        "rflo": Row(
            lambda: Rule(_eprop(), feedback="random"),
            "the paths of eprop on leaky rate units, with random feedback",
            "Murray 2019, doi 10.7554/eLife.43299",
            "without a leak it is the immediate rule",
        ),
        "snap": Row(
            lambda order: Rule(paths.All(), layout=f"snap({order!r})"),
            "influence on the units that a parameter's own reaches in n - 1 moves to other units in time",
            "Menick et al. 2021, arXiv 2006.07232",
            "biased; a compression at the ends of blocks, so that block length 1 is the published rule",
            "(n)",
        ),
        "uoro": Row(
            lambda: Rule(paths.All(), layout="uoro"),
            "every path, in a random rank-one estimate without bias",
            "Tallec & Ollivier 2017, arXiv 1702.05043",
            "noisy: the variance grows with the number of units",
        ),
        "kf-rtrl": Row(
            lambda: Rule(paths.All(), layout="kronecker"),
            "every path, in a random Kronecker product without bias",
            "Mujika et al. 2018, arXiv 1805.10842",
            "dense weights on one edge, and biases; noisy, less than uoro",
        ),
        "dsf": Row(
            lambda constant: Rule(paths.All(), operator={"explicit": constant}),
            "every path, a constant (or one per unit) in place of the Jacobian of explicit recurrence",
            "diagonal state feedback: Caillon et al. 2025, arXiv 2503.23104",
            "not a part of the gradient; with gates or leaks the published method is learning.state_feedback",
            "(constant)",
        ),
        "window": Row(
            lambda steps: Rule(paths.window(steps)),
            "a total delay of at most k behind the injection",
            "sliding-window truncated BPTT",
            "k + 1 modes, each with an influence of its own",
            "(k)",
        ),
    }
)
"""The named rules."""

AUTOMATA: Mapping[str, Row] = MappingProxyType(
    {
        "all": Row(paths.All, "every path", "the automaton of rtrl"),
        "synaptic": Row(
            paths.Synaptic, "all delays before the first mixing edge, but for leaky readouts", "a factor of eprop"
        ),
        "near": Row(
            paths.Near,
            "all delays before the first mixing edge between layers, but for leaky readouts",
            "the automaton of ostl",
        ),
        "local": Row(paths.Near, "another name of near", "the automaton of ostl"),
        "settle": Row(
            settle,
            "at most n - 1 edges in a row without a delay: what n rounds of relaxation within a step bring back",
            "activation relaxation: Millidge et al. 2020, arXiv 2009.05359; predictive coding with fixed predictions: "
            "Millidge et al. 2020, arXiv 2006.04182",
            "",
            "(n)",
        ),
        "cut": Row(paths.cut, "every path without the named edges", "stop_gradient", "", "(['u->v', ...])"),
    }
)
"""Automata that are no rules of the literature by themselves, to compose rules with."""

TABLE: Mapping[str, Row] = MappingProxyType({**RULES, **AUTOMATA})
"""All names that a text may use."""


def rule(given: str | Rule | PathRule | Any) -> Rule:
    """The rule given by a text, a path rule of the user's, or a rule.

    A text is a name of the table, called as in Python where it takes arguments, several joined by `&`; then, after a
    semicolon, coordinates that differ from those of the named rules: `"hops(2) & near; feedback='random', seed=3"`.
    Words and names of edges need no quotes there: `"eprop; feedback={h->y: random(1.0)}"`.

    Raises:
        RuleError: if it is none of these.

    >>> rule("eprop-deep & cut(['h->y'])").text
    "cut(['h->y']) & eprop-deep"
    >>> rule("eprop; feedback=random") == rule("rflo")
    True
    >>> rule("eprop; feedback={l.h->y: random(1.0), z->y: [[0.5, 2]]}").feedback
    (('l.h->y', 'random(1.0)'), ('z->y', [[0.5, 2.0]]))
    """
    if isinstance(given, Rule):
        return given
    if isinstance(given, str):
        return _read(given)
    if isinstance(given, PathRule):
        return Rule(given)
    automaton = callable(getattr(given, "start", None)) and callable(getattr(given, "step", None))
    if automaton and not isinstance(given, type):
        return Rule(Foreign(given))
    got = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    raise RuleError(
        f"a rule is a text, a Rule or a path rule with start and step, got {got}.",
        f"Named rules: {', '.join(RULES)}.",
    )


def _read(text: str) -> Rule:
    terms, *axes = split(text, ";")
    if not terms:
        raise RuleError("a rule is empty.", f"Named rules: {', '.join(RULES)}.")
    made = [_term(text, term) for term in split(terms, "&")]
    chosen: dict[str, Any] = {}
    for part in made:
        if isinstance(part, Rule):
            for axis, value in _coordinates(part).items():
                if axis in chosen and chosen[axis] != value:
                    raise RuleError(
                        f"rule {text!r}: two of its rules differ in {axis!r}.", "Say which after a semicolon."
                    )
                chosen[axis] = value
    for part in axes:
        chosen |= _axes(text, part)
    whole = paths.intersection(part.paths if isinstance(part, Rule) else part for part in made)
    return replace(Rule(whole, **chosen), name=text.strip())


_DEFAULT = Rule(paths.All())
_AXES = ("layout", "feedback", "operator", "carry", "autapses", "seed")


def _coordinates(given: Rule) -> dict[str, Any]:
    """The coordinates of a rule that are not the default."""
    return {axis: value for axis in _AXES if (value := getattr(given, axis)) != getattr(_DEFAULT, axis)}


def _axes(text: str, axes: str) -> dict[str, Any]:
    """The coordinates written behind a semicolon: `feedback=random, layout=snap(2)`. Nothing in it is executed."""
    try:
        call = parsed(f"rule({quoted(axes)})")
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        given = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise RuleError(
            f"rule {text!r}: cannot read {axes.strip()!r}.", "Write coordinates as feedback=random, seed=3."
        ) from None
    for axis in given:
        if axis not in _AXES:
            raise RuleError(f"rule {text!r}: unknown coordinate {axis!r}.", did_you_mean(axis, _AXES))
    return given


def _literal(node: ast.expr) -> Any:
    """A literal, where a bare word stands for itself and a call such as `snap(2)` for its text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        return ast.unparse(node)
    return ast.literal_eval(node)


def _term(text: str, term: str) -> Rule | PathRule:
    match = re.fullmatch(r"([A-Za-z][\w-]*)\s*(\(.*\))?", term, re.DOTALL)
    if match is None:
        raise RuleError(f"rule {text!r}: cannot read {term!r}.", "Write eprop-deep, or eprop-deep & cut(['h->h']).")
    name, call = match.groups()
    row = TABLE.get(name)
    if row is None:
        raise RuleError(f"unknown rule {name!r}.", did_you_mean(name, TABLE))
    if bool(row.arguments) != (call is not None):
        raise RuleError(f"rule {text!r}: {name} is written {name}{row.arguments}.")
    return row.make(*_arguments(text, name, row, call)) if call else row.make()


def _arguments(text: str, name: str, row: Row, call: str) -> tuple[Any, ...]:
    try:
        arguments = ast.literal_eval(parsed(f"({quoted(call[1:-1])},)"))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise RuleError(f"rule {text!r}: cannot read the arguments {call}.") from None
    if len(arguments) != 1:
        raise RuleError(f"rule {text!r}: {name} is written {name}{row.arguments}.")
    return arguments
