"""`forwardgrad evaluate`: how well a trained network predicts a file that says what should come out."""

from __future__ import annotations

import argparse
from pathlib import Path

from forwardgrad.cli.options import add_json, add_trained, print_json
from forwardgrad.training.serving import Served


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_trained(parser)


def run(given: argparse.Namespace) -> int:
    served = Served.load(given.checkpoint)
    found = served.read(Path(given.data), answered=True)
    score, part = served.score(found, go_on=given.go_on)
    metric = "accuracy" if served.recipe.kind == "classification" else "NMSE"
    answers = int(part.lengths.sum() if part.weight is None else part.weight.sum())
    if given.json:
        answer = {"checkpoint": given.checkpoint, "data": given.data, "metric": metric, metric.lower(): score}
        print_json({**answer, "sequences": len(part), "answers": answers})
        return 0
    what = f"{answers:,} answers" + (f" in {len(part):,} sequences" if len(part) > 1 else "")
    print(f"{given.checkpoint} on {given.data}: {what}")
    print(f"{metric}: {score:.4f}")
    return 0
