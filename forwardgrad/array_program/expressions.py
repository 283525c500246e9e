"""Expression trees: formulas of numbers, entry by entry, over a small vocabulary, and their spelling in a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

ATOM, COMPARED, ADDED, MULTIPLIED, NEGATED, POWER = 9, 0, 1, 2, 3, 4

INFIX: Mapping[str, int] = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), COMPARED),
    **dict.fromkeys(("+", "-"), ADDED),
    **dict.fromkeys(("*", "/"), MULTIPLIED),
    "**": POWER,
}
"""The words that stand between their two operands, and how strongly each binds."""

FUNCTIONS: Mapping[str, int] = {
    **dict.fromkeys(("abs", "cos", "exp", "expm1", "log", "log1p", "sign", "sin", "sqrt", "square", "tanh"), 1),
    **dict.fromkeys(("logaddexp", "maximum", "minimum"), 2),
    "where": 3,
}
"""The words that are written like a function, and how many operands each takes."""

VOCABULARY: Mapping[str, int] = {**dict.fromkeys(INFIX, 2), **FUNCTIONS, "negate": 1, "indicator": 1, "cast": 1}
"""All words with their numbers of operands; `indicator` makes the numbers 1 and 0 of a comparison, `cast` the dtype of
the program of what may have another."""

GROUPED: frozenset[str] = frozenset({"group_max", "group_mean", "group_sum"})
"""Words that a formula may hold besides: of the units of a group, for each of them. `lowering/groups.py` makes
instructions of these, so that no instruction holds one."""


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Argument:
    """One of the arrays that an expression is given, by its place."""

    place: int


@dataclass(frozen=True)
class Apply:
    """A word of the vocabulary, applied to its operands."""

    word: str
    operands: tuple[Tree, ...]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The places of the arguments in it, as often as they are read."""
        return tuple(place for operand in self.operands for place in places(operand))

    @cached_property
    def grouped(self) -> bool:
        """Whether it holds a word of groups."""
        return self.word in GROUPED or any(isinstance(each, Apply) and each.grouped for each in self.operands)


Tree = Number | Argument | Apply


def apply(word: str, *operands: Tree) -> Tree:
    """A word of the vocabulary, applied to its operands."""
    return Apply(word, operands)


TERMS = 64
"""Terms of a sum that are added from the left. Longer sums are sums of sums, or trees would be too deep for Python."""


@cache
def total(count: int) -> Tree:
    """The sum of that many arguments."""
    return _sum([Argument(place) for place in range(count)])


def _sum(terms: Sequence[Tree]) -> Tree:
    while len(terms) > TERMS:
        terms = [_sum(terms[first : first + TERMS]) for first in range(0, len(terms), TERMS)]
    tree = terms[0]
    for term in terms[1:]:
        tree = apply("+", tree, term)
    return tree


def places(tree: Tree) -> tuple[int, ...]:
    """The places of the arguments that an expression reads, as often as it reads them."""
    if isinstance(tree, Apply):
        return tree.places
    return (tree.place,) if isinstance(tree, Argument) else ()


def renumbered(tree: Tree, places: Mapping[int, int]) -> Tree:
    """The expression with its arguments at other places."""
    if isinstance(tree, Argument):
        return Argument(places[tree.place])
    if isinstance(tree, Apply):
        return Apply(tree.word, tuple(renumbered(operand, places) for operand in tree.operands))
    return tree


def is_test(tree: Tree) -> bool:
    """Whether an expression is a comparison, so that its entries are true or false."""
    return isinstance(tree, Apply) and INFIX.get(tree.word) == COMPARED


@dataclass(frozen=True)
class Spelled:
    """The text of an expression, and how strongly its outermost word binds."""

    text: str
    binding: int = ATOM

    def within(self, binding: int) -> str:
        """The text as an operand of a word that binds so strongly."""
        return self.text if self.binding >= binding else f"({self.text})"


@dataclass(frozen=True)
class Language:
    """How a language spells the vocabulary.

    Args:
        function: the call of a function, with `{}` for its name.
        indicator: the number that a comparison makes, with `{}` for the comparison as an atom.
        cast: numbers of the program's dtype, with `{}` for what they are made of.
    """

    function: str
    indicator: str
    cast: str


PLAIN = Language("{}", "indicator{}", "cast({})")


def spelled(tree: Tree, arguments: Sequence[Spelled], language: Language = PLAIN) -> Spelled:
    """The text of an expression.

    >>> y = Spelled("y")
    >>> spelled(apply("*", y_ := Argument(0), apply("-", Number(1), y_)), [y]).text
    'y * (1 - y)'
    """
    if isinstance(tree, Number):
        return Spelled(repr(tree.value), ATOM if tree.value >= 0 else NEGATED)
    if isinstance(tree, Argument):
        return arguments[tree.place]
    parts = [spelled(operand, arguments, language) for operand in tree.operands]
    if tree.word in INFIX:
        binding = INFIX[tree.word]
        left, right = (binding + 1, NEGATED) if tree.word == "**" else (binding, binding + 1)
        return Spelled(f"{parts[0].within(left)} {tree.word} {parts[1].within(right)}", binding)
    if tree.word == "negate":
        return Spelled(f"-{parts[0].within(NEGATED)}", NEGATED)
    if tree.word == "cast":
        return Spelled(language.cast.format(parts[0].text))
    if tree.word == "indicator":
        return Spelled(language.indicator.format(f"({parts[0].text})"))
    name = tree.word.replace("_", ".") if tree.word in GROUPED else language.function.format(tree.word)
    return Spelled(f"{name}({', '.join(part.text for part in parts)})")
