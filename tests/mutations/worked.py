"""Cases worked out by hand, or known by other means: for the oracle itself, and for what it shares with the engine."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from checks import TOLERANCE, compiled, error
from nets import declare, problem, vanilla

from forwardgrad import ops, oracle, testing
from forwardgrad.ops import Array, losses
from forwardgrad.rules import table as rules
from forwardgrad.rules.paths import EdgeView, NodeView, PathRule
from forwardgrad.testing import Problem

Grads = dict[str, Array]


def found(given: Problem, rule: Any, block: int = 1) -> Iterator[Grads]:
    """The gradient by each backend and, where it has one, by the oracle."""
    for backend in ("numpy", "interpreter"):
        program = compiled(given, rule, backend=backend)
        yield program.gradient(given.params, given.inputs, given.targets, block=block).grads
    if "snap" not in str(rule):
        yield oracle.reverse(**given.arguments, rule=rule).grads


def residual(given: Problem, output: str) -> Array:
    """The derivative of the mean squared error by an output, `(time, batch, size)`."""
    y = oracle.forward(given.graph, given.params, given.inputs)[output]
    return 2 * (y - given.targets[output]) / y.shape[2] / y.shape[1]


# The oracle's own labels.


def autapses_are_of_one_population() -> None:
    """Two populations that share a source outside their component: neither is the other's own memory."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "s": {"op": "linear", "size": 2}}
        | {"a": {"op": "linear", "size": 2}, "b": {"op": "linear", "size": 2}},
        ("x", "s", {"weight": "dense"}),
        ("s", "a"),
        ("s", "b"),
        ("a", "b", {"weight": "dense", "delay": 1}),
        ("b", "a", {"weight": "dense", "delay": 1}),
    )
    given = problem(graph, "b", steps=5)
    # a -> b and b -> a mix: hops(1) cuts them. Their diagonals mix, too, since a and b are other units.
    wanted = np.einsum("tbi,tbj->ij", residual(given, "b"), given.inputs["x"])
    assert np.abs(wanted).max() > 0.1
    for grads in found(given, "hops(1); autapses=implicit"):
        assert np.abs(grads["x->s"] - wanted).max() < TOLERANCE


# Feedback.


