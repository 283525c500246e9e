"""Is a formula as a tree the formula that an op declares, and is it printed as readably?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from array_program.evaluator import Evaluator

from forwardgrad import errors, ops
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import VOCABULARY, Language, Spelled, spelled
from forwardgrad.array_program.formulas import read
from forwardgrad.array_program.regions import ArrayProgram
from forwardgrad.ops.formula import Formula, substituted

NUMPY = Language("np.{}", "{}.astype(x.dtype)", "np.asarray({}, x.dtype)")


def formulas() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every text of every formula of the registered ops, with the names that it reads."""
    for name in ops.names():
        op = ops.get(name)
        for function in (op.value, *(port.derivative for port in op.ports)):
            if isinstance(function, Formula):
                texts = [function.text] if isinstance(function.text, str) else list(function.text.values())
                yield from ((name, text, (*function.names, *op.options)) for text in texts)


@pytest.mark.parametrize(("op", "text", "names"), list(formulas()))
def test_a_formula_is_printed_as_it_was_written(op: str, text: str, names: tuple[str, ...]) -> None:
    """If this fails, generated source reads worse than the op's declaration, or means something else."""
    tree = read(text, names)
    assert spelled(tree, [Spelled(name) for name in names], NUMPY).text == substituted(text, {})
    if "group." in text:  # instructions are made of that
        return
    arrays = [np.linspace(0.1 * place, 1.7, 5) - 0.4 for place in range(len(names))]
    with np.errstate(invalid="ignore"):  # of negative numbers, a logarithm is NaN either way
        wanted = Formula(text, ", ".join(names))(*arrays)
        found = Evaluator(ArrayProgram("float64", ())).tree(tree, arrays)
    np.testing.assert_array_equal(np.broadcast_to(found, (5,)), np.broadcast_to(wanted, (5,)))


@pytest.mark.parametrize(
    "text", ["-x * y", "-(x * y)", "x - (y - x)", "(x - y) - x", "x / (y / x)", "(-x) ** 2", "x ** -y", "-2.0 * x"]
)
def test_brackets_stand_where_they_are_needed(text: str) -> None:
    """If this fails, a printed formula is another one."""
    printed = spelled(read(text, ["x", "y"]), [Spelled("x"), Spelled("y")], NUMPY).text
    values = {"x": 1.7, "y": 0.3}
    assert eval(printed, values) == eval(text, values)
    assert len(printed) <= len(text)


@pytest.mark.parametrize("text", ["np.cumsum(x)", "z", "x @ x", "x if x else y", "True", "x < y < x", "np.exp(x, x)"])
def test_what_is_not_in_the_vocabulary_is_refused(text: str) -> None:
    """If this fails, a formula is lowered to something that no other language has."""
    with pytest.raises(errors.OpError, match="is not in the vocabulary"):
        read(text, ["x", "y"])


def test_every_word_can_be_evaluated_and_has_its_number_of_operands() -> None:
    """If this fails, a word can be written and not computed."""
    evaluator = Evaluator(ArrayProgram("float64", ()))
    for word, count in VOCABULARY.items() - {("cast", 1)}:  # which no formula says: it is put around some
        names = ["x", "y", "z"][:count]
        text = {2: f"x {word} y", 1: f"np.{word}(x)"}[count] if not word.isalpha() else f"np.{word}({', '.join(names)})"
        text = {"negate": "-x", "indicator": "(x > x).astype(x.dtype)"}.get(word, text)
        text = text if word not in ("expm1", "log1p") else f"np.{word}(x)"
        assert np.isfinite(evaluator.tree(read(text, names), [np.full(2, 0.5)] * count)).all()


def test_affine_forms() -> None:
    """If this fails, a range of a short block is off by one."""
    steps, t = affine("steps"), affine("t")
    assert steps - 2 + 2 == steps
    assert steps - steps == affine(0)
    assert (steps + t - 3).at({"steps": 7, "t": 2}) == 6
    assert (steps - t).replaced({"t": steps - 1}) == affine(1)
    assert [str(form) for form in (steps - 2, affine(1) - steps, t + 1, -t - 1, steps + t, affine(0), -affine(3))] == [
        "steps - 2",
        "1 - steps",
        "t + 1",
        "-1 - t",
        "steps + t",
        "0",
        "-3",
    ]
    bounds = {"steps": (2, None), "t": (0, 5)}
    for form, least in ((steps - 2, 0), (affine(6) - t, 1), (affine(6) - steps, None), (steps - t, -3)):
        assert form.least(bounds) == least
    for one, other in itertools.combinations((steps, t, steps + 1, affine(2)), 2):
        assert one != other
