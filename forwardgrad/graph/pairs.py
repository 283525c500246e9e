"""A graph file and the `.npz` with its large arrays, as a pair that is never seen half written.

The `.npz` is called after the file and the digest of its own content. So a new one lies beside the old one until the
file refers to it, which is one step. Then the old one goes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forwardgrad.errors import FileError
from forwardgrad.ops import Array
from forwardgrad.support import archive
from forwardgrad.support.atomic import write_bytes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LETTERS = 16
"""Letters of the digest that are in the name; all of them are in the file."""


class ReplacedError(FileError):
    """The arrays of a file are not there: perhaps somebody saved it anew since it was read."""


def digest(data: bytes) -> str:
    """The sha256 by which a file knows its arrays."""
    return hashlib.sha256(data).hexdigest()


def side_of(path: Path, sha256: str) -> Path:
    """Where the arrays of a file lie: beside it, where links lead."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}.{sha256[:_LETTERS]}.npz")


def read(path: Path, sha256: Any) -> dict[str, Array]:
    """The arrays beside a file, read only if they are those it was written with.

    Files that were written before the digest was part of the name have them in a `.npz` of their own stem.

    Raises:
        ReplacedError: if they are not there.
        FileError: if they cannot be read, or are others.
    """
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise FileError(f"its 'arrays_sha256' must be the sha256 of a .npz, 64 letters of 0-9 and a-f, got {sha256!r}.")
    side, old = side_of(path, sha256), path.with_suffix(".npz")
    if not os.path.lexists(side) and os.path.lexists(old):
        side = old
    try:
        data = archive.read_archive(archive.beside(side))
    except FileNotFoundError as error:
        raise ReplacedError(
            f"its arrays {str(side)!r} cannot be read: {error.strerror}.", _elsewhere(path, side)
        ) from error
    except OSError as error:
        raise FileError(f"its arrays {str(side)!r} cannot be read: {error.strerror or error}.") from error
    except FileError:
        raise
    except Exception as error:  # a crafted archive makes its readers raise anything
        raise _unreadable(side, error) from error
    if digest(data) != sha256:
        raise FileError(
            f"its arrays {str(side)!r} are not those it was written with: their sha256 is not 'arrays_sha256'.",
            "One of the two files was replaced or is damaged; write the pair anew.",
        )
    try:
        return archive.arrays(data)
    except Exception as error:
        raise _unreadable(side, error) from error


def _unreadable(side: Path, error: Exception) -> FileError:
    return FileError(
        f"its arrays {str(side)!r} are not readable as .npz: {error}.",
        "One of the two files was replaced or is damaged; write the pair anew.",
    )


def _elsewhere(path: Path, side: Path) -> str:
    """What to do where the arrays are missing: they may lie there under the name of the file that was copied."""
    with suppress(OSError):
        for name in sorted(os.listdir(side.parent)):
            if name.endswith("".join(side.suffixes[-2:])) and name != side.name:
                return f"A graph and its arrays are copied and renamed together: copy {name!r} to {side.name!r}, too."
    return f"A graph and its arrays are copied and renamed together: put them beside {path.name!r}."


def write(path: Path, text: bytes, arrays: bytes) -> None:
    """Write a file, and its arrays where it has some; then remove arrays that it no longer refers to.

    Savers of files in one folder wait for each other, so that none removes what another is about to refer to.

    Raises:
        FileError: if one of the two cannot be written; then the old pair is as it was.
    """
    side = side_of(path, digest(arrays)) if arrays else None
    with _alone(path):
        if side is None:
            write_bytes(path, text)
        else:
            known = side.exists()
            write_bytes(side, arrays, like=path)
            try:
                write_bytes(path, text)
            except BaseException:
                if not known and not _holds(path, text):  # an interrupt may come after the file was replaced
                    side.unlink(missing_ok=True)
                raise
        _tidy(Path(os.path.realpath(path)), side)


def _holds(path: Path, text: bytes) -> bool:
    try:
        return path.read_bytes() == text
    except OSError:
        return False


@contextmanager
def _alone(path: Path) -> Generator[None, None, None]:
    """Hold the lock of a file's folder; it goes with the process. Where there are no such locks, hold none."""
    folder = None
    if fcntl is not None:
        with suppress(OSError, ValueError):  # the writer will say what is wrong with the path
            folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
    try:
        if fcntl is not None and folder is not None:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        if fcntl is not None and folder is not None:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has it, too
            os.close(folder)


def _tidy(path: Path, kept: Path | None) -> None:
    """Remove the arrays that former versions of a file referred to."""
    ours = re.compile(re.escape(path.name) + rf"\.[0-9a-f]{{{_LETTERS}}}\.npz")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if ours.fullmatch(name) and (kept is None or name != kept.name):
                with suppress(OSError):
                    (path.parent / name).unlink()
