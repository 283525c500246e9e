"""Do the contestants compute the same? Checked before anything is timed, on a small copy of the case in float64.

Every exact gradient must be that of our `rtrl`, every e-prop that of our `eprop`; a gradient of its own must be that
of a reference, and how far it is from ours is said. Our traces are carried in the copy too: its blocks are short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.contestants import EPROP, EXACT, HYBRID, Contestant
from benchmarks.networks import Network
from benchmarks.ours import ours
from benchmarks.tasks import Gradient, Task, make

STEPS, BATCH, BLOCK = 24, 3, 5
"""Of the small copy; its layers are as wide as those of the case."""

TOLERANCE, TOLERANCE_SINGLE = 1e-8, 1e-3
"""Of the largest relative error in double and in single precision. Spikes may flip in single precision: no limit."""


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: whose gradient.
        against: and what it is held against.
        error: the largest difference of a parameter's gradient over its largest entry, the worst parameter's; `None`
            where only the losses are to agree.
        loss_error: the relative difference of the losses.
        limit: of both errors, or `None` where they are only reported.
        cosine: between all gradients, where they are only reported.
        note: what was taken into account.
    """

    name: str
    against: str
    error: float | None
    loss_error: float
    limit: float | None
    cosine: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the errors are within the limit."""
        return self.limit is None or max(self.error or 0.0, self.loss_error) <= self.limit

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "passed": self.passed}


def small(network: Network) -> Task:
    """The small copy."""
    return make(network, STEPS, BATCH, "float64", seed=1)


def in_double(task: Task, found: Contestant, our: Mapping[str, Gradient]) -> list[Check]:
    """Check a contestant prepared for the small copy.

    Args:
        task: the small copy.
        found: the contestant.
        our: our gradients of it, by kind.
    """
    gradient = found.read(found.run())
    if found.kind != HYBRID:
        return [compare(found, gradient, our[found.kind], f"our {found.kind}", TOLERANCE)]
    assert found.reference is not None
    checks = [compare(found, gradient, found.reference(), "its definition, in jax", TOLERANCE)]
    return checks + [compare(found, gradient, our[kind], f"our {kind}", None) for kind in (EPROP, EXACT)]


def our_gradients(task: Task) -> dict[str, Gradient]:
    """Our gradients of the small copy, by kind; none may be zero, or nothing would be compared."""
    found: dict[str, Gradient] = {}
    for rule in ("eprop", "rtrl"):
        contestant = ours(task, rule, BLOCK)
        found[contestant.kind] = contestant.read(contestant.run())
        dead = [name for name, grad in found[contestant.kind].grads.items() if not np.any(grad)]
        if dead:
            raise AssertionError(f"{task.network}: the gradient of {dead} under {rule} is zero; nothing is compared.")
    return found


def in_single(task: Task, found: Contestant, gradient: Gradient, our: Gradient, kind: str) -> Check:
    """Compare what is timed, at full size; where the gradients are of two kinds, only the losses must agree."""
    limit = None if task.network.spikes else TOLERANCE_SINGLE
    check = compare(found, gradient, our, f"our {kind}, as timed", limit)
    return check if found.kind == kind else replace(check, error=None, cosine=None)


def compare(found: Contestant, gradient: Gradient, our: Gradient, against: str, limit: float | None) -> Check:
    """Compare two gradients; what a contestant is known to count twice is counted twice in ours."""
    if set(gradient.grads) != set(our.grads):
        raise AssertionError(f"{found.name}: other parameters than ours: {set(gradient.grads) ^ set(our.grads)}")
    errors, a, b = [], [], []
    for name, grad in our.grads.items():
        mine = found.counts.get(name, 1.0) * np.asarray(grad, "float64")
        theirs = np.asarray(gradient.grads[name], "float64")
        errors.append(float(np.abs(mine - theirs).max() / np.abs(mine).max()))
        a.append(mine.ravel())
        b.append(theirs.ravel())
    mine, theirs = np.concatenate(a), np.concatenate(b)
    cosine = float(mine @ theirs / np.sqrt((mine @ mine) * (theirs @ theirs)))
    note = "with " + found.note if found.counts else ""
    loss_error = abs(gradient.loss - our.loss) / abs(our.loss)
    return Check(found.name, against, max(errors), loss_error, limit, None if limit else cosine, note)
