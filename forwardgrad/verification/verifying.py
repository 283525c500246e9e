"""Verification: a program's decisions on small sizes against the oracle, whatever the size of the real network.

The code of a gradient does not depend on how many units a node has, but the choice of it does: layouts, filtered
leaks and merged places are chosen for the real sizes. So these choices are kept, and executed on nodes of two and
three units, where the oracle takes milliseconds. Nodes whose sizes are not tied get different sizes in some run, so
that a transposed matrix does not go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forwardgrad.errors import CheckError, DataError, ForwardgradError
from forwardgrad.graph import validate
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.structure import Structure
from forwardgrad.support.attributes import is_whole
from forwardgrad.testing.checking import REVERSE, usual_blocks
from forwardgrad.testing.comparing import Comparison, exact_gradient, gradient, largest_entry
from forwardgrad.testing.problem import Problem
from forwardgrad.verification.classes import classes, small_sizes
from forwardgrad.verification.replaying import replayed, without_loss
from forwardgrad.verification.shrinking import shrunk

STEPS, BATCH, TRIES = 6, 2, 3
"""Steps after the longest delay, samples, and how many seeds are tried where a gradient is zero."""

FAINT = 1e-4
"""Gradients smaller than this part of the largest are not compared by their own size: rounding would count as error."""

SHOWN = 6
"""Nodes of one size that a message names."""


@dataclass(frozen=True)
class Replay:
    """One comparison on small sizes.

    Args:
        sizes: number of units of each node.
        errors: per parameter, the largest error of its gradient over block lengths, relative to its largest entry, or
            to that of all gradients where its own is faint; infinite where the gradient is not a number.
        silent: parameters whose reference gradient is zero under every seed that was tried.
        faint: parameters whose reference gradient is below 1e-4 of the largest under every seed that was tried.
    """

    sizes: Mapping[str, int]
    errors: Mapping[str, float]
    silent: tuple[str, ...]
    faint: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The largest error."""
        return max(self.errors.values(), default=0.0)

    @property
    def compared(self) -> bool:
        """Whether any gradient was there to be compared."""
        return len(self.silent) < len(self.errors)


