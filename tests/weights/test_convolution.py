"""Is a convolution the sum over windows that it is defined as, with gradients and prices that follow?"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from checks import assert_like_oracle, error
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import oracle, testing
from forwardgrad.graph import validate
from forwardgrad.testing.problem import Origin, Problem
from forwardgrad.verification import verify

LINE = {"weight": "conv1d", "kernel": 3, "padding": 1}


def convolutional(**recurrent: Any) -> nx.MultiDiGraph[str]:
    """Two channels of five places behind one of nine, recurrent over places, and a dense readout."""
    graph = declare(
        {
            "x": {"op": "input", "size": 9},
            "h": {"op": "tanh", "bias": True},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "h", {"weight": "conv1d", "kernel": 3, "stride": 2, "padding": 1, "channels": 2}),
        ("h", "h", {"delay": 1} | (recurrent or LINE)),
        ("h", "y", {"weight": "dense"}),
    )
    graph.graph["loss"] = {"y": "mse"}
    return graph


def by_windows(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The sum over channels and windows as papers write it: `(channels, *space)` to `(channels, *places)`."""
    out, read, *window = kernel.shape
    padded = np.pad(x, [(0, 0), *((p, p) for p in padding)])
    span = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    places = [(n - s) // by + 1 for n, s, by in zip(padded.shape[1:], span, stride, strict=True)]
    found = np.zeros((out, *places))
    for o in range(out):
        first = o // (out // groups) * read
        for at in itertools.product(*map(range, places)):
            for c in range(read):
                for k in itertools.product(*map(range, window)):
                    there = tuple(a * s + i * d for a, s, i, d in zip(at, stride, k, dilation, strict=True))
                    found[(o, *at)] += kernel[(o, c, *k)] * padded[(first + c, *there)]
    return found


CASES = [
    ("conv1d", (1, 7), 1, {"kernel": 3}),
    ("conv1d", (4, 9), 6, {"kernel": 2, "stride": 3, "padding": 2, "groups": 2}),
    ("conv1d", (3, 11), 3, {"kernel": [3], "dilation": 2, "padding": [1], "groups": 3}),
    ("conv1d", (1, 5), 2, {"kernel": 5}),
    ("conv1d", (2, 3), 1, {"kernel": 1, "padding": 2}),
    ("conv2d", (1, 4, 6), 2, {"kernel": 3}),
    ("conv2d", (2, 5, 4), 3, {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 0], "dilation": [1, 2]}),
    ("conv2d", (4, 3, 3), 4, {"kernel": [2, 2], "groups": 4}),
]


