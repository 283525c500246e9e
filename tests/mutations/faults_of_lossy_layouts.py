"""Faults planted in what lossy layouts are lowered to, noticed where an array program and the interpreter part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from checks import compiled
from nets import problem, vanilla

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.lowering import gradients, last_step
from forwardgrad.array_program.lowering.last_step import _LastStep
from forwardgrad.array_program.lowering.lossy import product, rank_one, users
from forwardgrad.array_program.lowering.lossy.by_rows import ByRows, RowLayout
from forwardgrad.array_program.lowering.lossy.one_step import OneStep
from forwardgrad.array_program.lowering.lossy.rank_one import RankOneInfluence
from forwardgrad.array_program.values import Value
from forwardgrad.errors import RuleError
from forwardgrad.layouts import draws, table
from forwardgrad.layouts.compressed import Compression
from forwardgrad.layouts.layout import Layout
from forwardgrad.ops import Array
from forwardgrad.testing import Problem
from mutations.comparison import RAISED, Disagreement
from mutations.problems import PROBLEMS

Patch = pytest.MonkeyPatch


def late() -> Problem:
    """A readout that hears a layer one and two steps late, by one weight: credit goes past all that is stored."""
    graph = vanilla(delay=2)
    graph.remove_edge("h", "y")
    for delay in (1, 2):
        graph.add_edge("h", "y", weight="dense", delay=delay, param="late")
    return problem(graph, "y", steps=7, gain=1.5)


GRAPHS = {**{name: PROBLEMS[name] for name in ("delays", "masked", "elements", "depth")}, "late": late}
RULES = ("snap(1)", "snap(2)", "uoro", "kf-rtrl", "all; layout=some_")
BLOCKS = (1, 2, 7)
CASES = len(GRAPHS) * len(RULES) * len(BLOCKS)
"""Comparisons at most: some rules do not serve some graphs."""


def _compress(influence: Array, random: np.random.Generator) -> Array:
    return 2 * influence * (random.random(influence.shape) < 0.5)


SOME = Compression("some_", _compress, random=True)
LAYOUT = Layout("some_", SOME.traces, keeps="a half of all entries", source="", random=True)


def _gradients(name: str, rule: str, backend: str) -> dict[int, dict[str, Array]] | None:
    """The gradients of a graph, by block length; none where the rule cannot serve it."""
    given = GRAPHS[name]()
    try:
        program = compiled(given, rule, backend=backend)
    except RuleError:
        return None
    call = given.params, given.inputs, given.targets
    return {block: program.gradient(*call, given.mask, given.signals, block=block, draw=3).grads for block in BLOCKS}


@cache
def _wanted(name: str, rule: str) -> dict[int, dict[str, Array]] | None:
    return _gradients(name, rule, "interpreter")


def apart(backend: str) -> Iterator[Disagreement]:
    """The cases in which an array program gives another gradient than the interpreter; one that fails does."""
    with table.registered(LAYOUT):
        for name in GRAPHS:
            for rule in RULES:
                if (wanted := _wanted(name, rule)) is None:
                    continue
                try:
                    found = _gradients(name, rule, backend)
                except RAISED as failed:
                    yield Disagreement(f"{name}, {rule}", f"raises {type(failed).__name__}")
                    continue
                assert found is not None
                for block, grads in wanted.items():
                    off = max(_off(found[block][parameter], array) for parameter, array in grads.items())
                    if not off <= 1e-10:
                        yield Disagreement(f"{name}, {rule}, block {block}", f"error {off:.0e}")


def _off(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max(initial=0.0)) / max(1e-9, float(np.abs(wanted).max(initial=0.0)))


# The gradient.


def credit_goes_on_at_compressed_places(patch: Patch) -> None:
    """The losses of the last step are credited past the places where influence was compressed."""
    original = _LastStep.put

    def put(self: _LastStep, place: int, value: Value, ends: bool) -> None:
        original(self, place, value, ends)
        if ends:
            original(self, place, self.arrived[place], False)

    patch.setattr(_LastStep, "put", put)


def the_first_step_for_the_last(patch: Patch) -> None:
    """What is read of the last step is read of the first."""
    patch.setattr(last_step, "LAST", affine(0))


def influence_of_before_for_that_of_after(patch: Patch) -> None:
    """The losses of the last step are multiplied with what was stored before the block."""
    original = RankOneInfluence.contract

    def contract(self: Any, builder: Builder, place: int, lag: int, adjoint: Value, *, after: bool = False) -> Value:
        return original(self, builder, place, lag, adjoint, after=False)

    patch.setattr(RankOneInfluence, "contract", contract)


def late_credit_lost(patch: Patch) -> None:
    """What the last step sends past all that is stored, to earlier steps, is forgotten."""
    patch.setattr(_LastStep, "late", lambda self: {})


def losses_before_the_last_step_lost(patch: Patch) -> None:
    """Of a longer block, only the losses of the last step count inside it."""
    original = gradients._inside

    def inside(builder: Builder, influence: Any, ports: Any, count: Any, *more: Any) -> list[Value]:
        return [] if count == affine("steps") - 1 else original(builder, influence, ports, count, *more)

    patch.setattr(gradients, "_inside", inside)


# Patterns.


def rows_out_of_order(patch: Patch) -> None:
    """Kept entries are put back into the rows of others."""
    original = RowLayout.table

    def reversed_table(self: RowLayout, word: str, indices: Array) -> Value:
        return original(self, word, indices[::-1] if word == "kept_rows" else indices)

    patch.setattr(RowLayout, "table", reversed_table)


def what_fills_up_counts(patch: Patch) -> None:
    """Lines that fill up a block are taken for entries of it."""
    original = RowLayout.kept

    def kept(self: RowLayout, *given: Any) -> ByRows:
        found = original(self, *given)
        return ByRows(found.value, found.letters, found.units)

    patch.setattr(RowLayout, "kept", kept)


def a_step_without_its_derivative(patch: Patch) -> None:
    """Over one step a Jacobian lacks the derivatives of ops."""
    patch.setattr(OneStep, "_through", lambda self, adjoint, place, port: adjoint)


# Draws and estimates.


def blocks_are_not_counted(patch: Patch) -> None:
    """Random layouts draw the same numbers in every block."""

    def counted(builder: Builder, influence: Any) -> list[Value]:
        parts = [influence.advanced(part) for part in (draws.DRAW, draws.COUNT)]
        for part, value in zip((draws.DRAW, draws.COUNT), parts, strict=True):
            builder.elementwise(Argument(0), influence.stored(part), name=value.name)
        return parts

    for module in (rank_one, product, users):
        patch.setattr(module, "counted", counted)


def scales_that_do_not_cancel(patch: Patch) -> None:
    """One factor of a product is scaled, and the other is not scaled back."""

    def inverse(builder: Builder, scale: Value, name: str) -> Value:
        return builder.elementwise(apply("*", Number(1), Argument(0)), scale, name=name)

    for module in (rank_one, product):
        patch.setattr(module, "inverse", inverse)


OF_LOSSY_LAYOUTS = [
    credit_goes_on_at_compressed_places,
    the_first_step_for_the_last,
    influence_of_before_for_that_of_after,
    late_credit_lost,
    losses_before_the_last_step_lost,
    rows_out_of_order,
    what_fills_up_counts,
    a_step_without_its_derivative,
    blocks_are_not_counted,
    scales_that_do_not_cancel,
]
