"""How good is a rule on this graph? Its gradient held against the exact one, and what each dropped edge costs.

The exact gradient is `oracle.reverse` under `rtrl`, on the graph without its `credit` attributes: it shares no code
with the compiler, so that an audit of `rtrl` is a check of the engine. Rules run in blocks shorter than the sequence,
of one step where a layout is lossy. An edge counts as re-admitted when it is treated as with `credit="keep"`: the rule
passes it, and keeps its mode where it would have cut. `credit="cut"` is no part of a rule: such edges are said to be
cut by the graph.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.compiling import compile
from forwardgrad.errors import DataError, DeadParameterWarning, RuleError
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.program import Program
from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule
from forwardgrad.support.attributes import is_whole
from forwardgrad.testing import checking
from forwardgrad.testing.audited import ALL, Audit, Line, Spread, picture
from forwardgrad.testing.comparing import exact_gradient, fitted, gradient
from forwardgrad.testing.problem import Problem

__all__ = ["ALL", "USUAL", "Audit", "Line", "Readmit", "Spread", "audit", "over_seeds", "picture"]

USUAL = ("rtrl", "eprop-deep", "eprop", "immediate")
"""The rules that are audited where none are given."""

Grads = Mapping[str, Array]


@dataclass(frozen=True)
class Readmit(PathRule):
    """A path rule that passes one more edge: it keeps its mode where the inner rule cuts it (as `credit="keep"`)."""

    rule: PathRule
    edge: str

    def start(self, node: NodeView) -> Mode | None:
        return self.rule.start(node)

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return self.advance(mode, edge, target, None)

    def advance(self, mode: Mode, edge: EdgeView, target: NodeView, credit: str | None) -> Mode | None:
        return self.rule.advance(mode, edge, target, "keep" if edge.name == self.edge else credit)

    def check(self, edges: Collection[str]) -> None:
        self.rule.check(edges)

    def __str__(self) -> str:
        return f"{self.rule} with {self.edge}"


def audit(
    graph: nx.MultiDiGraph[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    loss: Mapping[str, str | Loss] | None = None,
    rules: Sequence[Any] = USUAL,
    mask: Any = None,
    *,
    signals: Mapping[str, Any] | None = None,
    block: int | None = None,
) -> Audit:
    """Compare the gradient of each rule with the exact one, parameter by parameter.

    Args:
        graph: a declared graph.
        params: `{name: array}`; matrices of adaptive feedback that are left out are drawn.
        inputs: `{input node: (time, batch, size)}`.
        targets: `{output node: (time, batch, size)}`, or `(time, batch)` labels.
        loss: the loss of each output node; by default those that the graph's file names.
        rules: rules as for `compile`, each for all parameters or a mapping from patterns of their names.
        mask: weights of the losses, as for `Program.step`.
        signals: learning signals, for rules with `feedback="signal"`.
        block: steps per block of every rule. By default a third of the sequence, and 1 where a layout is lossy.

    Returns:
        What was found.

    Raises:
        GraphError, RuleError, DataError: if the graph, a rule or an array is malformed.

    >>> import forwardgrad as fg
    >>> graph = fg.load("elman")
    >>> program = fg.compile(graph)
    >>> x = np.random.default_rng(0).normal(size=(6, 2, 1))
    >>> found = fg.audit(graph, program.init(0), {"x": x}, {"y": x}, rules=["rtrl", "immediate"])
    >>> found.line("h->h", "rtrl").error.mean < 1e-12, 0 < found.line("h->h", "immediate").error.mean
    (True, True)
    >>> list(found.line("h->h", "immediate").removed)
    ['h->h']
    """
    losses = _losses(graph, loss)
    contenders = _contenders(graph, losses, rules, block)
    given = Problem(
        graph, losses, dict(params), dict(inputs), dict(targets), mask, None if signals is None else dict(signals)
    )
    wanted = exact_gradient(contenders[0].program, given)
    steps, batch = np.shape(next(iter(targets.values())))[:2]
    found = [_measured(contender, given, wanted, steps) for contender in contenders]
    return _gathered(contenders, [found], wanted, (), steps, batch)


def over_seeds(
    graph: nx.MultiDiGraph[str],
    loss: Mapping[str, str | Loss] | None = None,
    rules: Sequence[Any] = USUAL,
    *,
    seeds: int = 5,
    steps: int = 20,
    batch: int = 4,
    block: int | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Audit:
    """The audit on random parameters and data: the graph's initial ones, and white noise.

    Args:
        graph, loss, rules, block: as for `audit`.
        seeds: how many seeds.
        steps: length of the sequences; at least 2.
        batch: number of samples in each.
        progress: called after every rule of every seed.

    Raises:
        GraphError, RuleError, DataError: as `audit`.
    """
    for name, value, least in (("seeds", seeds, 1), ("steps", steps, 2), ("batch", batch, 1)):
        if not is_whole(value) or value < least:
            raise DataError(f"audit: {name} must be a whole number >= {least}, got {value!r}.")
    losses = _losses(graph, loss)
    contenders = _contenders(graph, losses, rules, block)
    exact = compile(graph, losses, "rtrl", dead="ignore")
    found: list[list[_Measured]] = []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        params = checking.random_params(exact, random, seed)
        inputs, targets = checking.random_data(exact, random, steps, batch)
        nodes = exact.network.nodes
        signals = {name: random.standard_normal((steps, batch, nodes[name].size)) for name in nodes}
        given = Problem(graph, losses, params, inputs, targets, None, signals)
        wanted = exact_gradient(exact, given)
        found.append([])
        for contender in contenders:
            found[-1].append(_measured(contender, given, wanted, steps))
            progress()
    return _gathered(contenders, found, tuple(exact.rules), tuple(range(seeds)), steps, batch)


@dataclass(frozen=True)
class _Contender:
    """A rule, compiled; and, per dropped edge, the program in which this edge alone is re-admitted."""

    label: str
    program: Program
    readmitted: Mapping[str, Program]
    block: int | None

    @property
    def lossy(self) -> bool:
        return any(derived.rule.lossy for derived in self.program.rules.values())

    @property
    def any_block(self) -> bool:
        """Whether the gradient is the same at every length of blocks."""
        return not self.lossy and all(derived.rule.carry for derived in self.program.rules.values())

    def steps(self, length: int) -> int:
        """Steps per block, for a sequence of this length."""
        return self.block or (1 if self.lossy else max(1, length // 3))


@dataclass(frozen=True)
class _Measured:
    """Cosine, norm ratio and relative error by parameter, and what each edge removes by parameter and edge."""

    numbers: Mapping[str, tuple[float, float, float]]
    removed: Mapping[str, Mapping[str, float]]


def _losses(graph: nx.MultiDiGraph[str], loss: Any) -> Any:
    found = graph.graph.get("loss") if loss is None else loss
    if not found:
        raise DataError("audit: no loss is given.", "Say which node has which: loss={'y': 'mse'}.")
    return found


def _contenders(graph: nx.MultiDiGraph[str], losses: Any, rules: Any, block: int | None) -> list[_Contender]:
    given = [rules] if isinstance(rules, str) else list(rules)
    labels = [_label(rule) for rule in given]
    if not given or len(set(labels)) < len(labels):
        raise RuleError(f"audit: the rules must be some, each named once, got {', '.join(labels) or 'none'}.")
    if block is not None and (not is_whole(block) or block < 1):
        raise DataError(f"audit: block must be a whole number >= 1, got {block!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadParameterWarning)
        return [_contender(graph, losses, rule, name, block) for name, rule in zip(labels, given, strict=True)]


def _label(rule: Any) -> str:
    if not isinstance(rule, Mapping):
        return str(rule)
    return ", ".join(f"{pattern}: {each}" for pattern, each in cast("Mapping[Any, Any]", rule).items())


def _contender(graph: nx.MultiDiGraph[str], losses: Any, rule: Any, label: str, block: int | None) -> _Contender:
    program = compile(graph, losses, rule, dead="ignore")
    edges = [edge for edge in program.network.edges if any(edge in d.dropped for d in program.rules.values())]
    return _Contender(label, program, {edge: _readmitting(graph, losses, program, edge) for edge in edges}, block)


def _readmitting(graph: nx.MultiDiGraph[str], losses: Any, program: Program, edge: str) -> Program:
    """The program in which every parameter's rule passes one more edge."""
    rules = {
        re.sub(r"([*?[])", r"[\1]", name): replace(rule, paths=Readmit(rule.paths, edge), name="")
        for name, rule in program.chosen.items()
    }
    return compile(graph, losses, rules, dead="ignore")


