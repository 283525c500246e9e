"""Which places have a line of their own in the equations of a parameter, and what is reached from where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from forwardgrad.compiler.labels import port_structure
from forwardgrad.compiler.layouts import depths, layouts, words_to
from forwardgrad.compiler.plan import Plan
from forwardgrad.compiler.schedule import sweep_order
from forwardgrad.structure import Structure

LONGEST = 8
"""Factors in a learning signal beyond which it is no longer put into another one."""


class Outline:
    """The places that influence of one parameter reaches, and how they are written.

    Args:
        plan: the derived algorithm.
        name: the parameter.

    Attributes:
        sites: where the parameter enters.
        order: the places reached, each after those that it depends on in the same step.
        into, out: the arcs into each place from these, and those of delay 0 out of it.
        delayed: the places whose influence is stored.
        held: the places with a line of their own.
        shapes: the structure word of the influence on each held place.
        modes, signal_modes: a number for each of several places of one node, 0 for the only one.
    """

    def __init__(self, plan: Plan, name: str) -> None:
        product = plan.product
        self.plan, self.network, self.product, self.name = plan, plan.network, product, name
        self.parameter = plan.network.parameters[name]
        self.rule = plan.rules[name]
        self.sites = [site for site in product.injections if site.parameter == name]
        reached = set(product.reach([site.place for site in self.sites]))
        self.order = [place for place in reversed(sweep_order(plan.network, product)) if place in reached]
        entering, leaving = product.entering, product.leaving
        self.into = {place: [arc for arc in entering[place] if arc.source in reached] for place in self.order}
        self.out = {place: [arc for arc in leaving[place] if arc.delay == 0] for place in self.order}
        deepest = depths(product)
        self.delayed = {place for place in self.order if deepest[place]}
        self.held = self._held()
        self.shapes = self._shapes()
        lit = self._lit(self.held)
        self.modes = self._numbered([place for place in self.order if place in self.held], self.filters)
        self.signal_modes = self._numbered([place for place in self.order if place in lit], lambda place: False)

    def node(self, place: int) -> str:
        """The name of its node."""
        return self.product.places[place].node

    def filters(self, place: int) -> bool:
        """Whether it is the trace of a source, filtered by the leak of a readout."""
        return self.product.places[place].filtered is not None

    def _held(self) -> set[int]:
        held = set(self.delayed)
        held |= {arc.source for p in self.order if self.filters(p) for arc in self.into[p] if not arc.delay}
        lit, feeding = self._lit(held), self._feeding()
        terms, longest = dict[int, int](), dict[int, int]()
        for place in self.order:
            ports = [site.port for site in self.sites if site.place == place]
            delayed = any(arc.delay for arc in self.into[place])
            open_ = [arc.source for arc in self.into[place] if not arc.delay and arc.source not in held]
            closed = len(self.into[place]) - len(open_)
            terms[place] = len(ports) + closed + sum(terms[source] for source in open_)
            longest[place] = 1 + max((longest[source] for source in open_), default=0)
            uses = sum(arc.target in feeding for arc in self.out[place])
            mixes = any(self._word(place, port) is Structure.FULL for port in ports)
            if (
                (uses > 1 and terms[place] > 1)
                or ((delayed or mixes) and (place in lit or uses > 1))
                or max(terms[place], longest[place]) > LONGEST
            ):
                held.add(place)
        return held

    def _feeding(self) -> set[int]:
        """The places from which one with an influence that is stored is reached within a step."""
        found = set(self.delayed)
        for place in reversed(self.order):
            if any(arc.target in found for arc in self.out[place]):
                found.add(place)
        return found

    def _lit(self, held: set[int]) -> set[int]:
        """The places to which a learning signal comes over places that are not held."""
        found = {place for place in self.order if self.product.places[place].signal != "none"}
        for place in reversed(self.order):
            if any(arc.target in found and arc.target not in held for arc in self.out[place]):
                found.add(place)
        return found

    def _shapes(self) -> dict[int, Structure]:
        """The structure word of the influence on each held place."""
        held = {self.name: sorted(self.held)}
        words = {place: words_to(self.network, self.product, place) for place in self.held}
        found = layouts(self.network, replace(self.product, injections=tuple(self.sites)), held, words)
        return {place: found[self.name, place] for place in self.held}

    def _word(self, place: int, port: str) -> Structure:
        return port_structure(self.network, self.product.places[place].node, port)

    def _numbered(self, places: Sequence[int], apart: Callable[[int], bool]) -> dict[int, int]:
        """A number for each of several places of one node, counted apart by a property; 0 for the only one."""
        alike: dict[tuple[str, bool], list[int]] = {}
        for place in sorted(places):
            alike.setdefault((self.node(place), apart(place)), []).append(place)
        return {
            place: number if len(group) > 1 else 0 for group in alike.values() for number, place in enumerate(group, 1)
        }
