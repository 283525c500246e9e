"""Does a child that is forked while a thread compiles run? It has no thread that would release what is locked."""

from __future__ import annotations

import ast
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import networkx as nx
import pytest

import forwardgrad as fg
from forwardgrad.graph import Network

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

SECONDS = 20.0
"""After which a child counts as hung; it takes a tenth of a second."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():  # later versions of Python warn of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def ended(child: int) -> int | None:
    """The status of a child, or `None` if it hangs, and then is killed."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def compiling_child() -> int | None:
    """Fork a child that compiles, and its status."""
    child = os.fork()
    if child == 0:
        try:
            fg.compile(fg.load("elman"), rule="eprop").source()
            os._exit(0)
        finally:
            os._exit(1)
    return ended(child)


def held(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, inside: Callable[..., Any]) -> Any:
    """Have the thread `stays` stop inside a function, once, until it is let go."""
    there, go = threading.Event(), threading.Event()

    def stopping(*given: Any, **named: Any) -> Any:
        if threading.current_thread().name == "stays" and not there.is_set():
            there.set()
            go.wait(60)
        return inside(*given, **named)

    monkeypatch.setattr(owner, name, stopping)
    return there, go


@pytest.mark.parametrize("where", ["parser", "our property", "networkx's property"])
def test_a_child_compiles_though_a_thread_holds_a_lock(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a child that multiprocessing forks while another thread compiles hangs for good."""
    if where == "parser":
        there, go = held(monkeypatch, ast, "parse", ast.parse)
    else:
        owner, name = (Network, "trainable") if where == "our property" else (nx.MultiDiGraph, "edges")
        found: Any = vars(owner)[name]
        assert isinstance(found, cached_property)
        there, go = held(monkeypatch, found, "func", found.func)
    thread = threading.Thread(
        target=lambda: fg.compile(fg.load("lstm"), rule="eprop").source(), name="stays", daemon=True
    )
    thread.start()
    assert there.wait(60)
    try:
        assert compiling_child() == 0
    finally:
        go.set()
        thread.join(60)


def test_children_compile_whenever_they_are_forked() -> None:
    """If this fails, there is another lock that a child waits for."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            fg.compile(fg.load("elman"), rule="eprop-deep & near")

    threads = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for fork in range(12):
            time.sleep(0.003 * fork)
            assert compiling_child() == 0, f"fork {fork}"
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
