"""How does a program fit into a training loop of JAX? Its `step` is a pure function, jitted here with optax around it.

The recall task of `recall_cue.py`: an update every ten steps, by one jitted function that takes parameters, the state
of the optimiser and the state of the network, and gives them back. It needs JAX and optax.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import networkx as nx
import optax

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.learning.tasks import recall


def network(units, cues=4):
    """Spiking units with adapting thresholds, and a leaky readout."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=cues + 1)
    spikes = cells.alif(graph, "l1", input="x", size=units, init="normal(0.7)")
    cells.readout(graph, "y", input=spikes, size=cues, leak=0.8)
    return graph


def main(updates=200, units=64, batch=64, block=10):
    """Train, and return the accuracy on other sequences."""
    program = fg.compile(network(units), loss={"y": "cross_entropy"}, rule="eprop", dtype="float32")
    functions, optimizer = program.as_jax(), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.005))

    @jax.jit
    def learn(params, memory, state, inputs, targets, mask):
        state, step = functions.step(params, {"x": inputs}, {"y": targets}, mask, state=state)
        grads = {name: grad / len(inputs) for name, grad in step.grads.items()}
        changes, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, changes), memory, state

    params = {name: jnp.asarray(array) for name, array in program.init(seed=0).items()}
    memory, start, began = optimizer.init(params), functions.init(batch), time.perf_counter()
    for number in range(updates):
        task, state = recall(batch, seed=number), start
        for at in range(0, len(task.inputs), block):
            piece = (array[at : at + block] for array in (task.inputs, task.targets, task.mask))
            params, memory, state = learn(params, memory, state, *piece)
    test = recall(500, seed=10**6)
    outputs = functions.run(params, {"x": test.inputs}, state=functions.init(500))["y"]
    reached = test.accuracy(outputs)
    print(
        f"{updates} batches in {time.perf_counter() - began:.0f} s on {jax.devices()[0]}: {reached:.3f} right answers"
    )
    return reached


if __name__ == "__main__":
    main()
