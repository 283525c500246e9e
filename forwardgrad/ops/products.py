"""Which ops multiply or mix units? `mul`, the product of its ports, and `softmax`, whose Jacobian is full."""

from __future__ import annotations

from functools import reduce

import numpy as np

from forwardgrad.ops.op import Array, Op, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure


def _product(*factors: Array) -> Array:
    return reduce(np.multiply, factors)


def _factor(index: int) -> Port:
    """The port at one place of a product: its derivative is the product of the others."""

    def others(*ports_and_value: Array) -> Array:
        ports = ports_and_value[:-1]
        return _product(*ports[:index], *ports[index + 1 :])

    return Port("", others)


add(Op("mul", value=_product, each_port=_factor, least_ports=2, shape="circle"))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_jacobian(x: Array, y: Array) -> Array:
    # dy_i / dx_j = y_i (delta_ij - y_j)
    return y[:, :, None] * (np.eye(y.shape[1], dtype=y.dtype) - y[:, None, :])


add(Op("softmax", value=_softmax, ports=(Port("in", _softmax_jacobian, Structure.FULL),), shape="hexagon"))
