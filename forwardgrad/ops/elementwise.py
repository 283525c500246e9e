"""Which ops act on each unit alone?"""

from __future__ import annotations

from forwardgrad.ops.formula import Formula
from forwardgrad.ops.op import Op, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure

# Written with tanh, since exp(-x) overflows for large negative x.
_SIGMOID = Formula("0.5 + 0.5 * np.tanh(0.5 * x)")

# The tanh form of Hendrycks & Gimpel 2016, arXiv 1606.08415, since NumPy has no erf; 0.797... is sqrt(2 / pi).
_INNER = "np.tanh(0.7978845608028654 * (x + 0.044715 * x * np.square(x)))"
_GELU_SLOPE = (
    f"0.5 * (1.0 + {_INNER}) + 0.3989422804014327 * x * (1.0 - np.square({_INNER})) * (1.0 + 0.134145 * np.square(x))"
)


def _slope(text: str, vanishes: bool = False) -> Port:
    """The one port of an op, with the derivative by it, in terms of port `x` and value `y`."""
    return Port("in", Formula(text, "x, y"), vanishes=vanishes)


add(Op("input", value=Formula("x"), given=True, shape="plaintext"))
add(
    Op(
        "linear",
        value=Formula("x"),
        ports=(Port("in", Formula("1.0", "x, y"), Structure.SCALAR, constant=1.0),),
        shape="box",
    )
)
add(
    Op(
        "concat",
        value=Formula("x"),
        ports=(Port("in", Formula("1.0", "x, y"), Structure.SCALAR, constant=1.0),),
        joins=True,
        shape="box",
    )
)
add(
    Op(
        "one_minus",
        value=Formula("1 - x"),
        ports=(Port("in", Formula("-1.0", "x, y"), Structure.SCALAR, constant=-1.0),),
        shape="box",
    )
)
add(Op("tanh", value=Formula("np.tanh(x)"), ports=(_slope("1 - y * y"),)))
add(Op("sigmoid", value=_SIGMOID, ports=(_slope("y * (1 - y)"),)))
add(Op("relu", value=Formula("np.maximum(x, 0)"), ports=(_slope("np.sign(y)", vanishes=True),)))
add(Op("gelu", value=Formula(f"0.5 * x * (1.0 + {_INNER})"), ports=(_slope(_GELU_SLOPE),)))
# x sigmoid(x): Elfwing et al. 2018, arXiv 1702.03118.
_SILU_SLOPE = "0.5 + 0.5 * np.tanh(0.5 * x) + y * (0.5 - 0.5 * np.tanh(0.5 * x))"
add(Op("silu", value=Formula("x * (0.5 + 0.5 * np.tanh(0.5 * x))"), ports=(_slope(_SILU_SLOPE),)))
# Straight from x = -3 to x = 3, as in PyTorch and Keras 3; Courbariaux et al. 2015, arXiv 1511.00363, has -1 to 1.
_HARD = Formula("np.minimum(1.0, np.maximum(0.0, x / 6.0 + 0.5))")
add(Op("hard_sigmoid", value=_HARD, ports=(_slope("(np.abs(x) < 3.0).astype(x.dtype) / 6.0", vanishes=True),)))
add(Op("softplus", value=Formula("np.logaddexp(0, x)"), ports=(_slope("0.5 + 0.5 * np.tanh(0.5 * x)"),)))
add(Op("exp", value=Formula("np.exp(x)"), ports=(_slope("y"),)))
add(Op("sin", value=Formula("np.sin(x)"), ports=(_slope("np.cos(x)"),)))
add(Op("cos", value=Formula("np.cos(x)"), ports=(_slope("-np.sin(x)"),)))
add(Op("square", value=Formula("np.square(x)"), ports=(_slope("2 * x"),)))
add(Op("abs", value=Formula("np.abs(x)"), ports=(_slope("np.sign(x)"),)))
add(Op("log", value=Formula("np.log(x)"), ports=(_slope("1 / x"),), positive=True))
add(Op("sqrt", value=Formula("np.sqrt(x)"), ports=(_slope("0.5 / y"),), positive=True))
# Where both ports are equal, each gets half of the credit.
add(
    Op(
        "maximum",
        value=Formula("np.maximum(a, b)", "a, b"),
        ports=(
            Port("a", Formula("0.5 + 0.5 * np.sign(a - b)", "a, b, y"), vanishes=True),
            Port("b", Formula("0.5 + 0.5 * np.sign(b - a)", "a, b, y"), vanishes=True),
        ),
    )
)

# The value passes, the credit does not: the declared derivative is zero, by every rule.
add(
    Op(
        "stop",
        value=Formula("x"),
        ports=(Port("in", Formula("0.0", "x, y"), Structure.ZERO),),
        smooth=False,
        shape="Msquare",
    )
)
