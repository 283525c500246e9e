"""Which graphs, problems, rules and blocks are property tests run on? Hypothesis strategies for all of them.

Structure is drawn piece by piece, so that a failure shrinks to a small graph. Numbers are drawn from a seed, which is
fast. Gains are kept near or below one, so that a dozen steps through recurrent edges do not explode.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from forwardgrad import rules
from forwardgrad.graph import Network, validate
from forwardgrad.graph.sizes import kind_of
from forwardgrad.ops import Array
from forwardgrad.paths import EdgeView, Mode, NodeView, PathRule, cut

SEEDS = st.integers(0, 2**16)

BOUNDED = ("input", "tanh", "sigmoid", "sin", "softmax", "spike")
"""Ops whose values cannot grow; only these feed `exp` and `square`."""

SMOOTH = ("linear", "tanh", "mul", "softmax", "one_minus", "sigmoid", "softplus", "sin", "exp", "square")
ROUGH = ("spike", "relu")
"""Ops that finite differences cannot serve: a surrogate, and a kink that a sum of zeros sits on."""


# Graphs.


@st.composite
def graphs(
    draw: st.DrawFn,
    *,
    max_nodes: int = 6,
    max_size: int = 3,
    max_delay: int = 3,
    smooth: bool = False,
    stop: bool = False,
    credit: bool = True,
) -> nx.MultiDiGraph[str]:
    """A declared graph: inputs `x0`, ..., then nodes `n0`, ... in an order that edges of delay 0 follow.

    Args:
        draw: given by Hypothesis.
        max_nodes: most nodes, not counting one or two inputs.
        max_size: most units of a node.
        max_delay: longest delay, at least 1.
        smooth: leave out ops whose declared derivative finite differences do not find (`spike`, `relu`).
        stop: whether to put in the op `stop`, behind which every parameter is dead.
        credit: whether edges may carry `credit`, which cuts paths under every rule, RTRL too.
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for i in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, max_size))
        graph.add_node(f"x{i}", op="input", size=size, **_initial(draw, size))
    ops = SMOOTH[:1] + (() if smooth else ROUGH) + SMOOTH[1:] + (("stop",) if stop and not smooth else ())
    for i in range(draw(st.integers(1, max_nodes))):
        _add_node(draw, graph, f"n{i}", draw(st.sampled_from(ops)), max_size, max_delay)
    _add_feedback(draw, graph, max_delay)
    for u, v, key in list(graph.edges(keys=True)):
        _add_weight(draw, graph, u, v, key, credit)
    _share(draw, graph)
    return _backwards(graph) if draw(st.booleans()) else graph


def _rarely(draw: st.DrawFn, percent: int) -> bool:
    return draw(st.integers(0, 99)) >= 100 - percent


def _backwards(graph: nx.MultiDiGraph[str]) -> nx.MultiDiGraph[str]:
    """The same graph, declared in an order that is not topological."""
    other: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    other.add_nodes_from(reversed(list(graph.nodes(data=True))))
    other.add_edges_from(reversed(list(graph.edges(keys=True, data=True))))
    return other


def _initial(draw: st.DrawFn, size: int) -> dict[str, Any]:
    """Sometimes a value before the start: a number, or one for each unit."""
    return {"initial": draw(st.sampled_from([0.5, np.linspace(-0.4, 0.6, size)]))} if _rarely(draw, 30) else {}


def _add_node(draw: st.DrawFn, graph: nx.MultiDiGraph[str], name: str, op: str, max_size: int, max_delay: int) -> None:
    """A node with its edges from earlier nodes."""
    earlier = [u for u in graph if op not in ("exp", "square") or graph.nodes[u]["op"] in BOUNDED]
    size = draw(st.integers(min(2, max_size) if op == "softmax" else 1, max_size))
    graph.add_node(name, op=op, size=size, **_initial(draw, size))
    attributes = graph.nodes[name]
    if _rarely(draw, 50):
        attributes["bias"] = draw(st.sampled_from([True, 0.2, np.linspace(-0.3, 0.4, size)]))
        if op == "mul":
            attributes["bias_port"] = draw(st.sampled_from(["a", "b"]))
        if _rarely(draw, 20):
            attributes["bias_trainable"] = False
    if op == "spike":
        attributes.update(threshold=draw(st.sampled_from([0.1, 0.3])), width=draw(st.sampled_from([4.0, 6.0])))
        attributes.update(surrogate=draw(st.sampled_from(["triangle", "gaussian", "fast_sigmoid", "boxcar"])))
        attributes.update(dampening=draw(st.sampled_from([1.0, 0.5])))
    ports = ["a", "b"] if op == "mul" else [] if "bias" in attributes and _rarely(draw, 10) else ["in"]
    ports += draw(st.lists(st.sampled_from(["b", "c"] if op == "mul" else ["in"]), max_size=2))
    for port in ports:
        source = draw(st.just(earlier[-1]) | st.sampled_from(earlier))  # the last one is likely, for depth
        _add_edge(graph, source, name, port, draw(_delays(0, max_delay)))


