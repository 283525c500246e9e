"""Is text of anybody's choice drawn letter by letter?"""

from __future__ import annotations

import pytest

from forwardgrad.support.plotting import literal


@pytest.mark.parametrize("text", ["$x$", r"\$", r"a $\nosuch{$", "_x", "a_b^c", "$", "plain", r"\\$$", "%"])
def test_what_is_drawn_is_the_text(text: str) -> None:
    """If this fails, a name is read as mathematics, or left out of a legend."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label=literal(text))
    (drawn,) = axes.legend().get_texts()
    shown, mathematics = drawn._preprocess_math(drawn.get_text())
    assert mathematics is False
    assert shown.strip() == text
