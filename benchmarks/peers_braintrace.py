"""How does braintrace compute it? Its D-RTRL per step and in windows, and pp-prop where that is the same gradient.

Read in its source (0.2.6) and found by `agreement.py`, which holds all of this against references in JAX:

* Per step (`vjp_method="single-step"`), D-RTRL on spiking units is e-prop. On its own `LSTMCell` it is e-prop with the
  credit of the gates i, f and g counted twice: h and c are two states of one group, the learning signal on c contains
  the way over h, and so does the trace of h. The output gate and the readout are not affected.
* A parameter of the compiled module that feeds no state gets a gradient of zero in that mode. So only the layer is
  compiled here, and the readout is applied to what it returns.
* In windows (`"multi-step"`), credit inside a window is exact, also through other units, and e-prop's before it: a
  gradient of its own, between e-prop and backpropagation through time, with nothing counted twice.
* pp-prop keeps one trace a unit in place of one a synapse. For spiking units, whose leak is one number, that is enough:
  with the leak on its input side and none on the other, it is e-prop.

The batch is an axis of the states; `vmap=True` instead is as fast per step, and refuses windows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import brainstate
import braintrace
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import EPROP, HYBRID, Contestant
from benchmarks.networks import LEAK, THRESHOLD
from benchmarks.peers_jax import loss_of, precision, spike, windowed
from benchmarks.tasks import Gradient, Task

COUNTED_TWICE = "ifg"
"""The gates of an LSTM whose credit D-RTRL counts twice per step."""


class Spiking(brainstate.nn.Module):
    """Recurrent leaky integrate-and-fire units; the potential is their one state. No credit passes the reset."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.synapses = braintrace.nn.Linear(inputs + units, units, b_init=None)

    def _rest(self, batch: int | None) -> Any:
        return jnp.zeros((self.units,) if batch is None else (batch, self.units), brainstate.environ.dftype())

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """The potential at rest."""
        self.v = brainstate.HiddenState(self._rest(batch_size))

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """The same, later."""
        self.v.value = self._rest(batch_size)

    def update(self, x: Any) -> Any:
        """One step: the spikes."""
        z = spike(self.v.value)
        drive = self.synapses(jnp.concatenate([x, z], axis=-1))
        self.v.value = LEAK * self.v.value + drive - THRESHOLD * jax.lax.stop_gradient(z)
        return spike(self.v.value)


