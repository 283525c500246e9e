"""How is an array program executed? As printed NumPy, its functions called block by block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.lowering.context import LayoutCall, OpCall, Series
from forwardgrad.array_program.lowering.lower import Lowered, lower
from forwardgrad.array_program.numpy_source import printed
from forwardgrad.array_program.regions import Function
from forwardgrad.backends.chained import Names, Part, chained
from forwardgrad.backends.engine import Ahead, State, WholeSteps
from forwardgrad.backends.loading import by_rows, load
from forwardgrad.backends.single_sample import HELPERS
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import is_influence
from forwardgrad.layouts.traces import Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure
from forwardgrad.support import reuse

Groups = Mapping[str, Mapping[str, Array]]
"""What arrays come from outside, by the dictionary that holds them: `params`, `state`, `inputs`, ..."""


class LoweredEngine:
    """An `Engine` that runs an array program.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.dtype = plan, np.dtype(dtype)
        self.traces: dict[str, Traces] = {
            name: plan.rules[name].kept.traces(plan, name, dtype) for name in plan.entries
        }
        self.lossy = any(traces.lossy for traces in self.traces.values())
        self._held = StoredArrays(plan, self.traces, self.dtype)
        self.start, self.shapes = self._held.start, self._held.shapes

    # What is made when a block is run for the first time: who only looks at a program does not wait for it.

    @cached_property
    def lowered(self) -> Lowered:
        """The array program."""
        return lowered_once(self.plan, self.dtype)

    @cached_property
    def _bindings(self) -> Mapping[str, tuple[str, str]]:
        return self.lowered.program.bindings

    @cached_property
    def _keys(self) -> Mapping[str, list[tuple[str, str]]]:
        """The names of results that are gradients, or parts of the state after a block, by group, with their keys."""
        groups: dict[str, list[tuple[str, str]]] = {"grads": [], "after": []}
        for name, (group, key) in self._bindings.items():
            groups.get(group, []).append((name, key))
        return groups

    @cached_property
    def _parts(self) -> Mapping[str, Part]:
        """The functions of the program."""
        return self._loaded({})

    @cached_property
    def _parts_for_one(self) -> Mapping[str, Part]:
        """The same for steps of one sample."""
        return self._loaded(HELPERS)

    def _loaded(self, helpers: Mapping[str, Callable[..., Any]]) -> dict[str, Part]:
        """The functions of the program, which call these helpers in place of those of the same names."""
        program, calls = self.lowered.program, self.lowered.context.calls
        names: dict[str, Any] = {name: found for name, found in vars(numpy_helpers).items() if name[0] != "_"}
        names |= {"np": np, "dtype": self.dtype.type, "empty": reuse.empty, **helpers}
        names |= {value.name: array for value, array in program.constants.items()}
        names |= {name: self._function(called) for name, called in calls.items()}
        written = printed(self.lowered.functions)
        functions = load(written.text, names)
        return {
            each.name: self._part(each, functions[each.name], written.arguments[each.name])
            for each in program.functions
        }

    def _part(self, function: Function, run: Callable[..., Any], words: tuple[str, ...]) -> Part:
        bound = [(word, *self._bindings[word]) for word in words if word in self._bindings]
        results = [value.name for value in function.body.results]
        return Part(run, words, tuple(bound), tuple(results))

    def _function(self, called: OpCall | LayoutCall) -> Callable[..., Array]:
        """A user's function, or an op that is not a formula.

        Of a derivative with one entry for all units, the axis of units is absent.
        """
        if isinstance(called, LayoutCall):
            return called.run
        node, port = self.plan.network.nodes[called.node], called.port
        found = by_rows(node, port)
        if port and node.op.port(port, node.ports).structure is Structure.SCALAR:
            return lambda *arrays: found(*arrays)[..., 0]
        return found

    def call(self, name: str, arrays: dict[str, Any], groups: Groups) -> None:
        """Call a function of the program.

        Args:
            name: of the function.
            arrays: all that is known of the block, by name; what the function gives is added.
            groups: where the function finds what is not among them.
        """
        part = self._parts[name]
        for word, group, key in part.bound:
            if word not in arrays:
                arrays[word] = groups[group][key]
        arrays.update(part(arrays))

    def keeps(self, array: Any) -> bool:
        return False

    def forward(
        self,
        params: Mapping[str, Array],
        state: Mapping[str, Array],
        inputs: Mapping[str, Array],
        shape: tuple[int, int],
    ) -> LoweredBlock:
        arrays: dict[str, Any] = {"steps": shape[0], "batch": shape[1]}
        self.call("forward", arrays, {"params": params, "state": state, "inputs": inputs})
        return LoweredBlock(self, params, arrays)

    def gradients(
        self,
        tape: LoweredBlock,
        state: Mapping[str, Array],
        after: Mapping[str, Array] | None,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
        fresh: bool,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        arrays = self._derived(tape) | {"fresh": fresh}
        groups = {"params": tape.params, "state": state, "after": after or {}, "losses": losses, "signals": signals}
        for name in ("credit", "gradients"):
            self.call(name, arrays, groups)
        ports = self.lowered.credit.ports  # several inputs may have one adjoint, which may be that of an output
        probes = {name: ports[place, None].value.name for name, place in self.plan.product.probes}
        return self.results("grads", arrays), {name: np.array(arrays[word]) for name, word in probes.items()}

    def advance(self, tape: LoweredBlock, state: Mapping[str, Array], fresh: bool) -> State:
        arrays = self._derived(tape) | {"fresh": fresh}
        noted: list[int] = []
        with numpy_helpers.noting_underflow(noted):
            self.call("advance", arrays, {"params": tape.params, "state": state})
        made = self.results("after", arrays)
        if noted:
            numpy_helpers.flush_all(array for key, array in made.items() if is_influence(key))
        made = {key: made[key] for key in self._held.all}
        for key, array in made.items():
            if not array.flags.c_contiguous:  # as in a state that is read from a file
                made[key] = np.ascontiguousarray(array)
        return made

    def stepper(self, outputs: Collection[str], batch: int) -> Ahead:
        series = {name: self.series(name) for name in outputs}
        after = {key: name for name, key in self._keys["after"]}
        names = Names(
            outputs={name: (each.value.name, each.first.constant) for name, each in series.items()},
            after={key: after[key] for key in self._held.all},
            grads={key: name for name, key in self._keys["grads"]},
        )
        return chained(self._parts_for_one if batch == 1 else self._parts, names, batch)

    def whole_steps(
        self,
        losses: Mapping[str, str],
        optimizer: Mapping[str, Any] | None,
        clip: float | None,
        batch: int,
        counters: Collection[str],
    ) -> Callable[[], WholeSteps] | None:
        return None

    def series(self, name: str) -> Series:
        """The values of a node over time."""
        return self.lowered.context.nodes[name]

    def _derived(self, block: LoweredBlock) -> dict[str, Any]:
        """The arrays of a block, with the derivatives of its nodes."""
        if not block.derived:
            self.call("slopes", block.arrays, {"params": block.params})
            block.derived = True
        return block.arrays

    def results(self, group: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Gradients (`grads`) or the parts of the state after a block (`after`), among arrays by name."""
        return {key: arrays[name] for name, key in self._keys[group]}


@dataclass
class LoweredBlock:
    """A block that an array program has run forward.

    Args:
        engine: whose program.
        params: the parameters.
        arrays: what its functions were given and have left, by name, `steps` and `batch` among them.
    """

    engine: LoweredEngine
    params: Mapping[str, Array]
    arrays: dict[str, Any]
    derived: bool = False

    @property
    def steps(self) -> int:
        """The length of the block."""
        return self.arrays["steps"]

    @property
    def batch(self) -> int:
        """The number of samples."""
        return self.arrays["batch"]

    def values(self, name: str, delay: int = 0) -> Array:
        """What a node was `delay` steps before each step of the block: `(steps, batch, size)`."""
        series = self.engine.series(name)
        first = series.first.constant - delay
        return np.asarray(self.arrays[series.value.name][first : first + self.steps])


def lowered_once(plan: Plan, dtype: Any) -> Lowered:
    """The array program of a plan; made once, to be priced and to be run."""
    key = "lowered", np.dtype(dtype)
    if key not in plan.remembered:
        plan.remembered[key] = lower(plan, dtype)
    return plan.remembered[key]
