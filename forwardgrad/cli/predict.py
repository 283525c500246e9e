"""`forwardgrad predict`: what a trained network says of a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from forwardgrad.cli.options import add_json, add_trained, print_json, refuse_unwritable
from forwardgrad.support.atomic import write_bytes
from forwardgrad.training.serving import Served, written


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_trained(parser)
    parser.add_argument("-o", "--output", metavar="FILE.csv", help="where the table goes (default: standard output)")


def run(given: argparse.Namespace) -> int:
    if given.output is not None:
        refuse_unwritable(Path(given.output))
    served = Served.load(given.checkpoint)
    rows = served.predictions(served.read(Path(given.data), answered=False), go_on=given.go_on)
    if given.json:
        columns, *lines = list(rows)
        answer = {"checkpoint": given.checkpoint, "data": given.data, "columns": columns, "rows": lines}
        print_json(answer)
        return 0
    text = written(rows)
    if given.output is None:
        sys.stdout.write(text)
    else:
        write_bytes(Path(given.output), text.encode())
        print(f"wrote {given.output}: {text.count(chr(10)) - 1:,} rows")
    return 0
