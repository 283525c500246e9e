"""Does an exported learner learn on a processor without an operating system? Here on emulated boards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import exported
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.data import laser
from forwardgrad.device import export
from forwardgrad.learning.optimizers import SGD

BOARD = Path(__file__).parents[2] / "benchmarks" / "board"
CORES = {"cortex-m4": ("fpv4-sp-d16", "mps2-an386"), "cortex-m7": ("fpv5-d16", "mps2-an500")}
TOLERANCE = 1e-5
"""How far predictions may be from those of NumPy in single precision, on a series of deviation 1."""

STEPS = 1500


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_it_learns_the_laser_on_a_board(core: str, tmp_path: Path) -> None:
    """All of this is for devices; a desk computer hides alignment, the size of types, and a missing C library."""
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    pytest.importorskip("reservoirpy")
    series = laser().values.ravel()[: STEPS + 1]
    series = (series - series.mean()) / series.std()
    program = fg.compile(fg.load("leaky_stack"), loss={"y": "mse"}, rule="eprop", dtype="float32")
    params, optimizer = program.init(), SGD(0.01)
    written = export(program, params, tmp_path / "c", optimizer=optimizer)
    inputs = [{"x": value.reshape(1, 1, 1)} for value in series[:-1]]
    targets = [{"y": value.reshape(1, 1, 1)} for value in series[1:]]
    samples = exported.Stream(inputs, targets, frozenset({700}), frozenset({30}))
    expected = exported.by_python(program, params, optimizer, samples)
    found = _on_board(core, tmp_path / "c", written.memory, exported.lines(samples))
    predictions = [[row[0] for row in rows] for rows in (found, expected)]
    np.testing.assert_allclose(*predictions, rtol=0, atol=TOLERANCE)
    losses = [row[-1] for row in found if len(row) == 2]
    assert np.mean(losses[-500:]) < 0.6 * np.mean(losses[:100])


def _on_board(core: str, folder: Path, memory: int, text: str) -> list[list[float]]:
    """What a learner prints that runs on an emulated board."""
    unit, board = CORES[core]
    options = [f"-mcpu={core}", "-mthumb", "-mfloat-abi=hard", f"-mfpu={unit}", "-O2", *exported.STRICT]
    _run(["arm-none-eabi-gcc", *options, "-c", "model.c", "main.c"], folder)
    text_, data, bss = map(int, _run(["arm-none-eabi-size", "model.o"], folder).splitlines()[1].split()[:3])
    assert (data, bss) == (0, memory)
    assert text_ > 0
    link = ["--specs=rdimon.specs", "-T", str(BOARD / "board.ld"), "-Wno-pedantic", str(BOARD / "board.c")]
    _run(["arm-none-eabi-gcc", *options, *link, "main.o", "model.o", "-lm", "-o", "learner.elf"], folder)
    host = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
    said = _run(["qemu-system-arm", "-M", board, *host, "-kernel", "learner.elf"], folder, text)
    return [[float(word) for word in line.split()] for line in said.splitlines()]


def _run(command: list[str], folder: Path, text: str = "") -> str:
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=False, timeout=300)
    assert not done.returncode, done.stderr[:4000]
    return done.stdout
