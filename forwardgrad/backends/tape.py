"""What does a block of the forward pass leave behind? Values and ports of every node, and Jacobians on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forwardgrad.backends.weights import Weights, apply
from forwardgrad.graph import Network
from forwardgrad.ops import Array


class Tape:
    """The forward pass of one block with fixed weights.

    Args:
        network: the validated graph.
        params: the parameters, by name.
        past: per node that delayed edges read, its last values `(lag, batch, size)`, the most recent first.
        inputs: per input node, `(steps, batch, size)`.
        steps: length K of the block.
        batch: number of samples.
        dtype: of all values.
    """

    def __init__(
        self,
        network: Network,
        params: Mapping[str, Array],
        past: Mapping[str, Array],
        inputs: Mapping[str, Array],
        steps: int,
        batch: int,
        dtype: Any,
    ) -> None:
        self.network, self.params, self.steps, self.batch, self.dtype = network, params, steps, batch, dtype
        self.weights = Weights(network, params, dtype)
        self.history = {name: len(past[name]) if name in past else 0 for name in network.nodes}
        self._values = {
            name: np.empty((self.history[name] + steps, batch, node.size), dtype)
            for name, node in network.nodes.items()
        }
        self._ports = {
            name: [np.empty((steps, batch, node.size), dtype) for _ in node.ports]
            for name, node in network.nodes.items()
        }
        self._jacobians: dict[tuple[str, str], Array] = {}
        for name, values in past.items():
            self._values[name][: len(values)] = values[::-1]
        for name, values in inputs.items():
            self._values[name][self.history[name] :] = values
        computed = [name for name in network.order if name not in inputs]
        for t in range(steps):
            for name in computed:
                self._compute(name, t)

    def _compute(self, name: str, t: int) -> None:
        node, ports = self.network.nodes[name], self._ports[name]
        for port in ports:
            port[t] = 0
        for edge in self.network.into[name]:
            x = self._values[edge.source][self.history[edge.source] + t - edge.delay]
            ports[node.ports.index(edge.port)][t] += apply(edge, self.weights.of(edge), x)
        if node.bias is not None:
            ports[node.ports.index(node.bias_port)][t] += self.params[node.bias]
        self._values[name][self.history[name] + t] = node.op.evaluate([port[t] for port in ports], node.options)

    def values(self, name: str, delay: int = 0) -> Array:
        """What a node was `delay` steps before each step of the block: `(steps, batch, size)`."""
        start = self.history[name] - delay
        return self._values[name][start : start + self.steps]

    def last(self, name: str) -> Array:
        """A node's last values at the end of the block, as many as its history: `(lag, batch, size)`, latest first."""
        return self._values[name][self.steps :][::-1].copy()

    def jacobian(self, name: str, port: str) -> Array:
        """The derivative of a node by a port: `(steps, batch, ...)`, the rest shaped as its structure word says."""
        if (name, port) not in self._jacobians:
            node = self.network.nodes[name]
            rows = [array.reshape(-1, node.size) for array in self._ports[name]]
            y = self.values(name).reshape(-1, node.size)
            d = node.op.jacobian(port, node.ports, rows, y, node.options)
            self._jacobians[name, port] = d.reshape(self.steps, self.batch, *d.shape[1:])
        return self._jacobians[name, port]
