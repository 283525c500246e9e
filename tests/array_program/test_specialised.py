"""Are programs for one step and one sample well formed, and without symbols?"""

from __future__ import annotations

import pytest

import forwardgrad as fg
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.specialised import specialised
from forwardgrad.backends.lowered import lowered_once

ROOTS = ("forward", "slopes", "advance", "credit", "gradients")


@pytest.mark.parametrize("rule", ["eprop", "rtrl", "snap(1)", "immediate", "ostl"])
@pytest.mark.parametrize("graph", ["leaky_stack", "alif", "conv_lif"])
def test_no_symbol_is_left(graph: str, rule: str) -> None:
    """A device has no block: what still asked for its length could not be compiled."""
    program = fg.compile(fg.load(graph), loss={"y": "mse"}, rule=rule)
    whole = lowered_once(program.plan, program.dtype).program
    found = check(specialised(whole, ROOTS, {"steps": 1, "batch": 1, "seeds": 1, "fresh": 0}))
    text = repr(found.functions)
    assert {function.name for function in found.functions} >= set(ROOTS)
    assert not [symbol for symbol in SYMBOLS if f"('{symbol}', " in text]
