"""Is a file written whole or not at all?"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from forwardgrad.errors import FileError
from forwardgrad.support import atomic
from forwardgrad.support.atomic import write_bytes

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes of POSIX")


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


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_nobody_may_read_a_replaced_file_on_the_way(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, others can read a private checkpoint for as long as it is being written."""
    path, seen = tmp_path / "f.bin", list[tuple[int, int]]()
    path.write_bytes(b"old")
    path.chmod(mode)

    def look(*_: Any) -> None:
        seen.extend((stat.S_IMODE(at.stat().st_mode), at.stat().st_size) for at in tmp_path.glob(".*.tmp"))

    for step in ("fsync", "open", "chmod", "replace"):
        original = getattr(os, step)

        def watched(*arguments: Any, original: Any = original, **named: Any) -> Any:
            look()
            result = original(*arguments, **named)
            look()
            return result

        monkeypatch.setattr(os, step, watched)
    before = os.umask(0)
    try:
        write_bytes(path, b"new")
    finally:
        os.umask(before)
    assert all(found & ~mode == 0 or (found, size) == (0o600, 0) for found, size in seen)
    assert {found for found, size in seen if size} == {mode}
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@posix
def test_a_group_that_cannot_be_kept_gets_no_more_than_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a file of one group is readable by another one after it was replaced."""
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")
    path.chmod(0o664)
    seen = path.stat()
    elsewhere = os.stat_result((*seen[:5], seen.st_gid + 1, *seen[6:]))

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(atomic, "_existing", lambda _: elsewhere)
    monkeypatch.setattr(os, "chown", refuse)
    write_bytes(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@posix
def test_the_folder_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a file that was reported as saved may be the old one after a power cut."""
    synced, fsync, replace = list[str](), os.fsync, os.replace

    def watched(number: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def replaced(*arguments: Any) -> None:
        synced.append("replaced")
        replace(*arguments)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(os, "replace", replaced)
    write_bytes(tmp_path / "f.bin", b"new")
    assert synced == ["file", "replaced", "folder"]


@posix
def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    """If this fails, an administrator who writes to /dev/null has none any more."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(FileError, match="Is a pipe or a device, and no file"):
            write_bytes(tmp_path / name, b"data")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]
