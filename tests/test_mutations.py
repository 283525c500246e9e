"""Would a wrong engine or compiler be noticed? Faults are put in on purpose, and the oracle must then disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from checks import TOLERANCE, compiled, error
from nets import declare, problem, stack, vanilla

from forwardgrad import cells, oracle
from forwardgrad.backends import BACKENDS, influence, interpreter, sweep, tape, traces
from forwardgrad.backends.interpreter import Interpreter
from forwardgrad.compiler import labels, layouts, plan, product, pruning
from forwardgrad.compiler.source import build, credit, support
from forwardgrad.compiler.source import influence as source_influence
from forwardgrad.ops import Array
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem


def delays() -> Problem:
    """Recurrence with delays of one and three, values before the start, and a tied weight."""
    graph = vanilla(delay=3, param="U")
    graph.nodes["h"]["initial"] = [0.5, -0.4, 0.3]
    graph.add_edge("h", "h", key="tied", weight="dense", delay=1, param="U")
    return problem(graph, "y", steps=9)


def depth() -> Problem:
    """Two layers with losses on both, and feedback."""
    graph = stack()
    graph.add_edge("h2", "a1", weight="dense", delay=1, role="topdown")
    return problem(graph, "y", "h1", steps=8)


def elements() -> Problem:
    """Units that see only themselves, a product, and a leaky readout."""
    graph = declare(
        {"x": {"op": "input", "size": 3}, "v": {"op": "linear", "size": 3, "bias": True}, "g": {"op": "sigmoid"}}
        | {"h": {"op": "mul"}, "y": {"op": "linear", "size": 2}},
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"weight": "diagonal", "delay": 2}),
        ("v", "g", {"weight": "scalar"}),
        ("v", "h", {"port": "a"}),
        ("g", "h", {"port": "b"}),
        ("h", "v", {"weight": "scalar", "delay": 1}),
        ("h", "y", {"weight": "sparse", "mask": [[1, 0, 1], [0, 1, 1]]}),
        ("y", "y", {"value": 0.6, "delay": 1}),
    )
    return problem(graph, "y", steps=8)


def inside() -> Problem:
    """A layer that mixes its units within a step."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "size": 3}, "m": {"op": "tanh", "size": 3}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"value": 0.7, "delay": 1}),
        ("h", "m", {"weight": "dense"}),
        ("m", "h", {"weight": "diagonal", "delay": 1}),
        ("m", "y", {"weight": "dense"}),
    )
    return problem(graph, "y", steps=8)


def gates() -> Problem:
    """Units with gates, which share their sources; a delayed edge into another layer; an output far behind."""
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=3)
    graph.add_node("m", op="tanh", size=2)
    graph.add_edge("l.h", "m", weight="dense", delay=2)
    graph.add_edge("l.h", "m", key="late", weight="dense", delay=1)
    graph.add_node("y", op="linear", size=2)
    graph.add_edge("m", "y", weight="dense", delay=1)
    return problem(graph, "y", "l.h", steps=9)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "delays": delays,
    "depth": depth,
    "elements": elements,
    "inside": inside,
    "gates": gates,
}
RULES = ("all", "eprop-deep", "eprop", "near")


@cache
def wanted(name: str, rule: str) -> dict[str, Array]:
    """What the oracle finds; no fault reaches it."""
    return oracle.reverse(**PROBLEMS[name]().arguments, rule=rule).grads


def wrong(backend: str) -> Iterator[str]:
    """The problems and rules at which program and oracle disagree; a program that fails disagrees."""
    for name, make in PROBLEMS.items():
        given = make()
        for rule in RULES:
            for block in (1, 2, 5):
                try:
                    program = compiled(given, rule, backend=backend)
                    grads = program.gradient(given.params, given.inputs, given.targets, block=block).grads
                except (ValueError, IndexError, KeyError):
                    yield f"{name}, {rule}, block {block}: fails"
                else:
                    if not error(grads, wanted(name, rule)) <= TOLERANCE:  # also what is no number
                        yield f"{name}, {rule}, block {block}"


# Each fault replaces one function by a wrong one.

Patch = pytest.MonkeyPatch


def without_the_boundary(patch: Patch) -> None:
    """The gradient forgets what lies before the block: every block is truncated."""
    patch.setattr(influence.Synapses, "contract", lambda self, adjoint, word, s: np.zeros(self.shape))
    patch.setattr(influence.Single, "contract", lambda self, adjoint, word, s: np.zeros(()))


