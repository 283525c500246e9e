"""Bytes of exported learners by network and rule: `python -m benchmarks.devices` prints the table of docs/devices.md.

Flash holds code and constants, as GCC makes them for a Cortex-M4 with -Os, where `arm-none-eabi-gcc` is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import forwardgrad as fg
from forwardgrad.device import export
from forwardgrad.learning.optimizers import SGD

NETWORKS = ("indrnn", "gru", "lstm", "leaky_stack", "alif", "conv_lif")
RULES = ("immediate", "eprop", "snap(1)", "rtrl")
SIZES = (64, 256, 1024)
COMPILER = ("arm-none-eabi-gcc", "-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-c", "model.c")


def main() -> None:
    """Print the table."""
    print("| network | rule | memory | flash | memory fits into |")
    print("| --- | --- | ---: | ---: | --- |")
    for network in NETWORKS:
        for rule in RULES:
            program = fg.compile(fg.load(network), rule=rule, dtype="float32")
            with tempfile.TemporaryDirectory() as folder:
                written = export(program, program.init(), Path(folder, "c"), optimizer=SGD(0.01))
                flash = _flash(written.folder)
            fits = next((f"{size:,} kB" for size in SIZES if written.memory <= 1024 * size), "none of these")
            print(f"| {network} | {rule} | {written.memory:,} | {flash} | {fits} |")


def _flash(folder: Path) -> str:
    """The bytes of code and constants."""
    if shutil.which(COMPILER[0]) is None:
        return "-"
    subprocess.run(COMPILER, cwd=folder, check=True)
    sizes = subprocess.run(["arm-none-eabi-size", "model.o"], cwd=folder, check=True, capture_output=True, text=True)
    return f"{int(sizes.stdout.splitlines()[1].split()[0]):,}"


if __name__ == "__main__":
    main()
