"""Ops and losses as users bring them: lambda, def, callable object, partial or Formula, with any names and options."""

from __future__ import annotations

import linecache
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.control import cleanup

from forwardgrad import ops
from forwardgrad.ops import Formula, Op, Option, Port
from forwardgrad.ops.losses import Loss
from forwardgrad.structure import Structure

ARGUMENTS = ("a", "x", "y", "t", "steps", "batch", "h", "found", "rows", "out", "n0", "x0", "made", "dtype")
"""Names of arguments, most of which generated source uses as well."""

FUNCTIONS = ("f", "value", "gradient", "scaled", "times", "start", "step", "rows", "evaluate", "fitted", "slope_n0")
"""Names of functions, most of which are those of helpers or of generated functions."""

OPTIONS = {"{g}": ("gain", "tape", "n0_in", "state"), "{s}": ("sign", "end", "params")}
"""Names of options, by what stands for them in a recipe: a number or an array, and a word."""

WORDS = ("plus", "minus")
PORTS = ("a", "b", "c", "in", "x")
STYLES = ("formula", "def", "lambda", "object", "partial")
MANNERS = ("plain", "writes", "keeps", "read-only", "list", "double")
"""What a callable object does beside computing: it writes into its arguments, or returns one buffer again and again."""


@dataclass(frozen=True)
class Recipe:
    """A function of ports `{0}`, `{1}`, `{2}` and options, and its derivatives, which get the value `{y}` as well.

    Args:
        value: the expression.
        slopes: structure word and expression per port.
    """

    value: str
    slopes: tuple[tuple[str, str], ...]


_SIGN = "(1.0 if {s} == 'plus' else -0.5)"
_MEAN = "np.tanh({1}).mean(axis=-1, keepdims=True)"

RECIPES = (
    Recipe("0.5 * {0}", (("scalar", "0.5"),)),
    Recipe("{g} * {0}", (("diagonal", "{g}"),)),
    Recipe("np.tanh({g} * {0})", (("diagonal", "{g} * (1 - {y} * {y})"),)),
    Recipe("np.sin({0}) + {g}", (("diagonal", "np.cos({0})"),)),
    Recipe(f"np.sin({{0}}) * {_SIGN}", (("diagonal", f"np.cos({{0}}) * {_SIGN}"),)),
    Recipe("{g} + 0 * {0}", (("zero", "0.0"),)),
    Recipe(
        "np.tanh({0}) * np.float64(0.7)",
        (("diagonal", "np.where({0} < 50, 0.7, 0.0) * (1 - np.square(np.tanh({0})))"),),
    ),
    Recipe(
        "np.tanh({0} - {0}.mean(axis=-1, keepdims=True))",
        (("full", "(1 - {y} * {y})[:, :, None] * (np.eye({0}.shape[1]) - 1 / {0}.shape[1])"),),
    ),
    Recipe("{0} * np.sin({1})", (("diagonal", "np.sin({1})"), ("diagonal", "{0} * np.cos({1})"))),
    Recipe("np.tanh({0} + {g} * {1})", (("diagonal", "1 - {y} * {y}"), ("diagonal", "{g} * (1 - {y} * {y})"))),
    Recipe("np.tanh({1}) + 0 * {0}", (("zero", "0.0"), ("diagonal", "1 - {y} * {y}"))),
    Recipe(
        f"{{0}} * {_MEAN}",
        (
            ("scalar", _MEAN),
            ("full", "{0}[:, :, None] * (1 - np.square(np.tanh({1})))[:, None, :] / {1}.shape[1]"),
        ),
    ),
    Recipe(
        "(1 - np.tanh({0})) * {1} + np.tanh({0}) * np.sin({2})",
        (
            ("diagonal", "(1 - np.square(np.tanh({0}))) * (np.sin({2}) - {1})"),
            ("diagonal", "1 - np.tanh({0})"),
            ("diagonal", "np.tanh({0}) * np.cos({2})"),
        ),
    ),
)
"""Smooth functions of one to three ports, with a derivative of every structure word."""

LOSS_RECIPES = (
    ("np.square({0} - {1}).sum(axis=1)", "2 * ({0} - {1})"),
    (
        "np.sqrt(1 + np.square({0} - {1})).mean(axis=1)",
        "({0} - {1}) / np.sqrt(1 + np.square({0} - {1})) / {0}.shape[1]",
    ),
    (
        "np.float64(0.5) * np.logaddexp(0, {0} - {1}).sum(axis=-1)",
        "np.float64(0.5) * (0.5 + 0.5 * np.tanh(0.5 * ({0} - {1})))",
    ),
)


@st.composite
def brought_ops(draw: st.DrawFn) -> Op:
    """An op as a user might bring it, registered until the example that it is drawn for has ended.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> find(brought_ops(), lambda op: len(op.ports) > 1, settings=once).ports[0].structure < Structure.FULL
    True
    """
    recipe = draw(st.sampled_from(RECIPES))
    ports = ["in"] if len(recipe.slopes) == 1 else draw(_distinct(PORTS, len(recipe.slopes)))
    whole = recipe.value + "".join(text for _, text in recipe.slopes)
    named = {mark: draw(st.sampled_from(names)) for mark, names in OPTIONS.items() if mark in whole}
    declared = {"{g}": Option(0.7), "{s}": Option("plus", choices=WORDS)}
    value = draw(_functions(recipe.value, len(ports), named))
    slopes = [draw(_functions(text, len(ports) + 1, named)) for _, text in recipe.slopes]
    op = Op(
        next(name for name in map("brought_{}".format, count()) if name not in ops.names()),
        value,
        tuple(
            Port(port, slope, Structure.of(word))
            for port, slope, (word, _) in zip(ports, slopes, recipe.slopes, strict=True)
        ),
        options={name: declared[mark] for mark, name in named.items()},
    )
    context = ops.registered(op)
    context.__enter__()
    cleanup(partial(context.__exit__, None, None, None))
    note(f"{op.name}: {', '.join(map(_described, [value, *slopes]))}")
    return op


