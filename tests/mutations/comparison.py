"""How is a fault noticed? Programs are run beside the oracle, as gradient tests do, and each disagreement is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks import ENGINES, TOLERANCE, compiled, error

from forwardgrad.array_program.values import ArrayProgramError
from mutations import worked
from mutations.problems import BLOCKS, CASES

WORKED = "by hand"
"""Named as a backend is, for faults in what engine and oracle share, and in the oracle itself."""

RAISED = (ValueError, IndexError, KeyError, NameError, ArrayProgramError)
"""What a program with a fault may raise."""

COMPARISONS = {
    **{backend: len(CASES) * len(BLOCKS) for backend in ENGINES},
    WORKED: len(worked.CASES),
}
"""How many comparisons there are, by what is compared: an engine with the oracle, or all with cases worked by hand."""


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
    """The cases in which two that must agree disagree; one that fails disagrees."""
    yield from _worked() if backend == WORKED else _compared(backend)


def _compared(backend: str) -> Iterator[Disagreement]:
    """Program and oracle."""
    for case in CASES:
        given, signals = case.given(), case.signals()
        try:
            program = compiled(given, case.rule, backend=backend)
        except RAISED as failed:
            yield from (Disagreement(f"{case}, block {block}", f"raises {type(failed).__name__}") for block in BLOCKS)
            continue
        named = {"mask": given.mask, "signals": {name: signals[name] for name in program.signalled}}
        for block in BLOCKS:
            told = f"{case}, block {block}"
            try:
                grads = program.gradient(given.params, given.inputs, given.targets, block=block, **named).grads
            except RAISED as failed:
                yield Disagreement(told, f"raises {type(failed).__name__}")
                continue
            off = error(grads, case.wanted(block))
            if not off <= TOLERANCE:  # NaN, too
                yield Disagreement(told, f"error {off:.0e}")


def _worked() -> Iterator[Disagreement]:
    """What was worked out by hand, or is known by other means, and what the library finds."""
    for name, check in worked.CASES.items():
        try:
            check()
        except (AssertionError, ValueError) as failed:
            yield Disagreement(name, f"raises {type(failed).__name__}")