def _delays(least: int, most: int) -> st.SearchStrategy[int]:
    """Delays; the least is common."""
    return st.one_of(st.just(least), st.integers(least, most))


def _add_edge(graph: nx.MultiDiGraph[str], u: str, v: str, port: str, delay: int) -> None:
    attributes = ({"port": port} if port != "in" else {}) | ({"delay": delay} if delay else {})
    graph.add_edge(u, v, **attributes)


def _add_feedback(draw: st.DrawFn, graph: nx.MultiDiGraph[str], max_delay: int) -> None:
    """Edges onto the node itself and back to earlier ones, each with a delay and perhaps a role."""
    nodes = [name for name in graph if name.startswith("n")]
    pairs = [(name, name) for name in nodes if draw(st.booleans())]
    for _ in range(draw(st.integers(0, 3))):
        v = draw(st.sampled_from(nodes))
        pairs.append((draw(st.sampled_from(sorted(nx.descendants(graph, v)) or [v])), v))
    for u, v in pairs:
        if graph.nodes[v]["op"] in ("exp", "square") and graph.nodes[u]["op"] not in BOUNDED:
            continue  # it could grow without bound
        port = draw(st.sampled_from(["a", "b"])) if graph.nodes[v]["op"] == "mul" else "in"
        _add_edge(graph, u, v, port, draw(_delays(1, max_delay)))
        if _rarely(draw, 30):
            key = list(graph[u][v])[-1]
            graph.edges[u, v, key]["role"] = draw(st.sampled_from(["reset", "topdown", "readout"]))


def _add_weight(draw: st.DrawFn, graph: nx.MultiDiGraph[str], u: str, v: str, key: int, credit: bool) -> None:
    """A weight of any kind the sizes allow; trainable, frozen or fixed; perhaps a string as key, and `credit`."""
    shape = (graph.nodes[v]["size"], graph.nodes[u]["size"])
    attributes = graph.edges[u, v, key]
    if key and draw(st.booleans()):
        graph.remove_edge(u, v, key)
        key = graph.add_edge(u, v, key=f"k{key}", **attributes)
        attributes = graph.edges[u, v, key]
    alike = ["scalar", "diagonal", "identity"] if shape[0] == shape[1] else []
    others = (edge for _, _, edge in graph.in_edges(v, data=True) if edge is not attributes and edge.get("delay"))
    if alike and attributes.get("delay") and not all(edge.keys() & {"weight", "value"} for edge in others):
        alike.remove("identity")  # two loops without damping could double a value at every step
    kind = draw(st.sampled_from(["dense", *alike, "sparse"]))
    if kind != "identity":
        attributes["weight"] = kind
    if kind == "sparse":
        attributes |= _pattern(draw, shape)
    trained = draw(st.sampled_from(["yes", "yes", "yes", "yes", "frozen", "fixed"]))
    if kind != "identity" and trained == "frozen":
        attributes["trainable"] = False
    if kind != "identity" and trained == "fixed":
        attributes["value"] = _fixed(graph, attributes, kind, shape, v, draw(SEEDS))
        if kind != "sparse" and draw(st.booleans()):
            del attributes["weight"]  # read off the shape
    if credit and _rarely(draw, 12):
        attributes["credit"] = draw(st.sampled_from(["cut", "keep"]))


def _pattern(draw: st.DrawFn, shape: tuple[int, int]) -> dict[str, Any]:
    """The pattern of a sparse weight with at least one entry: a mask, or a density."""
    seed = draw(SEEDS)
    mask = np.random.default_rng(seed).random(shape) < 0.6
    if not mask.any():
        return {"density": 1.0}
    return {"density": 0.6, "pattern_seed": seed} if draw(st.booleans()) else {"mask": mask.astype(int)}


def _fixed(
    graph: nx.MultiDiGraph[str], attributes: dict[str, Any], kind: str, shape: tuple[int, int], v: str, seed: int
) -> Any:
    port = attributes.get("port")
    fan = sum(edge.get("port") == port for _, _, edge in graph.in_edges(v, data=True))
    if kind == "sparse":
        entries = attributes.get("mask")
        if entries is None:
            random = np.random.default_rng(attributes.get("pattern_seed", 0))
            entries = random.random(shape) < attributes["density"]
        form: tuple[int, ...] = (int(np.sum(entries)),)
    else:
        form = {"scalar": (), "diagonal": (shape[0],), "dense": shape}[kind]
    value = _weights(np.random.default_rng(seed), form, fan, shape[1] if kind in ("dense", "sparse") else 1)
    return float(value) if form == () else value


