"""Which faults are planted? Each replaces one function of interpreter, compiler or array program by a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from forwardgrad.backends import interpreter, sweep, tape
from forwardgrad.backends.interpreter import Interpreter
from forwardgrad.compiler import labels, layouts, plan, product, pruning
from forwardgrad.layouts import influence, traces
from forwardgrad.structure import Structure
from mutations.comparison import WORKED, Disagreement, wrong
from mutations.faults_of_array_programs import OF_ARRAY_PROGRAMS
from mutations.faults_of_lossy_layouts import OF_LOSSY_LAYOUTS, apart
from mutations.faults_of_rules import OF_BOTH_ENGINES, SHARED
from mutations.spread import unscaled, wide

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


@dataclass(frozen=True)
class Fault:
    """A fault, and what it is looked for in.

    Args:
        plant: puts it in.
        part: where it is: `interpreter`, `compiler`, `array program`, `lossy layouts` in it, `estimates`, or `shared`
            by engine and oracle.
        backend: the engine that runs with it, or `WORKED`: cases that were worked by hand.
        comparison: by what it is noticed; by default programs are compared with the oracle.
    """

    plant: Callable[[Patch], None]
    part: str
    backend: str
    comparison: Callable[[str], Iterator[Disagreement]] = wrong

    @property
    def name(self) -> str:
        """Its name in words."""
        return self.plant.__name__.replace("_", " ")

    @property
    def says(self) -> str:
        """What it breaks."""
        return self.plant.__doc__ or ""

    def __str__(self) -> str:
        return f"{self.plant.__name__}-{self.backend}".replace(" ", "_")


FAULTS = [
    *(Fault(plant, "interpreter", "interpreter") for plant in OF_THE_INTERPRETER),
    *(Fault(plant, "array program", "numpy") for plant in OF_ARRAY_PROGRAMS),
    *(
        Fault(plant, "compiler", backend)
        for plant in [*OF_THE_COMPILER, *OF_BOTH_ENGINES]
        for backend in ("interpreter", "numpy")
    ),
    *(Fault(plant, "shared", WORKED) for plant in SHARED),
    *(Fault(plant, "lossy layouts", "numpy", apart) for plant in OF_LOSSY_LAYOUTS),
    *(Fault(unscaled, "estimates", backend, wide) for backend in ("interpreter", "numpy")),
]
"""All faults that must be noticed."""
