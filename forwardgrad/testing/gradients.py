"""Is a program's gradient exact, that of the paths its rule keeps, and the same for every block length?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from forwardgrad.errors import CheckError, DataError, RuleError, VacuousError
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.testing import checking
from forwardgrad.testing.comparing import Comparison, differ, differences, fault, gradient
from forwardgrad.testing.culprits import culprits
from forwardgrad.testing.problem import Problem
from forwardgrad.testing.vacuity import (
    Vacuity,
    drops_nothing,
    nothing_stored,
    one_block,
    refuse,
    silent_spikes,
    zero_gradient,
)


def assert_exact(
    program: Program, problem: Problem | None = None, *, blocks: Sequence[int] = (), allow: Collection[str] = ()
) -> None:
    """Assert that a program's gradient is the exact gradient of the loss, at several block lengths.

    It is held against reverse accumulation over all paths of the unrolled graph, attributes `credit` left out; and
    along a random direction against a central difference of the loss, where declared derivatives are those of values.

    Args:
        program: what is checked.
        problem: parameters and data; by default drawn from seed 0, as the graph's `init` says.
        blocks: block lengths; by default one step, about a third of the sequence, and all of it.
        allow: kinds of vacuity (`Vacuity`) not to refuse.

    Raises:
        CheckError: if it is not; the message names the parameter, the entry, and the edges at which credit is dropped.
        VacuousError: if nothing would have been compared.

    >>> import forwardgrad as fg
    >>> assert_exact(fg.compile(fg.load("elman"), rule="rtrl"))
    >>> assert_exact(fg.compile(fg.load("elman"), rule="immediate"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    forwardgrad.errors.CheckError: the gradient is not exact at block 1: parameter ...
    """
    given, lengths = _prepared(program, problem, blocks)
    if program.signalled:
        raise CheckError("the gradient is not exact: learning signals of the user's stand in place of the loss.")
    exact = Comparison.with_exact(program, given)
    refuse(
        [
            one_block(lengths, given.steps),
            zero_gradient(program, exact.wanted(lengths[0])),
            silent_spikes(program, given),
        ],
        allow,
    )
    exact.require(lengths, "the gradient is not exact", lambda name, block: _reasons(program, name))
    if checking.smooth(program) and program.dtype == "float64":
        error = checking.slope_error(program, given.params, given.inputs, given.targets, 0, given.mask)
        if not error <= checking.DIFFERENCE:
            raise CheckError(
                f"the gradient is not the slope of the loss: along a random direction it is off by {error:.1e} "
                f"(allowed {checking.DIFFERENCE:g}).",
                "Reverse accumulation agrees with it: the declared derivative of an op is wrong. Try assert_op.",
            )
    refuse([nothing_stored(program), _unproved(program)], allow)


def _reasons(program: Program, name: str) -> str:
    if name in program.rules and program.rules[name].dropped:
        return f"Its rule drops credit at: {', '.join(program.rules[name].dropped)}."
    if name in program.plan.untrained:
        return f"Its rule leaves {name!r} untrained."
    reasons = program.plan.reasons.get(name, ())
    return f"The program says why: {', '.join(reasons)}." if reasons else "The program says that it is exact."


def _unproved(program: Program) -> VacuousError | None:
    loose = {name: d for name, d in program.rules.items() if not d.exact}
    if not loose:
        return None
    name, derived = next(iter(loose.items()))
    why = ", ".join((*derived.dropped, *program.plan.reasons.get(name, ()))) or "credit that the graph cuts"
    return VacuousError(
        Vacuity.UNPROVED,
        f"the gradient of {name!r} is exact on this problem only: the program claims no more ({why}).",
        "Give data that flows through there, or check it under a rule that is exact.",
    )


def assert_rule_matches_paths(
    program: Program, problem: Problem | None = None, *, blocks: Sequence[int] = (), allow: Collection[str] = ()
) -> None:
    """Assert that a program's gradient is the sum over the credit paths that its rules keep, at several block lengths.

    The reference is `oracle.reverse` under the same rules, which shares no code with the compiler.

    Args:
        program: what is checked.
        problem: parameters and data; by default drawn from seed 0, as the graph's `init` says.
        blocks: block lengths; by default one step, about a third of the sequence, and all of it.
        allow: kinds of vacuity (`Vacuity`) not to refuse.

    Raises:
        CheckError: if it is not; the message names the parameter, the entry, and the edges through which it goes wrong.
        VacuousError: if nothing would have been compared, or the rule cannot differ from `rtrl` on this graph.
        RuleError: if a layout is lossy: such a gradient is no sum over paths. (`assert_unbiased` takes random ones.)

    >>> import forwardgrad as fg
    >>> assert_rule_matches_paths(fg.compile(fg.load("leaky_stack"), rule="eprop-deep"))
    """
    given, lengths = _prepared(program, problem, blocks)
    paths = Comparison.with_paths(program, given)
    refuse(
        [
            one_block(lengths, given.steps),
            zero_gradient(program, paths.wanted(lengths[0])),
            silent_spikes(program, given),
        ],
        allow,
    )
    what = "the gradient is not that of the kept paths"
    paths.require(lengths, what, lambda name, block: culprits(program, given, name, block))
    refuse([drops_nothing(program)], allow)  # last, since it takes the program's word


def assert_block_invariant(
    program: Program, problem: Problem | None = None, *, blocks: Sequence[int] = (), allow: Collection[str] = ()
) -> None:
    """Assert that a program's gradient does not depend on how the sequence is cut into blocks, even or uneven.

    Args:
        program: what is checked.
        problem: parameters and data; by default drawn from seed 0, as the graph's `init` says.
        blocks: block lengths; by default one step, about a third of the sequence, and all of it.
        allow: kinds of vacuity (`Vacuity`) not to refuse.

    Raises:
        CheckError: if it does; the message names the block, the parameter, the entry and the edges.
        VacuousError: if nothing would have been compared.

    >>> import forwardgrad as fg
    >>> assert_block_invariant(fg.compile(fg.load("leaky_stack"), rule="eprop"))
    >>> assert_block_invariant(fg.compile(fg.load("elman"), rule="tbptt"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    forwardgrad.errors.CheckError: the gradient depends on blocks, at block 1: parameter ...
    """
    given, lengths = _prepared(program, problem, blocks)
    wanted = gradient(program, given, given.steps)
    vacuous = [one_block(lengths, given.steps), zero_gradient(program, wanted)]
    carried = all(rule.carry for rule in program.chosen.values())
    refuse([*vacuous, nothing_stored(program) if carried else None, silent_spikes(program, given)], allow)
    partitions = [(f"block {block}", _even(block, given.steps)) for block in lengths if block < given.steps]
    if given.steps > 2:
        partitions.append((f"blocks of 1, {given.steps - 2} and 1", [1, given.steps - 2, 1]))
    for name, partition in partitions:
        apart = differences(in_blocks(program, given, partition), wanted)
        if differ(program, apart):
            reason = _block_reason(program)
            lines = [reason or culprits(program, given, apart[0].parameter, max(1, partition[0]))]
            raise fault(f"the gradient depends on blocks, at {name}", program, given, apart, *lines)


def _block_reason(program: Program) -> str:
    rules = [rule for rule in program.chosen.values() if not rule.carry or rule.lossy]
    if not rules:
        return ""
    how = "drops" if not rules[0].carry else f"compresses ({rules[0].layout})"
    return f"That is what it should do: rule '{rules[0]}' {how} influence at the ends of blocks."


def _even(block: int, steps: int) -> list[int]:
    return [min(block, steps - start) for start in range(0, steps, block)]


def in_blocks(program: Program, problem: Problem, lengths: Sequence[int]) -> dict[str, Array]:
    """The gradient over the sequence by `Program.step`, with blocks of these lengths.

    Args:
        program: a program.
        problem: parameters and data.
        lengths: of the blocks; they add up to the steps of the problem.

    Raises:
        DataError: if they do not.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"))
    >>> in_blocks(program, Problem.of(program, steps=5), [1, 3, 1])["h.bias"].shape
    (32,)
    """
    if sum(lengths) != problem.steps:
        raise DataError(f"blocks of {list(lengths)} add up to {sum(lengths)}, the problem has {problem.steps} steps.")
    state, at, total = program.start(problem.batch, draw=0), 0, dict[str, Array]()
    given: Any = problem.mask
    masks: dict[str, Any] = cast("Any", given) if isinstance(given, dict) else dict.fromkeys(problem.loss, given)
    for length in lengths:
        part = slice(at, at + length)
        mask = {name: None if m is None else m[part] for name, m in masks.items()}
        inputs, targets = ({n: a[part] for n, a in arrays.items()} for arrays in (problem.inputs, problem.targets))
        signals = None if problem.signals is None else {n: s[part] for n, s in problem.signals.items()}
        state, step = program.step(problem.params, inputs, targets, state=state, mask=mask, signals=signals)
        total = {name: g + total[name] if total else g for name, g in step.grads.items()}
        at += length
    return total


def _prepared(program: Program, problem: Problem | None, blocks: Sequence[int]) -> tuple[Problem, tuple[int, ...]]:
    given = Problem.of(program) if problem is None else problem
    if program.signalled and given.signals is None:
        raise RuleError(
            "the program's rules take learning signals, and the problem has none.", "Make one with Problem.of(program)."
        )
    lengths = tuple(blocks) or checking.usual_blocks(given.steps)
    return given, tuple(dict.fromkeys(min(block, given.steps) for block in lengths))
