"""Is a step its two halves? `predict` and `credit`: targets, signals, several objectives; and gradients per sample."""

from __future__ import annotations

import pickle
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.device import export
from forwardgrad.errors import DataError, NonFiniteError, RuleError
from forwardgrad.ops import Array

STEPS, BATCH, TOLERANCE = 5, 3, 1e-10
BACKENDS = ["interpreter", "numpy", "jax", "c"]
LOSS = {"pi": "cross_entropy", "v": "mse"}


def on_backends(*rules: str, quick: str = "") -> Any:
    """Every rule on every backend; JAX, which compiles for long, with one rule, and with others where that is asked."""
    cases = [
        pytest.param(rule, backend, marks=[pytest.mark.slow] if backend == "jax" and rule != quick else [])
        for rule in rules
        for backend in BACKENDS
    ]
    return pytest.mark.parametrize(("rule", "backend"), cases)


def network() -> nx.MultiDiGraph[str]:
    """Two outputs over a recurrent layer with memory of its own, weights of several kinds, and biases."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4, shape=[1, 4])
    graph.add_node("w", op="tanh")
    graph.add_edge("x", "w", weight="conv1d", kernel=2, channels=2)
    graph.add_node("h", op="tanh", size=4, bias=True)
    graph.add_edge("w", "h", weight="dense", init="normal(0.8)")
    graph.add_edge("h", "h", weight="dense", delay=1, init="normal(0.8)")
    graph.add_edge("h", "h", weight="diagonal", delay=1)
    graph.add_node("s", op="linear", size=4)
    graph.add_edge("h", "s", weight="sparse", mask=np.tri(4), init="normal(0.8)")
    graph.add_edge("s", "s", weight="scalar", delay=1)
    graph.add_node("pi", op="linear", size=3, bias=True)
    graph.add_node("v", op="linear", size=1)
    graph.add_edge("s", "pi", weight="dense")
    graph.add_edge("s", "v", weight="dense")
    return graph


def data(seed: int = 0) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Inputs, targets and a mask."""
    random = np.random.default_rng(seed)
    targets = {"pi": random.integers(0, 3, (STEPS, BATCH)), "v": random.normal(size=(STEPS, BATCH, 1))}
    return {"x": random.normal(size=(STEPS, BATCH, 4))}, targets, random.uniform(0.5, 1.5, (STEPS, BATCH))


def part(arrays: dict[str, Array], now: slice) -> dict[str, Array]:
    return {name: array[now] for name, array in arrays.items()}


