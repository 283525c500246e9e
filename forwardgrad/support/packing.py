"""Writes arrays as the content of an `.npz`, so that an interrupt on the way stays that interrupt.

An `.npz` is a zip of stored `.npy` entries. `zipfile` cannot be broken off within an entry: as it is closed, it raises
a `ValueError` of its own in place of the `KeyboardInterrupt`. The few records that a zip consists of are written here.
(PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.)
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE = 2**32 - 1
"""Sizes and offsets from here on are written with 64 bits, in records of their own."""

MANY = 2**16 - 1
"""From this many entries on, the number of entries is written with 64 bits, too."""

_MARK, _SHORT_MARK = 2**32 - 1, 2**16 - 1  # what 32 and 16 bits hold where the number is in such a record
_VERSION = 45  # of a reader that knows records of 64 bits
_DATE = 1 << 5 | 1  # 1 January 1980: the same arrays give the same bytes at any time
_UTF8 = 0x800


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of an `.npz` that holds these arrays by name; `numpy.load` reads it.

    >>> import io
    >>> dict(np.load(io.BytesIO(packed({"a": np.arange(3)}))))
    {'a': array([0, 1, 2])}
    """
    parts: list[Any] = []
    directory: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        header, data = _npy(np.asarray(array, order="C"))
        encoded, size = f"{name}.npy".encode(), len(header) + len(data)
        checked = zlib.crc32(data, zlib.crc32(header))
        wide = struct.pack("<HHQQ", 1, 16, size, size) if size >= WIDE else b""
        fields = (_VERSION, _UTF8, 0, 0, _DATE, checked, *((_MARK if wide else size,) * 2), len(encoded))
        local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *fields, len(wide)) + encoded + wide
        parts += [local, header, data]
        directory.append(_directory_entry(fields, encoded, size, offset))
        offset += len(local) + size
    return b"".join([*parts, *directory, _end(len(directory), sum(map(len, directory)), offset)])


def _npy(array: NDArray[Any]) -> tuple[bytes, Any]:
    """Header and bytes of an `.npy`; the bytes are those of the array itself."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data


def _directory_entry(fields: tuple[int, ...], name: bytes, size: int, offset: int) -> bytes:
    large = [*([size, size] if size >= WIDE else []), *([offset] if offset >= WIDE else [])]
    wide = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    fields = (*fields, len(wide), 0, 0, 0, 0, offset if offset < WIDE else _MARK)
    return struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", _VERSION, *fields) + name + wide


def _end(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if count >= MANY or size >= WIDE or offset >= WIDE:
        wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, _VERSION, _VERSION, 0, 0, count, count, size, offset)
        wide += struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)
    count = count if count < MANY else _SHORT_MARK
    size, offset = (number if number < WIDE else _MARK for number in (size, offset))
    return wide + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, offset, 0)
