"""Is a file written whole or not at all?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from forwardgrad.atomic import write_bytes
from forwardgrad.errors import FileError


def test_new_and_replaced(tmp_path: Path) -> None:
    """If this fails, nothing is saved at all."""
    path = tmp_path / "f.bin"
    write_bytes(path, b"one")
    assert path.read_bytes() == b"one"
    write_bytes(str(path), b"")
    assert path.read_bytes() == b""
    assert os.listdir(tmp_path) == ["f.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a full disk or an interrupt costs the user the old file, or litters the folder."""

    def fail(*_: Any) -> None:
        raise error

    path = tmp_path / "f.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    expected = FileError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        write_bytes(path, b"new")
    if expected is FileError:
        assert str(raised.value) == f"cannot write {str(path)!r}: No space left on device."
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f.bin"]


@pytest.mark.parametrize("name", ["no/such/folder.bin", "folder", "null\0byte", "long" * 100])
def test_impossible_target_is_our_error(name: str, tmp_path: Path) -> None:
    """If this fails, a wrong path ends in a bare Python error."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="cannot write"):
        write_bytes(tmp_path / name, b"data")
    assert os.listdir(tmp_path) == ["folder"]


def test_permissions_are_kept_and_links_written_through(tmp_path: Path) -> None:
    """If this fails, saving makes a shared file private, or cuts a link."""
    path, link = tmp_path / "f.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    """If this fails, new files are private to their user, whatever the umask says."""
    (tmp_path / "ordinary").touch()
    write_bytes(tmp_path / "f.bin", b"")
    assert (tmp_path / "f.bin").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
