"""Ops that scale a layer by its own size, and so mix its units: `layer_norm` and `rms_norm`.

A gain and a shift for each unit are a diagonal edge to a next node, and its bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.ops.op import Array, Op, Option, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure


def _layer_norm(x: Array, epsilon: Any) -> Array:
    return _rms_norm(x - x.mean(axis=-1, keepdims=True), epsilon)


def _layer_norm_jacobian(x: Array, y: Array, epsilon: Any) -> Array:
    # That of rms_norm at c = x - mean(x), times dc_k / dx_j = delta_kj - 1 / n.
    jacobian = _rms_norm_jacobian(x - x.mean(axis=-1, keepdims=True), y, epsilon)
    return jacobian - jacobian.mean(axis=2, keepdims=True)


def _rms_norm(x: Array, epsilon: Any) -> Array:
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon)


def _rms_norm_jacobian(x: Array, y: Array, epsilon: Any) -> Array:
    # y_i = x_i / s_i with s_i^2 = mean(x^2) + epsilon_i, so dy_i / dx_j = (delta_ij - y_i x_j / (n s_i)) / s_i.
    size = x.shape[1]
    s = np.broadcast_to(np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon), x.shape)[:, :, None]
    return (np.eye(size, dtype=x.dtype) - y[:, :, None] * x[:, None, :] / (size * s)) / s


# Added under the root, as in PyTorch, or else a layer of equal units would be divided by 0.
_EPSILON = {"epsilon": Option(1e-5, positive=True)}

# Ba et al. 2016, arXiv 1607.06450, equation 4.
add(
    Op(
        "layer_norm",
        value=_layer_norm,
        ports=(Port("in", _layer_norm_jacobian, Structure.FULL),),
        options=_EPSILON,
        shape="trapezium",
    )
)
# Zhang & Sennrich 2019, arXiv 1910.07467, equation 4.
add(
    Op(
        "rms_norm",
        value=_rms_norm,
        ports=(Port("in", _rms_norm_jacobian, Structure.FULL),),
        options=_EPSILON,
        shape="trapezium",
    )
)
