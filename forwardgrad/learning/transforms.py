"""Optimizers made from others: a schedule for the learning rate, clipping, accumulation, any pair of functions.

They nest: `Accumulated(Clipped(Scheduled(Adam(0.01), Cosine(1000)), norm=1.0), 4)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.learning.optimizers import Arrays, Optimizer, clip_by_norm, clip_by_value
from forwardgrad.learning.schedules import Schedule
from forwardgrad.ops import Array
from forwardgrad.support.attributes import is_whole

INNER = "inner:"
"""Begins the names of what the optimizer inside remembers."""


def inner_state(state: Arrays) -> dict[str, Array]:
    """What the optimizer inside remembers, by its own names."""
    return {name[len(INNER) :]: array for name, array in state.items() if name.startswith(INNER)}


def as_inner(state: Arrays) -> dict[str, Array]:
    """What the optimizer inside remembers, as a part of the state of the one around it."""
    return {f"{INNER}{name}": array for name, array in state.items()}


@dataclass(frozen=True)
class Scheduled:
    """An optimizer whose learning rate is multiplied by a function of the number of the update.

    Args:
        optimizer: with a setting `learning_rate`, such as `SGD` or `Adam`.
        schedule: from `learning.schedules`, or a function of the number of the update, counted from 0.

    Raises:
        DataError: if the optimizer has no learning rate, or the schedule gives no positive finite number.

    >>> from forwardgrad.learning.optimizers import SGD
    >>> from forwardgrad.learning.schedules import StepDecay
    >>> half, w, state = Scheduled(SGD(1.0), StepDecay(1, 0.5)), {"w": np.array([0.0])}, {}
    >>> state = half.start(w)
    >>> for _ in range(3):
    ...     w, state = half.update(w, {"w": np.array([1.0])}, state)
    >>> w["w"]
    array([-1.75])
    """

    optimizer: Any
    schedule: Schedule

    def __post_init__(self) -> None:
        if not hasattr(self.optimizer, "learning_rate") or not dataclasses.is_dataclass(self.optimizer):
            raise DataError(
                f"scheduled: an optimizer with a learning rate is needed, got {type(self.optimizer).__name__}.",
                "Put Scheduled innermost: Clipped(Scheduled(Adam(0.01), Cosine(1000)), norm=1.0).",
            )
        if not callable(self.schedule) or isinstance(self.schedule, type):
            raise DataError(f"scheduled: a schedule is a function of the update's number, got {self.schedule!r}.")

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `updates`, a whole number, and that of the optimizer."""
        return {"updates": np.zeros((), np.int64), **as_inner(self.optimizer.start(params))}

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One update at the learning rate that the schedule gives."""
        updates = int(_counter(state, "updates"))
        factor = float(self.schedule(updates))
        if not (math.isfinite(factor) and factor > 0):
            raise DataError(f"scheduled: the schedule must give a number > 0, got {factor} at update {updates}.")
        now = dataclasses.replace(self.optimizer, learning_rate=self.optimizer.learning_rate * factor)
        new, memory = now.update(params, grads, inner_state(state))
        return new, {"updates": np.asarray(updates + 1, np.int64), **as_inner(memory)}

    def config(self) -> dict[str, Any]:
        """Name and settings; the schedule by its text or its name."""
        return {"name": "scheduled", "optimizer": self.optimizer.config(), "schedule": _text(self.schedule)}


@dataclass(frozen=True)
class Clipped:
    """An optimizer that gets clipped gradients: entries first, then their joint norm.

    Args:
        optimizer: gets them.
        norm: the largest joint Euclidean norm, or `None`.
        value: the largest magnitude of an entry, or `None`.
    """

    optimizer: Optimizer
    norm: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        if self.norm is None and self.value is None:
            raise DataError("clipped: give a limit.", "For example Clipped(Adam(0.01), norm=1.0).")
        self._clip({})

    def _clip(self, grads: Arrays) -> Arrays:
        grads = grads if self.value is None else clip_by_value(grads, self.value)
        return grads if self.norm is None else clip_by_norm(grads, self.norm)

    def start(self, params: Arrays) -> dict[str, Array]:
        """That of the optimizer."""
        return self.optimizer.start(params)

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One update with clipped gradients."""
        return self.optimizer.update(params, self._clip(grads), state)

    def config(self) -> dict[str, Any]:
        """Name and settings."""
        return {"name": "clipped", "optimizer": self.optimizer.config(), "norm": self.norm, "value": self.value}


