"""What cells of papers cost, what they leave alone, and which arguments are refused."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from nets import problem

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.errors import GraphError
from forwardgrad.graph import validate
from forwardgrad.oracle import forward
from forwardgrad.structure import Structure
from tests.cells.papers import (
    CASES,
    INPUTS,
    UNITS,
    graph_of,
)

DIAGONAL = ("indrnn", "min_gru", "min_lstm", "elstm", "columnar_lstm", "lru", "rtu linear", "rtu")


@pytest.mark.parametrize("rule", ["rtrl", "eprop"])
@pytest.mark.parametrize("case", DIAGONAL)
def test_exact_rtrl_costs_a_number_per_synapse_and_state(case: str, rule: str) -> None:
    """If this fails, the compiler does not find what the papers claim: exact RTRL at the cost of e-prop."""
    kind, options, *_ = CASES[case]
    program = fg.compile(graph_of(kind, **options), loss={"out": "mse"}, rule=rule)
    states = 2 if kind in ("lru", "rtu", "columnar_lstm") else 1
    stored = 0
    for name, derived in program.rules.items():
        assert derived.exact, name
        assert all(word is Structure.DIAGONAL for word in derived.layouts.values()), name
        assert len(derived.layouts) in (0, states), name
        parameter = program.network.parameters[name]
        assert derived.bytes == 8 * len(derived.layouts) * int(np.prod(parameter.shape)), name
        stored += bool(derived.layouts)
    assert stored >= 3


@pytest.mark.parametrize("case", ["mgu", "gru after", "lstm peepholes"])
def test_gates_that_see_the_state_cost_a_matrix(case: str) -> None:
    """If this fails, the test above passes for any cell."""
    kind, options, *_ = CASES[case]
    program = fg.compile(graph_of(kind, **options), loss={"out": "mse"}, rule="rtrl")
    words = {word for derived in program.rules.values() for word in derived.layouts.values()}
    assert words == {Structure.FULL}


def test_a_resting_unit_neither_spikes_nor_learns() -> None:
    """If this fails, the derivative of a spike is not 0 in the refractory period, as it is in Bellec et al. 2020."""
    given = problem(graph_of("lif", threshold=0.5, refractory=3, width=50.0), "out", steps=40, gain=3.0)
    values = forward(given.graph, given.params, given.inputs)
    z, above = values["l.z"], values["l.s"]
    for ago in (1, 2, 3):
        assert not (z[ago:] * z[:-ago]).any()
    assert (z[4:] * z[:-4]).any()
    assert (above > z).any()
    program = fg.compile(given.graph, loss={"out": "mse"}, rule="rtrl")
    psi = 0.3 / 0.5 * np.maximum(0, 1 - np.abs((values["l.v"] - 0.5) / 50.0))
    assert (psi > 0).all()
    eligibility, signal = (
        np.zeros((2, UNITS, INPUTS)),
        (values["out"] - given.targets["out"]) / 2 @ given.params["l.z->out"],
    )
    wanted = np.zeros((UNITS, INPUTS))
    for t, x in enumerate(given.inputs["x"]):
        eligibility = 0.9 * eligibility + x[:, None, :]
        wanted += ((signal[t] * psi[t] * values["l.ready"][t])[:, :, None] * eligibility).sum(axis=0)
    program = fg.compile(given.graph, loss={"out": "mse"}, rule="eprop")
    found = program.gradient(given.params, given.inputs, given.targets, block=7)
    np.testing.assert_allclose(found.grads["x->l.v"], wanted, rtol=1e-10)


def test_the_first_lambda_is_on_the_ring() -> None:
    """If this fails, an LRU starts unstable, or forgets at once, whatever it is asked for."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    cells.lru(graph, "l", "x", 400, r_min=0.6, r_max=0.9, max_phase=1.0, seed=3)
    parameters = validate(graph).parameters
    nu, theta, gamma = (np.asarray(parameters[f"l.{name}.bias"].init) for name in ("nu", "theta", "gamma"))
    r = np.exp(-np.exp(nu))
    assert 0.6 < r.min() < 0.62
    assert 0.88 < r.max() < 0.9
    assert abs(np.mean(r**2) - (0.6**2 + 0.9**2) / 2) < 0.02, "uniform on the ring, not in its radius"
    assert 0 < np.exp(theta).min() < 0.02
    assert 0.98 < np.exp(theta).max() < 1
    np.testing.assert_allclose(np.exp(gamma), np.sqrt(1 - r**2), rtol=1e-12)
    again = graph.copy()
    cells.lru(again, "m", "x", 400, r_min=0.6, r_max=0.9, max_phase=1.0, seed=3)
    assert np.array_equal(again.nodes["m.nu"]["bias"], graph.nodes["l.nu"]["bias"])


def test_a_reservoir_trains_nothing() -> None:
    """If this fails, a reservoir is an expensive recurrent layer, or starts with other eigenvalues than asked for."""
    graph = graph_of("reservoir", spectral_radius=1.2, density=0.8)
    network = validate(graph)
    assert set(network.trainable) == {"l.h->out", "out.bias"}
    matrix = network.edges["l.h->l.a"].value
    assert matrix is not None
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(1.2)
    assert (np.asarray(matrix) == 0).any()
    assert np.isfinite(validate(graph_of("reservoir", density=0.0)).edges["l.h->l.a"].value).all()


