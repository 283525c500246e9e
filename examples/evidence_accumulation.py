"""Accumulation of evidence by spiking units with adaptive thresholds, learned trial by trial with e-prop.

    python examples/evidence_accumulation.py random --seed 1 --trials 300

Numbers as in the code published with Bellec et al. 2020, doi 10.1038/s41467-020-17236-y: 64 trials of 2,200 ms side by
side, Adam with a learning rate of 0.005, firing rates held at 10 Hz, and feedback that is `symmetric`, `random` (drawn
from N(0, 1)) or `adaptive`. There, training ends where the decision error on new trials is below 0.07.
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


def errors(
    rule: str, seed: int, trials: int, batch: int = 64, *, decay: float = 0.0, backend: str = "c", **task: int
) -> Iterator[tuple[float, float, float]]:
    """Learn from fresh trials; of each batch the decision error, the loss, and the mean firing rate in Hz."""
    graph, rates = with_means(fg.load("evidence_accumulation"), "fixed.z", "adaptive.z")
    program = fg.compile(
        graph, {"y": "cross_entropy"} | rates, f"{rule}; seed={seed}", dtype="float32", backend=backend
    )
    optimizer = fg.Adam(0.005, weight_decay=decay)
    learner = TrialLearner(program, program.init(seed), optimizer, means=dict.fromkeys(rates, RATE))
    for number in range(trials):
        made = tasks.evidence_accumulation(batch, [seed, number], **task)
        (update,) = learner.updates([({"x": made.inputs}, {"y": made.targets}, made.mask)])
        logits = (update.step.outputs["y"] * made.mask[..., None]).sum(axis=0)  # a decision by their mean
        spikes = 1000 * np.mean([update.step.outputs[name].mean() for name in rates])
        yield float(np.mean(logits.argmax(axis=1) != made.labels)), update.loss, float(spikes)


def main(feedback: str, seed: int = 0, trials: int = 500, **options: Any) -> float:
    found: list[float] = []
    began, decay = time.perf_counter(), 0.001 if feedback == "adaptive" else 0.0
    for error, loss, spikes in errors(RULES[feedback], seed, trials, decay=decay, **options):
        found.append(error)
        if len(found) % 10 == 0:
            recent, seconds = np.mean(found[-10:]), time.perf_counter() - began
            print(f"{len(found):5} decision error {recent:.3f} loss {loss:.3f} rate {spikes:.1f} Hz {seconds:.0f} s")
            if recent < 0.07:
                break
    return float(np.mean(found[-10:]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("feedback", choices=RULES)
    for option, default in (("--seed", 0), ("--trials", 500)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--backend", default="c")
    main(**vars(parser.parse_args()))
