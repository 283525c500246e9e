"""What is measured, against whom, and what is the goal? One row a case."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.networks import Network
from benchmarks.ours import IN_C


@dataclass(frozen=True)
class Goal:
    """The median of ours, over that of another, is to be at most a limit.

    Args:
        against: how the other's name begins; the fastest of several is taken, so that it is their best mode.
        limit: the ratio.
        ours: how the name of ours begins: that of the backend `numpy`, `IN_C`, or `ours on jax`.
    """

    against: str
    limit: float
    ours: str = "forwardgrad"


@dataclass(frozen=True)
class GradientCase:
    """The gradient over a sequence.

    Args:
        name: for `--only`.
        network: the network.
        rule: ours.
        steps: length of the sequence.
        batch: number of samples.
        peers: names in `contestants.PEERS`.
        goals: of the ratios; peers without one are only reported.
    """

    name: str
    network: Network
    rule: str
    steps: int
    batch: int
    peers: tuple[str, ...]
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"{self.rule}, {self.network}, batch {self.batch}, {self.steps:,} steps"

    def quick(self) -> GradientCase:
        """A first look."""
        return replace(self, steps=self.steps // 8)


@dataclass(frozen=True)
class StreamingCase:
    """One call a step, as a stream makes it: e-prop with `block=1`."""

    name: str
    network: Network
    steps: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"eprop, {self.network}, batch 1, one call per step, {self.steps:,} steps"

    def quick(self) -> StreamingCase:
        """A first look."""
        return replace(self, steps=self.steps // 8)


@dataclass(frozen=True)
class WindowCase:
    """One call for each window of a stream: e-prop with blocks of that length."""

    name: str
    network: Network
    steps: int
    window: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"eprop, {self.network}, batch 1, one call per {self.window} steps, {self.steps:,} steps"

    def quick(self) -> WindowCase:
        """A first look."""
        return replace(self, steps=4 * self.window)


@dataclass(frozen=True)
class UpdateCase:
    """One call of `Stream.step` per step, update included, beside `Program.step` and an optimizer, and a learner."""

    name: str
    network: Network
    steps: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"eprop with SGD, {self.network}, batch 1, one call per step, {self.steps:,} steps"

    def quick(self) -> UpdateCase:
        """A first look."""
        return replace(self, steps=self.steps // 8)


@dataclass(frozen=True)
class ExactStreamCase:
    """One call of `Stream.step` per step under exact RTRL, update included, beside RTRL of JAX in one `scan`."""

    name: str
    network: Network
    steps: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"rtrl with SGD, {self.network}, batch 1, one call per step, {self.steps:,} steps"

    def quick(self) -> ExactStreamCase:
        """A first look."""
        return replace(self, steps=self.steps // 8)


@dataclass(frozen=True)
class PatternCase:
    """One call per step under `snap(1)`, beside the rule that keeps the same paths: e-prop with implicit autapses."""

    name: str
    network: Network
    steps: int
    batch: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"snap(1), {self.network}, batch {self.batch}, one call per step, {self.steps:,} steps"

    def quick(self) -> PatternCase:
        """A first look."""
        return replace(self, steps=self.steps // 8)


@dataclass(frozen=True)
class ForwardCase:
    """What e-prop costs beside the forward pass alone, `program.run`."""

    name: str
    network: Network
    steps: int
    batch: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"eprop beside the forward pass, {self.network}, batch {self.batch}, {self.steps:,} steps"

    def quick(self) -> ForwardCase:
        """A first look."""
        return replace(self, steps=self.steps // 8)


@dataclass(frozen=True)
class MemoryCase:
    """Peak memory of a stream, each length in a process of its own; the longest over the shortest."""

    name: str
    network: Network
    batch: int
    lengths: tuple[int, ...]
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        return f"eprop, {self.network}, batch {self.batch}, peak memory of streams from {self.lengths[0]:,} steps on"

    def quick(self) -> MemoryCase:
        """A first look."""
        return replace(self, lengths=tuple(length // 10 for length in self.lengths))


Case = GradientCase | StreamingCase | WindowCase | UpdateCase | ExactStreamCase | PatternCase | ForwardCase | MemoryCase

_LSTM = (
    "ours on jax",
    "jax BPTT",
    "jax e-prop",
    "torch BPTT",
    "braintrace D-RTRL windows",
    "braintrace D-RTRL per step",
)
_LIF = (*_LSTM, "braintrace pp-prop")
_ONLINE = (
    *(Goal("braintrace D-RTRL", 0.2), Goal("jax BPTT", 1.0)),
    *(Goal("jax BPTT", 1.0, "ours on jax"), Goal("jax e-prop", 1.0, "ours on jax")),
)
_LSTM_IN_C = (Goal("braintrace", 0.2, IN_C), Goal("jax e-prop", 0.6, IN_C))
_LIF_IN_C = (Goal("braintrace", 0.2, IN_C), Goal("jax BPTT", 0.25, IN_C))
_RTRL_GOALS = (Goal("jax RTRL", 0.03), Goal("jax RTRL", 0.015, IN_C))


def _classifier(cell: str, inputs: int, units: int) -> Network:
    return Network(cell, inputs, (units,), 10, "cross_entropy")


def _rnn(*units: int) -> Network:
    return Network("rnn", 32, units, 8, "mse")


_RTRL = ("jax RTRL", "jax BPTT", "torch BPTT")

CASES: tuple[Case, ...] = (
    GradientCase(
        "eprop-lstm-128",
        _classifier("lstm", 64, 128),
        "eprop",
        512,
        32,
        _LSTM,
        (*_ONLINE, Goal("torch BPTT", 0.7, IN_C), *_LSTM_IN_C),
    ),
    GradientCase(
        "eprop-lstm-256",
        _classifier("lstm", 64, 256),
        "eprop",
        256,
        32,
        _LSTM,
        (*_ONLINE, Goal("torch BPTT", 0.9, IN_C), *_LSTM_IN_C),
    ),
    GradientCase("eprop-lif-256", _classifier("lif", 100, 256), "eprop", 1000, 32, _LIF, (*_ONLINE, *_LIF_IN_C)),
    GradientCase("rtrl-rnn-128", _rnn(128), "rtrl", 2048, 1, _RTRL, _RTRL_GOALS),
    GradientCase("rtrl-rnn-128-batch", _rnn(128), "rtrl", 512, 8, _RTRL, _RTRL_GOALS),
    GradientCase("rtrl-two-layers", _rnn(64, 64), "rtrl", 1024, 1, _RTRL, (Goal("jax RTRL", 0.05),)),
    GradientCase(
        "rtrl-lru-256",
        _classifier("lru", 64, 256),
        "rtrl",
        512,
        32,
        ("jax BPTT", "jax associative scan"),
        (Goal("jax BPTT", 1.0), Goal("jax BPTT", 0.4, IN_C)),
    ),
    StreamingCase("streaming", Network("lstm", 16, (32,), 1, "mse"), 1000, (Goal("braintrace D-RTRL", 1.5),)),
    WindowCase(
        *("windows", Network("lstm", 16, (32,), 1, "mse"), 1000, 50),
        (Goal("braintrace D-RTRL windows", 0.5, "ours on jax"),),
    ),
    UpdateCase("streaming-update", Network("lstm", 16, (32,), 1, "mse"), 1000, (Goal("step and update", 0.6),)),
    ExactStreamCase("streaming-rtrl", _rnn(64), 1000, (Goal("jax RTRL", 0.2, IN_C),)),
    PatternCase("streaming-snap", Network("rnn", 8, (64,), 4, "mse"), 400, 8, (Goal("its paths as a rule", 1.5),)),
    ForwardCase(
        "forward",
        _classifier("lstm", 64, 128),
        512,
        32,
        (Goal("forward pass", 4.0), Goal("C, forward pass", 3.0, IN_C)),
    ),
    MemoryCase(
        "memory", Network("lstm", 16, (32,), 1, "mse"), 8, (2_000, 20_000, 200_000), (Goal("2,000 steps", 1.05),)
    ),
)
