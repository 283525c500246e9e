"""Recurrent networks as estimators of scikit-learn, which learn online: rows are steps of one series, in order."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from forwardgrad.bridges.online import Moments, OnlineNetwork
from forwardgrad.errors import DataError, MissingExtraError
from forwardgrad.support.attributes import is_whole
from forwardgrad.support.defaults import DTYPE, RULE

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
except ImportError as error:
    lacking = 'forwardgrad.bridges.sklearn needs scikit-learn: pip install "forwardgrad[sklearn]"'
    raise MissingExtraError(lacking) from error

utils: Any = import_module("sklearn.utils")  # not typed
multiclass: Any = import_module("sklearn.utils.multiclass")
validation: Any = import_module("sklearn.utils.validation")

__all__ = ["OnlineClassifier", "OnlineRegressor"]


class _Online(BaseEstimator):
    """What both estimators share."""

    _labels = False

    def __init__(
        self,
        network: Any = None,
        *,
        hidden: int = 32,
        rule: Any = RULE,
        learning_rate: float = 0.01,
        block: int = 10,
        epochs: int = 10,
        clip: float | None = 1.0,
        scale: bool = True,
        random_state: Any = None,
        dtype: Any = DTYPE,
    ) -> None:
        self.network = network
        self.hidden = hidden
        self.rule = rule
        self.learning_rate = learning_rate
        self.block = block
        self.epochs = epochs
        self.clip = clip
        self.scale = scale
        self.random_state = random_state
        self.dtype = dtype

    def _begin(self, features: int, outputs: int) -> None:
        for name in ("hidden", "block", "epochs"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise DataError(f"{type(self).__name__}: {name!r} must be a whole number >= 1, got {value!r}.")
        seed = int(utils.check_random_state(self.random_state).randint(2**31 - 1))
        network, labels = self.network, self._labels
        settings = (self.rule, self.learning_rate, self.block, self.clip, seed, self.dtype)
        self.online_ = OnlineNetwork(network, self.hidden, labels, *settings)
        self.online_.fit_sizes(features, outputs)
        self.inputs_, self.targets_ = Moments(features), Moments(outputs)

    def _learn(self, x: NDArray[Any], y: NDArray[Any], epochs: int) -> None:
        if self.scale:
            self.inputs_.add(x)
            x = self.inputs_.scaled(x)
            if not self._labels:
                self.targets_.add(y)
                y = self.targets_.scaled(y)
        for epoch in range(epochs):
            if epoch:
                self.online_.reset()
            self.online_.learn(x, y)

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        validation.check_is_fitted(self, "online_")
        x = validation.validate_data(self, X, reset=False, dtype=np.float64)
        return self.online_.predict(self.inputs_.scaled(x) if self.scale else x)

    def reset(self) -> Self:
        """Forget activations and influence, as before another series; weights stay. Returns the estimator."""
        validation.check_is_fitted(self, "online_")
        self.online_.reset()
        return self

    def __sklearn_tags__(self) -> Any:
        tags: Any = cast(Any, super()).__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags


class OnlineRegressor(RegressorMixin, _Online):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A recurrent network that predicts numbers row by row, and learns online.

    Rows of `X` are the steps of one series, in their order: shuffling them destroys what there is to learn. `fit`
    starts afresh. `partial_fit` goes on: activations and influence are kept from call to call, so a series may come in
    pieces of any length. `predict` begins where learning ended, as is right for rows that follow those learned from,
    and leaves the estimator as it is. `reset` makes what comes next the beginning of another series.

    Args:
        network: a graph with one input and one output node, whose sizes are set to those of the data: a
            `networkx.MultiDiGraph`, the name of a shipped graph, or a file. `None`: a GRU, read out linearly.
        hidden: units of that GRU.
        rule: the learning rule.
        learning_rate: of Adam.
        block: rows per update.
        epochs: how often `fit` passes over its rows; `partial_fit` does once.
        clip: largest norm of a gradient, or `None`.
        scale: whether columns are scaled to mean 0 and deviation 1, over the rows learned from so far.
        random_state: of the initial weights: a seed, a `RandomState`, or `None`.
        dtype: `float64` or `float32`.

    Attributes:
        n_features_in_: columns of `X`.
        feature_names_in_: their names, where `X` had names.
        online_: the network with its learner, `online_.learner`.

    >>> x = np.random.default_rng(0).normal(size=(400, 1))
    >>> y = np.concatenate([[0.0], x[:-1, 0]])  # what came in one row before
    >>> model = OnlineRegressor(hidden=8, random_state=0).fit(x[:300], y[:300])
    >>> bool(model.score(x[300:], y[300:]) > 0.9)
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from a series, afresh.

        Args:
            X: `(rows, columns)` of finite numbers.
            y: `(rows,)` or `(rows, outputs)`.
        """
        x, targets = self._rows(X, y, reset=True)
        self._begin(x.shape[1], targets.shape[1])
        self._learn(x, targets, self.epochs)
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from the next rows of a series; arguments as in `fit`."""
        first = not hasattr(self, "online_")
        x, targets = self._rows(X, y, reset=first)
        if first:
            self._begin(x.shape[1], targets.shape[1])
        elif targets.shape[1] != self.online_.sizes[1]:
            raise ValueError(f"y has {targets.shape[1]} columns, and had {self.online_.sizes[1]} before.")
        self._learn(x, targets, 1)
        return self

    def _rows(self, X: Any, y: Any, *, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        x, targets = validation.validate_data(
            self, X, y, reset=reset, multi_output=True, y_numeric=True, dtype=np.float64
        )
        self._flat = targets.ndim == 1
        return x, targets.astype(np.float64).reshape(len(targets), -1)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predictions `(rows,)` or `(rows, outputs)`, in the units of `y`."""
        found = self._outputs(X)
        found = self.targets_.measured(found) if self.scale else found
        return found[:, 0] if self._flat else found

    def __sklearn_tags__(self) -> Any:
        tags: Any = cast(Any, super()).__sklearn_tags__()
        tags.target_tags.single_output, tags.target_tags.multi_output = True, True
        return tags