def without_the_carry(patch: Patch) -> None:
    """Influence is injected in each block, and not carried over from the block before it."""
    original = traces.Traces._carried

    def carried(self: Any, tape_: tape.Tape, rows: Any, stored: Any, target: int) -> Any:
        return original(self, tape_, rows, {part: 0 * array for part, array in stored.items()}, target)

    patch.setattr(traces.Traces, "_carried", carried)


def without_the_injection(patch: Patch) -> None:
    """Influence is carried, but what a block injects before its last step is lost."""
    original = influence.Synapses.inject
    # A sweep notes the last step first.
    patch.setattr(influence.Synapses, "inject", lambda self, word, j, x: original(self, word, j[:1], x[:1]))


def ignoring_modes(patch: Patch) -> None:
    """All modes of a node are one, whatever their future."""

    def merge(found: product.Product) -> product.Product:
        groups: dict[str, list[int]] = {}
        for index, place in enumerate(found.places):
            groups.setdefault(place.node, []).append(index)
        return pruning._quotient(found, list(groups.values()))

    patch.setattr(plan, "merge", merge)


def ignoring_state(patch: Patch) -> None:
    """No node is marked as a state."""
    original = plan.label

    def label(*arguments: Any) -> labels.Labels:
        found = original(*arguments)
        return replace(found, nodes={name: replace(node, state=False) for name, node in found.nodes.items()})

    patch.setattr(plan, "label", label)


def lags_off_by_one(patch: Patch) -> None:
    """Where a block is shorter than a delay, the influence of a wrong step is handed on."""
    original = Interpreter.advance

    def advance(self: Interpreter, tape_: tape.Tape, memory: interpreter.Memory) -> interpreter.Memory:
        after = original(self, tape_, memory)
        for key, stored in memory.influence.items():
            for lag in range(tape_.steps, len(stored)):
                after.influence[key][lag] = stored[lag]  # of lag - steps
        return after

    patch.setattr(Interpreter, "advance", advance)


def seeds_too_narrow(patch: Patch) -> None:
    """An adjoint stays compact where a path begins to mix units."""
    original = interpreter.route

    def route(*arguments: Any) -> Any:
        return tuple(
            replace(stop, links=tuple(replace(link, widen_before=False) for link in stop.links))
            for stop in original(*arguments)
        )

    patch.setattr(interpreter, "route", route)


def layouts_too_narrow(patch: Patch) -> None:
    """A word is that of one path, and not the join of all."""
    patch.setattr(layouts, "join", lambda *words: min((w for w in words if w), default=Structure.ZERO))


def ties_counted_once(patch: Patch) -> None:
    """A tied weight enters at its first site only."""
    original = plan.multiply

    def multiply(*arguments: Any) -> product.Product:
        found = original(*arguments)
        first = {injection.parameter: injection for injection in reversed(found.injections)}
        return replace(found, injections=tuple(i for i in found.injections if first[i.parameter] is i))

    patch.setattr(plan, "multiply", multiply)


def cuts_at_the_product(patch: Patch) -> None:
    """Cutting an edge also cuts the injection of its own weight."""
    original = plan.multiply

    def multiply(*arguments: Any) -> product.Product:
        found = original(*arguments)
        cut = {dropped.edge for dropped in found.dropped}
        return replace(found, injections=tuple(i for i in found.injections if i.edge not in cut))

    patch.setattr(plan, "multiply", multiply)


def without_initial_values(patch: Patch) -> None:
    """Delayed edges read zero before the start."""
    original = Interpreter.start

    def start(self: Interpreter, batch: int) -> interpreter.Memory:
        memory = original(self, batch)
        return replace(memory, values={name: 0 * value for name, value in memory.values.items()})

    patch.setattr(Interpreter, "start", start)


def without_the_derivative(patch: Patch) -> None:
    """A node passes credit as if its op were linear."""
    original = tape.Tape.jacobian
    patch.setattr(tape.Tape, "jacobian", lambda self, name, port: np.ones_like(original(self, name, port)))


def one_path_of_several(patch: Patch) -> None:
    """Where paths meet, the last one counts alone."""
    original = sweep._pulled

    def pulled(tape_: Any, ports: Any, stop: Any, t: int, seed: Any) -> Any:
        for link in reversed(stop.links):
            alone = original(tape_, ports, replace(stop, links=(link,)), t, seed)
            if alone is not None:
                return alone
        return original(tape_, ports, stop, t, seed)

    patch.setattr(sweep, "_pulled", pulled)


# Faults of generated source: in what it calls, and in how it is written.


def contracted_with_nothing(patch: Patch) -> None:
    """The gradient forgets what lies before the block."""
    for name in ("contracted_full", "contracted_rows"):
        original = getattr(support, name)
        patch.setattr(support, name, lambda a, s, original=original: 0 * original(a, s))


