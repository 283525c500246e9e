"""Storage in C: which values of a function are kept in memory, and where. Others are computed where they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from forwardgrad.array_program.buffers import Analysed
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Apply
from forwardgrad.array_program.in_c.expressions import product
from forwardgrad.array_program.in_c.loops import Storage
from forwardgrad.array_program.in_c.names import identifier
from forwardgrad.array_program.inlining import VIEWS, bodies
from forwardgrad.array_program.instructions import Broadcast, Elementwise, Flush, Gather, Instruction, Signs
from forwardgrad.array_program.regions import Body, Invoke, Scan
from forwardgrad.array_program.values import Value

TYPES: Mapping[str, str] = {"float": "real", "int": "extent", "bool": "truth"}
"""How C calls the dtypes of values."""


def is_free(instruction: Instruction) -> bool:
    """Whether entries of what an instruction makes cost nothing where they are read: a view, a copy or a number."""
    if isinstance(instruction, Elementwise):
        return not isinstance(instruction.tree, Apply)
    return isinstance(instruction, (*VIEWS, Gather))


class Stores:
    """Where the values of a function are kept.

    Args:
        analysed: the function.
        given: where its inputs are, and the constants of the program.
        results: where what comes out of it goes.

    Attributes:
        made: the instruction that makes each value.
        readers: the statements that read a value, and the bodies out of which it comes, by their `id`.
        local: the arrays that the function needs besides: their names, the types and the number of their entries. One
            array is for several values in turn, if they have as many entries.
    """

    def __init__(self, analysed: Analysed, given: Mapping[Value, Storage], results: Mapping[Value, Storage]) -> None:
        self._known, self._added_to = {**given, **results}, analysed.added_to
        self.made: dict[Value, Instruction] = {}
        self.readers: defaultdict[Value, set[int]] = defaultdict(set)
        self.local: list[tuple[str, str, str]] = []
        self._whole: set[Value] = set()
        self._views: dict[int, Value] = {}
        self._kept: defaultdict[str, list[Value]] = defaultdict(list)
        self._in_use: dict[str, tuple[str, str]] = {}
        self._unused: list[tuple[str, str, str]] = []
        for body in bodies(analysed.function.body):
            for statement in body.statements:
                self.made.update(dict.fromkeys(statement.results, statement.instruction))
                self._views.update((id(statement), value) for value in statement.results[:1])
                for value in statement.instruction.operands:
                    self.readers[value].add(id(statement))
                if isinstance(statement.instruction, Invoke | Signs):
                    self._whole.update(statement.instruction.operands)
            for value in body.results:
                self.readers[value].add(id(body))
        self._flushed: dict[Value, Value] = self._in_place()

    def _in_place(self) -> dict[Value, Value]:
        """Values that nothing reads but what flushes them, each with the result: it is the same array."""
        found: dict[Value, Value] = {}
        for result, flush in self.made.items():
            if not isinstance(flush, Flush) or result not in self._known:
                continue
            value, several = flush.operand, len(self.readers[flush.operand]) > 1
            wide = self.made.get(value)
            if isinstance(wide, Broadcast) and wide.dims == (affine(1), *wide.operand.dims):
                value, several = wide.operand, several or len(self.readers[wide.operand]) > 1
            made = self.made.get(value)
            if not several and made is not None and not is_free(made) and value not in self._known:
                found[value] = result
        return found

    def known(self, value: Value) -> Storage | None:
        """Where a value is, if it is or will be kept in memory; none if it is computed where it is read."""
        return self.of(value) if self._is_kept(value) else None

    def _is_kept(self, value: Value) -> bool:
        return any(value in each for each in (self._known, self._added_to, self._whole, self._flushed))

    def of(self, value: Value) -> Storage:
        """Where a value is kept, which gets memory of its own if it has none."""
        if value not in self._known:
            if value in self._added_to:
                self.put(value, self.of(self._added_to[value]))
            elif value in self._flushed:
                target = self.of(self._flushed[value])
                self.put(value, target.at(affine(0)) if len(target.dims) > len(value.dims) else target)
            else:
                kind, entries = TYPES[value.type.dtype], product(value.dims).text
                name = self._taken(kind, entries) or self.room(kind, entries, value.name)
                self._in_use[name] = kind, entries
                self.put(value, Storage(name, value.dims))
        return self._known[value]

    def room(self, kind: str, entries: str, words: str) -> str:
        """The name of an array with that number of entries."""
        name = identifier("v", len(self.local), words)
        self.local.append((name, kind, entries))
        return name

    def _taken(self, kind: str, entries: str) -> str:
        """The name of an array of that many entries which nothing uses any more, if there is one."""
        for place, (name, *what) in enumerate(self._unused):
            if what == [kind, entries]:
                del self._unused[place]
                return name
        return ""

    def release(self, done: Collection[int]) -> None:
        """Have arrays used again whose values nothing reads any more.

        Args:
            done: the statements and bodies that have been run, by their `id`.
        """
        for name in list(self._in_use):
            if not any(self._is_read(value, done) for value in self._kept[name]):
                self._unused.append((name, *self._in_use.pop(name)))
                del self._kept[name]

    def _is_read(self, value: Value, done: Collection[int]) -> bool:
        """Whether a value, or a view of it, is yet to be read."""
        for reader in self.readers[value]:
            if reader in done:
                continue
            view = self._views.get(reader)
            if view is None or not self.is_view(view) or self._is_read(view, done):
                return True
        return False

    def is_view(self, value: Value) -> bool:
        """Whether a value is never made, but read out of others."""
        return value in self.made and is_free(self.made[value]) and not self._is_kept(value)

    def put(self, value: Value, storage: Storage) -> None:
        """Keep a value there."""
        self._known[value] = storage
        self._kept[storage.name].append(value)

    def place(self, body: Body, targets: Sequence[Storage]) -> None:
        """Have what comes out of a body made where it belongs, as far as the body makes it."""
        made = {value for statement in body.statements for value in statement.results}
        for value, target in zip(body.results, targets, strict=True):
            if value in made and value not in self._known and value not in self._added_to:
                self.put(value, target)

    def slots(self, scan: Scan, series: Sequence[Value]) -> list[Storage]:
        """Where the results of a scan are at a step."""
        return [self.of(value).at(ahead(scan, place) + scan.index) for place, value in enumerate(series)]


def ahead(scan: Scan, place: int) -> Affine:
    """At which index a result of a scan has its first step."""
    before = scan.before[place]
    return affine(0) if before is None or scan.backward else before.dims[0]
