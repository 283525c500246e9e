"""Printed modules that are run on their own."""

from __future__ import annotations

from typing import Any

import numpy as np

import forwardgrad as fg
from forwardgrad.testing import checking


def given(program: fg.Program, steps: int = 7, batch: int = 2) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters, inputs and targets for a program."""
    random = np.random.default_rng(0)
    params = checking.random_params(program, random, 0)
    return params, *checking.random_data(program, random, steps, batch)


def alone(program: fg.Program) -> dict[str, Any]:
    """The names of the printed module."""
    names: dict[str, Any] = {}
    exec(program.source(), names)
    return names
