"""Reads a declared graph from a file, and writes one: as TOML, or as networkx node-link JSON.

Nothing in a file is executed. Arrays of more than 64 entries lie in a `.npz` beside the file. The file records the
digest of the `.npz`, so that a pair that does not belong together is refused.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad import cells
from forwardgrad.errors import FileError, ForwardgradError, GraphError, OpError, did_you_mean
from forwardgrad.graph import library, pairs
from forwardgrad.graph.formats import FORMAT, FORMATS, MARK, Document
from forwardgrad.graph.schema import where
from forwardgrad.graph.validate import validate
from forwardgrad.ops import Array, losses
from forwardgrad.support import archive
from forwardgrad.support.attributes import is_whole, numbers, show
from forwardgrad.support.packing import packed

LARGEST_INLINE = 64
"""Arrays of more entries go to the `.npz`."""

LARGEST_TEXT = 2**24
"""Bytes of the largest file whose text is read: large arrays lie beside it."""

_WORDS = ("name", "title", "source")


def load(name_or_path: str | os.PathLike[str]) -> nx.MultiDiGraph[str]:
    """Read a declared graph.

    Args:
        name_or_path: the name of a shipped graph, or a path ending in `.toml` or `.json`.

    Returns:
        The graph, found legal by `validate`. Its `graph.graph` holds `title`, `source` and `loss` where the file does.

    Raises:
        FileError: if the name is unknown, or the file cannot be read or does not follow the format.
        GraphError: if the graph is malformed. Either error names the file.

    >>> graph = load("elman")
    >>> graph.graph["loss"], sorted(graph)
    ({'y': 'mse'}, ['h', 'x', 'y'])
    """
    path = _path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix.lower() not in FORMATS:
        path = library.path(name_or_path)
    try:
        from_text, _ = _format_of(path)
        document, arrays = _document(from_text, path)
        graph = _build(document, arrays)
        validate(graph)
        _check_loss(graph)
    except ForwardgradError as error:
        raise type(error)(f"{str(path)!r}: {error}") from error.__cause__
    except RecursionError:
        raise FileError(f"{str(path)!r}: is nested too deeply.") from None
    return graph


def save(graph: nx.MultiDiGraph[str], path: str | os.PathLike[str]) -> None:
    """Write a declared graph to a file, whole or not at all; `load` reads the same graph back.

    Arrays of more than 64 entries go to a `.npz` beside it. It is called after the file and the digest of the arrays,
    such as `net.toml.3f0c91d5a2b47e68.npz`. It is written first. Whenever the process is stopped, the file and the
    arrays that it was written with can be read. To copy or rename a graph, copy or rename both. A symbolic link is
    written through: both files lie where it leads.

    Args:
        graph: the graph; it is validated first.
        path: where to; its suffix, `.toml` or `.json`, says in which format.

    Raises:
        GraphError: if the graph is malformed, or carries an attribute that no file can hold.
        FileError: if the suffix is another one, or the file cannot be written.

    >>> import tempfile
    >>> graph = load("lstm")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(graph, folder + "/mine.json")
    ...     sorted(load(folder + "/mine.json")) == sorted(graph)
    True
    """
    path = _path(path)
    _, to_text = _format_of(path)
    validate(graph)
    _check_loss(graph)
    plain, arrays = _plain_graph(graph)
    side = _archive(arrays)
    if side:
        plain.graph[MARK]["arrays_sha256"] = pairs.digest(side)
    try:
        text = to_text(plain).encode("utf-8")
    except UnicodeEncodeError as error:
        raise GraphError(f"the text {error.object!r} cannot be written as UTF-8.") from error
    pairs.write(path, text, side)


def dumps(graph: nx.MultiDiGraph[str]) -> str:
    """A declared graph as one text, node-link JSON with every array written out; `loads` reads it back.

    Raises:
        GraphError: if the graph is malformed, or carries an attribute that no file can hold.
    """
    validate(graph)
    return FORMATS[".json"][1](_plain_graph(graph, largest_inline=None)[0])


def to_toml(graph: nx.MultiDiGraph[str]) -> str:
    """A declared graph as one text in TOML, every array written out; saved as a file, `load` reads it back.

    Raises:
        GraphError: if the graph is malformed, or carries an attribute that no file can hold.

    >>> "[nodes.h]" in to_toml(load("elman"))
    True
    """
    validate(graph)
    return FORMATS[".toml"][1](_plain_graph(graph, largest_inline=None)[0])


def loads(text: str) -> nx.MultiDiGraph[str]:
    """The declared graph of a text made by `dumps`.

    Raises:
        FileError: if the text does not follow the format.
        GraphError: if the graph is malformed.
    """
    graph = _build(FORMATS[".json"][0](text), None)
    validate(graph)
    return graph


def _path(given: Any) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise FileError(
            f"a graph is loaded and saved by name or path, got {type(given).__name__}.",
            "A networkx graph is compiled as it stands.",
        )
    return Path(os.fsdecode(cast("str | os.PathLike[str]", given)))


def _format_of(path: Path) -> tuple[Callable[[str], Document], Callable[[nx.MultiDiGraph[str]], str]]:
    """How files of this suffix are read and written."""
    if path.suffix.lower() not in FORMATS:
        raise FileError(f"a graph file ends in {' or '.join(FORMATS)}, got {path.name!r}.")
    return FORMATS[path.suffix.lower()]


# Reading


def _read(path: Path) -> str:
    try:
        data = archive.read_bytes(path, LARGEST_TEXT)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileError(f"cannot be read: {reason}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(f"line {line}: is not text in UTF-8.", "Is it a graph file at all?") from error


def _document(from_text: Callable[[str], Document], path: Path) -> tuple[Document, dict[str, Array] | None]:
    """What a file says, and the arrays beside it, `None` where it has none."""
    document = from_text(_read(path))
    while document.digest is not None:
        try:
            return document, pairs.read(path, document.digest)
        except pairs.ReplacedError:
            before, document = document.digest, from_text(_read(path))
            if document.digest == before:
                raise
    return document, None


def _build(document: Document, arrays: Mapping[str, Array] | None) -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.graph.update(_graph_attributes(document.attributes))
    for name, attributes in document.nodes:
        if name in graph:
            raise GraphError(f"node {name!r} is declared twice.", "Rename one of the two.")
        graph.add_node(name)
        graph.nodes[name].update(_resolve(f"node {name!r}", attributes, arrays))
    for n, table in enumerate(document.cells, start=1):
        _expand(graph, n, _resolve(f"number {n} of 'cells'", table, arrays))
    for source, target, key, attributes in document.edges:
        _add_edge(graph, source, target, key, attributes, arrays)
    return graph


def _graph_attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the graph itself, checked; those of networkx that mean nothing here are refused."""
    for key, value in given.items():
        if key in _WORDS and value is not None and not isinstance(value, str):
            raise GraphError(f"graph attribute {key!r} must be a text, got {show(value)}.")
        if key not in (*_WORDS, "loss", MARK):
            raise GraphError(f"unknown graph attribute {key!r}.", did_you_mean(key, (*_WORDS, "loss")))
    loss = {"loss": dict(given["loss"])} if isinstance(given.get("loss"), Mapping) else {}
    about = {key: value for key, value in given.items() if key != MARK and value is not None}
    return {MARK: {"format": FORMAT}, **about, **loss}


