"""Do arrays that live at the same time lie apart?"""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from forwardgrad.device.lifetimes import Span, packed

SPANS = st.builds(lambda size, first, more: Span(size, first, first + more), *map(st.integers, (1, 0, 0), (9, 6, 3)))


@given(st.lists(SPANS, max_size=12))
def test_arrays_of_one_time_never_overlap(spans: list[Span]) -> None:
    """One step would write into what another one still reads."""
    named = {str(n): span for n, span in enumerate(spans)}
    places, size = packed(named)
    for (one, first), (other, second) in itertools.combinations(named.items(), 2):
        if first.first <= second.last and second.first <= first.last:
            assert places[one] + first.size <= places[other] or places[other] + second.size <= places[one]
    assert size == max((places[name] + span.size for name, span in named.items()), default=0)
