"""Streams and terminals: what is said where nobody reads, and on terminals of all kinds?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import JOB, no_reader, python, read_terminal


@no_reader
def test_a_closed_pipe(place):
    """If it failed, `forwardgrad explain lstm | head` would print a traceback."""
    command = f'"{sys.executable}" -m forwardgrad explain lstm --decisions | true; exit ${{PIPESTATUS[0]}}'
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert found.stderr == ""
    assert found.returncode in (0, 141)


def test_a_terminal_that_knows_few_letters(place):
    """If it failed, a file name with an umlaut would end in a UnicodeEncodeError after the work is done."""
    os.rename(place / "small.toml", place / "grün.toml")
    found = python("explain", "grün.toml", cwd=place, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert found.returncode == 0
    found = python("render", "grün.toml", "-o", "ü.dot", cwd=place, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (found.returncode, found.stdout.strip()) == (0, "wrote \\xfc.dot")


@no_reader
def test_progress_on_a_terminal(place):
    """If it failed, a user would wait in front of an empty screen, or the bar would not reach its end."""
    import pty
    import termios

    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 90))
    command = [sys.executable, "-m", "forwardgrad", "train", "small.toml", *map(str, JOB)]
    with subprocess.Popen(command, stdout=there, stderr=there) as process:
        os.close(there)
        said = b""
        while chunk := read_terminal(here):
            said += chunk
    os.close(here)
    assert process.returncode == 0
    text = said.decode()
    assert "learning:   0%" in text
    assert "79/79" in text
    assert text.splitlines()[-1].startswith("test NMSE: 0.")


STREAMS = {
    "closed": (">&-", 2, "error: cannot write to standard output: it is closed."),
    "full": (">/dev/full", 2, "error: cannot write to standard output: No space left on device."),
    "for reading": ("1</dev/null", 2, "error: cannot write to standard output: Bad file descriptor."),
    "both closed": (">&- 2>&-", 2, ""),
    "errors closed": ("2>&- >out", 0, ""),
    "errors full": ("2>/dev/full >out", 0, ""),
    "input closed": ("<&- >out", 0, ""),
}


@no_reader
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("what", STREAMS)
def test_streams_that_nobody_reads(what, place):
    """If it failed, a full disk or a closed terminal would end in a traceback, or be taken for success."""
    redirected, code, words = STREAMS[what]
    script = f'"{sys.executable}" -m forwardgrad explain small.toml --json {redirected}'
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stderr.strip()) == (code, words)
    assert code or (place / "out").stat().st_size


@no_reader
def test_a_file_does_not_take_the_place_of_a_closed_stream(place):
    """If it failed, what a library prints would end up in the first file that is opened, a checkpoint for one."""
    (place / "script.py").write_text(
        "from forwardgrad.cli import terminal\n"
        "print(terminal.run(lambda: open('opened', 'w').fileno() > 2), file=open('said', 'w'))\n"
    )
    script = f'exec "{sys.executable}" script.py <&- 2>&-'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert (place / "said").read_text() == "True\n"
