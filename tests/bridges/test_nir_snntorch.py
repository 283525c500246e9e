"""Do networks of snnTorch spike here as they do there?"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest
from bridges.nir_nets import BATCH, RESETS, net, nir, runs, same, x_of

from forwardgrad.bridges.nir import from_nir, to_nir

SNN = [
    *((layer, "subtract", "subtract_next") for layer in ("Leaky", "Synaptic", "RLeaky", "RSynaptic")),
    ("Leaky", "zero", "zero"),
    ("Synaptic", "zero", "zero_next"),
    ("RLeaky", "zero", "zero_next"),
    ("RSynaptic", "zero", "zero_next"),
]
"""Layers of snnTorch, its reset mechanism, and ours."""


def snn_steps(layer: str, mechanism: str, x: Any, values: dict[str, Any]) -> Any:
    """The spikes of a layer of snnTorch 1.0, whose steps are copied here from its `forward`, in the order of theirs."""
    alpha, beta, threshold = values["alpha"], values["beta"], values["threshold"]
    mem = syn = spk = np.zeros((BATCH, len(beta)))
    spikes: list[Any] = []
    for entering in x:
        current = entering @ values["fc"].T + values["fc_bias"]
        if layer.startswith("R"):
            current = current + spk @ values["rec"].T + values["rec_bias"]
        reset = (mem > threshold) * 1.0
        if layer == "Leaky" and mechanism == "zero":
            mem = (1 - reset) * mem
        syn = alpha * syn + current
        mem = beta * mem + (syn if "Synaptic" in layer else current)
        if mechanism == "subtract":
            mem = mem - reset * threshold
        elif layer != "Leaky":
            mem = mem - reset * mem
        spk = (mem > threshold) * 1.0
        spikes.append(spk)
    return np.stack(spikes)


def snn_values(seed: int = 0, units: int = 6) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "alpha": random.uniform(0.5, 0.9, units),
        "beta": random.uniform(0.5, 0.9, units),
        "threshold": random.uniform(0.5, 1.0, units),
        "fc": random.uniform(-0.5, 0.5, (units, 4)),
        "fc_bias": random.uniform(-0.5, 0.5, units),
        "rec": random.uniform(-0.4, 0.4, (units, units)),
        "rec_bias": random.uniform(-0.4, 0.4, units),
    }


@pytest.mark.parametrize(("layer", "mechanism", "reset"), SNN)
def test_steps_of_snntorch_written_by_hand(layer: str, mechanism: str, reset: str) -> None:
    """Spike for spike, with parameters as its export writes them; and no other reset does as well."""
    values, dt = snn_values(), 1e-4
    tau, tau_syn = dt / (1 - values["beta"]), dt / (1 - values["alpha"])
    nothing = np.zeros(6)
    if "Synaptic" in layer:
        lif = nir.CubaLIF(tau_syn, tau, tau / dt, nothing, values["threshold"], nothing, tau_syn / dt)
    else:
        lif = nir.LIF(tau, tau / dt, nothing, values["threshold"], nothing)
    nodes = {"0": nir.Affine(values["fc"], values["fc_bias"]), "1.lif": lif}
    edges = [("input", "0"), ("0", "1.lif"), ("1.lif", "output")]
    if layer.startswith("R"):
        nodes["1.w_rec"] = nir.Affine(values["rec"], values["rec_bias"])
        edges += [("1.lif", "1.w_rec"), ("1.w_rec", "1.lif")]
    x = x_of(steps=60)
    wanted = snn_steps(layer, mechanism, x, values)
    assert 0.03 < wanted.mean() < 0.9
    graph = net(nodes, edges, outputs=6)
    unequal = {each: (runs(*from_nir(graph, dt=dt, reset=each), {"input": x}) != wanted).sum() for each in RESETS}
    assert unequal.pop(reset) == 0
    assert all(unequal.values())


@pytest.mark.parametrize(("layer", "mechanism", "reset"), SNN)
def test_exports_of_snntorch(layer: str, mechanism: str, reset: str) -> None:
    """What snnTorch exports spikes here as it does there."""
    torch: Any = pytest.importorskip("torch")
    pytest.importorskip("nirtorch")
    snn: Any = pytest.importorskip("snntorch")
    export_to_nir: Any = importlib.import_module("snntorch.export_nir").export_to_nir
    torch.manual_seed(1)
    given = {"beta": torch.rand(6) * 0.4 + 0.5, "threshold": torch.rand(6) * 0.5 + 0.5, "init_hidden": True}
    given |= {"alpha": torch.rand(6) * 0.4 + 0.5} if "Synaptic" in layer else {}
    given |= {"linear_features": 6} if layer.startswith("R") else {}
    lif = getattr(snn, layer)(reset_mechanism=mechanism, **given)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), lif, torch.nn.Linear(6, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of nirtorch, which it calls by an old name
        file = export_to_nir(model, torch.randn(1, 4), ignore_dims=[0])
    lif.reset_mem()
    x = x_of(steps=60).astype(np.float32)
    with torch.no_grad():
        steps = [model[0:2](torch.from_numpy(entering)) for entering in x]
        wanted = [torch.stack(steps).numpy(), torch.stack([model[2](spikes) for spikes in steps]).numpy()]
    declared, params = from_nir(file, dt=1e-4, reset=reset)
    spikes = next(name for name in declared if name.endswith(".z"))
    assert 0.03 < wanted[0].mean() < 0.9
    assert (runs(declared, params, {"input": x}, spikes) == wanted[0]).all()
    np.testing.assert_allclose(runs(declared, params, {"input": x}), wanted[1], atol=1e-5)
    same(file, to_nir(declared, params, dt=1e-4), 1e-10)
