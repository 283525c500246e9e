"""Formulas: functions of arrays, written as one NumPy expression, which generated source takes up as it is."""

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

    Args:
        text: the expression, in NumPy as `np`; or one per word of an option.
        arguments: what it takes, in order; the options of its op are known by their names beside these.
        by: the option whose word chooses the text.

    >>> Formula("np.tanh(x)")(np.zeros(2)).tolist()
    [0.0, 0.0]
    >>> Formula("1 - y * y", "x, y").printed([None, "h[t + 1]"], {})
    '1 - h[t + 1] * h[t + 1]'
    """

    text: str | Mapping[str, str]
    arguments: str = "x"
    by: str = ""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return eval(_code(self.text_for(options)), {**options, **self._bound(arguments), "np": np})

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
                made = eval(_code(text), {**dict(options), **dict.fromkeys(names, given), "np": np})
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
