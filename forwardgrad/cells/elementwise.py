"""Gated layers in which every unit sees its own state alone: element-wise and columnar LSTM."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell
from forwardgrad.cells.gated import gated_memory


def elstm(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    init: Any = "glorot",
    recurrent_init: Any = "uniform(-0.5, 0.5)",
    output_init: Any = "glorot",
) -> str:
    """Add a layer of element-wise LSTM, whose gate and candidate see the cell state of their own unit.

        f(t) = sigmoid(W_f x(t) + w_f * c(t-1) + b_f)
        z(t) = tanh(W_z x(t) + w_z * c(t-1) + b_z)
        c(t) = f(t) * c(t-1) + (1 - f(t)) * z(t)
        o(t) = sigmoid(W_o x(t) + U_o c(t) + b_o)
        h(t) = o(t) * c(t)

    The output gate mixes units, and no state reads it. So exact RTRL stores one number per synapse.

    Source: Irie et al. 2023, Exploring the Promise and Limits of Real-Time Recurrent Learning, arXiv 2305.19044,
    section 3.1.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.f`, `.open` (1 - f), `.z`, `.kept` (f * c), `.new` ((1 - f) * z),
            `.c`, `.o` and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how the three W are drawn.
        recurrent_init: how the two w are drawn.
        output_init: how U_o is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> elstm(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "elstm", name, size)
    f, z = cell.node("f", "sigmoid", bias=True), cell.node("z", "tanh", bias=True)
    o, opened = cell.node("o", "sigmoid", bias=True), cell.node("open", "one_minus")
    kept, new = cell.node("kept", "mul"), cell.node("new", "mul")
    c, h = cell.node("c", "linear"), cell.node("h", "mul")
    for unit in (f, z, o):
        cell.feed(unit, input, init)
    for unit in (f, z):
        cell.edge(c, unit, weight="diagonal", delay=1, init=recurrent_init)
    cell.edge(c, o, weight="dense", init=output_init)
    cell.edge(f, opened)
    cell.multiply(kept, gate=f, state=(c, 1))
    cell.multiply(new, gate=opened, candidate=z)
    cell.edge(kept, c)
    cell.edge(new, c)
    cell.multiply(h, gate=o, state=c)
    return cell.add(h)


def columnar_lstm(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    forget_bias: Any = 1.0,
    init: Any = "glorot",
    recurrent_init: Any = "uniform(-0.5, 0.5)",
) -> str:
    """Add columns of long short-term memory: each is a network of one unit that sees the input and itself.

        i(t), f(t), o(t) = sigmoid(W x(t) + u * h(t-1) + b), each with a W, u and b of its own
        g(t) = tanh(W_g x(t) + u_g * h(t-1) + b_g)
        c(t) = f(t) * c(t-1) + i(t) * g(t)
        h(t) = o(t) * tanh(c(t))

    It is `lstm` with recurrent weights on the diagonal. Exact RTRL stores two numbers per synapse, on c and on h.

    Source: Javed et al. 2023, Scalable Real-Time Recurrent Learning Using Columnar-Constructive Networks,
    arXiv 2302.05326.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are those of `lstm`.
        input: name of the node that feeds it.
        size: number of columns.
        forget_bias: where the bias of the forget gate starts: a number, or one for each column, `(size,)`.
        init: how the four W are drawn.
        recurrent_init: how the four u are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> columnar_lstm(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "columnar_lstm", name, size)
    biases = {"f": cell.per_unit("forget_bias", forget_bias)}
    _, _, h = gated_memory(cell, input, init, biases, weight="diagonal", init=recurrent_init)
    return cell.add(h)
