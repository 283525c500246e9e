"""`forwardgrad graphs | rules | train | rl | predict | evaluate | explain | check | audit | render | export`.

Exit codes: 0 done, 1 a check failed, 2 wrong use. `--json` where a program may read the answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from forwardgrad import __version__
from forwardgrad.cli import terminal

COMMANDS = {
    "graphs": "List the shipped graphs.",
    "rules": "Print the named rules: coordinates, what each keeps and drops, limits, source.",
    "train": "Train a graph online on a series, or on a file of yours: forecast, regression, classification.",
    "rl": "Train an actor-critic online in an environment of gymnasium, or in one of ours.",
    "predict": "Print what a trained network says of a file.",
    "evaluate": "Score a trained network on a file that says what should come out.",
    "explain": "Print what a rule becomes on a graph: one line for each parameter.",
    "check": "Compare the compiled gradient with independent oracles, other blocks and other spellings.",
    "audit": "Compare the gradients of several rules with the exact one, on random data.",
    "export": "Write a graph and its rule as a learner in C99, for devices without Python.",
    "render": "Draw a declared graph, the credit of a parameter, or write a page that shows a run.",
}
"""What each command does. Its module has two functions: `options` declares its options, and `run` executes it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return terminal.run(lambda: _command(sys.argv[1:] if arguments is None else arguments))


def _command(words: Sequence[str]) -> int:
    asked = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="forwardgrad", description="Compile declared recurrent graphs to online learning algorithms."
    )
    parser.add_argument("--version", action="version", version=f"forwardgrad {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == asked:
            module = import_module(f"forwardgrad.cli.{name}")
            module.options(command)
            command.set_defaults(run=module.run)
    given = parser.parse_args(words)
    return given.run(given)
