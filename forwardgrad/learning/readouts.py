"""A linear readout learned by recursive least squares, while all other weights stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from forwardgrad.errors import GraphError
from forwardgrad.graph import Edge
from forwardgrad.learning.least_squares import RLS
from forwardgrad.ops import Array, losses
from forwardgrad.program import Program
from forwardgrad.program.border import read_params, read_targets

_SQUARES = losses.get("mse")
"""What least squares compare with is read like the targets of this loss, whatever loss the output has."""


class ReadoutLearner:
    """Finds the weights of an output that are best, in squares, for all steps seen so far: a reservoir's readout.

    It learns the dense trainable edges that enter the output, and its bias. What else enters is subtracted from the
    target first.

    Args:
        program: the compiled program; its rule does not matter here.
        params: `{name: array}`; they are copied.
        output: the node; by default the only one with a loss.
        rls: the settings.

    Attributes:
        params: the parameters, the readout's as they are by now.
        memory: what least squares remember of all steps so far, the state of `rls`.

    Raises:
        GraphError: if there is no such output, it is not linear, other nodes read it, or it has nothing to learn.

    Source: Jaeger 2001, "The echo state approach to analysing and training recurrent neural networks", GMD report 148;
    RLS there: Jaeger & Haas 2004, doi 10.1126/science.1091277.

    >>> import forwardgrad as fg, numpy as np
    >>> program = fg.compile(fg.load("elman"), rule="reservoir")
    >>> learner = ReadoutLearner(program, program.init())
    >>> x = np.random.default_rng(0).normal(size=(300, 1, 1))
    >>> y = np.concatenate([np.zeros((1, 1, 1)), x[:-1]])  # what came in one step ago
    >>> learner.fit([({"x": x}, {"y": y})])
    >>> bool(np.mean((learner.predict({"x": x})["y"] - y) ** 2) < 0.1)
    True
    """

    def __init__(
        self, program: Program, params: Mapping[str, Any], output: str | None = None, rls: RLS | None = None
    ) -> None:
        self.program, self.rls = program, RLS() if rls is None else rls
        given = read_params(program.plan.parameters, params, program.dtype)
        self.params: dict[str, Array] = {name: array.copy() for name, array in given.items()}
        self.output = _output(program, output)
        network = program.network
        node = network.nodes[self.output]
        entering = [edge for edge in network.edges.values() if edge.target == self.output]
        self._learned = [edge for edge in entering if _is_free(program, edge)]
        self._bias = node.bias if node.bias is not None and network.parameters[node.bias].trainable else None
        if any(edge.source == self.output for edge in network.edges.values()):
            raise GraphError(
                f"readout {self.output!r}: an edge leads out of it, so other values depend on its weights."
            )
        if not self._learned and self._bias is None:
            raise GraphError(f"readout {self.output!r}: no dense trainable edge of its own enters it, and no bias.")
        sizes = [network.nodes[edge.source].size for edge in self._learned]
        self._others = program.losses.keys() - {self.output}
        self._sizes = [*sizes, *([1] if self._bias is not None else [])]
        self.memory = self.rls.start(sum(self._sizes), node.size)

    def fit(self, stream: Iterable[Any]) -> None:
        """Learn from sequences, each from the start state.

        Args:
            stream: pieces `(inputs, targets)` or `(inputs, targets, mask)`, arrays `(time, batch, size)` by node. Steps
                with a mask of 0, such as those in which a reservoir still forgets its start, are left out.

        Raises:
            DataError: if an array does not fit, or is not finite.
        """
        for piece in stream:
            inputs, targets, *rest = piece
            self.learn(self.program.run(self.params, inputs), targets, rest[0] if rest else None)

    def learn(self, values: Mapping[str, Array], targets: Any, mask: Any = None) -> None:
        """Learn from values that the network had, at first in its start state.

        Args:
            values: `{node: (time, batch, size)}` of the output and of what it reads, as `Program.run` gives them.
            targets: `{output: (time, batch, size)}`, or the array alone; those of other outputs play no role.
            mask: `(time,)` or `(time, batch)`, or one for each output; steps where it is 0 are left out.

        Raises:
            DataError: if an array does not fit, or is not finite.
        """
        network, shape = self.program.network, values[self.output].shape[:2]
        goal = read_targets(network, {self.output: _SQUARES}, self._own(targets), self._own(mask), shape, np.float64)[
            self.output
        ]
        features = [_delayed(values[e.source], network.nodes[e.source].initial, e.delay) for e in self._learned]
        if self._bias is not None:
            features.append(np.ones((*shape, 1)))
        x = np.concatenate(features, axis=2).astype(np.float64)
        asked = np.ones(shape, bool) if goal.weight is None else goal.weight != 0
        fixed = values[self.output] - x @ self._stacked().T
        self.memory = self.rls.update(self.memory, x[asked], (goal.values - fixed)[asked])
        self._unstack(self.memory["weights"])

    def _own(self, given: Any) -> Any:
        """What is given by output, without that of other outputs."""
        if not isinstance(given, Mapping):
            return given
        return {name: each for name, each in cast("Any", given).items() if name not in self._others}

    @property
    def learned(self) -> tuple[str, ...]:
        """The names of the parameters that it finds."""
        return (*(edge.param or "" for edge in self._learned), *([] if self._bias is None else [self._bias]))

    @property
    def delay(self) -> int:
        """The longest delay with which the output reads another node by weights that it finds."""
        return max((edge.delay for edge in self._learned), default=0)

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The output of a sequence from the start state: `{output: (time, batch, size)}`."""
        return {self.output: self.program.run(self.params, inputs)[self.output]}

    def _stacked(self) -> Array:
        """The weights as they are, `(outputs, features)`."""
        parts = [self.params[edge.param] for edge in self._learned if edge.param is not None]
        if self._bias is not None:
            parts.append(self.params[self._bias][:, None])
        return np.concatenate(parts, axis=1).astype(np.float64)

    def _unstack(self, weights: Array) -> None:
        parts = np.split(weights, np.cumsum(self._sizes)[:-1], axis=1)
        for edge, part in zip(self._learned, parts, strict=False):
            if edge.param is not None:
                self.params[edge.param] = part.astype(self.program.dtype)
        if self._bias is not None:
            self.params[self._bias] = parts[-1][:, 0].astype(self.program.dtype)


def _output(program: Program, given: str | None) -> str:
    outputs = list(program.losses)
    if given is None and len(outputs) != 1:
        raise GraphError(f"readout: there are {len(outputs)} outputs: {', '.join(map(repr, outputs))}.", "Name one.")
    name = outputs[0] if given is None else given
    node = program.network.nodes.get(name)
    if node is None:
        raise GraphError(f"readout {name!r}: no such node.", f"Outputs: {', '.join(map(repr, outputs))}.")
    if any(node.op.port(port, node.ports).constant != 1 for port in node.ports):
        raise GraphError(f"readout {name!r}: its op {node.op.name} is not linear.", "Least squares needs a linear one.")
    return name


def _is_free(program: Program, edge: Edge) -> bool:
    """Whether an edge has a dense trainable weight to itself."""
    parameter = program.network.parameters.get(edge.param or "")
    return parameter is not None and parameter.trainable and edge.kind == "dense" and len(parameter.edges) == 1


def _delayed(values: Array, initial: Array, delay: int) -> Array:
    """What a node was that many steps before, from the start state on."""
    before = np.broadcast_to(initial, (min(delay, len(values)), *values.shape[1:]))
    return np.concatenate([before, values[: len(values) - delay]]) if delay else values
