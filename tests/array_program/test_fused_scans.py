"""Do programs compute the same if scans take in what is beside them, and what is cheap is computed where it is read?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

import networkx as nx
import numpy as np
import pytest
from array_program.cases import close, named_case
from array_program.evaluator import Evaluator

import forwardgrad as fg
from forwardgrad.array_program import fused_scans
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.fused_scans import fused
from forwardgrad.array_program.in_c.splits import split_axes
from forwardgrad.array_program.instructions import Elementwise, Read
from forwardgrad.array_program.recomputed import recomputed
from forwardgrad.array_program.regions import ArrayProgram, Scan
from forwardgrad.backends.lowered import lowered_once
from forwardgrad.ops import Array

FUNCTIONS = ("forward", "slopes", "advance", "credit", "gradients")
NAMES = ("lstm", "gru", "alif", "leaky_stack", "conv_lif", "dilated", "delays", "gates", "inside")
RULES = ("rtrl", "eprop", "snap(1)", "uoro", "hops(2) & near")


def passed(program: ArrayProgram) -> ArrayProgram:
    """A program as the backend `c` prints it."""
    return check(fused(recomputed(program, "slopes")))


def run(
    program: ArrayProgram, calls: Mapping[str, Callable[..., Array]], symbols: Mapping[str, int]
) -> dict[str, Array]:
    """All that the functions of a program leave. What comes from outside has numbers that follow from its name."""
    evaluator, arrays = Evaluator(program, calls), dict[str, Array]()
    for name in FUNCTIONS:
        for value in program.function(name).inputs:
            draw = np.random.default_rng(crc32(value.name.encode()))
            arrays.setdefault(value.name, 0.3 * draw.normal(size=[dim.at(symbols) for dim in value.dims]))
        arrays |= evaluator.run(name, arrays, symbols)
    return arrays


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NAMES)
def test_all_results_are_the_same(name: str, rule: str) -> None:
    """If this fails, a scan takes in what reads another step, or what something else reads, too."""
    case = named_case(name, rule)
    found = passed(case.program)
    left = {value.name for each in FUNCTIONS for value in found.function(each).body.results}
    assert {value.name for value in case.program.function("gradients").body.results} <= left
    for steps, fresh in ((1, 0), (2, 1), (5, 0)):
        symbols = {"steps": steps, "batch": 2, "seeds": 1, "fresh": fresh}
        wanted, other = (run(each, case.evaluator.calls, symbols) for each in (case.program, found))
        for word in left:
            close(other[word], wanted[word], f"{word} of {steps} steps")


def lowered(graph: nx.MultiDiGraph[str], rule: str) -> ArrayProgram:
    program = fg.compile(graph, loss=None if graph.graph.get("loss") else {"h": "mse"}, rule=rule)
    return lowered_once(program.plan, program.dtype).program


def beside(program: ArrayProgram, name: str) -> list[str]:
    """What a function with one scan computes for all steps beside it, entry by entry."""
    statements = program.function(name).body.statements
    assert len([each for each in statements if isinstance(each.instruction, Scan)]) == 1
    length = (affine("steps"),)
    return [
        each.results[0].name
        for each in statements
        if isinstance(each.instruction, Elementwise) and each.results[0].dims[:1] == length
    ]


def test_nothing_of_an_lstm_is_computed_beside_its_scans() -> None:
    """If this fails, biases are added, or adjoints of gates are made, in a pass over memory of their own."""
    program = named_case("lstm", "eprop").program
    found = passed(program)
    layers = [each.name for each in program.functions if each.name.startswith("forward_") and "_y" not in each.name]
    for name in (*layers, "credit"):
        assert beside(program, name)
        assert not beside(found, name)
    assert layers


def test_what_only_its_step_reads_is_no_result_of_a_scan() -> None:
    """If this fails, adjoints inside an LSTM's cell are written for all steps, and never read."""
    program = named_case("lstm", "eprop").program
    before, after = (
        {value.name for each in version.function("credit").body.statements for value in each.results}
        for version in (program, passed(program))
    )
    assert before - after >= {name for name in before if name.endswith("kept_gate") or "tanh_c_in" in name}
    assert any(name.endswith("kept_gate") for name in before)


def test_a_scan_that_took_something_in_is_still_shared() -> None:
    """If this fails, one thread computes the adjoints of an LSTM's gates, which do not all depend on each other."""
    found = passed(named_case("lstm", "eprop").program)
    (statement,) = (each for each in found.function("credit").body.statements if isinstance(each.instruction, Scan))
    assert isinstance(statement.instruction, Scan)
    splits = list(split_axes(statement.instruction, statement.results))
    assert [split[statement.instruction.body.results[0]] for split in splits] == [0, 1]
    assert all(value in split for split in splits for value in statement.results)


def test_slopes_that_are_cheap_are_not_kept() -> None:
    """If this fails, derivatives are written to memory and read again; one with `exp` is made once, as before."""
    program = named_case("lstm", "eprop").program
    found = recomputed(program, "slopes")
    assert program.function("slopes").body.results
    assert not found.function("slopes").body.results
    slopes = {value for value in program.function("slopes").body.results}
    assert slopes.isdisjoint(value for each in found.functions for value in each.inputs)
    costly = lowered(silu(), "rtrl")
    assert recomputed(costly, "slopes").function("slopes").body.results == costly.function("slopes").body.results


def silu() -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("h", op="silu", size=3)
    graph.add_edge("x", "h", weight="dense")
    graph.add_edge("h", "h", weight="dense", delay=1)
    return graph


def test_a_wrong_step_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the tests above compare nothing."""
    right: Any = fused_scans._Fusion._in_step  # pyright: ignore[reportPrivateUsage]

    def wrong(*given: Any) -> Any:
        found = right(*given)
        reads = [each for each in found if isinstance(each.instruction, Read)]
        late = [replace(each, instruction=replace(each.instruction, at=each.instruction.at - 1)) for each in reads]
        return [*late, *found[len(reads) :]]

    monkeypatch.setattr(fused_scans._Fusion, "_in_step", wrong)  # pyright: ignore[reportPrivateUsage]
    case = named_case("lstm", "eprop")
    symbols = {"steps": 3, "batch": 2, "seeds": 1, "fresh": 0}
    faulty = fused(recomputed(case.program, "slopes"))
    wanted, other = (run(each, {}, symbols) for each in (case.program, faulty))
    assert any(not np.allclose(other[word], wanted[word]) for word in other if word.startswith("grad_"))