def _weights(random: np.random.Generator, shape: tuple[int, ...], fan: int, columns: int) -> Array:
    """Weights, none of them near zero, whose gains add up to about one over the edges into a port."""
    size = random.uniform(0.4, 1.3, shape) / (fan * np.sqrt(columns))
    return np.asarray(size * random.choice([-1.0, 1.0], shape))


def _share(draw: st.DrawFn, graph: nx.MultiDiGraph[str]) -> None:
    """Sometimes let edges that agree in kind, sizes and training share one parameter."""
    alike: defaultdict[Any, list[Any]] = defaultdict(list)
    for u, v, key, edge in graph.edges(keys=True, data=True):
        kind = kind_of(edge)
        if "value" in edge or kind == "identity":
            continue
        sizes = () if kind == "scalar" else (graph.nodes[v]["size"], graph.nodes[u]["size"])
        alike[kind, sizes, edge.get("trainable", True)].append((u, v, key))
    groups = [group for group in alike.values() if len(group) > 1]
    if not groups or not _rarely(draw, 40):
        return
    group = draw(st.sampled_from(groups))[: draw(st.integers(2, 3))]
    pattern = {k: graph.edges[group[0]][k] for k in ("mask", "density", "pattern_seed") if k in graph.edges[group[0]]}
    for place in group:
        for attribute in ("mask", "density", "pattern_seed"):
            graph.edges[place].pop(attribute, None)
        graph.edges[place].update(pattern, param="shared")


# Problems.


