"""Single precision gives the gradient at every scale that it can represent; what has decayed becomes zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import ENGINES
from nets import declare, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.array_program import numpy_helpers
from forwardgrad.ops import Array

SCALES = [1.0, 1e-10, 1e-20, 1e-24, 1e-26, 1e-28, 1e-30]
ENOUGH = 1e-4


def printed(program: fg.Program) -> Any:
    """The program's printed source, run as a module of its own."""
    module: dict[str, Any] = {"__name__": "printed"}
    exec(compile(program.source(), "printed", "exec"), module)
    return module


def gradients(program: fg.Program, *data: Any, block: int, mask: Array) -> list[dict[str, Array]]:
    """The program's gradient, and that of its printed source."""
    params, inputs, targets = data
    found = [program.gradient(params, inputs, targets, block=block, mask=mask).grads]
    if program.backend == "numpy":
        found.append(printed(program)["gradient"](params, inputs, targets, mask, block=block)[1])
    return found


def off(found: dict[str, Array], wanted: dict[str, Array]) -> float:
    """The largest relative error of a parameter's gradient, in float64."""
    each = [np.linalg.norm(found[name] - g) / np.linalg.norm(g) for name, g in wanted.items()]
    assert min(np.abs(g).max() for g in wanted.values()) > 0
    return float(max(each))


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rule", ["rtrl", "eprop"])
def test_a_loss_of_any_weight_has_its_gradient(rule: str, scale: float, backend: str) -> None:
    """If this fails, a loss of small weight learns nothing in single precision, or something else."""
    random = np.random.default_rng(0)
    graph = vanilla()
    graph.add_edge("h", "h", key="leak", value=0.6, delay=1)
    data = {"x": random.normal(size=(40, 1, 2))}, {"y": random.normal(size=(40, 1, 2))}
    program = fg.compile(graph, {"y": "mse"}, rule=rule, dtype="float32", backend=backend)
    params, mask = program.init(seed=1), np.full(40, scale)
    wanted = oracle.reverse(graph, params, *data, {"y": "mse"}, rule=rule, mask=mask).grads
    for block in (1, 7, 40):
        for found in gradients(program, params, *data, block=block, mask=mask):
            assert off(found, wanted) < ENOUGH, block


def leaky(leak: float) -> Any:
    """Units with leaks of their own."""
    return declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "size": 3}, "y": {"op": "linear", "size": 1}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"value": [leak, -leak, leak**1.1], "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("leak", [0.5, 0.9, 0.99, 0.9999])
def test_a_trace_that_decays_is_right_for_as_long_as_it_can_be_told(leak: float, backend: str) -> None:
    """If this fails, a slow trace of small scale stalls or is lost, and Adam learns from it as if it were large."""
    steps = {0.5: 10, 0.9: 30, 0.99: 60, 0.9999: 300}[leak]
    program = fg.compile(leaky(leak), {"y": "mse"}, dtype="float32", backend=backend)
    params, mask = program.init(seed=0), np.zeros(steps)
    mask[-1] = 1
    targets = {"y": np.zeros((steps, 1, 1))}
    targets["y"][-1] = -1
    for scale in SCALES:
        inputs = {"x": np.zeros((steps, 1, 2))}
        inputs["x"][0] = scale, 1.0  # a small trace beside a large one
        wanted = oracle.reverse(leaky(leak), params, inputs, targets, {"y": "mse"}, mask=mask).grads["x->h"]
        assert np.abs(wanted).min() > 1e-34
        for block in (1, 20):
            for found in gradients(program, params, inputs, targets, block=block, mask=mask):
                assert (np.abs(found["x->h"] - wanted) < ENOUGH * np.abs(wanted)).all(), (scale, block)


@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize("leak", [0.5, 0.8])
def test_what_has_decayed_becomes_zero_and_the_rest_stays(leak: float, block: int) -> None:
    """If this fails, a trace ends in subnormal numbers, which no longer decay and cost many times as much."""
    steps = 480
    graph = leaky(leak)
    graph.add_edge("h", "h", key="mixed", weight="dense", delay=1)
    program = fg.compile(graph, {"y": "mse"}, rule="eprop", dtype="float32")
    params, inputs = program.init(seed=0), {"x": np.ones((steps, 1, 2))}
    params["h->h#mixed"] *= np.float32(0.1)
    inputs["x"][8:, :, 0] = 0
    state = program.start(1)
    for first in range(0, steps, block):
        now = slice(first, first + block)
        part = {"x": inputs["x"][now]}, {"y": np.zeros((block, 1, 1))}
        state, _ = program.step(params, *part, state=state)
    (trace,) = [array for key, array in state.items() if key.startswith('influence["x->h"')]
    assert (trace[..., 0] == 0).all()
    assert (np.abs(trace[..., 1]) > 0.4).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_normal_number_is_never_changed(dtype: str) -> None:
    """If this fails, flushing rounds, which no array of small scale survives."""
    tiny = float(np.finfo(dtype).tiny)
    kept = np.array([64 * tiny, -64 * tiny, 1e-30, -1.0, 1e30, 0.0, np.inf], dtype)
    found = kept.copy()
    numpy_helpers.flush(found)
    assert np.array_equal(found, kept)
    gone = np.array([63 * tiny, -tiny / 8, 0.0], dtype)
    numpy_helpers.flush(gone)
    assert not gone.any()
    lost = np.array([np.nan], dtype)
    numpy_helpers.flush(lost)
    assert np.isnan(lost).all()
