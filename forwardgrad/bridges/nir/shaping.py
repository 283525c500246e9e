"""Which shape enters and leaves each primitive? NIR leaves some open: they come from neighbours, along the edges."""

from __future__ import annotations

from collections import deque
from math import prod

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from forwardgrad.bridges.nir.primitives import CONVOLUTIONS, NEURONS, POOLS, WINDOWED, Primitive, one_number
from forwardgrad.errors import GraphError
from forwardgrad.weights.windows import Windows

Shape = tuple[int, ...]

LARGEST = 2**28
"""Most units of a layer, 2 GiB of numbers: a shape in a file must not take all memory."""

_KEEPING = NEURONS | {"Scale", "Delay", "Input", "Output", "Through"}
_PARAMETERS = {"Scale": ("scale",), "Delay": ("delay",), "Threshold": ("threshold",)}


def shapes(flat: nx.DiGraph[str]) -> dict[str, tuple[Shape, Shape]]:
    """The shapes of what enters and what leaves each primitive.

    A parameter with one number alone says nothing of the shape: it holds for all units.

    Raises:
        GraphError: if two shapes contradict each other, or one cannot be inferred.
    """
    inferred = _Inferred(flat)
    for name in flat:
        inferred.begin(name)
    inferred.spread()
    for name in flat:  # layers of one unit
        for end in ("in", "out"):
            if (name, end) not in inferred.known and (shape := inferred.least.get((name, end))):
                inferred.set(name, end, shape, name)
    inferred.spread()
    for name in flat:
        for end in ("in", "out"):
            if (name, end) not in inferred.known:
                raise GraphError(
                    f"{inferred.primitives[name].place}: its shape cannot be inferred.",
                    "Give its parameters, or the Input before it, the shape of the layer.",
                )
            if prod(inferred.known[name, end]) > LARGEST:
                raise GraphError(f"{inferred.primitives[name].place}: has more than {LARGEST:,} units.")
    return {name: (inferred.known[name, "in"], inferred.known[name, "out"]) for name in flat}


class _Inferred:
    """The shapes found so far, by primitive and end."""

    def __init__(self, flat: nx.DiGraph[str]) -> None:
        self.flat = flat
        self.primitives: dict[str, Primitive] = {name: flat.nodes[name]["primitive"] for name in flat}
        self.known: dict[tuple[str, str], Shape] = {}
        self.least: dict[tuple[str, str], Shape] = {}
        self.waiting: deque[str] = deque()

    def set(self, name: str, end: str, shape: Shape, neighbour: str) -> None:
        known = self.known.get((name, end))
        if known is None:
            self.known[name, end] = shape
            self.waiting.append(name)
        elif prod(known) != prod(shape) or (known != shape and len(known) > 1 and len(shape) > 1):
            word = "takes" if end == "in" else "gives"
            raise GraphError(
                f"{self.primitives[name].place} {word} shape {known}, and that of {neighbour!r} is {shape}."
                if neighbour != name
                else f"{self.primitives[name].place} {word} shape {known}, and its parameters have {shape}.",
            )

    def begin(self, name: str) -> None:
        """Note what a primitive says of its own shape."""
        primitive = self.primitives[name]
        if primitive.kind in ("Input", "Output", "Through"):
            own = primitive.shape("shape")
        elif primitive.kind in ("Linear", "Affine"):
            weight = primitive.array("weight")
            if weight.ndim != 2:
                raise GraphError(f"{primitive.place}: 'weight' must be a matrix, got shape {weight.shape}.")
            self.set(name, "in", weight.shape[1:], name)
            self.set(name, "out", weight.shape[:1], name)
            return
        elif primitive.kind in CONVOLUTIONS:
            kernel(primitive)
            own = primitive.shape("input_shape")
            if own is not None:
                channels = primitive.array("weight").shape[1] * one_number(primitive, "groups")
                own = (channels, *own)
        elif primitive.kind == "Flatten":
            own = primitive.shape("input_type")
        elif primitive.kind in POOLS:
            return
        else:
            own = self._own(primitive)
        if own is not None:
            self.set(name, "in", own, name)

    def _own(self, primitive: Primitive) -> Shape | None:
        """The shape that the parameters of a neuron share."""
        found: Shape | None = None
        for field in _PARAMETERS.get(primitive.kind, tuple(primitive.fields)):
            shape = primitive.array(field).shape
            if prod(shape) == 1:
                if shape:
                    self.least[primitive.name, "in"] = self.least[primitive.name, "out"] = shape
            elif found is not None and shape != found:
                raise GraphError(f"{primitive.place}: {field!r} has shape {shape}, and other parameters have {found}.")
            else:
                found = shape
        return found

    def spread(self) -> None:
        """Carry shapes through primitives and along edges, until nothing is new."""
        self.waiting.extend(self.flat)
        while self.waiting:
            name = self.waiting.popleft()
            before, after = self.known.get((name, "in")), self.known.get((name, "out"))
            if before is not None:
                self.set(name, "out", behind(self.primitives[name], before), name)
            elif after is not None and self.primitives[name].kind in _KEEPING:
                self.set(name, "in", after, name)
            before, after = self.known.get((name, "in")), self.known.get((name, "out"))
            for source in self.flat.predecessors(name) if before else ():
                self.set(source, "out", before or (), name)
            for target in self.flat.successors(name) if after else ():
                self.set(target, "in", after or (), name)


