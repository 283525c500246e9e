"""`python tests/thread_use.py HOW`: prints for how long threads of BLAS ran, and their number before, in and after it.

The library makes its threads when NumPy is imported: they are all that there are by then, but for the first.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import networkx as nx
import numpy as np
from threadpoolctl import threadpool_info

TASKS = "/proc/self/task"
THREADS = sorted(int(task) for task in os.listdir(TASKS))[1:]

import forwardgrad as fg  # noqa: E402
from forwardgrad import cells  # noqa: E402
from forwardgrad.extend import register_op  # noqa: E402

SEEN: list[int] = []
FAILING = "failing"


def setting() -> int:
    return next(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")


def ran() -> int:
    """Nanoseconds that the threads of BLAS have run, once they sleep."""
    last = -1
    while True:
        now = sum(int(open(f"{TASKS}/{thread}/schedstat").read().split()[0]) for thread in THREADS)
        if now == last:
            return now
        last = now
        time.sleep(0.3)


def observed(x: Any) -> Any:
    SEEN.append(setting())
    if FAILING == "now":
        raise ValueError("no")
    return x


def program(backend: str) -> fg.Program:
    register_op("observed", observed, lambda x, y: np.ones_like(x))
    graph: Any = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=40)
    cells.lstm(graph, "l1", "x", 96)
    graph.add_node("h", op="observed", size=96)
    graph.add_edge("l1.h", "h")
    cells.readout(graph, "y", "h", 10)
    return fg.compile(graph, {"y": "mse"}, "eprop", backend=backend)


def main(how: str) -> None:
    global FAILING
    of = program("interpreter" if how == "interpreter" else "numpy")
    random = np.random.default_rng(0)
    inputs, targets = {"x": random.normal(size=(12, 32, 40))}, {"y": random.normal(size=(12, 32, 10))}
    params = of.init(0)

    def gradient(_: Any = None) -> Any:
        return of.gradient(params, inputs, targets, block=5)

    before, began = setting(), ran()
    if how == "plain":
        for _ in range(50):
            np.matmul(np.ones((32, 96)), np.ones((96, 384)))
            SEEN.append(setting())
    elif how == "threads":
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(gradient, range(8)))
    elif how == "raising":
        FAILING = "now"
        try:
            gradient()
        except ValueError:
            pass
    elif how == "fork":
        child = os.fork()
        if not child:
            gradient()
            os._exit(setting() != before)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), before, setting(), setting())
        return
    else:
        gradient()
    print(ran() - began, before, min(SEEN, default=setting()), setting())


if __name__ == "__main__":
    main(sys.argv[1])
