"""`forwardgrad export`: a graph and its rule as a learner in C99, for devices without Python."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from forwardgrad.cli.options import (
    add_dtype,
    add_graph,
    add_json,
    add_loss,
    add_rule,
    losses,
    not_negative,
    print_json,
)
from forwardgrad.compiling import compile
from forwardgrad.device import Exported, export
from forwardgrad.errors import FileError
from forwardgrad.graph.files import load
from forwardgrad.learning import checkpoint
from forwardgrad.learning.optimizers import SGD, Adam, Optimizer
from forwardgrad.ops import Array
from forwardgrad.support import archive

RATES = {"sgd": 0.01, "momentum": 0.01, "adam": 0.001}
"""The optimizers by name, each with its default learning rate."""


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_graph(parser)
    add_rule(parser)
    add_loss(parser)
    parser.add_argument("-o", "--out", metavar="FOLDER", required=True, help="where the files go")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    parser.add_argument(
        "--params",
        metavar="FILE",
        help="initial parameters: the learner.npz of a training run, or an .npz with their names",
    )
    parser.add_argument(
        "--seed", type=not_negative, default=0, help="of initial parameters without --params (default %(default)s)"
    )
    parser.add_argument("--optimizer", choices=tuple(RATES), default="sgd", help="(default %(default)s)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"(default {', '.join(f'{rate} for {name}' for name, rate in RATES.items())})",
    )
    parser.add_argument("--momentum", type=float, default=0.9, help="of momentum (default %(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="(default %(default)s)")
    add_dtype(parser)


def run(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    program = compile(graph, loss=losses(graph, given.loss), rule=given.rule, dtype=given.dtype, dead="warn")
    params = program.init(given.seed) if given.params is None else read_parameters(Path(given.params))
    written = export(program, params, given.out, optimizer=_optimizer(given), replace=given.force)
    if given.json:
        print_json({"graph": given.graph, "rule": given.rule, "dtype": given.dtype, **_report(given.out, written)})
        return 0
    print(f"{given.graph} under {given.rule}, {given.dtype}, {given.optimizer}:")
    print(f"{'memory (static):':<20} {written.memory:>11,} bytes")
    print(f"{'constants:':<20} {written.constants:>11,} bytes, besides the code")
    print(f"{'saved learner:':<20} {written.saved:>11,} bytes")
    print(f"wrote {', '.join(str(Path(given.out, name)) for name in written.files)}")
    return 0


def _report(folder: str, written: Exported) -> dict[str, object]:
    sizes = {"memory": written.memory, "constants": written.constants, "saved": written.saved}
    return {"folder": folder, "files": list(written.files), "bytes": sizes}


def _optimizer(given: argparse.Namespace) -> Optimizer:
    rate = RATES[given.optimizer] if given.learning_rate is None else given.learning_rate
    if given.optimizer == "adam":
        return Adam(rate, weight_decay=given.weight_decay)
    return SGD(rate, momentum=given.momentum if given.optimizer == "momentum" else 0.0, weight_decay=given.weight_decay)


def read_parameters(path: Path) -> Mapping[str, Array]:
    """The parameters in a file: those of a learner, or arrays by name.

    Raises:
        FileError: if it cannot be read, or holds something else.
    """
    try:
        arrays = archive.any_arrays(path)
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror or error}.") from error
    except Exception as error:  # damaged or foreign files make their readers raise anything
        raise FileError(f"cannot read {str(path)!r}: it is no .npz file, or is damaged: {error}.") from error
    return checkpoint.read(path).params if "meta" in arrays else arrays