def behind(primitive: Primitive, shape: Shape) -> Shape:
    """The shape of what leaves a primitive.

    Raises:
        GraphError: if it cannot take this shape.
    """
    if primitive.kind in ("Linear", "Affine"):
        return primitive.array("weight").shape[:1]
    if primitive.kind == "Flatten":
        first, last = (one_number(primitive, field) % len(shape) for field in ("start_dim", "end_dim"))
        return shape if first >= last else (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])
    if primitive.kind in WINDOWED:
        read = windows(primitive)
        if len(shape) != 1 + len(read.kernel):
            raise GraphError(f"{primitive.place}: needs {1 + len(read.kernel)} axes, channels first, got {shape}.")
        channels = kernel(primitive).shape[0] if primitive.kind in CONVOLUTIONS else shape[0]
        return (channels, *read.places(primitive.place, shape[1:]))
    return shape


def kernel(primitive: Primitive) -> NDArray[np.float64]:
    """The weight of a convolution, `(channels, channels of a group of the source, *kernel)`.

    Raises:
        GraphError: if it has other axes.
    """
    weight, axes = primitive.array("weight"), 1 if primitive.kind == "Conv1d" else 2
    if weight.ndim != 2 + axes:
        raise GraphError(f"{primitive.place}: 'weight' must have {2 + axes} axes, got shape {weight.shape}.")
    return weight


def windows(primitive: Primitive) -> Windows:
    """The windows of a convolution or a pool.

    Raises:
        GraphError: if a field is malformed, or the padding differs at the two ends of an axis.
    """
    if primitive.kind in POOLS:
        size = primitive.whole("kernel_size", 2, 1)
        return Windows(size, primitive.whole("stride", 2, 1), primitive.whole("padding", 2, 0), (1, 1))
    size = kernel(primitive).shape[2:]
    stride, dilation = (primitive.whole(field, len(size), 1) for field in ("stride", "dilation"))
    given = primitive.fields.get("padding")
    padding = given if isinstance(given, str) else ""
    if padding == "valid":
        return Windows(size, stride, (0,) * len(size), dilation)
    if padding == "same":
        both = [step * (entries - 1) for step, entries in zip(dilation, size, strict=True)]
        if any(total % 2 for total in both) or set(stride) != {1}:
            raise GraphError(
                f"{primitive.place}: padding 'same' pads the two ends of an axis differently here.",
                "A kernel of odd size with stride 1 has equal ends.",
            )
        return Windows(size, stride, tuple(total // 2 for total in both), dilation)
    return Windows(size, stride, primitive.whole("padding", len(size), 0), dilation)
