"""Is the oracle right? By literally listing the paths of small unrolled nets."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forwardgrad import oracle
from forwardgrad.graph import Edge, Network
from forwardgrad.ops import Array, losses
from forwardgrad.rules import table as rules
from forwardgrad.rules.paths import EdgeView, NodeView, PathRule
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import RandomAutomaton, path_rules, problems
from tests.oracle.small_problems import NAMED, assert_same, declare, differ, problem

# By listing every path.


def labels_of(network: Network, outputs: Mapping[str, Any]) -> tuple[dict[str, NodeView], dict[str, EdgeView]]:
    """The labels, with networkx's strongly connected components."""
    graph = nx.DiGraph((e.source, e.target) for e in network.edges.values() if e.role != "topdown")
    graph.add_nodes_from(network.nodes)
    component = {name: i for i, found in enumerate(nx.strongly_connected_components(graph)) for name in found}
    inside = {
        e.name: e.role != "topdown" and component[e.source] == component[e.target] for e in network.edges.values()
    }
    states = {e.source for e in network.edges.values() if e.delay and inside[e.name]}
    edges = {
        e.name: EdgeView(
            e.source,
            e.target,
            e.key,
            e.delay,
            (e.kind in ("dense", "sparse") and not e.moves) or network.nodes[e.target].op.name == "softmax",
            inside[e.name],
            e.role,
        )
        for e in network.edges.values()
    }
    layers = {name: [e for e in edges.values() if component[e.source] == component[name]] for name in network.nodes}
    ways = nx.DiGraph(  # inside a layer, and out of it by what does not mix
        (e.source, e.target)
        for e in edges.values()
        if e.recurrent or (not e.mixing and network.nodes[e.target].op.name != "stop")
    )
    ways.add_nodes_from(network.nodes)
    nodes = {
        name: NodeView(
            name,
            state=name in states,
            output=name in outputs,
            output_layer=any(nx.has_path(ways, name, output) for output in outputs),
            recurrent=any(e.recurrent for e in layers[name]),
            leaky_readout=any(component[name] == component[output] for output in outputs)
            and {e.mixing for e in layers[name] if e.recurrent} == {False},
        )
        for name in network.nodes
    }
    return nodes, edges


