"""Are arrays packed as NumPy reads them, and does an interrupt on the way stay one?"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from forwardgrad.support import archive, packing
from forwardgrad.support.packing import packed

ARRAYS: dict[str, Any] = {
    "a": np.arange(6.0).reshape(2, 3),
    "turned": np.arange(6.0, dtype="float32").reshape(2, 3).T,
    "number": np.array(3),
    "empty": np.empty((0, 3)),
    "bits": np.array([True, False]),
    "bytes": np.frombuffer(b"text", np.uint8),
    "π": np.arange(3, dtype=">i2"),
}


@pytest.mark.parametrize("wide", [2**32 - 1, 150, 0])
@pytest.mark.parametrize("many", [2**16 - 1, 3])
def test_numpy_reads_what_was_packed(wide: int, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a checkpoint cannot be read, or only where it has less than 4 GiB or 65,535 arrays."""
    monkeypatch.setattr(packing, "MANY", many)
    monkeypatch.setattr(packing, "WIDE", wide)
    data = packed(ARRAYS)
    monkeypatch.undo()
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert list(archive.arrays(data)) == list(ARRAYS)


def test_the_same_arrays_are_the_same_bytes() -> None:
    """If this fails, saving a graph twice leaves two files of arrays."""
    assert packed(ARRAYS) == packed(dict(ARRAYS))
    assert packed({}) == packed({})


def test_an_interrupt_stays_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, Ctrl-C while saving is an error of the archive's, and a training loop goes on."""
    crc32, left = packing.zlib.crc32, [0]

    def interrupted(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return crc32(*arguments)

    for after in range(1, 2 * len(ARRAYS) + 1):
        left[0] = after
        monkeypatch.setattr(packing.zlib, "crc32", interrupted)
        with pytest.raises(KeyboardInterrupt):
            packed(ARRAYS)
