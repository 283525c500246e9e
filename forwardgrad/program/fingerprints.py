"""Digests of the users' functions that a program knows by name, so that another one is noticed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

import numpy as np

from forwardgrad import layouts, ops
from forwardgrad.ops import losses
from forwardgrad.ops.formula import tree
from forwardgrad.program.program import Program


def fingerprints(program: Program) -> dict[str, str]:
    """The ops, losses and layouts of a program that are not the library's own: by kind and name, a digest of each.

    A formula counts by its text, a function by its source without comments and docstring, and by the numbers, arrays
    and functions of its own package that it reads under their names; where there is no source, by its compiled code.
    What it reads through an object or another module does not count.
    """
    own: dict[str, Any] = {}
    for node in program.network.nodes.values():
        if ops.SHIPPED.get(node.op.name) is not node.op:
            own[f"op {node.op.name!r}"] = node.op
    for loss in program.losses.values():
        if losses.SHIPPED.get(loss.name) != loss:
            own[f"loss {loss.name!r}"] = loss
    for rule in program.chosen.values():
        layout, _ = layouts.get(rule.layout)
        if layout not in layouts.SHIPPED:
            own[f"layout {layout.name!r}"] = layout
    return {name: _Reader().digest(value) for name, value in sorted(own.items())}


def changed(before: Mapping[str, str], program: Program) -> list[str]:
    """What of a program is another function than it was, such as `op 'swish'`, sorted.

    Compiled code of another version of Python is not compared, since it differs for one and the same function.
    """
    now = fingerprints(program)
    differing = set(before.keys() ^ now.keys())
    for name in before.keys() & now.keys():
        (form, digest), (own_form, own_digest) = before[name].rsplit(" ", 1), now[name].rsplit(" ", 1)
        differing |= {name} if form == own_form and digest != own_digest else set()
    return sorted(differing)


class _Reader:
    """Puts what a value means into plain data."""

    def __init__(self) -> None:
        self.form = "text"
        self.seen: dict[int, int] = {}

    def digest(self, value: Any) -> str:
        """The digest of a value, after the form in which its functions were read."""
        read = json.dumps(self.read(value))
        return f"{self.form} {hashlib.sha256(read.encode()).hexdigest()}"

    def read(self, value: Any) -> Any:
        if id(value) in self.seen and isinstance(value, FunctionType):
            return ["again", self.seen[id(value)]]
        if isinstance(value, FunctionType):
            self.seen[id(value)] = len(self.seen)
            return self.function(value)
        if isinstance(value, MethodType):
            return [self.read(value.__func__), self.read(value.__self__)]
        if isinstance(value, partial):
            made = cast("partial[Any]", value)
            return ["partial", self.read(made.func), self.read(made.args), self.read(made.keywords)]
        if is_dataclass(value) and not isinstance(value, type):
            return [
                type(value).__qualname__,
                {each.name: self.read(getattr(value, each.name)) for each in fields(value)},
            ]
        if isinstance(value, np.ndarray):
            return [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        if isinstance(value, Mapping):
            return [[repr(key), self.read(each)] for key, each in cast("Mapping[Any, Any]", value).items()]
        if isinstance(value, list | tuple):
            return [self.read(each) for each in cast("list[Any]", value)]
        if value is None or isinstance(value, str | bool | int | float | complex | np.generic):
            return repr(value)
        return [getattr(value, "__qualname__", None) or type(value).__qualname__]

    def function(self, function: FunctionType) -> Any:
        reads: dict[str, Any] = {}
        try:
            known = inspect.getclosurevars(function)
            reads = {**known.globals, **known.nonlocals}
        except ValueError:  # a variable that has no value yet
            pass
        package = (function.__module__ or "").split(".")[0]
        inner = {name: self.read(each) for name, each in sorted(reads.items()) if not _foreign(each, package)}
        defaults = self.read([function.__defaults__, function.__kwdefaults__])
        return [_source(function) or self.compiled(function), defaults, inner]

    def compiled(self, function: FunctionType) -> Any:
        self.form = f"code of Python {sys.version_info.major}.{sys.version_info.minor}"
        return _code(function.__code__)


def _foreign(value: Any, package: str) -> bool:
    """Whether a value is a function of another package, whose text may change with its version."""
    return isinstance(value, FunctionType) and (value.__module__ or "").split(".")[0] != package


def _source(function: FunctionType) -> list[str] | None:
    """The tree of a function's text, without names of its own and docstrings; `None` if it cannot be read."""
    try:
        module = tree(textwrap.dedent(inspect.getsource(function)), "exec")
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    if function.__name__ == "<lambda>":
        return [ast.dump(node) for node in ast.walk(module) if isinstance(node, ast.Lambda)] or None
    if len(module.body) != 1 or not isinstance(module.body[0], ast.FunctionDef):
        return None
    declared = module.body[0]
    if ast.get_docstring(declared) is not None:
        declared.body = declared.body[1:]
    declared.name = ""
    return [ast.dump(declared)]


def _code(code: CodeType) -> list[Any]:
    constants = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]
