"""Can an LSTM learn in parts of a sequence? FPTT on the adding problem: no credit crosses from one part to the next.

A sequence has random numbers, two of which are marked, and asks for their sum. It is cut into parts. Each part ends
with an update and asks for the sum, with a weight that grows from part to part, as in Kag & Saligrama 2021, although
only the last part can know it. Inside a part the gradient is exact (`tbptt`); `--rule eprop` and others work as well.

`alpha=0` is Adam alone on the same parts. What the best answer without memory reaches is printed first. The settings
are tuned for neither, and for one seed: the table does not say which is better. It takes half a minute.
"""

from __future__ import annotations

import argparse

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.learning.fptt import FPTT
from forwardgrad.learning.tasks import adding_problem
from forwardgrad.learning.transforms import Clipped


def train(alpha, updates, *, steps=50, parts=5, units=32, rule="tbptt", seed=0, batch=32):
    """Learn from fresh sequences only; returns the squared error on others."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    cells.readout(graph, "y", input=cells.lstm(graph, "l", input="x", size=units), size=1)
    program = fg.compile(graph, loss={"y": "mse"}, rule=rule, dtype="float32")
    learner = fg.Learner(program, program.init(seed), FPTT(Clipped(fg.Adam(0.005), norm=1.0), alpha))
    length = steps // parts
    mask = np.zeros((steps, batch))
    for part in range(1, parts + 1):
        mask[part * length - 1] = length * part / parts  # a Learner divides by the length of a block
    for number in range(updates):
        task = adding_problem(batch, seed=(seed, number), steps=steps)
        learner.fit([({"x": task.inputs}, {"y": task.targets}, mask)], block=length)
        learner.reset()
    test = adding_problem(500, seed=10**6, steps=steps)
    return test.mse(learner.predict({"x": test.inputs})["y"])


def main(updates=800, alphas=(0.1, 0.0), **settings):
    """Train with each alpha, and print what was reached."""
    print(*adding_problem(1).references[:1])
    for alpha in alphas:
        print(f"alpha {alpha}: MSE {train(alpha, updates, **settings):.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=800, help="batches of 32 sequences per run (default 800)")
    parser.add_argument("--rule", default="tbptt", help="which gives the gradient of each part")
    given = parser.parse_args()
    main(given.updates, rule=given.rule)
