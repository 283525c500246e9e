"""Forecasts one step ahead of two series that come with river, beside its own models: `python -m benchmarks.online`.

Each model predicts a value before it learns from it (progressive validation). The error is the mean absolute one, over
all values after the first tenth, for which all models are new. Regressors see the value before, the change before, and
the hour; they learn the next change. Of models with settings, the best of those tried counts: they were tried on the
same data, which is to their advantage.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from river import datasets, linear_model, preprocessing, time_series
from tqdm import tqdm

from forwardgrad.bridges.river import RecurrentRegressor

SEEDS = range(5)

RATE = 0.001
"""The learning rate of recurrent networks: the best of 0.0003, 0.001, 0.003 and 0.01."""

RULES = ("rtrl", "eprop", "immediate")


def persistence(values: list[float], features: list[dict[str, float]]) -> list[float]:
    """The value before."""
    return [values[0], *values[:-1]]


def forecaster(make: Callable[[], Any]) -> Callable[..., list[float]]:
    """A forecaster of river, one step ahead. Before it can forecast, the value before counts."""

    def predicted(values: list[float], features: list[dict[str, float]]) -> list[float]:
        model, found = make(), list[float]()
        for number, value in enumerate(values):
            try:
                (guess,) = model.forecast(horizon=1)
            except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
                guess = values[max(0, number - 1)]
            found.append(float(guess))
            model.learn_one(value)
        return found

    return predicted


def regressor(make: Callable[[], Any]) -> Callable[..., list[float]]:
    """A model of single observations, or a recurrent one, which learns by how much the next value differs."""

    def predicted(values: list[float], features: list[dict[str, float]]) -> list[float]:
        model, found, before, change = make(), list[float](), values[0], 0.0
        for value, given in zip(values, features, strict=True):
            x = {**given, "before": before, "change": change}
            found.append(before + float(model.predict_one(x)))
            model.learn_one(x, value - before)
            before, change = value, value - before
        return found

    return predicted


def series() -> Iterator[tuple[str, list[float], list[dict[str, float]], int]]:
    """Name, values, features and season of each series."""
    flow = list(datasets.WaterFlow())
    hours = [x["Time"].hour for x, _ in flow]
    clock = [{"sin": np.sin(np.pi * hour / 12), "cos": np.cos(np.pi * hour / 12)} for hour in hours]
    yield "WaterFlow", [y for _, y in flow], clock, 24
    polls = list(datasets.TrumpApproval())
    yield "TrumpApproval", [y for _, y in polls], [{} for _ in polls], 7


def contestants(season: int) -> dict[str, list[Callable[..., list[float]]]]:
    """Models by name; of several settings the best counts, and of several seeds all are told."""
    snarimax = [
        forecaster(lambda p=p, d=d, q=q, sp=sp: time_series.SNARIMAX(p=p, d=d, q=q, m=season, sp=sp))
        for p, d, q, sp in ((1, 0, 0, 0), (3, 0, 0, 0), (season, 0, 0, 0), (3, 1, 0, 0), (3, 0, 3, 0), (3, 0, 0, 1))
    ]
    holt_winters = [
        forecaster(
            lambda a=a, b=b, g=g: time_series.HoltWinters(alpha=a, beta=b, gamma=g, seasonality=season if g else 0)
        )
        for a, b, g in ((0.3, 0.1, 0.6), (0.8, 0.1, 0.5), (0.9, 0.1, None), (0.5, 0.1, None), (0.9, 0.01, 0.1))
    ]
    linear = regressor(lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(intercept_lr=0.1))
    ours = {
        f"RecurrentRegressor, {rule}": [
            regressor(lambda rule=rule, seed=seed: RecurrentRegressor(None, 16, rule, RATE, seed=seed))
            for seed in SEEDS
        ]
        for rule in RULES
    }
    river = {"river LinearRegression": [linear], "river SNARIMAX": snarimax, "river HoltWinters": holt_winters}
    return {"the value before": [persistence], **river, **ours}


def main() -> None:
    """Print the table, or JSON."""
    answer: dict[str, dict[str, Any]] = {}
    for name, values, features, season in series():
        first = len(values) // 10
        for model, tries in tqdm(contestants(season).items(), desc=name, disable=None):
            began = time.perf_counter()
            errors = [float(np.mean(np.abs(np.array(make(values, features)) - values)[first:])) for make in tries]
            seconds = (time.perf_counter() - began) / len(tries)
            answer.setdefault(model, {})[name] = {"errors": errors, "ms": 1e3 * seconds / len(values)}
    if "--json" in sys.argv[1:]:
        print(json.dumps(answer, indent=2))
        return
    columns = list(next(iter(answer.values())))
    print("| model | " + " | ".join(f"{name}: error | ms a value" for name in columns) + " |")
    print("| --- |" + " --- | --- |" * len(columns))
    for model, found in answer.items():
        cells = [f"{_told(model, each['errors'])} | {each['ms']:.2f}" for each in found.values()]
        print(f"| {model} | " + " | ".join(cells) + " |")


def _told(model: str, errors: list[float]) -> str:
    if model.startswith("Recurrent"):
        return f"{np.median(errors):.3g} ({min(errors):.3g} to {max(errors):.3g})"
    return f"{min(errors):.3g}"


if __name__ == "__main__":
    main()
