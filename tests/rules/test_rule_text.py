"""Is a rule one point however it is spelled, and is every other spelling refused with the legal ones named?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nets import stack, vanilla

import forwardgrad as fg
from forwardgrad.rules import paths
from forwardgrad.rules import table as rules
from forwardgrad.rules.paths import PathRule
from forwardgrad.rules.rule import Rule
from forwardgrad.rules.table import rule

ARGUMENTS = {"hops": "(2)", "snap": "(2)", "window": "(2)", "dsf": "(0.5)", "settle": "(2)", "cut": "(['h->h'])"}
TEXTS = [name + ARGUMENTS.get(name, "") for name in rules.TABLE]


# One rule, many spellings.


@pytest.mark.parametrize(
    "spellings",
    [
        ("rtrl", "bptt", "all", " rtrl ", "all & all", "rtrl & bptt", Rule(paths.All()), paths.All()),
        ("local", "ostl", "near", "all & near", "near & local"),
        ("ottt", "eprop", "ostl-feedforward", "eprop-deep & synaptic", "synaptic & eprop-deep", "eprop & rtrl"),
        ("rflo", "eprop-random", "eprop; feedback=random", "eprop; feedback={'*': 'random'}", "rflo & eprop; seed=0"),
        ("eprop; feedback=random(1)", "eprop; feedback={*: random( 1.0 )}"),
        ("eprop; feedback={h->y: [1, 2]}", "eprop; feedback={'h->y': (1.0, 2)}"),
        ("tbptt", "rtrl; carry=False", "all & tbptt", Rule(paths.All(), carry=False)),
        ("snap(2)", "rtrl; layout=snap(2)", "all; layout='snap( 2 )'", "snap(2) & rtrl"),
        ("dsf(0.5)", "rtrl; operator={'explicit': 0.5}", "rtrl; operator={'explicit': [0.5]}"),
        ("hops(2) & window(3)", "window(3)&hops(2)", "window( 3 ) & hops( 2 ) & window(3)"),
        ("settle(2) & near", "near & settle(3) & settle( 2 )"),
        ("cut(['h->h', 'x->h'])", "cut(['x->h', 'h->h', 'h->h'])", "cut(['h->h']) & cut(['x->h'])"),
        ("uoro", "rtrl; layout=uoro", "uoro; seed=0"),
        ("rtrl; seed=3", "rtrl", "bptt; seed=9"),
        ("eprop; feedback=signal, seed=4", "eprop; feedback=signal"),
        ("rtrl; feedback=exact, layout=lossless, carry=True, autapses=explicit", "rtrl; feedback={'h->y': 'exact'}"),
    ],
    ids=str,
)
def test_spellings_of_one_rule_are_equal(spellings: tuple[Any, ...]) -> None:
    """If this fails, one rule is compiled twice, or a checkpoint of it is taken for another rule's."""
    first, *others = [rule(each) for each in spellings]
    for other in others:
        assert other == first
        assert hash(other) == hash(first)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rtrl", "tbptt"),
        ("eprop", "rflo"),
        ("eprop-random", "eprop-adaptive"),
        ("rflo; seed=1", "rflo; seed=2"),
        ("uoro; seed=1", "uoro; seed=2"),
        ("uoro", "kf-rtrl"),
        ("snap(1)", "snap(2)"),
        ("hops(1)", "hops(1); autapses=implicit"),
        ("hops(1)", "window(1)"),
        ("dsf(0.5)", "dsf(0.6)"),
        ("near", "synaptic"),
        ("eprop; feedback={'h->y': random}", "eprop; feedback={'x->h': random}"),
        ("rflo", "eprop; feedback=random(1.0)"),
        ("eprop; feedback={h->y: [[1, 2]]}", "eprop; feedback={h->y: [[1], [2]]}"),
    ],
)
def test_other_points_are_other_rules(one: str, other: str) -> None:
    """If this fails, the equalities above hold since all rules are equal."""
    assert rule(one) != rule(other)


@pytest.mark.parametrize("text", TEXTS)
def test_every_row_is_read_back_from_its_text(text: str) -> None:
    """If this fails, a checkpoint or a file names a rule that cannot be read."""
    found = rule(text)
    again = rule(found.text)
    assert again == found
    assert again.text == found.text
    assert str(found) == text


