"""Allocations: which arrays the printed functions of a program take and give back, in order, without running them.

This follows `numpy_statements.py` line by line. A value is written where it is used, or goes into an array that exists
already, or has a name, which holds its array until the function returns or the name is bound to another. Of a loop, the
first step and two in its middle are followed; the others take no more memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.array_program.buffers import Analysed
from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.expressions import INFIX, Apply, Argument, Tree, is_test
from forwardgrad.array_program.instructions import (
    Call,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Instruction,
    Read,
)
from forwardgrad.array_program.memory import Account, Held
from forwardgrad.array_program.moved_arrays import moved
from forwardgrad.array_program.numpy_helpers import MANY
from forwardgrad.array_program.numpy_products import adding, template
from forwardgrad.array_program.numpy_statements import weights_by_columns
from forwardgrad.array_program.numpy_texts import INTO
from forwardgrad.array_program.regions import Body, Invoke, Scan, Statement, When
from forwardgrad.array_program.values import Dimensions, Value


@dataclass(frozen=True)
class FunctionCall:
    """A function as it is called.

    Args:
        name: of the function.
        symbols: numbers for its symbols.
        forms: what its symbols stand for where the program was called.
    """

    name: str
    symbols: Mapping[str, int]
    forms: Mapping[str, Affine]


class Allocations:
    """Follows one call of a function.

    Args:
        functions: of the program, by name.
        account: what is taken and given back is written there.
        called: the function as it is called.
    """

    def __init__(self, functions: Mapping[str, Analysed], account: Account, called: FunctionCall) -> None:
        self.functions, self.account, self.called = functions, account, called
        self.symbols = dict(called.symbols)
        analysed = functions[called.name]
        self.function, self.inlined, self.added_to = analysed.function, analysed.inlined, analysed.added_to
        self.results = frozenset(self.function.body.results)
        self.names = dict(self.added_to)
        """Values that go under the name of another."""
        self.bound: dict[Value, Held] = {}
        self.written: dict[Value, Instruction] = {}
        """The instructions of values that are written where they are used."""
        self.guarded: set[Value] = set()
        """Those of them that are zero beyond the ends of a block."""
        self.into: set[Value] = set()
        """The values that are written into an array that is there."""
        self.by_columns: dict[Value, Held] = {}
        """The transposes of weights that are made before loops."""

    def results_of(self, inputs: Sequence[Held]) -> list[Held]:
        """What the function returns; whoever calls it still holds the inputs."""
        function = self.function
        for value, array in zip(function.inputs, inputs, strict=True):
            self.bind(value, self.account.view(array, array.dims))
        self.body(function.body)
        found = [self.value(value) for value in function.body.results]
        self.account.drop(*self.bound.values(), *self.by_columns.values())
        return found

    def dims(self, dims: Dimensions) -> Dimensions:
        """Dimensions in the symbols with which the program was called."""
        return tuple(dim.replaced(self.called.forms) for dim in dims) if self.called.forms else dims

    def name(self, value: Value) -> Value:
        """The value under whose name a value goes."""
        while value in self.names:
            value = self.names[value]
        return value

    def bind(self, value: Value, array: Held) -> None:
        """Give an array a name, or write it where its value belongs."""
        target = self.name(value)
        if target in self.into:
            self.account.drop(array)
            return
        old, self.bound[target] = self.bound.get(target), array.named
        self.account.drop(old)

    # Statements.

    def body(self, body: Body) -> None:
        for statement in body.statements:
            self.statement(statement)

    def statement(self, statement: Statement) -> None:
        match statement.instruction:
            case Scan() as scan:
                self.scan(scan, statement.results)
            case When(form=form, then=then, otherwise=otherwise):
                self.branch(then if form.at(self.symbols) >= 0 else otherwise, statement.results)
            case Invoke() as invoke:
                self.invoke(invoke, statement.results)
            case instruction:
                value = statement.results[0]
                if value in self.inlined:
                    self.written[value] = instruction
                    if self.is_guarded(instruction):
                        self.guarded.add(value)
                    return
                self.account.name = self.name(value).name
                self.assign(value, instruction)

    def assign(self, value: Value, instruction: Instruction) -> None:
        """What is taken by giving a value its name."""
        if isinstance(instruction, Flush) and value in self.into:
            self.keep(value, instruction.operand)
        elif isinstance(instruction, Elementwise):
            self.assign_elementwise(value, instruction)
        elif value in self.into and self.goes_into(instruction):
            self.write(instruction)
        else:
            self.bind(value, self.made(instruction, value))

    def keep(self, value: Value, operand: Value) -> None:
        """What is taken by putting a value into an array that is there."""
        made = self.written.get(operand)
        if made is not None and self.goes_into(made):
            self.write(made)
        else:
            self.bind(value, self.or_zeros(operand))

    def goes_into(self, instruction: Instruction) -> bool:
        """Whether an instruction can compute its value right into an array."""
        if not self.guarded.isdisjoint(instruction.operands):
            return False
        match instruction:
            case Elementwise(tree=Apply(word=word)):
                return word in INTO
            case Contract(axes=axes):
                return template(axes) == "{0} * {1}"
            case _:
                return False

    def write(self, instruction: Instruction) -> None:
        """What is taken by computing a value right into an array."""
        if isinstance(instruction, Elementwise) and isinstance(instruction.tree, Apply):
            self.account.drop(*[self.tree(part, instruction) for part in instruction.tree.operands])
        else:
            self.account.drop(*map(self.value, instruction.operands))

    def assign_elementwise(self, value: Value, instruction: Elementwise) -> None:
        tree, arguments = instruction.tree, instruction.arguments
        terms, target = summands(tree), self.name(value)
        first = arguments[terms[0].place] if isinstance(terms[0], Argument) else None
        if first is not None and self.name(first) == target:
            self.add(terms[1:], instruction)
        elif self.guarded and any(self.guards(term, arguments) for term in terms):
            self.assign_sum(value, instruction, terms)
        elif value in self.into and self.goes_into(instruction):
            self.write(instruction)
        else:
            shared = first in self.inlined or first in self.function.inputs or first in self.results
            array = self.made(instruction, value)
            copied = first is not None and len(terms) == 1 and value in self.results and shared
            self.bind(value, self.account.computed(array, dims=array.dims) if copied else array)

    def add(self, terms: Sequence[Tree], instruction: Elementwise) -> None:
        """What is taken by adding terms to an array: large products are made a sample at a time."""
        values = [instruction.arguments[term.place] for term in terms if isinstance(term, Argument)]
        products = [self.written[value] for value in values if value in self.written]
        calls = [adding(made.axes) for made in products if isinstance(made, Contract)]
        if len(calls) < len(terms) or not all(calls):
            self.account.drop(self.sum(terms, instruction))
            return
        for value, made in zip(values, products, strict=True):
            operands = [self.value(operand) for operand in made.operands]
            dims = self.dims(value.dims)
            self.account.drop(self.account.take(dims, by_sample=True), *operands)

    def assign_sum(self, value: Value, instruction: Elementwise, terms: Sequence[Tree]) -> None:
        """A sum whose guarded terms are added where they are not zero."""
        guards = [self.guards(term, instruction.arguments) for term in terms]
        always = [term for term, values in zip(terms, guards, strict=True) if not values]
        there = [t for t, values in zip(terms, guards, strict=True) if values and not any(map(self.is_zero, values))]
        if not always and not there:
            self.bind(value, self.account.take(self.dims(value.dims)))
            return
        now, more = (always, there) if always else (there[:1], there[1:])
        self.bind(value, self.sum(now, instruction) or self.account.take(self.dims(value.dims)))
        for term in more:
            added = self.tree(term, instruction)
            if value in self.into or added is None:
                self.account.drop(added)
            else:
                self.bind(value, self.account.operator("+", self.value(value), added, self.dims(value.dims)))

    def sum(self, terms: Sequence[Tree], instruction: Elementwise) -> Held | None:
        """The sum of some terms, from the left."""
        total = self.tree(terms[0], instruction)
        for term in terms[1:]:
            total = self.operator("+", total, self.tree(term, instruction))
        return total

    # Regions.

    def scan(self, scan: Scan, results: Sequence[Value]) -> None:
        account, length = self.account, scan.length.at(self.symbols)
        for series, value, before in zip(results, scan.body.results, scan.before, strict=True):
            account.name = series.name
            self.bind(series, account.take(self.dims(series.dims)))
            if before is not None:
                account.drop(self.value(before))
            self.bound[value] = account.view(self.bound[series], self.dims(value.dims))
            self.into.add(value)
        for weight in dict.fromkeys(weights_by_columns(scan)):
            if weight not in self.by_columns and length >= MANY:
                self.by_columns[weight] = account.take(self.dims(weight.dims))
        middle = length // 2
        followed = range(length) if length <= 3 else (0, middle, middle + 1)
        for t in followed:
            self.symbols[scan.index] = length - 1 - t if scan.backward else t
            self.body(scan.body)

    def branch(self, body: Body, results: Sequence[Value]) -> None:
        """A body, what comes out of it under the names that it has outside."""
        inside = {value for statement in body.statements for value in statement.results}
        passed: list[tuple[Value, Value]] = []
        for result, value in zip(results, body.results, strict=True):
            if value in inside and value not in self.into and value not in self.added_to:
                self.names[value] = result
            elif self.name(value) != self.name(result):
                passed.append((result, value))
        self.body(body)
        for result, value in passed:
            self.bind(result, self.value(value))

    def invoke(self, invoke: Invoke, results: Sequence[Value]) -> None:
        symbols = {name: form.at(self.symbols) for name, form in invoke.symbols}
        given = {name: form.replaced(self.called.forms) for name, form in invoke.symbols}
        called = FunctionCall(invoke.function, {**self.called.symbols, **symbols}, {**self.called.forms, **given})
        inputs = [self.value(value) for value in invoke.arguments]
        found = Allocations(self.functions, self.account, called).results_of(inputs)
        self.account.drop(*inputs)
        for value, array in zip(results, found, strict=True):
            self.bind(value, array)

    # What is zero beyond the ends of a block.

    def is_guarded(self, instruction: Instruction) -> bool:
        """Whether what an instruction makes is zero beyond the ends of a block."""
        match instruction:
            case Read(or_zero=or_zero):
                return or_zero
            case Elementwise(tree=tree, arguments=arguments):
                return bool(self.guards(tree, arguments))
            case Call() | Concat():
                return False
            case _:
                return not self.guarded.isdisjoint(instruction.operands)

    def guards(self, tree: Tree, arguments: Sequence[Value]) -> list[Value]:
        """The factors of an expression that are zero beyond the ends of a block."""
        if not self.guarded:
            return []
        return [arguments[place] for place in factors(tree) if arguments[place] in self.guarded]

    def is_zero(self, value: Value) -> bool:
        """Whether a value is zero at this step."""
        if value not in self.guarded:
            return False
        match self.written[value]:
            case Read(series=series, at=at, or_zero=True):
                return not 0 <= at.at(self.symbols) < series.dims[0].at(self.symbols)
            case Elementwise(tree=tree, arguments=arguments):
                return any(map(self.is_zero, self.guards(tree, arguments)))
            case instruction:
                return any(map(self.is_zero, instruction.operands))

    def or_zeros(self, value: Value) -> Held:
        return self.account.take(self.dims(value.dims)) if self.is_zero(value) else self.value(value)

    # Values.

    def value(self, value: Value) -> Held:
        """A value where it is used."""
        if (instruction := self.written.get(value)) is not None:
            return self.made(instruction, value)
        held = self.bound.get(self.name(value))
        if held is None:  # a constant of the program
            return Held(value.dims, None, value.type.dtype)
        return self.account.again(held)

    def made(self, instruction: Instruction, value: Value) -> Held:
        """What an instruction makes."""
        dims, kind = self.dims(value.dims), value.type.dtype
        if isinstance(instruction, Elementwise):
            zero = any(map(self.is_zero, self.guards(instruction.tree, instruction.arguments)))
            array = None if zero else self.tree(instruction.tree, instruction)
            return self.account.take(dims, kind) if array is None else array
        operands = instruction.operands
        if self.guarded.isdisjoint(operands):
            return moved(self.account, instruction, [self.value(operand) for operand in operands], dims, kind)
        if not isinstance(instruction, Call | Concat) and any(map(self.is_zero, operands)):
            return self.account.take(dims, kind)
        return moved(self.account, instruction, [self.or_zeros(operand) for operand in operands], dims, kind)

    # Expressions.

    def tree(self, tree: Tree, instruction: Elementwise) -> Held | None:
        """What an expression makes; `None` for a number."""
        if isinstance(tree, Argument):
            value = instruction.arguments[tree.place]
            return None if self.is_zero(value) else self.value(value)
        if not isinstance(tree, Apply):
            return None
        parts = [self.tree(operand, instruction) for operand in tree.operands]
        arrays = [part for part in parts if part is not None]
        if not arrays:
            return None
        dims = max((array.dims for array in arrays), key=len)
        if tree.word == "negate" or (tree.word == "**" and parts[1] is None):
            return self.account.alone(arrays[0])
        if tree.word in INFIX and not is_test(tree):
            return self.account.operator(tree.word, parts[0], parts[1], dims)
        return self.account.computed(*parts, dims=dims, kind="bool" if is_test(tree) else "float")

    def operator(self, word: str, left: Held | None, right: Held | None) -> Held | None:
        """An operator of two operands."""
        arrays = [array for array in (left, right) if array is not None]
        return self.account.operator(word, left, right, max((a.dims for a in arrays), key=len)) if arrays else None


def summands(tree: Tree) -> list[Tree]:
    """The terms of a sum, or the whole of another expression."""
    if isinstance(tree, Apply) and tree.word == "+":
        return [*summands(tree.operands[0]), tree.operands[1]]
    return [tree]


def factors(tree: Tree) -> list[int]:
    """The places of arguments that make an expression zero where one of them is."""
    if isinstance(tree, Argument):
        return [tree.place]
    if isinstance(tree, Apply) and tree.word in ("*", "negate"):
        return [place for operand in tree.operands for place in factors(operand)]
    return []