class Unrolled:
    """A problem as a graph of single units at single steps: a vertex is (node, unit, time), for one sample."""

    def __init__(self, given_: Problem, sample: int) -> None:
        self.problem, self.sample, self.network = given_, sample, given_.network
        values = oracle.forward(given_.graph, given_.params, given_.inputs)
        self.values = {name: value[:, sample] for name, value in values.items()}
        self.slopes = {
            (name, port, t): self._slope(name, port, t)
            for name, node in self.network.nodes.items()
            for port in node.ports
            for t in range(given_.steps)
        }
        self.arrows: defaultdict[Any, list[Any]] = defaultdict(list)
        for e in self.network.edges.values():
            for t in range(given_.steps - e.delay):
                self._arrows(e, t)

    def _arrows(self, e: Edge, t: int) -> None:
        slope = self.slopes[e.target, e.port, t + e.delay]
        for i, j in itertools.product(range(len(slope)), range(self.network.nodes[e.source].size)):
            factor = sum(slope[i, k] * self.weight(e, k, j) for k in range(len(slope)))
            if factor != 0:
                self.arrows[e.source, j, t].append((e, (e.target, i, t + e.delay), factor))

    def weight(self, e: Edge, i: int, j: int) -> float:
        """The weight from unit j to unit i."""
        index = self.entry(e, i, j)
        if index is None:
            return 0.0
        return 1.0 if e.kind == "identity" else (e.value if e.param is None else self.problem.params[e.param])[index]

    def entry(self, e: Edge, i: int, j: int) -> tuple[int, ...] | None:
        """Where the weight from unit j to unit i stands in the edge's array, or nowhere."""
        if e.kind == "dense":
            return i, j
        if e.pattern is not None:
            places = list(zip(e.pattern.rows.tolist(), e.pattern.columns.tolist(), strict=True))
            if (i, j) not in places:
                return None
            synapse = places.index((i, j))
            entries = e.pattern.entries
            return (synapse,) if entries is None else np.unravel_index(entries[synapse], e.pattern.kernel)
        if i != j:
            return None
        return (i,) if e.kind == "diagonal" else ()

    def read(self, e: Edge, j: int, t: int) -> float:
        """What an edge reads of unit j at time t."""
        return self.values[e.source][t - e.delay, j] if t >= e.delay else self.network.nodes[e.source].initial[j]

    def _slope(self, name: str, port: str, t: int) -> Array:
        """The derivative of each unit by each unit of the port."""
        node = self.network.nodes[name]
        sums: list[Array] = []
        for each in node.ports:
            total = np.zeros((1, node.size))
            if node.bias is not None and node.bias_port == each:
                total[0] += self.problem.params[node.bias]
            for e in self.network.into[name]:
                for i, j in itertools.product(range(node.size), range(self.network.nodes[e.source].size)):
                    total[0, i] += self.weight(e, i, j) * self.read(e, j, t) if e.port == each else 0.0
            sums.append(total)
        slope = node.op.jacobian(port, node.ports, sums, self.values[name][[t]], node.options)[0]
        return slope if node.op.port(port, node.ports).structure == Structure.FULL else slope * np.eye(node.size)

    def paths(self, start: Any) -> Iterator[tuple[tuple[Edge, ...], Any, float]]:
        """Every path from a vertex on, the empty one too: its edges, where it ends, the product along it."""
        yield (), start, 1.0
        for edge, after, factor in self.arrows[start]:
            for word, end, product in self.paths(after):
                yield (edge, *word), end, factor * product

    def count(self) -> int:
        """How many paths there are."""
        many: dict[Any, int] = {}
        place = {name: i for i, name in enumerate(self.network.order)}
        vertices = sorted(
            ((t, place[n], n, j) for n in place for j in range(self.network.nodes[n].size) for t in range(self.steps)),
            reverse=True,
        )
        for t, _, name, j in vertices:
            many[name, j, t] = 1 + sum(many[after] for _, after, _ in self.arrows[name, j, t])
        return sum(many.values())

    @property
    def steps(self) -> int:
        return self.problem.steps

    def signal(self, end: Any) -> float:
        """The derivative of the total loss by a vertex."""
        name, i, t = end
        if name not in self.problem.loss:
            return 0.0
        mask = self.problem.mask[name] if isinstance(self.problem.mask, dict) else self.problem.mask
        weight = 1.0 if mask is None else mask[t] if mask.ndim == 1 else mask[t, self.sample]
        y, target = self.values[name][[t]], self.problem.targets[name][t, [self.sample]]
        return weight * losses.get(self.problem.loss[name]).gradient(y, target)[0, i] / self.problem.batch


def listed(given_: Problem, rule: PathRule, labels: Any = None) -> dict[str, Array]:
    """The gradient as a sum over the paths whose whole word the automaton accepts."""
    network = given_.network
    nodes, edges = labels or labels_of(network, given_.loss)
    grads = {name: np.zeros(network.parameters[name].shape) for name in network.trainable}

    def accepts(start: str, word: tuple[Edge, ...]) -> bool:
        mode = rule.start(nodes[start])
        for e in word:
            mode = rule.advance(mode, edges[e.name], nodes[e.target], e.credit)
            if mode is None:
                return False
        return True

    for sample in range(given_.batch):
        net = Unrolled(given_, sample)
        for name, t in itertools.product(network.nodes, range(net.steps)):
            pulls = [
                sum(net.signal(end) * product for word, end, product in net.paths((name, i, t)) if accepts(name, word))
                for i in range(network.nodes[name].size)
            ]
            bias, size = network.nodes[name].bias, network.nodes[name].size
            if bias in grads:
                grads[bias] += pulls @ net.slopes[name, network.nodes[name].bias_port, t]
            for e in network.into[name]:
                for k, j in itertools.product(range(size), range(network.nodes[e.source].size)):
                    index = net.entry(e, k, j)
                    if e.param in grads and index is not None:
                        grads[e.param][index] += (pulls @ net.slopes[name, e.port, t])[k] * net.read(e, j, t)
    return grads


