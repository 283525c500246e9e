"""Layers of spiking units, with thresholds that stay or adapt, or with synaptic currents; and the leaky readout."""

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
    refractory: int = 0,
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
    derivative. In the steps of a refractory period both spike and derivative are 0, and the potential goes on.

    Source: Bellec et al. 2020, doi 10.1038/s41467-020-17236-y.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.v` (potential) and `name.z` (spikes). With a refractory period
            `.s` is where v is above the threshold, `.resting` whether a unit has just spiked (an op `stop`: no credit
            passes), `.ready` 1 - resting, and z their product.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the potential that stays, from 0 to 1.
        threshold: the potential above which a unit spikes, greater than 0.
        refractory: for how many steps after a spike a unit does not spike, up to 1000.
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
    s, z, threshold = _spike(cell, threshold, refractory, surrogate, dampening, width)
    cell.decay(v, leak)
    cell.read(v, input, z, init, recurrent_init)
    _fire(cell, v, s, z, threshold)
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
    refractory: int = 0,
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
        name: name of the cell; its nodes are `name.v` (potential), `name.a` (adaptation) and `name.z` (spikes), and
            those of a refractory period as in `lif`.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the potential that stays, from 0 to 1.
        threshold: the potential above which a rested unit spikes, greater than 0.
        adaptation: how much one spike lifts the threshold, at least 0.
        adaptation_leak: the part of the adaptation that stays, from 0 to 1.
        refractory: for how many steps after a spike a unit does not spike, up to 1000.
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
    s, z, threshold = _spike(cell, threshold, refractory, surrogate, dampening, width)
    cell.decay(v, leak)
    cell.read(v, input, z, init, recurrent_init)
    _fire(cell, v, s, z, threshold)
    cell.decay(a, adaptation_leak)
    cell.edge(z, a, delay=1)
    cell.edge(a, s, value=-adaptation)
    return cell.add(z)


def cuba_lif(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.9,
    synaptic_leak: float = 0.8,
    threshold: float = 1.0,
    refractory: int = 0,
    surrogate: str = "triangle",
    dampening: float | None = None,
    width: float | None = None,
    init: Any = "normal(0.5)",
    recurrent_init: Any = "normal(0.1)",
) -> str:
    """Add a layer of recurrent leaky integrate-and-fire units that are driven by synaptic currents.

        i(t) = synaptic_leak i(t-1) + W x(t) + U z(t-1)
        v(t) = leak v(t-1) + i(t) - threshold z(t-1)
        z(t) = 1 where v(t) > threshold, else 0

    The last term of v, the reset, is an edge of role `reset`.

    Source: Eshraghian et al. 2023, doi 10.1109/JPROC.2023.3308088, the second-order neuron of snnTorch, where the leaks
    are beta and alpha. In Neftci et al. 2019, doi 10.1109/MSP.2019.2931595, v(t) reads i(t-1).

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.i` (current), `name.v` (potential) and `name.z` (spikes), and those
            of a refractory period as in `lif`.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the potential that stays, from 0 to 1.
        synaptic_leak: the part of the current that stays, from 0 to 1.
        threshold: the potential above which a unit spikes, greater than 0.
        refractory: for how many steps after a spike a unit does not spike, up to 1000.
        surrogate: shape of the surrogate derivative.
        dampening: its height; `0.3 / threshold` as in `lif` unless given.
        width: its width; `threshold` as in `lif` unless given.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.z`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> cuba_lif(g, "l1", input="x", size=8, refractory=2)
    'l1.z'
    """
    cell = Cell(graph, "cuba_lif", name, size)
    leak, synaptic_leak = cell.leak(leak), cell.leak(synaptic_leak, "synaptic_leak")
    i, v = cell.node("i", "linear"), cell.node("v", "linear")
    s, z, threshold = _spike(cell, threshold, refractory, surrogate, dampening, width)
    cell.decay(i, synaptic_leak)
    cell.read(i, input, z, init, recurrent_init)
    cell.decay(v, leak)
    cell.edge(i, v)
    _fire(cell, v, s, z, threshold)
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


def _spike(
    cell: Cell, threshold: Any, refractory: Any, surrogate: Any, dampening: Any, width: Any
) -> tuple[str, str, float]:
    """Note a node of spikes, its surrogate as in Bellec et al. unless given, and the rest after each spike.

    Returns:
        The node of what is above its threshold, the node of spikes, which is the same unless units rest; and the
        threshold.
    """
    threshold = cell.number("threshold", threshold, "a number greater than 0", lambda value: value > 0)
    refractory = cell.whole("refractory", refractory, 0, 1000)
    dampening = 0.3 / threshold if dampening is None else dampening
    width = threshold if width is None else width
    options = {"threshold": threshold, "surrogate": surrogate, "dampening": dampening, "width": width}
    if not refractory:
        z = cell.node("z", "spike", **options)
        return z, z, threshold
    s, z = cell.node("s", "spike", **options), cell.node("z", "mul")
    resting, ready = cell.node("resting", "stop"), cell.node("ready", "one_minus")
    for ago in range(1, refractory + 1):
        cell.edge(z, resting, key=ago - 1, delay=ago)
    cell.edge(resting, ready)
    cell.multiply(z, above=s, ready=ready)
    return s, z, threshold


def _fire(cell: Cell, v: str, s: str, z: str, threshold: float) -> None:
    """Note the edges by which a potential makes units spike, and is reset by their spikes."""
    cell.edge(z, v, key="reset", value=-threshold, delay=1, role="reset")
    cell.edge(v, s)
