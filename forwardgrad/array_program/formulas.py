"""Formulas: the NumPy text of an op's value or derivative, read as an expression tree."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from forwardgrad.array_program.expressions import FUNCTIONS, GROUPED, Argument, Number, Tree, apply
from forwardgrad.errors import OpError
from forwardgrad.graph import Node
from forwardgrad.ops.formula import VJP, Printable, parsed

_BINARY: Mapping[type[ast.AST], str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"},
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="},
}


def read(text: str, names: Sequence[str]) -> Tree:
    """The tree of a formula; its arguments are known by names.

    Raises:
        OpError: if a word is not in the vocabulary.

    >>> read("1 - y * y", ["x", "y"])  # doctest: +ELLIPSIS
    Apply(word='-', operands=(Number(value=1), Apply(word='*', ...
    """
    return _tree(parsed(text), {name: place for place, name in enumerate(names)})


def _tree(node: ast.expr, places: Mapping[str, int]) -> Tree:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Number(number)
        case ast.Name(id=name) if name in places:
            return Argument(places[name])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return apply(_BINARY[type(op)], _tree(left, places), _tree(right, places))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _BINARY:
            return apply(_BINARY[type(op)], _tree(left, places), _tree(right, places))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return Number(-number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return apply("negate", _tree(operand, places))
        case ast.Call(func=ast.Attribute(value=test, attr="astype"), args=[ast.Attribute(attr="dtype")], keywords=[]):
            return apply("indicator", _tree(test, places))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np"), attr=word), args=operands, keywords=[]) if (
            FUNCTIONS.get(word) == len(operands)
        ):
            return apply(word, *(_tree(operand, places) for operand in operands))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="group"), attr=word), args=[operand], keywords=[]) if (
            f"group_{word}" in GROUPED
        ):
            return apply(f"group_{word}", _tree(operand, places))
        case _:
            raise OpError(
                f"formula: {ast.unparse(node)!r} is not in the vocabulary.",
                f"Known are numbers, arguments, + - * / **, comparisons, np.{', np.'.join(sorted(FUNCTIONS))}, "
                "and group.max, group.mean, group.sum.",
            )


def formula(node: Node, function: Any, count: int) -> Tree | None:
    """The tree of an op's value or derivative; `None` where it can only be called.

    That is a Python function, or a formula with a word of NumPy that is not in the vocabulary. A `VJP` has the adjoint
    as one more argument. Options that are arrays are the last arguments, in the order of `option_arrays`.

    Args:
        node: the node.
        function: `Op.value`, or the derivative by a port.
        count: how many arrays it is given: those of the ports, and for a derivative the value.
    """
    if isinstance(function, VJP):
        return formula(node, function.formula, count + 1)
    if not isinstance(function, Printable):
        return None
    names, arrays = [f"array_{place}" for place in range(count)], option_arrays(node)

    def written(name: str, value: Any) -> str:
        return name if name in arrays else repr(value if isinstance(value, str) else float(value))

    try:
        return read(function.printed(names, node.options, written), [*names, *arrays])
    except OpError:
        return None


def option_arrays(node: Node) -> list[str]:
    """The options of a node that are arrays, with one number per unit."""
    return [name for name, value in node.options.items() if getattr(value, "ndim", 0)]
