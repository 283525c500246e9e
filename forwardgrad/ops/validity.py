"""What is checked when an op is registered: that its functions can be called as ops are called."""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from forwardgrad.errors import OpError, did_you_mean
from forwardgrad.ops.formula import VJP, Formula, Group, free_names, parsed
from forwardgrad.ops.op import Op
from forwardgrad.structure import Structure

_BINDING = (ast.Lambda, ast.NamedExpr, ast.comprehension)
"""What gives names to values inside an expression, which would hide the names of generated source."""

_KNOWN = frozenset({"np", "group"})
"""What every formula knows besides arguments and options."""

TAKEN = frozenset({"op", "size", "bias", "bias_port", "bias_trainable", "initial", "layer"}) | frozenset(
    {"label", "color", "fillcolor", "fontcolor", "shape", "style", "tooltip"}
)
"""Node attributes that mean something else, so that no option can have their names."""


def check(op: Op) -> None:
    """Check the functions of an op.

    Raises:
        OpError: naming the function, what it was expected to take, and a way out.
    """
    names = [port.name for port in op.ports]
    if len(set(names)) != len(names):
        raise OpError(f"op {op.name!r}: two ports have one name: {', '.join(names)}.")
    for option in op.options:
        if not isinstance(option, str) or not option.isidentifier() or keyword.iskeyword(option):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OpError(f"op {op.name!r}: the name of an option is letters, digits and underscores, got {option!r}.")
        if option in TAKEN:
            raise OpError(
                f"op {op.name!r}: an option cannot be called {option!r}, which is an attribute of every node."
            )
    expected = [*names] if names else None  # how many ports `mul` gets, and that `input` gets none, says the graph
    _check_function(op, "value", op.value, expected, rows=True)
    for port in op.ports:
        what, alike = f"the derivative by port {port.name!r}", port.structure is Structure.DIAGONAL
        _check_function(op, what, port.derivative, [*names, "the value"], alike)


def _check_function(op: Op, what: str, function: Any, expected: Sequence[str] | None, rows: bool) -> None:
    if isinstance(function, VJP):
        given = None if expected is None else [*expected, "the adjoint"]
        _check_formula(op, what, function.formula, given, rows=True)
    elif isinstance(function, Formula):
        _check_formula(op, what, function, expected, rows)
    elif not callable(function):
        hint = f"Write Formula({function!r}, ...) for an expression." if isinstance(function, str) else ""
        raise OpError(f"op {op.name!r}: {what} must be a function or a Formula, got {function!r}.", hint)
    elif expected is not None:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # written in C, say: it tells nothing of what it takes
            return
        try:
            signature.bind(*expected, **dict.fromkeys(op.options))
        except TypeError as error:
            raise OpError(
                f"op {op.name!r}: {what} cannot be called as an op is: {error}.", _expectation(expected, op.options)
            ) from None


def _expectation(expected: Sequence[str], options: Mapping[str, Any]) -> str:
    named = f"; by name the options {', '.join(options)}" if options else ""
    plural = "argument" if len(expected) == 1 else "arguments"
    return f"It gets {len(expected)} {plural} in order: {', '.join(expected)}{named}."


def _check_formula(op: Op, what: str, formula: Formula, expected: Sequence[str] | None, rows: bool) -> None:
    place = f"op {op.name!r}: {what}, a formula,"
    for name in formula.names:
        if not name.isidentifier() or keyword.iskeyword(name) or name in _KNOWN:
            raise OpError(f"{place} has an argument {name!r}.", "An argument is a name other than np and group.")
        if name in op.options:
            raise OpError(f"{place} has an argument and an option called {name!r}.", "Rename the argument.")
    if len(set(formula.names)) != len(formula.names):
        raise OpError(f"{place} has two arguments of one name: {formula.arguments}.")
    if expected is not None and len(formula.names) != len(expected):
        names = formula.arguments or "none"
        example = ", ".join([*(f"x{i}" for i in range(1, len(expected))), "y"] if len(expected) > 1 else ["x"])
        raise OpError(
            f"{place} takes {len(formula.names)} arguments ({names}); expected {len(expected)}.",
            _expectation(expected, {}),
            f"Write Formula(text, {example!r}), with any names.",
        )
    for word, text in _texts(op, place, formula).items():
        _check_names(place, text, {*formula.names, *op.options})
        if rows and expected is not None:
            _check_axes(place, formula, len(expected), {name: o.default for name, o in op.options.items()} | word)


