"""What is the gradient, found without the compiler? Reverse accumulation over the unrolled graph; finite differences.

The oracle is the reference that compiled programs are held against, so it shares no code with them (but for what makes
one argument an array of numbers, so that both take and refuse the same), and is kept plain:
every weight is a dense matrix, every local Jacobian a dense matrix per sample, and the declared graph is unrolled over
(node, mode, time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad import losses, rules
from forwardgrad.arrays import UNMASKED, array_of, numeric
from forwardgrad.errors import DataError, GraphError, OpError, RuleError, did_you_mean
from forwardgrad.feedback import random_feedback
from forwardgrad.graph import Edge, Network, validate
from forwardgrad.losses import Loss
from forwardgrad.ops import Array
from forwardgrad.paths import EdgeView, Mode, NodeView, PathRule
from forwardgrad.rule import Rule
from forwardgrad.structure import Structure


@dataclass(frozen=True)
class OracleResult:
    """What an oracle found.

    Args:
        loss: the loss of the sequence, summed over time and over the nodes that have one.
        grads: the gradient of each trainable parameter, shaped like it.
        outputs: the values of the nodes that have a loss, `(time, batch, size)`.
    """

    loss: float
    grads: dict[str, Array]
    outputs: dict[str, Array]


def reverse(
    graph: nx.MultiDiGraph[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    loss: Mapping[str, str | Loss],
    rule: Any = "rtrl",
    mask: Any = None,
    *,
    signals: Mapping[str, Any] | None = None,
    block: int | None = None,
) -> OracleResult:
    """The gradient over the credit paths that a rule keeps, by reverse accumulation over the unrolled graph.

    Write `q` for the mode of the rule's automaton, `e: v -> w` for an edge with delay `d` and local Jacobian
    `J_e = dw(t) / dv(t - d)`. The adjoint, and the gradient of the weight on an edge `u -> v` with delay `d`, are

        a(v, q, t) = dloss(t) / dv(t) + sum over e of J_e(t + d)' a(w, step(q, e, w), t + d)
        g = sum over t of (dport(t))' a(v, start(v), t) u(t - d)'

    Edges where `step` cuts are left out. Unfolded, `g` is the sum, over all paths of the unrolled graph from the
    parameter to a loss whose labels the automaton accepts, of the products of the Jacobians along the path (by
    induction over the topological order of the unrolled graph). The automaton is deterministic, so that each path
    counts once.

    Args:
        graph: a declared graph.
        params: `{parameter: array}`, all parameters of the graph, frozen ones too.
        inputs: `{input node: (time, batch, size)}`.
        targets: `{node with a loss: (time, batch, size)}`, or `(time, batch)` whole numbers for a loss on labels.
        loss: `{node: name of a loss, or Loss}`.
        rule: a rule, or `{pattern of parameter names: rule}`, of which the first match holds.
        mask: weights of the losses, `(time,)` or `(time, batch)`, or `{node: such}`; a node it leaves out has weight 1.
            The batch mean divides by the size of the batch, whatever the mask.
        signals: `{node: (time, batch, size)}`, for rules with `feedback="signal"`: they stand in place of dloss/dv.
        block: steps per block, for rules that carry nothing over the ends of blocks.

    Returns:
        Loss, gradients and outputs, in float64. Parameters that a rule leaves untrained are absent. A parameter without
        a kept path to a loss has gradient zero here.

    Raises:
        GraphError: if the graph is malformed, or a loss names no node of it.
        RuleError: if a rule is malformed, or a trainable parameter matches none.
        DataError: if an array is missing, unknown, of the wrong shape or not finite.
        OpError: if a loss is unknown.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=1)
    >>> g.add_node("h", op="linear")
    >>> _ = g.add_edge("x", "h", weight="scalar")
    >>> _ = g.add_edge("h", "h", delay=1, value=0.5)
    >>> x = np.ones((2, 1, 1))
    >>> result = reverse(g, {"x->h": 2.0}, {"x": x}, {"h": 0 * x}, {"h": "mse"})
    >>> result.loss, float(result.grads["x->h"])  # h = 2, 3; dh/dw = 1, 1.5
    (13.0, 13.0)
    >>> float(reverse(g, {"x->h": 2.0}, {"x": x}, {"h": 0 * x}, {"h": "mse"}, rule="immediate").grads["x->h"])
    10.0
    """
    problem = _problem(graph, params, inputs, targets, loss, mask)
    if block is not None and (isinstance(block, bool) or not isinstance(block, int) or block < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"block must be a whole number >= 1, got {block!r}.")
    signals = _named("signals", {} if signals is None else signals, problem.network.nodes, whole=False)
    network, run = problem.network, _run(problem.network, problem.params, problem.inputs)
    seeds = _seeds(problem, run)
    jacobians = {(v, port): _jacobian(network, run, v, port) for v in network.nodes for port in run.ports[v]}
    grads: dict[str, Array] = {}
    labels = _labels(network, problem.losses)
    for each, names in _assign(rule, network):
        trained = [name for name in names if _is_trained(network, each, name, labels)]
        ways = _ways(network, run, jacobians, problem, each, labels)
        sources = _signalled(run, each, labels, signals) if each.signalled else seeds
        length = None if each.carry else block
        if each.layout != "lossless" or (not each.carry and block is None):
            raise RuleError(
                f"rule '{each}': its gradient is no sum over paths of the whole sequence.",
                "Give block= for a rule that carries nothing; lossy layouts have no such reference.",
            )
        adjoint = _adjoint(network, run, ways, sources, each.paths, set(trained), labels, length)
        for name in trained:
            grads[name] = _gradient(network, run, jacobians, adjoint, name)
    outputs = {name: run.values[name] for name in problem.losses}
    followed = {name: network.edges[name.removesuffix(".feedback")].param or "" for name in problem.feedback}
    grads = {name: grads[name] for name in network.trainable if name in grads}
    grads |= {name: grads[param] for name, param in followed.items()}
    return OracleResult(_total(problem, run), grads, outputs)


def finite_difference(
    graph: nx.MultiDiGraph[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    loss: Mapping[str, str | Loss],
    mask: Any = None,
    epsilon: float = 1e-5,
) -> OracleResult:
    """The gradient by central differences, `(loss(p + epsilon) - loss(p - epsilon)) / (2 epsilon)` entry by entry.

    Args:
        graph, params, inputs, targets, loss, mask: as for `reverse`.
        epsilon: how far each entry is moved. The error grows as `epsilon ** 2`, its rounding as `1 / epsilon`.

    Returns:
        Loss, gradients and outputs, in float64.

    Raises:
        OpError: if the declared derivative of an op is not that of its value (`spike`, `stop`).
        GraphError, DataError: as for `reverse`.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=1)
    >>> g.add_node("y", op="linear")
    >>> _ = g.add_edge("x", "y", weight="scalar")
    >>> x = np.ones((2, 1, 1))
    >>> round(float(finite_difference(g, {"x->y": 2.0}, {"x": x}, {"y": 0 * x}, {"y": "mse"}).grads["x->y"]), 6)
    8.0
    """
    problem = _smooth_problem(graph, params, inputs, targets, loss, mask, epsilon)
    network = problem.network

    def moved(name: str, index: tuple[int, ...], by: float) -> float:
        array = problem.params[name].copy()
        array[index] += by
        return _total(problem, _run(network, {**problem.params, name: array}, problem.inputs))

    grads = {name: np.zeros(network.parameters[name].shape) for name in network.trainable}
    for name, gradient in grads.items():
        for index in np.ndindex(gradient.shape):
            gradient[index] = (moved(name, index, epsilon) - moved(name, index, -epsilon)) / (2 * epsilon)
    run = _run(network, problem.params, problem.inputs)
    return OracleResult(_total(problem, run), grads, {name: run.values[name] for name in problem.losses})


def directional_derivative(
    graph: nx.MultiDiGraph[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    loss: Mapping[str, str | Loss],
    direction: Mapping[str, Any],
    mask: Any = None,
    epsilon: float = 1e-5,
) -> float:
    """The derivative of the loss along a direction, by one central difference: for graphs of many parameters.

    Args:
        graph, params, inputs, targets, loss, mask, epsilon: as for `finite_difference`.
        direction: `{parameter: array}`, shaped like the parameters; one left out does not move.

    Returns:
        `(loss(p + epsilon direction) - loss(p - epsilon direction)) / (2 epsilon)`, which the gradient gives as the sum
        of its products with the direction.

    Raises:
        OpError, GraphError, DataError: as for `finite_difference`.
    """
    problem = _smooth_problem(graph, params, inputs, targets, loss, mask, epsilon)
    given = _named("direction", direction, problem.params, whole=False)
    along = {name: _numbers(f"direction of {name!r}", given[name], problem.params[name].shape) for name in given}

    def moved(by: float) -> float:
        params = {name: p + by * along.get(name, 0.0) for name, p in problem.params.items()}
        return _total(problem, _run(problem.network, params, problem.inputs))

    return (moved(epsilon) - moved(-epsilon)) / (2 * epsilon)


def _smooth_problem(
    graph: nx.MultiDiGraph[str], params: Any, inputs: Any, targets: Any, loss: Any, mask: Any, epsilon: float
) -> _Problem:
    """The problem, found fit for differences of the loss."""
    if not epsilon > 0:
        raise DataError(f"finite differences: epsilon must be greater than 0, got {epsilon!r}.")
    problem = _problem(graph, params, inputs, targets, loss, mask)
    for node in problem.network.nodes.values():
        if not node.op.smooth:
            raise OpError(
                f"node {node.name!r}: the declared derivative of op {node.op.name!r} is not that of its value.",
                "Finite differences say nothing about it; use oracle.reverse, which takes the declared derivative.",
            )
    return problem


def forward(graph: nx.MultiDiGraph[str], params: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """The value of every node, `{node: (time, batch, size)}`, in float64.

    Args:
        graph: a declared graph.
        params: `{parameter: array}`.
        inputs: `{input node: (time, batch, size)}`.

    Raises:
        GraphError, DataError: as for `reverse`.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=1)
    >>> g.add_node("h", op="linear", initial=8.0)
    >>> _ = g.add_edge("x", "h")
    >>> _ = g.add_edge("h", "h", delay=1, value=0.5)
    >>> forward(g, {}, {"x": np.ones((3, 1, 1))})["h"].ravel().tolist()
    [5.0, 3.5, 2.75]
    """
    network = validate(graph)
    arrays, _, _ = _inputs(network, inputs)
    return _run(network, _parameters(network, params), arrays).values


# The forward pass.


@dataclass(frozen=True)
class _Run:
    """A forward pass: weights as `(target, source)`, values and sums of ports as `(time, batch, size)`."""

    weights: Mapping[str, Array]
    values: dict[str, Array]
    ports: Mapping[str, Mapping[str, Array]]


def _run(network: Network, params: Mapping[str, Array], inputs: Mapping[str, Array]) -> _Run:
    time, batch, _ = next(iter(inputs.values())).shape
    weights = {name: _weight(network, edge, params) for name, edge in network.edges.items()}
    values = {name: np.zeros((time, batch, node.size)) for name, node in network.nodes.items()} | dict(inputs)
    ports = {
        name: {port: np.zeros((time, batch, node.size)) for port in node.ports} for name, node in network.nodes.items()
    }
    for t in range(time):
        for name in network.order:
            node, sums = network.nodes[name], ports[name]
            if name in inputs:
                continue
            if node.bias is not None:
                sums[node.bias_port][t] += params[node.bias]
            for edge in network.into[name]:
                sums[edge.port][t] += _past(network, values, edge, t) @ weights[edge.name].T
            values[name][t] = node.op.evaluate([sums[port][t] for port in node.ports], node.options)
    return _Run(weights, values, ports)


def _past(network: Network, values: Mapping[str, Array], edge: Edge, t: int) -> Array:
    """What an edge reads at time t: `(batch, size)`, or `(size,)` before the start."""
    return values[edge.source][t - edge.delay] if t >= edge.delay else network.nodes[edge.source].initial


def _weight(network: Network, edge: Edge, params: Mapping[str, Array]) -> Array:
    """The weight of an edge as a dense matrix."""
    if edge.kind == "identity":
        return np.eye(network.nodes[edge.target].size)
    return _matrix(network, edge, params[edge.param] if edge.param is not None else cast("Array", edge.value))


def _matrix(network: Network, edge: Edge, array: Array) -> Array:
    """An array shaped as an edge's weight, as a dense matrix."""
    rows, columns = network.nodes[edge.target].size, network.nodes[edge.source].size
    if edge.kind == "dense":
        return array
    matrix = np.zeros((rows, columns))
    if edge.pattern is None:
        np.fill_diagonal(matrix, array)
    else:
        matrix[edge.pattern.rows, edge.pattern.columns] = array
    return matrix


