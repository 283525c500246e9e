"""How do we compute it? One call of `Program.gradient`, with a block so short that traces are carried."""

from __future__ import annotations

import forwardgrad as fg
from benchmarks.contestants import EPROP, EXACT, Contestant, MissingPeerError
from benchmarks.networks import Network, declare
from benchmarks.tasks import Gradient, Task
from forwardgrad.errors import MissingExtraError

IN_C = "forwardgrad C"
"""What the backend `c` is called, beside `forwardgrad`, which is the backend `numpy`."""

RULES = {"eprop": EPROP, "rtrl": EXACT}
"""Our rules, and which gradient each computes."""


def compiled(network: Network, rule: str, dtype: str = "float32", backend: str = "numpy") -> fg.Program:
    """The program of a network."""
    return fg.compile(declare(network), loss={"y": network.loss}, rule=rule, dtype=dtype, backend=backend)


def automatic(program: fg.Program, task: Task) -> int:
    """The block that `block="auto"` chooses; it cannot show as more than the length of the task."""
    return next(program.blocks([({"x": task.x}, {"y": task.target})], "auto")).steps


def blocks_of(task: Task, rule: str) -> int:
    """The steps of our blocks: as `auto` chooses, and at most a quarter of the sequence."""
    return min(automatic(compiled(task.network, rule, task.x.dtype.name), task), max(1, task.steps // 4))


def ours(task: Task, rule: str, block: int | None = None, backend: str = "numpy") -> Contestant:
    """Our program for a task.

    Args:
        task: the task.
        rule: `eprop` or `rtrl`.
        block: steps per block; by default as `auto` chooses, and at most a quarter of the sequence.
        backend: which runs it.

    Raises:
        MissingPeerError: if that is `c`, and the machine has no C compiler.
    """
    try:
        program = compiled(task.network, rule, task.x.dtype.name, backend)
    except MissingExtraError as error:
        raise MissingPeerError(f"{IN_C} is left out: {error}") from error
    inputs, targets = {"x": task.x}, {"y": task.target}
    block = block or blocks_of(task, rule)
    return Contestant(
        "forwardgrad" if backend == "numpy" else IN_C,
        RULES[rule],
        lambda: program.gradient(task.params, inputs, targets, block=block),
        lambda result: Gradient(result.loss, result.grads),
        f"{rule}, blocks of {block}",
    )