def _measured(contender: _Contender, given: Problem, wanted: Grads, length: int) -> _Measured:
    found = _gradient(contender.program, given, contender.steps(length))
    numbers = {name: _compared(found[name], wanted[name]) for name in found}
    numbers[ALL] = _compared(_joined(found, found), _joined(wanted, found))
    removed: dict[str, dict[str, float]] = {name: {} for name in numbers}
    for edge, program in contender.readmitted.items():
        # The gradient along the kept paths does not depend on the block: one block reads no stored influence.
        wider = _gradient(program, given, length if contender.any_block else contender.steps(length))
        errors = {name: _compared(wider[name], wanted[name])[2] for name in found}
        errors[ALL] = _compared(_joined(wider, found), _joined(wanted, found))[2]
        for name, error in errors.items():
            if name == ALL or edge in contender.program.rules[name].dropped:
                before = numbers[name][2]
                removed[name][edge] = 1 - error / before if before > 0 else np.nan
    return _Measured(numbers, removed)


def _gradient(program: Program, given: Problem, block: int) -> Grads:
    found = gradient(program, fitted(program, given), block)
    return {name: found[name] for name in program.rules}


def _joined(grads: Grads, names: Collection[str]) -> Array:
    """The gradients of these parameters as one vector."""
    return np.concatenate([np.zeros(0), *(np.ravel(grads[name]) for name in names)])


