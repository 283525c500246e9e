"""Does one program used from many threads at once find what it finds in one thread, to the bit?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep
from typing import Any

import numpy as np
import pytest
from checks import ENGINES
from nets import stack

import forwardgrad as fg
from forwardgrad.backends import LoweredEngine
from forwardgrad.rules.table import rule
from forwardgrad.support import reuse

THREADS, ROUNDS = 8, 6


@pytest.fixture(autouse=True)
def _interleaved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads take turns a thousand times as often as usual, and even small arrays come from one pool."""
    monkeypatch.setattr(reuse, "empty", reuse.Pool(most=2**16, least=1).empty)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def program(rule: str, backend: str) -> fg.Program:
    return fg.compile(stack(), loss={"y": "mse"}, rule=rule, backend=backend, dead="ignore")


def given(seed: int, steps: int = 9, batch: int = 3) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(seed)
    return {"x": random.normal(size=(steps, batch, 2))}, {"y": random.normal(size=(steps, batch, 2))}


def gradient(of: fg.Program, seed: int) -> Any:
    found = of.gradient(of.init(seed), *given(seed), block=2, draw=seed)
    return found.loss, found.grads


def steps(of: fg.Program, seed: int) -> Any:
    params, state, found = of.init(seed), of.start(3, draw=seed), []
    for at in range(4):
        state, step = of.step(params, *given(seed + 100 * at, steps=3), state=state)
        found.append((step.loss, step.grads, step.outputs))
    return found, state


def run(of: fg.Program, seed: int) -> Any:
    return of.run(of.init(seed), given(seed)[0])


def record(of: fg.Program, seed: int) -> Any:
    found = of.record(of.init(seed), *given(seed), block=4, draw=seed)
    return dict(found.traces), dict(found.signals)


def cost(of: fg.Program, seed: int) -> Any:
    return [str(of.cost(1 + seed % 5, block)) for block in (1, 7, 90)]


def bits(value: Any) -> Any:
    """Nested results as something that `==` compares to the bit."""
    if isinstance(value, dict):
        return {key: bits(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [bits(each) for each in value]
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def together(jobs: list[Callable[[], Any]]) -> list[Any]:
    """What the jobs find, all begun at once."""
    ready = Barrier(len(jobs))

    def job(number: int) -> Any:
        ready.wait()
        return [bits(jobs[number]()) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(job, range(len(jobs))))


CALLS = [gradient, steps, run, record, cost]


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", "uoro", "snap(2)"])
def test_threads_find_what_one_finds(rule: str, backend: str) -> None:
    """If this fails, calls of one program share something that they change: a server would mix up its users."""
    calls = [call for call in CALLS if call is not record or rule in ("rtrl", "eprop-deep")]
    alone = program(rule, backend)
    chosen = [(calls[n % len(calls)], n) for n in range(THREADS)]
    wanted = [bits(call(alone, seed)) for call, seed in chosen]
    shared = program(rule, backend)  # a new one: what is found only once is found here by many at once
    found = together([lambda call=call, seed=seed: call(shared, seed) for call, seed in chosen])
    for (call, seed), want, rounds in zip(chosen, wanted, found, strict=True):
        assert all(one == want for one in rounds), f"{call.__name__}, seed {seed}"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_many_threads_in_one_call(call: Any) -> None:
    """If this fails, a call shares something with itself."""
    alone, shared = program("eprop-deep", "numpy"), program("eprop-deep", "numpy")
    wanted = [bits(call(alone, seed)) for seed in range(THREADS)]
    found = together([lambda seed=seed: call(shared, seed) for seed in range(THREADS)])
    assert [rounds[0] for rounds in found] == wanted
    assert all(one == rounds[0] for rounds in found for one in rounds)


@pytest.mark.parametrize("backend", ENGINES)
def test_threads_draw_signs_of_their_own(backend: str) -> None:
    """If this fails, two threads get the same noise, or a number is passed over: noise does not average out."""
    alone, shared = program("uoro", backend), program("uoro", backend)
    wanted = [bits(alone.gradient(alone.init(), *given(0), block=2)) for _ in range(THREADS * ROUNDS)]
    found = together([lambda: shared.gradient(shared.init(), *given(0), block=2)] * THREADS)
    assert sorted(map(repr, (one for rounds in found for one in rounds))) == sorted(map(repr, wanted))


def test_compiling_in_threads() -> None:
    """If this fails, programs compiled at once get each other's source."""
    wanted = [program(rule, "numpy").source() for rule in ("rtrl", "eprop")]
    found = together([lambda rule=rule: program(rule, "numpy").source() for rule in ("rtrl", "eprop")] * 3)
    assert [rounds[0] for rounds in found] == wanted * 3


def test_rules_are_read_in_threads() -> None:
    """If this fails, a text that is read while another thread reads one ends in an error of Python's parser."""
    texts = [f"hops({n}) & cut(['a->{n}']); seed={n}, operator={{'explicit': 1}}" for n in range(1, 9)]
    wanted = [str(rule(text)) for text in texts]
    found = together([lambda text=text: [str(rule(text)) for _ in range(40)] for text in texts])
    assert all(set(each) == {want} for want, rounds in zip(wanted, found, strict=True) for each in rounds)


def test_an_engine_that_kept_something_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the tests above prove nothing: threads do not meet inside of a call at all."""
    true, kept = LoweredEngine.forward, dict[str, Any]()

    def forward(*arguments: Any) -> Any:
        kept["block"] = true(*arguments)
        sleep(0)
        return kept["block"]

    monkeypatch.setattr(LoweredEngine, "forward", forward)
    shared = program("rtrl", "numpy")
    wanted = [bits(gradient(shared, seed)) for seed in range(THREADS)]
    try:
        found = together([lambda seed=seed: gradient(shared, seed) for seed in range(THREADS)])
    except ValueError:  # a block of another shape
        return
    assert any(one != want for want, rounds in zip(wanted, found, strict=True) for one in rounds)
