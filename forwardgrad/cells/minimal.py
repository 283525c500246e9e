"""Layers whose gates do not see their state, so that units never mix in time: minGRU and minLSTM."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


def min_gru(graph: nx.MultiDiGraph[str], name: str, input: str, size: int, *, init: Any = "glorot") -> str:
    """Add a layer of minimal GRU units, whose gate and candidate read the input alone.

        z(t) = sigmoid(W_z x(t) + b_z)
        n(t) = W x(t) + b
        h(t) = (1 - z(t)) * h(t-1) + z(t) * n(t)

    No unit reads another unit's past. So exact RTRL stores one number per synapse.

    Source: Feng et al. 2024, Were RNNs All We Needed?, arXiv 2410.01201, section 3.1.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.z`, `.open` (1 - z), `.n`, `.kept` ((1 - z) * h), `.new` (z * n)
            and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how the two W are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> min_gru(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "min_gru", name, size)
    z, opened = cell.node("z", "sigmoid", bias=True), cell.node("open", "one_minus")
    cell.feed(z, input, init)
    cell.edge(z, opened)
    return _mixed(cell, input, init, keep=opened, renew=z)


def min_lstm(graph: nx.MultiDiGraph[str], name: str, input: str, size: int, *, init: Any = "glorot") -> str:
    """Add a layer of minimal LSTM units, whose gates and candidate read the input alone, and whose gates sum to 1.

        f(t), i(t) = sigmoid(a_f(t)), sigmoid(a_i(t)), where a(t) = W x(t) + b, each with a W and b of its own
        n(t) = W x(t) + b
        h(t) = f(t) / (f(t) + i(t)) * h(t-1) + i(t) / (f(t) + i(t)) * n(t)

    The share of f is computed as sigmoid(softplus(-a_i) - softplus(-a_f)), which is the same number and needs no
    division (appendix B of the paper).

    Source: Feng et al. 2024, Were RNNs All We Needed?, arXiv 2410.01201, section 3.2.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.a_f`, `.a_i`, `.log_f`, `.log_i` (minus the logarithms of f and i),
            `.keep` (the share of f), `.renew` (that of i), `.n`, `.kept` (keep * h), `.new` (renew * n) and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how the three W are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> min_lstm(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "min_lstm", name, size)
    keep, renew = cell.node("keep", "sigmoid"), cell.node("renew", "one_minus")
    for gate, sign in (("f", -1.0), ("i", 1.0)):
        drive, log = cell.node(f"a_{gate}", "linear", bias=True), cell.node(f"log_{gate}", "softplus")
        cell.feed(drive, input, init)
        cell.edge(drive, log, value=-1.0)
        cell.edge(log, keep, value=sign)
    cell.edge(keep, renew)
    return _mixed(cell, input, init, keep=keep, renew=renew)


def _mixed(cell: Cell, input: str, init: Any, *, keep: str, renew: str) -> str:
    """Add a state that is mixed from what it was and a linear candidate, by two gates."""
    n, h = cell.node("n", "linear", bias=True), cell.node("h", "linear")
    kept, new = cell.node("kept", "mul"), cell.node("new", "mul")
    cell.feed(n, input, init)
    cell.multiply(kept, gate=keep, state=(h, 1))
    cell.multiply(new, gate=renew, candidate=n)
    cell.edge(kept, h)
    cell.edge(new, h)
    return cell.add(h)
