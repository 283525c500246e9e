"""The layout `kronecker`: one random product M x a' per parameter, where that is a dense weight on one edge.

With the carried product and one of every step of the block, indexed by t,

    a' = sum_t s_t p_t a_t,  M' = sum_t s_t M_t / p_t,  p_t = sqrt(|M_t| / |a_t|)

with signs s (Mujika et al. 2018, arXiv 1805.10842).
"""

from __future__ import annotations

from collections.abc import Mapping

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, apply, total
from forwardgrad.array_program.instructions import Broadcast, Concat, Contract, Read, Reduce, Slice
from forwardgrad.array_program.lowering.adjoints import Adjoint, fitted
from forwardgrad.array_program.lowering.gates import Gate
from forwardgrad.array_program.lowering.lossy.counters import counted
from forwardgrad.array_program.lowering.lossy.estimate import EstimatedInfluence, inverse, norm, ratio
from forwardgrad.array_program.lowering.synapses import kept_axis
from forwardgrad.array_program.regions import Function
from forwardgrad.array_program.values import Value, floats
from forwardgrad.structure import Structure


class ProductInfluence(EstimatedInfluence):
    """The influence of one parameter under `kronecker`."""

    axes = "k"

    def entering(self, builder: Builder, target: int, lag: int, ports: Mapping[Gate, Adjoint]) -> Mapping[Value, Value]:
        """The Jacobian of a place at a lag by the units of the parameter, `[steps batch units units]`."""
        site = self.sites[0]
        if (j := ports.get((site.place, site.port))) is None:
            return {}
        wide = fitted(self.context, builder, j, self.plan.size(site.place), Structure.FULL)
        if lag > 1:
            wide = builder.add(Slice(wide, 0, affine(0), affine("steps"), or_zero=True))
        return {self.entered(target, lag): wide}

    def entered(self, place: int, lag: int) -> Value:
        """What `entering` calls it."""
        wanted = f"enters_{self.name}_on_{self.context.place(place)}" + (f"_{lag}" if lag > 1 else "")
        name = self.context.names.of(wanted, "entered", self.name, place, lag)
        return Value(name, floats("steps", "batch", *self.shapes[place][1:]))

    def contract(self, builder: Builder, place: int, lag: int, adjoint: Value, *, after: bool = False) -> Value:
        m, a = self.read(builder, place, lag, after=after), self.whole(builder, "input", after=after)
        kicks = builder.add(Contract(adjoint, m, "bu,buk->bk"))
        return builder.add(Contract(kicks, a, f"bk,bj->{kept_axis(self.context)}kj"))

    def own(self) -> Function | None:
        """The function that makes what is stored after the block."""
        if not self.places:
            return None
        builder, word, steps = Builder(), self.word, affine("steps")
        a, x = self.whole(builder, "input"), self.presynaptic(builder, self.sites[0], steps)
        assert x is not None
        signs = self.signs(builder, steps + 1, word("all_signs"))
        of_carried = builder.add(Reduce(builder.add(Slice(signs, 1, affine(0), affine(1))), (1,)), word("sign_moved"))
        by_step = builder.add(Slice(signs, 1, affine(1), steps))
        entered = self._all_entered()
        carried = ratio(
            builder,
            norm(builder, [(self.made(place), (0, 2, 3)) for place in self.places], word("norm_moved")),
            norm(builder, [(a, (1,))], word("norm_before")),
            word("scale_moved"),
        )
        entering = ratio(
            builder,
            norm(builder, [(m, (2, 3)) for m in entered.values()], word("norm_entered")),
            norm(builder, [(x, (2,))], word("norm_inputs")),
            word("scale_entered"),
        )
        terms = [
            builder.add(Contract(self._times(builder, of_carried, carried), a, "b,bj->bj")),
            builder.add(Contract(builder.add(Contract(by_step, entering, "bt,tb->tb")), x, "tb,tbj->bj")),
        ]
        results = [self.advanced("input")]
        new = builder.elementwise(total(2), *terms)
        builder.add(Broadcast(new, results[0].dims, (1, 2)), results[0].name)
        one_over = inverse(builder, carried, word("over_moved")), inverse(builder, entering, word("over_entered"))
        first = builder.kept(self._times(builder, of_carried, one_over[0]), word("sign_over_moved"))
        later = builder.add(Contract(by_step, one_over[1], "bt,tb->tb"), word("signs_over_entered"))
        for place in self.places:
            rows = [self._row(builder, place, lag, first, later, entered) for lag in range(1, self.depth(place) + 1)]
            stacked = builder.add(Concat(tuple(rows), 0)) if len(rows) > 1 else rows[0]
            results.append(self.advanced(place))
            builder.named(stacked, results[-1].name)
        results += counted(builder, self)
        doc = f"What is stored of the influence of {self.name}: a random product M x a', equal to it on average."
        name = self.context.names.of(f"estimate_{self.name}", "estimate", self.name)
        return self.context.function(name, doc, builder, results)

    def _all_entered(self) -> dict[tuple[int, int], Value]:
        """What `entering` gave, by place and lag."""
        site = self.sites[0]
        return {
            (place, lag): self.entered(place, lag)
            for place in self.places
            if site.place in self.plan.words[place] and self.plan.port_word(site.place, site.port) is not Structure.ZERO
            for lag in range(1, self.depth(place) + 1)
        }

    @staticmethod
    def _times(builder: Builder, one: Value, other: Value) -> Value:
        return builder.elementwise(apply("*", Argument(0), Argument(1)), one, other)

    def _row(
        self,
        builder: Builder,
        place: int,
        lag: int,
        first: Value,
        later: Value,
        entered: Mapping[tuple[int, int], Value],
    ) -> Value:
        """The new M of a place at a lag, `[1 batch units units]`."""
        moved = builder.add(Read(self.made(place), affine(lag - 1)))
        terms = [builder.add(Contract(first, moved, "b,buk->buk"))]
        if (place, lag) in entered:
            terms.append(builder.add(Contract(later, entered[place, lag], "tb,tbuk->buk")))
        value = builder.elementwise(total(len(terms)), *terms)
        return builder.add(Broadcast(value, (affine(1), *value.dims), (1, 2, 3)))
