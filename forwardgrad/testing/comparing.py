"""How far are two gradients apart, and where?"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad import oracle
from forwardgrad.errors import CheckError, RuleError
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.rules.table import rule as read_rule
from forwardgrad.testing.problem import Problem

SMALLEST = 1e-3
"""Gradients are compared relative to the largest entry of them all, or to this."""


@dataclass(frozen=True)
class Difference:
    """Where the gradient of a parameter is furthest from what it should be.

    Args:
        parameter: its name.
        index: the entry.
        found, wanted: the two numbers there.
        relative: their difference, relative to the largest entry of the whole reference gradient; infinite for NaN.

    >>> print(Difference("h->h", (0, 1), 0.5, 0.25, 0.125))
    parameter 'h->h' at [0, 1]: 0.5 instead of 0.25, off by 1.2e-01 of the largest entry
    """

    parameter: str
    index: tuple[int, ...]
    found: float
    wanted: float
    relative: float

    def __str__(self) -> str:
        at = f" at {list(self.index)}" if self.index else ""
        return (
            f"parameter {self.parameter!r}{at}: {self.found:.6g} instead of {self.wanted:.6g}, "
            f"off by {self.relative:.1e} of the largest entry"
        )


def differences(
    found: Mapping[str, Array], wanted: Mapping[str, Array], smallest: float = SMALLEST
) -> list[Difference]:
    """The largest difference of every parameter, the worst first. One that is missing counts as zero.

    Args:
        found, wanted: gradients; what `wanted` lacks is left out.
        smallest: differences are relative to the largest entry of `wanted`, or to this; if both are zero, to 1.

    >>> [d.parameter for d in differences({"a": np.ones(2), "b": np.zeros(1)}, {"a": np.ones(2), "b": np.ones(1)})]
    ['b', 'a']
    """
    scale = max(smallest, largest_entry(wanted)) or 1.0
    apart = [_difference(name, np.asarray(found.get(name, 0 * g)), np.asarray(g), scale) for name, g in wanted.items()]
    return sorted(apart, key=lambda each: -each.relative)


def largest_entry(grads: Mapping[str, Array]) -> float:
    """The largest entry of all in size; NaN where there is one, which `max` would lose."""
    return float(np.max([np.abs(g).max(initial=0.0) for g in grads.values()], initial=0.0))


def _difference(name: str, found: Array, wanted: Array, scale: float) -> Difference:
    distance = np.nan_to_num(np.abs(found - wanted) / scale, nan=np.inf, posinf=np.inf)
    index = np.unravel_index(int(np.argmax(distance)), distance.shape)
    at = tuple(int(i) for i in index)
    return Difference(name, at, float(found[at]), float(wanted[at]), float(distance[at]))


def allowed(program: Program) -> float:
    """The largest relative difference that passes: 1e-10 in double precision, 1e-3 in single.

    Args:
        program: what is checked.

    >>> import forwardgrad as fg
    >>> allowed(fg.compile(fg.load("elman"), dtype="float32"))
    0.001
    """
    return 1e-10 if program.dtype == np.float64 else 1e-3


def differ(program: Program, apart: list[Difference]) -> bool:
    """Whether any of these differences is larger than the program's precision allows; NaN is.

    Args:
        program: what is checked.
        apart: the differences.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"))
    >>> differ(program, differences({"a": np.ones(1)}, {"a": 1 + 1e-6 * np.ones(1)}))
    True
    """
    return any(not each.relative <= allowed(program) for each in apart)


def chosen(program: Program) -> Any:
    """The program's rules in the form that `compile` and the oracle read.

    Args:
        program: a program.

    >>> import forwardgrad as fg
    >>> str(chosen(fg.compile(fg.load("elman"), rule="eprop")))
    'eprop'
    """
    rules = list(program.chosen.values())
    if not rules:
        return "rtrl"
    same = all(rule == rules[0] for rule in rules)
    return rules[0] if same else {glob.escape(name): rule for name, rule in program.chosen.items()}


def reference(program: Program, problem: Problem, block: int | None = None) -> dict[str, Array]:
    """The gradient over the paths that the program's rules keep, by reverse accumulation over the unrolled graph.

    Args:
        program: a program.
        problem: its parameters and data.
        block: steps per block, for rules that carry nothing over the ends of blocks.

    Raises:
        RuleError: if a rule's layout is lossy: such a gradient is no sum over paths.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> given = Problem.of(program, steps=4)
    >>> apart = differences(gradient(program, given, block=1), reference(program, given))
    >>> differ(program, apart)
    False
    """
    given: dict[str, Any] = problem.arguments | {"graph": program.graph, "loss": program.losses}
    given |= {"rule": chosen(program), "signals": problem.signals, "block": block or problem.steps}
    return oracle.reverse(**given).grads


def exact_gradient(program: Program, problem: Problem) -> dict[str, Array]:
    """The exact gradient of the loss: over all paths, also those that attributes `credit` of the graph cut.

    Args:
        program: a program.
        problem: its parameters and data.

    Raises:
        DataError: if the problem does not fit the program.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> given = Problem.of(program, steps=4)
    >>> apart = differences(gradient(program, given, block=1), exact_gradient(program, given))
    >>> differ(program, apart), apart[-1].parameter
    (True, 'y.bias')
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(program.graph)
    for _, _, attributes in graph.edges(data=True):
        attributes.pop("credit", None)
    params = {name: p for name, p in problem.params.items() if name not in program.plan.followers}
    given: dict[str, Any] = problem.arguments | {"graph": graph, "loss": program.losses, "params": params}
    return oracle.reverse(**given).grads


