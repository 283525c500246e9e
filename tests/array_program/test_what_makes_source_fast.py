"""Does printed source do what makes it fast: one product for gates, loops for cycles alone, small traces?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import declare

import forwardgrad as fg
from forwardgrad import cells
from tests.array_program.printed import given


def lines(program: fg.Program, function: str) -> list[str]:
    """The lines of one generated function."""
    text = program.source().split(f"def {function}(")[1].split("\ndef ")[0]
    return [line.strip() for line in text.splitlines()]


def test_gates_are_one_product() -> None:
    """If this fails, the gates of an LSTM are multiplied one by one."""
    program = fg.compile(fg.load("lstm"), rule="rtrl")
    assert sum("matmul(" in line for line in lines(program, "forward_l1")) == 1
    assert sum("times(" in line for line in lines(program, "forward_l1")) == 1


def test_only_cycles_go_step_by_step() -> None:
    """If this fails, what could be done for a whole block at once is done a step at a time."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "a": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 2}},
        ("x", "a", {"weight": "dense", "delay": 2}),
        ("a", "y", {"weight": "dense", "delay": 1}),
    )
    assert "for t in" not in fg.compile(graph, {"y": "mse"}, "rtrl").source()
    program = fg.compile(fg.load("lstm"), rule="eprop")
    at = lines(program, "credit").index("for t in reversed(range(steps)):")
    assert not any("l1_o" in line or "slope" in line for line in lines(program, "credit")[at : at + 8])


@pytest.mark.parametrize(("name", "rule"), [("lstm", "eprop"), ("gru", "eprop"), ("lif", "eprop"), ("alif", "eprop")])
def test_no_seed_a_unit_where_one_serves(name: str, rule: str) -> None:
    """If this fails, a diagonal Jacobian is computed as a matrix."""
    text = fg.compile(fg.load(name), rule=rule).source()
    assert "np.eye" not in text
    assert "size = " not in text


def test_a_presynaptic_trace_is_never_a_matrix() -> None:
    """If this fails, units with one leak pay for a number a synapse."""
    graph = declare({"x": {"op": "input", "size": 50}})
    cells.lif(graph, "l", input="x", size=40)
    graph.add_node("y", op="linear", size=2)
    graph.add_edge("l.z", "y", weight="dense")
    program = fg.compile(graph, {"y": "mse"}, "eprop")
    assert program.rules["x->l.v"].shapes["l.v (state,own)"] == (50,)
    largest = 0
    original = np.matmul

    def matmul(*arguments: Any, **options: Any) -> Any:
        nonlocal largest
        made = original(*arguments, **options)
        largest = max(largest, made.size)
        return made

    engine: Any = program._engine
    params, x, _ = given(program, steps=6)
    tape = engine.forward(params, program.start(2), x, (6, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "matmul", matmul)
        engine.advance(tape, program.start(2), fresh=False)
    assert 0 < largest <= 2 * 50
