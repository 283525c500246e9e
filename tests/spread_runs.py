"""What `backends/test_devices.py` asks of many devices: run in a process of its own with eight virtual devices.

Prints a JSON object: the largest difference from the backend `numpy` by what was compared. With the argument `all` it
compares every graph and rule of `backends/test_jax.py` on one, four and eight devices.
"""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from array_program.cases import named
from checks import compiled, error

import forwardgrad as fg
from forwardgrad.backends import ShardedArray

GRADIENTS: tuple[tuple[str, Any, Any], ...] = (
    ("elman", "rtrl", {"batch": 2, "influence": 4}),
    ("delays", "rtrl", {"influence": 2}),
    ("alif", "eprop", 8),  # more devices than samples
    ("elman", "uoro", 2),
)


def apart(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """The largest difference of any array."""
    assert found.keys() == wanted.keys()
    return max(float(np.abs(np.asarray(found[name]) - wanted[name]).max()) for name in wanted)


def everything() -> Iterator[tuple[str, Any, Any]]:
    """Every graph and rule on every number of devices."""
    from backends.test_jax import LOSSLESS, LOSSY

    for name, rule in (*LOSSLESS, *LOSSY):
        drawn = any(word in str(rule) for word in ("uoro", "kf-rtrl"))
        for devices in (1, 4, 8) if drawn else (1, {"batch": 2, "influence": 2}, {"batch": 2, "influence": 4}):
            yield name, rule, devices


def gradients(cases: Iterable[tuple[str, Any, Any]]) -> dict[str, float]:
    """Losses, with masks and samples that do not divide, and gradients."""
    found: dict[str, float] = {}
    for name, rule, devices in cases:
        problem = named(name)
        data = [{n: a[:4] for n, a in each.items()} for each in (problem.inputs, problem.targets)]
        mask = np.ones((4, problem.batch))
        mask[0, 0] = 0
        spread, one = compiled(problem, rule, backend="jax", devices=devices), compiled(problem, rule)
        ours, theirs = (each.gradient(problem.params, *data, mask, block=2, draw=1) for each in (spread, one))
        found[f"gradient of {name} under {rule} on {devices}"] = max(
            error(ours.grads, theirs.grads), abs(ours.loss - theirs.loss) / abs(theirs.loss)
        )
    return found


def learners(folder: Path) -> dict[str, float]:
    """A learner on many devices beside one on the CPU: its states, what `reset` makes of them, and its checkpoints."""
    devices, graph = {"batch": 2, "influence": 4}, fg.load("elman")
    spread = fg.compile(graph, rule="rtrl", backend="jax", devices=devices)
    one = fg.compile(graph, rule="rtrl")
    x = np.random.default_rng(0).normal(size=(4, 3, 1))
    stream = [({"x": x}, {"y": 0.5 * x})]
    both = [fg.Learner(program, program.init(), fg.Adam(0.01), clip=1.0) for program in (spread, one)]
    found: dict[str, float] = {}
    for at, learner in enumerate(both):
        learner.fit(stream, block=2)
        learner.reset([False, True, False])
        learner.fit(stream, block=2)
        learner.save(folder / f"{at}.npz")
    ours, theirs = both
    assert ours.state is not None
    assert theirs.state is not None
    assert all(isinstance(array, ShardedArray) for array in ours.state.values())
    found["parameters"] = apart(ours.params, theirs.params)
    found["states"] = apart(ours.state, theirs.state)
    found["a state that is pickled"] = apart(pickle.loads(pickle.dumps(ours.state)), theirs.state)
    found["predictions that go on"] = apart(*(each.predict({"x": x[:, :3]}, go_on=True) for each in both))

    layout = spread.shards(batch=3)
    for share in layout:
        held = ours.state[share.key].bytes_by_device
        assert len(held) == 8, share.key
        assert set(held.values()) == {share.bytes}, share.key
    whole = sum(array.nbytes for array in theirs.state.values())
    assert layout.bytes_per_device <= 1.05 * whole * (4 / 3) / 8, "a sample that is repeated is the fourth of three"

    assert pickle.loads(pickle.dumps(spread)).devices == spread.devices
    crossed = [fg.Learner.load(folder / f"{at}.npz", program) for at, program in ((0, one), (1, spread))]
    crossed.append(fg.Learner.load(folder / "1.npz", devices=4))
    for learner in (*crossed, ours, theirs):
        learner.fit(stream, block=2)
    for what, learner in zip(("of many on one", "of one on many", "of many on others"), crossed, strict=True):
        found[f"a checkpoint {what}"] = apart(learner.params, theirs.params)
    found["a learner that goes on"] = apart(ours.params, theirs.params)
    assert fg.Learner.load(folder / "0.npz").program.devices is None
    return found


def narrow(folder: Path) -> dict[str, float]:
    """Influence that is kept in two bytes: beside NumPy, whose state is rounded between blocks."""
    import jax

    graph, rounded = fg.load("elman"), np.dtype(jax.numpy.bfloat16)
    one = fg.compile(graph, rule="rtrl")
    kept = fg.compile(graph, rule="rtrl", backend="jax", devices={"influence": 4}, traces="bfloat16")
    x, params = np.random.default_rng(0).normal(size=(6, 2, 1)), one.init()
    data = {"x": x}, {"y": 0.5 * x}
    state, wanted = one.start(2), dict.fromkeys(params, np.zeros(()))
    for t in range(0, 6, 2):
        state, step = one.step(params, *({n: a[t : t + 2] for n, a in each.items()} for each in data), state=state)
        state = {k: a.astype(rounded).astype(a.dtype) if k[0] == "i" else a for k, a in state.items()}
        wanted = {name: wanted[name] + step.grads[name] for name in step.grads}
    found = {"gradients of rounded influence": error(kept.gradient(params, *data, block=2).grads, wanted)}
    exact = one.gradient(params, *data, block=2).grads
    assert 1e-5 < error(wanted, exact) < 1e-2
    found["one block, which reads no influence"] = error(kept.gradient(params, *data, block=6).grads, exact)

    learner = fg.Learner(kept, params, fg.SGD(0.01))
    learner.fit([data], block=2)
    assert learner.state is not None
    for share in kept.shards(batch=2):
        assert set(learner.state[share.key].bytes_by_device.values()) == {share.bytes}, share.key
    assert sum(kept.cost(2).influence.values()) == sum(one.cost(2).influence.values()) // 4
    learner.save(folder / "narrow.npz")
    loaded = fg.Learner.load(folder / "narrow.npz")
    assert loaded.program.devices is not None
    assert loaded.program.devices.traces == "bfloat16"
    for each in (learner, loaded):
        each.fit([data], block=2)
    found["a checkpoint of rounded influence"] = apart(loaded.params, learner.params)

    with jax.enable_x64(True):
        functions, total = kept.as_jax(), dict.fromkeys(params, 0.0)
        states = functions.init(2)
        for t in range(0, 6, 2):
            pieces = ({n: a[t : t + 2] for n, a in each.items()} for each in data)
            states, step = functions.step(params, *pieces, state=states)
            total = {name: total[name] + np.asarray(step.grads[name]) for name in step.grads}
        states = functions.reset(states, np.array([True, False]))
        assert {str(a.dtype) for k, a in states.items() if k[0] == "i"} == {"bfloat16"}
    found["functions for JAX"] = error(total, wanted)
    return found


def refusals() -> dict[str, str]:
    """What is refused, in words."""
    found: dict[str, str] = {}
    for what, rule, devices in (("too many", "rtrl", 16), ("drawn", "uoro", {"influence": 2})):
        try:
            fg.compile(fg.load("elman"), rule=rule, backend="jax", devices=devices)
        except fg.ForwardgradError as refused:
            found[what] = str(refused)
    program = fg.compile(fg.load("elman"), rule="rtrl", backend="jax", devices=2)
    x = np.ones((2, 2, 1))
    try:
        program.step({n: 1e200 * a for n, a in program.init().items()}, {"x": x}, {"y": x}, state=program.start(2))
    except fg.NonFiniteError as refused:
        found["not finite"] = str(refused)
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["all"]:
        print(json.dumps({"apart": gradients(everything())}))
        sys.exit(0)
    with tempfile.TemporaryDirectory() as folder:
        found = {**gradients(GRADIENTS), **learners(Path(folder)), **narrow(Path(folder))}
        print(json.dumps({"apart": found, "refused": refusals()}))
