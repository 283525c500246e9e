"""On random graphs: what a stream does with its arrays, and how they lie in memory, changes nothing that is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import ENGINES, TOLERANCE, compiled, error
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.testing.strategies import PieceStream, StreamBroke, problems, streams

RULES = ["rtrl", "eprop-deep", "eprop"]
STREAMS = problems(most_steps=9).flatmap(streams)
BROKEN = problems(most_steps=9).flatmap(lambda problem: streams(problem, breaks=True))


def wanted(stream: PieceStream, rule: str) -> oracle.OracleResult:
    """What the oracle finds in plain arrays of the whole sequence; it is not zero."""
    found = oracle.reverse(**stream.problem.arguments, rule=rule)
    assume(max((float(np.abs(g).max()) for g in found.grads.values()), default=0.0) > 1e-6)
    event(f"{stream.habit}, {stream.layout}")
    return found


def same(found: Any, want: oracle.OracleResult) -> bool:
    return error(found.grads, want.grads) <= TOLERANCE and abs(np.sum(found.loss) - want.loss) <= TOLERANCE * max(
        1.0, abs(want.loss)
    )


@pytest.mark.parametrize("backend", ENGINES)
@given(stream=STREAMS, rule=st.sampled_from(RULES), block=st.sampled_from([None, 1, 2, "auto"]))
@settings(max_examples=30, deadline=None)
def test_a_stream_has_the_gradient_of_its_sequence(backend: str, stream: PieceStream, rule: str, block: Any) -> None:
    """A piece is read after its stream was asked for the next one, or is misread in some layout or type."""
    want = wanted(stream, rule)
    program = compiled(stream.problem, rule, backend=backend)
    assert same(program.gradient(stream.problem.params, stream.pieces(), block=block), want)


@pytest.mark.parametrize("backend", ENGINES)
@given(stream=STREAMS, rule=st.sampled_from(RULES), block=st.sampled_from([None, 2]))
@settings(max_examples=25, deadline=None)
def test_a_record_of_a_stream_is_that_of_its_sequence(backend: str, stream: PieceStream, rule: str, block: Any) -> None:
    """What is recorded is read after its stream was asked for the next piece."""
    want = wanted(stream, rule)
    program, whole = compiled(stream.problem, rule, backend=backend), stream.whole()
    found = program.record(stream.problem.params, stream.pieces(), block=block)
    assert same(found, want)
    clean = program.record(whole.params, whole.inputs, whole.targets, block=2, mask=whole.mask)
    assert found.traces.keys() == clean.traces.keys()
    for one, other in ((found.traces, clean.traces), (found.signals, clean.signals), (found.products, clean.products)):
        assert error(dict(one), dict(other)) <= TOLERANCE


def learned(program: fg.Program, stream: PieceStream, rate: float, pieces: int, resets: list[int]) -> dict[str, Array]:
    """What a learner should come to after some pieces, step by step, in plain arrays."""
    params, state = dict(stream.problem.params), None
    for number in range(pieces):
        part = stream.whole(number, number + 1)
        if state is None or number in resets:
            state = program.start(part.batch)
        state, step = program.step(params, part.inputs, part.targets, part.mask, state=state)
        params |= {name: params[name] - rate * g / part.steps for name, g in step.grads.items()}
    return params


@pytest.mark.parametrize("backend", ENGINES)
@given(stream=STREAMS, rule=st.sampled_from(RULES))
@settings(max_examples=20, deadline=None)
def test_a_learner_learns_from_a_stream_as_from_its_sequence(backend: str, stream: PieceStream, rule: str) -> None:
    """A learner keeps something that a stream changes later, between pieces or between episodes."""
    program = compiled(stream.problem, rule, backend=backend)
    ours = fg.Learner(program, stream.problem.params, fg.SGD(0.05))
    ends = np.cumsum(stream.episodes).tolist()
    for first, last in zip([0, *ends], ends, strict=False):
        ours.reset()
        updates = ours.fit(stream.pieces(first, last))
        squares = sum(float(np.square(np.asarray(array, np.float64)).sum()) for array in (ours.state or {}).values())
        assert np.isclose(updates[-1].step.state_norm, np.sqrt(squares))  # zero where whole numbers round to nothing
    want = learned(program, stream, 0.05, len(stream.lengths), ends)
    assert error(ours.params, want) <= TOLERANCE


@pytest.mark.parametrize("backend", ENGINES)
@given(stream=BROKEN, rule=st.sampled_from(RULES))
@settings(max_examples=20, deadline=None)
def test_a_stream_that_breaks_costs_only_what_it_has_not_given(backend: str, stream: PieceStream, rule: str) -> None:
    """An error of a stream is swallowed or dressed up, or what was learned before it is lost."""
    assert stream.breaks is not None
    program = compiled(stream.problem, rule, backend=backend)
    for call in (program.gradient, program.record):
        with pytest.raises(StreamBroke):
            call(stream.problem.params, stream.pieces())
    ours = fg.Learner(program, stream.problem.params, fg.SGD(0.05))
    with pytest.raises(StreamBroke):
        ours.fit(stream.pieces())
    assert ours.seen == sum(stream.lengths[: stream.breaks])
    assert error(ours.params, learned(program, stream, 0.05, stream.breaks, [])) <= TOLERANCE