def carried_as_if_fresh(patch: Patch) -> None:
    """Influence is not carried over from the block before."""
    patch.setattr(support, "carried", lambda j, s: 0 * (j @ s.reshape(*s.shape[:2], -1)).reshape(s.shape))
    patch.setattr(support, "add_scaled", lambda now, j, s: None)


def injected_at_the_last_step_only(patch: Patch) -> None:
    """What a block injects before its last step is lost."""
    original = support.injected
    patch.setattr(support, "injected", lambda j, x, out=None: original(j[-1:], x[-1:], out))


def flushed_too_much(patch: Patch) -> None:
    """What is flushed is not nothing."""

    def flush(a: Array) -> None:
        a += 1.0
        a -= 1.0
        a[np.abs(a) < 1e-6] = 0

    patch.setattr(support, "flush", flush)


def late_adjoints_lost(patch: Patch) -> None:
    """What a delayed edge brings back from outside a cycle is not added."""
    patch.setattr(support, "add_at", lambda total, first, part: None)


def delays_ignored_in_cycles(patch: Patch) -> None:
    """A cycle reads the adjoints of its own step in place of later ones."""
    original = credit.Sweep._read
    patch.setattr(
        credit.Sweep,
        "_read",
        lambda self, series, delay, at, part: original(self, series, 0 if at else delay, at, part),
    )


def stacks_out_of_order(patch: Patch) -> None:
    """The weights of a run are stacked in another order than its ports."""
    original = build.Build.run_weight
    patch.setattr(
        build.Build,
        "run_weight",
        lambda self, run, stack: original(self, replace(run, edges=run.edges[::-1]), stack),
    )


def windows_ignored(patch: Patch) -> None:
    """A place that only a few steps reach is taken to be reached by the last alone."""
    original = credit.Sweep._windows

    def windows(self: Any, *arguments: Any) -> Any:
        found = original(self, *arguments)
        self.out.windows.update(dict.fromkeys(found, (0, 0)))
        return found

    patch.setattr(credit.Sweep, "_windows", windows)


def influence_not_filled(patch: Patch) -> None:
    """A place without an injection keeps what its memory held."""
    original = source_influence.Influences._injected

    def injected(self: Any, name: str, target: int, out: Any, end: str, at: str) -> None:
        original(self, name, target, out, end, at)
        if len(self.lines.lines) > 1:
            self.lines.lines.pop()

    patch.setattr(source_influence.Influences, "_injected", injected)


OF_THE_INTERPRETER = [
    without_the_boundary,
    without_the_carry,
    without_the_injection,
    lags_off_by_one,
    seeds_too_narrow,
    without_initial_values,
    without_the_derivative,
    one_path_of_several,
]
OF_THE_COMPILER = [ignoring_modes, ignoring_state, layouts_too_narrow, ties_counted_once, cuts_at_the_product]
OF_THE_SOURCE = [
    contracted_with_nothing,
    carried_as_if_fresh,
    injected_at_the_last_step_only,
    flushed_too_much,
    late_adjoints_lost,
    delays_ignored_in_cycles,
    stacks_out_of_order,
    windows_ignored,
    influence_not_filled,
]
FAULTS = [
    *((fault, "interpreter") for fault in [*OF_THE_INTERPRETER, *OF_THE_COMPILER]),
    *((fault, "numpy") for fault in [*OF_THE_SOURCE, *OF_THE_COMPILER]),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_fault_all_is_well(backend: str) -> None:
    """If this fails, the faults below prove nothing."""
    assert list(wrong(backend)) == []


@pytest.mark.parametrize(("fault", "backend"), FAULTS, ids=lambda given: getattr(given, "__name__", given))
def test_a_fault_is_noticed(fault: Callable[[Patch], None], backend: str, monkeypatch: Patch) -> None:
    """If this fails, the comparison with the oracle is blind to this fault."""
    fault(monkeypatch)
    assert next(wrong(backend), None), fault.__doc__


def test_one_block_for_the_whole_sequence_would_notice_no_fault_of_the_traces(monkeypatch: Patch) -> None:
    """If this fails, tests need not run blocks shorter than the sequence after all."""
    without_the_boundary(monkeypatch)
    without_the_carry(monkeypatch)
    lags_off_by_one(monkeypatch)
    for name, make in PROBLEMS.items():
        given = make()
        program = compiled(given, "all", backend="interpreter")
        found = program.gradient(given.params, given.inputs, given.targets, block=given.steps).grads
        assert error(found, wanted(name, "all")) < TOLERANCE