def _entries(edge: Edge, matrix: Array) -> Array:
    """The gradient by an edge's array, from that by its dense matrix."""
    if edge.pattern is not None:
        return matrix[edge.pattern.rows, edge.pattern.columns]
    if edge.kind == "dense":
        return matrix
    return np.asarray(np.trace(matrix)) if edge.kind == "scalar" else np.diagonal(matrix)


# Labels: worked out here on purpose, apart from the compiler's own derivation.


@dataclass(frozen=True)
class _Labels:
    nodes: Mapping[str, NodeView]
    edges: Mapping[str, EdgeView]


def _labels(network: Network, outputs: Iterable[str]) -> _Labels:
    """What rules see. Two nodes are in one component where each reaches the other without `topdown` edges."""
    place = {name: i for i, name in enumerate(network.nodes)}
    reach = np.eye(len(place), dtype=bool)
    for edge in network.edges.values():
        reach[place[edge.source], place[edge.target]] |= edge.role != "topdown"
    for k in range(len(place)):  # Warshall: paths whose inner nodes are among the first k
        reach |= reach[:, [k]] & reach[[k], :]
    together = reach & reach.T

    near_loss = _near_loss(network, place, together, outputs)

    def inside(edge: Edge) -> bool:
        return edge.role != "topdown" and bool(together[place[edge.source], place[edge.target]])

    def layer(name: str) -> list[Edge]:
        return [e for e in network.edges.values() if together[place[name], place[e.source]]]

    nodes = {
        name: NodeView(
            name,
            state=any(e.source == name and e.delay > 0 and inside(e) for e in network.edges.values()),
            output=name in outputs,
            output_layer=bool(near_loss[place[name]]),
            recurrent=any(map(inside, layer(name))),
            leaky_readout=any(map(inside, layer(name)))
            and any(bool(together[place[name], place[output]]) for output in outputs)
            and not any(inside(e) and _mixing(network, e) for e in layer(name)),
        )
        for name in network.nodes
    }
    edges = {
        e.name: EdgeView(e.source, e.target, e.key, e.delay, _mixing(network, e), inside(e), e.role)
        for e in network.edges.values()
    }
    return _Labels(nodes, edges)


