"""Does a saved learner go on bit for bit, from its file alone where that is possible, and is a bad file refused?"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import declare, gru, readout_of_features, stack, vanilla

import forwardgrad as fg
from forwardgrad import Learner
from forwardgrad.errors import DataError, FileError, ForwardgradError
from forwardgrad.learning import checkpoint
from forwardgrad.ops.losses import Loss
from forwardgrad.rules.paths import PathRule, cut
from forwardgrad.support import archive as archives
from forwardgrad.support import atomic
from forwardgrad.testing import strategies


def data(steps: int = 12, batch: int = 2, seed: int = 0, inputs: int = 2, outputs: int = 2) -> Any:
    random = np.random.default_rng(seed)
    return {"x": random.normal(size=(steps, batch, inputs))}, {"y": random.normal(size=(steps, batch, outputs))}


def learned(graph: Any = None, rule: Any = "eprop-deep", optimizer: Any = None, loss: Any = "mse", **options: Any):
    """A learner that has learned a little, so that nothing in it is zero."""
    program = fg.compile(vanilla() if graph is None else graph, loss={"y": loss}, rule=rule, **options)
    ours = Learner(program, program.init(1), optimizer or fg.Adam(0.01), clip=1.0)
    ours.fit([data()], block=3)
    return ours


def everything(of: Learner) -> dict[str, Any]:
    arrays = {f"params {k}": a for k, a in of.params.items()}
    arrays |= {f"optimizer {k}": a for k, a in of.optimizer_state.items()}
    return arrays | {f"state {k}": a for k, a in (of.state or {}).items()}


def assert_equal(one: Learner, two: Learner) -> None:
    """Equal to the bit, in value and type."""
    first, second = everything(one), everything(two)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert (array.dtype, array.shape) == (second[name].dtype, second[name].shape), name
        assert array.tobytes() == second[name].tobytes(), name
    assert (one.seen, one.clip, one.state is None) == (two.seen, two.clip, two.state is None)
    assert one.episodes == two.episodes
    assert one.optimizer.config() == two.optimizer.config()
    assert checkpoint.describe(one.program) == checkpoint.describe(two.program)


def resumed(ours: Learner, folder: Path, *arguments: Any, **options: Any) -> Learner:
    ours.save(folder / "saved.npz")
    return Learner.load(folder / "saved.npz", *arguments, **options)


# Resuming.

GRAPHS = {"vanilla": vanilla(), "stack": stack(), "gru": gru(), "readout": readout_of_features()}
OPTIMIZERS = [fg.SGD(0.05), fg.SGD(0.02, momentum=0.9), fg.Adam(0.01)]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "immediate"])
def test_a_resumed_run_is_the_uninterrupted_run(graph, optimizer, rule, tmp_path):
    """If it failed, something that learning depends on would not be in the file."""
    ours = learned(GRAPHS[graph], rule, optimizer)
    copy = resumed(ours, tmp_path)
    assert_equal(ours, copy)
    more = data(11, seed=5)
    losses = [update.step.loss for update in ours.fit([more], block=4)]
    assert [update.step.loss for update in copy.fit([more], block=4)] == losses
    assert_equal(ours, copy)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("graph", ["leaky_stack", "lif", "lstm"])
def test_shipped_graphs_resume(graph, dtype, tmp_path):
    """If it failed, checkpoints of the graphs that come with the library would not resume, or change their type."""
    program = fg.compile(fg.load(graph), rule="eprop", dtype=dtype)
    ours = Learner(program, program.init(0), fg.Adam(0.01))
    ours.fit([data(6, inputs=1, outputs=1)], block=2)
    copy = resumed(ours, tmp_path)
    assert copy.program.dtype == dtype
    more = data(5, seed=1, inputs=1, outputs=1)
    ours.fit([more], block=2)
    copy.fit([more], block=2)
    assert_equal(ours, copy)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data(), problem=strategies.problems(), at=st.integers(0, 4))
def test_any_graph_resumes(tmp_path, data, problem, at):
    """If it failed, some op, delay, weight, mask or loss would leave out of the file what it remembers."""
    rule = data.draw(strategies.path_rules(problem.edges), label="rule")
    program = fg.compile(problem.graph, problem.loss, rule, dead="ignore")
    ours = Learner(program, problem.params, fg.SGD(1e-3, momentum=0.5), clip=0.1)
    pieces = [(piece.inputs, piece.targets, piece.mask) for piece in program.blocks([piece_of(problem)], block=2)]
    ours.fit(pieces[:at])
    copy = resumed(ours, tmp_path, program)
    assert_equal(ours, copy)
    if checkpoint.describe(program)["complete"]:
        assert_equal(ours, resumed(ours, tmp_path))
    ours.fit(pieces[at:])
    copy.fit(pieces[at:])
    assert_equal(ours, copy)


def piece_of(problem: Any) -> Any:
    return problem.inputs, problem.targets, problem.mask


def test_before_the_first_block(tmp_path):
    """If it failed, a learner that has not begun could not be saved, or would come back as one that has."""
    program = fg.compile(vanilla(), loss={"y": "mse"})
    ours = Learner(program, program.init(0), fg.SGD(0.1))
    copy = resumed(ours, tmp_path)
    assert copy.state is None
    assert_equal(ours, copy)
    copy.fit([data(batch=5)])


def test_a_graph_without_memory(tmp_path):
    """If it failed, an empty state and no state would be taken for each other, or break loading."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}}, ("x", "y", {"weight": "dense"})
    )
    ours = learned(graph, "rtrl", fg.SGD(0.1))
    assert ours.state == {}
    assert_equal(ours, resumed(ours, tmp_path))


