"""Are recursively found weights those of the closed form?"""

from __future__ import annotations

import numpy as np
import pytest

from forwardgrad.errors import DataError
from forwardgrad.learning.least_squares import RLS


@pytest.mark.parametrize("forgetting", [1.0, 0.9])
def test_weights_are_those_of_weighted_ridge_regression(forgetting):
    """If it failed, a readout would not be the best one for what was seen, at any block length."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    rls = RLS(forgetting, ridge=0.3)
    state = rls.start(5, 2)
    for at in (0, 7, 25):
        end = {0: 7, 7: 25, 25: 40}[at]
        state = rls.update(state, x[at:end], y[at:end])
    weight = forgetting ** np.arange(39, -1, -1)[:, None]
    closed = np.linalg.solve((x * weight).T @ x + forgetting**40 * 0.3 * np.eye(5), (x * weight).T @ y).T
    np.testing.assert_allclose(state["weights"], closed, atol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RLS(forgetting=1.1),
        lambda: RLS(ridge=0.0),
        lambda: RLS().update(RLS().start(2, 1), np.ones((3, 3)), np.ones((3, 1))),
        lambda: RLS().update(RLS().start(2, 1), np.ones((3, 2)), np.ones((4, 1))),
        lambda: RLS().update(RLS().start(2, 1), np.full((3, 2), np.nan), np.ones((3, 1))),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    """If it failed, NumPy would broadcast it, or weights would silently become NaN."""
    with pytest.raises(DataError, match="RLS"):
        wrong()
