"""How does our backend `jax` compute it? The functions of `Program.as_jax` in one jitted call: a scan over blocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import EPROP, EXACT, Contestant
from benchmarks.ours import RULES, compiled
from benchmarks.peers_jax import precision
from benchmarks.tasks import Gradient, Task

BLOCK = 128
"""Steps of a block, where these are no more than a quarter of the sequence."""


def fused(task: Task, rule: str, block: int) -> Contestant:
    """Ours: a scan over blocks, as one jitted call; a rest that does not fill a block comes last."""
    count, rest = divmod(task.steps, block)
    with precision(task):
        functions = compiled(task.network, rule, task.x.dtype.name).as_jax()
        data = [
            (array[: count * block].reshape(count, block, *array.shape[1:]), array[count * block :])
            for array in (task.x, task.target)
        ]
        arguments = jax.device_put((dict(task.params), functions.init(task.batch), jax.tree.map(jnp.asarray, data)))

    @jax.jit
    def gradient(params: Any, start: Any, data: Any) -> Any:
        (x, last_x), (target, last_target) = data

        def step(carried: Any, piece: Any) -> Any:
            state, loss, grads = carried
            state, found = functions.step(params, {"x": piece[0]}, {"y": piece[1]}, state=state)
            return (state, loss + found.loss, jax.tree.map(jnp.add, grads, found.grads)), None

        zero = jnp.zeros((), x.dtype), {name: jnp.zeros_like(array) for name, array in params.items()}
        if count == 1 and not rest:
            found = functions.step(params, {"x": x[0]}, {"y": target[0]}, state=start)[1]
            return found.loss, found.grads
        carried, _ = jax.lax.scan(step, (start, *zero), (x, target))
        if rest:
            carried, _ = step(carried, (last_x, last_target))
        return carried[1:]

    def run() -> Any:
        with precision(task):
            return jax.block_until_ready(gradient(*arguments))

    return Contestant(
        f"forwardgrad, blocks of {block}",
        RULES[rule],
        run,
        lambda found: Gradient(float(found[0]), {name: np.asarray(array) for name, array in found[1].items()}),
    )


def _named(task: Task, rule: str, kind: str) -> Contestant:
    block = min(BLOCK, max(1, task.steps // 4))
    found = fused(task, rule, block)
    began = time.perf_counter()
    found.run()
    took = time.perf_counter() - began
    return Contestant("ours on jax", kind, found.run, found.read, f"{rule}, blocks of {block}; first call {took:.1f} s")


def eprop(task: Task) -> Contestant:
    """Our e-prop under JAX."""
    return _named(task, "eprop", EPROP)


def rtrl(task: Task) -> Contestant:
    """Our RTRL under JAX."""
    return _named(task, "rtrl", EXACT)


def stream(task: Task, window: int) -> Callable[[], Any]:
    """A pass over a stream, a jitted call for each window; inputs and targets lie on the device beforehand."""
    functions = compiled(task.network, "eprop", task.x.dtype.name).as_jax()
    params, start = jax.device_put((dict(task.params), functions.init(task.batch)))
    pieces = [
        ({"x": jnp.asarray(task.x[at : at + window])}, {"y": jnp.asarray(task.target[at : at + window])})
        for at in range(0, task.steps, window)
    ]
    step = jax.jit(functions.step)

    def run() -> Any:
        state, found = start, None
        for inputs, targets in pieces:
            state, found = step(params, inputs, targets, state=state)
        return jax.block_until_ready((state, found))

    return run
