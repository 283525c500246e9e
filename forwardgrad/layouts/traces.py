"""How is one parameter's influence kept between blocks, used in a gradient, and advanced? Here without loss.

Layouts that lose something are subclasses of `Traces`. What they need of a derived algorithm and of a block is written
down as protocols, so that layouts stand below the rules, which name them, and below the engines, which run them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from forwardgrad.graph import Network
from forwardgrad.layouts.influence import influence_of
from forwardgrad.layouts.jacobians import Jacobian
from forwardgrad.ops import Array
from forwardgrad.structure import Structure, compose

Part = int | str
"""What a parameter stores: an influence on a place (its index), or something of another name."""

Stored = Mapping[Part, Array]
"""What a parameter stores, `(lag, batch, ...)` by part; a part without lags has one."""


Boundary = Mapping[tuple[int, int], Array]
"""Adjoints `(batch, 1, size)` by stored place and lag."""


class Site(Protocol):
    """Where a parameter enters: a place and a port of its node, and its edge (`None` for a bias)."""

    @property
    def place(self) -> int: ...
    @property
    def port(self) -> str: ...
    @property
    def edge(self) -> str | None: ...


class Chosen(Protocol):
    """The rule of a parameter, as its layout sees it."""

    @property
    def seed(self) -> int: ...
    @property
    def argument(self) -> Any: ...
    @property
    def lossy(self) -> bool: ...
    @property
    def by_synapse(self) -> bool: ...


class Planned(Protocol):
    """A derived algorithm, as a layout sees it; `forwardgrad.compiler.Plan` says what each is."""

    @property
    def network(self) -> Network: ...
    @property
    def outputs(self) -> Sequence[str]: ...
    @property
    def depth(self) -> Sequence[int]: ...
    @property
    def entries(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def words(self) -> Mapping[int, Mapping[int, Structure]]: ...
    @property
    def layouts(self) -> Mapping[tuple[str, int], Structure]: ...
    @property
    def rules(self) -> Mapping[str, Chosen]: ...
    @property
    def per_sample(self) -> bool: ...
    def size(self, place: int) -> int: ...
    def port_word(self, place: int, port: str | None) -> Structure: ...
    def sites(self, name: str) -> Sequence[Site]: ...
    def stored_shape(self, name: str, place: int) -> tuple[int, ...]: ...
    def reached(self, name: str, within: int) -> Mapping[int, Any]: ...


class Pass(Protocol):
    """The forward pass of a block."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    def values(self, name: str, delay: int = 0) -> Array:
        """What a node was `delay` steps before each step of the block: `(steps, batch, size)`."""
        ...


class Swept(Protocol):
    """What a sweep found; adjoints are `(batch, seeds, size)`."""

    @property
    def boundary(self) -> Mapping[tuple[int, int], Array]:
        """Per place and lag, the adjoint of the place that many steps before the block."""
        ...

    def at_port(self, place: int, port: str) -> tuple[list[int], Array] | None:
        """The steps at which a port has an adjoint, and the adjoints, `(steps, batch, seeds, size)`."""
        ...


class Stepped(Protocol):
    """What the sweep from a stored place found over a block of one step."""

    @property
    def boundary(self) -> Mapping[tuple[int, int], Jacobian]:
        """Per place and lag, the Jacobian by the place that many steps before."""
        ...

    @property
    def ports(self) -> Mapping[tuple[int, str | None], Jacobian]:
        """Per place and port, the Jacobian by that in the step itself."""
        ...


@dataclass(frozen=True)
class Passed:
    """A block that has been run.

    Args:
        tape: its forward pass.
        rows: `rows(place, lag)`: the sweep from a stored place, `lag` steps before the block's end.
        pulled: `pulled(seeds)`: one sweep from seeds `(batch, size)` by place and lag, all at once.
        stepped: `stepped(place)`, for a block of one step: what `rows(place, 1)` finds, of which only what is read is
            made.
    """

    tape: Pass
    rows: Callable[[int, int], Swept]
    pulled: Callable[[Mapping[tuple[int, int], Array]], Swept]
    stepped: Callable[[int], Stepped]


