"""How do lossy layouts run beside an array program? Their classes are handed what its sweeps find.

A lossy layout compresses at the end of a block, before the losses of the last step are read off. So the gradient takes
two sweeps: of all losses before the last step, and of the last step's, which ends at the stored places, where what
arrives is multiplied with the compressed influence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from forwardgrad.array_program.expressions import Number
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.array_program.lowering.sweep import Swept
from forwardgrad.array_program.lowering.weights import weight
from forwardgrad.array_program.values import Value
from forwardgrad.backends.onestep import Factors, StepJacobians, step_jacobians
from forwardgrad.backends.route import route
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.compiler import Plan
from forwardgrad.compiler.factors import Factor
from forwardgrad.graph import Edge
from forwardgrad.layouts.traces import Part, Pass, Passed, Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Ran:
    """A block that has run forward, and how to go on with it.

    Args:
        tape: the block.
        arrays: what its functions have left, the derivatives of nodes among them, by name.
        params: the parameters.
        call: `call(name, groups, steps)`: what a function of the program gives, by name, over that many steps.
    """

    tape: Pass
    arrays: Mapping[str, Any]
    params: Arrays
    call: Callable[[str, Mapping[str, Arrays], int], Arrays]


class LossyLayouts:
    """The lossy layouts of a program.

    Args:
        lowered: the array program.
        traces: the layouts by parameter.
        held: the arrays of the program's states.
        dtype: of all arrays.
    """

    def __init__(self, lowered: Lowered, traces: Mapping[str, Traces], held: StoredArrays, dtype: Any) -> None:
        self.lowered, self.traces, self.held, self.dtype = lowered, traces, held, np.dtype(dtype)
        self.plan: Plan = lowered.context.plan
        self._routes = cache(partial(route, self.plan))

    def gradients(self, ran: Ran, state: Arrays, after: Arrays, losses: Arrays, signals: Arrays) -> dict[str, Array]:
        """The block's part of the gradient of each parameter."""
        sweeps = self._ended(ran, losses, signals)
        grads: dict[str, Array] = {}
        for name, traces in self.traces.items():
            old, new = self._stored(state, name), self._stored(after, name)
            held = {(p, 1): found.held[p] for found in sweeps for p in traces.places if p in found.held}
            through = [(held, new), *((found.boundary, old) for found in sweeps)]
            grads[name] = traces.gradient(ran.tape, sweeps, through)
        return grads

    def advance(self, ran: Ran, state: Arrays) -> dict[str, Array]:
        """What the layouts store after the block."""
        rows, stepped = cache(partial(self._rows, ran)), cache(partial(self._stepped, ran))
        block = Passed(ran.tape, rows, partial(self._pulled, ran), stepped)
        made: dict[str, Array] = {}
        for name, traces in self.traces.items():
            after = traces.advance(block, self._stored(state, name))
            made |= {self.held.keys[name][part]: array for part, array in after.items()}
        return made

    def _stored(self, state: Arrays, name: str) -> dict[Part, Array]:
        return {part: state[key] for part, key in self.held.keys[name].items()}

    # Sweeps.

    def _ended(self, ran: Ran, losses: Arrays, signals: Arrays) -> list[Found]:
        """Two sweeps: of the losses of all steps but the last, if there are any; and of the last step's."""
        if ran.tape.steps == 1:
            ended = self._credit(ran, losses, signals, hold=True)
            ended.keep(self._beside)
            return [ended]
        last, earlier = ({name: _cut(a, part) for name, a in losses.items()} for part in (True, False))
        last_signals, earlier_signals = ({n: _cut(a, part) for n, a in signals.items()} for part in (True, False))
        return [self._credit(ran, earlier, earlier_signals), self._credit(ran, last, last_signals, hold=True)]

    @cached_property
    def _beside(self) -> frozenset[int]:
        """The places that credit of a step reaches in that step where it ends at those that lossy layouts store."""
        ends = self.lowered.credit.arrived
        leaving, found = self.plan.product.leaving, set[int]()
        for place in self.plan.order:
            reached = any(arc.target in found for arc in leaving[place] if not arc.delay)
            if place not in ends and (reached or self.plan.product.places[place].signal != "none"):
                found.add(place)
        return frozenset(found)

    def _credit(self, ran: Ran, losses: Arrays, signals: Arrays, hold: bool = False) -> Found:
        steps, swept = ran.tape.steps, self.lowered.credit
        goes_on = np.ones(steps, self.dtype)
        goes_on[-1] = not hold
        groups = {"losses": losses, "signals": signals, "sweep": {"goes_on": goes_on}}
        found = Found(self.plan, swept, ran.call(swept.function.name, groups, steps), steps)
        if hold:
            found.held = {place: found.arrays[value.name][-1][:, None] for place, value in swept.arrived.items()}
        return found

    def _rows(self, ran: Ran, place: int, lag: int) -> Found:
        swept, steps = self.lowered.jacobians[place], ran.tape.steps - lag + 1
        return Found(self.plan, swept, ran.call(swept.function.name, {}, steps), steps)

    def _pulled(self, ran: Ran, seeds: Mapping[tuple[int, int], Array]) -> Found:
        swept, steps = self.lowered.pulled, ran.tape.steps
        assert swept is not None
        like = next(iter(seeds.values()))  # where a block is only priced, an array without contents
        given = {
            key: np.zeros((steps, ran.tape.batch, self.plan.size(int(key))), self.dtype, like=like)
            for group, key in (self.lowered.program.bindings.get(v.name, ("", "")) for v in swept.function.inputs)
            if group == "seeds"
        }
        for (place, lag), seed in seeds.items():
            given[str(place)][steps - lag] += seed
        return Found(self.plan, swept, ran.call(swept.function.name, {"seeds": given}, steps), steps)

    # Blocks of one step.

    def _stepped(self, ran: Ran, place: int) -> StepJacobians:
        context = self.lowered.context

        def slope(node: str, port: str) -> Any:
            declared = self.plan.network.nodes[node].op.port(port, self.plan.network.nodes[node].ports)
            if declared.constant is not None:
                return None if declared.constant == 1.0 else declared.constant
            series = context.slopes[node, port]
            found = ran.arrays[series.value.name][series.first.at({})]
            return found[..., None] if declared.structure is Structure.SCALAR else found

        def factor(edge: Edge, factor: Factor) -> Any:
            found = weight(context, edge, factor)
            if isinstance(found, Number):
                return found.value
            return found if found is None else self._array(ran, found)

        return step_jacobians(self._routes(place), place, Factors(slope, factor), self.dtype.type)

    def _array(self, ran: Ran, value: Value) -> Array:
        if value in self.lowered.program.constants:
            return self.lowered.program.constants[value]
        if value.name in ran.arrays:
            return ran.arrays[value.name]
        return ran.params[self.lowered.program.bindings[value.name][1]]