@dataclass(frozen=True)
class Accumulated:
    """An optimizer that gets the mean gradient of every `blocks` blocks; parameters stay as they are in between.

    Args:
        optimizer: gets them.
        blocks: a whole number >= 1.
    """

    optimizer: Optimizer
    blocks: int

    def __post_init__(self) -> None:
        if not is_whole(self.blocks) or self.blocks < 1:
            raise DataError(f"accumulated: 'blocks' must be a whole number >= 1, got {self.blocks!r}.")

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `blocks`, how many are gathered, `sum:NAME` of each parameter's shape, and that of the optimizer."""
        sums = {f"sum:{name}": np.zeros_like(p) for name, p in params.items()}
        return {"blocks": np.zeros((), np.int64), **sums, **as_inner(self.optimizer.start(params))}

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """Gather one block; after the last of `blocks`, one update."""
        gathered = int(_counter(state, "blocks")) + 1
        sums = {name: np.asarray(_counter(state, f"sum:{name}") + g) for name, g in grads.items()}
        memory = {**state, "blocks": np.asarray(gathered % self.blocks, np.int64)}
        if gathered < self.blocks:
            return dict(params), memory | {f"sum:{name}": total for name, total in sums.items()}
        means = {name: np.asarray(total / self.blocks, total.dtype) for name, total in sums.items()}
        new, inner = self.optimizer.update(params, means, inner_state(state))
        return new, memory | {f"sum:{name}": np.zeros_like(total) for name, total in sums.items()} | as_inner(inner)

    def config(self) -> dict[str, Any]:
        """Name and settings."""
        return {"name": "accumulated", "optimizer": self.optimizer.config(), "blocks": int(self.blocks)}


@dataclass(frozen=True)
class Pair:
    """An optimizer made of two functions, as those of optax are.

    A learner takes the pair itself: `Learner(program, params, optax.adam(1e-3))`. JAX computes in single precision
    unless `jax.config.update("jax_enable_x64", True)` is called first.

    Args:
        start_with: `init(params) -> state`, a tree of tuples, lists, dictionaries and arrays.
        update_with: `update(grads, state, params) -> (changes, state)`; the changes are added to the parameters.

    >>> descent = Pair(lambda params: (), lambda grads, state, params: ({n: -g for n, g in grads.items()}, state))
    >>> descent.update({"w": np.array([3.0])}, {"w": np.array([1.0])}, {})[0]["w"]
    array([2.])
    """

    start_with: Callable[[Any], Any]
    update_with: Callable[[Any, Any, Any], tuple[Any, Any]]

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: the arrays of the tree, named by their place in it."""
        return dict(_leaves(self.start_with(dict(params))))

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One update of the parameters that have a gradient."""
        moved = {name: params[name] for name in grads}
        tree = _filled(self.start_with(moved), state)
        changes, after = self.update_with(dict(grads), tree, moved)
        new = {name: np.asarray(p + np.asarray(changes[name], p.dtype), p.dtype) for name, p in moved.items()}
        return {**params, **new}, {**state, **dict(_leaves(after))}

    def config(self) -> dict[str, Any]:
        """The names of the functions. Reading a checkpoint needs the pair itself."""
        return {"name": "pair", "init": _text(self.start_with), "update": _text(self.update_with)}


def as_optimizer(given: Any, what: str = "learner") -> Optimizer:
    """What a learner or a stream was given: an optimizer, or a pair of functions; `what` names it in the error.

    Raises:
        DataError: if it is neither.
    """
    pair: Any = given
    if isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0]) and callable(pair[1]):
        return Pair(*cast("tuple[Any, Any]", pair))
    if isinstance(given, type) or not all(callable(getattr(given, it, None)) for it in ("start", "update", "config")):
        raise DataError(
            f"{what}: an optimizer has start, update and config, got {type(given).__name__}.",
            "For example SGD(0.01), Adam(0.001), or a pair of functions (init, update) such as optax.adam(0.001).",
        )
    return cast(Optimizer, given)


def _leaves(tree: Any, path: str = "tree") -> Iterator[tuple[str, Array]]:
    for key, child in _children(tree):
        yield from _leaves(child, f"{path}/{key}")
    if tree is not None and not isinstance(tree, tuple | list | Mapping):
        yield path, np.asarray(tree)


def _children(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, Mapping):
        return list(cast("Mapping[Any, Any]", tree).items())
    return list(enumerate(cast("tuple[Any, ...]", tree))) if isinstance(tree, tuple | list) else []


def _filled(tree: Any, state: Arrays, path: str = "tree") -> Any:
    """A tree of the same form with the arrays of a state."""
    children = [_filled(child, state, f"{path}/{key}") for key, child in _children(tree)]
    if isinstance(tree, Mapping):
        return dict(zip(cast("Mapping[Any, Any]", tree), children, strict=True))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):  # pyright: ignore[reportUnknownArgumentType]
        return type(cast(Any, tree))(*children)
    if isinstance(tree, tuple | list):
        return type(cast(Any, tree))(children)
    return None if tree is None else _counter(state, path)


def _counter(state: Arrays, key: str) -> Array:
    if key not in state:
        raise DataError(f"update: the optimizer's state lacks {key!r}.", "Begin with state = optimizer.start(params).")
    return np.asarray(state[key])


def _text(function: Any) -> str:
    """A data class by its settings, another function by its name."""
    return repr(function) if dataclasses.is_dataclass(function) else getattr(function, "__qualname__", "function")
