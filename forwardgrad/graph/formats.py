"""What do the two formats of graph files say? TOML and networkx node-link JSON, as text to and from one document."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import networkx as nx
import tomli_w

from forwardgrad.errors import FileError, did_you_mean
from forwardgrad.support.attributes import is_whole, show

FORMAT = 1
"""The version of the format that is written, and the newest one that is read."""

MARK = "forwardgrad"
"""The graph attribute that holds the version."""


@dataclass
class Document:
    """What a file says, in either format, before any of it is checked against the schema of graphs.

    Args:
        attributes: of the graph itself: title, source, loss.
        nodes: name and attributes.
        edges: source, target, key (`None` where the file gives none) and attributes.
        cells: the tables of `[[cells]]`.
        digest: the sha256 of the `.npz` beside the file, or `None`.
    """

    attributes: dict[str, Any]
    nodes: list[tuple[str, dict[str, Any]]]
    edges: list[tuple[str, str, Any, dict[str, Any]]]
    cells: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    digest: Any = None


def from_toml(text: str) -> Document:
    """Read `[graph]`, `[nodes.NAME]`, `[[edges]]` and `[[cells]]`; raises `FileError`."""
    _bound_keys(text)
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # also from an integer of thousands of digits
        raise FileError(f"is not valid TOML: {error}.") from error
    _known("table", data, ("graph", "nodes", "edges", "cells"))
    about = _table("'graph'", data.get("graph", {}))
    attributes = {key: value for key, value in about.items() if key not in ("format", "arrays_sha256")}
    _check_format(about.get("format", FORMAT))
    nodes = [
        (name, _table(f"node {name!r}", given)) for name, given in _table("'nodes'", data.get("nodes", {})).items()
    ]
    edges = [_edge(n, table, "from", "to") for n, table in _tables("edges", data.get("edges", []))]
    found = [table for _, table in _tables("cells", data.get("cells", []))]
    return Document(attributes, nodes, edges, found, about.get("arrays_sha256"))


MOST_PARTS = 64
"""Parts of a dotted key in TOML; `nodes.h.op` has three. The parser takes time in the square of their number."""

_QUOTED = re.compile(r'''"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|#[^\n]*+''', re.DOTALL)
_MANY_PARTS = re.compile(rf"(?<![\w\"-])(?:[\w\"-]++[ \t]*+\.[ \t]*+){{{MOST_PARTS}}}")


def _bound_keys(text: str) -> None:
    """Refuse keys of many parts, before a parser sees them."""
    bare = _QUOTED.sub(lambda found: "" if found[0][0] == "#" else '""' + "\n" * found[0].count("\n"), text)
    found = _MANY_PARTS.search(bare)
    if found is not None:
        line = bare.count("\n", 0, found.start()) + 1
        raise FileError(f"line {line}: a key has more than {MOST_PARTS} parts, and those of a graph have three.")


def from_json(text: str) -> Document:
    """Read node-link data, as `networkx.node_link_data(graph, edges="edges")` gives it; raises `FileError`."""
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except FileError:
        raise
    except json.JSONDecodeError as error:
        raise FileError(f"line {error.lineno}, column {error.colno}: is not valid JSON: {error.msg}.") from error
    except ValueError as error:  # an integer of thousands of digits
        raise FileError(f"is not valid JSON: {error}.") from error
    data = _table("the file", data)
    if "links" in data:
        raise FileError(
            "'links' must be called 'edges'.", 'Write it with networkx.node_link_data(graph, edges="edges").'
        )
    _known("key", data, ("directed", "multigraph", "graph", "nodes", "edges"))
    if data.get("directed", True) is not True:
        raise FileError("'directed' must be true: a declared graph is directed.")
    attributes = dict(_table("'graph'", data.get("graph", {})))
    about = _table(f"{MARK!r}", attributes.pop(MARK, {}))
    _check_format(about.get("format", FORMAT))
    nodes: list[tuple[str, dict[str, Any]]] = []
    for n, table in _tables("nodes", data.get("nodes", [])):
        name = table.get("id")
        if not isinstance(name, str):
            raise FileError(f"number {n} of 'nodes': 'id' must be a string, got {show(name)}.")
        nodes.append((name, {key: value for key, value in table.items() if key != "id"}))
    edges = [_edge(n, table, "source", "target") for n, table in _tables("edges", data.get("edges", []))]
    return Document(attributes, nodes, edges, digest=about.get("arrays_sha256"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        numbers = Counter(name for name, _ in pairs)
        twice = next(name for name, number in numbers.items() if number > 1)
        raise FileError(f"one object has the key {show(twice)} twice.")
    return table


def _known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            raise FileError(f"unknown {what} {key!r}.", did_you_mean(key, known))


def _table(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FileError(f"{place} must be a table of names and values, got {show(value)}.")
    return cast("dict[str, Any]", value)


def _tables(place: str, value: Any) -> list[tuple[int, dict[str, Any]]]:
    if not isinstance(value, list):
        raise FileError(f"{place!r} must be a list of tables, got {show(value)}.", f"In TOML, write [[{place}]].")
    items = cast("list[Any]", value)
    return [(n, _table(f"number {n} of {place!r}", item)) for n, item in enumerate(items, start=1)]


def _check_format(version: Any) -> None:
    if not is_whole(version) or not 1 <= version <= FORMAT:
        raise FileError(f"has format {show(version)}; this version of forwardgrad reads formats up to {FORMAT}.")


def _edge(n: int, table: dict[str, Any], source: str, target: str) -> tuple[str, str, Any, dict[str, Any]]:
    ends: list[str] = []
    for end in (source, target):
        if not isinstance(table.get(end), str):
            got = f"got {show(table[end])}" if end in table else "and it is missing"
            shown = ", ".join(f"{key} = {show(value)}" for key, value in table.items())
            raise FileError(f"number {n} of 'edges' ({shown}): {end!r} must be the name of a node, {got}.")
        ends.append(table[end])
    rest = {key: value for key, value in table.items() if key not in (source, target, "key")}
    return ends[0], ends[1], table.get("key"), rest


def to_toml(graph: nx.MultiDiGraph[str]) -> str:
    """The text of a graph that has plain attributes only."""
    edges: list[dict[str, Any]] = []
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        # An edge alone between its nodes gets key 0 when it is read.
        given: dict[str, Any] = {} if key == 0 and graph.number_of_edges(u, v) == 1 else {"key": key}
        edges.append({"from": u, "to": v, **given, **attributes})
    about = {key: value for key, value in graph.graph.items() if key != MARK}
    nodes = {name: graph.nodes[name] for name in graph}
    return tomli_w.dumps({"graph": {**graph.graph[MARK], **about}, "nodes": nodes, "edges": edges})


def to_json(graph: nx.MultiDiGraph[str]) -> str:
    """The node-link text of a graph that has plain attributes only."""
    return json.dumps(nx.node_link_data(graph, edges="edges"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: Mapping[str, tuple[Callable[[str], Document], Callable[[nx.MultiDiGraph[str]], str]]] = {
    ".toml": (from_toml, to_toml),
    ".json": (from_json, to_json),
}
"""How files of each suffix are read and written."""