@dataclass(frozen=True)
class Problem:
    """A graph with everything a gradient needs. `oracle.reverse(**problem.arguments, rule=...)`.

    Args:
        graph: the declared graph.
        loss: `{node: name of a loss}`.
        params: `{parameter: array}`, float64.
        inputs, targets: arrays `(time, batch, size)`, labels `(time, batch)`.
        mask: `None`, `(time,)`, `(time, batch)`, or `{node: such}`.
    """

    graph: nx.MultiDiGraph[str]
    loss: dict[str, str]
    params: dict[str, Array]
    inputs: dict[str, Array]
    targets: dict[str, Array]
    mask: Any

    @property
    def steps(self) -> int:
        """Length of the sequence."""
        return next(iter(self.inputs.values())).shape[0]

    @property
    def batch(self) -> int:
        """Size of the batch."""
        return next(iter(self.inputs.values())).shape[1]

    @property
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

    def __repr__(self) -> str:
        nodes = (f"  {name!r}: {attributes}" for name, attributes in self.graph.nodes(data=True))
        edges = (f"  {u!r} -> {v!r} ({key!r}): {edge}" for u, v, key, edge in self.graph.edges(keys=True, data=True))
        head = f"Problem(steps={self.steps}, batch={self.batch}, loss={self.loss}, mask={self.mask!r})"
        return "\n".join([head, *nodes, *edges, f"  params: {self.params}"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis prints it: it would spell out every array otherwise."""
        printer.text(repr(self))


@st.composite
def problems(
    draw: st.DrawFn, *, least_steps: int = 4, most_steps: int = 12, max_batch: int = 3, **knobs: Any
) -> Problem:
    """A graph with losses, parameters and data.

    Args:
        draw: given by Hypothesis.
        least_steps, most_steps: bounds of the length of the sequence.
        max_batch: largest batch.
        knobs: those of `graphs`.
    """
    graph = draw(graphs(**knobs))
    network = validate(graph)
    loss = _losses(draw, network)
    steps, batch = draw(st.integers(least_steps, most_steps)), draw(st.integers(1, max_batch))
    random = np.random.default_rng(draw(SEEDS))
    inputs = {name: random.uniform(-1, 1, (steps, batch, network.nodes[name].size)) for name in network.inputs}
    targets = {name: _target(random, kind, (steps, batch, network.nodes[name].size)) for name, kind in loss.items()}
    masks = {name: _mask(draw, random, steps, batch) for name in ("*", *loss)}
    mask = {name: masks[name] for name in loss} if len(loss) > 1 and draw(st.booleans()) else masks["*"]
    return Problem(graph, loss, parameters(network, random), inputs, targets, mask)


def parameters(network: Network, random: np.random.Generator) -> dict[str, Array]:
    """A value for every parameter of a graph, tame by the number of edges into each port."""
    fans = Counter((edge.target, edge.port) for edge in network.edges.values())
    params: dict[str, Array] = {}
    for name, parameter in network.parameters.items():
        if parameter.kind == "bias":
            params[name] = random.uniform(-0.5, 0.5, parameter.shape)
            continue
        edges = [network.edges[edge] for edge in parameter.edges]
        fan = max(fans[edge.target, edge.port] for edge in edges)
        columns = network.nodes[edges[0].source].size if parameter.kind in ("dense", "sparse") else 1
        params[name] = _weights(random, parameter.shape, fan, columns)
    return params


def _losses(draw: st.DrawFn, network: Network) -> dict[str, str]:
    """Losses on some nodes, and on every node that none of them can be reached from."""
    graph = nx.DiGraph((edge.source, edge.target) for edge in network.edges.values())
    graph.add_nodes_from(network.nodes)
    chosen: list[str] = []
    for name in reversed(network.order):
        if name in network.inputs:
            continue
        reached = {name, *nx.descendants(graph, name)}
        if reached.isdisjoint(chosen) or _rarely(draw, 15):
            chosen.append(name)
    return {name: _loss(draw, network.nodes[name].size) for name in chosen}


def _loss(draw: st.DrawFn, size: int) -> str:
    return draw(st.sampled_from(["mse", "mse", "bernoulli"] + (["cross_entropy"] if size > 1 else [])))


def _target(random: np.random.Generator, loss: str, shape: tuple[int, int, int]) -> Array:
    if loss == "cross_entropy":
        return random.integers(0, shape[2], shape[:2])
    return random.uniform(0, 1, shape) if loss == "bernoulli" else random.uniform(-1, 1, shape)


def _mask(draw: st.DrawFn, random: np.random.Generator, steps: int, batch: int) -> Array | None:
    """No mask, or weights of which about a third are zero; never all of them."""
    kind = draw(st.sampled_from(["none", "none", "time", "batch"]))
    shape = (steps,) if kind == "time" else (steps, batch)
    mask = np.maximum(0, random.uniform(-0.5, 1, shape))
    mask[-1] = 1.0
    return None if kind == "none" else mask


# Rules.


@dataclass(frozen=True)
class RandomAutomaton(PathRule):
    """An automaton that looks random and is not: each step is a checksum of mode, labels and target.

    Args:
        seed: another seed gives another automaton.
        modes: number of modes.
        cuts: percentage of steps that cut.
        sees: the labels of an edge that it looks at.
        looks: the marks of the target that it looks at.
    """

    seed: int
    modes: int
    cuts: int
    sees: tuple[str, ...]
    looks: tuple[str, ...]

    def start(self, node: NodeView) -> Mode:
        return self._number("start", *(getattr(node, mark) for mark in self.looks)) % self.modes

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        labels = [getattr(edge, label) for label in self.sees] + [getattr(target, mark) for mark in self.looks]
        number = self._number(mode, *labels)
        return None if number % 100 < self.cuts else number // 100 % self.modes

    def _number(self, *key: object) -> int:
        return zlib.crc32(repr((self.seed, *key)).encode())

    def __str__(self) -> str:
        return repr(self)


def automata() -> st.SearchStrategy[RandomAutomaton]:
    """Automata of the user's, one to four modes."""
    labels = ("delay", "mixing", "recurrent", "role", "source", "target", "key")
    marks = ("state", "output", "output_component", "name")
    return st.builds(
        RandomAutomaton,
        seed=SEEDS,
        modes=st.integers(1, 4),
        cuts=st.sampled_from([0, 20, 40]),
        sees=st.lists(st.sampled_from(labels), unique=True, max_size=4).map(tuple),
        looks=st.lists(st.sampled_from(marks), unique=True, max_size=2).map(tuple),
    )


PATHS = ("all", "eprop-deep", "synaptic", "near", "eprop", "immediate", "rtrl", "ostl")
"""Named rules that are path rules and no more, and need no arguments."""


def path_rules(edges: Sequence[str] = ()) -> st.SearchStrategy[PathRule]:
    """Named rules, cuts of these edges, users' automata, and products of two of them."""
    named = [name for name in PATHS if name in rules.TABLE]
    single: st.SearchStrategy[PathRule] = st.sampled_from(named).map(lambda name: rules.rule(name).paths) | automata()
    if edges:
        single |= st.lists(st.sampled_from(sorted(edges)), min_size=1, max_size=2).map(cut)
    return single | st.tuples(single, single).map(lambda pair: pair[0] & pair[1])


# Blocks.


def partitions(steps: int) -> st.SearchStrategy[list[int]]:
    """Lengths of blocks that add up to a number of steps; at least two blocks where there are two steps."""
    if steps == 1:
        return st.just([1])
    ends = st.sets(st.integers(1, steps - 1), min_size=1)
    return ends.map(lambda found: [b - a for a, b in itertools.pairwise([0, *sorted(found), steps])])
