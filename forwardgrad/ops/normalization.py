"""Ops that scale a layer by its own size, and so mix its units: `softmax`, `layer_norm` and `rms_norm`.

Each serves the last axis of a node's shape at a time. A gain and a shift for each unit are a diagonal edge to a next
node, and its bias.
"""

from __future__ import annotations

from forwardgrad.ops.formula import VJP, Formula
from forwardgrad.ops.op import Op, Option, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure

# Added under the root, as in PyTorch, or else a layer of equal units would be divided by 0.
_EPSILON = {"epsilon": Option(1e-5, positive=True)}

add(
    Op(
        "softmax",
        value=Formula("np.exp(x - group.max(x)) / group.sum(np.exp(x - group.max(x)))"),
        # dy_i / dx_j = y_i (delta_ij - y_j)
        ports=(Port("in", VJP("y * (b - group.sum(b * y))", "x, y, b"), Structure.FULL),),
        along=True,
        shape="trapezium",
    )
)
# Zhang & Sennrich 2019, arXiv 1910.07467, equation 4: y_i = x_i / s_i with s_i^2 = mean(x^2) + epsilon_i, where epsilon
# may differ between units. So dy_i / dx_j = (delta_ij - y_i x_j / (n s_i)) / s_i.
_ROOT = "np.sqrt(group.mean(np.square(x)) + epsilon)"
add(
    Op(
        "rms_norm",
        value=Formula(f"x / {_ROOT}"),
        ports=(Port("in", VJP(f"b / {_ROOT} - x * group.mean(b * y / {_ROOT} / {_ROOT})", "x, y, b"), Structure.FULL),),
        options=_EPSILON,
        along=True,
        shape="trapezium",
    )
)
# Ba et al. 2016, arXiv 1607.06450, equation 4: rms_norm at c = x - mean(x), and dc_k / dx_j = delta_kj - 1 / n.
_DEVIATION = "np.sqrt(group.mean(np.square(x - group.mean(x))) + epsilon)"
_BY_CENTRED = f"b / {_DEVIATION} - (x - group.mean(x)) * group.mean(b * y / {_DEVIATION} / {_DEVIATION})"
add(
    Op(
        "layer_norm",
        value=Formula(f"(x - group.mean(x)) / {_DEVIATION}"),
        ports=(Port("in", VJP(f"{_BY_CENTRED} - group.mean(b / {_DEVIATION})", "x, y, b"), Structure.FULL),),
        options=_EPSILON,
        along=True,
        shape="trapezium",
    )
)