@st.composite
def brought_losses(draw: st.DrawFn) -> Loss:
    """A loss as a user might bring it.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> np.shape(find(brought_losses(), lambda loss: True, settings=once).value(np.ones((2, 3)), np.zeros((2, 3))))
    (2,)
    """
    value, gradient = (draw(_functions(text, 2, {})) for text in draw(st.sampled_from(LOSS_RECIPES)))
    note(f"loss: {_described(value)}, {_described(gradient)}")
    return Loss("brought", value, gradient)


def options_of(op: Op, size: int) -> st.SearchStrategy[dict[str, Any]]:
    """Node attributes for some of an op's options: numbers, arrays and words.

    Args:
        op: drawn by `brought_ops`.
        size: units of the node.
    """
    numbers = st.sampled_from([0.5, 1.2, np.linspace(0.3, 0.9, size)])
    values = {name: st.sampled_from(o.choices) if o.choices else numbers for name, o in op.options.items()}
    return st.fixed_dictionaries({}, optional=values)


def has_text(function: Any) -> bool:
    """Whether a printed module can take a drawn function along.

    >>> has_text(Formula("x")), has_text(lambda x: x)
    (True, False)
    """
    return isinstance(function, Formula) or (
        isinstance(function, types.FunctionType) and function.__name__ in FUNCTIONS
    )


def _distinct(names: Sequence[str], number: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=number, max_size=number, unique=True)


@st.composite
def _functions(draw: st.DrawFn, text: str, number: int, named: Mapping[str, str]) -> Callable[..., Any]:
    """A function of `number` arguments, the last of which a recipe may call `{y}`, and of options by name."""
    arguments = draw(_distinct([name for name in ARGUMENTS if name not in named.values()], number))
    style = draw(st.sampled_from(STYLES))
    marks = {f"{{{place}}}": name for place, name in enumerate(arguments)} | {"{y}": arguments[-1], **named}
    taken = ", ".join([*arguments, *named.values()])
    if style == "formula":
        return _formula(_filled(text, marks), ", ".join(arguments), named.get("{s}", ""), draw(st.booleans()))
    body = _filled(text, marks)
    if style == "def":
        return _defined(draw(st.sampled_from(FUNCTIONS)), taken, body, draw(st.sampled_from([None, 2.0, 4.0])))
    plain = eval(f"lambda {taken}: {body}", {"np": np})
    if style == "partial":
        return partial(eval(f"lambda scale_, {taken}: scale_ * ({body})", {"np": np}), 1.0)
    return plain if style == "lambda" else _Caller(plain, draw(st.sampled_from(MANNERS)))


def _filled(text: str, marks: Mapping[str, str]) -> str:
    for mark, name in marks.items():
        text = text.replace(mark, name)
    return text


def _formula(text: str, arguments: str, word: str, by: bool) -> Formula:
    """A formula; one that reads a word may have a text per word instead."""
    if not word or not by:
        return Formula(text, arguments)
    return Formula({each: text.replace(f"{word} ==", f"{each!r} ==") for each in WORDS}, arguments, by=word)


_numbers = count()


def _defined(name: str, taken: str, body: str, factor: float | None) -> Callable[..., Any]:
    """A `def` whose text can be asked for; with a factor, it calls a helper, which always has the same name."""
    text = f"def {name}({taken}):\n    return {body}\n"
    if factor is not None:
        text = (
            f"def {name}({taken}):\n    return helper({body}) / {factor}\n\n\ndef helper(v):\n    return {factor} * v\n"
        )
    filename, names = f"<brought {next(_numbers)}>", dict[str, Any](np=np)
    exec(compile(text, filename, "exec"), names)
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    cleanup(partial(linecache.cache.pop, filename, None))
    return names[name]


class _Caller:
    """A callable object that has manners of its own."""

    def __init__(self, function: Callable[..., Any], manner: str) -> None:
        self.function, self.manner = function, manner
        self._kept: dict[tuple[int, ...], Any] = {}

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        made = np.asarray(self.function(*arrays, **options))
        if self.manner == "writes":
            for array in arrays:
                array[...] = np.nan
        if self.manner == "keeps":
            kept = self._kept.setdefault(made.shape, np.empty_like(made))
            kept[...] = made
            return kept
        if self.manner == "read-only":
            made.flags.writeable = False
        if self.manner == "list":
            return made.tolist()
        return made.astype(float) if self.manner == "double" else made


def _described(function: Any) -> str:
    if isinstance(function, _Caller):
        return f"object that {function.manner}"
    if isinstance(function, types.FunctionType):
        return f"{function.__name__}{function.__code__.co_varnames}"
    return repr(function)
