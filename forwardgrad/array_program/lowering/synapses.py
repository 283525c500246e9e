"""Synapses: how a parameter's influence is injected, carried, widened and contracted, by letters of its axes.

Every entry of a parameter belongs to one unit of the node it enters, its row, and reads one unit of the source, its
column. A kind of weight says by which axes its entries, their rows and their columns are known, and how an array over
units becomes one over rows or columns. The rest follows. An influence of layout `full` has an axis u more than the
entries, for the units of the node that it is on; one of layout `scalar` has the axes of the columns only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.instructions import Broadcast, Contract, Gather, Reduce, ScatterAdd
from forwardgrad.array_program.lowering.adjoints import times
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.weights import Weight, kernel_tables, scaled, tables
from forwardgrad.array_program.values import Value
from forwardgrad.graph import Parameter
from forwardgrad.structure import Structure, compose

JACOBIAN: Mapping[Structure, str] = {Structure.SCALAR: "", Structure.DIAGONAL: "u", Structure.FULL: "vu"}
"""The axes of a Jacobian behind the batch: units u it is taken by, units v of the target."""


@dataclass(frozen=True)
class Axes:
    """The letters by which a kind of weight knows its entries, their rows, and their columns."""

    entries: str
    row: str
    column: str


KINDS: Mapping[str, Axes] = {
    "dense": Axes("ij", "i", "j"),
    "sparse": Axes("n", "n", "n"),
    "diagonal": Axes("i", "i", "i"),
    "bias": Axes("i", "i", ""),
}

KERNEL = "kmnpqr"
"""Letters for the axes of a kernel."""


class Synapses:
    """The influence of a parameter with a row for each entry.

    Args:
        context: of the lowering.
        parameter: whose influence.
        apart: whether synapses are kept apart in full influence that share an entry of the parameter.
    """

    def __init__(self, context: Context, parameter: Parameter, apart: bool) -> None:
        self.context, self.axes = context, KINDS[parameter.kind]
        self.shape = tuple(map(affine, parameter.synapses))
        self.kernel = tuple(map(affine, parameter.shape))
        self.tables, self.shared = None, tuple[Value, ...]()
        self.units = parameter.shape[0]
        if parameter.pattern is not None:
            edge = context.network.edges[parameter.edges[0]]
            self.tables, self.shared = tables(context, edge), kernel_tables(context, edge)
            self.units = parameter.pattern.shape[0]
        self.by_entry = bool(self.shared) and not apart
        self.in_full = KERNEL[: len(self.kernel)] if self.by_entry else self.axes.entries
        self.kept = kept_axis(context)

    def collapse(self, builder: Builder, synapses: Value, axis: int = 0) -> Value:
        """Numbers of synapses, `[nnz]` from this axis on, added up by the entries of a kernel that they share."""
        return builder.add(ScatterAdd(synapses, axis, self.shared, self.kernel)) if self.shared else synapses

    def windows(self, builder: Builder, synapses: Value) -> Value:
        """Numbers of synapses `[... nnz]` as `[... units *kernel]`: a unit has one synapse for each entry, or none."""
        assert self.tables is not None
        tables, axis = (self.tables[0], *self.shared), len(synapses.dims) - 1
        return builder.add(ScatterAdd(synapses, axis, tables, (affine(self.units), *self.kernel)))

    def by_row(self, builder: Builder, g: Value) -> Value:
        """An array `[... units]` as `[... rows]`."""
        return g if self.tables is None else builder.add(Gather(g, len(g.dims) - 1, self.tables[:1]))

    def by_column(self, builder: Builder, x: Value) -> Value:
        """An array `[... units of the source]` as `[... columns]`."""
        return x if self.tables is None else builder.add(Gather(x, len(x.dims) - 1, self.tables[1:]))

    def gradient(self, builder: Builder, b: Value, x: Value | None) -> Value:
        """Adjoint `[steps batch units]` times what is multiplied, summed over time and, unless kept, the batch."""
        b = self.by_row(builder, b)
        if x is None:
            return builder.add(Reduce(b, (0,) if self.kept else (0, 1)))
        x = self.by_column(builder, x)
        made = Contract(b, x, f"tb{self.axes.row},tb{self.axes.column}->{self.kept}{self.axes.entries}")
        return self.collapse(builder, builder.add(made), len(self.kept))

    def inject(self, builder: Builder, word: Structure, j: Value, x: Value | None) -> Value:
        """The sum over time of a Jacobian times what the parameter multiplies, in the layout of the Jacobian's word."""
        if word is Structure.FULL and self.by_entry:
            assert x is not None
            x = self.windows(builder, self.by_column(builder, x))
            return builder.add(Contract(j, x, f"tbvu,tbu{self.in_full}->bv{self.in_full}"))
        j = j if word is Structure.SCALAR else self.by_row(builder, j)
        if x is None:
            return builder.add(Reduce(j, (0,)))
        if word is Structure.SCALAR:
            return builder.add(Contract(j, x, "tb,tbj->bj"))
        x, seeds = self.by_column(builder, x), "v" if word is Structure.FULL else ""
        axes = f"tb{seeds}{self.axes.row},tb{self.axes.column}->b{seeds}{self.axes.entries}"
        return builder.add(Contract(j, x, axes))

    def enter(self, builder: Builder, own: Value, x: Value | None) -> Value:
        """The influence that enters, one number for each entry, given what each row has of a Jacobian.

        Args:
            builder: of the body in which it is needed.
            own: these, `[units]`, `[batch units]`, or `[steps batch units]`, over which it is summed.
            x: what the parameter multiplies, with steps where these have them; `None` for a bias.
        """
        if len(own.dims) == 3:
            return self.inject(builder, Structure.DIAGONAL, own, x)
        own, lead = self.by_row(builder, own), "b" * (len(own.dims) - 1)
        if x is None:
            return copied(builder, own if lead else builder.add(Broadcast(own, (affine("batch"), *own.dims), (1,))))
        x = self.by_column(builder, x)
        return times(builder, own, f"{lead}{self.axes.row}", x, f"b{self.axes.column}", f"b{self.axes.entries}")

    def scale(self, builder: Builder, own: Weight, word: Structure, s: Value) -> Value:
        """What each row has of a Jacobian, times an influence of layout `scalar` or `diagonal`: one of `diagonal`."""
        s, letters = self.widen(builder, s, word, Structure.DIAGONAL), f"b{self.axes.entries}"
        if not isinstance(own, Value) or not own.dims:
            return copied(builder, s) if own in (None, Number(1.0)) else scaled(builder, own, s)
        lead = "b" * (len(own.dims) - 1)
        return times(builder, self.by_row(builder, own), f"{lead}{self.axes.row}", s, letters, letters)

    def widen(self, builder: Builder, s: Value, word: Structure, to: Structure) -> Value:
        """The same influence in a wider layout."""
        if word is Structure.SCALAR and to > word:
            s = self.by_column(builder, s)
            new = len(self.axes.entries) - len(self.axes.column)
            kept = (0, *range(1 + new, 1 + len(self.shape)))
            s = builder.add(Broadcast(s, (s.dims[0], *self.shape), kept)) if new else s
            word = Structure.DIAGONAL
        if word is Structure.DIAGONAL and to > word:
            if self.by_entry:
                return self.windows(builder, s)
            rows = self._entry_rows()
            entry = self.context.constant(f"units_{s.dims[1]}", np.arange(s.dims[1].constant), "int")
            s = builder.add(ScatterAdd(s, 1, (rows, entry), (affine(self.units), s.dims[1]), unique=True))
        return s

    def _entry_rows(self) -> Value:
        """The row of each entry along its first axis."""
        if self.tables is not None:
            return self.tables[0]
        return self.context.constant(f"units_{self.units}", np.arange(self.units), "int")

    def carry(
        self, builder: Builder, j_word: Structure, j: Value, word: Structure, s: Value, sparse: bool = False
    ) -> Value:
        """A Jacobian times an influence of layout `word`; the result has the layout `compose(j_word, word)`."""
        entries = self.axes.entries
        if word is not Structure.FULL and j_word is Structure.FULL and self.by_entry:
            s, word = self.widen(builder, s, word, Structure.FULL), Structure.FULL
        if word is Structure.FULL:
            return carried_full(builder, j_word, j, s, self.in_full, sparse)
        if compose(j_word, word) is Structure.SCALAR:
            return times(builder, j, "b", s, f"b{self.axes.column}", f"b{self.axes.column}")
        s = self.widen(builder, s, word, Structure.DIAGONAL)
        if j_word is Structure.SCALAR:
            return times(builder, j, "b", s, f"b{entries}", f"b{entries}")
        seeds = "v" if j_word is Structure.FULL else ""
        j = self.by_row(builder, j)
        return times(builder, j, f"b{seeds}{self.axes.row}", s, f"b{entries}", f"b{seeds}{entries}")

    def contract(self, builder: Builder, adjoint: Value, word: Structure, s: Value) -> Value:
        """Adjoint `[batch units]` times influence, summed over the batch if it is not kept: a gradient."""
        if word is Structure.FULL:
            made = builder.add(Contract(adjoint, s, f"bu,bu{self.in_full}->{self.kept}{self.in_full}"))
            return made if self.by_entry else self.collapse(builder, made, len(self.kept))
        adjoint, letters = self.by_row(builder, adjoint), self.axes.entries
        if word is Structure.SCALAR:
            s, letters = self.by_column(builder, s), self.axes.column
        made = Contract(adjoint, s, f"b{self.axes.row},b{letters}->{self.kept}{self.axes.entries}")
        return self.collapse(builder, builder.add(made), len(self.kept))


