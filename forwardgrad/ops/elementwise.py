"""Which ops act on each unit alone?"""

from __future__ import annotations

import numpy as np

from forwardgrad.ops.op import Array, Op, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure


def _sigmoid(x: Array) -> Array:
    # Written with tanh, since exp(-x) overflows for large negative x.
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _one(x: Array, y: Array) -> float:
    return 1.0


add(Op("input", value=lambda x: x, shape="plaintext"))
add(Op("linear", value=lambda x: x, ports=(Port("in", _one, Structure.SCALAR, constant=1.0),), shape="box"))
add(
    Op(
        "one_minus",
        value=lambda x: 1 - x,
        ports=(Port("in", lambda x, y: -1.0, Structure.SCALAR, constant=-1.0),),
        shape="box",
    )
)
add(Op("tanh", value=np.tanh, ports=(Port("in", lambda x, y: 1 - y * y),)))
add(Op("sigmoid", value=_sigmoid, ports=(Port("in", lambda x, y: y * (1 - y)),)))
add(Op("relu", value=lambda x: np.maximum(x, 0), ports=(Port("in", lambda x, y: x > 0),)))
add(Op("softplus", value=lambda x: np.logaddexp(0, x), ports=(Port("in", lambda x, y: _sigmoid(x)),)))
add(Op("exp", value=np.exp, ports=(Port("in", lambda x, y: y),)))
add(Op("sin", value=np.sin, ports=(Port("in", lambda x, y: np.cos(x)),)))
add(Op("square", value=np.square, ports=(Port("in", lambda x, y: 2 * x),)))

# The value passes, the credit does not: the declared derivative is zero, by every rule.
add(
    Op(
        "stop",
        value=lambda x: x,
        ports=(Port("in", lambda x, y: 0.0, Structure.ZERO),),
        smooth=False,
        shape="octagon",
    )
)
