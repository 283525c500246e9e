"""Does the gradient depend on how a delay is spelled? A relay behind a delay, and a split delay, change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import networkx as nx

from forwardgrad.compiling import compile
from forwardgrad.errors import CheckError, GraphError, RuleError, VacuousError, did_you_mean
from forwardgrad.graph import Edge, Network, validate
from forwardgrad.program import Program
from forwardgrad.rules.rule import Rule
from forwardgrad.testing import checking
from forwardgrad.testing.comparing import Difference, chosen, differ, differences, fault, gradient
from forwardgrad.testing.problem import Problem
from forwardgrad.testing.vacuity import Vacuity, refuse, silent_spikes, zero_gradient


def refactored(graph: nx.MultiDiGraph[str], early: Mapping[str, int]) -> nx.MultiDiGraph[str]:
    """The same network, spelled otherwise: an identity before each of these edges takes a part of its delay.

    With the whole delay, the identity is a relay behind it, and the weight acts at once; with less, the delay is split.
    The new node is called `"u->v relay"`, and starts where the source does.

    Args:
        graph: a declared graph; it is not changed.
        early: `{edge: steps that the identity takes}`, from 1 to the delay of the edge.

    Raises:
        GraphError: if an edge is unknown, has no such delay, or has `credit`, which of one edge is not that of two.

    >>> import forwardgrad as fg
    >>> sorted(refactored(fg.load("elman"), {"h->h": 1}))
    ['h', 'h->h relay', 'x', 'y']
    """
    network = validate(graph)
    other: nx.MultiDiGraph[str] = nx.MultiDiGraph(graph)
    for name, steps in early.items():
        edge = network.edges.get(name)
        if edge is None:
            raise GraphError(f"refactored: the graph has no edge {name!r}.", did_you_mean(name, network.edges))
        if not 1 <= steps <= edge.delay or edge.credit:
            has = f"credit {edge.credit!r}" if edge.credit else f"delay {edge.delay}, of which {steps} can be no part"
            raise GraphError(f"refactored: edge {name!r} has {has}.", "A delay without credit can be spelled anew.")
        _relay(other, network, edge, steps)
    return other


def _relay(graph: nx.MultiDiGraph[str], network: Network, edge: Edge, early: int) -> None:
    attributes: dict[str, Any] = dict(graph.edges[edge.source, edge.target, edge.key])
    graph.remove_edge(edge.source, edge.target, edge.key)
    source, relay = network.nodes[edge.source], f"{edge.name} relay"
    graph.add_node(relay, op="linear", size=source.size, initial=source.initial)
    graph.add_edge(edge.source, relay, delay=early, **({"role": edge.role} if edge.role else {}))
    named = {"param": edge.param} if edge.param else {}
    graph.add_edge(relay, edge.target, **attributes | named | {"delay": edge.delay - early})


def assert_refactoring_invariant(
    program: Program, problem: Problem | None = None, *, blocks: Sequence[int] = (), allow: Collection[str] = ()
) -> None:
    """Assert that spelling delays otherwise declares the same network: its gradient under the program's rules is equal.

    Every delayed edge gets an identity relay with its whole delay; and every longer delay is split. Left as they are:
    edges with `credit`, and those that a rule means by name (`cut`) or gives a feedback matrix, the edge's own.

    Args:
        program: what is checked.
        problem: parameters and data; by default drawn from seed 0, as the graph's `init` says.
        blocks: block lengths; by default one step and about a third of the sequence.
        allow: kinds of vacuity (`Vacuity`) not to refuse.

    Raises:
        CheckError: if it is not; the message names the edge, the parameter and the entry.
        VacuousError: if no delay can be spelled otherwise, or nothing would have been compared.
        RuleError: if a rule has the layout `uoro`, which draws a sign per stored number, constants in place of
            Jacobians, or paths such as `settle(n)`: these belong to nodes and edges as they are spelled.

    >>> import forwardgrad as fg
    >>> assert_refactoring_invariant(fg.compile(fg.load("elman"), rule="eprop-deep"))
    """
    given = Problem.of(program) if problem is None else problem
    for rule in program.chosen.values():
        if rule.kept.as_spelled or rule.paths.as_spelled or rule.operator:
            belongs = "its paths, layout or operator belong to nodes and edges as they are spelled."
            raise RuleError(f"rule '{rule}': {belongs}")
    lengths = tuple(blocks) or checking.usual_blocks(given.steps)[:2]
    edges = free_edges(program)
    wanted = {block: gradient(program, given, block) for block in lengths}
    vacuous = [None if edges else _nothing(program), zero_gradient(program, wanted[lengths[0]])]
    refuse([*vacuous, silent_spikes(program, given)], allow)
    delays = {name: program.network.edges[name].delay for name in edges}
    split = {name: 1 for name, delay in delays.items() if delay > 1}
    for done, early in (("an identity relay behind the delay of", delays), ("splitting the delay of", split)):
        for block in lengths:
            apart = _apart(program, given, early, block, wanted[block])
            if differ(program, apart):
                raise _blamed(program, given, done, early, block, wanted[block])


def free_edges(program: Program) -> list[str]:
    """The edges whose delay can be spelled otherwise under the program's rules.

    Args:
        program: a program.

    >>> import forwardgrad as fg
    >>> free_edges(fg.compile(fg.load("leaky_stack"), rule="rtrl & cut(['h1->a1'])"))
    ['h1->h1', 'h2->a2', 'h2->h2']
    """
    rules = list(program.chosen.values())
    return [
        edge.name
        for edge in program.network.edges.values()
        if edge.delay and not edge.credit and not any(_means(program, rule, edge) for rule in rules)
    ]


def _means(program: Program, rule: Rule, edge: Edge) -> bool:
    """Whether a rule means this very edge: cuts it by name, or brings credit back over it by a matrix of its own."""
    labels = program.plan.labels
    matrix = rule.matrix(labels.edges[edge.name], labels.nodes[edge.target]).kind != "exact"
    named = any(pattern != "*" and fnmatchcase(edge.name, pattern) for pattern, _ in rule.feedback)
    return matrix or named or edge.name in rule.paths.named_edges


def _nothing(program: Program) -> VacuousError:
    delayed = [edge.name for edge in program.network.edges.values() if edge.delay]
    why = f"its delayed edges ({', '.join(delayed)}) are meant by name" if delayed else "it has no delayed edge"
    return VacuousError(Vacuity.NOTHING_TO_REFACTOR, f"no delay of this graph can be spelled otherwise: {why}.")


def _apart(program: Program, problem: Problem, early: Mapping[str, int], block: int, wanted: Any) -> list[Difference]:
    graph = refactored(program.graph, early)
    where: dict[str, Any] = {"dtype": program.dtype, "backend": program.backend, "devices": program.devices}
    other = compile(graph, program.losses, chosen(program), **where, dead="ignore")
    params = {name: p for name, p in problem.params.items() if name in other.plan.parameters}
    return differences(gradient(other, replace(problem, graph=graph, params=params), block), wanted)


def _blamed(
    program: Program, problem: Problem, done: str, early: Mapping[str, int], block: int, wanted: Any
) -> CheckError:
    """The error that names one edge which alone makes the difference, or all of them where none does."""
    for edge, steps in early.items():
        apart = _apart(program, problem, {edge: steps}, block, wanted)
        if differ(program, apart):
            return fault(f"{done} edge {edge!r} changes the gradient at block {block}", program, problem, apart)
    apart = _apart(program, problem, early, block, wanted)
    return fault(f"{done} edges {', '.join(early)} changes the gradient at block {block}", program, problem, apart)
