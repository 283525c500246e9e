"""What every gradient test asks: is the gradient the oracle's, at blocks shorter than the sequence, and is it live?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.lowering.lower import Lowered, lower
from forwardgrad.ops import Array

TOLERANCE = 1e-10

ENGINES = ("numpy", "interpreter")
"""The backends that need nothing but NumPy; `backends/test_jax.py` has the tests of the other."""


def error(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """Largest difference of any gradient, relative to the largest entry of them all (at least 1e-3)."""
    assert found.keys() == wanted.keys()
    scale = max([1e-3, *(float(np.abs(g).max()) for g in wanted.values())])
    return max((float(np.abs(found[name] - wanted[name]).max()) / scale for name in wanted), default=0.0)


def compiled(problem: Any, rule: Any, **options: Any) -> fg.Program:
    """The problem's program; parameters without a path are allowed, since the oracle must find zero for them too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.DeadParameterWarning)
        return fg.compile(problem.graph, loss=problem.loss, rule=rule, dead="warn", **options)


def assert_like_oracle(
    problem: Any, rule: Any, blocks: tuple[int, ...] = (1, 3), signals: Mapping[str, Array] | None = None
) -> fg.Program:
    """Assert that loss and gradients equal the oracle's at these block lengths, and with one block for all.

    The generated source climbs the whole ladder; the interpreter is held against the oracle at the last of the lengths.
    Of the learning signals, a program is given those that it asks for.
    """
    program, interpreted = compiled(problem, rule), compiled(problem, rule, backend="interpreter")
    wanted = oracle.reverse(**problem.arguments, rule=rule, signals=signals)
    asked = {name: (signals or {})[name] for name in program.signalled} or None
    data = {"inputs": problem.inputs, "targets": problem.targets, "mask": problem.mask, "signals": asked}
    for engine, block in [(interpreted, blocks[-1]), *((program, block) for block in (*blocks, problem.steps))]:
        found = engine.gradient(problem.params, **data, block=block)
        assert abs(found.loss - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss)), f"{engine.backend}, {block}"
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"{engine.backend}, block {block}"
    return program


def jax_in_a_hurry() -> Iterator[None]:
    """Code of JAX that is compiled fast rather than fast, as long as a fixture lasts; nothing without JAX."""
    try:
        import jax
    except ImportError:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


def unwritten(shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory that generated source is given, and says to fill: it holds no numbers."""
    return np.full(shape, np.nan, dtype)


def checked_lower(*given: Any, **named: Any) -> Lowered:
    """`lower`, whose programs are checked."""
    made = lower(*given, **named)
    check(made.program)
    return made
