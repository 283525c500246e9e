"""`export`: a program as a learner in C99, in a folder of its own."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forwardgrad import __version__
from forwardgrad.array_program.in_c.device import device_code
from forwardgrad.array_program.in_c.expressions import Dialect
from forwardgrad.array_program.in_c.names import comment
from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.array_program.specialised import specialised
from forwardgrad.backends.lowered import lowered_once
from forwardgrad.backends.refusals import call_of_python
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.device.c_companions import MAKEFILE, header_text, main_text
from forwardgrad.device.c_model import Model, frozen_arrays, model_text
from forwardgrad.device.c_optimizers import device_update
from forwardgrad.device.new_folder import write_folder
from forwardgrad.device.ports import ports
from forwardgrad.device.whole_sample import FUNCTIONS, NUMBERS, kept_arrays, whole_sample
from forwardgrad.errors import OpError, RuleError
from forwardgrad.learning.optimizers import SGD, Optimizer
from forwardgrad.ops.losses import SHIPPED
from forwardgrad.program import Program
from forwardgrad.program.border import read_params

LARGEST = 2**31 - 1
"""Bytes of memory that a learner may have: indices have 32 bits."""


@dataclass(frozen=True)
class Exported:
    """A learner that was written.

    Args:
        folder: where.
        files: their names.
        memory: bytes of memory that it writes to, all of it static.
        constants: bytes of arrays that it only reads.
        saved: bytes of a saved learner.
    """

    folder: Path
    files: tuple[str, ...]
    memory: int
    constants: int
    saved: int


def export(
    program: Program,
    params: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    optimizer: Optimizer | None = None,
    replace: bool = False,
) -> Exported:
    """Write a program as a learner in C99: `model.h`, `model.c`, `main.c` and a `Makefile`.

    The learner takes one sample at a time, and learns after each. It needs no heap and no library but that of
    mathematics; all of its memory is static. It computes what `program.step` on one step of one sample and the
    optimiser compute, to rounding.

    Args:
        program: what is exported, in its dtype.
        params: the parameters that it begins with, by name.
        folder: where the files go; it is made if it is not there.
        optimizer: `SGD`, with or without momentum, or `Adam`; by default `SGD(0.01)`.
        replace: whether files of these names may be replaced.

    Returns:
        What was written, and the bytes that it takes.

    Raises:
        DataError: if the parameters do not fit, or the optimiser has no form in C.
        RuleError, OpError: if something of the program has none: ops, losses and layouts that are functions of Python,
            layouts that draw at random, learning signals. Nothing is written then.
        FileError: if the files cannot be written, or are there already.
    """
    texts, model = _texts(program, params, SGD(0.01) if optimizer is None else optimizer)
    place = write_folder(folder, texts, replace=replace)
    return Exported(place, tuple(texts), model.memory, model.constants, model.saved)


def _texts(program: Program, params: Mapping[str, Any], optimizer: Optimizer) -> tuple[dict[str, str], Model]:
    """The files by name."""
    dialect = Dialect(program.dtype.name)
    update = device_update(optimizer, dialect)
    given = read_params(program.plan.parameters, params, program.dtype)
    model = _model(program, given, update, dialect)
    mark = zlib.crc32(_identity(model).encode())
    head = [*comment("\n".join(_about(program, model, optimizer, mark))), ""]
    texts = {
        "model.h": header_text(model, head),
        "model.c": model_text(model, head, mark),
        "main.c": main_text(model, head),
        "Makefile": MAKEFILE,
    }
    return texts, model


def _about(program: Program, model: Model, optimizer: Optimizer, mark: int) -> list[str]:
    """What the first lines of each file say."""
    rules = dict.fromkeys(rule.name or rule.text for rule in program.chosen.values())
    settings = ", ".join(f"{word} {value}" for word, value in optimizer.config().items() if word != "name")
    losses = ", ".join(f"{loss} on {node}" for node, loss in model.losses.items())
    return [
        f"Network {mark:08x}, exported by forwardgrad {__version__}.",
        f"Rule: {', '.join(rules)}. Losses: {losses}.",
        f"Optimizer: {optimizer.config()['name']}, {settings}.",
        f"Memory: {model.memory} bytes, all static. Constants: {model.constants} bytes.",
    ]


def _identity(model: Model) -> str:
    """What a saved learner depends on: the arrays in it, their order, and the functions that use them."""
    kept = [(each.group, each.key, each.size) for each in model.sample.kept]
    return f"{model.dialect.dtype}\n{kept}\n{model.code.text}"


def _model(program: Program, given: Mapping[str, Any], update: Any, dialect: Dialect) -> Model:
    _refuse(program)
    lowered = lowered_once(program.plan, program.dtype)
    called = call_of_python(lowered)
    if called:
        raise RuleError(
            f"export: {called} is a function of Python, which C cannot run.",
            "Write it as a formula, such as value='tanh(x)'.",
        )
    code = device_code(specialised(lowered.program, FUNCTIONS, NUMBERS))
    learned = {key for group, key in lowered.program.bindings.values() if group == "grads"}
    trained = {name: array for name, array in given.items() if name in learned}
    frozen = {name: array for name, array in given.items() if name not in learned}
    traces = {
        name: program.plan.rules[name].kept.traces(program.plan, name, dialect.dtype) for name in program.plan.entries
    }
    start = StoredArrays(program.plan, traces, np.dtype(program.dtype)).start(1)
    sizes = {name: array.size for name, array in trained.items()}
    groups = [("params", sizes), *((part, sizes) for part in update.memory)]
    kept = kept_arrays([*groups, ("state", {key: array.size for key, array in start.items()})])
    outside = {("params", name): word for name, word in frozen_arrays(frozen).items()}
    sides = ports(program)
    outside |= {("inputs", name): f"inputs + {first}" for name, (first, _) in sides.inputs.items()}
    sample = whole_sample(lowered, code, kept, outside)
    losses = {node: loss.name for node, loss in program.losses.items()}
    model = Model(code, sample, sides, update, dialect, trained, frozen, start, losses)
    if max(model.memory, model.constants) > LARGEST:
        raise RuleError(f"export: the learner takes {model.memory:,} bytes, more than indices of 32 bits can reach.")
    return model


def _refuse(program: Program) -> None:
    """Refuse what C has no form for."""
    for node, loss in program.losses.items():
        if SHIPPED.get(loss.name) is not loss:
            known = ", ".join(SHIPPED)
            raise OpError(f"export: loss {loss.name!r} of {node!r} is a function of Python.", f"C has {known}.")
    for name, rule in program.plan.rules.items():
        if rule.kept.random:
            raise RuleError(
                f"export: parameter {name!r}: layout {rule.layout!r} draws at random, and only NumPy knows how.",
                "Take a layout that does not, such as snap(1), or a rule that stores less, such as eprop.",
            )
    if program.plan.per_sample:
        raise RuleError("export: gradients per sample have no form on a device.", "Compile without per_sample=True.")
    if program.signalled:
        raise RuleError(
            f"export: rule of feedback 'signal': node {program.signalled[0]!r} is given learning signals, and a device "
            "has none.",
            "Take exact, random or adaptive feedback.",
        )
    if not is_small(program.plan):
        raise RuleError(
            "export: too many places act on each other for this program to be written out.",
            "Give some parameters a rule that stores less, such as eprop.",
        )
