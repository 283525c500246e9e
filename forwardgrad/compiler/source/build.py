"""What do all parts of generated source share? The plan, the names of its arrays, and the text of its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.compiler.factors import WEIGHT, Factor, feedback_name
from forwardgrad.compiler.keys import influence_key
from forwardgrad.compiler.plan import Plan
from forwardgrad.compiler.source import support
from forwardgrad.compiler.source.stacks import Port, Run, Stack, stacks
from forwardgrad.compiler.source.text import Names, Series, tuple_of
from forwardgrad.graph import Edge, Node
from forwardgrad.ops import Array
from forwardgrad.ops.formula import Printable
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.structure import Structure

HELPERS = tuple(name for name, found in vars(support).items() if callable(found) and hasattr(found, "__code__"))
"""The functions of `support`."""


ROWS = 24
"""Rows of a table up to which it is written where it is used."""


@dataclass(frozen=True)
class Stage:
    """Nodes that are computed together: a cycle of the declared graph, step by step, or others, all steps at once."""

    name: str
    nodes: tuple[str, ...]
    cyclic: bool


@dataclass(frozen=True)
class Slope:
    """The derivative of a node by a port: a number, or an array over time shaped as its word says."""

    word: Structure
    constant: float | None = None
    series: Series | None = None


class Build:
    """What is known while source is generated.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.network, self.dtype = plan, plan.network, np.dtype(dtype)
        self.names = Names(HELPERS)
        self._places = Names()
        self.weights: list[str] = []
        self.constants: dict[str, Array] = {}
        self.tables: dict[str, Any] = {}
        self.calls: dict[str, tuple[str, str]] = {}
        self.stages = self._stages()
        self.stacks = {stage.name: stacks(self.network, stage.nodes) for stage in self.stages}
        self.place_in_stack: dict[Port, tuple[Stack, int]] = {
            port: (stack, place)
            for found in self.stacks.values()
            for stack in found
            for place, port in enumerate(stack.ports)
        }
        self.ports: dict[Port, Series] = {}
        self._made: dict[Any, str] = {}
        self._keys: dict[tuple[str, int], str] = {}
        for name in self.network.nodes:  # nodes get the plain names
            self.names.of(name, "node")

    # Arrays of the forward pass.

    def value(self, node: str, delay: int = 0) -> Series:
        """What a node is, or was `delay` steps before."""
        past = self.history[node]
        return Series(self.names.of(node, "node"), past - delay, past)

    @cached_property
    def history(self) -> Mapping[str, int]:
        """How many past values of each node are kept."""
        return {name: self.network.history(name) for name in self.network.nodes}

    @cached_property
    def needed(self) -> frozenset[Port]:
        """The ports whose arrays are read by derivatives."""
        return frozenset((node, port) for node, by in self.derivatives for port in self.ports_read(node, by))

    def ports_read(self, node: str, by: str) -> tuple[str, ...]:
        """The ports that the derivative of a node by a port reads."""
        declared, port = self.network.nodes[node], self._port(node, by)
        if not self.inlined(port):
            return declared.ports
        read = port.derivative.reads(len(declared.ports) + 1, declared.options)
        return tuple(name for place, name in enumerate(declared.ports) if place in read)

    @staticmethod
    def inlined(port: Any) -> bool:
        """Whether a derivative is written as an expression; any other is called."""
        return isinstance(port.derivative, Printable) and port.structure is Structure.DIAGONAL

    @cached_property
    def derivatives(self) -> tuple[Port, ...]:
        """The ports by which some sweep passes credit, and the derivative is no constant."""
        plan = self.plan
        used = dict.fromkeys(
            [(plan.product.places[i.place].node, i.port) for i in plan.product.injections]
            + [
                (self.network.edges[arc.edge].target, self.network.edges[arc.edge].port)
                for arc in plan.product.arcs
                if not arc.factor.numeric
            ]
        )
        return tuple((node, port) for node, port in used if self._port(node, port).constant is None)

    def _port(self, node: str, port: str) -> Any:
        declared = self.network.nodes[node]
        return declared.op.port(port, declared.ports)

    def port_name(self, node: str, port: str) -> str:
        """The name of a port's array."""
        return self.names.of(f"{node}_{port}", "port", node, port)

    # Weights.

    def parameter(self, name: str) -> str:
        """The array of a parameter."""
        prefix = "b" if name in self.plan.parameters and self.plan.parameters[name].kind == "bias" else "w"
        found = self.names.of(f"{prefix}_{name.removesuffix('.bias') if prefix == 'b' else name}", "parameter", name)
        return self._weight(("parameter", name), found, f"params[{name!r}]")

    def _weight(self, key: Any, name: str, text: str) -> str:
        if key not in self._made:
            self._made[key] = name
            self.weights.append(f"{name} = {text}")
        return self._made[key]

    def constant(self, wanted: str, array: Any, dtype: Any = None) -> str:
        """An array that is part of the program."""
        array = np.asarray(array, self.dtype if dtype is None else dtype)
        key = ("constant", wanted, array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = self.names.of(wanted, *key)
            self.constants[self._made[key]] = array
        return self._made[key]

    def table(self, before: str, rows: Sequence[Sequence[str] | str], after: str) -> str:
        """Rows of names, in a statement; many of them by the name of a table."""
        return tuple_of(rows, before, after) if len(rows) <= ROWS else f"{before}{self.listed(rows)}{after}"

    def listed(self, rows: Sequence[Sequence[str] | str]) -> str:
        """The name of a table of these rows."""
        name = self.names.of("table", "table", tuple(rows))
        self.tables[name] = tuple(rows)
        return name

    def key(self, name: str, place: int) -> str:
        """The key of a parameter's influence on a place."""
        if (name, place) not in self._keys:
            self._keys[name, place] = influence_key(self.plan, name, place)
        return self._keys[name, place]

    def number(self, wanted: str, value: Any) -> str:
        """A number as it is written, or an array by its name."""
        array = np.asarray(value)
        return repr(float(array)) if array.ndim == 0 else self.constant(wanted, array)

    def weight(self, edge: Edge, factor: Factor = WEIGHT) -> str:
        """The array by which an edge multiplies: values, or adjoints in place of its weight; "" for an identity."""
        if factor.numeric:
            values = np.asarray(factor.values)
            return self.number(f"{factor.kind}_{edge.name}", values if values.size > 1 else values[0])
        if factor.kind == "diagonal":
            whole = self.weight(edge)
            return self._weight(("diagonal", whole), self.names.of(f"{whole}_diagonal"), f"np.diagonal({whole})")
        if factor.kind == "rest":
            whole = self.weight(edge)
            return self._weight(("rest", whole), self.names.of(f"{whole}_rest"), f"without_diagonal({whole})")
        if factor.kind == "random":
            return self._random(edge, factor)
        if edge.kind == "identity":
            return ""
        name = feedback_name(edge.name) if factor.kind == "adaptive" else edge.param
        if name is None:
            value = np.asarray(edge.value)
            if edge.pattern is not None:
                value = support.matrix(value, edge.pattern.rows, edge.pattern.columns, edge.pattern.shape)
            return self.number(f"c_{edge.name}", value)
        return self._as_matrix(edge, self.parameter(name))

    def _as_matrix(self, edge: Edge, entries: str) -> str:
        """A sparse weight as a matrix; any other as it is."""
        if edge.pattern is None:
            return entries
        rows, columns = self.pattern(edge)
        text = f"matrix({entries}, {rows}, {columns}, {edge.pattern.shape})"
        return self._weight(("matrix", entries), self.names.of(f"{entries}_matrix"), text)

    def pattern(self, edge: Edge) -> tuple[str, str]:
        """Rows and columns of a sparse weight's entries."""
        assert edge.pattern is not None
        name = edge.param or edge.name
        return (
            self.constant(f"rows_{name}", edge.pattern.rows, np.intp),
            self.constant(f"columns_{name}", edge.pattern.columns, np.intp),
        )

    def _random(self, edge: Edge, factor: Factor) -> str:
        parameter = self.network.parameters.get(edge.param or "")
        shape: tuple[int, ...] = np.asarray(edge.value).shape if parameter is None else parameter.shape
        drawn = np.asarray(random_feedback(edge.name, shape, factor.seed))
        if edge.pattern is not None:
            drawn = support.matrix(drawn, edge.pattern.rows, edge.pattern.columns, edge.pattern.shape)
        return self.number(f"feedback_{edge.name}", drawn)

    def run_weight(self, run: Run, stack: Stack) -> str:
        """The weights of a run, one below the other."""
        names = [self.weight(edge) for edge in run.edges]
        if len(names) == 1:
            return names[0]
        name = self.names.of(f"w_{run.source}_{self.stack_name(stack)}", "run", *names)
        return self._weight(("run", *names), name, f"np.concatenate(({', '.join(names)}))")

    def stack_name(self, stack: Stack) -> str:
        """The name of the array of a stack."""
        return self.names.of("_".join(node for node, _ in stack.ports), "stack", stack.ports)

    # Ops.

    def called(self, kind: str, node: Node, port: str = "") -> str:
        """The function that calls a node's op, where it is not a formula: its value, or its derivative by a port."""
        name = self.names.of(f"{kind}_{node.op.name}_{port}".strip("_"), "call", node.name, port)
        self.calls[name] = (node.name, port)
        return name

    def option(self, node: Node, name: str, value: Any) -> str:
        """An option of a node, as it is written."""
        return repr(value) if isinstance(value, str) else self.number(f"{name}_{node.name}", value)

    def expression(self, node: Node, function: Any, arguments: Sequence[str | None], like: str = "") -> str | None:
        """An op's value or derivative as an expression, if it is a formula.

        Args:
            node: whose.
            function: the value or derivative.
            arguments: as expressions; `None` for a port that is not read.
            like: an array whose shape and type the expression must have; none where it is written into an array.
        """
        if not isinstance(function, Printable):
            return None
        text = function.printed(arguments, node.options, partial(self.option, node))
        return f"fitted({text}, {like})" if like and not function.keeps(node.options) else text

    # The product.

    @cached_property
    def several(self) -> frozenset[str]:
        """The nodes that stand in the product in more than one mode."""
        nodes = Counter(place.node for place in self.plan.product.places)
        return frozenset(node for node, count in nodes.items() if count > 1)

    def place(self, place: int) -> str:
        """How a place is named: by its node, and its mode where there are several."""
        found = self.plan.product.places[place]
        wanted = f"{found.node}_{found.label}" if found.node in self.several else found.node
        return self._places.of(wanted, place)

    # Stages.

    def _stages(self) -> list[Stage]:
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(name for name in self.network.order if name not in self.network.inputs)
        graph.add_edges_from((edge.source, edge.target) for edge in self.network.edges.values() if edge.source in graph)
        order = {name: place for place, name in enumerate(self.network.order)}
        condensed = nx.condensation(graph)
        first = {c: min(order[name] for name in condensed.nodes[c]["members"]) for c in condensed}
        found: list[tuple[list[str], bool]] = []
        for c in nx.lexicographical_topological_sort(condensed, key=first.__getitem__):
            nodes = sorted(condensed.nodes[c]["members"], key=order.__getitem__)
            cyclic = len(nodes) > 1 or graph.has_edge(nodes[0], nodes[0])
            if found and not cyclic and not found[-1][1]:
                found[-1][0].extend(nodes)
            else:
                found.append((nodes, cyclic))
        stages: list[Stage] = []
        for nodes, cyclic in found:
            layers = {self.network.nodes[name].layer for name in nodes} - {None}
            word = str(layers.pop()) if len(layers) == 1 else "_".join(nodes[:3])
            stages.append(Stage(self.names.of(f"forward_{word}", "stage", nodes[0]), tuple(nodes), cyclic))
        return stages
