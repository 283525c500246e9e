"""Layouts of users: what a block leaves of an influence is compressed at its end, by a call of a function of theirs."""

from __future__ import annotations

from collections.abc import Sequence

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.instructions import Call
from forwardgrad.array_program.lowering.context import Context, LayoutCall
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.lossy.counters import counted
from forwardgrad.array_program.regions import Function
from forwardgrad.array_program.values import Type, Value
from forwardgrad.layouts.compressed import CompressedTraces
from forwardgrad.layouts.draws import COUNT, DRAW
from forwardgrad.layouts.traces import Part


class CompressedInfluence(Influence):
    """The influence of one parameter under a layout of a user's.

    Args:
        context: of the lowering.
        name: the parameter.
        traces: its layout, as the interpreter runs it.
    """

    def __init__(self, context: Context, name: str, traces: CompressedTraces) -> None:
        super().__init__(context, name)
        self.traces = traces

    @property
    def parts(self) -> Sequence[Part]:
        return list(self.traces.shapes())

    def shape_of(self, part: Part) -> tuple[int, ...]:
        return self.traces.shapes()[part]

    def _call(
        self, builder: Builder, what: str, place: int, lag: int, arguments: tuple[Value, ...], kind: Type
    ) -> Value:
        called = LayoutCall(self.traces, what, place, lag)
        return builder.add(Call(self.context.call(f"{what}_{self.name}", called), arguments, kind))

    def advanced_as(self, place: int) -> str:
        return f"The influence on {self.context.place(place)} after the block: J S + I, compressed."

    def expanded(self, builder: Builder, place: int, lag: int, *, after: bool = False) -> Value:
        stored = self.read(builder, place, lag, after=after)
        if self.traces.compression.expand is None:
            return stored
        return self._call(builder, "expand", place, 0, (stored,), Type("float", self.dims(place)))

    def compressed(self, builder: Builder, place: int, lag: int, influence: Value) -> Value:
        random = self.traces.compression.random  # each place and lag has a stream of its own
        counters = (self.stored(DRAW), self.stored(COUNT)) if random else ()
        kind = Type("float", (affine("batch"), *map(affine, self.traces.encoded_shape(place))))
        where = (place, lag) if random else (place, 0)
        return self._call(builder, "compress", *where, (influence, *counters), kind)

    def own(self) -> Function | None:
        """The function that counts the blocks in which it draws."""
        if not self.places or not self.traces.compression.random:
            return None
        builder = Builder()
        results = counted(builder, self)
        name = self.context.names.of(f"count_{self.name}", "count", self.name)
        return self.context.function(name, f"The blocks in which {self.name} was compressed.", builder, results)