def _near_loss(network: Network, place: Mapping[str, int], together: Array, outputs: Iterable[str]) -> Array:
    """Which nodes lead to a loss by steps inside their layer, and by edges between layers that do not mix."""
    near = np.zeros(len(place), dtype=bool)
    near[[place[output] for output in outputs]] = True
    links = [
        (place[e.source], place[e.target])
        for e in network.edges.values()
        if not _mixing(network, e) and _structure(network, e.target, e.port) != Structure.ZERO
    ]
    for _ in place:  # a way to a loss crosses every layer at most once
        near = together @ near
        for u, v in links:
            near[u] |= near[v]
    return together @ near


def _mixing(network: Network, edge: Edge) -> bool:
    return edge.kind in ("dense", "sparse") or _structure(network, edge.target, edge.port) == Structure.FULL


def _structure(network: Network, name: str, port: str) -> Structure:
    node = network.nodes[name]
    return node.op.port(port, node.ports).structure


# The backward pass.


def _jacobian(network: Network, run: _Run, name: str, port: str) -> Array:
    """The derivative of a node by one of its ports, `(time, batch, size, size)`."""
    node, y = network.nodes[name], run.values[name]
    time, batch, size = y.shape
    sums = [run.ports[name][each].reshape(-1, size) for each in node.ports]
    derivative = node.op.jacobian(port, node.ports, sums, y.reshape(-1, size), node.options)
    match _structure(network, name, port):
        case Structure.ZERO:
            derivative = np.zeros((time * batch, size, size))
        case Structure.FULL:
            pass
        case _:
            derivative = derivative[:, :, None] * np.eye(size)
    return derivative.reshape(time, batch, size, size)


