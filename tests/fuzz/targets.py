"""What is done with an input, and what must hold whatever the input was?"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.cli import terminal
from forwardgrad.errors import ForwardgradError
from forwardgrad.rules.table import rule
from fuzz.inputs import TRAP, commands, graph_texts, rule_texts

SECONDS = 20.0
"""How long one input may take."""

SMALL = """
graph = { format = 1, title = "small", loss = { y = "mse" } }
nodes = { x = { op = "input", size = 1 }, h = { op = "tanh", size = 3, bias = true }, y = { op = "linear", size = 1 } }
edges = [
    { from = "x", to = "h", weight = "dense" },
    { from = "h", to = "h", weight = "dense", delay = 1 },
    { from = "h", to = "y", weight = "dense" },
]
"""


@dataclass
class Tally:
    """What became of the inputs so far: outcomes with their number, and the longest time one took."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    slowest: float = 0.0

    @property
    def inputs(self) -> int:
        """How many there were."""
        return sum(self.outcomes.values())


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """An empty working folder, in which nothing may have been executed afterwards, and no numbers warn."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            yield Path(folder)
            assert not Path(folder, TRAP).exists(), "something in the input was executed"
        finally:
            os.chdir(before)


def graph_file(suffix: str, text: str) -> str:
    """Read a graph file; where it is legal, compile it and run a few steps."""
    with _elsewhere() as folder:
        path = folder / f"net{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            graph = fg.load(path)
            return _run(graph)
        except ForwardgradError as error:
            return type(error).__name__


def _run(graph: nx.MultiDiGraph[str]) -> str:
    program = fg.compile(graph, rule="eprop", dead="ignore")
    program.fits(1, 2, "64MiB")
    params, network = program.init(0), program.network
    if any(loss.labels for loss in program.losses.values()):
        return "compiled"
    inputs = {name: np.ones((2, 1, network.nodes[name].size)) for name in network.inputs}
    targets = {name: np.zeros((2, 1, network.nodes[name].size)) for name in program.losses}
    program.gradient(params, inputs, targets, block=1)
    str(program)
    return "ran"


def rule_text(text: str) -> str:
    """Read a rule, and read it back from its own text."""
    with _elsewhere():
        try:
            found = rule(text)
        except ForwardgradError as error:
            return type(error).__name__
        assert rule(found.text) == found
        return "read"


def command_line(arguments: list[str]) -> str:
    """Run a command in a folder that has a graph and a series."""
    with _elsewhere() as folder, contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        (folder / "small.toml").write_text(SMALL)
        (folder / "wave.csv").write_text("\n".join(map(str, np.sin(0.4 * np.arange(80)))))
        try:
            os.environ[terminal.TRACEBACK] = "1"  # an error that nobody foresaw is not to be one line
            code = cli.main(arguments)
        except SystemExit as error:  # argparse says what is wrong, and leaves
            code = error.code
        assert code in (0, 1, 2), f"exit code {code}"
        assert "Traceback" not in out.getvalue()
        return f"exit {code}"


@dataclass(frozen=True)
class Target:
    """Something that reads.

    Args:
        name: what it is.
        inputs: what it is given.
        read: reads one, and says what came of it.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], str]

    def tried(self, given: Any, tally: Tally) -> None:
        """Read an input, and note what became of it; raises what must not be raised."""
        began = time.perf_counter()
        outcome = self.read(given)
        took = time.perf_counter() - began
        tally.outcomes[outcome] += 1
        tally.slowest = max(tally.slowest, took)
        assert took < SECONDS, f"took {took:.0f} s"


TARGETS = [
    Target("graph files, TOML", graph_texts(".toml"), partial(graph_file, ".toml")),
    Target("graph files, JSON", graph_texts(".json"), partial(graph_file, ".json")),
    Target("rules", rule_texts(), rule_text),
    Target("command line", commands(), command_line),
]


def bound_memory(more: int = 2**31) -> None:
    """Let this process have so many bytes more than it has, so that an input that takes them ends in an error."""
    import resource  # of POSIX

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
