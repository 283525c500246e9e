"""What is a contestant? Something that computes a gradient when called, and says which gradient it claims that is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from benchmarks.tasks import Gradient, Task

EXACT, EPROP, HYBRID = "exact", "e-prop", "hybrid"
"""Which gradient: of all paths; without those through other units in time; exact in a window, e-prop before it."""


@dataclass(frozen=True)
class Contestant:
    """One way to compute the gradient of a task.

    Args:
        name: as it stands in the table.
        kind: `EXACT`, `EPROP` or `HYBRID`.
        run: computes it, and returns when it is there.
        read: what `run` returned, as a `Gradient`.
        note: what a reader should know: block or window, and the like.
        counts: parameters whose credit it is known to count another number of times than once.
        reference: what it computes, written in another way, if it is a gradient of its own.
    """

    name: str
    kind: str
    run: Callable[[], Any]
    read: Callable[[Any], Gradient]
    note: str = ""
    counts: Mapping[str, float] = field(default_factory=dict)
    reference: Callable[[], Gradient] | None = None


class MissingPeerError(Exception):
    """A peer that is not installed."""


PEERS = {
    "jax BPTT": ("benchmarks.peers_jax", "bptt"),
    "jax e-prop": ("benchmarks.peers_jax", "eprop"),
    "jax associative scan": ("benchmarks.peers_jax", "associative"),
    "jax RTRL": ("benchmarks.peers_jax_rtrl", "rtrl"),
    "braintrace D-RTRL per step": ("benchmarks.peers_braintrace", "per_step"),
    "braintrace D-RTRL windows": ("benchmarks.peers_braintrace", "window"),
    "braintrace pp-prop": ("benchmarks.peers_braintrace", "pp_prop"),
    "ours on jax": ("benchmarks.ours_jax", "eprop"),
    "torch BPTT": ("benchmarks.peers_torch", "bptt"),
}
"""Where each peer is written: module, function of a task."""


def part(name: str) -> ModuleType:
    """The module in which a peer is written; raises `MissingPeerError` if what it needs is not installed."""
    try:
        return importlib.import_module(PEERS[name][0])
    except ImportError as error:
        raise MissingPeerError(f'{name} is left out ({error}): pip install "forwardgrad[bench]"') from error


def peer(name: str, task: Task) -> Contestant:
    """Prepare a peer for a task; raises `MissingPeerError` if what it needs is not installed."""
    return getattr(part(name), PEERS[name][1])(task)
