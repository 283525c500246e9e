"""Statements as NumPy: the lines of a function's body, in the user's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from forwardgrad.array_program.buffers import Analysed
from forwardgrad.array_program.dimensions import SYMBOLS, Affine, affine
from forwardgrad.array_program.expressions import ADDED, ATOM, Apply, Argument, Number, Tree, spelled
from forwardgrad.array_program.inlining import bodies, outside
from forwardgrad.array_program.instructions import (
    Broadcast,
    Call,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Reduce,
    ScatterAdd,
    Signs,
    Slice,
)
from forwardgrad.array_program.numpy_products import aligned, index, template, transposes
from forwardgrad.array_program.numpy_texts import (
    INTO,
    NUMPY,
    Text,
    calling,
    complementary,
    contracted,
    expression,
    guarded,
)
from forwardgrad.array_program.regions import Body, Invoke, Scan, Statement, When
from forwardgrad.array_program.values import UNNAMED, Dimensions, Value


class Printer:
    """Prints the statements of one function.

    Args:
        analysed: the function.
        functions: the symbols that each function before this one takes.
    """

    def __init__(self, analysed: Analysed, functions: Mapping[str, tuple[str, ...]]) -> None:
        self.functions = functions
        self.whole, self.inlined, self.added_to = analysed.function.body, analysed.inlined, analysed.added_to
        self.results = frozenset(self.whole.results)
        """The values that come out."""
        self.inputs = frozenset(analysed.function.inputs)
        self.names = {
            v.name
            for part in bodies(self.whole)
            for s in part.statements
            for v in (*s.results, *s.instruction.operands)
        }
        self.texts: dict[Value, Text] = {}
        self.made: dict[Value, Instruction] = {}
        """The instructions of values that are written where they are used."""
        self.used: set[str] = set()
        """The symbols that were printed."""
        self.lengths: dict[str, Affine] = {}
        self.into: set[Value] = set()
        """The values that are written into an array that is there."""
        self.by_columns: dict[Value, str] = {}
        """The weights whose transposes are made before a loop, with their names."""

    def of(self, value: Value) -> Text:
        """How a value is written where it is used."""
        text = self.texts.get(value)
        if text is None:
            result = self.added_to.get(value)
            text = Text(value.name.replace(UNNAMED, "made_")) if result is None else self.of(result)
            self.texts[value] = text
        return text

    def form(self, form: Affine) -> str:
        """A number of the block; what it reads is an argument of the function."""
        for symbol, _ in form.terms:
            if symbol in SYMBOLS:
                self.used.add(symbol)
        return str(form)

    def shape(self, dims: Dimensions) -> str:
        return f"({', '.join(map(self.form, dims))}{',' if len(dims) == 1 else ''})"

    # Statements.

    def body(self, body: Body, margin: str) -> list[str]:
        return [line for statement in body.statements for line in self.statement(statement, margin)]

    def statement(self, statement: Statement, margin: str) -> list[str]:
        """The lines of a statement; none for a value that is written where it is used."""
        match statement.instruction:
            case Scan() as scan:
                return self.scan(scan, statement.results, margin)
            case When(form=form, then=then, otherwise=otherwise):
                test = "not fresh" if form == -affine("fresh") else f"{form} >= 0"
                self.form(form)
                more, less = (self.branch(part, statement.results, f"{margin}    ") for part in (then, otherwise))
                return [f"{margin}if {test}:", *more, *([f"{margin}else:", *less] if less else [])]
            case Invoke() as invoke:
                names = [self.of(value).text for value in statement.results]
                return calling(names, invoke.function, self.arguments(invoke), margin)
            case instruction:
                value, text = statement.results[0], self.value(instruction)
                if value in self.inlined:
                    self.texts[value], self.made[value] = text, instruction
                    return []
                return self.assigned(value, instruction, text, margin)

    def arguments(self, invoke: Invoke) -> list[str]:
        symbols = dict(invoke.symbols)
        given = [self.form(symbols.get(symbol, affine(symbol))) for symbol in self.functions[invoke.function]]
        return given + [self.of(value).text for value in invoke.arguments]

    def assigned(self, value: Value, instruction: Instruction, text: Text, margin: str) -> list[str]:
        """The lines that give a value its name, or put it where it belongs."""
        target, into = self.of(value).text, value in self.into
        if isinstance(instruction, Flush) and into:
            return [
                margin + self.kept(instruction.operand, value, target),
                f"{margin}if t % {instruction.every} == {instruction.every - 1}:",
                f"{margin}    {'flush_jacobian' if instruction.ones else 'flush'}({target})",
            ]
        if isinstance(instruction, Elementwise):
            terms = self.terms(instruction)
            if terms[0].text == target:
                return [f"{margin}{line}" for line in self.added(target, terms[1:])]
            if any(term.given for term in terms):
                return self.summed(target, value, terms, margin)
        if into and (call := self.call_into(instruction, target)):
            return [margin + call]
        if isinstance(instruction, Elementwise):
            operands = instruction.arguments
            if isinstance(instruction.tree, Argument) and value in self.results and self.is_shared(operands[0]):
                return [f"{margin}{target} = {text.within(ATOM)}.copy()"]
        return [f"{margin}{target} = {self.conditional(text, value)}"]

    def kept(self, operand: Value, value: Value, target: str) -> str:
        """The line that puts a value into an array that is there."""
        made = self.made.get(operand)
        if made is not None and (call := self.call_into(made, target)):
            return call
        return f"{target} = {self.conditional(self.of(operand), value)}"

    def added(self, target: str, terms: Sequence[Text]) -> list[str]:
        """The lines that add terms to an array, large products a sample at a time."""
        if all(term.adding for term in terms):
            return [term.adding.format(target=target) for term in terms]
        return [f"{target} += {' + '.join(term.within(ADDED) for term in terms)}"]

    def is_shared(self, value: Value) -> bool:
        """Whether a value is a part of another, came in, or comes out under a name of its own."""
        return value in self.inlined or value in self.inputs or value in self.results

    def conditional(self, text: Text, value: Value) -> str:
        return (
            f"{text.text} if {text.given} else np.zeros({self.shape(value.dims)}, dtype)" if text.given else text.text
        )

    def call_into(self, instruction: Instruction, target: str) -> str:
        """The call that computes a value right into an array; empty where there is none."""
        operands = [self.of(value) for value in instruction.operands]
        if any(operand.given for operand in operands):
            return ""
        match instruction:
            case Elementwise(tree=Apply(word=word, operands=parts)) if word in INTO:
                texts = [spelled(part, operands, NUMPY).text for part in parts]
                return f"{INTO[word]}({', '.join(texts)}, out={target})"
            case Contract(axes=axes) if template(axes) == "{0} * {1}":
                return f"np.multiply({', '.join(part.text for part in aligned(axes, *operands))}, out={target})"
            case _:
                return ""

    # Sums in which some terms are zero beyond the ends of a block.

    def terms(self, instruction: Elementwise) -> list[Text]:
        """The terms of an expression that is a sum, or the whole."""
        texts = [self.of(value) for value in instruction.arguments]
        found: list[Text] = []

        def collect(tree: Tree) -> None:
            if isinstance(tree, Apply) and tree.word == "+":
                collect(tree.operands[0])
                found.append(expression(tree.operands[1], texts))
            else:
                found.append(expression(tree, texts))

        collect(instruction.tree)
        return found

    def summed(self, target: str, value: Value, terms: Sequence[Text], margin: str) -> list[str]:
        """The lines of a sum whose guarded terms are added where they are not zero."""
        always = [term.within(ADDED) for term in terms if not term.given]
        guarded = [term for term in terms if term.given]
        if always:
            lines = [f"{margin}{target} = {' + '.join(always)}"]
        else:
            first, *guarded = guarded
            other = next((term for term in guarded if complementary(first.given, term.given)), None)
            guarded = [term for term in guarded if term is not other]
            rest = other.text if other is not None else f"np.zeros({self.shape(value.dims)}, dtype)"
            lines = [f"{margin}{target} = {first.text} if {first.given} else {rest}"]
        for term in guarded:
            in_place = value in self.into
            more = f"{target} += {term.text}" if in_place else f"{target} = {target} + {term.text}"
            lines += [f"{margin}if {term.given}:", f"{margin}    {more}"]
        return lines

    # Regions.

    def scan(self, scan: Scan, results: Sequence[Value], margin: str) -> list[str]:
        """A loop, and before it the arrays that it fills."""
        lines: list[str] = []
        self.lengths[scan.index] = scan.length
        for series, value, before in zip(results, scan.body.results, scan.before, strict=True):
            lines.append(f"{margin}{series} = empty({self.shape(series.dims)}, dtype)")
            ahead = affine(0)
            if before is not None:
                count = before.dims[0]
                where = f"{self.form(scan.length)}:" if scan.backward else f":{self.form(count)}"
                lines.append(f"{margin}{series}[{where}] = {self.of(before).text}")
                ahead = affine(0) if scan.backward else count
            self.texts[value] = Text(f"{series}[{ahead + scan.index}]")
            self.into.add(value)
        for weight in dict.fromkeys(weights_by_columns(scan)):
            if weight not in self.by_columns:
                name = self.by_columns[weight] = self.free(f"{self.of(weight).text}_by_columns")
                lines.append(f"{margin}{name} = by_columns({self.of(weight).text}, {self.form(scan.length)})")
        steps = f"range({self.form(scan.length)})"
        lines.append(f"{margin}for {scan.index} in {f'reversed({steps})' if scan.backward else steps}:")
        return lines + self.body(scan.body, f"{margin}    ")

    @cached_property
    def names(self) -> set[str]:
        """The names of values, and those that were added to them."""
        statements = [statement for body in bodies(self.whole) for statement in body.statements]
        return {value.name for s in statements for value in (*s.results, *s.instruction.operands)}

    def free(self, name: str) -> str:
        """A name that no value has."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def branch(self, body: Body, results: Sequence[Value], margin: str) -> list[str]:
        """The lines of a body, what comes out of it under the names that it has outside."""
        made = {value for statement in body.statements for value in statement.results}
        passed: list[str] = []
        for result, value in zip(results, body.results, strict=True):
            if value in made and value not in self.texts and value not in self.added_to:
                self.texts[value] = self.of(result)
            elif self.of(value).text != self.of(result).text:
                passed.append(f"{margin}{self.of(result).text} = {self.of(value).text}")
        return [*self.body(body, margin), *passed]

    # Values.

    def value(self, instruction: Instruction) -> Text:
        """What an instruction makes, written with its operands."""
        if isinstance(instruction, Elementwise | Read):
            return self.written(instruction, [self.of(value) for value in instruction.operands])
        if isinstance(instruction, Call | Concat):  # these are not zero where an operand is
            return self.written(instruction, [Text(self.conditional(self.of(v), v)) for v in instruction.operands])
        texts = [self.of(value) for value in instruction.operands]
        return guarded(self.written(instruction, texts), texts)

    def written(self, instruction: Instruction, texts: Sequence[Text]) -> Text:
        """What an instruction makes of operands of these texts."""
        first = texts[0].within(ATOM) if texts else ""
        match instruction:
            case Elementwise(tree=tree, arguments=arguments, dims=dims):
                if not arguments:
                    return self.filled(tree, dims)
                return expression(tree, texts)
            case Contract(right=weight) if weight in self.by_columns and transposes(instruction):
                return Text(f"matmul({texts[0].text}, {self.by_columns[weight]})")
            case Contract(axes=axes, sparse=sparse):
                return contracted(axes, texts[0], texts[1], sparse)
            case Read(at=at, or_zero=or_zero):
                given = self.inside(at, instruction.series.dims[0]) if or_zero else ""
                return Text(f"{first}[{self.form(at)}]", given=given)
            case Slice():
                return self.cut(instruction, first)
            case Broadcast(dims=dims, axes=axes):
                letters = "abcdefgh"[: len(dims)]
                where = index("".join(letters[axis] for axis in axes), letters)
                single = all(dim == affine(1) for axis, dim in enumerate(dims) if axis not in axes)
                if single and not where:
                    return Text(f"{first}[None]")
                return Text(f"np.broadcast_to({first}{where}, {self.shape(dims)})")
            case Flush():  # what runs the program flushes what comes out, if there was an underflow
                return Text(texts[0].text, texts[0].binding)
            case Signs(seed=seed, stream=stream, dims=dims):
                numbers = f"{texts[0].text}, {texts[1].text}"
                return Text(f"drawn({seed}, {stream!r}, {numbers}, {self.shape(dims)}, dtype)")
            case Call(function=function):
                return Text(f"{function}({', '.join(text.text for text in texts)})")
            case _:
                return self.rearranged(instruction, texts, first)

    def rearranged(self, instruction: Instruction, texts: Sequence[Text], first: str) -> Text:
        """What an instruction makes that moves entries about."""
        given = ", ".join(text.text for text in texts)
        match instruction:
            case Concat(axis=axis):
                return Text(f"np.concatenate(({given})" + (f", axis={axis})" if axis else ")"))
            case Gather(axis=axis):
                before = "..., " if axis + len(texts) - 1 == len(instruction.operand.dims) else ":, " * axis
                return Text(f"{first}[{before if axis else ''}{', '.join(text.text for text in texts[1:])}]")
            case ScatterAdd(axis=axis, sizes=sizes):
                tables = ", ".join(text.text for text in texts[1:]) + ("," if len(texts) == 2 else "")
                return Text(f"scattered({texts[0].text}, {axis}, ({tables}), {self.shape(sizes)})")
            case Reduce(axes=axes, word=word):
                return Text(f"{first}.{word}(axis={axes[0] if len(axes) == 1 else axes})")
            case _:
                raise AssertionError(f"no NumPy for {type(instruction).__name__}")

    def filled(self, tree: Tree, dims: Dimensions) -> Text:
        names = {0.0: "zeros", 1.0: "ones"}
        if isinstance(tree, Number) and tree.value in names:
            return Text(f"np.{names[tree.value]}({self.shape(dims)}, dtype)")
        return Text(f"np.full({self.shape(dims)}, {spelled(tree, [], NUMPY).text}, dtype)")

    def cut(self, instruction: Slice, operand: str) -> Text:
        """A range of an axis."""
        start, size, whole = instruction.start, instruction.size, instruction.operand.dims[instruction.axis]
        if instruction.or_zero:
            return Text(f"window({operand}, {self.form(start)}, {self.form(size)})")
        first = "" if start == affine(0) else self.form(start)
        last = "" if start + size == whole else self.form(start + size)
        axis = instruction.axis
        before = "..., " if axis and axis == len(instruction.operand.dims) - 1 else ":, " * axis
        text = f"{operand}[{before}{first}:{last}]"
        if instruction.backward:
            whole_axis = not first and not last and not axis
            text = f"{operand}[::-1]" if whole_axis else f"{text}[{':, ' * axis}::-1]"
        return Text(text)

    def inside(self, at: Affine, length: Affine) -> str:
        """The test whether an index of a scan lies in an axis; at the ends of the scan the other side is sure."""
        step, count = list(self.lengths.items())[-1]
        low, high = at.replaced({step: affine(0)}), at.replaced({step: count - 1})
        room = length - 1 - high
        if low.never_negative:
            return f"{self.form(at)} < {self.form(length)}"
        if room.never_negative and length == affine(1) and room == affine(0):
            return f"{step} == {self.form(count - 1)}"
        return f"0 <= {self.form(at)} < {self.form(length)}"


def weights_by_columns(scan: Scan) -> Iterator[Value]:
    """The weights with whose transposes a scan multiplies at every step."""
    same = outside(scan)
    for body in bodies(scan.body):
        for statement in body.statements:
            match statement.instruction:
                case Contract(right=weight) as product if transposes(product) and not weight.unnamed and same(weight):
                    yield weight
                case _:
                    continue
