"""`python -m benchmarks.gpu`: the backend `jax` on an accelerator, beside peers, and beside what the card can do.

Gradients of whole sequences, in float32, each one jitted call; ours goes through the sequence in blocks, by a
`lax.scan` over blocks, with influence carried between them. Times are medians; compiling is timed apart. Rates of the
card (float32 products at full precision, a copy of memory) are measured first, in the same process.

The published milliseconds per step of exact RTRL (n tanh units, batch 4, an RTX 3080) are second-hand: we did not see
their paper.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import Contestant, MissingPeerError, peer
from benchmarks.flops import GATES, nominal
from benchmarks.networks import Network
from benchmarks.ours_jax import fused
from benchmarks.tasks import Gradient, Task, make

PUBLISHED = {64: 0.66, 128: 0.67, 256: 2.57, 384: 12.1, 512: 37.6}
"""Milliseconds per step of exact RTRL, by number of units."""


@dataclass(frozen=True)
class Setting:
    """One row.

    Args:
        network: the network.
        rule: `eprop` or `rtrl`.
        batch, steps: of the task.
        blocks: how many steps our blocks have, one contestant for each.
        peers: names of others, as in `contestants.PEERS`.
    """

    network: Network
    rule: str
    batch: int
    steps: int
    blocks: tuple[int, ...]
    peers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}, {self.network}, batch {self.batch}, T {self.steps}"


def settings(small: bool) -> Iterator[Setting]:
    """The rows, the most wanted first."""
    for n in (16, 32) if small else PUBLISHED:
        network = Network("rnn", 8 if small else 32, (n,), 8, "cross_entropy")
        yield Setting(network, "rtrl", 4, 16 if small else 128, (1, 4) if small else (1, 32), ("jax RTRL",))
    others = ("jax BPTT", "braintrace D-RTRL per step")
    sizes = ((16, 4),) if small else ((256, 32), (1024, 32), (256, 256), (1024, 256), (4096, 32), (4096, 128))
    for n, batch in sizes:
        for cell in ("lstm", "lif"):
            if (cell, n, batch) == ("lstm", 4096, 128):  # four gates: more influence than most cards hold
                continue
            network = Network(cell, 64, (n,), 16, "cross_entropy")
            yield Setting(network, "eprop", batch, 16 if small else 128, (8, 16) if small else (32, 128), others)


def contestants(setting: Setting, task: Task, only: int | None) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    """Who runs in a row, each made when its turn comes, so that nobody's memory is in the way."""
    for block in setting.blocks:
        if only in (None, block):
            yield f"forwardgrad, blocks of {block}", lambda block=block: fused(task, setting.rule, block)
    for name in setting.peers:
        yield name, lambda name=name: peer(name, task)


def timed(make_one: Callable[[], Contestant], rounds: int) -> tuple[dict[str, Any], Gradient]:
    """Seconds to compile, and of a call; with the gradient."""
    began = time.perf_counter()
    contestant = make_one()
    found = contestant.run()
    first = time.perf_counter() - began
    gradient = contestant.read(found)
    del found
    taken: list[float] = []
    while len(taken) < rounds or (sum(taken) < 0.2 and len(taken) < 50):
        began = time.perf_counter()
        contestant.run()
        taken.append(time.perf_counter() - began)
        if sum(taken) > 5:
            break
    return {"first": first, "seconds": statistics.median(taken), "least": min(taken), "calls": len(taken)}, gradient


def difference(one: Gradient, other: Gradient) -> float:
    """The largest relative difference of two gradients, parameter by parameter."""
    return max(
        float(np.abs(one.grads[name] - other.grads[name]).max() / max(np.abs(one.grads[name]).max(), 1e-30))
        for name in one.grads.keys() & other.grads.keys()
    )


def rates(small: bool) -> dict[str, float]:
    """What the device can do: products in TFLOP/s, a copy in GB/s, reads and writes counted."""
    size = 512 if small else 8192
    found: dict[str, float] = {}
    for name, dtype, precision in (
        ("float32", "float32", "highest"),
        ("tf32", "float32", "default"),
        ("bfloat16", "bfloat16", "default"),
    ):
        a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), dtype)
        product = jax.jit(lambda a, precision=precision: jnp.matmul(a, a, precision=precision))
        found[f"{name} TFLOP/s"] = 2 * size**3 / _best(lambda product=product, a=a: product(a)) / 1e12
    x = jnp.zeros(2**20 if small else 2**28, "float32")
    add = jax.jit(lambda x: x + 1)
    found["copy GB/s"] = 2 * x.nbytes / _best(lambda: add(x)) / 1e9
    return found


def _best(run: Callable[[], Any]) -> float:
    jax.block_until_ready(run())
    taken: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - began)
    return min(taken)


