"""When would a check pass whatever the program does? Each way of comparing nothing has a kind, and is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from forwardgrad.errors import DataError, VacuousError, did_you_mean
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.rules.paths import All
from forwardgrad.rules.rule import Rule
from forwardgrad.testing.problem import Problem


class Vacuity(StrEnum):
    """A way in which a check compares nothing. Every assertion takes `allow=`, the kinds not to refuse.

    >>> str(Vacuity.ONE_BLOCK)
    'one block'
    """

    ZERO_GRADIENT = "zero gradient"
    SILENT_SPIKES = "silent spikes"
    ONE_BLOCK = "one block"
    NOTHING_STORED = "nothing stored"
    SAME_RULES = "same rules"
    UNPROVED = "unproved"
    NOTHING_TO_REFACTOR = "nothing to refactor"
    NO_NOISE = "no noise"
    TOO_FEW_SEEDS = "too few seeds"
    SURROGATE = "surrogate"


def refuse(found: Iterable[VacuousError | None], allow: Collection[str]) -> None:
    """Raise the first of these that is not allowed.

    Args:
        found: what makes a check vacuous; `None` where it is not.
        allow: words of `Vacuity` to let pass.

    Raises:
        VacuousError: the first that is not allowed.
        DataError: if `allow` holds a word that is no kind of vacuity.

    >>> refuse([None, VacuousError("one block", "one block of 4 steps.")], allow=["one block"])
    """
    words = [allow] if isinstance(allow, str) else list(allow)
    for word in words:
        if word not in list(Vacuity):
            raise DataError(f"allow: unknown kind of vacuity {word!r}.", did_you_mean(word, map(str, Vacuity)))
    for each in found:
        if each is not None and each.kind not in words:
            raise each


def zero_gradient(program: Program, wanted: Mapping[str, Array]) -> VacuousError | None:
    """Whether the reference gradient of a parameter with a kept path to a loss is zero throughout.

    Args:
        program: what is checked.
        wanted: the reference gradients.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"))
    >>> found = zero_gradient(program, {name: np.zeros(2) for name in program.rules})
    >>> str(found).partition(" is ")[0]
    "the reference gradient of 'x->h', 'h->h', 'h->y', 'h.bias', 'y.bias'"
    """
    live = [name for name in program.rules if name not in program.plan.dead and name in wanted]
    silent = [name for name in live if not np.any(wanted[name])]
    if live and not silent:
        return None
    what = f"the reference gradient of {', '.join(map(repr, silent))} is zero" if silent else "nothing is trained"
    return VacuousError(
        Vacuity.ZERO_GRADIENT,
        f"{what}, so that a program that computes nothing passes.",
        "Give inputs and parameters at which the units are not saturated, longer sequences, or another seed.",
    )


def silent_spikes(program: Program, problem: Problem) -> VacuousError | None:
    """Whether a spiking node never spikes on a problem: one whose declared derivative is a surrogate stays at zero.

    Args:
        program: what is checked.
        problem: its parameters and inputs.

    Raises:
        DataError: if the problem does not fit the program.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("lif"), rule="eprop")
    >>> silent_spikes(program, Problem.of(program)) is None
    True
    """
    spiking = [name for name, node in program.network.nodes.items() if not node.op.smooth]
    if not spiking:
        return None
    values = program.run(problem.params, problem.inputs)
    silent = [name for name in spiking if not np.any(values[name])]
    if not silent:
        return None
    options = {name: program.network.nodes[name].options for name in silent}
    named = ", ".join(
        f"{name!r}" + (f" (threshold {found['threshold']})" if "threshold" in found else "")
        for name, found in options.items()
    )
    return VacuousError(
        Vacuity.SILENT_SPIKES,
        f"spiking nodes never spike in {problem.steps} steps: {named}.",
        "Resets and recurrent spikes carry nothing then. Give stronger inputs, a lower threshold, or more steps.",
    )


def one_block(blocks: Sequence[int], steps: int) -> VacuousError | None:
    """Whether no block is shorter than the sequence: then every rule is reverse mode, and no trace is read.

    Args:
        blocks: block lengths.
        steps: length of the sequence.

    >>> print(one_block([4, 9], 4))
    one block of 4 steps is the whole sequence: no trace is read, whatever the rule.
      Give a block length below 4.
    """
    if any(block < steps for block in blocks):
        return None
    return VacuousError(
        Vacuity.ONE_BLOCK,
        f"one block of {steps} steps is the whole sequence: no trace is read, whatever the rule.",
        f"Give a block length below {steps}." if steps > 1 else "Give a longer sequence.",
    )


def nothing_stored(program: Program) -> VacuousError | None:
    """Whether no influence is stored between blocks, so that their lengths cannot matter.

    Args:
        program: what is checked.

    >>> import forwardgrad as fg
    >>> print(nothing_stored(fg.compile(fg.load("elman"), rule="immediate")))
    no influence is stored between blocks under 'immediate': their lengths cannot matter.
      Check a graph whose kept paths cross a delay.
    """
    if program.plan.layouts:
        return None
    return VacuousError(
        Vacuity.NOTHING_STORED,
        f"no influence is stored between blocks under {_names(program)}: their lengths cannot matter.",
        "Check a graph whose kept paths cross a delay.",
    )


def drops_nothing(program: Program) -> VacuousError | None:
    """Whether a rule that is not RTRL drops nothing on this graph, so that it cannot differ from RTRL there.

    Args:
        program: what is checked.

    >>> import forwardgrad as fg
    >>> drops_nothing(fg.compile(fg.load("elman"), rule="eprop")) is None
    True
    """
    if all(rule == Rule(All()) for rule in program.chosen.values()):
        return None
    if not all(derived.exact for derived in program.rules.values()) or program.plan.untrained:
        return None
    return VacuousError(
        Vacuity.SAME_RULES,
        f"{_names(program)} drops nothing on this graph: it cannot differ from 'rtrl' here.",
        "A check tells nothing about the rule; give a graph with an edge at which it drops credit.",
    )


def _names(program: Program) -> str:
    return ", ".join(dict.fromkeys(repr(str(rule)) for rule in program.chosen.values()))
