"""Faults planted in array programs: in the lowering, in the printer of NumPy, and in what it calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forwardgrad.array_program import numpy_helpers, numpy_source
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.lowering import advance, gradients
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.sweep import _Sweep
from forwardgrad.compiler.product import Injection
from forwardgrad.ops import Array

Patch = pytest.MonkeyPatch


def nothing_through_the_boundary(patch: Patch) -> None:
    """The gradient forgets what lies before the block."""
    patch.setattr(gradients, "_through", lambda builder, influence, swept: [])


def lowered_without_the_carry(patch: Patch) -> None:
    """Influence is injected in each block, and not carried over from the block before it."""
    patch.setattr(advance, "_carried", lambda builder, influence, target, past: [])


def presynaptic_values_of_the_block(patch: Patch) -> None:
    """Delayed edges multiply by what their source is now."""
    original = Influence.presynaptic

    def presynaptic(self: Influence, builder: Any, site: Injection, steps: Affine) -> Any:
        edge = None if site.edge is None else self.context.network.edges[site.edge]
        if edge is not None and edge.delay and steps == affine("steps"):
            return self.context.nodes[edge.source].block(builder)
        return original(self, builder, site, steps)

    patch.setattr(Influence, "presynaptic", presynaptic)


def small_adjoints_and_influence_lost(patch: Patch) -> None:
    """What is small is taken for nothing much too soon."""

    def flush(a: Array) -> None:
        a[np.abs(a) < 1e-6] = 0

    def flushed(a: Array) -> Array:
        made = a.copy()
        flush(made)
        return made

    patch.setattr(numpy_helpers, "flush", flush)
    patch.setattr(numpy_helpers, "flushed", flushed)


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


def fresh_for_stale(patch: Patch) -> None:
    """A test is printed the wrong way round."""
    original = numpy_source.source
    patch.setattr("forwardgrad.backends.lowered.source", lambda p: original(p).replace("if not fresh:", "if fresh:"))


def loops_in_the_wrong_direction(patch: Patch) -> None:
    """Sweeps are printed as loops from the first step on."""
    original = numpy_source.source
    patch.setattr(
        "forwardgrad.backends.lowered.source",
        lambda p: original(p).replace("in reversed(range(steps))", "in range(steps)"),
    )


def boundaries_of_the_first_lag_only(patch: Patch) -> None:
    """Of a longer delay, only the step right before the block counts."""
    original = _Sweep._boundary

    def boundary(self: Any, place: int) -> Any:
        found = original(self, place)
        if found is not None and self.plan.depth[place] > 1:
            zero = self.builder.elementwise(numpy_source.Number(0.0), dims=found.value.dims)
            return type(found)(zero, found.word)
        return found

    patch.setattr(_Sweep, "_boundary", boundary)


OF_ARRAY_PROGRAMS = [
    nothing_through_the_boundary,
    lowered_without_the_carry,
    presynaptic_values_of_the_block,
    small_adjoints_and_influence_lost,
    scattered_one_row_off,
    windows_a_step_late,
    fresh_for_stale,
    loops_in_the_wrong_direction,
    boundaries_of_the_first_lag_only,
]
