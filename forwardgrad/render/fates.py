"""What becomes of one parameter's credit at every edge? Kept, in which modes; cut, by whom; or leading to no loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardgrad.compiler.factors import WEIGHT
from forwardgrad.compiler.product import Product, multiply
from forwardgrad.compiler.pruning import live_places
from forwardgrad.errors import DataError, RuleError, did_you_mean
from forwardgrad.program import Program

KEPT, CUT_BY_RULE, CUT_BY_CREDIT, DEAD = "kept", "cut by the rule", "cut by the edge", "no loss behind it"

Place = tuple[str, str]
"""A node and a mode."""


@dataclass(frozen=True)
class Arc:
    """What happens to credit that comes to an edge in a mode.

    Args:
        edge: its name.
        source: the mode in which credit arrives.
        target: the mode in which it goes on; `None` where it is cut.
        fate: `KEPT`, `CUT_BY_RULE`, `CUT_BY_CREDIT` or `DEAD`.
        part: of a weight that is read as two edges, which part; or what stands in place of its Jacobian.
    """

    edge: str
    source: str
    target: str | None
    fate: str
    part: str = ""


@dataclass(frozen=True)
class Fates:
    """The credit of one parameter.

    Args:
        parameter: its name.
        entries: where it enters: the place, and the edge (`None` for a bias).
        arcs: what becomes of credit at every edge that it comes to.
        reached: the places that it comes to, from which a loss can be reached.
        seeds: the places at which a learning signal enters, with whether it is the derivative of a `loss`, or `given`.
    """

    parameter: str
    entries: tuple[tuple[Place, str | None], ...]
    arcs: tuple[Arc, ...]
    reached: tuple[Place, ...]
    seeds: Mapping[Place, str]

    def enters(self, node: str) -> bool:
        """Whether the parameter is the bias of a node."""
        return any(place[0] == node and edge is None for place, edge in self.entries)

    def cuts(self, edge: str) -> bool:
        """Whether credit is cut at an edge, whatever else becomes of it."""
        return any(arc.edge == edge and arc.target is None for arc in self.arcs)


def fates(program: Program, parameter: str) -> Fates:
    """Follow the credit of a parameter, before modes of equal future are merged.

    Raises:
        DataError: if there is no such parameter.
        RuleError: if it is not trained.
    """
    network = program.network
    if parameter not in network.parameters:
        raise DataError(f"no parameter {parameter!r}.", did_you_mean(parameter, program.rules))
    if parameter not in program.rules:
        frozen = "its rule leaves it as it is" if network.parameters[parameter].trainable else "it is frozen"
        raise RuleError(f"parameter {parameter!r} is not trained: {frozen}.", "It has no credit to draw.")
    product = multiply(network, program.plan.labels, {parameter: program.rules[parameter].rule})
    live = live_places(product)
    arcs = [
        Arc(
            arc.edge,
            _mode(product, arc.source),
            _mode(product, arc.target),
            KEPT if arc.target in live else DEAD,
            "" if arc.factor == WEIGHT else str(arc.factor),
        )
        for arc in product.arcs
    ]
    parts = {(arc.edge, arc.source): arc.part for arc in arcs}
    twins = {"diagonal": "rest", "rest": "diagonal"}
    arcs += [
        Arc(
            cut.edge,
            mode,
            None,
            CUT_BY_CREDIT if cut.by_credit else CUT_BY_RULE,
            twins.get(parts.get((cut.edge, mode), ""), ""),
        )
        for cut in product.dropped
        for mode in [_mode(product, cut.source)]
    ]
    places = product.places
    return Fates(
        parameter,
        tuple(((places[i.place].node, places[i.place].label), i.edge) for i in product.injections),
        tuple(dict.fromkeys(arcs)),
        tuple((place.node, place.label) for index, place in enumerate(places) if index in live),
        {(place.node, place.label): place.signal for place in places if place.signal != "none"},
    )


def _mode(product: Product, place: int) -> str:
    return product.places[place].label
