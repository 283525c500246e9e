"""`conv1d`, `conv2d`: kernels that slide over the axes of a node's shape; every place of them shares their entries."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import sizes, whole
from forwardgrad.weights.forms import FORMS, Ends, Pattern
from forwardgrad.weights.kind import Kind
from forwardgrad.weights.sparse import LARGEST_TABLE
from forwardgrad.weights.windows import Windows

ATTRIBUTES = {
    "kernel": sizes(1),
    "stride": sizes(1),
    "padding": sizes(0),
    "dilation": sizes(1),
    "groups": whole(1),
    "channels": whole(1),
}


def _check(place: str, given: Set[str]) -> None:
    if "kernel" not in given:
        raise GraphError(f"{place}: a convolution needs the size of its kernel.", "Give 'kernel', such as kernel=3.")


def _channels(place: str, attributes: Mapping[str, Any], source: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """The source's shape with channels first; a node of one axis less is one channel.

    Raises:
        GraphError: if it has other axes.
    """
    if len(source) == axes:
        source = (1, *source)
    if len(source) != 1 + axes:
        wanted = "(channels, length)" if axes == 1 else "(channels, height, width)"
        raise GraphError(
            f"{place}: weight 'conv{axes}d' needs a source of shape {wanted}, got {source}.",
            f"Give the source a 'shape', such as shape = [{', '.join(['1', *['8'] * axes])}].",
        )
    groups = int(attributes.get("groups") or 1)
    if source[0] % groups:
        raise GraphError(f"{place}: {groups} groups do not divide the {source[0]} channels of the source.")
    return source


def _reshaped(axes: int) -> Any:
    def reshaped(place: str, attributes: Mapping[str, Any], source: tuple[int, ...]) -> tuple[int, ...] | None:
        """The target's shape, where the edge says how many channels it has."""
        if attributes.get("channels") is None:
            return None
        _, *space = _channels(place, attributes, source, axes)
        windows = Windows.read(place, attributes, axes)
        return int(attributes["channels"]), *windows.places(place, tuple(space))

    return reshaped


def _pattern(axes: int) -> Any:
    def pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
        """Synapse (output channel, place of the window; input channel of the group, entry of the window)."""
        channels, *space = _channels(place, attributes, ends.source, axes)
        windows, groups = Windows.read(place, attributes, axes), int(attributes.get("groups") or 1)
        out = windows.places(place, tuple(space))
        target = ends.target if len(ends.target) == 1 + axes else (1, *ends.target)
        if target[1:] != out:
            raise GraphError(
                f"{place}: the kernel stands at {out} places, and the target has shape {ends.target}.",
                f"Give the target shape = {[target[0], *out]}.",
            )
        if target[0] % groups:
            raise GraphError(f"{place}: {groups} groups do not divide the {target[0]} channels of the target.")
        read = channels // groups
        if target[0] * read * int(np.prod(out)) * int(np.prod(windows.kernel)) > LARGEST_TABLE:
            raise GraphError(f"{place}: so large a synapse table does not fit into memory.", "Make it smaller.")
        table = windows.table(place, tuple(space))
        places, entries = table.shape
        o, p, c, k = np.indices((target[0], places, read, entries)).reshape(4, -1)
        kept = table[p, k] >= 0
        o, p, c, k = o[kept], p[kept], c[kept], k[kept]
        first = o // (target[0] // groups) * read
        return Pattern(
            rows=o * places + p,
            columns=(first + c) * int(np.prod(space)) + table[p, k],
            shape=ends.sizes,
            entries=(o * read + c) * entries + k,
            kernel=(target[0], read, *windows.kernel),
        )

    return pattern


def _example(axes: int) -> Any:
    def example(random: np.random.Generator, ends: Ends) -> dict[str, Any] | None:
        """A kernel that leads from one shape of one channel to another; between plain sizes for `conv1d` alone."""
        if len(ends.source) != axes or len(ends.target) != axes:
            return None
        stride = max(1, -(-ends.source[0] // ends.target[0]) if axes == 1 else 1)
        for padding in random.permutation(3):
            for kernel in range(1, ends.source[0] + 2 * int(padding) + 1):
                windows = Windows((kernel,) * axes, (stride,) * axes, (int(padding),) * axes, (1,) * axes)
                if windows.places("edge", ends.source) == ends.target:
                    return {"kernel": kernel, "stride": stride, "padding": int(padding)}
        return None

    return example


def _kind(axes: int) -> Kind:
    return Kind(
        f"conv{axes}d",
        FORMS["sparse"],
        init="glorot",
        attributes=ATTRIBUTES,
        check=_check,
        reshaped=_reshaped(axes),
        pattern=_pattern(axes),
        example=_example(axes),
    )


CONV1D, CONV2D = _kind(1), _kind(2)