def test_biases_that_begin_with_long_memory() -> None:
    """If this fails, the initialisation of Tallec & Ollivier 2018 cannot be said."""
    forget = np.log([2.0, 5.0, 10.0, 20.0])
    parameters = validate(graph_of("lstm", forget_bias=forget, input_bias=-forget)).parameters
    np.testing.assert_array_equal(parameters["l.f.bias"].init, forget)
    np.testing.assert_array_equal(parameters["l.i.bias"].init, -forget)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "reset": ("gru", {"reset": "never"}, "cell gru('l'): 'reset' must be 'before' or 'after', got 'never'."),
    "reset not a word": ("gru", {"reset": ["after"]}, "'reset' must be 'before' or 'after'"),
    "peepholes": ("lstm", {"peepholes": 1}, "cell lstm('l'): 'peepholes' must be True or False, got 1."),
    "input_bias": (
        "lstm",
        {"input_bias": [1.0, 2.0]},
        "'input_bias' must be a finite number, or 4 of them, one for each",
    ),
    "r_min": ("lru", {"r_min": -0.1}, "cell lru('l'): 'r_min' must be a number from 0 to 1, got -0.1."),
    "r_max": ("rtu", {"r_max": 1.1}, "cell rtu('l'): 'r_max' must be a number from 0 to 1, got 1.1."),
    "no ring": ("lru", {"r_min": 0.9, "r_max": 0.5}, "'r_min' must be less than 'r_max', got 0.9 and 0.5."),
    "max_phase": ("rtu", {"max_phase": 0}, "'max_phase' must be a number greater than 0, got 0."),
    "seed": ("lru", {"seed": -1}, "cell lru('l'): 'seed' must be a whole number >= 0, got -1."),
    "linear": ("rtu", {"linear": "yes"}, "'linear' must be True or False, got 'yes'."),
    "nonlinearity": ("indrnn", {"nonlinearity": "rleu"}, "cell indrnn('l'): node 'l.h': unknown op 'rleu'"),
    "nonlinearity with two ports": ("rtu", {"nonlinearity": "maximum"}, "'nonlinearity' must be an op of one port"),
    "refractory": (
        "lif",
        {"refractory": 1.5},
        "cell lif('l'): 'refractory' must be a whole number from 0 to 1000, got 1.5.",
    ),
    "refractory for ever": ("alif", {"refractory": 10**9}, "'refractory' must be a whole number from 0 to 1000"),
    "synaptic_leak": ("cuba_lif", {"synaptic_leak": 2}, "'synaptic_leak' must be a number from 0 to 1, got 2."),
    "taps": ("delay_line", {"taps": 0}, "cell delay_line('l'): 'taps' must be a whole number from 1 to 1000, got 0."),
    "size of a matrix": (
        "reservoir",
        {"size": 10**5},
        "draws 10,000,000,000 numbers; at most 268,435,456 can be drawn.",
    ),
    "size of a ring": ("lru", {"size": 10**12}, "cell lru('l'): draws 1,000,000,000,000 numbers; at most"),
    "dilation": ("delay_line", {"dilation": 0}, "'dilation' must be a whole number >= 1, got 0."),
    "spectral_radius": ("reservoir", {"spectral_radius": -1}, "'spectral_radius' must be a number >= 0, got -1."),
    "density": ("reservoir", {"density": 1.5}, "'density' must be a number from 0 to 1, got 1.5."),
    "leaks": ("parallel_reservoirs", {"leak": [0.1, 0.2, 0.3]}, "'leak' has 3 numbers for 2 reservoirs."),
    "one leak": ("parallel_reservoirs", {"leak": [0.1, 2.0]}, "'leak' must be a number from 0 to 1, got 2.0."),
    "rank": ("low_rank", {"rank": 0}, "cell low_rank('l'): 'rank' must be a whole number >= 1, got 0."),
    "inhibitory": ("ei_pair", {"inhibitory": 0}, "cell ei_pair('l'): 'inhibitory' must be a whole number >= 1, got 0."),
    "threshold": ("egru", {"threshold": 0.0}, "cell egru('l'): 'threshold' must be a number greater than 0, got 0.0."),
    "skips": ("stack", {"skips": "resnet"}, "cell stack('l'): 'skips' must be 'none' or 'residual' or 'dense' or"),
    "what is stacked": (
        "stack",
        {"layer": "lstn"},
        "cell stack('l'): 'layer' names no cell: 'lstn'.\n  Did you mean 'lstm",
    ),
    "option": ("stack", {"layer": "lstm", "peephole": True}, "cell 'lstm' has no argument 'peephole'."),
    "value of an option": (
        "stack",
        {"layer": "lif", "leak": 2},
        "cell stack('l'): cell lif('l.1'): 'leak' must be a number from 0 to 1, got 2.",
    ),
    "depth": ("stack", {"depth": 0}, "cell stack('l'): 'depth' must be a whole number from 1 to 1000, got 0."),
    "pool": ("max_pool", {"shape": 4, "kernel": 5}, "cell max_pool('l'): a kernel of (5,) does not fit into (4,)"),
    "shape": ("max_pool", {"shape": [4]}, "cell max_pool('l'): 'shape' has channels and no axis."),
    "shape not whole": (
        "max_pool",
        {"shape": [1, 2.5]},
        "cell max_pool('l'): 'shape' must be a whole number >= 1, or a",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument_adds_nothing(name: str) -> None:
    """If this fails, an error leaves half a cell in the user's graph, or does not say what was wrong."""
    kind, options, words = BAD[name]
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=INPUTS)
    with pytest.raises(GraphError) as error:
        cells.TABLE[kind](graph, "l", "x", **{"size" if kind != "max_pool" else "shape": UNITS} | options)
    assert words in str(error.value)
    assert list(graph) == ["x"]
    assert not graph.edges
