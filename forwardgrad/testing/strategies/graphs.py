"""Which declared graphs are drawn? Any that `validate` takes, or those that some knobs leave.

Structure is drawn piece by piece, so that a failure shrinks to a small graph. Numbers are drawn from a seed, which is
fast. Gains are kept near or below one, so that a dozen steps through recurrent edges do not explode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from forwardgrad.graph.sizes import kind_of
from forwardgrad.ops import registry
from forwardgrad.testing.problem import weights
from forwardgrad.testing.strategies.brought import brought_ops, options_of
from forwardgrad.weights import ATTRIBUTES, KINDS, Ends, Kind

SEEDS = st.integers(0, 2**16)

BOUNDED = ("input", "tanh", "sigmoid", "sin", "softmax", "spike")
"""Ops whose values cannot grow; only these feed `exp` and `square`."""

SMOOTH = ("linear", "tanh", "mul", "softmax", "one_minus", "sigmoid", "softplus", "sin", "exp", "square")
ROUGH = ("spike", "relu")
"""Ops that finite differences cannot serve: a surrogate, and a kink that a sum of zeros sits on."""


@dataclass(frozen=True)
class _Knobs:
    """The knobs of `graphs`, as they are passed on."""

    max_size: int
    max_delay: int
    deep: bool
    feedback: bool
    components: int | None
    kinds: tuple[str, ...]
    roles: bool
    credit: bool
    brought: bool


@st.composite
def graphs(
    draw: st.DrawFn,
    *,
    min_nodes: int = 1,
    max_nodes: int = 6,
    max_size: int = 3,
    max_delay: int = 3,
    deep: bool = False,
    feedback: bool = True,
    components: int | None = None,
    smooth: bool = False,
    spiking: bool = False,
    kinds: Sequence[str] = tuple(KINDS),
    sharing: bool = True,
    roles: bool = True,
    stop: bool = False,
    credit: bool = True,
    brought: bool = False,
) -> nx.MultiDiGraph[str]:
    """A declared graph: inputs `x0`, ..., then nodes `n0`, ... in an order that edges of delay 0 follow.

    Args:
        draw: given by Hypothesis.
        min_nodes, max_nodes: bounds of the number of nodes, not counting one or two inputs.
        max_size: most units of a node.
        max_delay: longest delay, at least 1.
        deep: whether every node reads the one before it.
        feedback: whether there are edges onto the node itself and back to earlier ones.
        components: exactly that many recurrent layers, each a node with an edge onto itself (fewer where there are
            fewer nodes); `None`: any number, also of several nodes.
        smooth: leave out ops whose declared derivative finite differences do not find (`spike`, `relu`).
        spiking: whether the first node is a `spike`.
        kinds: the weight kinds to draw from; where none of them fits two sizes, `dense` is taken.
        sharing: whether edges may share one parameter.
        roles: whether feedback edges may have a role.
        stop: whether to put in the op `stop`, behind which every parameter is dead.
        credit: whether edges may carry `credit`, which cuts paths under every rule, RTRL too.
        brought: whether nodes may have ops as users bring them (`brought_ops`), with options of their own; these stay
            registered until the example has ended.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> g = find(graphs(), lambda g: True, settings=once)
    >>> sorted(g), g.number_of_edges()
    (['n0', 'x0'], 1)
    """
    knobs = _Knobs(max_size, max_delay, deep, feedback, components, tuple(kinds), roles, credit, brought)
    backwards, shared = draw(st.booleans()), sharing and _rarely(draw, 40)  # drawn first, so that the rest can shrink
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for i in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, max_size))
        graph.add_node(f"x{i}", op="input", size=size, **_initial(draw, size))
    ops = SMOOTH[:1] + (() if smooth else ROUGH) + SMOOTH[1:] + (("stop",) if stop and not smooth else ())
    for i in range(max_nodes):
        if not draw(_nodes(graph, f"n{i}", ("spike",) if spiking and not i else ops, knobs, i >= min_nodes)):
            break
    for u, v in _feedback(draw, graph, knobs):
        _add_feedback(draw, graph, u, v, knobs)
    for u, v, key in list(graph.edges(keys=True)):
        _add_weight(draw, graph, u, v, key, knobs)
    if shared:
        _share(draw, graph)
    return _backwards(graph) if backwards else graph


def _rarely(draw: st.DrawFn, percent: int) -> bool:
    return draw(st.integers(0, 99)) >= 100 - percent


def _backwards(graph: nx.MultiDiGraph[str]) -> nx.MultiDiGraph[str]:
    """The same graph, declared in an order that is not topological."""
    other: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    other.add_nodes_from(reversed(list(graph.nodes(data=True))))
    for u, v, key, attributes in reversed(list(graph.edges(keys=True, data=True))):
        other.add_edge(u, v, key, **attributes)
    return other


def _initial(draw: st.DrawFn, size: int) -> dict[str, Any]:
    """Sometimes a value before the start: a number, or one for each unit."""
    return {"initial": draw(st.sampled_from([0.5, np.linspace(-0.4, 0.6, size)]))} if _rarely(draw, 30) else {}


@st.composite
def _nodes(
    draw: st.DrawFn, graph: nx.MultiDiGraph[str], name: str, ops: Sequence[str], knobs: _Knobs, optional: bool
) -> bool:
    """Adds a node, or says that there are enough. One draw for all of it, which shrinking can take away."""
    if optional and draw(st.integers(0, 5)) == 0:
        return False
    _add_node(draw, graph, name, draw(_op(graph, ops, knobs)), knobs)
    return True


def _op(graph: nx.MultiDiGraph[str], ops: Sequence[str], knobs: _Knobs) -> st.SearchStrategy[str]:
    """The name of an op: one of these, or one that a user brings, perhaps to several nodes."""
    usual = st.sampled_from(ops)
    if not knobs.brought:
        return usual
    known = dict.fromkeys(str(graph.nodes[name]["op"]) for name in graph)
    again = st.sampled_from([op for op in known if op.startswith("brought_")] or ["linear"])
    return usual | again | brought_ops().map(lambda op: op.name)


def _ports(op: str) -> list[str]:
    """The names of the ports that a node of this op is fed at the least."""
    return [port.name for port in registry.get(op).ports] or ["a", "b"]


def _add_node(draw: st.DrawFn, graph: nx.MultiDiGraph[str], name: str, op: str, knobs: _Knobs) -> None:
    """A node with its edges from earlier nodes."""
    earlier = [u for u in graph if op not in ("exp", "square") or graph.nodes[u]["op"] in BOUNDED]
    size = draw(st.integers(min(2, knobs.max_size) if op == "softmax" else 1, knobs.max_size))
    graph.add_node(name, op=op, size=size, **_initial(draw, size))
    attributes = graph.nodes[name]
    if _rarely(draw, 50):
        attributes["bias"] = draw(st.sampled_from([True, 0.2, np.linspace(-0.3, 0.4, size)]))
        if _ports(op) != ["in"]:
            attributes["bias_port"] = draw(st.sampled_from(_ports(op)))
        if _rarely(draw, 20):
            attributes["bias_trainable"] = False
    if op == "spike":
        attributes.update(threshold=draw(st.sampled_from([0.1, 0.3])), width=draw(st.sampled_from([4.0, 6.0])))
        attributes.update(surrogate=draw(st.sampled_from(["triangle", "gaussian", "fast_sigmoid", "boxcar"])))
        attributes.update(dampening=draw(st.sampled_from([1.0, 0.5])))
    if op.startswith("brought_"):
        attributes |= draw(options_of(registry.get(op), size))
    alone = "bias" in attributes and not knobs.deep and _ports(op) == ["in"] and _rarely(draw, 10)
    ports = [] if alone else _ports(op)
    ports += draw(st.lists(st.sampled_from(["b", "c"] if op == "mul" else _ports(op)), max_size=2))
    for number, port in enumerate(ports):
        last = st.just(earlier[-1])  # likely anyway, for depth
        source = draw(last if knobs.deep and not number else last | st.sampled_from(earlier))
        _add_edge(graph, source, name, port, draw(_delays(0, knobs.max_delay)))


def _delays(least: int, most: int) -> st.SearchStrategy[int]:
    """Delays; the least is common."""
    return st.one_of(st.just(least), st.integers(least, most))


def _add_edge(graph: nx.MultiDiGraph[str], u: str, v: str, port: str, delay: int) -> None:
    attributes = ({"port": port} if port != "in" else {}) | ({"delay": delay} if delay else {})
    graph.add_edge(u, v, **attributes)


def _feedback(draw: st.DrawFn, graph: nx.MultiDiGraph[str], knobs: _Knobs) -> list[tuple[str, str]]:
    """Edges onto the node itself and back to earlier ones."""
    nodes = [name for name in graph if name.startswith("n")]
    if not knobs.feedback:
        return []
    if knobs.components is not None:
        bounded = [name for name in nodes if graph.nodes[name]["op"] not in ("exp", "square")]
        return [(name, name) for name in bounded[: knobs.components]]
    pairs = [(name, name) for name in nodes if draw(st.booleans())]
    for _ in range(draw(st.integers(0, 3))):
        v = draw(st.sampled_from(nodes))
        pairs.append((draw(st.sampled_from(sorted(nx.descendants(graph, v)) or [v])), v))
    return pairs


def _add_feedback(draw: st.DrawFn, graph: nx.MultiDiGraph[str], u: str, v: str, knobs: _Knobs) -> None:
    """An edge with a delay and perhaps a role."""
    if graph.nodes[v]["op"] in ("exp", "square") and graph.nodes[u]["op"] not in BOUNDED:
        return  # it could grow without bound
    ports = _ports(graph.nodes[v]["op"])
    port = draw(st.sampled_from(ports)) if len(ports) > 1 else ports[0]
    _add_edge(graph, u, v, port, draw(_delays(1, knobs.max_delay)))
    if knobs.roles and _rarely(draw, 30):
        key = list(graph[u][v])[-1]
        graph.edges[u, v, key]["role"] = draw(st.sampled_from(["reset", "topdown", "readout"]))


def _add_weight(draw: st.DrawFn, graph: nx.MultiDiGraph[str], u: str, v: str, key: Any, knobs: _Knobs) -> None:
    """A weight of any kind the sizes allow; trainable, frozen or fixed; perhaps a string as key, and `credit`."""
    ends = Ends((graph.nodes[v]["size"],), (graph.nodes[u]["size"],))
    attributes = graph.edges[u, v, key]
    if key and draw(st.booleans()):
        graph.remove_edge(u, v, key)
        key = graph.add_edge(u, v, key=f"k{key}", **attributes)
        attributes = graph.edges[u, v, key]
    fitting = [kind for kind in KINDS.values() if kind.name in knobs.kinds and _fits(kind, ends)]
    others = (edge for _, _, edge in graph.in_edges(v, data=True) if edge is not attributes and edge.get("delay"))
    if attributes.get("delay") and not all("value" in edge or kind_of(edge).weighted for edge in others):
        # Two loops without damping could double a value at every step.
        fitting = [kind for kind in fitting if kind.weighted]
    kind = draw(st.sampled_from(sorted(fitting, key=lambda kind: kind.name != "dense") or [KINDS["dense"]]))
    attributes |= {"weight": kind.name} if kind.form.weighted else {}
    if kind.attributes:
        attributes |= kind.example(np.random.default_rng(draw(SEEDS)), ends) or {}
    # Drawn for all kinds, so that a failure shrinks from one kind to another.
    trained = draw(st.sampled_from(["yes", "yes", "yes", "yes", "frozen", "fixed"]))
    if kind.weighted and trained == "frozen":
        attributes["trainable"] = False
    if kind.weighted and trained == "fixed":
        attributes["value"] = _fixed(graph, attributes, kind, ends, v, draw(SEEDS))
        if kind.read_off is not None and draw(st.booleans()):
            del attributes["weight"]  # read off the shape
    if knobs.credit and _rarely(draw, 12):
        attributes["credit"] = draw(st.sampled_from(["cut", "keep"]))


def _fits(kind: Kind, ends: Ends) -> bool:
    if kind.form.keeps_size:
        return ends.target == ends.source
    return kind.example(np.random.default_rng(0), ends) is not None


def _fixed(graph: nx.MultiDiGraph[str], attributes: dict[str, Any], kind: Kind, ends: Ends, v: str, seed: int) -> Any:
    port = attributes.get("port")
    fan = sum(edge.get("port") == port for _, _, edge in graph.in_edges(v, data=True))
    pattern = None if kind.pattern is None else kind.pattern("edge", attributes, ends)
    target, source = ends.sizes
    form = kind.form.shape(source, target, pattern)
    value = weights(np.random.default_rng(seed), form, fan, 1 if kind.form.keeps_size else source)
    return float(value) if form == () else value


def _share(draw: st.DrawFn, graph: nx.MultiDiGraph[str]) -> None:
    """Sometimes let edges that agree in kind, sizes and training share one parameter."""
    alike: defaultdict[Any, list[Any]] = defaultdict(list)
    for u, v, key, edge in graph.edges(keys=True, data=True):
        kind = kind_of(edge)
        if "value" in edge or not kind.weighted:
            continue
        sizes = () if kind.name == "scalar" else (graph.nodes[v]["size"], graph.nodes[u]["size"])
        alike[kind.name, sizes, edge.get("trainable", True)].append((u, v, key))
    groups = [group for group in alike.values() if len(group) > 1]
    if not groups:
        return
    group = draw(st.sampled_from(groups))[: draw(st.integers(2, 3))]
    pattern = {k: graph.edges[group[0]][k] for k in ATTRIBUTES if k in graph.edges[group[0]]}
    for place in group:
        for attribute in ATTRIBUTES:
            graph.edges[place].pop(attribute, None)
        graph.edges[place].update(pattern, param="shared")
