"""Does memory grow with the stream? The peak of a process that does nothing but take one gradient, for each length.

`python -m benchmarks.memory '{"steps": 2000, ...}'` is such a process; it prints its peak in MiB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.networks import Network
from benchmarks.ours import compiled
from benchmarks.timing import Timing

PIECE = 500
"""Steps of a piece of the stream."""


def peaks(network: Network, batch: int, lengths: Sequence[int]) -> list[Timing]:
    """The peak memory for each length, MiB."""
    found = []
    for steps in tqdm(lengths, desc="memory", leave=False):
        asked = json.dumps({"network": asdict(network), "batch": batch, "steps": steps})
        command = [sys.executable, "-m", "benchmarks.memory", asked]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        whole = steps * batch * (network.inputs + network.outputs) * 4 / 2**20
        note = f"the data alone would take {whole:,.1f} MiB"
        found.append(Timing(f"{steps:,} steps", (peak,), note, "MiB"))
    return found


def peak_memory() -> float:
    """The most that this process has held, MiB.

    `VmHWM` where there is one: `ru_maxrss` of a child starts at what its parent held when it was made.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def stream(network: Network, batch: int, steps: int) -> Iterator[Any]:
    """Pieces of inputs and targets, none made before it is asked for."""
    draw = np.random.default_rng(0)
    for at in range(0, steps, PIECE):
        now = min(PIECE, steps - at)
        x = draw.normal(size=(now, batch, network.inputs)).astype("float32")
        yield {"x": x}, {"y": x[..., : network.outputs]}


def _main(asked: str) -> None:
    given = json.loads(asked)
    network = Network(**{**given["network"], "units": tuple(given["network"]["units"])})
    program = compiled(network, "eprop")
    program.gradient(program.init(seed=0), stream(network, given["batch"], given["steps"]))
    print(peak_memory())


if __name__ == "__main__":
    _main(sys.argv[1])
