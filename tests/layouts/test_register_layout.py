"""Is a layout of a user's as good as ours, and is a bad one refused when it is registered?"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import ENGINES, TOLERANCE, error
from nets import problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle, testing
from forwardgrad.layouts import table
from forwardgrad.ops import Array

pytestmark = pytest.mark.usefixtures("tables_as_before")


def keep(influence: Array, share: float, random: np.random.Generator) -> Array:
    return influence * (random.random(influence.shape) < share) / share


def register_keep(**changed: Any) -> Any:
    given = {"argument": "share", "example": 0.5, "legal": lambda share: 0 < share <= 1, "random": True}
    return fg.register_layout("keep", **{"compress": keep, "keeps": "a share of the entries", **given, **changed})


def halves(influence: Array) -> Array:
    """Influence in two parts, one beside the other: the same numbers in another shape."""
    flat = influence.reshape(len(influence), -1)
    return np.concatenate([flat, flat], axis=1) / 2


def joined(stored: Array, shape: tuple[int, ...]) -> Array:
    first, second = np.split(stored, 2, axis=1)
    return (first + second).reshape(shape)


def register_halves(**changed: Any) -> Any:
    given = {"compress": halves, "expand": joined, "stores": lambda shape: (2 * int(np.prod(shape)),)}
    return fg.register_layout("halves", **{"keeps": "all, twice", **given, **changed})


@pytest.mark.parametrize("backend", ENGINES)
def test_a_layout_that_loses_nothing_gives_the_gradient_of_the_paths(backend: str) -> None:
    """If this fails, compression comes at the wrong time, or what is stored is read as something else."""
    register_halves()
    given = problem(stack(), "y", steps=8, gain=1.5)
    fg.register_layout("none", lambda s: 0 * s, keeps="nothing")
    for paths in ("rtrl", "eprop"):
        wanted = oracle.reverse(**given.arguments, rule=paths).grads
        for block in (1, 3):
            found, none = (
                fg.compile(given.graph, {"y": "mse"}, f"{paths}; layout={layout}", backend=backend)
                .gradient(given.params, given.inputs, given.targets, block=block)
                .grads
                for layout in ("halves", "none")
            )
            assert error(found, wanted) <= TOLERANCE
            assert error(none, wanted) > 1e-3


def test_what_is_stored_is_what_is_priced_and_shown() -> None:
    """If this fails, a budget holds a layout of a user's to a price that it does not have."""
    register_halves()
    given = problem(vanilla(), "y", steps=8)
    program, lossless = (fg.compile(given.graph, {"y": "mse"}, rule) for rule in ("rtrl; layout=halves", "rtrl"))
    state = program.start(4)
    assert sum(a.nbytes for key, a in state.items() if key.startswith("influence")) == sum(
        program.cost(4, 1).influence.values()
    )
    assert program.rules["h->h"].bytes == 2 * lossless.rules["h->h"].bytes
    assert program.rules["h->h"].reasons == ("layout halves",)
    assert "layout=halves" in str(program)
    assert "compressed by halves, which keeps all, twice" in str(program.rules["h->h"].equation)
    one, other = (
        p.record(given.params, given.inputs, given.targets, block=1).traces["h->h", "h", "all"]
        for p in (program, lossless)
    )
    assert np.allclose(one, other)


def test_a_random_layout_is_unbiased_and_repeats_its_draws() -> None:
    """If this fails, noise is the same in every block, or a run cannot be repeated."""
    register_keep()
    graph = fg.load("elman")
    graph.nodes["h"]["size"] = 2
    given = testing.Problem.of(fg.compile(graph), steps=4, batch=8)
    testing.assert_unbiased("rtrl; layout=keep(0.5)", given, seeds=100)
    grads = {
        (backend, draw, seed): fg.compile(graph, rule=f"rtrl; layout=keep(0.5), seed={seed}", backend=backend)
        .gradient(given.params, given.inputs, given.targets, block=1, draw=draw)
        .grads
        for backend in ENGINES
        for draw in (0, 1)
        for seed in (0, 1)
    }
    for draw, seed in ((0, 0), (0, 1), (1, 0)):
        assert error(grads["numpy", draw, seed], grads["interpreter", draw, seed]) <= TOLERANCE
        assert error(grads["numpy", draw, seed], grads["numpy", 1, 1]) > 1e-3
    register_keep(compress=lambda s, share, random: s * (random.random(s.shape) < share), replace=True)
    with pytest.raises(fg.CheckError, match="is biased"):
        testing.assert_unbiased("rtrl; layout=keep(0.5)", given, seeds=100)