def _cut(array: Array, last: bool) -> Array:
    """Learning signals of the last step alone, or of all but that."""
    made = array.copy()
    made[slice(None, -1) if last else slice(-1, None)] = 0
    return made


class Found:
    """What a sweep of an array program found, as the classes of lossy layouts read it: `(batch, seeds, size)`.

    Args:
        plan: the derived algorithm.
        swept: the sweep.
        arrays: what it gave, by name.
        steps: how many steps it went over.

    Attributes:
        boundary: per place and lag, the adjoint of the place that many steps before the block.
        held: per place at which the sweep ended, what arrived there in the last step.
    """

    def __init__(self, plan: Plan, swept: Swept, arrays: Arrays, steps: int) -> None:
        self.plan, self.swept, self.arrays, self.steps = plan, swept, arrays, steps
        self.held: dict[int, Array] = {}
        self._kept: Collection[int] | None = None
        self.boundary: dict[tuple[int, int], Array] = {}
        for place, b in swept.past.items():
            past = self._seeded(b, place)
            self.boundary |= {(place, lag): past[len(past) - lag] for lag in range(1, len(past) + 1)}

    def keep(self, places: Collection[int]) -> None:
        """Of a block of one step: leave what does not come over these places, which is zero."""
        self._kept = places
        entries = {(arc.source, arc.delay) for arc in self.plan.product.arcs if arc.target in places}
        self.boundary = {entry: adjoint for entry, adjoint in self.boundary.items() if entry in entries}

    def at_port(self, place: int, port: str) -> tuple[list[int], Array] | None:
        """The steps at which a port has an adjoint, and the adjoints, `(steps, batch, seeds, size)`."""
        if (place, port) not in self.swept.ports or (self._kept is not None and place not in self._kept):
            return None
        return list(range(self.steps)), self._seeded(self.swept.ports[place, port], place)

    def _seeded(self, b: Adjoint, place: int) -> Array:
        """An adjoint `(steps, batch, seeds, size)`."""
        array = self.arrays[b.value.name]
        if b.word is Structure.FULL:
            return array
        if b.word is Structure.SCALAR:
            array = np.broadcast_to(array[..., None], (*array.shape, self.plan.size(place)))
        return array[:, :, None]
