"""Optimisers in C: how a parameter changes, entry by entry, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forwardgrad.array_program.in_c.expressions import Dialect
from forwardgrad.errors import DataError
from forwardgrad.learning.optimizers import SGD, Adam, Optimizer


@dataclass(frozen=True)
class DeviceUpdate:
    """How parameters change.

    Args:
        memory: the names of what is remembered of each parameter.
        each: lines for each entry: `p` points to it, `m` to what is remembered first, and `PARAMETERS` further on is
            what is remembered next; `g` is its gradient.
        before: lines that are run once a step.
        powers: the number of powers that are carried along, by which Adam divides.
    """

    memory: tuple[str, ...]
    each: tuple[str, ...]
    before: tuple[str, ...] = ()
    powers: int = 0


def device_update(optimizer: Optimizer, dialect: Dialect) -> DeviceUpdate:
    """An optimiser in C.

    Raises:
        DataError: if C has no form of it.
    """

    def number(value: float) -> str:
        return dialect.number(value).text

    match optimizer:
        case SGD(learning_rate=rate, momentum=momentum):
            kept = _kept(optimizer, number)
            if not momentum:
                return DeviceUpdate((), (f"*p = {kept} - {number(rate)} * g;",))
            lines = (f"m[0] = {number(momentum)} * m[0] + g;", f"*p = {kept} - {number(rate)} * m[0];")
            return DeviceUpdate(("momentum",), lines)
        case Adam(learning_rate=rate, beta1=one, beta2=two, epsilon=epsilon):
            root = f"sqrt{dialect.suffix}(m[PARAMETERS] / rest2)"
            lines = (
                f"m[0] = {number(one)} * m[0] + {number(1 - one)} * g;",
                f"m[PARAMETERS] = {number(two)} * m[PARAMETERS] + {number(1 - two)} * g * g;",
                f"*p = {_kept(optimizer, number)} - {number(rate)} * (m[0] / rest1 / ({root} + {number(epsilon)}));",
            )
            before = (
                f"powers[0] *= {one!r};",
                f"powers[1] *= {two!r};",
                "const real rest1 = (real)(1 - powers[0]), rest2 = (real)(1 - powers[1]);",
            )
            return DeviceUpdate(("first", "second"), lines, before, 2)
        case _:
            name = getattr(optimizer, "name", type(optimizer).__name__)
            raise DataError(
                f"export: optimizer {name!r} has no form in C.", "Take sgd, with or without momentum, or adam."
            )


def _kept(optimizer: SGD | Adam, number: Callable[[float], str]) -> str:
    """What is left of a parameter after its decay."""
    left = 1 - optimizer.learning_rate * optimizer.weight_decay
    return f"{number(left)} * *p" if optimizer.weight_decay else "*p"
