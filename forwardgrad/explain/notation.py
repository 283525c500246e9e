"""How is a derived equation written down? Symbols, products and sums, as plain text and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

LIMIT = 40
"""Lines of one kind beyond which a text says how many more there are."""


@dataclass(frozen=True)
class Symbol:
    """One factor.

    Args:
        kind: `S`, `eps`, `ebar`, `e` (influence), `L` (learning signal), `D`, `psi`, `J` (derivatives of an op), `W`,
            `w`, `b`, `B`, `c` (weights, biases, feedback, constants), `value` (of a node), `E` (derivative of the loss
            by a node), `identity`, or `gradient` (of the loss by a parameter).
        name: the node, edge or parameter.
        index: unit indices, or an empty string for the whole array.
        delay: how many steps ago; `None` for what does not change in time.
        mode: which of several modes of the node; 0 where there is one.
        form: of a gradient, the letter of the parameter. Else an empty string, `transposed`, `diagonal` (part of a
            matrix, or matrix of a vector), `rest` (without its diagonal), `rest transposed`, or `outer` (Kronecker
            product of the identity with the transposed vector).
    """

    kind: str
    name: str = ""
    index: str = ""
    delay: int | None = None
    mode: int = 0
    form: str = ""


@dataclass(frozen=True)
class Term:
    """A product: a number, the indices that are summed over, and factors in their order."""

    number: float
    over: tuple[str, ...]
    factors: tuple[Symbol, ...]


@dataclass(frozen=True)
class Line:
    """An equation: a symbol, and the sum that it equals, over time if `in_time`."""

    left: Symbol
    right: tuple[Term, ...]
    in_time: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence below the equations, about a symbol where there is one."""

    about: Symbol | None
    text: str


@dataclass(frozen=True, repr=False)
class Equations:
    """What was derived for a parameter; its `repr` is the plain text.

    Args:
        influence: the recursion of the influence, a line a place.
        signals: the learning signals, a line a place.
        gradient: the gradient.
        notes: what the symbols are, and what happens besides.
    """

    influence: tuple[Line, ...]
    signals: tuple[Line, ...]
    gradient: Line
    notes: tuple[Note, ...]

    def text(self) -> str:
        """Plain text."""
        lines = [_capped([_text_line(line) for line in group], str) for group in (self.influence, self.signals)]
        notes = [f"{_text(note.about)}: {note.text}" if note.about else note.text for note in self.notes]
        body = [*lines[0], *lines[1], _text_line(self.gradient)]
        return "\n".join([*body, *(f"  {note}" for note in _capped(notes, str))])

    __repr__ = text

    def latex(self) -> str:
        r"""LaTeX: one `aligned` display, and a paragraph of notes. It needs `amsmath`."""
        notes = [
            f"${_latex(note.about)}$: {_words(note.text)}" if note.about else _words(note.text) for note in self.notes
        ]
        head = f"\\[\n{self._aligned()}\n\\]"
        return "\n\n".join([head, *(["\\\\\n".join(_capped(notes, str))] if notes else [])])

    def _repr_latex_(self) -> str:
        """The mathematics alone, as notebooks show it."""
        return f"$${self._aligned()}$$"

    def _aligned(self) -> str:
        groups = [[_latex_line(line) for line in group] for group in (self.influence, self.signals)]
        lines = [line for group in groups for line in _capped(group, lambda more: rf"&\text{{{more}}}")]
        body = " \\\\\n".join([*lines, _latex_line(self.gradient)])
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _capped(lines: list[str], more: Callable[[str], str]) -> list[str]:
    return lines if len(lines) <= LIMIT else [*lines[:LIMIT], more(f"... and {len(lines) - LIMIT} more")]


def _when(delay: int | None) -> str:
    return "" if delay is None else "(t)" if delay == 0 else f"(t-{delay})"


def _sum(parts: list[tuple[bool, str]]) -> str:
    """Terms with their signs."""
    if not parts:
        return "0"
    head = ("-" if parts[0][0] else "") + parts[0][1]
    return head + "".join((" - " if minus else " + ") + part for minus, part in parts[1:])


# Plain text.


def printable(name: str) -> str:
    """A name on one line: what cannot be printed is escaped as in Python."""
    return name if name.isprintable() else repr(name)[1:-1]


