"""How is a case measured? Check that the gradients agree, time who takes part, and hold the ratios to the goals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from benchmarks import agreement, memory, streaming
from benchmarks.agreement import Check, compare
from benchmarks.cases import (
    Case,
    ExactStreamCase,
    ForwardCase,
    Goal,
    GradientCase,
    MemoryCase,
    PatternCase,
    StreamingCase,
    UpdateCase,
    WindowCase,
)
from benchmarks.contestants import EPROP, Contestant, MissingPeerError, part, peer
from benchmarks.flops import Floor, floor
from benchmarks.ours import IN_C, RULES, blocks_of, compiled, ours
from benchmarks.tasks import Task, make
from benchmarks.timing import Timing, alternate, warm
from forwardgrad.errors import MissingExtraError


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line.

    Args:
        rounds: of measurements.
        budget: seconds a contestant may take.
        peers: pattern of the peers that take part.
        block: steps per block in place of the chosen one.
    """

    rounds: int = 5
    budget: float = 40.0
    peers: str = "*"
    block: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured; `ratio` is the median of ours that it is about over the other's."""

    goal: Goal
    against: str
    ratio: float

    @property
    def passed(self) -> bool:
        """Whether the goal is met."""
        return self.ratio <= self.goal.limit

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Result:
    """What a case gave.

    Args:
        name: of the case.
        title: what was measured.
        checks: the comparisons; if one failed, nothing was timed.
        timings: ours first.
        verdicts: the goals against whoever took part.
        floor: the least time that it could take, where it is known.
    """

    name: str
    title: str
    checks: tuple[Check, ...]
    timings: tuple[Timing, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    floor: Floor | None = None

    @property
    def agreed(self) -> bool:
        """Whether all gradients agree that must."""
        return all(check.passed for check in self.checks)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        parts = {key: [each.data() for each in getattr(self, key)] for key in ("checks", "timings", "verdicts")}
        least = None if self.floor is None else asdict(self.floor)
        return {"name": self.name, "title": self.title, "agreed": self.agreed, **parts, "floor": least}


def measure(case: Case, options: Options) -> Result:
    """Measure one case."""
    return _MEASURES[type(case)](case, options)


def judged(case: Case, checks: list[Check], timings: list[Timing]) -> Result:
    """Compare ours with the others: the first timing, which has a name of its own where memory is measured, or C."""
    verdicts = []
    for goal in case.goals:
        first = timings[0] if goal.ours == "forwardgrad" else None
        mine = next((one for one in timings if one.name.startswith(goal.ours)), first)
        others = [other for other in timings[1:] if other.name.startswith(goal.against)]
        if others and mine is not None:
            best = min(others, key=lambda other: other.median)
            verdicts.append(Verdict(goal, best.name, mine.median / best.median))
    return Result(case.name, str(case), tuple(checks), tuple(timings), tuple(verdicts))


def taking_part(names: tuple[str, ...], options: Options, prepare: Callable[[str], Any]) -> dict[str, Any]:
    """What `prepare` makes of each peer that is asked for and installed."""
    found = {}
    for name in names:
        if fnmatchcase(name, options.peers):
            try:
                found[name] = prepare(name)
            except MissingPeerError as error:
                print(error, file=sys.stderr)
    return found


def _gradient(case: GradientCase, options: Options) -> Result:
    copy = agreement.small(case.network)
    our = agreement.our_gradients(copy)
    checks: list[Check] = []

    def prepared(name: str, task: Task, block: int | None) -> Contestant:
        return ours(task, case.rule, block, "c") if name == IN_C else peer(name, task)

    peers = taking_part((IN_C, *case.peers), options, lambda name: prepared(name, copy, agreement.BLOCK))
    for found in peers.values():
        checks += agreement.in_double(copy, found, our)
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    task = make(case.network, case.steps, case.batch)
    first = ours(task, case.rule, options.block)
    mine = first.read(warm(first.run))
    contestants: list[Contestant] = [first]
    for found in (prepared(name, task, options.block) for name in peers):
        gradient = found.read(warm(found.run))
        checks.append(agreement.in_single(task, found, gradient, mine, RULES[case.rule]))
        contestants.append(found)
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    took = alternate({each.name: each.run for each in contestants}, options.rounds, options.budget, case.name)
    judgement = judged(case, checks, [Timing(each.name, took[each.name], each.note) for each in contestants])
    block = options.block or blocks_of(task, case.rule)
    return replace(judgement, floor=floor(case.network, case.rule, case.steps, case.batch, block))


def _streaming(case: StreamingCase, options: Options) -> Result:
    copy = agreement.small(case.network)
    our = agreement.our_gradients(copy)
    checks = [streaming.check(copy, our[EPROP])]
    peers = taking_part(("braintrace D-RTRL per step",), options, lambda name: peer(name, copy))
    for found in peers.values():
        checks += agreement.in_double(copy, found, our)
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    task = make(case.network, case.steps, batch=1)
    runs = {"forwardgrad": streaming.ours(task), **{name: streaming.theirs(task) for name in peers}}
    for run in runs.values():
        warm(run)
    took = alternate(runs, options.rounds, options.budget, case.name)
    per_step = {name: tuple(value / case.steps for value in values) for name, values in took.items()}
    return judged(case, checks, [Timing(name, values, "per step") for name, values in per_step.items()])


def _window(case: WindowCase, options: Options) -> Result:
    copy = agreement.small(case.network)
    our = agreement.our_gradients(copy)
    checks: list[Check] = []
    others = ("ours on jax", "braintrace D-RTRL windows")
    peers = taking_part(others, options, lambda name: peer(name, copy))
    for found in peers.values():
        checks += agreement.in_double(copy, found, our)
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    task = make(case.network, case.steps, batch=1)
    runs = {"forwardgrad": streaming.ours(task, window=case.window)}
    runs |= {name: part(name).stream(task, case.window) for name in peers}
    for run in runs.values():
        warm(run)
    took = alternate(runs, options.rounds, options.budget, case.name)
    per_step = {name: tuple(value / case.steps for value in values) for name, values in took.items()}
    return judged(case, checks, [Timing(name, values, "per step") for name, values in per_step.items()])


def _update(case: UpdateCase, options: Options) -> Result:
    task = make(case.network, case.steps, batch=1)
    runs = streaming.updated(task)
    gradients = {name: warm(run) for name, run in runs.items()}
    checks: list[Check] = []
    for name in (name for name in runs if name != "forwardgrad"):
        other = Contestant(name, EPROP, runs[name], lambda found: found)
        checks.append(compare(other, gradients[name], gradients["forwardgrad"], "a stream", agreement.TOLERANCE_SINGLE))
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    took = alternate(runs, options.rounds, options.budget, case.name)
    per_step = {name: tuple(value / case.steps for value in values) for name, values in took.items()}
    return judged(case, checks, [Timing(name, values, "per step") for name, values in per_step.items()])


def _exact_stream(case: ExactStreamCase, options: Options) -> Result:
    copy = agreement.small(case.network)
    our = agreement.our_gradients(copy)
    peers = taking_part(("jax RTRL",), options, lambda name: peer(name, copy))
    checks = [check for found in peers.values() for check in agreement.in_double(copy, found, our)]
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    task = make(case.network, case.steps, batch=1)
    runs: dict[str, Callable[[], Any]] = {}
    for name, backend in (("forwardgrad", "numpy"), (IN_C, "c")):
        try:
            runs[name] = streaming.learning(task, "rtrl", backend)
        except MissingExtraError as error:
            print(error, file=sys.stderr)
    runs |= {name: peer(name, task).run for name in peers}
    for run in runs.values():
        warm(run)
    took = alternate(runs, options.rounds, options.budget, case.name)
    return judged(case, checks, [Timing(name, tuple(v / case.steps for v in took[name]), "per step") for name in runs])


def _pattern(case: PatternCase, options: Options) -> Result:
    names = {"snap(1)": "forwardgrad", "eprop; autapses=implicit": "its paths as a rule"}
    checks = [streaming.same(agreement.small(case.network), *names)]
    if not all(check.passed for check in checks):
        return Result(case.name, str(case), tuple(checks))
    task = make(case.network, case.steps, case.batch)
    runs = {name: streaming.ours(task, rule) for rule, name in names.items()}
    for run in runs.values():
        warm(run)
    took = alternate(runs, options.rounds, options.budget, case.name)
    per_step = {name: tuple(value / case.steps for value in took[name]) for name in names.values()}
    return judged(case, checks, [Timing(name, per_step[name], f"{rule}, per step") for rule, name in names.items()])


def _forward(case: ForwardCase, options: Options) -> Result:
    task = make(case.network, case.steps, case.batch)
    runs: dict[str, Callable[[], Any]] = {}
    notes: dict[str, str] = {}
    for backend, forward in (("numpy", "forward pass"), ("c", "C, forward pass")):
        try:
            mine = ours(task, "eprop", options.block, backend)
        except MissingPeerError as error:
            print(error, file=sys.stderr)
            continue
        program = compiled(case.network, "eprop", backend=backend)
        runs |= {mine.name: mine.run, forward: partial(program.run, task.params, {"x": task.x})}
        notes |= {mine.name: mine.note, forward: "program.run"}
    for run in runs.values():
        warm(run)
    took = alternate(runs, options.rounds, options.budget, case.name)
    return judged(case, [], [Timing(name, values, notes[name]) for name, values in took.items()])


def _memory(case: MemoryCase, options: Options) -> Result:
    timings = memory.peaks(case.network, case.batch, case.lengths)
    return judged(case, [], timings[::-1])


_MEASURES: dict[type, Callable[[Any, Options], Result]] = {
    GradientCase: _gradient,
    StreamingCase: _streaming,
    WindowCase: _window,
    UpdateCase: _update,
    ExactStreamCase: _exact_stream,
    PatternCase: _pattern,
    ForwardCase: _forward,
    MemoryCase: _memory,
}
