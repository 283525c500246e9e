"""Faults in what the coordinates of a rule do, in the oracle, and in what engine and oracle share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from forwardgrad.array_program.lowering import weights as lowered_weights
from forwardgrad.array_program.lowering.sweep import _Sweep
from forwardgrad.backends import interpreter, weights
from forwardgrad.compiler import factors, leaks, plan, product, pruning
from forwardgrad.compiler.factors import WEIGHT, Factor
from forwardgrad.compiler.product import Arc
from forwardgrad.ops import Formula, Port, losses, registry
from forwardgrad.oracle import accumulation
from forwardgrad.program import execution
from forwardgrad.rules import feedback, paths
from forwardgrad.rules.rule import Rule

Patch = pytest.MonkeyPatch


# In the compiler.


def merging_places_of_other_signals(patch: Patch) -> None:
    """Places are merged though one is seeded by the loss and the other by the user."""
    original = pruning._numbered

    def numbered(keys: Any) -> list[int]:
        return original((key[0], key[2]) if isinstance(key, tuple) and len(key) == 3 else key for key in keys)

    patch.setattr(pruning, "_numbered", numbered)


def leak_without_its_sign(patch: Patch) -> None:
    """The leak that filters sources loses its sign, or that of the op that it passes."""
    patch.setattr(leaks, "Factor", lambda kind, values: Factor(kind, values=tuple(map(abs, values))))


def filters_without_delay(patch: Patch) -> None:
    """What comes late to a leaky readout is filtered as if it came at once."""

    def arc(edge: str, source: int, target: int, delay: int, factor: Factor) -> Arc:
        return Arc(edge, source, target, 0 if factor.values == (1.0,) else delay, factor)

    patch.setattr(leaks, "Arc", arc)


def feedback_ignored(patch: Patch) -> None:
    """Credit comes back through the weight, whatever the rule says."""
    original = factors.readings

    def readings(*arguments: Any) -> Iterator[Any]:
        for view, factor in original(*arguments):
            yield view, WEIGHT if factor.kind == "random" else factor

    patch.setattr(product, "readings", readings)


def followers_of_another_weight(patch: Patch) -> None:
    """An adaptive matrix takes the gradient of another weight of its shape."""
    original = plan._followers

    def followers(network: Any, *rest: Any) -> dict[str, str]:
        found = original(network, *rest)
        shapes = {name: parameter.shape for name, parameter in network.parameters.items()}
        return {
            name: next((other for other in shapes if other != own and shapes[other] == shapes[own]), own)
            for name, own in found.items()
        }

    patch.setattr(plan, "_followers", followers)


def constants_out_of_order(patch: Patch) -> None:
    """Constants in place of a Jacobian are those of other units."""
    original = factors._fitting
    patch.setattr(factors, "_fitting", lambda *arguments: original(*arguments)[::-1])


def carried_against_the_rule(patch: Patch) -> None:
    """Influence crosses the ends of blocks though the rule says that it does not."""
    original = plan.entries

    def entries(found: Any, depth: Any, carried: Any) -> Any:
        return original(found, depth, [injection.parameter for injection in found.injections])

    patch.setattr(plan, "entries", entries)


def one_mask_for_all_outputs(patch: Patch) -> None:
    """Every loss is weighed by the mask of the first."""
    original = execution.read_targets

    def read(*arguments: Any) -> Any:
        found = original(*arguments)
        first = next(iter(found.values()))
        return {name: replace(target, weight=first.weight) for name, target in found.items()}

    patch.setattr(execution, "read_targets", read)


# In one of the engines.


def feedback_in_losses_only(patch: Patch) -> None:
    """Influence is advanced through the weight where the losses' adjoints come through a feedback matrix."""
    original = interpreter.route

    def route(found: Any, target: int | None = None) -> Any:
        stops = original(found, target)
        if target is None:
            return stops

        def own(link: Any) -> Any:
            return replace(link, factor=WEIGHT) if link.factor.kind in ("random", "adaptive") else link

        return tuple(replace(stop, links=tuple(map(own, stop.links))) for stop in stops)

    patch.setattr(interpreter, "route", route)
    original_back = _Sweep._back

    def back(self: _Sweep, builder: Any, place: int, arcs: Any, *more: Any) -> Any:
        through = [
            replace(arc, factor=WEIGHT)
            if self.target is not None and arc.factor.kind in ("random", "adaptive")
            else arc
            for arc in arcs
        ]
        return original_back(self, builder, place, through, *more)

    patch.setattr(_Sweep, "_back", back)


def autapses_left_in_the_rest(patch: Patch) -> None:
    """The diagonal of a weight counts as a unit's own memory, and as a part of the rest as well."""
    original = lowered_weights._part
    patch.setattr(
        lowered_weights,
        "_part",
        lambda context, edge, word: (
            lowered_weights.weight(context, edge) if word == "rest" else original(context, edge, word)
        ),
    )
    patch.setitem(weights._MAKE, "rest", weights._weight)  # type: ignore[arg-type]


