"""Does the printed NumPy of an array program compute what the interpreter computes, and does it read well?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from array_program.cases import Case
from array_program.test_blocks import assert_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.lowering.lower import lower
from forwardgrad.array_program.numpy_source import source
from forwardgrad.ops import Array
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems


class Printed:
    """Runs the printed functions of a program in place of its evaluator; arrays to be filled hold no numbers."""

    def __init__(self, case: Case) -> None:
        self.program = case.program
        constants = {value.name: array for value, array in case.program.constants.items()}
        self.names: dict[str, Any] = {**vars(numpy_helpers), **constants, **case.evaluator.calls, "np": np}
        self.names |= {"dtype": np.float64, "empty": lambda shape, dtype: np.full(shape, np.nan, dtype)}
        exec(source(case.program), self.names)

    def run(self, name: str, arrays: Mapping[str, Array], symbols: Mapping[str, int]) -> dict[str, Array]:
        """The results of a function by name, given arrays by name."""
        function = self.names[name]
        taken = function.__code__.co_varnames[: function.__code__.co_argcount]
        before = {word: arrays[word].copy() for word in taken if word not in symbols}
        found = function(*(symbols[word] if word in symbols else arrays[word] for word in taken))
        for word, array in before.items():
            np.testing.assert_array_equal(arrays[word], array, f"{name} changes {word}")
        results = self.program.function(name).body.results
        found = (found,) if len(results) == 1 else found
        return {value.name: array for value, array in zip(results, found, strict=True)}


def assert_printed(case: Case) -> float:
    """Assert that printed functions give the interpreter's gradients and states, and change nothing they are given."""
    printed = Printed(case)
    return assert_blocks(case, run=printed.run)


@given(data=st.data(), problem=problems())
@settings(max_examples=30, deadline=None)
def test_printed_source_on_random_graphs(data: st.DataObject, problem: Problem) -> None:
    """If this fails, some shape of program is printed wrongly."""
    assert_printed(Case(problem, data.draw(path_rules(problem.edges))))


def test_printed_source_reads_as_it_should(golden: Callable[[str, str], None]) -> None:
    """If this fails, look at the text: it is what users will read to see what a rule does."""
    program = lower(fg.compile(fg.load("leaky_stack"), rule="eprop-deep").plan, np.float64).program
    golden(source(program), "array_program_source.py.txt")
