"""What tests of exported learners share: small graphs, a stream of samples, and learners compiled with sanitizers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad.backends.c_compiler import find_compiler
from forwardgrad.learning.optimizers import Optimizer

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiled(
    folder: Path, *options: str, sources: Sequence[str] = ("main.c", "model.c"), name: str = "learner"
) -> Path:
    """What the machine's compiler makes of an exported learner, with every warning an error."""
    command = [*find_compiler().command, *STRICT, "-O0", *options, *sources, "-o", name, "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]
    return folder / name


def small(name: str) -> nx.MultiDiGraph[str]:
    """A shipped graph with few units."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(fg.load(name))
    for _, attributes in graph.nodes(data=True):
        if attributes.get("size") == 32:
            attributes["size"] = 3
    for *_, attributes in graph.edges(data=True):
        if "channels" in attributes:
            attributes["channels"] = 2
    return graph


@dataclass(frozen=True)
class Stream:
    """Samples of a program, one after the other.

    Args:
        inputs, targets: of each, by node.
        resets: before which samples a sequence begins.
        silent: samples that have no target.
    """

    inputs: list[dict[str, Any]]
    targets: list[dict[str, Any]]
    resets: frozenset[int]
    silent: frozenset[int]


def stream(program: fg.Program, length: int = 24) -> Stream:
    """Random samples, with resets and samples without a target."""
    random, nodes = np.random.default_rng(1), program.network.nodes
    inputs: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for _ in range(length):
        inputs.append({name: random.normal(size=(1, 1, nodes[name].size)) for name in program.network.inputs})
        targets.append({})
        for name, loss in program.losses.items():
            size = nodes[name].size
            label = random.integers(size, size=(1, 1))
            targets[-1][name] = label if loss.labels else random.normal(size=(1, 1, size)) > 0
    return Stream(inputs, targets, frozenset({9, 10}), frozenset({4, 13}))


def by_python(program: fg.Program, params: Any, optimizer: Optimizer, samples: Stream) -> list[list[float]]:
    """Predictions and losses of `Program.step` and an optimiser."""
    state, memory = program.start(), optimizer.start(params)
    rows: list[list[float]] = []
    for t, (inputs, targets) in enumerate(zip(samples.inputs, samples.targets, strict=True)):
        if t in samples.resets:
            state = program.start()
        if t in samples.silent:
            state, prediction = program.predict(params, inputs, state=state)
            outputs = prediction.outputs
            rows.append([])
        else:
            state, step = program.step(params, inputs, targets, state=state)
            params, memory = optimizer.update(params, step.grads, memory)
            outputs = step.outputs
            rows.append([step.loss])
        rows[-1][:0] = [float(y) for array in outputs.values() for y in array.ravel()]
    return rows


def lines(samples: Stream) -> str:
    """The samples as an exported learner reads them."""
    rows: list[str] = []
    for t, (inputs, targets) in enumerate(zip(samples.inputs, samples.targets, strict=True)):
        arrays = [*inputs.values(), *(() if t in samples.silent else targets.values())]
        rows += [""] * (t in samples.resets)
        rows.append(" ".join(repr(float(number)) for array in arrays for number in array.ravel()))
    return "\n".join(rows) + "\n"


def by_device(learner: Path, samples: Stream) -> list[list[float]]:
    """What an exported learner prints."""
    done = subprocess.run(
        [learner],
        input=lines(samples),
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "ASAN_OPTIONS": "detect_leaks=0",
        },  # it allocates nothing, and leaks cannot be told everywhere
    )
    assert not done.returncode, done.stderr[:4000]
    return [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