class OnlineClassifier(ClassifierMixin, _Online):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A recurrent network that tells rows apart by labels, and learns online.

    Arguments and attributes are those of `OnlineRegressor`; `classes_` are the labels, in the order of probabilities.

    >>> x = np.random.default_rng(0).normal(size=(400, 1))
    >>> y = np.where(np.concatenate([[0.0], x[:-1, 0]]) > 0, "up", "down")  # what came in one row before
    >>> model = OnlineClassifier(hidden=8, random_state=0).fit(x[:300], y[:300])
    >>> bool(model.score(x[300:], y[300:]) > 0.9)
    True
    """

    _labels = True

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from a series, afresh.

        Args:
            X: `(rows, columns)` of finite numbers.
            y: `(rows,)`, labels of any kind.
        """
        x, labels = self._rows(X, y, reset=True)
        self.classes_ = multiclass.unique_labels(labels)
        return self._learned(x, labels, self.epochs, first=True)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Learn from the next rows of a series.

        Args:
            X, y: as in `fit`.
            classes: all labels that there will be; needed in the first call.
        """
        first = not hasattr(self, "online_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        x, labels = self._rows(X, y, reset=first)
        if first:
            self.classes_ = multiclass.unique_labels(classes)
        elif classes is not None and not np.array_equal(multiclass.unique_labels(classes), self.classes_):
            raise ValueError(f"classes is {classes!r}, and was {self.classes_!r} before.")
        return self._learned(x, labels, 1, first=first)

    def _rows(self, X: Any, y: Any, *, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        x, labels = validation.validate_data(self, X, y, reset=reset, dtype=np.float64)
        multiclass.check_classification_targets(labels)
        return x, labels

    def _learned(self, x: NDArray[Any], labels: NDArray[Any], epochs: int, *, first: bool) -> Self:
        new = np.setdiff1d(labels, self.classes_)
        if len(new):
            raise ValueError(f"y has the label {new.tolist()[0]!r}, which is none of classes.")
        if first:
            self._begin(x.shape[1], max(2, len(self.classes_)))
        self._learn(x, np.searchsorted(self.classes_, labels), epochs)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each label, `(rows, labels)`, in the order of `classes_`."""
        found = self._outputs(X)[:, : len(self.classes_)]
        shares = np.exp(found - found.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each row, `(rows,)`."""
        found = self.predict_proba(X)
        return self.classes_[found.argmax(axis=1)]