class _Word(dict[str, str]):
    """The option that chooses a text, with its word; none for a formula of one text."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def _texts(op: Op, place: str, formula: Formula) -> dict[_Word, str]:
    """The texts of a formula, by what chooses them."""
    if isinstance(formula.text, str):
        return {_Word(): formula.text_for({})}
    choices = op.options[formula.by].choices if formula.by in op.options else ()
    if not choices:
        words = [name for name, option in op.options.items() if option.choices]
        raise OpError(
            f"{place} has a text per word of {formula.by!r}, which is not an option with choices.",
            f"Give by= the name of such an option: {', '.join(words) or 'there is none yet'}.",
        )
    for word in choices:
        if word not in formula.text:
            raise OpError(f"{place} has no text for {formula.by}={word!r}.", did_you_mean(word, formula.text))
    return {_Word({formula.by: word}): formula.text_for({formula.by: word}) for word in choices}


def _check_names(place: str, text: str, known: set[str]) -> None:
    """Check that an expression reads and binds nothing that it should not."""
    try:
        expression = parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise OpError(f"{place} is not an expression: {text!r}.", f"{type(error).__name__}: {error}") from None
    for node in ast.walk(expression):
        if isinstance(node, _BINDING):
            raise OpError(f"{place} gives a name to a value: {text!r}.", "Write a function (def) instead.")
        if isinstance(node, ast.Attribute):
            _check_attribute(place, node)
    for name in sorted(free_names(text) - known - _KNOWN - set(dir(builtins))):
        raise OpError(
            f"{place} reads {name!r}, which is not known there: {text!r}.",
            did_you_mean(name, known | _KNOWN),
        )


def _check_attribute(place: str, node: ast.Attribute) -> None:
    """Check that NumPy has what an expression reads of it."""
    path, inner = [node.attr], node.value
    while isinstance(inner, ast.Attribute):
        path.insert(0, inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name) or inner.id not in _KNOWN:
        return
    found: Any = np if inner.id == "np" else Group
    for name in path:
        if not hasattr(found, name):
            whose = "NumPy" if inner.id == "np" else "a group"
            raise OpError(
                f"{place} reads {inner.id}.{'.'.join(path)}, which {whose} has not.", did_you_mean(name, dir(found))
            )
        found = getattr(found, name)


def _check_axes(place: str, formula: Formula, count: int, options: Mapping[str, Any]) -> None:
    """Check that an expression does the same to `(steps, batch, size)` as to each row of it: it is tried on either."""
    random = np.random.default_rng(0)
    given = [random.uniform(0.1, 0.9, (2, 3, 4)) for _ in range(count)]
    try:
        with np.errstate(all="ignore"):
            block = np.asarray(formula(*given, **options), float)
            rows = [formula(*(array.reshape(6, 4)[[row]] for array in given), **options) for row in range(6)]
        whole = np.broadcast_to(block, (2, 3, 4)).reshape(6, 1, 4)
        same = block.ndim in (0, 3) and np.allclose(whole, [np.broadcast_to(r, (1, 4)) for r in rows], equal_nan=True)
    except (ValueError, IndexError):  # of another shape; or it needs a certain size, which running it will tell
        same = formula.text_for(options).count("axis") == 0
    except Exception as error:
        raise OpError(f"{place} fails on arrays: {type(error).__name__}: {error}.") from None
    if not same:
        raise OpError(
            f"{place} mixes samples, or steps, in an array (steps, batch, size): {formula.text_for(options)!r}.",
            "Count axes from the last, axis=-1, or write a function (def), which gets (rows, size).",
        )
