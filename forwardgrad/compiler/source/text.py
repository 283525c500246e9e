"""What is generated source made of? Names, arrays over time, indented lines, and functions."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Collection, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from forwardgrad.ops.formula import parsed

RESERVED = frozenset(
    {"np", "t", "dtype", "steps", "batch", "end", "size", "tape", "state", "params", "inputs", "losses", "signals"}
    | {"seeds", "hold", "held", "fresh", "now", "lag", "back", "made", "new", "old", "key", "keys", "found", "grads"}
    | {"weights", "forward", "slopes", "credit", "gradients", "advance", "start", "step", "gradient", "loss"}
    | {"targets", "outputs", "value", "piece", "last", "first", "unpacked", "evaluate", "rows", "Array"}
    | {"target", "own", "past", "before", "names", "KEYS", "entry", "name", "total", "block", "mask", "noise", "seed"}
    | {"annotations", "zlib", "base64", "port", "ports", "noted", "CACHED", "LOSSES", "OUTPUTS"}
    | {"ROWS"}
)
"""Words of the generated code itself."""

LONGEST = 40
"""Characters of a name that are kept."""


class Names:
    """Identifiers in the user's words, each of them unique."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*RESERVED, *dir(builtins), *taken}
        self._known: dict[Hashable, str] = {}

    def of(self, wanted: str, *what: Hashable) -> str:
        """The identifier of a thing, made from the wanted word when it is first asked for."""
        key = (wanted, *what)
        if key not in self._known:
            word = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_")[:LONGEST] or "it"
            word = f"n{word}" if word[0].isdigit() else word
            name, count = word, 1
            while name in self._taken or keyword.iskeyword(name):
                count += 1
                name = f"{word}_{count}"
            self._taken.add(name)
            self._known[key] = name
        return self._known[key]

    def own(self, word: str, avoided: Collection[str], *what: Hashable) -> str:
        """The identifier of a thing that has a name of its own, which it keeps where nothing else has it."""
        key = ("own", word, *what)
        if key not in self._known:
            name, count = word, 1
            while name in self._taken or (count > 1 and name in avoided):
                count += 1
                name = f"{word}_{count}"
            self._taken.add(name)
            self._known[key] = name
        return self._known[key]


def index(first: int, word: str = "") -> str:
    """A step counted from `word`: `t + 1`, `t`, `t - 2`, or a number alone."""
    if not word:
        return str(first)
    return word if first == 0 else f"{word} {'+' if first > 0 else '-'} {abs(first)}"


@dataclass(frozen=True)
class Series:
    """An array over time.

    Args:
        name: of the array.
        first: the index at which a block begins.
        past: how many steps before the block the array holds in all.
    """

    name: str
    first: int = 0
    past: int = 0

    def at(self, later: int = 0) -> str:
        """The value so many steps after step `t`."""
        return f"{self.name}[{index(self.first + later, 't')}]"

    def all(self, steps: str = "steps") -> str:
        """The values of all steps of a block."""
        if self.first == self.past:
            return f"{self.name}[{self.past}:]" if self.past else self.name
        return f"{self.name}[{self.first or ''}:{index(self.first, steps)}]"

    def upto(self, end: str) -> str:
        """The values of the first steps of a block."""
        return f"{self.name}[{self.first or ''}:{index(self.first, end)}]"


