"""Totals in C: products that are added to an array in place, instead of being made apart and added then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from forwardgrad.array_program.buffers import Analysed, leftmost
from forwardgrad.array_program.expressions import Apply, Argument, Tree, apply, places, renumbered
from forwardgrad.array_program.in_c.storage import Stores
from forwardgrad.array_program.inlining import bodies, reads
from forwardgrad.array_program.instructions import Contract, Elementwise, letters_of
from forwardgrad.array_program.values import Value


@dataclass(frozen=True)
class Total:
    """A sum that is kept in the array of its first term.

    Args:
        value: the sum.
        first: its first term.
        rest: the sum without the products that are added in place.
    """

    value: Value
    first: Value
    rest: Elementwise

    def is_in_place(self, stores: Stores) -> bool:
        """Whether the sum and its first term are one array."""
        return stores.known(self.value) is not None and stores.known(self.value) == stores.known(self.first)


def totals(analysed: Analysed, stores: Stores) -> tuple[Mapping[Value, Total], Mapping[Value, Total]]:
    """The sums of a function to which products are added: by the products, and by themselves."""
    by_products: dict[Value, Total] = {}
    by_values: dict[Value, Total] = {}
    for body in bodies(analysed.function.body):
        made = {value for statement in body.statements for value in statement.results}
        for statement in body.statements:
            instruction = statement.instruction
            if not isinstance(instruction, Elementwise):
                continue
            first = leftmost(instruction.tree)
            if not isinstance(first, Argument) or instruction.arguments[first.place] not in analysed.added_to:
                continue
            products = {
                term.place
                for term in _terms(instruction.tree)
                if isinstance(term, Argument) and _is_added(instruction, term.place, made, stores)
            } - {first.place}
            if products:
                (value,) = statement.results
                total = Total(value, instruction.arguments[first.place], _without(instruction, products))
                by_products.update((instruction.arguments[place], total) for place in products)
                by_values[value] = total
    return by_products, by_values


def _terms(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, Apply) and tree.word == "+":
        for operand in tree.operands:
            yield from _terms(operand)
    else:
        yield tree


def _is_added(instruction: Elementwise, place: int, made: set[Value], stores: Stores) -> bool:
    """Whether an argument is a sum of products of the same body that nothing else reads, and that is read once."""
    value = instruction.arguments[place]
    product = stores.made.get(value)
    if not isinstance(product, Contract) or value not in made or len(stores.readers[value]) > 1:
        return False
    ours, theirs, result = letters_of(product.axes)
    summed = set(result) != {*ours, *theirs}
    return summed and value.dims == instruction.dims and places(instruction.tree).count(place) == 1


def _without(instruction: Elementwise, dropped: set[int]) -> Elementwise:
    tree = _dropped(instruction.tree, dropped)
    assert tree is not None
    used = sorted(set(places(tree)))
    tree = renumbered(tree, {place: number for number, place in enumerate(used)})
    return Elementwise(tree, tuple(instruction.arguments[place] for place in used), instruction.dims)


def _dropped(tree: Tree, dropped: set[int]) -> Tree | None:
    """A sum without some of its terms."""
    if isinstance(tree, Argument) and tree.place in dropped:
        return None
    if not isinstance(tree, Apply) or tree.word != "+":
        return tree
    left, right = (_dropped(operand, dropped) for operand in tree.operands)
    if left is None or right is None:
        return right if left is None else left
    return apply("+", left, right)


def adding(analysed: Analysed) -> Analysed:
    """A function in which sums of an array and a product are kept in that array, where nothing else reads it.

    That is so in a function without choices. In others, a choice says which sums these are.
    """
    body = analysed.function.body
    made = {value: statement.instruction for statement in body.statements for value in statement.results}
    read = Counter(value for statement in body.statements for value in reads(statement.instruction))
    read.update(body.results)
    found = dict(analysed.added_to)
    for statement in body.statements:
        instruction = statement.instruction
        if not isinstance(instruction, Elementwise) or not isinstance(leftmost(instruction.tree), Argument):
            continue
        first, *others = [instruction.arguments[place] for place in places(instruction.tree)]
        terms = {instruction.arguments[term.place] for term in _terms(instruction.tree) if isinstance(term, Argument)}
        own = isinstance(made.get(first), Contract | Elementwise) and first.dims == instruction.dims
        products = [each for each in others if each in terms and read[each] == 1 and _is_summed(made.get(each))]
        if own and read[first] == 1 and products:
            found[first] = statement.results[0]
    return replace(analysed, added_to=found)


def _is_summed(instruction: object) -> bool:
    if not isinstance(instruction, Contract):
        return False
    ours, theirs, result = letters_of(instruction.axes)
    return set(result) != {*ours, *theirs}
