"""How is a fault noticed? Programs are run beside the oracle, as gradient tests do, and each disagreement is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks import TOLERANCE, compiled, error

from mutations.problems import BLOCKS, PROBLEMS, RULES, wanted

CASES = len(PROBLEMS) * len(RULES) * len(BLOCKS)
"""How many comparisons there are."""


@dataclass(frozen=True)
class Disagreement:
    """A case in which program and oracle disagree.

    Args:
        case: graph, rule and block length.
        how: the relative error of the gradient, or the error that the program raised.
    """

    case: str
    how: str


def wrong(backend: str) -> Iterator[Disagreement]:
    """The cases in which program and oracle disagree; a program that fails disagrees."""
    for name, make in PROBLEMS.items():
        given = make()
        for rule in RULES:
            for block in BLOCKS:
                case = f"{name}, {rule}, block {block}"
                try:
                    program = compiled(given, rule, backend=backend)
                    grads = program.gradient(given.params, given.inputs, given.targets, block=block).grads
                except (ValueError, IndexError, KeyError) as failed:
                    yield Disagreement(case, f"raises {type(failed).__name__}")
                    continue
                off = error(grads, wanted(name, rule))
                if not off <= TOLERANCE:  # also what is no number
                    yield Disagreement(case, f"error {off:.0e}")
