"""What does a state hold? Activations that later steps read, and the influence of each parameter, by their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forwardgrad.backends.engine import State
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import influence_key, value_key
from forwardgrad.layouts.traces import Traces


class StoredArrays:
    """The arrays of a plan's states.

    Args:
        plan: the derived algorithm.
        traces: what each parameter keeps between blocks.
        dtype: of all arrays.

    Attributes:
        keys: of the influence of each parameter, by its parts.
        all: the keys of a state in their order.
    """

    def __init__(self, plan: Plan, traces: Mapping[str, Traces], dtype: np.dtype[Any]) -> None:
        self.dtype, nodes = dtype, plan.network.nodes
        self._values = {
            value_key(name): (n, nodes[name].size, nodes[name].initial)
            for name in nodes
            if (n := plan.network.history(name))
        }
        shapes = {name: each.shapes() for name, each in traces.items()}
        self.keys = {name: {part: influence_key(plan, name, part) for part in parts} for name, parts in shapes.items()}
        self._influence = {
            self.keys[name][part]: shape for name, parts in shapes.items() for part, shape in parts.items()
        }
        self.all = (*self._values, *self._influence)

    def start(self, batch: int, zeros: Callable[[str, tuple[int, ...]], Any] | None = None) -> State:
        """The state before t = 0.

        Args:
            batch: number of samples.
            zeros: `zeros(key, shape)` makes influence that is larger than a number for each sample; NumPy by default.
        """
        state: State = {
            key: np.full((n, batch, size), initial, self.dtype) for key, (n, size, initial) in self._values.items()
        }
        for key, (lags, *rest) in self._influence.items():
            shape = lags, batch, *rest
            state[key] = np.zeros(shape, self.dtype) if zeros is None or not rest else zeros(key, shape)
        return state

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays of a state, in its order."""
        found: dict[str, tuple[int, ...]] = {key: (n, batch, size) for key, (n, size, _) in self._values.items()}
        return found | {key: (lags, batch, *rest) for key, (lags, *rest) in self._influence.items()}
