"""What do tests of the backend `c` share? A cache of their own, quick compilations, and units that run alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardgrad.array_program.buffers import analysed
from forwardgrad.array_program.in_c.source import unit
from forwardgrad.array_program.regions import ArrayProgram
from forwardgrad.backends.c_cache import shared_library
from forwardgrad.backends.c_calls import CompiledUnit
from forwardgrad.backends.c_compiler import find_compiler
from forwardgrad.errors import MissingExtraError
from forwardgrad.ops import Array


def needs_compiler() -> None:
    """Skip a test, or a whole module, where there is no C compiler."""
    try:
        find_compiler()
    except MissingExtraError as missing:
        pytest.skip(str(missing), allow_module_level=True)


def skip_without(backend: str) -> None:
    """Skip a test where the machine lacks what a backend needs."""
    if backend == "jax":
        pytest.importorskip("jax")
    if backend == "c":
        needs_compiler()


def in_a_hurry(folder: Path, options: str = "-O1") -> Iterator[None]:
    """Code that is compiled fast rather than fast, in a cache of its own, as long as a fixture lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORWARDGRAD_CFLAGS", options)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


def compiled_unit(program: ArrayProgram) -> CompiledUnit:
    """A program as C, compiled and loaded; equal programs are compiled once."""
    printed = unit(program, analysed(program))
    library = shared_library(printed.text, find_compiler())
    constants = {value: program.constants[value] for value in printed.constants}
    return CompiledUnit(printed, library, constants, np.dtype(program.dtype))


def run_c(program: ArrayProgram, name: str, arrays: Mapping[str, Any], symbols: Mapping[str, int]) -> dict[str, Array]:
    """The results of a function of a program, as C."""
    return compiled_unit(program).run(name, arrays, symbols)
