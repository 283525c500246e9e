"""Does every weight kind keep what the engine takes for granted of it?"""

from __future__ import annotations

import numpy as np
import pytest

from forwardgrad.weights import KINDS, Ends


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.form.word == "sparse"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 6), (6, 2), (6, 6), (5, 7)])
def test_a_synapse_table_has_each_entry_once_row_by_row(name: str, shape: tuple[int, int]) -> None:
    """If this fails, two parameters stand at one entry of the matrix, of which gradients take one, or `snap` fails."""
    kind, random = KINDS[name], np.random.default_rng(0)
    assert kind.pattern is not None
    for _ in range(10):
        ends = Ends(shape[:1], shape[1:])
        attributes = kind.example(random, ends)
        if attributes is None:
            continue
        table = kind.pattern("edge", attributes, ends)
        places = np.ravel_multi_index((table.rows, table.columns), shape)  # refuses what is outside
        assert table.shape == shape
        assert len(places) > 0
        assert np.all(np.diff(places) > 0)
