"""The options of a command that several processes run together, and what each of them does differently."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from forwardgrad.backends import Devices
from forwardgrad.backends.processes import Processes, join
from forwardgrad.cli.launching import launch
from forwardgrad.cli.options import at_least_two, not_negative
from forwardgrad.errors import DataError, FileError
from forwardgrad.training.folder import CHECKPOINT, REPORT


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes", metavar="N", type=at_least_two, help="processes that train together (backend jax; default: one)"
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where the first process can be reached; without it, all are started on this machine",
    )
    parser.add_argument("--process", metavar="I", type=not_negative, help="which process this is, from 0")


def is_local(coordinator: str | None) -> bool:
    """Whether all processes are on this machine, so that one command can start them."""
    return coordinator is not None and coordinator.startswith("127.0.0.1:")


def launched(given: argparse.Namespace, words: Sequence[str]) -> int:
    """Start all processes of a command on this machine, and wait for them."""
    _devices_of_each(given)  # a slip is told once, and not by each of them
    return launch(words, given.processes)


@contextmanager
def joined(given: argparse.Namespace) -> Generator[Processes | None]:
    """The processes of a command, which have met; `None` where it runs alone.

    Raises:
        DataError: if the options do not fit together.
        ProcessError: if the others do not come, or one of them is gone.
    """
    if given.coordinator is None and given.process is None:
        yield None
        return
    if given.processes is None or given.coordinator is None or given.process is None:
        raise DataError("--processes, --coordinator and --process are given together, or --processes alone.")
    from forwardgrad.backends.jax_engine import load_jax

    with _answering(given.process == 0):
        processes = join(given.coordinator, given.processes, given.process, _devices_of_each(given))
        if given.devices is None:
            given.devices = str(len(load_jax().devices()))
        with processes.told("train"):
            yield processes


@contextmanager
def _answering(first: bool) -> Generator[None]:
    """Let only the first process write to standard output, and only what Python writes.

    Gloo, which connects the processes, would write there, too, in the middle of JSON.
    """
    sys.stdout.flush()
    before, place = os.dup(1), os.dup(1) if first else os.open(os.devnull, os.O_WRONLY)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        with (
            open(place, "w", encoding=sys.stdout.encoding, errors="backslashreplace") as answer,
            redirect_stdout(answer),
        ):
            yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def _devices_of_each(given: argparse.Namespace) -> int:
    """How many devices each process has, of a CPU."""
    if given.backend != "jax":
        raise DataError(f"--processes: the backend {given.backend!r} runs in one.", "Add --backend jax.")
    total = given.processes if given.devices is None else Devices.parse(given.devices).total
    if total % given.processes:
        raise DataError(f"--processes: {total} devices are not a multiple of {given.processes} processes.")
    return total // given.processes


def own_copy(folder: Path) -> Path:
    """A folder for a process whose files nobody needs, which it deletes at its end; it begins with what the run has."""
    own = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    try:
        for name in (CHECKPOINT, REPORT, "learner.npz"):
            if (folder / name).exists():
                shutil.copyfile(folder / name, own / name)
    except OSError as error:
        raise FileError(f"cannot read {str(folder)!r}: {error.strerror or error}.") from error
    return own
