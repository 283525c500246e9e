"""What does a check run on? A graph with losses, parameters and data, printed so that it can be replayed."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.graph import Network, validate
from forwardgrad.graph.files import to_toml
from forwardgrad.graph.parameters import stream
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.ops.losses import Loss
from forwardgrad.program import Program
from forwardgrad.testing.checking import random_data, random_params

MASKS = ("none", "time", "batch", "sample", "each")
"""No mask; one `(time,)`; one `(time, batch)`; one that leaves out a sample; or one for each output, in turn."""

NUMBERS = ("init", "tame")
"""Parameters as the graph draws them, a little moved; or none near zero, with gains of about one into each port."""


@dataclass(frozen=True)
class Origin:
    """From what the numbers of a problem are drawn: the same origin on the same graph gives the same numbers.

    Args:
        seed: a whole number.
        steps: length of the sequence.
        batch: number of samples.
        mask: a word of `MASKS`.
        numbers: a word of `NUMBERS`.

    >>> Origin(3, steps=5, mask="time").options
    '--seed 3 --steps 5 --batch 2 --mask time'
    """

    seed: int = 0
    steps: int = 12
    batch: int = 2
    mask: str = "none"
    numbers: str = "init"

    def __post_init__(self) -> None:
        for what, word, known in (("mask", self.mask, MASKS), ("numbers", self.numbers, NUMBERS)):
            if word not in known:
                raise DataError(f"a problem's {what} must be a word, got {word!r}.", did_you_mean(word, known))

    @property
    def options(self) -> str:
        """The options of `forwardgrad check` that draw these numbers."""
        text = f"--seed {self.seed} --steps {self.steps} --batch {self.batch}"
        text += f" --mask {self.mask}" if self.mask != "none" else ""
        return text + (f" --numbers {self.numbers}" if self.numbers != "init" else "")


@dataclass(frozen=True)
class Problem:
    """A graph with everything a gradient needs. `oracle.reverse(**problem.arguments, rule=...)`.

    Args:
        graph: the declared graph.
        loss: `{node: name of a loss, or Loss}`.
        params: `{parameter: array}`, float64.
        inputs: `{input node: (time, batch, size)}`.
        targets: `{node with a loss: (time, batch, size)}`, or labels `(time, batch)`.
        mask: `None`, `(time,)`, `(time, batch)`, or `{node: such}`.
        signals: `{node: (time, batch, size)}`, for rules with `feedback="signal"`.
        origin: from what the numbers were drawn, where they were.

    >>> import forwardgrad as fg
    >>> given = Problem.of(fg.compile(fg.load("elman")), seed=1, steps=5)
    >>> given.steps, given.batch, given.inputs["x"].shape[:2]
    (5, 2, (5, 2))
    >>> given.command("eprop")
    'forwardgrad check problem.toml --rule eprop --samples 1 --seed 1 --steps 5 --batch 2'
    """

    graph: nx.MultiDiGraph[str]
    loss: Mapping[str, str | Loss]
    params: dict[str, Array]
    inputs: dict[str, Array]
    targets: dict[str, Array]
    mask: Any = None
    signals: dict[str, Array] | None = None
    origin: Origin | None = None

    @staticmethod
    def of(program: Program, origin: Origin | None = None, **options: Any) -> Problem:
        """A problem on a program's graph, its numbers drawn from an origin.

        Args:
            program: the program.
            origin: from what the numbers are drawn; or
            options: its parts: `seed`, `steps`, `batch`, `mask`, `numbers`.

        Raises:
            DataError: if the origin names an unknown mask or kind of numbers.
        """
        origin = Origin(**options) if origin is None else origin
        if origin.numbers == "tame":
            given = Problem.tame(program.graph, program.losses, origin)
            params = program.init(origin.seed) | given.params
            return Problem(program.graph, given.loss, params, given.inputs, given.targets, given.mask, None, origin)
        random, nodes = np.random.default_rng(origin.seed), program.network.nodes
        params = random_params(program, random, origin.seed)
        inputs, targets = random_data(program, random, origin.steps, origin.batch)
        shape = (origin.steps, origin.batch)
        signals = {name: random.standard_normal((*shape, nodes[name].size)) for name in program.signalled}
        mask = _masks(tuple(program.losses), origin)
        return Problem(program.graph, dict(program.losses), params, inputs, targets, mask, signals or None, origin)

    @staticmethod
    def tame(graph: nx.MultiDiGraph[str], loss: Mapping[str, str | Loss], origin: Origin) -> Problem:
        """A problem whose values neither vanish nor grow.

        Args:
            graph: a declared graph.
            loss: the loss of each output node.
            origin: from what the numbers are drawn.

        Raises:
            GraphError: if the graph is malformed.
        """
        network, shape = validate(graph), (origin.steps, origin.batch)
        inputs = {
            name: stream(origin.seed, f"input {name}").uniform(-1, 1, (*shape, network.nodes[name].size))
            for name in network.inputs
        }
        targets = {
            name: _target(stream(origin.seed, f"target {name}"), each, (*shape, network.nodes[name].size))
            for name, each in loss.items()
        }
        params = parameters(network, np.random.default_rng(origin.seed))
        return Problem(graph, loss, params, inputs, targets, _masks(tuple(loss), origin), None, origin)

    @property
    def steps(self) -> int:
        """Length of the sequence."""
        return next(iter(self.targets.values())).shape[0]

    @property
    def batch(self) -> int:
        """Size of the batch."""
        return next(iter(self.targets.values())).shape[1]

    @cached_property
    def network(self) -> Network:
        """The validated graph."""
        return validate(self.graph)

    @property
    def edges(self) -> list[str]:
        """The names of the edges."""
        return list(self.network.edges)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that the oracles take."""
        return {name: getattr(self, name) for name in ("graph", "params", "inputs", "targets", "loss", "mask")}

    @property
    def toml(self) -> str:
        """The graph with its losses, as a file of the project's own format."""
        graph: nx.MultiDiGraph[str] = self.graph.copy()
        graph.graph["loss"] = {
            name: each if isinstance(each, str) else loss_table.get(each).name for name, each in self.loss.items()
        }
        return to_toml(graph)

    def command(self, rule: Any = None) -> str:
        """The command that checks this problem again, its `toml` saved as `problem.toml`; empty without an origin.

        Args:
            rule: the rule to check it under; `RULE` stands for one that is not known here.
        """
        if self.origin is None:
            return ""
        given = "RULE" if rule is None else shlex.quote(str(rule))
        return f"forwardgrad check problem.toml --rule {given} --samples 1 {self.origin.options}"

    @property
    def as_drawn(self) -> bool:
        """Whether the numbers are those that the origin gives: a test may have changed them since."""
        if self.origin is None or self.origin.numbers != "tame":
            return self.origin is not None
        again = Problem.tame(self.graph, self.loss, self.origin)
        names = ("params", "inputs", "targets", "mask")
        return all(_same(getattr(self, name), getattr(again, name)) for name in names)

    def __repr__(self) -> str:
        parts = [f"Problem of {self.steps} steps, batch {self.batch}. problem.toml:", self.toml.rstrip()]
        if not self.as_drawn:
            parts += [f"params: {self.params}", f"mask: {self.mask!r}"]
        if self.origin is not None:
            parts.append(f"replay{'' if self.as_drawn else ' (its numbers were changed since)'}: {self.command()}")
        return "\n\n".join(parts)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis prints it: it would spell out every array otherwise."""
        printer.text(repr(self))


def _same(one: Any, two: Any) -> bool:
    """Whether two arrays, or two mappings of arrays, are equal."""
    if not isinstance(one, dict) or not isinstance(two, dict):
        return np.array_equal(cast("Any", one), two)
    ours, theirs = cast("dict[str, Any]", one), cast("dict[str, Any]", two)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def parameters(network: Network, random: np.random.Generator) -> dict[str, Array]:
    """A value for every parameter of a graph, tame by the number of edges into each port.

    Args:
        network: the validated graph.
        random: from what they are drawn, one after another.

    >>> import forwardgrad as fg
    >>> sorted(parameters(validate(fg.load("elman")), np.random.default_rng(0)))
    ['h->h', 'h->y', 'h.bias', 'x->h', 'y.bias']
    """
    fans = Counter((edge.target, edge.port) for edge in network.edges.values())
    params: dict[str, Array] = {}
    for name, parameter in network.parameters.items():
        if parameter.kind == "bias":
            params[name] = random.uniform(-0.5, 0.5, parameter.shape)
            continue
        edges = [network.edges[edge] for edge in parameter.edges]
        fan = max(fans[edge.target, edge.port] for edge in edges)
        columns = network.nodes[edges[0].source].size if parameter.kind in ("dense", "sparse") else 1
        params[name] = weights(random, parameter.shape, fan, columns)
    return params


def weights(random: np.random.Generator, shape: tuple[int, ...], fan: int, columns: int) -> Array:
    """Weights, none of them near zero, whose gains add up to about one over the edges into a port.

    Args:
        random: from what they are drawn.
        shape: of the weight's array.
        fan: number of edges into the port.
        columns: units of the source that each unit of the target reads.

    >>> float(np.abs(weights(np.random.default_rng(0), (2, 3), 1, 3)).min()) > 0.2
    True
    """
    size = random.uniform(0.4, 1.3, shape) / (fan * np.sqrt(columns))
    return np.asarray(size * random.choice([-1.0, 1.0], shape))


def _target(random: np.random.Generator, loss: str | Loss, shape: tuple[int, int, int]) -> Array:
    found = loss_table.get(loss)
    if found.labels:
        return random.integers(0, shape[2], shape[:2])
    return random.uniform(0 if found.name == "bernoulli" else -1, 1, shape)


def _masks(outputs: tuple[str, ...], origin: Origin) -> Any:
    if origin.mask != "each":
        return _mask(origin, origin.mask, "*")
    kinds = ("batch", "none", "time")
    return {name: _mask(origin, kinds[index % 3], name) for index, name in enumerate(outputs)}


def _mask(origin: Origin, kind: str, name: str) -> Array | None:
    """No mask, or weights of which about a third are zero; never all of them, but perhaps all of one sample."""
    if kind == "none":
        return None
    shape = (origin.steps,) if kind == "time" else (origin.steps, origin.batch)
    mask = np.maximum(0, stream(origin.seed, f"mask {name}").uniform(-0.5, 1, shape))
    mask[-1] = 1.0
    if kind == "sample" and origin.batch > 1:
        mask[:, -1] = 0.0
    return mask
