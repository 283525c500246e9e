"""Which attributes may a node and an edge carry, and is each of the right type?

Here attributes are checked one by one. What they mean together (sizes, ties, cycles) is checked in `validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forwardgrad import ops
from forwardgrad.errors import GraphError, OpError, did_you_mean
from forwardgrad.graph.network import KINDS

DRAWING = frozenset({"label", "color", "fillcolor", "fontcolor", "shape", "style", "tooltip"})
"""Attributes left to drawing programs: allowed everywhere, without effect."""

CREDIT = ("cut", "keep")
INITS = ("glorot", "he", "lecun", "normal", "orthogonal", "uniform", "zeros", "ones", "identity")


def name_of(source: str, target: str, key: int | str) -> str:
    """The name of an edge: `"u->v"`, or `"u->v#key"` when the key is not 0."""
    return f"{source}->{target}" if key == 0 else f"{source}->{target}#{key}"


def where(source: str, target: str, key: int | str) -> str:
    """How errors name an edge."""
    return f"edge {source!r} -> {target!r} (key {key!r})"


def is_whole(value: object) -> bool:
    """Whether a value is a whole number (and not a truth value)."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


MOST = 2**31 - 1
"""The largest size, delay or seed: what any machine can count to, so that no array library meets a larger number."""


def _whole(least: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not is_whole(value) or value < least:
            return f"a whole number >= {least}"
        return "" if value <= MOST else f"a whole number <= {MOST}"

    return check


def _word(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and (value in choices or (not choices and value)):
            return ""
        return "one of " + ", ".join(choices) if choices else "a word"

    return check


def _truth(value: Any) -> str:
    return "" if isinstance(value, bool | np.bool_) else "True or False"


def numbers(value: Any) -> np.ndarray[Any, Any] | None:
    """The value as a float array, or `None` where it is not made of finite numbers, none of them masked."""
    try:
        array = np.asanyarray(value)
    except ValueError:  # rows of unequal length
        return None
    if isinstance(array, np.ma.MaskedArray):
        return None
    if array.dtype.kind not in "biuf" or array.size == 0:
        return None
    with np.errstate(over="ignore"):  # from long doubles
        array = np.asarray(array).astype(np.float64)
    return array if np.isfinite(array).all() else None


def _numbers(value: Any) -> str:
    return "a finite number or an array of them" if isinstance(value, bool) or numbers(value) is None else ""


def _bias(value: Any) -> str:
    ok = isinstance(value, bool | np.bool_) or numbers(value) is not None
    return "" if ok else "True, False, a finite number or an array of them"


def _mask(value: Any) -> str:
    array = numbers(value)
    ok = array is not None and array.ndim == 2 and bool(np.isin(array, (0, 1)).all())
    return "" if ok else "a two-dimensional array of 0 and 1, (size of target, size of source)"


def _density(value: Any) -> str:
    number = numbers(value)
    ok = not isinstance(value, bool) and number is not None and number.ndim == 0 and 0 < float(number) <= 1
    return "" if ok else "a number in (0, 1]"


def _init(value: Any) -> str:
    if isinstance(value, str):
        word = value.split("(", 1)[0].strip()
        return "" if word in INITS else f"a number, an array or one of {', '.join(INITS)}"
    return _numbers(value)


NODE: Mapping[str, Callable[[Any], str]] = {
    "op": _word(),
    "size": _whole(1),
    "bias": _bias,
    "bias_port": _word(),
    "bias_trainable": _truth,
    "initial": _numbers,
    "layer": _word(),
}

EDGE: Mapping[str, Callable[[Any], str]] = {
    "weight": _word(*KINDS),
    "delay": _whole(0),
    "port": _word(),
    "value": _numbers,
    "trainable": _truth,
    "init": _init,
    "param": _word(),
    "mask": _mask,
    "density": _density,
    "pattern_seed": _whole(0),
    "role": _word(),
    "credit": _word(*CREDIT),
}


def _check(place: str, attributes: Mapping[Any, Any], known: Mapping[str, Callable[[Any], str]]) -> None:
    for key, value in attributes.items():
        if key in DRAWING:
            continue
        if key not in known:
            raise GraphError(f"{place}: unknown attribute {key!r}.", did_you_mean(key, known))
        if value is not None and (expected := known[key](value)):
            raise GraphError(f"{place}: attribute {key!r} must be {expected}, got {show(value)}.")


def show(value: Any) -> str:
    """A value as errors show it: its text, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def check_edge(source: str, target: str, key: int | str, attributes: Mapping[Any, Any]) -> None:
    """Check the attributes of one edge; raises `GraphError`."""
    place = where(source, target, key)
    _check(place, attributes, EDGE)
    given = {name for name, value in attributes.items() if value is not None}
    kind = attributes.get("weight")
    if "value" in given:
        for other in ("init", "param"):
            if other in given:
                raise GraphError(
                    f"{place}: 'value' fixes the weight, so {other!r} has no meaning.",
                    f"Leave out {other!r}, or use 'init' in place of 'value' for a parameter that starts there.",
                )
        if attributes.get("trainable"):
            raise GraphError(
                f"{place}: 'value' fixes the weight, and 'trainable' asks to train it.",
                "Use 'init' in place of 'value' for a trainable weight that starts there.",
            )
        if kind == "identity":
            raise GraphError(f"{place}: weight 'identity' has no value.", "Leave out 'weight' or 'value'.")
    elif kind in (None, "identity"):
        for other in ("init", "param", "trainable"):
            if other in given and not (other == "trainable" and not attributes["trainable"]):
                raise GraphError(
                    f"{place}: weight 'identity' has no parameter, so {other!r} has no meaning.",
                    "Give 'weight': scalar, diagonal, dense or sparse.",
                )
    _check_pattern(place, given, kind)


def _check_pattern(place: str, given: set[Any], kind: object) -> None:
    pattern = given & {"mask", "density", "pattern_seed"}
    if kind != "sparse":
        for name in sorted(pattern):
            raise GraphError(f"{place}: {name!r} belongs to weight 'sparse', got weight {kind or 'identity'!r}.")
        return
    if "mask" in given and len(pattern) > 1:
        raise GraphError(f"{place}: a pattern is given by 'mask', or by 'density' and 'pattern_seed', not by both.")
    if not given & {"mask", "density"}:
        raise GraphError(f"{place}: weight 'sparse' needs a pattern.", "Give 'mask', or 'density' and 'pattern_seed'.")


def check_node(name: str, attributes: Mapping[Any, Any]) -> ops.Op:
    """Check the attributes of one node, and return its op; raises `GraphError`."""
    place = f"node {name!r}"
    if attributes.get("op") is None:
        raise GraphError(
            f"{place}: has no 'op'.",
            "A node made by an edge alone is often a slip of the pen; declare it with add_node(name, op=...).",
        )
    try:
        op = ops.get(attributes["op"])
    except OpError as error:
        raise GraphError(f"{place}: {error}") from None
    options: dict[str, Callable[[Any], str]] = {
        key: (_word(*o.choices) if o.choices else _positive if o.positive else _numbers)
        for key, o in op.options.items()
    }
    _check(place, attributes, {**NODE, **options})
    return op


def _positive(value: Any) -> str:
    array = numbers(value)
    ok = not isinstance(value, bool) and array is not None and bool((array > 0).all())
    return "" if ok else "a number greater than 0, or an array of them"
