"""What does a program cost? Bytes of influence, activations and one block, known before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.backends.peaks import Peaks
from forwardgrad.compiler import Plan
from forwardgrad.structure import Structure

BLOCK_BUDGET = 256 * 2**20
"""Bytes that the arrays of one block may take where the block length is chosen by itself."""


@dataclass(frozen=True)
class Cost:
    """What a program stores, in bytes, and what it computes.

    Args:
        batch: number of samples.
        block: steps per block.
        influence: per trained parameter, between blocks.
        flops: per trained parameter, floating-point operations of carrying its influence a step, with blocks of one.
            Where zeros are passed over, it is a bound, and `Program.activity` counts what is left of it.
        values: the past values that delayed edges read, between blocks.
        working: the most that a block takes beside the state it starts from: the state after it, values, adjoints and
            what is in work. The backend `interpreter` is priced as the backend `numpy`; a program
            too large to be written, or with a node of more than 2^22 units, by a bound.
    """

    batch: int
    block: int
    influence: Mapping[str, int]
    flops: Mapping[str, int]
    values: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.influence.values()) + self.values + self.working

    def __str__(self) -> str:
        return (
            f"batch {self.batch}, block {self.block}: influence {sum(self.influence.values()):,} bytes, "
            f"values {self.values:,}, one block about {self.working:,}"
        )


def working_bytes(plan: Plan, batch: int, block: int, dtype: Any, last: bool = False) -> int:
    """The most bytes that a block takes beside the state it starts from, known before it is run.

    The `last` block of a sequence takes less where no advance is needed.
    """
    key = "peaks", np.dtype(dtype)
    if key not in plan.remembered:
        plan.remembered[key] = Peaks(plan, dtype)
    return plan.remembered[key].peak(batch, block, last)


def choose_block(plan: Plan, batch: int, dtype: Any) -> int:
    """A block length from the program, the batch and memory, never from the length of the sequence.

    Carrying influence is paid once a block, injecting it every step. A full influence on n units takes as many
    operations to carry as n steps take to inject it (Schmidhuber 1992), so that 4 n steps make it a small part;
    carrying compact influence is bound by memory, and a small part after 128 steps. At most 512 steps, since adjoints
    of all steps are held, and less where they would take more than `BLOCK_BUDGET`.
    """
    full = [plan.size(target) for target in plan.stored if plan.words[target][target] is Structure.FULL]
    block = min(512, max([128, *(4 * size for size in full)]))
    least = working_bytes(plan, batch, 1, dtype)
    while block > 1 and working_bytes(plan, batch, block, dtype) - least > BLOCK_BUDGET:
        block //= 2
    return block
