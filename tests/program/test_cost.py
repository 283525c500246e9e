"""Is a price what a program takes, and is what would not fit refused before anything is allocated?"""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from nets import declare

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.backends.peaks import Peaks
from forwardgrad.program import budget
from forwardgrad.program.cost import BLOCK_BUDGET, choose_block
from forwardgrad.testing import checking


def vanilla(size: int, delay: int = 1) -> Any:
    """A tanh layer of this size with a dense recurrent edge, and a readout."""
    nodes = {"x": {"op": "input", "size": 16}, "h": {"op": "tanh", "size": size, "bias": True}}
    edges = (("x", "h", {"weight": "dense"}), ("h", "h", {"weight": "dense", "delay": delay}))
    return declare({**nodes, "y": {"op": "linear", "size": 8}}, *edges, ("h", "y", {"weight": "dense"}))


def lstm(size: int) -> Any:
    graph = declare({"x": {"op": "input", "size": 16}})
    cells.lstm(graph, "l", input="x", size=size)
    cells.readout(graph, "y", input="l.h", size=8)
    return graph


def gru(size: int) -> Any:
    graph = declare({"x": {"op": "input", "size": 16}})
    cells.gru(graph, "l", input="x", size=size)
    cells.readout(graph, "y", input="l.h", size=8)
    return graph


def lif(size: int) -> Any:
    graph = declare({"x": {"op": "input", "size": 16}})
    cells.lif(graph, "l", input="x", size=size)
    cells.readout(graph, "y", input="l.z", size=8)
    return graph


def stack(size: int) -> Any:
    """Two layers of leaky units."""
    graph = declare({"x": {"op": "input", "size": 16}})
    cells.leaky_tanh(graph, "a", input="x", size=size)
    cells.leaky_tanh(graph, "b", input="a.h", size=size)
    cells.readout(graph, "y", input="b.h", size=8)
    return graph


def mixing(size: int, op: str) -> Any:
    """A layer of an op that is no formula, with a sparse recurrent edge."""
    nodes = {"x": {"op": "input", "size": 16}, "h": {"op": op, "size": size}, "y": {"op": "linear", "size": 8}}
    edges = (("x", "h", {"weight": "dense"}), ("h", "h", {"weight": "sparse", "density": 0.6, "delay": 1}))
    return declare(nodes, *edges, ("h", "y", {"weight": "dense"}))


def taken(program: fg.Program, batch: int, block: int) -> int:
    """The most bytes that a block takes beside the state it starts from."""
    random = np.random.default_rng(0)
    params = checking.random_params(program, random, 0)
    inputs, targets = checking.random_data(program, random, block, batch)
    state, _ = program.step(params, inputs, targets, state=program.start(batch))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    program.step(params, inputs, targets, state=state)
    found = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize(
    ("graph", "rule"),
    [
        (vanilla(64), "rtrl"),
        (vanilla(160), "snap(1)"),
        (vanilla(128), "uoro"),
        (vanilla(64, delay=3), "rtrl"),
        (lstm(128), "eprop"),
        (lstm(64), "uoro"),
        (gru(48), "rtrl"),
        (lif(256), "eprop"),
        (stack(40), "eprop-deep"),
        (stack(40), "snap(2)"),
        (mixing(64, "tanh"), "rtrl"),
        (mixing(64, "softmax"), "rtrl"),
        (vanilla(64), {"h.bias": "uoro", "*": "kf-rtrl"}),
    ],
)
def test_working_memory_is_what_is_measured(graph: Any, rule: Any, block: int) -> None:
    """If this fails, a budget lets through what does not fit, or refuses what does."""
    program = fg.compile(graph, {"y": "mse"}, rule)
    assert program.cost(8, block).working == pytest.approx(taken(program, 8, block), rel=0.1)


