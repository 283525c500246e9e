"""Is an op's declared derivative that of its value, and its structure word true? Central differences, port by port."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from forwardgrad.errors import CheckError, DataError, VacuousError
from forwardgrad.ops import Array, Op
from forwardgrad.ops.registry import get
from forwardgrad.structure import Structure
from forwardgrad.testing.vacuity import Vacuity, refuse

ALLOWED = 1e-6
"""Largest difference from a central difference, relative to the largest entry of the Jacobian (at least 1)."""

STEP = 1e-5


def assert_op(
    op: Op | str,
    *,
    options: Mapping[str, Any] | None = None,
    size: int = 3,
    rows: int = 20,
    scale: float = 1.0,
    ports: int | None = None,
    seed: int = 0,
    allow: Collection[str] = (),
) -> None:
    """Assert that an op's derivative by each port is that of its value, and that its structure word is the right one.

    The word must hold (`diagonal` allows nothing beside the diagonal, `scalar` one number per sample), and must not be
    wider than the Jacobian is at all samples: layouts of traces follow from it.

    Args:
        op: an op, or the name of a registered one.
        options: options that differ from their defaults.
        size: number of units; at least 2, or words cannot be told apart.
        rows: number of samples, normal; for a `positive` op, their sizes, and 0.1 more.
        scale: standard deviation of the samples, for an op that is flat or straight near zero.
        ports: number of ports, for an op of any number of them; by default one more than the least.
        seed: of the samples.
        allow: kinds of vacuity (`Vacuity`) not to refuse; `surrogate` lets ops pass whose derivative is not meant to be
            that of the value, and checks only that it fits its word.

    Raises:
        CheckError: if a derivative or a word is wrong; the message names the port, the entry and both numbers.
        VacuousError: if a derivative is zero at all samples, or is a surrogate.
        OpError: if a derivative does not fit its structure word, or the value its ports.
        DataError: if the size is less than 2.

    >>> assert_op("tanh")
    >>> from forwardgrad.ops import Op, Port
    >>> assert_op(Op("cube", lambda x: x**3, (Port("in", lambda x, y: 2 * x**2),)))
    Traceback (most recent call last):
    forwardgrad.errors.CheckError: op 'cube': the derivative of unit 0 by unit 0 of 'in' is 16.2173, declared 10.8115.
      Off by 3.3e-01 of the largest entry (allowed 1e-06), at in -2.33.
    """
    found = get(op) if isinstance(op, str) else op
    if size < 2:
        raise DataError(f"assert_op: a size of {size} cannot tell structure words apart.", "Give at least 2.")
    names = [port.name for port in found.ports]
    if found.each_port is not None:
        names = [f"p{i}" for i in range(found.least_ports + 1 if ports is None else ports)]
    given = {name: option.default for name, option in found.options.items()} | dict(options or {})
    random = np.random.default_rng(seed)
    sums = [scale * random.standard_normal((rows, size)) for _ in names]
    if found.positive:
        sums = [np.abs(array) + 0.1 for array in sums]
    y = found.evaluate(sums, given) if sums else np.zeros((rows, size))
    if not found.smooth:
        refuse([_surrogate(found)], allow)
    for place, name in enumerate(names):
        word = found.port(name, names).structure
        declared = _full(found.jacobian(name, names, sums, y, given), word, size)
        if not np.isfinite(declared).all():
            raise CheckError(f"op {found.name!r}: the derivative by port {name!r} is not finite.")
        if not found.smooth:
            continue
        true = _slopes(found, sums, place, given)
        _compare(found, name, true, declared, sums, names)
        _check_word(found, name, word, true, allow)
        _check_constant(found, name, found.port(name, names).constant, true)


def _surrogate(op: Op) -> VacuousError:
    return VacuousError(
        Vacuity.SURROGATE,
        f"op {op.name!r}: its declared derivative is not meant to be that of its value.",
        "Differences say nothing about it; hold it against the formula of its source.",
    )


def _full(derivative: Array, word: Structure, size: int) -> Array:
    """A derivative in the form of its word as a Jacobian `(rows, size, size)`."""
    if word is Structure.FULL:
        return derivative
    if word is Structure.ZERO:
        return np.zeros((len(derivative), size, size))
    return derivative[:, :, None] * np.eye(size)


def _slopes(op: Op, sums: list[Array], place: int, options: Mapping[str, Any]) -> Array:
    """The Jacobian `(rows, i, j)` by central differences."""
    columns: list[Array] = []
    for j in range(sums[place].shape[1]):
        ends: list[Array] = []
        for sign in (1.0, -1.0):
            moved = [array.copy() for array in sums]
            moved[place][:, j] += sign * STEP
            ends.append(op.evaluate(moved, options))
        columns.append((ends[0] - ends[1]) / (2 * STEP))
    return np.stack(columns, axis=2)


def _compare(op: Op, port: str, true: Array, declared: Array, sums: list[Array], names: list[str]) -> None:
    scale = max(1.0, float(np.abs(true).max()))
    apart = np.abs(true - declared) / scale
    if np.max(apart) <= ALLOWED:
        return
    row, i, j = (int(k) for k in np.unravel_index(int(np.argmax(apart)), apart.shape))
    at = ", ".join(f"{name} {array[row, j]:.3g}" for name, array in zip(names, sums, strict=True))
    raise CheckError(
        f"op {op.name!r}: the derivative of unit {i} by unit {j} of {port!r} is {true[row, i, j]:.6g}, "
        f"declared {declared[row, i, j]:.6g}.",
        f"Off by {apart[row, i, j]:.1e} of the largest entry (allowed {ALLOWED:g}), at {at}.",
    )


def _check_word(op: Op, port: str, word: Structure, true: Array, allow: Collection[str]) -> None:
    narrowest = _word(true)
    if narrowest is Structure.ZERO and word is not Structure.ZERO:
        text = f"op {op.name!r}: the derivative by port {port!r} is zero at all {len(true)} samples."
        refuse([VacuousError(Vacuity.ZERO_GRADIENT, text, "Give another seed or more rows.")], allow)
    elif narrowest is not word:
        raise CheckError(
            f"op {op.name!r}: the derivative by port {port!r} is declared {word}, and is {narrowest} "
            f"at all {len(true)} samples.",
            "Layouts of traces follow from the word: declare the narrowest that holds.",
        )


def _word(jacobian: Array) -> Structure:
    """The narrowest structure word that holds for these Jacobians."""
    close = ALLOWED * max(1.0, float(np.abs(jacobian).max()))
    diagonal = np.einsum("rii->ri", jacobian)
    if np.abs(jacobian).max() <= close:
        return Structure.ZERO
    if np.abs(jacobian - diagonal[:, :, None] * np.eye(diagonal.shape[1])).max() > close:
        return Structure.FULL
    return Structure.SCALAR if np.ptp(diagonal, axis=1).max() <= close else Structure.DIAGONAL


def _check_constant(op: Op, port: str, constant: float | None, true: Array) -> None:
    if constant is not None and np.abs(np.einsum("rii->ri", true) - constant).max() > ALLOWED * max(1.0, abs(constant)):
        raise CheckError(f"op {op.name!r}: the derivative by port {port!r} is not the constant {constant:g}.")
