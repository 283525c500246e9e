"""Recurrent networks as models of river: one observation at a time, with a memory that no window ends."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.bridges.online import Moments, OnlineNetwork
from forwardgrad.errors import DataError, MissingExtraError
from forwardgrad.support.defaults import DTYPE, RULE

try:
    from river import base
except ImportError as error:
    raise MissingExtraError('forwardgrad.bridges.river needs river: pip install "forwardgrad[river]"') from error

Features = Mapping[Hashable, Any]

__all__ = ["RecurrentClassifier", "RecurrentRegressor"]


class _Recurrent(base.Estimator):
    """What both models share."""

    _labels = False

    def __init__(
        self,
        network: Any = None,
        hidden: int = 32,
        rule: Any = RULE,
        learning_rate: float = 0.01,
        clip: float | None = 1.0,
        scale: bool = True,
        seed: int = 0,
        dtype: Any = DTYPE,
    ) -> None:
        self.network = network
        self.hidden = hidden
        self.rule = rule
        self.learning_rate = learning_rate
        self.clip = clip
        self.scale = scale
        self.seed = seed
        self.dtype = dtype
        self._features: dict[Hashable, int] = {}
        self._classes: dict[Hashable, int] = {}
        self._online: OnlineNetwork | None = None
        self._inputs, self._targets = Moments(1), Moments(1)

    def _row(self, x: Features) -> NDArray[np.float64]:
        """An observation as numbers `(1, features)`: what is missing has its mean, and what is new is left out."""
        row = self._inputs.mean.copy()[None]
        for name, value in x.items():
            if not isinstance(value, Real | np.bool_) or not isfinite(value):
                raise DataError(
                    f"feature {name!r} is {value!r}, which is not a finite number.",
                    "Put a transformer before, such as river.preprocessing.OneHotEncoder or StatImputer.",
                )
            if name in self._features:
                row[0, self._features[name]] = float(value)
        return row

    def _seen(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._inputs.scaled(row) if self.scale else row

    def _noted(self, x: Features, outputs: int) -> tuple[OnlineNetwork, NDArray[np.float64]]:
        """The network, with an input for each feature that ever came, and the observation as it sees it."""
        for name in sorted(x, key=repr):  # the order of a dictionary says nothing
            self._features.setdefault(name, len(self._features))
        if self._online is None:
            settings = (self.rule, self.learning_rate, 1, self.clip, self.seed, self.dtype)
            self._online = OnlineNetwork(self.network, self.hidden, self._labels, *settings)
        count = max(1, len(self._features))
        if count > len(self._inputs.mean):
            self._inputs.grow(count)
        self._online.fit_sizes(count, max(outputs, self._online.sizes[1]))
        row = self._row(x)
        self._inputs.add(row)  # also where nothing is scaled: a feature that is missing has its mean
        return self._online, self._seen(row)

    def _predicted(self, x: Features) -> NDArray[np.float64] | None:
        row = self._row(x)
        return None if self._online is None else self._online.predict(self._seen(row))[0]

    def reset(self) -> None:
        """Forget activations and influence, as before another series; weights stay."""
        if self._online is not None:
            self._online.reset()


class RecurrentRegressor(_Recurrent, base.Regressor):
    """A recurrent network that predicts a number.

    An observation moves the network's state on when it is learned from, by one step; `predict_one` moves nothing. So
    predict, then learn, as river does, and each observation is seen once. Features may come and go: a missing one is
    given its mean so far, and a new one gets an input of its own when it is first learned from.

    Args:
        network: a graph with one input and one output node, whose sizes are set to those of the data: a
            `networkx.MultiDiGraph`, the name of a shipped graph, or a file. `None`: a GRU, read out linearly.
        hidden: units of that GRU.
        rule: the learning rule.
        learning_rate: of Adam, which makes an update at each observation.
        clip: largest norm of a gradient, or `None`.
        scale: whether numbers are scaled to mean 0 and deviation 1, by what was seen so far.
        seed: of the initial weights.
        dtype: `float64` or `float32`.

    >>> random, before = np.random.default_rng(0), 0.0
    >>> model, errors = RecurrentRegressor(hidden=8), []
    >>> for now in random.normal(size=600):
    ...     errors.append(abs(model.predict_one({"now": now}) - before))  # what came one observation before
    ...     model.learn_one({"now": now}, before)
    ...     before = now
    >>> bool(np.mean(errors[:50]) > 0.5), bool(np.mean(errors[-50:]) < 0.2)
    (True, True)
    """

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an observation.

        Args:
            x: features by name, numbers or truth values.
            y: a finite number.

        Raises:
            DataError: if one of them is not a finite number; nothing is learned then.
        """
        if not isinstance(y, Real | np.bool_) or not isfinite(y):
            raise DataError(f"the target is {y!r}, which is not a finite number.")
        self._row(x)  # before anything changes
        (online, seen), target = self._noted(x, 1), np.array([[float(y)]])
        if self.scale:
            self._targets.add(target)
            target = self._targets.scaled(target)
        online.learn(seen, target)

    def predict_one(self, x: Features) -> float:
        """The number predicted for an observation; 0 before anything was learned."""
        found = self._predicted(x)
        if found is None:
            return 0.0
        return float((self._targets.measured(found) if self.scale else found)[0])


class RecurrentClassifier(_Recurrent, base.Classifier):
    """A recurrent network that tells observations apart by labels, which may be new at any time.

    Arguments and attributes are those of `RecurrentRegressor`.

    >>> random, before = np.random.default_rng(0), 0.0
    >>> model, right = RecurrentClassifier(hidden=8), []
    >>> for now in random.normal(size=600):
    ...     label = "up" if before > 0 else "down"  # what came one observation before
    ...     right.append(model.predict_one({"now": now}) == label)
    ...     model.learn_one({"now": now}, label)
    ...     before = now
    >>> bool(np.mean(right[-100:]) > 0.9)
    True
    """

    _labels = True

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an observation.

        Args:
            x: features by name, numbers or truth values.
            y: a label of any kind that can be hashed.

        Raises:
            DataError: if a feature is not a finite number; nothing is learned then.
        """
        self._row(x)  # before anything changes
        label = self._classes.setdefault(y, len(self._classes))
        online, seen = self._noted(x, max(2, len(self._classes)))
        online.learn(seen, np.array([label]))

    def predict_proba_one(self, x: Features, **_: Any) -> dict[Any, float]:
        """The probability of each label seen so far."""
        found = self._predicted(x)
        if found is None:
            return {}
        shares = np.exp(found[: len(self._classes)] - found[: len(self._classes)].max())
        return dict(zip(self._classes, map(float, shares / shares.sum()), strict=True))
