"""`python -m benchmarks.sharding`: memory per device of exact RTRL, by the number of devices that share its influence.

Devices are virtual ones of the CPU, which JAX lays arrays out for as it does for any other. What a device holds between
blocks is read off the arrays of a state after a step; what a step takes on it is what XLA plans for its largest call.
The gradient is compared with that of one device.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import forwardgrad as fg
from benchmarks.networks import Network, declare
from benchmarks.plot import shards
from benchmarks.tasks import make
from forwardgrad.backends import Devices, engine

COUNTS = (1, 2, 4, 8)
"""Numbers of devices."""


def measured(units: int, batch: int, count: int, reference: dict[str, Any]) -> dict[str, Any]:
    """One row: bytes per device, and how far the gradient is from that of one device."""
    network = Network("rnn", 32, (units,), 8, "mse")
    task = make(network, steps=2, batch=batch, dtype="float32")
    devices = Devices(influence=count)
    program = fg.compile(declare(network), {"y": network.loss}, "rtrl", dtype="float32", backend="jax", devices=devices)
    state, began = program.start(batch), time.perf_counter()
    grads: dict[str, Any] = {}
    for t in (slice(0, 1), slice(1, 2)):
        state, step = program.step(task.params, {"x": task.x[t]}, {"y": task.target[t]}, state=state)
        grads = step.grads
    held: dict[str, int] = {}
    for array in state.values():
        for device, size in array.bytes_by_device.items():
            held[device] = held.get(device, 0) + size
    planned = engine("jax", program.plan, program.dtype, devices).planned_bytes(1, batch)
    reference = reference or grads
    return {
        "units": units,
        "devices": count,
        "held": max(held.values()),
        "planned": max(planned.values()),
        "error": max(float(np.abs(grads[n] - reference[n]).max() / np.abs(reference[n]).max()) for n in grads),
        "seconds": time.perf_counter() - began,
        "grads": grads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharding", description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", max(COUNTS))
    rows: list[dict[str, Any]] = []
    for units in given.units:
        reference: dict[str, Any] = {}
        for count in tqdm(COUNTS, desc=f"{units} units", leave=False):
            row = measured(units, given.batch, count, reference)
            reference = reference or row["grads"]
            rows.append({what: value for what, value in row.items() if what != "grads"})
    print("| units | devices | state, MiB per device | a step, MiB per device | gradient differs by |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        sizes = f"{row['held'] / 2**20:,.1f} | {row['planned'] / 2**20:,.1f}"
        print(f"| {row['units']} | {row['devices']} | {sizes} | {row['error']:.1g} |")
    if given.plot:
        shards(rows, given.plot)
    if given.json:
        given.json.write_text(json.dumps({"batch": given.batch, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
