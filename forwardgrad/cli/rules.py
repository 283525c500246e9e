"""`forwardgrad rules`: the named rules, as text, as plain data, or as the page docs/rules.md."""

from __future__ import annotations

import argparse

from forwardgrad.cli.options import add_json, print_json
from forwardgrad.rules import catalogue


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="one rule (default: all, and the automata after them)")
    parser.add_argument("--markdown", action="store_true", help="print the page docs/rules.md")


def run(given: argparse.Namespace) -> int:
    if given.markdown:
        print(catalogue.markdown(), end="")
    elif given.json:
        print_json(catalogue.report() if given.name is None else vars(catalogue.entry(given.name)))
    else:
        print(catalogue.text(None if given.name is None else [given.name]))
    return 0
