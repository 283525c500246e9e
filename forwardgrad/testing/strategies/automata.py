"""Hypothesis strategies for rules: path rules, points with all coordinates, and a rule for each parameter."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from forwardgrad.compiler.factors import weight_shape
from forwardgrad.rules import table as rules
from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule, cut
from forwardgrad.rules.rule import Rule
from forwardgrad.testing.problem import Problem
from forwardgrad.testing.strategies.graphs import SEEDS

PATHS = ("all", "eprop-deep", "synaptic", "near", "eprop", "immediate", "rtrl", "ostl")
"""Named rules that are path rules and no more, and need no arguments."""


@dataclass(frozen=True)
class RandomAutomaton(PathRule):
    """An automaton that looks random and is not: each step is a checksum of mode, labels and target.

    Args:
        seed: another seed gives another automaton.
        modes: number of modes.
        cuts: percentage of steps that cut.
        sees: the labels of an edge that it looks at.
        looks: the marks of the target that it looks at.

    >>> rule = RandomAutomaton(seed=8, modes=3, cuts=15, sees=("delay",), looks=("state",))
    >>> rule.start(NodeView("h")) in range(3)
    True
    """

    seed: int
    modes: int
    cuts: int
    sees: tuple[str, ...]
    looks: tuple[str, ...]

    def start(self, node: NodeView) -> Mode:
        return self._number("start", *(getattr(node, mark) for mark in self.looks)) % self.modes

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        labels = [getattr(edge, label) for label in self.sees] + [getattr(target, mark) for mark in self.looks]
        number = self._number(mode, *labels)
        return None if number % 100 < self.cuts else number // 100 % self.modes

    def _number(self, *key: object) -> int:
        return zlib.crc32(repr((self.seed, *key)).encode())

    def __str__(self) -> str:
        return repr(self)


def automata() -> st.SearchStrategy[RandomAutomaton]:
    """Automata of the user's, one to four modes.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> find(automata(), lambda rule: True, settings=once).modes
    1
    """
    labels = ("delay", "mixing", "recurrent", "role", "source", "target", "key")
    marks = ("state", "output", "output_layer", "leaky_readout", "name")
    return st.builds(
        RandomAutomaton,
        seed=SEEDS,
        modes=st.integers(1, 4),
        cuts=st.sampled_from([0, 20, 40]),
        sees=st.lists(st.sampled_from(labels), unique=True, max_size=4).map(tuple),
        looks=st.lists(st.sampled_from(marks), unique=True, max_size=2).map(tuple),
    )


def path_rules(edges: Sequence[str] = ()) -> st.SearchStrategy[PathRule]:
    """Named rules, cuts of these edges, users' automata, and products of two of them.

    Args:
        edges: names of edges that may be cut.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> str(find(path_rules(), lambda rule: True, settings=once))
    'all'
    """
    named = [name for name in PATHS if name in rules.TABLE]
    single: st.SearchStrategy[PathRule] = st.sampled_from(named).map(lambda name: rules.rule(name).paths) | automata()
    if edges:
        single |= st.lists(st.sampled_from(sorted(edges)), min_size=1, max_size=2).map(cut)
    return single | st.tuples(single, single).map(lambda pair: pair[0] & pair[1])


def rule_texts(edges: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Path rules as text, which `forwardgrad check --rule` reads: named, `hops(m)`, `window(k)`, cuts, products of two.

    Args:
        edges: names of edges that may be cut.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> find(rule_texts(), lambda text: True, settings=once)
    'all'
    """
    single: st.SearchStrategy[str] = st.sampled_from(PATHS)
    single |= st.integers(1, 3).map(lambda order: f"hops({order})")
    single |= st.integers(0, 4).map(lambda steps: f"window({steps})")
    if edges:
        single |= st.sampled_from(sorted(edges)).map(lambda name: f"cut([{name!r}])")
    return single | st.tuples(single, single).map(" & ".join)


@st.composite
def points(draw: st.DrawFn, problem: Problem, *, signals: bool = False) -> Rule:
    """Rules for a problem, lossless and carried, with coordinates beside their paths.

    Args:
        draw: given by Hypothesis.
        problem: whose edges and nodes the coordinates name.
        signals: whether learning signals that the user gives may replace those of the losses.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> import forwardgrad as fg
    >>> given = Problem.of(fg.compile(fg.load("elman")), steps=5)
    >>> str(find(points(given), lambda rule: True, settings=once))
    'all'
    """
    network = problem.network
    found: dict[str, Any] = {"autapses": draw(st.sampled_from(["explicit", "implicit"]))}
    weighted = [name for name, edge in network.edges.items() if edge.kind != "identity"]
    sizes = {name: node.size for name, node in network.nodes.items()}
    square = [name for name, edge in network.edges.items() if sizes[edge.source] == sizes[edge.target]]
    inner = [name for name in network.nodes if name not in network.inputs]
    feedback: dict[str, Any] = {}
    if weighted and draw(st.booleans()):
        name = draw(st.sampled_from(weighted))
        shape = weight_shape(network, network.edges[name])
        matrix = np.linspace(-1, 1.5, prod(shape)).reshape(shape)
        feedback[name] = draw(st.sampled_from(["random", "random(0.5)", matrix]))
    if signals and draw(st.booleans()):
        chosen = st.sampled_from([list(problem.loss), inner]).flatmap(lambda names: st.sets(st.sampled_from(names)))
        feedback |= dict.fromkeys(draw(st.just(list(problem.loss)) | chosen.map(sorted)), "signal")
    if feedback:
        found |= {"feedback": feedback, "seed": draw(st.integers(0, 3))}
    if square and draw(st.booleans()):
        edge = draw(st.sampled_from(square))
        numbers = np.linspace(0.3, 0.8, sizes[network.edges[edge].target]).tolist()
        found["operator"] = {edge: draw(st.sampled_from([0.5, numbers]))}
    return Rule(draw(path_rules(problem.edges)), **found)


def rule_mappings(problem: Problem, *, signals: bool = True) -> st.SearchStrategy[dict[str, Rule]]:
    """A rule for each trainable parameter; few different ones, so that parameters often share one.

    Args:
        problem: whose parameters they are.
        signals: whether some rules may take learning signals that the user gives, and others those of the losses.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> import forwardgrad as fg
    >>> given = Problem.of(fg.compile(fg.load("elman")), steps=5)
    >>> {str(rule) for rule in find(rule_mappings(given), lambda rules: True, settings=once).values()}
    {'all'}
    """
    names = sorted(problem.network.trainable)
    few = st.lists(points(problem, signals=signals), min_size=1, max_size=3)
    return few.flatmap(lambda rules: st.fixed_dictionaries({name: st.sampled_from(rules) for name in names}))