class Traces:
    """The influence of one parameter, in the layouts that were derived for it.

    A lossy kind compresses at block ends, before the losses of the last step are read off: with blocks of
    one step that is the published form of these rules, gradient = adjoint x compressed influence.

    Args:
        plan: the derived algorithm.
        name: the parameter.
        dtype: of all arrays.
    """

    def __init__(self, plan: Planned, name: str, dtype: Any) -> None:
        self.plan, self.name, self.dtype = plan, name, dtype
        self.rule = plan.rules[name]
        self.kind = influence_of(plan.network, plan.network.parameters[name], self.rule.by_synapse)
        self.sites = plan.sites(name)
        self.places = plan.entries[name]

    @property
    def lossy(self) -> bool:
        """Whether something is lost at the ends of blocks, so that a gradient needs what is stored after its block."""
        return self.rule.lossy

    def size(self, place: int) -> int:
        """Number of units of a place's node."""
        return self.plan.size(place)

    def full_shape(self, place: int) -> tuple[int, ...]:
        """Shape of the influence on a place, for one sample and lag, in its derived layout."""
        return self.plan.stored_shape(self.name, place)

    def shapes(self) -> dict[Part, tuple[int, ...]]:
        """Shape of what is stored, for one sample, with the lags before it."""
        return {place: (self.plan.depth[place], *self.encoded_shape(place)) for place in self.places}

    def encoded_shape(self, place: int) -> tuple[int, ...]:
        """Shape of an influence as it is stored, for one sample and lag."""
        return self.full_shape(place)

    def carried(self, place: int) -> int:
        """How many numbers of a place a Jacobian is multiplied with, per lag."""
        return prod(self.full_shape(place))

    def products(self, target: int, source: int) -> int:
        """How many multiplications carry the influence on a place over to another, in one step of one sample."""
        seeds = self.size(target) if self.plan.words[target][source] is Structure.FULL else 1
        return seeds * self.carried(source)

    def encode(self, place: int, influence: Array) -> Array:
        """An influence `(batch, ...)` in its derived layout, as it is stored."""
        return influence

    def decode(self, place: int, stored: Array) -> Array:
        """An influence as it is stored, in its derived layout."""
        return stored

    def held_word(self, place: int) -> Structure:
        """The layout in which `held` gives the influence on a place."""
        return self.plan.layouts[self.name, place]

    def held(self, place: int, lag: int, stored: Stored) -> Array:
        """The influence on a place that is held, as it was that many steps before the block, `(batch, ...)`."""
        return self.decode(place, stored[place][lag - 1])

    def contract(self, adjoints: Boundary, stored: Stored) -> Array:
        """The gradient that comes through what is stored: adjoints by place and lag times influence."""
        parts = [
            self.contracted(place, adjoints[place, lag][:, 0], stored[place][lag - 1])
            for place, lag in self.entries()
            if (place, lag) in adjoints
        ]
        if not parts:
            return np.zeros(self.plan.network.parameters[self.name].shape, self.dtype)
        return sum(parts[1:], parts[0])

    def contracted(self, place: int, adjoint: Array, stored: Array) -> Array:
        """Adjoint `(batch, size)` of a place times its influence as it is stored: a gradient."""
        return self.kind.contract(adjoint, self.plan.layouts[self.name, place], self.decode(place, stored))

    def entries(self) -> list[tuple[int, int]]:
        """All stored places with their lags."""
        return [(place, lag) for place in self.places for lag in range(1, self.plan.depth[place] + 1)]

    def gradient(self, tape: Pass, sweeps: Sequence[Swept], through: Sequence[tuple[Boundary, Stored]]) -> Array:
        """A block's part of the gradient; of each sample, `(batch, *shape)`, where the plan keeps them apart.

        Args:
            tape: its forward pass.
            sweeps: from the losses. Adjoints at the sites times what the parameter multiplies are the gradient inside.
            through: adjoints by place and lag, each with what is stored there.
        """
        inside: list[tuple[Array, Array]] = []
        for sweep in sweeps:
            for site in self.sites:
                if (found := sweep.at_port(site.place, site.port)) is not None:
                    steps, b = found
                    inside.append((b[:, :, 0], self.presynaptic(tape, site)[steps]))
        if not self.plan.per_sample:
            return self._summed(inside, through)

        def alone(sample: slice) -> Array:
            own = [(b[:, sample], x[:, sample]) for b, x in inside]
            past = [
                ({e: a[sample] for e, a in adjoints.items()}, {part: s[:, sample] for part, s in stored.items()})
                for adjoints, stored in through
            ]
            return self._summed(own, past)

        return np.stack([alone(slice(i, i + 1)) for i in range(tape.batch)])

    def _summed(self, inside: Sequence[tuple[Array, Array]], through: Sequence[tuple[Boundary, Stored]]) -> Array:
        """The gradient, summed over samples: adjoints at sites times what the parameter multiplies, and the past."""
        parts, held = [self.kind.gradient(b, x) for b, x in inside], self.entries()
        parts += [self.contract(adjoints, stored) for adjoints, stored in through if any(e in adjoints for e in held)]
        if not parts:
            return np.zeros(self.plan.network.parameters[self.name].shape, self.dtype)
        return sum(parts[1:], parts[0])

    def presynaptic(self, tape: Pass, site: Site) -> Array:
        """What a parameter multiplies at a site: `(steps, batch, source)`, or `(steps, batch)` of ones for a bias."""
        if site.edge is None:
            return np.ones((tape.steps, tape.batch), self.dtype)
        edge = self.plan.network.edges[site.edge]
        return tape.values(edge.source, edge.delay)

    def advance(self, block: Passed, stored: Stored) -> dict[Part, Array]:
        """What is stored after the block: influence' = Jacobian x influence + injections, per place and lag."""
        after: dict[Part, Array] = {}
        for place in self.places:
            lags, steps = range(1, self.plan.depth[place] + 1), block.tape.steps
            new = [self.renewed(block, place, lag, stored) for lag in lags if lag <= steps]
            old = [stored[place][lag - 1 - steps] for lag in lags if lag > steps]  # only its lag has grown
            after[place] = np.stack([*new, *old]) if len(lags) > 1 else new[0][None]
        return after

    def renewed(self, block: Passed, place: int, lag: int, stored: Stored) -> Array:
        """The influence on a place at a step of the block, as it is stored."""
        return self.encode(place, self._carried(block.tape, block.rows(place, lag), stored, place))

    def _carried(self, tape: Pass, rows: Swept, stored: Stored, target: int) -> Array:
        """The influence on a place at a step of the block, `(batch, ...)` in its derived layout."""
        words, layout = self.plan.words[target], self.plan.layouts[self.name, target]
        total = np.zeros((tape.batch, *self.full_shape(target)), self.dtype)
        for site in self.sites:
            found = rows.at_port(site.place, site.port) if site.place in words else None
            if found is None:
                continue
            steps, j = found
            word = compose(words[site.place], self.plan.port_word(site.place, site.port))
            injected = self.kind.inject(word, j, self.presynaptic(tape, site)[steps])
            total += self.kind.widen(injected, word, layout)
        for place, lag in self.entries():
            if (j := rows.boundary.get((place, lag))) is None:
                continue
            word, known = words[place], self.plan.layouts[self.name, place]
            carried = self.kind.carry(word, j, known, self.decode(place, stored[place][lag - 1]))
            total += self.kind.widen(carried, compose(word, known), layout)
        return total
