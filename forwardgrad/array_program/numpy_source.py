"""NumPy source: an array program as Python functions in the user's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardgrad.array_program.buffers import Analysed, analysed
from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.numpy_statements import Printer
from forwardgrad.array_program.numpy_texts import broken
from forwardgrad.array_program.regions import ArrayProgram


@dataclass(frozen=True)
class Printed:
    """The functions of a program as text; they know `np`, `dtype`, constants, calls and helpers by their names.

    Args:
        text: the functions.
        arguments: what each of them takes, by its name: symbols, and then arrays.
    """

    text: str
    arguments: Mapping[str, tuple[str, ...]]


def printed(functions: Mapping[str, Analysed]) -> Printed:
    """The functions of a program.

    Args:
        functions: `analysed`, by name, each after those that it invokes.
    """
    symbols: dict[str, tuple[str, ...]] = {}
    arguments: dict[str, tuple[str, ...]] = {}
    lines: list[str] = []
    for each in functions.values():
        function, printer = each.function, Printer(each, symbols)
        body = printer.body(function.body, "    ")
        used = symbols[function.name] = tuple(symbol for symbol in SYMBOLS if symbol in printer.used)
        arguments[function.name] = (*used, *map(str, function.inputs))
        results = [printer.of(value).text for value in function.body.results]
        head = broken(f"def {function.name}(", arguments[function.name], "):", "")
        first, *rest = function.doc.splitlines()
        doc = [f'    """{first}', *(f"    {line}" for line in rest)]
        ends = [f"    return {results[0]}"] if len(results) == 1 else broken("    return (", results, ")", "    ")
        lines += [*head, *doc[:-1], f'{doc[-1]}"""', *body, *ends, "", ""]
    return Printed("\n".join(lines), arguments)


def source(program: ArrayProgram) -> str:
    """The text of a program's functions."""
    return printed(analysed(program)).text
