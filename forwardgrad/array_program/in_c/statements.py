"""Statements as C: the lines of a function's body, its arithmetic entry by entry in as few loops as there can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.in_c.entries import Entries
from forwardgrad.array_program.in_c.expressions import form
from forwardgrad.array_program.in_c.loops import Index, Nest, Storage, every, nested
from forwardgrad.array_program.in_c.parts import Parts, Sharing, is_small, split_axis
from forwardgrad.array_program.in_c.products import WHOLE, Cut, matrix_product
from forwardgrad.array_program.in_c.storage import TYPES, is_free
from forwardgrad.array_program.in_c.sums import sum_lines, summed
from forwardgrad.array_program.in_c.totals import Total
from forwardgrad.array_program.inlining import VIEWS, inner, outside
from forwardgrad.array_program.instructions import (
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Reduce,
    ScatterAdd,
    Signs,
    letters_of,
)
from forwardgrad.array_program.regions import Body, Function, Invoke, Scan, Statement, When
from forwardgrad.array_program.values import Dimensions, Value

MOST = 24
"""Statements whose entries are computed in one loop, or it would read more arrays than a processor follows."""

AHEAD = 200
"""Statements among which those are looked for that a loop can do besides."""


@dataclass
class Needs:
    """What a function needs of others.

    Args:
        functions: the functions before it, each with its name in C and the values that come out of it.
        signs: the draws of random signs in the program so far.

    Attributes:
        invoked: the functions that it invokes, with what symbols stand for there.
        packed: the entries of matrices that it packs.
    """

    functions: Mapping[str, tuple[str, Function, tuple[Value, ...]]]
    signs: list[Signs]
    invoked: list[tuple[str, tuple[tuple[str, Affine], ...]]] = field(
        default_factory=list[tuple[str, tuple[tuple[str, Affine], ...]]]
    )
    packed: list[str] = field(default_factory=list[str])


class Statements:
    """Prints the statements of one function.

    Args:
        entries: reads entries of its values.
        totals: the sums to which products are added in place: by the products, and by themselves.
        needs: what it needs of others, which is added to.
        parts: where what several threads can share is put; none where there is one thread.
    """

    def __init__(
        self,
        entries: Entries,
        totals: tuple[Mapping[Value, Total], Mapping[Value, Total]],
        needs: Needs,
        parts: Parts | None = None,
    ) -> None:
        self.products, self.totals = totals
        self.sharing = Sharing(parts)
        self.entries, self.stores, self.needs = entries, entries.stores, needs
        self._depth, self._done = 0, set[int]()
        self.ready: dict[int, tuple[str, str]] = {}
        """Packed matrices that are there before a loop: for a statement by its `id`, with the test whether they are."""

    def body(self, body: Body) -> list[str]:
        """The lines of a body."""
        outermost, self._depth = self._depth == 0, self._depth + 1
        waiting: list[Statement] = [each for each in body.statements if not self._is_never_made(each)]
        lines: list[str] = []
        while waiting:
            loop = list(self._together(waiting))
            lines += self._shared(loop) if loop else self._single(waiting[0])
            done = set(map(id, loop or waiting[:1]))
            if outermost:
                self._done.update(*map(_identities, loop or waiting[:1]))
                self.stores.release(self._done)
            waiting = [each for each in waiting if id(each) not in done]
        self._depth -= 1
        return lines

    def _is_never_made(self, statement: Statement) -> bool:
        return len(statement.results) == 1 and self.stores.is_view(statement.results[0])

    # What is computed entry by entry.

    def _together(self, waiting: Sequence[Statement]) -> Iterator[Statement]:
        """The first of some statements, and those after it, that one loop can do; none if the first needs its own."""
        if not _by_entries(waiting[0]):
            return
        dims = waiting[0].results[0].dims
        pending = {value for each in waiting for value in each.results}
        taken: set[Value] = set()
        for statement in waiting[:AHEAD]:
            fits = _by_entries(statement) and statement.results[0].dims == dims
            if fits and all(self._ready(value, statement, taken, pending) for value in statement.instruction.operands):
                taken.update(statement.results)
                yield statement
                if len(taken) == MOST:
                    return

    def _ready(self, value: Value, statement: Statement, taken: set[Value], pending: set[Value]) -> bool:
        """Whether a statement of a loop can read a value: it is there, or its entry of the same turn is."""
        if value in taken:
            return _reads_in_place(statement, value)
        if value in pending:
            return False
        if self.stores.is_view(value):
            made = self.stores.made[value]
            return all(
                operand not in taken and self._ready(operand, statement, set(), pending) for operand in made.operands
            )
        return True

    def _shared(self, statements: Sequence[Statement]) -> list[str]:
        """The loop that does some statements, in parts if it is long."""
        dims = statements[0].results[0].dims
        axis = split_axis(dims)
        if not self.sharing.is_open or axis is None or is_small(dims):
            return self._loop(statements)
        split = dict.fromkeys((value for each in statements for value in each.results), axis)
        option = self.sharing.option(split, lambda: self._loop(statements), dims[axis])
        return self.sharing.lines([option])

    def _loop(self, statements: Sequence[Statement]) -> list[str]:
        """The loop that does some statements."""
        own, dims = {id(each) for each in statements}, statements[0].results[0].dims
        split = self.sharing.axis_of(*(value for each in statements for value in each.results))
        self.sharing.add_entries(dims, split, len(statements))

        def written(nest: Nest) -> list[str]:
            lines: list[str] = []
            computed: dict[Value, str] = {}
            for place, statement in enumerate(statements):
                (value,) = statement.results
                total = self.totals.get(value)
                in_place = total is not None and total.is_in_place(self.stores)
                instruction = total.rest if total is not None and in_place else statement.instruction
                text = self.entries.made(instruction, every(dims), nest, computed).text
                readers = self.stores.readers[value]
                kept = not readers <= own or self.stores.known(value) is not None
                kept = kept and not (in_place and isinstance(instruction, Elementwise) and is_free(instruction))
                if readers & own:
                    computed[value] = name = f"e{place}"
                    lines.append(f"const {TYPES[value.type.dtype]} {name} = {text};")
                    text = name
                if kept:
                    lines.append(f"{nest.entry(self.stores.of(value), every(dims))} = {text};")
            return nest.loops(0, lines, "simd") if lines else []

        return nested(dims, [range(len(dims))], written, split)

    def _copied(
        self,
        value: Value,
        target: Storage,
        dims: Dimensions,
        shift: tuple[int, Affine] | None = None,
        split: int | None = None,
    ) -> list[str]:
        """The loop that puts a value into an array, or into a part of it that begins further on along an axis."""

        def written(nest: Nest) -> list[str]:
            there: list[Index] = list(every(dims))
            if shift is not None:
                there[shift[0]] = there[shift[0]].shifted(shift[1])
            text = self.entries.of(value, every(dims), nest, {}).text
            return nest.loops(0, [f"{nest.entry(target, there)} = {text};"], "simd")

        return nested(dims, [range(len(dims))], written, split)

    # What has loops of its own.

    def _single(self, statement: Statement) -> list[str]:
        """The lines of a statement."""
        match statement.instruction:
            case Scan() as scan:
                return self._scan(scan, statement.results)
            case When(form=test, then=then, otherwise=otherwise):
                targets = [self.stores.of(value) for value in statement.results]
                if not test.terms:
                    return self._branch(then if test.constant >= 0 else otherwise, targets)
                more, less = ([f"    {line}" for line in self._branch(part, targets)] for part in (then, otherwise))
                return [f"if ({form(test).text} >= 0) {{", *more, *(["} else {", *less] if less else []), "}"]
            case Invoke() as invoke:
                return self._invoke(invoke, statement.results)
            case Contract() | Reduce():
                return self._sum(statement)
            case instruction:
                target = self.stores.of(statement.results[0])
        match instruction:
            case Concat():
                return self._concat(instruction, target, self.sharing.axis_of(*statement.results))
            case ScatterAdd():
                return self._scatter(instruction, target, statement.results[0])
            case Signs():
                self.needs.signs.append(instruction)
                given = ", ".join(self.stores.of(value).pointer for value in instruction.operands)
                return [f"c->signs({len(self.needs.signs) - 1}, steps, batch, {given}, {target.pointer});"]
            case _:
                raise AssertionError(f"C has no reading of {type(instruction).__name__}")

    def _sum(self, statement: Statement) -> list[str]:
        assert isinstance(statement.instruction, Contract | Reduce)
        each, (value,) = summed(statement.instruction), statement.results
        total = self.products.get(value)
        added = total is not None and total.is_in_place(self.stores)
        target = self.stores.of(total.value if total is not None and added else value)
        packed = self.ready.get(id(statement), ("", ""))
        sparse = isinstance(statement.instruction, Contract) and statement.instruction.sparse

        def written(rows: Cut = WHOLE, columns: Cut = WHOLE) -> list[str]:
            split = self.sharing.axis_of(value)
            matrices = matrix_product(each, target, self.entries, split)
            if matrices is None or matrices.is_small:
                self.sharing.add_sum(each, split)
                return sum_lines(each, target, self.entries, added, split)
            matrices = replace(matrices, sparse=sparse)
            self.needs.packed.append(matrices.room)
            cut = self.sharing.add_product(matrices, None if split is None else each.axis(split))
            return matrices.lines(*packed, added, rows if cut == WHOLE else cut, columns)

        if not self.sharing.is_open:
            return written()
        whole = matrix_product(each, target, self.entries)
        return self.sharing.of_sum(each, value, None if whole is None or whole.is_small else whole, written)

    def _packed(self, scan: Scan) -> list[str]:
        """The lines that pack matrices which are the same at all steps, if there are enough of these."""
        lines: list[str] = []
        for statement in scan.body.statements:
            if not isinstance(statement.instruction, Contract):
                continue
            each = summed(statement.instruction)
            matrices = matrix_product(each, Storage("none", statement.results[0].dims), self.entries)
            if matrices is None or not matrices.is_plain or not outside(scan)(matrices.value):
                continue
            m, n, k = matrices.sizes()
            name = self.stores.room("real", f"panels({n}, {k})", f"{matrices.value.name}_packed")
            test = f"{m} * ({form(scan.length).text}) >= MANY"
            self.ready[id(statement)] = name, test
            lines += [f"if ({test}) {{", f"    {matrices.packing(name)}", "}"]
        return lines

    def _branch(self, body: Body, targets: Sequence[Storage]) -> list[str]:
        """The lines of a body, what comes out of it where it belongs."""
        self.stores.place(body, targets)
        lines = self.body(body)
        for value, target in zip(body.results, targets, strict=True):
            if self.stores.known(value) != target:
                lines += self._copied(value, target, value.dims, split=self.sharing.axis_of(value))
        return lines

    def _scan(self, scan: Scan, results: Sequence[Value]) -> list[str]:
        """A loop over time, and before it what was before the block."""
        lines: list[str] = []
        slots = self.stores.slots(scan, results)
        for place, before in enumerate(scan.before):
            if before is not None:
                start = scan.length if scan.backward else affine(0)
                lines += self._copied(before, self.stores.of(results[place]), before.dims, (0, start))
        lines += self._packed(scan)
        t, length = scan.index, form(scan.length).text
        steps = f"{t} = {length} - 1; {t} >= 0; {t}--" if scan.backward else f"{t} = 0; {t} < {length}; {t}++"

        def loop() -> list[str]:
            self.entries.lengths[scan.index] = scan.length
            inside = [f"    {line}" for line in self._branch(scan.body, slots)]
            del self.entries.lengths[scan.index]
            return [f"for (extent {steps}) {{", *inside, "}"]

        return lines + self.sharing.of_scan(scan, results, loop)

    def _concat(self, concat: Concat, target: Storage, split: int | None) -> list[str]:
        lines: list[str] = []
        start = affine(0)
        for part in concat.parts:
            lines += self._copied(part, target, part.dims, (concat.axis, start), split)
            start = start + part.dims[concat.axis]
        return lines

    def _scatter(self, scatter: ScatterAdd, target: Storage, value: Value) -> list[str]:
        """Zeros, and the loop that adds entries where tables say."""
        operand, axis, dims, split = scatter.operand, scatter.axis, value.dims, self.sharing.axis_of(value)
        before = split if split is None or split < axis else split + 1 - len(scatter.sizes)

        def zeros(nest: Nest) -> list[str]:
            return nest.loops(0, [f"{nest.entry(target, every(dims))} = 0;"], "simd")

        def written(nest: Nest) -> list[str]:
            at = every(operand.dims)
            found = [Index(looked_up=self.entries.of(table, (at[axis],), nest, {}).text) for table in scatter.tables]
            entry = nest.entry(target, (*at[:axis], *found, *at[axis + 1 :]))
            return nest.loops(0, [f"{entry} += {self.entries.of(operand, at, nest, {}).text};"])

        whole = nested(operand.dims, [range(len(operand.dims))], written, before)
        return [*nested(dims, [range(len(dims))], zeros, split), *whole]

    def _invoke(self, invoke: Invoke, results: Sequence[Value]) -> list[str]:
        """The call of a function. What it hands through is not copied."""
        name, function, outputs = self.needs.functions[invoke.function]
        self.needs.invoked.append((name, invoke.symbols))
        where = {each: self.stores.of(value) for each, value in zip(function.inputs, invoke.arguments, strict=True)}
        given, handed = list(where.values()), list[tuple[Value, Storage]]()
        for value, inside in zip(results, function.body.results, strict=True):
            if inside in outputs and inside not in where:
                where[inside] = self.stores.of(value)
                continue
            storage = where.get(inside) or self.stores.of(inside)  # a constant has one name in all functions
            if self.stores.known(value) is None:
                self.stores.put(value, storage)
            else:
                handed.append((value, storage))
        pointers = [f"(void *)({each.pointer})" for each in (*given, *(where[value] for value in outputs))]
        lines = self._called(name, f"{{{', '.join(pointers)}}}", invoke.symbols)
        return lines + [line for value, storage in handed for line in self._moved(storage, value)]

    def _called(self, name: str, pointers: str, symbols: Sequence[tuple[str, Affine]]) -> list[str]:
        """The lines that call a function."""
        there = [f"    there.{symbol} = {form(number).text};" for symbol, number in symbols]
        call = [*there, f"    {name}(&there, arrays, rest);"]
        return ["{", f"    void *const arrays[] = {pointers};", "    call there = *c;", *call, "}"]

    def _moved(self, source: Storage, value: Value) -> list[str]:
        """The loop that copies an array to where a value is kept."""
        at, target = every(value.dims), self.stores.of(value)

        def written(nest: Nest) -> list[str]:
            return nest.loops(0, [f"{nest.entry(target, at)} = {nest.entry(source, at)};"], "simd")

        return nested(value.dims, [range(len(at))], written)


def _identities(statement: Statement) -> set[int]:
    """A statement, and the bodies and statements in it, by their `id`."""
    found = {id(statement)}
    if isinstance(statement.instruction, Scan | When):
        for body in inner(statement.instruction):
            found.add(id(body))
            found.update(*map(_identities, body.statements))
    return found


def _by_entries(statement: Statement) -> bool:
    """Whether each entry of what a statement makes follows from single entries of what it reads."""
    instruction = statement.instruction
    if isinstance(instruction, Contract):
        ours, theirs, result = letters_of(instruction.axes)
        return set(result) == {*ours, *theirs}
    return is_free(instruction) or isinstance(instruction, (Elementwise, Flush, Gather, *VIEWS))


def _reads_in_place(statement: Statement, value: Value) -> bool:
    """Whether an entry of what a statement makes reads a value at the same place, and nowhere else."""
    instruction = statement.instruction
    if isinstance(instruction, Contract):
        ours, theirs, result = letters_of(instruction.axes)
        words = [word for each, word in ((instruction.left, ours), (instruction.right, theirs)) if each == value]
        return all(word == result for word in words)
    return isinstance(instruction, Elementwise | Flush) and value.dims == statement.results[0].dims
