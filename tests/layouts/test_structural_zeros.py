"""Does a sparse network store influence of the weights that it has, and of no others?"""

from __future__ import annotations

import numpy as np
from nets import declare, problem

import forwardgrad as fg

UNITS = 8


def test_a_sparse_network_keeps_structural_zeros() -> None:
    """If this fails, exact rules pay for weights that are not there, or SnAp-1 for influence that is zero."""
    mask = (np.random.default_rng(0).random((UNITS, UNITS)) < 0.2).astype(int)
    nodes = {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": UNITS}, "y": {"op": "linear", "size": 1}}
    edges = [("x", "h", {"weight": "dense"}), ("h", "y", {"weight": "dense"})]
    sparse = declare(nodes, *edges, ("h", "h", {"weight": "sparse", "mask": mask, "delay": 1}))
    given = problem(sparse, "y", steps=9)
    count = int(mask.sum())
    assert 0 < count < mask.size // 2
    exact, first = (fg.compile(sparse, loss=given.loss, rule=rule) for rule in ("rtrl", "snap(1)"))
    assert exact.rules["h->h"].exact
    assert exact.rules["h->h"].bytes == 8 * count * UNITS
    assert first.rules["h->h"].bytes == 8 * count
    whole = declare(nodes, *edges, ("h", "h", {"weight": "dense", "delay": 1}))
    filled = np.zeros((UNITS, UNITS))
    rows, columns = exact.pattern("h->h")
    filled[rows, columns] = given.params["h->h"]
    wanted = fg.compile(whole, loss=given.loss, rule="rtrl").gradient(
        {**given.params, "h->h": filled}, given.inputs, given.targets, block=4
    )
    found = exact.gradient(given.params, given.inputs, given.targets, block=4)
    np.testing.assert_allclose(found.grads["h->h"], wanted.grads["h->h"][rows, columns], rtol=0, atol=1e-13)
    assert np.abs(wanted.grads["h->h"][mask == 0]).max() > 1e-3
