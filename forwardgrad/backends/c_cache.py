"""Shared objects that were compiled before, kept in the user's cache directory, and loaded if nobody has changed them.

A file's name holds a digest of what it was made from (source, compiler, processor, options) and one of its content. A
folder that others could write to is not used; a file whose content has another digest is made again. Where nothing can
be kept, a program is compiled into a temporary directory of this process.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from forwardgrad.backends.c_compiler import Compiler
from forwardgrad.errors import CompilerError, FileError
from forwardgrad.support.atomic import write_bytes
from forwardgrad.support.forking import in_child

FORMAT = b"1"
"""Counts up when what is kept changes its meaning."""


def shared_library(source: str, compiler: Compiler) -> ctypes.CDLL:
    """A translation unit, compiled now or before, and loaded.

    Raises:
        CompilerError: if it cannot be compiled, or not be loaded.
    """
    return _loaded(source, compiler)


@lru_cache(64)
def _loaded(source: str, compiler: Compiler) -> ctypes.CDLL:
    made_from = key(source, compiler)
    folder = trusted_folder()
    content = None
    if folder is not None:
        found = _kept(folder, made_from)
        if found is not None:
            with suppress(OSError):
                return ctypes.CDLL(str(found))
        content = compiler.shared_object(source)
        with suppress(OSError, FileError):
            return ctypes.CDLL(str(_put(folder, made_from, content)))
    try:
        return ctypes.CDLL(str(_put(_own_folder(), made_from, content or compiler.shared_object(source))))
    except (OSError, FileError) as error:
        where = "Are programs allowed to run from the folder for temporary files? TMPDIR names another one."
        raise CompilerError(f"backend 'c': what was compiled cannot be loaded: {error}.", where) from error


def key(source: str, compiler: Compiler) -> str:
    """A digest of all that a shared object is made from."""
    digest = sha256(FORMAT)
    for part in (" ".join((*compiler.command, *compiler.options)).encode(), compiler.about, source.encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """Where shared objects are kept; none where the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "forwardgrad"
    with suppress(RuntimeError):
        home = Path.home()
        return home / ".cache" / "forwardgrad" if home.is_absolute() else None
    return None


def trusted_folder() -> Path | None:
    """The cache directory, made if it is not there; none if it belongs to others, or others may write to it."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        about = folder.lstat()
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
    return folder if stat.S_ISDIR(about.st_mode) and _is_ours(about) and not about.st_mode & 0o077 else None


def _is_ours(about: os.stat_result) -> bool:
    user: Callable[[], int] | None = getattr(os, "geteuid", None)
    return user is None or about.st_uid == user()


def _kept(folder: Path, made_from: str) -> Path | None:
    """The shared object of that digest, if it is there and as it was written; others of its name are removed."""
    found: Path | None = None
    with suppress(OSError):
        for path in sorted(folder.glob(f"{made_from}.*.so")):
            if found is None and _is_whole(path, made_from):
                found = path
            elif found is None:
                path.unlink(missing_ok=True)
    return found


def _is_whole(path: Path, made_from: str) -> bool:
    """Whether a file is a regular one of ours, to which nobody else may write, with the content of its name."""
    about = path.lstat()
    regular = stat.S_ISREG(about.st_mode) and _is_ours(about) and not about.st_mode & 0o022
    return regular and path.name == _name(made_from, path.read_bytes())


def _name(made_from: str, content: bytes) -> str:
    return f"{made_from}.{sha256(made_from.encode() + content).hexdigest()}.so"


def _put(folder: Path, made_from: str, content: bytes) -> Path:
    path = folder / _name(made_from, content)
    write_bytes(path, content)
    path.chmod(0o700)
    return path


@lru_cache
def _own_folder() -> Path:
    """A temporary directory of this process, which goes when it ends."""
    folder, owner = Path(tempfile.mkdtemp(prefix="forwardgrad-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


in_child(_own_folder.cache_clear)