def _check_loss(graph: nx.MultiDiGraph[str]) -> None:
    loss = graph.graph.get("loss")
    if loss is None:
        return
    if not isinstance(loss, Mapping):
        raise GraphError(f"graph attribute 'loss' must be a table of nodes and losses, got {show(loss)}.")
    for node, name in cast("Mapping[Any, Any]", loss).items():
        if node not in graph:
            raise GraphError(f"graph attribute 'loss': there is no node {node!r}.", did_you_mean(node, graph.nodes))
        if not isinstance(name, str):
            raise GraphError(f"graph attribute 'loss': that of node {node!r} must be a name, got {show(name)}.")
        try:
            losses.get(name)
        except OpError as error:
            raise GraphError(f"graph attribute 'loss': node {node!r}: {error}") from None


def _resolve(place: str, attributes: Mapping[str, Any], arrays: Mapping[str, Array] | None) -> dict[str, Any]:
    """Attributes with the arrays that they refer to."""
    return {key: _resolved(place, key, value, arrays) for key, value in attributes.items()}


def _resolved(place: str, key: str, value: Any, arrays: Mapping[str, Array] | None) -> Any:
    if not isinstance(value, dict):
        return value
    reference = cast("dict[str, Any]", value)
    if set(reference) != {"array"}:
        raise FileError(
            f"{place}: attribute {key!r} is a table, and attributes are flat.",
            "In TOML, the name of a node with a dot is quoted: [nodes.'l1.h']." if place.startswith("node") else "",
        )
    if arrays is None:
        raise FileError(f"{place}: {key!r} refers to an array, but the file records no 'arrays_sha256' of a .npz.")
    name = reference["array"]
    if not isinstance(name, str) or name not in arrays:
        raise FileError(f"{place}: {key!r} refers to an unknown array {name!r}.", did_you_mean(name, arrays))
    return arrays[name]


