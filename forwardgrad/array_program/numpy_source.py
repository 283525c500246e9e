"""NumPy source: an array program as Python functions in the user's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.array_program.buffers import added_to
from forwardgrad.array_program.dimensions import SYMBOLS, Affine, affine
from forwardgrad.array_program.expressions import ADDED, ATOM, Apply, Argument, Language, Number, Spelled, Tree, spelled
from forwardgrad.array_program.inlining import inlined
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
    Slice,
)
from forwardgrad.array_program.numpy_products import index, product
from forwardgrad.array_program.regions import ArrayProgram, Body, Invoke, Scan, Statement, When
from forwardgrad.array_program.values import UNNAMED, Dimensions, Value

NUMPY = Language("np.{}", "{}.astype(dtype)")

INTO: Mapping[str, str] = {
    **{"+": "np.add", "-": "np.subtract", "*": "np.multiply", "/": "np.divide"},
    **{word: f"np.{word}" for word in ("tanh", "exp", "maximum", "logaddexp", "sin", "square")},
}
"""Words of the vocabulary whose function of NumPy writes its result into an array that is there."""

LONGEST = 100
"""Characters of a line up to which a list of names is not broken."""


@dataclass(frozen=True)
class Text(Spelled):
    """The text of a value where it is used.

    Args:
        given: the condition outside which the value is zero; it can be computed under that condition only.
    """

    given: str = ""


def source(program: ArrayProgram) -> str:
    """The functions of a program; they know `np`, `dtype`, the constants, the calls, and the helpers by their names."""
    symbols: dict[str, tuple[str, ...]] = {}
    lines: list[str] = []
    for function in program.functions:
        printer = _Printer(function.body, symbols)
        body = printer.body(function.body, "    ")
        used = symbols[function.name] = tuple(symbol for symbol in SYMBOLS if symbol in printer.used)
        results = [printer.of(value).text for value in function.body.results]
        head = broken(f"def {function.name}(", [*used, *map(str, function.inputs)], "):", "")
        first, *rest = function.doc.splitlines()
        doc = [f'    """{first}', *(f"    {line}" for line in rest)]
        ends = [f"    return {results[0]}"] if len(results) == 1 else broken("    return (", results, ")", "    ")
        lines += [*head, *doc[:-1], f'{doc[-1]}"""', *body, *ends, "", ""]
    return "\n".join(lines)


def broken(before: str, items: Sequence[str], after: str, margin: str) -> list[str]:
    """Items between two brackets: on one line, or on a line each where that grows too long."""
    line = f"{before}{', '.join(items)}{after}"
    if len(line) <= LONGEST or not items:
        return [line]
    return [before, *(f"{margin}    {item}," for item in items), f"{margin}{after}"]


