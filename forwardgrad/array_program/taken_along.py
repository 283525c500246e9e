"""Functions of users in a printed module: each is taken along as its text, under a name that nothing else has."""

from __future__ import annotations
import __future__ as future

import ast
import builtins
import dis
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from forwardgrad.ops.formula import tree
from forwardgrad.support.names import Names

_FUTURES = sum({getattr(future, name).compiler_flag for name in future.all_feature_names})


@dataclass(frozen=True)
class _Text:
    """The text of a function.

    Args:
        text: a `def`.
        name: the name that it defines.
        calls: the functions that it calls, by the names by which it knows them.
        numpy: the names by which it knows NumPy.
        words: all names in it.
    """

    text: str
    name: str
    calls: Mapping[str, FunctionType]
    numpy: frozenset[str]
    words: frozenset[str]

    def renamed(self, name: str, known: Mapping[str, str]) -> str:
        """The text with another name of its own, and other names for what it knows."""
        lines = [line.encode() for line in self.text.splitlines(keepends=True)]
        places = [node for node in ast.walk(tree(self.text, "exec")) if isinstance(node, ast.Name)]
        for node in sorted(places, key=lambda node: (node.lineno, node.col_offset), reverse=True):
            line, start, end = lines[node.lineno - 1], node.col_offset, node.col_offset + len(node.id.encode())
            lines[node.lineno - 1] = line[:start] + known.get(node.id, node.id).encode() + line[end:]
        return re.sub(r"^def\s+\w+", f"def {name}", b"".join(lines).decode(), count=1)


class Functions:
    """The functions that a module takes along.

    Args:
        names: the names that the module has already.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self.texts: dict[str, str] = {}

    def name(self, function: Any) -> str | None:
        """The name under which a function is in the module, with all that it calls; `None` if it has no text.

        A function has a text if it is a plain `def` that reads nothing but NumPy and functions like it.
        """
        found: dict[FunctionType, _Text] = {}
        if not _collect(function, found):
            return None
        words = frozenset[str]().union(*(text.words for text in found.values()))
        names = {each: self._names.own(text.name, words, each) for each, text in found.items()}
        for each, text in found.items():
            known = dict.fromkeys(text.numpy, "np") | {word: names[called] for word, called in text.calls.items()}
            self.texts.setdefault(names[each], text.renamed(names[each], known))
        return names[function]


def _collect(function: Any, found: dict[FunctionType, _Text]) -> bool:
    """Note the texts of a function and of all that it calls; whether each has one."""
    if function in found:
        return True
    text = _read(function)
    if text is None:
        return False
    found[function] = text
    return all(_collect(called, found) for called in text.calls.values())


def _read(function: Any) -> _Text | None:
    """The text of one function, if what it defines is that function and it runs in another module as well."""
    if not isinstance(function, FunctionType) or function.__closure__:
        return None
    try:
        text = textwrap.dedent(inspect.getsource(function.__code__))
        module = tree(text, "exec")
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    if len(module.body) != 1 or not isinstance(module.body[0], ast.FunctionDef) or module.body[0].decorator_list:
        return None
    declared = module.body[0]
    if not _defines(text, function) or not _same_defaults(declared, function):
        return None
    return _knowing(function, text, declared)


def _defines(text: str, function: FunctionType) -> bool:
    """Whether a text is that of a function: its file may have changed since, or the function never had one."""
    code, names = function.__code__, {name for each in _codes(function.__code__) for name in each.co_names}
    imported = "".join(f"import {name}\n" for name in names if function.__globals__.get(name) is np)
    for before in ("", imported):  # the compiler calls what a module imports by other instructions
        made = compile(before + text, "<text>", "exec", code.co_flags & _FUTURES, dont_inherit=True)
        if any(isinstance(c, CodeType) and _content(c) == _content(code) for c in made.co_consts):
            return True
    return False


def _knowing(function: FunctionType, text: str, declared: ast.FunctionDef) -> _Text | None:
    """The text with what it knows from outside, if that is NumPy, builtins and other functions."""
    calls: dict[str, FunctionType] = {}
    numpy: set[str] = set()
    inside: set[str] = set()
    for code in _codes(function.__code__):
        inside |= {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
        for step in dis.get_instructions(code):
            if step.opname in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
                return None
            if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME"):
                continue
            name = step.argval
            if name not in function.__globals__:
                if not hasattr(builtins, name):
                    return None
            elif function.__globals__[name] is np:
                numpy.add(name)
            elif isinstance(function.__globals__[name], FunctionType):
                calls[name] = function.__globals__[name]
            else:
                return None
    words = {node.id for node in ast.walk(declared) if isinstance(node, ast.Name)} | inside
    if inside & {*calls, *numpy} or (numpy - {"np"} and "np" in words - numpy):
        return None  # a name that means one thing here and another there
    return _Text(text, declared.name, calls, frozenset(numpy), frozenset(words))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of those inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _content(code: CodeType) -> tuple[Any, ...]:
    """What a function's code does, whatever its place."""
    constants: list[Any] = [_content(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    arguments = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars
    return code.co_code, constants, arguments, names


def _same_defaults(declared: ast.FunctionDef, function: FunctionType) -> bool:
    """Whether a function's default arguments are the literals that stand in its text."""
    given = {a.arg: d for a, d in zip(declared.args.kwonlyargs, declared.args.kw_defaults, strict=True) if d}
    try:
        plain = [ast.literal_eval(default) for default in declared.args.defaults]
        named = {name: ast.literal_eval(default) for name, default in given.items()}
    except ValueError:
        return False
    return repr((plain, named)) == repr((list(function.__defaults__ or ()), function.__kwdefaults__ or {}))