def test_a_learner_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """If this fails, a checkpoint forgets what a layout of a user's stores, or what it has drawn."""
    register_keep()
    given = problem(vanilla(), "y", steps=12)
    pieces = [({"x": given.inputs["x"][cut]}, {"y": given.targets["y"][cut]}) for cut in (slice(0, 5), slice(5, None))]
    program = fg.compile(given.graph, {"y": "mse"}, "rtrl; layout=keep(0.25)")
    straight, halted = (fg.Learner(program, program.init(1), fg.Adam(0.01)) for _ in range(2))
    straight.fit(pieces, block=2)
    halted.fit(pieces[:1], block=2)
    halted.save(tmp_path / "half.npz")
    resumed = fg.Learner.load(tmp_path / "half.npz")
    resumed.fit(pieces[1:], block=2)
    assert all(np.array_equal(resumed.params[name], array) for name, array in straight.params.items())
    table._table.pop("keep")
    with pytest.raises(fg.ForwardgradError, match=r"(?s)unknown layout 'keep\(0.25\)'.*a layout of your own"):
        fg.Learner.load(tmp_path / "half.npz")


def test_a_text_names_it_with_its_argument() -> None:
    """If this fails, a rule with a layout of a user's cannot be written down."""
    register_keep()
    rule = fg.compile(fg.load("elman"), rule="rtrl; layout=keep( 0.50 ), seed=3").chosen["h->h"]
    assert rule.text == "all; layout='keep(0.5)', seed=3"
    for text in ("keep(2.0)", "keep(nan)", "keep", "keep(x)", "keep(0)", "keep(1, 2)"):
        with pytest.raises(fg.RuleError, match=r"layout|coordinates|cannot read"):
            fg.compile(fg.load("elman"), rule=f"rtrl; layout={text}")
    with pytest.raises(fg.RuleError, match=r"layout 'keep\(2.0\)': write keep\(share\).\n.*Such as keep\(0.5\)"):
        fg.compile(fg.load("elman"), rule="rtrl; layout=keep(2.0)")
    with pytest.raises(fg.RuleError, match=r"keep\(share\)"):
        fg.compile(fg.load("elman"), rule="rtrl; layout=kept")


def test_an_argument_at_which_its_check_fails_is_refused() -> None:
    """If this fails, the user of a layout gets an error of its author's, and no word on what to write."""
    fg.register_layout(
        "part", lambda s, n: s / n, keeps="a part", argument="n", example=np.int64(2), legal=lambda n: 1 // n > -1
    )
    with pytest.raises(fg.RuleError, match=r"layout 'part\(0\)': write part\(n\)"):
        fg.compile(fg.load("elman"), rule="rtrl; layout=part(0)")
    assert fg.compile(fg.load("elman"), rule="rtrl; layout=part(2)").chosen["h->h"].layout == "part(2)"


@pytest.mark.parametrize("name", ["lossless", "snap", "uoro", "kronecker"])
def test_a_layout_of_the_library_cannot_be_replaced(name: str) -> None:
    """If this fails, `rtrl` is no longer exact, and no rule can be compiled where `snap` takes no number."""
    with pytest.raises(fg.RuleError, match=f"layout '{name}' is the library's own"):
        fg.register_layout(name, lambda s: s, keeps="all", replace=True)
    assert fg.compile(fg.load("elman")).rules["h->h"].exact


