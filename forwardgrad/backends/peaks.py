"""Peaks: the most bytes that a block takes, from the price of its array program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.price import Price, Prices
from forwardgrad.backends.lowered import lowered_once
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.compiler import Plan
from forwardgrad.structure import Structure

WIDE = 2**22
"""Units of a node from which on a block is priced by a bound: a program holds a table of them."""

EVALUATED = 5
"""Arrays of an output's size that a loss takes, which is any Python, before it leaves one."""


class Peaks:
    """The peaks of a plan's blocks, before any is run.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.dtype = plan, np.dtype(dtype)
        self._lossy = any(plan.rules[name].lossy for name in plan.entries)
        self._bounded = not is_small(plan) or max(node.size for node in plan.network.nodes.values()) > WIDE
        self._prices: dict[tuple[str, ...], Prices] = {}
        self._peaks: dict[tuple[int, int, bool], int] = {}

    def peak(self, batch: int, steps: int, last: bool = False) -> int:
        """The most bytes alive beside what a block is given.

        Args:
            batch: number of samples.
            steps: of the block.
            last: whether it is the last block of a sequence, which is not advanced unless its gradient needs that.
        """
        key = batch, steps, last and not self._lossy
        if self._bounded:
            return self._bound(batch, steps)
        if key not in self._peaks:
            self._peaks[key] = self._found(*key)
        return self._peaks[key]

    @cached_property
    def _lowered(self) -> Lowered:
        return lowered_once(self.plan, self.dtype)

    def _bound(self, batch: int, steps: int) -> int:
        """About what a block takes: the state after it, what nodes give, and all Jacobians."""
        plan, nodes = self.plan, self.plan.network.nodes
        values = sum((2 + len(node.ports)) * node.size for node in nodes.values())
        jacobians = sum(
            plan.size(place) * (plan.size(target) if word is Structure.FULL else 1)
            for target, words in plan.words.items()
            for place, word in words.items()
        )
        traces = {name: plan.rules[name].kept.traces(plan, name, self.dtype) for name in plan.entries}
        after = sum(prod(shape) for shape in StoredArrays(plan, traces, self.dtype).shapes(batch).values())
        return self.dtype.itemsize * (after + batch * steps * (values + jacobians))

    def _found(self, batch: int, steps: int, last: bool) -> int:
        units = sum(self.plan.network.nodes[name].size for name in self.plan.outputs)
        outputs = units * batch * steps * self.dtype.itemsize  # bytes of a copy of all of them
        rest = ["slopes", *([] if last else ["advance"]), "credit", "gradients"]
        price = self._price(["forward", *rest], batch, steps)
        evaluated = price.left["forward"] + EVALUATED * outputs
        return max(price.peaks["forward"], evaluated, 2 * outputs + max(price.peaks[name] for name in rest))

    def _price(self, order: Sequence[str], batch: int, steps: int) -> Price:
        """The price of functions of the program that a block runs in that order."""
        key = tuple(order)
        if key not in self._prices:
            self._prices[key] = Prices(self._lowered.program, order, self._lowered.functions)
        return self._prices[key].at(steps, batch)
