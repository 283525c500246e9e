"""Formulas over groups of units, and Jacobians given as vector-Jacobian products, as instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import GROUPED, Apply, Argument, Number, Tree, apply, is_test, places
from forwardgrad.array_program.instructions import Broadcast, Gather, Reduce, ScatterAdd
from forwardgrad.array_program.values import Dimensions, Value
from forwardgrad.graph import Node

Constant = Callable[[str, Any, str], Value]
"""An array that is part of the program, by its name, its entries and their dtype."""


class NodeFormula:
    """A formula of a node's op, while it becomes instructions.

    Args:
        constant: makes arrays that are part of the program.
        builder: what gets the instructions.
        node: the node.
        arguments: what the formula is given.
    """

    def __init__(self, constant: Constant, builder: Builder, node: Node, arguments: Sequence[Value]) -> None:
        self.constant, self.builder, self.size = constant, builder, node.size
        self.along = int(node.options.get("along", node.size))
        self.arguments = list(arguments)
        self._known: dict[Tree, int] = {}

    def without_groups(self, tree: Tree) -> Tree:
        """The formula, in which sums, means and maxima of groups are further arguments, and so is what they read."""
        for word in _group_words(tree):
            if word in self._known:
                continue
            (read,) = word.operands
            inner = self._with_known(read)
            inner = apply("indicator", inner) if is_test(inner) else inner
            dims = max((self.arguments[place].dims for place in places(inner)), key=len, default=(affine(self.size),))
            value = self.builder.elementwise(inner, *self.arguments, dims=dims)
            if isinstance(read, Apply) and not is_test(read):
                self._place(read, value)
            self._place(word, self._over(word.word, value))
        return self._with_known(tree)

    def jacobian(self, tree: Tree, adjoint: int, dims: Dimensions, name: str) -> Value:
        """The Jacobian of which a formula is the product with an adjoint: in its rows, the products of each unit.

        What does not depend on the adjoint is made once for all rows.

        Args:
            tree: the formula.
            adjoint: the place of the adjoint among the arguments, where anything may stand.
            dims: of the Jacobian.
            name: what it is called.
        """
        unit, size = self.constant(f"units_{self.size}", np.arange(self.size), "int"), affine(self.size)
        ones = self.builder.fill(1.0, self.size)
        self.arguments[adjoint] = self.builder.add(ScatterAdd(ones, 0, (unit, unit), (size, size), unique=True))
        tree = self._for_rows(tree, adjoint, dims)
        self._known = {}
        return self.builder.elementwise(self.without_groups(tree), *self.arguments, name=name, dims=dims)

    def _for_rows(self, tree: Tree, adjoint: int, dims: Dimensions) -> Tree:
        """A formula, in which what does not read the adjoint is an argument with an axis for rows."""
        if not places(tree):
            return tree
        if adjoint in places(tree):
            operands = tree.operands if isinstance(tree, Apply) else ()
            rows = tuple(self._for_rows(operand, adjoint, dims) for operand in operands)
            return Apply(tree.word, rows) if isinstance(tree, Apply) else tree
        value = self.builder.elementwise(self.without_groups(tree), *self.arguments)
        if len(value.dims) == len(dims) - 1:  # else it reads options alone
            axes = (*range(len(dims) - 2), len(dims) - 1)
            value = self.builder.add(Broadcast(value, dims, axes))
        self.arguments.append(value)
        return Argument(len(self.arguments) - 1)

    def _with_known(self, tree: Tree) -> Tree:
        if tree in self._known:
            return Argument(self._known[tree])
        return Apply(tree.word, tuple(map(self._with_known, tree.operands))) if isinstance(tree, Apply) else tree

    def _place(self, tree: Tree, value: Value) -> None:
        """Note the value of a part of the formula, which may stand in it more than once."""
        self.arguments.append(value)
        self._known[tree] = len(self.arguments) - 1

    def _over(self, word: str, value: Value) -> Value:
        """The sum, mean or maximum of each group, for each of its units."""
        dims, last, several = value.dims, len(value.dims) - 1, self.along < self.size
        if several:
            units = np.arange(self.size).reshape(-1, self.along)
            value = self.builder.add(Gather(value, last, (self._table("units_of_groups", units),)))
        made = self.builder.add(Reduce(value, (last + several,), "max" if word == "group_max" else "sum"))
        if word == "group_mean":
            made = self.builder.elementwise(apply("/", Argument(0), Number(float(self.along))), made)
        if several:
            groups = np.repeat(np.arange(self.size // self.along), self.along)
            return self.builder.add(Gather(made, last, (self._table("groups_of_units", groups),)))
        return self.builder.add(Broadcast(made, dims, tuple(range(last))))

    def _table(self, name: str, table: Any) -> Value:
        return self.constant(f"{name}_{self.size}_by_{self.along}", table, "int")


def _group_words(tree: Tree) -> Iterator[Apply]:
    """The sums, means and maxima in a formula, those inside of others first."""
    if isinstance(tree, Apply) and tree.grouped:
        for operand in tree.operands:
            yield from _group_words(operand)
        if tree.word in GROUPED:
            yield tree
