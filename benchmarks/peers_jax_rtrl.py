"""How does JAX compute real-time recurrent learning? Per step by `scan`, carrying the influence of every weight.

A layer's weights are one matrix A = [W, U, b] that acts on u(t) = [below(t), h(t-1), 1]. With D the derivative of tanh,
the influence of A on its own layer, S, and on the layer above, P, go forward as

    S(t) = D U S(t-1) + D (identity x u(t))
    P(t) = D' U' P(t-1) + D' W' S(t)

where the primed are those of the layer above. Both are one matrix product a step, `(units, units)` times
`(units, size of A)`: nothing is written as one dense Jacobian of the whole state. (Williams & Zipser 1989.)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.contestants import EXACT, Contestant
from benchmarks.peers_jax import Params, jitted, loss_of
from benchmarks.tasks import Task


def _sample(weights: Any, sizes: Any, state: Any, influence: Any, x: Any) -> Any:
    """One step of one sample.

    Args:
        weights: per layer, A `(units, below + units + 1)`.
        sizes: per layer, the size of what feeds it.
        state: per layer, h.
        influence: `influence[a][l]`, that of the weights of layer l on layer a, l <= a, `(units of a, *shape of A)`.
        x: `(inputs,)`.

    Returns:
        State and influence a step later.
    """
    hs: list[Any] = []
    after: list[list[Any]] = []
    below = x
    for layer, (A, size, h, held) in enumerate(zip(weights, sizes, state, influence, strict=True)):
        u = jnp.concatenate([below, h, jnp.ones(1, h.dtype)])
        below = jnp.tanh(A @ u)
        d = 1 - below**2
        W, U = d[:, None] * A[:, :size], d[:, None] * A[:, size:-1]
        units = jnp.arange(len(h))
        carried = [jnp.tensordot(U, S, 1) for S in held]
        for under in range(layer):
            carried[under] = carried[under] + jnp.tensordot(W, after[layer - 1][under], 1)
        carried[layer] = carried[layer].at[units, units].add(d[:, None] * u)
        hs.append(below)
        after.append(carried)
    return hs, after


def rtrl(task: Task) -> Contestant:
    """RTRL of one or more layers of tanh units; the batch by `vmap`."""
    network = task.network
    layers, sizes = network.layers, (network.inputs, *network.units[:-1])

    def gradient(params: Params, x: Any, target: Any) -> Any:
        batch, dtype = x.shape[1], x.dtype
        weights = [
            jnp.concatenate([params["W" + at.name], params["U" + at.name], params["b" + at.name][None]]).T
            for at in layers
        ]
        state = [jnp.zeros((batch, at.size), dtype) for at in layers]
        influence = [
            [jnp.zeros((batch, at.size, *weights[under].shape), dtype) for under in range(n + 1)]
            for n, at in enumerate(layers)
        ]
        one_step = jax.vmap(lambda s, S, x: _sample(weights, sizes, s, S, x))

        def loss(V: Any, c: Any, h: Any, target: Any) -> Any:
            return loss_of(network.loss, h @ V + c, target).mean()

        def body(carry: Any, now: Any) -> Any:
            state, influence, total, grads = carry
            state, influence = one_step(state, influence, now[0])
            value, (dV, dc, dh) = jax.value_and_grad(loss, (0, 1, 2))(params["V"], params["c"], state[-1], now[1])
            found = [jnp.tensordot(dh, S, 2) for S in influence[-1]]
            grads = jax.tree.map(jnp.add, grads, (dV, dc, found))
            return (state, influence, total + value, grads), None

        grads = jax.tree.map(jnp.zeros_like, (params["V"], params["c"], weights))
        carry = state, influence, jnp.zeros((), dtype), grads
        (_, _, total, (dV, dc, found)), _ = jax.lax.scan(body, carry, (x, target))
        result: Params = {"V": dV, "c": dc}
        for at, size, dA in zip(layers, sizes, found, strict=True):
            parts = jnp.split(dA.T, [size, size + at.size])
            result |= {"W" + at.name: parts[0], "U" + at.name: parts[1], "b" + at.name: parts[2][0]}
        return total, result

    return jitted(task, EXACT, "jax RTRL", gradient, "per step")
