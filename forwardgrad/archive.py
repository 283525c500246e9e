"""How are arrays read from a file that anybody may have made? Nothing in it is executed, unpacked or believed."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import FileError


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file.

    Pipes and devices, which may have no end, are refused before they are opened.

    Args:
        path: where it is.
        most: bytes that it may have.

    Raises:
        OSError: if it is no regular file, is larger, or cannot be read.
        ValueError: if a path is none.
    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # reading a folder fails by itself
        raise OSError(errno.EINVAL, "Is a pipe or a device, and no file")
    if most is not None and about.st_size > most:
        raise OSError(errno.EFBIG, f"Has {about.st_size:,} bytes, and at most {most:,} are read")
    return path.read_bytes()


def beside(side: Path) -> Path:
    """A file that belongs to another of its folder, found to be in that folder, too, where links lead.

    Raises:
        FileError: if it is a link that leads out of the folder.
    """
    folder, found = Path(os.path.realpath(side.parent)), Path(os.path.realpath(side))
    if found.parent != folder:
        raise FileError(f"its arrays {str(side)!r} are a link out of the folder.", "Put the file itself there.")
    return found


def arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz`, by name. What is damaged, forged or foreign makes its readers raise anything."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise TypeError("an entry is compressed")  # never by us; it could unpack to more than memory holds
        if sum(entry.file_size for entry in entries) > len(data):
            raise TypeError("its entries overlap")
        return {entry.filename.removesuffix(".npy"): array(archive.read(entry)) for entry in entries}


def array(data: bytes) -> NDArray[Any]:
    """The array of an `.npy`; raises anything where it is none."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    size = dtype.itemsize
    for axis in shape:
        size *= axis
    if dtype.hasobject or size != len(data) - file.tell():  # checked before any memory is taken
        raise TypeError("an entry is not one array of numbers")
    return cast("NDArray[Any]", np.load(io.BytesIO(data), allow_pickle=False))
