"""Which common subgraphs can be added in one call? Cells: macros over nodes and edges, of which no trace remains.

A cell named `l1` adds nodes `l1.h` and so on, drawn in one cluster, and returns the name of its output node. It adds
everything or, when something is wrong, nothing. The compiler sees nodes and edges only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import networkx as nx

from forwardgrad.errors import GraphError, did_you_mean
from forwardgrad.graph.schema import check_edge, check_node, is_whole, numbers


def elman(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of tanh units, fully connected in time: `h(t) = tanh(W x(t) + U h(t-1) + b)`.

    Source: Elman 1990, doi 10.1207/s15516709cog1402_1.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its node is `name.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> elman(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = _Cell(graph, "elman", name, size)
    h = cell.node("h", "tanh", bias=True)
    cell.edge(cell.input(input), h, weight="dense", init=init)
    cell.edge(h, h, weight="dense", delay=1, init=recurrent_init)
    return cell.add(h)


def leaky_tanh(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.5,
    trainable: bool = False,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of leaky-integrator units.

        a(t) = tanh(W x(t) + U h(t-1) + b)
        h(t) = leak h(t-1) + (1 - leak) a(t)

    With a trainable leak every unit has its own, and the same equation is written as `d(t) = h(t-1) - a(t)`,
    `h(t) = a(t) + leak d(t)`, so that the parameter stands in one place. Nothing keeps a trained leak inside (0, 1).

    Source: Jaeger et al. 2007, doi 10.1016/j.neunet.2007.04.016, whose leaking rate is `1 - leak`.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.a`, `name.h`, and `name.d` for a trainable leak.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the state that stays, from 0 to 1; a trainable leak starts there.
        trainable: whether the leak is a parameter, `(size,)`.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> leaky_tanh(g, "l1", input="x", size=8, leak=0.9)
    'l1.h'
    """
    cell = _Cell(graph, "leaky_tanh", name, size)
    leak = cell.leak(leak)
    a, h = cell.node("a", "tanh", bias=True), cell.node("h", "linear")
    cell.edge(cell.input(input), a, weight="dense", init=init)
    cell.edge(h, a, weight="dense", delay=1, init=recurrent_init)
    if cell.truth("trainable", trainable):
        d = cell.node("d", "linear")
        cell.edge(h, d, delay=1)
        cell.edge(a, d, value=-1.0)
        cell.edge(d, h, weight="diagonal", init=leak, param=f"{name}.leak")
        cell.edge(a, h)
    else:
        cell.edge(h, h, value=leak, delay=1)
        cell.edge(a, h, value=1.0 - leak)
    return cell.add(h)


