"""`python -m benchmarks`: every case beside its peers, or what an option names. Text, JSON and a plot."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import threadpoolctl

from benchmarks import busy, compiling, growth, machine, parts, plot, report, sparsity
from benchmarks.cases import CASES, Case
from benchmarks.measure import Options, Result, measure

FOLDER = Path("runs/benchmarks")
QUICK_ROUNDS = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--list", action="store_true", help="list the cases, and their goals")
    add("--only", action="append", metavar="PATTERN", help="cases whose name fits, such as 'eprop-*'; may be repeated")
    add("--peers", default="*", metavar="PATTERN", help="peers whose name fits, such as 'jax *'")
    add("--rounds", type=int, default=5, metavar="N", help="rounds of measurements (default: 5)")
    add("--budget", type=float, default=40.0, metavar="S", help="seconds a contestant may take in a case (default: 40)")
    add("--block", type=int, metavar="K", help="our steps per block, in place of the chosen ones")
    add("--blas-threads", type=int, metavar="N", help="threads of NumPy's matrix products")
    add("--quick", action="store_true", help=f"a first look: shorter sequences, {QUICK_ROUNDS} rounds")
    add("--busy", action="store_true", help="instead: what a busy machine costs us and JAX, beside spinning processes")
    add("--growth", action="store_true", help="instead: how our time grows with size, length, batch, block and depth")
    add("--compile", action="store_true", help="instead: how long it takes to compile graphs")
    add("--parts", action="store_true", help="instead: where the time of our gradients goes, function by function")
    add("--sparsity", action="store_true", help="instead: exact RTRL where units are silent, NumPy and C")
    add("--json", type=Path, metavar="FILE", help=f"where the results go (default: in {FOLDER}/)")
    add("--plot", type=Path, metavar="FILE", help=f"where the plot goes (default: in {FOLDER}/)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns 1 if gradients that must agree do not."""
    given = _parser().parse_args(arguments)
    if given.list:
        for case in CASES:
            goals = ", ".join(f"{goal.ours} {goal.limit:g} of {goal.against}" for goal in case.goals)
            print(f"{case.name:<20}{case}; goal: {goals}")
        return 0
    if given.rounds < 1 or given.budget <= 0:
        _parser().error("--rounds must be at least 1, and --budget more than 0.")
    limits = threadpoolctl.threadpool_limits(given.blas_threads, "blas") if given.blas_threads else None
    with limits or contextlib.nullcontext():
        about = machine.about()
        print(machine.described(about), end="\n\n", flush=True)
        if given.busy:
            cases = [_length(case, given.quick) for case in busy.chosen(lambda name: _fits(name, given.only))]
            found = busy.measured(cases, given.rounds, about["processors"])
            _write(given, "busy", about, [each.data() for each in found])
            return 0
        if given.compile:
            return _compiling(given, about)
        if given.parts:
            _write(given, "parts", about, parts.measured(lambda name: _fits(name, given.only)))
            return 0
        if given.sparsity:
            _write(given, "sparsity", about, sparsity.measured(lambda name: _fits(name, given.only)))
            return 0
        return _growth(given, about) if given.growth else _cases(given, about)


def _cases(given: argparse.Namespace, about: dict[str, Any]) -> int:
    cases = [case for case in CASES if _fits(case.name, given.only)]
    if not cases:
        print(f"no case fits {given.only}; see --list", file=sys.stderr)
        return 2
    rounds = QUICK_ROUNDS if given.quick else given.rounds
    options = Options(rounds, given.budget, given.peers, given.block)
    results: list[Result] = []
    for case in cases:
        results.append(measure(_length(case, given.quick), options))
        print(report.text(results[-1]), end="\n\n", flush=True)
    print(report.summary(results))
    if given.quick:
        print("--quick: the sequences are shorter than those the goals are for.")
    data = [result.data() for result in results]
    given.rounds = rounds
    _write(given, "cases", about, data, lambda path: plot.bars(results, path))
    return 0 if all(result.agreed for result in results) else 1


def _growth(given: argparse.Namespace, about: dict[str, Any]) -> int:
    rate = machine.rate()
    print(f"matrix products of NumPy, float32: {rate / 1e9:.0f} GFLOP/s\n", flush=True)
    found = growth.measured(QUICK_ROUNDS if given.quick else min(given.rounds, growth.ROUNDS), rate, quick=given.quick)
    data = {"matmul_flops": rate, "curves": [curve.data(rate) for curve in found]}
    _write(given, "growth", about, data, lambda path: plot.curves(found, rate, path))
    return 0


def _fits(name: str, patterns: Sequence[str] | None) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _compiling(given: argparse.Namespace, about: dict[str, Any]) -> int:
    found = compiling.measured(1 if given.quick else compiling.ROUNDS)
    _write(given, "compiling", about, [one.data() for one in found])
    return 0


def _length(case: Case, quick: bool) -> Case:
    return case.quick() if quick else case


def _write(given: argparse.Namespace, name: str, about: dict[str, Any], data: Any, draw: Any = None) -> None:
    options = {key: value for key, value in vars(given).items() if key not in ("json", "plot", "list")}
    path, picture = given.json or FOLDER / f"{name}.json", given.plot or FOLDER / f"{name}.png"
    report.write_json(path, about, options, data)
    if draw is None:
        print(f"\nwrote {path}")
        return
    drawn = draw(picture)
    print(f"\nwrote {path}" + (f" and {picture}" if drawn else '; a plot needs pip install "forwardgrad[bench]"'))


if __name__ == "__main__":
    sys.exit(main())
