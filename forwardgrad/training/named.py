"""Collections of sequences by name: synthetic tasks, and what other libraries bring. Nothing is downloaded."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forwardgrad.errors import MissingExtraError
from forwardgrad.training.sequences import Choice, Sequences
from forwardgrad.training.synthetic import SYNTHETIC


def _loader(data: str, module: str, function: str, package: str) -> Callable[..., Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries that it imports
            return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise MissingExtraError(f'data {data!r} needs {package}: pip install "forwardgrad[datasets]"') from error


def japanese_vowels() -> Sequences:
    """Which of nine speakers says /ae/? 640 utterances of 7 to 29 frames, 12 coefficients of the cepstrum each.

    The first 270 are the part to learn from that was published with them; the other 370 are the test.

    Raises:
        MissingExtraError: without the extra `datasets`.
    """
    load = _loader("japanese_vowels", "sktime.datasets", "load_japanese_vowels", "sktime")
    inputs: list[Any] = []
    targets: list[Any] = []
    for part in ("train", "test"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames, speakers = load(split=part, return_type="nested_univ")
        inputs += [np.stack([np.asarray(column, np.float64) for column in row], axis=1) for row in frames.to_numpy()]
        targets += [np.array([str(speaker)]) for speaker in speakers]
    cited = "Kudo, Toyama & Shimbo 1999, Pattern Recognition Letters 20; UCI repository, as distributed with sktime"
    return Sequences(Path("japanese_vowels"), Choice(), inputs, targets, cited=cited, first=270)


def digits() -> Sequences:
    """Which digit is it? 1,797 images of 8 by 8, read row by row: 8 steps of 8 numbers.

    Raises:
        MissingExtraError: without the extra `datasets`.
    """
    found = _loader("digits", "sklearn.datasets", "load_digits", "scikit-learn")()
    images = list(np.asarray(found.images, np.float64))
    labels = [np.array([str(label)]) for label in found.target]
    cited = "Alpaydin & Kaynak 1998, UCI repository, as distributed with scikit-learn"
    return Sequences(Path("digits"), Choice(), images, labels, cited=cited)


POLLS = ("gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")
"""The inputs of `trump_approval`; the date, which it has too, is left out."""


def trump_approval() -> Sequences:
    """Which share of voters approves of the president? 1,001 days of five polls, and the average that was made of them.

    Raises:
        MissingExtraError: without the extra `datasets`.
    """
    rows: list[tuple[Any, Any]] = list(_loader("trump_approval", "river.datasets", "TrumpApproval", "river")())
    polls = np.array([[x[name] for name in POLLS] for x, _ in rows], np.float64)
    approval = np.array([[y] for _, y in rows], np.float64)
    cited = "FiveThirtyEight, polls of 2017 to 2019, as distributed with river"
    return Sequences(Path("trump_approval"), Choice(), [polls], [approval], cited=cited)


BROUGHT: Mapping[str, Callable[[], Sequences]] = {
    "digits": digits,
    "japanese_vowels": japanese_vowels,
    "trump_approval": trump_approval,
}
"""Those of other libraries."""

NAMED: Mapping[str, Callable[[], Sequences]] = {**SYNTHETIC, **BROUGHT}
"""All of them."""
