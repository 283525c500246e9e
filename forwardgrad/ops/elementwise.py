"""Which ops act on each unit alone?"""

from __future__ import annotations

from forwardgrad.ops.formula import Formula
from forwardgrad.ops.op import Op, Port
from forwardgrad.ops.registry import add
from forwardgrad.structure import Structure

# Written with tanh, since exp(-x) overflows for large negative x.
_SIGMOID = Formula("0.5 + 0.5 * np.tanh(0.5 * x)")


def _slope(text: str) -> Port:
    """The one port of an op, with the derivative by it, in terms of port `x` and value `y`."""
    return Port("in", Formula(text, "x, y"))


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
        "one_minus",
        value=Formula("1 - x"),
        ports=(Port("in", Formula("-1.0", "x, y"), Structure.SCALAR, constant=-1.0),),
        shape="box",
    )
)
add(Op("tanh", value=Formula("np.tanh(x)"), ports=(_slope("1 - y * y"),)))
add(Op("sigmoid", value=_SIGMOID, ports=(_slope("y * (1 - y)"),)))
add(Op("relu", value=Formula("np.maximum(x, 0)"), ports=(_slope("np.sign(y)"),)))
add(Op("softplus", value=Formula("np.logaddexp(0, x)"), ports=(_slope("0.5 + 0.5 * np.tanh(0.5 * x)"),)))
add(Op("exp", value=Formula("np.exp(x)"), ports=(_slope("y"),)))
add(Op("sin", value=Formula("np.sin(x)"), ports=(_slope("np.cos(x)"),)))
add(Op("square", value=Formula("np.square(x)"), ports=(_slope("2 * x"),)))

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
