"""What must not change a gradient? How a network is spelled, stored, batched, saved, and in which precision it runs."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import ENGINES, TOLERANCE, assert_like_oracle, compiled, error
from hypothesis import assume, event, given, note, reject, settings
from hypothesis import strategies as st
from nets import problem, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.rules import table as rules
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem, refactored
from forwardgrad.testing.gradients import in_blocks
from forwardgrad.testing.refactoring import free_edges
from forwardgrad.testing.strategies import PATHS, partitions, path_rules, problems

NAMED = PATHS


def gradient(program: fg.Program, given_: Problem, block: int) -> Any:
    return program.gradient(given_.params, given_.inputs, given_.targets, block=block, mask=given_.mask)


# Another spelling of one network.


@st.composite
def spelled_anew(draw: st.DrawFn, given_: Problem) -> nx.MultiDiGraph[str]:
    """The same network with relays behind some of its delays, and some delays split."""
    early: dict[str, int] = {}
    for edge in given_.network.edges.values():
        if edge.delay and not edge.credit and draw(st.integers(0, 3)):
            early[edge.name] = draw(st.integers(1, edge.delay))
            event("split" if early[edge.name] < edge.delay else "relay")
    return refactored(given_.graph, early)


@given(data=st.data(), drawn=problems(most_steps=9))
@settings(max_examples=25, deadline=None)
def test_a_relay_or_a_split_delay_declares_the_same_network(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, what a rule keeps depends on how a delay is spelled."""
    other = replace(drawn, graph=data.draw(spelled_anew(drawn)))
    assume(len(other.graph) > len(drawn.graph))
    note(repr(other))
    products = ["eprop-deep & near", "near & synaptic", "eprop-deep & immediate"]
    for rule in (data.draw(st.sampled_from(NAMED)), data.draw(st.sampled_from(products))):
        found, wanted = (gradient(compiled(each, rule), each, 2) for each in (other, drawn))
        assert abs(found.loss - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss))
        assert error(found.grads, wanted.grads) <= TOLERANCE, rule


ARGUMENTS = {"hops": "(2)", "snap": "(2)", "window": "(2)", "dsf": "(0.5)"}
SPELLED = [name + ARGUMENTS.get(name, "") for name in rules.RULES if name != "uoro"]
SPELLED += ["snap(1)", "snap(3)", "near; layout=snap(1)", "snap(1); autapses=implicit", "hops(1)", "window(1)"]