@pytest.mark.parametrize("backend", ["interpreter", "numpy"])
@pytest.mark.parametrize(("kind", "shape", "channels", "attributes"), CASES)
def test_it_is_the_sum_over_windows(
    kind: str, shape: tuple[int, ...], channels: int, attributes: dict[str, Any], backend: str
) -> None:
    """With every stride, padding, dilation and grouping, and the shape that follows."""
    graph = declare(
        {"x": {"op": "input", "shape": list(shape)}, "y": {"op": "linear"}},
        ("x", "y", {"weight": kind, "channels": channels, **attributes}),
    )
    axes, random = len(shape) - 1, np.random.default_rng(3)
    every = {
        name: tuple(np.broadcast_to(attributes.get(name, default), axes))
        for name, default in (("kernel", 0), ("stride", 1), ("padding", 0), ("dilation", 1))
    }
    groups = attributes.get("groups", 1)
    kernel = random.normal(size=(channels, shape[0] // groups, *every["kernel"]))
    x = random.normal(size=(4, 2, *shape))
    program = fg.compile(graph, rule="rtrl", loss={"y": "mse"}, backend=backend)
    wanted = [
        [by_windows(each, kernel, every["stride"], every["padding"], every["dilation"], groups) for each in step]
        for step in x
    ]
    shaped = program.network.nodes["y"].shape
    assert shaped == wanted[0][0].shape
    found = program.run({"x->y": kernel}, {"x": x})["y"]
    assert np.allclose(found.reshape(4, 2, *shaped), np.array(wanted), rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "immediate"])
def test_gradients_are_those_of_the_oracle(rule: str) -> None:
    """Under every rule, in both backends, in blocks shorter than the sequence; the kernel of a loop is shared too."""
    problem = Problem.tame(convolutional(), {"y": "mse"}, Origin(seed=1, steps=7))
    assert_like_oracle(problem, rule, blocks=(1, 3))


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "snap(1)", "snap(2)", "immediate"])
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
def test_the_gradient_of_a_kernel_adds_up_over_synapses(rule: str, backend: str) -> None:
    """The same network with a weight of its own for every synapse; its gradients are added up here, by hand."""
    skip_without(backend)
    shared, untied = convolutional(), convolutional()
    network = validate(shared)
    params = fg.compile(shared).init(seed=4)
    spread, patterns = dict(params), {}
    for u, v, key, attributes in untied.edges(keys=True, data=True):
        name = f"{u}->{v}"
        pattern = network.edges[name].pattern
        if pattern is None:
            continue
        assert pattern.entries is not None
        mask = np.zeros(pattern.shape)
        mask[pattern.rows, pattern.columns] = 1
        for word in ("kernel", "stride", "padding", "channels"):
            attributes.pop(word, None)
        untied.edges[u, v, key].update(weight="sparse", mask=mask)
        spread[name], patterns[name] = params[name].ravel()[pattern.entries], pattern
    random = np.random.default_rng(5)
    inputs, targets = {"x": random.normal(size=(8, 2, 9))}, {"y": random.normal(size=(8, 2, 2))}
    found, wanted = (
        fg.compile(graph, rule=rule, loss={"y": "mse"}, backend=name).gradient(given, inputs, targets, block=2).grads
        for graph, given, name in ((shared, params, backend), (untied, spread, "numpy"))
    )
    for name, pattern in patterns.items():
        sums = np.zeros(pattern.kernel).ravel()
        for entry, synapse in zip(pattern.entries, wanted[name], strict=True):
            sums[entry] += synapse
        assert np.abs(sums).max() > 1e-3
        assert np.allclose(found[name], sums.reshape(pattern.kernel), rtol=0, atol=1e-12)
    assert np.allclose(found["h.bias"], wanted["h.bias"], rtol=0, atol=1e-12)


def test_gradients_are_slopes_of_the_loss() -> None:
    """Finite differences know nothing of kernels but the values."""
    problem = Problem.tame(convolutional(), {"y": "mse"}, Origin(seed=2, steps=5))
    wanted = oracle.finite_difference(**problem.arguments).grads
    found = fg.compile(problem.graph).gradient(problem.params, problem.inputs, problem.targets, block=2).grads
    assert np.abs(wanted["h->h"]).max() > 1e-3
    assert error(found, wanted) < 1e-6


def test_uoro_is_unbiased() -> None:
    """The mean of many estimates is the exact gradient, for a kernel as for any weight."""
    testing.assert_unbiased("uoro", Problem.tame(convolutional(), {"y": "mse"}, Origin(seed=2, steps=4)), seeds=240)


def test_a_kernel_of_a_fixed_value_is_kept() -> None:
    """A filter given as an array is no parameter."""
    kernel = np.arange(6.0).reshape(2, 1, 3)
    graph = declare(
        {"x": {"op": "input", "size": 5}, "y": {"op": "linear"}},
        ("x", "y", {"weight": "conv1d", "kernel": 3, "channels": 2, "value": kernel}),
    )
    program, x = fg.compile(graph, loss={"y": "mse"}), np.arange(5.0)
    assert not program.network.parameters
    wanted = by_windows(x[None], kernel, (1,), (0,), (1,), 1)
    assert np.array_equal(program.run({}, {"x": x[None, None]})["y"][0, 0], wanted.ravel())


def test_it_costs_what_its_windows_say() -> None:
    """At the border a window has two entries of three; e-prop keeps a trace of each, RTRL an influence on each unit."""
    windows = 2 * (3 * 3 + 2 * 2)  # of both channels
    traces = 2 * windows + windows + 10  # two channels are read, one, and the bias
    influence = 10 * (2 * 2 * 3 + 2 * 1 * 3 + 10)
    leaky = convolutional()
    leaky.add_edge("h", "h", delay=1, value=0.5)
    found = [sum(fg.compile(leaky, rule=rule).cost().influence.values()) for rule in ("eprop", "rtrl")]
    assert found == [8 * traces, 8 * influence]


