"""What exported learners take, by network and rule: `python -m benchmarks.devices` prints the table of docs/devices.md.

Flash holds code and constants, as GCC makes them for a Cortex-M4 with -Os, where `arm-none-eabi-gcc` is installed.
Instructions are those of a step that learns, with -O2, where `qemu-system-arm` is installed, too: the emulated clock of
the board goes on by one unit an instruction (`-icount shift=0`), and is compared with a loop of known length.
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
BOARD = Path(__file__).parent / "board"
CORE = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
COMPILER = ("arm-none-eabi-gcc", "-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-c", "model.c")


def main() -> None:
    """Print the table."""
    print("| network | rule | memory | flash | instructions per step | memory fits into |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for network in NETWORKS:
        for rule in RULES:
            program = fg.compile(fg.load(network), rule=rule, dtype="float32")
            with tempfile.TemporaryDirectory() as folder:
                written = export(program, program.init(), Path(folder, "c"), optimizer=SGD(0.01))
                flash, count = _flash(written.folder), _instructions(written.folder)
            fits = next((f"{size:,} kB" for size in SIZES if written.memory <= 1024 * size), "none of these")
            print(f"| {network} | {rule} | {written.memory:,} | {flash} | {count} | {fits} |", flush=True)


def _flash(folder: Path) -> str:
    """The bytes of code and constants."""
    if shutil.which(COMPILER[0]) is None:
        return "-"
    subprocess.run(COMPILER, cwd=folder, check=True)
    sizes = subprocess.run(["arm-none-eabi-size", "model.o"], cwd=folder, check=True, capture_output=True, text=True)
    return f"{int(sizes.stdout.splitlines()[1].split()[0]):,}"


def _instructions(folder: Path) -> str:
    """The instructions of a step that learns, counted on an emulated board."""
    if not all(map(shutil.which, (COMPILER[0], "qemu-system-arm"))):
        return "-"
    sources = ["model.c", str(BOARD / "count.c"), str(BOARD / "board.c"), "-I.", "-lm", "-o", "count.elf"]
    script = ("--specs=rdimon.specs", "-T", str(BOARD / "board.ld"))
    subprocess.run([COMPILER[0], "-O2", *CORE, *script, *sources], cwd=folder, check=True, capture_output=True)
    host = ("-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native")
    board = ("qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", *host, "-kernel", "count.elf")
    said = subprocess.run(board, cwd=folder, check=True, capture_output=True, text=True, timeout=300).stdout
    loop, ticks, known, steps = map(int, said.split())
    return f"{ticks * known / loop / steps:,.0f}"


if __name__ == "__main__":
    main()
