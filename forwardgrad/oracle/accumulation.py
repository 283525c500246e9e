"""The gradient over the paths that a rule keeps, by reverse accumulation over (node, mode, time)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.errors import DataError, RuleError, did_you_mean
from forwardgrad.graph import Edge, Network
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.oracle.arguments import Arguments, named, numbers, read_arguments
from forwardgrad.oracle.evaluation import (
    ForwardPass,
    OracleResult,
    as_entries,
    as_matrix,
    evaluate,
    loss_gradients,
    past,
    total_loss,
)
from forwardgrad.oracle.views import Views, structure_of, views_of
from forwardgrad.rules import table as rules
from forwardgrad.rules.feedback import fixed_feedback
from forwardgrad.rules.paths import EdgeView, Mode, PathRule
from forwardgrad.rules.rule import Rule
from forwardgrad.structure import Structure


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
        signals: `{node: (time, batch, size)}`, for rules with `feedback="signal"`: they replace
            the derivative of each sample's loss by v; as of losses, the mean over the batch is taken.
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
    arguments = read_arguments(graph, params, inputs, targets, loss, mask)
    if block is not None and (isinstance(block, bool) or not isinstance(block, int) or block < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"block must be a whole number >= 1, got {block!r}.")
    signals = named("signals", {} if signals is None else signals, arguments.network.nodes, whole=False)
    network, run = arguments.network, evaluate(arguments.network, arguments.params, arguments.inputs)
    seeds = loss_gradients(arguments, run)
    jacobians = {(v, port): _jacobian(network, run, v, port) for v in network.nodes for port in run.ports[v]}
    grads: dict[str, Array] = {}
    views = views_of(network, arguments.losses)
    for each, names in _assign(rule, network):
        trained = [name for name in names if _is_trained(network, each, name, views)]
        ways = _ways(network, run, jacobians, arguments, each, views)
        sources = _signalled(run, each, views, signals) if each.signalled else seeds
        length = None if each.carry else block
        if each.lossy or (not each.carry and block is None):
            raise RuleError(
                f"rule '{each}': its gradient is not a sum over paths of the whole sequence.",
                "Give block= for a rule that carries nothing; lossy layouts have no such reference.",
            )
        adjoint = _adjoint(network, run, ways, sources, each.paths, set(trained), views, length)
        for name in trained:
            grads[name] = _gradient(network, run, jacobians, adjoint, name)
    outputs = {name: run.values[name] for name in arguments.losses}
    followed = {name: network.edges[name.removesuffix(".feedback")].param or "" for name in arguments.feedback}
    grads = {name: grads[name] for name in network.trainable if name in grads}
    grads |= {name: grads[param] for name, param in followed.items()}
    return OracleResult(total_loss(arguments, run), grads, outputs)


def _jacobian(network: Network, run: ForwardPass, name: str, port: str) -> Array:
    """The derivative of a node by one of its ports, `(time, batch, size, size)`."""
    node, y = network.nodes[name], run.values[name]
    time, batch, size = y.shape
    sums = [run.ports[name][each].reshape(-1, size) for each in node.ports]
    derivative = node.op.jacobian(port, node.ports, sums, y.reshape(-1, size), node.options)
    match structure_of(network, name, port):
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
    run: ForwardPass,
    jacobians: Mapping[tuple[str, str], Array],
    arguments: Arguments,
    rule: Rule,
    views: Views,
) -> list[_Way]:
    """All edges but those into a port of structure `zero`, with what the rule puts in place of their Jacobians."""
    ways: list[_Way] = []
    for edge in network.edges.values():
        if structure_of(network, edge.target, edge.port) == Structure.ZERO:
            continue
        view, weight, through = views.edges[edge.name], run.weights[edge.name], jacobians[edge.target, edge.port]
        constant, feedback = rule.constant(view), rule.matrix(view, views.nodes[edge.target])
        if constant is not None:
            fixed = np.diag(np.broadcast_to(np.asarray(constant), (len(weight),)))
            ways.append(_Way(edge, view, np.broadcast_to(fixed, through.shape)))
            continue
        parts = [(view, weight)]
        if feedback.kind in ("random", "fixed"):
            shape = arguments.params[edge.param].shape if edge.param else np.asarray(edge.value).shape
            parts = [(view, as_matrix(network, edge, fixed_feedback(edge.name, shape, feedback, rule.seed)))]
        elif feedback.kind == "adaptive":
            name = f"{edge.name}.feedback"
            if name not in arguments.feedback and edge.source in network.inputs:
                continue  # no credit comes to an input, and a program has no matrix for it
            if name not in arguments.feedback:
                raise DataError(f"params: {name!r} is missing.", "It holds the matrix of adaptive feedback.")
            parts = [(view, as_matrix(network, edge, arguments.feedback[name]))]
        elif rule.autapses == "implicit" and _has_autapses(network, edge, views):
            own = np.diag(np.diag(weight))
            parts = [(replace(view, mixing=False), own), (view, weight - own)]
        ways += [_Way(edge, seen, np.einsum("tbij,jk->tbik", through, part)) for seen, part in parts]
    return ways


def _has_autapses(network: Network, edge: Edge, views: Views) -> bool:
    """Whether a dense or sparse weight leads from units to themselves: both ends are quantities of the same units."""
    if edge.kind not in ("dense", "sparse") or not views.edges[edge.name].mixing:
        return False
    if structure_of(network, edge.target, edge.port) == Structure.FULL:
        return False
    if not views.edges[edge.name].recurrent:
        return False
    same = {edge.source}
    for _ in network.nodes:
        for name, other in views.edges.items():
            if other.recurrent and not other.mixing and not network.edges[name].moves:
                same |= {other.source, other.target} if {other.source, other.target} & same else set()
    return edge.target in same


def _is_trained(network: Network, rule: Rule, name: str, views: Views) -> bool:
    """Whether a rule trains a parameter: it gives a mode to start in."""
    entered = [v for v in network.nodes if name in _entering(network, v)]
    return all(rule.paths.start(views.nodes[v]) is not None for v in entered)


def _signalled(run: ForwardPass, rule: Rule, views: Views, signals: Mapping[str, Any]) -> dict[str, Array]:
    """The learning signals that replace the derivative of the loss; zero where none is given."""
    given = {v: np.zeros_like(value) for v, value in run.values.items()}
    for v in given:
        if rule.signals(views.nodes[v]):
            if v not in signals:
                raise DataError(
                    f"signals: {v!r} is missing.", f"Rule '{rule}' takes the learning signal on it from you."
                )
            given[v] = numbers(f"signal {v!r}", signals[v], given[v].shape) / given[v].shape[1]
    return given


def _adjoint(
    network: Network,
    run: ForwardPass,
    ways: list[_Way],
    seeds: Mapping[str, Array],
    rule: PathRule,
    names: set[str],
    views: Views,
    block: int | None,
) -> dict[str, Array]:
    """The adjoint `(time, batch, size)` at each node where one of these parameters enters, in its starting mode."""
    starts = {v: rule.start(views.nodes[v]) for v in network.nodes if names & _entering(network, v)}
    cache: dict[tuple[Mode, int], Mode | None] = {}

    def after(mode: Mode, way: _Way) -> Mode | None:
        key = (mode, id(way))
        if key not in cache:
            cache[key] = rule.advance(mode, way.view, views.nodes[way.edge.target], way.edge.credit)
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
    network: Network,
    run: ForwardPass,
    jacobians: Mapping[tuple[str, str], Array],
    adjoint: Mapping[str, Array],
    name: str,
) -> Array:
    """The gradient of a parameter, summed over the places where it stands."""
    parameter = network.parameters[name]
    total = np.zeros(parameter.shape)
    for v in [parameter.node] if parameter.node is not None else []:
        total += np.einsum("tbi,tbij->j", adjoint[v], jacobians[v, network.nodes[v].bias_port])
    for edge in (network.edges[each] for each in parameter.edges):
        at_port = np.einsum("tbi,tbij->tbj", adjoint[edge.target], jacobians[edge.target, edge.port])
        read = [
            np.broadcast_to(past(network, run.values, edge, t), run.values[edge.source][t].shape)
            for t in range(len(at_port))
        ]
        total += as_entries(edge, np.einsum("tbi,tbj->ij", at_port, np.stack(read)))
    return total


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
