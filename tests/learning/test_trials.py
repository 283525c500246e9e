"""Trials: what an update learns from, how losses are normalised, and what regularizers of means and norms add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from checks import jax_in_a_hurry
from nets import readout_of_features, vanilla

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.errors import DataError, FileError, GraphError, NonFiniteWarning
from forwardgrad.learning.regularizers import MeanActivity, RunningMean, WeightNorm, with_means
from forwardgrad.learning.trials import TrialLearner


@pytest.fixture(autouse=True, scope="module")
def _compiled_in_a_hurry() -> Iterator[None]:
    yield from jax_in_a_hurry()


STILL = fg.SGD(1e-30)
"""Changes nothing, so that the gradients of updates are those of one set of weights."""


def spiking() -> nx.MultiDiGraph[str]:
    """Spiking units, with and without recurrent weights, under a leaky readout."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=3)
    z = cells.alif(graph, "l", input="x", size=4, leak=0.8, threshold=0.6, init="normal(0.6)")
    cells.readout(graph, "y", z, 2, leak=0.7, bias=False)
    return graph


def trial(steps: int = 12, batch: int = 5, seed: int = 3, inputs: int = 3, late: int = 4) -> tuple[Any, Any, Any]:
    """Inputs, labels, and a mask that asks for some samples' answers at the end, unequally weighted."""
    random = np.random.default_rng(seed)
    x, labels = random.random((steps, batch, inputs)) * 1.5, random.integers(0, 2, (steps, batch))
    mask = np.zeros((steps, batch))
    mask[-late:, 1:] = random.uniform(0.5, 2, (late, batch - 1))
    return {"x": x}, {"y": labels}, mask


def learner(rule: str = "eprop", backend: str = "numpy", graph: Any = None, **options: Any) -> TrialLearner:
    made, extra = with_means(spiking() if graph is None else graph, "l.z") if options.get("means") else (graph, {})
    made = spiking() if made is None else made
    program = fg.compile(made, {"y": "cross_entropy"} | extra, rule, backend=backend)
    return TrialLearner(program, program.init(0), options.pop("optimizer", STILL), **options)


def apart(found: Any, wanted: Any) -> float:
    assert found.keys() == wanted.keys()
    return max(np.abs(found[name] - wanted[name]).max() / np.abs(wanted[name]).max() for name in wanted)


def by_oracle(of: TrialLearner, piece: Any, signals: Any) -> Any:
    """The gradient by an oracle: the loss divided by what the mask adds up to, and a learning signal per step."""
    (inputs, targets, mask), program = piece, of.program
    steps, batch = mask.shape
    losses = {name: loss.name for name, loss in program.losses.items()}
    goals = {**targets, "l.z.mean": np.broadcast_to(signals[:, None], (steps, batch, signals.shape[1]))}
    masks = {"y": mask * batch / mask.sum(), "l.z.mean": np.full((steps, batch), 1 / steps)}
    rule = program.chosen["x->l.v"]
    return oracle.reverse(program.graph, of.params, inputs, goals, losses, rule=rule, mask=masks).grads


