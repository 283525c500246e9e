"""C source: an array program as one translation unit of C99.

Each function takes what its symbols stand for, its arrays, and memory for those in between. It allocates nothing, and
keeps nothing. Lengths of blocks and batches are numbers that it is given; sizes of nodes are part of the source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.array_program.buffers import Analysed
from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.in_c.entries import Entries
from forwardgrad.array_program.in_c.expressions import Dialect, form
from forwardgrad.array_program.in_c.loops import Storage
from forwardgrad.array_program.in_c.names import comment, identifier
from forwardgrad.array_program.in_c.parts import Parts
from forwardgrad.array_program.in_c.prelude import ENTRY, prelude
from forwardgrad.array_program.in_c.statements import Needs, Statements
from forwardgrad.array_program.in_c.storage import TYPES, Stores
from forwardgrad.array_program.in_c.totals import totals
from forwardgrad.array_program.instructions import Signs
from forwardgrad.array_program.regions import ArrayProgram, Function
from forwardgrad.array_program.values import Value

BASE = "char *const base = rest;"
"""What the parts of a function are told: where its memory begins."""


@dataclass(frozen=True)
class PrintedFunction:
    """A function of a translation unit.

    Args:
        name: of the function in C: `void name(const call *c, void *const *arrays, char *rest)`.
        room: the function that gives the bytes of `rest`: `size_t room(const call *c)`.
        function: what it computes.
        outputs: the values that it makes and that come out; its arrays are the inputs and these.
        text: its lines.
    """

    name: str
    room: str
    function: Function
    outputs: tuple[Value, ...]
    text: str


@dataclass(frozen=True)
class Unit:
    """A translation unit.

    Args:
        text: all of it.
        functions: what it holds, by the names in the program.
        constants: the order in which a call brings the constants of the program.
        signs: the draws of random signs, by the number that the unit knows them by.
    """

    text: str
    functions: Mapping[str, PrintedFunction]
    constants: tuple[Value, ...]
    signs: tuple[Signs, ...]


def unit(program: ArrayProgram, functions: Mapping[str, Analysed]) -> Unit:
    """A program as a translation unit.

    Args:
        program: the program.
        functions: its functions, `analysed`.
    """
    dialect, signs, constants = Dialect(program.dtype), list[Signs](), tuple(program.constants)
    printed: dict[str, PrintedFunction] = {}
    for number, (name, analysed) in enumerate(functions.items()):
        known = {each: (found.name, found.function, found.outputs) for each, found in printed.items()}
        printed[name] = _function(number, analysed, constants, dialect, Needs(known, signs))
    text = "\n\n".join(each.text for each in printed.values())
    return Unit(f"{prelude(text, dialect)}\n{text}\n{ENTRY}", printed, constants, tuple(signs))


def _function(
    number: int, analysed: Analysed, constants: Sequence[Value], dialect: Dialect, needs: Needs
) -> PrintedFunction:
    function = analysed.function
    given = {
        value: Storage(identifier("k", place, value.name), value.dims) for place, value in enumerate(constants)
    } | {value: Storage(identifier("a", place, value.name), value.dims) for place, value in enumerate(function.inputs)}
    outputs = tuple(dict.fromkeys(value for value in function.body.results if value not in given))
    count = len(function.inputs)
    results = {
        value: Storage(identifier("a", count + place, value.name), value.dims) for place, value in enumerate(outputs)
    }
    stores = Stores(analysed, given, results)
    name, room = (identifier(kind, number, function.name) for kind in "fn")
    parts = Parts(name)
    lines = Statements(Entries(stores, dialect), totals(analysed, stores), needs, parts).body(function.body)
    pointers = [
        *(_pointer(given[value], value, f"arrays[{place}]", "const ") for place, value in enumerate(function.inputs)),
        *(_pointer(results[value], value, f"arrays[{count + place}]") for place, value in enumerate(outputs)),
        *(_pointer(given[value], value, f"c->constants[{place}]", "const ") for place, value in enumerate(constants)),
    ]
    memory = [(local, kind, f"room({entries}, sizeof({kind}))") for local, kind, entries in stores.local]
    text = [
        *comment(f"The bytes that {function.name} needs besides its arrays."),
        f"size_t {room}(const call *c) {{",
        *_known(_room([size for _, _, size in memory], needs)),
        "}",
        "",
        *_parts(parts, pointers, memory),
        *comment(function.doc),
        f"void {name}(const call *c, void *const *arrays, char *rest) {{",
        *_known([BASE, *lines] if parts.bodies else lines, pointers, memory),
        "}",
    ]
    return PrintedFunction(name, room, function, outputs, "\n".join(text))


def _parts(parts: Parts, pointers: Sequence[tuple[str, str]], memory: Sequence[tuple[str, str, str]]) -> list[str]:
    """The functions that compute parts. What they need besides the function's arrays is at `scratch`."""
    text: list[str] = []
    for number, lines in enumerate(parts.bodies):
        packs = any("rest" in re.findall(r"\w+", line) for line in lines)
        text += [
            f"static void {parts.word(number)}(const call *c, void *const *arrays, char *rest, char *scratch,",
            f"{' ' * len(f'static void {parts.word(number)}(')}extent from, extent to) {{",
            *_known(["rest = scratch;", *lines] if packs else lines, pointers, memory, ("scratch", "from", "to")),
            "}",
            "",
        ]
    return text