SINGLE = st.one_of(
    st.sampled_from(TEXTS),
    st.integers(1, 5).map(lambda m: f"hops({m})"),
    st.integers(0, 5).map(lambda k: f"window({k})"),
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3).map(lambda names: f"cut({names!r})"),
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    parts=st.lists(SINGLE.map(lambda text: rule(text).paths), min_size=1, max_size=3),
    layout=st.sampled_from(["lossless", "snap(1)", "snap(12)", "uoro", "kronecker"]),
    feedback=st.sampled_from(["exact", "random", "adaptive", "signal"])
    | st.dictionaries(st.text(max_size=5), st.sampled_from(["random", "adaptive", "signal"]), max_size=2),
    operator=st.dictionaries(st.text(max_size=5), NUMBERS | st.lists(NUMBERS, min_size=1, max_size=3), max_size=2),
    carry=st.booleans(),
    autapses=st.sampled_from(["explicit", "implicit"]),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=100, deadline=None)
def test_any_composition_is_read_back_from_its_text(parts: list[PathRule], carry: bool, **coordinates: Any) -> None:
    """If this fails, a text loses a coordinate, or quotes are mistaken for signs."""
    made = Rule(paths.intersection(parts), carry=carry or coordinates["layout"] != "lossless", **coordinates)
    assert rule(made.text) == made
    assert rule(made.text).text == made.text


# What is refused.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("snap(2); carry=False", ("compresses what is carried", "Give one of the two")),
        ("uoro; carry=False", ("carry=False carries nothing",)),
        ("kf-rtrl & tbptt", ("carry=False carries nothing",)),
        ("rtrl; layout=lossles", ("unknown layout 'lossles'", "lossless")),
        ("rtrl; layout=zip", ("unknown layout 'zip'", "lossless", "snap(n)", "uoro", "kronecker")),
        ("rtrl; layout=snap", ("snap(n) with n >= 1",)),
        ("rtrl; layout=snap(0)", ("snap(n) with n >= 1",)),
        ("rtrl; layout=uoro(2)", ("layout 'uoro(2)': write uoro.",)),
        ("rtrl; feedback=rnadom", ("unknown feedback 'rnadom'", "random")),
        ("rtrl; feedback=nothing", ("exact", "random", "adaptive", "signal")),
        ("rtrl; feedback=3", ("must be a word or a mapping", "exact, random, adaptive, signal")),
        ("rtrl; autapses=none", ("unknown autapses 'none'", "explicit", "implicit")),
        ("rtrl; carry=perhaps", ("carry must be True or False",)),
        ("rtrl; seed=-1", ("seed must be a whole number >= 0",)),
        ("rtrl; seed=1.5", ("seed must be a whole number >= 0",)),
        ("rtrl; operator=3", ("operator must be a mapping",)),
        ("rtrl; operator={'h->h': 'a'}", ("expected a finite number",)),
        ("rtrl; operator={'h->h': []}", ("expected a finite number",)),
        ("rtrl; memory=3", ("unknown coordinate 'memory'", "layout", "feedback", "operator", "carry", "autapses")),
        ("rtrl; random", ("cannot read 'random'", "Write coordinates as")),
        ("rtrl; seed=__import__('os')", ("seed must be a whole number",)),
        ("rflo & eprop-adaptive", ("two of its rules differ in 'feedback'",)),
        ("snap(1) & snap(2)", ("two of its rules differ in 'layout'",)),
        ("hops(0)", ("hops(m) needs a whole number >= 1, got 0",)),
        ("hops(1.5)", ("hops(m) needs a whole number >= 1",)),
        ("hops(True)", ("hops(m) needs a whole number >= 1",)),
        ("hops", ("hops is written hops(m)",)),
        ("hops(1, 2)", ("hops is written hops(m)",)),
        ("window(-1)", ("window(k) needs a whole number >= 0, got -1",)),
        ("snap(0)", ("write snap(n) with n >= 1, a whole number",)),
        ("dsf('a')", ("expected a finite number",)),
        ("cut([])", ("needs names of edges",)),
        ("rtrl(3)", ("rtrl is written rtrl",)),
        ("", ("a rule is empty", "eprop", "uoro")),
        ("eprop &", ("cannot read ''",)),
        ("epropp", ("unknown rule 'epropp'", "eprop")),
        ("rtrl.__class__", ("cannot read",)),
    ],
)
def test_illegal_rules_are_refused_with_the_legal_ones_named(text: str, words: tuple[str, ...]) -> None:
    """If this fails, a slip in a rule is another rule, or ends in an error of Python's."""
    with pytest.raises(fg.RuleError) as caught:
        rule(text)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("given_", [3, None, ["rtrl"], paths.All, Rule], ids=str)
