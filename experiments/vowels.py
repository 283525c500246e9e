"""Spoken vowels and digits: an LSTM under e-prop beside the exact gradient of the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forwardgrad as fg
from experiments.experiment import Experiment, Published, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import Batch, compiled, quietly, sequences
from forwardgrad.learning.transforms import Clipped
from forwardgrad.training.named import digits, japanese_vowels
from forwardgrad.training.sequences import Sequences

DATA: Mapping[str, Callable[[], Sequences]] = {"japanese_vowels": japanese_vowels, "digits": digits}
RULES = ("rtrl", "eprop", "immediate", "reservoir")


def _padded(inputs: list[Any], labels: Any) -> Batch:
    """Sequences side by side, with the answer asked for in the last step of each."""
    lengths = np.array([len(x) for x in inputs])
    x, mask = np.zeros((lengths.max(), len(inputs), inputs[0].shape[1])), np.zeros((lengths.max(), len(inputs)))
    for number, each in enumerate(inputs):
        x[: len(each), number] = each
    mask[lengths - 1, np.arange(len(inputs))] = 1
    return {"x": x}, {"y": np.tile(labels, (lengths.max(), 1))}, mask


def run(
    *, seed: int, data: str, rule: str, passes: int, units: int, batch: int, rate: float, **_: Any
) -> dict[str, Any]:
    """Learn from the published part, or from two thirds; the accuracy on the rest."""
    whole = DATA[data]()
    assert whole.targets is not None
    words = [str(np.ravel(target)[0]) for target in whole.targets]
    labels = np.searchsorted(sorted(set(words)), words)
    order = np.arange(len(labels)) if whole.first else np.random.default_rng((seed, 1)).permutation(len(labels))
    first = whole.first or 2 * len(labels) // 3
    known: NDArray[np.float64] = np.concatenate([whole.inputs[number] for number in order[:first]])
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    scaled = [(each - mean) / np.where(deviation > 0, deviation, 1) for each in whole.inputs]
    random = np.random.default_rng((seed, 2))

    def batches() -> Iterator[Batch]:
        for _ in range(passes):
            shuffled = random.permutation(order[:first])
            for start in range(0, first, batch):
                which = shuffled[start : start + batch]
                yield _padded([scaled[number] for number in which], labels[which])

    program = compiled(layers(known.shape[1], units, int(labels.max()) + 1, cell="lstm"), "cross_entropy", rule)
    optimizer = Clipped(fg.Adam(rate), norm=1.0)
    learned = quietly(lambda: sequences(program, program.init(seed), optimizer, batches())[0])
    if learned is None:
        return {"accuracy": None}
    rest = order[first:]
    inputs, targets, mask = _padded([scaled[number] for number in rest], labels[rest])
    right = program.run(learned, inputs)["y"].argmax(axis=2) == targets["y"]
    return {"accuracy": float(right[mask > 0].mean())}


PUBLISHED = Published(
    "on other data: e-prop can be better than BPTT", "Hoyer et al. 2022, arXiv 2209.15502, abstract", "unknown to us"
)


def page(found: Results) -> str:
    rows = [
        [f"`{rule}`", *(found.spread("accuracy", data=data, rule=rule).text(3) for data in DATA), *cells(PUBLISHED)]
        for rule in RULES
    ]
    return f"""A layer of LSTM units says at the end of a sequence which of nine speakers it heard, or which digit
the rows of an image show. `rtrl` is the exact gradient, that of BPTT. Accuracy on the published test part of
the vowels, and on a third of the digits, drawn anew for each seed.

{table(["rule", *(f"`{data}`" for data in DATA), *HEADS], rows)}
"""


def gist(found: Results) -> tuple[str, str]:
    ours = ", ".join(
        " against ".join(f"{found.median('accuracy', data=data, rule=rule):.3f}" for rule in ("eprop", "rtrl"))
        for data in ("japanese_vowels", "digits")
    )
    return "on other data", f"`eprop` against BPTT: {ours}"


EXPERIMENT = Experiment(
    name="vowels",
    title="Spoken vowels and digits",
    minutes=10,
    fixed={
        "passes": 40,
        "units": 32,
        "batch": 30,
        "rate": 0.003,
        "optimizer": "Adam, gradients clipped to norm 1, an update after every batch of sequences",
        "dtype": "float32",
    },
    settings=grid(data=list(DATA), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    quick={"passes": 1},
)
