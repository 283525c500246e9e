"""On random graphs: feedback, operators, autapses, signals, no carry, and leaks that filter their sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from checks import ENGINES, TOLERANCE, assert_like_oracle, compiled, error
from hypothesis import assume, event, given, note, settings
from hypothesis import strategies as st

from forwardgrad import oracle
from forwardgrad.compiler.decisions import Kind
from forwardgrad.rules.rule import Rule
from forwardgrad.testing import Problem
from forwardgrad.testing.gradients import in_blocks
from forwardgrad.testing.strategies import SEEDS, partitions, path_rules, points, problems, rule_mappings


def weighted(drawn: Problem, *, trained: bool = False) -> list[str]:
    """The edges in place of whose weight a matrix can stand."""
    network = drawn.network
    return [
        name
        for name, edge in network.edges.items()
        if edge.kind != "identity" and (not trained or edge.param in network.trainable)
    ]


@given(data=st.data(), drawn=problems(most_steps=9))
@settings(max_examples=30, deadline=None)
def test_feedback_operator_and_autapses_give_the_oracles_gradient(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, what stands in place of a Jacobian is used in some sweeps and not in others."""
    rule = data.draw(points(drawn))
    note(str(rule))
    event(f"feedback: {bool(rule.feedback)}, operator: {bool(rule.operator)}, autapses: {rule.autapses}")
    assert_like_oracle(drawn, rule)


