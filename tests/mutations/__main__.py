"""`python -m tests.mutations`: plant each fault, and say whether and how the suite's comparison notices it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does: modules of tests import each other by name

import pytest
from checks import checked_lower, unwritten
from tqdm import tqdm

from forwardgrad.backends import lowered
from forwardgrad.explain.tables import table
from forwardgrad.support import reuse
from mutations.comparison import COMPARISONS, WORKED, wrong
from mutations.faults import FAULTS, Fault
from mutations.faults_of_lossy_layouts import CASES as APART
from mutations.faults_of_lossy_layouts import apart
from mutations.spread import RULES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns 1 if a fault survives, or the code without one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", metavar="WORD", default="", help="faults whose name or part holds this word")
    given = parser.parse_args(arguments)
    chosen = [fault for fault in FAULTS if given.only in f"{fault} {fault.part}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "empty", unwritten)
        patch.setattr(lowered, "lower", checked_lower)
        backends = [backend for backend in COMPARISONS if any(fault.backend == backend for fault in chosen)]
        sound = [backend for backend in backends if next(wrong(backend), None) is None]
        found = [_tried(fault) for fault in tqdm(chosen, unit=" faults", desc="planting", disable=None)]
    survived = [answer["fault"] for answer in found if not answer["caught"]]
    passed = not survived and sound == backends and bool(found)
    if given.json:
        print(json.dumps({"passed": passed, "cases": COMPARISONS, "sound": sound, "faults": found}, indent=2))
        return 0 if passed else 1
    print("without a fault, all agree in", ", ".join(f"{COMPARISONS[each]} cases {_with(each)}" for each in sound))
    print(table(["part", "backend", "fault", "noticed in", "first in", "by"], [_row(answer) for answer in found]))
    print(f"{len(found) - len(survived)} of {len(found)} faults noticed", end="")
    print(f"; survived: {', '.join(survived)}" if survived else "")
    return 0 if passed else 1


def _tried(fault: Fault) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        fault.plant(patch)
        found = list(fault.comparison(fault.backend))
    about = {"fault": fault.name, "part": fault.part, "backend": fault.backend, "says": fault.says}
    first = {"first": found[0].case, "by": found[0].how} if found else {}
    cases = {wrong: COMPARISONS[fault.backend], apart: APART}.get(fault.comparison, len(RULES))
    return {**about, "caught": bool(found), "noticed": len(found), "cases": cases, **first}


def _with(backend: str) -> str:
    return "worked by hand" if backend == WORKED else f"({backend} and oracle)"


def _row(answer: dict[str, Any]) -> list[str]:
    noticed = f"{answer['noticed']} of {answer['cases']}" if answer["caught"] else "SURVIVED"
    what = [answer[key] for key in ("part", "backend", "fault")]
    return [*what, noticed, answer.get("first", ""), answer.get("by", "")]


if __name__ == "__main__":
    sys.exit(main())
