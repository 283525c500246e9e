"""What is checked when a layout is registered: that its functions do what a layout's functions must."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from numbers import Real
from typing import Any

import numpy as np

from forwardgrad.errors import ForwardgradError, RuleError
from forwardgrad.layouts.compressed import Compression
from forwardgrad.layouts.layout import MOST, Argument
from forwardgrad.ops import Array

SHAPES = ((), (3,), (3, 4), (3, 3, 4))
"""Shapes of an influence for one sample: a filtered input, one number a synapse, and in full."""

SAMPLES = 3


def check(compression: Compression, argument: Argument | None) -> None:
    """Try the functions of a layout on small influences.

    Raises:
        RuleError: naming the function, what it was expected to take or to return, and a way out.
    """
    if argument is not None:
        _check_argument(compression.name, argument)
    named, example = ([], ()) if argument is None else ([argument.name], (argument.example,))
    random = ["random"] if compression.random else []
    _check_call(compression.name, "compress", compression.compress, ["influence", *named, *random])
    if (compression.expand is None) is not (compression.stores is None):
        raise RuleError(f"layout {compression.name!r}: expand and stores go together, and one of them is missing.")
    if compression.expand is not None and compression.stores is not None:
        _check_call(compression.name, "expand", compression.expand, ["stored", "shape", *named])
        _check_call(compression.name, "stores", compression.stores, ["shape", *named])
    for shape in SHAPES:
        _try(compression, shape, example)
    if compression.random:
        _check_draws(compression, example)


def _check_argument(name: str, argument: Argument) -> None:
    if not isinstance(argument.name, str) or not argument.name.isidentifier():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RuleError(f"layout {name!r}: the name of an argument is letters, digits and underscores.")
    example = argument.example
    if isinstance(example, bool) or not isinstance(example, Real):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RuleError(f"layout {name!r}: an example of {argument.name} must be a number, got {example!r}.")
    _check_call(name, "legal", argument.legal, [argument.name])
    if not argument.allows(example):
        raise RuleError(
            f"layout {name!r}: the example {argument.name}={example} is not legal by its own check.",
            f"Give another one; the size of an argument is below {MOST:g}.",
        )


def _check_call(name: str, what: str, function: Any, expected: Sequence[str]) -> None:
    if not callable(function):
        raise RuleError(f"layout {name!r}: {what} must be a function, got {function!r}.")
    try:
        inspect.signature(function).bind(*expected)
    except TypeError as error:
        gets = f"It gets {len(expected)} arguments in order: {', '.join(expected)}."
        raise RuleError(f"layout {name!r}: {what} cannot be called as a layout is: {error}.", gets) from None
    except ValueError:  # written in C, say: it tells nothing of what it takes
        return


def _compressed(compression: Compression, influence: Array, example: tuple[Any, ...], seed: int = 0) -> Array:
    """What is stored of an influence."""
    shape = _ran(compression, "stores", lambda: compression.stored_shape(influence.shape[1:], example))
    random = (np.random.default_rng(seed),) if compression.random else ()
    whole = (len(influence), *shape)
    call: Callable[[], Array] = lambda: compression.called(  # noqa: E731
        "compress", compression.compress, influence, whole, *example, *random
    )
    return _ran(compression, "compress", call)


def _ran(compression: Compression, what: str, call: Callable[[], Any]) -> Any:
    try:
        return copy(call())  # the next call may write into the same array
    except ForwardgradError:
        raise
    except Exception as error:
        raise RuleError(f"layout {compression.name!r}: {what} fails: {type(error).__name__}: {error}.") from error


def _try(compression: Compression, shape: tuple[int, ...], example: tuple[Any, ...]) -> None:
    influence = np.random.default_rng(0).normal(size=(SAMPLES, *shape))
    stored = _compressed(compression, influence, example)
    if compression.expand is not None:
        _try_expand(compression, stored, shape, example)
    again = _compressed(compression, influence, example)
    if not np.array_equal(stored, again, equal_nan=True):
        hint = "Draw from the generator that it gets." if compression.random else "Pass random=True; it gets one more."
        raise RuleError(f"layout {compression.name!r}: compress gives two results for one influence.", hint)
    if not compression.random:
        alone = np.concatenate([_compressed(compression, influence[[s]], example) for s in range(SAMPLES)])
        if not np.allclose(stored, alone, equal_nan=True):
            raise RuleError(
                f"layout {compression.name!r}: compress mixes samples: together they give another result than alone.",
                "The first axis is the batch; leave it apart.",
            )


def _expanded(compression: Compression, stored: Array, shape: tuple[int, ...], example: tuple[Any, ...]) -> Array:
    """The influence again."""
    whole, expand = (len(stored), *shape), compression.expand
    assert expand is not None
    return _ran(compression, "expand", lambda: compression.called("expand", expand, stored, whole, whole, *example))


def _try_expand(compression: Compression, stored: Array, shape: tuple[int, ...], example: tuple[Any, ...]) -> None:
    name = compression.name
    influence = _expanded(compression, stored, shape, example)
    if not np.array_equal(influence, _expanded(compression, stored, shape, example), equal_nan=True):
        raise RuleError(
            f"layout {name!r}: expand gives two results for one array.", "It is called several times; draw in compress."
        )
    alone = [_expanded(compression, stored[[sample]], shape, example) for sample in range(SAMPLES)]
    if not np.allclose(influence, np.concatenate(alone), equal_nan=True):
        raise RuleError(
            f"layout {name!r}: expand mixes samples: together they give another result than alone.",
            "The first axis is the batch; leave it apart.",
        )
    if _expanded(compression, np.zeros_like(stored), shape, example).any():
        raise RuleError(
            f"layout {name!r}: expand makes an influence other than zero of zeros.",
            "A sequence begins with zeros in place of what is stored, and without influence. Store what is zero there.",
        )


def _check_draws(compression: Compression, example: tuple[Any, ...]) -> None:
    influence = np.random.default_rng(0).normal(size=(64, *SHAPES[-1]))
    one, other = (_compressed(compression, influence, example, seed) for seed in (0, 1))
    if np.array_equal(one, other):
        raise RuleError(
            f"layout {compression.name!r}: compress draws nothing: two generators give one result.",
            "Leave random=True out, or give an example of the argument with which it draws.",
        )
