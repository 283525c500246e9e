"""Formulas: functions of arrays, written as one NumPy expression, from which every backend makes its own text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import RLock
from types import CodeType
from typing import Any

import numpy as np

from forwardgrad.errors import OpError
from forwardgrad.support.forking import in_child


class Printable:
    """A function of arrays that generated source takes up as an expression."""

    def printed(
        self,
        arguments: Sequence[str | None],
        options: Mapping[str, Any],
        written: Callable[[str, Any], str] = lambda _, value: repr(value),
    ) -> str:
        """The expression, with other expressions in place of arguments and options.

        Args:
            arguments: in order; `None` for one that the expression does not read.
            options: the options of a node, complete.
            written: how an option of this name and value is written.

        Raises:
            LookupError: if it reads an argument that is `None`.
        """
        raise NotImplementedError

    def reads(self, count: int, options: Mapping[str, Any]) -> frozenset[int]:
        """The places of the arguments that are read, of `count` in all."""
        raise NotImplementedError

    def keeps(self, options: Mapping[str, Any]) -> bool:
        """Whether it always gives an array of its arguments' shape and type."""
        raise NotImplementedError


@dataclass(frozen=True)
class Formula(Printable):
    """A function written as one NumPy expression, entry by entry: it takes arrays with any axes before the units.

    `group.sum(x)`, `group.mean(x)` and `group.max(x)` are the sum, the mean and the maximum over the units of a node,
    or with `Op.along` over those along the last axis of its shape. Each unit gets that of its group.

    Args:
        text: the expression, in NumPy as `np`; or one per word of an option.
        arguments: what it takes, in order; the options of its op are known by their names beside these.
        by: the option whose word chooses the text.

    >>> Formula("np.tanh(x)")(np.zeros(2)).tolist()
    [0.0, 0.0]
    >>> Formula("x / group.sum(x)")(np.array([1.0, 3.0])).tolist()
    [0.25, 0.75]
    >>> Formula("1 - y * y", "x, y").printed([None, "h[t + 1]"], {})
    '1 - h[t + 1] * h[t + 1]'
    """

    text: str | Mapping[str, str]
    arguments: str = "x"
    by: str = ""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        names = {**options, **self._bound(arguments), "np": np, "group": Group(options.get("along"))}
        return eval(_code(self.text_for(options)), names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the arguments."""
        return tuple(name.strip() for name in self.arguments.split(",") if name.strip())

    def text_for(self, options: Mapping[str, Any]) -> str:
        """The text that these options choose."""
        text = self.text if isinstance(self.text, str) else self.text[str(options.get(self.by, ""))]
        return f"(\n{text}\n)" if "\n" in text else text.strip()

    def _bound(self, arguments: Sequence[Any]) -> dict[str, Any]:
        if len(arguments) != len(self.names):
            raise OpError(
                f"formula {self.text!r}: takes {len(self.names)} arguments ({self.arguments}), got {len(arguments)}."
            )
        return dict(zip(self.names, arguments, strict=True))

    def printed(
        self,
        arguments: Sequence[str | None],
        options: Mapping[str, Any],
        written: Callable[[str, Any], str] = lambda _, value: repr(value),
    ) -> str:
        text, given = self.text_for(options), self._bound(arguments)
        expressions = {name: written(name, options[name]) for name in free_names(text) & options.keys()}
        for name in free_names(text) & given.keys():
            expression = given[name]
            if expression is None:
                raise LookupError(f"formula {text!r} reads {name!r}, which is not there.")
            expressions[name] = expression
        return substituted(text, expressions)

    def reads(self, count: int, options: Mapping[str, Any]) -> frozenset[int]:
        names = free_names(self.text_for(options))
        return frozenset(place for place, name in enumerate(self.names) if name in names)

    def keeps(self, options: Mapping[str, Any]) -> bool:
        given = tuple((name, value if isinstance(value, str) else 0.5) for name, value in options.items())
        return _keeps(self.text_for(options), self.names, given)


@dataclass(frozen=True)
class Group:
    """What formulas know as `group`: sums, means and maxima over the units of a group, of which each unit gets its own.

    Args:
        along: how many units, one behind the other, are a group; all of them where it is `None`.
    """

    along: int | None = None

    def sum(self, x: Any) -> Any:
        """The sum over the units of each group."""
        return self._over(np.sum, x)

    def mean(self, x: Any) -> Any:
        """The mean over the units of each group."""
        return self._over(np.mean, x)

    def max(self, x: Any) -> Any:
        """The maximum over the units of each group."""
        return self._over(np.max, x)

    def _over(self, function: Callable[..., Any], x: Any) -> Any:
        """A function of the units of each group, for every unit."""
        array = np.asarray(x)
        groups = array.reshape(*array.shape[:-1], -1, self.along or array.shape[-1])
        return np.broadcast_to(function(groups, axis=-1, keepdims=True), groups.shape).reshape(array.shape)


@dataclass(frozen=True)
class VJP:
    """A derivative between units (`full`), as the vector-Jacobian product that it is: a formula for `b' J`.

    It stands where a derivative does, and called as one it gives the Jacobian, a row for each unit.

    Args:
        text: the product as a `Formula`, entry by entry.
        arguments: the ports, the value, and last the adjoint, the derivative of a loss by the value.

    >>> VJP("y * (b - group.sum(y * b))", "x, y, b")(np.zeros((1, 2)), np.full((1, 2), 0.5)).tolist()
    [[[0.25, -0.25], [-0.25, 0.25]]]
    """

    text: str
    arguments: str

    @cached_property
    def formula(self) -> Formula:
        """The product, as a function of ports, value and adjoint."""
        return Formula(self.text, self.arguments)

    def __call__(self, *ports_and_value: Any, **options: Any) -> Any:
        size = ports_and_value[-1].shape[-1]
        units = np.eye(size, dtype=ports_and_value[-1].dtype)
        rows = [array[:, None, :] for array in ports_and_value]
        made = np.asarray(self.formula(*rows, units, **options))
        return np.broadcast_to(made, (len(rows[-1]), size, size))


def substituted(text: str, expressions: Mapping[str, str]) -> str:
    """An expression with expressions in place of names."""
    if all(_ATOM.fullmatch(expression) for expression in expressions.values()):  # none of them needs brackets
        parts = _parts(text, frozenset(expressions))
        return "".join(expressions[part] if at % 2 else part for at, part in enumerate(parts))
    return ast.unparse(_Put({name: parsed(expression) for name, expression in expressions.items()}).visit(parsed(text)))


_ATOM = re.compile(r"[A-Za-z_]\w*(\[(t|t [+-] \d+|\d+|\d+:)\])?|\d+\.\d+", re.ASCII)


class _Put(ast.NodeTransformer):
    """Puts expressions in place of names."""

    def __init__(self, expressions: Mapping[str, ast.expr]) -> None:
        self.expressions = expressions

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.expressions.get(node.id, node)


@lru_cache(2**10)
def _parts(text: str, names: frozenset[str]) -> list[str]:
    """An expression as it is printed, in parts; every second one is one of the names."""
    marks = {name: f"_{number}_in_place_of_a_name_" for number, name in enumerate(sorted(names))}
    printed = ast.unparse(_Put({name: ast.Name(mark) for name, mark in marks.items()}).visit(parsed(text)))
    found = {mark: name for name, mark in marks.items()}
    pieces = re.split(r"(\b_\d+_in_place_of_a_name_\b)", printed)
    return [found[piece] if at % 2 else piece for at, piece in enumerate(pieces)]


@lru_cache(4096)
def free_names(text: str) -> frozenset[str]:
    """The names that an expression reads."""
    return frozenset(node.id for node in ast.walk(parsed(text)) if isinstance(node, ast.Name))


@lru_cache(4096)
def _code(text: str) -> CodeType:
    return compile(text, "<formula>", "eval")


@lru_cache(4096)
def _keeps(text: str, names: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> bool:
    """Whether an expression gives arrays shaped and typed as what it is given: it is tried, in either precision."""
    for dtype in (np.float32, np.float64):
        given = np.full((2, 3), 0.5, dtype)
        try:
            with np.errstate(all="ignore"):
                known = {**dict(options), **dict.fromkeys(names, given), "np": np, "group": Group()}
                made = eval(_code(text), known)
        except Exception:  # it needs a certain size, say, and tells when it runs
            return False
        if not isinstance(made, np.ndarray) or made.dtype != dtype or made.shape != given.shape:
            return False
    return True


_parsing = RLock()


def _renew() -> None:
    global _parsing
    _parsing = RLock()


in_child(_renew)


def tree(text: str, mode: str) -> Any:
    """The tree of a text, of mode `eval` or `exec`; raises `SyntaxError` and its like.

    One thread at a time: Python 3.11 fails where several threads parse (`AST constructor recursion depth mismatch`).
    """
    with _parsing:
        return ast.parse(text, mode=mode)


def parsed(text: str) -> ast.expr:
    """The tree of an expression; raises `SyntaxError` and its like."""
    return tree(text, "eval").body