def test_a_program_keeps_the_layout_that_it_was_compiled_with() -> None:
    """If this fails, gradients come from one registration, and prices, equations and records from another."""
    register_keep()
    given = problem(vanilla(), "y", steps=4)
    program = fg.compile(given.graph, {"y": "mse"}, "rtrl; layout=keep(0.5)")

    def told() -> tuple[Any, ...]:
        record = program.record(given.params, given.inputs, given.targets, block=1, draw=3)
        return str(program.cost(2)), str(program.rules["h->h"].equation), record.traces["h->h", "h", "all"].tolist()

    before, rule = told(), program.chosen["h->h"]
    assert pickle.loads(pickle.dumps(rule)) == rule
    fg.register_layout("keep", lambda s: 0 * s, keeps="nothing", replace=True)
    assert told() == before


def memory(influence: Array, sums: list[Any] = []) -> Array:  # noqa: B006
    sums.append(0)
    return influence * len(sums)


def test_a_function_may_return_the_same_array_again_and_again() -> None:
    """If this fails, a function that saves memory is refused as one that mixes samples, and a memory is overlooked."""
    kept: dict[tuple[int, ...], Array] = {}

    def in_place(influence: Array) -> Array:
        array = kept.setdefault(influence.shape, np.empty(influence.shape))
        array[...] = influence
        return array

    fg.register_layout("in_place", in_place, keeps="all")
    given = problem(vanilla(), "y", steps=6)
    found, wanted = (
        fg.compile(given.graph, {"y": "mse"}, rule).gradient(given.params, given.inputs, given.targets, block=1).grads
        for rule in ("rtrl; layout=in_place", "rtrl")
    )
    assert error(found, wanted) <= TOLERANCE

    def counting(influence: Array, total: list[Array] = []) -> Array:  # noqa: B006
        total.append(total[-1] if total and total[-1].shape == influence.shape else np.zeros(influence.shape))
        total[-1] += influence
        return total[-1]

    with pytest.raises(fg.RuleError, match="two results for one influence"):
        fg.register_layout("counting", counting, keeps="all there ever was")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name with capitals": ({"name": "Half"}, "lower-case letters"),
    "a taken name": ({"name": "uoro"}, "'uoro' is registered already"),
    "no function": ({"compress": 3}, "compress must be a function, got 3"),
    "too few arguments": ({"compress": lambda: 0}, "It gets 1 arguments in order: influence"),
    "an argument that it does not take": (
        {"argument": "n", "example": 2},
        "compress cannot be called as a layout is: too many positional arguments",
    ),
    "an argument without an example": ({"argument": "n"}, "argument and example go together"),
    "another shape": ({"compress": lambda s: s.sum(axis=0)}, "compress returns shape .* expected"),
    "no numbers": ({"compress": lambda s: s.astype(str)}, "compress returns .* expected numbers"),
    "a fault": ({"compress": lambda s: s[:, 10**6, 0]}, "compress fails: IndexError"),
    "samples that mix": ({"compress": lambda s: s - s.mean(axis=0)}, "compress mixes samples"),
    "a memory": ({"compress": memory}, "two results for one influence(?s:.*)random=True"),
    "half a codec": ({"stores": lambda shape: shape}, "expand and stores go together"),
    "a shape that is not stored": (
        {"stores": lambda shape: (1,), "expand": lambda s, shape: np.zeros(shape)},
        r"compress returns shape .* expected \(3, 1\)",
    ),
    "a shape that does not come back": (
        {"stores": lambda shape: shape, "expand": lambda s, shape: s[:1]},
        "expand returns shape",
    ),
    "an influence before the first step": (
        {"compress": lambda s: s + 1, "stores": lambda shape: shape, "expand": lambda s, shape: s - 1},
        "expand makes an influence other than zero of zeros",
    ),
    "samples that mix as they come back": (
        {"stores": lambda shape: shape, "expand": lambda s, shape: s - s.mean(axis=0)},
        "expand mixes samples",
    ),
    "draws as it comes back": (
        {"stores": lambda shape: shape, "expand": lambda s, shape: s * np.random.default_rng().random()},
        "expand gives two results for one array",
    ),
    "a shape of broken numbers": (
        {"stores": lambda shape: (np.prod(shape),), "expand": lambda s, shape: s.reshape(shape)},
        r"stores returns \(.*1.0.*,\) for shape \(\), expected a tuple of whole numbers(?s:.*)int\(np.prod\(shape\)\)",
    ),
    "a number for a shape": (
        {"stores": lambda shape: 3, "expand": lambda s, shape: s},
        r"stores returns 3 for shape \(\), expected a tuple",
    ),
    "a shape below zero": (
        {"stores": lambda shape: (-1,), "expand": lambda s, shape: s.reshape(len(s), *shape)},
        r"stores returns \(-1,\)",
    ),
    "no description": ({"keeps": None}, "keeps must say in one line what it keeps, got None"),
    "an empty description": ({"keeps": " "}, "keeps must say in one line"),
    "a long description": ({"keeps": "half,\nand half"}, "keeps must say in one line"),
    "a reserved word": ({"name": "lambda"}, "Python reserves this word"),
    "no name": ({"name": None}, "lower-case letters"),
    "an argument without a name": ({"argument": 3, "example": 2}, "the name of an argument is letters"),
    "an example that is no number": ({"argument": "n", "example": "2"}, "an example of n must be a number, got '2'"),
    "a truth value": ({"argument": "n", "example": True}, "an example of n must be a number, got True"),
    "an example that is not legal": (
        {"argument": "n", "example": 2, "legal": lambda n: n < 1},
        "the example n=2 is not legal",
    ),
    "an endless example": ({"argument": "n", "example": float("nan")}, "the example n=nan is not legal"),
    "a check that is none": (
        {"argument": "n", "example": 2, "legal": (0, 1)},
        r"legal must be a function, got \(0, 1\)",
    ),
    "a check of nothing": ({"argument": "n", "example": 2, "legal": lambda: True}, "It gets 1 arguments in order: n"),
    "no draws": ({"compress": lambda s, random: s, "random": True}, "compress draws nothing"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_layout_is_refused_when_it_is_registered(what: str) -> None:
    """If this fails, the fault comes up in the middle of a run, or never."""
    changed, message = BAD[what]
    with pytest.raises(fg.RuleError, match=message):
        fg.register_layout(**{"name": "half", "compress": lambda s: s / 2, "keeps": "half", **changed})
    assert "half" not in table.names()


def test_a_shape_that_changes_later_is_refused_in_our_words() -> None:
    """If this fails, NumPy complains about shapes of which the user knows nothing."""
    fg.register_layout("flaky", lambda s: s if s.size < 10**3 else s[..., :1], keeps="what it likes")
    given = problem(vanilla(), "y", steps=4, batch=60)
    program = fg.compile(given.graph, {"y": "mse"}, "rtrl; layout=flaky")
    with pytest.raises(fg.RuleError, match="layout 'flaky': compress returns shape"):
        program.gradient(given.params, given.inputs, given.targets, block=1)


def test_a_function_that_fails_later_is_named() -> None:
    """If this fails, an error of NumPy's comes out of a run, and nothing says from which layout."""
    halved = np.ones((32, 1)) / 2

    def compress(influence: Array) -> Array:
        return influence if influence.size < 10**3 else influence @ halved

    fg.register_layout("flaky", compress, keeps="what it likes")
    given = problem(vanilla(), "y", steps=4, batch=60)
    program = fg.compile(given.graph, {"y": "mse"}, "rtrl; layout=flaky")
    with pytest.raises(fg.RuleError, match=r"layout 'flaky': compress fails for shape \(60, .*: ValueError: matmul"):
        program.gradient(given.params, given.inputs, given.targets, block=1)


def test_its_gradient_belongs_to_delays_as_they_are_spelled() -> None:
    """If this fails, an assertion that cannot hold is made about a layout of a user's."""
    register_keep()
    with pytest.raises(fg.RuleError, match="as they are spelled"):
        testing.assert_refactoring_invariant(fg.compile(fg.load("elman"), rule="rtrl; layout=keep(0.5)"))
