"""Is a whole step as one function a block of one step and an update? No compiler is needed to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from array_program.evaluator import Evaluator
from checks import error
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mutations.faults_of_whole_steps import OF_WHOLE_STEPS
from nets import small, vanilla
from stepping import DRAW, ROUNDING, ByHand, data, timed

import forwardgrad as fg
from forwardgrad.array_program import unrolled
from forwardgrad.array_program.lowering import loss_values, updates
from forwardgrad.array_program.lowering.whole_step import STATED, WholeStep, learning_step, predicting_step
from forwardgrad.array_program.regions import Invoke, Scan, When
from forwardgrad.backends.lowered import lowered_once
from forwardgrad.ops import Array
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import problems

MIXED = {"*.bias": "eprop", "*": "kf-rtrl"}

Arrays = dict[tuple[str, str], Array]

SGD, MOMENTUM, ADAM = fg.SGD(0.05), fg.SGD(0.02, momentum=0.9, weight_decay=0.1), fg.Adam(0.01, weight_decay=0.1)


def learning(program: fg.Program, optimizer: Any, batch: int) -> WholeStep:
    """The function of a step with targets."""
    schedule = updates.schedule(optimizer.config() if optimizer else None)
    assert schedule is not None
    losses = {node: loss.name for node, loss in program.losses.items()}
    counters = program._execution.counters  # pyright: ignore[reportPrivateUsage]
    return learning_step(lowered_once(program.plan, program.dtype), losses, schedule.update, batch, counters)


class Evaluated:
    """Steps by the naive evaluator."""

    def __init__(self, program: fg.Program, batch: int, optimizer: Any, params: Mapping[str, Array]) -> None:
        self.whole, self.program, self.batch = learning(program, optimizer, batch), program, batch
        self.schedule = updates.schedule(optimizer.config() if optimizer else None)
        self.count = 0
        self.arrays: Arrays = {key: np.zeros(shape, program.dtype) for key, shape in self.whole.shapes.items()}
        self.arrays |= {("params", name): array for name, array in params.items()}
        self.arrays |= {("state", key): array for key, array in program.start(batch, draw=DRAW).items()}

    def step(self, inputs: Mapping[str, Array], targets: Mapping[str, Array], signals: Mapping[str, Array]) -> None:
        """One step."""
        assert self.schedule is not None
        self.count += 1
        counted = self.schedule.counted(self.count) if self.schedule.counted else {}
        numbers = {**self.schedule.fixed, **counted}
        self.arrays |= {("settings", name): np.asarray(number) for name, number in numbers.items()}
        self.arrays |= {("inputs", node): array for node, array in inputs.items()}
        self.arrays |= {("signals", node): array / self.batch for node, array in signals.items()}
        for node, target in targets.items():
            self.arrays["shares", node] = np.full(self.batch, 1 / self.batch)
            labels = self.program.losses[node].labels
            size = self.program.network.nodes[node].size
            self.arrays["targets", node] = (target[:, None] == np.arange(size)) * 1.0 if labels else target
        self.arrays |= evaluated(self.whole, self.arrays)

    def of(self, group: str) -> dict[str, Array]:
        """The arrays of a group."""
        return {key: array for (where, key), array in self.arrays.items() if where == group}


def evaluated(whole: WholeStep, arrays: Arrays) -> Arrays:
    """What a function gives."""
    function, evaluator = whole.function, Evaluator(whole.program)
    shapes = [tuple(dim.constant for dim in value.dims) for value in function.inputs]
    read = [arrays[key].reshape(shape) for key, shape in zip(whole.inputs, shapes, strict=True)]
    made = evaluator.function(function.name, read, {})
    return {key: array.reshape(whole.shapes[key]) for key, array in zip(whole.results, made, strict=True)}


def apart(program: fg.Program, batch: int, optimizer: Any, steps: int = 4) -> tuple[float, float]:
    """How far whole steps are from steps by hand, and how far these moved the parameters."""
    params = program.init(2)
    whole, hand = Evaluated(program, batch, optimizer, params), ByHand(program, params, batch, optimizer)
    far = 0.0
    for inputs, targets in data(program, steps, batch):
        signals = {name: np.full((batch, program.network.nodes[name].size), 0.5) for name in program.signalled}
        whole.step(inputs, targets, signals)
        wanted = hand.step(inputs, targets, signals=signals or None)
        numbers = whole.of("numbers")
        assert set(numbers) == set(STATED)
        far = max(far, abs(float(numbers["loss"]) - wanted.loss) / max(1.0, abs(wanted.loss)))
        far = max(far, error({k: a[0] for k, a in whole.of("outputs").items()}, wanted.outputs))
        far = max(far, error(whole.of("grads"), hand.grads))
        slope = sum(float((g**2).sum()) for g in hand.grads.values())
        far = max(far, abs(float(numbers["grads"]) - slope) / max(1.0, slope))
    far = max(far, error(filled(whole.of("params")), filled(hand.params)))
    far = max(far, error(filled(whole.of("state")), filled(hand.state)))
    memory = {f"{part}:{k}": a for part in ("momentum", "first", "second") for k, a in whole.of(part).items()}
    far = max(far, error(memory, {k: a for k, a in hand.memory.items() if k != "count"}))
    return far, max(float(np.abs(hand.params[name] - params[name]).max()) for name in params)


def filled(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array for name, array in arrays.items() if array.size}


@pytest.mark.parametrize(("rule", "batch"), [("rtrl", 3), ("eprop", 1), ("snap(1)", 1), ("snap(2)", 3), ("uoro", 1)])
@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "alif", "dilated", "leaky_stack"])
def test_a_whole_step_is_a_block_and_an_update(name: str, rule: str, batch: int) -> None:
    """If this fails, a pass over the program of a step changes what it computes."""
    program = fg.compile(small(name, 4), rule=rule, backend="interpreter", dead="ignore")
    far, moved = apart(program, batch, SGD)
    assert far <= ROUNDING
    assert moved > 1e-4


@pytest.mark.parametrize("optimizer", [None, SGD, MOMENTUM, ADAM], ids=["none", "sgd", "momentum", "adam"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "bernoulli", "signal"])
def test_losses_and_updates(loss: str, optimizer: Any) -> None:
    """If this fails, a loss or an optimizer is another one inside a step."""
    program = fg.compile(vanilla(), {"y": loss}, backend="interpreter")
    far, moved = apart(program, 2, optimizer)
    assert far <= ROUNDING
    assert (moved > 1e-3) == (optimizer is not None)


@pytest.mark.parametrize(
    "rule", ["eprop-adaptive", "eprop; feedback=signal", "eprop-random", "dsf(0.5)", "tbptt", MIXED], ids=str
)
def test_other_coordinates_of_rules(rule: Any) -> None:
    """If this fails, feedback, operators or carry are lost inside a step."""
    program = fg.compile(vanilla(), {"y": "mse"}, rule, backend="interpreter")
    assert apart(program, 2, MOMENTUM)[0] <= ROUNDING


@given(given=problems(most_steps=4), rule=st.sampled_from(["rtrl", "eprop", "eprop-deep", "snap(1)"]))
@settings(max_examples=15, deadline=None)
def test_a_whole_step_of_a_random_problem(given: Problem, rule: str) -> None:
    """A kind of edge, op or loss is taken apart wrongly."""
    program = fg.compile(given.graph, given.loss, rule, backend="interpreter", dead="ignore")
    calls = lowered_once(program.plan, program.dtype).context.calls
    builtin = all(loss.name in loss_values.LOSSES for loss in program.losses.values())
    assume(not calls and builtin and program.rules)
    try:
        with np.errstate(all="ignore"):
            assert apart(program, given.batch, MOMENTUM, given.steps)[0] <= 1e-10
    except fg.NonFiniteError:  # by hand
        assume(False)


# What is left of the program, and what a step does besides.


def test_nothing_but_loops_is_left() -> None:
    """If this fails, a step of one sample is made of calls and choices, and costs what a block does."""
    program = fg.compile(small("lstm", 4), rule="eprop")
    whole = learning(program, SGD, 1)
    statements = whole.function.body.statements
    assert not [each for each in statements if isinstance(each.instruction, Invoke | Scan | When)]
    assert len(whole.program.functions) == 1
    results = whole.function.body.results
    assert all(value.dims[:1] != (unrolled.ONE,) for value in results)
    assert len(set(results)) == len(results)
    assert not set(results) & set(whole.function.inputs)


@pytest.mark.parametrize("group", ["inputs", "targets", "params", "state"])
def test_a_number_that_is_not_finite_is_told(group: str) -> None:
    """If this fails, NaN spreads through a stream before anybody notices."""
    program = fg.compile(small("elman", 4), rule="rtrl")
    whole = Evaluated(program, 1, ADAM, program.init())
    ((inputs, targets),) = data(program, 1, 1)
    whole.step(inputs, targets, {})
    assert np.isfinite(whole.arrays["numbers", "all"])
    groups = {"inputs": inputs, "targets": targets, "params": whole.of("params"), "state": whole.of("state")}
    key, array = next(iter(groups[group].items()))
    groups[group][key] = bad = array.copy()
    bad.flat[-1] = np.nan
    whole.arrays[group, key] = bad
    with np.errstate(invalid="ignore"):
        whole.step(inputs, targets, {})
    assert not np.isfinite(whole.arrays["numbers", "all"])


def test_a_step_without_targets_goes_on() -> None:
    """If this fails, predictions of a stream leave it in another state than learning does."""
    program = fg.compile(small("lstm", 4), rule="rtrl")
    lowered = lowered_once(program.plan, program.dtype)
    whole, params, state = predicting_step(lowered, program.losses, 3, ()), program.init(), program.start(3)
    for inputs, _ in data(program, 3, 3):
        arrays = {("params", name): array for name, array in params.items()}
        arrays |= {("state", key): array for key, array in state.items()}
        made = evaluated(whole, arrays | {("inputs", node): array for node, array in inputs.items()})
        wanted, prediction = program.predict(params, timed(inputs), state=state)
        outputs = prediction.outputs
        state = {key: array for (group, key), array in made.items() if group == "state"}
        assert error(state, wanted) <= ROUNDING
        assert error({key: a for (group, key), a in made.items() if group == "outputs"}, outputs) <= ROUNDING


# Faults that are planted must be noticed.


@pytest.mark.parametrize("plant", OF_WHOLE_STEPS, ids=lambda fault: fault.__name__)
def test_a_fault_is_noticed(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the tests above are blind to this fault."""
    program = fg.compile(small("lstm", 4), rule="eprop", backend="interpreter")
    assert apart(program, 2, MOMENTUM)[0] <= ROUNDING
    plant(monkeypatch)
    assert not apart(program, 2, MOMENTUM)[0] <= 1e-6  # NaN, too
