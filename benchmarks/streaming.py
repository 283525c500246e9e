"""What does one step of a stream cost? A call of `Program.step` a step, against a jitted call a step of a peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.agreement import TOLERANCE, Check, compare
from benchmarks.contestants import EPROP, Contestant
from benchmarks.ours import compiled
from benchmarks.tasks import Gradient, Task


def ours(task: Task, rule: str = "eprop") -> Callable[[], Any]:
    """A pass over the stream, a block of one step a call."""
    program = compiled(task.network, rule, task.x.dtype.name)
    steps = [({"x": task.x[t : t + 1]}, {"y": task.target[t : t + 1]}) for t in range(task.steps)]

    def run() -> Any:
        state = program.start(task.batch)
        for inputs, targets in steps:
            state, step = program.step(task.params, state, inputs, targets)
        return step

    return run


def check(task: Task, our: Gradient) -> Check:
    """Whether the sum over single steps is the gradient of the sequence."""
    stepped = Contestant("forwardgrad step by step", EPROP, lambda: None, lambda _: our)
    return compare(stepped, _summed(task, "eprop"), our, "its gradient in blocks", TOLERANCE)


def same(task: Task, rule: str, other: str) -> Check:
    """Whether two rules give the same gradient, step by step."""
    first = Contestant(rule, EPROP, lambda: None, lambda gradient: gradient)
    return compare(first, _summed(task, rule), _summed(task, other), other, TOLERANCE)


def _summed(task: Task, rule: str) -> Gradient:
    """The sum over single steps."""
    program = compiled(task.network, rule, task.x.dtype.name)
    state, loss, grads = program.start(task.batch), 0.0, dict.fromkeys(program.rules, 0.0)
    for t in range(task.steps):
        now = slice(t, t + 1)
        state, step = program.step(task.params, state, {"x": task.x[now]}, {"y": task.target[now]})
        loss += step.loss
        grads = {name: grad + step.grads[name] for name, grad in grads.items()}
    return Gradient(loss, grads)


def theirs(task: Task) -> Callable[[], Any]:
    """The same pass in braintrace, which must be installed."""
    from benchmarks import peers_braintrace

    return peers_braintrace.stream(task)
