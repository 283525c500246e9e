"""Do the examples run, and do they show what they say? In this process, with small settings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    """An example, imported from its file."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    """An example that no test runs would rot."""
    expected = {
        "quickstart",
        "from_scratch",
        "add_task",
        "recall_cue",
        "jax_training",
        "fptt_adding",
        "memory_chain",
        "growing_columns",
        "evidence_accumulation",
        "sparse_rtrl",
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == expected


def test_quickstart_trains_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing a newcomer runs must learn, and print the rule it learns by."""
    example("quickstart").main(steps=1500, size=8, out=tmp_path / "new")
    printed = capsys.readouterr().out
    losses = dict(re.findall(r"^(eprop-deep|rtrl|immediate) +\d\.\d+ +(\d\.\d+)$", printed, re.MULTILINE))
    assert losses.keys() == {"eprop-deep", "rtrl", "immediate"}
    befores = set(re.findall(r"^(?:eprop-deep|rtrl|immediate) +(\d\.\d+) ", printed, re.MULTILINE))
    assert len(befores) == 1, "all rules start from the same parameters"
    assert all(float(loss) < float(next(iter(befores))) for loss in losses.values())
    assert float(losses["rtrl"]) < 0.25, "half of what always saying zero gives"
    assert len(set(losses.values())) == 3, "the rules differ on this task"
    assert re.search(
        r"^h1->a1 +eprop-deep +h1 \(state\): diagonal 8x8; h2 \(state\): full 8x8x8", printed, re.MULTILINE
    )
    written = Path(printed.splitlines()[-1].removeprefix("wrote "))
    assert written.parent == tmp_path / "new"
    assert written.read_text(encoding="utf-8").strip()


def test_from_scratch_agrees_with_the_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    """The derivation by hand asserts equality itself; what it prints must say so, for numbers that are not zero."""
    example("from_scratch").main(steps=11, units=3, seed=1)
    printed = capsys.readouterr().out
    errors = re.findall(r"largest relative difference (\S+) at blocks of 1, 3, 11 steps", printed)
    assert len(errors) == 2
    assert all(float(error) <= 1e-12 for error in errors)
    rows = re.findall(r"^ +([-+][\d. +-]+?) +\| +([-+][\d. +-]+)$", printed, re.MULTILINE)
    assert len(rows) == 6
    assert all(left == right for left, right in rows)
    assert any(float(number) != 0 for left, _ in rows for number in left.split())
    cosine = re.search(r"its cosine with RTRL is (\S+) here", printed)
    assert cosine is not None
    assert float(cosine[1]) < 0.999
    assert "15 of the 45 numbers in S are not zero" in printed
    assert "gradient: exact" in printed
    assert "gradient: drops h->a" in printed


def test_from_scratch_would_notice_another_gradient() -> None:
    """A comparison that cannot fail shows nothing."""
    module = example("from_scratch")
    random = module.np.random.default_rng(0)
    x, target = random.normal(size=(6, 2)), random.normal(size=(6, 2))
    m, v = random.normal(size=(3, 5)), random.normal(size=(2, 3))
    with pytest.raises(AssertionError, match="eprop: relative difference"):
        module.compare("eprop", module.rtrl(m, v, x, target), m, v, x, target)