def test_what_is_no_rule_is_refused(given_: Any) -> None:
    """If this fails, a class or a number is taken for a rule."""
    with pytest.raises(fg.RuleError):
        rule(given_)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eprop; feedback={'y->h': 'random'}", ("feedback on 'y->h' fits nothing",)),
        ("eprop; feedback={'z': 'signal'}", ("feedback on 'z' fits nothing",)),
        ("eprop; operator={'h1->h1': 0.5}", ("operator on 'h1->h1' fits nothing",)),
        ("eprop & cut(['h->z'])", ("no edge 'h->z'",)),
        ("rtrl; operator={'h->y': 0.5}", ("needs equal sizes", "'h' has 3", "'y' has 2")),
        ("rtrl; operator={'h->h': [0.5, 0.6]}", ("2 numbers are given",)),
        ("rtrl; operator={'explicit': [0.5, 0.6]}", ("2 numbers are given",)),
    ],
)
def test_rules_that_do_not_fit_the_graph_are_refused(text: str, words: tuple[str, ...]) -> None:
    """If this fails, a coordinate that names nothing of the graph changes nothing, silently."""
    with pytest.raises(fg.RuleError) as caught:
        fg.compile(vanilla(), loss={"y": "mse"}, rule=text)
    for word in words:
        assert word in str(caught.value)


def test_adaptive_feedback_follows_trained_weights_only() -> None:
    """If this fails, feedback mirrors the updates of a weight that has none."""
    graph = vanilla()
    graph.edges["h", "y", 0]["trainable"] = False
    with pytest.raises(fg.RuleError, match="adaptive feedback on edge 'h->y', whose weight is not trained"):
        fg.compile(graph, loss={"y": "mse"}, rule="eprop-adaptive")
    with pytest.raises(fg.RuleError, match="its weight 'h1->a1' is not trained"):
        fg.compile(
            stack(),
            loss={"y": "mse"},
            rule={"h1->a1": "reservoir", "*": "rtrl; feedback={'h1->a1': 'adaptive'}"},
        )
    with pytest.raises(fg.RuleError, match="random feedback on edge 'h->y'"):
        fg.compile(readout_without_weight(), loss={"y": "mse"}, rule="rtrl; feedback={'h->y': 'random'}")


def readout_without_weight() -> Any:
    graph = vanilla()
    graph.remove_edge("h", "y")
    graph.nodes["y"]["size"] = 3
    graph.add_edge("h", "y")
    return graph


@pytest.mark.parametrize(("rule_", "words"), [({"l9.*": "rtrl", "*": "eprop"}, "fits no trainable parameter")])
def test_a_pattern_that_fits_no_parameter_is_refused(rule_: Any, words: str) -> None:
    """If this fails, a parameter is trained by another rule than was meant."""
    with pytest.raises(fg.RuleError, match=words):
        fg.compile(vanilla(), loss={"y": "mse"}, rule=rule_)


ALPHABET = [
    *TEXTS,
    *("hops snap window dsf cut ( ) [ ] { } & ; , = : ' \" -1 0 1e999 1_0 -> * ** \\ \n \0 é".split(" ")),
]
ALPHABET += ["layout", "feedback", "operator", "carry", "autapses", "seed", "random", "False", "lambda", "x.y", " "]


@given(st.text(max_size=40) | st.lists(st.sampled_from(ALPHABET), max_size=9).map("".join))
@example("rtrl; **{}")
@example("rtrl; seed=3, seed=4")
@example("rtrl; feedback={[]: 'random'}")
@example("rtrl; feedback={'a': []}")
@example("rtrl; layout={}")
@example("rtrl; operator={'a': 10**400}")
@example("rtrl; operator={'a': 1" + "0" * 400 + "}")
@example("dsf(1" + "0" * 400 + ")")
@example("cut(" + "[" * 300 + "]" * 300 + ")")
@example("cut([1])")
@example("hops(1" + "0" * 5000 + ")")
@example("rtrl; seed=" + "-" * 3000 + "1")
@example("rtrl; autapses=[]")
@example("rtrl; *a")
@example("rtrl; operator={**{}}")
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    """If this fails, a text from a file ends in an error of Python's."""
    try:
        found = rule(text)
    except fg.RuleError:
        return
    assert rule(found.text) == found
