"""How is influence kept in a random estimate without bias? As a product of two small arrays, drawn anew at block ends.

Signs come from the rule's seed, the parameter's name, the number of the draw and the number of blocks in it. Every
sequence has a draw of its own, or noise would be the same in all of them and never average out; who gives the number of
the draw repeats a run bit for bit.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import Any

import numpy as np

from forwardgrad.backends.influence import Single, Synapses
from forwardgrad.backends.traces import Boundary, Part, Passed, Stored, Traces, nothing
from forwardgrad.blas import matmul
from forwardgrad.compiler import Plan
from forwardgrad.errors import RuleError
from forwardgrad.graph.parameters import stream
from forwardgrad.ops import Array
from forwardgrad.structure import Structure, compose

DRAW = "draw"
"""Part that holds the number of the draw, for each sample."""

COUNT = "blocks"
"""Part that counts the blocks of each sample."""

PERIOD = 2**23
"""How far both of them count before they begin again; single precision counts no further than twice that."""


def signs(seed: int, name: str, draw: int, block: int, shape: tuple[int, ...]) -> Array:
    """Independent signs, -1 or 1 with equal odds, of a block of a draw."""
    # Not the stream of the initial value of the parameter, which the first draw would be a part of.
    return stream(seed, f"signs of {name}", draw, block).integers(0, 2, shape) * 2.0 - 1.0


class Estimate(Traces):
    """What random estimates share: the places they store something on, and their signs."""

    lossy = True

    def held_word(self, place: int) -> Structure:
        return Structure.FULL

    def drawn(self, stored: Stored, shape: tuple[int, ...]) -> Array:
        """The signs of this block."""
        draw, block = (int(stored[part].max()) % PERIOD for part in (DRAW, COUNT))
        return signs(self.plan.rules[self.name].seed, self.name, draw, block, shape).astype(self.dtype)

    def carried(self, place: int) -> int:
        return prod(self.shapes()[place][1:])

    def through(self, block: Passed, stored: Stored, what: Synapses | Single) -> dict[tuple[int, int], Array]:
        """The block's Jacobian times what is stored on the places: an influence of kind `what`, full."""
        moved: dict[tuple[int, int], Array] = {}
        for target, lag in self.entries():
            if lag > block.tape.steps:
                moved[target, lag] = stored[target][lag - 1 - block.tape.steps]
                continue
            rows, words = block.rows(target, lag), self.plan.words[target]
            moved[target, lag] = np.zeros_like(stored[target][lag - 1])
            for place, back in self.entries():
                if (j := rows.boundary.get((place, back))) is not None:
                    moved[target, lag] += what.carry(words[place], j, Structure.FULL, stored[place][back - 1])
        return moved

    def gathered(self, moved: dict[tuple[int, int], Array], stored: Stored) -> dict[Part, Array]:
        """The arrays of all places, their lags stacked, and the blocks counted."""
        after: dict[Part, Array] = {
            place: np.stack([moved[place, lag] for lag in range(1, self.plan.depth[place] + 1)])
            for place in self.places
        }
        after[DRAW] = stored[DRAW].copy()
        after[COUNT] = (stored[COUNT] + 1) % PERIOD
        return after


class RankOneTraces(Estimate):
    """UORO (Tallec & Ollivier 2017, arXiv 1702.05043), one estimate a parameter: influence = a b'.

        a' = p0 J a + p1 s,  b' = b / p0 + s' I / p1,  p0 = sqrt(|b| / |J a|),  p1 = sqrt(|s' I| / |s|)

    with signs s, the block's Jacobian J and injections I. The mean of a' b'' is J a b' + I.
    """

    def shapes(self) -> dict[Part, tuple[int, ...]]:
        shapes: dict[Part, tuple[int, ...]] = {p: (self.plan.depth[p], self.size(p)) for p in self.places}
        if self.places:
            shapes |= {"parameter": (1, *self.plan.network.parameters[self.name].shape), DRAW: (1,), COUNT: (1,)}
        return shapes

    def held(self, place: int, lag: int, stored: Stored) -> Array:
        a, b = stored[place][lag - 1], stored["parameter"][0]
        return a.reshape(*a.shape, *(1,) * (b.ndim - 1)) * b[:, None]

    def contract(self, adjoints: Boundary, stored: Stored) -> Array:
        total = nothing(self.plan.network.parameters[self.name].shape, self.dtype, stored)
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
        carried = _ratio(_norm([b]), _norm(list(moved.values())))
        entering = _ratio(_norm([injected]), _norm(list(noise.values())))
        # A term that is zero is left out; its scale would be 0 / 0.
        after = {
            entry: _times(carried, a) + (_times(entering, noise[entry]) if entry in noise else 0)
            for entry, a in moved.items()
        }
        new = self.gathered(after, stored)
        parameter = _over(b, carried)
        parameter += _over(injected, entering)
        new["parameter"] = parameter[None]
        return new

    def _injected(self, block: Passed, noise: dict[tuple[int, int], Array], like: Array) -> Array:
        """Signs times injections, by one sweep: `(batch, *shape)`."""
        adjoints = block.pulled(noise)
        shape = self.plan.network.parameters[self.name].shape
        total = np.zeros((block.tape.batch, *shape), self.dtype, like=like)
        for site in self.sites:
            if (found := adjoints.at_port(site.place, site.port)) is not None:
                steps, b = found
                total += self.kind.inject(Structure.FULL, b, self.presynaptic(block.tape, site)[steps])[:, 0]
        return total