def lstm(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    forget_bias: float = 1.0,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of long short-term memory with forget gates.

        i(t), f(t), o(t) = sigmoid(W x(t) + U h(t-1) + b), each with a W, U and b of its own
        g(t) = tanh(W_g x(t) + U_g h(t-1) + b_g)
        c(t) = f(t) * c(t-1) + i(t) * g(t)
        h(t) = o(t) * tanh(c(t))

    Source: Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735; forget gates: Gers et al. 2000,
    doi 10.1162/089976600300015015.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.i`, `.f`, `.o`, `.g`, `.kept` (f * c), `.new` (i * g), `.c`,
            `.tanh_c` and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        forget_bias: where the bias of the forget gate starts.
        init: how the four W are drawn.
        recurrent_init: how the four U are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> lstm(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = _Cell(graph, "lstm", name, size)
    forget_bias = cell.number("forget_bias", forget_bias)
    i = cell.node("i", "sigmoid", bias=True)
    f = cell.node("f", "sigmoid", bias=forget_bias)
    o = cell.node("o", "sigmoid", bias=True)
    g = cell.node("g", "tanh", bias=True)
    kept, new = cell.node("kept", "mul"), cell.node("new", "mul")
    c, tanh_c, h = cell.node("c", "linear"), cell.node("tanh_c", "tanh"), cell.node("h", "mul")
    for unit in (i, f, o, g):
        cell.edge(cell.input(input), unit, weight="dense", init=init)
        cell.edge(h, unit, weight="dense", delay=1, init=recurrent_init)
    cell.edge(f, kept, port="gate")
    cell.edge(c, kept, port="state", delay=1)
    cell.edge(i, new, port="gate")
    cell.edge(g, new, port="candidate")
    cell.edge(kept, c)
    cell.edge(new, c)
    cell.edge(c, tanh_c)
    cell.edge(o, h, port="gate")
    cell.edge(tanh_c, h, port="state")
    return cell.add(h)


def gru(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of gated recurrent units, with the reset gate before the matrix product.

        z(t) = sigmoid(W_z x(t) + U_z h(t-1) + b_z)
        r(t) = sigmoid(W_r x(t) + U_r h(t-1) + b_r)
        n(t) = tanh(W x(t) + U (r(t) * h(t-1)) + b)
        h(t) = z(t) * h(t-1) + (1 - z(t)) * n(t)

    Source: Cho et al. 2014, arXiv 1406.1078, equations 5 to 8.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.z`, `.r`, `.reset` (r * h), `.n`, `.kept` (z * h), `.open`
            (1 - z), `.new` ((1 - z) * n) and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how the three W are drawn.
        recurrent_init: how the three U are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> gru(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = _Cell(graph, "gru", name, size)
    z, r, n = (
        cell.node("z", "sigmoid", bias=True),
        cell.node("r", "sigmoid", bias=True),
        cell.node("n", "tanh", bias=True),
    )
    reset, kept, new = cell.node("reset", "mul"), cell.node("kept", "mul"), cell.node("new", "mul")
    opened, h = cell.node("open", "one_minus"), cell.node("h", "linear")
    for unit in (z, r, n):
        cell.edge(cell.input(input), unit, weight="dense", init=init)
    cell.edge(h, z, weight="dense", delay=1, init=recurrent_init)
    cell.edge(h, r, weight="dense", delay=1, init=recurrent_init)
    cell.edge(r, reset, port="gate")
    cell.edge(h, reset, port="state", delay=1)
    cell.edge(reset, n, weight="dense", init=recurrent_init)
    cell.edge(z, kept, port="gate")
    cell.edge(h, kept, port="state", delay=1)
    cell.edge(z, opened)
    cell.edge(opened, new, port="gate")
    cell.edge(n, new, port="candidate")
    cell.edge(kept, h)
    cell.edge(new, h)
    return cell.add(h)


def lif(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.9,
    threshold: float = 1.0,
    surrogate: str = "triangle",
    dampening: float | None = None,
    width: float | None = None,
    init: Any = "normal(0.5)",
    recurrent_init: Any = "normal(0.1)",
) -> str:
    """Add a layer of recurrent leaky integrate-and-fire units.

        v(t) = leak v(t-1) + W x(t) + U z(t-1) - threshold z(t-1)
        z(t) = 1 where v(t) > threshold, else 0

    The last term of v, the reset, is an edge of role `reset`. Credit passes a spike through its declared surrogate
    derivative.

    Source: Bellec et al. 2020, doi 10.1038/s41467-020-17236-y.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.v` (potential) and `name.z` (spikes).
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the potential that stays, from 0 to 1.
        threshold: the potential above which a unit spikes, greater than 0.
        surrogate: shape of the surrogate derivative.
        dampening: its height; `0.3 / threshold` as in the paper unless given.
        width: its width; `threshold` as in the paper unless given.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.z`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> lif(g, "l1", input="x", size=8)
    'l1.z'
    """
    cell = _Cell(graph, "lif", name, size)
    leak = cell.leak(leak)
    v = cell.node("v", "linear")
    z, threshold = cell.spike(threshold, surrogate, dampening, width)
    cell.potential(v, z, input, leak, threshold, init, recurrent_init)
    return cell.add(z)


def alif(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.9,
    threshold: float = 1.0,
    adaptation: float = 0.2,
    adaptation_leak: float = 0.97,
    surrogate: str = "triangle",
    dampening: float | None = None,
    width: float | None = None,
    init: Any = "normal(0.5)",
    recurrent_init: Any = "normal(0.1)",
) -> str:
    """Add a layer of recurrent leaky integrate-and-fire units whose thresholds adapt.

        v(t) = leak v(t-1) + W x(t) + U z(t-1) - threshold z(t-1)
        a(t) = adaptation_leak a(t-1) + z(t-1)
        z(t) = 1 where v(t) > threshold + adaptation a(t), else 0

    A unit's own spike reaches its adaptation over an edge that does not mix units, which e-prop keeps; it drops the
    reset, an edge of role `reset`. So e-prop carries a potential and an adaptation a synapse. A spike is computed, and
    its surrogate derivative taken, from v - adaptation a, which is the same threshold seen from the other side.

    Source: Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, where `adaptation` is beta and `adaptation_leak` rho.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.v` (potential), `name.a` (adaptation) and `name.z` (spikes).
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the potential that stays, from 0 to 1.
        threshold: the potential above which a rested unit spikes, greater than 0.
        adaptation: how much one spike lifts the threshold, at least 0.
        adaptation_leak: the part of the adaptation that stays, from 0 to 1.
        surrogate: shape of the surrogate derivative.
        dampening: its height; `0.3 / threshold` as in the paper unless given.
        width: its width; `threshold` as in the paper unless given.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.z`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> alif(g, "l1", input="x", size=8)
    'l1.z'
    """
    cell = _Cell(graph, "alif", name, size)
    leak, adaptation_leak = cell.leak(leak), cell.leak(adaptation_leak, "adaptation_leak")
    adaptation = cell.number("adaptation", adaptation, "a number >= 0", lambda value: value >= 0)
    v, a = cell.node("v", "linear"), cell.node("a", "linear")
    z, threshold = cell.spike(threshold, surrogate, dampening, width)
    cell.potential(v, z, input, leak, threshold, init, recurrent_init)
    cell.edge(a, a, value=adaptation_leak, delay=1)
    cell.edge(z, a, delay=1)
    cell.edge(a, z, value=-adaptation)
    return cell.add(z)


def readout(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.0,
    bias: bool = True,
    init: Any = "glorot",
) -> str:
    """Add a linear readout, leaky if asked: `y(t) = leak y(t-1) + W x(t) + b`.

    Source: Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, where the leak is written kappa.

    Args:
        graph: the graph it is added to.
        name: name of its one node, as it stands: a readout `y` is the node `y`.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the output that stays, from 0 to 1. A leak of 0 leaves the edge out; else it has the role
            `readout`, so that rules keep it where the loss stands on a later node.
        bias: whether it has a trainable bias.
        init: how W is drawn.

    Returns:
        The name of the output node, `name`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> readout(g, "y", input=lif(g, "l1", input="x", size=8), size=1, leak=0.9)
    'y'
    """
    cell = _Cell(graph, "readout", name, size)
    leak = cell.leak(leak)
    y = cell.node("", "linear", bias=cell.truth("bias", bias))
    cell.edge(cell.input(input), y, weight="dense", init=init)
    if leak:
        cell.edge(y, y, value=leak, delay=1, role="readout")
    return cell.add(y)


TABLE: Mapping[str, Callable[..., str]] = {
    "elman": elman,
    "leaky_tanh": leaky_tanh,
    "lstm": lstm,
    "gru": gru,
    "lif": lif,
    "alif": alif,
    "readout": readout,
}
"""The cells by name, as `[[cells]]` in a file names them."""


class _Cell:
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

    def leak(self, value: Any, key: str = "leak") -> float:
        """A part that stays."""
        return self.number(key, value, "a number from 0 to 1", lambda leak: 0 <= leak <= 1)

    def truth(self, key: str, value: Any) -> bool:
        """True or False."""
        if not isinstance(value, bool):
            raise GraphError(f"{self.place}: {key!r} must be True or False, got {value!r}.")
        return value

    def node(self, suffix: str, op: str, **attributes: Any) -> str:
        """Note a node, and return its full name."""
        name = f"{self.name}.{suffix}" if suffix else self.name
        if name in self.graph:
            raise GraphError(
                f"{self.place}: the graph has a node {name!r} already.",
                "Give the cell another name; nothing was added.",
            )
        layer = {"layer": self.name} if suffix else {}
        self.nodes[name] = {"op": op, "size": self.size, **layer, **attributes}
        return name

    def spike(self, threshold: Any, surrogate: Any, dampening: Any, width: Any) -> tuple[str, float]:
        """Note a node of spikes, its surrogate as in the paper unless given; returns its name and its threshold."""
        threshold = self.number("threshold", threshold, "a number greater than 0", lambda value: value > 0)
        dampening = 0.3 / threshold if dampening is None else dampening
        width = threshold if width is None else width
        options = {"threshold": threshold, "surrogate": surrogate, "dampening": dampening, "width": width}
        return self.node("z", "spike", **options), threshold

    def potential(
        self, v: str, z: str, input: str, leak: float, threshold: float, init: Any, recurrent_init: Any
    ) -> None:
        """Note the edges of a leaky potential that makes units spike and is reset by their spikes."""
        self.edge(v, v, value=leak, delay=1)
        self.edge(self.input(input), v, weight="dense", init=init)
        self.edge(z, v, weight="dense", delay=1, init=recurrent_init)
        self.edge(z, v, key="reset", value=-threshold, delay=1, role="reset")
        self.edge(v, z)

    def edge(self, source: str, target: str, *, key: int | str = 0, **attributes: Any) -> None:
        """Note an edge."""
        self.edges.append((source, target, key, attributes))

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
