"""How is a function of arrays written so that it can be called, and printed into generated source as well?"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import RLock
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Formula:
    """A function written as one NumPy expression, entry by entry: it takes arrays with any axes before the units.

    Args:
        text: the expression, in NumPy as `np`; or one per word of an option.
        arguments: what it takes, in order; the options of its op are known by their names beside these.
        by: the option whose word chooses the text.

    >>> Formula("np.tanh(x)")(np.zeros(2)).tolist()
    [0.0, 0.0]
    >>> Formula("1 - y * y", "x, y").printed(["h_in", "h[t + 1]"], {})
    '1 - h[t + 1] * h[t + 1]'
    """

    text: str | Mapping[str, str]
    arguments: str = "x"
    by: str = ""
    _functions: dict[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        word = str(options.get(self.by, ""))
        if word not in self._functions:
            names = ", ".join([*self.names, *(name for name in options if name.isidentifier())])
            self._functions[word] = eval(f"lambda {names}: {self._text(word)}", {"np": np})
        return self._functions[word](*arguments, **options)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the arguments."""
        return tuple(name.strip() for name in self.arguments.split(",") if name.strip())

    def _text(self, word: str) -> str:
        return self.text if isinstance(self.text, str) else self.text[word]

    def printed(self, arguments: Sequence[str], options: Mapping[str, str]) -> str:
        """The expression with other expressions in place of arguments and options; a choosing word as it is."""
        return substituted(
            self._text(options.get(self.by, "")), dict(zip(self.names, arguments, strict=True)) | dict(options)
        )

    def reads(self, options: Mapping[str, Any]) -> frozenset[str]:
        """The arguments that the expression reads."""
        tree = parsed(self._text(str(options.get(self.by, ""))))
        found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return frozenset(found & set(self.names))


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


_parsing = RLock()


def parsed(text: str) -> ast.expr:
    """The tree of an expression; raises `SyntaxError` and its like.

    One thread at a time: Python 3.11 fails where several threads parse (`AST constructor recursion depth mismatch`).
    """
    with _parsing:
        return ast.parse(text, mode="eval").body
