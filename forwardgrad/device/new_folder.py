"""Files of a folder, written so that none is ever half there, and none that was there is lost unasked."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from forwardgrad.errors import FileError


def write_folder(folder: str | os.PathLike[str], texts: Mapping[str, str], *, replace: bool = False) -> Path:
    """Write files into a folder, which is made if it is not there.

    All of them are written into a folder beside it first. Only when that has succeeded do they come to their place.

    Args:
        folder: where to; its parent must exist.
        texts: of the files, by name.
        replace: whether files of these names may be replaced. Others stay in any case.

    Raises:
        FileError: if a file is there already and may not be replaced, or one cannot be written.
    """
    place = f"cannot write {str(folder)!r}"
    try:
        target = Path(os.path.realpath(folder))
        if target.exists() and not target.is_dir():
            raise FileError(f"{place}: it is a file, and a folder is wanted.")
        if not target.parent.is_dir():
            raise FileError(f"{place}: there is no such folder as {str(target.parent)!r}.")
        existing = [name for name in texts if (target / name).exists() or (target / name).is_symlink()]
        if existing and not replace:
            raise FileError(
                f"{place}: {existing[0]!r} is there already.", "Take another folder, or replace it: --force."
            )
        folders = [name for name in existing if (target / name).is_dir()]
        if folders:
            raise FileError(f"{place}: {folders[0]!r} is a folder, and a file is wanted.")
        staging = target.with_name(f".{secrets.token_hex(8)}.tmp")
        staging.mkdir()
        try:
            for name, text in texts.items():
                with open(staging / name, "x", encoding="ascii", newline="\n") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            if target.exists():
                for name in texts:
                    os.replace(staging / name, target / name)
            else:
                staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileError(f"{place}: {reason}.") from error
    return target
