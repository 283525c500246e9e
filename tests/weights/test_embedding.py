"""Are whole numbers taken as tokens, and is an embedding learned as the matrix that it is?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from c_backend import skip_without
from nets import declare

import forwardgrad as fg
from forwardgrad.errors import DataError

TOKENS = np.array([[0, 4], [2, 2], [1, 0], [4, 4], [3, 1]])


def network(weight: str = "embedding") -> Any:
    graph = declare(
        {"x": {"op": "input", "size": 5}, "h": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": weight}),
        ("h", "h", {"weight": "dense", "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )
    graph.graph["loss"] = {"y": "mse"}
    return graph


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_tokens_are_their_units(backend: str, dtype: Any) -> None:
    """Values, gradients and streams are those of one-hot vectors; only columns of tokens that came have gradients."""
    skip_without(backend)
    program, y = fg.compile(network(), rule="rtrl", backend=backend), np.ones((5, 2, 2))
    params, tokens = program.init(seed=1), TOKENS.astype(dtype)
    hot = np.eye(5)[TOKENS]
    assert np.array_equal(program.run(params, {"x": tokens})["y"], program.run(params, {"x": hot})["y"])
    found, wanted = (program.gradient(params, {"x": x}, {"y": y}, block=2).grads for x in (tokens, hot))
    assert all(np.array_equal(found[name], wanted[name]) for name in found)
    three = program.gradient(params, {"x": tokens[:2]}, {"y": y[:2]}).grads["x->h"]
    assert (np.abs(three).max(axis=0) > 0).tolist() == [True, False, True, False, True]
    pieces = [({"x": tokens[:2].tolist()}, {"y": y[:2]}), ({"x": tokens[2:]}, {"y": y[2:]})]
    streamed = program.gradient(params, pieces, block=2).grads
    assert np.allclose(streamed["x->h"], wanted["x->h"], rtol=0, atol=1e-14)


def test_it_is_a_dense_weight_that_starts_elsewhere() -> None:
    """Of unit variance, whatever the size of the vocabulary."""
    graph = network()
    graph.nodes["x"]["size"], graph.nodes["h"]["size"] = 2000, 20
    drawn = fg.compile(graph).init(seed=0)["x->h"]
    assert drawn.shape == (20, 2000)
    assert abs(drawn.std() - 1) < 0.02


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (TOKENS + 1, r"input 'x': token 5 at \(time, batch\) = \(0, 1\); there are 5 units"),
        (TOKENS - 1, r"input 'x': token -1 at \(time, batch\) = \(0, 0\)"),
        (TOKENS + 0.0, r"expected shape \(time, batch, 5\), got \(5, 2\)"),
        (TOKENS[:, 0], r"expected shape \(time, batch, 5\), got \(5,\)"),
        (TOKENS[:0], "got|empty"),
        (TOKENS > 2, r"expected shape \(time, batch, 5\), got \(5, 2\)"),
    ],
)
def test_what_is_no_token_is_refused(tokens: Any, message: str) -> None:
    """By name and place."""
    program = fg.compile(network())
    with pytest.raises(DataError, match=message):
        program.run(program.init(), {"x": tokens})
