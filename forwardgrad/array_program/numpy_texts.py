"""Texts of NumPy: how a value is written where it is used, and how lines are broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forwardgrad.array_program.expressions import Apply, Argument, Language, Spelled, Tree, spelled
from forwardgrad.array_program.numpy_products import adding, aligned, product

NUMPY = Language("np.{}", "{}.astype(dtype)", "np.asarray({}, dtype)")

INTO: Mapping[str, str] = {
    **{"+": "np.add", "-": "np.subtract", "*": "np.multiply", "/": "np.divide"},
    **{word: f"np.{word}" for word in ("tanh", "exp", "maximum", "logaddexp", "sin", "square")},
}
"""Words of the vocabulary whose function of NumPy writes its result into an array that is there."""

LONGEST = 100
"""Characters of a line up to which a list of names is not broken."""


@dataclass(frozen=True)
class Text(Spelled):
    """The text of a value where it is used.

    Args:
        given: the condition outside which the value is zero; it can be computed under that condition only.
        adding: the call that adds the value to `{target}`, where there is one.
    """

    given: str = ""
    adding: str = ""


def calling(names: Sequence[str], function: str, arguments: Sequence[str], margin: str) -> list[str]:
    """The lines that call a function and name what it gives."""
    line = f"{margin}{', '.join(names)} = "
    if len(line) <= LONGEST:
        return broken(f"{line}{function}(", arguments, ")", margin)
    *given, last = broken(f"{margin}(", names, f") = {function}(", margin)
    return [*given, *broken(last, arguments, ")", margin)]


def broken(before: str, items: Sequence[str], after: str, margin: str) -> list[str]:
    """Items between two brackets: on one line, or on a line each where that grows too long."""
    line = f"{before}{', '.join(items)}{after}"
    if len(line) <= LONGEST or not items:
        return [line]
    return [before, *(f"{margin}    {item}," for item in items), f"{margin}{after}"]


def expression(tree: Tree, texts: Sequence[Text]) -> Text:
    """An expression; it is zero where one of its factors is."""
    if isinstance(tree, Argument):
        return texts[tree.place]
    given = _zero_unless(tree, texts)
    if not given:
        texts = [Text(f"({text.text} if {text.given} else 0.0)") if text.given else text for text in texts]
    found = spelled(tree, texts, NUMPY)
    return Text(found.text, found.binding, given)


def _zero_unless(tree: Tree, texts: Sequence[Text]) -> str:
    """The condition outside which an expression is zero, if there is one."""
    if isinstance(tree, Argument):
        return texts[tree.place].given
    if isinstance(tree, Apply) and tree.word in ("*", "negate"):
        return next(filter(None, (_zero_unless(operand, texts) for operand in tree.operands)), "")
    return ""


def contracted(axes: str, left: Text, right: Text, sparse: bool) -> Text:
    found, into = product(axes, left, right, sparse), adding(axes, sparse)
    operands = [operand.text for operand in aligned(axes, left, right)]
    return Text(found.text, found.binding, adding=into.format(*operands, target="{target}"))


def guarded(found: Text, texts: Sequence[Text]) -> Text:
    """A product, which is zero where one of its factors is."""
    given = next((text.given for text in texts if text.given), "")
    return replace(found, given=given, adding="") if given else found


def complementary(one: str, other: str) -> bool:
    """Whether one of two conditions holds at each step: to be before the last step of a block, and to be in it."""
    return (one, other) == ("t + 1 < steps", "t == steps - 1")
