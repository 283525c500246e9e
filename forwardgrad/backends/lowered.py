"""How is an array program executed? As printed NumPy, its functions called block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.lowering.lower import lower
from forwardgrad.array_program.numpy_source import source
from forwardgrad.backends import reuse
from forwardgrad.backends.engine import State
from forwardgrad.backends.loading import by_rows, load
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.compiler import Plan
from forwardgrad.layouts.traces import Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure

Groups = Mapping[str, Mapping[str, Array]]
"""What arrays come from outside, by the dictionary that holds them: `params`, `state`, `inputs`, ..."""


class LoweredEngine:
    """An `Engine` that runs an array program.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.

    Raises:
        NotImplementedError: if a layout is lossy, which array programs do not know yet.
    """

    lossy = False

    def __init__(self, plan: Plan, dtype: Any) -> None:
        for name in plan.entries:
            if plan.rules[name].lossy:
                raise NotImplementedError(f"array programs know no lossy layouts yet, and {name!r} has one.")
        self.plan, self.dtype = plan, np.dtype(dtype)
        self.traces: dict[str, Traces] = {
            name: plan.rules[name].kept.traces(plan, name, dtype) for name in plan.entries
        }
        lowered = lower(plan, self.dtype)
        self.program, self.nodes = lowered.program, lowered.context.nodes
        self._functions = self._loaded(lowered.context.calls)
        self._held = StoredArrays(plan, self.traces, self.dtype)
        self.start, self.shapes = self._held.start, self._held.shapes

    def _loaded(self, calls: Mapping[str, tuple[str, str]]) -> dict[str, Callable[..., Any]]:
        names: dict[str, Any] = {name: found for name, found in vars(numpy_helpers).items() if name[0] != "_"}
        names |= {"np": np, "dtype": self.dtype.type, "empty": reuse.empty}
        names |= {value.name: array for value, array in self.program.constants.items()}
        names |= {name: self._op(*called) for name, called in calls.items()}
        return load(source(self.program), names)

    def _op(self, name: str, port: str) -> Callable[..., Array]:
        """An op that is no formula. Of a derivative with one entry for all units, the axis of units is absent."""
        node = self.plan.network.nodes[name]
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
        function = self._functions[name]
        given = function.__code__.co_varnames[: function.__code__.co_argcount]
        for word in given:
            if word not in arrays:
                group, key = self.program.bindings[word]
                arrays[word] = groups[group][key]
        results = self.program.function(name).body.results
        made = function(*(arrays[word] for word in given))
        arrays.update(zip(map(str, results), (made,) if len(results) == 1 else made, strict=True))

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
    ) -> dict[str, Array]:
        arrays = self._derived(tape) | {"fresh": fresh}
        for name in ("credit", "gradients"):
            self.call(name, arrays, {"params": tape.params, "state": state, "losses": losses, "signals": signals})
        return self._results("grads", arrays)

    def advance(self, tape: LoweredBlock, state: Mapping[str, Array], fresh: bool) -> State:
        arrays = self._derived(tape) | {"fresh": fresh}
        self.call("advance", arrays, {"params": tape.params, "state": state})
        made = self._results("after", arrays)
        return {key: made[key] for key in self._held.all}

    def _derived(self, block: LoweredBlock) -> dict[str, Any]:
        """The arrays of a block, with the derivatives of its nodes."""
        if not block.derived:
            self.call("slopes", block.arrays, {"params": block.params})
            block.derived = True
        return block.arrays

    def _results(self, group: str, arrays: Mapping[str, Any]) -> dict[str, Array]:
        bindings = self.program.bindings.items()
        return {key: arrays[name] for name, (where, key) in bindings if where == group}


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
        series = self.engine.nodes[name]
        first = (series.first - delay).at({})
        return self.arrays[series.value.name][first : first + self.steps]