class KroneckerTraces(Estimate):
    """KF-RTRL (Mujika et al. 2018, arXiv 1805.10842): influence[i, k, j] = M[i, k] a[j].

    With the carried product and one of every step of the block, indexed by t,

        a' = sum_t s_t p_t a_t,  M' = sum_t s_t M_t / p_t,  p_t = sqrt(|M_t| / |a_t|)

    with signs s. Every injection of a dense weight on one edge is such a product.

    Raises:
        RuleError: for any other parameter.
    """

    def __init__(self, plan: Plan, name: str, dtype: Any) -> None:
        super().__init__(plan, name, dtype)
        if self.places and (self.kind_of != "dense" or len(self.sites) != 1):
            raise RuleError(
                f"rule '{plan.rules[name]}': layout 'kronecker' needs a dense weight on one edge, "
                f"and parameter {name!r} is a {self.kind_of} on {len(self.sites)}.",
                "Give this parameter another rule, such as rtrl or uoro: rule={name: ..., '*': 'kf-rtrl'}.",
            )

    @property
    def kind_of(self) -> str:
        """The weight kind of the parameter."""
        return self.plan.network.parameters[self.name].kind

    def shapes(self) -> dict[Part, tuple[int, ...]]:
        if not self.places:
            return {}
        units, source = self.plan.network.parameters[self.name].shape
        shapes: dict[Part, tuple[int, ...]] = {p: (self.plan.depth[p], self.size(p), units) for p in self.places}
        return shapes | {"input": (1, source), DRAW: (1,), COUNT: (1,)}

    def held(self, place: int, lag: int, stored: Stored) -> Array:
        return stored[place][lag - 1][..., None] * stored["input"][0][:, None, None]

    def contract(self, adjoints: Boundary, stored: Stored) -> Array:
        total = nothing(self.plan.network.parameters[self.name].shape, self.dtype, stored)
        for place, lag in self.entries():
            if (adjoint := adjoints.get((place, lag))) is not None:
                kicks = matmul(adjoint, stored[place][lag - 1])
                total = total + matmul(kicks[:, 0].T, stored["input"][0])
        return total

    def advance(self, block: Passed, stored: Stored) -> dict[Part, Array]:
        if not self.places:
            return {}
        tape, site = block.tape, self.sites[0]
        units = self.plan.network.parameters[self.name].shape[0]
        terms = [(stored["input"][0], self.through(block, stored, Synapses("diagonal", (units,), units, units)))]
        x = self.presynaptic(tape, site)
        by_step: list[dict[tuple[int, int], Array]] = [{} for _ in range(tape.steps)]
        for target, lag in self.entries():
            found = block.rows(target, lag).at_port(site.place, site.port) if lag <= tape.steps else None
            for t, j in zip(*found, strict=True) if found is not None else ():
                by_step[t][target, lag] = self._wide(target, j)
        terms += [(x[t], entries) for t, entries in enumerate(by_step) if entries]
        drawn = self.drawn(stored, (tape.batch, len(terms)))
        a, after = np.zeros_like(stored["input"][0]), {e: np.zeros_like(m) for e, m in terms[0][1].items()}
        for t, (term, entries) in enumerate(terms):
            scale = _ratio(_norm(list(entries.values())), _norm([term]))
            a += _times(drawn[:, t] * scale, term)
            for entry, m in entries.items():
                after[entry] += _times(drawn[:, t], _over(m, scale))
        new = self.gathered(after, stored)
        new["input"] = a[None]
        return new

    def _wide(self, target: int, j: Array) -> Array:
        """The Jacobian of a place by the parameter's units, `(batch, size, units)`."""
        site = self.sites[0]
        word = compose(self.plan.words[target][site.place], self.plan.port_word(site.place, site.port))
        return j if word is Structure.FULL else np.eye(self.size(target), dtype=j.dtype, like=j) * j


def _norm(arrays: list[Array]) -> Array:
    """Euclidean norm of all arrays together, a number per sample."""
    return np.sqrt(sum(np.square(array).reshape(len(array), -1).sum(axis=1) for array in arrays))


def _ratio(over: Array, under: Array) -> Array:
    """sqrt(over / under) where both are positive, else 0: one of the two factors is zero, and so is the product."""
    good = (over > 0) & (under > 0)
    return np.where(good, np.sqrt(over / np.where(good, under, 1)), 0).astype(over.dtype)


def _times(scale: Array, array: Array) -> Array:
    return scale.reshape(-1, *(1,) * (array.ndim - 1)) * array


def _over(array: Array, scale: Array) -> Array:
    """Array / scale, and 0 where the scale is 0."""
    return _times(np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0).astype(array.dtype), array)
