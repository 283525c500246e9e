"""Where a command meets the terminal: its streams, its errors in one line, and its exit code.

Exit codes: what the command returns; 2 for an error; 130 for an interrupt and 141 for a reader that has seen enough, as
shells have it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from forwardgrad.errors import ForwardgradError

TRACEBACK = "FORWARDGRAD_TRACEBACK"
"""The environment variable that, if set, lets an error that nobody foresaw through, with its traceback."""


def run(command: Callable[[], int]) -> int:
    """Run a command; whatever goes wrong ends in one error message and an exit code.

    An exit that the command itself asks for, as `argparse` does, is let through.
    """
    try:
        _open_streams()
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return command()
            finally:
                sys.stdout.flush()  # so that it fails here and not when Python ends
    except ForwardgradError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("out of memory.\n  Take smaller nodes, shorter sequences or fewer samples.")
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:  # a reader such as head has seen enough
        _silence(sys.stdout)
        return 141
    except OSError as error:
        if error.filename is not None:  # not by a stream
            return _unforeseen(error)
        _silence(sys.stdout)
        return _failed(f"cannot write to standard output: {error.strerror or error}.")
    except Exception as error:
        return _unforeseen(error)


def say(text: str) -> None:
    """Write a line to standard error, if somebody can read it there."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # ValueError: it was closed
        _silence(sys.stderr)


def _open_streams() -> None:
    """Refuse to run without standard output, and let nothing else take the place of a closed stream.

    The next file that is opened would get its number; whatever a library prints would then be written into that file.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        raise OSError(errno.EBADF, "it is closed")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than a graph


def _failed(text: str) -> int:
    say(f"error: {text}")
    return 2


def _unforeseen(error: Exception) -> int:
    if os.environ.get(TRACEBACK):
        raise error
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return _failed(
        f"{what}\n  Nobody foresaw this: please report it. {TRACEBACK}=1 in the environment shows where it is."
    )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"warning: {message}")


def _silence(stream: Any) -> None:
    """Let what a stream still holds go nowhere: Python writes it as it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
