"""A weight kind: what a graph names as the `weight` of an edge, in one registration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from forwardgrad.weights.forms import Form, Pattern


@dataclass(frozen=True)
class Kind:
    """A weight kind.

    Args:
        name: the word in an edge's `weight`.
        form: how its entries are kept. Gradients, traces and prices follow from it, and from the synapse table.
        init: how a parameter is drawn at first, where the graph does not say so.
        read_off: the number of axes of a `value` from which the kind is read, where an edge names none.
        sizing: the attributes of an edge that give the sizes of its ends by their shape.
        attributes: the attributes of an edge that belong to this kind, each with its check: what is expected, or "".
        check: raises `GraphError` where these attributes do not fit each other: `check(place, names given)`.
        pattern: the synapse table, for the form `sparse`: `pattern(place, attributes, (target, source))`; raises
            `GraphError`. Entries are in row-major order, each once, and there is one at least: entries of a matrix
            that are one parameter, as those of a convolution, need another form.
        example: attributes for an edge of a shape, drawn at random; `None` where no attributes fit that shape.
    """

    name: str
    form: Form
    init: str = ""
    read_off: int | None = None
    sizing: tuple[str, ...] = ()
    attributes: Mapping[str, Callable[[Any], str]] = field(default_factory=lambda: MappingProxyType({}))
    check: Callable[[str, Set[str]], None] | None = None
    pattern: Callable[[str, Mapping[str, Any], tuple[int, int]], Pattern] | None = None
    example: Callable[[np.random.Generator, tuple[int, int]], dict[str, Any] | None] = lambda random, shape: {}
