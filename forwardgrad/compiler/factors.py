"""By what does a kept edge multiply credit? Its own Jacobian, a part of it, or what a rule puts in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forwardgrad.compiler.labels import Labels, edge_structure, port_structure, weight_structure
from forwardgrad.errors import RuleError
from forwardgrad.graph import Edge, Network
from forwardgrad.ops import Array
from forwardgrad.rules.feedback import EXACT, Feedback, fixed_feedback
from forwardgrad.rules.paths import EdgeView
from forwardgrad.rules.rule import Rule
from forwardgrad.structure import Structure, compose


@dataclass(frozen=True)
class Factor:
    """What credit is multiplied by on its way back over an edge.

    Args:
        kind: `weight`: the transposed weight, then the derivative of the op; `diagonal`, `rest`: the same with the
            diagonal of the weight only, or without it; `random`, `adaptive`, `fixed`: a feedback matrix in place of the
            weight; `constant`: numbers in place of the whole Jacobian; `leak`: numbers that are the whole Jacobian.
        seed: of a random or adaptive feedback matrix.
        values: the constants: one, or one a unit.
        feedback: what the rule says of a feedback matrix.
    """

    kind: str = "weight"
    seed: int = 0
    values: tuple[float, ...] = ()
    feedback: Feedback = EXACT

    @property
    def exact(self) -> bool:
        """Whether it is the edge's own Jacobian, or a part of it."""
        return self.kind in ("weight", "diagonal", "rest", "leak")

    @property
    def numeric(self) -> bool:
        """Whether it is made of numbers that stand for the whole Jacobian, the derivative of the op included."""
        return self.kind in ("constant", "leak")

    @property
    def replaces(self) -> bool:
        """Whether it is a feedback matrix."""
        return self.feedback != EXACT

    @property
    def drawn(self) -> bool:
        """Whether it is a feedback matrix that does not learn, and so a part of the program."""
        return self.kind in ("random", "fixed")

    @property
    def order(self) -> tuple[Any, ...]:
        """A key to sort by."""
        matrix = self.feedback.matrix
        return self.kind, self.seed, self.values, self.feedback.scale or 0.0, () if matrix is None else matrix.order

    def __str__(self) -> str:
        if self.numeric:
            return f"{self.kind} " + ", ".join(f"{value:g}" for value in self.values)
        return f"{self.kind} feedback" if self.replaces else self.kind

    def matrix(self, edge: Edge, shape: tuple[int, ...]) -> Array:
        """The array in place of a weight of this shape, where it is `drawn`."""
        return fixed_feedback(edge.name, shape, self.feedback, self.seed)


WEIGHT = Factor()


def factor_structure(edge: Edge, factor: Factor) -> Structure:
    """The structure word of a factor, apart from the derivative of the op that a weight goes with."""
    if factor.numeric:
        return Structure.SCALAR if len(factor.values) == 1 else Structure.DIAGONAL
    return Structure.DIAGONAL if factor.kind == "diagonal" else weight_structure(edge)


def arc_structure(network: Network, edge: Edge, factor: Factor) -> Structure:
    """The structure word of all that credit is multiplied by on its way over an edge."""
    if factor.numeric:
        return factor_structure(edge, factor)
    return compose(port_structure(network, edge.target, edge.port), factor_structure(edge, factor))


def readings(network: Network, labels: Labels, rule: Rule, edge: Edge) -> Iterator[tuple[EdgeView, Factor]]:
    """The one or two parallel edges as which a rule reads an edge, each with the factor it multiplies credit by.

    Where autapses are implicit, the diagonal of a recurrent weight within a population is an edge of its own, which
    does not mix. A port of structure `zero` passes no credit under any rule: such an edge is no path at all.

    Raises:
        RuleError: if a constant does not fit the sizes of the edge, a feedback array not the shape of its weight, or
            adaptive feedback has no weight to follow.
    """
    if edge_structure(network, edge) is Structure.ZERO:
        return
    view = labels.edges[edge.name]
    constant = rule.constant(view)
    if constant is not None:
        yield view, Factor("constant", values=_fitting(network, rule, edge, constant))
        return
    feedback = rule.matrix(view, labels.nodes[edge.target])
    if feedback != EXACT:
        parameter = network.parameters.get(edge.param or "")
        if edge.kind == "identity" or (feedback.kind == "adaptive" and (parameter is None or not parameter.trainable)):
            raise RuleError(
                f"rule '{rule}': {feedback.kind} feedback on edge {edge.name!r}, whose weight is not trained.",
                "Feedback takes the place of a weight; adaptive feedback follows one that is trained.",
            )
        if feedback.matrix is not None:
            _check_shape(rule, edge, feedback.matrix.array, weight_shape(network, edge))
        yield view, Factor(feedback.kind, 0 if feedback.matrix is not None else rule.seed, feedback=feedback)
    elif rule.autapses == "implicit" and labels.autapses(network, edge):
        yield replace(view, mixing=False), Factor("diagonal")
        yield view, Factor("rest")
    else:
        yield view, WEIGHT


def _fitting(network: Network, rule: Rule, edge: Edge, values: tuple[float, ...]) -> tuple[float, ...]:
    source, target = network.nodes[edge.source].size, network.nodes[edge.target].size
    if source != target or len(values) not in (1, target):
        raise RuleError(
            f"rule '{rule}': a constant in place of edge {edge.name!r} needs equal sizes; "
            f"{edge.source!r} has {source}, {edge.target!r} has {target}, and {len(values)} numbers are given.",
            "Give one number, or one a unit, for edges between nodes of one size.",
        )
    return values if len(set(values)) > 1 else values[:1]


def weight_shape(network: Network, edge: Edge) -> tuple[int, ...]:
    """The shape of an edge's weight, as an array of its entries."""
    return network.parameters[edge.param].shape if edge.param is not None else np.asarray(edge.value).shape


def _check_shape(rule: Rule, edge: Edge, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape == shape:
        return
    turned = len(shape) == 2 and array.shape == shape[::-1]
    raise RuleError(
        f"rule '{rule}': feedback on edge {edge.name!r} has shape {array.shape}, and its weight ({edge.weight}) "
        f"{shape}.",
        "A feedback array has the shape of the weight it replaces; that of a dense weight is (size of target, size of "
        "source)." + (" Did you mean its transpose?" if turned else ""),
    )


def feedback_name(edge: str) -> str:
    """The name of the parameter that holds an edge's adaptive feedback matrix."""
    return f"{edge}.feedback"
