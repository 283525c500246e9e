"""Is what callbacks and validation tell of a learner true, and does learning end where it should?"""

from __future__ import annotations

import csv
import io
import sys
from typing import Any

import numpy as np
import pytest
from nets import vanilla

import forwardgrad as fg
from forwardgrad.errors import DataError, MissingExtraError
from forwardgrad.learning.callbacks import CSVLog, EarlyStopping, ProgressBar, TensorBoard, together


def learner(rate: float = 0.1) -> fg.Learner:
    program = fg.compile(vanilla(), loss={"y": "mse"}, rule="rtrl")
    return fg.Learner(program, program.init(3), fg.SGD(rate))


def data(steps: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    x = np.random.default_rng(seed).normal(size=(steps, 2, 2))
    return {"x": x}, {"y": 0.5 * x}


def test_evaluate_is_the_loss_of_a_block_and_leaves_the_learner_alone():
    """If it failed, a validation loss would not compare with the loss while learning, or validating would teach."""
    ours = learner()
    ours.fit([data(12)], block=4)
    before = {**ours.params, **(ours.state or {})}
    mask = np.array([0, 1, 1, 0.5, 1, 0])
    for go_on, state in ((False, ours.program.start(2)), (True, ours.state)):
        _, step = ours.program.step(ours.params, *data(6, 1), mask, state=state or {})
        assert ours.evaluate(*data(6, 1), mask, go_on=go_on) == pytest.approx(step.loss / 3.5, abs=1e-12)
        predicted = ours.predict(data(6, 1)[0], go_on=go_on)
        np.testing.assert_allclose(predicted["y"], step.outputs["y"], atol=1e-12)
    assert all(before[name] is array for name, array in {**ours.params, **(ours.state or {})}.items())
    with pytest.raises(DataError):
        ours.evaluate(data(6)[0], data(5)[1])


def test_fit_gives_the_norms_of_each_block():
    """If it failed, an exploding gradient could not be seen in what `fit` returns."""
    fitted, watched = learner().fit([data(12)], block=4), list(learner().updates([data(12)], block=4))
    for update, whole in zip(fitted, watched, strict=True):
        squares = sum(np.sum(g**2) for g in whole.step.grads.values())
        assert update.step.grad_norm == pytest.approx(np.sqrt(squares))
        assert update.step.state_norm == whole.step.state_norm > 0


def test_early_stopping_ends_and_keeps_the_best():
    """If it failed, a network would learn on until it has forgotten, or its best parameters would be lost."""
    ours = learner()
    ours.fit([data(200)], block=4)  # as good as it gets
    stopping = EarlyStopping(ours, *data(50, 1), every=2, patience=3)
    noise = np.random.default_rng(2).normal(size=(400, 2, 2))
    updates = ours.fit([(data(400)[0], {"y": noise})], block=4, progress=stopping)
    losses = [loss for _, loss in stopping.history]
    assert 8 <= len(updates) < 100
    assert len(updates) == 2 * len(losses)
    assert len(losses) == int(np.argmin(losses)) + 4
    assert stopping.history[-1][0] == updates[-1].seen == ours.seen
    ours.params = stopping.best
    assert ours.evaluate(*data(50, 1)) == min(losses)


def test_what_a_callback_happens_to_return_ends_nothing():
    """If it failed, `progress=lambda update: bar.update(update.steps)` would end learning when tqdm draws its bar."""
    for answer in (True, 1, "drawn", np.ones(3)):
        assert len(learner().fit([data(12)], block=4, progress=lambda update, answer=answer: answer)) == 3


@pytest.mark.parametrize("wrong", [{"every": 0}, {"patience": 1.5}, {"least": -1.0}])
def test_settings_of_early_stopping_are_checked(wrong):
    """If it failed, learning would never end, or at once."""
    with pytest.raises(DataError, match="early stopping"):
        EarlyStopping(learner(), *data(5), **wrong)


def test_the_csv_file_and_the_bar_tell_every_update(tmp_path):
    """If it failed, a log would lack updates; one callback that ends learning would keep others from being told."""
    text = io.StringIO()
    with CSVLog(tmp_path / "log.csv") as log, ProgressBar(12, file=text) as bar:
        updates = learner().fit(
            [data(12)], block=4, progress=together(lambda update: "stop" if update.seen == 8 else None, log, bar)
        )
    with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["seen"]), float(row["loss"])) for row in rows] == [(u.seen, u.loss) for u in updates]
    assert [u.seen for u in updates] == [4, 8]
    assert "8/12" in text.getvalue()


def test_tensorboard_gets_scalars(tmp_path, monkeypatch):
    """If it failed, a run would have no curves; or one without the package would end in an import error."""
    told = []

    class Writer:
        def __init__(self, folder: str) -> None:
            told.append(folder)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, step))

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", type("Module", (), {"SummaryWriter": Writer}))
    with TensorBoard(tmp_path) as board:
        learner().fit([data(4)], progress=board)
    assert told == [str(tmp_path), ("loss", 4), ("grad_norm", 4), ("state_norm", 4), "closed"]
    for package in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match="pip install tensorboardX"):
        TensorBoard(tmp_path)
