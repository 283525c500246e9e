"""The recurrent learner under online estimators: rows of numbers in, one after the other; it grows when they do."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from forwardgrad import cells
from forwardgrad.compiling import compile
from forwardgrad.errors import GraphError
from forwardgrad.graph.ends import ends
from forwardgrad.graph.files import load
from forwardgrad.learning.learner import Learner
from forwardgrad.learning.optimizers import Adam

Floats = NDArray[np.float64]


class Moments:
    """Running mean and (population) standard deviation by column.

    Welford's update for many rows at once: Chan, Golub & LeVeque 1983, doi 10.1080/00031305.1983.10483115.

    Args:
        size: columns.

    >>> moments = Moments(1)
    >>> moments.add(np.array([[1.0], [3.0]]))
    >>> moments.scaled(np.array([[5.0]]))
    array([[3.]])
    """

    def __init__(self, size: int) -> None:
        self.count, self.mean, self.squares = np.zeros((3, size))

    def add(self, rows: Floats) -> None:
        """Take note of rows `(rows, columns)`."""
        count = self.count + len(rows)
        mean = rows.mean(axis=0)
        apart = mean - self.mean
        self.squares = self.squares + ((rows - mean) ** 2).sum(axis=0) + apart**2 * (self.count * len(rows) / count)
        self.mean, self.count = self.mean + apart * (len(rows) / count), count

    @property
    def deviation(self) -> Floats:
        """The standard deviation; 1 where there is none yet."""
        found = np.sqrt(self.squares / np.maximum(1, self.count))
        return np.where(found > 1e-12 * np.abs(self.mean), found, 1.0)

    def scaled(self, rows: Floats) -> Floats:
        """Rows with mean 0 and deviation 1."""
        return (rows - self.mean) / self.deviation

    def measured(self, rows: Floats) -> Floats:
        """Rows in their own units again."""
        return rows * self.deviation + self.mean

    def grow(self, size: int) -> None:
        """Add columns, of which nothing is known."""
        more = np.zeros(size - len(self.mean))
        self.count, self.mean, self.squares = (np.append(old, more) for old in (self.count, self.mean, self.squares))


class OnlineNetwork:
    """A recurrent network that learns row by row, and can get further inputs and outputs on its way.

    Args:
        network: a graph with one input and one output; their sizes are set here. A name or a file is loaded. `None`: a
            GRU of `hidden` units, read out linearly.
        hidden: units of that GRU.
        labels: whether outputs are told apart by cross entropy; else they are numbers, and the loss is `mse`.
        rule: the learning rule.
        learning_rate: of Adam.
        block: rows per update.
        clip: largest norm of a gradient.
        seed: of the initial weights.
        dtype: `float64` or `float32`.
    """

    def __init__(
        self,
        network: str | PathLike[str] | nx.MultiDiGraph[str] | None,
        hidden: int,
        labels: bool,
        rule: Any,
        learning_rate: float,
        block: int,
        clip: float | None,
        seed: int,
        dtype: Any,
    ) -> None:
        self.graph, self.source, self.output = _graph(network, hidden)
        self.labels, self.rule, self.block, self.clip = labels, rule, block, clip
        self.rate, self.seed, self.dtype = learning_rate, seed, dtype
        self.learner: Learner | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers go in, and come out."""
        if self.learner is None:
            return 0, 0
        nodes = self.learner.program.network.nodes
        return nodes[self.source].size, nodes[self.output].size

    def fit_sizes(self, inputs: int, outputs: int) -> Learner:
        """The learner, with `inputs` inputs and `outputs` outputs.

        New ones get initial weights. What was learned stays, and so do activations and influence, as far as they have
        the same shape.
        """
        if self.learner is not None and self.sizes == (inputs, outputs):
            return self.learner
        graph = self.graph.copy()
        graph.nodes[self.source]["size"], graph.nodes[self.output]["size"] = inputs, outputs
        loss = {self.output: "cross_entropy" if self.labels else "mse"}
        program = compile(graph, loss, self.rule, dtype=self.dtype, dead="ignore")
        made = Learner(program, program.init(self.seed), Adam(self.rate), clip=self.clip)
        if self.learner is not None:
            made.params = _in_the_corner(made.params, self.learner.params)
            made.optimizer_state = _in_the_corner(made.optimizer_state, self.learner.optimizer_state)
            made.seen = self.learner.seen
            if self.learner.state is not None:
                fresh = program.start(1)
                same = {k: a for k, a in self.learner.state.items() if k in fresh and a.shape == fresh[k].shape}
                made.state = fresh | same
        self.learner = made
        return made

    def learn(self, x: Floats, y: NDArray[Any]) -> None:
        """Learn from rows `(rows, inputs)` and targets `(rows, outputs)`, or labels `(rows,)`; the state moves on."""
        assert self.learner is not None
        self.learner.fit([({self.source: x[:, None]}, {self.output: y[:, None]})], block=self.block)

    def predict(self, x: Floats, *, go_on: bool = True) -> Floats:
        """Outputs `(rows, outputs)` for rows that follow those learned from; nothing moves on."""
        assert self.learner is not None
        found = self.learner.predict({self.source: x[:, None]}, go_on=go_on and self.learner.state is not None)
        return np.asarray(found[self.output][:, 0], np.float64)

    def reset(self) -> None:
        """Forget activations and influence, and keep the weights."""
        if self.learner is not None:
            self.learner.reset()


def _graph(
    network: str | PathLike[str] | nx.MultiDiGraph[str] | None, hidden: int
) -> tuple[nx.MultiDiGraph[str], str, str]:
    """A graph with the names of its input and its output."""
    if network is None:
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        graph.add_node("x", op="input", size=1)
        h = cells.gru(graph, "gru", input="x", size=hidden)
        graph.add_node("y", op="linear", size=1, bias=True)
        graph.add_edge(h, "y", weight="dense")
        return graph, "x", "y"
    graph = network.copy() if isinstance(network, nx.MultiDiGraph) else load(network)
    sources, outputs = ends(graph)
    outputs = outputs or [name for name in graph if not graph.out_degree(name)]
    hint = "Name it: graph.graph['loss'] = {'y': 'mse'}."
    for what, names, more in (("input", sources, ""), ("output", outputs, hint)):
        if len(names) != 1:
            got = ", ".join(map(repr, names)) or "none"
            raise GraphError(f"an online estimator needs a graph with one {what}, got {got}.", more)
    return graph, sources[0], outputs[0]


def _in_the_corner(new: Mapping[str, NDArray[Any]], old: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """New arrays with old ones, which are no larger, where their axes begin."""
    found: dict[str, NDArray[Any]] = {}
    for name, array in new.items():
        found[name] = array.copy()
        if name in old and old[name].ndim == array.ndim:
            found[name][tuple(map(slice, old[name].shape))] = old[name]
    return found
