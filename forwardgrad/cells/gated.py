"""Layers whose memory is kept and renewed by gates: LSTM and GRU."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


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
    cell = Cell(graph, "lstm", name, size)
    forget_bias = cell.number("forget_bias", forget_bias)
    i = cell.node("i", "sigmoid", bias=True)
    f = cell.node("f", "sigmoid", bias=forget_bias)
    o = cell.node("o", "sigmoid", bias=True)
    g = cell.node("g", "tanh", bias=True)
    kept, new = cell.node("kept", "mul"), cell.node("new", "mul")
    c, tanh_c, h = cell.node("c", "linear"), cell.node("tanh_c", "tanh"), cell.node("h", "mul")
    for unit in (i, f, o, g):
        cell.read(unit, input, h, init, recurrent_init)
    cell.multiply(kept, gate=f, state=(c, 1))
    cell.multiply(new, gate=i, candidate=g)
    cell.edge(kept, c)
    cell.edge(new, c)
    cell.edge(c, tanh_c)
    cell.multiply(h, gate=o, state=tanh_c)
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
    cell = Cell(graph, "gru", name, size)
    z, r = cell.node("z", "sigmoid", bias=True), cell.node("r", "sigmoid", bias=True)
    n = cell.node("n", "tanh", bias=True)
    reset, kept, new = cell.node("reset", "mul"), cell.node("kept", "mul"), cell.node("new", "mul")
    opened, h = cell.node("open", "one_minus"), cell.node("h", "linear")
    for unit in (z, r, n):
        cell.edge(cell.input(input), unit, weight="dense", init=init)
    cell.edge(h, z, weight="dense", delay=1, init=recurrent_init)
    cell.edge(h, r, weight="dense", delay=1, init=recurrent_init)
    cell.multiply(reset, gate=r, state=(h, 1))
    cell.edge(reset, n, weight="dense", init=recurrent_init)
    cell.multiply(kept, gate=z, state=(h, 1))
    cell.edge(z, opened)
    cell.multiply(new, gate=opened, candidate=n)
    cell.edge(kept, h)
    cell.edge(new, h)
    return cell.add(h)
