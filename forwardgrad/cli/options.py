"""Options that several commands have, and what is read from them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import networkx as nx

from forwardgrad.backends import BACKENDS, Devices
from forwardgrad.backends.devices import NARROW
from forwardgrad.errors import FileError, GraphError, RuleError, did_you_mean
from forwardgrad.graph import validate
from forwardgrad.program import budget
from forwardgrad.support.attributes import MOST
from forwardgrad.support.defaults import BACKEND, DTYPE, RULE

Value = TypeVar("Value")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_graph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("graph", metavar="GRAPH", help="name of a shipped graph, or a .toml or .json file")


def add_loss(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loss", action="append", metavar="NODE=LOSS", help="loss of a node (default: those the file names)"
    )


def add_trained(parser: argparse.ArgumentParser) -> None:
    """The options of a command that puts a trained network to use."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the folder of a training run, or its learner.npz")
    parser.add_argument(
        "--data", required=True, help="a .csv, .tsv, .txt, .npy or .npz file with what the network was trained on"
    )
    parser.add_argument(
        "--go-on", action="store_true", help="begin with the activations that training ended with (default: afresh)"
    )


def add_rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule", default=RULE, help="learning rule, such as eprop or 'eprop-deep & near' (default %(default)s, exact)"
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=("float32", "float64"), default=DTYPE, help="(default %(default)s)")


def add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=tuple(BACKENDS), default=BACKEND, help="what runs the program (default %(default)s)"
    )
    add_devices(parser)


def add_devices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--devices",
        metavar="N",
        help="devices that the backend jax splits the batch over; or batch=N,influence=M for both (default: one)",
    )


def add_traces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--traces", choices=(NARROW,), help="keep influence in two bytes per number (backend jax; default: --dtype)"
    )


def devices(given: argparse.Namespace) -> Devices | None:
    """The devices of a command. Where JAX would have one CPU, it gets as many virtual ones as are asked for."""
    traces = getattr(given, "traces", None)
    if given.devices is None and traces is None:
        return None
    grid = Devices() if given.devices is None else Devices.parse(given.devices)
    grid = grid if traces is None else grid.keeping(traces)
    if given.backend == "jax":
        from forwardgrad.backends.jax_engine import offer_cpus  # with what makes array programs

        offer_cpus(grid.total)
    return grid


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 100 or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {least}, got {text[:100]!r}")
        if int(text) > MOST:
            raise argparse.ArgumentTypeError(f"must be a whole number <= {MOST}, got {text}")
        return int(text)

    return read


not_negative, positive, at_least_two = _whole(0), _whole(1), _whole(2)


def losses(graph: nx.MultiDiGraph[str], given: Sequence[str] | None) -> dict[str, str]:
    """The loss of each node, as the command says or as the graph's file does."""
    if given:
        pairs = [pair.rpartition("=") for pair in given]
        for node, sign, loss in pairs:
            if not (node and sign and loss):
                raise GraphError(f"--loss {node or loss!r}: write it as NODE=LOSS, such as y=mse.")
        named = {node: loss for node, _, loss in pairs}
        if len(named) < len(pairs):
            raise GraphError(f"--loss is given twice for one node: {', '.join(given)}.")
        return named
    named = graph.graph.get("loss")
    if not named:
        raise GraphError("the graph's file names no loss.", "Add one: --loss y=mse.")
    return dict(named)


def split_rules(text: str) -> list[str]:
    """The rules of a list. Commas in brackets or quotes split nothing, nor those between coordinates of one rule."""
    rules, depth, quote = [""], 0, ""
    for at, letter in enumerate(text):
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        inside = quote or depth or (";" in rules[-1] and _COORDINATE.match(text, at + 1))
        if letter == "," and not inside:
            rules.append("")
        else:
            rules[-1] += letter
    return [rule.strip() for rule in rules]


_COORDINATE = re.compile(r"\s*\w+\s*=")


def fitting(trained: Mapping[str, Value], pattern: str | None) -> dict[str, Value]:
    """The trained parameters that fit a pattern: a name, or one with * and ?."""
    if pattern is None:
        return dict(trained)
    pattern = parameter(trained, pattern)
    chosen = {name: value for name, value in trained.items() if name == pattern or fnmatchcase(name, pattern)}
    if not chosen:
        raise RuleError(f"--param {pattern!r} fits no trained parameter.", *hints(trained, pattern))
    return chosen


def parameter(trained: Iterable[str], given: str) -> str:
    """The name of a parameter as it is, where the shell was given `h:y` for `h->y`."""
    if given in trained or ":" not in given:
        return given
    arrowed = re.sub(r":(?=[^:]*$)", "->", given)
    return arrowed if any(fnmatchcase(name, arrowed) for name in trained) else given


def hints(trained: Iterable[str], given: str) -> list[str]:
    """What to say where a name is not there."""
    shell = f"A shell takes > as its own: write '{given}>...' in quotes, or {given.rstrip('-')}:... with a colon."
    return [did_you_mean(given, trained), shell if given.endswith("-") else ""]


def refuse_too_long(graph: nx.MultiDiGraph[str], steps: int, batch: int) -> None:
    """Refuse a sequence whose values do not fit in what is free."""
    units = sum(node.size for node in validate(graph).nodes.values())
    budget.room(f"{steps:,} steps of {batch:,} samples", 8 * steps * batch * units)


def refuse_unwritable(path: Path) -> None:
    """Refuse a place where no file can be, before any work is done."""
    if path.is_dir():
        raise FileError(f"cannot write {str(path)!r}: it is a folder.")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {str(path)!r}: there is no such folder.")


def print_json(answer: Any) -> None:
    print(json.dumps(answer, indent=2))
