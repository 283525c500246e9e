"""What does exact RTRL cost where most units are silent? Event-based units whose credit passes near a threshold only.

A unit of an EGRU sends something only when its state is above a threshold, and only then, or near the threshold, does
credit pass it. Rows and columns of zeros in Jacobians and influence are passed over. Nothing is lost by that, so the
gradient is exact whatever the activity (Subramoney 2023, arXiv 2303.05641).

The task is to tell the mean of what came one and four steps ago in a stream of random numbers; always saying zero has
an error of 0.5. The settings are tuned for nothing. It takes half a minute.
"""

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad import cells


def task(steps, seed):
    """A stream of four samples, and what is to be told of it."""
    x = np.random.default_rng(seed).normal(size=(steps + 4, 4, 1))
    return {"x": x[4:]}, {"y": (x[3:-1] + x[:-4]) / 2}


def main(units=48, steps=1000, widths=(1.0, 0.3, 0.1), threshold=0.3):
    """Learn online under exact RTRL; print error, activity and work for surrogates of several widths."""
    print("width  error  units with credit  multiply-adds executed")
    fractions = []
    for width in widths:
        graph = nx.MultiDiGraph()
        graph.add_node("x", op="input", size=1)
        h = cells.egru(graph, "l", input="x", size=units, threshold=threshold, width=width, reset="after")
        cells.readout(graph, "y", input=h, size=1)
        program = fg.compile(graph, loss={"y": "mse"}, rule="rtrl")
        assert all(derived.exact for derived in program.rules.values())
        learner = fg.Learner(program, program.init(), fg.Adam(0.01))
        learner.fit([task(steps, seed=1)], block=4)
        inputs, targets = task(60, seed=2)
        state = program.run(learner.params, inputs)["l.c"]
        passing = np.mean((state > threshold) | (np.abs(state - threshold) < width))
        activity = program.activity(learner.params, inputs, targets)
        fractions.append(activity.fraction)
        error = learner.evaluate(*task(500, seed=3))
        print(f"{width:<7}{error:<7.2f}{passing:<19.0%}{activity.fraction:.0%} of {activity.bound:.1e}", flush=True)
    return fractions


if __name__ == "__main__":
    main()