def influence_bytes(setting: Setting) -> float:
    """The bytes of influence that a rule keeps for the whole batch."""
    n, gates = setting.network.units[0], GATES[setting.network.cell]
    entries = gates * n * (n + setting.network.inputs + 1)
    if setting.rule == "rtrl":
        return 4.0 * setting.batch * n * entries
    return 4.0 * setting.batch * (entries if setting.network.cell == "lstm" else n + setting.network.inputs)


def measured(setting: Setting, rounds: int, card: dict[str, float], precision: str, only: int | None) -> dict[str, Any]:
    """All contestants of a row."""
    task = make(setting.network, setting.steps, setting.batch)
    rate = f"{'tf32' if precision == 'default' else 'float32'} TFLOP/s"
    row: dict[str, Any] = {"setting": str(setting), "units": setting.network.units[0], "contestants": {}}
    reference: Gradient | None = None
    for name, make_one in contestants(setting, task, only):
        entry: dict[str, Any]
        try:
            entry, gradient = timed(make_one, rounds)
        except MissingPeerError as error:
            entry, gradient = {"error": str(error)}, None
        except Exception as error:  # out of memory, or a peer that does not run on this device
            entry, gradient = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"}, None
        if gradient is not None:
            reference = reference or gradient
            entry["difference"] = difference(reference, gradient)
            entry["ms per step"] = 1e3 * entry["seconds"] / setting.steps
            if name.startswith("forwardgrad"):
                block = int(name.rsplit(" ", 1)[1])
                blocks = setting.steps // block - 1
                flops = nominal(setting.network, setting.rule, setting.steps, setting.batch, block)
                entry["TFLOP/s"] = flops / entry["seconds"] / 1e12
                entry["of the product rate"] = entry["TFLOP/s"] / card[rate]
                moved = 2 * blocks * influence_bytes(setting)
                entry["of the copy rate, influence alone"] = moved / entry["seconds"] / 1e9 / card["copy GB/s"]
        row["contestants"][name] = entry
        jax.clear_caches()
    return row


def told(row: dict[str, Any]) -> str:
    """A row as text."""
    lines = [row["setting"]]
    if row["setting"].startswith("rtrl") and row["units"] in PUBLISHED:
        lines[0] += f"; published for an RTX 3080: {PUBLISHED[row['units']]} ms/step"
    ours = next((e["seconds"] for e in row["contestants"].values() if "seconds" in e), None)
    for name, entry in row["contestants"].items():
        if "error" in entry:
            lines.append(f"  {name:<28}{entry['error']}")
            continue
        line = f"  {name:<28}{1e3 * entry['seconds']:9.2f} ms  {entry['ms per step']:8.4f} ms/step"
        line += f"  first {entry['first']:5.1f} s  differs {entry['difference']:.0e}"
        if "TFLOP/s" in entry:
            products, copied = entry["of the product rate"], entry["of the copy rate, influence alone"]
            line += f"  {products:6.1%} of products, {copied:6.1%} of copy"
        elif ours:
            line += f"  ours/theirs {ours / entry['seconds']:.2f}"
        lines.append(line)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON after every row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="small sizes, to see on a CPU that it runs")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="calls per contestant at least (default 5)")
    parser.add_argument("--budget", type=float, default=480, metavar="S", help="seconds after which no row is begun")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="rows that fit, such as 'eprop*'; may be repeated"
    )
    parser.add_argument("--block", type=int, metavar="K", help="only our blocks of that length")
    parser.add_argument(
        "--precision",
        choices=("highest", "default"),
        default="highest",
        help="of matrix products, for all: float32 as it is (default), or what JAX takes, which is TF32 on new cards",
    )
    given = parser.parse_args(arguments)
    jax.config.update("jax_default_matmul_precision", given.precision)
    began = time.perf_counter()
    device: Any = jax.devices()[0]
    card = rates(given.small)
    print(
        f"{device.device_kind} ({device.platform}), jax {jax.__version__}; measured "
        + ", ".join(f"{v:,.1f} {k}" for k, v in card.items()),
        flush=True,
    )
    result: dict[str, Any] = {
        "device": device.device_kind,
        "jax": jax.__version__,
        "precision": given.precision,
        "card": card,
        "rows": [],
    }
    for setting in settings(given.small):
        if given.only and not any(fnmatchcase(str(setting), pattern) for pattern in given.only):
            continue
        if time.perf_counter() - began > given.budget:
            print(f"not begun, the budget is spent: {setting}", flush=True)
            continue
        row = measured(setting, given.rounds, card, given.precision, given.block)
        result["rows"].append(row)
        print(told(row), flush=True)
        if given.json is not None:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
