"""How does an edge's weight act on values, and what stands in its place on adjoints? One row per kind of factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forwardgrad.compiler.factors import WEIGHT, Factor, feedback_name, weight_shape
from forwardgrad.graph import Edge, Network
from forwardgrad.ops import Array
from forwardgrad.support.blas import matmul

ELEMENTWISE = frozenset({"scalar", "diagonal"})
"""Weight kinds whose array multiplies entry by entry; `identity` has none, the others are matrices."""


def apply(edge: Edge, weight: Any, x: Array) -> Array:
    """An edge's weight times values `(..., source)`: `(..., target)`."""
    if edge.kind == "identity":
        return x
    return weight * x if edge.kind in ELEMENTWISE else matmul(x, weight.T)


def pull(elementwise: bool, factor: Any, b: Array) -> Array:
    """A factor's transpose times adjoints `(..., target)`: `(..., source)`; `None` is the identity."""
    if factor is None:
        return b
    return b * factor if elementwise else matmul(b, factor)


def is_elementwise(edge: Edge, factor: Factor) -> bool:
    """Whether a factor multiplies entry by entry."""
    return factor.numeric or factor.kind == "diagonal" or edge.kind in ELEMENTWISE or edge.kind == "identity"


class Weights:
    """The arrays of a block's weights, and of what rules put in their place, each made when it is first asked for.

    Args:
        network: the validated graph.
        params: parameters, and matrices of adaptive feedback, by name.
        dtype: of the arrays.
    """

    def __init__(self, network: Network, params: Mapping[str, Array], dtype: Any) -> None:
        self.network, self.params, self.dtype = network, params, dtype
        self._made: dict[tuple[str, Factor], Any] = {}

    def of(self, edge: Edge, factor: Factor = WEIGHT) -> Any:
        """The array of a factor on an edge: a number, `(size,)`, `(target, source)`; `None` for an identity."""
        key = (edge.name, factor)
        if key not in self._made:
            self._made[key] = _MAKE[factor.kind](self, edge, factor)
        return self._made[key]

    def matrix(self, edge: Edge, array: Any) -> Any:
        """A sparse weight's array as a matrix; any other as it is."""
        array = None if array is None else np.asarray(array, dtype=self.dtype)
        if edge.pattern is None or array is None:
            return array
        matrix = np.zeros(edge.pattern.shape, dtype=self.dtype)
        matrix[edge.pattern.rows, edge.pattern.columns] = edge.pattern.expand(array)
        return matrix


def _weight(weights: Weights, edge: Edge, factor: Factor) -> Any:
    return weights.matrix(edge, weights.params[edge.param] if edge.param is not None else edge.value)


def _diagonal(weights: Weights, edge: Edge, factor: Factor) -> Any:
    return np.diagonal(weights.of(edge))


def _rest(weights: Weights, edge: Edge, factor: Factor) -> Any:
    matrix = weights.of(edge).copy()
    np.fill_diagonal(matrix, 0)
    return matrix


def _drawn(weights: Weights, edge: Edge, factor: Factor) -> Any:
    return weights.matrix(edge, factor.matrix(edge, weight_shape(weights.network, edge)))


def _adaptive(weights: Weights, edge: Edge, factor: Factor) -> Any:
    return weights.matrix(edge, weights.params[feedback_name(edge.name)])


def _numbers(weights: Weights, edge: Edge, factor: Factor) -> Any:
    values = np.asarray(factor.values, dtype=weights.dtype)
    return values if len(values) > 1 else values[0]


_MAKE: Mapping[str, Callable[[Weights, Edge, Factor], Any]] = {
    "weight": _weight,
    "diagonal": _diagonal,
    "rest": _rest,
    "random": _drawn,
    "fixed": _drawn,
    "adaptive": _adaptive,
    "constant": _numbers,
    "leak": _numbers,
}
