"""What does a validated graph look like? Frozen nodes, edges and parameters, with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from forwardgrad.ops import Array, Op
from forwardgrad.weights import Pattern


@dataclass(frozen=True)
class Node:
    """A node: `v(t) = op(ports)`, where each port holds the sum of its in-edges plus the bias if it is the bias port.

    Args:
        name: its name in the graph.
        op: the registered op.
        size: number of units.
        shape: axes of these units, whose product is `size`; `(size,)` where the graph gives none.
        ports: the fed ports, in the order in which the op takes them.
        options: the op's options, complete.
        initial: `(size,)`, what delayed edges read before t = 0.
        bias: name of the bias parameter, or `None`.
        bias_port: the port the bias is added to, where there is one.
        layer: name of the cluster it is drawn in, or `None`.
    """

    name: str
    op: Op
    size: int
    ports: tuple[str, ...]
    options: Mapping[str, Any]
    initial: Array
    shape: tuple[int, ...]
    bias: str | None = None
    bias_port: str = "in"
    layer: str | None = None


@dataclass(frozen=True)
class Edge:
    """An edge: adds `W u(t - delay)` to a port of its target.

    Args:
        name: `"u->v"`, or `"u->v#key"` when the networkx key is not 0.
        source, target, key: as in the graph.
        weight: name of its weight kind.
        kind: the form of that kind: `identity`, `scalar`, `diagonal`, `dense` or `sparse`.
        port: port of the target.
        delay: whole number of steps, >= 0.
        param: name of its parameter, or `None` for an identity or a fixed value.
        value: the fixed weight, shaped as its kind says (`()`, `(size,)`, `(target, source)`, `(nnz,)`), or `None`.
        pattern: the synapse table of a weight that has one.
        moves: whether units only come to other places by the weight: it does not mix them.
        role: a word that rules may look at.
        credit: `cut`, `keep` or `None`: the rule decides.
    """

    name: str
    source: str
    target: str
    key: int | str
    weight: str
    kind: str
    port: str
    delay: int = 0
    param: str | None = None
    value: Array | None = None
    pattern: Pattern | None = None
    moves: bool = False
    role: str | None = None
    credit: str | None = None


@dataclass(frozen=True)
class Parameter:
    """A named array, on one edge, on several that share it, or on a node as its bias.

    Args:
        name: its name in `params` and `grads`.
        kind: the form of a weight kind, or `bias`.
        shape: shape of the array: `()`, `(size,)`, `(target, source)`, `(nnz,)`, or that of a kernel.
        trainable: whether it is in `grads`.
        init: how it is drawn: a word, a word with an argument, a number or an array.
        fan: `(inputs, outputs)` per unit, which scale random initial weights.
        edges: names of the edges it stands on; empty for a bias.
        node: the node whose bias it is, or `None`.
        pattern: the synapse table of a weight that has one.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    trainable: bool
    init: Any
    fan: tuple[float, float] = (1.0, 1.0)
    edges: tuple[str, ...] = ()
    node: str | None = None
    pattern: Pattern | None = None

    @property
    def synapses(self) -> tuple[int, ...]:
        """The shape of an array that has a number for each synapse: other than `shape` where these share entries."""
        return self.shape if self.pattern is None else (len(self.pattern.rows),)


@dataclass(frozen=True)
class Network:
    """A declared graph, validated: what the compiler and the oracles read.

    Args:
        nodes: by name, in the order of the declared graph.
        edges: by name, in the order of the declared graph.
        parameters: by name, edges first, then biases.
        order: all nodes, such that every edge of delay 0 points forward.
    """

    nodes: Mapping[str, Node]
    edges: Mapping[str, Edge]
    parameters: Mapping[str, Parameter]
    order: tuple[str, ...]
    into: Mapping[str, tuple[Edge, ...]] = field(repr=False)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The input nodes, in the order of the declared graph."""
        return tuple(name for name, node in self.nodes.items() if node.op.given)

    @cached_property
    def trainable(self) -> tuple[str, ...]:
        """The parameters that have a gradient."""
        return tuple(name for name, parameter in self.parameters.items() if parameter.trainable)

    def history(self, name: str) -> int:
        """How many past values of a node delayed edges read: the longest delay among its out-edges."""
        return self._histories.get(name, 0)

    @cached_property
    def _histories(self) -> Mapping[str, int]:
        longest: dict[str, int] = {}
        for edge in self.edges.values():
            longest[edge.source] = max(longest.get(edge.source, 0), edge.delay)
        return longest
