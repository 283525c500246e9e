"""How does an edge's weight act on values, and its transpose on adjoints? One row per weight kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.graph import Edge, Network
from forwardgrad.ops import Array


@dataclass(frozen=True)
class Action:
    """What a weight does.

    Args:
        forward: `forward(w, x)` for values `(..., source)`, giving `(..., target)`.
        transposed: `transposed(w, b)` for adjoints `(..., target)`, giving `(..., source)`.
    """

    forward: Callable[[Any, Array], Array]
    transposed: Callable[[Any, Array], Array]


_IDENTITY = Action(lambda w, x: x, lambda w, b: b)
_ELEMENTWISE = Action(lambda w, x: w * x, lambda w, b: b * w)
_MATRIX = Action(lambda w, x: x @ w.T, lambda w, b: b @ w)

ACTIONS: Mapping[str, Action] = {
    "identity": _IDENTITY,
    "scalar": _ELEMENTWISE,
    "diagonal": _ELEMENTWISE,
    "dense": _MATRIX,
    "sparse": _MATRIX,
}
"""By weight kind; a sparse weight acts as the matrix that `arrays` makes of it."""


def arrays(network: Network, params: Mapping[str, Array], dtype: Any) -> dict[str, Any]:
    """The array of every edge's weight, by edge name; `None` for an identity."""
    return {edge.name: _array(edge, params, dtype) for edge in network.edges.values()}


def _array(edge: Edge, params: Mapping[str, Array], dtype: Any) -> Any:
    given = params[edge.param] if edge.param is not None else edge.value
    if given is None:
        return None
    array = np.asarray(given, dtype=dtype)
    if edge.pattern is None:
        return array
    matrix = np.zeros(edge.pattern.shape, dtype=dtype)
    matrix[edge.pattern.rows, edge.pattern.columns] = array
    return matrix
