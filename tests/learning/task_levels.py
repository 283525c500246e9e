"""What a task's levels are compared with."""

from __future__ import annotations

from forwardgrad.learning.tasks import Labelled, Valued


def level(task: Labelled | Valued, name: str, kind: str) -> float:
    """The value of one of its references."""
    (found,) = (each.value for each in task.references if (each.name, each.kind) == (name, kind))
    return found