@dataclass(frozen=True)
class Verification:
    """What was verified, and what could not be.

    Args:
        runs: the comparisons.
        steps, blocks: the length of the sequence, and of the blocks that it was cut into.
        unverified: what was left out, one sentence each. Empty where all decisions were replayed and compared.
    """

    runs: tuple[Replay, ...]
    steps: int
    blocks: tuple[int, ...]
    unverified: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The largest relative error of all runs."""
        return max((run.error for run in self.runs), default=0.0)

    @property
    def passed(self) -> bool:
        """Whether there was something to compare, and all of it agreed."""
        return any(run.compared for run in self.runs) and self.error <= REVERSE

    @property
    def text(self) -> str:
        """What was compared, line by line."""
        lines = [
            f"{_named(run.sizes)}: largest relative error {run.error:.1e} (allowed {REVERSE:g})" for run in self.runs
        ]
        return "\n".join([*lines, *self.unverified, "passed" if self.passed else "NOT VERIFIED"])

    def data(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        runs = [
            {"sizes": dict(run.sizes), "error": run.error, "silent": list(run.silent), "faint": list(run.faint)}
            for run in self.runs
        ]
        return {
            "passed": self.passed,
            "error": self.error,
            "allowed": REVERSE,
            "steps": self.steps,
            "blocks": list(self.blocks),
            "runs": runs,
            "unverified": list(self.unverified),
        }


def verify(program: Program, *, seed: int = 0, progress: Callable[[list[Any]], Any] = iter) -> Verification:
    """Compare a program's decisions with the oracle, on nodes of two and three units and random numbers.

    Args:
        program: the compiled program. Its layouts, filtered leaks and merged places are replayed as they are.
        seed: from which numbers are drawn.
        progress: wraps the list of runs, as `tqdm` does.

    Returns:
        What was compared, and what could not be.

    Raises:
        CheckError: if a gradient differs. The message names the parameter, its layouts and the sizes.
        DataError: if it is not a program, or the seed is not a whole number.

    >>> import forwardgrad as fg
    >>> found = verify(fg.compile(fg.load("leaky_stack"), rule="eprop-deep"))
    >>> found.passed, found.unverified
    (True, ())
    """
    if not isinstance(program, Program):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"verify: expected a compiled program, got {type(program).__name__}.", "Call compile first.")
    if not is_whole(seed) or seed < 0:
        raise DataError(f"verify: seed must be a whole number >= 0, got {seed!r}.")
    runs: list[Replay] = []
    steps = STEPS + max(program.network.history(name) for name in program.network.nodes)
    for sizes in progress(small_sizes(classes(program))):
        try:
            with _shrinking():
                graph = shrunk(program.graph, program.network, sizes, seed)
                network = validate(graph)
            run = _run(replayed(program, graph, network), sizes, steps, seed)
        except _UnshrinkableError as error:
            return Verification((), steps, usual_blocks(steps), (str(error),))
        _demand(program, run)
        runs.append(run)
    return Verification(tuple(runs), steps, usual_blocks(steps), tuple(_left_out(program, runs)))


class _UnshrinkableError(Exception):
    """An op, a loss or an array of the graph does not stand other sizes."""


@contextmanager
def _shrinking() -> Generator[None]:
    """Tells what only the small sizes are to blame for, since no program of ours is run here."""
    try:
        yield
    except Exception as error:  # functions of users may raise anything
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise _UnshrinkableError(f"The network cannot be checked on nodes of two and three units. {what}") from error


def _run(program: Program, sizes: Mapping[str, int], steps: int, seed: int) -> Replay:
    """Compare under one seed after the other, until no reference gradient is too small that need not be."""
    errors, silent, faint = dict.fromkeys(program.rules, 0.0), set(program.rules), set(program.rules)
    for again in range(TRIES):
        worst, live, clear = _compared(program, steps, seed + again)
        errors = {name: max(errors[name], worst.get(name, 0.0)) for name in errors}
        silent, faint = silent - live, faint - clear
        if faint <= set(program.plan.dead):
            break
    found = (tuple(name for name in program.rules if name in some) for some in (silent, faint - silent))
    return Replay(sizes, errors, *found)


def _compared(program: Program, steps: int, seed: int) -> tuple[dict[str, float], set[str], set[str]]:
    """Per parameter, the largest relative error over block lengths; and whose gradient is not zero, or not faint."""
    exact = without_loss(program) if _lossy(program) else program
    problem = Problem.of(exact, seed=seed, steps=steps, batch=BATCH, mask="batch")
    with _shrinking():
        _demand_repeatable(exact, problem)
    worst, live, clear = dict[str, float](), set[str](), set[str]()
    try:
        comparison = Comparison.with_paths(exact, _signalled_everywhere(problem, exact, seed))
        for block in usual_blocks(steps):
            wanted, found = comparison.wanted(block), gradient(exact, problem, block)
            largest = largest_entry(wanted)
            for name, grad in wanted.items():
                own = largest_entry({name: grad})
                live |= {name} if own else set()
                clear |= {name} if own >= FAINT * largest and own else set()
                scale = own if own >= FAINT * largest else largest
                worst[name] = max(worst.get(name, 0.0), _off(found[name], grad, scale))
    except (ForwardgradError, ValueError, LookupError, TypeError) as error:
        sizes = {name: node.size for name, node in program.network.nodes.items()}
        raise CheckError(
            "verify: the program or its reference fails on small sizes, where the network itself does not.",
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            f"On {_named(sizes)}.",
        ) from error
    return worst, live, clear


def _demand_repeatable(program: Program, problem: Problem) -> None:
    """Raise unless ops and losses give finite numbers, and the same ones twice."""
    one, other = exact_gradient(program, problem), exact_gradient(program, problem)
    if not np.isfinite(largest_entry(one)):
        raise ValueError("the exact gradient is not finite there.")
    if not all(np.array_equal(one[name], other[name]) for name in one):
        raise ValueError("an op or a loss draws at random.")


def _signalled_everywhere(problem: Problem, program: Program, seed: int) -> Problem:
    """The problem with a learning signal on every node: the oracle asks for those that no kept path reads, too."""
    random, shape = np.random.default_rng(seed), (problem.steps, problem.batch)
    drawn = {name: random.normal(size=(*shape, node.size)) for name, node in program.network.nodes.items()}
    return replace(problem, signals=drawn | dict(problem.signals or {}))


def _off(found: Array, wanted: Array, scale: float) -> float:
    """The largest error, relative to a scale; infinite where it is not a number."""
    off = largest_entry({"": np.asarray(found) - wanted}) / (scale or 1.0)
    return off if np.isfinite(off) else np.inf


def _lossy(program: Program) -> bool:
    return any(rule.lossy for rule in program.chosen.values())


def _named(sizes: Mapping[str, int]) -> str:
    """`2 units: x, y; 3 units: h`; of long lists the beginning.

    >>> _named({"x": 2, "h": 3, "y": 2})
    '2 units: x, y; 3 units: h'
    """
    told: list[str] = []
    for size in sorted(set(sizes.values())):
        names = [name for name, each in sizes.items() if each == size]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        told.append(f"{size} units: {', '.join(names[:SHOWN])}{more}")
    return "; ".join(told)


def _demand(program: Program, run: Replay) -> None:
    """Refuse a gradient that differs."""
    wrong = [name for name, error in run.errors.items() if not error <= REVERSE]
    if not wrong:
        return
    name = max(wrong, key=lambda name: run.errors[name])
    chosen = [f"{word} on {program.plan.product.places[place].node!r}" for place, word in _layouts(program, name)]
    raise CheckError(
        f"verify: the gradient of {name!r} under rule '{program.chosen[name]}' is off by {run.errors[name]:.1e} "
        f"of its largest entry ({len(wrong)} of {len(run.errors)} parameters differ).",
        f"Its influence is stored as: {', '.join(chosen) or 'nothing'}. On {_named(run.sizes)}.",
        "The compiler decided wrongly for this graph; please report it. (What an op declares of its own derivative is "
        "taken as true here: forwardgrad.testing.assert_op checks it.)",
    )


def _layouts(program: Program, name: str) -> list[tuple[int, Structure]]:
    """The places at which a parameter's influence is stored, each with its layout."""
    return [(place, word) for (parameter, place), word in program.plan.layouts.items() if parameter == name]


def _left_out(program: Program, runs: list[Replay]) -> Iterator[str]:
    for layout in sorted({rule.layout for rule in program.chosen.values() if rule.lossy}):
        yield f"In place of layout '{layout}' the lossless one was compared; what it loses has no such reference."
    if not program.rules:
        yield "No parameter is trained, so nothing was compared."
    for name in program.rules:
        if name in program.plan.dead:
            continue
        if all(name in run.silent for run in runs):
            yield f"The gradient of {name!r} is zero in all runs, so nothing was compared for it."
        elif all(name in (*run.silent, *run.faint) for run in runs):
            yield (
                f"The gradient of {name!r} is less than {FAINT:g} of the largest one in all runs, "
                "so an error in it may be smaller than rounding."
            )
    if program.plan.dead:
        names = ", ".join(map(repr, program.plan.dead))
        yield f"The rules keep no path to a loss from {names}, so their gradient is zero."