def stack() -> tuple[nx.MultiDiGraph[str], Any]:
    """Two layers with skips, feedback from the top and a leaky readout; labels written down by hand."""
    graph = declare(
        {
            "x": {"op": "input", "size": 1, "initial": 0.4},
            "h": {"op": "tanh", "size": 2, "bias": 0.1},
            "g": {"op": "linear", "size": 2, "initial": [0.2, -0.3]},
            "z": {"op": "softmax"},
            "y": {"op": "linear", "size": 1},
        },
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "dense", "delay": 1}),
        ("h", "h", {"weight": "diagonal", "delay": 2}),
        ("h", "g", {"weight": "diagonal"}),
        ("g", "g", {"weight": "scalar", "delay": 1}),
        ("g", "z"),
        ("z", "g", {"weight": "sparse", "mask": [[0, 1], [1, 0]], "delay": 1, "role": "reset"}),
        ("z", "y", {"weight": "dense"}),
        ("y", "y", {"value": 0.5, "delay": 1}),
        ("y", "h", {"value": [[0.5], [-0.4]], "delay": 2, "role": "topdown"}),
    )
    nodes = {
        "x": NodeView("x"),
        "h": NodeView("h", state=True),
        "g": NodeView("g", state=True),
        "z": NodeView("z", state=True),
        "y": NodeView("y", state=True, output=True, output_layer=True, recurrent=True, leaky_readout=True),
    }
    edges = {
        "x->h": EdgeView("x", "h", mixing=True),
        "h->h": EdgeView("h", "h", delay=1, mixing=True, recurrent=True),
        "h->h#1": EdgeView("h", "h", key=1, delay=2, recurrent=True),
        "h->g": EdgeView("h", "g"),
        "g->g": EdgeView("g", "g", delay=1, recurrent=True),
        "g->z": EdgeView("g", "z", mixing=True, recurrent=True),
        "z->g": EdgeView("z", "g", delay=1, mixing=True, recurrent=True, role="reset"),
        "z->y": EdgeView("z", "y", mixing=True),
        "y->y": EdgeView("y", "y", delay=1, recurrent=True),
        "y->h": EdgeView("y", "h", delay=2, mixing=True, role="topdown"),
    }
    return graph, (nodes, edges)


AUTOMATON = RandomAutomaton(seed=8, modes=3, cuts=15, sees=("delay", "mixing", "target"), looks=("state",))


@pytest.mark.parametrize("rule", [*NAMED, "eprop-deep & near", "local & cut(['h->h#1'])", AUTOMATON], ids=str)
def test_listing_the_paths_of_a_stack_with_labels_by_hand(rule: Any) -> None:
    """If this fails, the oracle sums other paths than the rule accepts, or labels an edge wrongly."""
    graph, labels = stack()
    given_ = problem(graph, "y", steps=4, batch=1)
    path_rule = rules.rule(rule).paths
    found = oracle.reverse(**given_.arguments, rule=rule).grads
    assert all(gradient.any() for gradient in found.values())
    assert_same(found, listed(given_, path_rule, labels))
    if str(rule) not in ("rtrl", "all"):
        assert differ(found, oracle.reverse(**given_.arguments).grads)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_listing_the_paths_of_random_nets(data: st.DataObject) -> None:
    """If this fails, reverse accumulation over (node, mode, time) is not the sum over accepted paths."""
    knobs: dict[str, Any] = {"max_nodes": 4, "max_size": 2, "max_delay": 2, "stop": True}
    given_ = data.draw(problems(least_steps=3, most_steps=5, max_batch=2, **knobs), label="problem")
    assume(Unrolled(given_, 0).count() * given_.batch < 3000)
    rule = data.draw(path_rules(given_.edges), label="rule")
    found = oracle.reverse(**given_.arguments, rule=rule).grads
    assume(any(gradient.any() for gradient in found.values()))
    assert_same(found, listed(given_, rule), 1e-11)
