"""Which rules are drawn? Named ones, cuts, automata that look random, and products of two."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from forwardgrad import rules
from forwardgrad.paths import EdgeView, Mode, NodeView, PathRule, cut
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

    >>> from hypothesis import find
    >>> find(automata(), lambda rule: True).modes
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

    >>> from hypothesis import find
    >>> str(find(path_rules(), lambda rule: True))
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

    >>> from hypothesis import find
    >>> find(rule_texts(), lambda text: True)
    'all'
    """
    single: st.SearchStrategy[str] = st.sampled_from(PATHS)
    single |= st.integers(1, 3).map(lambda order: f"hops({order})")
    single |= st.integers(0, 4).map(lambda steps: f"window({steps})")
    if edges:
        single |= st.sampled_from(sorted(edges)).map(lambda name: f"cut([{name!r}])")
    return single | st.tuples(single, single).map(" & ".join)