@given(data=st.data(), drawn=problems(most_steps=8))
@settings(max_examples=20, deadline=None)
def test_rules_that_share_no_coordinate_may_serve_one_network(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, what one parameter's rule puts in place of a loss, a weight or a Jacobian reaches another's."""
    choice = data.draw(rule_mappings(drawn))
    note(str({name: str(rule) for name, rule in choice.items()}))
    random, shape = np.random.default_rng(data.draw(SEEDS)), (drawn.steps, drawn.batch)
    signals = {name: random.normal(size=(*shape, node.size)) for name, node in drawn.network.nodes.items()}
    kinds = {rule.signalled for rule in choice.values()}
    event(f"signals and losses: {'mixed' if len(kinds) > 1 else 'one kind'}")
    assert_like_oracle(drawn, choice, blocks=(2,), signals=signals)


@given(data=st.data(), drawn=problems(least_steps=5, most_steps=9))
@settings(max_examples=20, deadline=None)
def test_without_carry_the_oracle_forgets_at_the_same_ends_of_blocks(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, truncated BPTT keeps a path over the end of a block, or drops one inside it."""
    rule = replace(data.draw(points(drawn)), carry=False)
    program = compiled(drawn, rule, backend=data.draw(st.sampled_from(list(ENGINES))))
    assert not any(derived.bytes for derived in program.rules.values())
    for block in (1, 2, 3, drawn.steps):
        wanted = oracle.reverse(**drawn.arguments, rule=rule, block=block)
        found = program.gradient(drawn.params, drawn.inputs, drawn.targets, block=block, mask=drawn.mask)
        assert error(found.grads, wanted.grads) <= TOLERANCE, block


@given(data=st.data(), drawn=problems(most_steps=9))
@settings(max_examples=20, deadline=None)
def test_adaptive_feedback_is_a_parameter_that_takes_the_gradient_of_its_weight(
    data: st.DataObject, drawn: Problem
) -> None:
    """If this fails, feedback comes back through the weight itself, or learns otherwise than the weight does."""
    edges = weighted(drawn, trained=True)
    assume(edges)
    edge = data.draw(st.sampled_from(edges))
    follower, followed = f"{edge}.feedback", drawn.network.edges[edge].param or ""
    matrix = np.random.default_rng(data.draw(SEEDS)).normal(size=drawn.params[followed].shape)
    rule = Rule(data.draw(path_rules(drawn.edges)), feedback={edge: "adaptive"})
    program = compiled(drawn, rule, backend=data.draw(st.sampled_from(list(ENGINES))))
    known = follower in program.plan.followers
    event(f"feedback is {'used' if known else 'of no use'}")
    params = {**drawn.params, follower: matrix}
    wanted = oracle.reverse(**{**drawn.arguments, "params": params}, rule=rule).grads
    assert np.array_equal(wanted[follower], wanted[followed])
    if not known:
        del params[follower], wanted[follower]
    for block in (1, 3, drawn.steps):
        found = program.gradient(params, drawn.inputs, drawn.targets, block=block, mask=drawn.mask)
        assert error(found.grads, wanted) <= TOLERANCE, block


@given(data=st.data(), drawn=problems(most_steps=9))
@settings(max_examples=20, deadline=None)
def test_signals_of_the_users_stand_in_place_of_the_losses(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, a learning signal enters at another step or node, or adds to the loss's own."""
    inner = [name for name in drawn.network.nodes if name not in drawn.network.inputs]
    nodes = data.draw(st.lists(st.sampled_from(inner), min_size=1, max_size=2, unique=True))
    rule = Rule(data.draw(path_rules(drawn.edges)), feedback=dict.fromkeys(nodes, "signal"))
    backend = data.draw(st.sampled_from(list(ENGINES)))
    random = np.random.default_rng(data.draw(SEEDS))
    shape = (drawn.steps, drawn.batch)
    signals = {name: random.normal(size=(*shape, drawn.network.nodes[name].size)) for name in nodes}
    program = compiled(drawn, rule, backend=backend)
    wanted = oracle.reverse(**drawn.arguments, rule=rule, signals=signals)
    given_ = {name: signals[name] for name in program.signalled}
    for block in (1, 3, drawn.steps):
        found = program.gradient(
            drawn.params, drawn.inputs, drawn.targets, block=block, mask=drawn.mask, signals=given_
        )
        assert error(found.grads, wanted.grads) <= TOLERANCE, block
        assert abs(found.loss - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss))
    _, step = program.step(
        drawn.params, drawn.inputs, drawn.targets, state=program.start(drawn.batch), mask=drawn.mask, signals=given_
    )
    assert error(step.grads, wanted.grads) <= TOLERANCE


# Leaks that filter their sources.


@st.composite
def leaky(draw: st.DrawFn) -> Problem:
    """A random problem with a leaky readout `r` of some of its nodes, perhaps read on by a node `s`."""
    drawn = draw(problems(max_nodes=4, most_steps=9))
    random = np.random.default_rng(draw(SEEDS))
    graph, params, loss, targets = drawn.graph.copy(), dict(drawn.params), dict(drawn.loss), dict(drawn.targets)
    size = draw(st.integers(2, 3))

    def read(source: str, target: str, target_size: int, delay: int) -> None:
        graph.add_edge(source, target, weight="dense", **({"delay": delay} if delay else {}))
        name = list(graph[source][target])[-1]
        of = f"{source}->{target}" + (f"#{name}" if name else "")
        params[of] = random.normal(size=(target_size, drawn.network.nodes[source].size if source != "r" else size)) / 2

    graph.add_node("r", op="linear", size=size)
    inner = [name for name in drawn.network.nodes if name not in drawn.network.inputs]
    for source in draw(st.lists(st.sampled_from(inner), min_size=1, max_size=2)):
        read(source, "r", size, draw(st.sampled_from([0, 0, 0, 1, 2])))
    for delay, leak in draw(
        st.sampled_from([((1, 0.7),), ((1, -0.6),), ((1, 0.8),), ((2, 0.6),), ((1, 0.5), (2, 0.3))])
    ):
        graph.add_edge("r", "r", value=leak, delay=delay)
    last = draw(st.sampled_from(["r", "r", "r", "s"]))
    if last == "s":
        graph.add_node("s", op="tanh", size=2)
        read("r", "s", 2, draw(st.sampled_from([0, 1])))
    shape = (drawn.steps, drawn.batch, size if last == "r" else 2)
    loss[last], targets[last] = "mse", random.normal(size=shape)
    return replace(drawn, graph=graph, params=params, loss=loss, targets=targets)


def test_leaks_that_filter_their_sources_change_no_gradient() -> None:
    """If this fails, what is stored per synapse in place of a full influence is another influence."""
    filtered: list[bool] = []

    @given(data=st.data(), drawn=leaky())
    @settings(max_examples=60, deadline=None)
    def check(data: st.DataObject, drawn: Problem) -> None:
        rule = data.draw(st.sampled_from(["eprop", "eprop-deep", "near", "hops(2)", "all"]))
        program = assert_like_oracle(drawn, rule)
        filtered.append(any(decision.kind is Kind.LEAK_FILTERED for decision in program.decisions))
        lengths = data.draw(partitions(drawn.steps))
        whole = program.gradient(drawn.params, drawn.inputs, drawn.targets, block=drawn.steps, mask=drawn.mask)
        assert error(in_blocks(program, drawn, lengths), whole.grads) <= TOLERANCE

    check()
    assert np.mean(filtered) > 0.15
