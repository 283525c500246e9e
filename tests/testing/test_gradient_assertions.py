"""Do the assertions on gradients fail on planted faults, name what is wrong, and refuse to compare nothing?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nets import declare, gru, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import CheckError, VacuousError, cells, testing
from forwardgrad.array_program import numpy_helpers
from forwardgrad.compiler import labels
from forwardgrad.ops import Op, Port, registry
from forwardgrad.rules.paths import EpropDeep, PathRule
from forwardgrad.testing import Vacuity

Patch = pytest.MonkeyPatch
LOSS = {"y": "mse"}
GRADIENTS: dict[str, Callable[..., None]] = {
    "exact": testing.assert_exact,
    "paths": testing.assert_rule_matches_paths,
    "blocks": testing.assert_block_invariant,
    "refactoring": testing.assert_refactoring_invariant,
}


def compiled(graph: Any, rule: Any, **options: Any) -> fg.Program:
    return fg.compile(graph, LOSS, rule, **options)


def contracted_with_nothing(patch: Patch) -> None:
    """No boundary adjoint is multiplied by stored influence."""
    for name in ("contracted", "contracted_rows"):
        original = getattr(numpy_helpers, name)
        patch.setattr(numpy_helpers, name, lambda a, s, original=original: 0 * original(a, s))


def message(check: Callable[[], Any], error: type[Exception] = CheckError) -> str:
    with pytest.raises(error) as caught:
        check()
    return str(caught.value)


@pytest.mark.parametrize("graph", [stack(), gru()], ids=["stack", "gru"])
def test_sound_programs_pass(graph: Any) -> None:
    """If it failed, users would be told of faults that are none."""
    testing.assert_exact(compiled(graph, "rtrl"))
    for rule in ("eprop", "eprop-deep", "rtrl", {"*->y": "rtrl", "*": "eprop"}):
        program = compiled(graph, rule)
        testing.assert_rule_matches_paths(program)
        testing.assert_block_invariant(program)
        testing.assert_refactoring_invariant(program)


def test_single_precision_passes_within_its_digits() -> None:
    """If it failed, float32 programs could not be checked at all, or would pass whatever they compute."""
    program = compiled(stack(), "eprop", dtype="float32")
    testing.assert_rule_matches_paths(program)
    assert "drops credit at: h1->a1" in message(lambda: testing.assert_exact(program))


def test_exact_fails_on_a_rule_that_drops_credit_and_says_where() -> None:
    """If it failed, an approximation could pass for the exact gradient."""
    text = message(lambda: testing.assert_exact(compiled(stack(), "eprop-deep")))
    assert text.startswith("the gradient is not exact at block 1: parameter ")
    assert "(allowed 1e-10)" in text
    assert "Its rule drops credit at: h1->a1, h2->a2." in text
    assert "Replay: forwardgrad check problem.toml --rule eprop-deep" in text


def test_exact_fails_on_a_derivative_that_is_not_the_slope(monkeypatch: Patch) -> None:
    """If it failed, a wrong derivative would pass: engine and reverse oracle both take the declared one."""
    wrong = Op("tanh", np.tanh, (Port("in", lambda x, y: 1 - 0.9 * y * y),))
    monkeypatch.setitem(registry._table, "tanh", wrong)
    text = message(lambda: testing.assert_exact(compiled(stack(), "rtrl")))
    assert text.startswith("the gradient is not the slope of the loss: along a random direction it is off by ")


def test_exact_counts_credit_that_the_graph_cuts() -> None:
    """If it failed, an edge with credit = cut would make a gradient exact by definition."""
    graph = vanilla(credit="cut")
    testing.assert_rule_matches_paths(compiled(graph, "rtrl"), allow=["same rules"])
    assert "Its rule drops credit at: h->h." in message(lambda: testing.assert_exact(compiled(graph, "rtrl")))


def test_paths_fails_on_a_compiler_that_mislabels_edges(monkeypatch: Patch) -> None:
    """If it failed, a rule could keep credit that it should cut; the edge at fault must be named."""
    monkeypatch.setattr(labels, "edge_mixes", lambda network, edge: edge.name == "h->y")
    text = message(lambda: testing.assert_rule_matches_paths(compiled(vanilla(), "eprop-deep")))
    assert text.startswith("the gradient is not that of the kept paths at block 1: parameter ")
    assert "Cutting credit at any of these edges cures" in text
    assert "h->h" in text.splitlines()[1]
    assert "x->h" not in text.splitlines()[1].partition(": ")[2]


def test_paths_fails_on_nan(monkeypatch: Patch) -> None:
    """If it failed, NaN would pass, since it is larger than nothing."""
    true = fg.Program.gradient

    def broken(self: fg.Program, *given: Any, **options: Any) -> Any:
        found = true(self, *given, **options)
        return replace(found, grads=found.grads | {"h->y": np.full_like(found.grads["h->y"], np.nan)})

    monkeypatch.setattr(fg.Program, "gradient", broken)
    assert "parameter 'h->y' at [0, 0]: nan" in message(
        lambda: testing.assert_rule_matches_paths(compiled(vanilla(), "rtrl"))
    )


def test_blocks_fails_on_an_engine_that_reads_no_trace(monkeypatch: Patch) -> None:
    """If it failed, traces could be ignored; and the message would not say at which block and through which edge."""
    contracted_with_nothing(monkeypatch)
    text = message(lambda: testing.assert_block_invariant(compiled(stack(), "eprop")))
    assert text.startswith("the gradient depends on blocks, at block 1: parameter ")
    assert "Cutting credit at any of these edges cures" in text


@pytest.mark.parametrize(("rule", "how"), [("tbptt", "drops"), ("snap(1)", "compresses (snap(1))")])
def test_blocks_fails_on_rules_that_depend_on_blocks_and_says_so(rule: str, how: str) -> None:
    """If it failed, truncation would pass for carrying."""
    text = message(lambda: testing.assert_block_invariant(compiled(vanilla(), rule)))
    assert f"That is what it should do: rule '{rule}' {how} influence at the ends of blocks." in text


class NoSelfLoops(PathRule):
    """A rule that looks at how edges are spelled."""

    def start(self, node: Any) -> Any:
        return "anywhere"

    def step(self, mode: Any, edge: Any, target: Any) -> Any:
        return None if edge.source == edge.target else mode


def test_refactoring_fails_on_a_rule_that_looks_at_the_spelling() -> None:
    """If it failed, one network could have two gradients under one rule; the edge must be named."""
    graph = stack()
    text = message(lambda: testing.assert_refactoring_invariant(compiled(graph, NoSelfLoops())))
    assert text.startswith("an identity relay behind the delay of edge 'h1->h1' changes the gradient at block 1: ")


def test_refactoring_fails_on_a_rule_that_takes_long_delays_for_another_thing(monkeypatch: Patch) -> None:
    """If it failed, splitting a delay could change what a rule keeps."""
    graph = vanilla(weight="diagonal", delay=2)
    testing.assert_refactoring_invariant(compiled(graph, "eprop-deep"), allow=["same rules"])
    true = EpropDeep.step

    def wrong(self: Any, mode: Any, edge: Any, target: Any) -> Any:
        return None if edge.delay == 1 else true(self, mode, edge, target)

    monkeypatch.setattr(EpropDeep, "step", wrong)
    text = message(lambda: testing.assert_refactoring_invariant(compiled(graph, "eprop-deep")))
    assert text.startswith("splitting the delay of edge 'h->h' changes the gradient at block 1: ")


def test_refactoring_leaves_what_rules_mean_by_name() -> None:
    """If it failed, a cut would be called a fault since the edge that it names has another name then."""
    graph = stack()
    testing.assert_refactoring_invariant(compiled(graph, "rtrl & cut(['h1->a1'])"))
    for rule in ("dsf(0.5)", "uoro"):
        with pytest.raises(fg.RuleError, match="belong to nodes and edges as they are spelled"):
            testing.assert_refactoring_invariant(compiled(graph, rule))


@pytest.mark.parametrize("rule", ["snap(1)", "snap(2)", "kf-rtrl"])
def test_refactoring_holds_compressions_to_the_network_as_well(rule: str) -> None:
    """If it failed, what a lossy layout keeps could depend on how a delay is spelled."""
    graph = stack()
    graph.edges["h1", "a1", 0]["delay"] = 2
    testing.assert_refactoring_invariant(compiled(graph, rule))


# Nothing to compare.


def dead() -> Any:
    graph = stack()
    graph.nodes["a1"].update(op="relu", bias=-1e9, bias_trainable=False)
    return graph


def quiet() -> Any:
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lif(graph, "l", input="x", size=3, threshold=1e3, width=1e4)
    cells.readout(graph, "y", input="l.z", size=2)
    return graph


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_zero_gradient_is_refused(name: str) -> None:
    """If it failed, a program that computes nothing would pass where all references are zero."""
    program = compiled(dead(), "rtrl")
    with pytest.raises(VacuousError, match=r"gradient of 'x->a1', 'h1->a1', .* is zero, so that") as caught:
        GRADIENTS[name](program)
    assert caught.value.kind is Vacuity.ZERO_GRADIENT
    GRADIENTS[name](program, allow=[Vacuity.ZERO_GRADIENT])


@pytest.mark.parametrize("name", GRADIENTS)
def test_silent_spikes_are_refused(name: str) -> None:
    """If it failed, a spiking net whose resets and recurrence carry nothing would count as checked."""
    with pytest.raises(VacuousError, match=r"spiking nodes never spike in 12 steps: 'l\.z'") as caught:
        GRADIENTS[name](compiled(quiet(), "rtrl"), allow=["zero gradient"])
    assert caught.value.kind is Vacuity.SILENT_SPIKES


@pytest.mark.parametrize("name", ["exact", "paths", "blocks"])
def test_one_block_for_the_whole_sequence_is_refused(name: str, monkeypatch: Patch) -> None:
    """If it failed, an engine that reads no trace would pass: with one block, every rule is reverse mode."""
    contracted_with_nothing(monkeypatch)
    program = compiled(stack(), "rtrl")
    with pytest.raises(VacuousError, match="one block of 12 steps is the whole sequence") as caught:
        GRADIENTS[name](program, blocks=[12, 20])
    assert caught.value.kind is Vacuity.ONE_BLOCK
    if name == "paths":  # and that is what would have been passed
        GRADIENTS[name](program, blocks=[12], allow=["one block"])


def test_a_rule_that_drops_nothing_here_is_refused() -> None:
    """If it failed, a rule could pass on graphs on which it is RTRL under another name."""
    graph = vanilla(weight="diagonal")
    with pytest.raises(VacuousError, match="'eprop' drops nothing on this graph") as caught:
        testing.assert_rule_matches_paths(compiled(graph, "eprop"))
    assert caught.value.kind is Vacuity.SAME_RULES
    testing.assert_rule_matches_paths(compiled(graph, "rtrl"))


@pytest.mark.parametrize("name", ["exact", "blocks"])
def test_nothing_stored_is_refused(name: str) -> None:
    """If it failed, a feed-forward graph would show that traces are right."""
    graph = vanilla()
    graph.remove_edge("h", "h")
    with pytest.raises(VacuousError, match="no influence is stored") as caught:
        GRADIENTS[name](compiled(graph, "rtrl"))
    assert caught.value.kind is Vacuity.NOTHING_STORED
    with pytest.raises(VacuousError, match="it has no delayed edge"):
        testing.assert_refactoring_invariant(compiled(graph, "rtrl"))


def test_exact_by_accident_is_refused() -> None:
    """If it failed, an approximation would pass as exact on data that does not use what it drops."""
    graph = vanilla(value=np.zeros((3, 3)))
    graph.edges["h", "h", 0].pop("weight")
    with pytest.raises(VacuousError, match=r"this problem only: the program claims no more \(h->h\)") as caught:
        testing.assert_exact(compiled(graph, "immediate"), allow=["nothing stored"])
    assert caught.value.kind is Vacuity.UNPROVED


def test_an_unknown_kind_is_refused() -> None:
    """If it failed, a slip in `allow` would go unseen."""
    with pytest.raises(fg.DataError, match="Did you mean 'one block'"):
        testing.assert_exact(compiled(stack(), "rtrl"), allow=["oneblock"])


def test_a_problem_of_ones_own_is_taken() -> None:
    """If it failed, assertions could only be run on numbers that we draw."""
    graph = stack()
    given = problem(graph, "y", steps=5)
    testing.assert_rule_matches_paths(compiled(graph, "eprop"), given)
    found = testing.gradient_report(compiled(graph, "eprop"), given)
    assert found.blocks == (1, 2, 5)


def test_the_report_tells_what_is_far_and_what_is_vacuous(monkeypatch: Patch) -> None:
    """If it failed, a user could not see which parameter is wrong, by how much, and what was not compared."""
    sound = testing.gradient_report(compiled(stack(), "eprop-deep"))
    by_name = {row.parameter: row for row in sound.rows}
    assert by_name["h2->y"].claims
    assert by_name["h2->y"].exact < 1e-12
    assert by_name["x->a1"].exact > 1e-3
    assert by_name["x->a1"].dropped == ("h1->a1", "h2->a2")
    assert all(row.paths is not None and row.paths < 1e-12 and row.blocks < 1e-12 for row in sound.rows)
    assert sound.vacuous == {}
    assert "drops h1->a1, h2->a2" in str(sound)
    assert sound.report()["rows"][0]["parameter"] == "x->a1"
    assert testing.gradient_report(compiled(stack(), "snap(1)")).rows[0].paths is None
    assert set(testing.gradient_report(compiled(dead(), "rtrl")).vacuous) == {"zero gradient"}
    contracted_with_nothing(monkeypatch)
    assert max(row.blocks for row in testing.gradient_report(compiled(stack(), "eprop-deep")).rows) > 1e-3


def test_learning_signals_of_ones_own_are_drawn() -> None:
    """If it failed, rules that take signals could not be checked."""
    program = compiled(stack(), "eprop; feedback=signal")
    testing.assert_rule_matches_paths(program)
    with pytest.raises(CheckError, match="learning signals of the user's"):
        testing.assert_exact(program)
    with pytest.raises(fg.RuleError, match="the problem has none"):
        testing.assert_rule_matches_paths(program, problem(stack(), "y"))
