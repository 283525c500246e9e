"""Pure functions of a program for JAX: to be put inside a user's own `jit`, `vmap`, `lax.scan`, and training loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, cast

import numpy as np

from forwardgrad.array_program.lowering.context import Series
from forwardgrad.backends.jax_engine import JaxEngine
from forwardgrad.compiler import Plan
from forwardgrad.errors import DataError
from forwardgrad.ops.losses import Loss

Traced = Any
"""An array of JAX, or what stands for one while a function is traced."""

Values = Callable[[Traced, Traced], Traced]
"""A loss in JAX: `value(y, target) -> (rows,)` for `y` of shape `(rows, size)`. Its derivative is found by JAX."""


class JaxStep(NamedTuple):
    """What a block gives.

    Args:
        loss: sum over the block's steps of the mean over the batch.
        grads: the block's gradient of each trained parameter.
        outputs: per node with a loss, its values, `(time, batch, size)`.
    """

    loss: Traced
    grads: dict[str, Traced]
    outputs: dict[str, Traced]


class JaxPrediction(NamedTuple):
    """A block that has been run, of which credit can be asked; made by `JaxFunctions.predict`.

    Args:
        outputs: per node with a loss, its values, `(time, batch, size)`.
        arrays: what was computed on the way.
        given: parameters, and the states before and after the block.
    """

    outputs: dict[str, Traced]
    arrays: dict[str, Traced]
    given: dict[str, Mapping[str, Traced]]


class JaxFunctions:
    """A program as pure functions of JAX, made by `Program.as_jax`. None of them checks what it is given.

    Args:
        plan: the derived algorithm.
        losses: the loss of each output node.
        dtype: of all arrays.
        start: `start(batch, draw)`: the state before t = 0, in NumPy.
        counters: the keys of what random layouts count, which goes on when samples start afresh.
        values: losses in JAX by output node, for those that are not built in.
        traces: the dtype in which influence is kept between blocks; that of the program if it is empty.

    Raises:
        MissingExtraError: if JAX is not installed.
        RuleError: if the program calls a function of Python.
        DataError: if a loss has no form in JAX, or double precision is off.
    """

    def __init__(
        self,
        plan: Plan,
        losses: Mapping[str, Loss],
        dtype: Any,
        start: Callable[[int, int], Mapping[str, Any]],
        counters: Collection[str],
        values: Mapping[str, Values],
        traces: str = "",
    ) -> None:
        self._engine, self._plan = JaxEngine(plan, dtype, traces), plan
        self._jax, self._dtype, self._start = self._engine.jax, np.dtype(dtype), start
        if self._dtype == np.float64 and not self._jax.config.jax_enable_x64:
            raise DataError(
                "as_jax: the program is of float64, and double precision is off in JAX.",
                "Call jax.config.update('jax_enable_x64', True) first, or compile with dtype='float32'.",
            )
        self._counters, self._nodes = counters, self._engine.lowered.context.nodes
        bindings = self._engine.lowered.program.bindings.values()
        self._signalled = {key for group, key in bindings if group == "signals"}
        assert self._engine.reading  # it refuses functions of Python
        self._losses = {node: self._value(node, loss, values.get(node)) for node, loss in losses.items()}

    def init(self, batch: int = 1, draw: int = 0) -> dict[str, Traced]:
        """The state before t = 0.

        Args:
            batch: number of samples.
            draw: for random layouts, the number of the signs to draw.
        """
        start, kept = self._start(batch, draw), self._engine.kept
        return {key: self._jax.numpy.asarray(np.asarray(array), kept[key]) for key, array in start.items()}

    def reset(self, state: Mapping[str, Traced], where: Traced) -> dict[str, Traced]:
        """The state with the samples where `where`, `(batch,)`, is true started afresh."""
        jnp, fresh = self._jax.numpy, self.init(int(where.shape[0]))
        return {
            key: array
            if key in self._counters
            else jnp.where(where.reshape(1, -1, *(1,) * (array.ndim - 2)), fresh[key], array)
            for key, array in state.items()
        }

    def run(
        self, params: Mapping[str, Traced], inputs: Mapping[str, Traced], *, state: Mapping[str, Traced]
    ) -> dict[str, Traced]:
        """The values of all nodes, `{node: (time, batch, size)}`, without learning."""
        arrays = self._forward(params, state, inputs, None)
        return {name: _block(series, arrays) for name, series in self._nodes.items()}

    def step(
        self,
        params: Mapping[str, Traced],
        inputs: Mapping[str, Traced],
        targets: Mapping[str, Traced],
        mask: Any = None,
        signals: Mapping[str, Traced] | None = None,
        *,
        state: Mapping[str, Traced],
    ) -> tuple[dict[str, Traced], JaxStep]:
        """One block with fixed weights, as `Program.step`.

        Args:
            params: `{name: array}`, as arrays of JAX.
            inputs: `{input node: (time, batch, size)}`.
            targets: `{output node: (time, batch, size)}`, or `(time, batch)` labels.
            mask: weights of the losses, `(time,)` or `(time, batch)`, for all outputs or as `{output node: mask}`.
            signals: `{node: (time, batch, size)}`, for rules with `feedback="signal"`.
            state: from `init`, `reset` or an earlier `step`.

        Returns:
            The state after the block, and the block's loss, gradients and outputs.
        """
        after, prediction = self._predicted(params, state, inputs, targets)
        goals, signals = {name: targets[name] for name in self._losses}, signals or {}
        return after, self.credit(prediction, goals, mask, {name: signals[name] for name in self._signalled})

    def predict(
        self, params: Mapping[str, Traced], inputs: Mapping[str, Traced], *, state: Mapping[str, Traced]
    ) -> tuple[dict[str, Traced], JaxPrediction]:
        """The first half of a step, as `Program.predict`: the state after a block, and the block, with its outputs.

        Both are pytrees, so they can be carried through `jit`, `vmap` and `scan`.

        Args:
            params: `{name: array}`, as arrays of JAX.
            inputs: `{input node: (time, batch, size)}`.
            state: from `init`, `reset`, `predict` or `step`.
        """
        return self._predicted(params, state, inputs, None)

    def credit(
        self,
        prediction: JaxPrediction,
        targets: Mapping[str, Traced] | None = None,
        mask: Any = None,
        signals: Mapping[str, Traced] | None = None,
    ) -> JaxStep:
        """The second half of a step, as `Program.credit`: loss and gradients, once for each objective.

        Args:
            prediction: from `predict`.
            targets: `{output node: ...}` as in `step`, of all outputs or of some.
            mask: as in `step`, for these outputs and for signals on outputs.
            signals: `{node: (time, batch, size)}`: the derivative of each sample's objective by an output that has no
                target, or what a rule with `feedback="signal"` asks for.
        """
        targets, signals = targets or {}, signals or {}
        outputs = prediction.outputs
        first = next(iter(outputs.values()))
        loss, adjoints = self._evaluate(outputs, targets, mask, signals)
        shares = {name: signal / self._shares(first.shape[1]) for name, signal in signals.items()}
        for name in self._signalled - shares.keys():
            shares[name] = self._jax.numpy.zeros((*first.shape[:2], self._plan.network.nodes[name].size), self._dtype)
        arrays = prediction.arrays | _sizes(first)
        groups = {**prediction.given, "losses": adjoints, "signals": shares}
        for name in ("credit", "gradients"):
            self._engine.call(name, arrays, groups)
        return JaxStep(loss, self._engine.results("grads", arrays), outputs)

    def _predicted(self, params: Any, state: Any, inputs: Any, targets: Any) -> tuple[dict[str, Traced], JaxPrediction]:
        arrays = self._forward(params, state, inputs, targets)
        outputs = {name: _block(self._nodes[name], arrays) for name in self._losses}
        groups = {"params": params, "state": state}
        self._engine.call("slopes", arrays, groups)
        self._engine.call("advance", arrays, groups)
        after = self._engine.results("after", arrays)
        kept = {name: array for name, array in arrays.items() if name not in _sizes(next(iter(outputs.values())))}
        return {key: after[key] for key in state}, JaxPrediction(outputs, kept, {**groups, "after": after})

    def _forward(self, params: Any, state: Any, inputs: Any, targets: Any) -> dict[str, Any]:
        first = next(iter((inputs or targets).values()))
        arrays: dict[str, Any] = _sizes(first)
        self._engine.call("forward", arrays, {"params": params, "state": state, "inputs": inputs})
        return arrays

    # Losses.

    def _shares(self, batch: int) -> int:
        """By what the derivative of a sample's loss is divided."""
        return 1 if self._plan.per_sample else batch

    def _value(self, node: str, loss: Loss, given: Values | None) -> Values:
        if given is not None:
            return given
        built_in = {
            "mse": self._mse,
            "cross_entropy": self._cross_entropy,
            "bernoulli": self._bernoulli,
            "signal": self._product,
        }
        if loss.name not in built_in:
            raise DataError(
                f"as_jax: the loss {loss.name!r} on node {node!r} is a function of Python, which JAX cannot run.",
                f"Give its value in jax.numpy: as_jax(losses={{{node!r}: lambda y, target: ...}}).",
            )
        return built_in[loss.name]

    def _mse(self, y: Traced, target: Traced) -> Traced:
        return self._jax.numpy.mean((y - target) ** 2, axis=-1)

    def _cross_entropy(self, y: Traced, label: Traced) -> Traced:
        return -self._jax.numpy.take_along_axis(self._jax.nn.log_softmax(y), label[..., None], axis=-1)[..., 0]

    def _bernoulli(self, y: Traced, target: Traced) -> Traced:
        return self._jax.numpy.mean(self._jax.numpy.logaddexp(0, y) - target * y, axis=-1)

    def _product(self, y: Traced, signal: Traced) -> Traced:
        return self._jax.numpy.sum(y * signal, axis=-1)

    def _evaluate(
        self,
        outputs: Mapping[str, Traced],
        targets: Mapping[str, Traced],
        mask: Any,
        signals: Mapping[str, Traced],
    ) -> tuple[Traced, dict[str, Traced]]:
        """The loss, and its derivative by each output; a signal stands in for a target, and without both it is zero."""
        jnp, total, adjoints = self._jax.numpy, 0.0, dict[str, Traced]()
        for node, y in outputs.items():
            if node not in targets and node not in signals:
                adjoints[node] = jnp.zeros_like(y)
                continue
            value = self._losses[node] if node in targets else self._product
            rows, target = y.reshape(-1, y.shape[-1]), jnp.asarray(targets[node] if node in targets else signals[node])
            target = target.reshape(len(rows), *target.shape[2:])
            values, pull = self._jax.vjp(lambda y, value=value, target=target: value(y, target), rows)
            given = cast("Mapping[str, Any]", mask).get(node) if isinstance(mask, Mapping) else mask
            weight = jnp.asarray(1.0 if given is None else given, self._dtype)
            weight = weight if weight.ndim else jnp.full(y.shape[:2], weight)
            weight = jnp.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, y.shape[:2]).reshape(-1)
            found = pull(weight / self._shares(y.shape[1]))[0]
            # What has no weight may also be NaN.
            total = total + jnp.sum(jnp.where(weight == 0, 0, values * weight)) / y.shape[1]
            adjoints[node] = jnp.where((weight == 0)[:, None], 0, found).reshape(y.shape)
        return total, adjoints


def _sizes(array: Traced) -> dict[str, int]:
    """How long a block of this array is, and of how many samples; numbers of Python also where it is traced."""
    return {"steps": array.shape[0], "batch": array.shape[1], "fresh": 0}


def _block(series: Series, arrays: Mapping[str, Any]) -> Traced:
    first = series.first.constant
    return arrays[series.value.name][first : first + arrays["steps"]]
