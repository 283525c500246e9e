"""What is a learning rule? A point: which paths count, and how they are stored, fed back, multiplied and carried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, cast

from forwardgrad import layouts
from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.layouts import Layout
from forwardgrad.rules import feedback as feedbacks
from forwardgrad.rules.feedback import EXACT, Feedback, Matrix
from forwardgrad.rules.paths import EdgeView, Mode, NodeView, PathRule

AUTAPSES = ("explicit", "implicit")
LABELS = ("explicit", "implicit")
"""Words that choose edges by label: recurrent and mixing; or recurrent, delayed and not mixing."""

Pairs = tuple[tuple[str, Any], ...]

_LOSSLESS = layouts.LOSSLESS.name
_ANY_LOSSY = layouts.SNAP.example
"""One lossy layout in place of all: to the product it matters only that there is one."""


@dataclass(frozen=True)
class Rule:
    """A learning rule. Two spellings of one rule compare equal.

    Args:
        paths: which credit paths count: an automaton.
        layout: `lossless` (derived, nothing is lost), or a lossy compression at the ends of blocks: `snap(n)`, `uoro`,
            `kronecker`, or one of yours (`register_layout`).
        feedback: `exact` adjoints; `random` or `adaptive` matrices in place of the transposed weights that lead into
            output layers from outside, or of the edges named as `{pattern: word}`; with a standard deviation where one
            follows in brackets, `random(1.0)`; `{pattern: array}`: a matrix of yours, of the weight's shape; `signal`:
            learning signals that the user gives for the outputs in place of the losses' gradients, or for the nodes
            named as `{node: "signal"}`.
        operator: `{pattern or label: number or numbers}`: a constant, or one a unit, in place of the whole Jacobian of
            these edges. What comes out is no longer a part of the gradient.
        carry: `False` drops the influence at the ends of blocks: truncated BPTT.
        autapses: whether the diagonal of a recurrent weight from a population to itself is part of the `explicit` edge
            or `implicit`, like a unit's own memory.
        seed: of random feedback and random layouts.
        name: the name it was asked for by; no part of what the rule is.

    Raises:
        RuleError: if a coordinate is not legal; the message names the legal ones.
    """

    paths: PathRule
    layout: str = _LOSSLESS
    feedback: Any = "exact"
    operator: Any = ()
    carry: bool = True
    autapses: str = "explicit"
    seed: int = 0
    name: str = field(default="", compare=False)
    kept: Layout = field(init=False, repr=False, compare=False)
    """How influence is kept between blocks: the registration that `layout` named when the rule was made."""
    argument: Any = field(init=False, repr=False, compare=False)
    """The number in brackets behind the layout's name, or `None`."""

    def __post_init__(self) -> None:
        if not isinstance(self.paths, PathRule):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RuleError(f"a rule's paths must be a path rule, got {type(self.paths).__name__}.")
        set_ = object.__setattr__
        layout, argument = layouts.get(self.layout)
        set_(self, "layout", layout.text(argument))
        set_(self, "kept", layout)
        set_(self, "argument", argument)
        set_(self, "feedback", _feedback(self.feedback))
        set_(self, "operator", _operator(self.operator))
        if not isinstance(self.carry, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RuleError(f"carry must be True or False, got {self.carry!r}.")
        if self.autapses not in AUTAPSES:
            raise RuleError(f"unknown autapses {self.autapses!r}.", did_you_mean(self.autapses, AUTAPSES))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RuleError(f"seed must be a whole number >= 0, got {self.seed!r}.")
        if not self.carry and self.lossy:
            raise RuleError(
                f"layout {self.layout!r} compresses what is carried, and carry=False carries nothing.",
                "Give one of the two: a lossy layout, or carry=False.",
            )
        if not self._random:
            set_(self, "seed", 0)

    def __reduce__(self) -> Any:
        """A copy is made by the layout's name, as a rule is read from text: a registration holds functions."""
        return Rule, tuple(getattr(self, axis.name) for axis in fields(self) if axis.init)

    @property
    def _random(self) -> bool:
        kinds = {feedbacks.meaning(value).kind for _, value in self.feedback}
        return self.kept.random or bool(kinds & set(feedbacks.SCALED))

    @property
    def lossy(self) -> bool:
        """Whether its layout loses something at the ends of blocks."""
        return not self.kept.lossless

    @property
    def by_synapse(self) -> bool:
        """Whether its layout keeps synapses apart that share an entry of the parameter."""
        return self.kept.by_synapse

    @property
    def along(self) -> Rule:
        """What the product graph sees of the rule: all but which lossy layout it has and whether it is carried."""
        return replace(self, layout=_ANY_LOSSY if self.lossy else self.layout, carry=True, name="")

    def signals(self, node: NodeView) -> bool:
        """Whether the user gives the learning signal on a node."""
        for pattern, word in self.feedback:
            fits = node.output if pattern == "*" else fnmatchcase(node.name, pattern)
            if fits and word in ("signal", "exact"):
                return word == "signal"
        return False

    @property
    def signalled(self) -> bool:
        """Whether signals of the user's stand in place of the losses' gradients."""
        return any(word == "signal" for _, word in self.feedback)

    def matrix(self, edge: EdgeView, target: NodeView) -> Feedback:
        """What brings credit back over an edge: anything but a `signal`, which is one of a node."""
        for pattern, value in self.feedback:
            if value == "signal":
                continue
            into_output = edge.mixing and target.output_layer and not edge.recurrent
            if into_output if pattern == "*" else fnmatchcase(edge.name, pattern):
                return feedbacks.meaning(value)
        return EXACT

    def constant(self, edge: EdgeView) -> tuple[float, ...] | None:
        """The constant in place of an edge's Jacobian: one number or one a unit; `None` where it is exact."""
        for pattern, value in self.operator:
            labels = {"explicit": edge.explicit, "implicit": edge.recurrent and edge.delay > 0 and not edge.mixing}
            if labels[pattern] if pattern in labels else fnmatchcase(edge.name, pattern):
                return value
        return None

    @property
    def text(self) -> str:
        """The rule in the form that `rule` reads, coordinates left at their defaults left out."""
        return self._text(_short(self.feedback))

    def _text(self, feedback: Any) -> str:
        axes = {
            "layout": self.layout if self.layout != _LOSSLESS else None,
            "feedback": feedback,
            "operator": {key: v[0] if len(v) == 1 else list(v) for key, v in self.operator} or None,
            "carry": None if self.carry else False,
            "autapses": self.autapses if self.autapses != "explicit" else None,
            "seed": self.seed or None,
        }
        parts = [f"{axis}={value!r}" for axis, value in axes.items() if value is not None]
        return f"{self.paths}; {', '.join(parts)}" if parts else str(self.paths)

    def __str__(self) -> str:
        """Its name, or its text, in which arrays are written by their shape alone."""
        if not any(isinstance(value, Matrix) for _, value in self.feedback):
            return self.name or self.text
        shown = [f"{name!r}: {value if isinstance(value, Matrix) else repr(value)}" for name, value in self.feedback]
        return self._text(_Spelled(f"{{{', '.join(shown)}}}"))


class _Spelled(str):
    """A text that stands for itself."""

    __slots__ = ()
    __repr__ = str.__str__


def _short(feedback: Pairs) -> Any:
    if not feedback:
        return None
    return feedback[0][1] if len(feedback) == 1 and feedback[0][0] == "*" else dict(feedback)


def _feedback(given: Any) -> Pairs:
    if isinstance(given, tuple):
        given = _pairs(cast("Any", given))
    if isinstance(given, str):
        given = {"*": given}
    if not isinstance(given, Mapping):
        raise RuleError(
            f"feedback must be a word or a mapping, got {given!r}.", f"Known: {', '.join(feedbacks.WORDS)}."
        )
    pairs = cast("Mapping[Any, Any]", given)
    found = [(str(pattern), feedbacks.value(str(pattern), value)) for pattern, value in pairs.items()]
    while found and found[-1][1] == "exact":  # what no pattern fits is exact anyway
        found.pop()
    return tuple(found)


def _pairs(given: Any) -> Any:
    """Pairs as a mapping, or as they were given, where they are none."""
    try:
        return dict(given)
    except (TypeError, ValueError):
        return given


def _operator(given: Any) -> Pairs:
    pairs: Any = _pairs(cast("Any", given)) if isinstance(given, tuple | Mapping) else None
    if not isinstance(pairs, dict):
        raise RuleError(f"operator must be a mapping from edges to constants, got {given!r}.", "Such as {'h->h': 0.9}.")
    found: list[tuple[str, tuple[float, ...]]] = []
    for pattern, value in cast("dict[Any, Any]", pairs).items():
        values = list(cast("Any", value)) if isinstance(value, list | tuple) else [value]
        try:
            numbers = tuple(float(v) for v in values)
        except (TypeError, ValueError, OverflowError):
            numbers = ()
        if not numbers or not all(abs(v) < float("inf") for v in numbers):
            raise RuleError(f"operator on {pattern!r}: expected a finite number or a list of them, got {value!r}.")
        found.append((str(pattern), numbers))
    return tuple(found)


@dataclass(frozen=True)
class Foreign(PathRule):
    """A user's object with `start` and `step` that is no subclass."""

    automaton: Any

    def start(self, node: NodeView) -> Mode | None:
        return self.automaton.start(node)

    def step(self, mode: Mode, edge: EdgeView, target: NodeView) -> Mode | None:
        return self.automaton.step(mode, edge, target)

    def __str__(self) -> str:
        return type(self.automaton).__name__
