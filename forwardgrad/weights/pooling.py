"""`pool`: the sum or mean over windows of each channel; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import prod
from typing import Any

import numpy as np

from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import sizes, word
from forwardgrad.weights.forms import FORMS, Ends, Pattern
from forwardgrad.weights.kind import Kind
from forwardgrad.weights.windows import Windows


def _check(place: str, given: Set[str]) -> None:
    if "kernel" not in given:
        raise GraphError(f"{place}: weight 'pool' needs the size of its windows.", "Give 'kernel', such as kernel=2.")


def _read(place: str, attributes: Mapping[str, Any], source: tuple[int, ...]) -> tuple[int, tuple[int, ...], Windows]:
    """Channels, the axes behind them, and windows, which stand side by side where no stride is given."""
    channels, *space = source if len(source) > 1 else (1, *source)
    stride = attributes.get("stride")
    given = {**attributes, "stride": attributes["kernel"] if stride is None else stride}
    return channels, tuple(space), Windows.read(place, given, len(space))


def _reshaped(place: str, attributes: Mapping[str, Any], source: tuple[int, ...]) -> tuple[int, ...]:
    channels, space, windows = _read(place, attributes, source)
    places = windows.places(place, space)
    return (channels, *places) if len(source) > 1 else places


def _pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
    wanted = _reshaped(place, attributes, ends.source)
    if prod(wanted) != ends.sizes[0]:
        raise GraphError(f"{place}: the windows give shape {wanted}, and the target has shape {ends.target}.")
    channels, space, windows = _read(place, attributes, ends.source)
    table = windows.table(place, space)
    c, p, k = np.indices((channels, *table.shape)).reshape(3, -1)
    inside = table[p, k] >= 0
    c, p, k = c[inside], p[inside], k[inside]
    if not len(c):
        raise GraphError(f"{place}: every window lies in the padding.", "Give less 'padding'.")
    return Pattern(c * len(table) + p, c * prod(space) + table[p, k], ends.sizes)


def _value(attributes: Mapping[str, Any], ends: Ends) -> float:
    """One, or one over the size of a window, of which padding is a part."""
    if attributes.get("reduce") == "sum":
        return 1.0
    return 1.0 / prod(_read("", attributes, ends.source)[2].kernel)


def _example(random: np.random.Generator, ends: Ends) -> dict[str, Any] | None:
    """Windows that lead from one size to the other, where some without padding do."""
    (target, source), ways = ends.sizes, list[dict[str, Any]]()
    if len(ends.source) > 1:
        return None
    for stride in range(1, source + 1):
        kernel = source - stride * (target - 1)
        if kernel > 0:
            ways.append({"kernel": kernel, "stride": stride})
    return ways[int(random.integers(len(ways)))] if ways else None


POOL = Kind(
    "pool",
    FORMS["sparse"],
    attributes={
        "kernel": sizes(1),
        "stride": sizes(1),
        "padding": sizes(0),
        "dilation": sizes(1),
        "reduce": word("mean", "sum"),
    },
    check=_check,
    reshaped=_reshaped,
    pattern=_pattern,
    value=_value,
    example=_example,
)
