"""Does a program on many devices give what it gives on one, and does each device hold its part and no more?"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import forwardgrad as fg
from forwardgrad.backends.devices import Devices
from forwardgrad.learning import checkpoint

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("given", [0, -1, 1.5, "4", True, {"samples": 2}, {"batch": 0}, {"influence": None}])
def test_what_are_no_devices_is_refused(given: Any) -> None:
    """JAX would fail later, in words of its own."""
    with pytest.raises(fg.DataError, match=r"^devices: "):
        fg.compile(fg.load("elman"), backend="jax", devices=given)


@pytest.mark.parametrize("text", ["", "x", "-1", "batch=2,batch=3", "batch", "4,2", "samples=3", "batch=0", "9" * 12])
def test_a_text_that_names_no_devices_is_refused(text: str) -> None:
    """An argument of a command that is misread would train on another layout than was meant."""
    with pytest.raises(fg.DataError, match=r"^devices: "):
        Devices.parse(text)


def test_one_backend_runs_on_many_devices() -> None:
    """Another one would run on one device without a word."""
    with pytest.raises(fg.DataError, match=r"backend 'numpy' runs on one(.|\n)*backend='jax'"):
        fg.compile(fg.load("elman"), devices=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"traces": "bfloat16"}, r"backend 'numpy' has no numbers of two bytes(.|\n)*backend='jax'"),
        ({"traces": "float16", "backend": "jax"}, r"traces: (.|\n)*bfloat16, got 'float16'"),
        ({"traces": "bfloat16", "backend": "c"}, r"backend 'c' has no numbers of two bytes"),
    ],
)
def test_traces_that_cannot_be_kept_so_are_refused(options: Any, said: str) -> None:
    """If this fails, a program stores twice what was asked for, without a word."""
    with pytest.raises(fg.DataError, match=said):
        fg.compile(fg.load("elman"), **options)


def test_a_learner_gets_its_devices_once() -> None:
    """If this fails, what is said of devices is ignored where a program is given."""
    with pytest.raises(fg.DataError, match="Give devices= to compile"):
        checkpoint.match("file", {}, fg.compile(fg.load("elman")), 4)


def test_the_layout_of_shards_needs_no_devices() -> None:
    """Whoever plans a run wants to know what fits before there is a machine."""
    layout = fg.compile(fg.load("elman"), rule="rtrl").shards(3, {"batch": 2, "influence": 8})
    parts = {share.key: share.part for share in layout}
    assert parts['influence["h->h", "h", "all"]'] == (1, 2, 32, 32, 4)
    assert parts['value["h"]'] == (1, 2, 32)
    assert "16 devices, batch over 2, influence over 8" in str(layout)


def test_influence_whose_sizes_do_not_divide_is_whole_on_every_device() -> None:
    """If this fails, JAX refuses the state in words of its own."""
    layout = fg.compile(fg.load("elman"), rule="rtrl").shards(1, {"influence": 5})
    assert all(share.axis is None and share.part == share.shape for share in layout)


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback of an import deep inside would not say what to install."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("forwardgrad.backends.jax_engine.import_module", missing)
    with pytest.raises(fg.MissingExtraError, match=r"pip install \"forwardgrad\[jax\]\""):
        fg.compile(fg.load("elman"), backend="jax", devices=2)


def spread(*words: str) -> Any:
    """What `spread_runs.py` says."""
    pytest.importorskip("jax")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "JAX_NUM_CPU_DEVICES": "8", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-W", "error", str(TESTS / "spread_runs.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_rule_on_every_number_of_devices() -> None:
    """An instruction, a layout or a delay that no quick test has may be split wrongly."""
    found = spread("all")["apart"]
    assert {what: apart for what, apart in found.items() if not apart <= 1e-12} == {}


def test_many_devices_compute_what_one_does() -> None:
    """Samples and influence split over eight virtual devices: gradients, states, resets and checkpoints."""
    found = spread()
    assert {what: apart for what, apart in found["apart"].items() if not apart <= 1e-12} == {}
    assert "16 are asked for, and JAX has 8 of kind 'cpu'" in found["refused"]["too many"]
    assert "the influence of 'x->h' is estimated with random signs" in found["refused"]["drawn"]
    assert "is not finite" in found["refused"]["not finite"]


def suite(folder: Path, *words: str) -> Any:
    """What `spread_suite.py` finds on eight devices in one process, and in two that have four each."""
    pytest.importorskip("jax")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-W", "error", str(TESTS / "spread_suite.py")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    runs = {"alone": (), "first": ("--process", "0"), "second": ("--process", "1")}
    found: dict[str, Any] = {}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, more in runs.items():
            given = [*words, *more, *(("--coordinator", place) if more else ())]
            with open(folder / f"{name}.txt", "wb") as log:
                running[name] = subprocess.Popen(
                    [*command, str(folder / name), *given], stdout=log, stderr=log, env=environment
                )
        for name, process in running.items():
            code = process.wait(timeout=7200)
            assert code == 0, (folder / f"{name}.txt").read_text()
            found[name] = json.loads((folder / name).read_text())
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return found


def test_the_oracle_is_met_on_eight_devices_and_in_two_processes(tmp_path: Path) -> None:
    """A pinned part of the gradient suite: delays, an LSTM and a random graph, in blocks of several lengths."""
    found = suite(tmp_path, "--pinned")
    assert {len(each) for each in found.values()} == {3}
    assert {what: apart for each in found.values() for what, apart in each.items() if not apart <= 1e-10} == {}


@pytest.mark.slow
def test_the_gradient_suite_on_one_four_and_eight_devices_and_in_two_processes(tmp_path: Path) -> None:
    """An instruction, a layout or a delay that no quick test has may be split wrongly."""
    found = suite(tmp_path, "--graphs", "6")
    assert {len(each) for each in found.values()} == {60, 40}
    assert {what: apart for each in found.values() for what, apart in each.items() if not apart <= 1e-10} == {}
