"""Which attributes may a node and an edge carry, and is each of the right type?

Here attributes are checked one by one. What they mean together (sizes, ties, cycles) is checked in `validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from forwardgrad import ops
from forwardgrad.errors import GraphError, OpError, did_you_mean
from forwardgrad.support.attributes import finite, numbers, show, sizes, truth, whole, word
from forwardgrad.weights import ATTRIBUTES, KINDS

DRAWING = frozenset({"label", "color", "fillcolor", "fontcolor", "shape", "style", "tooltip"})
"""Attributes left to drawing programs: allowed everywhere, without effect."""


def is_drawing(key: Any, value: Any) -> bool:
    """Whether an attribute is for drawing programs: a `shape` that is a word is, one that is made of numbers is not."""
    return key in DRAWING and (key != "shape" or value is None or isinstance(value, str))


CREDIT = ("cut", "keep")
INITS = ("glorot", "he", "lecun", "normal", "orthogonal", "uniform", "zeros", "ones", "identity")


def name_of(source: str, target: str, key: int | str) -> str:
    """The name of an edge: `"u->v"`, or `"u->v#key"` when the key is not 0."""
    return f"{source}->{target}" if key == 0 else f"{source}->{target}#{key}"


def where(source: str, target: str, key: int | str) -> str:
    """How errors name an edge."""
    return f"edge {source!r} -> {target!r} (key {key!r})"


def _bias(value: Any) -> str:
    ok = isinstance(value, bool | np.bool_) or numbers(value) is not None
    return "" if ok else "True, False, a finite number or an array of them"


def _init(value: Any) -> str:
    if isinstance(value, str):
        word = value.split("(", 1)[0].strip()
        return "" if word in INITS else f"a number, an array or one of {', '.join(INITS)}"
    return finite(value)


NODE: Mapping[str, Callable[[Any], str]] = {
    "op": word(),
    "size": whole(1),
    "shape": sizes(1),
    "bias": _bias,
    "bias_port": word(),
    "bias_trainable": truth,
    "initial": finite,
    "layer": word(),
}

EDGE: Mapping[str, Callable[[Any], str]] = {
    "weight": word(*KINDS),
    "delay": whole(0),
    "port": word(),
    "value": finite,
    "trainable": truth,
    "init": _init,
    "param": word(),
    "role": word(),
    "credit": word(*CREDIT),
    **ATTRIBUTES,
}


def _check(place: str, attributes: Mapping[Any, Any], known: Mapping[str, Callable[[Any], str]]) -> None:
    for key, value in attributes.items():
        if is_drawing(key, value):
            continue
        if key not in known:
            raise GraphError(f"{place}: unknown attribute {key!r}.", did_you_mean(key, known))
        if value is not None and (expected := known[key](value)):
            raise GraphError(f"{place}: attribute {key!r} must be {expected}, got {show(value)}.")


def check_edge(source: str, target: str, key: int | str, attributes: Mapping[Any, Any]) -> None:
    """Check the attributes of one edge; raises `GraphError`."""
    place = where(source, target, key)
    _check(place, attributes, EDGE)
    given = {name for name, value in attributes.items() if value is not None}
    kind = KINDS[attributes.get("weight") or "identity"]
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
        if attributes.get("weight") is not None and not kind.weighted:
            raise GraphError(f"{place}: weight {kind.name!r} has no value.", "Leave out 'weight' or 'value'.")
    elif not kind.weighted:
        for other in ("init", "param", "trainable"):
            if other in given and not (other == "trainable" and not attributes["trainable"]):
                raise GraphError(
                    f"{place}: weight {kind.name!r} has no parameter, so {other!r} has no meaning.",
                    f"Give 'weight': {listed([name for name in KINDS if KINDS[name].weighted])}.",
                )
    for name in sorted(given & ATTRIBUTES.keys() - kind.attributes.keys()):
        owners = [repr(other) for other in KINDS if name in KINDS[other].attributes]
        got = f"weight {attributes['weight']!r}" if attributes.get("weight") else "no 'weight'"
        raise GraphError(f"{place}: {name!r} belongs to weight {listed(owners)}, got {got}.")
    if kind.check is not None:
        kind.check(place, given & kind.attributes.keys())


def listed(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


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
        key: (word(*o.choices) if o.choices else _positive if o.positive else finite) for key, o in op.options.items()
    }
    _check(place, attributes, {**NODE, **options})
    return op


def _positive(value: Any) -> str:
    array = numbers(value)
    ok = not isinstance(value, bool) and array is not None and bool((array > 0).all())
    return "" if ok else "a number greater than 0, or an array of them"
