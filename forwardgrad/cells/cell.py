"""The nodes and edges of a cell, collected and checked before any of them is added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad import ops
from forwardgrad.errors import GraphError, did_you_mean
from forwardgrad.graph.schema import check_edge, check_node
from forwardgrad.support.attributes import MOST, is_whole, numbers, show

LARGEST = 2**28
"""Most numbers that a cell draws, 2 GiB: a file must not take all memory."""


class Cell:
    """The nodes and edges of a cell, collected and checked before any of them is added."""

    def __init__(self, graph: nx.MultiDiGraph[str], kind: str, name: str, size: int) -> None:
        self.place = f"cell {kind}({name!r})"
        given = cast(Any, graph)
        if not isinstance(given, nx.MultiDiGraph):
            raise GraphError(
                f"{self.place}: a cell is added to a networkx.MultiDiGraph, got {type(given).__name__}.",
                "Make one: graph = networkx.MultiDiGraph().",
            )
        if not isinstance(cast(Any, name), str) or not name:
            raise GraphError(f"{self.place}: the name of a cell is a non-empty string.")
        if not is_whole(size) or size < 1:
            raise GraphError(f"{self.place}: 'size' must be a whole number >= 1, got {size!r}.")
        self.graph, self.name, self.size = graph, name, int(size)
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: list[tuple[str, str, int | str, dict[str, Any]]] = []

    def input(self, name: str) -> str:
        """The name of the node that feeds the cell, which must be there."""
        if not isinstance(cast(Any, name), str) or name not in self.graph:
            raise GraphError(
                f"{self.place}: 'input' names no node of the graph: {name!r}.",
                did_you_mean(name, [node for node in self.graph if isinstance(cast(Any, node), str)]),
            )
        return name

    def number(
        self, key: str, value: Any, wanted: str = "a finite number", legal: Callable[[float], bool] = lambda _: True
    ) -> float:
        """A finite number in its range."""
        array = None if isinstance(value, bool) else numbers(value)
        if array is None or array.ndim or not legal(float(array)):
            raise GraphError(f"{self.place}: {key!r} must be {wanted}, got {value!r}.")
        return float(array)

    def per_unit(self, key: str, value: Any) -> Any:
        """A finite number, or an array of them with one for each unit."""
        array = None if isinstance(value, bool) else numbers(value)
        if array is None or array.shape not in ((), (self.size,)):
            raise GraphError(
                f"{self.place}: {key!r} must be a finite number, or {self.size} of them, one for each unit, "
                f"got {show(value)}."
            )
        return array if array.ndim else float(array)

    def leak(self, value: Any, key: str = "leak") -> float:
        """A part that stays."""
        return self.number(key, value, "a number from 0 to 1", lambda leak: 0 <= leak <= 1)

    def truth(self, key: str, value: Any) -> bool:
        """True or False."""
        if not isinstance(value, bool):
            raise GraphError(f"{self.place}: {key!r} must be True or False, got {value!r}.")
        return value

    def whole(self, key: str, value: Any, least: int, most: int = MOST) -> int:
        """A whole number in its range."""
        if not is_whole(value) or not least <= value <= most:
            wanted = f">= {least}" if most == MOST else f"from {least} to {most}"
            raise GraphError(f"{self.place}: {key!r} must be a whole number {wanted}, got {value!r}.")
        return int(value)

    def draw(self, seed: Any, count: int) -> np.random.Generator:
        """A random generator for a cell that draws `count` numbers."""
        if count > LARGEST:
            raise GraphError(
                f"{self.place}: draws {count:,} numbers; at most {LARGEST:,} can be drawn.", "Lower 'size'."
            )
        return np.random.default_rng(self.whole("seed", seed, 0))

    def word(self, key: str, value: Any, *choices: str) -> str:
        """One of some words."""
        if not isinstance(value, str) or value not in choices:
            wanted = " or ".join(map(repr, choices))
            raise GraphError(f"{self.place}: {key!r} must be {wanted}, got {value!r}.")
        return value

    def function(self, key: str, value: Any) -> str:
        """An op that can take the place of a nonlinearity: of one port called `in`, or unknown, which `add` says."""
        if isinstance(value, str) and value in ops.names() and [port.name for port in ops.get(value).ports] != ["in"]:
            raise GraphError(f"{self.place}: {key!r} must be an op of one port, such as 'tanh', got {value!r}.")
        return value

    def node(self, suffix: str, op: str, **attributes: Any) -> str:
        """Note a node, and return its full name. It has the size of the cell, unless its parts say another."""
        name = f"{self.name}.{suffix}" if suffix else self.name
        if name in self.graph:
            raise GraphError(
                f"{self.place}: the graph has a node {name!r} already.",
                "Give the cell another name; nothing was added.",
            )
        layer = {"layer": self.name} if suffix else {}
        size = {} if op in ops.names() and ops.get(op).joins else {"size": self.size}
        self.nodes[name] = {"op": op, **size, **layer, **attributes}
        return name

    def edge(self, source: str, target: str, *, key: int | str = 0, **attributes: Any) -> None:
        """Note an edge."""
        self.edges.append((source, target, key, attributes))

    def feed(self, unit: str, input: str, init: Any, **attributes: Any) -> None:
        """Note the dense edge by which a node reads the input of the cell."""
        self.edge(self.input(input), unit, weight="dense", init=init, **attributes)

    def read(self, unit: str, input: str, state: str, init: Any, recurrent_init: Any) -> None:
        """Note dense edges by which a node reads the input of the cell, and what a state was one step ago."""
        self.feed(unit, input, init)
        self.edge(state, unit, weight="dense", delay=1, init=recurrent_init)

    def decay(self, state: str, leak: float) -> None:
        """Note the edge by which every unit keeps a part of its own state."""
        self.edge(state, state, value=leak, delay=1)

    def multiply(self, product: str, **factors: str | tuple[str, int]) -> None:
        """Note the edges into a product: by port a node, or a node and how many steps ago it is read."""
        for port, factor in factors.items():
            if isinstance(factor, str):
                self.edge(factor, product, port=port)
            else:
                self.edge(factor[0], product, port=port, delay=factor[1])

    def add(self, output: str) -> str:
        """Check all that was noted, add it to the graph, and return the output node's name."""
        try:
            for name, attributes in self.nodes.items():
                check_node(name, attributes)
            for source, target, key, attributes in self.edges:
                check_edge(source, target, key, attributes)
        except GraphError as error:
            raise GraphError(f"{self.place}: {error}") from None
        self.graph.add_nodes_from(self.nodes.items())
        for source, target, key, attributes in self.edges:
            self.graph.add_edge(source, target, key=key, **attributes)
        return output
