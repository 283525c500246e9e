"""How does JAX compute it? Backpropagation through time, `jit(value_and_grad(scan))`; e-prop is the same with a cut.

What does not depend on the state stands outside the scan: the products of the inputs before it, the readout and the
loss behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import EPROP, EXACT, HYBRID, Contestant
from benchmarks.networks import DAMPENING, LEAK, THRESHOLD, Layer
from benchmarks.tasks import Gradient, Task

GATES = "ifog"
"""The order in which the gates of an LSTM are stacked."""

Params = dict[str, Any]
"""Weights `(source, target)`: `W`, `U` and `b` a layer, gates side by side, and `V`, `c` of the readout."""


def precision(task: Task) -> AbstractContextManager[Any]:
    """The context in which JAX keeps the precision of a task."""
    return jax.enable_x64(task.double)


def packed(task: Task) -> Params:
    """The parameters of a task as a user of JAX would keep them."""
    of = task.params
    params: Params = {"V": of[f"{task.network.layers[-1].out}->y"].T, "c": of["y.bias"]}
    for layer in task.network.layers:
        names = [layer.weights(gate) for gate in gates(layer)]
        for key, column in zip("WUb", zip(*names, strict=True), strict=True):
            found = [of[name].T for name in column if name in of]
            if found:
                params[key + layer.name] = np.concatenate(found, axis=-1)
    return params


def unpacked(task: Task, params: Params) -> dict[str, np.ndarray]:
    """The other way: arrays shaped like `packed` under the names of our graph."""
    last = task.network.layers[-1].out
    found = {f"{last}->y": np.asarray(params["V"]).T, "y.bias": np.asarray(params["c"])}
    for layer in task.network.layers:
        columns = zip(*(layer.weights(gate) for gate in gates(layer)), strict=True)
        for key, column in zip("WUb", columns, strict=True):
            if key + layer.name in params:
                parts = np.split(np.asarray(params[key + layer.name]), len(column), axis=-1)
                found |= {name: part.T for name, part in zip(column, parts, strict=True)}
    return found


def gates(layer: Layer) -> str | tuple[str]:
    """The gates of a layer."""
    return GATES if layer.cell == "lstm" else ("",)


@jax.custom_jvp
def spike(v: Any) -> Any:
    """A step at the threshold, with a triangle for its derivative."""
    return (v > THRESHOLD).astype(v.dtype)


@spike.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    slope = DAMPENING / THRESHOLD * jnp.maximum(0, 1 - jnp.abs(v - THRESHOLD) / THRESHOLD)
    return spike(v), slope * dv


def _rnn(U: Any, cut: Callable[[Any], Any], h: Any, drive: Any) -> Any:
    h = jnp.tanh(drive + cut(h) @ U)
    return h, h


def _lstm(U: Any, cut: Callable[[Any], Any], state: Any, drive: Any) -> Any:
    h, c = state
    i, f, o, g = jnp.split(drive + cut(h) @ U, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _lif(U: Any, cut: Callable[[Any], Any], state: Any, drive: Any, reset: Callable[[Any], Any] | None = None) -> Any:
    v, z = state
    v = LEAK * v + drive + cut(z) @ U - THRESHOLD * (reset or cut)(z)
    z = spike(v)
    return (v, z), z


def _lru(U: Any, cut: Callable[[Any], Any], h: Any, drive: Any) -> Any:
    h = U * h + drive  # no unit sees another, so there is nothing to cut
    return h, h


_STEP = {"rnn": _rnn, "lstm": _lstm, "lif": _lif, "lru": _lru}
_STATES = {"rnn": 1, "lstm": 2, "lif": 2, "lru": 1}


def _drive(params: Params, layer: Layer, below: Any) -> Any:
    return below @ params["W" + layer.name] + params.get("b" + layer.name, 0)


def _start(layer: Layer, drive: Any) -> Any:
    zero = jnp.zeros((drive.shape[1], layer.size), drive.dtype)
    return zero if _STATES[layer.cell] == 1 else (zero, zero)


def _layer(params: Params, layer: Layer, below: Any, cut: Callable[[Any], Any]) -> Any:
    """The outputs of a layer over time, from those of the layer below."""
    drive = _drive(params, layer, below)
    step = partial(_STEP[layer.cell], params["U" + layer.name], cut)
    return jax.lax.scan(step, _start(layer, drive), drive)[1]


def _associative(params: Params, layer: Layer, below: Any, cut: Callable[[Any], Any]) -> Any:
    """The same for a diagonal linear recurrence, in a logarithmic number of steps."""
    drive = _drive(params, layer, below)
    factor = jnp.broadcast_to(params["U" + layer.name], drive.shape)
    return jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (factor, drive))[1]


def loss_of(kind: str, y: Any, target: Any) -> Any:
    """The loss of each sample and step, `(...,)`."""
    if kind == "mse":
        return jnp.mean((y - target) ** 2, axis=-1)
    log_p = jax.nn.log_softmax(y)
    return -jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]


def _reverse(task: Task, kind: str, name: str, cut: Callable[[Any], Any], layer_of: Any = _layer) -> Contestant:
    network = task.network

    def loss(params: Params, x: Any, target: Any) -> Any:
        for layer in network.layers:
            x = layer_of(params, layer, x, cut)
        y = x @ params["V"] + params["c"]
        return loss_of(network.loss, y, target).mean(axis=1).sum()

    return jitted(task, kind, name, jax.value_and_grad(loss))


def jitted(task: Task, kind: str, name: str, function: Callable[..., Any], note: str = "") -> Contestant:
    """A contestant from a function of parameters, inputs and targets, whose arguments lie on the device beforehand."""
    with precision(task):
        compiled = jax.jit(function)
        arguments = jax.device_put((packed(task), jnp.asarray(task.x), jnp.asarray(task.target)))

    def run() -> Any:
        with precision(task):
            return jax.block_until_ready(compiled(*arguments))

    return Contestant(name, kind, run, lambda found: Gradient(float(found[0]), unpacked(task, found[1])), note)


def _keep(past: Any) -> Any:
    return past


def bptt(task: Task) -> Contestant:
    """Backpropagation through time."""
    return _reverse(task, EXACT, "jax BPTT", _keep)


def eprop(task: Task) -> Contestant:
    """The same without credit through other units in time: e-prop, in reverse and with the memory of BPTT."""
    return _reverse(task, EPROP, "jax e-prop", jax.lax.stop_gradient)


def associative(task: Task) -> Contestant:
    """Backpropagation through the associative scan of a diagonal linear recurrence."""
    return _reverse(task, EXACT, "jax associative scan", _keep, _associative)


def windowed(task: Task, length: int) -> Gradient:
    """What is exact inside windows of that length and e-prop before them, by its definition: slow, for checks.

    Each window's loss is differentiated back to t = 0, through everything inside the window, and before it not through
    other units in time; through the reset of spiking units nowhere.
    """
    network, stop = task.network, jax.lax.stop_gradient
    (layer,) = network.layers

    def loss(params: Params, x: Any, target: Any, at: int) -> Any:
        drive = _drive(params, layer, x)
        step = partial(_STEP[layer.cell], params["U" + layer.name])
        reset = {"reset": stop} if network.spikes else {}
        state, _ = jax.lax.scan(partial(step, stop, **reset), _start(layer, drive), drive[:at])
        _, h = jax.lax.scan(partial(step, _keep, **reset), state, drive[at : at + length])
        y = h @ params["V"] + params["c"]
        return loss_of(network.loss, y, target[at : at + length]).mean(axis=1).sum()

    def total(params: Params, x: Any, target: Any) -> Any:
        return sum(loss(params, x, target, at) for at in range(0, task.steps, length))

    found = jitted(task, HYBRID, "", jax.value_and_grad(total))
    return found.read(found.run())