def feedback_stands_where_the_rule_says() -> None:
    """The matrix of the last edge alone is another; and a pattern may leave an edge out."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "a": {"op": "linear", "size": 3}, "b": {"op": "linear", "size": 4}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "a", {"weight": "dense"}),
        ("a", "b", {"weight": "dense"}),
        ("b", "y", {"weight": "dense"}),
        ("x", "y", {"weight": "dense", "delay": 1}),
    )
    given = problem(graph, "y", steps=4)
    signal, (drawn,) = residual(given, "y"), feedback_rows(given, ["y"], 0)
    assert np.abs(drawn - given.params["b->y"]).max() > 0.1
    for word, matrix in (("random", drawn), ("{'b->y': 'exact', '*': 'random'}", given.params["b->y"])):
        wanted = np.einsum("tbi,ik,tbj->kj", signal, matrix @ given.params["a->b"], given.inputs["x"])
        for grads in found(given, f"all; feedback={word}"):
            assert np.abs(grads["x->a"] - wanted).max() < TOLERANCE


def feedback_rows(given: Problem, outputs: Sequence[str], seed: int) -> list[Array]:
    """The matrices by which credit comes from linear outputs to the bias-like node `b` or `h`, read off gradients."""
    graph = given.graph
    source = next(name for name in ("b", "h") if name in graph)
    network, matrices = given.network, list[Array]()
    probe = declare({"one": {"op": "input", "size": 1}, source: {"op": "linear", "size": network.nodes[source].size}})
    probe.add_edge("one", source, weight="dense")
    for name in outputs:
        probe.add_node(name, op="linear", size=network.nodes[name].size)
        probe.add_edge(source, name, weight="dense")
    asked = problem(probe, *outputs, steps=1, batch=1)
    values = oracle.forward(probe, asked.params, asked.inputs)
    for name in outputs:
        rows: list[Array] = []
        for k in range(network.nodes[name].size):
            targets = {each: values[each].copy() for each in outputs}
            targets[name][0, 0, k] -= network.nodes[name].size / 2 / asked.inputs["one"][0, 0, 0]
            program = compiled(asked, f"all; feedback=random, seed={seed}")
            rows.append(program.gradient(asked.params, asked.inputs, targets, block=1).grads[f"one->{source}"][:, 0])
        matrices.append(np.stack(rows))
    return matrices


def feedback_matrices_are_drawn_for_each_edge_and_seed() -> None:
    """Normal, of the variance of initial weights; no two edges and no two seeds have the same; a seed repeats."""
    graph = declare({"x": {"op": "input", "size": 1}, "h": {"op": "linear", "size": 60}})
    for name in ("y", "z"):
        graph.add_node(name, op="linear", size=3)
        graph.add_edge("h", name, weight="dense")
    graph.add_edge("x", "h", weight="dense")
    given = problem(graph, "y", "z", steps=1)
    one, again, other = (feedback_rows(given, ["y", "z"], seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    drawn = [*one, *other]
    for a, b in itertools.combinations(drawn, 2):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.3
    numbers = np.concatenate([a.ravel() for a in drawn]) * np.sqrt((60 + 3) / 2)
    assert abs(numbers.mean()) < 4 / np.sqrt(len(numbers))
    assert 0.85 < numbers.std() < 1.15


# Automata, against what is said of a whole word.

LETTERS = {
    "i": {"recurrent": True},
    "m": {"recurrent": True, "mixing": True},
    "c": {"recurrent": True, "delay": 1},
    "x": {"recurrent": True, "mixing": True, "delay": 2},
    "O": {"mixing": True},
    "o": {},
    "D": {"mixing": True, "delay": 1},
    "d": {"delay": 2},
    "z": {"mixing": True, "delay": 1, "role": "topdown"},
    "r": {"recurrent": True, "role": "reset"},
}
"""Edges by their labels. A letter is followed by `s` where it leads to a state node, and else by `-`."""

_STATE = r"(?:i-|is|cs|c-(?:i-)*is)*"
_CARRIED = r"(?:c-(?:i-)*)?"
_PART = rf"(?:-(?:[im]-)*(?:[im]s{_STATE}{_CARRIED})?|s{_STATE}{_CARRIED})"
_LAST = rf"(?:-(?:[im]-)*[im]s{_STATE}|s{_STATE})m[-s](?:[imOo][-s])*"
EPROP_DEEP = re.compile(rf"(?:{_PART}[OoDd])*(?:{_PART}|{_LAST})")
"""Section 3.3 of the design as one expression: components apart, each entered afresh; a mixing edge in the same step
after a state leads to a loss of that step and nowhere else."""


def _delays_before_mixing(word: Sequence[EdgeView], leaves: Callable[[EdgeView], bool]) -> bool:
    first = next((at for at, edge in enumerate(word) if leaves(edge)), len(word))
    return not any(edge.delay for edge in word[first + 1 :])


SAID: dict[str, Callable[[str, Sequence[EdgeView]], bool]] = {
    "all": lambda text, word: True,
    "immediate": lambda text, word: not any(edge.delay for edge in word),
    "hops(1)": lambda text, word: not any(edge.recurrent and edge.mixing for edge in word),
    "hops(3)": lambda text, word: sum(edge.recurrent and edge.mixing for edge in word) <= 2,
    "window(0)": lambda text, word: sum(edge.delay for edge in word) <= 0,
    "window(3)": lambda text, word: sum(edge.delay for edge in word) <= 3,
    "cut(['n->n#m'])": lambda text, word: "m" not in text,
    "synaptic": lambda text, word: _delays_before_mixing(word, lambda edge: edge.mixing),
    "near": lambda text, word: _delays_before_mixing(word, lambda edge: edge.mixing and not edge.recurrent),
    "eprop-deep": lambda text, word: EPROP_DEEP.fullmatch(text) is not None,
}
"""Which words each rule keeps, where no component holds an output. (Its exception has cases of its own.)"""
SAID["hops(3) & window(3)"] = lambda text, word: SAID["hops(3)"](text, word) and SAID["window(3)"](text, word)
SAID["eprop"] = lambda text, word: SAID["eprop-deep"](text, word) and SAID["synaptic"](text, word)


def words() -> Iterator[str]:
    """All words of up to two edges, and longer ones at random; delayed recurrent edges leave state nodes."""
    letters = [letter + end for letter in LETTERS for end in "-s"]
    random = np.random.default_rng(0)
    short = (word for length in range(3) for word in itertools.product(letters, repeat=length))
    long = (random.choice(letters, size=length) for length in random.integers(3, 9, size=2500))
    for start, word in itertools.chain(itertools.product("-s", short), itertools.product("-s", long)):
        text = start + "".join(word)
        if not re.search("-[cx]", text):
            yield text


def kept(rule: PathRule, text: str, edges: dict[str, EdgeView]) -> bool:
    """Whether an automaton keeps a word."""
    nodes = {end: NodeView("n", state=end == "s") for end in "-s"}
    mode = rule.start(nodes[text[0]])
    for letter, end in zip(text[1::2], text[2::2], strict=True):
        mode = None if mode is None else rule.advance(mode, edges[letter], nodes[end], None)
    return mode is not None


def automata_keep_what_is_said_of_their_words() -> None:
    """Each path rule against a sentence on the whole word, for all short words."""
    edges = {letter: EdgeView("n", "n", letter, **labels) for letter, labels in LETTERS.items()}
    read = {name: rules.rule(name).paths for name in SAID}
    seen = {name: set[bool]() for name in SAID}
    for text in words():
        word = [edges[letter] for letter in text[1::2]]
        for name, rule in read.items():
            wanted = SAID[name](text, word)
            seen[name].add(wanted)
            assert kept(rule, text, edges) == wanted, (name, text)
    assert all(len(answers) == 2 for name, answers in seen.items() if name != "all")


# Derivatives of ops and losses.


def derivatives_are_those_of_values() -> None:
    """Every op that is smooth, by central differences."""
    for name in ops.names():
        if name not in ("input", "stop"):
            testing.assert_op(name, scale=2.0, allow=["surrogate"])


def surrogates_are_the_declared_functions() -> None:
    """Derivatives that no difference finds, by their formulas."""
    x = np.linspace(-1.5, 2.5, 41)[None]
    threshold, width, dampening = 0.4, 0.8, 0.7
    u = np.abs(x - threshold) / width
    formulas = {
        "triangle": np.maximum(0, 1 - u),
        "gaussian": np.exp(-(u**2) / 2),
        "fast_sigmoid": 1 / (1 + u) ** 2,
        "boxcar": np.where(u < 0.5, 1.0, 0.0),
        "arctan": 1 / (1 + (np.pi / 2 * u) ** 2),
        "sigmoid": 4 / (1 + np.exp(-u)) / (1 + np.exp(u)),
    }
    op = ops.get("spike")
    for surrogate, formula in formulas.items():
        options = {"threshold": threshold, "width": width, "dampening": dampening, "surrogate": surrogate}
        y = op.evaluate([x], options)
        assert np.array_equal(y, x > threshold) or np.array_equal(y, x >= threshold)
        assert np.allclose(op.jacobian("in", ("in",), [x], y, options), dampening * formula, atol=1e-12), surrogate
    for name, y, slope in (("relu", np.maximum(x, 0), x > 0), ("stop", x, 0 * x)):
        op = ops.get(name)
        assert np.allclose(op.jacobian("in", ("in",), [x], y, {}), slope), name


def gradients_of_losses_are_those_of_values() -> None:
    """Every loss, by central differences, sample by sample and unit by unit."""
    random = np.random.default_rng(3)
    for name in losses.names():
        loss = losses.get(name)
        y = random.normal(size=(6, 3))
        target = random.integers(0, 3, size=6) if loss.labels else random.random(size=(6, 3))
        slope = loss.gradient(y, target)
        assert np.abs(slope).max() > 0.01
        for unit in range(3):
            by = 1e-6 * np.eye(3)[unit]
            wanted = (loss.value(y + by, target) - loss.value(y - by, target)) / 2e-6
            assert np.allclose(slope[:, unit], wanted, atol=1e-8), name


# A lossy layout, for which the oracle has no reference.


def snap_1_keeps_the_influence_on_a_units_own_state() -> None:
    """S(t) = M * (D(t) S(t - 1) + I(t)), entry by entry, with M one where the weight leads into the unit."""
    graph = vanilla()
    graph.nodes["h"].pop("bias")
    given = problem(graph, "y", steps=6)
    h = oracle.forward(graph, given.params, given.inputs)["h"]
    signal = residual(given, "y") @ given.params["h->y"]
    w, wanted = given.params["h->h"], np.zeros((3, 3))
    for sample in range(given.batch):
        influence = np.zeros((3, 3, 3))
        for t in range(given.steps):
            slope = 1 - h[t, sample] ** 2
            influence = np.einsum("i,ij,jkl->ikl", slope, w, influence)
            before = h[t - 1, sample] if t else np.zeros(3)
            for i in range(3):
                influence[i, i] += slope[i] * before
                influence[i, [k for k in range(3) if k != i]] = 0
            wanted += np.einsum("i,ikl->kl", signal[t, sample], influence)
    for grads in found(given, "rtrl; layout=snap(1)"):
        assert error({"h->h": grads["h->h"]}, {"h->h": wanted}) < TOLERANCE
    assert error({"h->h": next(found(given, "rtrl"))["h->h"]}, {"h->h": wanted}) > 1e-3


CASES: dict[str, Callable[[], None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        autapses_are_of_one_population,
        feedback_stands_where_the_rule_says,
        feedback_matrices_are_drawn_for_each_edge_and_seed,
        automata_keep_what_is_said_of_their_words,
        derivatives_are_those_of_values,
        surrogates_are_the_declared_functions,
        gradients_of_losses_are_those_of_values,
        snap_1_keeps_the_influence_on_a_units_own_state,
    )
}