# In the oracle, and in what it shares with the engine.


def oracle_joins_populations(patch: Patch) -> None:
    """The oracle takes units for each other's own memory that a node outside their component links."""

    def has_autapses(network: Any, edge: Any, views: Any) -> bool:
        if edge.kind not in ("dense", "sparse") or edge.moves or not views.edges[edge.name].recurrent:
            return False
        same = {edge.source}
        for _ in network.nodes:
            for other in views.edges.values():
                if not other.mixing and {other.source, other.target} & same:
                    same |= {other.source, other.target}
        return edge.target in same

    patch.setattr(accumulation, "_has_autapses", has_autapses)


def _drawn(patch: Patch, draw: Any) -> None:
    patch.setattr(feedback, "random_feedback", draw)


def one_feedback_for_all_edges(patch: Patch) -> None:
    """Edges of one shape have one matrix."""
    original = feedback.random_feedback
    _drawn(patch, lambda edge, shape, seed, scale=None: original("", shape, seed, scale))


def one_feedback_for_all_seeds(patch: Patch) -> None:
    """The seed of the rule plays no part."""
    original = feedback.random_feedback
    _drawn(patch, lambda edge, shape, seed, scale=None: original(edge, shape, 0, scale))


def feedback_of_another_size(patch: Patch) -> None:
    """Feedback matrices do not have the variance that initial weights have."""
    original = feedback.random_feedback
    _drawn(patch, lambda edge, shape, seed, scale=None: 1.4 * original(edge, shape, seed, scale))


def feedback_inside_hidden_layers(patch: Patch) -> None:
    """Random feedback also stands for weights that lead into no output."""
    original = Rule.matrix
    patch.setattr(Rule, "matrix", lambda self, edge, target: original(self, edge, replace(target, output_layer=True)))


def windows_one_step_longer(patch: Patch) -> None:
    """`window(k)` keeps paths of k + 1 steps."""
    original = paths.Window.step
    patch.setattr(
        paths.Window,
        "step",
        lambda self, mode, edge, target: original(paths.Window(self.steps + 1), mode, edge, target),
    )


def every_mixing_edge_is_explicit(patch: Patch) -> None:
    """Mixing edges between components count as recurrence through other units."""
    patch.setattr(paths.EdgeView, "explicit", property(lambda self: self.mixing))


def readouts_go_on_in_time(patch: Patch) -> None:
    """Under `eprop-deep` credit that has mixed within a step lives on in the state it comes to."""
    original = paths.EpropDeep._cross

    def cross(mode: Any, edge: Any) -> Any:
        after = original(mode, edge)
        return "state" if after == "readout" else after

    patch.setattr(paths.EpropDeep, "_cross", staticmethod(cross))


def a_derivative_is_wrong(patch: Patch) -> None:
    """`softplus` has the derivative of another function."""
    op = registry.get("softplus")
    patch.setitem(registry._table, "softplus", replace(op, ports=(Port("in", Formula("np.tanh(x)", "x, y")),)))


def a_surrogate_ignores_its_width(patch: Patch) -> None:
    """A surrogate derivative has width 1 whatever its option says."""
    op = registry.get("spike")
    text = "dampening * np.maximum(0.0, 1.0 - np.abs(x - threshold))"
    port = Port("in", Formula({name: text for name in op.options["surrogate"].choices}, "x, y", by="surrogate"))
    patch.setitem(registry._table, "spike", replace(op, ports=(port,)))


def a_loss_gradient_is_wrong(patch: Patch) -> None:
    """`bernoulli` is summed over features, and its gradient is that of the mean."""
    loss = losses.get("bernoulli")
    patch.setitem(losses._table, "bernoulli", replace(loss, value=lambda y, t: y.shape[1] * loss.value(y, t)))


def snap_keeps_too_much(patch: Patch) -> None:
    """`snap(n)` also keeps what is reached within n transitions."""
    original = plan.reached_units
    patch.setattr(plan, "reached_units", lambda *arguments: original(*arguments[:-1], arguments[-1] + 1))


OF_BOTH_ENGINES = [
    merging_places_of_other_signals,
    leak_without_its_sign,
    filters_without_delay,
    feedback_ignored,
    followers_of_another_weight,
    constants_out_of_order,
    carried_against_the_rule,
    one_mask_for_all_outputs,
    feedback_in_losses_only,
    autapses_left_in_the_rest,
]
SHARED = [
    oracle_joins_populations,
    one_feedback_for_all_edges,
    one_feedback_for_all_seeds,
    feedback_of_another_size,
    feedback_inside_hidden_layers,
    windows_one_step_longer,
    every_mixing_edge_is_explicit,
    readouts_go_on_in_time,
    a_derivative_is_wrong,
    a_surrogate_ignores_its_width,
    a_loss_gradient_is_wrong,
    snap_keeps_too_much,
]