def _compared(found: Array, wanted: Array) -> tuple[float, float, float]:
    """Cosine, norm ratio and relative error; NaN where the exact gradient is zero."""
    size, whole = float(np.linalg.norm(found)), float(np.linalg.norm(wanted))
    if whole == 0:
        return np.nan, np.nan, np.nan
    cosine = float(np.vdot(found, wanted)) / (size * whole) if size else 0.0
    return float(np.clip(cosine, -1, 1)), size / whole, float(np.linalg.norm(found - wanted)) / whole


def _gathered(
    contenders: Sequence[_Contender],
    found: Sequence[Sequence[_Measured]],
    names: Collection[str],
    seeds: tuple[int, ...],
    steps: int,
    batch: int,
) -> Audit:
    lines = [
        _line(contender, name, [of_seed[number] for of_seed in found])
        for name in (*names, ALL)
        for number, contender in enumerate(contenders)
    ]
    labels = tuple(contender.label for contender in contenders)
    blocks = tuple(contender.steps(steps) for contender in contenders)
    return Audit(tuple(lines), labels, blocks, seeds, steps, batch)


def _line(contender: _Contender, name: str, found: Sequence[_Measured]) -> Line:
    program = contender.program
    if not program.rules or (name != ALL and name not in program.rules):
        return Line(name, contender.label, trained=False)
    derived = list(program.rules.values()) if name == ALL else [program.rules[name]]
    cosine, ratio, error = (Spread(tuple(m.numbers[name][number] for m in found)) for number in range(3))
    removed = {edge: Spread(tuple(m.removed[name][edge] for m in found)) for edge in found[0].removed[name]}
    return Line(
        name,
        contender.label,
        trained=True,
        exact=all(d.exact for d in derived),
        bytes=sum(d.bytes for d in derived),
        cosine=cosine,
        ratio=ratio,
        error=error,
        removed=removed,
        cut_by_graph=tuple(edge for edge in removed if program.network.edges[edge].credit == "cut"),
    )
