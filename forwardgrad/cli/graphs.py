"""`forwardgrad graphs`: the shipped graphs."""

from __future__ import annotations

import argparse

from forwardgrad.cli.options import add_json, print_json
from forwardgrad.explain.tables import table
from forwardgrad.graph import library


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    titles = library.titles()
    if given.json:
        print_json(titles)
    else:
        print(table(["graph", "what it is"], [[name, title] for name, title in titles.items()]))
    return 0
