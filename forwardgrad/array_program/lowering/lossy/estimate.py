"""Random estimates: what `uoro` and `kronecker` share, a product of two small arrays, drawn again at block ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Argument, Number, apply, total
from forwardgrad.array_program.instructions import Read, Reduce, Signs
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.context import NOW, Context
from forwardgrad.array_program.lowering.gates import Gate
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.synapses import carried_full
from forwardgrad.array_program.values import Dimensions, Value
from forwardgrad.layouts.draws import COUNT, DRAW
from forwardgrad.layouts.estimates import Estimate
from forwardgrad.layouts.traces import Part


class EstimatedInfluence(Influence):
    """The influence of one parameter as a random estimate.

    The functions that advance places give J times what is stored on them. A function of the parameter's own makes of
    it, and of what the block injects, what is stored next.

    Args:
        context: of the lowering.
        name: the parameter.
        traces: its layout, as the interpreter runs it.
    """

    axes = ""
    """Letters of what is stored on a place, behind its units."""

    def __init__(self, context: Context, name: str, traces: Estimate) -> None:
        super().__init__(context, name)
        self.traces, self.shapes = traces, traces.shapes()
        self._moved: dict[int, Value] = {}

    @property
    def parts(self) -> Sequence[Part]:
        return list(self.shapes)

    def shape_of(self, part: Part) -> tuple[int, ...]:
        return self.shapes[part]

    def dims(self, place: int) -> Dimensions:
        return affine("batch"), *map(affine, self.shapes[place][1:])

    def made(self, place: int) -> Value:
        """J times what was stored on a place, its lags stacked."""
        if place not in self._moved:
            name = self.context.names.of(f"moved_{self.name}_on_{self.context.place(place)}", "moved", self.name, place)
            self._moved[place] = Value(name, self.stored(place).type)
        return self._moved[place]

    def advanced_as(self, place: int) -> str:
        return f"What is stored on {self.context.place(place)}, carried over the block: J S."

    def injected(self, builder: Builder, target: int, ports: Mapping[Gate, Adjoint], steps: Affine) -> None:
        return None

    def carried(self, builder: Builder, target: int, past: Mapping[int, Adjoint]) -> list[Value]:
        found: list[Value] = []
        for place in self.places:
            if (j := past.get(place)) is None or j.word is None:
                continue
            for lag in range(1, self.depth(place) + 1):
                jacobian = builder.add(Read(j.value, affine(self.depth(place) - lag)))
                found.append(carried_full(builder, j.word, jacobian, self.read(builder, place, lag), self.axes))
        return found

    def whole(self, builder: Builder, part: Part, *, after: bool = False) -> Value:
        """What is stored without lags, `[batch ...]`."""
        return builder.add(Read(self.advanced(part) if after else self.stored(part), NOW))

    def signs(self, builder: Builder, count: Affine, name: str) -> Value:
        """Signs for each sample, of this block of this draw."""
        dims = (affine("batch"), count)
        return builder.add(
            Signs(self.plan.rules[self.name].seed, self.name, self.stored(DRAW), self.stored(COUNT), dims), name
        )

    def word(self, text: str) -> str:
        """A name in the function of the parameter, which other functions may have too."""
        return self.context.names.of(text, "estimate")


def norm(builder: Builder, arrays: Sequence[tuple[Value, tuple[int, ...]]], name: str) -> Value:
    """The Euclidean norm of all arrays together, each summed over these axes."""
    squares = [builder.add(Reduce(builder.elementwise(apply("square", Argument(0)), a), axes)) for a, axes in arrays]
    return builder.elementwise(apply("sqrt", total(len(squares))), *squares, name=name)


def ratio(builder: Builder, over: Value, under: Value, name: str) -> Value:
    """sqrt(over / under), and 0 where one of them is 0: then one of two factors is zero, and so is their product."""
    positive = apply(">", Argument(1), Number(0))
    quotient = apply("/", Argument(0), apply("where", positive, Argument(1), Number(1)))
    return builder.elementwise(apply("where", positive, apply("sqrt", quotient), Number(0)), over, under, name=name)


def inverse(builder: Builder, scale: Value, name: str) -> Value:
    """1 / scale, and 0 where that is 0."""
    positive = apply(">", Argument(0), Number(0))
    quotient = apply("/", Number(1), apply("where", positive, Argument(0), Number(1)))
    return builder.elementwise(apply("where", positive, quotient, Number(0)), scale, name=name)
