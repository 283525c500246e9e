"""Can a network grow while it learns? Columns are added stage by stage on trace patterning, online, and none is lost.

One pattern of three stimuli announces a stimulus some steps later; the target is the discounted return of that. Each
stage is a few columns of LSTM that read the inputs and the features of all earlier stages, which are frozen by then.
So the exact gradient of a stage takes two numbers per synapse. The learner goes on: parameters, the optimizer's memory,
values and traces are carried over, so that the error does not jump where the network grows.

The task is a small version of that of Javed et al. 2023, arXiv 2302.05326, who learn the value by TD; here the return
itself is the target. Predicting its mean has an NMSE of 1. The settings are tuned for nothing. It takes ten seconds.
"""

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad.learning.freezing import frozen
from forwardgrad.learning.growth import add_stage, grown
from forwardgrad.learning.tasks import trace_patterning

EASY = {"stimuli": 3, "patterns": 1, "distractors": 1, "gap": (4, 6), "pause": (8, 12)}


def main(stages=3, columns=4, steps=3000, streams=4):
    """Learn stage by stage from one stream of data; print the error by quarters of each stage."""
    task = trace_patterning(streams, seed=0, steps=stages * steps, **EASY)
    mean = next(known.value for known in task.references if known.kind == "MSE")
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=task.inputs.shape[2])
    graph.add_node("y", op="linear", size=1, bias=True)
    features, learner = [], None
    print("stage  bytes of traces  NMSE by quarters of the stage")
    for stage in range(1, stages + 1):
        graph = add_stage(graph, f"s{stage}", ["x", *features], columns, "y")
        program = fg.compile(graph, loss={"y": "mse"})
        assert all(derived.exact for derived in program.rules.values())
        learner = grown(learner, program) if learner else fg.Learner(program, program.init(), fg.Adam(0.01))
        now = slice((stage - 1) * steps, stage * steps)
        updates = learner.fit([({"x": task.inputs[now]}, {"y": task.targets[now]})], block=5)
        errors = [np.mean(part) / mean for part in np.array_split([update.loss for update in updates], 4)]
        stored = sum(derived.bytes for derived in program.rules.values())
        print(f"{stage:<7}{stored:<17,}" + "  ".join(f"{error:.2f}" for error in errors), flush=True)
        features.append(f"s{stage}.norm.h")
        graph = frozen(graph, [name for name in program.rules if not name.endswith(("->y", "y.bias"))])
    return learner


if __name__ == "__main__":
    main()
