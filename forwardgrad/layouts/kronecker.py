"""The layout `kronecker`: one random product M x a' per dense weight; of a bias, whose input is 1, M alone, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.errors import RuleError
from forwardgrad.layouts.draws import COUNTERS
from forwardgrad.layouts.estimates import Estimate, norm, over, ratio, times
from forwardgrad.layouts.influence import Synapses
from forwardgrad.layouts.layout import Layout
from forwardgrad.layouts.traces import Boundary, Part, Passed, Planned, Stored, Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure, compose
from forwardgrad.support.blas import matmul


class KroneckerTraces(Estimate):
    """KF-RTRL (Mujika et al. 2018, arXiv 1805.10842): influence[i, k, j] = M[i, k] a[j].

    With the carried product and one of every step of the block, indexed by t,

        a' = sum_t s_t p_t a_t,  M' = sum_t s_t M_t / p_t,  p_t = sqrt(|M_t| / |a_t|)

    with signs s. Every injection of a dense weight on one edge is such a product.

    Raises:
        RuleError: for any other parameter.
    """

    def __init__(self, plan: Planned, name: str, dtype: Any) -> None:
        super().__init__(plan, name, dtype)
        if self.places and (self.kind_of != "dense" or len(self.sites) != 1):
            raise RuleError(
                f"rule '{plan.rules[name]}': layout 'kronecker' needs a dense weight on one edge, "
                f"and parameter {name!r} is {self.described}.",
                f"Give it another rule, such as rtrl or uoro: rule={{{name!r}: 'uoro', '*': '{plan.rules[name]}'}}.",
            )

    @property
    def described(self) -> str:
        """What the parameter is, in the words of the graph."""
        edges = self.plan.network.parameters[self.name].edges
        weight = self.plan.network.edges[edges[0]].weight
        return f"a {weight} weight on {len(edges)} edge{'s' if len(edges) > 1 else ''}"

    @property
    def kind_of(self) -> str:
        """The weight kind of the parameter."""
        return self.plan.network.parameters[self.name].kind

    def shapes(self) -> dict[Part, tuple[int, ...]]:
        if not self.places:
            return {}
        units, source = self.plan.network.parameters[self.name].shape
        shapes: dict[Part, tuple[int, ...]] = {p: (self.plan.depth[p], self.size(p), units) for p in self.places}
        return shapes | {"input": (1, source), **COUNTERS}

    def held(self, place: int, lag: int, stored: Stored) -> Array:
        return stored[place][lag - 1][..., None] * stored["input"][0][:, None, None]

    def contract(self, adjoints: Boundary, stored: Stored) -> Array:
        total = np.zeros(self.plan.network.parameters[self.name].shape, self.dtype)
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
        carried = self.through(block, stored, Synapses("diagonal", (units,), units, units))
        x = self.presynaptic(tape, site)
        by_step: list[dict[tuple[int, int], Array]] = [{} for _ in range(tape.steps)]
        for target, lag in self.entries():
            found = block.rows(target, lag).at_port(site.place, site.port) if lag <= tape.steps else None
            for t, j in zip(*found, strict=True) if found is not None else ():
                by_step[t][target, lag] = self._wide(target, j)
        # Each step has its sign, also where nothing of it comes to a stored place.
        terms = [(stored["input"][0], carried), *((x[t], entries) for t, entries in enumerate(by_step))]
        drawn = self.drawn(stored, (tape.batch, len(terms)))
        a, after = np.zeros_like(stored["input"][0]), {e: np.zeros_like(m) for e, m in carried.items()}
        for t, (term, entries) in enumerate(terms):
            if not entries:
                continue
            scale = ratio(norm(list(entries.values())), norm([term]))
            a += times(drawn[:, t] * scale, term)
            for entry, m in entries.items():
                after[entry] += times(drawn[:, t], over(m, scale))
        new = self.gathered(after, stored)
        new["input"] = a[None]
        return new

    def _wide(self, target: int, j: Array) -> Array:
        """The Jacobian of a place by the parameter's units, `(batch, size, units)`."""
        site = self.sites[0]
        word = compose(self.plan.words[target][site.place], self.plan.port_word(site.place, site.port))
        return j if word is Structure.FULL else np.eye(self.size(target), dtype=j.dtype) * j


def kronecker(plan: Planned, name: str, dtype: Any) -> Traces:
    """What one parameter keeps.

    A bias multiplies 1, so that its influence is M itself. It is no larger than the product, and needs no signs.
    """
    kept = Traces if plan.network.parameters[name].kind == "bias" else KroneckerTraces
    return kept(plan, name, dtype)


KRONECKER = Layout(
    "kronecker",
    kronecker,
    keeps="one product M x a' per dense weight on one edge, of random signs, right on average; of biases, all",
    source="Mujika et al. 2018, arXiv 1805.10842",
    compression=lambda _: "all influence becomes one random Kronecker product a (x) B, equal to it on average",
    random=True,
)
