"""Does an array program read by JAX give what it gives as NumPy? And do its functions fit into a user's own?"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from array_program.cases import named
from checks import TOLERANCE, compiled, error, jax_in_a_hurry
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.testing import Problem
from forwardgrad.testing.comparing import chosen
from forwardgrad.testing.strategies import problems, rule_mappings

jax = pytest.importorskip("jax")
jnp = jax.numpy


@pytest.fixture(autouse=True, scope="module")
def _compiled_in_a_hurry() -> Iterator[None]:
    """What is run once need not be fast."""
    yield from jax_in_a_hurry()


LOSSLESS = (
    ("elman", "rtrl"),
    ("lstm", "eprop"),
    ("gru", "rtrl"),
    ("lif", "eprop-deep"),
    ("alif", "eprop"),
    ("leaky_stack", "hops(2) & near"),
    ("delays", "rtrl"),
    ("filtered", "eprop"),
    ("masked", "rtrl"),
    ("depth", "all; feedback=random, seed=3"),
    ("depth", "window(2)"),
)
LOSSY = (
    ("gru", "snap(2)"),
    ("lstm", "snap(1)"),
    ("delays", "all; layout=snap(9)"),
    ("alif", "uoro"),
    ("elman", {"h->h": "kf-rtrl", "*": "rtrl"}),
    ("leaky_stack", "eprop-deep; layout=snap(2), feedback=random"),
)


def gradients(program: fg.Program, problem: Problem, block: int) -> Any:
    """The gradient over a problem."""
    return program.gradient(
        problem.params, problem.inputs, problem.targets, problem.mask, problem.signals, block=block, draw=1
    )


@pytest.mark.parametrize(("name", "rule"), LOSSLESS)
def test_gradients_are_those_of_the_paths(name: str, rule: str) -> None:
    """If this fails, an instruction, a window of a scan or a boundary is read differently by JAX."""
    problem = named(name)
    program = compiled(problem, rule, backend="jax")
    wanted = oracle.reverse(**problem.arguments, rule=chosen(program))
    for block in (2, problem.steps):
        found = gradients(program, problem, block)
        assert abs(found.loss - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss))
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"block {block}"


@pytest.mark.parametrize(("name", "rule"), LOSSY)
def test_lossy_layouts_lose_and_draw_the_same(name: str, rule: Any) -> None:
    """If this fails, a run that was begun under another backend goes on differently."""
    problem = named(name)
    programs = [compiled(problem, rule, backend=backend) for backend in ("jax", "interpreter")]
    for block in (1, 2):
        found, wanted = (gradients(program, problem, block) for program in programs)
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"block {block}"


@given(st.data())
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # a shrink takes hours
def test_gradients_and_states_on_random_graphs(data: st.DataObject) -> None:
    """Ties, masks, delays of many steps, a rule for each parameter; blocks shorter than a lag."""
    problem = data.draw(problems())
    rules = data.draw(rule_mappings(problem, signals=False))
    block = data.draw(st.integers(1, problem.steps))
    ours, theirs = (compiled(problem, rules, backend=backend) for backend in ("jax", "interpreter"))
    assert error(gradients(ours, problem, block).grads, gradients(theirs, problem, block).grads) <= TOLERANCE
    inputs, targets = ({n: a[:block] for n, a in each.items()} for each in (problem.inputs, problem.targets))
    before = theirs.start(problem.batch, draw=0)
    states = [program.step(problem.params, inputs, targets, state=before)[0] for program in (ours, theirs)]
    assert states[0].keys() == states[1].keys()
    for key, array in states[1].items():
        assert isinstance(states[0][key], np.ndarray)
        assert np.abs(states[0][key] - array).max(initial=0.0) <= 1e-12 * max(1.0, np.abs(array).max(initial=0.0)), key


def test_the_precision_of_the_process_stays_as_it_is() -> None:
    """Double precision for us must not change what a user's own functions compute."""
    assert not jax.config.jax_enable_x64
    problem = named("elman")
    program = compiled(problem, "rtrl", backend="jax")
    assert gradients(program, problem, 3).grads["h->h"].dtype == np.float64
    assert not jax.config.jax_enable_x64
    assert jnp.ones(3).dtype == np.float32


def test_single_precision() -> None:
    """If this fails, arrays are widened on the way, or products are rounded to ten bits."""
    problem = named("lstm")
    single = compiled(problem, "eprop", backend="jax", dtype="float32")
    found = gradients(single, problem, 3).grads
    assert {grad.dtype for grad in found.values()} == {np.dtype("float32")}
    assert error(found, gradients(compiled(problem, "eprop"), problem, 3).grads) <= 1e-4


# Refusals.