@dataclass(frozen=True)
class _Way:
    """An edge as a rule reads it: what the automaton sees, and what credit is multiplied by, `(time, batch, i, j)`."""

    edge: Edge
    view: EdgeView
    link: Array


def _ways(
    network: Network,
    run: _Run,
    jacobians: Mapping[tuple[str, str], Array],
    problem: _Problem,
    rule: Rule,
    labels: _Labels,
) -> list[_Way]:
    """All edges but those into a port of structure `zero`, with what the rule puts in place of their Jacobians."""
    ways: list[_Way] = []
    for edge in network.edges.values():
        if _structure(network, edge.target, edge.port) == Structure.ZERO:
            continue
        view, weight, through = labels.edges[edge.name], run.weights[edge.name], jacobians[edge.target, edge.port]
        constant, matrix = rule.constant(view), rule.matrix(view, labels.nodes[edge.target])
        if constant is not None:
            fixed = np.diag(np.broadcast_to(np.asarray(constant), (len(weight),)))
            ways.append(_Way(edge, view, np.broadcast_to(fixed, through.shape)))
            continue
        parts = [(view, weight)]
        if matrix == "random":
            shape = problem.params[edge.param].shape if edge.param else np.asarray(edge.value).shape
            parts = [(view, _matrix(network, edge, random_feedback(edge.name, shape, rule.seed)))]
        elif matrix == "adaptive":
            name = f"{edge.name}.feedback"
            if name not in problem.feedback and edge.source in network.inputs:
                continue  # no credit comes to an input, and a program has no matrix for it
            if name not in problem.feedback:
                raise DataError(f"params: {name!r} is missing.", "It holds the matrix of adaptive feedback.")
            parts = [(view, _matrix(network, edge, problem.feedback[name]))]
        elif rule.autapses == "implicit" and _has_autapses(network, edge, labels):
            own = np.diag(np.diag(weight))
            parts = [(replace(view, mixing=False), own), (view, weight - own)]
        ways += [_Way(edge, seen, np.einsum("tbij,jk->tbik", through, part)) for seen, part in parts]
    return ways


