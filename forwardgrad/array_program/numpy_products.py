"""Contractions as NumPy: which product of matrices, helper or broadcast one is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from forwardgrad.array_program.expressions import ATOM, MULTIPLIED, Spelled
from forwardgrad.array_program.instructions import Contract, Instruction

PATTERNS: Mapping[str, str] = {
    "bj,ij->bi": "matmul({0}, {1}.T)",
    "bi,ij->bj": "matmul({0}, {1})",
    "*j,ij->*i": "times({0}, {1})",
    "*i,ij->*j": "pulled({0}, {1})",
    "tbi,tbj->ij": "outer({0}, {1})",
    "tb*,tbj->b*j": "injected({0}, {1})",
    "bvu,bu*->bv*": "carried({0}, {1})",
    "bi,bi->i": "({0} * {1}).sum(axis=0)",
    "bi,bi->b": "({0} * {1}).sum(axis=1)",
    "tbi,tbi->b": "({0} * {1}).sum(axis=(0, 2))",
    "tbi,tbi->i": "({0} * {1}).sum(axis=(0, 1))",
    "tbi,tbi->": "({0} * {1}).sum()",
    "tbi,tbi->bi": "({0} * {1}).sum(axis=0)",
    "bu,bu*->*": "contracted({0}, {1})",
    "b,b*->*": "contracted({0}, {1})",
    "bi,bij->ij": "contracted_rows({0}, {1})",
    "bi,bj->ij": "matmul({0}.T, {1})",
    "brpq,brqj->brpj": "matmul({0}, {1})",
    "tbrp,tbrj->brpj": "matmul({0}.transpose(1, 2, 3, 0), {1}.transpose(1, 2, 0, 3))",
}
"""Contractions by their axes; a letter stands for any other, a star for any number of axes.

Where two fit, the one with these very letters counts, and then the first.
"""


def _canonical(axes: str) -> str:
    """The same axes with letters in the order in which they come first."""
    letters: dict[str, str] = {}
    return "".join(letters.setdefault(c, chr(ord("a") + len(letters))) if c.isalpha() else c for c in axes)


def _expanded() -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern, text in PATTERNS.items():
        for count in range(4):
            found.setdefault(_canonical(pattern.replace("*", "XYZ"[:count])), text)
    return found


_KNOWN = _expanded()


@cache
def index(letters: str, result: str) -> str:
    """The index that gives an array axes of length 1 where the result has axes that it lacks.

    >>> index("bi", "bij"), index("b", "bi"), index("ij", "bij"), index("bu", "bvu")
    ('[..., None]', '[..., None]', '', '[:, None]')
    """
    if result.endswith(letters):
        return ""  # it lacks the first axes only
    kept = [":" if letter in letters else "None" for letter in result]
    while kept[0] == "None":
        kept.pop(0)
    if ":" not in kept[kept.index("None") :]:
        return f"[..., {', '.join(kept[kept.index('None') :])}]"
    while kept[-1] == ":":
        kept.pop()
    return f"[{', '.join(kept)}]"


@cache
def template(axes: str, sparse: bool = False) -> str:
    """The text of a contraction with `{0}` and `{1}` for its operands, which may want axes of length 1 first.

    >>> template("bi,bj->bij"), template("bj,ij->bi"), template("bij,kj->bik")
    ('{0} * {1}', 'matmul({0}, {1}.T)', 'times({0}, {1})')
    >>> template("bvu,buij->bvij"), template("bvu,buij->bvij", sparse=True)
    ('carried({0}, {1})', 'carried_sparse({0}, {1})')
    """
    if sparse:
        return template(axes).replace("carried(", "carried_sparse(")
    read, result = axes.split("->")
    ours, theirs = read.split(",")
    in_order = all(sorted(letters, key=result.find) == list(letters) for letters in (ours, theirs))
    if set(ours) | set(theirs) == set(result) and in_order:
        return "{0} * {1}"
    return PATTERNS.get(axes) or _KNOWN.get(_canonical(axes)) or f"np.einsum({axes!r}, {{0}}, {{1}})"


def transposes(instruction: Instruction) -> bool:
    """Whether an instruction is printed as a product with the transpose of its second operand."""
    return isinstance(instruction, Contract) and template(instruction.axes) == "matmul({0}, {1}.T)"


def aligned(axes: str, left: Spelled, right: Spelled) -> list[Spelled]:
    """The operands of a contraction, with axes of length 1 where a product entry by entry wants them."""
    parts = [left, right]
    if template(axes) == "{0} * {1}":
        read, result = axes.split("->")
        for place, letters in enumerate(read.split(",")):
            where = index(letters, result)
            parts[place] = Spelled(f"{parts[place].within(ATOM)}{where}") if where else parts[place]
    return parts


def product(axes: str, left: Spelled, right: Spelled, sparse: bool = False) -> Spelled:
    """The text of a contraction of two arrays."""
    text = template(axes, sparse)
    if text == "{0} * {1}":
        parts = aligned(axes, left, right)
        return Spelled(text.format(parts[0].within(MULTIPLIED), parts[1].within(MULTIPLIED + 1)), MULTIPLIED)
    if text.startswith("("):
        return Spelled(text.format(left.within(MULTIPLIED), right.within(MULTIPLIED + 1)))
    if ".T" in text or ".transpose" in text:
        return Spelled(text.format(left.within(ATOM), right.within(ATOM)))
    return Spelled(text.format(left.text, right.text))


@cache
def adding(axes: str, sparse: bool = False) -> str:
    """The call that adds a contraction to `{target}`, a sample at a time where that is large; empty if there is none.

    >>> adding("bvu,buij->bvij"), adding("bi,bij->bij"), adding("bi,ij->bj")
    ('add_carried({target}, {0}, {1})', 'add_scaled({target}, {0}, {1})', '')
    """
    text, (read, result) = template(axes, sparse), axes.split("->")
    ours, theirs = read.split(",")
    if text.startswith("carried"):
        return text.replace("carried", "add_carried").replace("{0}", "{target}, {0}")
    return "add_scaled({target}, {0}, {1})" if text == "{0} * {1}" and ours[0] == theirs[0] == result[0] else ""
