"""The table of weight kinds. A new one is a file beside this one, and a word in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from forwardgrad.weights.block import BLOCK
from forwardgrad.weights.convolution import CONV1D, CONV2D
from forwardgrad.weights.dense import DENSE
from forwardgrad.weights.diagonal import DIAGONAL
from forwardgrad.weights.embedding import EMBEDDING
from forwardgrad.weights.identity import IDENTITY
from forwardgrad.weights.kind import Kind
from forwardgrad.weights.moving import PLACE, SLICE, TAKE
from forwardgrad.weights.pooling import POOL
from forwardgrad.weights.scalar import SCALAR
from forwardgrad.weights.sparse import SPARSE

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            IDENTITY,
            SCALAR,
            DIAGONAL,
            DENSE,
            SPARSE,
            BLOCK,
            EMBEDDING,
            CONV1D,
            CONV2D,
            POOL,
            SLICE,
            TAKE,
            PLACE,
        )
    }
)
"""All weight kinds, by name."""

ATTRIBUTES: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {name: check for kind in KINDS.values() for name, check in kind.attributes.items()}
)
"""The attributes of edges that belong to some kind, each with its check."""


def read_off(axes: int) -> Kind:
    """The kind of a fixed value with that many axes; `dense` where there is none, which then refuses it.

    >>> read_off(1).name
    'diagonal'
    """
    return next((kind for kind in KINDS.values() if kind.read_off == axes), DENSE)