def _has_autapses(network: Network, edge: Edge, labels: _Labels) -> bool:
    """Whether a dense or sparse weight leads from units to themselves: both ends are quantities of the same units."""
    if edge.kind not in ("dense", "sparse") or _structure(network, edge.target, edge.port) == Structure.FULL:
        return False
    if not labels.edges[edge.name].recurrent:
        return False
    same = {edge.source}
    for _ in network.nodes:
        for other in labels.edges.values():
            if other.recurrent and not other.mixing and {other.source, other.target} & same:
                same |= {other.source, other.target}
    return edge.target in same


def _is_trained(network: Network, rule: Rule, name: str, labels: _Labels) -> bool:
    """Whether a rule trains a parameter: it gives a mode to start in."""
    entered = [v for v in network.nodes if name in _entering(network, v)]
    return all(rule.paths.start(labels.nodes[v]) is not None for v in entered)


def _signalled(run: _Run, rule: Rule, labels: _Labels, signals: Mapping[str, Any]) -> dict[str, Array]:
    """The learning signals that stand in place of the derivative of the loss; zero where none is given."""
    given = {v: np.zeros_like(value) for v, value in run.values.items()}
    for v in given:
        if rule.signals(labels.nodes[v]):
            if v not in signals:
                raise DataError(
                    f"signals: {v!r} is missing.", f"Rule '{rule}' takes the learning signal on it from you."
                )
            given[v] = _numbers(f"signal {v!r}", signals[v], given[v].shape)
    return given


