"""Does an array program read as documentation?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.array_program.lowering.lower import lower
from forwardgrad.array_program.text_form import text


@pytest.mark.parametrize(("graph", "rule"), [("lstm", "eprop"), ("leaky_stack", "eprop-deep")])
def test_the_text_reads_as_it_should(graph: str, rule: str, golden: Callable[[str, str], None]) -> None:
    """If this fails, look at the text: it is what every backend will be printed from."""
    program = lower(fg.compile(fg.load(graph), rule=rule).plan, np.float32).program
    golden(text(program), f"array_program_{graph}.txt")


def test_the_text_is_the_same_every_time() -> None:
    """If this fails, a golden text changes without a reason."""
    texts = {text(lower(fg.compile(fg.load("gru"), rule="rtrl").plan, np.float64).program) for _ in range(2)}
    assert len(texts) == 1