def far(found: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest number."""
    assert found.keys() == wanted.keys()
    assert any(np.abs(array).max() > 1e-3 for array in wanted.values())
    return max(np.abs(found[n] - a).max() / max(1e-3, np.abs(a).max()) for n, a in wanted.items())


@on_backends("uoro", "rtrl", "eprop", "snap(1)")
def test_a_step_is_a_prediction_and_its_credit(rule: str, backend: str) -> None:
    """If this fails, learning in two halves is not the learning of a step, or the influence advances twice."""
    skip_without(backend)
    program = fg.compile(network(), loss=LOSS, rule=rule, backend=backend)
    params, (inputs, targets, mask) = program.init(1), data()
    one = two = program.start(BATCH, draw=3)
    for now in (slice(0, 2), slice(2, 3), slice(3, 5)):
        x, y = part(inputs, now), part(targets, now)
        one, wanted = program.step(params, x, y, mask[now], state=one)
        two, prediction = program.predict(params, x, state=two)
        for _ in range(2):  # what is asked twice is answered alike
            step = program.credit(prediction, y, mask[now])
            assert far(step.grads, wanted.grads) <= TOLERANCE
        assert abs(step.loss - wanted.loss) <= TOLERANCE * wanted.loss
        assert far(prediction.outputs, wanted.outputs) <= TOLERANCE
        assert far(two, one) <= TOLERANCE


@on_backends("rtrl")
def test_objectives_have_gradients_of_their_own_from_one_influence(rule: str, backend: str) -> None:
    """If this fails, the gradient of one objective has a part of another, or a signal is not the derivative."""
    skip_without(backend)
    program = fg.compile(network(), loss={"pi": "signal", "v": "mse"}, rule=rule, backend=backend)
    params, (inputs, targets, _) = program.init(1), data()
    signals = np.random.default_rng(5).normal(size=(STEPS, BATCH, 3))
    value = targets["v"]
    outputs = program.run(params, inputs)
    error = 2 * (outputs["v"] - value)
    found: dict[str, dict[str, Array]] = {}
    state = program.start(BATCH)
    for now in (slice(0, 2), slice(2, 5)):
        state, prediction = program.predict(params, part(inputs, now), state=state)
        asked = {
            "policy": program.credit(prediction, signals={"pi": signals[now]}),
            "value": program.credit(prediction, {"v": value[now]}),
            "as a signal": program.credit(prediction, signals={"v": error[now]}),
            "both": program.credit(prediction, {"v": value[now]}, signals={"pi": signals[now]}),
        }
        for name, step in asked.items():
            past = found.get(name, {})
            found[name] = {n: g + past.get(n, 0) for n, g in step.grads.items()}
    zero, graph = np.zeros_like(signals), network()
    exact = {
        "policy": oracle.reverse(graph, params, inputs, {"pi": signals}, {"pi": "signal"}).grads,
        "value": oracle.reverse(graph, params, inputs, {"v": value}, {"v": "mse"}).grads,
        "both": oracle.reverse(graph, params, inputs, {"pi": signals, "v": value}, dict(program.losses)).grads,
    }
    exact["as a signal"] = exact["value"]
    for name, wanted in exact.items():
        filled = {n: wanted.get(n, np.zeros_like(params[n])) for n in found[name]}
        assert far(found[name], filled) <= TOLERANCE
    assert far(found["policy"], found["value"]) > 0.1
    with pytest.raises(DataError, match="targets: 'v' is missing"):
        program.step(params, inputs, {"pi": zero}, state=program.start(BATCH))


@on_backends("eprop; feedback=signal")
def test_signals_of_a_rule_are_those_of_single_samples(rule: str, backend: str) -> None:
    """If this fails, signals that a rule asks for are not averaged over the batch as losses are, or are left out."""
    skip_without(backend)
    program = fg.compile(network(), loss=LOSS, rule=rule, backend=backend)
    params, (inputs, targets, _) = program.init(1), data()
    random = np.random.default_rng(5)
    signals = {name: random.normal(size=(STEPS, BATCH, size)) for name, size in (("pi", 3), ("v", 1))}
    after, prediction = program.predict(params, inputs, state=program.start(BATCH))
    wanted = oracle.reverse(network(), params, inputs, targets, LOSS, rule, signals=signals)
    assert far(program.credit(prediction, targets, signals=signals).grads, wanted.grads) <= TOLERANCE
    assert far(program.credit(prediction, signals=signals).grads, wanted.grads) <= TOLERANCE
    assert program.step(params, inputs, targets, signals=signals, state=program.start(BATCH))[0].keys() == after.keys()
    with pytest.raises(DataError, match="signals: 'v' is missing"):
        program.credit(prediction, targets, signals={"pi": signals["pi"]})


def alone(program: fg.Program, params: Any, sample: int, **given: Any) -> dict[str, Array]:
    """The gradient of one sample, from a batch that holds no other."""
    inputs, targets, mask = data()
    own = [{name: array[:, sample : sample + 1] for name, array in each.items()} for each in (inputs, targets)]
    return program.gradient(params, *own, mask[:, sample : sample + 1], block=2, **given).grads


@on_backends("snap(1)", "rtrl", "eprop", "eprop-deep; feedback=random", "eprop-adaptive", "snap(2)", quick="eprop")
def test_gradients_per_sample_are_those_of_each_sample_alone(rule: str, backend: str) -> None:
    """If this fails, samples mix in some layout or kind of weight, or are divided by the batch."""
    skip_without(backend)
    program = fg.compile(network(), loss=LOSS, rule=rule, backend=backend, per_sample=True)
    mean = fg.compile(network(), loss=LOSS, rule=rule)
    params, (inputs, targets, mask) = mean.init(1), data()
    found = program.gradient(params, inputs, targets, mask, block=2)
    wanted = mean.gradient(params, inputs, targets, mask, block=2)
    assert found.loss == pytest.approx(wanted.loss, rel=TOLERANCE)
    assert far({name: grad.mean(axis=0) for name, grad in found.grads.items()}, wanted.grads) <= TOLERANCE
    for sample in range(BATCH):
        own = {name: grad[sample] for name, grad in found.grads.items()}
        assert far(own, alone(mean, params, sample)) <= TOLERANCE


@on_backends("mixed", "uoro")
def test_gradients_per_sample_of_one_draw_add_up(rule: Any, backend: str) -> None:
    """If this fails, an estimate of one sample has the signs of another. A mask of one sample leaves its part alone."""
    skip_without(backend)
    if rule == "mixed":
        rule = {"w->h": "kf-rtrl", "h->h": "kf-rtrl", "h.bias": "kf-rtrl", "*": "uoro"}
    program = fg.compile(network(), loss=LOSS, rule=rule, backend=backend, per_sample=True)
    mean = fg.compile(network(), loss=LOSS, rule=rule)
    params, (inputs, targets, mask) = mean.init(1), data()
    found = program.gradient(params, inputs, targets, mask, block=2, draw=1).grads
    for sample in range(BATCH):
        only = mask * (np.arange(BATCH) == sample)
        wanted = mean.gradient(params, inputs, targets, only, block=2, draw=1).grads
        own = {name: grad[sample] for name, grad in found.items()}
        assert far(own, {name: BATCH * grad for name, grad in wanted.items()}) <= TOLERANCE


def test_gradients_per_sample_have_a_price_and_are_kept_by_copies() -> None:
    """If this fails, a program is begun that does not fit, or a copy gives other gradients."""
    batch = 64
    mean, each = (fg.compile(network(), loss=LOSS, rule="eprop", per_sample=per_sample) for per_sample in (False, True))
    numbers = 8 * sum(array.size for array in mean.init().values())
    more = each.cost(batch, 1).working - mean.cost(batch, 1).working
    assert 0.5 * batch * numbers <= more <= 3 * batch * numbers
    inputs, targets, _ = data()
    params = mean.init()
    for twin in (pickle.loads(pickle.dumps(each)), each.__copy__()):
        assert twin.gradient(params, inputs, targets).grads["h->h"].shape == (BATCH, 4, 4)
    names: dict[str, Any] = {}
    exec(each.source(), names)
    _, grads = names["gradient"](params, inputs, targets, block=2)
    assert far(grads, each.gradient(params, inputs, targets, block=2).grads) <= TOLERANCE
    for refused in (
        lambda: fg.Learner(each, params, fg.SGD(0.1)),
        lambda: each.record(params, inputs, targets),
    ):
        with pytest.raises(DataError, match="per_sample"):
            refused()
    with pytest.raises(RuleError, match="per sample"):
        export(each, params, "never")


def test_a_prediction_keeps_what_it_was_made_of() -> None:
    """If this fails, an environment that refills its buffer, or an update in place, changes credit for the past."""
    program = fg.compile(network(), loss=LOSS, rule="rtrl")
    params, (inputs, targets, _) = program.init(1), data()
    _, wanted = program.step(params, inputs, targets, state=program.start(BATCH))
    _, prediction = program.predict(params, inputs, state=program.start(BATCH))
    for array in (*params.values(), *inputs.values(), *prediction.outputs.values()):
        array[...] = 7
    assert far(program.credit(prediction, targets).grads, wanted.grads) <= TOLERANCE


def test_streams_predict_and_then_learn() -> None:
    """If this fails, a step of a stream in two halves learns other than a step, or updates reach back into credit."""
    program = fg.compile(network(), loss=LOSS, rule="rtrl")
    params, (inputs, targets, _) = program.init(1), data()
    one, two = (program.stream(params, batch=BATCH, optimizer=fg.Adam(0.01)) for _ in range(2))
    for t in range(STEPS):
        x, y = inputs["x"][t].copy(), {name: array[t] for name, array in targets.items()}
        if t == 3:
            for stream in (one, two):
                stream.reset([True, False, False])
        wanted = one.step(x, y)
        outputs = two.predict(x)
        x[...] = 7
        assert far(outputs, wanted.outputs) <= TOLERANCE
        grads = two.credit(y)
        assert far(grads, one.grads) <= TOLERANCE
        two.update(grads)
        assert far(two.credit(y), grads) == 0  # of the weights that it was predicted with
        assert far(two.params, one.params) <= TOLERANCE
        assert far(two.state, one.state) <= TOLERANCE
    assert two.seen == STEPS


def test_streams_give_gradients_per_sample() -> None:
    """If this fails, outer traces cannot differ by sample in a stream."""
    program = fg.compile(network(), loss={"pi": "signal", "v": "signal"}, rule="eprop", per_sample=True)
    stream = program.stream(program.init(1), batch=BATCH, optimizer=fg.SGD(0.1))
    stream.predict(np.ones((BATCH, 4)))
    grads = stream.credit(signals={"v": [[1], [0], [-1]]})
    assert grads["h->h"].shape == (BATCH, 4, 4)
    assert not grads["h->h"][1].any()
    np.testing.assert_allclose(grads["s->v"][2], -grads["s->v"][0])
    with pytest.raises(DataError, match="Sum or average it over the batch"):
        stream.update(grads)
    before = stream.params["s->v"]
    stream.update({name: grad.sum(axis=0) for name, grad in grads.items()})
    np.testing.assert_allclose(stream.params["s->v"], before - 0.1 * grads["s->v"].sum(axis=0))


def credited(*given: Any, **named: Any) -> Any:
    program = fg.compile(network(), loss=LOSS, rule="rtrl")
    return program.credit(program.predict(program.init(), data()[0], state=program.start(BATCH))[1], *given, **named)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: credited(), "neither targets nor signals"),
        (lambda: credited(signals={"h": 0}), "signals: unknown name 'h'"),
        (lambda: credited({"z": 0}), "targets: unknown name 'z'"),
        (lambda: credited(data()[1], signals={"v": data()[1]["v"]}), "'v' is given a target and a signal"),
        (lambda: credited(signals={"v": np.ones((STEPS, 1, 1))}), r"signal 'v': expected shape \(5, 3, 1\)"),
        (lambda: credited(signals={"v": np.full((STEPS, BATCH, 1), np.nan)}), "signal 'v': nan"),
        (lambda: fg.compile(network(), loss=LOSS).credit({}), "needs what predict gave"),  # type: ignore[arg-type]
    ],
    ids=["nothing", "hidden", "unknown", "twice", "shape", "nan", "no-prediction"],
)
def test_credit_that_cannot_be_given_is_refused(call: Any, message: str) -> None:
    """If this fails, a slip of the user's gives a gradient of something else, or an error of NumPy's."""
    with pytest.raises(DataError, match=message):
        call()


def test_streams_refuse_credit_without_a_prediction() -> None:
    """If this fails, credit is given for a step of long ago."""
    program = fg.compile(network(), loss=LOSS, rule="rtrl")
    stream = program.stream(program.init(), batch=BATCH)
    y = {name: array[0] for name, array in data()[1].items()}
    with pytest.raises(DataError, match="no predicted step"):
        stream.credit(y)
    stream.predict(np.ones((BATCH, 4)))
    with pytest.raises(DataError, match="no optimizer"):
        stream.update(stream.credit(y))
    stream.step(np.ones((BATCH, 4)), y)
    with pytest.raises(DataError, match="no predicted step"):
        stream.credit(y)


def test_what_is_not_finite_is_named_where_it_is_predicted() -> None:
    """If this fails, an action is drawn from what is no number."""
    program = fg.compile(network(), loss=LOSS, rule="rtrl")
    params = program.init()
    params["s->s"] = np.array(1e200)
    with pytest.raises(NonFiniteError, match="node 's'"):
        program.predict(params, data()[0], state=program.start(BATCH))
    stream = program.stream(params, batch=BATCH)
    stream.predict(np.ones((BATCH, 4)))
    with pytest.raises(NonFiniteError):
        list(map(stream.predict, np.ones((4, BATCH, 4))))


def test_biases_and_embeddings_learn_under_kf_rtrl() -> None:
    """If this fails, kf-rtrl serves no network with biases, or adds noise to what it can hold in full."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=5)
    graph.add_node("h", op="tanh", size=3, bias=True)
    graph.add_edge("x", "h", weight="embedding")
    graph.add_edge("h", "h", weight="dense", delay=1, init="normal(1.0)")
    cells.readout(graph, "y", input="h", size=2)
    random = np.random.default_rng(0)
    inputs, targets = {"x": random.integers(0, 5, (6, 2))}, {"y": random.normal(size=(6, 2, 2))}
    exact = fg.compile(graph, loss={"y": "mse"}, rule="rtrl")
    wanted = exact.gradient(exact.init(), inputs, targets, block=1).grads
    rule = {"h.bias": "kf-rtrl", "x->h": "kf-rtrl", "h->h": "kf-rtrl", "*": "rtrl"}
    for backend in ("interpreter", "numpy"):
        program = fg.compile(graph, loss={"y": "mse"}, rule=rule, backend=backend)
        found = [program.gradient(exact.init(), inputs, targets, block=1, draw=draw).grads for draw in range(100)]
        for name in ("h.bias",):
            assert all(np.allclose(each[name], wanted[name], rtol=0, atol=1e-12) for each in found)
        for name in ("x->h", "h->h"):
            several = np.array([each[name] for each in found])
            spread = several.std(axis=0).max()
            assert spread > 1e-3  # drawn
            assert np.abs(several.mean(axis=0) - wanted[name]).max() < 5 * spread / np.sqrt(len(found))
