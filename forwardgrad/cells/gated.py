"""Layers whose memory is kept and renewed by gates: LSTM, GRU, its form that speaks in events, and MGU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


def lstm(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    forget_bias: Any = 1.0,
    input_bias: Any = 0.0,
    peepholes: bool = False,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of long short-term memory with forget gates.

        i(t), f(t), o(t) = sigmoid(W x(t) + U h(t-1) + b), each with a W, U and b of its own
        g(t) = tanh(W_g x(t) + U_g h(t-1) + b_g)
        c(t) = f(t) * c(t-1) + i(t) * g(t)
        h(t) = o(t) * tanh(c(t))

    With peepholes, gates see the cell state too, each unit its own: `p_i c(t-1)` is added inside i, `p_f c(t-1)` inside
    f, and `p_o c(t)` inside o.

    Source: Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735; forget gates: Gers et al. 2000,
    doi 10.1162/089976600300015015; peepholes: Gers et al. 2002, Journal of Machine Learning Research 3, 115-143.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.i`, `.f`, `.o`, `.g`, `.kept` (f * c), `.new` (i * g), `.c`,
            `.tanh_c` and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        forget_bias: where the bias of the forget gate starts: a number, or one for each unit, `(size,)`. For memories
            of up to T steps Tallec & Ollivier 2018 (arXiv 1804.11188) draw log(uniform(1, T - 1)), and
            `input_bias` is then minus that.
        input_bias: where the bias of the input gate starts, in the same way.
        peepholes: whether gates see the cell state; its weights, `(size,)`, start at 0.
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
    biases = {"i": cell.per_unit("input_bias", input_bias), "f": cell.per_unit("forget_bias", forget_bias)}
    (i, f, o, _), c, h = gated_memory(cell, input, init, biases, weight="dense", init=recurrent_init)
    if cell.truth("peepholes", peepholes):
        for unit, delay in ((i, 1), (f, 1), (o, 0)):
            cell.edge(c, unit, weight="diagonal", init=0.0, delay=delay)
    return cell.add(h)


def gated_memory(
    cell: Cell, input: str, input_init: Any, biases: Mapping[str, Any], **recurrent: Any
) -> tuple[tuple[str, ...], str, str]:
    """Note the nodes i, f, o, g, c and h of long short-term memory, and the edges between them.

    Args:
        cell: to which they belong.
        input: name of the node that feeds it.
        input_init: how the weights from it are drawn.
        biases: of gates, by their letters; the others start at 0.
        recurrent: the attributes of the edges from h to the gates.

    Returns:
        The nodes i, f, o, g; c; h.
    """
    gates = tuple(cell.node(u, "tanh" if u == "g" else "sigmoid", bias=biases.get(u, True)) for u in "ifog")
    kept, new = cell.node("kept", "mul"), cell.node("new", "mul")
    c, tanh_c, h = cell.node("c", "linear"), cell.node("tanh_c", "tanh"), cell.node("h", "mul")
    for unit in gates:
        cell.feed(unit, input, input_init)
        cell.edge(h, unit, delay=1, **recurrent)
    i, f, o, g = gates
    cell.multiply(kept, gate=f, state=(c, 1))
    cell.multiply(new, gate=i, candidate=g)
    cell.edge(kept, c)
    cell.edge(new, c)
    cell.edge(c, tanh_c)
    cell.multiply(h, gate=o, state=tanh_c)
    return gates, c, h


def gru(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    reset: str = "before",
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of gated recurrent units, whose reset gate acts before the matrix product or after it.

        z(t) = sigmoid(W_z x(t) + U_z h(t-1) + b_z)
        r(t) = sigmoid(W_r x(t) + U_r h(t-1) + b_r)
        n(t) = tanh(W x(t) + U (r(t) * h(t-1)) + b)
        h(t) = z(t) * h(t-1) + (1 - z(t)) * n(t)

    With the reset gate after the matrix product, as in PyTorch and cuDNN,

        n(t) = tanh(W x(t) + b + r(t) * (U h(t-1) + c))

    Source: Cho et al. 2014, arXiv 1406.1078, equations 5 to 8 of version 3; `"after"` is the form of its version 1.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.z`, `.r`, `.reset` (r * h), `.n`, `.kept` (z * h), `.open`
            (1 - z), `.new` ((1 - z) * n) and `.h`. With the reset after the product, `.recalled` is U h(t-1) + c and
            `.reset` is r * recalled.
        input: name of the node that feeds it.
        size: number of units.
        reset: `"before"` or `"after"` the matrix product.
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
    before = cell.word("reset", reset, "before", "after") == "before"
    h = f"{name}.h"
    _renewed(cell, h, h, h, input, before, init, recurrent_init)
    return cell.add(cell.node("h", "linear"))


def egru(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    threshold: float = 0.3,
    reset: str = "after",
    surrogate: str = "triangle",
    dampening: float = 0.7,
    width: float = 1.0,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of event-based gated recurrent units, which say what they hold only when it passes a threshold.

        z(t), r(t), n(t) as in `gru`, of x(t) and h(t-1)
        c(t) = z(t) * left(t-1) + (1 - z(t)) * n(t)
        e(t) = 1 where c(t) > threshold, else 0
        left(t) = c(t) - threshold e(t)
        h(t) = e(t) * c(t)

    Most entries of h are 0. Credit passes an event through its declared surrogate derivative; the last term of left,
    the reset, is an edge of role `reset`.

    Source: Subramoney et al. 2023, arXiv 2206.06178; the reset as in the code that its authors published, EvNN, where
    every unit has a threshold of its own, which is trained; here it is one number and stays.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are those of `gru`, and `name.c`, `.e` (events), `.left` and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        threshold: the state above which a unit speaks, greater than 0.
        reset: where the reset gate acts, `"before"` or `"after"` the matrix product.
        surrogate: shape of the surrogate derivative.
        dampening: its height.
        width: its width.
        init: how the three W are drawn.
        recurrent_init: how the three U are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> egru(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "egru", name, size)
    threshold = cell.number("threshold", threshold, "a number greater than 0", lambda value: value > 0)
    before = cell.word("reset", reset, "before", "after") == "before"
    _renewed(cell, f"{name}.c", f"{name}.left", f"{name}.h", input, before, init, recurrent_init)
    c, left, h = cell.node("c", "linear"), cell.node("left", "linear"), cell.node("h", "mul")
    e = cell.node("e", "spike", threshold=threshold, surrogate=surrogate, dampening=dampening, width=width)
    cell.edge(c, e)
    cell.edge(c, left)
    cell.edge(e, left, key="reset", value=-threshold, role="reset")
    cell.multiply(h, event=e, state=c)
    return cell.add(h)


def _renewed(
    cell: Cell, memory: str, kept: str, seen: str, input: str, before: bool, init: Any, recurrent_init: Any
) -> None:
    """Note the gates of a gated recurrent unit.

    Args:
        cell: to which they belong.
        memory: the node that is renewed.
        kept: the node of which a part is kept one step later, such as the memory itself.
        seen: the node that gates and candidates see one step later.
        input: name of the node that feeds the cell.
        before: whether the reset gate acts before the matrix product.
        init: how weights from the input are drawn.
        recurrent_init: how weights from what is seen are drawn.
    """
    z, r = cell.node("z", "sigmoid", bias=True), cell.node("r", "sigmoid", bias=True)
    n = cell.node("n", "tanh", bias=True)
    reset, still, new = cell.node("reset", "mul"), cell.node("kept", "mul"), cell.node("new", "mul")
    opened = cell.node("open", "one_minus")
    for unit in (z, r, n):
        cell.feed(unit, input, init)
    for unit in (z, r):
        cell.edge(seen, unit, weight="dense", delay=1, init=recurrent_init)
    if before:
        cell.multiply(reset, gate=r, state=(seen, 1))
        cell.edge(reset, n, weight="dense", init=recurrent_init)
    else:
        recalled = cell.node("recalled", "linear", bias=True)
        cell.edge(seen, recalled, weight="dense", delay=1, init=recurrent_init)
        cell.multiply(reset, gate=r, state=recalled)
        cell.edge(reset, n)
    cell.multiply(still, gate=z, state=(kept, 1))
    cell.edge(z, opened)
    cell.multiply(new, gate=opened, candidate=n)
    cell.edge(still, memory)
    cell.edge(new, memory)


def mgu(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of minimal gated units, in which one gate both forgets and resets.

        f(t) = sigmoid(W_f x(t) + U_f h(t-1) + b_f)
        n(t) = tanh(W x(t) + U (f(t) * h(t-1)) + b)
        h(t) = (1 - f(t)) * h(t-1) + f(t) * n(t)

    Source: Zhou et al. 2016, doi 10.1007/s11633-016-1006-2, arXiv 1603.09420, equations 7.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.f`, `.reset` (f * h), `.n`, `.open` (1 - f), `.kept`
            ((1 - f) * h), `.new` (f * n) and `.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how the two W are drawn.
        recurrent_init: how the two U are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> mgu(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "mgu", name, size)
    f, n = cell.node("f", "sigmoid", bias=True), cell.node("n", "tanh", bias=True)
    reset, kept, new = cell.node("reset", "mul"), cell.node("kept", "mul"), cell.node("new", "mul")
    opened, h = cell.node("open", "one_minus"), cell.node("h", "linear")
    cell.read(f, input, h, init, recurrent_init)
    cell.feed(n, input, init)
    cell.multiply(reset, gate=f, state=(h, 1))
    cell.edge(reset, n, weight="dense", init=recurrent_init)
    cell.edge(f, opened)
    cell.multiply(kept, gate=opened, state=(h, 1))
    cell.multiply(new, gate=f, candidate=n)
    cell.edge(kept, h)
    cell.edge(new, h)
    return cell.add(h)