class _Printer:
    """Prints the statements of one function.

    Args:
        body: of the function.
        functions: the symbols that each function before this one takes.
    """

    def __init__(self, body: Body, functions: Mapping[str, tuple[str, ...]]) -> None:
        self.functions = functions
        self.inlined, self.results = inlined(body), frozenset(body.results)
        """The values that are written where they are used, and those that come out."""
        self.added_to = added_to(body)
        self.texts: dict[Value, Text] = {}
        self.used: set[str] = set()
        """The symbols that were printed."""
        self.lengths: dict[str, Affine] = {}
        self.into: set[Value] = set()
        """The values that are written into an array that is there."""

    def of(self, value: Value) -> Text:
        """How a value is written where it is used."""
        if value in self.added_to:
            return self.of(self.added_to[value])
        return self.texts.get(value, Text(value.name.replace(UNNAMED, "made_")))

    def form(self, form: Affine) -> str:
        """A number of the block; what it reads is an argument of the function."""
        self.used.update(symbol for symbol, _ in form.terms if symbol in SYMBOLS)
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
                names = ", ".join(self.of(value).text for value in statement.results)
                return broken(f"{margin}{names} = {invoke.function}(", self.arguments(invoke), ")", margin)
            case instruction:
                value, text = statement.results[0], self.value(instruction)
                if value in self.inlined:
                    self.texts[value] = text
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
            kept = f"{margin}{target} = {self.conditional(self.of(instruction.operand), value)}"
            return [kept, f"{margin}if t % {instruction.every} == 0:", f"{margin}    flush({target})"]
        if isinstance(instruction, Elementwise):
            terms = self.terms(instruction)
            if terms[0].text == target:
                return [f"{margin}{target} += {' + '.join(term.within(ADDED) for term in terms[1:])}"]
            if any(term.given for term in terms):
                return self.summed(target, value, terms, margin)
            if into and (call := self.call_into(instruction.tree, instruction, target)):
                return [margin + call]
            operands = instruction.arguments
            if isinstance(instruction.tree, Argument) and value in self.results and self.is_shared(operands[0]):
                return [f"{margin}{target} = {text.within(ATOM)}.copy()"]
        return [f"{margin}{target} = {self.conditional(text, value)}"]

    def is_shared(self, value: Value) -> bool:
        """Whether a value is a part of another, or comes out under a name of its own."""
        return value in self.inlined or value in self.results

    def conditional(self, text: Text, value: Value) -> str:
        return (
            f"{text.text} if {text.given} else np.zeros({self.shape(value.dims)}, dtype)" if text.given else text.text
        )

    def call_into(self, tree: Tree, instruction: Elementwise, target: str) -> str:
        """The call that computes an expression right into an array; empty where there is none."""
        if not isinstance(tree, Apply) or tree.word not in INTO:
            return ""
        arguments = [self.of(value) for value in instruction.arguments]
        parts = [spelled(operand, arguments, NUMPY).text for operand in tree.operands]
        return f"{INTO[tree.word]}({', '.join(parts)}, out={target})"

    # Sums in which some terms are zero beyond the ends of a block.

    def terms(self, instruction: Elementwise) -> list[Text]:
        """The terms of an expression that is a sum, or the whole."""
        texts = [self.of(value) for value in instruction.arguments]
        found: list[Text] = []

        def collect(tree: Tree) -> None:
            if isinstance(tree, Apply) and tree.word == "+":
                collect(tree.operands[0])
                found.append(_expression(tree.operands[1], texts))
            else:
                found.append(_expression(tree, texts))

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
            other = next((term for term in guarded if _complementary(first.given, term.given)), None)
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
        steps = f"range({self.form(scan.length)})"
        lines.append(f"{margin}for {scan.index} in {f'reversed({steps})' if scan.backward else steps}:")
        return lines + self.body(scan.body, f"{margin}    ")

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
        return _guarded(self.written(instruction, texts), texts)

    def written(self, instruction: Instruction, texts: Sequence[Text]) -> Text:
        """What an instruction makes of operands of these texts."""
        first = texts[0].within(ATOM) if texts else ""
        match instruction:
            case Elementwise(tree=tree, arguments=arguments, dims=dims):
                if not arguments:
                    return self.filled(tree, dims)
                return _expression(tree, texts)
            case Contract(axes=axes):
                return _plain(product(axes, texts[0], texts[1]))
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
            case Flush():
                return Text(f"flushed({texts[0].text})")
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
            case Reduce(axes=axes):
                return Text(f"{first}.sum(axis={axes[0] if len(axes) == 1 else axes})")
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


def _expression(tree: Tree, texts: Sequence[Text]) -> Text:
    """An expression; it is zero where one of its factors is."""
    given = _zero_unless(tree, texts)
    if not given:
        texts = [Text(f"({text.text} if {text.given} else 0.0)") if text.given else text for text in texts]
    found = spelled(tree, texts, NUMPY)
    return Text(found.text, found.binding, given)


def _zero_unless(tree: Tree, texts: Sequence[Text]) -> str:
    """The condition outside which an expression is zero, if there is one."""
    if isinstance(tree, Argument):
        return texts[tree.place].given
    if isinstance(tree, Apply) and tree.word in ("*", "negate"):
        return next(filter(None, (_zero_unless(operand, texts) for operand in tree.operands)), "")
    return ""


def _plain(found: Spelled) -> Text:
    return Text(found.text, found.binding)


def _guarded(found: Spelled, texts: Sequence[Text]) -> Text:
    """A product, which is zero where one of its factors is."""
    return Text(found.text, found.binding, next(filter(None, (text.given for text in texts)), ""))


def _complementary(one: str, other: str) -> bool:
    """Whether one of two conditions holds at each step: to be before the last step of a block, and to be in it."""
    return (one, other) == ("t + 1 < steps", "t == steps - 1")