@pytest.mark.parametrize(
    ("graph", "rule", "block"),
    [(lstm(64), "eprop", 150), (vanilla(32), "rtrl", 150), (vanilla(16, delay=40), "rtrl", 60)],
)
def test_what_long_blocks_take_is_found_from_short_ones(graph: Any, rule: str, block: int) -> None:
    """If this fails, a budget is right for short blocks alone."""
    program = fg.compile(graph, {"y": "mse"}, rule)
    assert program.cost(8, block).working == pytest.approx(taken(program, 8, block), rel=0.1)


@pytest.mark.parametrize("rule", ["snap(2)", "uoro", "window(2)", "eprop-adaptive", "eprop; feedback=signal"])
@pytest.mark.parametrize("name", ["alif", "leaky_stack"])
def test_every_program_has_a_price(name: str, rule: str) -> None:
    """If this fails, a program that runs does not start, as its price is not found."""
    program = fg.compile(fg.load(name), rule=rule, dead="ignore")
    prices = [program.cost(2, block).working for block in (1, 3, 20, 500)]
    assert 0 < prices[0] < prices[-1]


def test_numbers_of_single_precision_cost_half() -> None:
    """If this fails, prices are those of another type."""
    one, two = (fg.compile(vanilla(64), {"y": "mse"}, "rtrl", dtype=d) for d in ("float32", "float64"))
    assert 2 * one.cost(8, 8).working == two.cost(8, 8).working
    assert one.cost(8, 8).working == pytest.approx(taken(one, 8, 8), rel=0.1)


def test_prices_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, every gradient pays for the choice of its block."""
    program = fg.compile(vanilla(8), {"y": "mse"}, "rtrl")
    found = choose_block(program.plan, 2, program.dtype), program.cost(2, 3)
    monkeypatch.setattr(Peaks, "_found", lambda *_: pytest.fail("a price is found again"))
    assert (choose_block(program.plan, 2, program.dtype), program.cost(2, 3)) == found


def test_blocks_are_as_long_as_memory_allows() -> None:
    """If this fails, blocks of large programs take more than they should, or those of small ones are slow."""
    program = fg.compile(lstm(64), {"y": "mse"}, "rtrl")
    lengths = [choose_block(program.plan, batch, program.dtype) for batch in (1, 4, 64, 10**6)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1] == 1
    grown = program.cost(4, lengths[1]).working - program.cost(4, 1).working
    assert grown <= BLOCK_BUDGET


def test_what_is_too_large_is_refused_at_once() -> None:
    """If this fails, a machine swaps to death before the user learns what is dear and what would fit."""
    program = fg.compile(vanilla(3000), {"y": "mse"}, "rtrl")
    tracemalloc.start()
    with pytest.raises(fg.MemoryBudgetError) as error:
        program.start(4, max_memory="2GiB")
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()
    text = str(error.value)
    assert "h->h 804.7 GiB under rtrl" in text
    assert "2.0 GiB may be taken" in text
    assert "Rules that fit: " in text
    assert text.index("immediate ") < len(text)


def test_a_budget_that_holds_changes_nothing() -> None:
    """If this fails, a budget refuses what fits, or changes the state."""
    program = fg.compile(vanilla(8), {"y": "mse"}, "rtrl")
    limit = program.cost(2, 1).total
    assert program.start(2, max_memory=limit).keys() == program.start(2).keys()
    with pytest.raises(fg.MemoryBudgetError):
        program.start(2, max_memory=limit - 1)


@pytest.mark.parametrize("given", [0, -1, True, "", "many", "2 XB", "0GiB", 1.5])
def test_a_budget_that_is_no_size_is_refused(given: Any) -> None:
    """If this fails, a misspelt size is no limit at all."""
    with pytest.raises(fg.DataError, match="such as '2GiB'"):
        budget.size_of(given)


def test_without_a_word_on_free_memory_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, programs do not start on machines that do not say what is free."""
    monkeypatch.setattr(budget, "headroom", lambda: None)
    assert budget.usual() is None
    assert fg.compile(vanilla(3), {"y": "mse"}, "rtrl").start(1)
