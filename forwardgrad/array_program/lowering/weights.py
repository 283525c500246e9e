"""Weights: the array by which an edge multiplies values, or adjoints, and the product with it."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.instructions import Concat, Contract, Elementwise, Gather, Instruction, ScatterAdd, Slice
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.values import Type, Value
from forwardgrad.compiler.factors import WEIGHT, Factor, feedback_name, weight_shape
from forwardgrad.graph import Edge, Pattern

Weight = Number | Value | None
"""A number, an array, or nothing for an identity."""


def weight(context: Context, edge: Edge, factor: Factor = WEIGHT) -> Weight:
    """What an edge multiplies by: values by its weight, adjoints by a factor that may stand in its place."""
    if factor.numeric:
        values = np.asarray(factor.values)
        return _number(context, f"{factor.kind}_{edge.name}", values if values.size > 1 else values[0])
    if factor.kind in ("diagonal", "rest"):
        return _part(context, edge, factor.kind)
    if factor.drawn:
        array = factor.matrix(edge, weight_shape(context.network, edge))
        return _fixed(context, f"feedback_{edge.name}", array, edge.pattern)
    if edge.kind == "identity":
        return None
    name = feedback_name(edge.name) if factor.kind == "adaptive" else edge.param
    if name is None:
        return _fixed(context, f"c_{edge.name}", edge.value, edge.pattern)
    entries = parameter(context, name)
    return entries if edge.pattern is None else _matrix(context, entries, edge)


def parameter(context: Context, name: str) -> Value:
    """The array of a parameter."""
    declared = context.plan.parameters.get(name) or context.network.parameters[name]
    prefix, word = ("b", name.removesuffix(".bias")) if declared.kind == "bias" else ("w", name)
    identifier = context.names.of(f"{prefix}_{word}", "parameter", name)
    return context.given("params", name, identifier, Type("float", tuple(map(affine, declared.shape))))


def _made(context: Context, key: Hashable, wanted: str, instruction: Instruction) -> Value:
    """An array that is made of weights once a block."""
    if key not in context.made_weights:
        context.made_weights[key] = context.weights.add(instruction, context.names.of(wanted, *(key,)))
    return context.made_weights[key]


def _number(context: Context, wanted: str, value: Any) -> Weight:
    array = np.asarray(value)
    return Number(float(array)) if array.ndim == 0 else context.constant(wanted, array)


def _fixed(context: Context, wanted: str, value: Any, pattern: Pattern | None) -> Weight:
    if pattern is None:
        return _number(context, wanted, value)
    matrix = np.zeros(pattern.shape)
    matrix[pattern.rows, pattern.columns] = pattern.expand(np.asarray(value))
    return context.constant(wanted, matrix)


def tables(context: Context, edge: Edge) -> tuple[Value, Value]:
    """The rows and columns of a sparse weight's entries."""
    assert edge.pattern is not None
    name = edge.param or edge.name
    rows, columns = edge.pattern.rows, edge.pattern.columns
    return context.constant(f"rows_{name}", rows, "int"), context.constant(f"columns_{name}", columns, "int")


def kernel_tables(context: Context, edge: Edge) -> tuple[Value, ...]:
    """Which entry of a kernel each synapse has, by axes of the kernel; nothing where each has one of its own."""
    assert edge.pattern is not None
    if edge.pattern.entries is None:
        return ()
    name, axes = edge.param or edge.name, np.unravel_index(edge.pattern.entries, edge.pattern.kernel)
    return tuple(context.constant(f"kernel_{axis}_{name}", each, "int") for axis, each in enumerate(axes))


def _matrix(context: Context, entries: Value, edge: Edge) -> Value:
    assert edge.pattern is not None
    sizes, shared = tuple(map(affine, edge.pattern.shape)), kernel_tables(context, edge)
    if shared:
        gathered = Gather(entries, 0, shared)
        made = ScatterAdd(context.weights.add(gathered), 0, tables(context, edge), sizes, unique=True)
    else:
        made = ScatterAdd(entries, 0, tables(context, edge), sizes, unique=True)
    return _made(context, ("matrix", entries), f"{entries}_matrix", made)


def _part(context: Context, edge: Edge, word: str) -> Value:
    """The diagonal of a weight, or what is beside it."""
    whole = weight(context, edge)
    assert isinstance(whole, Value)
    units = whole.dims[0]
    unit = context.constant(f"units_{units}", np.arange(units.constant), "int")
    diagonal = Gather(whole, 0, (unit, unit))
    if word == "diagonal":
        return _made(context, ("diagonal", whole), f"{whole}_diagonal", diagonal)
    alone = context.weights.add(ScatterAdd(context.weights.add(diagonal), 0, (unit, unit), (units, units), unique=True))
    rest = Elementwise(apply("-", Argument(0), Argument(1)), (whole, alone), whole.dims)
    return _made(context, ("rest", whole), f"{whole}_rest", rest)


def stacks(context: Context, edges: Iterable[Edge]) -> dict[str, tuple[Value, int]]:
    """Edges that are multiplied together, since they read the same values by matrices.

    Args:
        context: of the lowering.
        edges: all those that are multiplied at the same time.

    Returns:
        For each of them, by name, the matrices on top of one another, and the row at which its own begins.
    """
    together: dict[tuple[str, int], list[tuple[Edge, Value]]] = {}
    for edge in edges:
        matrix = weight(context, edge)
        if isinstance(matrix, Value) and len(matrix.dims) == 2:
            together.setdefault((edge.source, edge.delay), []).append((edge, matrix))
    found: dict[str, tuple[Value, int]] = {}
    for members in together.values():
        matrices = tuple(matrix for _, matrix in members)
        if len(members) > 1:
            name = "_".join(["w", members[0][0].source, *(edge.target for edge, _ in members)])
            stack = _made(context, ("stack", matrices), name, Concat(matrices, 0))
            rows = itertools.accumulate((matrix.dims[0].constant for matrix in matrices), initial=0)
            found |= {edge.name: (stack, row) for (edge, _), row in zip(members, rows, strict=False)}
    return found


def stacked_product(builder: Builder, stack: Value, row: int, size: int, x: Value) -> Value:
    """A weight times values `(..., source)`, where the weight is some rows of a stack."""
    whole = product(builder, stack, x)
    return builder.add(Slice(whole, len(whole.dims) - 1, affine(row), affine(size)))


def product(builder: Builder, factor: Weight, x: Value) -> Value:
    """A weight times values `(..., source)`."""
    if isinstance(factor, Value) and len(factor.dims) == 2:
        before = "tb"[2 - len(x.dims[:-1]) :]
        return builder.add(Contract(x, factor, f"{before}j,ij->{before}i"))
    return scaled(builder, factor, x)


def scaled(builder: Builder, factor: Weight, x: Value) -> Value:
    """A number, or a number per unit, times values."""
    if factor is None or factor == Number(1.0):
        return x
    if isinstance(factor, Number):
        return builder.elementwise(apply("*", factor, Argument(0)), x)
    return builder.elementwise(apply("*", Argument(0), Argument(1)), factor, x)
