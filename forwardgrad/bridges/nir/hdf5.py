"""Reads a NIR file, which is HDF5, of anyone's making: nothing in it is executed, and no other file is read.

`nir.read` builds its classes from what a file holds, and says little of what is wrong with it. Here each node is read
as a `Primitive`, and is checked where it is used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from forwardgrad.bridges.nir.primitives import DEEPEST, FIELDS, Nest, Primitive, edges, primitive
from forwardgrad.errors import FileError, ForwardgradError, GraphError
from forwardgrad.support import archive
from forwardgrad.support.headroom import headroom

MOST_GROUPS = 100_000
"""Nodes in a file."""


def read(path: Path) -> Nest:
    """The graph of a `.nir` file.

    Raises:
        FileError: if it cannot be read, or is not a NIR file.
        GraphError: if a node or an edge is malformed; it is named.
    """
    h5py: Any = import_module("h5py")  # nir needs it
    try:
        with archive.opened(path) as (file, _), h5py.File(file, "r") as root:
            reader = _Reader(h5py)
            return reader.graph(reader.child(root, "node", ""), "", 0)
    except ForwardgradError as error:
        raise type(error)(f"{str(path)!r}: {error}") from None
    except Exception as error:  # HDF5 raises nearly all of them, each for some malformed file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(f"{str(path)!r}: cannot be read as a NIR file ({reason}).") from error


class _Reader:
    """Reads groups of a file, and counts what they take."""

    def __init__(self, h5py: Any) -> None:
        self.h5py, self.groups, self.bytes = h5py, 0, 0
        free = headroom()
        self.most = 2**40 if free is None else free

    def child(self, group: Any, key: str, place: str) -> Any:
        """A member of a group that lies in the file itself.

        Raises:
            GraphError: if it is missing, or lies elsewhere.
        """
        link = group.get(key, getlink=True)
        if link is None:
            raise GraphError(f"{_named(place)}: {key!r} is missing.")
        if not isinstance(link, self.h5py.HardLink):
            raise GraphError(f"{_named(place)}: {key!r} is a link to another place.")
        return group[key]

    def graph(self, group: Any, place: str, depth: int) -> Nest:
        if depth > DEEPEST:
            raise GraphError(f"{_named(place)}: lies in more than {DEEPEST} graphs.")
        if self.word(group, "type", place) != "NIRGraph":
            raise GraphError(f"{_named(place)}: the file holds a single primitive and not a graph.")
        inner, prefix = self.child(group, "nodes", place), f"{place}." if place else ""
        nodes = {key: self.node(self.child(inner, key, place), prefix + key, depth) for key in sorted(inner)}
        pairs = self.value(self.child(group, "edges", place), f"{_named(place)}: 'edges'")
        texts = [[_text(name) for name in pair] for pair in pairs] if getattr(pairs, "ndim", 0) == 2 else pairs
        return Nest(nodes, edges(texts if getattr(pairs, "size", 1) else (), prefix))

    def node(self, group: Any, place: str, depth: int) -> Primitive | Nest:
        self.groups += 1
        if self.groups > MOST_GROUPS:
            raise GraphError(f"there are more than {MOST_GROUPS:,} nodes.")
        if not isinstance(group, self.h5py.Group):
            raise GraphError(f"{_named(place)}: is not a group of fields.")
        kind = self.word(group, "type", place)
        if kind == "NIRGraph":
            return self.graph(group, place, depth + 1)
        present = [field for field in FIELDS.get(kind, ()) if field in group]
        return primitive(
            place,
            kind,
            {
                field: _text(self.value(self.child(group, field, place), f"{_named(place)}: {field!r}"))
                for field in present
            },
        )

    def value(self, dataset: Any, what: str) -> Any:
        """The content of a dataset that lies in the file itself and fits into memory."""
        if not isinstance(dataset, self.h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise GraphError(f"{what} is not an array in this file.")
        self.bytes += int(dataset.size or 0) * int(dataset.dtype.itemsize)
        if self.bytes > self.most:
            raise GraphError(f"{what} and what comes before it take more memory than there is ({self.bytes:,} bytes).")
        return dataset[()]

    def word(self, group: Any, key: str, place: str) -> str:
        text = _text(self.value(self.child(group, key, place), f"{_named(place)}: {key!r}"))
        if not isinstance(text, str):
            raise GraphError(f"{_named(place)}: {key!r} is not a word.")
        return text


def _named(place: str) -> str:
    return f"NIR node {place!r}" if place else "the graph"


def _text(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value
