"""Which rules learn to remember? Spiking units hold the first cue of a sequence through distractors and a delay.

A sequence has 20 to 50 steps. One of four cues opens it, then all four channels spike at random, and in the last three
steps a query asks which cue it was. Nothing but memory tells: guessing is right in one of four.

The network has 64 spiking units with adapting thresholds, which change slowly. `eprop` carries two eligibility traces
per synapse, of the potential and of the adaptation, so the cue gets credit many steps later. `immediate` sees only the
step of the answer, and `reservoir` trains the readout alone. `tbptt` gets each sequence as one block here, which makes
it BPTT: the exact gradient. All others learn online, in blocks of 10 steps.

One learning rate and one number of updates for all; they are tuned for no rule. It takes two to three minutes;
`--seeds 1` is a first look.
"""

from __future__ import annotations

import argparse
import time

import networkx as nx
import numpy as np
from tqdm import tqdm

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.learning.tasks import recall

BLOCKS = {"tbptt": None, "eprop": 10, "immediate": 10, "reservoir": 10}
"""The rules, and how many steps their blocks have; `None` for a whole sequence."""


def network(units=64, cues=4):
    """Spiking units with adapting thresholds, and a leaky readout."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=cues + 1)
    spikes = cells.alif(graph, "l1", input="x", size=units, init="normal(0.7)")
    cells.readout(graph, "y", input=spikes, size=cues, leak=0.8)
    return graph


def train(graph, rule, block, seed, updates, batch=64):
    """Learn from fresh sequences only; returns the program and the learner."""
    program = fg.compile(graph, loss={"y": "cross_entropy"}, rule=rule, dtype="float32")
    learner = fg.Learner(program, program.init(seed=seed), fg.Adam(0.005), clip=1.0)
    for number in range(updates):
        task = recall(batch, seed=(seed, number))
        learner.fit([({"x": task.inputs}, {"y": task.targets}, task.mask)], block=block)
        learner.reset()
    return program, learner


def accuracy(program, params, task):
    """The share of right answers, weights frozen."""
    _, step = program.step(
        params, {"x": task.inputs}, {"y": task.targets}, task.mask, state=program.start(len(task.labels))
    )
    return task.accuracy(step.outputs["y"])


def main(seeds=5, updates=300, units=64, rules=tuple(BLOCKS)):
    """Train with each rule and seed, and print a table."""
    test = recall(500, seed=10**6)
    print(f"{units} spiking units, {updates} updates on 64 sequences each; accuracy on 500 others, chance is 0.25.\n")
    print("rule       mean   lowest  accuracy by seed                    seconds per run")
    for rule in rules:
        began, reached = time.perf_counter(), []
        for seed in tqdm(range(seeds), desc=rule, unit="seed", leave=False):
            program, learner = train(network(units), rule, BLOCKS.get(rule, 10), seed, updates)
            reached.append(accuracy(program, learner.params, test))
        each = " ".join(f"{value:.3f}" for value in reached)
        seconds = (time.perf_counter() - began) / seeds
        print(f"{rule:<11}{np.mean(reached):.3f}  {min(reached):.3f}   {each:<36}{seconds:.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs per rule (default 5)")
    parser.add_argument("--updates", type=int, default=300, help="blocks of 64 sequences per run (default 300)")
    parser.add_argument("--rules", nargs="+", default=list(BLOCKS), help="others as well, such as 'snap(1)'")
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.updates, rules=arguments.rules)
