"""Where do the entries of an influence lie of which only some are kept? Tables that put them row by row, and back.

A parameter's entry belongs to a row: the unit it enters. Which units a row reaches is all that a pattern says, so the
kept entries of one row make a block `(units reached, entries of the row)`. A Jacobian carries blocks to blocks: for
each row a product of small matrices, and for a diagonal pattern a product of numbers. Blocks of unequal size are filled
up to the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forwardgrad.layouts.influence import Synapses
from forwardgrad.ops import Array


class Rows:
    """The entries of a parameter by rows. A dense weight has a matrix of them, any other one row after the other.

    Args:
        kind: how its influence is laid out.
    """

    def __init__(self, kind: Synapses) -> None:
        self.kind, self.units = kind, kind.units
        self.own = np.arange(kind.units)[:, None]
        self.dense = kind.kind == "dense"
        if self.dense:
            self.counts = np.full(kind.units, kind.source)
            return
        of_entries = np.arange(kind.units) if kind.rows is None else np.asarray(kind.rows)
        assert np.all(np.diff(of_entries) >= 0), "a synapse table goes through its rows one after the other"
        self.counts = np.bincount(of_entries, minlength=kind.units)
        first = np.cumsum(self.counts) - self.counts
        widest = max(1, int(self.counts.max(initial=0)))
        self.within = np.minimum(np.arange(widest), np.maximum(self.counts - 1, 0)[:, None])
        self.table = np.minimum(first[:, None] + self.within, max(0, len(of_entries) - 1))
        self.back = of_entries, np.arange(len(of_entries)) - first[of_entries]

    @property
    def columns(self) -> Array:
        """Which unit of the source each entry of a row reads, `(rows, entries of a row)`."""
        return self.table if self.kind.columns is None else np.asarray(self.kind.columns)[self.table]

    def read(self, x: Array) -> Array:
        """What each entry multiplies, `(..., rows, entries of a row)`, for `x` of shape `(..., source)`."""
        if self.dense:
            return x[..., None, :]
        return x[..., None, None] if self.kind.kind == "bias" else x[..., self.columns]

    def entries(self, by_rows: Array) -> Array:
        """`(rows, entries of a row)` as the parameter is shaped."""
        return by_rows if self.dense else by_rows[self.back]


@dataclass(frozen=True)
class Block:
    """The kept entries of the influence on a place, row by row.

    Args:
        rows: the entries of the parameter by rows.
        units: which unit each line of a block is, `(rows, lines)`.
        lines: which of these lines there are, the others fill up.
        table: where the entries of each block are stored: `(rows, lines)`, of all columns at once where the weight is
            dense; else `(rows, lines, entries of a row)`.
        back: where each stored entry is among the blocks; for a dense weight all columns at once.
    """

    rows: Rows
    units: Array
    lines: Array
    table: Array
    back: Array

    @cached_property
    def filled_up(self) -> bool:
        """Whether some lines fill up."""
        return not self.lines.all()

    @cached_property
    def in_order(self) -> bool:
        """Whether entries are stored as they lie in blocks."""
        return self.table.size == self.back.size and np.array_equal(self.table.ravel(), np.arange(self.back.size))

    @cached_property
    def own(self) -> bool:
        """Whether each row reaches its own unit and no other."""
        return self.units.shape[1] == 1 and not self.filled_up and np.array_equal(self.units[:, 0], self.rows.own[:, 0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is stored, for one sample: of a dense weight the reached units, row by row, by columns."""
        return (len(self.back), self.rows.kind.source) if self.rows.dense else (len(self.back),)

    def reached(self, units: int) -> Array:
        """The pattern, `(units of the place, rows)`."""
        pattern = np.zeros((units, self.rows.units), np.bool_)
        row, line = np.nonzero(self.lines)
        pattern[self.units[row, line], row] = True
        return pattern

    def gathered(self, stored: Array) -> Array:
        """What is stored, `(batch, ...)`, as blocks `(batch, rows, lines, entries of a row)`."""
        if self.in_order:
            return stored.reshape(len(stored), *self.table.shape[:2], -1)
        if self.rows.dense:
            return stored.reshape(len(stored), -1, self.rows.kind.source)[:, self.table]
        return stored.reshape(len(stored), -1)[:, self.table]

    def scattered(self, blocks: Array) -> Array:
        """Blocks as they are stored."""
        if self.in_order:
            return blocks.reshape(len(blocks), *self.shape)
        if self.rows.dense:
            return blocks.reshape(len(blocks), -1, self.rows.kind.source)[:, self.back]
        return blocks.reshape(len(blocks), -1)[:, self.back]


def block_of(rows: Rows, reached: Array) -> Block:
    """The blocks of a pattern.

    Args:
        rows: the entries of the parameter by rows.
        reached: which units each row reaches, `(units of the place, rows)`. Entries are stored in the order of units,
            and then of the parameter.
    """
    unit, row = np.nonzero(reached)
    by_row = np.argsort(row, kind="stable")
    reaches = np.bincount(row, minlength=rows.units)
    most = max(1, int(reaches.max(initial=0)))
    line = np.empty_like(row)
    line[by_row] = np.arange(len(row)) - np.repeat(np.cumsum(reaches) - reaches, reaches)
    units, pairs = np.zeros((2, rows.units, most), np.intp)
    units[row, line], pairs[row, line] = unit, np.arange(len(row))
    lines = np.zeros((rows.units, most), np.bool_)
    lines[row, line] = True
    if rows.dense:
        return Block(rows, units, lines, pairs, row * most + line)
    counts = rows.counts[row]
    first = np.cumsum(counts) - counts
    total = int(counts.sum())
    starts = first[pairs] if len(first) else pairs
    table = np.minimum(starts[..., None] + rows.within[:, None], max(0, total - 1))
    back = np.repeat((row * most + line) * rows.within.shape[1] - first, counts) + np.arange(total)
    return Block(rows, units, lines, table, back)


def block_of_input(rows: Rows) -> Block:
    """Of an influence that is a number times what the parameter reads (the word `scalar`): stored without its rows."""
    if rows.dense or rows.kind.kind == "bias":
        table = np.zeros((rows.units, 1) if rows.dense else (rows.units, 1, 1), np.intp)
    else:
        table = rows.columns[:, None]
    return Block(rows, rows.own, np.ones_like(rows.own, np.bool_), table, np.arange(0))
