"""The output folder of a training run: held by one run at a time, its results put in place together.

Results are written to `.staging` first. Renaming that folder to `.placing` is the moment at which they count: whatever
ends the process after it, the next run in the folder moves them to their places before it does anything else.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forwardgrad.errors import FileError
from forwardgrad.training.stopping import uninterrupted

REPORT = "report.json"
RESULTS = ("learner.npz", "curve.png", "graph.svg", "graph.dot", "report.html", REPORT)
"""What a run may leave, the report last: where it is, all files beside it are of its run."""

CHECKPOINT = "checkpoint.npz"
LOCK, STAGING, PLACING = ".lock", ".staging", ".placing"

UNSUPPORTED = {getattr(errno, name, None) for name in ("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS")}
"""What file systems say that know no locks."""


def prepare(folder: Path) -> None:
    """Make the folder for the results and see that files can be written there, before any work is done.

    Raises:
        FileError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(f"cannot write to folder {str(folder)!r}: {error.strerror or error}.") from error
    for name in (*RESULTS, CHECKPOINT):
        if (folder / name).is_dir():
            raise FileError(f"cannot write {str(folder / name)!r}: it is a folder.")


class Hold:
    """Makes the folder, and keeps other runs out of it until the block ends, or the process does, however it ends.

    The lock is `flock` on a file `.lock`. The system releases it with the process, so that nothing is left to clean up
    after `kill -9`. On NFS it holds between machines where the server has a lock service. Where a file system has no
    locks, there is a warning instead. Windows has no `flock`: there, nothing is locked.

    Args:
        folder: of the results.
        exists: refuse a folder that is not there, which is made otherwise.

    Raises:
        FileError: on entry, if the folder cannot be written to, or another run holds it.
    """

    def __init__(self, folder: Path, *, exists: bool = False) -> None:
        self.folder, self.exists, self._opened = folder, exists, -1

    @uninterrupted
    def __enter__(self) -> Hold:
        folder = self.folder
        if self.exists and not folder.is_dir():
            raise FileError(f"nothing to resume: there is no folder {str(folder)!r}.", "To begin, leave out --resume.")
        prepare(folder)
        self._opened = _lock(folder / LOCK)
        try:
            _settle(folder)
            _sweep(folder)
        except BaseException:
            self.__exit__()
            raise
        return self

    @uninterrupted
    def __exit__(self, *_: Any) -> None:
        with suppress(OSError):
            (self.folder / LOCK).unlink()  # before it is released: nobody else can hold it now
        os.close(self._opened)


def _lock(path: Path) -> int:
    """An open file on which a lock is held, or could not be where there are none."""
    while True:
        lock = -1
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            _flock(lock, path)
            if os.path.exists(path) and os.path.samestat(os.fstat(lock), os.stat(path)):
                os.ftruncate(lock, 0)
                os.write(lock, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return lock
            os.close(lock)  # its run has just ended, and has taken the file away: once more
        except BaseException as error:
            if lock >= 0:
                with suppress(OSError):
                    os.close(lock)
            if isinstance(error, OSError):
                where = f"folder {str(path.parent)!r}"
                raise FileError(f"cannot lock {where}: {error.strerror or error}.") from error
            raise


def _flock(lock: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, host = os.read(lock, 300).decode(errors="replace").strip().partition(" ")
        elsewhere = f" on {host}" if host and host != socket.gethostname() else ""
        raise FileError(
            f"folder {str(path.parent)!r} is in use by another run{f', process {pid}{elsewhere}' if pid else ''}.",
            "Wait for it, stop it, or choose another folder: --out FOLDER.",
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        warnings.warn(
            f"folder {str(path.parent)!r} cannot be locked ({error.strerror}): "
            "see to it that no second run writes there at the same time.",
            stacklevel=5,
        )


def _sweep(folder: Path) -> None:
    """Delete what a run that was killed has left half written."""
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    for path in folder.glob(".*.tmp"):
        name = path.name[1:-4]
        if len(name) == 16 and set(name) <= set("0123456789abcdef"):  # the temporary files of `atomic.write_bytes`
            with suppress(OSError):
                path.unlink()


@contextmanager
def replacing(folder: Path) -> Generator[Path]:
    """A folder to write all results to; when the block ends well, they take the places of the old ones together.

    If it does not, the old results stay, and nothing of the new ones. There is no way to change several files in one
    step: for the moment of the renames there is no `report.json`, so that no reader who begins with it sees a mix.

    Raises:
        FileError: if the folder cannot be written to.
    """
    staging = folder / STAGING
    try:
        try:
            staging.mkdir(0o700)
            yield staging
            _sync(staging)
            _place(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise FileError(f"cannot write results to folder {str(folder)!r}: {error.strerror or error}.") from error


@uninterrupted
def _place(folder: Path) -> None:
    (folder / STAGING).rename(folder / PLACING)
    _sync(folder)
    _settle(folder)


def _settle(folder: Path) -> None:
    """Move results that count to their places; again from wherever an earlier attempt has ended."""
    placing = folder / PLACING
    if not placing.is_dir():
        return
    try:
        if (placing / REPORT).exists():
            names: Any = json.loads((placing / REPORT).read_text(encoding="utf-8"))["files"]
            (folder / REPORT).unlink(missing_ok=True)
            for name in RESULTS:
                if (placing / name).exists():
                    _move(placing / name, folder / name)
                elif name not in names:
                    (folder / name).unlink(missing_ok=True)
        (folder / CHECKPOINT).unlink(missing_ok=True)  # the run it belongs to is finished
        _sync(folder)
        placing.rmdir()
    except (OSError, ValueError, KeyError, TypeError) as error:  # the latter: a report that is none of ours
        reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
        raise FileError(f"cannot move results from {str(placing)!r} to their places: {reason}.") from error


def _move(source: Path, target: Path) -> None:
    if target.exists():
        source.chmod(target.stat().st_mode & 0o7777)
    os.replace(source, target)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, where a system can."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