def plain(name: str) -> str:
    """A name as it stands in an equation; braces keep one together that could be read as something else."""
    shown = printable(name)
    return shown if re.fullmatch(r"\w[\w.]*", shown) else f"{{{shown}}}"


def _text(symbol: Symbol) -> str:
    name, index = plain(symbol.name), f"[{symbol.index}]" if symbol.index else ""
    when, mode = _when(symbol.delay), f"^({symbol.mode})" if symbol.mode else ""
    if symbol.kind == "identity":
        return "I"
    if symbol.kind == "gradient":
        return f"dE/d{symbol.form}_{name}{index}"
    if symbol.kind == "E":
        return f"dE/d{name}{index}{when}"
    body = f"{name}{index}{when}" if symbol.kind == "value" else f"{symbol.kind}_{name}{mode}{index}{when}"
    return {
        "": body,
        "transposed": f"{symbol.kind}_{name}{mode}^T{index}{when}",
        "diagonal": f"diag({body})",
        "rest": f"({body} - diag({body}))",
        "rest transposed": f"({body} - diag({body}))^T",
        "outer": f"(I (x) {body}^T)",
    }[symbol.form]


def _text_term(term: Term) -> str:
    sums = [f"sum_{index}" for index in term.over]
    factors = [_text(factor) for factor in term.factors]
    number = [f"{abs(term.number):g}"] if abs(term.number) != 1 or not factors else []
    return " ".join([*number, *sums, *factors])


def _text_line(line: Line) -> str:
    right = _sum([(term.number < 0, _text_term(term)) for term in line.right])
    if line.in_time and line.right:
        right = f"sum_t {right}" if len(line.right) == 1 and line.right[0].number > 0 else f"sum_t ({right})"
    return f"{_text(line.left)} = {right}"


# LaTeX.

_MATH = {
    "\\": r"\backslash ",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "^": r"{\wedge}",
    "~": r"{\sim}",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "&": r"\&",
    " ": r"\ ",
    "<": "{<}",  # so that no page around it takes a name for a tag
    "'": r"{\prime}",
    "`": r"{\prime}",
}
_TEXT = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "&": r"\&",
}
_GREEK = {"eps": r"\epsilon", "ebar": r"\bar{e}", "psi": r"\psi"}


def _words(text: str) -> str:
    return "".join(_TEXT.get(character, character) for character in text)


def _roman(name: str) -> str:
    escaped = r"{\to}".join("".join(_MATH.get(c, c) for c in part) for part in printable(name).split("->"))
    return rf"\mathrm{{{escaped}}}"


def _latex(symbol: Symbol) -> str:
    name, when = _roman(symbol.name), _when(symbol.delay)
    index = f"_{{{symbol.index.replace(',', '')}}}" if symbol.index else ""
    if symbol.kind == "identity":
        return "I"
    if symbol.kind == "E":
        return rf"\frac{{\partial E}}{{\partial {name}{index}{when}}}"
    if symbol.kind == "gradient":
        return rf"\frac{{\partial E}}{{\partial {symbol.form}^{{{name}}}{index}}}"
    mode = f",({symbol.mode})" if symbol.mode else ""
    letter = _GREEK.get(symbol.kind, symbol.kind)
    body = f"{name}{index}{when}" if symbol.kind == "value" else f"{letter}^{{{name}{mode}}}{index}{when}"
    diagonal = rf"\mathrm{{diag}}({body})"
    return {
        "": body,
        "transposed": rf"({body})^{{\top}}",
        "diagonal": diagonal,
        "rest": rf"({body} - {diagonal})",
        "rest transposed": rf"({body} - {diagonal})^{{\top}}",
        "outer": rf"(I \otimes {body}^{{\top}})",
    }[symbol.form]


def _latex_term(term: Term) -> str:
    sums = [rf"\sum_{{{index}}}" for index in term.over]
    factors = [_latex(factor) for factor in term.factors]
    number = [f"{abs(term.number):g}"] if abs(term.number) != 1 or not factors else []
    return r" \, ".join([*number, *sums, *factors])


def _latex_line(line: Line) -> str:
    right = _sum([(term.number < 0, _latex_term(term)) for term in line.right])
    if line.in_time and line.right:
        single = len(line.right) == 1 and line.right[0].number > 0
        right = rf"\sum_{{t}} {right}" if single else rf"\sum_{{t}} ({right})"
    return f"{_latex(line.left)} &= {right}"
