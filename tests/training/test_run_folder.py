"""Is a run's folder held by one run, replaced as a whole, and gone on with by the same run alone?"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training import TRAIN, net, program

import forwardgrad as fg
from forwardgrad import training
from forwardgrad.errors import FileError
from forwardgrad.learning import checkpoint
from forwardgrad.support import atomic
from forwardgrad.training import Every, Hold, Keeper, Settings, Stopped, folder
from tests.training.runs import ROOT, SETTINGS, nothing, posix, resumed, same, stop_after, task

# The folder: its lock, and what is put there together.


@posix
def test_a_folder_is_held_by_one_run(tmp_path):
    """If it failed, two runs into one folder would write over each other."""
    with Hold(tmp_path / "out"):
        with (
            pytest.raises(FileError, match=rf"in use by another run, process {os.getpid()}\.") as caught,
            Hold(tmp_path / "out"),
        ):
            pass
        assert "--out FOLDER" in str(caught.value)
    with Hold(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


@posix
def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    """If it failed, a run that was killed would have to be cleaned up by hand."""
    code = "import sys; from pathlib import Path; from forwardgrad.training import Hold\n"
    code += "with Hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(FileError, match=rf"process {process.pid}\."), Hold(tmp_path):
            pass
        process.kill()
    assert (tmp_path / ".lock").exists()
    (tmp_path / f".{'0a' * 8}.tmp").write_text("half a checkpoint")
    (tmp_path / ".mine.tmp").write_text("of somebody else")
    (tmp_path / ".staging").mkdir()
    with Hold(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", ".mine.tmp"}


@posix
def test_a_file_system_without_locks_is_said_to_be_one(tmp_path, monkeypatch):
    """If it failed, a network file system without locks would refuse every run, or pretend to be safe."""
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"), Hold(tmp_path):
        pass


def put(place: Path, seed: int, page: bool = False, **options: Any) -> dict[str, Any]:
    """Train, and write the results; returns the report."""
    settings = Settings(passes=1, block=7, seed=seed)
    trained = training.train(program(), task(), settings, nothing)
    about = {"graph": "net", "rule": "eprop"}
    found = training.report(program(), task(), settings, trained, training.baselines(task()), about)
    return training.write(place, task(), trained, found, "train net" if page else None, **options)[0]


def seeds(place: Path) -> set[int]:
    """Of which runs the files in a folder are."""
    notes = checkpoint.read(place / "learner.npz").notes["settings"]["seed"]
    return {json.loads((place / "report.json").read_text())["settings"]["seed"], notes}


def test_old_results_are_replaced_together_or_stay(tmp_path, monkeypatch):
    """If it failed, a folder would hold the parameters of one run beside the report or the page of another."""
    (tmp_path / "report.html").write_text("of an older run")
    (tmp_path / "learner.npz").touch(0o640)
    (tmp_path / "notes.txt").write_text("of the user")
    put(tmp_path, 1)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "report.html" not in kept
    assert "notes.txt" in kept
    assert (tmp_path / "learner.npz").stat().st_mode & 0o777 == 0o640
    assert kept.keys() - {"notes.txt"} == set(json.loads(kept["report.json"])["files"])
    for fails in range(1, 6):  # a check between two parts of the work
        left = [fails]

        def check(left: Any = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Stopped(signal.SIGINT)

        with pytest.raises(Stopped):
            put(tmp_path, 2, check=check)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(FileError, match=f"cannot write '{tmp_path}.*No space left on device"):
            put(tmp_path, 2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("call", ["os.replace", "Path.unlink", "Path.rmdir"])
def test_whatever_ends_the_renames_the_next_run_ends_them(call, tmp_path, monkeypatch):
    """If it failed, a kill between two renames would leave a mix of two runs for good, or lose both."""
    owner, name = (folder.os, "replace") if call == "os.replace" else (Path, call.split(".")[1])
    true = getattr(owner, name)
    for at in range(1, 9):
        put(tmp_path, 1)
        (tmp_path / "report.html").write_text("of the old run")
        (tmp_path / "checkpoint.npz").write_text("of the new run")
        left = [at]

        def die(*args: Any, left: Any = left, **options: Any) -> Any:
            if any(".placing" in str(each) or tmp_path == Path(each).parent for each in args):
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt  # as good as a kill: nothing here catches it
            return true(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            try:
                put(tmp_path, 2)
            except KeyboardInterrupt:
                if (tmp_path / "report.json").exists():
                    assert seeds(tmp_path) in ({1}, {2})
        with Hold(tmp_path):
            pass
        assert len(seeds(tmp_path)) == 1
        names = {path.name for path in tmp_path.iterdir()} - {"checkpoint.npz"}
        if seeds(tmp_path) == {2}:
            assert names == set(json.loads((tmp_path / "report.json").read_text())["files"])
            assert not (tmp_path / "checkpoint.npz").exists()


def test_what_is_no_result_of_ours_is_not_put_in_place(tmp_path):
    """If it failed, a folder that somebody made would end in a KeyError."""
    (tmp_path / ".placing").mkdir()
    (tmp_path / ".placing" / "report.json").write_text("[]")
    with pytest.raises(FileError, match="cannot move results from"), Hold(tmp_path):
        pass


# What is refused.


def interrupted(place: Path, settings: Settings = SETTINGS, **changes: Any) -> Path:
    path = place / "checkpoint.npz"
    with pytest.raises(Stopped):
        training.train(program(**changes), task(), settings, stop_after(4), keeper=Keeper(path))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"settings": Settings(passes=4, block=7, learning_rate=0.01)},
            "what differs: passes.\n  passes: 3 there, 4 given",
        ),
        ({"settings": Settings(passes=3, block=7, learning_rate=0.02)}, "learning_rate: 0.01 there, 0.02 given"),
        ({"settings": Settings(passes=3, block=8, learning_rate=0.01)}, "block: 7 there, 8 given"),
        ({"settings": Settings(passes=3, block=7, learning_rate=0.01, clip=2.0)}, "clip: 1.0 there, 2.0 given"),
        ({"settings": Settings(passes=3, block=7, learning_rate=0.01, seed=1)}, "seed: 0 there, 1 given"),
        ({"task": task(TRAIN + 1)}, f"train_samples: {TRAIN} there, {TRAIN + 1} given"),
        ({"task": task(length=91)}, "data: sha256 "),
        ({"program": program(rule="rtrl")}, "rules, 'x->a': eprop-deep there, all given"),
        ({"program": program(dtype="float32")}, "dtype: float64 there, float32 given"),
        ({"program": fg.compile(net(init="zeros"), loss={"y": "mse"}, rule="eprop-deep")}, "graph: sha256 "),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_another_run_is_not_gone_on_with(change, words, tmp_path):
    """If it failed, a run would go on with other data or settings, and its report would state neither."""
    path = interrupted(tmp_path)
    kept = path.read_bytes()
    given = {"program": program(), "task": task(), "settings": SETTINGS} | change
    with pytest.raises(FileError, match="cannot resume") as caught:
        training.begin(tmp_path, **given, resume=True)
    assert words in str(caught.value)
    assert "--restart" in str(caught.value)
    assert path.read_bytes() == kept


def test_an_interrupted_run_is_not_written_over_by_accident(tmp_path):
    """If it failed, forgetting --resume would cost the run that --resume is for."""
    interrupted(tmp_path)
    with pytest.raises(FileError, match=r"holds an interrupted run, at step 35\.\n.*--resume.*--restart"):
        training.begin(tmp_path, program(), task(), SETTINGS)
    run = training.begin(tmp_path, program(), task(), SETTINGS, restart=True)
    assert run is not None
    assert run.learner.seen == 0


def edited(path: Path, **changes: Any) -> None:
    """A checkpoint with other notes, written as by us."""
    learner, notes = fg.Learner.load(path), dict(checkpoint.read(path).notes)
    learner.save(path, notes | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"curve": [1.0]},
        {"curve": None},
        {"squares": "many"},
        {"seconds": None},
        {"format": 1},
        {"recipe": None},
        {"best": 0},
        {"validation": [1.0]},
        {"data": 5},
        {"settings": []},
    ],
    ids=str,
)
def test_notes_are_not_believed(changes, tmp_path):
    """If it failed, a damaged or newer checkpoint would end in a TypeError, or in a curve of two runs."""
    path = interrupted(tmp_path)
    edited(path, **changes)
    with pytest.raises(FileError, match=r"damaged|that no training of this version has written"):
        training.begin(tmp_path, program(), task(), SETTINGS, resume=True)


def test_a_learner_of_the_users_is_no_interrupted_run(tmp_path):
    """If it failed, a file that happens to have the name would be trained on from nowhere."""
    learner = fg.Learner(program(), program().init(0), fg.Adam(0.01))
    learner.save(tmp_path / "checkpoint.npz")
    with pytest.raises(FileError, match="that no training of this version has written"):
        training.begin(tmp_path, program(), task(), SETTINGS, resume=True)


def test_another_version_is_said(tmp_path):
    """If it failed, a run whose end differs in rounding would pass for the one to the bit."""
    path = interrupted(tmp_path)
    edited(path, versions={"forwardgrad": "0.0.1", "numpy": np.__version__})
    with pytest.warns(UserWarning, match=r"begun with forwardgrad 0\.0\.1"):
        assert training.begin(tmp_path, program(), task(), SETTINGS, resume=True) is not None


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    """If it failed, a disk that fills up would cost what was saved before, or be told without its place."""
    path, fsync = tmp_path / "checkpoint.npz", os.fsync
    saves = [2]

    def full(file: Any) -> None:
        saves[0] -= 1
        if saves[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device") as caught:
        training.train(program(), task(), SETTINGS, nothing, keeper=Keeper(path, Every(steps=7)))
    assert str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    saved = checkpoint.read(path).seen
    assert f"it stays saved up to step {saved}" in str(caught.value)
    assert 0 < saved < math.inf
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert same(resumed(tmp_path, program()), training.train(program(), task(), SETTINGS, nothing))
