"""Headroom: how many bytes this process may still take, by the machine, its resource limits and its control groups."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has none
    resource = None

PROC = Path("/proc")

UNLIMITED = 2**62
"""From here on a limit of a control group is none: version 1 says so by the largest whole number of pages."""

GROUPS = {
    "cgroup2": (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "cgroup": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
"""Per version of control groups (its type of file system): files of limits, the file of what is used, and the entry of
`memory.stat` for the part of it that the system takes back before it refuses anything: pages of files."""


def headroom(proc: Path = PROC) -> int | None:
    """The least of what is free on this machine and what each limit leaves; `None` where nothing tells.

    Args:
        proc: where the system tells it.
    """
    found = [*_free(proc), *_resources(proc), *_groups(proc)]
    return max(0, min(found)) if found else None


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _sizes(path: Path) -> dict[str, int]:
    """The entries of a file of lines such as `VmSize:  1234 kB`, in bytes, or `cache 1234`."""
    found: dict[str, int] = {}
    for line in _lines(path):
        name, *rest = line.split()[:3] or [""]
        if rest and rest[0].isdecimal():
            found[name.rstrip(":")] = int(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return found


def _free(proc: Path) -> Iterator[int]:
    free = _sizes(proc / "meminfo").get("MemAvailable")
    if free is None:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return
    yield free


def _resources(proc: Path) -> Iterator[int]:
    """What the limits of this process leave: address space, and the part of it that is data."""
    if resource is None:
        return
    limits = {
        field: resource.getrlimit(getattr(resource, name))[0]
        for name, field in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData"))
        if hasattr(resource, name)
    }
    limits = {field: limit for field, limit in limits.items() if limit != resource.RLIM_INFINITY}
    used = _sizes(proc / "self/status") if limits else {}
    for field, limit in limits.items():
        yield limit - used.get(field, 0)


def _groups(proc: Path) -> Iterator[int]:
    """What the control group of this process leaves, and each group around it, as far as they can be seen from here."""
    for directory, kind in _found(proc, os.getpid()):
        yield from _group(directory, kind)


@cache
def _found(proc: Path, process: int) -> list[tuple[Path, str]]:
    """The folders of these groups, each with its type; looked for once by each process."""
    found: list[tuple[Path, str]] = []
    groups: dict[str, str] = {}
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            groups["cgroup" if controllers else "cgroup2"] = path
    for line in _lines(proc / "self/mountinfo") if groups else ():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" ", 2), "", ""][:3]
        if kind not in groups or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        root, mount = (re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), part) for part in before.split()[3:5])
        inside = os.path.relpath(groups[kind], root)
        directory = Path(mount) if inside.startswith("..") else Path(mount, inside)
        around = [directory, *directory.parents]
        found += [(group, kind) for group in around[: around.index(Path(mount)) + 1]]
    return found


def _group(directory: Path, kind: str) -> Iterator[int]:
    limits, usage, cached = GROUPS[kind]
    given = [int(line) for name in limits for line in _lines(directory / name) if line.isdecimal()]  # or "max"
    given = [limit for limit in given if limit < UNLIMITED]
    used = [int(line) for line in _lines(directory / usage) if line.isdecimal()] if given else []
    if used:
        yield min(given) - used[0] + min(used[0], _sizes(directory / "memory.stat").get(cached, 0))