def _adjoint(
    network: Network,
    run: _Run,
    ways: list[_Way],
    seeds: Mapping[str, Array],
    rule: PathRule,
    names: set[str],
    labels: _Labels,
    block: int | None,
) -> dict[str, Array]:
    """The adjoint `(time, batch, size)` at each node where one of these parameters enters, in its starting mode."""
    starts = {v: rule.start(labels.nodes[v]) for v in network.nodes if names & _entering(network, v)}
    cache: dict[tuple[Mode, int], Mode | None] = {}

    def after(mode: Mode, way: _Way) -> Mode | None:
        key = (mode, id(way))
        if key not in cache:
            cache[key] = rule.advance(mode, way.view, labels.nodes[way.edge.target], way.edge.credit)
        return cache[key]

    def joined(t: int, s: int) -> bool:
        return block is None or t // block == s // block

    time = len(next(iter(run.values.values())))
    modes = _reached(network, time, starts, ways, after)
    adjoint: dict[tuple[str, Mode, int], Array] = {}
    for t in reversed(range(time)):
        for v in reversed(network.order):
            out = [(way, t + way.edge.delay) for way in ways if way.edge.source == v]
            leaving = [(way, s) for way, s in out if s < time and joined(t, s)]
            for mode in modes[t][v]:
                total = seeds[v][t]
                for way, s in leaving:
                    arrived = after(mode, way)
                    if arrived is not None:
                        total = total + np.einsum("bi,bij->bj", adjoint[way.edge.target, arrived, s], way.link[s])
                adjoint[v, mode, t] = total
    return {v: np.stack([adjoint[v, mode, t] for t in range(time)]) for v, mode in starts.items()}


def _reached(
    network: Network,
    time: int,
    starts: Mapping[str, Mode],
    ways: Iterable[_Way],
    after: Callable[[Mode, _Way], Mode | None],
) -> list[dict[str, list[Mode]]]:
    """For every time step, the modes in which influence can be at each node; found by going forward."""
    history: list[dict[str, list[Mode]]] = []
    for t in range(time):
        history.append({})
        for v in network.order:
            found: dict[Mode, None] = {starts[v]: None} if v in starts else {}
            for way in ways:
                edge = way.edge
                if edge.target == v and t >= edge.delay:
                    found |= dict.fromkeys(after(mode, way) for mode in history[t - edge.delay][edge.source])
            history[t][v] = [mode for mode in found if mode is not None]
    return history


def _entering(network: Network, name: str) -> set[str | None]:
    """The parameters that enter at a node: on its in-edges, and its bias."""
    return {edge.param for edge in network.into[name]} | {network.nodes[name].bias}


def _gradient(
    network: Network, run: _Run, jacobians: Mapping[tuple[str, str], Array], adjoint: Mapping[str, Array], name: str
) -> Array:
    """The gradient of a parameter, summed over the places where it stands."""
    parameter = network.parameters[name]
    total = np.zeros(parameter.shape)
    for v in [parameter.node] if parameter.node is not None else []:
        total += np.einsum("tbi,tbij->j", adjoint[v], jacobians[v, network.nodes[v].bias_port])
    for edge in (network.edges[each] for each in parameter.edges):
        at_port = np.einsum("tbi,tbij->tbj", adjoint[edge.target], jacobians[edge.target, edge.port])
        read = [
            np.broadcast_to(_past(network, run.values, edge, t), run.values[edge.source][t].shape)
            for t in range(len(at_port))
        ]
        total += _entries(edge, np.einsum("tbi,tbj->ij", at_port, np.stack(read)))
    return total


# Losses and rules.


def _total(problem: _Problem, run: _Run) -> float:
    total = 0.0
    for name, loss in problem.losses.items():
        y, target = _rows(run.values[name]), _rows(problem.targets[name])
        mask = problem.masks[name]
        with np.errstate(divide="ignore", invalid="ignore"):  # where the mask is zero
            values = np.asarray(loss.value(y, target)).reshape(mask.shape)
        total += float(np.sum(mask * np.where(mask == 0, 0, values))) / mask.shape[1]
    return total


