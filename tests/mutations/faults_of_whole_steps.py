"""Faults planted in whole steps: in the passes over their programs, and in losses and updates as instructions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from forwardgrad.array_program import flattened, unrolled
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.lowering import loss_values, updates, whole_step
from forwardgrad.array_program.regions import When

Patch = pytest.MonkeyPatch


def new_for_old(patch: Patch) -> None:
    """Where a step reads what it has just made, it gets what was before the step."""
    original = unrolled._Unrolling._part

    def part(self: Any, cut: Any, value: Any, operand: Any) -> Any:
        late = len(self.parts.get(operand, ())) == 2 and cut.start == unrolled.ONE == cut.size
        return original(self, dataclasses.replace(cut, start=unrolled.affine(0)) if late else cut, value, operand)

    patch.setattr(unrolled._Unrolling, "_part", part)


def choices_the_wrong_way(patch: Patch) -> None:
    """Where a choice is known, the other side is taken."""
    original = unrolled._Unrolling._statements

    def statements(self: Any, given: Any) -> None:
        swapped = [
            dataclasses.replace(
                each, instruction=dataclasses.replace(each.instruction, then=each.instruction.otherwise)
            )
            if isinstance(each.instruction, When)
            else each
            for each in given
        ]
        original(self, swapped)

    patch.setattr(unrolled._Unrolling, "_statements", statements)


def another_factor(patch: Patch) -> None:
    """Of weights that are multiplied together, the first is taken for all."""
    original = unrolled._Unrolling._factor
    zero = unrolled.affine(0)
    patch.setattr(
        unrolled._Unrolling, "_factor", lambda self, value, axis, _, size: original(self, value, axis, zero, size)
    )


def arguments_out_of_order(patch: Patch) -> None:
    """A function that is written out reads its arguments in another order."""
    original = flattened._Flattening._written_out

    def written_out(self: Any, invoke: Any, results: Any) -> Any:
        alike: dict[Any, list[Any]] = {}
        for value in invoke.arguments:
            alike.setdefault(value.type, []).append(value)
        turned = {value: group[n - 1] for group in alike.values() for n, value in enumerate(group)}
        return original(self, dataclasses.replace(invoke, arguments=tuple(map(turned.get, invoke.arguments))), results)

    patch.setattr(flattened._Flattening, "_written_out", written_out)


def share_of_no_batch(patch: Patch) -> None:
    """The derivative of the loss is three times what it is."""
    original = loss_values._squared_error
    double = apply("*", Argument(0), Number(3.0))
    patch.setitem(
        loss_values.LOSSES, "mse", lambda b, y, t: (original(b, y, t)[0], b.elementwise(double, original(b, y, t)[1]))
    )


def decay_lost(patch: Patch) -> None:
    """Parameters do not decay."""
    original = updates._moved
    one = Number(1.0)
    patch.setattr(updates, "_moved", lambda parameter, change, rate, keep: original(parameter, change, rate, one))


def old_state(patch: Patch) -> None:
    """What comes out of the state is what went in."""
    original = whole_step._state

    def state(chain: Any) -> Any:
        before = {key: value for value, key in chain.inputs.items()}
        return {key: before.get(key, value) for key, value in original(chain).items()}

    patch.setattr(whole_step, "_state", state)


OF_WHOLE_STEPS = [
    new_for_old,
    choices_the_wrong_way,
    another_factor,
    arguments_out_of_order,
    share_of_no_batch,
    decay_lost,
    old_state,
]
