"""Regularizers of trials: losses on means over time and batch, and on weights, without a forward pass of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.errors import DataError, GraphError, did_you_mean
from forwardgrad.ops import Array
from forwardgrad.support.attributes import show

COPY = ".mean"
"""How the names of copies of nodes end whose means are regularized."""


@dataclass(frozen=True)
class MeanActivity:
    """A loss on the mean activity of each unit of a node, such as its firing rate.

        E = strength / 2  sum over units j of (m_j - target)^2,    m_j: mean of z_j over time and batch

    Its derivative by z_j(t) of a sample is strength (m_j - target) / (steps * batch) at every step: a learning signal,
    which goes through the same eligibility traces as that of any other loss.

    Source: Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, the regularization of firing rates; their published code
    has the square without the 1/2, so that its coefficient 1 is a strength of 2 here.

    Args:
        target: what the mean should be: of spikes, the rate per step, so 0.01 for 10 Hz in steps of 1 ms.
        strength: at least 0.

    Raises:
        DataError: if a number is not finite, or the strength is negative.
    """

    target: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name in ("target", "strength"):
            value = getattr(self, name)
            if not _is_number(value) or (name == "strength" and value < 0):
                least = ", at least 0" if name == "strength" else ""
                raise DataError(f"mean activity: {name} must be a finite number{least}, got {show(value)}.")
            object.__setattr__(self, name, float(value))


class RunningMean:
    """The mean activity of a node in a trial so far, and the learning signal of its regularizer.

    Args:
        regularizer: of the node.

    >>> mean = RunningMean(MeanActivity(0.5))
    >>> first, second = np.ones((2, 1, 3)), np.zeros((2, 1, 3))
    >>> mean.signal(first, None)[0, 0], mean.signal(second, None)[0, 0]
    (array([0.5, 0.5, 0.5]), array([0., 0., 0.]))
    """

    def __init__(self, regularizer: MeanActivity) -> None:
        self.regularizer = regularizer
        self._sum: Any = 0.0
        self._count = 0.0

    @property
    def loss(self) -> float:
        """The loss of the mean so far, without its strength; 0 before anything was counted."""
        if not self._count:
            return 0.0
        return float(0.5 * np.sum((self._sum / self._count - self.regularizer.target) ** 2))

    def signal(self, values: Array, weight: Array | None) -> Array:
        """Count the values of a block, `(time, batch, size)`; the derivative of the loss by the mean, for each of them.

        Args:
            values: of the node.
            weight: `(time, batch)`: how much a step of a sample counts; `None`: all the same.
        """
        wide = np.asarray(values, np.float64)
        if weight is None:
            total, count = wide.sum(axis=(0, 1)), float(wide.shape[0] * wide.shape[1])
        else:
            total, count = np.einsum("tbj,tb->j", wide, weight), float(weight.sum())
        self._sum, self._count = self._sum + total, self._count + count
        mean = self._sum / self._count if self._count else np.full(values.shape[2], self.regularizer.target)
        return np.broadcast_to(mean - self.regularizer.target, values.shape)


@dataclass(frozen=True)
class WeightNorm:
    """A loss on weights: `E = strength / 2 * (sum of squares)` of the parameters that a pattern names.

    Its gradient is `strength * w`. An optimizer's `weight_decay` is another thing where the optimizer rescales
    gradients, as Adam does: it is applied apart from them.

    Args:
        pattern: of names of parameters; `*` for all.
        strength: at least 0.

    Raises:
        DataError: if the pattern is no text, or the strength no such number.
    """

    pattern: str = "*"
    strength: float = 1e-4

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(f"weight norm: the pattern must be a text, got {show(self.pattern)}.")
        if not _is_number(self.strength) or self.strength < 0:
            raise DataError(f"weight norm: strength must be a finite number >= 0, got {show(self.strength)}.")
        object.__setattr__(self, "strength", float(self.strength))

    def names(self, parameters: Mapping[str, Any]) -> list[str]:
        """The parameters that it is on; raises `DataError` if there are none."""
        found = [name for name in parameters if fnmatchcase(name, self.pattern)]
        if not found:
            raise DataError(
                f"weight norm: {self.pattern!r} fits no trained parameter.", did_you_mean(self.pattern, parameters)
            )
        return found

    def loss(self, params: Mapping[str, Array], names: list[str]) -> float:
        """Its value."""
        squares = sum(float(np.sum(np.square(params[name], dtype=np.float64))) for name in names)
        return 0.5 * self.strength * squares


def with_means(graph: nx.MultiDiGraph[str], *nodes: str) -> tuple[nx.MultiDiGraph[str], dict[str, str]]:
    """The graph with an identity copy of each of these nodes, and the losses of the copies.

    The loss of a regularizer stands on a copy, since a loss on a node itself can change what rules see of it: a layer
    without explicit recurrence would become a leaky readout.

    Args:
        graph: a declared graph; it is not changed.
        nodes: whose mean activity is to be regularized.

    Returns:
        The new graph, and `{copy: "signal"}`, to be compiled with the losses of the outputs.

    Raises:
        GraphError: if there is no such node, or the name of a copy is taken.

    >>> import forwardgrad as fg
    >>> graph, losses = with_means(fg.load("elman"), "h")
    >>> losses
    {'h.mean': 'signal'}
    >>> program = fg.compile(graph, {"y": "mse"} | losses)
    """
    made = graph.copy()
    for node in nodes:
        if node not in graph:
            raise GraphError(f"mean activity: no node {node!r}.", did_you_mean(node, graph.nodes))
        if node + COPY in made:
            raise GraphError(f"mean activity of {node!r}: the graph has a node {node + COPY!r} already.")
        made.add_node(node + COPY, op="linear")
        made.add_edge(node, node + COPY)
    return made, {node + COPY: "signal" for node in nodes}


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))