class Learner:
    """A compiled layer with its readout.

    Args:
        task: the task.
        algorithm: of braintrace.
        method: `single-step` or `multi-step`.
    """

    def __init__(self, task: Task, algorithm: Any, method: str) -> None:
        network, layer, of = task.network, task.network.layers[0], task.params
        self.task = task
        if network.cell == "lstm":
            self.layer: Any = braintrace.nn.LSTMCell(network.inputs, layer.size)
            linears = {gate: getattr(self.layer, f"W{gate}") for gate in "ifgo"}
        else:
            self.layer = Spiking(network.inputs, layer.size)
            linears = {"": self.layer.synapses}
        self.readout = brainstate.nn.Linear(layer.size, network.outputs)
        self.names = {"readout": ((f"{layer.out}->y",), "y.bias")}
        self.states = {"readout": self.readout.weight}
        for gate, linear in linears.items():
            names = layer.weights(gate)
            self.names[gate], self.states[gate] = (names[:2], names[2]), linear.weight
        for key, (weights, bias) in self.names.items():
            value = {"weight": jnp.asarray(np.concatenate([of[name].T for name in weights]))}
            if bias in of:
                value["bias"] = jnp.asarray(of[bias] - self._built_in(key))
            self.states[key].value = value
        example = jnp.asarray(task.x[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trained = braintrace.compile(self.layer, algorithm, example, batch_size=task.batch, vjp_method=method)

    def _built_in(self, key: str) -> float:
        """What `LSTMCell` adds to the bias of its forget gate."""
        return 1.0 if key == "f" else 0.0

    def reset(self) -> None:
        """Values and traces before t = 0."""
        brainstate.nn.reset_all_states(self.layer, batch_size=self.task.batch)
        self.trained.reset_state(self.task.batch)

    def losses(self, x: Any, target: Any) -> Any:
        """The mean loss of each step over the batch, of one step or of those of a window."""
        y = self.readout(self.trained(braintrace.MultiStepData(x) if x.ndim == 3 else x))
        return loss_of(self.task.network.loss, y, target).mean(axis=-1)

    def read(self, found: Any) -> Gradient:
        """Gradients and loss as `etrace_grad` returns them."""
        grads: dict[str, np.ndarray] = {}
        for key, value in found[0].items():
            weights, bias = self.names[key]
            cuts = np.cumsum([self.task.params[name].shape[1] for name in weights])[:-1]
            parts = np.split(np.asarray(value["weight"]), cuts)
            grads |= {name: part.T for name, part in zip(weights, parts, strict=True)}
            if "bias" in value:
                grads[bias] = np.asarray(value["bias"])
        return Gradient(float(found[1]), grads)


def _precision(task: Task) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(precision(task))
    stack.enter_context(brainstate.environ.context(precision=64 if task.double else 32))
    return stack


def _contestant(task: Task, name: str, kind: str, algorithm: Any, length: int | None, note: str) -> Contestant:
    with _precision(task):
        learner = Learner(task, algorithm, "multi-step" if length else "single-step")
        arguments = jax.device_put((jnp.asarray(task.x), jnp.asarray(task.target)))

    @brainstate.transform.jit
    def gradient(x: Any, target: Any) -> Any:
        learner.reset()
        return learner.trained.etrace_grad(
            x,
            target,
            step_fn=learner.losses,
            chunk_size=length,
            weights=learner.states,
            reduction="sum",
            loss_output="scalar",
            return_value=True,
        )

    def run() -> Any:
        with _precision(task):
            return jax.block_until_ready(gradient(*arguments))

    return Contestant(name, kind, run, learner.read, note)


def _twice(task: Task) -> dict[str, float]:
    gates = COUNTED_TWICE if task.network.cell == "lstm" else ""
    return {name: 2.0 for gate in gates for name in task.network.layers[0].weights(gate)}


def per_step(task: Task) -> Contestant:
    """D-RTRL, one step after the other."""
    counts = _twice(task)
    note = "gates i, f, g counted twice" if counts else ""
    return replace(_contestant(task, "braintrace D-RTRL per step", EPROP, "d_rtrl", None, note), counts=counts)


def window(task: Task, length: int | None = None) -> Contestant:
    """D-RTRL in windows; by default of the length that was the fastest: 64 steps, or 250 of spiking units.

    As for our blocks, a window is at most a quarter of the sequence, so that traces are carried.
    """
    quarter = max(1, task.steps // 4)
    length = length or _divisor(task.steps, min(quarter, 250 if task.network.spikes else 64))
    note = f"windows of {length}, exact inside"
    found = _contestant(task, "braintrace D-RTRL windows", HYBRID, "d_rtrl", length, note)
    return replace(found, reference=lambda: windowed(task, length))


def _divisor(steps: int, limit: int) -> int:
    return next(length for length in range(limit, 0, -1) if steps % length == 0)


def pp_prop(task: Task) -> Contestant:
    """The algorithm with a trace a unit, for spiking units."""
    algorithm = braintrace.ETraceConfig(trace_factorization="io_factorized", decay=(LEAK, 0.0))
    return _contestant(task, "braintrace pp-prop", EPROP, algorithm, None, f"input trace {LEAK}")


def stream(task: Task, window: int | None = None) -> Callable[[], Any]:
    """A pass over the stream, a jitted call for each step or window; its data lies on the device beforehand."""
    learner = Learner(task, "d_rtrl", "multi-step" if window else "single-step")
    starts = range(0, task.steps, window or 1)
    at = [slice(start, start + window) if window else start for start in starts]
    steps = [(jnp.asarray(task.x[each]), jnp.asarray(task.target[each])) for each in at]

    def loss(x: Any, target: Any) -> Any:
        return jnp.sum(learner.losses(x, target))

    @brainstate.transform.jit
    def step(x: Any, target: Any) -> Any:
        return brainstate.transform.grad(loss, learner.states, return_value=True)(x, target)

    def run() -> Any:
        learner.reset()
        found = None
        for x, target in steps:
            found = step(x, target)
        return jax.block_until_ready(found)

    return run
