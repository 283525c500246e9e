"""How does it work, from a graph to a trained network? Declare, compile, read the rule, train online, compare, draw.

The task is made here: from a stream of random numbers x(t), tell (x(t-2) + x(t-5)) / 2. No value of the past is given
again, so the network has to keep it, and credit has to reach back to what it did some steps ago.
"""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np

import forwardgrad as fg

RULE = "eprop-deep"
BESIDE = ("rtrl", "immediate")
"""The exact rule, and the one without any memory of the past: a rule says little without these two beside it."""


def declare(size):
    """Two recurrent layers of leaky tanh units; a layer is its drive `a`, which mixes units, and its state `h`."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=1)
    for below, n, leak in [("x", 1, 0.3), ("h1", 2, 0.6)]:
        a, h = f"a{n}", f"h{n}"
        graph.add_node(a, op="tanh", size=size, bias=True, layer=f"l{n}")
        graph.add_node(h, op="linear", layer=f"l{n}")
        graph.add_edge(below, a, weight="dense")
        graph.add_edge(h, a, weight="dense", delay=1, init="orthogonal(0.9)")  # explicit recurrence
        graph.add_edge(h, h, value=leak, delay=1)  # implicit recurrence
        graph.add_edge(a, h, value=1 - leak)
    graph.add_node("y", op="linear", size=1, bias=True)
    graph.add_edge("h1", "y", weight="dense")
    graph.add_edge("h2", "y", weight="dense")
    return graph


def delayed_sum(steps, batch, seed):
    """Inputs and targets, `(time, batch, 1)` each."""
    x = np.random.default_rng(seed).normal(size=(steps + 5, batch, 1))
    return {"x": x[5:]}, {"y": (x[3:-2] + x[:-5]) / 2}


def compiled(graph, rule):
    """The graph compiled under a rule."""
    return fg.compile(graph, loss={"y": "mse"}, rule=rule)


def train(program, learn, test):
    """Train online; returns the loss per step on the test data before and after."""
    learner = fg.Learner(program, program.init(seed=0), fg.Adam(0.01), clip=1.0)
    before = mean_loss(program, learner.params, *test)
    learner.fit([learn], block=10)  # an update every 10 steps, while time goes on
    return before, mean_loss(program, learner.params, *test)


def mean_loss(program, params, inputs, targets):
    """Loss per step, weights frozen."""
    return program.gradient(params, inputs, targets).loss / len(targets["y"])


def draw(graph, folder):
    """Draw the graph as SVG where a layout engine is installed, and else write its DOT text."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawing = fg.render.graph(graph, title="Two recurrent layers")
    return fg.render.write(drawing, folder / ("graph.svg" if fg.render.available() else "graph.dot"))


def main(steps=6000, size=16, batch=4, out="runs/quickstart"):
    """Declare, compile, read, train, compare, draw."""
    graph = declare(size)
    print(f"{compiled(graph, RULE)}\n")

    learn, test = delayed_sum(steps, batch, seed=1), delayed_sum(500, batch, seed=2)
    print("Test loss per step, before and after training. Always saying zero gives about 0.5.")
    for rule in (RULE, *BESIDE):
        before, after = train(compiled(graph, rule), learn, test)
        print(f"{rule:<12}{before:.4f}  {after:.4f}")

    print(f"\nwrote {draw(graph, out)}")


if __name__ == "__main__":
    main()