@given(data=st.data(), drawn=problems(most_steps=7), rule=st.sampled_from(SPELLED), block=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_every_rule_and_layout_takes_both_spellings_for_one_network(
    data: st.DataObject, drawn: Problem, rule: str, block: int
) -> None:
    """If this fails, what a compression keeps, or what a row of the table means, depends on how a delay is spelled."""
    try:
        program = compiled(drawn, rule)
    except fg.RuleError:  # such as a constant on an edge between nodes of unequal size
        reject()
    edges = [name for name in free_edges(program) if data.draw(st.integers(0, 3))]
    assume(edges)
    early = {name: data.draw(st.integers(1, drawn.network.edges[name].delay)) for name in edges}
    event("split" if any(steps < drawn.network.edges[name].delay for name, steps in early.items()) else "relays")
    other = replace(drawn, graph=refactored(drawn.graph, early))
    note(repr(other))
    found, wanted = (
        gradient(compiled(each, rule), with_feedback(each, compiled(each, rule)), block) for each in (other, drawn)
    )
    assert error(found.grads, wanted.grads) <= TOLERANCE


def with_feedback(given_: Problem, program: fg.Program) -> Problem:
    """The problem with matrices of adaptive feedback, drawn from their names."""
    drawn = {
        name: np.random.default_rng(zlib.crc32(name.encode())).normal(size=p.shape)
        for name, p in program.plan.parameters.items()
        if name not in given_.params
    }
    return replace(given_, params=given_.params | drawn)


@given(data=st.data(), drawn=problems(most_steps=8))
@settings(max_examples=15, deadline=None)
def test_a_copy_of_an_output_declares_the_same_network(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, what a rule keeps of a layer depends on whether its loss is on it or on a copy of it."""
    node = data.draw(st.sampled_from(sorted(drawn.loss)))
    graph = drawn.graph.copy()
    graph.add_node("copy", op="linear", size=drawn.network.nodes[node].size)
    graph.add_edge(node, "copy")

    def moved(given_: Any) -> Any:
        named = isinstance(given_, dict) and node in given_
        return {"copy" if name == node else name: one for name, one in given_.items()} if named else given_

    other = replace(drawn, graph=graph, loss=moved(drawn.loss), targets=moved(drawn.targets), mask=moved(drawn.mask))
    backend = data.draw(st.sampled_from(list(ENGINES)))
    # Rules that ask whether a component holds an output see another network.
    for rule in (data.draw(st.sampled_from(["rtrl", "eprop-deep", "immediate", "hops(2)", "window(2)"])), "hops(1)"):
        found, wanted = (gradient(compiled(each, rule, backend=backend), each, 2) for each in (other, drawn))
        assert abs(found.loss - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss))
        assert error(found.grads, wanted.grads) <= TOLERANCE, rule


def test_a_delay_moved_behind_the_mixing_is_another_rule_on_the_same_network() -> None:
    """If this fails, the invariance above holds since rules see nothing at all."""
    plain = problem(vanilla(), "y")
    graph = vanilla()
    graph.remove_edge("h", "h")
    graph.add_node("mixed", op="linear", size=3)
    graph.add_edge("h", "mixed", weight="dense", param="h->h")
    graph.add_edge("mixed", "h", delay=1)
    moved = replace(plain, graph=graph)
    for rule, same in (("rtrl", True), ("eprop", True), ("eprop-deep", False)):
        found, wanted = (gradient(assert_like_oracle(each, rule), each, 2) for each in (moved, plain))
        assert (error(found.grads, wanted.grads) < TOLERANCE) is same
        assert abs(found.loss - wanted.loss) < 1e-12


# Another layout.


def widest(program: fg.Program) -> fg.Program:
    """The program with every Jacobian and every influence stored in full."""
    words = {target: dict.fromkeys(words, Structure.FULL) for target, words in program.plan.words.items()}
    plan = replace(program.plan, words=words, layouts=dict.fromkeys(program.plan.layouts, Structure.FULL))
    rules_ = {name: derived.rule for name, derived in program.rules.items()}
    return fg.Program(program.graph, plan, program.losses, rules_, program.dtype)


@given(data=st.data(), drawn=problems(most_steps=9))
@settings(max_examples=20, deadline=None)
def test_layouts_store_all_that_there_is(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, a narrow layout leaves out a part of an influence that is not zero."""
    program = compiled(drawn, data.draw(path_rules(drawn.edges)))
    full = widest(program)
    narrow = [word for word in program.plan.layouts.values() if word is not Structure.FULL]
    event(f"narrow: {'some' if narrow else 'none'}")
    assert all(word is Structure.FULL for d in full.rules.values() for word in d.layouts.values())
    for block in (1, 3):
        found, wanted = gradient(program, drawn, block), gradient(full, drawn, block)
        assert error(found.grads, wanted.grads) <= TOLERANCE


# Another precision.


@given(drawn=problems(smooth=True, most_steps=8), rule=st.sampled_from(NAMED))
@settings(max_examples=25, deadline=None)
def test_single_precision_gives_the_same_gradient_coarsely(drawn: Problem, rule: str) -> None:
    """If this fails, float32 falls back to float64 on the way, or loses more than its digits."""
    double, single = compiled(drawn, rule), compiled(drawn, rule, dtype="float32")
    found, wanted = gradient(single, drawn, 2), gradient(double, drawn, 2)
    assert error(found.grads, wanted.grads) < 1e-3
    assert all(array.dtype == np.float32 for array in found.grads.values())
    state, step = single.step(
        drawn.params, drawn.inputs, drawn.targets, state=single.start(drawn.batch), mask=drawn.mask
    )
    for arrays in (state, step.grads, step.outputs, single.init(), single.reset(state, np.ones(drawn.batch, bool))):
        assert all(array.dtype == np.float32 for array in arrays.values())
    assert all(array.dtype == np.float32 for array in single.run(drawn.params, drawn.inputs).values())


# Samples of a batch.


def sample(given_: Problem, index: int) -> Problem:
    """The problem with one sample of the batch."""

    def of(mask: Any) -> Any:
        return mask[:, [index]] if mask is not None and mask.ndim == 2 else mask

    mask = {name: of(m) for name, m in given_.mask.items()} if isinstance(given_.mask, dict) else of(given_.mask)
    one = slice(index, index + 1)
    inputs = {name: array[:, one] for name, array in given_.inputs.items()}
    return replace(
        given_, inputs=inputs, targets={name: array[:, one] for name, array in given_.targets.items()}, mask=mask
    )


@given(drawn=problems(max_batch=4, most_steps=8), rule=st.sampled_from(NAMED))
@settings(max_examples=25, deadline=None)
def test_a_batch_has_the_mean_of_its_samples_gradients(drawn: Problem, rule: str) -> None:
    """If this fails, samples of a batch disturb each other, or the mean is not over the batch."""
    assume(drawn.batch > 1)
    program = compiled(drawn, rule)
    whole = gradient(program, drawn, 2)
    parts = [gradient(program, sample(drawn, index), 2) for index in range(drawn.batch)]
    mean = {name: sum(part.grads[name] for part in parts) / drawn.batch for name in whole.grads}
    assert error(whole.grads, mean) <= TOLERANCE
    assert abs(whole.loss - sum(part.loss for part in parts) / drawn.batch) <= TOLERANCE * max(1.0, abs(whole.loss))


EPISODES = (*NAMED, "rtrl; layout=snap(1)", "rtrl; layout=snap(2)", "eprop-deep; layout=snap(2)")


@given(data=st.data(), drawn=problems(least_steps=5, most_steps=9, max_batch=4), rule=st.sampled_from(EPISODES))
@settings(max_examples=15, deadline=None)
def test_a_reset_sample_starts_afresh_and_the_others_go_on(data: st.DataObject, drawn: Problem, rule: str) -> None:
    """If this fails, an episode learns from the one before it, or resetting one sample touches another."""
    drawn = replace(drawn, mask=None)
    where = np.array(data.draw(st.lists(st.booleans(), min_size=drawn.batch, max_size=drawn.batch)))
    program = compiled(drawn, rule, backend=data.draw(st.sampled_from(list(ENGINES))))
    first, then = slice(0, 3), slice(3, None)

    def part(cut: slice) -> tuple[Any, Any]:
        return {n: x[cut] for n, x in drawn.inputs.items()}, {n: y[cut] for n, y in drawn.targets.items()}

    state, _ = program.step(drawn.params, *part(first), state=program.start(drawn.batch))
    kept = {key: array.copy() for key, array in state.items()}
    again = program.reset(state, where)
    fresh = program.start(drawn.batch)
    for key, array in again.items():
        assert np.array_equal(array[:, where], fresh[key][:, where])
        assert np.array_equal(array[:, ~where], state[key][:, ~where])
        assert np.array_equal(kept[key], state[key])
    # Each sample alone, either from the start or from where it was.
    after, step = program.step(drawn.params, *part(then), state=again)
    mean = {name: np.zeros_like(g) for name, g in step.grads.items()}
    for index in range(drawn.batch):
        one = {key: array[:, index : index + 1] for key, array in (fresh if where[index] else state).items()}
        alone = sample(drawn, index)
        inputs, targets = ({n: a[then] for n, a in arrays.items()} for arrays in (alone.inputs, alone.targets))
        last, single = program.step(drawn.params, inputs, targets, state=one)
        mean = {name: mean[name] + g / drawn.batch for name, g in single.grads.items()}
        for key, array in last.items():
            np.testing.assert_allclose(after[key][:, index : index + 1], array, rtol=1e-9, atol=1e-12)
    assert error(step.grads, mean) <= TOLERANCE


# Saving, and nothing but arguments and results.


@given(data=st.data(), drawn=problems(least_steps=4, most_steps=9), rule=st.sampled_from(NAMED))
@settings(max_examples=25, deadline=None)
def test_a_saved_state_goes_on_bit_for_bit(data: st.DataObject, drawn: Problem, rule: str) -> None:
    """If this fails, a run that was interrupted is another run."""
    drawn = replace(drawn, mask=None)
    program = compiled(drawn, rule)
    lengths = data.draw(partitions(drawn.steps))
    straight = in_blocks(program, drawn, lengths)
    state, at, total = program.start(drawn.batch), 0, dict[str, Any]()
    for length in lengths:
        cut = slice(at, at + length)
        inputs, targets = ({n: a[cut] for n, a in arrays.items()} for arrays in (drawn.inputs, drawn.targets))
        state, step = compiled(drawn, rule).step(drawn.params, inputs, targets, state=state)
        total = {name: g + total[name] if total else g for name, g in step.grads.items()}
        at += length
        file = io.BytesIO()
        np.savez(file, **state)
        file.seek(0)
        with np.load(file, allow_pickle=False) as saved:
            state = {key: saved[key] for key in saved.files}
    assert all(np.array_equal(total[name], straight[name]) for name in straight)


@given(drawn=problems(most_steps=6), rule=st.sampled_from(NAMED))
@settings(max_examples=15, deadline=None)
def test_step_changes_none_of_its_arguments(drawn: Problem, rule: str) -> None:
    """If this fails, a program remembers, or writes into arrays that are not its own."""
    program = compiled(drawn, rule)
    state, _ = program.step(
        drawn.params, drawn.inputs, drawn.targets, state=program.start(drawn.batch), mask=drawn.mask
    )
    masks = drawn.mask if isinstance(drawn.mask, dict) else {"": drawn.mask}
    arrays = [drawn.params, state, drawn.inputs, drawn.targets, {n: m for n, m in masks.items() if m is not None}]
    for group in arrays:
        for array in group.values():
            array.flags.writeable = False
    after, step = program.step(drawn.params, drawn.inputs, drawn.targets, state=state, mask=drawn.mask)
    same, twin = program.step(drawn.params, drawn.inputs, drawn.targets, state=state, mask=drawn.mask)
    assert step.loss == twin.loss
    assert all(np.array_equal(after[key], same[key]) for key in after)
    assert all(np.array_equal(step.grads[name], twin.grads[name]) for name in step.grads)
    owned = [*after.values(), *step.grads.values(), *step.outputs.values()]
    assert not any(np.shares_memory(a, b) for a in owned for group in arrays for b in group.values())


# Frozen parameters.


@given(drawn=problems(most_steps=8), rule=st.sampled_from(NAMED))
@settings(max_examples=25, deadline=None)
def test_freezing_a_parameter_leaves_the_gradients_of_all_others(drawn: Problem, rule: str) -> None:
    """If this fails, a frozen weight is trained, or no longer passes credit."""
    names = sorted(drawn.network.trainable)
    assume(len(names) > 1)
    frozen = names[len(drawn.edges) % len(names)]
    graph = drawn.graph.copy()
    for edge in drawn.network.parameters[frozen].edges:
        found = drawn.network.edges[edge]
        graph.edges[found.source, found.target, found.key]["trainable"] = False
    if (node := drawn.network.parameters[frozen].node) is not None:
        graph.nodes[node]["bias_trainable"] = False
    partly = replace(drawn, graph=graph)
    found = gradient(assert_like_oracle(partly, rule, blocks=(2,)), partly, 2).grads
    whole = gradient(compiled(drawn, rule), drawn, 2).grads
    assert found.keys() == whole.keys() - {frozen}
    assert error(found, {name: whole[name] for name in found}) <= TOLERANCE


@pytest.mark.parametrize("rule", NAMED)
def test_a_frozen_edge_passes_credit(rule: str) -> None:
    """If this fails, a layer below a frozen readout never learns."""
    graph = vanilla()
    graph.edges["h", "y", 0]["trainable"] = False
    given_ = problem(graph, "y")
    program = assert_like_oracle(given_, rule)
    assert program.rules.keys() == {"x->h", "h->h", "h.bias"} < program.init().keys()
    for name, found in gradient(program, given_, 2).grads.items():
        assert np.abs(found).max() > 1e-3, name
    assert oracle.reverse(**given_.arguments, rule=rule).grads.keys() == program.rules.keys()
