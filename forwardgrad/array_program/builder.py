"""A builder: puts the statements of one body in order, and makes the same unnamed value only once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Argument, Number, Tree, places, renumbered
from forwardgrad.array_program.inlining import VIEWS, bodies
from forwardgrad.array_program.instructions import Elementwise, Instruction
from forwardgrad.array_program.regions import Body, Statement, with_values
from forwardgrad.array_program.values import UNNAMED, Dimensions, Value


class Builder:
    """Makes a body.

    Args:
        outer: the builder of the body around it, whose values can be read.
    """

    def __init__(self, outer: Builder | None = None) -> None:
        self.outer = outer
        self.statements: list[Statement] = []
        self._known: dict[Instruction, Value] = {}
        self._made: dict[Value, Instruction] = {}
        self._numbers: count[int] = count(1) if outer is None else outer._numbers
        self._renamed: dict[Value, Value] = {} if outer is None else outer._renamed

    def add(self, instruction: Instruction, name: str = "") -> Value:
        """The one value of an instruction; without a name, it may be there already."""
        known = None if name else self._lookup(instruction)
        if known is not None:
            return known
        (kind,) = instruction.types()
        value = Value(name or f"{UNNAMED}{next(self._numbers)}", kind)
        self.define((value,), instruction)
        self._known.setdefault(instruction, value)
        self._made[value] = instruction
        return value

    def _lookup(self, instruction: Instruction) -> Value | None:
        found = self._known.get(instruction)
        return found if found is not None or self.outer is None else self.outer._lookup(instruction)

    def define(self, values: tuple[Value, ...], instruction: Instruction) -> None:
        """Add a statement that defines these values."""
        self.statements.append(Statement(values, instruction))

    def elementwise(self, tree: Tree, *arguments: Value, name: str = "", dims: Dimensions | None = None) -> Value:
        """An expression of arrays, of which it may read some only.

        The result has the axes of the largest argument, unless `dims` gives them.
        """
        if isinstance(tree, Argument) and not name:
            return arguments[tree.place]
        used = sorted(set(places(tree)))
        if len(used) < len(arguments):
            tree = renumbered(tree, {place: number for number, place in enumerate(used)})
            arguments = tuple(arguments[place] for place in used)
        dims = max((value.dims for value in arguments), key=len) if dims is None else dims
        return self.add(Elementwise(tree, arguments, dims), name)

    def fill(self, number: float, *dims: Affine | int | str) -> Value:
        """An array of equal numbers."""
        return self.elementwise(Number(number), dims=tuple(map(affine, dims)))

    def named(self, value: Value, name: str) -> Value:
        """A value under a name: the one just made gets it, wherever it was read by then; any other is copied."""
        last = self.statements[-1] if self.statements else None
        if last is None or last.results != (value,) or not value.unnamed:
            return self.elementwise(Argument(0), value, name=name)
        del self.statements[-1]
        del self._known[last.instruction], self._made[value]
        self._renamed[value] = self.add(last.instruction, name)
        return self._renamed[value]

    def kept(self, value: Value, name: str) -> Value:
        """A value that has a name, whichever; it gets this one if it has none."""
        return self.named(value, name) if value.unnamed else value

    def own(self, value: Value, taken: Sequence[Value], name: str) -> Value:
        """A value that is computed in this body and is none of those taken: itself, or a copy under a name."""
        made = self._made.get(value)
        alone = made is not None and not isinstance(made, VIEWS) and value not in taken
        return value if alone else self.elementwise(Argument(0), value, name=name)

    def body(self, *results: Value) -> Body:
        """What was built."""
        built = Body(tuple(self.statements), results)
        parts = list(bodies(built))
        read = {value for part in parts for each in part.statements for value in each.instruction.operands}
        read.update(*(part.results for part in parts))
        return built if self._renamed.keys().isdisjoint(read) else with_values(built, self._renamed)