def test_an_optimizer_changed_in_mid_run(tmp_path):
    """If it failed, a learning rate that was lowered, or momentum that was switched off, would hinder resuming."""
    ours = learned(optimizer=fg.SGD(0.1, momentum=0.9))
    ours.optimizer = fg.SGD(0.01)
    ours.fit([data(4)])
    copy = resumed(ours, tmp_path)
    assert copy.optimizer == fg.SGD(0.01)
    assert_equal(ours, copy)


# From the text in the file.


def hostile() -> nx.MultiDiGraph[str]:
    """Names that are patterns, quotes, brackets, other scripts, and prefixes of each other as patterns."""
    graph = declare({"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}})
    for n, name in enumerate(HOSTILE):
        graph.add_node(name, op="tanh", size=2)
        graph.add_edge("x", name, weight="dense", param=name)
        graph.add_edge(name, name, weight="diagonal", delay=1, param=f"{name}{n}")
        graph.add_edge(name, "y", weight="dense")
    return graph


HOSTILE = [
    "*",
    "?",
    "[a-z]",
    "[!a]*",
    "]",
    "a'b",
    'a"b',
    "a\\b",
    "h & k",
    "über→日本",
    "a b",
    "{}",
    "#",
    "\n",
    "[",
    "[]]",
]


def test_hostile_names(tmp_path):
    """If it failed, a parameter's name would be read as a pattern and give its rule to others."""
    graph = hostile()
    names = list(fg.compile(graph, loss={"y": "mse"}).rules)
    rules = {n: ("rtrl", "immediate", "eprop")[i % 3] for i, n in enumerate(names)}
    as_patterns = {"".join(f"[{c}]" if c in "*?[" else c for c in name): rule for name, rule in rules.items()}
    ours = learned(graph, as_patterns)
    copy = resumed(ours, tmp_path)
    assert {name: str(derived.rule.paths) for name, derived in copy.program.rules.items()} == {
        name: str(derived.rule.paths) for name, derived in ours.program.rules.items()
    }
    assert_equal(ours, copy)
    assert_equal(ours, resumed(ours, tmp_path, ours.program))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cut_of_a_hostile_edge(name, tmp_path):
    """If it failed, a rule that names such an edge would come back as another, instead of asking for its program."""
    ours = learned(hostile(), cut([f"{name}->{name}"]))
    ours.save(tmp_path / "saved.npz")
    assert_equal(ours, Learner.load(tmp_path / "saved.npz", ours.program))
    if checkpoint.describe(ours.program)["complete"]:
        assert_equal(ours, Learner.load(tmp_path / "saved.npz"))
    else:
        with pytest.raises(FileError, match="has no text"):
            Learner.load(tmp_path / "saved.npz")


def test_rules_by_parameter(tmp_path):
    """If it failed, a program with a rule for each parameter would come back with one for all."""
    ours = learned(stack(), {"h1->a1": "rtrl", "*2*": "eprop", "*": "eprop-deep & cut(['h2->a2'])"})
    copy = resumed(ours, tmp_path)
    found = {name: str(derived.rule.paths) for name, derived in copy.program.rules.items()}
    assert found["h1->a1"] == "all"
    assert found["h2->y"] == "eprop-deep & synaptic"
    assert found["x->a1"] == "cut(['h2->a2']) & eprop-deep"
    assert_equal(ours, copy)


def test_large_arrays_in_the_graph(tmp_path):
    """If it failed, a graph with arrays that graph files keep beside them could not be saved in one checkpoint."""
    fixed = np.random.default_rng(0).normal(size=(12, 11))
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": 11}, "k": {"op": "tanh", "bias": fixed[:, 0]}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "sparse", "mask": fixed[:11] > 0, "delay": 2}),
        ("h", "k", {"value": fixed}),
    )
    graph.add_node("y", op="linear", size=2)
    graph.add_edge("k", "y", weight="dense")
    ours = learned(graph, "rtrl")
    copy = resumed(ours, tmp_path)
    assert os.listdir(tmp_path) == ["saved.npz"]
    np.testing.assert_array_equal(copy.program.network.edges["h->k"].value, fixed)
    assert_equal(ours, copy)


def test_titles_and_drawing_are_no_part_of_a_program(tmp_path):
    """If it failed, a note on the graph would make a long run impossible to save, or to load into the same program."""
    graph = vanilla()
    graph.graph.update(author=object(), title=["not", "a", "text"], node={"shape": "box"})
    graph.nodes["h"]["color"] = (0.1, 0.2, object())
    graph.edges["h", "h", 0]["style"] = {"dotted"}
    ours = learned(graph)
    assert_equal(ours, resumed(ours, tmp_path))
    assert_equal(ours, resumed(ours, tmp_path, fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop-deep")))


# What has no text.


class Odd(PathRule):
    """A rule of a user's own: no delay at all."""

    def start(self, node: Any) -> str:
        return "here"

    def step(self, mode: Any, edge: Any, target: Any) -> Any:
        return None if edge.delay else mode


HUBER = Loss("huber", lambda y, t: np.mean(np.abs(y - t), axis=1), lambda y, t: np.sign(y - t) / y.shape[1])
LIKE_MSE = Loss("mse", HUBER.value, HUBER.gradient)


@pytest.mark.parametrize(
    "options", [{"rule": Odd()}, {"loss": HUBER}, {"loss": LIKE_MSE}], ids=["rule", "loss", "a loss called mse"]
)
def test_what_has_no_text_needs_the_program(options, tmp_path):
    """If it failed, a user's own code would silently be replaced by something else of its name."""
    ours = learned(**options)
    ours.save(tmp_path / "saved.npz")
    with pytest.raises(FileError, match="a path rule or a loss that has no text") as caught:
        Learner.load(tmp_path / "saved.npz")
    assert "Learner.load(path, program)" in str(caught.value)
    assert_equal(ours, Learner.load(tmp_path / "saved.npz", program=ours.program))


class Signs:
    """An optimiser of a user's own."""

    def __init__(self, rate: float = 0.01) -> None:
        self.rate = rate

    def start(self, params: Any) -> dict[str, Any]:
        return {"count": np.zeros(())}

    def update(self, params: Any, grads: Any, state: Any) -> Any:
        new = {name: p - self.rate * np.sign(grads[name]) if name in grads else p for name, p in params.items()}
        return new, {"count": state["count"] + 1}

    def config(self) -> dict[str, Any]:
        return {"name": "signs", "rate": self.rate}


def test_an_optimizer_of_ones_own(tmp_path):
    """If it failed, a learner could be saved that nobody can load."""
    ours = learned(optimizer=Signs())
    ours.save(tmp_path / "saved.npz")
    with pytest.raises(FileError, match=r"unknown optimizer 'signs'") as caught:
        Learner.load(tmp_path / "saved.npz")
    assert "optimizer=" in str(caught.value)
    assert_equal(ours, Learner.load(tmp_path / "saved.npz", optimizer=Signs()))
    with pytest.raises(FileError, match="belongs to another optimizer"):
        Learner.load(tmp_path / "saved.npz", optimizer=Signs(0.5))


class NotPlain(Signs):
    def config(self) -> dict[str, Any]:
        return {"name": "signs", "rate": object()}


class NotNumbers(Signs):
    def start(self, params: Any) -> dict[str, Any]:
        return {"count": np.array(object())}

    def update(self, params: Any, grads: Any, state: Any) -> Any:
        return dict(params), state


@pytest.mark.parametrize("optimizer", [NotPlain(), NotNumbers()], ids=["settings", "state"])
def test_what_no_file_can_hold_is_refused(optimizer, tmp_path):
    """If it failed, saving would raise a bare error, or pickle an object into the file."""
    with pytest.raises(FileError, match="cannot write a checkpoint"):
        learned(optimizer=optimizer).save(tmp_path / "saved.npz")
    assert not list(tmp_path.iterdir())


def test_an_unregistered_op_is_named(tmp_path):
    """If it failed, a checkpoint from a process with an op of its own would end in a bare error elsewhere."""
    ours = learned()
    described = checkpoint.describe(ours.program)
    described["graph"] = described["graph"].replace('"tanh"', '"my_op"')
    with pytest.raises(FileError, match="cannot be compiled: node 'h': unknown op 'my_op'") as caught:
        checkpoint.match("c.npz", described, None)
    assert "register" in str(caught.value)


# Another program.


@pytest.mark.parametrize(
    ("what", "program"),
    [
        ("graph", lambda: fg.compile(vanilla(init="normal(0.1)"), loss={"y": "mse"}, rule="eprop-deep")),
        ("graph, rules", lambda: fg.compile(stack(), loss={"y": "mse"}, rule="eprop-deep")),
        ("rules", lambda: fg.compile(vanilla(), loss={"y": "mse"}, rule="rtrl")),
        ("dtype", lambda: fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop-deep", dtype="float32")),
        ("losses", lambda: fg.compile(vanilla(), loss={"y": "bernoulli"}, rule="eprop-deep")),
    ],
    ids=["graph", "another graph", "rule", "dtype", "loss"],
)
def test_another_program_is_refused(what, program, tmp_path):
    """If it failed, parameters would go on under another rule, loss or graph without a word."""
    with pytest.raises(FileError, match=f"belongs to another program; what differs: {what}\\."):
        resumed(learned(), tmp_path, program())


# Bad files.


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Learner]:
    path = tmp_path_factory.mktemp("good") / "saved.npz"
    ours = learned(rule="rtrl")
    ours.save(path)
    return path.read_bytes(), ours


def load_bytes(folder: Path, content: bytes) -> Learner:
    path = folder / "bad.npz"
    path.write_bytes(content)
    return Learner.load(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_noticed(good, tmp_path, data):
    """If it failed, a flipped bit or a lost tail would change what was learned, or end in a bare error."""
    content, ours = good
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        # The directory at the end and the header at the beginning are where readers go wrong.
        near = (
            st.integers(0, 200) | st.integers(len(content) - 1500, len(content) - 1) | st.integers(0, len(content) - 1)
        )
        damaged[data.draw(near)] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(content))) :]
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(damaged)))
        del damaged[start : start + data.draw(st.integers(1, 50))]
    try:
        copy = load_bytes(tmp_path, bytes(damaged))
    except FileError:
        return
    assert_equal(ours, copy)


