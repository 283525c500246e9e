"""Constraints on parameters, kept by projection: after every update, parameters are moved back to what is allowed.

`Constrained` goes around any optimizer: `Constrained(Adam(0.01), {"h->h": [zero_diagonal(), spectral_radius(0.95)]})`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, cast

import numpy as np

from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.learning.optimizers import Arrays, Optimizer, is_number
from forwardgrad.ops import Array


@dataclass(frozen=True, repr=False)
class Constraint:
    """What is allowed for a parameter, as the function that moves an array there.

    Args:
        text: how it is written; a checkpoint compares constraints by it.
        project: the function, from an array to one of the same shape and dtype. It returns what is allowed as it is,
            apart from rounding, does not change its argument, and raises `DataError` for a shape it is not for.

    >>> unit = Constraint("unit rows", lambda w: w / np.linalg.norm(w, axis=1, keepdims=True))
    >>> unit.project(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """

    text: str
    project: Callable[[Array], Array] = field(compare=False)

    def __repr__(self) -> str:
        return self.text


def bounds(low: float, high: float) -> Constraint:
    """Every entry from `low` to `high`: the nearest such array, by clipping.

    Args:
        low: may be minus infinity.
        high: at least `low`; may be infinity.

    Raises:
        DataError: if one of them is not a number, or `low > high`.

    >>> bounds(0, 1).project(np.array([-0.5, 0.5, 1.5]))
    array([0. , 0.5, 1. ])
    """
    for end, value in (("low", low), ("high", high)):
        if not is_number(value) and value not in (-math.inf, math.inf):
            raise DataError(f"bounds: {end!r} must be a number, got {value!r}.")
    if low > high:
        raise DataError(f"bounds: 'low' must be at most 'high', got {low!r} and {high!r}.")
    return Constraint(f"bounds({float(low)}, {float(high)})", partial(_clipped, float(low), float(high)))


def nonnegative() -> Constraint:
    """No entry below 0.

    >>> nonnegative().project(np.array([-0.5, 0.5]))
    array([0. , 0.5])
    """
    return Constraint("nonnegative()", partial(_clipped, 0.0, math.inf))


def nonpositive() -> Constraint:
    """No entry above 0.

    >>> nonpositive().project(np.array([-0.5, 0.5]))
    array([-0.5,  0. ])
    """
    return Constraint("nonpositive()", partial(_clipped, -math.inf, 0.0))


def signs(units: Any) -> Constraint:
    """One sign for each column of a matrix: that of the weights of one presynaptic unit (Dale's law).

    Entries of the other sign become 0, which gives the nearest such matrix. Song et al. 2016,
    doi 10.1371/journal.pcbi.1004792, train networks under this law; they rectify weights where the network uses them.

    Args:
        units: 1 for a unit that excites and -1 for one that inhibits, `(source,)`; for a weight `(target, source)`.

    Raises:
        DataError: if there is a value other than 1 and -1.

    >>> signs([1, 1, -1]).project(np.array([[0.2, -0.3, 0.4], [0.5, 0.6, -0.7]]))
    array([[ 0.2,  0. ,  0. ],
           [ 0.5,  0.6, -0.7]])
    """
    wanted = np.asarray(units)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iuf" or not np.isin(wanted, (-1, 1)).all():
        raise DataError(
            f"signs: one 1 or -1 for each presynaptic unit, got {units!r}.", "For example signs([1, 1, -1])."
        )
    listed = tuple(int(sign) for sign in wanted)
    return Constraint(f"signs({list(listed)})", partial(_signed, listed))


def zero_diagonal() -> Constraint:
    """No unit acts on itself: zeros on the diagonal of a square matrix, the nearest such matrix.

    >>> zero_diagonal().project(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[0., 2.],
           [3., 0.]])
    """
    return Constraint("zero_diagonal()", _hollow)


def spectral_radius(largest: float) -> Constraint:
    """No eigenvalue of a square matrix beyond `largest` in magnitude: a matrix that has one is scaled down.

    w <- w min(1, largest / max |eigenvalue of w|). All entries keep their ratios. The nearest such matrix would be
    another one, and has no closed form. The eigenvalues cost n^3 operations per update, for n units.

    Args:
        largest: > 0.

    Raises:
        DataError: if it is not a finite number > 0.

    >>> spectral_radius(0.5).project(np.array([[0.0, 2.0], [0.5, 0.0]]))
    array([[0.  , 1.  ],
           [0.25, 0.  ]])
    """
    if not (is_number(largest) and largest > 0):
        raise DataError(f"spectral_radius: 'largest' must be a finite number > 0, got {largest!r}.")
    return Constraint(f"spectral_radius({float(largest)})", partial(_shrunk, float(largest)))


@dataclass(frozen=True)
class Constrained:
    """An optimizer after each of whose updates parameters are projected to what is allowed.

    With `SGD` and constraints that give the nearest allowed array this is projected gradient descent: Goldstein 1964,
    doi 10.1090/S0002-9904-1964-11178-2. What the optimizer remembers, such as momentum, is not projected.

    Parameters that have a gradient are projected, so the initial ones at the first update. To begin with allowed ones,
    use `params = constrained.project(program.init())`. A parameter that is not finite stays as it is, so that a
    `Learner` refuses it. Around `FPTT` and other optimizers that compare parameters before and after an update, put
    `Constrained` inside: `FPTT(Constrained(Adam(0.01), ...))`.

    Args:
        optimizer: makes the updates.
        constraints: `{pattern: constraint}` or `{pattern: [constraint, ...]}`. A pattern is a parameter's name, or has
            wildcards such as `"l1.*"`. All that fit a parameter are applied, in the order in which they are written,
            so that the last one surely holds.

    Raises:
        DataError: if a constraint is not one. Then in `start`, `update` and `project`: if a pattern fits no parameter,
            or a parameter has a shape that its constraint is not for.

    >>> from forwardgrad.learning.optimizers import SGD
    >>> sgd = Constrained(SGD(1.0), {"h->h": [nonnegative(), zero_diagonal()]})
    >>> params = {"h->h": np.ones((2, 2)), "h.bias": np.zeros(2)}
    >>> grads = {"h->h": np.array([[0.5, 2.0], [0.5, 0.5]]), "h.bias": np.ones(2)}
    >>> new, state = sgd.update(params, grads, sgd.start(params))
    >>> new["h->h"], new["h.bias"]
    (array([[0. , 0. ],
           [0.5, 0. ]]), array([-1., -1.]))
    """

    optimizer: Optimizer
    constraints: Mapping[str, Constraint | list[Constraint] | tuple[Constraint, ...]]

    def __post_init__(self) -> None:
        given: Any = self.constraints
        if not isinstance(given, Mapping) or not given:
            raise DataError(
                f"constrained: a mapping from parameters to constraints is needed, got {given!r}.",
                'For example Constrained(Adam(0.01), {"h->h": zero_diagonal()}).',
            )
        for pattern, constraints in cast("dict[Any, tuple[Any, ...]]", self._listed()).items():
            if not isinstance(pattern, str):
                raise DataError(f"constrained: a pattern of parameter names is a string, got {pattern!r}.")
            for constraint in constraints:
                if not isinstance(constraint, Constraint):
                    raise DataError(
                        f"constrained: {pattern!r} needs a constraint, such as nonnegative(), got {constraint!r}."
                    )

    def _listed(self) -> dict[str, tuple[Constraint, ...]]:
        """The constraints of each pattern."""
        return {
            pattern: tuple(given) if isinstance(given, list | tuple) else (given,)
            for pattern, given in self.constraints.items()
        }

    def project(self, params: Arrays) -> dict[str, Array]:
        """The parameters, moved to what is allowed; no argument is changed."""
        self._check_patterns(params)
        return {name: self._allowed(name, p) for name, p in params.items()}

    def start(self, params: Arrays) -> dict[str, Array]:
        """That of the optimizer."""
        self.project(params)  # what does not fit is refused before anything is learned
        return self.optimizer.start(params)

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One update of the optimizer, and the projection of all parameters that have a gradient."""
        self._check_patterns(params)
        new, memory = self.optimizer.update(params, grads, state)
        return {**new, **{name: self._allowed(name, new[name]) for name in grads}}, memory

    def config(self) -> dict[str, Any]:
        """Name and settings; constraints by their texts."""
        texts = {pattern: [each.text for each in constraints] for pattern, constraints in self._listed().items()}
        return {"name": "constrained", "optimizer": self.optimizer.config(), "constraints": texts}

    def _check_patterns(self, params: Arrays) -> None:
        for pattern in self.constraints:
            if not any(_fits(name, pattern) for name in params):
                raise DataError(f"constraint on {pattern!r}: fits no parameter.", did_you_mean(pattern, params))

    def _allowed(self, name: str, p: Array) -> Array:
        if not np.isfinite(p).all():
            return p
        fitting = [constraints for pattern, constraints in self._listed().items() if _fits(name, pattern)]
        for constraint in itertools.chain(*fitting):
            try:
                p = np.asarray(constraint.project(p), p.dtype)
            except DataError as error:
                raise DataError(f"constraint {constraint.text} on parameter {name!r}: {error}") from None
        return p


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _clipped(low: float, high: float, p: Array) -> Array:
    return np.clip(p, low, high)


def _signed(units: tuple[int, ...], p: Array) -> Array:
    if p.ndim != 2 or p.shape[1] != len(units):
        raise DataError(
            f"needs a matrix with a column for each of {len(units)} presynaptic units, got shape {p.shape}."
        )
    return np.where(p * np.asarray(units, p.dtype) > 0, p, 0)


def _hollow(p: Array) -> Array:
    hollow = _square(p).copy()
    np.fill_diagonal(hollow, 0)
    return hollow


def _shrunk(largest: float, p: Array) -> Array:
    radius = float(np.max(np.abs(np.linalg.eigvals(_square(p).astype(np.float64))), initial=0.0))
    return p if radius <= largest else p * (largest / radius)


def _square(p: Array) -> Array:
    if p.ndim != 2 or p.shape[0] != p.shape[1]:
        raise DataError(f"needs a square matrix, got shape {p.shape}.", "For example that of a layer onto itself.")
    return p
