"""What a sweep gives, and how a function runs one over the first steps of its block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.instructions import Slice
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.gates import Gate
from forwardgrad.array_program.regions import Function, Invoke
from forwardgrad.array_program.values import Type, Value


@dataclass(frozen=True)
class Swept:
    """A sweep as a function, and what its results are.

    Args:
        function: the function.
        ports: the adjoints of the ports at which parameters enter, `[steps batch ...]`.
        past: per stored place, its adjoints before the block, `[lags batch ...]`, the latest step last.
    """

    function: Function
    ports: Mapping[Gate, Adjoint]
    past: Mapping[int, Adjoint]


def invoked(
    context: Context,
    builder: Builder,
    swept: Swept,
    steps: Affine,
    suffix: str = "",
    given: Mapping[Value, Value] | None = None,
) -> tuple[Mapping[Gate, Adjoint], Mapping[int, Adjoint]]:
    """The ports and the past of a sweep over that many steps from the first.

    Args:
        context: of the lowering.
        builder: of the function that runs it.
        swept: the sweep.
        steps: how many.
        suffix: of the names that its results get here.
        given: what it takes in place of some of its inputs.
    """
    shorter = {"steps": steps} if steps != affine("steps") else {}
    function = swept.function
    arguments: list[Value] = []
    for value in function.inputs:
        size = value.dims[0].replaced(shorter) if value.dims else None
        taken = (given or {}).get(value, value)
        cut = size is not None and size != value.dims[0]
        arguments.append(builder.add(Slice(taken, 0, affine(0), size)) if size is not None and cut else taken)
    there: dict[Value, Value] = {}
    for value in function.body.results:
        name = context.names.of(f"{value.name}_{suffix}", "invoked", suffix, value.name) if suffix else value.name
        there[value] = Value(name, Type(value.type.dtype, tuple(dim.replaced(shorter) for dim in value.dims)))
    if there:
        produced = tuple(value.type for value in there.values())
        invoke = Invoke(function.name, tuple(arguments), produced, tuple(shorter.items()))
        builder.define(tuple(there.values()), invoke)
    ports = {gate: Adjoint(there[b.value], b.word) for gate, b in swept.ports.items()}
    return ports, {place: Adjoint(there[b.value], b.word) for place, b in swept.past.items()}