def test_every_length_of_a_truncated_file_is_refused(good, tmp_path):
    """If it failed, a file of which the copy broke off would be loaded."""
    content, _ = good
    for length in [*range(0, len(content), 997), len(content) - 1]:
        with pytest.raises(FileError, match="is no checkpoint, or is damaged"):
            load_bytes(tmp_path, content[:length])


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.zeros(10**6, dtype=np.uint8))
    return buffer.getvalue()


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as found:
        for name, content in members.items():
            found.writestr(f"{name}.npy", content)
    return buffer.getvalue()


FOREIGN = {
    "empty": b"",
    "text": b"hello\n" * 50,
    "pickle": pickle.dumps(Bomb()),
    "pickled array": archive(meta=np.array([Bomb()], dtype=object)),
    "pickle in the place of an array": zipped(meta=pickle.dumps(Bomb())),
    "archive in an archive": zipped(meta=archive(a=np.zeros(3))),
    "npy": archive(a=np.zeros(3))[:-22],
    "another archive": archive(weights=np.zeros((3, 3))),
    "another archive with meta": archive(meta=np.zeros((3, 3))),
    "meta of another kind": archive(meta=np.frombuffer(b"[1, 2]", dtype=np.uint8)),
    "meta is not JSON": archive(meta=np.frombuffer(b"{'a': 1}", dtype=np.uint8)),
    "nested without end": archive(meta=np.frombuffer(b"[" * 100_000, dtype=np.uint8)),
    "compressed": compressed(),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_files_are_refused_and_not_executed(what, tmp_path, monkeypatch):
    """If it failed, a file from elsewhere could run code, or end in a bare error."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="is no checkpoint, or is damaged"):
        load_bytes(tmp_path, FOREIGN[what])
    assert not (tmp_path / "executed").exists()


def test_places_that_cannot_be_read(tmp_path):
    """If it failed, a wrong path would end in a bare OSError."""
    for path, words in ((tmp_path / "none.npz", "No such file"), (tmp_path, "directory"), ("a\0b", "null")):
        with pytest.raises(FileError, match=words):
            Learner.load(path)


def test_a_newer_format_is_named(good, tmp_path, monkeypatch):
    """If it failed, a file of a later version would be misread, or called damaged."""
    ours = good[1]
    monkeypatch.setattr(checkpoint, "FORMAT", 4)
    ours.save(tmp_path / "later.npz")
    monkeypatch.undo()
    with pytest.raises(FileError, match="is of format 4, and this version reads formats 2 and 3"):
        Learner.load(tmp_path / "later.npz")


def as_format_2(path: Path) -> None:
    """Make a checkpoint what the version before would have written."""
    arrays = archives.arrays(path.read_bytes())
    content = json.loads(json.loads(arrays.pop("meta").tobytes())["content"])
    del content["meta"]["episodes"]
    for key in [key for key in content["index"]["state"] if key.endswith('"draw"]')]:
        arrays.pop(content["index"]["state"].pop(key))
    text = json.dumps(content)
    document = {"forwardgrad": 2, "content": text, "digest": checkpoint._digest(text, arrays)}
    with path.open("wb") as file:
        np.savez(file, meta=np.frombuffer(json.dumps(document).encode(), np.uint8), **arrays)


def test_a_file_of_the_format_before_goes_on(tmp_path: Path) -> None:
    """If it failed, who updates in the middle of a run could not go on with it."""
    ours = learned(rule="eprop")
    ours.save(tmp_path / "old.npz")
    as_format_2(tmp_path / "old.npz")
    copy = Learner.load(tmp_path / "old.npz")
    copy.episodes = ours.episodes  # which the old file does not know
    assert_equal(ours, copy)
    for each in (ours, copy):
        each.fit([data(7, seed=3)], block=2)
    assert_equal(ours, copy)


def test_a_file_of_the_format_before_is_refused_where_it_draws_signs(tmp_path: Path) -> None:
    """If it failed, a run would go on with signs whose number nobody knows."""
    ours = learned(rule="uoro")
    ours.save(tmp_path / "old.npz")
    as_format_2(tmp_path / "old.npz")
    with pytest.raises(FileError, match=r"state: array 'influence.*\"draw\"\]' should be float64 .*, got none"):
        Learner.load(tmp_path / "old.npz")


def forged(content: bytes, change: Any) -> bytes:
    """A checkpoint whose content was changed, and whose digest is right all the same."""
    arrays = archives.arrays(content)
    inside = json.loads(json.loads(arrays.pop("meta").tobytes())["content"])
    inside = change(inside, arrays) or inside
    with contextlib.suppress(TypeError, KeyError):  # the digest of the program, too, where there is one
        inside["meta"]["program"]["sha256"] = checkpoint._identity(inside["meta"]["program"])
    text = json.dumps(inside)
    document = {"forwardgrad": checkpoint.FORMAT, "content": text, "digest": checkpoint._digest(text, arrays)}
    return archive(meta=np.frombuffer(json.dumps(document).encode(), dtype=np.uint8), **arrays)


def test_a_forgery_without_a_change_is_read(good, tmp_path):
    """If it failed, the forged files of the next test would be refused for another reason than theirs."""
    assert_equal(good[1], load_bytes(tmp_path, forged(good[0], lambda c, a: None)))


def _set(*path: str) -> Any:
    def change(value: Any) -> Any:
        def changed(content: Any, arrays: Any) -> None:
            for key in path[:-1]:
                content = content[key]
            content[path[-1]] = value

        return changed

    return change


def _drop(*path: str) -> Any:
    def changed(content: Any, arrays: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return changed


def _array(group: str, name: str, make: Any) -> Any:
    def changed(content: Any, arrays: Any) -> None:
        key = content["index"][group][name]
        arrays[key] = make(arrays[key])

    return changed


FORGED = {
    "index refers to a missing array": _set("index", "params", "h->h")("a999"),
    "index refers to a number": _set("index", "params", "h->h")(3),
    "index refers to a list": _set("index", "params", "h->h")(["a0"]),
    "no index": _drop("index"),
    "index of another kind": _set("index")([1]),
    "index without the state": _drop("index", "state"),
    "state of another kind": _set("index", "state")("a0"),
    "no parameters": _set("index", "params")(None),
    "no optimizer state": _set("index", "optimizer_state")(None),
    "one parameter missing": _drop("index", "params", "h->h"),
    "one memory missing": _drop("index", "optimizer_state", "first:h->h"),
    "count missing": _drop("index", "optimizer_state", "count"),
    "one state missing": _drop("index", "state", 'value["h"]'),
    "one state too many": _set("index", "state", "more")("a0"),
    "one parameter too many": _set("index", "params", "more")("a0"),
    "no meta": _drop("meta"),
    "meta of another kind": _set("meta")("text"),
    "no program": _drop("meta", "program"),
    "program of another kind": _set("meta", "program")([]),
    "no graph": _drop("meta", "program", "graph"),
    "graph of another kind": _set("meta", "program", "graph")({"nodes": []}),
    "graph is no JSON": _set("meta", "program", "graph")("hello"),
    "graph is empty": _set("meta", "program", "graph")("{}"),
    "graph is deep": _set("meta", "program", "graph")('{"nodes":' + "[" * 50_000),
    "another graph": _set("meta", "program", "graph")(fg.graph.files.dumps(stack())),
    "losses of another kind": _set("meta", "program", "losses")([]),
    "no losses": _set("meta", "program", "losses")({}),
    "unknown loss": _set("meta", "program", "losses")({"y": "huber"}),
    "loss of another kind": _set("meta", "program", "losses")({"y": 3}),
    "rules of another kind": _set("meta", "program", "rules")("rtrl"),
    "no rules": _set("meta", "program", "rules")({}),
    "rule of another kind": _set("meta", "program", "rules")({"h->h": None}),
    "unknown rule": _set("meta", "program", "rules", "h->h")("eprob"),
    "unknown dtype": _set("meta", "program", "dtype")("complex"),
    "nonsense dtype": _set("meta", "program", "dtype")("("),
    "other dtype": _set("meta", "program", "dtype")("float32"),
    "complete of another kind": _set("meta", "program", "complete")("yes"),
    "unknown backend": _set("meta", "program", "backend")("torch"),
    "backend of another kind": _set("meta", "program", "backend")(None),
    "no backend": _drop("meta", "program", "backend"),
    "policy of another kind": _set("meta", "on_nonfinite")(["raise"]),
    "unknown policy": _set("meta", "on_nonfinite")("clip"),
    "no policy": _drop("meta", "on_nonfinite"),
    "no optimizer": _drop("meta", "optimizer"),
    "optimizer of another kind": _set("meta", "optimizer")("adam"),
    "optimizer without a name": _set("meta", "optimizer")({}),
    "unknown optimizer": _set("meta", "optimizer")({"name": "adamax"}),
    "optimizer's name of another kind": _set("meta", "optimizer")({"name": ["adam"]}),
    "unknown setting": _set("meta", "optimizer", "nesterov")(True),
    "setting out of range": _set("meta", "optimizer", "learning_rate")(-1.0),
    "setting of another kind": _set("meta", "optimizer", "learning_rate")("fast"),
    "clip of another kind": _set("meta", "clip")("1"),
    "clip out of range": _set("meta", "clip")(-1.0),
    "seen of another kind": _set("meta", "seen")(1.5),
    "seen is not a count": _set("meta", "seen")(-1),
    "a parameter's shape": _array("params", "h->h", lambda a: a[:1]),
    "a parameter's type": _array("params", "h->h", lambda a: a.astype(np.float32)),
    "texts for a parameter": _array("params", "h->h", lambda a: a.astype(str)),
    "a memory's shape": _array("optimizer_state", "first:h->h", lambda a: a[0]),
    "a memory's type": _array("optimizer_state", "count", lambda a: a.astype(float)),
    "a state's shape": _array("state", 'value["h"]', lambda a: a[..., :1]),
    "a state's batch": _array("state", 'value["h"]', lambda a: a[:, :1]),
    "no batch": _array("state", 'value["h"]', lambda a: a[:, :0]),
    "a state's type": _array("state", 'value["h"]', lambda a: a.astype(int)),
    "a state of no axes": _array("state", 'value["h"]', lambda a: np.float64(1)),
    "the whole is a list": lambda content, arrays: [content],
    "the whole is a number": lambda content, arrays: 7,
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_checkpoint_is_refused(good, what, tmp_path):
    """If it failed, entries of the wrong kind would end in a bare error, or in a learner that breaks later."""
    with pytest.raises(FileError, match=r"bad\.npz"):
        load_bytes(tmp_path, forged(good[0], FORGED[what]))


def test_errors_are_the_librarys_own(good, tmp_path):
    """If it failed, `except ForwardgradError` would not catch what a bad file raises."""
    with pytest.raises(ForwardgradError):
        load_bytes(tmp_path, good[0][:100])


# Whole or not at all.


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """If it failed, a full disk would cost the last good checkpoint."""
    ours = learned()
    path = tmp_path / "saved.npz"
    ours.save(path)
    before = path.read_bytes()
    ours.fit([data(4)])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        ours.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["saved.npz"]
    ours.save(path)
    assert path.read_bytes() != before


def test_a_place_that_cannot_be_written(tmp_path):
    """If it failed, saving into a missing folder would end in a bare error."""
    with pytest.raises(FileError, match="cannot write"):
        learned().save(tmp_path / "none" / "saved.npz")


def test_a_loaded_learner_still_refuses_bad_data(tmp_path):
    """If it failed, loading would have replaced checked arrays by unchecked ones."""
    copy = resumed(learned(), tmp_path)
    with pytest.raises(DataError):
        copy.fit([data(batch=3)])