class Lines:
    """Lines of a function's body."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0

    def add(self, *lines: str) -> None:
        """Add lines at the present depth."""
        self.lines += ["    " * self._depth + line if line else "" for line in lines]

    @contextmanager
    def indented(self, head: str) -> Generator[None]:
        """A compound statement; one that stays empty is left out."""
        self.add(*head.split("\n"))
        before = len(self.lines)
        self._depth += 1
        yield
        self._depth -= 1
        if len(self.lines) == before:
            del self.lines[before - head.count("\n") - 1 :]


UFUNCS: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.MatMult: "matmul",
}
"""The functions of NumPy that operators stand for."""

INTO = ("tanh", "exp", "maximum", "logaddexp", "sin", "square", "multiply", "add")
"""Functions of NumPy that can write their result into an array."""


@lru_cache(2**16)  # sweeps from many places hold the same statements
def put(target: str, text: str) -> str:
    """The statement that computes an expression right into an array, or a part of one, without an array in between."""
    tree = parsed(text)
    if isinstance(tree, ast.BinOp) and type(tree.op) in UFUNCS:
        left, right = ast.unparse(tree.left), ast.unparse(tree.right)
        return f"np.{UFUNCS[type(tree.op)]}({left}, {right}, out={target})"
    if isinstance(tree, ast.Call) and ast.unparse(tree.func) in {"matmul", *(f"np.{name}" for name in INTO)}:
        return f"{text[:-1]}, out={target})"
    return f"{target}[...] = {text}" if target.isidentifier() else f"{target} = {text}"


WIDTH = 100
"""Characters of a line up to which it is not broken."""


def broken(before: str, items: Sequence[str], after: str) -> str:
    """Items between two brackets: on one line, or on a line each where that grows too long."""
    line = f"{before}{', '.join(items)}{after}"
    if len(line) <= WIDTH or not items:
        return line
    return "\n".join([before, *(f"    {item}," for item in items), after])


def tuple_of(rows: Sequence[Sequence[str] | str], before: str = "", after: str = "") -> str:
    """Texts, or tuples of texts, as a tuple."""
    items = [repr(row) if isinstance(row, str) else f"({', '.join(map(repr, row))})" for row in rows]
    if len(items) == 1:
        items[0] += ","
    return broken(f"{before}(", items, f"){after}").replace(",,", ",")


MOST_TERMS = 200
"""Terms of a sum up to which it is written with signs: Python parses each one deeper than the last."""


def sum_of(terms: Sequence[str]) -> str:
    """Terms added up, from left to right."""
    if len(terms) > MOST_TERMS:
        return f"sum(({', '.join(terms[1:])}), {terms[0]})"
    return " + ".join(terms)


_WORD = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[A-Za-z_]\w*")
_GIVEN = re.compile(r"^\s*(?:for ([\w, ]+) in |([A-Za-z_][\w, ]*) = )")


def loaded(lines: Iterable[str]) -> list[str]:
    """The words of lines, in order, those in strings left out: among them are all names that the lines read."""
    words = (word for line in lines for word in _WORD.findall(line))
    return list(dict.fromkeys(word for word in words if word[0] not in "'\""))


def stored(lines: Iterable[str]) -> set[str]:
    """The names that lines give a value to."""
    given = (_GIVEN.match(line) for part in lines for line in part.split("\n"))
    return {name.strip() for match in given if match for name in (match[1] or match[2]).split(",")}


def shown(name: str) -> str:
    """A name that anybody chose, as it may stand in a comment."""
    return re.sub(r"[^\w.>\- ]", "?", name)[:LONGEST]


def function(name: str, arguments: Sequence[str], doc: str, body: Sequence[str]) -> list[str]:
    """A function's text."""
    lines = doc.split("\n")
    text = [f'    """{lines[0]}', *(f"    {line}" if line else "" for line in lines[1:])]
    text[-1] += '"""' if len(lines) == 1 else ""
    if len(lines) > 1:
        text.append('    """')
    head = broken(f"def {name}(", arguments, "):").split("\n")
    body = [part for line in body for part in line.split("\n")]
    return [*head, *text, *(f"    {line}" if line else "" for line in body), "", ""]


def reading(body: Sequence[str], known: Collection[str], source: str = "tape") -> list[str]:
    """A body, and before it the lines that fetch what it reads from a dictionary of arrays."""
    own = stored(body)
    return [f"{name} = {source}[{name!r}]" for name in loaded(body) if name in known and name not in own] + list(body)
