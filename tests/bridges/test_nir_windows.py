"""Are convolutions, pools and flattened layers of NIR those of plain loops?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bridges.nir_nets import BATCH, DT, WINDOWS, Euler, affine, conv2d, net, neuron, nir, quiet, runs, x_of

from forwardgrad.bridges.nir import from_nir


def window(kind: str, node: Any, x: Any) -> Any:
    """A convolution or a pool of `(steps, batch, channels, *axes)`, by loops."""
    weight = getattr(node, "weight", None)
    size = np.broadcast_to(node.kernel_size, (2,)) if weight is None else weight.shape[2:]
    axes = len(size)
    stride, padding, dilation = (
        np.broadcast_to(getattr(node, name, 1), (axes,)) for name in ("stride", "padding", "dilation")
    )
    padded = np.pad(x, [(0, 0)] * 3 + [(int(p), int(p)) for p in padding])
    places = [(padded.shape[3 + a] - dilation[a] * (size[a] - 1) - 1) // stride[a] + 1 for a in range(axes)]
    channels = x.shape[2] if weight is None else len(weight)
    out = np.zeros((*x.shape[:2], channels, *places))
    for place in np.ndindex(*places):
        for entry in np.ndindex(*size):
            at = tuple(place[a] * stride[a] + entry[a] * dilation[a] for a in range(axes))
            seen = padded[(slice(None), slice(None), slice(None), *at)]
            if weight is None:
                out[(..., *place)] += seen / (np.prod(size) if kind == "AvgPool2d" else 1)
                continue
            read = weight.shape[1]
            for c in range(channels):
                first = c // (channels // node.groups) * read
                out[(slice(None), slice(None), c, *place)] += (
                    seen[:, :, first : first + read] @ weight[(c, slice(None), *entry)]
                )
    bias = getattr(node, "bias", np.zeros(1))
    return out + bias.reshape(-1, *[1] * axes)


@pytest.mark.parametrize("name", WINDOWS)
def test_convolutions_and_pools_are_those_of_loops(name: str) -> None:
    """And their parameters, with a bias for each channel, come back as they were."""
    shape, node = WINDOWS[name]
    kind, x = type(node).__name__, np.random.default_rng(3).normal(size=(6, BATCH, *shape))
    loops = window(kind, node, x) if not isinstance(getattr(node, "padding", 0), str) else None
    if name == "conv2d, same":
        loops = window(kind, conv2d(2, 1, (3, 5), padding=(1, 2)), x)
    if name == "conv2d, no bias":
        loops = window(kind, conv2d(2, 1, (3, 3), bias=np.zeros(2)), x)
    assert loops is not None
    flat = int(np.prod(loops.shape[2:]))
    nodes = {
        "input": nir.Input(np.array(shape)),
        "c": node,
        "n": neuron("LI", loops.shape[2:]),
        "f": nir.Flatten({"input": None}, 0, -1),
        "fc": affine(3, flat),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "c"), ("c", "n"), ("n", "f"), ("f", "fc"), ("fc", "output")]
    declared, params = from_nir(nir.NIRGraph(nodes, edges, type_check=False), dt=DT)
    assert declared.nodes["n.v"]["shape"] == list(loops.shape[2:])
    potential = np.zeros((BATCH, *loops.shape[2:]))
    li, potentials = nodes["n"], list[Any]()
    for current in loops:
        potential = potential + DT / li.tau * ((li.v_leak - potential) + li.r * current)
        potentials.append(potential)
    wanted = np.stack(potentials).reshape(6, BATCH, -1) @ nodes["fc"].weight.T + nodes["fc"].bias
    np.testing.assert_allclose(runs(declared, params, {"input": x}), wanted, atol=1e-10)
    back = quiet(declared, params)
    again = back.nodes["c"]
    for field in ("weight", "bias", "groups", "kernel_size"):
        if hasattr(node, field):
            np.testing.assert_array_equal(
                np.broadcast_to(getattr(node, field), np.shape(getattr(again, field))), getattr(again, field)
            )
    np.testing.assert_allclose(runs(*from_nir(back, dt=DT), {"input": x}), wanted, atol=1e-10)


def test_a_bias_of_a_convolution_is_shared_by_its_places() -> None:
    """If this fails, training breaks what makes it a convolution."""
    shape, node = WINDOWS["conv2d"]
    nodes = {"input": nir.Input(np.array(shape)), "c": node, "output": nir.Output(np.array([4, 3, 5]))}
    _, params = from_nir(nir.NIRGraph(nodes, [("input", "c"), ("c", "output")], type_check=False), dt=DT)
    assert params["c.bias.bias"].shape == (4,)
    assert params["input->output#c"].shape == node.weight.shape


def test_partial_flattening() -> None:
    """If this fails, a layer after `Flatten(start_dim=1)` gets other axes."""
    nodes = {
        "input": nir.Input(np.array([2, 3, 4])),
        "f": nir.Flatten({"input": np.array([2, 3, 4])}, 1, -1),
        "c": nir.Conv1d(None, np.ones((1, 2, 12)), 1, 0, 1, 1, np.zeros(1)),
        "output": nir.Output(np.array([1, 1])),
    }
    declared, params = from_nir(nir.NIRGraph(nodes, [("input", "f"), ("f", "c"), ("c", "output")]), dt=DT)
    x = x_of(24)
    assert declared.nodes["c.in"]["shape"] == [2, 12]
    np.testing.assert_allclose(runs(declared, params, {"input": x})[..., 0], x.sum(axis=-1), atol=1e-12)


def test_a_convolution_flattened_into_a_layer() -> None:
    """If this fails, `Conv2d -> Flatten -> LIF -> Linear` cannot be read."""
    node = conv2d(4, 2, (3, 2))
    nodes = {
        "input": nir.Input(np.array([2, 5, 6])),
        "c": node,
        "f": nir.Flatten({"input": np.array([4, 3, 5])}, 0, -1),
        "n": neuron("LI", 60),
        "fc": affine(3, 60),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "c"), ("c", "f"), ("f", "n"), ("n", "fc"), ("fc", "output")]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    x = np.random.default_rng(3).normal(size=(6, BATCH, 2, 5, 6))
    flat = net({"n": nodes["n"], "fc": nodes["fc"]}, [("input", "n"), ("n", "fc"), ("fc", "output")], 60)
    wanted = Euler(flat).run({"input": window("Conv2d", node, x).reshape(6, BATCH, 60)})
    declared, params = from_nir(graph, dt=DT)
    np.testing.assert_allclose(runs(declared, params, {"input": x}), wanted, atol=1e-10)
    back = quiet(declared, params)
    assert sorted(type(each).__name__ for each in back.nodes.values()) == sorted(
        type(n).__name__ for n in nodes.values()
    )
    np.testing.assert_allclose(runs(*from_nir(back, dt=DT), {"input": x}), wanted, atol=1e-10)
