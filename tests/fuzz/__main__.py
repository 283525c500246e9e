"""`python -m tests.fuzz --inputs N`: N inputs for each reader, in bounded memory, with what became of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does: modules of tests import each other by name

from hypothesis import HealthCheck, Phase, given, seed, settings
from tqdm import tqdm

from forwardgrad.explain.tables import table
from fuzz.targets import SECONDS, TARGETS, Tally, Target, bound_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns 1 if an input ended in an error that is not the library's own, or took too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="inputs for each reader (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (default %(default)s)")
    parser.add_argument("--only", default="", metavar="WORD", help="readers whose name holds this word")
    options = parser.parse_args(arguments)
    bound_memory()
    chosen = [target for target in TARGETS if options.only in target.name]
    rows: list[list[str]] = []
    failures: list[str] = []
    with tqdm(total=options.inputs * len(chosen), unit=" inputs", desc="fuzzing", disable=None) as bar:
        for target in chosen:
            tally = Tally()
            try:
                campaign(target, tally, options.inputs, options.seed, bar)
            except Exception as error:
                failures.append(f"{target.name}: {type(error).__name__}: {error}\n" + "\n".join(error.__notes__))
            outcomes = ", ".join(f"{what} {number:,}" for what, number in tally.outcomes.most_common())
            rows.append([target.name, f"{tally.inputs:,}", f"{tally.slowest:.2f} s", outcomes])
    print(table(["reader", "inputs", "slowest", "what became of them"], rows))
    print("\n".join(failures) if failures else f"no input ended in an error of another kind, or took {SECONDS:.0f} s")
    return 1 if failures else 0


def campaign(target: Target, tally: Tally, inputs: int, start: int, bar: Any = None) -> None:
    """Try so many inputs; raises for the smallest one found that ends as none may."""

    @seed(start)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def each(one: Any) -> None:
        target.tried(one, tally)
        if bar is not None:
            bar.update()

    each()


if __name__ == "__main__":
    sys.exit(main())
