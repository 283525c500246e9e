"""Is source with lossy layouts printed whole, those of users too?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import error

import forwardgrad as fg
from tests.array_program.printed import alone, given

LOSSY = ("snap(1)", "snap(2)", "uoro; seed=4", {"h->h": "kf-rtrl", "x->h": "rtrl", "*": "uoro"})


@pytest.mark.parametrize("rule", [*LOSSY, "eprop-deep; layout=uoro, feedback=adaptive"])
@pytest.mark.parametrize("name", ["elman", "leaky_stack", "alif"])
def test_a_module_with_lossy_layouts_runs_on_its_own(name: str, rule: Any) -> None:
    """If this fails, a module compresses something else than the program, or draws other numbers."""
    try:
        program = fg.compile(fg.load(name), rule=rule, dead="ignore")
    except fg.RuleError as refused:
        pytest.skip(str(refused))
    params, x, y = given(program)
    module = alone(program)
    draws = [{"draw": draw} for draw in (0, 5)] if "draw=0" in program.source() else [{}]
    for draw in draws:
        for block in (1, 3):
            loss, grads = module["gradient"](params, x, y, block=block, **draw)
            wanted = program.gradient(params, x, y, block=block, **draw)
            assert loss == pytest.approx(wanted.loss, rel=1e-12)
            assert max(np.abs(g).max() for g in wanted.grads.values()) > 0
            assert error(grads, wanted.grads) <= 1e-12


def test_source_with_lossy_layouts_reads_as_it_should(golden: Callable[[str, str], None]) -> None:
    """If this fails, look at the text: it is what users read to see what a layout loses."""
    rules = {"x->h": "uoro", "h->h": "kf-rtrl", "h->y": "rtrl", "*": "snap(1)"}
    text = fg.compile(fg.load("elman"), rule=rules).source()
    golden(text[text.index("def credit") : text.index("def evaluate")], "lossy_source.py.txt")


def _some(influence: Any, share: float, random: Any) -> Any:
    return influence * (random.random(influence.shape) < share) / share


def _halves(influence: Any) -> Any:
    flat = influence.reshape(len(influence), -1)
    return np.concatenate([flat, flat], axis=1) / 2


def _joined(stored: Any, shape: Any) -> Any:
    first, second = np.split(stored, 2, axis=1)
    return (first + second).reshape(shape)


@pytest.mark.usefixtures("tables_as_before")
def test_a_layout_of_a_users_own_is_taken_along() -> None:
    """If this fails, a module with a layout of the user's does not run, or compresses in another way."""
    fg.register_layout("some_", _some, keeps="a share", argument="share", example=0.5, random=True)
    stores: Any = lambda shape: (2 * int(np.prod(shape)),)  # noqa: E731
    fg.register_layout("halves_", _halves, keeps="all, twice", expand=_joined, stores=stores)
    for rule in ("rtrl; layout=some_(0.5), seed=2", "rtrl; layout=halves_"):
        program = fg.compile(fg.load("elman"), rule=rule)
        params, x, y = given(program)
        draw = {"draw": 3} if "some_" in rule else {}
        for block in (1, 3):
            _, grads = alone(program)["gradient"](params, x, y, block=block, **draw)
            assert error(grads, program.gradient(params, x, y, block=block, **draw).grads) <= 1e-12
    fg.register_layout("half_", lambda influence: influence / 2, keeps="a half")
    program = fg.compile(fg.load("elman"), rule="rtrl; layout=half_")
    with pytest.raises(NotImplementedError, match="compress of layout 'half_'"):
        alone(program)["gradient"](*given(program), block=3)
