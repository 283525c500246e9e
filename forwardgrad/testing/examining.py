"""What does the whole kit say about one graph under one rule? The checks behind `forwardgrad check`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.backends import Devices
from forwardgrad.compiling import compile
from forwardgrad.errors import CheckError, VacuousError
from forwardgrad.program import Program
from forwardgrad.support.defaults import BACKEND
from forwardgrad.testing import checking
from forwardgrad.testing.comparing import Comparison, fitted, largest_entry
from forwardgrad.testing.gradients import assert_block_invariant
from forwardgrad.testing.problem import Origin, Problem
from forwardgrad.testing.refactoring import assert_refactoring_invariant
from forwardgrad.testing.vacuity import Vacuity, drops_nothing, silent_spikes


@dataclass(frozen=True)
class Sample:
    """One comparison.

    Args:
        seed: of parameters and data.
        blocks: the block lengths compared, all but the last shorter than the sequence.
        reverse: largest error against `oracle.reverse`, relative to the largest entry of the gradient.
        difference: relative error of the exact gradient along a random direction against a central difference, or
            `None` where a declared derivative is not that of the value, or `credit` cuts.
        largest: largest entry of the reference gradient: zero would make the comparison empty.
        silent: parameters whose reference gradient is zero throughout.
    """

    seed: int
    blocks: tuple[int, ...]
    reverse: float
    difference: float | None
    largest: float
    silent: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all errors are small, and there was something to compare."""
        # Written such that NaN does not pass.
        same = self.difference is None or self.difference <= checking.DIFFERENCE
        return self.largest > 0 and self.reverse <= checking.REVERSE and same


@dataclass(frozen=True)
class Verdict:
    """What became of one property.

    Args:
        status: `passed`, `failed`, `vacuous` (nothing was compared) or `left out` (the rule does not promise it).
        text: why it is not `passed`.
    """

    status: str
    text: str = ""


