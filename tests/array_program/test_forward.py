"""Does the forward function of an array program compute what the interpreter computes?"""

from __future__ import annotations

import pytest
from array_program.cases import BLOCKS, NAMES, RULES, Case, close, named_case
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems


def assert_forward(case: Case) -> None:
    """Assert that values and ports of all nodes are the interpreter's, at all block lengths."""
    network = case.plan.network
    for length in BLOCKS:
        for block in case.blocks(length):
            found, tape = block.run("forward"), block.tape
            for name, series in case.context.nodes.items():
                for delay in range(network.history(name) + 1):
                    first = series.first.constant - delay
                    close(found[series.value.name][first : first + tape.steps], tape.values(name, delay), name)
            for (name, port), series in case.context.ports.items():
                first, wanted = series.first.constant, tape._ports[name][network.nodes[name].ports.index(port)]
                close(found[series.value.name][first : first + tape.steps], wanted, f"{name} {port}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES[:4])
def test_forward_function_computes_what_the_interpreter_does(name: str, rule: str) -> None:
    """If this fails, all that is derived from the values of a block is wrong."""
    assert_forward(named_case(name, rule))


@given(data=st.data(), problem=problems())
@settings(max_examples=40, deadline=None)
def test_forward_function_on_random_graphs(data: st.DataObject, problem: Problem) -> None:
    """If this fails, some shape of graph is lowered to another function."""
    assert_forward(Case(problem, data.draw(path_rules(problem.edges))))