def test_the_shipped_network_costs_what_its_layouts_say() -> None:
    """Eight channels of four places: under RTRL potential and spike of a unit have an influence of each kernel entry;
    under e-prop the leak is shared, so a trace is what a synapse reads, filtered. The readout filters once more.
    """
    kernels, units, taps = 8 * 1 * 5 + 8 * 8 * 3, 8 * 4, 8
    readout = kernels + 8 * 2 + 1
    exact, online = (
        sum(fg.compile(fg.load("conv_lif"), rule=rule).cost().influence.values()) for rule in ("rtrl", "eprop")
    )
    assert exact == 8 * (2 * units * kernels + readout)
    assert online == 8 * (taps + units + readout)


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "immediate"])
def test_gradients_of_the_shipped_network_are_those_of_the_oracle(rule: str) -> None:
    """Kernels, a pool and spikes together, in blocks shorter than the sequence."""
    given = problem(fg.load("conv_lif"), "y", steps=12, batch=2, gain=3.0)
    program = assert_like_oracle(given, rule, blocks=(1, 5))
    found = program.gradient(given.params, given.inputs, given.targets, block=2)
    assert rule == "immediate" or all(np.abs(grad).max() > 1e-6 for grad in found.grads.values())


def test_files_pictures_equations_and_checkpoints_know_it(tmp_path: Path) -> None:
    """A kind that works only in Python is half a kind."""
    declared = convolutional()
    declared.nodes["x"]["shape"] = [1, 9]
    del declared.nodes["x"]["size"]
    for name in ("g.toml", "g.json"):
        fg.save(declared, tmp_path / name)
        again = fg.load(tmp_path / name)
        assert again.edges["x", "h", 0]["stride"] == 2
        assert list(again.nodes["x"]["shape"]) == [1, 9]
        assert validate(again).nodes["h"].shape == (2, 5)
    assert "conv1d 2×1×3" in fg.render.graph(declared).source
    program = fg.compile(declared, rule="eprop", loss={"y": "mse"})
    assert program.rules["h->h"].equations
    learner = fg.Learner(program, program.init(), fg.SGD(0.1))
    learner.fit([({"x": np.ones((3, 1, 9))}, {"y": np.ones((3, 1, 2))})])
    learner.save(tmp_path / "l.npz")
    assert np.array_equal(fg.Learner.load(tmp_path / "l.npz", program).params["h->h"], learner.params["h->h"])
    assert verify(program).passed


def refused(x: Any, weight: Any, **target: Any) -> nx.MultiDiGraph[str]:
    return declare({"x": {"op": "input", **x}, "h": {"op": "linear", **target}}, ("x", "h", weight))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (refused({"size": 5}, {"weight": "conv1d"}), "a convolution needs the size of its kernel"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": 0}), "attribute 'kernel' must be a whole number >= 1"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": []}), "attribute 'kernel' must be a whole number >= 1"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": "3"}), "attribute 'kernel' must be a whole number >= 1"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": [3, 3], "channels": 1}), "'kernel' has 2 numbers"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": 3}), "(?s)its size cannot be inferred.*channels"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": 7, "channels": 1}), "does not fit into"),
        (refused({"size": 5}, {"weight": "conv1d", "kernel": 3}, size=4), "(?s)stands at .*Give the target shape"),
        (refused({"size": 8}, {"weight": "conv2d", "kernel": 3, "channels": 1}), "(?s)conv2d.*Give the source a"),
        (
            refused({"shape": [3, 5]}, {"weight": "conv1d", "kernel": 3, "channels": 2, "groups": 2}),
            "2 groups do not divide the 3 channels of the source",
        ),
        (
            refused({"shape": [4, 5]}, {"weight": "conv1d", "kernel": 3, "channels": 3, "groups": 2}),
            "2 groups do not divide the 3 channels of the target",
        ),
        (refused({"shape": [2, 5], "size": 9}, {"weight": "dense"}, size=2), "(?s)9.*10|10.*9"),
        (refused({"shape": [2, 0]}, {"weight": "dense"}, size=2), "attribute 'shape' must be"),
        (refused({"size": 5}, {"weight": "dense", "stride": 2}, size=2), "'stride' belongs to weight 'conv1d'"),
    ],
)
def test_what_does_not_fit_is_refused(graph: nx.MultiDiGraph[str], message: str) -> None:
    """In the user's words."""
    with pytest.raises(fg.GraphError, match=message):
        validate(graph)


def test_a_drawing_shape_is_no_shape() -> None:
    """Graphs drawn with dot have `shape = "box"`."""
    graph = convolutional()
    graph.nodes["x"]["shape"] = "box"
    assert validate(graph).nodes["x"].shape == (9,)
