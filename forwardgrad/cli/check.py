"""`forwardgrad check`: the compiled gradient against independent oracles, over random seeds."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from functools import partial
from typing import Any

from tqdm import tqdm

from forwardgrad.cli.options import (
    add_backend,
    add_graph,
    add_json,
    add_loss,
    add_rule,
    at_least_two,
    devices,
    losses,
    not_negative,
    positive,
    print_json,
    refuse_too_long,
)
from forwardgrad.compiling import compile
from forwardgrad.errors import CheckError, DataError
from forwardgrad.graph.files import load
from forwardgrad.program import Program
from forwardgrad.testing.examining import examine, summary, text
from forwardgrad.testing.problem import MASKS, NUMBERS, Origin
from forwardgrad.verification import verify

DEFAULTS: dict[str, Any] = {"samples": 10, "steps": 12, "batch": 2, "mask": "none", "numbers": "init"}
"""What is said of the random problems, where nothing else is given."""


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_graph(parser)
    add_rule(parser)
    add_loss(parser)
    add_backend(parser)
    parser.add_argument(
        "--samples", type=positive, default=DEFAULTS["samples"], help="random seeds (default %(default)s)"
    )
    parser.add_argument(
        "--steps", type=at_least_two, default=DEFAULTS["steps"], help="length of sequences (default %(default)s)"
    )
    parser.add_argument(
        "--batch", type=positive, default=DEFAULTS["batch"], help="samples in each (default %(default)s)"
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="the first seed (default %(default)s)")
    parser.add_argument(
        "--mask", choices=MASKS, default=DEFAULTS["mask"], help="weights of the losses (default %(default)s)"
    )
    parser.add_argument(
        "--numbers",
        choices=NUMBERS,
        help=f"parameters: as the graph draws them, or tame, as property tests do (default {DEFAULTS['numbers']})",
    )
    parser.add_argument(
        "--structure",
        action="store_true",
        help="instead, replay the compiler's decisions on nodes of two and three units: quick, however large the graph",
    )
    parser.set_defaults(**DEFAULTS)
    parser.add_argument("--strict", action="store_true", help="fail where a comparison could say nothing, too")


def run(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    loss = losses(graph, given.loss)
    where: dict[str, Any] = {"backend": given.backend, "devices": devices(given)}
    if given.structure:
        changed = [f"--{name}" for name, value in DEFAULTS.items() if getattr(given, name) != value]
        if changed:
            raise DataError(
                f"check: --structure replays the compiler's decisions and takes no {', '.join(changed)}.",
                "Leave it out; --seed draws other numbers.",
            )
        program = compile(graph, loss=loss, rule=given.rule, **where, dead="ignore")
        return _structure(given, program)
    refuse_too_long(graph, given.steps, given.batch)
    origin = Origin(given.seed, given.steps, given.batch, given.mask, given.numbers)
    samples = examine(graph, loss, given.rule, samples=given.samples, origin=origin, **where)
    answer = {"graph": given.graph, "rule": given.rule, "backend": given.backend, "steps": given.steps}
    answer |= summary(list(tqdm(samples, total=given.samples, unit=" samples", desc="checking", disable=None)))
    answer["passed"] &= not (given.strict and (answer["vacuous"] or answer["silent"]))
    named = f"forwardgrad check {shlex.quote(given.graph)} --rule {shlex.quote(given.rule)} --samples 1"
    answer["replay"] = [f"{named} {replace(origin, seed=seed).options}" for seed in answer["failed"]]
    if given.json:
        print_json(answer)
    else:
        print(text(answer))
    return 0 if answer["passed"] else 1


def _structure(given: argparse.Namespace, program: Program) -> int:
    about: dict[str, Any] = {"graph": given.graph, "rule": given.rule}
    try:
        found = verify(program, seed=given.seed, progress=partial(tqdm, unit=" runs", desc="verifying", disable=None))
    except CheckError as error:
        if given.json:
            print_json(about | {"passed": False, "failure": str(error)})
        else:
            print(f"{error}\nFAILED")
        return 1
    if given.json:
        print_json(about | found.data())
    else:
        print(f"{given.graph} under {given.rule}: decisions for its real sizes, replayed over {found.steps} steps")
        print(found.text)
    return 0 if found.passed and not (given.strict and found.unverified) else 1
