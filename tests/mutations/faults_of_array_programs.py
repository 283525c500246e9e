"""Faults planted in array programs: in the lowering, in the printer of NumPy, and in what it calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forwardgrad.array_program import numpy_helpers, numpy_source
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Number
from forwardgrad.array_program.lowering import forward, gradients, weights
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.sweep import _Sweep
from forwardgrad.backends import lowered
from forwardgrad.compiler.product import Injection
from forwardgrad.ops import Array

Patch = pytest.MonkeyPatch


def nothing_through_the_boundary(patch: Patch) -> None:
    """The gradient forgets what lies before the block."""
    patch.setattr(gradients, "_through", lambda influence, past: [])


def lowered_without_the_carry(patch: Patch) -> None:
    """Influence is injected in each block, and not carried over from the block before it."""
    patch.setattr(Influence, "carried", lambda self, builder, target, past: [])


def presynaptic_values_of_the_block(patch: Patch) -> None:
    """Delayed edges multiply by what their source is now."""
    original = Influence.presynaptic

    def presynaptic(self: Influence, builder: Any, site: Injection, count: Affine, *first: Affine) -> Any:
        edge = None if site.edge is None else self.context.network.edges[site.edge]
        if edge is not None and edge.delay and count == affine("steps"):
            return self.context.nodes[edge.source].block(builder)
        return original(self, builder, site, count, *first)

    patch.setattr(Influence, "presynaptic", presynaptic)


def small_adjoints_and_influence_lost(patch: Patch) -> None:
    """What is small is taken for nothing much too soon, and every block flushes."""
    original = numpy_helpers.noting_underflow

    def noting(noted: list[int]) -> Any:
        noted.append(0)
        return original(noted)

    def flush(a: Array) -> None:
        a[np.abs(a) < 1e-6] = 0

    patch.setattr(numpy_helpers, "noting_underflow", noting)
    patch.setattr(numpy_helpers, "flush", flush)


def stacks_out_of_order(patch: Patch) -> None:
    """Weights that are multiplied together are taken for each other's."""
    original = weights.stacks

    def stacks(*given: Any) -> dict[str, tuple[Any, int]]:
        found = original(*given)
        return dict(zip(found, reversed(found.values()), strict=True))

    patch.setattr(forward, "stacks", stacks)


def sums_by_sample_lose_the_first(patch: Patch) -> None:
    """Where samples are taken one at a time, the first is left out."""

    def add_scaled(total: Array, j: Array, s: Array) -> None:
        total[1:] += j[1:] * s[1:]

    patch.setattr(numpy_helpers, "add_scaled", add_scaled)


def scattered_one_row_off(patch: Patch) -> None:
    """Entries are scattered to the row below theirs."""
    original = numpy_helpers.scattered
    patch.setattr(
        numpy_helpers,
        "scattered",
        lambda x, axis, tables, sizes: np.roll(original(x, axis, tables, sizes), 1, axis),
    )


def windows_a_step_late(patch: Patch) -> None:
    """What is read beyond the ends of a block begins one step late."""
    original = numpy_helpers.window
    patch.setattr(numpy_helpers, "window", lambda x, start, size: original(x, start + 1, size))


def _reprint(patch: Patch, right: str, wrong: str) -> None:
    """Print one text in place of another."""

    def printed(program: Any) -> numpy_source.Printed:
        found = numpy_source.printed(program)
        return replace(found, text=found.text.replace(right, wrong))

    patch.setattr(lowered, "printed", printed)


def fresh_for_stale(patch: Patch) -> None:
    """A test is printed the wrong way round."""
    _reprint(patch, "if not fresh:", "if fresh:")


def loops_in_the_wrong_direction(patch: Patch) -> None:
    """Sweeps are printed as loops from the first step on."""
    _reprint(patch, "in reversed(range(steps))", "in range(steps)")


def boundaries_of_the_first_lag_only(patch: Patch) -> None:
    """Of a longer delay, only the step right before the block counts."""
    original = _Sweep._boundary

    def boundary(self: Any, place: int) -> Any:
        found = original(self, place)
        if found is not None and self.plan.depth[place] > 1:
            zero = self.builder.elementwise(Number(0.0), dims=found.value.dims)
            return type(found)(zero, found.word)
        return found

    patch.setattr(_Sweep, "_boundary", boundary)


OF_ARRAY_PROGRAMS = [
    nothing_through_the_boundary,
    lowered_without_the_carry,
    presynaptic_values_of_the_block,
    small_adjoints_and_influence_lost,
    stacks_out_of_order,
    sums_by_sample_lose_the_first,
    scattered_one_row_off,
    windows_a_step_late,
    fresh_for_stale,
    loops_in_the_wrong_direction,
    boundaries_of_the_first_lag_only,
]
