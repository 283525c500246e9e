"""`forwardgrad rl`: an actor-critic learns in an environment, in a folder where it can be gone on with."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from forwardgrad import training
from forwardgrad.cli.options import add_dtype, add_json, add_rule, not_negative, positive, print_json
from forwardgrad.compiling import compile
from forwardgrad.errors import DataError, FileError
from forwardgrad.graph.files import load
from forwardgrad.learning.actor_critic import TDSettings
from forwardgrad.support.defaults import BACKEND


def options(parser: argparse.ArgumentParser) -> None:
    td = TDSettings()
    parser.add_argument(
        "environment",
        metavar="ENVIRONMENT",
        help="memory_chain, trace_patterning, or an id of gymnasium whose actions are choices, such as CartPole-v1",
    )
    add_json(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an argument of it, such as length=16"
    )
    parser.add_argument(
        "--graph",
        default="actor_critic",
        help="name of a shipped graph, or a .toml or .json file, with outputs actor and critic (default %(default)s)",
    )
    add_rule(parser)
    parser.add_argument("--out", metavar="FOLDER", help="where results go (default: runs/ENVIRONMENT)")
    for name, default, text in (
        ("steps", 10_000, "steps of each environment"),
        ("every", 1_000, "steps of a round, after which it is evaluated and saved"),
        ("batch", 32, "environments side by side"),
        ("episodes", 100, "episodes of an evaluation"),
    ):
        parser.add_argument(f"--{name}", type=positive, default=default, help=f"{text} (default %(default)s)")
    for name, default, text in (
        ("learning-rate", 0.003, "of Adam, down to 0 along a cosine"),
        ("epsilon", 1e-4, "of Adam"),
        ("discount", td.discount, "of the return"),
        ("trace", td.trace, "lambda, of the outer trace"),
        ("entropy", td.entropy, "weight of the gradient of the policy's entropy"),
    ):
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{text} (default %(default)s)")
    parser.add_argument("--goal", type=float, help="the mean return of an evaluation that ends the run")
    parser.add_argument("--greedy", action="store_true", help="evaluate by the most probable actions, not drawn ones")
    parser.add_argument("--no-recall", action="store_true", help="do not show the network its last action and reward")
    parser.add_argument("--seed", type=not_negative, default=0, help="of all random numbers (default %(default)s)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in FOLDER, to the same numbers")
    again.add_argument("--restart", action="store_true", help="start again, and give up the run that FOLDER holds")
    add_dtype(parser)
    parser.add_argument(
        "--backend", choices=("numpy", "c", "interpreter", "jax"), default=BACKEND, help="(default %(default)s)"
    )


def run(given: argparse.Namespace) -> int:
    from forwardgrad import rl  # needs gymnasium
    from forwardgrad.rl import returns

    td = TDSettings(given.discount, given.trace, entropy=given.entropy)
    settings = rl.RunSettings(
        given.steps,
        given.every,
        given.batch,
        given.learning_rate,
        given.epsilon,
        td,
        recall=not given.no_recall,
        episodes=given.episodes,
        greedy=given.greedy,
        goal=given.goal,
        seed=given.seed,
    )
    named = _named(given.set)
    make = partial(rl.make, given.environment, **named)
    graph = rl.fitted(load(given.graph), make, recall=settings.recall)
    losses = {"actor": "signal", "critic": "signal"}
    program = compile(graph, losses, given.rule, dtype=given.dtype, backend=given.backend, per_sample=True)
    folder = Path(given.out or f"runs/{given.environment.replace('/', '_')}")
    about = {"environment": given.environment, "arguments": named}
    path = folder / returns.CHECKPOINT
    seen = 0
    try:
        with training.Signals() as signals, training.Hold(folder, exists=given.resume):
            _begin(path, resume=given.resume, restart=given.restart)
            with tqdm(total=settings.steps, unit=" steps", desc="learning", disable=None) as bar:

                def stepped(steps: int) -> None:
                    bar.update(steps - bar.n)

                def finished(each: rl.Round) -> None:
                    nonlocal seen
                    seen = each.steps
                    bar.set_postfix(mean_return=f"{each.evaluation:.3f}", refresh=False)
                    signals.check()

                learned = rl.learn(program, make, settings, path=path, about=about, stepped=stepped, finished=finished)
            found = returns.report(learned, settings, {"graph": given.graph, "rule": given.rule, **about})
            files, missing = returns.write(folder, found)
    except training.Stopped as stopped:
        with suppress(OSError):
            saved = (
                f"saved at step {seen:,}; the same command with --resume goes on" if seen else "nothing new is saved"
            )
            print(f"stopped by {stopped.signal.name}; {saved}.", file=sys.stderr)
        return 128 + stopped.signal
    for line in missing:
        print(f"note: {line}", file=sys.stderr)
    written = [str(folder / name) for name in (*files, returns.CHECKPOINT)]
    _print(given, found, written)
    return 0


def _begin(path: Path, *, resume: bool, restart: bool) -> None:
    """Refuse or remove a run that is there, or miss one that is not."""
    if resume and not path.exists():
        raise FileError(f"nothing to resume: there is no {str(path)!r}.", "To begin, leave out --resume.")
    if restart:
        path.unlink(missing_ok=True)
    if path.exists() and not resume:
        raise FileError(
            f"{str(path)!r} holds a run.", "Go on with it by --resume, give it up by --restart, or set --out."
        )


def _named(given: Sequence[str]) -> dict[str, Any]:
    """Arguments of an environment; values are Python's literals, or texts."""
    found: dict[str, Any] = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not (sign and name.isidentifier()):
            raise DataError(f"--set {each!r}: expected NAME=VALUE, such as length=16.")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def _print(given: argparse.Namespace, found: Mapping[str, Any], written: Sequence[str]) -> None:
    if given.json:
        print_json({**found, "written": list(written)})
        return
    batch, last = found["settings"]["batch"], found["curve"][-1]
    print(f"{found['graph']} learned {found['environment']} under {found['rule']}:", end=" ")
    print(f"{found['steps']:,} steps of {batch} environments in {found['seconds']:.0f} s.")
    print(f"wrote {', '.join(written)}")
    print(f"mean return of the last evaluation: {last['evaluation']:.4f}")
    print(f"mean return of the best weights, further episodes: {found['score']:.4f}")
