"""C for devices: the functions of a specialised program, whose arrays all have a size that is known before it runs.

The backend's C is for any length and batch, and packs matrices for large processors. Here one function is a few loops
with numbers for bounds, and takes as little memory as it can.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forwardgrad.array_program.buffers import Analysed, analysed
from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.in_c.entries import Entries
from forwardgrad.array_program.in_c.expressions import Dialect
from forwardgrad.array_program.in_c.loops import Storage
from forwardgrad.array_program.in_c.names import comment, identifier
from forwardgrad.array_program.in_c.prelude import helpers
from forwardgrad.array_program.in_c.statements import Needs, Statements
from forwardgrad.array_program.in_c.storage import TYPES, Stores
from forwardgrad.array_program.in_c.totals import totals
from forwardgrad.array_program.regions import ArrayProgram, Function, Scan
from forwardgrad.array_program.values import Value
from forwardgrad.ops import Array

LINE = 8
"""Bytes at whose multiples arrays begin."""

MULTIPLY = """\
/* c = a b, or c += a b, for matrices of m, k and n rows and columns whose entries are any steps apart. */
static void multiply(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *b, extent bk,
                     extent bn, real *c, extent cm, int add) {
    for (extent i = 0; i < m; i++) {
        for (extent j = 0; j < n; j++) {
            c[i * cm + j] = add ? c[i * cm + j] : 0;
        }
        if (bk < bn) {
            for (extent j = 0; j < n; j++) {
                real sum = 0;
                for (extent p = 0; p < k; p++) {
                    sum += a[i * am + p * ak] * b[p * bk + j * bn];
                }
                c[i * cm + j] += sum;
            }
        } else {
            for (extent p = 0; p < k; p++) {
                const real factor = a[i * am + p * ak];
                for (extent j = 0; j < n; j++) {
                    c[i * cm + j] += factor * b[p * bk + j * bn];
                }
            }
        }
    }
}
"""

TYPEDEFS = """\
typedef int32_t extent;
typedef unsigned char truth;
"""


@dataclass(frozen=True)
class DeviceFunction:
    """A function in C: `static void name(void *const *arrays, char *rest)`.

    Args:
        name: in C.
        function: what it computes.
        outputs: the values that it makes and that come out. Its arrays are the inputs and these, in this order.
        room: the bytes that it needs at `rest`.
        text: its lines.
    """

    name: str
    function: Function
    outputs: tuple[Value, ...]
    room: int
    text: str


@dataclass(frozen=True)
class DeviceCode:
    """The functions of a program in C.

    Args:
        text: types, helpers, constants and functions. The type `real` comes from outside.
        functions: by their names in the program.
        constants: the bytes of the constants that are part of the text.
    """

    text: str
    functions: Mapping[str, DeviceFunction]
    constants: int


def device_code(program: ArrayProgram) -> DeviceCode:
    """The functions of a specialised program in C."""
    dialect, constants = Dialect(program.dtype), tuple(program.constants)
    made: dict[str, DeviceFunction] = {}
    for number, (name, each) in enumerate(analysed(program).items()):
        made[name] = _function(number, each, constants, dialect, made)
    text = "\n".join(function.text for function in made.values())
    used = set(re.findall(r"\w+", text))
    arrays: list[str] = []
    size = 0
    for place, value in enumerate(constants):
        word = identifier("k", place, value.name)
        if word in used:
            array = program.constants[value]
            arrays.append(static_array(word, array, TYPES[value.type.dtype], dialect))
            size += array.size * (dialect.size if value.type.dtype == "float" else 4)
    known = helpers(text, dialect, {"multiply": MULTIPLY})
    return DeviceCode("\n".join([TYPEDEFS, *known, *arrays, text]), made, size)


def static_array(word: str, array: Array, kind: str, dialect: Dialect) -> str:
    """An array of constants as C."""
    flat = np.asarray(array).ravel()
    texts = [dialect.number(float(each)).text if kind == "real" else str(int(each)) for each in flat] or ["0"]
    lines = [""]
    for text in texts:
        if len(lines[-1]) + len(text) > 110:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{text},"
    body = "\n".join(f"    {line}" for line in lines)
    return f"static const {kind} {word}[{len(texts)}] = {{\n{body}\n}};\n"


def aligned(size: int) -> int:
    """Bytes, rounded up so that another array can begin after them."""
    return -(-size // LINE) * LINE


class _DeviceStatements(Statements):
    """Statements of a specialised program: nothing is packed, and calls bring no symbols."""

    def _packed(self, scan: Scan) -> list[str]:
        return []

    def _called(self, name: str, pointers: str, symbols: Sequence[tuple[str, Affine]]) -> list[str]:
        assert not symbols
        return ["{", f"    void *const arrays[] = {pointers};", f"    {name}(arrays, rest);", "}"]


def _function(
    number: int,
    each: Analysed,
    constants: Sequence[Value],
    dialect: Dialect,
    before: Mapping[str, DeviceFunction],
) -> DeviceFunction:
    function = each.function
    known = {value: identifier("k", place, value.name) for place, value in enumerate(constants)}
    outputs = tuple(dict.fromkeys(value for value in function.body.results if value not in (*known, *function.inputs)))
    arrays = {value: identifier("a", place, value.name) for place, value in enumerate((*function.inputs, *outputs))}
    given = {value: Storage(word, value.dims) for value, word in {**known, **arrays}.items()}
    results = {value: given.pop(value) for value in outputs}
    stores = Stores(each, given, results)
    needs = Needs({name: (f.name, f.function, f.outputs) for name, f in before.items()}, [])
    printed = _DeviceStatements(Entries(stores, dialect), totals(each, stores), needs)
    lines = [_plain(line) for line in printed.body(function.body) if not line.lstrip().startswith("#pragma")]
    rooms = {other.name: other.room for other in before.values()}
    local: list[str] = []
    own = 0
    for word, kind, entries in stores.local:
        size = aligned(int(entries) * {"real": dialect.size, "extent": 4, "truth": 1}[kind])
        local += [f"{kind} *const restrict {word} = ({kind} *)rest;", f"rest += {size};"]
        own += size
    room = own + max((rooms[name] for name, _ in needs.invoked), default=0)
    words = set(re.findall(r"\w+", "\n".join(lines)))
    pointers = [
        f"{'' if value in results else 'const '}{TYPES[value.type.dtype]} *const restrict {word} = arrays[{place}];"
        for place, (value, word) in enumerate(arrays.items())
        if word in words
    ]
    whole = [*pointers, *local, *lines]
    used = set(re.findall(r"\w+", "\n".join(whole)))
    unused = [f"(void){name};" for name in ("arrays", "rest") if name not in used]
    name = identifier("f", number, function.name)
    body = [f"    {line}" for line in (*unused, *whole)]
    head = [*comment(function.doc), f"static void {name}(void *const *arrays, char *rest) {{"]
    return DeviceFunction(name, function, outputs, room, "\n".join([*head, *body, "}", ""]))


def _plain(line: str) -> str:
    """A line without the memory for packed matrices, of which there are none here, and without a look for zeros."""
    return line.replace(", (real *)rest);", ");").replace("multiply_passing_over(", "multiply(")
