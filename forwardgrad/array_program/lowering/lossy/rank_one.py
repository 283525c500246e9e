"""The layout `uoro`: one random product a b' per parameter.

    a' = p0 J a + p1 s,  b' = b / p0 + s' I / p1,  p0 = sqrt(|b| / |J a|),  p1 = sqrt(|s' I| / |s|)

with signs s, the block's Jacobian J and injections I (Tallec & Ollivier 2017, arXiv 1702.05043).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import total
from forwardgrad.array_program.instructions import Broadcast, Concat, Contract, ScatterAdd, Slice
from forwardgrad.array_program.lowering.lossy.counters import counted
from forwardgrad.array_program.lowering.lossy.estimate import EstimatedInfluence, inverse, norm, ratio
from forwardgrad.array_program.lowering.swept import Swept, invoked
from forwardgrad.array_program.lowering.synapses import Single, kept_axis
from forwardgrad.array_program.regions import Function, When
from forwardgrad.array_program.values import Value, floats
from forwardgrad.structure import Structure

LETTERS = "ijk"
"""Of the axes of a parameter."""


class RankOneInfluence(EstimatedInfluence):
    """The influence of one parameter under `uoro`.

    Attributes:
        sent_back: the sweep from adjoints that are given, which serves all such parameters.
        given: the adjoints that it takes, by place.
    """

    sent_back: Swept | None = None
    given: Mapping[int, Value] = {}

    @property
    def entries(self) -> list[tuple[int, int]]:
        """The stored places with their lags."""
        return [(place, lag) for place in self.places for lag in range(1, self.depth(place) + 1)]

    def contract(self, builder: Builder, place: int, lag: int, adjoint: Value, *, after: bool = False) -> Value:
        a, b = self.read(builder, place, lag, after=after), self.whole(builder, "parameter", after=after)
        along, letters = builder.add(Contract(adjoint, a, "bu,bu->b")), LETTERS[: len(self.shape)]
        return builder.add(Contract(along, b, f"b,b{letters}->{kept_axis(self.context)}{letters}"))

    def own(self) -> Function | None:
        """The function that makes what is stored after the block."""
        if not self.places:
            return None
        builder, word = Builder(), self.word
        noise = self._noise(builder)
        injected = self._injected(builder, noise)
        b, letters = self.whole(builder, "parameter"), LETTERS[: len(self.shape)]
        axes = tuple(range(1, 1 + len(self.shape)))
        moved = [self.made(place) for place in self.places]
        carried = ratio(
            builder,
            norm(builder, [(b, axes)], word("norm_before")),
            norm(builder, [(a, (0, 2)) for a in moved], word("norm_moved")),
            word("scale_moved"),
        )
        entering = ratio(
            builder,
            norm(builder, [(injected, axes)], word("norm_entered")),
            norm(builder, [(s, (0, 2)) for s in noise.values()], word("norm_signs")),
            word("scale_signs"),
        )
        results: list[Value] = []
        for place, a in zip(self.places, moved, strict=True):
            latest_first = Slice(noise[place], 0, affine(0), noise[place].dims[0], backward=True)
            s = builder.add(latest_first) if self.depth(place) > 1 else noise[place]
            terms = [builder.add(Contract(scale, x, "b,tbu->tbu")) for scale, x in ((carried, a), (entering, s))]
            results.append(self.advanced(place))
            builder.elementwise(total(2), *terms, name=results[-1].name)
        terms = [
            builder.add(Contract(inverse(builder, scale, name), x, f"b,b{letters}->b{letters}"))
            for scale, x, name in ((carried, b, word("over_moved")), (entering, injected, word("over_signs")))
        ]
        new = builder.elementwise(total(2), *terms)
        results.append(self.advanced("parameter"))
        builder.add(Broadcast(new, results[-1].dims, tuple(range(1, len(results[-1].dims)))), results[-1].name)
        results += counted(builder, self)
        doc = f"What is stored of the influence of {self.name}: a random product a b', equal to it on average."
        return self.context.function(
            self.context.names.of(f"estimate_{self.name}", "estimate", self.name), doc, builder, results
        )

    def _noise(self, builder: Builder) -> dict[int, Value]:
        """The signs of each place, `[lags batch units]`, the latest step last; 0 where a lag is before the block."""
        drawn = self._drawn(builder)
        starts = dict(
            zip(self.entries, accumulate((self.plan.size(p) for p, _ in self.entries), initial=0), strict=False)
        )
        noise: dict[int, Value] = {}
        for place in self.places:
            size, rows = affine(self.plan.size(place)), list[Value]()
            for lag in range(self.depth(place), 0, -1):
                one = builder.add(Slice(drawn, 1, affine(starts[place, lag]), size)) if size != drawn.dims[1] else drawn
                rows.append(builder.add(Broadcast(one, (affine(1), *one.dims), (1, 2))))
            stacked = builder.add(Concat(tuple(rows), 0)) if len(rows) > 1 else rows[0]
            noise[place] = builder.kept(stacked, self.word(f"signs_on_{self.context.place(place)}"))
        return noise

    def _drawn(self, builder: Builder) -> Value:
        """The signs of all places and lags, `[batch ...]`; only those of lags that lie in the block are drawn."""
        deepest = max(lag for _, lag in self.entries)
        whole = sum(self.plan.size(place) for place, _ in self.entries)
        found, otherwise = self._drawn_up_to(inner := Builder(builder) if deepest > 1 else builder, 1, whole), inner
        for lag in range(2, deepest + 1):
            outer, then = (builder if lag == deepest else Builder(builder)), Builder(builder)
            more = self._drawn_up_to(then, lag, whole)
            value = Value(self.word(f"drawn_{lag}"), floats("batch", whole))
            outer.define((value,), When(affine("steps") - lag, then.body(more), otherwise.body(found)))
            found, otherwise = value, outer
        return found

    def _drawn_up_to(self, builder: Builder, most: int, whole: int) -> Value:
        """The signs of lags up to one, among those of all."""
        spread = np.repeat(
            [lag <= most for _, lag in self.entries], [self.plan.size(place) for place, _ in self.entries]
        )
        count = affine(int(spread.sum()))
        signs = self.signs(builder, count, self.word("all_signs" if spread.all() else f"signs_{most}"))
        if spread.all():
            return signs
        table = self.context.constant(f"drawn_{self.name}", np.flatnonzero(spread), "int")
        return builder.add(ScatterAdd(signs, 1, (table,), (affine(whole),), unique=True))

    def _injected(self, builder: Builder, noise: Mapping[int, Value]) -> Value:
        """Signs times injections, by one sweep: `[batch *shape]`."""
        taken: dict[Value, Value] = {}
        for place, wanted in self.given.items():
            if place in noise:
                depth = affine(self.depth(place))
                seeds = builder.add(Slice(noise[place], 0, depth - "steps", affine("steps"), or_zero=True))
            else:
                seeds = builder.fill(0.0, *wanted.dims)
            taken[wanted] = seeds
        assert self.sent_back is not None
        ports, _ = invoked(self.context, builder, self.sent_back, affine("steps"), given=taken)
        terms: list[Value] = []
        for site in self.sites:
            if (b := ports.get((site.place, site.port))) is not None:
                x = self.presynaptic(builder, site, affine("steps"))
                if isinstance(self.synapses, Single):
                    assert x is not None
                    terms.append(builder.add(Contract(b.value, x, "tbi,tbi->b")))
                else:
                    injected = self.synapses.inject(builder, Structure.DIAGONAL, b.value, x)
                    terms.append(self.synapses.collapse(builder, injected, 1))
        terms = terms or [builder.fill(0.0, "batch", *self.shape)]
        return builder.kept(builder.elementwise(total(len(terms)), *terms), self.word("entered"))
