"""How do gradients change parameters? SGD, Adam, RMSprop and LARS as pure functions, and clipping by norm or value.

An optimiser holds settings only. What it remembers is a flat dictionary of arrays that goes in and comes out, so that
a run can be saved and resumed bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.ops import Array

Arrays = Mapping[str, Array]


class Optimizer(Protocol):
    """What a learner asks of an optimiser."""

    def start(self, params: Arrays) -> dict[str, Array]:
        """The state before the first update."""
        ...

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """New parameters and new state; no argument is changed."""
        ...

    def config(self) -> dict[str, Any]:
        """Its name and settings, such that `get(**optimizer.config())` equals it."""
        ...


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with heavy-ball momentum if asked for.

    m(t) = momentum m(t-1) + g(t);  p(t) = (1 - learning_rate weight_decay) p(t-1) - learning_rate m(t)

    Source: Polyak 1964, doi 10.1016/0041-5553(64)90137-5; decay apart from the gradient as in Loshchilov & Hutter 2019,
    arXiv 1711.05101.

    Args:
        learning_rate: greater than 0.
        momentum: in [0, 1); 0 keeps no state.
        weight_decay: at least 0; of every parameter that has a gradient, the matrices of adaptive feedback included.

    >>> sgd = SGD(0.5)
    >>> params, state = sgd.update({"w": np.array([1.0])}, {"w": np.array([4.0])}, {})
    >>> params["w"]
    array([-1.])
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        check_settings(self, learning_rate=_POSITIVE, momentum=FRACTION, weight_decay=DECAY)

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `momentum:NAME` of each parameter's shape and dtype; empty without momentum."""
        return {f"momentum:{name}": np.zeros_like(p) for name, p in params.items()} if self.momentum else {}

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step. Parameters without a gradient, and what is remembered of them, pass through.

        Raises:
            DataError: if a gradient or the state does not fit the parameters, or a gradient is not finite.
        """
        new, memory = dict(params), dict(state)
        for name, p, g in with_gradient(params, grads):
            if self.momentum:
                g = self.momentum * remembered(state, f"momentum:{name}", p.shape) + g
                memory[f"momentum:{name}"] = np.asarray(g, dtype=p.dtype)
            new[name] = np.asarray(_decayed(self, p) - self.learning_rate * g, dtype=p.dtype)
        return new, memory

    def config(self) -> dict[str, Any]:
        """Name and settings as a plain dictionary."""
        return {"name": self.name, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1), with decoupled weight decay if asked for.

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
    p = (1 - learning_rate weight_decay) p - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon),
    t counting updates from 1. Decay apart from the moments: AdamW of Loshchilov & Hutter 2019, arXiv 1711.05101.

    Args:
        learning_rate: greater than 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        epsilon: greater than 0.
        weight_decay: at least 0; of every parameter that has a gradient, the matrices of adaptive feedback included.

    The first step has length `learning_rate` whatever the gradient's scale:

    >>> adam = Adam(learning_rate=0.1)
    >>> params = {"w": np.array([1.0, 1.0])}
    >>> new, state = adam.update(params, {"w": np.array([1e-3, -50.0])}, adam.start(params))
    >>> new["w"].round(4), int(state["count"])
    (array([0.9, 1.1]), 1)
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    name: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        check_settings(
            self,
            learning_rate=_POSITIVE,
            beta1=FRACTION,
            beta2=FRACTION,
            epsilon=_POSITIVE,
            weight_decay=DECAY,
        )

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `first:NAME` and `second:NAME` of each parameter's shape and dtype, and `count`, a whole number."""
        state: dict[str, Array] = {"count": np.zeros((), dtype=np.int64)}
        for name, p in params.items():
            state[f"first:{name}"] = np.zeros_like(p)
            state[f"second:{name}"] = np.zeros_like(p)
        return state

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step. Parameters without a gradient, and what is remembered of them, pass through.

        Raises:
            DataError: if a gradient or the state does not fit the parameters, or a gradient is not finite.
        """
        new, memory = dict(params), dict(state)
        count = int(remembered(state, "count", ())) + 1
        memory["count"] = np.asarray(count, dtype=np.int64)
        for name, p, g in with_gradient(params, grads):
            first = self.beta1 * remembered(state, f"first:{name}", p.shape) + (1 - self.beta1) * g
            second = self.beta2 * remembered(state, f"second:{name}", p.shape) + (1 - self.beta2) * g * g
            direction = (first / (1 - self.beta1**count)) / (np.sqrt(second / (1 - self.beta2**count)) + self.epsilon)
            memory[f"first:{name}"] = np.asarray(first, dtype=p.dtype)
            memory[f"second:{name}"] = np.asarray(second, dtype=p.dtype)
            new[name] = np.asarray(_decayed(self, p) - self.learning_rate * direction, dtype=p.dtype)
        return new, memory

    def config(self) -> dict[str, Any]:
        """Name and settings as a plain dictionary."""
        return {"name": self.name, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class RMSprop:
    """Gradients divided by the root of their mean square.

    v = decay v + (1 - decay) g^2;  p = (1 - learning_rate weight_decay) p - learning_rate g / (sqrt(v) + epsilon)

    Source: Tieleman & Hinton 2012, Coursera "Neural networks for machine learning", lecture 6.5; epsilon stands outside
    of the root, as in PyTorch.

    Args:
        learning_rate: > 0.
        decay: of the mean square, in [0, 1).
        epsilon: > 0.
        weight_decay: >= 0.

    >>> params, rmsprop = {"w": np.array([1.0])}, RMSprop(0.1, decay=0.75)
    >>> rmsprop.update(params, {"w": np.array([7.0])}, rmsprop.start(params))[0]["w"].round(4)
    array([0.8])
    """

    learning_rate: float = 1e-3
    decay: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    name: ClassVar[str] = "rmsprop"

    def __post_init__(self) -> None:
        check_settings(self, learning_rate=_POSITIVE, decay=FRACTION, epsilon=_POSITIVE, weight_decay=DECAY)

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `square:NAME` of each parameter's shape and dtype."""
        return {f"square:{name}": np.zeros_like(p) for name, p in params.items()}

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step; raises `DataError` as `SGD.update` does."""
        new, memory = dict(params), dict(state)
        for name, p, g in with_gradient(params, grads):
            square = self.decay * remembered(state, f"square:{name}", p.shape) + (1 - self.decay) * g * g
            memory[f"square:{name}"] = np.asarray(square, dtype=p.dtype)
            moved = self.learning_rate * g / (np.sqrt(square) + self.epsilon)
            new[name] = np.asarray(_decayed(self, p) - moved, dtype=p.dtype)
        return new, memory

    def config(self) -> dict[str, Any]:
        """Name and settings as a plain dictionary."""
        return {"name": self.name, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class LARS:
    """Gradient descent whose step has, for each parameter, a length in proportion to that parameter's norm.

    r = trust |p| / (|g| + weight_decay |p|);  m = momentum m + learning_rate r (g + weight_decay p);  p = p - m,
    where r = 1 for a parameter or a gradient of norm 0.

    Source: You, Gitman & Ginsburg 2017, arXiv 1708.03888, algorithm 1.

    Args:
        learning_rate: > 0.
        momentum: in [0, 1).
        trust: > 0.
        weight_decay: >= 0.

    >>> params, lars = {"w": np.array([3.0, 4.0])}, LARS(1.0, trust=0.1)
    >>> lars.update(params, {"w": np.array([0.0, 9.0])}, lars.start(params))[0]["w"]
    array([3. , 3.5])
    """

    learning_rate: float
    momentum: float = 0.9
    trust: float = 1e-3
    weight_decay: float = 0.0
    name: ClassVar[str] = "lars"

    def __post_init__(self) -> None:
        check_settings(self, learning_rate=_POSITIVE, momentum=FRACTION, trust=_POSITIVE, weight_decay=DECAY)

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `momentum:NAME` of each parameter's shape and dtype."""
        return {f"momentum:{name}": np.zeros_like(p) for name, p in params.items()}

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step; raises `DataError` as `SGD.update` does."""
        new, memory = dict(params), dict(state)
        for name, p, g in with_gradient(params, grads):
            length, slope = float(np.linalg.norm(p)), float(np.linalg.norm(g))
            ratio = self.trust * length / (slope + self.weight_decay * length) if length and slope else 1.0
            pull = self.learning_rate * ratio * (g + self.weight_decay * p)
            moved = self.momentum * remembered(state, f"momentum:{name}", p.shape) + pull
            memory[f"momentum:{name}"] = np.asarray(moved, dtype=p.dtype)
            new[name] = np.asarray(p - moved, dtype=p.dtype)
        return new, memory

    def config(self) -> dict[str, Any]:
        """Name and settings as a plain dictionary."""
        return {"name": self.name, **dataclasses.asdict(self)}


_table: Mapping[str, Callable[..., Optimizer]] = {each.name: each for each in (SGD, Adam, RMSprop, LARS)}


def names() -> list[str]:
    """The names of all optimisers, sorted."""
    return sorted(_table)


def get(name: str, **settings: Any) -> Optimizer:
    """The optimiser of that name.

    Raises:
        DataError: if there is none, or a setting is unknown or out of range.

    >>> get("adam", learning_rate=0.01)
    Adam(learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08, weight_decay=0.0)
    >>> get(**get("sgd", learning_rate=0.1, momentum=0.9).config())
    SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    """
    if name not in _table:
        raise DataError(f"unknown optimizer {name!r}.", did_you_mean(name, _table))
    known = {field.name: field for field in dataclasses.fields(_table[name])}  # pyright: ignore[reportArgumentType]
    for setting in settings:
        if setting not in known:
            raise DataError(f"optimizer {name!r}: unknown setting {setting!r}.", did_you_mean(setting, known))
    for setting, field in known.items():
        if field.default is dataclasses.MISSING and setting not in settings:
            raise DataError(f"optimizer {name!r} needs {setting!r}.", f"For example {setting}=0.01.")
    return _table[name](**settings)


def clip_by_norm(grads: Arrays, limit: float) -> dict[str, Array]:
    """Scale all gradients by one factor such that their joint Euclidean norm is at most `limit`.

    Args:
        grads: gradients by name, of any shapes; they are not changed.
        limit: greater than 0.

    Raises:
        DataError: if the limit is not positive or a gradient is not finite.

    Source: Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063), algorithm 1.

    >>> clip_by_norm({"a": np.array([3.0]), "b": np.array([4.0])}, limit=1.0)
    {'a': array([0.6]), 'b': array([0.8])}
    """
    if not _POSITIVE[0](limit):
        raise DataError(f"clipping: the limit must be {_POSITIVE[1]}, got {limit!r}.")
    for name, g in grads.items():
        _finite(name, g)
    # Scaled by the largest entry first: squares of large float32 or float64 numbers overflow.
    largest = max((float(np.max(np.abs(g), initial=0.0)) for g in grads.values()), default=0.0)
    if largest == 0.0:
        return dict(grads)
    squares = sum(float(np.sum(np.square(np.asarray(g, dtype=np.float64) / largest))) for g in grads.values())
    norm = largest * math.sqrt(squares)
    if norm <= limit:
        return dict(grads)
    return {name: np.asarray(g * (limit / norm), dtype=g.dtype) for name, g in grads.items()}


def clip_by_value(grads: Arrays, limit: float) -> dict[str, Array]:
    """Move every entry of the gradients into [-limit, limit].

    Raises:
        DataError: if the limit is not positive or a gradient is not finite.

    >>> clip_by_value({"a": np.array([3.0, -0.5])}, limit=1.0)
    {'a': array([ 1. , -0.5])}
    """
    if not _POSITIVE[0](limit):
        raise DataError(f"clipping: the limit must be {_POSITIVE[1]}, got {limit!r}.")
    for name, g in grads.items():
        _finite(name, g)
    return {name: np.clip(g, -limit, limit) for name, g in grads.items()}


Check = tuple[Callable[[Any], bool], str]


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


_POSITIVE: Check = (lambda value: is_number(value) and value > 0, "a finite number greater than 0")
FRACTION: Check = (lambda value: is_number(value) and 0 <= value < 1, "a number in [0, 1)")
DECAY: Check = (lambda value: is_number(value) and value >= 0, "a finite number >= 0")


def check_settings(optimizer: Any, **checks: Check) -> None:
    """Check every setting, and keep it as a plain float, which JSON can hold."""
    for setting, (legal, expected) in checks.items():
        value = getattr(optimizer, setting)
        if not legal(value):
            raise DataError(f"optimizer {optimizer.name!r}: {setting!r} must be {expected}, got {value!r}.")
        object.__setattr__(optimizer, setting, float(value))


def _decayed(optimizer: Any, p: Array) -> Array:
    """A parameter after its decay; the very same numbers where there is none."""
    return p * (1 - optimizer.learning_rate * optimizer.weight_decay) if optimizer.weight_decay else p


def with_gradient(params: Arrays, grads: Arrays) -> list[tuple[str, Array, Array]]:
    """Name, parameter and gradient, wherever there is a gradient; in the dtype of the parameter."""
    pairs: list[tuple[str, Array, Array]] = []
    for name, gradient in grads.items():
        if name not in params:
            raise DataError(f"update: a gradient for unknown parameter {name!r}.", did_you_mean(name, params))
        p, g = np.asarray(params[name]), np.asarray(gradient)
        if p.shape != g.shape:
            raise DataError(f"update: parameter {name!r} has shape {p.shape}, its gradient {g.shape}.")
        _finite(name, g)
        pairs.append((name, p, g.astype(p.dtype, copy=False)))
    return pairs


def _finite(name: str, gradient: Array) -> None:
    if not np.isfinite(gradient).all():
        raise DataError(
            f"the gradient of {name!r} is not finite.",
            "Training has diverged; try a lower learning rate, or clip gradients by their norm.",
        )


def remembered(state: Arrays, key: str, shape: tuple[int, ...]) -> Array:
    """One array of the state, checked."""
    if key not in state:
        raise DataError(f"update: the optimizer's state lacks {key!r}.", "Begin with state = optimizer.start(params).")
    array = np.asarray(state[key])
    if array.shape != shape:
        raise DataError(f"update: the optimizer's state {key!r} needs shape {shape}, got {array.shape}.")
    return array
