"""Fused scans: what is computed entry by entry before and after a scan, for all of its steps, is computed in its steps.

What a step has just made or read is still in the cache then, and what only that step reads is not kept for all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.inlining import VIEWS, bodies
from forwardgrad.array_program.instructions import Elementwise, Instruction, Read, Slice
from forwardgrad.array_program.regions import ArrayProgram, Body, Scan, Statement, with_values
from forwardgrad.array_program.values import Type, Value


def fused(program: ArrayProgram) -> ArrayProgram:
    """A program whose scans take in what is beside them."""
    return replace(program, functions=tuple(replace(each, body=_fused(each.body)) for each in program.functions))


def _fused(body: Body) -> Body:
    for values in [each.results for each in body.statements if isinstance(each.instruction, Scan)]:
        fusion = _Fusion(body, values)
        fusion.take_earlier()
        fusion.take_later()
        body = fusion.body()
    return body


class _Fusion:
    """A body around one of its scans.

    Args:
        body: the body.
        values: the results of the scan.
    """

    def __init__(self, body: Body, values: tuple[Value, ...]) -> None:
        (place,) = (place for place, each in enumerate(body.statements) if each.results == values)
        scan = body.statements[place].instruction
        assert isinstance(scan, Scan)
        self.scan, self.given, self.now = scan, body.results, affine(scan.index)
        self.before, self.after = list(body.statements[:place]), list(body.statements[place + 1 :])
        self.inside = list(scan.body.statements)
        self.results = list(zip(values, scan.body.results, scan.before, strict=True))
        self._taken = {value.name for part in bodies(body) for each in part.statements for value in each.results}
        self._reads = Counter([*_read(body.statements), *body.results])
        self._at_step: defaultdict[Value, list[Value]] = defaultdict(list)
        """For a series: the values that are its entry at the present step."""
        for each in self.inside:
            self._note(each)
        self._renamed: dict[Value, Value] = {}

    def _note(self, statement: Statement) -> None:
        instruction = statement.instruction
        if isinstance(instruction, Read) and instruction == Read(instruction.series, self.now):
            self._at_step[instruction.series] += statement.results

    def body(self) -> Body:
        """The body, without results of the scan that only its present step reads."""
        inside = _late(with_values(tuple(self.inside), self._renamed))
        read = {*_read(self.after), *_read(inside), *self.given}
        kept = [each for each in self.results if each[0] in read] or self.results[:1]
        values = tuple(self._renamed.get(value, value) for _, value, _ in kept)
        scan = replace(self.scan, before=tuple(before for _, _, before in kept), body=Body(inside, values))
        whole = Statement(tuple(series for series, _, _ in kept), scan)
        return Body((*self.before, whole, *self.after), self.given)

    # Before the scan.

    def take_earlier(self) -> None:
        """Compute in its step what nothing else reads, and what nothing reads until the scan ends, after it."""
        late: list[Statement] = []
        for statement in reversed(self.before.copy()):
            if not self._is_over_steps(statement):
                continue
            (series,) = statement.results
            entries = self._at_step.pop(series, [])
            if entries and len(entries) == self._reads[series]:
                self.before.remove(statement)
                value = self._new(series)
                self._renamed.update(dict.fromkeys(entries, value))
                self.inside = [each for each in self.inside if each.results[0] not in entries]
                self.inside[:0] = self._in_step(statement, value, {})
            elif entries:
                self._at_step[series] = entries
        earlier = Counter([*_read(self.before), *_read(self.inside), *self.scan.operands])
        for statement in reversed(self.before.copy()):
            if self._is_over_steps(statement) and not earlier[statement.results[0]]:
                self.before.remove(statement)
                late.append(statement)
                earlier.subtract(statement.instruction.operands)
        self.after[:0] = late[::-1]

    def _is_over_steps(self, statement: Statement) -> bool:
        instruction = statement.instruction
        return isinstance(instruction, Elementwise) and instruction.dims[:1] == (self.scan.length,)

    # After the scan.

    def take_later(self) -> None:
        """Compute in its step what needs nothing but what is there before the scan, and what its steps make or read."""
        now = {series: inner for series, inner, before in self.results if before is None}
        made = {value for each in self.after for value in each.results} | {series for series, _, _ in self.results}
        present, left = dict(self._present()), -1
        while left != (left := len(self.after)):
            for statement in self.after.copy():
                self._take(statement, now, made, present)

    def _take(
        self, statement: Statement, now: dict[Value, Value], made: set[Value], present: Mapping[Instruction, Value]
    ) -> None:
        """Compute a statement in its step, or before the scan, if that is possible.

        Args:
            statement: the statement.
            now: for series, their entry at the present step.
            made: what is there only after the scan.
            present: instructions that give the entry of the step, each with that.
        """
        instruction = statement.instruction
        (series, *_) = statement.results
        if instruction in present:
            now[series] = present[instruction]
        elif isinstance(instruction, VIEWS) and made.isdisjoint(instruction.operands):
            self.after.remove(statement)
            self.before.append(statement)
            made.difference_update(statement.results)
        elif self._is_over_steps(statement) and self._is_linked(instruction.operands, now):
            if made.isdisjoint(value for value in instruction.operands if value not in now):
                self.after.remove(statement)
                now[series] = value = self._new(series)
                self.inside += self._in_step(statement, value, now)
                self.results.append((series, value, None))

    def _is_linked(self, operands: Iterable[Value], now: dict[Value, Value]) -> bool:
        return any(value in now or value in self._at_step for value in operands)

    def _present(self) -> Iterator[tuple[Instruction, Value]]:
        """The ranges of results whose entry at the index of a step is what that step makes, each with that."""
        for series, inner, before in self.results:
            ahead = affine(0) if before is None or self.scan.backward else before.dims[0]
            yield Slice(series, 0, ahead, self.scan.length), inner

    # Both.

    def _in_step(self, statement: Statement, value: Value, now: dict[Value, Value]) -> list[Statement]:
        """The statements that make an entry of what a statement makes."""
        instruction = statement.instruction
        assert isinstance(instruction, Elementwise)
        found, arguments = list[Statement](), list[Value]()
        for argument in instruction.arguments:
            if argument in now:
                argument = now[argument]
            elif len(argument.dims) == len(instruction.dims):
                entry = self._new(argument)
                found.append(Statement((entry,), Read(argument, self.now)))
                self._note(found[-1])
                argument = entry
            arguments.append(argument)
        made = Elementwise(instruction.tree, tuple(arguments), instruction.dims[1:])
        return [*found, Statement((value,), made)]

    def _new(self, series: Value) -> Value:
        """A value for the entry of a series at a step."""
        name = f"{series.name}_now"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return Value(name, Type(series.type.dtype, series.dims[1:]))


def _late(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """Statements in an order in which arithmetic comes right before the first other statement that needs it."""
    order: dict[int, tuple[int, int]] = {}
    needed: dict[Value, tuple[int, int]] = {}
    for place, statement in reversed(list(enumerate(statements))):
        readers = [needed[value] for value in statement.results if value in needed]
        late = isinstance(statement.instruction, Elementwise) and readers
        order[place] = (min(readers)[0], place - len(statements)) if late else (place, 0)
        for value in _read([statement]):
            needed[value] = min(order[place], needed.get(value, order[place]))
    return tuple(statements[place] for place in sorted(order, key=order.__getitem__))


def _read(statements: Iterable[Statement]) -> Iterator[Value]:
    """What statements read, as often as they do, and what comes out of the bodies inside them."""
    for part in bodies(Body(tuple(statements), ())):
        yield from part.results
        for each in part.statements:
            yield from each.instruction.operands
