"""Several processes that run one program of JAX together, each on devices of its own."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from forwardgrad.backends.jax_engine import load_jax, offer_cpus
from forwardgrad.errors import DataError, ProcessError
from forwardgrad.ops import Array

PATIENCE = 20
"""Seconds without a sign of life after which a process counts as gone."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them. All of them call the same functions in the same order.

    Args:
        count: how many there are.
        index: which one this is; the first one, 0, writes the results.
    """

    count: int
    index: int

    @property
    def first(self) -> bool:
        """Whether this is the one that writes the results."""
        return self.index == 0

    def agreed(self, *flags: bool) -> tuple[bool, ...]:
        """Which of these are true in any process: all of them get the same answer."""
        return tuple(map(bool, np.any(_gathered(np.array(flags)).reshape(self.count, len(flags)), axis=0)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    @contextmanager
    def told(self, what: str) -> Generator[None]:
        """Say in our words that another process is gone.

        Args:
            what: was being done.
        """
        errors: Any = load_jax().errors
        try:
            yield
        except errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):  # memory
                raise
            raise ProcessError(
                f"{what}: process {self.index} of {self.count} cannot reach the others; one of them has ended.",
                "The last checkpoint is whole. To go on from it, start all of them again with --resume.",
                " ".join(str(error).split())[:200],
            ) from error


def _gathered(array: Any) -> Array:
    """What each process gives, in order."""
    return np.asarray(import_module("jax.experimental.multihost_utils").process_allgather(array))


_machines = 1


def machines() -> int:
    """On how many machines the processes of this run are, each of which has memory of its own."""
    return _machines


def join(coordinator: str, count: int, index: int, cpus: int = 1) -> Processes:
    """Meet the other processes, before JAX is first used.

    Args:
        coordinator: `HOST:PORT` at which the first process can be reached.
        count: how many there are.
        index: which one this is, from 0.
        cpus: how many devices it makes of its CPU, where JAX has no others.

    Raises:
        MissingExtraError: if JAX is not installed.
        DataError: if address or index is malformed.
        ProcessError: if the others do not come.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise DataError(f"coordinator: expected HOST:PORT, got {coordinator[:100]!r}.")
    if not 0 <= index < count:
        raise DataError(f"process: {index} is none of {count}, which are counted from 0.")
    jax = load_jax()
    offer_cpus(cpus)
    initialize: Callable[..., None] = jax.distributed.initialize
    try:
        initialize(
            coordinator,
            count,
            index,
            initialization_timeout=6 * PATIENCE,
            heartbeat_timeout_seconds=PATIENCE,
            shutdown_timeout_seconds=PATIENCE,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ProcessError(f"process {index} of {count} cannot meet the others at {coordinator}.", reason) from error
    global _machines
    _machines = len(set(_gathered(np.array(zlib.crc32(socket.gethostname().encode()), np.uint32)).tolist()))
    return Processes(count, index)
