"""`python -m benchmarks.drift`: how far does single precision drift from double over a long run?

Two measurements. Weights frozen: loss and gradients of one long sequence, in blocks, and the influence at its end.
Weights learned: the same stream, learned from in both precisions; there differences feed back into the weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import forwardgrad as fg
from forwardgrad.explain.derivation import table

CASES = (("leaky_stack", "eprop-deep"), ("leaky_stack", "rtrl"), ("lstm", "eprop"), ("gru", "rtrl"), ("alif", "eprop"))
PRECISIONS = ("float64", "float32")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="length of the sequence (default %(default)s)")
    parser.add_argument("--block", type=int, default=50, help="steps per block (default %(default)s)")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose graph or rule holds this word")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    cases = [case for case in CASES if given.only in " ".join(case)]
    limits: Any = threadpool_limits(1, user_api="blas")
    with limits, tqdm(total=4 * len(cases) * given.steps, unit=" steps", desc="running", disable=None) as bar:
        rows = [measured(name, rule, given.steps, given.block, bar) for name, rule in cases]
    if given.json:
        print(json.dumps({"steps": given.steps, "block": given.block, "cases": rows}, indent=2))
        return
    print(f"{given.steps:,} steps, blocks of {given.block}; float32 against float64, relative to the largest entry\n")
    heads = ["graph", "rule", "loss", "gradients", "influence", "learned: mean loss", "learned: last tenth"]
    print(table(heads, [[str(row["graph"]), row["rule"], *(f"{row[key]:.1e}" for key in KEYS)] for row in rows]))


KEYS = ("loss", "gradients", "influence", "learned_mean_loss", "learned_last_tenth")


def measured(name: str, rule: str, steps: int, block: int, bar: Any) -> dict[str, Any]:
    """One graph and rule in both precisions."""
    graph = fg.load(name)
    double, single = (frozen(graph, rule, dtype, steps, block, bar) for dtype in PRECISIONS)
    learned = [learning(graph, rule, dtype, steps, block, bar) for dtype in PRECISIONS]
    tenth = len(learned[0]) // 10
    return {
        "graph": name,
        "rule": rule,
        "loss": abs(single[0] - double[0]) / abs(double[0]),
        "gradients": off(single[1], double[1]),
        "influence": off(single[2], double[2]),
        "learned_mean_loss": abs(learned[1].mean() / learned[0].mean() - 1),
        "learned_last_tenth": abs(learned[1][-tenth:].mean() / learned[0][-tenth:].mean() - 1),
    }


def stream(program: fg.Program, steps: int, block: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A noisy wave and its value one step ahead, the same numbers in both precisions."""
    random = np.random.default_rng(0)
    (source,), (output,) = program.network.inputs, program.losses
    for at in range(0, steps, block):
        t = np.arange(at, min(at + block, steps) + 1)
        x = (np.sin(0.2 * t) * np.cos(0.013 * t) + 0.1 * random.normal(size=len(t))).astype("float32")[:, None, None]
        yield {source: x[:-1].astype(program.dtype)}, {output: x[1:].astype(program.dtype)}


def frozen(graph: Any, rule: str, dtype: str, steps: int, block: int, bar: Any) -> tuple[float, Any, Any]:
    """Loss, gradients and influence at the end of a sequence, weights frozen."""
    program = fg.compile(graph, rule=rule, dtype=dtype, dead="ignore")
    params = {name: array.astype("float32") for name, array in program.init(0).items()}
    state, loss, grads = program.start(), 0.0, dict[str, Any]()
    for inputs, targets in stream(program, steps, block):
        state, step = program.step(params, inputs, targets, state=state)
        loss += step.loss
        grads = {name: np.float64(g) + grads.get(name, 0) for name, g in step.grads.items()}
        bar.update(block)
    return loss, grads, {key: array for key, array in state.items() if key.startswith("influence")}


def learning(graph: Any, rule: str, dtype: str, steps: int, block: int, bar: Any) -> Any:
    """The losses of all blocks, learning."""
    program = fg.compile(graph, rule=rule, dtype=dtype, dead="ignore")
    params = {name: array.astype("float32") for name, array in program.init(0).items()}
    learner = fg.Learner(program, params, fg.Adam(0.001), clip=1.0)
    progress = lambda update: bar.update(update.steps)  # noqa: E731
    return np.array([update.loss for update in learner.fit(stream(program, steps, block), progress=progress)])


def off(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The largest difference of any array, relative to its own largest entry."""
    live = {name: float(np.abs(array).max()) for name, array in wanted.items() if np.any(array)}
    return max((float(np.abs(found[name] - wanted[name]).max()) / scale for name, scale in live.items()), default=0.0)


if __name__ == "__main__":
    main()
