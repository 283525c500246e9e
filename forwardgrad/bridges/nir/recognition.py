"""Which nodes of a declared graph are together one of NIR's neurons? The inverse of `neurons`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad import ops
from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.graph.network import Edge, Network
from forwardgrad.ops import Op
from forwardgrad.support.attributes import numbers, show

Vector = NDArray[np.float64]

LINEAR, SPIKE, ONE_MINUS = ops.get("linear"), ops.get("spike"), ops.get("one_minus")
"""The shipped ops of which NIR's neurons are made."""


class Declared:
    """A network with the numbers of its parameters.

    Args:
        network: the network.
        params: its parameters by name; others are passed over.
        outputs: nodes that must be seen from outside.
        dt: seconds per step.

    Raises:
        DataError: if a parameter is missing, or has another shape.
    """

    def __init__(self, network: Network, params: Mapping[str, Any], outputs: set[str], dt: float) -> None:
        self.network, self.outputs, self.dt = network, outputs, dt
        self.params: dict[str, Vector] = {}
        for name, parameter in network.parameters.items():
            if name not in params:
                raise DataError(f"to_nir: parameter {name!r} is missing.", did_you_mean(name, params))
            array = numbers(params[name])
            if array is None or array.shape != parameter.shape:
                got = show(params[name]) if array is None else array.shape
                raise DataError(
                    f"to_nir: parameter {name!r} must be finite numbers of shape {parameter.shape}, got {got}."
                )
            self.params[name] = array
        self.out: dict[str, list[Edge]] = {name: [] for name in network.nodes}
        for edge in network.edges.values():
            self.out[edge.source].append(edge)

    def op(self, node: str) -> Op:
        return self.network.nodes[node].op

    def into(self, node: str) -> list[Edge]:
        return list(self.network.into[node])

    def weight(self, edge: Edge) -> Vector:
        """The numbers of an edge's weight; 1 where it has none."""
        if edge.param is not None:
            return self.params[edge.param]
        return np.ones(()) if edge.value is None else edge.value

    def factor(self, edge: Edge) -> Vector | None:
        """The number by which an edge multiplies each unit; `None` if it mixes or moves units."""
        if edge.kind not in ("identity", "scalar", "diagonal"):
            return None
        return np.broadcast_to(self.weight(edge), (self.network.nodes[edge.target].size,))

    def passes(self, edge: Edge, delay: int = 0) -> bool:
        """Whether an edge passes on every unit as it is, with this delay."""
        factor = self.factor(edge)
        return edge.delay == delay and factor is not None and bool((factor == 1).all())

    def bias(self, node: str) -> Vector | None:
        """The bias of a node, if it has one."""
        name = self.network.nodes[node].bias
        return None if name is None else self.params[name]

    def plain(self, node: str, op: Op) -> bool:
        """Whether a node has this op and no bias, and need not be seen from outside."""
        return self.op(node) is op and self.bias(node) is None and node not in self.outputs

    def readers(self, node: str) -> set[str]:
        """The nodes that read a node."""
        return {edge.target for edge in self.out[node]}

    def stays(self, state: str, integrated: str) -> tuple[Edge, Vector] | None:
        """The edge by which a state keeps a part of itself, and that part, from 0 to 1; `None` if there is none."""
        found = [edge for edge in self.into(integrated) if edge.source == state]
        factor = self.factor(found[0]) if len(found) == 1 and found[0].delay == 1 else None
        if factor is None or (factor < 0).any() or (factor > 1).any() or len({*(factor == 1)}) > 1:
            return None
        return found[0], factor

    def state(self, node: str) -> tuple[Edge, Vector] | None:
        """As `stays`, for a linear node with an edge to itself."""
        return self.stays(node, node) if self.op(node) is LINEAR else None


@dataclass(frozen=True)
class Recognised:
    """Nodes that are together a neuron of NIR.

    Args:
        name: what it is called in NIR.
        kind: which of NIR's neurons it is.
        nodes: the nodes.
        edges: names of the edges between them that it stands for.
        entry: the node whose other in-edges enter it.
        exit: the node whose value leaves it.
        fields: by NIR's names, `(size,)` each.
        biased: the node whose bias is in `v_leak`, if any.
    """

    name: str
    kind: str
    nodes: frozenset[str]
    edges: frozenset[str]
    entry: str
    exit: str
    fields: Mapping[str, Vector]
    biased: str | None = None


def recognised(declared: Declared) -> list[Recognised]:
    """The neurons of a network, none of which share a node."""
    found: list[Recognised] = []
    taken: set[str] = set()
    ordered = list(reversed(declared.network.order))
    for find in (_subtracting, _overwriting, _integrating):
        for node in ordered:
            neuron = find(declared, node) if node not in taken else None
            if neuron is not None and not neuron.nodes & taken:
                found.append(neuron)
                taken |= neuron.nodes
    return found


