"""Reads arrays from a file that anyone may have made. Nothing in it is executed or believed.

Compressed entries are unpacked for `any_arrays` alone, up to the size of this machine's memory.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import FileError

MOST_ENTRIES = 2**20
"""Arrays in an `.npz` that is read."""

LARGEST_DIRECTORY = 2**27
"""Bytes of the directory of an `.npz`, and of all that is neither directory nor arrays."""

LARGEST_HEADER = 10_000
"""Bytes of the header of an `.npy`; NumPy reads no larger ones either."""


@contextmanager
def opened(path: Path, most: int | None = None) -> Generator[tuple[BinaryIO, int], None, None]:
    """A regular file, open for reading, and its size.

    Pipes and devices, which may have no end, are refused, and are not waited for.

    Args:
        path: where it is.
        most: bytes that it may have (default: those that this machine's memory has).

    Raises:
        OSError: if it is no regular file, is larger, or cannot be read.
        ValueError: if a path is none.
    """
    _check(os.stat(path))  # before it is opened: opening alone does something to some devices
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        about = os.fstat(file.fileno())
        _check(about)
        most = _memory() if most is None else most
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"Has {about.st_size:,} bytes, and at most {most:,} are read")
        yield file, about.st_size


def _check(about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # reading a folder fails by itself
        raise OSError(errno.EINVAL, "Is a pipe or a device, and no file")


def _memory() -> int:
    """Bytes of memory that this machine has: a larger file could not be read into it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file; arguments and errors are those of `opened`."""
    with opened(path, most) as (file, size):
        return _read(file, size)


def read_archive(path: Path) -> bytes:
    """The content of an `.npz`, read only if it is a zip of stored entries that fill it.

    Raises:
        OSError, ValueError: as `opened`, or because it does not fit into memory.
        zipfile.BadZipFile, TypeError: if it is something else.
    """
    with opened(path) as (file, size):
        with zipfile.ZipFile(cast("Any", _Sparing(file))) as archive:
            _entries(archive, size)
        file.seek(0)
        return _read(file, size)


def _read(file: BinaryIO, size: int) -> bytes:
    """The bytes of a file, no more than it had when it was opened."""
    try:
        return file.read(size)
    except MemoryError:
        raise OSError(errno.ENOMEM, f"Has {size:,} bytes, which do not fit into memory") from None


class _Sparing:
    """A file of which `zipfile` reads no more at once than a directory may have, whatever the file says of itself."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile("its directory is too large")
        return self.file.read(size if size >= 0 else LARGEST_DIRECTORY)


def beside(side: Path) -> Path:
    """A file that belongs to another of its folder, found to be in that folder, too, where links lead.

    Raises:
        FileError: if it is a link that leads out of the folder.
    """
    folder, found = Path(os.path.realpath(side.parent)), Path(os.path.realpath(side))
    if found.parent != folder:
        raise FileError(f"its arrays {str(side)!r} are a link out of the folder.", "Put the file itself there.")
    return found


def any_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` of a user's, by name, which may be compressed.

    Raises:
        OSError, ValueError: as `opened`, or because they do not fit into memory.
    """
    with opened(path) as (file, size):
        with zipfile.ZipFile(cast("Any", _Sparing(file))) as archive:
            entries = _entries(archive, size, compressed=True)
        if (needed := sum(entry.file_size for entry in entries)) > (most := _memory()):
            raise OSError(errno.EFBIG, f"Unpacks to {needed:,} bytes, and at most {most:,} are read")
        found: dict[str, NDArray[Any]] = {}
        with zipfile.ZipFile(file) as archive:
            for entry in entries:
                with archive.open(entry) as packed:
                    contents = packed.read(entry.file_size)  # no more than it says of itself
                found[entry.filename.removesuffix(".npy")] = array(io.BytesIO(contents), len(contents))
        return found


def arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz`, by name. What is damaged, forged or foreign makes its readers raise anything."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = _entries(archive, len(data))
        return {
            entry.filename.removesuffix(".npy"): array(io.BytesIO(archive.read(entry)), entry.file_size)
            for entry in entries
        }


def _entries(archive: zipfile.ZipFile, size: int, *, compressed: bool = False) -> list[zipfile.ZipInfo]:
    """The entries of an archive of that many bytes: stored, unless they may be compressed, and with little else."""
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise TypeError(f"it has {len(entries):,} entries, and at most {MOST_ENTRIES:,} are read")
    stored = all(e.compress_type == zipfile.ZIP_STORED and e.file_size == e.compress_size for e in entries)
    if not stored and not compressed:
        raise TypeError("an entry is compressed")  # never by us; it could unpack to more than memory holds
    rest = size - sum(entry.compress_size for entry in entries)
    if rest < 0:
        raise TypeError("its entries overlap")
    if rest > LARGEST_DIRECTORY + 1024 * len(entries):
        raise TypeError("it is larger than its entries")
    return entries


def array(file: BinaryIO, size: int) -> NDArray[Any]:
    """The array of an `.npy` of that many bytes; raises anything where it is none."""
    begin = io.BytesIO(file.read(LARGEST_HEADER))  # a header could say that it has gigabytes
    version = np.lib.format.read_magic(begin)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(begin)
    needed = dtype.itemsize
    for axis in shape:
        needed *= axis
    if dtype.hasobject or needed != size - begin.tell():  # checked before any memory is taken
        raise TypeError("it is not one array of numbers")
    contents = np.empty(needed, np.uint8)
    file.seek(begin.tell())
    if cast("io.BufferedReader", file).readinto(contents.data) != needed:
        raise EOFError("it ends too early")
    return contents.view(dtype).reshape(shape, order="F" if by_columns else "C")