def _seeds(problem: _Problem, run: _Run) -> dict[str, Array]:
    """The derivative of the total loss by each node's own value, `(time, batch, size)`."""
    seeds = {name: np.zeros_like(value) for name, value in run.values.items()}
    for name, loss in problem.losses.items():
        y, target = _rows(run.values[name]), _rows(problem.targets[name])
        mask = problem.masks[name][:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.asarray(loss.gradient(y, target)).reshape(seeds[name].shape)
        seeds[name] = mask * np.where(mask == 0, 0, slopes) / mask.shape[1]
    return seeds


def _rows(array: Array) -> Array:
    """A copy with time and batch as one axis: losses take rows of samples, and may write into them."""
    return array.reshape(-1, *array.shape[2:]).copy()


def _assign(rule: Any, network: Network) -> list[tuple[Rule, list[str]]]:
    """The rules, each with the trainable parameters that travel by it."""
    given = dict(cast("Mapping[str, Any]", rule)) if isinstance(rule, Mapping) else {"*": rule}
    groups: list[tuple[Rule, list[str]]] = [(rules.rule(each), []) for each in given.values()]
    for each, _ in groups:
        each.paths.check(network.edges)
    for name in network.trainable:
        matching = [i for i, pattern in enumerate(given) if fnmatchcase(name, pattern)]
        if not matching:
            raise RuleError(
                f"parameter {name!r} matches no pattern of the rules: {', '.join(map(repr, given))}.",
                "Add a last pattern '*' for all the others.",
            )
        groups[matching[0]][1].append(name)
    for pattern in given:
        if not any(fnmatchcase(name, pattern) for name in network.trainable) and network.trainable:
            raise RuleError(
                f"rule for {pattern!r}: fits no trainable parameter.", did_you_mean(pattern, network.trainable)
            )
    return [group for group in groups if group[1]]


# Arguments.


@dataclass(frozen=True)
class _Problem:
    """All arguments, checked and in float64; masks are `(time, batch)`."""

    network: Network
    params: Mapping[str, Array]
    inputs: Mapping[str, Array]
    targets: Mapping[str, Array]
    losses: Mapping[str, Loss]
    masks: Mapping[str, Array]
    feedback: Mapping[str, Array]


def _problem(graph: nx.MultiDiGraph[str], params: Any, inputs: Any, targets: Any, loss: Any, mask: Any) -> _Problem:
    network = validate(graph)
    arrays, time, batch = _inputs(network, inputs)
    wanted = _losses(network, loss)
    masks = _masks(wanted, mask, time, batch)
    given = _named("targets", targets, wanted)
    known = {f"{name}.feedback": edge for name, edge in network.edges.items() if edge.param}
    arrays_of = cast("dict[Any, Any]", dict(params)) if isinstance(params, Mapping) else params
    feedback: dict[str, Any] = {n: arrays_of.pop(n) for n in known if isinstance(arrays_of, dict) and n in arrays_of}
    return _Problem(
        network,
        _parameters(network, arrays_of),
        arrays,
        {name: _target(network, name, each, given[name], masks[name]) for name, each in wanted.items()},
        wanted,
        masks,
        {n: _numbers(f"parameter {n!r}", p, _shape_of(network, known[n])) for n, p in feedback.items()},
    )


def _shape_of(network: Network, edge: Edge) -> tuple[int, ...]:
    return network.parameters[edge.param or ""].shape


def _losses(network: Network, loss: Any) -> dict[str, Loss]:
    if not isinstance(loss, Mapping) or not loss:
        raise GraphError(f"loss: needs at least one node, got {loss!r}.", "Write it as loss={'y': 'mse'}.")
    for name in cast("Mapping[Any, Any]", loss):
        if name not in network.nodes:
            raise GraphError(f"loss: the graph has no node {name!r}.", did_you_mean(name, network.nodes))
    return {name: losses.get(each) for name, each in cast("Mapping[str, Any]", loss).items()}


def _parameters(network: Network, params: Any) -> dict[str, Array]:
    given = _named("params", params, network.parameters)
    return {
        name: _numbers(f"parameter {name!r}", given[name], parameter.shape)
        for name, parameter in network.parameters.items()
    }


def _inputs(network: Network, inputs: Any) -> tuple[dict[str, Array], int, int]:
    """The arrays, the number of steps and the size of the batch."""
    if not network.inputs:
        raise DataError("the graph has no input node, so the number of steps is unknown.", "Add one with op='input'.")
    given = _named("inputs", inputs, network.inputs)
    name = network.inputs[0]
    first = _array(f"input {name!r}", given[name]).shape
    if len(first) != 3 or 0 in first:
        raise DataError(f"input {name!r}: needs shape (time, batch, size), each at least 1, got {first}.")
    time, batch, _ = first
    arrays = {
        name: _numbers(f"input {name!r}", given[name], (time, batch, network.nodes[name].size))
        for name in network.inputs
    }
    return arrays, time, batch


def _target(network: Network, name: str, loss: Loss, given: Any, mask: Array) -> Array:
    """What a loss compares with; where the mask is zero it is zero, whatever was given."""
    size, what = network.nodes[name].size, f"target {name!r}"
    if not loss.labels:
        values = _shaped(what, given, (*mask.shape, size), UNMASKED)
        values[mask == 0] = 0
        return _finite(what, values)
    labels = _shaped(what, given, mask.shape, UNMASKED)
    labels[mask == 0] = 0
    whole = array_of(what, given).dtype.kind in "biu"  # a program refuses 1.0
    if not whole or not np.isin(labels, np.arange(size)).all():
        raise DataError(f"{what}: labels must be whole numbers from 0 to {size - 1}.", f"{name!r} has size {size}.")
    return labels.astype(np.intp)


def _masks(wanted: Iterable[str], mask: Any, time: int, batch: int) -> dict[str, Array]:
    by_node = cast("Mapping[str, Any]", mask) if isinstance(mask, Mapping) else dict.fromkeys(wanted, mask)
    for name in by_node:
        if name not in wanted:
            raise DataError(f"mask: node {name!r} has no loss.", did_you_mean(name, wanted))
    masks: dict[str, Array] = {}
    for name in wanted:
        given = np.ones(time) if by_node.get(name) is None else by_node[name]
        array = _array(f"mask of {name!r}", given)
        if array.shape not in ((time,), (time, batch)):
            raise DataError(f"mask of {name!r}: needs shape {(time,)} or {(time, batch)}, got {array.shape}.")
        masks[name] = np.broadcast_to(array.reshape(time, -1), (time, batch))
    return masks


def _named(what: str, given: Any, wanted: Iterable[str], whole: bool = True) -> Mapping[str, Any]:
    """A mapping that has the wanted names (all of them, if it is to be whole) and no others."""
    if not isinstance(given, Mapping):
        raise DataError(f"{what}: needs a mapping from names to arrays, got {type(given).__name__}.")
    mapping = cast("Mapping[str, Any]", given)
    names = set(wanted)
    for name in mapping:
        if name not in names:
            raise DataError(f"{what}: unknown name {name!r}.", did_you_mean(name, names))
    for name in wanted if whole else ():
        if name not in mapping:
            raise DataError(f"{what}: {name!r} is missing.", f"Needed: {', '.join(sorted(names))}.")
    return mapping


def _numbers(what: str, given: Any, shape: tuple[int, ...]) -> Array:
    """A finite float64 array of that shape."""
    return _finite(what, _shaped(what, given, shape))


def _shaped(what: str, given: Any, shape: tuple[int, ...], *unmasked: str) -> Array:
    """A float64 array of that shape, and of its own."""
    array = numeric(what, given, np.float64, *unmasked)
    if array.shape != shape:
        raise DataError(f"{what}: needs shape {shape}, got {array.shape}.")
    return array.copy()


def _array(what: str, given: Any) -> Array:
    """A finite float64 array."""
    return _finite(what, numeric(what, given, np.float64).copy())


def _finite(what: str, array: Array) -> Array:
    if not np.isfinite(array).all():
        raise DataError(f"{what}: holds NaN or infinite values.")
    return array
