"""Learning signals that settle in rounds, in place of one sweep: the paths that are short within each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule, whole_number


@dataclass(frozen=True)
class Settle(PathRule):
    """At most `rounds - 1` edges in a row without a delay; every delay begins a new row.

    These are the paths along which credit comes back where all nodes exchange it at the same time, for a number of
    rounds in each step, each with its neighbours alone. Write c for the gradient of the loss of a step by the nodes,
    with what comes back over delayed edges, and J for the Jacobians of the edges without delay. A round is

        a <- c + J' a,   from a = 0

    so that after n rounds a = c + J'c + ... + (J')^(n-1) c: the sum over the paths of at most n - 1 edges. There are no
    cycles without a delay, so J is nilpotent, and once n exceeds the longest path a is the exact adjoint.

    Two methods of the literature are this recursion. Predictive coding with fixed predictions (Millidge, Tschantz &
    Buckley 2020, arXiv 2006.04182) moves each value by minus its own prediction error plus the errors that come back.
    Errors start at zero, that of an output is held at c, and a step of size 1 is a round. Activation relaxation
    (Millidge, Tschantz, Seth & Buckley 2020, arXiv 2009.05359) has dx/dt = -x + c + J'x, whose Euler step of size 1 is
    a round; it starts from activities in place of zero, of which nothing is left once n exceeds the longest path. A
    step of size s < 1 gives, in one time step, the mean over m of the rules with m rounds, m being binomial: n trials
    of probability s.

    Modes: how many edges without a delay were crossed since the injection, or the last delay. Each edge is one message,
    so that a relay takes a round of its own: unlike other rules, this one counts edges as they are declared.
    """

    rounds: int

    def start(self, node: NodeView) -> Mode:
        return 0

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        if edge.delay:
            return 0
        crossed = cast("int", mode) + 1
        return crossed if crossed < self.rounds else None

    @property
    def as_spelled(self) -> bool:
        return True

    def met(self, other: PathRule) -> PathRule | None:
        return Settle(min(self.rounds, other.rounds)) if isinstance(other, Settle) else None

    def __str__(self) -> str:
        return f"settle({self.rounds})"


def settle(rounds: int) -> Settle:
    """The rule of learning signals that settle in `rounds` rounds per step.

    Raises:
        RuleError: unless `rounds` is whole and at least 1.

    >>> from forwardgrad.rules.paths import Immediate
    >>> str(settle(3) & Immediate() & settle(4))
    'immediate & settle(3)'
    """
    return Settle(whole_number("settle(n)", rounds, 1))
