"""NIR's neurons as nodes and edges, by forward Euler.

A neuron `n` becomes the nodes `n.in`, what enters it, and `n.v`, its potential; and where its kind has them, `n.i`, its
synaptic current, and `n.z`, its spikes. With k = dt / tau and the current I,

    v(t) = (1 - k) v(t-1) + k (v_leak + r I(t))         LI, LIF, CubaLI, CubaLIF
    v(t) = v(t-1) + dt r I(t)                           I, IF
    i(t) = (1 - k_syn) i(t-1) + k_syn w_in S(t)         CubaLI, CubaLIF: the current I, from what enters, S
    z(t) = 1 where v(t) > v_threshold, else 0           IF, LIF, CubaLIF

Source: Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9, whose equations are in continuous time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from forwardgrad.bridges.nir.primitives import Primitive
from forwardgrad.errors import GraphError

RESETS = ("zero", "zero_next", "subtract_next")


@dataclass(frozen=True)
class Spiking:
    """What NIR does not say of spikes.

    Args:
        reset: one of `RESETS`.
        surrogate: shape of the surrogate derivative.
        dampening: its height; `0.3 / threshold` where `None` and thresholds are positive.
        width: its width; `threshold` where `None` and thresholds are positive.
    """

    reset: str
    surrogate: str
    dampening: Any
    width: Any

    def options(self, threshold: NDArray[np.float64]) -> dict[str, Any]:
        """The options of a node of op `spike`."""
        positive = bool((threshold > 0).all())
        given = {"dampening": self.dampening, "width": self.width}
        if positive:
            bellec = {"dampening": 0.3 / threshold, "width": threshold}
            given = {key: plain(bellec[key]) if value is None else value for key, value in given.items()}
        known = {key: value for key, value in given.items() if value is not None}
        return {"op": "spike", "threshold": plain(threshold), "surrogate": self.surrogate, **known}


def plain(values: NDArray[np.float64]) -> Any:
    """One number where all are the same, so that what is derived is as small as for one number."""
    flat = values.reshape(-1)
    return float(flat[0]) if (flat == flat[0]).all() else flat.copy()


class Neuron:
    """The nodes and edges of one neuron, or layer of them.

    Args:
        graph: the graph they are added to.
        primitive: what NIR says of it.
        common: attributes of all of its nodes: size, shape.
        dt: seconds per step.
        readout: whether all that it gives is an output of the graph.
    """

    def __init__(
        self,
        graph: nx.MultiDiGraph[str],
        primitive: Primitive,
        common: Mapping[str, Any],
        dt: float,
        readout: bool = False,
    ) -> None:
        self.graph, self.primitive, self.common, self.dt = graph, primitive, common, dt
        self.role = {"role": "readout"} if readout else {}
        self.biases: dict[str, NDArray[np.float64]] = {}

    def add(self, spiking: Spiking) -> tuple[str, str]:
        """Add it; returns the nodes that take what enters it and give what leaves it.

        Raises:
            GraphError: if a field is malformed, or what NIR says of it has no counterpart.
        """
        kind = self.primitive.kind
        if kind == "Threshold":
            name = self.primitive.name
            declare(self.graph, name, **self.common, **spiking.options(self._field("threshold")))
            return name, name
        self._node("in")
        source, gain = "in", self._field("r")
        if kind.startswith("Cuba"):
            k = self._rate("tau_syn")
            self._node("i")
            self._edge("in", "i", value=plain(k * self._field("w_in")))
            self._edge("i", "i", value=plain(1 - k), delay=1, **self.role)
            source = "i"
        if kind in ("I", "IF"):
            stays, gain, leak = np.ones(1), self.dt * gain, np.zeros(1)
        else:
            k = self._rate("tau_mem" if kind.startswith("Cuba") else "tau")
            stays, gain, leak = 1 - k, k * gain, k * self._field("v_leak")
        spikes = kind in ("IF", "LIF", "CubaLIF")
        integrated = "u" if spikes and spiking.reset != "subtract_next" else "v"
        self._node(integrated)
        if leak.any():
            self.graph.nodes[self._name(integrated)].update(bias=True, bias_trainable=False)
            self.biases[self._name(integrated)] = np.broadcast_to(leak, (int(self.common["size"]),)).copy()
        self._edge(source, integrated, value=plain(gain))
        self._edge("v", integrated, value=plain(stays), delay=1, **self.role)
        if not spikes:
            return self._name("in"), self._name("v")
        threshold = self._field("v_threshold")
        self._node("z", **spiking.options(threshold))
        if spiking.reset == "subtract_next":
            self._subtract(threshold)
        else:
            self._overwrite(0 if spiking.reset == "zero" else 1)
        return self._name("in"), self._name("z")

    def _subtract(self, threshold: NDArray[np.float64]) -> None:
        """One step after a spike, the threshold is subtracted."""
        if self._field("v_reset").any():
            raise GraphError(
                f"{self.primitive.place}: reset 'subtract_next' subtracts the threshold, and 'v_reset' is not zero.",
                "Reset to it: reset='zero' or 'zero_next'.",
            )
        self._edge("v", "z")
        self._edge("z", "v", key="reset", value=plain(-threshold), delay=1, role="reset")

    def _overwrite(self, later: int) -> None:
        """In the step of a spike, or one later, the potential becomes v_reset."""
        target = self._field("v_reset")
        kept = "kept" if target.any() else "v"
        self._node("rest", op="one_minus")
        self._node(kept, op="mul")
        self._edge("u" if later == 0 else "v", "z")
        self._edge("z", "rest", key="reset", delay=later, role="reset")
        self._edge("u", kept, port="potential")
        self._edge("rest", kept, port="rest")
        if kept == "kept":
            self._node("v")
            self._edge("kept", "v")
            self._edge("z", "v", key="reset", value=plain(target), delay=later, role="reset")

    def _field(self, name: str) -> NDArray[np.float64]:
        """A field with a number for each unit, or one for all."""
        return self.primitive.array(name).reshape(-1)

    def _rate(self, name: str) -> NDArray[np.float64]:
        """dt over a time constant."""
        tau = self._field(name)
        if (tau <= 0).any():
            raise GraphError(f"{self.primitive.place}: {name!r} must be greater than 0, got {tau.min():g}.")
        if (tau < self.dt * (1 - 1e-6)).any():
            raise GraphError(
                f"{self.primitive.place}: {name!r} has {tau.min():g}, which is less than dt = {self.dt:g}: "
                "forward Euler would overshoot.",
                "Give the dt with which the network was trained, in the unit of its time constants.",
            )
        return self.dt / tau

    def _name(self, suffix: str) -> str:
        return f"{self.primitive.name}.{suffix}"

    def _node(self, suffix: str, **attributes: Any) -> None:
        given = {"op": "linear", **self.common, "layer": self.primitive.name, **attributes}
        declare(self.graph, self._name(suffix), **given)

    def _edge(self, source: str, target: str, key: Any = None, **attributes: Any) -> None:
        self.graph.add_edge(self._name(source), self._name(target), key=key, **attributes)


def declare(graph: nx.MultiDiGraph[str], name: str, **attributes: Any) -> None:
    """Add a node.

    Raises:
        GraphError: if there is one of that name.
    """
    if name in graph and "op" in graph.nodes[name]:  # edges may have come before it
        raise GraphError(f"from_nir: two nodes of the graph would be called {name!r}.", "Rename the NIR node.")
    graph.add_node(name, **attributes)
