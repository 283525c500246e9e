"""Does a learner of blocks of one step, which takes them as a stream does, learn what it learns from other blocks?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from c_backend import in_a_hurry, skip_without
from checks import jax_in_a_hurry
from nets import vanilla
from short_blocks import assert_alike, both, compare, everything, is_ahead, pieces, program_of
from stepping import OPTIMIZERS

import forwardgrad as fg


@pytest.fixture(scope="module", autouse=True)
def _compiled_fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for _ in in_a_hurry(tmp_path_factory.mktemp("single_steps")):
        yield from jax_in_a_hurry()


# The same numbers.


RULES = [("elman", "rtrl"), ("lstm", "eprop"), ("alif", "uoro"), ("dilated", "snap(1)")]

CASES = [
    *(
        (backend, *case, batch, clip)
        for backend in ("numpy", "interpreter")
        for case in RULES
        for batch, clip in ((1, None), (3, 0.05))
    ),
    ("c", "elman", "rtrl", 1, 0.05),
]


@pytest.mark.parametrize(("backend", "name", "rule", "batch", "clip"), CASES)
def test_single_steps_are_blocks_of_one_step(
    backend: str, name: str, rule: str, batch: int, clip: float | None
) -> None:
    """If this fails, a learner of short blocks learns by another algorithm than one of long blocks."""
    program = program_of(backend, name, rule)
    one, other = both(program, fg.SGD(0.05, momentum=0.5), clip=clip)
    assert compare(one, other, pieces(program, 6, batch)) > 1e-3


@pytest.mark.parametrize(
    ("backend", "optimizer", "clip"),
    [
        *(("numpy", optimizer, clip) for optimizer in OPTIMIZERS for clip in (None, 0.05)),
        ("c", "momentum", None),
        ("c", "adam", 0.05),
        ("c", "scheduled", 0.05),
        *(("c", optimizer, None) for optimizer in ("clipped", "clipped twice", "clipped entries")),
        ("c", "clipped", 0.05),
    ],
)
def test_every_optimizer(backend: str, optimizer: str, clip: float | None) -> None:
    """If this fails, a wrapper, a schedule or a constraint is lost in short blocks."""
    program = program_of(backend)
    assert compare(*both(program, OPTIMIZERS[optimizer], clip=clip), pieces(program, 6)) > 1e-4


def test_single_steps_under_jax() -> None:
    """If this fails, they are other steps where JAX takes them."""
    program = program_of("jax")
    assert compare(*both(program, fg.Adam(0.01), clip=0.5), pieces(program, 4)) > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_single_precision(backend: str) -> None:
    """If this fails, arrays change their type on the way."""
    program = program_of(backend, dtype="float32")
    one, other = both(program, fg.Adam(0.01), clip=0.5)
    stream = [
        tuple({n: a.astype(np.float32) for n, a in group.items()} for group in piece) for piece in pieces(program, 4)
    ]
    assert compare(one, other, stream, 2e-4) > 1e-3


MASKS: dict[str, Any] = {
    "of steps": [1.0, 0.0, 0.5, 1.0, 2.0, 0.0],
    "of samples": [[1.0, 0.0], [0.5, 2.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]],
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_masks(backend: str, mask: str) -> None:
    """If this fails, steps or samples that are left out are learned from, or weigh something else."""
    program = program_of(backend)
    one, other = both(program, fg.Adam(0.01), clip=0.5)
    weights = np.array(MASKS[mask])
    stream: list[Any] = []
    for (x, y), weight in zip(pieces(program, 6), weights, strict=True):
        y["y"][0][np.broadcast_to(weight == 0, 2)] = np.nan  # may be anything
        stream.append((x, y, weight[None]))
    assert compare(one, other, [*stream, *pieces(program, 2), *stream]) > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_masks_of_some_outputs_and_labels(backend: str) -> None:
    """If this fails, the mask of one output is that of another, or labels are not read."""
    skip_without(backend)
    graph = vanilla()
    graph.add_node("z", op="linear", size=3)
    graph.add_edge("h", "z", weight="dense")
    program = fg.compile(graph, {"y": "mse", "z": "cross_entropy"}, "rtrl", backend=backend)
    one, other = both(program, fg.SGD(0.1))
    masks = [{"z": np.array([[0.0, 1.0]])}, {"y": np.array([2.0]), "z": None}, None, {"y": np.zeros(1)}]
    stream = [(x, y, mask) for (x, y), mask in zip(pieces(program, 8), 2 * masks, strict=True)]
    assert compare(one, other, stream) > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.parametrize("rule", ["eprop-adaptive", "eprop; feedback=signal"])
def test_feedback(rule: str, backend: str) -> None:
    """If this fails, matrices of feedback are not updated, or signals are not read."""
    skip_without(backend)
    program = fg.compile(vanilla(), {"y": "mse"}, rule, backend=backend)
    one, other = both(program, fg.SGD(0.1))
    signals = {name: np.full((1, 2, 2), 0.3) for name in program.signalled} or None
    assert compare(one, other, [(x, y, None, signals) for x, y in pieces(program, 5)]) > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_your_own_loss_and_a_tiny_one(backend: str) -> None:
    """If this fails, what C cannot take whole is not taken at all."""
    skip_without(backend)
    rough = fg.Loss("rough", lambda y, t: ((y - t) ** 4).sum(axis=1), lambda y, t: 4 * (y - t) ** 3)
    program = fg.compile(vanilla(), {"y": rough}, backend=backend)
    assert compare(*both(program, fg.SGD(0.001)), pieces(program, 4)) > 1e-4
    tiny = fg.compile(vanilla(), {"y": "mse"}, dtype="float32", backend=backend)
    one, _ = both(tiny, fg.SGD(0.1))
    stream = [({"x": np.zeros((1, 1, 2))}, {"y": np.full((1, 1, 2), 1e-22)})]  # the outputs are zero
    step = next(one.updates(stream)).step
    length = np.sqrt(sum((grad.astype(np.float64) ** 2).sum() for grad in step.grads.values()))
    assert 0 < length < 1e-21  # squares of this are zero
    assert step.grad_norm == pytest.approx(length, rel=1e-6, abs=0)


def test_what_a_step_of_a_stream_does_not_give_is_given() -> None:
    """If this fails, gradients by the inputs are empty in blocks of one step."""
    program = program_of("numpy", by_inputs=True)
    one, other = both(program, fg.SGD(0.1))
    compare(one, other, pieces(program, 2), ahead=False)
    assert next(one.updates(pieces(program, 1))).step.by_inputs.keys() == {"x"}


def test_the_last_step_of_a_longer_piece_is_a_block() -> None:
    """If this fails, C compiles functions of single steps for a rest, and a run depends on how it was begun."""
    program = program_of("numpy")
    one, other = both(program, fg.SGD(0.1))
    x, y = (np.concatenate([piece[n][name] for piece in pieces(program, 7)]) for n, name in ((0, "x"), (1, "y")))
    for found, wanted in zip(*(each.updates([({"x": x}, {"y": y})], block=3) for each in (one, other)), strict=True):
        assert not is_ahead(one)
        assert found.step.loss == wanted.step.loss
    assert one.seen == 7


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_pieces_of_all_lengths_by_turns(backend: str) -> None:
    """If this fails, one kind of block goes on from something else than the other one left."""
    program = program_of(backend)
    one, other = both(program, fg.Adam(0.01), clip=1.0)
    single, stream = pieces(program, 9), list[Any]()
    for first, last in ((0, 1), (1, 2), (2, 5), (5, 6), (6, 9)):
        stream.append(
            tuple({n: np.concatenate([p[k][n] for p in single[first:last]]) for n in single[0][k]} for k in (0, 1))
        )
    ways = [is_ahead(one) for _ in one.updates(stream)]
    assert ways == [True, True, False, True, False]
    other.fit(stream)
    assert_alike(everything(one), everything(other))
