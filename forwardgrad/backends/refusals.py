"""Programs that only Python can run: refused by name where another language is to run them."""

from __future__ import annotations

from forwardgrad.array_program.inlining import bodies
from forwardgrad.array_program.instructions import Call
from forwardgrad.array_program.lowering.context import LayoutCall, OpCall
from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.array_program.lowering.lower import Lowered
from forwardgrad.compiler import Plan
from forwardgrad.errors import RuleError
from forwardgrad.structure import Structure


def refuse_large(plan: Plan, backend: str) -> None:
    """Refuse a plan of which there would be too much to write.

    Raises:
        RuleError: naming the backend.
    """
    if not is_small(plan):
        raise RuleError(
            f"backend {backend!r}: too many places act on each other for this program to be written out.",
            "Give some parameters a rule that stores less, such as eprop; or take the backend 'numpy'.",
        )


def refuse_calls(lowered: Lowered, backend: str, language: str) -> None:
    """Refuse a program that calls functions of Python.

    Raises:
        RuleError: naming the first of them.
    """
    called = call_of_python(lowered)
    if called is not None:
        raise RuleError(
            f"backend {backend!r}: {called} is a function of Python, which {language} cannot run.",
            f"{_as_formula(lowered)} Or take the backend 'numpy'.",
        )


def _as_formula(lowered: Lowered) -> str:
    """How to write the first op that is a function of Python as a formula."""
    called = _first_call(lowered)
    if not isinstance(called, OpCall):
        return "Take a layout of the library, such as snap(2)."
    node = lowered.context.plan.network.nodes[called.node]
    if called.port and node.op.port(called.port, node.ports).structure is Structure.FULL:
        return "Write it as a product with an adjoint b, such as ops.VJP('y * (b - group.sum(b * y))', 'x, y, b')."
    return "Write it as a formula, such as ops.Formula('np.tanh(x)')."


def call_of_python(lowered: Lowered) -> str | None:
    """What the first function of Python is that a program calls, if it calls any."""
    called = _first_call(lowered)
    return None if called is None else _described(lowered, called)


def _first_call(lowered: Lowered) -> OpCall | LayoutCall | None:
    for function in lowered.program.functions:
        for body in bodies(function.body):
            for statement in body.statements:
                if isinstance(statement.instruction, Call):
                    return lowered.context.calls[statement.instruction.function]
    return None


def _described(lowered: Lowered, called: OpCall | LayoutCall) -> str:
    if not isinstance(called, OpCall):
        return "a layout of yours"
    op = lowered.context.plan.network.nodes[called.node].op.name
    what = f"the derivative of op {op!r} by port {called.port!r}" if called.port else f"the value of op {op!r}"
    return f"{what}, on node {called.node!r},"
