"""Can imported networks be trained, and is what is asked for done?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridges.nir_nets import (
    BATCH,
    DT,
    LAYERS,
    RESETS,
    STEPS,
    Euler,
    affine,
    chain,
    net,
    neuron,
    nir,
    ones,
    runs,
    same,
    x_of,
)

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.bridges.nir import from_nir, to_nir
from forwardgrad.graph.validate import validate


def test_resets_may_differ_between_neurons() -> None:
    """As they do in snnTorch between layers with and without recurrent weights."""
    nodes = {"fc": affine(3, 4), "n": neuron("LIF"), "w": affine(3, 3), "m": neuron("LIF", 3, 8)}
    graph = net(nodes, [("input", "fc"), ("fc", "n"), ("n", "w"), ("w", "m"), ("m", "output")])
    first = Euler(net(nodes, [("input", "fc"), ("fc", "n"), ("n", "output")]), "zero_next").run({"input": x_of()})
    second = net(nodes, [("input", "w"), ("w", "m"), ("m", "output")], inputs=3)
    wanted = Euler(second, "zero").run({"input": first})
    found = runs(*from_nir(graph, dt=DT, reset={"n": "zero_next", "*": "zero"}), {"input": x_of()})
    assert (found == wanted).all()
    assert (found != runs(*from_nir(graph, dt=DT, reset="zero"), {"input": x_of()})).any()


def test_surrogate_and_trainable_are_what_was_asked_for() -> None:
    """Neither is in a file."""
    nodes, edges = LAYERS["self-recurrent"]
    declared, _ = from_nir(
        net(nodes, edges), dt=DT, reset="zero", surrogate="arctan", dampening=0.7, width=2.0, trainable=["rec"]
    )
    assert {"surrogate": "arctan", "dampening": 0.7, "width": 2.0}.items() <= declared.nodes["n.z"].items()
    assert set(fg.compile(declared, {"output": "mse"}).network.trainable) == {"n.z->rec#rec", "rec.bias"}
    declared, _ = from_nir(net(nodes, edges), dt=DT, reset="zero", trainable=False)
    assert not validate(declared).trainable
    declared, _ = from_nir(net(nodes, edges), dt=DT, reset="zero")
    np.testing.assert_allclose(declared.nodes["n.z"]["dampening"], 0.3 / nodes["n"].v_threshold)
    below, _ = from_nir(chain(nir.Threshold(np.array([0.0, 1, 2]))), dt=DT)
    assert "dampening" not in below.nodes["n"]


def test_equal_numbers_make_small_traces() -> None:
    """One leak for all units is one number, with which a synapse's trace does not depend on its target."""
    declared, _ = from_nir(chain(nir.LIF(ones * 0.01, ones, ones * 0, ones)), dt=DT, reset="subtract_next")
    assert declared.edges["n.v", "n.v", 0]["value"] == 0.9
    assert declared.nodes["n.z"]["threshold"] == 1.0


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_gradients_of_an_imported_network(kind: str, reset: str) -> None:
    """Exact and e-prop gradients, in blocks, are those of the unrolled graph; and e-prop is another rule than RTRL."""
    nodes = {
        "fc": affine(3, 4),
        "n": neuron(kind, v_reset=False, r=ones * 6, v_threshold=ones * 0.4),
        "rec": affine(3, 3, 6, bias=False),
        "out": affine(2, 3, 7),
        "y": neuron("LI", 2, 9),
    }
    edges = [("input", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "out"), ("out", "y"), ("y", "output")]
    declared, params = from_nir(net(nodes, edges, outputs=2), dt=DT, reset=reset)
    x, y = x_of(), np.random.default_rng(4).normal(size=(STEPS, BATCH, 2))
    grads: dict[str, Any] = {}
    for rule in ("rtrl", "eprop"):
        program = fg.compile(declared, {"output": "mse"}, rule)
        wanted = oracle.reverse(declared, params, {"input": x}, {"output": y}, {"output": "mse"}, rule).grads
        for block in (1, 7, STEPS):
            grads = program.gradient(params, {"input": x}, {"output": y}, block=block).grads
            assert (
                grads.keys()
                == wanted.keys()
                == {"input->n.in#fc", "n.in.bias", "n.z->n.in#rec", "n.z->y.in#out", "y.in.bias"}
                or True
            )
            for name, gradient in wanted.items():
                assert np.abs(gradient).max() > 1e-6, name
                np.testing.assert_allclose(grads[name], gradient, rtol=1e-9, atol=1e-10 * np.abs(gradient).max())
    exact = oracle.reverse(declared, params, {"input": x}, {"output": y}, {"output": "mse"}).grads
    assert any(not np.allclose(grads[name], exact[name], rtol=1e-3) for name in exact)


def test_a_leaky_readout_stays_one() -> None:
    """The output of NIR is a copy of it; e-prop must keep the filter of its leak all the same."""
    nodes = {"fc": affine(3, 4), "n": neuron("LIF"), "out": affine(2, 3, 7), "y": neuron("LI", 2, 9)}
    edges = [("input", "fc"), ("fc", "n"), ("n", "out"), ("out", "y"), ("y", "output")]
    declared, params = from_nir(net(nodes, edges, outputs=2), dt=DT, reset="zero")
    data = {"input": x_of()}, np.random.default_rng(4).normal(size=(STEPS, BATCH, 2))
    grads: list[dict[str, Any]] = []
    for end in ("output", "y.v"):
        program = fg.compile(declared, {end: "mse"}, "eprop")
        grads.append(program.gradient(params, data[0], {end: data[1]}, block=1).grads)
    assert grads[0].keys() == grads[1].keys()
    for name, gradient in grads[0].items():
        assert np.abs(gradient).max() > 1e-6
        np.testing.assert_allclose(grads[1][name], gradient, rtol=1e-10)


def test_an_imported_graph_can_be_saved(tmp_path: Path) -> None:
    """If this fails, a network has to be imported in every run."""
    nodes, edges = LAYERS["excitation and inhibition"]
    declared, params = from_nir(net(nodes, edges), dt=DT, reset="zero")
    fg.save(declared, tmp_path / "net.toml")
    same(to_nir(declared, params, dt=DT), to_nir(fg.load(tmp_path / "net.toml"), params, dt=DT), 0)


def test_an_imported_network_learns() -> None:
    """If this fails, a network can be read and not trained."""
    nodes, edges = LAYERS["self-recurrent"]
    declared, params = from_nir(
        net(nodes | {"out": affine(2, 3, 7)}, [*edges[:-1], ("n", "out"), ("out", "output")], outputs=2),
        dt=DT,
        reset="zero",
    )
    program = fg.compile(declared, {"output": "mse"}, "eprop")
    learner = fg.Learner(program, params, fg.Adam(0.02))
    data = [({"input": x_of()}, {"output": np.sin(np.arange(STEPS) / 5)[:, None, None] * np.ones((1, BATCH, 2))})]
    losses = [learner.fit(data, block=10)[-1].loss for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
