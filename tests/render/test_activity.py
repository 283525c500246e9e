"""Are activity, predictions and scores on a page those of the network?"""

from __future__ import annotations

import base64

import networkx as nx
import numpy as np
import pytest
from nets import problem, stack
from pages import Reader, a_page, data_of, numbers, paged  # noqa: F401
from test_engines import needs_engine

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.render.report import Page
from forwardgrad.testing import Problem

pytestmark = needs_engine


def test_activity_is_that_of_the_run() -> None:
    """If this fails, a map shows a network that was not run, or loses spikes."""
    given = problem(fg.load("alif"), "y", steps=1500, batch=2)
    program = fg.compile(given.graph, given.loss, "eprop")
    values = program.run(given.params, given.inputs)
    found = data_of(render.report(program, given.params, given.inputs, given.targets, only=["z->y"], audit=False))
    columns, names, seen = found["activity"]["steps"], found["nodes"], 0
    assert len(columns) == 600
    assert (columns[0], columns[-1]) == (0, 1499)
    for one in found["activity"]["nodes"]:
        first = values[names[one["node"]]][:, 0]
        levels = np.frombuffer(base64.b64decode(one["bytes"]), np.uint8).reshape(one["shown"], -1).T / 255
        shown = one["low"] + (one["high"] - one["low"]) * levels
        if one["spikes"]:
            assert names[one["node"]] == "z"
            ends = [*columns]
            for k, (before, end) in enumerate(zip([-1, *ends], ends, strict=False)):
                np.testing.assert_array_equal(shown[k], first[before + 1 : end + 1].max(axis=0))
            assert 0 < shown.mean() < 1
        else:
            np.testing.assert_allclose(shown, first[columns], atol=0.51 * (one["high"] - one["low"]) / 255 + 1e-6)
        seen += 1
    assert seen == len(names)


def test_predictions_stand_beside_their_targets() -> None:
    """If this fails, a page says that a network does well which does not."""
    given = problem(stack(), "y", steps=9, batch=3)
    mask = np.ones((9, 3))
    mask[4] = 0
    page = paged((), given=Problem(given.graph, given.loss, given.params, given.inputs, given.targets, mask))
    program = fg.compile(given.graph, given.loss, "eprop")
    y, target = program.run(given.params, given.inputs)["y"], given.targets["y"]
    (output,) = data_of(page)["outputs"]
    assert (output["unit"], output["loss"], output["size"]) == ("value", "mse", y.shape[2])
    for k, feature in enumerate(output["features"]):
        np.testing.assert_allclose(numbers(feature["prediction"]), y[:, 0, k], rtol=1e-6)
        shown = np.array(numbers(feature["target"]))
        assert np.isnan(shown[4])  # what does not count is not shown as a target
        np.testing.assert_allclose(np.delete(shown, 4), np.delete(target[:, 0, k], 4), rtol=1e-6)
    y, target = np.delete(y, 4, axis=0), np.delete(target, 4, axis=0)
    assert output["score"] == f"NMSE {np.square(y - target).mean() / target.var():.4g}"


@pytest.mark.parametrize(("loss", "unit"), [("cross_entropy", "class"), ("bernoulli", "probability")])
def test_scores_of_classifiers(loss: str, unit: str) -> None:
    """If this fails, the accuracy on a page is another than that of the network."""
    given, random = problem(stack(), "y", steps=8, batch=3), np.random.default_rng(2)
    program = fg.compile(given.graph, {"y": loss}, "eprop")
    y = program.run(given.params, given.inputs)["y"]
    labels = random.integers(0, y.shape[2], (8, 3)) if unit == "class" else random.integers(0, 2, y.shape).astype(float)
    page = render.report(program, given.params, given.inputs, {"y": labels}, audit=False)
    (output,) = data_of(page)["outputs"]
    right = (y.argmax(axis=2) == labels) if unit == "class" else ((y > 0) == (labels > 0.5))
    assert output["unit"] == unit
    assert output["score"] == f"accuracy {100 * right.mean():.1f} % of {right.size}"


def test_rules_are_compared_over_the_whole_run(page: Page) -> None:
    """If this fails, the table of differences says something else than the gradients."""
    data = data_of(page)
    rules = [rule["name"] for rule in data["rules"]]
    for k, name in enumerate(data["parameters"]):
        a, b = (np.ravel(page.records[rule].grads[name]) for rule in rules[:2])
        cosine, ratio = data["agreement"][0][1][k]
        assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
        assert ratio == pytest.approx(np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)
    assert min(one[0] for one in data["agreement"][0][1]) < 0.999


def test_training_is_told(page: Page) -> None:
    """If this fails, nobody knows how the parameters on a page came about; or what was typed runs as a script."""
    told = render.Training({"command": "train '<b>' && echo"}, [0.5, 0.25], {"<i>": 0.1, "none": float("nan")}, "NMSE")
    text = paged((), audit=False, training=told).text
    assert "<dt>command</dt><dd>train &#x27;&lt;b&gt;&#x27; &amp;&amp; echo</dd>" in text
    assert Reader(text).open == []
    curve = data_of(paged((), audit=False, training=told))["curve"]
    assert curve == {"score": "NMSE", "values": [0.5, 0.25], "levels": {"<i>": 0.1}}
    assert "<dt>command</dt>" not in page.text


def test_pages_of_large_runs_stay_small() -> None:
    """If this fails, sharing a page means sending tens of megabytes."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=80)
    before = "x"
    for k in range(6):
        graph.add_node(f"h{k}", op="tanh", size=80)
        graph.add_edge(before, f"h{k}", weight="diagonal")
        graph.add_edge(f"h{k}", f"h{k}", weight="diagonal", delay=1)
        before = f"h{k}"
    page = paged((), given=problem(graph, "h5", steps=2500, batch=1), audit=False, block=500)
    assert len(page.text) < 4_000_000
