"""How far are gradients from the oracle's, at the worst, over many random graphs? `python -m tests.campaign`.

For every rule, so many graphs with parameters and data are drawn; the program runs in blocks of one and of three steps.
Exits with 1 if an error is beyond what tests allow.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from checks import TOLERANCE, compiled, error
from hypothesis import HealthCheck, Phase, given, seed, settings
from tqdm import tqdm

from forwardgrad import oracle
from forwardgrad.testing.strategies import problems

RULES = (
    "rtrl",
    "eprop-deep",
    "eprop",
    "local",
    "immediate",
    "hops(2)",
    "window(3)",
    "ostl-feedforward",
    "ottt",
    "rflo",
    "eprop-random",
    "dsf(0.5)",
    "eprop; autapses=implicit",
)
BLOCKS = (1, 3)


def measured(rule: str, graphs: int, progress: Any) -> dict[str, Any]:
    """The worst relative error of a rule, and over how much it was sought."""
    found: dict[str, Any] = {"rule": rule, "graphs": 0, "refused": 0, "numbers": 0, "worst": 0.0}

    @seed(0)
    @settings(
        max_examples=graphs,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(problems())
    def run(drawn: Any) -> None:
        progress()
        try:
            program = compiled(drawn, rule)
        except ValueError:  # the rule does not fit the graph: `ottt` knows its op by its name
            found["refused"] += 1
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = oracle.reverse(**drawn.arguments, rule=rule).grads
        for block in BLOCKS:
            grads = program.gradient(drawn.params, drawn.inputs, drawn.targets, block=block, mask=drawn.mask).grads
            found["worst"] = max(found["worst"], error(grads, {name: wanted[name] for name in grads}))
        found["graphs"] += 1
        found["numbers"] += sum(int(np.size(grad)) for grad in wanted.values())

    run()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--graphs", type=int, default=200, metavar="N", help="for each rule (default: 200)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given_ = parser.parse_args(arguments)
    with tqdm(total=given_.graphs * len(RULES), unit=" graphs", disable=None) as bar:
        rows = [measured(rule, given_.graphs, bar.update) for rule in RULES]
    if given_.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{'rule':<26}graphs  numbers  worst relative error (allowed {TOLERANCE:g})")
        for row in rows:
            print(f"{row['rule']:<26}{row['graphs']:>6}  {row['numbers']:>7,}  {row['worst']:.1e}")
    return 0 if all(row["worst"] <= TOLERANCE for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
