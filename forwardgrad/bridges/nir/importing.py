"""`from_nir`: a NIR graph as a declared graph with its parameters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, cast

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from forwardgrad.bridges.nir import hdf5
from forwardgrad.bridges.nir.neurons import RESETS, Neuron, Spiking, declare
from forwardgrad.bridges.nir.primitives import (
    CONVOLUTIONS,
    LINKS,
    NEURONS,
    RESETTING,
    WINDOWED,
    Nest,
    Primitive,
    flattened,
    nested,
    one_number,
)
from forwardgrad.bridges.nir.shaping import Shape, kernel, shapes, windows
from forwardgrad.bridges.nir.wiring import Wiring
from forwardgrad.errors import GraphError, MissingExtraError, did_you_mean
from forwardgrad.graph.schema import name_of
from forwardgrad.graph.validate import validate
from forwardgrad.support.attributes import numbers, show

Arrays = dict[str, NDArray[Any]]


def from_nir(
    source: Any,
    *,
    dt: float,
    reset: str | Mapping[str, str] | None = None,
    surrogate: str = "triangle",
    dampening: float | None = None,
    width: float | None = None,
    trainable: bool | str | Iterable[str] = True,
) -> tuple[nx.MultiDiGraph[str], Arrays]:
    """A network of the Neuromorphic Intermediate Representation (NIR) as a declared graph, and its parameters.

    NIR describes networks of neurons in continuous time, and is what snnTorch, Norse, Sinabs, Lava, Spyx and others
    exchange. Here time goes in steps of `dt`, by forward Euler:

        v(t) = v(t-1) + dt/tau ((v_leak - v(t-1)) + r I(t))

    A neuron `n` becomes the nodes `n.in` (what enters it), `n.i` (synaptic current of CubaLI and CubaLIF), `n.v`
    (potential) and `n.z` (spikes). A `Linear`, `Affine`, `Scale` or convolution becomes an edge whose key is its name,
    and a bias on the edge's target. Where it leads to several nodes, or where others lead to the same node and it has
    a bias, it becomes a linear node of its name instead. A `Delay` becomes the delay of an edge. Inner graphs are
    flattened: node `b` of graph `a` is `a.b`. `Input` and `Output` keep their names.

    Edges that leave a neuron on a cycle without a `Delay` get delay 1: recurrent weights act on the spikes of the step
    before. All potentials and currents start at 0.

    A file says neither with which `dt` a network was trained, nor how potentials are reset after a spike:

    | exported by | `dt` | `reset` |
    | --- | --- | --- |
    | snnTorch, `reset_mechanism="subtract"`, its default | 1e-4 | `"subtract_next"` |
    | snnTorch, `"zero"`: `Leaky` | 1e-4 | `"zero"` |
    | snnTorch, `"zero"`: `RLeaky`, `Synaptic`, `RSynaptic` | 1e-4 | `"zero_next"` |
    | Norse | 1e-3 by default | |
    | Sinabs | 1: its time constants are in steps | |

    Args:
        source: the path of a `.nir` file, or a `nir.NIRGraph`.
        dt: seconds per step, or per whatever unit the time constants of the file have.
        reset: what a spike does to the potential. `"zero"`: it becomes `v_reset` in the same step, as NIR's text says.
            `"zero_next"`: it becomes `v_reset` one step later. `"subtract_next"`: the threshold is subtracted one step
            later. `{pattern of names of neurons: one of these}`: the first match holds. Needed for IF, LIF and CubaLIF.
        surrogate: shape of the surrogate derivative of spikes, as for op `spike`.
        dampening: its height; `0.3 / threshold` unless given.
        width: its width; `threshold` unless given.
        trainable: whether weights and biases are trained: `True`, `False`, or the patterns of names of NIR nodes whose
            weight and bias are. Parameters of neurons are fixed.

    Returns:
        The graph, and its parameters by name, float64: `u->v#fc1` is the weight of `fc1`, shape
        `(size of v, size of u)`, and `v.bias` its bias, `(size of v,)`.

    Raises:
        FileError: if the file cannot be read, or is not a NIR file.
        GraphError: if the NIR graph is malformed or has no counterpart here, or an argument is illegal. The NIR node is
            named.
        MissingExtraError: without the extra `nir`.

    Source: Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9.

    >>> import nir
    >>> ones = np.ones(2)
    >>> lif = nir.LIF(tau=0.01 * ones, r=ones, v_leak=0 * ones, v_threshold=ones)
    >>> file = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))), lif)
    >>> graph, params = from_nir(file, dt=1e-3, reset="zero")
    >>> sorted(graph), sorted(params)
    (['input', 'lif.in', 'lif.rest', 'lif.u', 'lif.v', 'lif.z', 'output'], ['input->lif.in#linear'])
    """
    step = numbers(dt)
    if isinstance(dt, bool) or step is None or step.ndim or not step > 0:
        raise GraphError(f"from_nir: 'dt' must be a number of seconds greater than 0, got {show(dt)}.")
    flat = flattened(_nest(source))
    importer = _Importer(flat, float(step), _learned(trainable, flat))
    importer.places(_resets(reset, flat), surrogate, dampening, width)
    importer.edges()
    validate(importer.graph)
    return importer.graph, importer.params


def _nest(source: Any) -> Nest:
    """The primitives of a file or of a graph in memory."""
    try:
        nir: Any = import_module("nir")
    except ImportError as error:
        raise MissingExtraError('from_nir needs nir: pip install "forwardgrad[nir]"') from error
    if isinstance(source, str | os.PathLike):
        return hdf5.read(Path(cast("str | os.PathLike[str]", source)))
    if not isinstance(source, nir.NIRGraph):
        raise GraphError(
            f"from_nir: takes the path of a .nir file or a nir.NIRGraph, got {type(source).__name__}.",
            "Make a graph of one primitive by nir.NIRGraph.from_list(primitive)."
            if isinstance(source, nir.NIRNode)
            else "",
        )
    return nested(source)


def _resets(reset: Any, flat: nx.DiGraph[str]) -> dict[str, str]:
    """How the potential of each neuron is reset.

    Raises:
        GraphError: if it is not said, or not in a known word.
    """
    found: dict[str, str] = {}
    pairs = dict(cast("Mapping[Any, Any]", reset)) if isinstance(reset, Mapping) else {"*": reset}
    for name in flat:
        if flat.nodes[name]["primitive"].kind in RESETTING:
            word = next((word for pattern, word in pairs.items() if fnmatchcase(name, str(pattern))), None)
            if word is None:
                raise GraphError(
                    f"from_nir: {flat.nodes[name]['primitive'].place} spikes, and a NIR graph does not say how its "
                    "potential is reset.",
                    "Give reset='zero' (in the step of the spike), 'zero_next' or 'subtract_next' (one step later).",
                    "snnTorch's default is 'subtract_next'.",
                )
            found[name] = word
    for word in pairs.values():
        if word is not None and word not in RESETS:
            raise GraphError(f"from_nir: unknown reset {show(word)}.", did_you_mean(word, RESETS))
    return found


def _learned(trainable: Any, flat: nx.DiGraph[str]) -> set[str]:
    """The names of primitives whose weights are trained.

    Raises:
        GraphError: if a pattern matches none.
    """
    weighted = [name for name in flat if "weight" in _fields(flat, name) or "scale" in _fields(flat, name)]
    if isinstance(trainable, bool):
        return set(weighted) if trainable else set()
    given = [trainable] if isinstance(trainable, str) else trainable
    patterns: list[Any] = list(cast("Iterable[Any]", given)) if isinstance(given, Iterable) else [given]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise GraphError(
            f"from_nir: 'trainable' must be True, False or patterns of names of NIR nodes, got {show(trainable)}."
        )
    found: set[str] = set()
    for pattern in patterns:
        matched = [name for name in weighted if fnmatchcase(name, pattern)]
        if not matched:
            raise GraphError(
                f"from_nir: 'trainable' names {pattern!r}, and no NIR node with a weight is called so.",
                did_you_mean(pattern, weighted),
            )
        found.update(matched)
    return found


def _fields(flat: nx.DiGraph[str], name: str) -> Mapping[str, Any]:
    return flat.nodes[name]["primitive"].fields


class _Importer:
    """The declared graph and its parameters, while they are made.

    Args:
        flat: the primitives.
        dt: seconds per step.
        learned: names of primitives whose weights are trained.
    """

    def __init__(self, flat: nx.DiGraph[str], dt: float, learned: set[str]) -> None:
        self.flat, self.dt, self.learned = flat, dt, learned
        self.primitives: dict[str, Primitive] = {name: flat.nodes[name]["primitive"] for name in flat}
        self.shapes = shapes(flat)
        self.spatial = any(len(shape) > 1 for ends in self.shapes.values() for shape in ends)
        self.graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        self.params: Arrays = {}
        self.wiring = Wiring(flat, dt)
        self.entry: dict[str, str] = {}
        self.exit: dict[str, str] = {}

    def places(self, resets: Mapping[str, str], surrogate: str, dampening: Any, width: Any) -> None:
        """Add the nodes."""
        for name, primitive in self.primitives.items():
            if primitive.kind == "Input":
                if self.flat.in_degree(name):
                    raise GraphError(f"{primitive.place}: an edge leads to it.")
            elif not self.flat.in_degree(name):
                raise GraphError(f"{primitive.place}: nothing leads to it.")
            common = self._common(self.shapes[name][1])
            if primitive.kind in NEURONS:
                neuron = Neuron(self.graph, primitive, common, self.dt, self.wiring.is_readout(name))
                spiking = Spiking(resets.get(name, "zero"), surrogate, dampening, width)
                self.entry[name], self.exit[name] = neuron.add(spiking)
                self.params |= {f"{node}.bias": bias for node, bias in neuron.biases.items()}
            elif name not in self.wiring.contracted and name not in self.wiring.origins:
                declare(self.graph, name, op="input" if primitive.kind == "Input" else "linear", **common)
                self.entry[name] = self.exit[name] = name

    def _common(self, shape: Shape) -> dict[str, Any]:
        return {"size": prod(shape), **({"shape": list(shape)} if self.spatial else {})}

    def edges(self) -> None:
        """Add the edges, with weights and biases."""
        for name, primitive in self.primitives.items():
            if primitive.kind in LINKS:
                self._link(name)
            elif name in self.entry:
                for source, delay in self.wiring.arrivals(name):
                    if source not in self.wiring.contracted:
                        self._edge(self.exit[source], self.entry[name], delay + self.wiring.steps.get(name, 0))

    def _edge(self, source: str, target: str, delay: int, key: str | None = None, **attributes: Any) -> None:
        later = {"delay": delay} if delay else {}
        self.graph.add_edge(source, target, key=key, **attributes, **later)

    def _link(self, name: str) -> None:
        """Add the edge of a link, and its bias."""
        arrivals = self.wiring.arrivals(name)
        source, delay = self.exit[arrivals[0][0]], arrivals[0][1]
        reshaped = self.shapes[arrivals[0][0]][1] != self.shapes[name][0] and self.primitives[name].kind in WINDOWED
        if len(arrivals) > 1 or reshaped:
            declare(self.graph, f"{name}.in", op="linear", **self._common(self.shapes[name][0]))
            for each, lag in arrivals:
                self._edge(self.exit[each], f"{name}.in", lag)
            source, delay = f"{name}.in", 0
        into, after = self.wiring.contracted.get(name, (name, 0))
        target = self.entry[into]
        weight, attributes = self._weight(self.primitives[name])
        frozen = {} if name in self.learned or weight is None else {"trainable": False}
        self._edge(source, target, delay + after, name, **attributes, **frozen)
        if weight is not None:
            self.params[name_of(source, target, name)] = weight
        if "bias" in self.primitives[name].fields:
            self._bias(name, target)

    def _weight(self, primitive: Primitive) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
        """The parameter of a link, where it has one, and the attributes of its edge."""
        if primitive.kind in ("Linear", "Affine"):
            return primitive.array("weight"), {"weight": "dense"}
        if primitive.kind == "Scale":
            scale, size = primitive.array("scale").reshape(-1), prod(self.shapes[primitive.name][0])
            return np.broadcast_to(scale, (size,)).copy(), {"weight": "diagonal"}
        read = windows(primitive)
        given = {"kernel": list(read.kernel), "stride": list(read.stride), "padding": list(read.padding)}
        if primitive.kind in CONVOLUTIONS:
            given |= {"dilation": list(read.dilation), "groups": one_number(primitive, "groups")}
            return kernel(primitive), {"weight": primitive.kind.lower(), **given}
        return None, {"weight": "pool", **given, "reduce": "sum" if primitive.kind == "SumPool2d" else "mean"}

    def _bias(self, name: str, target: str) -> None:
        """Add the bias of a link: that of the node it leads to; of a convolution a node, with a unit per channel."""
        primitive, shape = self.primitives[name], self.shapes[name][1]
        bias = primitive.array("bias")
        if bias.shape != shape[:1]:
            raise GraphError(f"{primitive.place}: 'bias' must have shape {shape[:1]}, got {bias.shape}.")
        if primitive.kind in CONVOLUTIONS:
            if not bias.any():
                return
            target, into = f"{name}.bias", target
            declare(self.graph, target, op="linear", **self._common(shape[:1]))
            self._edge(target, into, 0, weight="take", indices=np.repeat(np.arange(shape[0]), prod(shape[1:])))
        self.graph.nodes[target].update(bias=True, **({} if name in self.learned else {"bias_trainable": False}))
        self.params[f"{target}.bias"] = bias
