"""What does one step of a stream cost? A call of `Program.step` or of a `Stream`, against a jitted call of a peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.agreement import TOLERANCE, Check, compare
from benchmarks.contestants import EPROP, Contestant
from benchmarks.ours import compiled
from benchmarks.tasks import Gradient, Task
from forwardgrad import SGD, Learner, Program
from forwardgrad.errors import MissingExtraError


def ours(task: Task, rule: str = "eprop", window: int = 1) -> Callable[[], Any]:
    """A pass over the stream, a block of one step a call, or of a window."""
    program = compiled(task.network, rule, task.x.dtype.name)
    starts = range(0, task.steps, window)
    steps = [({"x": task.x[t : t + window]}, {"y": task.target[t : t + window]}) for t in starts]

    def run() -> Any:
        state, step = program.start(task.batch), None
        for inputs, targets in steps:
            state, step = program.step(task.params, inputs, targets, state=state)
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
        state, step = program.step(task.params, {"x": task.x[now]}, {"y": task.target[now]}, state=state)
        loss += step.loss
        grads = {name: grad + step.grads[name] for name, grad in grads.items()}
    return Gradient(loss, grads)


def updated(task: Task) -> dict[str, Callable[[], Gradient]]:
    """The ways to learn step by step by SGD: each passes over the stream, and gives its loss and how weights moved."""
    program, sgd, steps = compiled(task.network, "eprop", task.x.dtype.name), SGD(0.001), range(task.steps)
    timed = [({"x": task.x[t : t + 1]}, {"y": task.target[t : t + 1]}) for t in steps]
    plain = [({"x": task.x[t]}, {"y": task.target[t]}) for t in steps]

    def moved(loss: float, params: Mapping[str, Any]) -> Gradient:
        return Gradient(loss, {name: params[name] - task.params[name] for name in program.rules})

    def by_stream(program: Program = program) -> Gradient:
        stream = program.stream(task.params, batch=task.batch, optimizer=sgd)
        loss = sum(stream.step(inputs, targets).loss for inputs, targets in plain)
        return moved(loss, stream.params)

    def by_step() -> Gradient:
        params, state, loss = task.params, program.start(task.batch), 0.0
        memory = sgd.start(params)
        for inputs, targets in timed:
            state, step = program.step(params, inputs, targets, state=state)
            params, memory = sgd.update(params, step.grads, memory)
            loss += step.loss
        return moved(loss, params)

    def by_learner(program: Program = program, block: int = 1) -> Gradient:
        learner = Learner(program, task.params, sgd)
        loss = sum(update.loss for update in learner.fit(timed, block=block))
        return moved(loss, learner.params)

    ways = {"forwardgrad": by_stream, "step and update": by_step, "Learner": by_learner}
    ways["Learner, by blocks"] = partial(by_learner, block=2)  # where longer ones are allowed, none is a single step
    try:
        in_c = compiled(task.network, "eprop", task.x.dtype.name, "c")
    except MissingExtraError:  # no compiler on this machine
        return ways
    ways |= {"a stream in C": partial(by_stream, in_c), "Learner in C": partial(by_learner, in_c)}
    return ways | {"Learner in C, by blocks": partial(by_learner, in_c, block=2)}


def learning(task: Task, rule: str, backend: str) -> Callable[[], Any]:
    """A pass over a stream that learns by SGD step by step; raises `MissingExtraError` without a C compiler."""
    program = compiled(task.network, rule, task.x.dtype.name, backend)
    steps = [({"x": task.x[t]}, {"y": task.target[t]}) for t in range(task.steps)]

    def run() -> Any:
        stream = program.stream(task.params, batch=task.batch, optimizer=SGD(0.0001))
        return [stream.step(inputs, targets).loss for inputs, targets in steps]

    return run


def theirs(task: Task) -> Callable[[], Any]:
    """The same pass in braintrace, which must be installed."""
    from benchmarks import peers_braintrace

    return peers_braintrace.stream(task)
