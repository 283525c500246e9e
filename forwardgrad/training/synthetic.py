"""Synthetic tasks of the literature, by name: always the same sequences, few enough to learn from in minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from forwardgrad.learning import tasks
from forwardgrad.learning.tasks import Labelled, Valued
from forwardgrad.training.sequences import Choice, Sequences

BELLEC = "Bellec et al. 2020, Nature Communications 11:3625"
LSTM = "Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735"
UNITARY = "Arjovsky, Shah & Bengio 2016, arXiv 1511.06464"


def _sequences(name: str, task: Callable[[], Labelled | Valued], cited: str) -> Sequences:
    """A task as sequences, whose targets are missing where no answer is asked for."""
    made = task()
    targets = made.targets[..., None] if isinstance(made, Labelled) else made.targets
    answers = np.where(made.mask[..., None] > 0, targets, np.nan)
    inputs = [made.inputs[:length, number] for number, length in enumerate(made.lengths)]
    answered = [answers[:length, number] for number, length in enumerate(made.lengths)]
    return Sequences(Path(name), Choice(), inputs, answered, cited=cited, references=made.references)


_MADE: dict[str, tuple[Callable[[], Labelled | Valued], str]] = {
    "recall": (partial(tasks.recall, 2000), "Bellec et al. 2018, arXiv 1803.09574"),
    "memory_chain": (partial(tasks.memory_chain, 2000), "Osband et al. 2019, arXiv 1908.03568"),
    "delayed_xor": (partial(tasks.delayed_xor, 2000, gap=5, delay=5), "Elman 1990, Cognitive Science 14:179-211"),
    "temporal_order": (partial(tasks.temporal_order, 2000, steps=20), LSTM),
    "cued_count": (partial(tasks.cued_count, 2000, steps=5, modulo=6), "forwardgrad.learning.tasks"),
    "evidence": (
        partial(tasks.evidence_accumulation, 1000, cue=10, gap=5, delay=50, query=15, rate=0.4),
        f"{BELLEC}, in steps of 10 ms",
    ),
    "copy": (partial(tasks.copy_memory, 2000), UNITARY),
    "reber": (partial(tasks.embedded_reber, 2000), LSTM),
    "adding": (partial(tasks.adding_problem, 2000), UNITARY),
    "delayed_add": (partial(tasks.delayed_add, 1000), "Marschall, Cho & Savin 2020, arXiv 1907.02649"),
    "pattern": (partial(tasks.pattern_generation, 50, steps=200, channels=20), f"{BELLEC}, in steps of 5 ms"),
    "trace_patterning": (
        partial(tasks.trace_patterning, 200, steps=1000),
        "Rafiee et al. 2022, Adaptive Behavior, doi 10.1177/10597123221085039",
    ),
}

SYNTHETIC: Mapping[str, Callable[[], Sequences]] = MappingProxyType(
    {name: partial(_sequences, name, task, cited) for name, (task, cited) in _MADE.items()}
)
"""All of them."""
