"""Do weights of PyTorch give its outputs and its gradients here, and come back unharmed?"""

from __future__ import annotations

import importlib.util
from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.bridges.torch import LAYERS, from_state_dict, to_state_dict
from forwardgrad.errors import DataError

INPUTS, UNITS, STEPS, BATCH = 3, 4, 9, 2

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def weights(kind: str, layers: int = 2, *, bias: bool = True, seed: int = 0) -> dict[str, Any]:
    """Random weights by PyTorch's names."""
    random, found = np.random.default_rng(seed), dict[str, Any]()
    rows = UNITS * len(LAYERS[kind].gates)
    for number in range(layers):
        for word, columns in (("ih", UNITS if number else INPUTS), ("hh", UNITS)):
            found[f"weight_{word}_l{number}"] = random.normal(size=(rows, columns)) * 0.5
            if bias:
                found[f"bias_{word}_l{number}"] = random.normal(size=rows) * 0.5
    return found


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def documented(kind: str, state: dict[str, Any], x: Any, nonlinearity: str = "tanh") -> Any:
    """The outputs of the last layer, by the equations that PyTorch documents."""
    layers = sum(name.startswith("weight_ih") for name in state)
    for number in range(layers):
        w, u = state[f"weight_ih_l{number}"], state[f"weight_hh_l{number}"]
        b, d = (state.get(f"bias_{word}_l{number}", np.zeros(len(w))) for word in ("ih", "hh"))
        h = c = np.zeros((x.shape[1], UNITS))
        outputs = []
        for now in x:
            gi, gh = now @ w.T + b, h @ u.T + d
            if kind == "rnn":
                h = np.tanh(gi + gh) if nonlinearity == "tanh" else np.maximum(gi + gh, 0)
            elif kind == "gru":
                (ir, iz, i_n), (hr, hz, hn) = np.split(gi, 3, axis=1), np.split(gh, 3, axis=1)
                r, z = sigmoid(ir + hr), sigmoid(iz + hz)
                h = (1 - z) * np.tanh(i_n + r * hn) + z * h
            else:
                i, f, g, o = np.split(gi + gh, 4, axis=1)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.stack(outputs)
    return x


def program(graph: nx.MultiDiGraph[str], params: dict[str, Any], layers: int = 2) -> tuple[fg.Program, dict[str, Any]]:
    """The graph with a fixed readout, and all of its parameters."""
    graph.add_node("y", op="linear", size=UNITS)
    graph.add_edge(f"l{layers}.h", "y", value=1.0)
    compiled = fg.compile(graph, {"y": "mse"}, "rtrl")
    assert compiled.init().keys() == params.keys()
    return compiled, params


CASES = [("rnn", "tanh"), ("rnn", "relu"), ("gru", "tanh"), ("lstm", "tanh")]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "nonlinearity"), CASES)
def test_outputs_are_those_of_the_documented_equations(kind, nonlinearity, bias):
    """If this fails, a trained model is another one here."""
    state = weights(kind, bias=bias)
    x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUTS))
    compiled, params = program(*from_state_dict(kind, state, nonlinearity=nonlinearity))
    found = compiled.run(params, {"x": x})["l2.h"]
    np.testing.assert_allclose(found, documented(kind, state, x, nonlinearity), atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_come_back(kind, bias):
    """If this fails, what was trained here is another model in PyTorch."""
    state = weights(kind, bias=bias)
    _, params = from_state_dict(kind, state)
    again = to_state_dict(kind, params | {"other": np.zeros(3)})
    assert again.keys() == state.keys()
    for name, array in state.items():
        assert again[name].shape == array.shape
        if name.startswith("weight"):
            np.testing.assert_array_equal(again[name], array)
    x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUTS))
    np.testing.assert_allclose(documented(kind, again, x), documented(kind, state, x), atol=1e-12)
    assert from_state_dict(kind, again)[1].keys() == params.keys()


