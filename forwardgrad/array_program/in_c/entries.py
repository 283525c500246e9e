"""Entries in C: one entry of a value, read from memory or written as the expression that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import ADDED, ATOM, MULTIPLIED, Argument, Spelled
from forwardgrad.array_program.in_c.expressions import CHOSEN, Dialect, form
from forwardgrad.array_program.in_c.loops import Index, Nest, Storage
from forwardgrad.array_program.in_c.storage import Stores
from forwardgrad.array_program.instructions import (
    Broadcast,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Slice,
    letters_of,
)
from forwardgrad.array_program.values import Value


@dataclass
class Entries:
    """Reads entries of the values of a function.

    Args:
        stores: where values are kept.
        dialect: how numbers are spelled.

    Attributes:
        lengths: the number of steps of each scan around, by its index.
    """

    stores: Stores
    dialect: Dialect
    lengths: dict[str, Affine] = field(default_factory=dict[str, Affine])

    def of(self, value: Value, indices: Sequence[Index], nest: Nest, computed: Mapping[Value, str]) -> Spelled:
        """An entry of a value.

        Args:
            value: the value.
            indices: of the entry, one for each axis.
            nest: the loops in which it is read.
            computed: the values whose entry of the present turn has a name.
        """
        if value in computed:
            return Spelled(computed[value])
        storage = self.stores.known(value)
        if storage is not None:
            return Spelled(nest.entry(storage, indices))
        return self.made(self.stores.made[value], indices, nest, computed)

    def made(
        self, instruction: Instruction, indices: Sequence[Index], nest: Nest, computed: Mapping[Value, str]
    ) -> Spelled:
        """An entry of what an instruction makes."""

        def of(value: Value, at: Sequence[Index]) -> Spelled:
            return self.of(value, at, nest, computed)

        match instruction:
            case Elementwise(tree=tree, arguments=arguments):
                texts = [of(value, indices[len(indices) - len(value.dims) :]) for value in arguments]
                return self.dialect.spelled(tree, texts)
            case Contract(left=left, right=right, axes=axes):
                ours, theirs, result = letters_of(axes)
                at = dict(zip(result, indices, strict=True))
                pair = (of(value, [at[each] for each in word]) for value, word in ((left, ours), (right, theirs)))
                one, other = pair
                return Spelled(f"{one.within(MULTIPLIED)} * {other.within(MULTIPLIED + 1)}", MULTIPLIED)
            case Read(series=series, at=at, or_zero=or_zero):
                found = of(series, (Index(start=at), *indices))
                return self._if(self._inside(form(at), series.dims[0]), found) if or_zero else found
            case Slice():
                return self._slice(instruction, indices, nest, computed)
            case Broadcast(operand=operand, axes=axes):
                return of(operand, [indices[axis] for axis in axes])
            case Gather(operand=operand, axis=axis, tables=tables):
                rank = len(tables[0].dims)
                at = indices[axis : axis + rank]
                found = [Index(looked_up=of(table, at).text) for table in tables]
                return of(operand, (*indices[:axis], *found, *indices[axis + rank :]))
            case Flush(operand=operand, every=every, ones=ones):
                least = self.dialect.least(ones)
                if every > 1 and self.lengths:
                    least = f"{list(self.lengths)[-1]} % {every} == {every - 1} ? {least} : 0"
                return Spelled(f"flushed({of(operand, indices).text}, {least})")
            case _:
                raise AssertionError(f"no entries of {type(instruction).__name__}")

    def placed(self, value: Value, indices: Sequence[Index]) -> tuple[Storage, tuple[Index, ...]] | None:
        """Where an entry of a value is in memory; none if it is not there as it is, evenly apart along each axis.

        It is not there at all, but zero, where a test says so: that of `present`.
        """
        storage = self.stores.known(value)
        if storage is not None:
            return storage, (*(Index(start=each) for each in storage.lead), *indices)
        match self.stores.made[value]:
            case Elementwise(tree=Argument(), arguments=(operand,)):
                return self.placed(operand, indices[len(indices) - len(operand.dims) :])
            case Read(series=series, at=at):
                return self.placed(series, (Index(start=at), *indices))
            case Slice(operand=operand, axis=axis, start=start, backward=False, or_zero=False):
                return self.placed(operand, (*indices[:axis], indices[axis].shifted(start), *indices[axis + 1 :]))
            case Broadcast(operand=operand, axes=axes):
                return self.placed(operand, [indices[axis] for axis in axes])
            case _:
                return None

    def present(self, value: Value) -> str:
        """The test whether a value that is read from a series is there, or is zero; empty if it is always there."""
        if self.stores.known(value) is not None:
            return ""
        match self.stores.made[value]:
            case Read(series=series, at=at, or_zero=or_zero):
                own = [self._inside(form(at), series.dims[0])] if or_zero else []
                return " && ".join(test for test in (*own, self.present(series)) if test)
            case (
                Elementwise(tree=Argument(), arguments=(operand,)) | Slice(operand=operand) | Broadcast(operand=operand)
            ):
                return self.present(operand)
            case _:
                return ""

    def _slice(self, cut: Slice, indices: Sequence[Index], nest: Nest, computed: Mapping[Value, str]) -> Spelled:
        index = indices[cut.axis]
        last = cut.start + cut.size - 1
        there = index.mirrored(last) if cut.backward else index.shifted(cut.start)
        found = self.of(cut.operand, (*indices[: cut.axis], there, *indices[cut.axis + 1 :]), nest, computed)
        if not cut.or_zero:
            return found
        return self._if(self._inside(nest.pin(there), cut.operand.dims[cut.axis]), found)

    def _inside(self, index: Spelled, length: Affine) -> str:
        """The test whether an index lies on an axis."""
        if length == affine(1):
            return f"{index.within(ADDED)} == 0"
        return f"{index.within(ADDED)} >= 0 && {index.within(ADDED)} < {form(length).within(ADDED)}"

    def _if(self, test: str, found: Spelled) -> Spelled:
        return Spelled(f"{test} ? {found.within(ATOM)} : 0", CHOSEN)