@dataclass(frozen=True)
class Finding:
    """What the kit says about one seed.

    Args:
        sample: the comparison with both oracles.
        blocks: whether the gradient is the same however the sequence is cut.
        refactoring: whether it is the same however delays are spelled.
        vacuous: what these comparisons cannot say, by kind.
    """

    sample: Sample
    blocks: Verdict
    refactoring: Verdict
    vacuous: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and the oracles had something to compare."""
        return self.sample.passed and "failed" not in (self.blocks.status, self.refactoring.status)


def examine(
    graph: nx.MultiDiGraph[str],
    loss: Mapping[str, str],
    rule: Any,
    *,
    samples: int,
    origin: Origin,
    backend: str = BACKEND,
    devices: int | Mapping[str, int] | Devices | None = None,
) -> Iterator[Finding]:
    """Run the kit on random parameters and data, seed by seed.

    Args:
        graph: a declared graph.
        loss: the loss of each output node.
        rule: a rule, as for `compile`.
        samples: how many seeds.
        origin: from what the numbers of the first seed are drawn; the others count on from it.
        backend, devices: what runs the program, as for `compile`.

    Raises:
        GraphError, RuleError: if the graph or the rule is malformed, or the rule's layout is lossy.

    >>> import forwardgrad as fg
    >>> found = next(examine(fg.load("leaky_stack"), {"y": "mse"}, "eprop", samples=1, origin=Origin(steps=4)))
    >>> found.passed, found.blocks.status, found.refactoring.status, found.vacuous
    (True, 'passed', 'passed', {})
    """
    # Property tests compare the zero gradient of dead parameters, too: what they drew must run here.
    dead = "warn" if origin.numbers == "tame" else "error"
    program = compile(graph, loss=loss, rule=rule, backend=backend, devices=devices, dead=dead)
    exact = compile(graph, loss=loss, rule="rtrl", dead="ignore") if checking.smooth(program) else None
    for seed in range(origin.seed, origin.seed + samples):
        problem = Problem.of(program, replace(origin, seed=seed))
        yield Finding(
            _sample(program, exact, problem, seed),
            _blocks(program, problem),
            _refactoring(program, problem),
            _vacuous(program, problem),
        )


def _sample(program: Program, exact: Program | None, problem: Problem, seed: int) -> Sample:
    """Compare the engine with both oracles; the exact program, where there is one, with central differences."""
    blocks = checking.usual_blocks(problem.steps)
    comparison = Comparison.with_paths(program, problem)
    wanted = comparison.wanted(blocks[-1])
    reverse = max(comparison.worst(blocks, smallest=0).values(), default=0.0)
    slope = None
    if exact is not None:
        params = fitted(exact, problem).params
        slope = checking.slope_error(exact, params, problem.inputs, problem.targets, seed, problem.mask)
    silent = tuple(name for name, g in wanted.items() if not g.any())
    return Sample(seed, blocks, reverse, slope, largest_entry(wanted), silent)


_REPORTED = (Vacuity.ZERO_GRADIENT, Vacuity.SILENT_SPIKES)
"""Kinds reported apart: what they leave is compared all the same."""


def _blocks(program: Program, problem: Problem) -> Verdict:
    if not all(rule.carry for rule in program.chosen.values()):
        return Verdict("left out", "the rule drops influence at the ends of blocks")
    return _verdict(lambda: assert_block_invariant(program, problem, allow=_REPORTED))


def _refactoring(program: Program, problem: Problem) -> Verdict:
    if any(rule.operator for rule in program.chosen.values()):
        return Verdict("left out", "the rule's constants belong to edges as they are spelled")
    return _verdict(lambda: assert_refactoring_invariant(program, problem, allow=_REPORTED))


def _verdict(check: Callable[[], None]) -> Verdict:
    try:
        check()
    except VacuousError as error:
        return Verdict("vacuous", str(error).splitlines()[0])
    except CheckError as error:
        return Verdict("failed", str(error))
    return Verdict("passed")


def _vacuous(program: Program, problem: Problem) -> dict[str, str]:
    found = (silent_spikes(program, problem), drops_nothing(program))
    return {str(each.kind): str(each).splitlines()[0] for each in found if each is not None}


def summary(findings: Sequence[Finding]) -> dict[str, Any]:
    """What all seeds together say, as plain data.

    Args:
        findings: what `examine` gave; at least one.

    Raises:
        ValueError: if there is none.

    >>> import forwardgrad as fg
    >>> found = list(examine(fg.load("leaky_stack"), {"y": "mse"}, "eprop", samples=1, origin=Origin(steps=4)))
    >>> answer = summary(found)
    >>> answer["passed"], answer["block_invariance"]
    (True, {'status': 'passed', 'text': ''})
    """
    samples = [finding.sample for finding in findings]
    differences = [sample.difference for sample in samples if sample.difference is not None]
    blocks, refactoring = (_joined([getattr(f, name) for f in findings]) for name in ("blocks", "refactoring"))
    vacuous = {
        kind: text for kind, text in findings[0].vacuous.items() if all(kind in finding.vacuous for finding in findings)
    }
    vacuous |= {name: v.text for name, v in (("blocks", blocks), ("refactoring", refactoring)) if v.status == "vacuous"}
    return {
        "passed": all(finding.passed for finding in findings),
        "samples": len(samples),
        "blocks": samples[0].blocks,
        "reverse": _number(float(np.max([sample.reverse for sample in samples]))),
        "reverse_allowed": checking.REVERSE,
        "difference": _number(float(np.max(differences))) if differences else None,
        "difference_allowed": checking.DIFFERENCE,
        "empty": [sample.seed for sample in samples if sample.largest == 0],
        "silent": [name for name in samples[0].silent if all(name in sample.silent for sample in samples)],
        "block_invariance": vars(blocks),
        "refactoring_invariance": vars(refactoring),
        "vacuous": vacuous,
        "failed": [finding.sample.seed for finding in findings if not finding.passed],
    }


def text(answer: Mapping[str, Any]) -> str:
    """The lines that `forwardgrad check` prints.

    Args:
        answer: a `summary` with `graph`, `rule`, `steps` and `replay`.

    Raises:
        KeyError: if something is missing.

    >>> import forwardgrad as fg
    >>> found = list(examine(fg.load("leaky_stack"), {"y": "mse"}, "eprop", samples=1, origin=Origin(steps=4)))
    >>> about = {"graph": "leaky_stack", "rule": "eprop", "steps": 4, "replay": []}
    >>> text(summary(found) | about).splitlines()[-1]
    'passed'
    """
    blocks = ", ".join(map(str, answer["blocks"]))
    lines = [
        f"{answer['graph']} under {answer['rule']}: {answer['samples']} samples of {answer['steps']} steps, "
        f"blocks {blocks}",
        f"reverse accumulation: largest relative error {float(answer['reverse']):.1e} (allowed {checking.REVERSE:g})",
    ]
    if answer["difference"] is None:
        lines.append("central differences: left out, since a declared derivative or credit is not that of the loss")
    else:
        error = f"{float(answer['difference']):.1e} (allowed {checking.DIFFERENCE:g})"
        lines.append(f"rtrl by central differences: largest relative error {error}")
    for name, what in (("block", "blocks cut otherwise"), ("refactoring", "delays spelled otherwise")):
        verdict = answer[f"{name}_invariance"]
        lines.append(f"{what}: {verdict['status']}" + (f": {verdict['text']}" if verdict["text"] else ""))
    lines += [f"{kind}: {told}" for kind, told in answer["vacuous"].items() if kind in list(Vacuity)]
    if answer["silent"]:
        lines.append(f"silent: the reference gradient of {', '.join(answer['silent'])} is zero in all samples")
    if answer["empty"]:
        lines.append(f"nothing to compare: the whole reference gradient is zero in {len(answer['empty'])} samples")
    lines += [f"replay: {command}" for command in answer["replay"][:3]]
    return "\n".join([*lines, "passed" if answer["passed"] else "FAILED"])


def _joined(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict over all seeds: the first failure, or what most deserves to be said."""
    for status in ("failed", "passed", "vacuous", "left out"):
        found = [verdict for verdict in verdicts if verdict.status == status]
        if found:
            return found[0]
    raise ValueError("no verdict")


def _number(value: float) -> float | str:
    """JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)