def _expand(graph: nx.MultiDiGraph[str], n: int, table: dict[str, Any]) -> None:
    place = f"number {n} of 'cells'"
    kind = table.pop("cell", None)
    if not isinstance(kind, str) or kind not in cells.TABLE:
        raise GraphError(f"{place}: unknown cell {kind!r}.", did_you_mean(kind, cells.TABLE))
    signature = dict(inspect.signature(cells.TABLE[kind]).parameters)
    del signature["graph"]
    further = [key for key, parameter in signature.items() if parameter.kind is parameter.VAR_KEYWORD]
    for key in further:  # the cell itself knows which
        del signature[key]
    for key in table:
        if key not in signature and not further:
            raise GraphError(f"{place}: cell {kind!r} has no argument {key!r}.", did_you_mean(key, signature))
    for key, parameter in signature.items():
        if parameter.default is parameter.empty and key not in table:
            raise GraphError(f"{place}: cell {kind!r} needs {key!r}.")
    cells.TABLE[kind](graph, **table)


def _add_edge(
    graph: nx.MultiDiGraph[str],
    source: str,
    target: str,
    key: Any,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, Array] | None,
) -> None:
    for end in (source, target):
        if end not in graph:
            raise GraphError(
                f"edge {source!r} -> {target!r}: node {end!r} is not declared.", did_you_mean(end, graph.nodes)
            )
    if key is not None and not isinstance(key, str) and not is_whole(key):
        raise GraphError(f"{where(source, target, key)}: 'key' must be a whole number or a string.")
    if key is not None and graph.has_edge(source, target, key):
        raise GraphError(f"{where(source, target, key)} is declared twice.", "Give one of the two another 'key'.")
    resolved = _resolve(where(source, target, 0 if key is None else key), attributes, arrays)
    new = graph.add_edge(source, target, key)
    graph.edges[source, target, new].update(resolved)


# Writing


def _plain_graph(
    graph: nx.MultiDiGraph[str], largest_inline: int | None = LARGEST_INLINE
) -> tuple[nx.MultiDiGraph[str], dict[str, Array]]:
    """The graph with plain attributes only, and the arrays that they refer to."""
    arrays: dict[str, Array] = {}
    plain: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    plain.graph.update(_graph_attributes(graph.graph))
    for name, attributes in graph.nodes(data=True):
        plain.add_node(name)
        plain.nodes[name].update(_plain_attributes(f"node {name!r}", attributes, arrays, largest_inline))
    multigraph = cast("nx.MultiDiGraph[str]", nx.MultiDiGraph(graph))  # from a DiGraph, perhaps
    for u, v, key, attributes in multigraph.edges(keys=True, data=True):
        key = key if isinstance(key, str) else int(key)
        plain.add_edge(u, v, key)
        plain.edges[u, v, key].update(_plain_attributes(where(u, v, key), attributes, arrays, largest_inline))
    return plain, arrays


def _plain_attributes(
    place: str, attributes: Mapping[Any, Any], arrays: dict[str, Array], largest_inline: int | None
) -> dict[str, Any]:
    return {
        key: _plain(f"{place}: attribute {key!r}", value, arrays, largest_inline)
        for key, value in attributes.items()
        if value is not None
    }


def _plain(place: str, value: Any, arrays: dict[str, Array], largest_inline: int | None) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if numbers(value) is None:  # only drawing attributes get here; the others have been validated
        raise GraphError(
            f"{place} cannot be written: {show(value)}.", "A file holds texts, numbers and arrays of them."
        )
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
    if largest_inline is None or array.size <= largest_inline:
        return array.tolist()
    arrays[f"a{len(arrays)}"] = array
    return {"array": f"a{len(arrays) - 1}"}


def _archive(arrays: Mapping[str, Array]) -> bytes:
    """The content of the `.npz`, empty where there are no arrays."""
    # The entry MARK tells our files from others.
    return packed({MARK: np.array(FORMAT), **arrays}) if arrays else b""
