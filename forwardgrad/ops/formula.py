"""How is a function of arrays written so that it can be called, and printed into generated source as well?"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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

    class Put(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return parsed(expressions[node.id]) if node.id in expressions else node

    return ast.unparse(Put().visit(parsed(text)))


_parsing = RLock()


def parsed(text: str) -> ast.expr:
    """The tree of an expression; raises `SyntaxError` and its like.

    One thread at a time: Python 3.11 fails where several threads parse (`AST constructor recursion depth mismatch`).
    """
    with _parsing:
        return ast.parse(text, mode="eval").body
