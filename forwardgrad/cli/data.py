"""The options that say what a file of data holds, and the task or the sequences that it becomes."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import networkx as nx

from forwardgrad import data
from forwardgrad.cli.options import positive
from forwardgrad.errors import DataError
from forwardgrad.graph import library
from forwardgrad.graph.ends import ends
from forwardgrad.support import tables
from forwardgrad.training.named import NAMED
from forwardgrad.training.recipe import KINDS
from forwardgrad.training.sequences import Choice, sequences
from forwardgrad.training.tasks import Task, make


def add_data(parser: argparse.ArgumentParser) -> None:
    """The options of a command that learns from data."""
    parser.add_argument(
        "--data",
        default="laser",
        help=f"{', '.join([*data.names(), *NAMED])}, or a .csv, .tsv, .txt, .npy or .npz file (default laser)",
    )
    parser.add_argument(
        "--inputs", metavar="A,B", help="columns, or the array, that go in (default: all numbers that are nothing else)"
    )
    parser.add_argument(
        "--targets",
        metavar="A,B",
        help="columns, or the array, that should come out: numbers or labels (default: the next row is forecast)",
    )
    parser.add_argument("--sequence", metavar="COLUMN", help="the column that says to which sequence a row belongs")
    parser.add_argument("--time", metavar="COLUMN", help="a column to pass over, as one called time or date is anyway")
    parser.add_argument("--lengths", metavar="ARRAY", help="the array that says how long padded sequences are")
    parser.add_argument("--kind", choices=KINDS, help="what to learn (default: what the targets suggest)")
    parser.add_argument(
        "--split",
        "--train-samples",
        type=_split,
        metavar="N",
        help="learn from the first N samples, or from N sequences, and test on the rest; below 1 a share (default 0.8; "
        "of laser 8000, of laser_1000 1000)",
    )
    parser.add_argument(
        "--validation",
        type=_share,
        metavar="SHARE",
        help="keep back this share of what is learned from, and end with the weights that predict it best",
    )


def _split(text: str) -> float | int:
    return positive(text) if text.isdigit() else _share(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, such as 0.8, got {text[:100]!r}")
    return value


def names(text: str | None) -> tuple[str, ...] | None:
    """The names of a list; a name with a comma in it is put in double quotes."""
    if text is None:
        return None
    found = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []))
    if not all(found):
        raise DataError(f"{text!r} is not a list of names.", "Write them with commas between: A,B.")
    if len(set(found)) < len(found):
        raise DataError(f"{text!r} names a column twice.")
    return found


def task(given: argparse.Namespace) -> Task:
    """What the options say is to be learned."""
    path = Path(given.data)
    if given.data in NAMED:
        for option in ("inputs", "targets", "sequence", "time", "lengths", "kind"):
            if getattr(given, option) is not None:
                raise DataError(f"--{option} is for files of your own; {given.data!r} says it itself.")
        return make(NAMED[given.data](), split=given.split, validation=given.validation, seed=given.seed)
    if given.data in data.names() or path.suffix.lower() not in tables.SUFFIXES:
        series = data.get(given.data, NAMED)
        for option in ("inputs", "targets", "sequence", "time", "lengths", "validation"):
            if getattr(given, option) is not None:
                raise DataError(f"--{option} is for files of your own; {given.data!r} is one series.")
        if given.kind not in (None, "forecast"):
            raise DataError(f"data {given.data!r} is one series: it can be forecast.")
        wanted = series.first if given.split is None else given.split
        train = round(wanted * len(series.values)) if wanted < 1 else int(wanted)
        return Task.of(data.one_step(series, train=train))
    choice = Choice(names(given.inputs), names(given.targets), given.sequence, given.time, given.lengths)
    found = sequences(tables.read(path), choice)
    return make(found, kind=given.kind, split=given.split, validation=given.validation, seed=given.seed)


def fitted(
    graph: nx.MultiDiGraph[str], name: str, losses: dict[str, str] | None, learned: Task
) -> tuple[nx.MultiDiGraph[str], dict[str, str] | None]:
    """A shipped graph with as many inputs and outputs as the data have, and a loss that suits them.

    A graph of the user's own stays as it is: where it does not fit, training says what to change.
    """
    sources, outputs = ends(graph)
    if name not in library.names() or len(outputs) != 1 or len(sources) != 1:
        return graph, losses
    (source,), (output,) = sources, outputs
    graph.nodes[source]["size"] = learned.train.inputs.shape[2]
    graph.nodes[output]["size"] = learned.recipe.size
    if losses is None:
        losses = {output: "cross_entropy"} if learned.recipe.kind == "classification" else dict(graph.graph["loss"])
    return graph, losses