def _threshold(declared: Declared, spikes: str) -> tuple[str, Edge, Vector] | None:
    """For a node of spikes that one potential alone drives: the potential, the edge from it, and the threshold."""
    into = declared.into(spikes)
    if declared.op(spikes) is not SPIKE or len(into) != 1 or declared.bias(spikes) is not None:
        return None
    node = declared.network.nodes[spikes]
    threshold = np.broadcast_to(np.asarray(node.options["threshold"], np.float64), (node.size,))
    return (into[0].source, into[0], threshold) if declared.passes(into[0]) else None


def _subtracting(declared: Declared, spikes: str) -> Recognised | None:
    """Spikes, one step after which the threshold is subtracted."""
    driven = _threshold(declared, spikes)
    if driven is None or driven[0] in declared.outputs or declared.readers(driven[0]) != {driven[0], spikes}:
        return None
    potential, fires, threshold = driven
    kept = declared.state(potential)
    resets = [edge for edge in declared.into(potential) if edge.source == spikes and edge.key == "reset"]
    resets = resets or [edge for edge in declared.into(potential) if edge.source == spikes]
    factor = declared.factor(resets[0]) if len(resets) == 1 and resets[0].delay == 1 else None
    if kept is None or factor is None or not np.array_equal(factor, -threshold):
        return None
    inner = {kept[0].name, resets[0].name, fires.name}
    fields = {"v_threshold": threshold, "v_reset": np.zeros_like(threshold)}
    return _membrane(declared, potential, kept[1], {potential, spikes}, inner, spikes, fields)


def _overwriting(declared: Declared, spikes: str) -> Recognised | None:
    """Spikes, in whose step or one step after which the potential becomes `v_reset`."""
    driven = _threshold(declared, spikes)
    rests = [edge for edge in declared.out[spikes] if declared.op(edge.target) is ONE_MINUS]
    if driven is None or len(rests) != 1 or rests[0].delay > 1 or not declared.passes(rests[0], rests[0].delay):
        return None
    rest, later = rests[0].target, rests[0].delay
    products = declared.out[rest]
    if len(products) != 1 or not declared.plain(rest, ONE_MINUS) or len(declared.into(rest)) != 1:
        return None
    kept = products[0].target
    factors = declared.into(kept)
    if not declared.op(kept).product or declared.bias(kept) is not None or len(factors) != 2:
        return None
    if not all(declared.passes(edge) for edge in factors) or factors[0].port == factors[1].port:
        return None
    integrated = next((edge.source for edge in factors if edge.source != rest), rest)
    potential, target, onward = _target(declared, kept, spikes, later)
    stays = declared.stays(potential, integrated)
    drives = potential if later else integrated
    if declared.op(integrated) is not LINEAR or stays is None or driven[0] != drives or potential == integrated:
        return None
    readers = {integrated: {kept}, potential: {integrated}}
    readers[drives] = readers[drives] | {spikes}
    if any(declared.readers(node) != given or node in declared.outputs for node, given in readers.items()):
        return None
    inner = {driven[1].name, rests[0].name, products[0].name, stays[0].name, *onward}
    inner |= {edge.name for edge in factors}
    nodes = {integrated, spikes, rest, kept, potential}
    fields = {"v_threshold": driven[2], "v_reset": target}
    return _membrane(declared, integrated, stays[1], nodes, inner, spikes, fields)


def _target(declared: Declared, kept: str, spikes: str, later: int) -> tuple[str, Vector, set[str]]:
    """The potential after the product that a spike makes 0, what it becomes by a spike, and edges between them."""
    nothing = np.zeros(declared.network.nodes[kept].size)
    onward = declared.out[kept]
    if len(onward) != 1 or not declared.passes(onward[0]) or not declared.plain(onward[0].target, LINEAR):
        return kept, nothing, set()
    potential = onward[0].target
    others = [edge for edge in declared.into(potential) if edge.name != onward[0].name]
    factor = declared.factor(others[0]) if len(others) == 1 else None
    if factor is None or others[0].source != spikes or others[0].delay != later or kept in declared.outputs:
        return kept, nothing, set()
    return potential, factor, {onward[0].name, others[0].name}


def _integrating(declared: Declared, node: str) -> Recognised | None:
    """A potential that does not spike."""
    kept = declared.state(node)
    if kept is None:
        return None
    return _membrane(declared, node, kept[1], {node}, {kept[0].name}, node, {})


