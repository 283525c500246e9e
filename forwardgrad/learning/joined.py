"""Parameters that are updated step by step: as one array, where an optimizer acts on every entry by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from forwardgrad.arrays import check_names, numeric
from forwardgrad.errors import DataError
from forwardgrad.learning.optimizers import SGD, Adam, Optimizer, RMSprop, clip_by_norm
from forwardgrad.learning.transforms import Clipped, Scheduled
from forwardgrad.ops import Array

ALL = ""
"""What the one array is called in an optimizer; so the name of what is remembered begins as that of each parameter."""


@dataclass(frozen=True)
class Weights:
    """Parameters at one time, and what the optimizer remembers.

    Args:
        params: all parameters by name; where there is one array, those that are trained are views of it.
        memory: what the optimizer remembers, as it names it.
        joined: the one array, or `None`.
    """

    params: dict[str, Array]
    memory: dict[str, Array]
    joined: Array | None = None


class Updates(Protocol):
    """Makes new weights from old ones. Nothing that it is given is changed."""

    def knows(self, params: Mapping[str, Array], memory: Mapping[str, Array]) -> bool:
        """Whether it can go on from what some optimizer remembers, by name; it passes over what it does not know."""
        ...

    def begin(self, params: Mapping[str, Array], memory: Mapping[str, Array] | None) -> Weights:
        """The first weights: parameters that are kept, and what the optimizer remembers by name, if it does yet."""
        ...

    def gathered(self, grads: Mapping[str, Array]) -> Sequence[Array]:
        """The gradients as the update takes them."""
        ...

    def updated(self, weights: Weights, grads: Mapping[str, Array], gathered: Sequence[Array]) -> Weights:
        """The next weights. Those that were given are valid until the update after that."""
        ...

    def changed(self, weights: Weights) -> Sequence[Array]:
        """The arrays that an update changes."""
        ...

    def remembered(self, weights: Weights) -> dict[str, Array]:
        """What the optimizer remembers, by the names of the parameters."""
        ...

    def change(self, optimizer: Optimizer, clip: float | None) -> bool:
        """Let another optimizer make the updates that follow; `False` if it needs weights in another form."""
        ...


def updates(optimizer: Optimizer | None, trained: Sequence[str], clip: float | None = None) -> Updates:
    """How weights are updated.

    Args:
        optimizer: `None` leaves them as they are.
        trained: the parameters that have a gradient, in the order of the gradients.
        clip: largest joint norm of the gradients that the optimizer gets, or `None`.
    """
    if optimizer is None:
        return Fixed()
    make = Joined if trained and is_entrywise(optimizer) else Separate
    return make(optimizer, trained, clip)


def is_entrywise(optimizer: Optimizer) -> bool:
    """Whether the update of an entry depends on its own gradient and memory alone.

    >>> is_entrywise(Adam(0.01)), is_entrywise(Scheduled(SGD(0.1), lambda update: 1.0))
    (True, True)
    """
    if type(optimizer) is Scheduled:
        return is_entrywise(optimizer.optimizer)
    return type(optimizer) in (SGD, Adam, RMSprop)  # a subclass may do anything


def unclipped(optimizer: Optimizer | None, clip: float | None) -> tuple[Optimizer | None, float | None]:
    """An optimizer that does no more than clip by norm, as the one that it wraps, and the limit; others as they are.

    >>> unclipped(Clipped(SGD(0.1), norm=1.0), None)
    (SGD(learning_rate=0.1, momentum=0.0, weight_decay=0.0), 1.0)
    """
    if type(optimizer) is Clipped and optimizer.value is None and clip is None:
        return optimizer.optimizer, optimizer.norm
    return optimizer, clip


def settings(optimizer: Optimizer | None) -> dict[str, Any] | None:
    """Name and settings of an optimizer that is built in, with nothing around it; `None` for all others.

    >>> settings(SGD(0.1)), settings(Scheduled(SGD(0.1), lambda update: 1.0))
    ({'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.0, 'weight_decay': 0.0}, None)
    """
    return optimizer.config() if optimizer is not None and type(optimizer) in (SGD, Adam, RMSprop) else None


class Fixed:
    """No updates: weights are not learned."""

    def knows(self, params: Mapping[str, Array], memory: Mapping[str, Array]) -> bool:
        return True

    def begin(self, params: Mapping[str, Array], memory: Mapping[str, Array] | None) -> Weights:
        return Weights(dict(params), {})

    def gathered(self, grads: Mapping[str, Array]) -> Sequence[Array]:
        return list(grads.values())

    def updated(self, weights: Weights, grads: Mapping[str, Array], gathered: Sequence[Array]) -> Weights:
        return weights

    def changed(self, weights: Weights) -> Sequence[Array]:
        return ()

    def remembered(self, weights: Weights) -> dict[str, Array]:
        return {}

    def change(self, optimizer: Optimizer, clip: float | None) -> bool:
        return False


class Separate:
    """Updates of each parameter by its name, by any optimizer. What it gives is checked, and copied."""

    def __init__(self, optimizer: Optimizer, trained: Sequence[str], clip: float | None) -> None:
        self._optimizer, self._trained, self._clip = optimizer, trained, clip

    def knows(self, params: Mapping[str, Array], memory: Mapping[str, Array]) -> bool:
        return True  # or else the optimizer says what it misses

    def begin(self, params: Mapping[str, Array], memory: Mapping[str, Array] | None) -> Weights:
        started = self._optimizer.start({name: params[name] for name in self._trained}) if memory is None else memory
        return Weights(dict(params), dict(started))

    def gathered(self, grads: Mapping[str, Array]) -> Sequence[Array]:
        return list(grads.values())

    def updated(self, weights: Weights, grads: Mapping[str, Array], gathered: Sequence[Array]) -> Weights:
        limited = dict(grads) if self._clip is None else clip_by_norm(grads, self._clip)
        given, memory = self._optimizer.update(weights.params, limited, weights.memory)
        check_names("the optimizer's parameters", given, weights.params)
        params = dict(weights.params)
        for name, like in weights.params.items():
            if given[name] is like:  # passed through
                continue
            what = f"parameter {name!r} of the optimizer"
            params[name] = numeric(what, given[name], like.dtype).copy()
            if params[name].shape != like.shape:
                raise DataError(f"{what}: expected shape {like.shape}, got {params[name].shape}.")
        return Weights(params, dict(memory))

    def changed(self, weights: Weights) -> Sequence[Array]:
        return list(weights.params.values())

    def remembered(self, weights: Weights) -> dict[str, Array]:
        return weights.memory

    def change(self, optimizer: Optimizer, clip: float | None) -> bool:
        if is_entrywise(optimizer):
            return False
        self._optimizer, self._clip = optimizer, clip
        return True


class Joined:
    """Updates of all parameters as one array: one call for each operation of the optimizer, not one per parameter.

    There are two such arrays, each with its views by name, and every update fills the one that is not in use.
    """

    def __init__(self, optimizer: Optimizer, trained: Sequence[str], clip: float | None) -> None:
        self._optimizer, self._trained, self._clip = optimizer, trained, clip
        self._buffers: tuple[tuple[Array, dict[str, Array]], ...] = ()

    def knows(self, params: Mapping[str, Array], memory: Mapping[str, Array]) -> bool:
        started = self._optimizer.start({name: params[name] for name in self._trained})
        return all(_alike(memory.get(key), array) for key, array in started.items())

    def begin(self, params: Mapping[str, Array], memory: Mapping[str, Array] | None) -> Weights:
        whole = np.concatenate([params[name] for name in self._trained], axis=None)
        self._buffers = tuple((one, {**params, **self._views(one, params)}) for one in (whole, whole.copy()))
        remembered = self._optimizer.start({ALL: whole})
        if memory is not None:
            remembered = {key: self._whole(key, array, memory) for key, array in remembered.items()}
        return Weights(self._buffers[0][1], remembered, whole)

    def _views(self, whole: Array, params: Mapping[str, Array]) -> dict[str, Array]:
        ends = np.cumsum([params[name].size for name in self._trained])
        parts = np.split(whole, ends[:-1])
        return {name: part.reshape(params[name].shape) for name, part in zip(self._trained, parts, strict=True)}

    def _whole(self, key: str, array: Array, memory: Mapping[str, Array]) -> Array:
        """What is remembered under this name of all parameters, or of none."""
        if array.ndim == 0:
            return np.array(memory[key])
        return np.concatenate([memory[key + name] for name in self._trained], axis=None)

    def gathered(self, grads: Mapping[str, Array]) -> Sequence[Array]:
        return (np.concatenate([grads[name] for name in self._trained], axis=None),)

    def updated(self, weights: Weights, grads: Mapping[str, Array], gathered: Sequence[Array]) -> Weights:
        assert weights.joined is not None
        whole = {ALL: gathered[0]} if self._clip is None else clip_by_norm({ALL: gathered[0]}, self._clip)
        new, memory = self._optimizer.update({ALL: weights.joined}, whole, weights.memory)
        first, second = self._buffers
        spare, views = second if first[0] is weights.joined else first
        np.copyto(spare, new[ALL])
        return Weights(views, memory, spare)

    def changed(self, weights: Weights) -> Sequence[Array]:
        assert weights.joined is not None
        return (weights.joined,)

    def remembered(self, weights: Weights) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for key, array in weights.memory.items():
            views = {key: array} if array.ndim == 0 else self._views(array, weights.params)
            found |= views if array.ndim == 0 else {key + name: view for name, view in views.items()}
        return found

    def change(self, optimizer: Optimizer, clip: float | None) -> bool:
        nothing = {ALL: np.zeros(0)}
        if not is_entrywise(optimizer) or optimizer.start(nothing).keys() != self._optimizer.start(nothing).keys():
            return False
        self._optimizer, self._clip = optimizer, clip
        return True


def _alike(given: Any, array: Array) -> bool:
    return isinstance(given, np.ndarray) and (given.shape, given.dtype) == (array.shape, array.dtype)
