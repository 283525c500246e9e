"""A weight kind: what a graph names as the `weight` of an edge, in one registration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from forwardgrad.weights.forms import Ends, Form, Pattern


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
        reshaped: the shape of the target, given that of the source: `reshaped(place, attributes, source)`; `None` where
            the attributes do not say it; raises `GraphError`.
        pattern: the synapse table, for the form `sparse`: `pattern(place, attributes, ends)`; raises `GraphError`.
            Synapses are in row-major order, each once, and there is one at least. They may share entries of the
            parameter.
        example: attributes for an edge between such ends, drawn at random; `None` where none fit.
        value: the number that all synapses have: `value(attributes, ends)`; such a weight has no parameter.
        moves: whether units only come to other places by it: a selection, which does not mix credit.
    """

    name: str
    form: Form
    init: str = ""
    read_off: int | None = None
    sizing: tuple[str, ...] = ()
    attributes: Mapping[str, Callable[[Any], str]] = field(default_factory=lambda: MappingProxyType({}))
    check: Callable[[str, Set[str]], None] | None = None
    reshaped: Callable[[str, Mapping[str, Any], tuple[int, ...]], tuple[int, ...] | None] | None = None
    pattern: Callable[[str, Mapping[str, Any], Ends], Pattern] | None = None
    example: Callable[[np.random.Generator, Ends], dict[str, Any] | None] = lambda random, ends: {}
    value: Callable[[Mapping[str, Any], Ends], float] | None = None
    moves: bool = False

    @property
    def weighted(self) -> bool:
        """Whether its numbers are the user's or a parameter's: neither for a weight that is what its name says."""
        return self.form.weighted and self.value is None
