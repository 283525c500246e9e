"""`python -m benchmarks.traces`: the error of influence that is kept in `bfloat16`, by network, rule and block.

Gradients of a sequence in float32 under the backend `jax`, with influence kept in float32 and in bfloat16, are compared
with those in float64 under the backend `numpy`: the norm of the difference over the norm, and the cosine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

import forwardgrad as fg
from benchmarks.networks import Network, declare
from benchmarks.tasks import make

CASES = (
    (Network("rnn", 16, (64,), 8, "mse"), "rtrl"),
    (Network("lstm", 16, (64,), 8, "mse"), "eprop"),
    (Network("lru", 16, (64,), 8, "mse"), "rtrl"),
)
BLOCKS = (1, 10, 50)


def vector(grads: Mapping[str, Any]) -> np.ndarray:
    """All gradients as one vector."""
    return np.concatenate([np.asarray(grads[name], np.float64).ravel() for name in sorted(grads)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    print("| network | rule | block | float32 | bfloat16 | cosine |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for network, rule in CASES:
        task = make(network, steps, 4)
        data = {"x": task.x}, {"y": task.target}
        exact = fg.compile(declare(network), {"y": network.loss}, rule, dtype="float64")
        wanted = vector(exact.gradient(task.params, *data, block=50).grads)
        for block in BLOCKS:
            cells: list[str] = []
            found = wanted
            for traces in (None, "bfloat16"):
                program = fg.compile(
                    declare(network), {"y": network.loss}, rule, dtype="float32", backend="jax", traces=traces
                )
                found = vector(program.gradient(task.params, *data, block=block).grads)
                cells.append(f"{np.linalg.norm(found - wanted) / np.linalg.norm(wanted):.0e}")
            cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
            print(f"| {network} | `{rule}` | {block} | {' | '.join(cells)} | {cosine:.6f} |", flush=True)


if __name__ == "__main__":
    main()
