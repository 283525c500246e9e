"""Sums and maxima in C: contractions and reductions as loops, in an order in which the innermost can be vectorised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import MULTIPLIED
from forwardgrad.array_program.in_c.entries import Entries
from forwardgrad.array_program.in_c.loops import Index, Nest, Storage, nested
from forwardgrad.array_program.instructions import Contract, Reduce, letters_of
from forwardgrad.array_program.values import Value


@dataclass(frozen=True)
class Sum:
    """A product of arrays, summed over the axes that the result lacks; or the maximum over them.

    Args:
        operands: the arrays, each with a letter per axis.
        result: the letters of the result.
        word: `sum` or `max`.
    """

    operands: tuple[tuple[Value, str], ...]
    result: str
    word: str = "sum"

    @property
    def sizes(self) -> Mapping[str, Affine]:
        """The size of each axis."""
        return {each: dim for value, word in self.operands for each, dim in zip(word, value.dims, strict=True)}

    def axis(self, place: int) -> int:
        """Which of all axes an axis of the result is."""
        return list(self.sizes).index(self.result[place])

    def order(self) -> tuple[str, str, str]:
        """The axes outside, those that are summed, and the one that is innermost: of the result, or a summed one."""
        sizes = self.sizes
        kept = [each for each in self.result if sizes[each] != affine(1)]
        summed = [each for each in sizes if each not in self.result and sizes[each] != affine(1)]
        words = [[each for each in word if sizes[each] != affine(1)] for _, word in self.operands]

        def is_last(letter: str) -> bool:
            return all(letter not in word or word[-1] == letter for word in words)

        if not kept and all(word == summed for word in words):  # one loop, where the arrays lie side by side
            return "", "", "".join(summed)
        if kept and is_last(kept[-1]):
            return "".join(kept[:-1]), "".join(summed), kept[-1]
        last = next((each for each in reversed(summed) if is_last(each)), None)
        if last is not None:
            return "".join(kept), "".join(each for each in summed if each != last), last
        return "".join(kept[:-1]), "".join(summed), "".join(kept[-1:])


def summed(instruction: Contract | Reduce) -> Sum:
    """A contraction or a reduction as a sum."""
    if isinstance(instruction, Contract):
        ours, theirs, result = letters_of(instruction.axes)
        return Sum(((instruction.left, ours), (instruction.right, theirs)), result)
    word = "abcdefgh"[: len(instruction.operand.dims)]
    kept = "".join(letter for axis, letter in enumerate(word) if axis not in instruction.axes)
    return Sum(((instruction.operand, word),), kept, instruction.word)


def sum_lines(each: Sum, target: Storage, entries: Entries, added: bool = False, split: int | None = None) -> list[str]:
    """The loops that put a sum into an array, or add it to what is there.

    Args:
        each: the sum.
        target: the array.
        entries: reads entries of its operands.
        added: whether it is added.
        split: the axis of the result of which only a part is computed.
    """
    letters, (outer, between, inner) = list(each.sizes), each.order()
    axes = {letter: Index(axis) for axis, letter in enumerate(letters)}
    dims = tuple(each.sizes.values())
    levels = [[letters.index(letter) for letter in level] for level in (outer, between, inner)]

    def written(nest: Nest) -> list[str]:
        entry = nest.entry(target, [axes[letter] for letter in each.result])
        factors = [entries.of(value, _at(axes, word), nest, {}) for value, word in each.operands]
        text = " * ".join(factor.within(MULTIPLIED + place) for place, factor in enumerate(factors))
        largest = each.word == "max"
        least = "-INFINITY" if largest else "0"

        def grown(total: str) -> str:
            return f"{total} = larger({total}, {text});" if largest else f"{total} += {text};"

        if not inner or inner in each.result:
            add = nest.loops(2, [grown(entry)], "simd")
            start = [] if added else nest.loops(2, [f"{entry} = {least};"], "simd")
            return nest.loops(0, [*start, *nest.loops(1, add)])
        add = nest.loops(2, [grown(each.word)], "" if largest else "simd reduction(+ : sum)")
        put = f"{entry} {'+=' if added else '='} {each.word};"
        return nest.loops(0, [f"real {each.word} = {least};", *nest.loops(1, add), put])

    return nested(dims, levels, written, None if split is None else each.axis(split))


def _at(axes: Mapping[str, Index], word: Sequence[str]) -> list[Index]:
    return [axes[letter] for letter in word]
