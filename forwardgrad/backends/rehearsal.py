"""What will a block take? Its array program has a price; the classes of lossy layouts are run on phantoms beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.price import Price, Prices
from forwardgrad.backends.forms import contiguous
from forwardgrad.backends.lossy import LossyLayouts, Ran
from forwardgrad.backends.lowered import lower_with
from forwardgrad.backends.phantom import Buffer, Ledger, Numpy, Phantom
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.compiler import Plan
from forwardgrad.structure import Structure

LONG = 64
"""Steps of a block from which on the price of lossy layouts is a straight line."""

WIDE = 2**22
"""Units of a node from which on a block is priced by a bound: a program holds a table of them."""

EVALUATED = 5
"""Arrays of an output's size that a loss takes, which is any Python, before it leaves one."""


class Rehearsal:
    """The blocks of a plan, before any is run.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.dtype = plan, np.dtype(dtype)
        traces = {name: plan.rules[name].kept.traces(plan, name, dtype) for name in plan.entries}
        self.lossy = [name for name, each in traces.items() if each.lossy]
        self._traces = traces
        self._lossless = len(self.lossy) < len(traces)
        self.shapes = StoredArrays(plan, traces, self.dtype).shapes
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
        key = batch, steps, last and not self.lossy
        if self._bounded:
            return self._bound(batch, steps)
        if key not in self._peaks:
            self._peaks[key] = self._found(*key)
        return self._peaks[key]

    @cached_property
    def lowered(self) -> Lowered:
        """The array program."""
        return lower_with(self.plan, self.dtype, self._traces)

    def _bound(self, batch: int, steps: int) -> int:
        """About what a block takes: the state after it, what nodes give, and all Jacobians."""
        plan, nodes = self.plan, self.plan.network.nodes
        values = sum((2 + len(node.ports)) * node.size for node in nodes.values())
        jacobians = sum(
            plan.size(place) * (plan.size(target) if word is Structure.FULL else 1)
            for target, words in plan.words.items()
            for place, word in words.items()
        )
        after = sum(prod(shape) for shape in self.shapes(batch).values())
        return self.dtype.itemsize * (after + batch * steps * (values + jacobians))

    def _found(self, batch: int, steps: int, last: bool) -> int:
        if not self.lossy:
            advance = [] if last else ["advance"]
            return self._of_functions(batch, steps, ["slopes", *advance, "credit", "gradients"])
        if steps <= LONG:
            return max(self._of_layouts(batch, steps))
        half, whole = (self._of_layouts(batch, length) for length in (LONG // 2, LONG))
        return max(b + (steps - LONG) * (b - a) // (LONG - LONG // 2) for a, b in zip(half, whole, strict=True))

    def price(self, order: Sequence[str], batch: int, steps: int) -> Price:
        """The price of functions of the program that a block runs in that order."""
        key = tuple(order)
        if key not in self._prices:
            self._prices[key] = Prices(self.lowered.program, order)
        return self._prices[key].at(steps, batch)

    def _outputs(self, batch: int, steps: int) -> int:
        """Bytes of a copy of all outputs."""
        units = sum(self.plan.network.nodes[name].size for name in self.plan.outputs)
        return units * batch * steps * self.dtype.itemsize

    def _of_functions(self, batch: int, steps: int, rest: Sequence[str]) -> int:
        """The peak of a block in which only the functions of the program run."""
        outputs, forward = self._outputs(batch, steps), self.price(["forward"], batch, steps)
        peaks = dict(self.price(["forward", *rest], batch, steps).peaks)
        first = peaks.pop("forward")
        return max(first, forward.left + EVALUATED * outputs, 2 * outputs + max(peaks.values()))

    # Lossy layouts.

    def _of_layouts(self, batch: int, steps: int) -> list[int]:
        """The peaks of the parts of a block with lossy layouts."""
        outputs = self._outputs(batch, steps)
        before = self.price(["forward", "slopes", "advance"], batch, steps)
        rehearsed = _Rehearsed(self, batch, steps)
        ledger = rehearsed.ledger
        ledger.take(before.left + 2 * outputs)
        ledger.begin()
        after = rehearsed.lossy.advance(rehearsed.ran, rehearsed.state)
        ledger.mark()
        if self._lossless:
            found = self.price(["credit", "gradients"], batch, steps)
            ledger.brief(found.peak)
            ledger.take(sum(rehearsed.size(name) for name in self.plan.entries if name not in self.lossy))
            ledger.mark()
        grads = rehearsed.lossy.gradients(
            rehearsed.ran, rehearsed.state, {**rehearsed.state, **after}, rehearsed.losses, rehearsed.signals
        )
        ledger.mark()
        del grads, after
        evaluated = self.price(["forward"], batch, steps).left + EVALUATED * outputs
        return [before.peaks["forward"], evaluated, max(before.peaks.values()) + 2 * outputs, *ledger.peaks]


@dataclass
class _Tape:
    """The forward pass of a block that is not run."""

    steps: int
    batch: int
    arrays: Mapping[str, Phantom]

    def values(self, name: str, delay: int = 0) -> Any:
        return self.arrays[name]


class _Rehearsed:
    """A block without contents, and the lossy layouts beside it."""

    def __init__(self, rehearsal: Rehearsal, batch: int, steps: int) -> None:
        self.ledger, self.rehearsal, plan = Ledger(), rehearsal, rehearsal.plan
        self.symbols = {"steps": steps, "batch": batch, "seeds": 1, "fresh": 0}
        traces = {name: plan.rules[name].kept.traces(plan, name, rehearsal.dtype) for name in plan.entries}
        numpy = Numpy(self.ledger)
        for each in traces.values():
            each.rehearse(numpy)
        held = StoredArrays(plan, traces, rehearsal.dtype)
        lowered, nodes = rehearsal.lowered, plan.network.nodes
        self.lossy = LossyLayouts(lowered, {name: traces[name] for name in rehearsal.lossy}, held, rehearsal.dtype)
        self.state: Any = {key: self.given(shape) for key, shape in held.shapes(batch).items()}
        self.losses: Any = {name: self.given((steps, batch, nodes[name].size)) for name in plan.outputs}
        signalled = [place.node for place in plan.product.places if place.signal == "given"]
        self.signals: Any = {name: self.given((steps, batch, nodes[name].size)) for name in signalled}
        arrays: dict[str, Any] = {}
        for name in ("forward", "slopes"):
            for value in lowered.program.function(name).body.results:
                arrays[value.name] = self.given([dim.at(self.symbols) for dim in value.dims])
        params: Any = {name: self.given(parameter.shape) for name, parameter in plan.parameters.items()}
        values = {name: self.given((steps, batch, node.size)) for name, node in nodes.items()}
        self.ran = Ran(_Tape(steps, batch, values), arrays, params, self.call)

    def given(self, shape: Sequence[int]) -> Phantom:
        return self.ledger.given(shape, self.rehearsal.dtype)

    def size(self, name: str) -> int:
        """Bytes of a parameter."""
        return int(np.prod(self.rehearsal.plan.parameters[name].shape)) * self.rehearsal.dtype.itemsize

    def call(self, name: str, groups: Any, steps: int) -> Any:
        """A function of the program: it takes what its price says, and leaves arrays without contents."""
        price = self.rehearsal.price([name], self.symbols["batch"], steps)
        self.ledger.brief(price.peak)
        buffer, symbols = Buffer(self.ledger, price.left), {**self.symbols, "steps": steps}
        results = self.rehearsal.lowered.program.function(name).body.results
        shapes = {value.name: tuple(dim.at(symbols) for dim in value.dims) for value in results}
        return {word: Phantom(contiguous(shape, self.rehearsal.dtype), buffer) for word, shape in shapes.items()}
