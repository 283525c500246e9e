"""Real-time recurrent reinforcement learning: an agent learns to hold a bit for eight steps, in every step it takes.

The bit is shown when an episode begins, and the last action must name it: the mean return is 0 without memory, and at
most 1. The network has 32 units with trained time constants and two linear readouts, a policy and a value. Two kinds of
eligibility traces bring the last reward back to what was seen eight steps before. The rule's traces say how the state
depends on weights; the outer trace says which weights made the actions and values of the last steps what they were.

`rtrl` has the exact gradient, `rflo` one number per synapse and random feedback, and `immediate` no memory of how the
state came about. It takes about a minute.
"""

from __future__ import annotations

import argparse

from tqdm import tqdm

import forwardgrad as fg
from forwardgrad import rl


def main(length=8, steps=3000, rules=("rtrl", "rflo", "immediate"), seed=0):
    settings = rl.RunSettings(steps=steps, every=max(steps // 5, 1), batch=16, seed=seed)
    print(f"{'rule':<10} mean return after each fifth of {steps:,} steps     best weights")
    for rule in rules:
        program = fg.compile(fg.load("actor_critic"), rule=rule, per_sample=True, dtype="float32")
        with tqdm(total=steps, desc=rule, unit=" steps", leave=False) as bar:
            learned = rl.learn(
                program, lambda: rl.MemoryChain(length), settings, stepped=lambda _, bar=bar: bar.update()
            )
        curve = " ".join(f"{each.evaluation:8.2f}" for each in learned.curve)
        print(f"{rule:<10}{curve}      {learned.score:8.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8, help="of the chain (default %(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="of each of 16 environments (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