def test_a_layer_inside_a_module_is_found_by_its_prefix():
    """If this fails, only bare layers can be brought along."""
    state = {f"encoder.rnn.{name}": array for name, array in weights("gru").items()} | {"head.weight": np.ones((2, 4))}
    assert (
        from_state_dict("gru", state, prefix="encoder.rnn.")[1].keys()
        == from_state_dict("gru", weights("gru"))[1].keys()
    )
    with pytest.raises(DataError, match=r"begin with 'encoder.rnn.': give one as `prefix`"):
        from_state_dict("gru", state)


def changed(kind: str = "lstm", **arrays: Any) -> dict[str, Any]:
    return {name: array for name, array in (weights(kind) | arrays).items() if array is not None}


REFUSED = {
    "another kind": (
        lambda: from_state_dict("gru", weights("lstm")),
        r"'weight_ih_l0' has 16 rows; that of a GRU with 4",
    ),
    "an unknown kind": (lambda: from_state_dict("lsmt", {}), "Did you mean 'lstm'"),
    "bidirectional": (
        lambda: from_state_dict("lstm", changed(weight_ih_l0_reverse=np.ones((16, 3)))),
        "bidirectional: no online rule",
    ),
    "projections": (lambda: from_state_dict("lstm", changed(weight_hr_l0=np.ones((2, 4)))), "has projections"),
    "a layer that is missing": (
        lambda: from_state_dict("lstm", {"weight_ih_l1": np.ones((16, 4))}),
        "no weights of an LSTM",
    ),
    "a weight that is missing": (
        lambda: from_state_dict("lstm", changed(weight_hh_l1=None)),
        "'weight_hh_l1' is missing",
    ),
    "a bias that is missing": (lambda: from_state_dict("lstm", changed(bias_hh_l0=None)), "'bias_hh_l0' is missing"),
    "a shape": (
        lambda: from_state_dict("lstm", changed(weight_ih_l1=np.ones((16, 5)))),
        r"'weight_ih_l1' has shape \(16, 5\); that of an LSTM with 4 units is \(16, 4\)",
    ),
    "what is not finite": (lambda: from_state_dict("rnn", changed("rnn", bias_ih_l0=np.full(4, np.nan))), "not finite"),
    "a nonlinearity": (lambda: from_state_dict("lstm", weights("lstm"), nonlinearity="relu"), "'relu' for an RNN"),
    "a parameter": (lambda: to_state_dict("rnn", {"x->l1.h": np.ones((4, 3))}), r"'l1.h->l1.h' of an RNN is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    """If this fails, a model is brought along in part, or an error speaks of arrays that the user never saw."""
    call, words = REFUSED[name]
    with pytest.raises(DataError, match=words):
        call()


@needs_torch
@pytest.mark.parametrize(("kind", "nonlinearity"), CASES)
def test_outputs_and_gradients_are_those_of_pytorch(kind, nonlinearity):
    """If this fails, exact gradients here are not those of backpropagation there."""
    import torch

    options = {"nonlinearity": nonlinearity} if kind == "rnn" else {}
    layer = getattr(torch.nn, kind.upper())(INPUTS, UNITS, num_layers=2, dtype=torch.float64, **options)
    x, y = (torch.randn(STEPS, BATCH, size, dtype=torch.float64) for size in (INPUTS, UNITS))
    outputs, _ = layer(x)
    (torch.nn.functional.mse_loss(outputs, y, reduction="none").mean(dim=(1, 2))).sum().backward()
    compiled, params = program(*from_state_dict(kind, layer.state_dict(), nonlinearity=nonlinearity))
    np.testing.assert_allclose(compiled.run(params, {"x": x.numpy()})["y"], outputs.detach().numpy(), atol=1e-12)
    ours = compiled.gradient(params, {"x": x.numpy()}, {"y": y.numpy()}, block=4).grads
    theirs = {name: parameter.grad.numpy() for name, parameter in layer.named_parameters()}
    found = to_state_dict(kind, ours)
    for name, array in theirs.items():
        if not name.startswith("bias_hh") or kind == "gru":
            wanted, same = array, found[name]
            if name.startswith("bias_hh"):  # its other gates share their bias with bias_ih
                wanted, same = array[2 * UNITS :], found[name][2 * UNITS :]
            np.testing.assert_allclose(same, wanted, atol=1e-10, err_msg=name)