def _membrane(
    declared: Declared,
    node: str,
    stays: Vector,
    nodes: set[str],
    inner: set[str],
    exit: str,
    fields: dict[str, Vector],
) -> Recognised:
    """A neuron by its potential: with what comes before it, where that is part of it."""
    leaky, dt = bool((stays < 1).all()), declared.dt
    kind = ("LIF" if leaky else "IF") if "v_threshold" in fields else ("LI" if leaky else "I")
    neuron = Recognised(_name(exit), kind, frozenset(nodes), frozenset(inner), node, exit, fields)
    bias = declared.bias(node)
    drive = _drive(declared, neuron)
    current = None if drive is None or not leaky else declared.state(drive[0].source)
    gain = np.ones_like(stays)
    if drive is not None and current is not None and (current[1] < 1).all():
        source, gain = drive[0].source, drive[1]
        neuron = _with(neuron, source, {drive[0].name, current[0].name}, f"Cuba{kind}")
        tau_syn = _time_constant(current[1], dt)
        entering, w_in = _drive(declared, neuron), np.ones_like(stays)
        if entering is not None and _is_sum(declared, entering[0]) and declared.bias(source) is None:
            neuron, w_in = _with(neuron, entering[0].source, {entering[0].name}), entering[1]
        fields = {"tau_syn": tau_syn, "w_in": _quotient(w_in, dt / tau_syn), **fields}
    elif drive is not None and _is_sum(declared, drive[0]) and (leaky or bias is None):
        neuron, gain = _with(neuron, drive[0].source, {drive[0].name}), drive[1]
    if not leaky:
        return replace(neuron, fields={"r": _quotient(gain, np.full_like(gain, dt)), **fields})
    tau = _time_constant(stays, dt)
    k = dt / tau
    leak = np.zeros_like(k)
    if bias is not None and (neuron.entry != node or not _learned_in(declared, node)):
        neuron, leak = replace(neuron, biased=node), _quotient(bias, k)
    word = "tau_mem" if neuron.kind.startswith("Cuba") else "tau"
    return replace(neuron, fields={word: tau, "r": _quotient(gain, k), "v_leak": leak, **fields})


def _drive(declared: Declared, neuron: Recognised) -> tuple[Edge, Vector] | None:
    """The one edge that enters a neuron, and its factor, if its source is a linear node which nothing else reads."""
    entering = [edge for edge in declared.into(neuron.entry) if edge.name not in neuron.edges]
    if len(entering) != 1 or entering[0].delay or entering[0].param is not None:
        return None
    edge = entering[0]
    factor = declared.factor(edge)
    if factor is None or edge.source in neuron.nodes or edge.source in declared.outputs:
        return None
    alone = declared.op(edge.source) is LINEAR and declared.readers(edge.source) <= {edge.source, neuron.entry}
    return (edge, factor) if alone else None


def _is_sum(declared: Declared, edge: Edge) -> bool:
    """Whether the source of an edge keeps no state, so that it is only what enters the target."""
    return declared.readers(edge.source) == {edge.target}


def _with(neuron: Recognised, node: str, inner: set[str], kind: str | None = None) -> Recognised:
    """A neuron with one more node before it."""
    return replace(
        neuron, nodes=neuron.nodes | {node}, edges=neuron.edges | inner, entry=node, kind=kind or neuron.kind
    )


def _learned_in(declared: Declared, node: str) -> bool:
    """Whether a node's bias is trained, and belongs to a dense edge into it rather than to its leak."""
    name = declared.network.nodes[node].bias
    dense = any(edge.kind == "dense" for edge in declared.into(node))
    return dense and name is not None and declared.network.parameters[name].trainable


def _name(exit: str) -> str:
    """What a neuron is called: as its node without the suffix that it gets here."""
    stem = exit.removesuffix(".z").removesuffix(".v")
    return stem or exit


def _time_constant(stays: Vector, dt: float) -> Vector:
    """The time constants with which a part stays: `1 - dt / tau`."""
    return _simplest(dt / (1 - stays), stays, lambda tau: 1 - dt / tau)


def _quotient(product: Vector, factor: Vector) -> Vector:
    """The numbers that a factor takes to a product."""
    return _simplest(product / factor, product, lambda number: factor * number)


def _simplest(raw: Vector, wanted: Vector, back: Callable[[Vector], Vector]) -> Vector:
    """Numbers near `raw` of as few digits as still give, bit for bit, what is wanted: 0.02 for 0.020000000000000018."""
    found, open_ = raw.copy(), np.ones(raw.shape, np.bool_)
    rounded = [np.array([float(f"{number:.{digits}g}") for number in raw.tolist()]) for digits in range(1, 17)]
    with np.errstate(over="ignore"):
        single = raw.astype(np.float32).astype(np.float64)
    for candidate in [*rounded[:9], np.where(np.isfinite(single), single, raw), *rounded[9:]]:
        fits = open_ & (back(np.where(candidate == 0, raw, candidate)) == wanted)
        found[fits], open_ = candidate[fits], open_ & ~fits
    return found
