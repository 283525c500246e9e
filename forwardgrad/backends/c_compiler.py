"""The C compiler of the machine: which one it is, what it makes code for, and shared objects from its hands.

`CC` names another one, with options of its own if need be. `FORWARDGRAD_CFLAGS` takes the place of the options by which
code is optimised.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from forwardgrad.errors import CompilerError, MissingExtraError

NAMES = ("cc", "gcc", "clang")
"""The commands that are looked for where `CC` says nothing."""

FAST = ("-O3", "-march=native")
"""How code is optimised. Sums stay in the order in which they are written but for those that are marked."""

ALWAYS = ("-std=c99", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")

OPTIONAL = ("-fopenmp-simd",)
"""Taken along where the compiler knows it: marked sums become those of several lanes."""

PATIENCE = 900
"""Seconds that a compiler may take."""

LINES = 12
"""Lines of what a compiler complains about that are shown."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler.

    Args:
        command: how it is called.
        options: with which options.
        about: its version and the processor for which it makes code, as it describes them.
    """

    command: tuple[str, ...]
    options: tuple[str, ...]
    about: bytes

    def shared_object(self, source: str) -> bytes:
        """A translation unit as a shared object.

        Raises:
            CompilerError: if the compiler fails, or nothing can be written.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="forwardgrad-") as folder:
                path, made = Path(folder, "program.c"), Path(folder, "program.so")
                path.write_text(source, encoding="ascii")
                _run([*self.command, *self.options, str(path), "-o", str(made), "-lm"])
                return made.read_bytes()
        except OSError as error:
            raise CompilerError(f"backend 'c': cannot compile: {error.strerror or error}.", _ROOM) from error


_ROOM = "Is there room in the folder for temporary files? TMPDIR names another one."


def find_compiler() -> Compiler:
    """The compiler of the machine.

    Raises:
        MissingExtraError: if there is none.
        CompilerError: if it cannot compile anything.
    """
    return _described(_command(), _asked())


def _command() -> tuple[str, ...]:
    given = os.environ.get("CC", "").strip()
    try:
        command = shlex.split(given)
    except ValueError:
        raise CompilerError(f"backend 'c': CC={given!r} is not a command.") from None
    for name in command[:1] or NAMES:
        found = shutil.which(name)
        if found is not None:
            return (found, *command[1:])
    missing = f"CC names {command[0]!r}, which is not found" if command else f"none of {', '.join(NAMES)} is found"
    raise MissingExtraError(f"backend 'c' needs a C compiler: {missing}. Install one, or let CC name it.")


def _asked() -> tuple[str, ...] | None:
    given = os.environ.get("FORWARDGRAD_CFLAGS")
    try:
        return None if given is None else tuple(shlex.split(given))
    except ValueError:
        raise CompilerError(f"backend 'c': FORWARDGRAD_CFLAGS={given!r} are not options.") from None


@lru_cache
def _described(command: tuple[str, ...], asked: tuple[str, ...] | None) -> Compiler:
    """A compiler with those options that it knows."""
    fast = FAST if asked is None else asked
    attempts = [(*fast, *OPTIONAL), fast]
    if asked is None:
        attempts.append(tuple(option for option in fast if "native" not in option))
    problem: CompilerError | None = None
    for options in attempts:
        try:
            about = _run([*command, *ALWAYS, *options, "-dM", "-E", "-x", "c", os.devnull])
        except CompilerError as error:
            problem = problem or error
        else:
            return Compiler(command, (*ALWAYS, *options), about)
    assert problem is not None
    raise problem


def _run(command: Sequence[str]) -> bytes:
    """What a command prints."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerError(f"backend 'c': the C compiler {command[0]!r} does not run: {error}.", _OTHER) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        what = f"failed with status {done.returncode}" if done.returncode > 0 else f"was ended by {-done.returncode}"
        shown = [line for line in said if line.strip()][:LINES]
        raise CompilerError(f"backend 'c': the C compiler {command[0]!r} {what}.", *shown, _OTHER)
    return done.stdout


_OTHER = "Let CC name another compiler, or take the backend 'numpy'."
