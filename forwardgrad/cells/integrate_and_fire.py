"""Layers of spiking units, with thresholds that stay or adapt; and the readout, which may leak as they do."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


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
    cell = Cell(graph, "lif", name, size)
    leak = cell.leak(leak)
    v = cell.node("v", "linear")
    z, threshold = _spike(cell, threshold, surrogate, dampening, width)
    _potential(cell, v, z, input, leak, threshold, init, recurrent_init)
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
    cell = Cell(graph, "alif", name, size)
    leak, adaptation_leak = cell.leak(leak), cell.leak(adaptation_leak, "adaptation_leak")
    adaptation = cell.number("adaptation", adaptation, "a number >= 0", lambda value: value >= 0)
    v, a = cell.node("v", "linear"), cell.node("a", "linear")
    z, threshold = _spike(cell, threshold, surrogate, dampening, width)
    _potential(cell, v, z, input, leak, threshold, init, recurrent_init)
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
        leak: the part of the output that stays, from 0 to 1. With a leak of 0 there is no edge; otherwise its role is
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
    cell = Cell(graph, "readout", name, size)
    leak = cell.leak(leak)
    y = cell.node("", "linear", bias=cell.truth("bias", bias))
    cell.edge(cell.input(input), y, weight="dense", init=init)
    if leak:
        cell.edge(y, y, value=leak, delay=1, role="readout")
    return cell.add(y)


def _spike(cell: Cell, threshold: Any, surrogate: Any, dampening: Any, width: Any) -> tuple[str, float]:
    """Note a node of spikes, its surrogate as in the paper unless given; returns its name and its threshold."""
    threshold = cell.number("threshold", threshold, "a number greater than 0", lambda value: value > 0)
    dampening = 0.3 / threshold if dampening is None else dampening
    width = threshold if width is None else width
    options = {"threshold": threshold, "surrogate": surrogate, "dampening": dampening, "width": width}
    return cell.node("z", "spike", **options), threshold


def _potential(
    cell: Cell, v: str, z: str, input: str, leak: float, threshold: float, init: Any, recurrent_init: Any
) -> None:
    """Note the edges of a leaky potential that makes units spike and is reset by their spikes."""
    cell.edge(v, v, value=leak, delay=1)
    cell.read(v, input, z, init, recurrent_init)
    cell.edge(z, v, key="reset", value=-threshold, delay=1, role="reset")
    cell.edge(v, z)
