"""Slopes: the derivatives of nodes by their ports, at all steps of a block."""

from __future__ import annotations

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.expressions import Argument
from forwardgrad.array_program.lowering.context import Context, Series
from forwardgrad.array_program.regions import Function
from forwardgrad.array_program.values import Type, Value, floats
from forwardgrad.graph import Node
from forwardgrad.structure import Structure


def slopes(context: Context) -> Function:
    """The function that makes the slopes; one that is a value or a port of the node is there already."""
    builder, made = Builder(), list[Value]()
    for (name, port), derivative in context.derivatives.items():
        node, own = context.network.nodes[name], context.nodes[name]
        series = [context.ports.get((name, other), own) for other in node.ports] + [own]  # it reads only what is there
        if isinstance(derivative.tree, Argument) and derivative.tree.place < len(series):  # not an option
            context.slopes[name, port] = series[derivative.tree.place]
            continue
        wanted = f"slope_{name}_{port}" if len(node.ports) > 1 else f"slope_{name}"
        identifier = context.names.of(wanted, "slope", name, port)
        arrays = [each.block(builder) for each in series]
        kind = _type(node, derivative.declared.structure)
        made.append(context.evaluated(builder, node, port, derivative.tree, arrays, kind, identifier))
        context.slopes[name, port] = Series(made[-1])
    return context.function("slopes", "The derivatives of nodes by their ports, over the block.", builder, made)


def _type(node: Node, word: Structure) -> Type:
    units = {Structure.FULL: (node.size, node.size), Structure.DIAGONAL: (node.size,)}.get(word, ())
    return floats("steps", "batch", *units)
