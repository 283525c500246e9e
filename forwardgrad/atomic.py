"""How is a file written whole or not at all?"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from forwardgrad.errors import FileError


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, and nothing between.

    The data go to a temporary file in the same folder, reach the disk, and take the file's place in one step. Whatever
    fails, the old file stays and the temporary file goes. The permissions of an existing file are kept, and a symbolic
    link is written through.

    Args:
        path: where to; the folder must exist.
        data: the whole content.

    Raises:
        FileError: if it cannot be written, naming the path and the reason.
    """
    try:
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            _write(temporary, data, target)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise FileError(f"cannot write {str(path)!r}: {_reason(error)}.") from error


def _write(temporary: Path, data: bytes, target: Path) -> None:
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if target.exists():
        temporary.chmod(target.stat().st_mode & 0o7777)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