def graph_of(op: str) -> Any:
    """x -> h -> y with an op on h."""
    graph = fg.load("elman")
    graph.nodes["h"]["op"] = op
    return graph


@pytest.mark.usefixtures("tables_as_before")
def test_functions_of_python_are_refused_by_name() -> None:
    """JAX would trace them into an error of its own, or into constants."""
    fg.register_op("mine", lambda x: np.tanh(x), lambda x, y: 1 - y * y)
    program = fg.compile(graph_of("mine"), rule="rtrl", backend="jax")
    data = {"x": np.ones((2, 1, 1))}, {"y": np.ones((2, 1, 1))}
    with pytest.raises(fg.RuleError, match=r"op 'mine', on node 'h', is a function of Python(.|\n)*formula"):
        program.gradient(program.init(), *data)


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback of an import deep inside would not say what to install."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("forwardgrad.backends.jax_engine.import_module", missing)
    with pytest.raises(fg.MissingExtraError, match=r"pip install \"forwardgrad\[jax\]\""):
        fg.compile(fg.load("elman"), backend="jax")


# Pure functions.


def test_functions_do_what_the_program_does() -> None:
    """A block, its mask with NaN where nothing is asked, and a state that goes on; inside `jit` and `scan`."""
    problem = named("lstm")
    with jax.enable_x64(True):
        program = compiled(problem, "eprop")
        functions = program.as_jax()
        steps, batch = 6, problem.batch
        inputs = {name: array[:steps] for name, array in problem.inputs.items()}
        mask = np.ones((steps, batch))
        mask[1:3] = 0
        targets = {name: np.array(array[:steps]) for name, array in problem.targets.items()}
        wanted = program.gradient(problem.params, inputs, targets, mask, block=2)
        for array in targets.values():
            array[1:3] = np.nan

        @jax.jit
        def whole(params: Any, inputs: Any, targets: Any, mask: Any) -> Any:
            def block(state: Any, piece: Any) -> Any:
                return functions.step(params, *piece, state=state)

            pieces = jax.tree.map(lambda a: a.reshape(steps // 2, 2, *a.shape[1:]), (inputs, targets, mask))
            state, found = jax.lax.scan(block, functions.init(batch), pieces)
            return state, jax.tree.map(lambda a: a.sum(axis=0), (found.loss, found.grads))

        state, (loss, grads) = whole(problem.params, inputs, targets, mask)
        assert abs(float(loss) - wanted.loss) <= TOLERANCE * abs(wanted.loss)
        assert error({name: np.asarray(grad) for name, grad in grads.items()}, wanted.grads) <= TOLERANCE
        fresh = functions.reset(state, jnp.asarray([True] + [False] * (batch - 1)))
        again = program.reset({key: np.asarray(array) for key, array in state.items()}, [True] + [False] * (batch - 1))
        assert all(np.array_equal(fresh[key], array) for key, array in again.items())
        values = functions.run(problem.params, inputs, state=functions.init(batch))
        assert np.allclose(values["y"], program.run(problem.params, inputs)["y"], rtol=0, atol=1e-12)


def test_random_layouts_go_on_counting_where_samples_start_afresh() -> None:
    """If this fails, samples that start afresh draw the signs of their first sequence again."""
    program = compiled(named("elman"), "uoro", dtype="float32")
    functions, where = program.as_jax(), np.array([True, False])
    state, problem = functions.init(2, draw=3), named("elman")
    state, _ = functions.step(problem.params, problem.inputs, problem.targets, state=state)
    before = {key: np.asarray(array) for key, array in state.items()}
    wanted, found = program.reset(before, where), functions.reset(state, jnp.asarray(where))
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(found[key], array) for key, array in wanted.items())


def test_functions_can_be_mapped() -> None:
    """Many networks at once: `vmap` over parameters."""
    problem = named("elman")
    program = compiled(problem, "rtrl", dtype="float32")
    functions = program.as_jax()
    seeds = [program.init(seed) for seed in range(3)]
    stacked = {name: jnp.stack([params[name] for params in seeds]) for name in seeds[0]}
    state = functions.init(problem.batch)
    _, found = jax.vmap(lambda params: functions.step(params, problem.inputs, problem.targets, state=state))(stacked)
    for at, params in enumerate(seeds):
        _, step = program.step(params, problem.inputs, problem.targets, state=program.start(problem.batch))
        assert error({name: np.asarray(g[at]) for name, g in found.grads.items()}, step.grads) <= 1e-5


def test_losses_of_your_own_are_given_in_jax() -> None:
    """A loss in NumPy has no form in JAX; its value in JAX is enough, for the derivative follows."""
    cube = fg.Loss("cube", lambda y, t: ((y - t) ** 3).sum(axis=1), lambda y, t: 3 * (y - t) ** 2)
    problem = replace(named("elman"), loss={"y": cube})
    program = compiled(problem, "rtrl", dtype="float32")
    with pytest.raises(fg.DataError, match=r"loss 'cube' on node 'y' (.|\n)*as_jax\(losses="):
        program.as_jax()
    functions = program.as_jax(losses={"y": lambda y, t: ((y - t) ** 3).sum(axis=1)})
    state = functions.init(problem.batch)
    _, found = functions.step(problem.params, problem.inputs, problem.targets, state=state)
    _, step = program.step(problem.params, problem.inputs, problem.targets, state=program.start(problem.batch))
    assert error({name: np.asarray(grad) for name, grad in found.grads.items()}, step.grads) <= 1e-4


def test_a_learning_signal_is_the_same_in_jax() -> None:
    """If this fails, a learning signal that is given as a target has another size or sign there."""
    problem = replace(named("elman"), loss={"y": "signal"})
    program = compiled(problem, "rtrl", dtype="float32")
    functions = program.as_jax()
    state = functions.init(problem.batch)
    _, found = functions.step(problem.params, problem.inputs, problem.targets, state=state)
    _, step = program.step(problem.params, problem.inputs, problem.targets, state=program.start(problem.batch))
    assert float(found.loss) == pytest.approx(step.loss, rel=1e-4)
    assert error({name: np.asarray(grad) for name, grad in found.grads.items()}, step.grads) <= 1e-4


@pytest.mark.parametrize("rule", ["rtrl", "eprop; feedback=signal"])
def test_the_halves_of_a_step_are_those_of_the_program(rule: str) -> None:
    """Compiled apart, with the block carried between: a target on one output, a signal on another, both, and a step."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("h", op="tanh", size=3)
    graph.add_node("pi", op="linear", size=3)
    graph.add_node("v", op="linear", size=1)
    graph.add_edges_from([("x", "h"), ("h", "pi"), ("h", "v")], weight="dense")
    graph.add_edge("h", "h", weight="dense", delay=1)
    random, shape = np.random.default_rng(0), (2, 3)
    x, v, mask = random.normal(size=(4, 3, 2)), random.normal(size=(4, 3, 1)), random.uniform(0.5, 1.5, (4, 3))
    labels, signals = (
        random.integers(0, 3, (4, 3)),
        {n: random.normal(size=(4, 3, s)) for n, s in (("pi", 3), ("v", 1))},
    )
    with jax.enable_x64(True):
        program = fg.compile(graph, {"pi": "cross_entropy", "v": "mse"}, rule=rule)
        functions, params = program.as_jax(), program.init(1)
        predict, credit = jax.jit(functions.predict), jax.jit(functions.credit)
        ours, theirs = program.start(3), functions.init(3)
        for now in (slice(0, 2), slice(2, 4)):
            here = {name: signal[now] for name, signal in signals.items()}
            asked: list[dict[str, Any]] = [
                {"signals": here},
                {"targets": {"pi": labels[now], "v": v[now]}, "mask": mask[now]},
            ]
            if rule == "rtrl":
                asked += [{"targets": {"v": v[now]}, "signals": {"pi": here["pi"]}}, {"targets": {"pi": labels[now]}}]
            else:
                asked[1]["signals"] = here
            _, whole = functions.step(params, {"x": x[now]}, **{"signals": None, **asked[1]}, state=theirs)
            ours, wanted = program.predict(params, {"x": x[now]}, state=ours)
            theirs, found = predict(params, {"x": x[now]}, state=theirs)
            assert error(dict(found.outputs), wanted.outputs) <= TOLERANCE
            assert error({key: np.asarray(array) for key, array in theirs.items()}, ours) <= TOLERANCE
            for given in asked:
                one, other = credit(found, **given), program.credit(wanted, **given)
                assert error({name: np.asarray(grad) for name, grad in one.grads.items()}, other.grads) <= TOLERANCE
                assert float(one.loss) == pytest.approx(other.loss, rel=TOLERANCE)
                assert one.outputs["pi"].shape == (*shape, 3)
            again = credit(found, **asked[1])
            assert error({name: np.asarray(grad) for name, grad in whole.grads.items()}, dict(again.grads)) <= TOLERANCE


def test_double_precision_must_be_on_for_functions() -> None:
    """JAX would round the state silently."""
    with pytest.raises(fg.DataError, match=r"float64(.|\n)*jax_enable_x64"):
        fg.compile(fg.load("elman")).as_jax()


def test_importing_the_package_does_not_import_jax() -> None:
    """It takes half a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = importlib.import_module("forwardgrad.array_program.jax_reading")
    assert "jax" not in vars(module)
