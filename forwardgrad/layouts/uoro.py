"""The layout `uoro`: one random product a b' per parameter."""

from __future__ import annotations

import itertools

import numpy as np

from forwardgrad.layouts.draws import COUNTERS
from forwardgrad.layouts.estimates import Estimate, norm, over, ratio, times
from forwardgrad.layouts.influence import Single
from forwardgrad.layouts.layout import Layout
from forwardgrad.layouts.traces import Boundary, Part, Passed, Stored
from forwardgrad.ops import Array
from forwardgrad.structure import Structure
from forwardgrad.support.blas import matmul


class RankOneTraces(Estimate):
    """UORO (Tallec & Ollivier 2017, arXiv 1702.05043), one estimate a parameter: influence = a b'.

        a' = p0 J a + p1 s,  b' = b / p0 + s' I / p1,  p0 = sqrt(|b| / |J a|),  p1 = sqrt(|s' I| / |s|)

    with signs s, the block's Jacobian J and injections I. The mean of a' b'' is J a b' + I.
    """

    def shapes(self) -> dict[Part, tuple[int, ...]]:
        shapes: dict[Part, tuple[int, ...]] = {p: (self.plan.depth[p], self.size(p)) for p in self.places}
        if self.places:
            shapes |= {"parameter": (1, *self.plan.network.parameters[self.name].shape), **COUNTERS}
        return shapes

    def held(self, place: int, lag: int, stored: Stored) -> Array:
        a, b = stored[place][lag - 1], stored["parameter"][0]
        return a.reshape(*a.shape, *(1,) * (b.ndim - 1)) * b[:, None]

    def contract(self, adjoints: Boundary, stored: Stored) -> Array:
        total = np.zeros(self.plan.network.parameters[self.name].shape, self.dtype)
        for place, lag in self.entries():
            if (adjoint := adjoints.get((place, lag))) is not None:
                along = (adjoint[:, 0] * stored[place][lag - 1]).sum(axis=1)
                b = stored["parameter"][0]
                total = total + matmul(along[None], b.reshape(len(b), -1)).reshape(b.shape[1:])
        return total

    def advance(self, block: Passed, stored: Stored) -> dict[Part, Array]:
        if not self.places:
            return {}
        moved = self.through(block, stored, Single())
        fresh = [(place, lag) for place, lag in self.entries() if lag <= block.tape.steps]
        sizes = [self.size(place) for place, _ in fresh]
        drawn = self.drawn(stored, (block.tape.batch, sum(sizes)))
        ends = itertools.accumulate(sizes)
        noise = {entry: drawn[:, end - size : end] for entry, size, end in zip(fresh, sizes, ends, strict=True)}
        b = stored["parameter"][0]
        injected = self._injected(block, noise, b)
        carried = ratio(norm([b]), norm(list(moved.values())))
        entering = ratio(norm([injected]), norm(list(noise.values())))
        # A term that is zero is left out; its scale would be 0 / 0.
        after = {
            entry: times(carried, a) + (times(entering, noise[entry]) if entry in noise else 0)
            for entry, a in moved.items()
        }
        new = self.gathered(after, stored)
        parameter = over(b, carried)
        parameter += over(injected, entering)
        new["parameter"] = parameter[None]
        return new

    def _injected(self, block: Passed, noise: dict[tuple[int, int], Array], like: Array) -> Array:
        """Signs times injections, by one sweep: `(batch, *shape)`."""
        adjoints = block.pulled(noise)
        shape = self.plan.network.parameters[self.name].shape
        total = np.zeros((block.tape.batch, *shape), self.dtype)
        for site in self.sites:
            if (found := adjoints.at_port(site.place, site.port)) is not None:
                steps, b = found
                total += self.kind.inject(Structure.FULL, b, self.presynaptic(block.tape, site)[steps])[:, 0]
        return total


UORO = Layout(
    "uoro",
    RankOneTraces,
    keeps="one product a b' per parameter, of random signs; right on average",
    source="Tallec & Ollivier 2017, arXiv 1702.05043",
    compression=lambda _: "all influence becomes one random product a b^T, equal to it on average",
    random=True,
    as_spelled=True,
)
