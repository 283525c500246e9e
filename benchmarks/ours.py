"""How do we compute it? One call of `Program.gradient`, with a block so short that traces are carried."""

from __future__ import annotations

import forwardgrad as fg
from benchmarks.contestants import EPROP, EXACT, Contestant
from benchmarks.networks import Network, declare
from benchmarks.tasks import Gradient, Task

RULES = {"eprop": EPROP, "rtrl": EXACT}
"""Our rules, and which gradient each computes."""


def compiled(network: Network, rule: str, dtype: str = "float32", backend: str = "numpy") -> fg.Program:
    """The program of a network."""
    return fg.compile(declare(network), loss={"y": network.loss}, rule=rule, dtype=dtype, backend=backend)


def automatic(program: fg.Program, task: Task) -> int:
    """The block that `block="auto"` chooses; it cannot show as more than the length of the task."""
    return next(program.blocks([({"x": task.x}, {"y": task.target})], "auto")).steps


def ours(task: Task, rule: str, block: int | None = None) -> Contestant:
    """Our program for a task.

    Args:
        task: the task.
        rule: `eprop` or `rtrl`.
        block: steps per block; by default as `auto` chooses, and at most a quarter of the sequence.
    """
    program = compiled(task.network, rule, task.x.dtype.name)
    inputs, targets = {"x": task.x}, {"y": task.target}
    block = block or min(automatic(program, task), max(1, task.steps // 4))
    return Contestant(
        "forwardgrad",
        RULES[rule],
        lambda: program.gradient(task.params, inputs, targets, block=block),
        lambda result: Gradient(result.loss, result.grads),
        f"{rule}, blocks of {block}",
    )