def _pointer(storage: Storage, value: Value, what: str, const: str = "") -> tuple[str, str]:
    kind = TYPES[value.type.dtype]
    return storage.name, f"{const}{kind} *const restrict {storage.name} = {what};"


def _room(memory: Sequence[str], needs: Needs) -> list[str]:
    """The body of the function that gives the bytes of memory: for own arrays, and what the neediest call takes."""
    lines = ["size_t own = 0, most = 0;", *(f"own += {size};" for size in memory)]
    for entries in dict.fromkeys(needs.packed):
        lines.append(f"most = larger_room(most, room({entries}, sizeof(real)));")
    if needs.packed:
        lines.append("most *= pieces(c);")
    for name, symbols in dict.fromkeys(needs.invoked):
        room = f"n{name[1:]}"
        lines += ["{", "    call there = *c;"]
        lines += [f"    there.{symbol} = {form(number).text};" for symbol, number in symbols]
        lines += [f"    most = larger_room(most, {room}(&there));", "}"]
    return [*lines, "return own + most;"]


def _known(
    lines: Sequence[str],
    pointers: Sequence[tuple[str, str]] = (),
    memory: Sequence[tuple[str, str, str]] = (),
    more: Sequence[str] = (),
) -> list[str]:
    """Lines, and before them those that name what they read.

    Args:
        lines: the lines.
        pointers: names of arrays, and the lines that say where these are.
        memory: names of the arrays at `rest`, their types, and the bytes that each takes.
        more: arguments that a part has.
    """
    used = set(re.findall(r"\w+", "\n".join(lines)))
    declared = [line for name, line in pointers if name in used]
    skipped: list[str] = []
    for name, kind, size in memory:
        if name in used:
            declared += [*skipped, f"{kind} *const restrict {name} = ({kind} *)rest;"]
            skipped = []
        skipped.append(f"rest += {size};")
    declared += [] if more else skipped  # a part has memory of its own
    start = [line for line in lines if line == BASE]
    whole = [*start, *declared, *(line for line in lines if line != BASE)]
    words = set(re.findall(r"\w+", "\n".join(whole)))
    symbols = [f"const extent {symbol} = c->{symbol};" for symbol in SYMBOLS if symbol in words - {"c"}]
    whole = [*symbols, *whole]
    names = ["c"] if not pointers and not memory else ["c", "arrays", "rest", *more]
    unused = [f"(void){name};" for name in names if name not in set(re.findall(r"\w+", "\n".join(whole)))]
    return [f"    {line}" for line in (*unused, *whole)]
