"""Through which edge does a wrong part of a gradient flow?"""

from __future__ import annotations

import glob
from dataclasses import replace
from typing import Any

import numpy as np

from forwardgrad.compiling import compile
from forwardgrad.errors import ForwardgradError
from forwardgrad.program import Program
from forwardgrad.rules.paths import cut
from forwardgrad.testing.comparing import allowed, differences, gradient, reference
from forwardgrad.testing.problem import Problem

MOST_EDGES = 60
"""Edges of the largest graph in which the edge of a fault is looked for."""


def culprits(program: Program, problem: Problem, parameter: str, block: int) -> str:
    """A line that names the edges through which a wrong part of a gradient flows: without them it is right.

    Every edge is cut in turn, in the engine and in the oracle; a graph of many edges is not searched.

    Args:
        program, problem: what was checked, and on what.
        parameter: the parameter whose gradient is wrong.
        block: the block length at which it is.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> culprits(program, Problem.of(program, steps=4), "h->h", block=1).partition(":")[0]  # nothing is wrong with any
    "Cutting credit at any of these edges cures 'h->h'"
    """
    if len(program.network.edges) > MOST_EDGES or parameter not in program.chosen:
        return ""
    left = {edge: _left(program, problem, parameter, block, edge) for edge in program.network.edges}
    found = [edge for edge, error in left.items() if error <= allowed(program)]
    if found:
        return f"Cutting credit at any of these edges cures {parameter!r}: {', '.join(found)}."
    best = min(left, key=lambda edge: left[edge], default="")
    if best and np.isfinite(left[best]):
        return f"Cutting credit at {best} leaves {parameter!r} the least wrong: {left[best]:.1e} of its largest entry."
    return ""


def _left(program: Program, problem: Problem, parameter: str, block: int, edge: str) -> float:
    """How wrong a gradient is with credit cut at an edge; infinite where that leaves nothing to be wrong."""
    rule = program.chosen[parameter]
    rules: dict[str, Any] = {glob.escape(parameter): replace(rule, paths=rule.paths & cut(edge), name="")}
    rules |= {"*": "rtrl"} if len(program.chosen) > 1 else {}
    try:
        trial = compile(program.graph, program.losses, rules, dtype=program.dtype, dead="ignore")
        small = replace(problem, params={n: p for n, p in problem.params.items() if n in trial.plan.parameters})
        found, wanted = gradient(trial, small, block), reference(trial, small, block)
    except ForwardgradError:
        return np.inf
    if parameter not in wanted or not np.any(wanted[parameter]):
        return np.inf
    return differences(found, {parameter: wanted[parameter]})[0].relative