def gradient(program: Program, problem: Problem, block: int) -> dict[str, Array]:
    """The program's own gradient of a problem, in blocks.

    Args:
        program: a program.
        problem: its parameters and data.
        block: steps per block.

    Raises:
        DataError: if the problem does not fit the program.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> sorted(gradient(program, Problem.of(program, steps=4), block=2))
    ['h->h', 'h->y', 'h.bias', 'x->h', 'y.bias']
    """
    given: dict[str, Any] = {"mask": problem.mask, "signals": problem.signals}
    return program.gradient(problem.params, problem.inputs, problem.targets, block=block, draw=0, **given).grads


def fitted(program: Program, problem: Problem) -> Problem:
    """A problem with those of its parameters and signals that a program takes, missing feedback matrices drawn.

    Args:
        program: a program, perhaps under another rule than the problem was made for.
        problem: parameters and data of its graph.

    >>> import forwardgrad as fg
    >>> plain, adaptive = (fg.compile(fg.load("elman"), rule=rule) for rule in ("eprop", "eprop; feedback=adaptive"))
    >>> sorted(fitted(adaptive, Problem.of(plain)).params.keys() - plain.init().keys())
    ['h->y.feedback']
    """
    drawn = program.init(0) if program.plan.followers else {}
    params = {name: problem.params.get(name, drawn.get(name)) for name in program.plan.parameters}
    signals = {name: s for name, s in (problem.signals or {}).items() if name in program.signalled}
    return replace(problem, params=cast("dict[str, Array]", params), signals=signals or None)


@dataclass(frozen=True)
class Comparison:
    """A program's gradient of a problem beside a reference.

    Args:
        program, problem: what is compared, and on what.
        wanted: the reference, by block length.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> given = Problem.of(program, steps=4)
    >>> differ(program, Comparison.with_paths(program, given).apart(block=1))
    False
    >>> Comparison.with_exact(program, given).apart(block=1)[-1].parameter
    'y.bias'
    """

    program: Program
    problem: Problem
    wanted: Callable[[int], Mapping[str, Array]]

    @classmethod
    def with_paths(cls, program: Program, problem: Problem) -> Comparison:
        """With the gradient over the paths that its rules keep; it depends on blocks if a rule carries nothing."""
        carried = all(rule.carry for rule in program.chosen.values())
        by_block = cache(lambda block: reference(program, problem, block))
        return cls(program, problem, lambda block: by_block(problem.steps if carried else block))

    @classmethod
    def with_exact(cls, program: Program, problem: Problem) -> Comparison:
        """With the exact gradient of the loss."""
        exact = exact_gradient(program, problem)
        return cls(program, problem, lambda block: exact)

    def apart(self, block: int, smallest: float = SMALLEST) -> list[Difference]:
        """The largest difference of every parameter at one block length, the worst first."""
        return differences(gradient(self.program, self.problem, block), self.wanted(block), smallest)

    def worst(self, blocks: Iterable[int], smallest: float = SMALLEST) -> dict[str, float]:
        """The largest difference of every parameter over several block lengths, relative."""
        worst: dict[str, float] = {}
        for each in (each for block in blocks for each in self.apart(block, smallest)):
            worst[each.parameter] = max(worst.get(each.parameter, 0.0), each.relative)
        return worst

    def require(self, blocks: Iterable[int], what: str, explain: Callable[[str, int], str]) -> None:
        """Raise `CheckError` at the first block length at which they differ.

        Args:
            blocks: block lengths.
            what: what is wrong then.
            explain: a further line, by the parameter that is furthest off and the block length.
        """
        for block in blocks:
            apart = self.apart(block)
            if differ(self.program, apart):
                line = explain(apart[0].parameter, block)
                raise fault(f"{what} at block {block}", self.program, self.problem, apart, line)


def fault(what: str, program: Program, problem: Problem, apart: list[Difference], *more: str) -> CheckError:
    """The error that says where gradients differ.

    Args:
        what: what was being compared.
        program, problem: what was checked, and on what.
        apart: the differences, the worst first.
        more: further lines.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> apart = differences({"h->y": np.ones(1)}, {"h->y": np.zeros(1)})
    >>> print(fault("wrong", program, Problem.of(program), apart, "Look at h."))
    wrong: parameter 'h->y' at [0]: 1 instead of 0, off by 1.0e+03 of the largest entry (allowed 1e-10).
      Look at h.
      Replay: forwardgrad check problem.toml --rule eprop --samples 1 --seed 0 --steps 12 --batch 2
    """
    limit = allowed(program)
    wrong = [each for each in apart if not each.relative <= limit]
    others = f" {len(wrong) - 1} more: {', '.join(repr(each.parameter) for each in wrong[1:6])}." if wrong[1:] else ""
    replay = _replay(program, problem)
    return CheckError(
        f"{what}: {wrong[0]} (allowed {limit:g}).{others}",
        *more,
        f"Replay: {replay}" if replay else "",
    )


def _replay(program: Program, problem: Problem) -> str:
    """The command that replays a problem, where one text says the program's rules."""
    rules = list(program.chosen.values())
    try:
        told = bool(rules) and all(rule == read_rule(str(rules[0])) for rule in rules)
    except RuleError:
        return ""
    return problem.command(rules[0]) if told else ""
