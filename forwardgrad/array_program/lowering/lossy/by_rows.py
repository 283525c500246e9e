"""Influence row by row: the axes in which a Jacobian carries the kept entries of one place to those of another.

Letters are r (row of the parameter), p and q (units that a row reaches, on the target and on the source of a Jacobian)
and j (entry of a row). Blocks of unequal size are filled up to the largest; `layouts/patterns.py` has the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, apply
from forwardgrad.array_program.instructions import Broadcast, Contract, Gather, Reduce
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.lossy.sampled import Maker, Sampled
from forwardgrad.array_program.lowering.synapses import kept_axis
from forwardgrad.array_program.values import Value
from forwardgrad.layouts.patterns import Block, Rows
from forwardgrad.ops import Array
from forwardgrad.structure import Structure


@dataclass(frozen=True)
class ByRows:
    """An array with letters for its axes behind the batch, and which unit each row reads in it.

    Args:
        value: the array.
        letters: of its axes.
        units: the units that stand along r and q: `(rows,)`, or with q `(rows, units reached)`.
        there: which of them there are, where some fill up.
    """

    value: Value
    letters: str
    units: Array
    there: Array | None = None


class RowLayout:
    """Lays out the influence of one parameter by rows.

    Args:
        context: of the lowering.
        name: the parameter.
        rows: its entries by rows.
    """

    def __init__(self, context: Context, name: str, rows: Rows) -> None:
        self.context, self.name, self.rows = context, name, rows
        self.own = rows.own[:, 0]
        self.single = rows.kind.kind in ("bias", "diagonal")
        self.width = "" if self.single else "j"
        self.batch = kept_axis(context)

    def table(self, word: str, indices: Array) -> Value:
        """A table of indices."""
        return self.context.constant(f"{word}_{self.name}", indices, "int")

    def read(self, builder: Builder, x: Value | None) -> tuple[Value | None, str]:
        """What each entry of a row multiplies, from values of the source, with its letters."""
        if x is None or self.rows.dense:
            return x, self.width
        if self.single:
            return x, "r"
        return builder.add(Gather(x, len(x.dims) - 1, (self.table("columns_by_row", self.rows.columns),))), "rj"

    def stored(self, builder: Builder, word: Structure, stored: Value, units: int) -> ByRows:
        """An influence of which all is kept, of this layout and on that many units, by rows."""
        if word is Structure.SCALAR:
            bias = self.rows.kind.kind == "bias"
            value, letters = (stored, "") if bias else self.read(builder, stored)
            assert value is not None
            return ByRows(value, letters, self.own)
        axis = 2 if word is Structure.FULL else 1
        if not self.rows.dense and not self.single:
            stored = builder.add(Gather(stored, axis, (self.table("entries_by_row", self.rows.table),)))
        if word is Structure.FULL:
            every = np.broadcast_to(np.arange(units), (self.rows.units, units))
            return ByRows(stored, f"qr{self.width}", every)
        return ByRows(stored, f"r{self.width}", self.own)

    def kept(self, builder: Builder, block: Block, stored: Value) -> ByRows:
        """An influence of which some is kept, by rows."""
        if block.own:
            return self.stored(builder, Structure.DIAGONAL, stored, self.rows.units)
        table = block.table if self.rows.dense or not self.single else block.table[..., 0]
        value = builder.add(Gather(stored, 1, (self.table("blocks", table),)))
        return ByRows(value, f"rq{self.width}", block.units, block.lines if block.filled_up else None)

    def put(self, builder: Builder, block: Block, by_rows: Value) -> Value:
        """Blocks as they are stored."""
        if block.own and (self.rows.dense or self.single):
            return by_rows
        places = np.unravel_index(block.back, block.table.shape)
        if block.own:
            places = places[0], places[2]
        elif self.single:
            places = places[:2]
        tables = tuple(
            self.table(f"kept_{word}", each) for word, each in zip(("rows", "lines", "entries"), places, strict=False)
        )
        return builder.add(Gather(by_rows, 1, tables))

    def entries(self, builder: Builder, by_rows: Value) -> Value:
        """`[rows entries]`, behind the batch if gradients keep it, as the parameter is shaped."""
        if self.rows.dense or self.single:
            return by_rows
        tables = tuple(
            self.table(word, each) for word, each in zip(("kept_rows", "kept_entries"), self.rows.back, strict=True)
        )
        return builder.add(Gather(by_rows, len(self.batch), tables))

    def carried(self, builder: Builder, j: Sampled, target: Block, source: ByRows) -> Value:
        """A Jacobian times what is stored on a place, in the blocks of another."""
        reads = "q" in source.letters
        units = self.own if target.own else target.units
        ours, theirs = np.broadcast_arrays(*_lined_up(units, source.units, reads))
        make = Maker(self.context, builder)
        entries = make.named(j.at(make, ours, theirs), "carrying")
        if source.there is not None:
            there = np.broadcast_to(_lined_up(units, source.there, reads)[1], ours.shape)
            mask = self.context.constant(f"there_{self.name}", there)
            entries = builder.elementwise(apply("*", Argument(0), Argument(1)), entries, mask)
        letters = f"r{'' if target.own else 'p'}"
        axes = f"{_lead(entries, ours.ndim)}{letters}{'q' if reads else ''},b{source.letters}->b{letters}{self.width}"
        by_rows = builder.add(Contract(entries, source.value, axes))
        return self.put(builder, target, make.named(by_rows, f"rows_{self.name}"))

    def injected(self, builder: Builder, j: Sampled, target: Block, x: Value | None) -> Value:
        """What is injected into the blocks of a place, at one step or summed over those that `j` and `x` have."""
        ours, theirs = np.broadcast_arrays(*_lined_up(target.units, self.own, reads=False))
        make = Maker(self.context, builder)
        entries = make.named(j.at(make, ours, theirs), "injecting")
        value, letters = self.read(builder, x)
        lead = _lead(entries, ours.ndim)
        if value is None:
            if lead == "tb":
                entries = builder.add(Reduce(entries, (0,)))
            elif not lead:
                dims = (affine("batch"), *entries.dims)
                entries = builder.add(Broadcast(entries, dims, tuple(range(1, len(dims)))))
            return self.put(builder, target, entries)
        before = "tb" if len(value.dims) - len(letters) == 2 else "b"
        axes = f"{lead}rp,{before}{letters}->brp{self.width}"
        by_rows = builder.add(Contract(entries, value, axes))
        return self.put(builder, target, make.named(by_rows, f"rows_{self.name}"))

    def contracted(self, builder: Builder, adjoint: Value, block: Block, stored: Value) -> Value:
        """The gradient through the kept entries of a place, given its adjoint `[batch units]`."""
        influence = self.kept(builder, block, stored)
        lines = builder.add(Gather(adjoint, 1, (self.table("reached", block.units),)))
        if influence.there is not None:
            there = self.context.constant(f"there_{self.name}", influence.there)
            lines = builder.elementwise(apply("*", Argument(0), Argument(1)), lines, there)
        axes = f"brq,b{influence.letters}->{self.batch}r{self.width}"
        return self.entries(builder, builder.add(Contract(lines, influence.value, axes)))


def _lined_up(ours: Array, theirs: Array, reads: bool) -> tuple[Array, Array]:
    """Indices of target and source with axes r, p (where the target has it), q (where the source is read by it)."""
    if reads:
        return ours[..., None], theirs if ours.ndim == 1 else theirs[:, None]
    return ours, theirs if ours.ndim == 1 else theirs[:, None]


def _lead(entries: Value, axes: int) -> str:
    """The letters of steps and batch, as far as entries have them."""
    return "tb"[2 - (len(entries.dims) - axes) :] if len(entries.dims) > axes else ""