def test_add_task_tries_every_rule_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settings of `--quick`: too few steps to say anything about rules, enough to see that all of them run."""
    module = example("add_task")
    module.main(steps=60, seeds=1, units=8, out=tmp_path / "new")
    printed = capsys.readouterr().out
    assert "nothing 0.6616, the first lag 0.5192, both 0.4545" in printed
    table = dict(re.findall(r"^(\S+) +(\d\.\d{4})  \d\.\d{4} to \d\.\d{4}", printed, re.MULTILINE))
    assert tuple(table) == module.RULES
    assert all(0.5 < float(loss) < 0.9 for loss in table.values())
    assert len(set(table.values())) == len(table), "the rules differ on this task"
    picture = tmp_path / "new" / "learning.png"
    assert picture.is_file() if "wrote" in printed else "matplotlib" in printed


def test_add_task_is_the_one_whose_levels_are_drawn() -> None:
    """If the data were of another task, the levels would mean nothing; and the exact rule climbs the first rung."""
    module = example("add_task")
    x, y = module.flips(4000, 8, seed=0)
    assert module.np.array_equal(y[4:, :, 0], 0.5 + 0.5 * x[2:-2, :, 0] - 0.25 * x[:-4, :, 0])
    assert module.np.array_equal(x.sum(axis=2), module.np.ones((4000, 8)))
    assert module.np.array_equal(y.sum(axis=2), module.np.ones((4000, 8)))
    for known, level in ((y, module.LEVELS[2]), (y.mean(axis=(0, 1), keepdims=True), module.LEVELS[0])):
        chance = module.np.clip(known + 0 * y, 1e-9, 1)
        assert -(y * module.np.log(chance)).sum(axis=2).mean() == pytest.approx(level, abs=0.005)
    losses, final = module.train("rtrl", seed=0, steps=250)
    assert losses[:10].mean() > 0.6
    assert final < module.LEVELS[1]


def test_recall_needs_credit_over_time(capsys: pytest.CaptureFixture[str]) -> None:
    """On the task that introduces the library, eprop must learn, and the rule of one step must not."""
    example("recall_cue").main(seeds=1, updates=80, units=32, rules=("eprop", "immediate"))
    printed = capsys.readouterr().out
    reached = dict(re.findall(r"^(\w+) +(0\.\d+) ", printed, re.MULTILINE))
    assert float(reached["eprop"]) > 0.7
    assert float(reached["immediate"]) < 0.4


def test_fptt_learns_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """With updates inside each sequence, and no credit across parts, an LSTM must beat what needs no memory."""
    example("fptt_adding").main(updates=300, alphas=(0.1,), steps=12, parts=3, units=16)
    reached = re.fullmatch(r"without memory: MSE 0.1667\nalpha 0.1: MSE (0\.\d{4})\n", capsys.readouterr().out)
    assert reached is not None
    assert float(reached[1]) < 0.05


def test_columns_grow_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """If a stage begins worse than the one before ended, what was learned is lost where the network grows."""
    learner = example("growing_columns").main(stages=2, steps=1500)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [int(stored.replace(",", "")) for _, stored, *_ in rows] == [8 * 2 * 16 * (size + 2) for size in (5, 9)]
    errors = [[float(error) for error in each] for _, _, *each in rows]
    assert errors[0][0] > 0.7
    assert errors[1][0] < errors[0][1]
    assert errors[1][-1] < 0.5
    assert learner.seen == 3000


def test_silent_units_cost_less(capsys: pytest.CaptureFixture[str]) -> None:
    """The fewer units pass credit, the less is multiplied; with the same rule, which learns all the same."""
    wide, narrow = example("sparse_rtrl").main(units=48, steps=300, widths=(1.0, 0.1))
    assert narrow < 0.25 < wide < 0.7
    rows = re.findall(r"^(\S+) +(0\.\d\d) +(\d+)% +(\d+)% of \d\.\de\+\d\d$", capsys.readouterr().out, re.MULTILINE)
    assert [row[0] for row in rows] == ["1.0", "0.1"]
    assert all(float(error) < 0.45 for _, error, *_ in rows), "saying zero has 0.5"


def test_a_program_fits_into_a_loop_of_jax() -> None:
    """A user of JAX and optax would copy it."""
    pytest.importorskip("jax")
    pytest.importorskip("optax")
    assert example("jax_training").main(updates=60, units=32) > 0.5


@pytest.mark.parametrize("feedback", ["symmetric", "random", "adaptive"])
def test_evidence_is_accumulated_under_every_feedback(feedback: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, the published network does not run, or learns nothing on a short version of its task."""
    short = {"cues": 3, "cue": 5, "gap": 2, "delay": 10, "query": 4}
    error = example("evidence_accumulation").main(feedback, updates=60, backend="numpy", batch=16, rate=0.4, **short)
    assert error < 0.3, "half of all decisions are wrong by chance"
    line = r"^   10 updates: decision error 0\.\d{3}(, on more trials 0\.\d{3})?, \d+\.\d Hz, \d+ s$"
    assert re.search(line, capsys.readouterr().out, re.M)


def test_an_agent_learns_to_remember(capsys: pytest.CaptureFixture[str]) -> None:
    """A chain of two steps is learned under both rules; a short run prints its curve."""
    pytest.importorskip("gymnasium")
    example("memory_chain").main(length=2, steps=700, rules=("rtrl", "rflo"))
    scores = re.findall(r"^(rtrl|rflo) .* (-?\d\.\d{3})$", capsys.readouterr().out, re.MULTILINE)
    assert [rule for rule, _ in scores] == ["rtrl", "rflo"]
    assert all(float(score) > 0.8 for _, score in scores)