class Single:
    """The influence of a scalar weight: one number for each unit of the node it is on, in every layout.

    Args:
        context: of the lowering.
    """

    def __init__(self, context: Context) -> None:
        self.kept = kept_axis(context)

    def gradient(self, builder: Builder, b: Value, x: Value | None) -> Value:
        """The sum over time, batch and units of adjoint times what the parameter multiplies."""
        assert x is not None
        return builder.add(Contract(b, x, f"tbi,tbi->{self.kept}"))

    def inject(self, builder: Builder, word: Structure, j: Value, x: Value | None) -> Value:
        """The sum over time of a Jacobian times what the parameter multiplies."""
        assert x is not None
        letters = {Structure.SCALAR: ("", "u"), Structure.DIAGONAL: ("u", "u"), Structure.FULL: ("vu", "v")}[word]
        return builder.add(Contract(j, x, f"tb{letters[0]},tbu->b{letters[1]}"))

    def widen(self, builder: Builder, s: Value, word: Structure, to: Structure) -> Value:
        """The same influence: it is stored alike in every layout."""
        return s

    def carry(
        self, builder: Builder, j_word: Structure, j: Value, word: Structure, s: Value, sparse: bool = False
    ) -> Value:
        """A Jacobian times an influence."""
        return carried_full(builder, j_word, j, s, "", sparse)

    def contract(self, builder: Builder, adjoint: Value, word: Structure, s: Value) -> Value:
        """The sum over batch and units of adjoint times influence: a gradient."""
        return builder.add(Contract(adjoint, s, f"bu,bu->{self.kept}"))


def kept_axis(context: Context) -> str:
    """The letter of the batch in gradients, where these keep it."""
    return "b" if context.plan.per_sample else ""


def copied(builder: Builder, value: Value) -> Value:
    """A value as an array of its own: what comes out of a program is no part of what went in."""
    return builder.elementwise(apply("*", Number(1), Argument(0)), value)


def carried_full(builder: Builder, j_word: Structure, j: Value, s: Value, entries: str, sparse: bool = False) -> Value:
    """A Jacobian times an array `[batch units ...]`, these letters standing for its other axes."""
    out = "v" if j_word is Structure.FULL else "u"
    return times(builder, j, f"b{JACOBIAN[j_word]}", s, f"bu{entries}", f"b{out}{entries}", sparse)


def synapses(context: Context, name: str) -> Synapses | Single:
    """How the influence of a parameter is handled."""
    parameter = context.network.parameters[name]
    if parameter.kind == "scalar":
        return Single(context)
    return Synapses(context, parameter, context.plan.rules[name].by_synapse)
