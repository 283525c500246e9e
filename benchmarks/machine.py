"""On what was it measured? Versions, processors, threads, and how fast this machine multiplies matrices."""

from __future__ import annotations

import importlib
import os
import platform
import time
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import threadpoolctl

PEERS = ("jax", "jaxlib", "braintrace", "brainstate", "torch")
RATE_SIZE, RATE_ROUNDS = 1024, 10
COPIED = 2**27
"""Bytes of what is copied."""

BUSY = 0.5
"""The load average from which on a reader is warned."""


def about() -> dict[str, Any]:
    """Versions and threads, as plain data."""
    blas = [
        {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    ]
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": _processors(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in ("forwardgrad", "numpy", "networkx", *PEERS)},
        "blas": blas,
        "threads": {"jax": _jax_threads(), "torch": _torch_threads()},
        "environment": {
            name: os.environ[name]
            for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")
            if name in os.environ
        },
    }


def described(found: dict[str, Any]) -> str:
    """The same as a few lines of text."""
    versions = ", ".join(f"{name} {version or '-'}" for name, version in found["versions"].items())
    blas = ", ".join(f"{b['internal_api']} {b['version']} ({b['num_threads']} threads)" for b in found["blas"])
    return "\n".join(
        [
            f"{found['machine']}, {found['processor']}, {found['processors']} processors{_busy(found['load'])}",
            f"Python {found['python']}, {versions}",
            f"threads: BLAS of NumPy {blas or 'unknown'}; jax {found['threads']['jax'] or '-'}; "
            f"torch {found['threads']['torch'] or '-'}",
            *(f"{name}={value}" for name, value in found["environment"].items()),
        ]
    )


def rate() -> float:
    """Operations a second of a float32 matrix product in NumPy, products and sums, the best of a few."""
    a = np.random.default_rng(0).random((RATE_SIZE, RATE_SIZE), "float32")
    best = np.inf
    for _ in range(RATE_ROUNDS):
        began = time.perf_counter()
        np.matmul(a, a)
        best = min(best, time.perf_counter() - began)
    return 2 * RATE_SIZE**3 / best


@cache
def rates() -> tuple[float, float]:
    """Operations a second of matrix products, and bytes a second of copies; measured once."""
    return rate(), bandwidth()


def bandwidth() -> float:
    """Bytes a second that are read and written by copying an array larger than caches, the best of a few."""
    source = np.zeros(COPIED, np.uint8)
    target = np.ones_like(source)
    best = np.inf
    for _ in range(RATE_ROUNDS):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * COPIED / best


def _busy(load: float | None) -> str:
    return (
        "" if load is None or load < BUSY else f"; BUSY with other work (load {load:.1f}), which distorts all timings"
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown processor"


def _jax_threads() -> int | None:
    """XLA does not tell; on a CPU it makes a thread a processor."""
    return _processors() if _version("jax") else None


def _torch_threads() -> int | None:
    try:
        return importlib.import_module("torch").get_num_threads()
    except ImportError:
        return None