# What an update learns from.


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
@pytest.mark.parametrize("rule", ["eprop", "rtrl"])
def test_the_signal_of_a_mean_is_that_of_the_mean_so_far(backend: str, rule: str) -> None:
    """If this fails, a regularizer teaches by another mean, at another weight, or along other paths than the loss."""
    skip_without(backend)
    regularizer = MeanActivity(0.1, strength=3.0)
    piece, plain = trial(), learner(rule).fit([trial()])
    for block in (5, None) if backend == "jax" else (1, 5, 12, None):  # JAX compiles each length of a block
        ours = learner(rule, backend, means={"l.z.mean": regularizer})
        z = ours.program.run(ours.params, piece[0])["l.z"]
        assert 0.05 < z.mean() < 0.8
        ends = np.minimum((1 + np.arange(12) // (block or 12)) * (block or 12), 12)
        signals = np.array([3.0 * (z[:end].mean(axis=(0, 1)) - 0.1) for end in ends])
        (update,) = ours.updates([piece], block=block)
        assert apart(update.step.grads, by_oracle(ours, piece, signals)) < 1e-10
        assert apart(by_oracle(ours, piece, 0 * signals), by_oracle(ours, piece, signals)) > 1e-2
        energy = 3.0 / 2 * np.sum((z.mean(axis=(0, 1)) - 0.1) ** 2)
        assert update.loss == pytest.approx(plain[0].loss + energy, rel=1e-12)
        assert update.loss == update.step.loss


def test_in_one_block_it_is_the_gradient_of_the_regularizer() -> None:
    """If this fails, what is called the gradient of a squared mean is that of another loss."""
    graph, extra = with_means(vanilla(), "h")
    program = fg.compile(graph, {"y": "mse"} | extra, "rtrl")
    params, random = program.init(2), np.random.default_rng(0)
    inputs, targets, mask = {"x": random.normal(size=(6, 3, 2))}, {"y": random.normal(size=(6, 3, 2))}, np.arange(6) > 2
    norms = [WeightNorm("h*", 0.3), WeightNorm("x->h", 0.1)]

    def objective(values: Any) -> float:
        run = program.run(values, inputs)
        loss = np.mean(np.mean((run["y"] - targets["y"]) ** 2, axis=2)[3:])
        energy = 0.7 / 2 * np.sum((np.mean(run["h"], axis=(0, 1)) - 0.2) ** 2)
        squares = {name: np.sum(values[name] ** 2) for name in values}
        return loss + energy + 0.15 * sum(squares[n] for n in squares if n[0] == "h") + 0.05 * squares["x->h"]

    means = {"h.mean": MeanActivity(0.2, 0.7)}
    ours = TrialLearner(program, params, STILL, means=means, norms=norms)
    (update,) = ours.updates([(inputs, targets, mask)])
    assert update.loss == pytest.approx(objective(params), rel=1e-12)
    for name, gradient in update.step.grads.items():
        for index in np.ndindex(gradient.shape):
            step = np.zeros_like(gradient)
            step[index] = 1e-5
            there, back = ({**params, name: params[name] + sign * step} for sign in (1, -1))
            slope = (objective(there) - objective(back)) / 2e-5
            assert gradient[index] == pytest.approx(slope, abs=1e-8)


def test_a_loss_is_the_mean_over_what_counts_at_any_length_of_trial_and_block() -> None:
    """If this fails, an answer at the end of a long trial weighs less than one in a short trial."""
    inputs, targets, mask = trial()
    for block in (1, 5, 12):
        (update,) = learner().updates([(inputs, targets, mask)], block=block)
        plain = learner()
        result = plain.program.gradient(plain.params, inputs, targets, mask=mask)
        answers = mask.sum() / mask.shape[1]
        assert update.loss == pytest.approx(result.loss / answers, rel=1e-12)
        assert apart(update.step.grads, {name: g / answers for name, g in result.grads.items()}) < 1e-10
        assert update.step.outputs["y"].shape == (12, 5, 2)
    quiet = {"x": np.concatenate([np.zeros((30, 5, 3)), inputs["x"]])}  # nothing happens first
    longer = np.concatenate([np.zeros((30, 5)), mask])
    labels = {"y": np.concatenate([np.zeros((30, 5), int), targets["y"]])}
    (late,) = learner().updates([(quiet, labels, longer)], block=7)
    assert late.loss == pytest.approx(update.loss, rel=1e-12)
    assert apart(late.step.grads, update.step.grads) < 1e-10


def test_updates_within_a_trial_add_up_to_it() -> None:
    """If this fails, what a trial teaches depends on how often weights change in it, even if they do not change."""
    means, norms = {"l.z.mean": MeanActivity(0.1)}, [WeightNorm("*", 0.2)]
    piece = trial()
    (whole,) = learner(means=means, norms=norms).updates([piece], block=2)
    parts = list(learner(means=means, norms=norms, every=4).updates([piece], block=2))
    assert [(part.steps, part.seen) for part in parts] == [(4, 4), (4, 8), (4, 12)]
    total = {name: sum(part.step.grads[name] for part in parts) for name in whole.step.grads}
    assert apart(total, whole.step.grads) < 1e-10
    assert apart(parts[0].step.grads, whole.step.grads) > 0.1
    moving = learner(means=means, norms=norms, every=4, optimizer=fg.SGD(0.5))
    changed = [part.step.grads["l.z->y"] for part in moving.updates([piece], block=2)]
    assert np.abs(changed[2] - parts[2].step.grads["l.z->y"]).max() > 1e-3


@pytest.mark.parametrize("optimizer", [fg.SGD(0.3, momentum=0.5), fg.Adam(0.05)], ids=str)
def test_updates_are_those_of_the_optimizer_and_trials_start_afresh(optimizer: Any) -> None:
    """If this fails, a trial sees what came before it, or its update is not clip and optimizer by hand."""
    ours = learner(optimizer=optimizer, clip=0.02)
    program, params = ours.program, ours.params
    memory = optimizer.start({name: params[name] for name in program.rules})
    for number, update in enumerate(ours.updates((trial(seed=seed) for seed in range(4)), block=5)):
        inputs, targets, mask = trial(seed=number)
        answers = mask.sum() / mask.shape[1]
        grads = program.gradient(params, inputs, targets, mask=mask).grads
        norm = np.sqrt(sum(np.sum((g / answers) ** 2) for g in grads.values()))
        assert update.step.grad_norm == pytest.approx(norm, rel=1e-10)
        assert norm > 0.02
        clipped = {name: g / answers * (0.02 / norm) for name, g in grads.items()}
        params, memory = optimizer.update(params, clipped, memory)
        assert ours.state is None
        assert ours.episodes == number + 1
        for name, array in params.items():
            np.testing.assert_allclose(ours.params[name], array, rtol=1e-9, atol=1e-12)
        params = ours.params


def test_regularizers_cost_no_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a trial is run twice to know its mean."""

    def passes(**options: Any) -> int:
        ours, found = learner(**options), []
        engine = ours.program._engine
        forward = engine.forward
        monkeypatch.setattr(engine, "forward", lambda *given: found.append(1) or forward(*given))
        ours.fit([trial()], block=4)
        return len(found)

    assert passes(means={"l.z.mean": MeanActivity(0.1)}, norms=[WeightNorm()]) == passes() == 3


def test_rates_come_to_their_target() -> None:
    """If this fails, the sign or the scale of the learning signal is wrong."""
    ours = learner(means={"l.z.mean": MeanActivity(0.25, 20.0)}, optimizer=fg.Adam(0.02))
    inputs, targets, mask = trial(steps=40, batch=8)
    before = abs(ours.program.run(ours.params, inputs)["l.z"].mean(axis=(0, 1)) - 0.25).mean()
    ours.fit([(inputs, targets, mask)] * 150)
    after = abs(ours.program.run(ours.params, inputs)["l.z"].mean(axis=(0, 1)) - 0.25).mean()
    assert after < 0.4 * before


def test_masks_of_means_leave_steps_out() -> None:
    """If this fails, what is behind the end of a short sequence counts as silence."""
    means = {"l.z.mean": MeanActivity(0.1)}
    inputs, targets, mask = trial()
    padded = {"x": np.concatenate([inputs["x"], np.zeros((6, 5, 3))])}
    labels = {"y": np.concatenate([targets["y"], np.zeros((6, 5), int)])}
    masks = {"y": np.concatenate([mask, np.zeros((6, 5))]), "l.z.mean": np.repeat([1.0, 0.0], [12, 6])}
    (short,) = learner(means=means).updates([(inputs, targets, mask)])
    (long,) = learner(means=means).updates([(padded, labels, masks)])
    assert long.loss == pytest.approx(short.loss, rel=1e-12)
    assert apart(long.step.grads, short.step.grads) < 1e-10


def test_a_copy_leaves_the_rule_as_it_is() -> None:
    """If this fails, to regularize a layer changes what a rule keeps below it."""
    graph = readout_of_features()
    plain = fg.compile(graph, {"y": "mse"}, "eprop")
    made, extra = with_means(graph, "h") if "h" in graph else with_means(graph, "y")
    copied = fg.compile(made, {"y": "mse"} | extra, "eprop")
    for name in plain.rules:
        assert copied.rules[name].dropped == plain.rules[name].dropped
    assert graph.number_of_nodes() == made.number_of_nodes() - 1


# What stays, and what is refused.


def test_a_saved_learner_goes_on_bit_for_bit(tmp_path: Any) -> None:
    """If this fails, a resumed run learns without its regularizers."""
    options: Any = {"means": {"l.z.mean": MeanActivity(0.1, 2)}, "norms": [WeightNorm("x->*", 0.1)], "every": 5}
    ours = learner(optimizer=fg.Adam(0.02), **options)
    ours.fit([trial()], block=2)
    ours.save(tmp_path / "l.npz", {"more": 1})
    again = TrialLearner.load(tmp_path / "l.npz")
    assert (again.every, again.means, again.norms) == (ours.every, ours.means, ours.norms)
    for each in (ours, again):
        each.fit([trial(seed=8)], block=2)
    for name, array in ours.params.items():
        np.testing.assert_array_equal(again.params[name], array)
    plain = fg.Learner(ours.program, ours.params, fg.SGD(0.1))
    plain.save(tmp_path / "plain.npz")
    with pytest.raises(FileError, match=r"says nothing that can be read of trials: 'trials'"):
        TrialLearner.load(tmp_path / "plain.npz")


def test_a_trial_that_is_not_finite_changes_nothing() -> None:
    """If this fails, a bad trial is half learned from."""
    ours = learner(optimizer=fg.Adam(0.02), means={"l.z.mean": MeanActivity(0.1)}, on_nonfinite="skip")
    inputs, targets, mask = trial()
    ours.fit([(inputs, targets, mask)], block=4)
    before = {name: array.copy() for name, array in ours.params.items()}
    wild = {"x": np.where(np.arange(12)[:, None, None] == 6, 1e308, inputs["x"])}
    with pytest.warns(NonFiniteWarning, match="nothing is learned"):
        skipped, after = ours.fit([(wild, targets, mask), (inputs, targets, mask)], block=4)
    assert skipped.skipped is not None
    assert after.skipped is None
    assert ours.seen == 36
    assert any(np.any(ours.params[name] != before[name]) for name in before)
    strict = learner(means={"l.z.mean": MeanActivity(0.1)})
    with pytest.raises(fg.NonFiniteError):
        strict.fit([(wild, targets, mask)], block=4)
    assert (strict.seen, strict.episodes) == (0, 0)


def test_evaluation_is_the_loss_without_regularizers() -> None:
    """If this fails, a score depends on how strongly weights were held back."""
    regular, plain = learner(means={"l.z.mean": MeanActivity(0.1)}), learner()
    piece = trial()
    assert regular.evaluate(*piece) == pytest.approx(plain.evaluate(*piece), rel=1e-12)
    assert plain.evaluate(*piece) == pytest.approx(plain.fit([piece])[0].loss, rel=1e-12)
    assert np.isnan(plain.evaluate(*piece[:2], np.zeros(12)))


def test_a_stopped_learner_ends_and_lent_arrays_may_be_filled_again() -> None:
    """If this fails, a callback cannot end learning, or a generator that refills a buffer spoils a trial."""

    def refilled() -> Any:
        buffer = np.zeros((12, 5, 3), np.float32)
        for seed in range(4):
            inputs, targets, mask = trial(seed=seed)
            buffer[:] = inputs["x"]
            yield {"x": buffer.view()}, targets, mask

    enough = learner().fit(refilled(), progress=lambda update: "stop" if update.seen > 12 else None)
    assert len(enough) == 2
    one, two = learner(optimizer=fg.Adam(0.02)), learner(optimizer=fg.Adam(0.02))
    one.fit(refilled(), block=5)
    two.fit([({"x": each["x"].copy()}, *rest) for each, *rest in refilled()], block=5)
    for name, array in one.params.items():
        np.testing.assert_array_equal(two.params[name], array)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: learner(every=0), DataError, "every must be a whole number of steps >= 1, or None, got 0"),
        (lambda: learner(every=2.5), DataError, "every must be"),
        (lambda: learner().fit([trial()], block=0), DataError, "block must be a whole number of steps >= 1"),
        (lambda: learner().fit([trial()], block="auto"), DataError, "block must be a whole number"),
        (lambda: learner().fit(trial()[0]), DataError, "a stream is an iterable"),
        (lambda: learner().fit([3]), DataError, "each piece of a sequence"),
        (lambda: learner(means={"l.z": MeanActivity(0.1)}), DataError, "no such node has a loss"),
        (lambda: learner(means={"y": MeanActivity(0.1)}), DataError, "its loss is cross_entropy"),
        (lambda: learner(norms=[WeightNorm("q*")]), DataError, r"'q\*' fits no trained parameter"),
        (lambda: WeightNorm(3), DataError, "the pattern must be a text"),  # pyright: ignore[reportArgumentType]
        (lambda: WeightNorm("*", -1), DataError, "strength must be a finite number >= 0, got -1"),
        (lambda: MeanActivity(float("nan")), DataError, "target must be a finite number, got nan"),
        (lambda: MeanActivity(0.1, -2), DataError, "strength must be a finite number, at least 0"),
        (lambda: MeanActivity(True), DataError, "target must be a finite number"),
        (lambda: with_means(spiking(), "l.q"), GraphError, "no node 'l.q'"),
        (lambda: with_means(with_means(spiking(), "l.z")[0], "l.z"), GraphError, "has a node 'l.z.mean' already"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, error: Any, words: str) -> None:
    """If this fails, a slip in a setting trains another objective."""
    with pytest.raises(error, match=words):
        make()


def test_a_trial_that_asks_for_nothing_is_regularized_alone() -> None:
    """If this fails, a division by zero spoils the weights."""
    ours = learner(means={"l.z.mean": MeanActivity(0.1)})
    inputs, targets, _ = trial()
    (update,) = ours.updates([(inputs, targets, np.zeros(12))])
    assert np.abs(update.step.grads["x->l.v"]).max() > 0
    assert np.abs(update.step.grads["l.z->y"]).max() == 0


def test_a_mean_that_is_counted_in_parts_is_that_of_all() -> None:
    """If this fails, steps or samples that do not count move the mean."""
    mean, random = RunningMean(MeanActivity(0.3)), np.random.default_rng(0)
    values, weight = random.random((9, 4, 2)), (random.random((9, 4)) < 0.6) * 1.0
    for part in (slice(0, 2), slice(2, 9)):
        found = mean.signal(values[part], weight[part])
    wanted = np.average(values.reshape(-1, 2), axis=0, weights=weight.ravel()) - 0.3
    np.testing.assert_allclose(found, np.broadcast_to(wanted, (7, 4, 2)), atol=1e-12)
    assert mean.loss == pytest.approx(0.5 * np.sum(wanted**2))
