"""All experiments by name, each imported when it is asked for."""

from __future__ import annotations

import importlib

from experiments.experiment import Experiment

NAMES = (
    "delayed_add",
    "series",
    "hops",
    "depth",
    "cut",
    "front",
    "temporal",
    "deep_credit",
    "evidence",
    "pattern",
    "adding",
    "classics",
    "columns",
    "vowels",
    "memory_chain",
)
"""In the order of the page."""


def get(name: str) -> Experiment:
    """The experiment of a name."""
    return importlib.import_module(f"experiments.{name}").EXPERIMENT
