"""A program's decisions on another network: its plan as it is, and nothing derived again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from glob import escape
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.compiler import Plan
from forwardgrad.compiler.factors import weight_shape
from forwardgrad.compiler.product import Arc, Product
from forwardgrad.graph import Network
from forwardgrad.program import Program
from forwardgrad.rules.feedback import Feedback, Matrix, random_feedback
from forwardgrad.rules.rule import Rule
from forwardgrad.verification.shrinking import few


def replayed(program: Program, graph: nx.MultiDiGraph[str], network: Network) -> Program:
    """The program that the decisions of another one make of a graph of the same nodes and edges.

    Layouts, filtered leaks and merged places depend on prices, and so on sizes. Compiling the small graph would decide
    again; this does not.

    Args:
        program: whose decisions.
        graph: the same graph with other sizes.
        network: that graph, validated.
    """
    rules = {name: _fitted(program.plan, rule, network) for name, rule in program.chosen.items()}
    plan = replace(
        program.plan,
        network=network,
        product=_product(program.plan.product, network),
        rules={name: rules[name] for name in program.plan.rules},
    )
    return Program(nx.freeze(graph), plan, program.losses, rules, np.float64, program.backend, program.devices)


def without_loss(program: Program) -> Program:
    """The same program with no layout that loses something, so that its gradient is a sum over paths."""
    rules: Mapping[str, Rule] = {name: replace(rule, layout="lossless") for name, rule in program.chosen.items()}
    plan = replace(program.plan, rules={name: rules[name] for name in program.plan.rules})
    return Program(program.graph, plan, program.losses, rules, program.dtype, program.backend, program.devices)


def _product(product: Product, network: Network) -> Product:
    return replace(product, arcs=tuple(_arc(arc, network) for arc in product.arcs))


def _arc(arc: Arc, network: Network) -> Arc:
    """The arc with as many constants as its node has units now, or a feedback matrix of its weight's shape."""
    if arc.factor.feedback.matrix is not None:
        feedback = Feedback("fixed", matrix=_matrix(network, arc.edge))
        return replace(arc, factor=replace(arc.factor, feedback=feedback))
    if len(arc.factor.values) < 2:
        return arc
    return replace(arc, factor=replace(arc.factor, values=_constants(arc.factor.values, _size(arc, network))))


def _size(arc: Arc, network: Network) -> int:
    return network.nodes[network.edges[arc.edge].target].size


def _constants(values: tuple[float, ...], size: int) -> tuple[float, ...]:
    return tuple(few(np.array(values), size).tolist())


def _fitted(plan: Plan, rule: Rule, network: Network) -> Rule:
    """The rule with as many constants as there are units, where it has one per unit."""
    sizes = {arc.factor.values: _size(arc, network) for arc in plan.product.arcs if len(arc.factor.values) > 1}
    operator = {
        pattern: _constants(values, sizes[values]) if values in sizes else values[:1]
        for pattern, values in rule.operator
    }
    return replace(rule, operator=operator, feedback=_feedback(plan, rule, network))


def _feedback(plan: Plan, rule: Rule, network: Network) -> dict[str, Any]:
    """The feedback of a rule with other matrices, one for each edge that has one."""
    views, nodes = plan.labels.edges, plan.labels.nodes
    own = [name for name, e in network.edges.items() if rule.matrix(views[name], nodes[e.target]).matrix is not None]
    others = {pattern: value for pattern, value in rule.feedback if isinstance(value, str)}
    return {escape(name): _matrix(network, name) for name in own} | others


def _matrix(network: Network, name: str) -> Matrix:
    """A feedback matrix drawn for an edge."""
    return Matrix(random_feedback(name, weight_shape(network, network.edges[name]), 0, 1.0))
