"""Accumulation of evidence by spiking units with adaptive thresholds, learned trial by trial with e-prop.

    python examples/evidence_accumulation.py symmetric --seed 1

Numbers as in the code published with Bellec et al. 2020, doi 10.1038/s41467-020-17236-y: 64 trials of 2,200 ms side by
side, Adam with a learning rate of 0.005, firing rates held at 10 Hz, and feedback that is `symmetric`, `random` (drawn
from N(0, 1)) or `adaptive`. Every ten updates it decides on 64 fresh trials; where its error is below 0.07, on 512
more, and if that is, too, learning is done.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import forwardgrad as fg
from forwardgrad.learning import tasks
from forwardgrad.learning.regularizers import MeanActivity, with_means
from forwardgrad.learning.trials import TrialLearner

RULES = {"symmetric": "eprop", "random": "eprop; feedback=random(1.0)", "adaptive": "eprop; feedback=adaptive(1.0)"}
RATE = MeanActivity(target=0.01, strength=2.0)  # 10 Hz; in the published code the square has no factor 1/2
ENOUGH = 0.07


def errors(
    rule: str, seed: int, updates: int, batch: int = 64, *, decay: float = 0.0, backend: str = "c", **task: int
) -> Iterator[tuple[float, float | None, float]]:
    """Learn; after each ten updates the decision error on fresh trials, that on more of them, and the rate in Hz."""
    graph, rates = with_means(fg.load("evidence_accumulation"), "fixed.z", "adaptive.z")
    program = fg.compile(
        graph, {"y": "cross_entropy"} | rates, f"{rule}; seed={seed}", dtype="float32", backend=backend
    )
    optimizer = fg.Adam(0.005, weight_decay=decay)
    learner = TrialLearner(program, program.init(seed), optimizer, means=dict.fromkeys(rates, RATE))

    def error(*number: int) -> float:
        made = tasks.evidence_accumulation(batch, [seed, *number], **task)
        logits = (learner.predict({"x": made.inputs})["y"] * made.mask[..., None]).sum(axis=0)  # decides by their mean
        return float(np.mean(logits.argmax(axis=1) != made.labels))

    for number in range(1, updates + 1):
        made = tasks.evidence_accumulation(batch, [seed, number], **task)
        (update,) = learner.updates([({"x": made.inputs}, {"y": made.targets}, made.mask)])
        if number % 10 == 0:
            first = error(number, 0)
            more = float(np.mean([error(number, more) for more in range(1, 9)])) if first < ENOUGH else None
            yield first, more, 1000 * float(np.mean([update.step.outputs[name].mean() for name in rates]))


def main(feedback: str, seed: int = 0, updates: int = 500, **options: Any) -> float:
    error, began, decay = 1.0, time.perf_counter(), 0.001 if feedback == "adaptive" else 0.0
    for number, (error, more, hertz) in enumerate(errors(RULES[feedback], seed, updates, decay=decay, **options), 1):
        seconds = time.perf_counter() - began
        further = "" if more is None else f", on more trials {more:.3f}"
        print(f"{10 * number:5} updates: decision error {error:.3f}{further}, {hertz:.1f} Hz, {seconds:.0f} s")
        if more is not None and more < ENOUGH:
            break
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("feedback", choices=RULES)
    for option, default in (("--seed", 0), ("--updates", 500)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--backend", default="c")
    main(**vars(parser.parse_args()))
