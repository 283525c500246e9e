"""Writes a file whole or not at all, readable by nobody who could not read the file that it replaces."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from forwardgrad.errors import FileError


def write_bytes(path: str | os.PathLike[str], data: bytes, like: Path | None = None) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, and nothing between.

    The data go to a temporary file in the same folder, reach the disk, and take the file's place in one step. Then the
    folder reaches the disk, too. Whatever fails, the old file stays and the temporary file goes. A symbolic link is
    written through.

    Mode, group and, where the system allows it, owner are those of the file that is replaced. The temporary file has
    them before the first byte is in it. A new file has what the umask says.

    Args:
        path: where to; the folder must exist.
        data: the whole content.
        like: the file whose mode, group and owner a new file takes, if there is one.

    Raises:
        FileError: if it cannot be written, naming the path and the reason.
    """
    try:
        target = Path(os.path.realpath(path))
        before = _existing(target) or (None if like is None else _existing(Path(os.path.realpath(like))))
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "xb", opener=partial(os.open, mode=0o600 if before else 0o666)) as file:
                if before is not None:
                    _take_over(temporary, file, before)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise FileError(f"cannot write {str(path)!r}: {_reason(error)}.") from error


def _existing(path: Path) -> os.stat_result | None:
    """What is known of a file that is about to be replaced; a pipe or a device is no such file."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # replacing a folder fails by itself
        raise OSError(errno.EINVAL, "Is a pipe or a device, and no file")
    return about


def _take_over(temporary: Path, file: BinaryIO, before: os.stat_result) -> None:
    """Give a new file owner, group and mode of another one, and nobody more access than that one gave."""
    mode, own = stat.S_IMODE(before.st_mode) & 0o777, os.fstat(file.fileno())
    if hasattr(os, "chown"):
        with suppress(OSError):
            if own.st_uid != before.st_uid:  # only the administrator may
                os.chown(temporary, before.st_uid, -1)
        try:
            if own.st_gid != before.st_gid:
                os.chown(temporary, -1, before.st_gid)
        except OSError:  # our group may do no more than everybody might
            mode &= ~0o070 | (mode & 0o007) << 3
    temporary.chmod(mode)


def _sync(folder: Path) -> None:
    """Bring the new name of a file to the disk, on systems where folders can be brought there."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
