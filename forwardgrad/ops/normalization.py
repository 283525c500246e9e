"""Ops that scale a layer by its own size, and so mix its units: `softmax`, `layer_norm` and `rms_norm`.

Each serves the last axis of a node's shape at a time. A gain and a shift for each unit are a diagonal edge to a next
node, and its bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.ops.op import Array, Op, Option, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure


def _groups(x: Array, along: Any) -> Array:
    """Units `(rows, size)`, along the last axis of their shape: `(rows, groups, along)`."""
    return x.reshape(len(x), -1, int(along or x.shape[1]))


def _whole(blocks: Array) -> Array:
    """Jacobians of groups `(rows, groups, along, along)` as one `(rows, size, size)`, zero between groups."""
    rows, groups, length, _ = blocks.shape
    whole = np.zeros((rows, groups, length, groups, length), blocks.dtype)
    for group in range(groups):
        whole[:, group, :, group] = blocks[:, group]
    return whole.reshape(rows, groups * length, groups * length)


def _softmax(x: Array, along: Any = None) -> Array:
    x = _groups(x, along)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).reshape(len(x), -1)


def _softmax_jacobian(x: Array, y: Array, along: Any = None) -> Array:
    # dy_i / dx_j = y_i (delta_ij - y_j)
    y = _groups(y, along)
    return _whole(y[..., None] * (np.eye(y.shape[2], dtype=y.dtype) - y[..., None, :]))


def _centred(x: Array, along: Any) -> Array:
    x = _groups(x, along)
    return (x - x.mean(axis=-1, keepdims=True)).reshape(len(x), -1)


def _layer_norm(x: Array, epsilon: Any, along: Any = None) -> Array:
    return _rms_norm(_centred(x, along), epsilon, along)


def _layer_norm_jacobian(x: Array, y: Array, epsilon: Any, along: Any = None) -> Array:
    # That of rms_norm at c = x - mean(x), times dc_k / dx_j = delta_kj - 1 / n.
    blocks = _rms_norm_blocks(_centred(x, along), y, epsilon, along)
    return _whole(blocks - blocks.mean(axis=-1, keepdims=True))


def _root(x: Array, epsilon: Any, along: Any) -> Array:
    """By what each unit is divided, `(rows, groups, along)`."""
    square = np.square(_groups(x, along)).mean(axis=-1, keepdims=True)
    return np.sqrt(square + _groups(np.broadcast_to(np.asarray(epsilon, x.dtype), x.shape), along))


def _rms_norm(x: Array, epsilon: Any, along: Any = None) -> Array:
    return x / _root(x, epsilon, along).reshape(len(x), -1)


def _rms_norm_blocks(x: Array, y: Array, epsilon: Any, along: Any) -> Array:
    # y_i = x_i / s_i with s_i^2 = mean(x^2) + epsilon_i, so dy_i / dx_j = (delta_ij - y_i x_j / (n s_i)) / s_i.
    s = _root(x, epsilon, along)[..., None]
    x, y = _groups(x, along), _groups(y, along)
    size = x.shape[2]
    return (np.eye(size, dtype=x.dtype) - y[..., None] * x[..., None, :] / (size * s)) / s


def _rms_norm_jacobian(x: Array, y: Array, epsilon: Any, along: Any = None) -> Array:
    return _whole(_rms_norm_blocks(x, y, epsilon, along))


# Added under the root, as in PyTorch, or else a layer of equal units would be divided by 0.
_EPSILON = {"epsilon": Option(1e-5, positive=True)}

add(
    Op(
        "softmax",
        value=_softmax,
        ports=(Port("in", _softmax_jacobian, Structure.FULL),),
        along=True,
        shape="trapezium",
    )
)
# Ba et al. 2016, arXiv 1607.06450, equation 4.
add(
    Op(
        "layer_norm",
        value=_layer_norm,
        ports=(Port("in", _layer_norm_jacobian, Structure.FULL),),
        options=_EPSILON,
        along=True,
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
        along=True,
        shape="trapezium",
    )
)
