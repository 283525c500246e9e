"""`forwardgrad audit`: the gradients of several rules against the exact one, as a table and as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from forwardgrad.cli.options import (
    add_graph,
    add_json,
    add_loss,
    at_least_two,
    losses,
    positive,
    print_json,
    refuse_too_long,
    refuse_unwritable,
    split_rules,
)
from forwardgrad.errors import RenderError
from forwardgrad.graph.files import load
from forwardgrad.support import plotting
from forwardgrad.support.atomic import write_bytes
from forwardgrad.testing.audited import picture
from forwardgrad.testing.auditing import USUAL, over_seeds


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_graph(parser)
    parser.add_argument(
        "--rules",
        action="append",
        metavar="RULE,...",
        help=f"rules, joined by commas or given one by one (default: {','.join(USUAL)})",
    )
    add_loss(parser)
    parser.add_argument("--seeds", type=positive, default=5, help="random seeds (default %(default)s)")
    parser.add_argument("--steps", type=at_least_two, default=20, help="length of sequences (default %(default)s)")
    parser.add_argument("--batch", type=positive, default=4, help="samples in each (default %(default)s)")
    parser.add_argument("--block", type=positive, help="steps per block (default: a third, or 1 for a lossy layout)")
    parser.add_argument("-o", "--output", help="a .png file for a picture")


def run(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    refuse_too_long(graph, given.steps, given.batch)
    path = None if given.output is None else _png(given.output)
    rules = [rule for text in given.rules for rule in split_rules(text)] if given.rules else USUAL
    with tqdm(total=given.seeds * len(rules), unit=" rules", desc="auditing", disable=None) as bar:
        audit = over_seeds(
            graph,
            losses(graph, given.loss),
            rules,
            seeds=given.seeds,
            steps=given.steps,
            batch=given.batch,
            block=given.block,
            progress=bar.update,
        )
    if not given.json:
        print(audit.table())
    if path is not None:
        write_bytes(path, picture(audit, str(graph.graph.get("title") or given.graph)))
    if given.json:
        print_json({"graph": given.graph, **audit.report(), "written": None if path is None else str(path)})
    elif path is not None:
        print(f"\nwrote {path}")
    return 0


def _png(output: str) -> Path:
    """Where a picture of an audit goes, refused before any work is done."""
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise RenderError(f"cannot draw {output!r}: the picture of an audit is a .png file.")
    refuse_unwritable(path)
    plotting.matplotlib("the picture of an audit")
    return path
