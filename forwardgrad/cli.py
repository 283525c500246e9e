"""What can be done from a terminal? `forwardgrad graphs | rules | train | explain | check | audit | render`.

Exit codes: 0 done, 1 a check failed, 2 wrong use. `--json` where a program may read the answer.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import indent
from typing import Any

import networkx as nx
import numpy as np
from tqdm import tqdm

from forwardgrad import budget, catalogue, checking, plotting, render, terminal, train_command, training
from forwardgrad.atomic import write_bytes
from forwardgrad.compiler.derivation import Derived, table
from forwardgrad.compiler.notation import printable
from forwardgrad.compiling import compile
from forwardgrad.errors import FileError, GraphError, RenderError, RuleError, did_you_mean
from forwardgrad.graph import library, validate
from forwardgrad.graph.files import load
from forwardgrad.graph.schema import MOST
from forwardgrad.testing import audited
from forwardgrad.testing.auditing import USUAL, over_seeds
from forwardgrad.testing.examining import examine, summary, text
from forwardgrad.testing.problem import MASKS, NUMBERS, Origin


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return terminal.run(lambda: _command(arguments))


def _command(arguments: Sequence[str] | None) -> int:
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    return command(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forwardgrad", description="Compile declared recurrent graphs to online learning algorithms."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    def graph(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("graph", metavar="GRAPH", help="name of a shipped graph, or a .toml or .json file")

    def loss(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--loss", action="append", metavar="NODE=LOSS", help="loss of a node (default: those the file names)"
        )

    def rule(sub: argparse.ArgumentParser, default: str) -> None:
        sub.add_argument("--rule", default=default, help="learning rule, such as eprop or 'eprop-deep & near'")
        loss(sub)

    add("graphs", _graphs, "List the shipped graphs.")

    sub = add("rules", _rules, "Print the named rules: coordinates, what each keeps and drops, limits, source.")
    sub.add_argument("name", metavar="NAME", nargs="?", help="one rule (default: all, and the automata after them)")
    sub.add_argument("--markdown", action="store_true", help="print the page docs/rules.md")

    sub = add("train", _train, "Train a graph online to predict a series one step ahead.")
    graph(sub)
    defaults = training.Settings()
    sub.add_argument("--data", default="laser", help="a series (laser), or a .npy, .csv or .txt file of one column")
    rule(sub, "eprop-deep")
    sub.add_argument("--out", metavar="FOLDER", help="where results go (default: runs/DATA)")
    sub.add_argument("--train-samples", type=_positive, default=8000, help="samples to learn from (default 8000)")
    sub.add_argument("--passes", type=_positive, default=defaults.passes, help="passes over them (default %(default)s)")
    sub.add_argument("--block", type=_positive, default=defaults.block, help="steps per update (default %(default)s)")
    sub.add_argument(
        "--learning-rate", type=float, default=defaults.learning_rate, help="of Adam (default %(default)s)"
    )
    sub.add_argument("--clip", type=float, default=defaults.clip, help="gradient norm limit (default %(default)s)")
    sub.add_argument(
        "--seed", type=_not_negative, default=defaults.seed, help="of initial parameters (default %(default)s)"
    )
    sub.add_argument(
        "--report", action="store_true", help="write report.html, too: the trained network's traces, step by step"
    )
    sub.add_argument(
        "--checkpoint-every",
        metavar="N",
        default="10m",
        help="save the run every N steps, or in so much time: 5000, 30s, 10m, 1.5h (default %(default)s)",
    )
    again = sub.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run in FOLDER, bit for bit",
    )
    again.add_argument(
        "--restart", action="store_true", help="start again, and give up the interrupted run that FOLDER holds"
    )
    sub.add_argument("--max-memory", help="most memory to take, such as 2GiB (default: 80 %% of what is free)")
    sub.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(default %(default)s)")

    sub = add("explain", _explain, "Print what a rule becomes on a graph: a line a parameter.")
    graph(sub)
    rule(sub, "eprop")
    sub.add_argument("--equations", action="store_true", help="print the equations of every trained parameter, too")
    sub.add_argument(
        "--param", metavar="PATTERN", help="print the equations of the parameters that fit, such as 'l1.*'"
    )
    sub.add_argument("--latex", action="store_true", help="equations as LaTeX")
    sub.add_argument("--decisions", action="store_true", help="print every decision of the compiler, too")

    sub = add(
        "check",
        _check,
        "Hold the compiled gradient against independent oracles, other blocks, other spellings.",
    )
    graph(sub)
    rule(sub, "eprop")
    sub.add_argument("--samples", type=_positive, default=10, help="random seeds (default %(default)s)")
    sub.add_argument("--steps", type=_at_least_two, default=12, help="length of sequences (default %(default)s)")
    sub.add_argument("--batch", type=_positive, default=2, help="samples in each (default %(default)s)")
    sub.add_argument("--seed", type=_not_negative, default=0, help="the first seed (default %(default)s)")
    sub.add_argument("--mask", choices=MASKS, default="none", help="weights of the losses (default %(default)s)")
    sub.add_argument(
        "--numbers",
        choices=NUMBERS,
        default="init",
        help="parameters: as the graph draws them, or tame, as property tests do (default %(default)s)",
    )
    sub.add_argument("--strict", action="store_true", help="fail where a comparison could say nothing, too")

    sub = add("audit", _audit, "Hold the gradients of several rules against the exact one, on random data.")
    graph(sub)
    sub.add_argument(
        "--rules",
        action="append",
        metavar="RULE,...",
        help=f"rules, joined by commas or given one by one (default: {','.join(USUAL)})",
    )
    loss(sub)
    sub.add_argument("--seeds", type=_positive, default=5, help="random seeds (default %(default)s)")
    sub.add_argument("--steps", type=_at_least_two, default=20, help="length of sequences (default %(default)s)")
    sub.add_argument("--batch", type=_positive, default=4, help="samples in each (default %(default)s)")
    sub.add_argument("--block", type=_positive, help="steps per block (default: a third, or 1 for a lossy layout)")
    sub.add_argument("-o", "--output", help="a .png file for a picture")

    sub = add("render", _render, "Draw a declared graph, the credit of a parameter, or write a page that shows a run.")
    graph(sub)
    sub.add_argument("--param", metavar="NAME", help="draw what a rule keeps of this parameter's credit")
    sub.add_argument("--rule", help="of credit, or of the page (default: eprop)")
    loss(sub)
    sub.add_argument("--unrolled", type=_positive, metavar="STEPS", help="draw that credit in time, a column per step")
    sub.add_argument(
        "--html", action="store_true", help="write a page that shows a run on random data step by step (-o FILE.html)"
    )
    sub.add_argument(
        "--beside", action="append", metavar="RULE,...", help="further rules on the page (default: rtrl and eprop-deep)"
    )
    sub.add_argument("--steps", type=_at_least_two, help="of the run on the page (default: 100)")
    sub.add_argument("--batch", type=_positive, help="samples in it (default: 4)")
    sub.add_argument("--seed", type=_not_negative, help="of its parameters and data (default: 0)")
    sub.add_argument("-o", "--output", help=".svg, .png, .pdf, .dot or .html file (default: NAME.svg or NAME.html)")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 100 or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {least}, got {text[:100]!r}")
        if int(text) > MOST:
            raise argparse.ArgumentTypeError(f"must be a whole number <= {MOST}, got {text}")
        return int(text)

    return read


_not_negative, _positive, _at_least_two = _whole(0), _whole(1), _whole(2)


def _losses(graph: nx.MultiDiGraph[str], given: Sequence[str] | None) -> dict[str, str]:
    if given:
        pairs = [pair.rpartition("=") for pair in given]
        for node, sign, loss in pairs:
            if not (node and sign and loss):
                raise GraphError(f"--loss {node or loss!r}: write it as NODE=LOSS, such as y=mse.")
        found = {node: loss for node, _, loss in pairs}
        if len(found) < len(pairs):
            raise GraphError(f"--loss is given twice for one node: {', '.join(given)}.")
        return found
    found = graph.graph.get("loss")
    if not found:
        raise GraphError("the graph's file names no loss.", "Add one: --loss y=mse.")
    return dict(found)


def _hold(graph: nx.MultiDiGraph[str], steps: int, batch: int) -> None:
    """Refuse a sequence whose values do not fit in what is free."""
    units = sum(node.size for node in validate(graph).nodes.values())
    budget.room(f"{steps:,} steps of {batch:,} samples", 8 * steps * batch * units)


def _print_json(answer: Any) -> None:
    print(json.dumps(answer, indent=2))


def _graphs(given: argparse.Namespace) -> int:
    titles = library.titles()
    if given.json:
        _print_json(titles)
    else:
        print(table(["graph", "what it is"], [[name, title] for name, title in titles.items()]))
    return 0


def _rules(given: argparse.Namespace) -> int:
    if given.markdown:
        print(catalogue.markdown(), end="")
    elif given.json:
        _print_json(catalogue.report() if given.name is None else vars(catalogue.entry(given.name)))
    else:
        print(catalogue.text(None if given.name is None else [given.name]))
    return 0


def _train(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    defaults = vars(_parser().parse_args(["train", "--", given.graph]))
    return train_command.run(given, defaults, graph, _losses(graph, given.loss))


def _explain(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    program = compile(graph, loss=_losses(graph, given.loss), rule=given.rule, dead="warn")
    chosen = _fitting(program.rules, given.param)
    if given.json:
        parameters = {
            name: {
                "rule": str(d.rule),
                "paths": str(d.rule.paths),
                "exact": d.exact,
                "dropped": list(d.dropped),
                "stores": {
                    place: {"layout": str(word), "shape": d.shapes[place], "lags": d.lags[place]}
                    for place, word in d.layouts.items()
                },
                "bytes": d.bytes,
                "flops": d.flops,
                "equation": d.equation,
                "latex": d.latex(),
            }
            for name, d in chosen.items()
        }
        about = {
            "nodes": len(program.network.nodes),
            "edges": len(program.network.edges),
            "dtype": program.dtype.name,
            "loss": {name: loss.name for name, loss in program.losses.items()},
        }
        decisions = {"decisions": [str(decision) for decision in program.decisions]} if given.decisions else {}
        _print_json({**about, "parameters": parameters, **decisions})
        return 0
    print(program)
    if given.equations or given.latex or given.param is not None:
        for name, d in chosen.items():
            print(f"\n{printable(name)}\n\n{d.latex() if given.latex else indent(d.equation, '  ')}")
    if given.decisions:
        print("\n" + "\n".join(map(str, program.decisions)))
    return 0


def _fitting(derived: Mapping[str, Derived], pattern: str | None) -> dict[str, Derived]:
    """The trained parameters that fit a pattern: a name, or one with * and ?."""
    found = {name: d for name, d in derived.items() if pattern is None or name == pattern or fnmatchcase(name, pattern)}
    if pattern is not None and not found:
        raise RuleError(f"--param {pattern!r} fits no trained parameter.", did_you_mean(pattern, derived))
    return found


def _check(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    loss = _losses(graph, given.loss)
    _hold(graph, given.steps, given.batch)
    origin = Origin(given.seed, given.steps, given.batch, given.mask, given.numbers)
    found = examine(graph, loss, given.rule, samples=given.samples, origin=origin)
    answer = {"graph": given.graph, "rule": given.rule, "steps": given.steps}
    answer |= summary(list(tqdm(found, total=given.samples, unit=" samples", desc="checking", disable=None)))
    answer["passed"] &= not (given.strict and (answer["vacuous"] or answer["silent"]))
    named = f"forwardgrad check {shlex.quote(given.graph)} --rule {shlex.quote(given.rule)} --samples 1"
    answer["replay"] = [f"{named} {replace(origin, seed=seed).options}" for seed in answer["failed"]]
    if given.json:
        _print_json(answer)
    else:
        print(text(answer))
    return 0 if answer["passed"] else 1


def _audit(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    _hold(graph, given.steps, given.batch)
    path = None if given.output is None else _png(given.output)
    rules = [rule for text in given.rules for rule in _split_rules(text)] if given.rules else USUAL
    with tqdm(total=given.seeds * len(rules), unit=" rules", desc="auditing", disable=None) as bar:
        found = over_seeds(
            graph,
            _losses(graph, given.loss),
            rules,
            seeds=given.seeds,
            steps=given.steps,
            batch=given.batch,
            block=given.block,
            progress=bar.update,
        )
    if not given.json:
        print(found.table())
    if path is not None:
        write_bytes(path, audited.picture(found, str(graph.graph.get("title") or given.graph)))
    if given.json:
        _print_json({"graph": given.graph, **found.report(), "written": None if path is None else str(path)})
    elif path is not None:
        print(f"\nwrote {path}")
    return 0


def _split_rules(text: str) -> list[str]:
    """The rules of a list. Commas in brackets or quotes split nothing, nor those between coordinates of one rule."""
    rules, depth, quote = [""], 0, ""
    for at, letter in enumerate(text):
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        inside = quote or depth or (";" in rules[-1] and _COORDINATE.match(text, at + 1))
        if letter == "," and not inside:
            rules.append("")
        else:
            rules[-1] += letter
    return [rule.strip() for rule in rules]


_COORDINATE = re.compile(r"\s*\w+\s*=")


def _png(output: str) -> Path:
    """Where a picture of an audit goes, refused before any work is done."""
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise RenderError(f"cannot draw {output!r}: the picture of an audit is a .png file.")
    _writable(path)
    plotting.matplotlib("the picture of an audit")
    return path


def _writable(path: Path) -> None:
    """Refuse a place where no file can be, before any work is done."""
    if path.is_dir():
        raise FileError(f"cannot write {str(path)!r}: it is a folder.")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {str(path)!r}: there is no such folder.")


def _render(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    html = given.html or Path(given.output or "").suffix.lower() == ".html"
    path = Path(given.output or f"{Path(given.graph).stem}{'.html' if html else '.svg'}")
    for option in ("beside", "steps", "batch", "seed"):
        if not html and getattr(given, option) is not None:
            raise RenderError(f"--{option} is for a page.", "Write one: --html, or -o FILE.html.")
    if html:
        written = _page(given, graph, path)
    elif given.param is None:
        if given.unrolled is not None:
            raise RenderError("--unrolled draws the credit of one parameter.", "Name it: --param NAME.")
        if given.rule is not None:
            raise RenderError(
                "--rule makes no difference to the graph.", "Draw credit: --param NAME; or a page: --html."
            )
        written = render.write(render.graph(graph, title=graph.graph.get("title")), path)
    else:
        program = compile(graph, loss=_losses(graph, given.loss), rule=given.rule or "eprop", dead="warn")
        if given.unrolled is None:
            drawing = render.credit(program, given.param)
        else:
            drawing = render.unrolled(program, given.param, given.unrolled)
        written = render.write(drawing, path)
    if given.json:
        _print_json({"written": str(written)})
    else:
        print(f"wrote {written}")
    return 0


def _page(given: argparse.Namespace, graph: nx.MultiDiGraph[str], path: Path) -> Path:
    """Write the page of a run on random parameters and data."""
    if path.suffix.lower() != ".html":
        raise RenderError(f"cannot write {str(path)!r}: a page is an .html file.")
    if given.unrolled is not None:
        raise RenderError("--unrolled draws a picture.", "Leave it out, or write a .svg file.")
    _writable(path)
    steps, seed, batch = given.steps or 100, given.seed or 0, given.batch or 4
    _hold(graph, steps, batch)
    program = compile(graph, loss=_losses(graph, given.loss), rule=given.rule or "eprop", dead="warn")
    beside = [rule for text in given.beside for rule in _split_rules(text)] if given.beside else ["rtrl", "eprop-deep"]
    random = np.random.default_rng(seed)
    params = checking.random_params(program, random, seed)
    inputs, targets = checking.random_data(program, random, steps, batch)
    only = None if given.param is None else list(_fitting(program.rules, given.param))
    with tqdm(total=1 + len(beside), unit=" rules", desc="recording", disable=None) as bar:
        page = render.report(
            program,
            params,
            inputs,
            targets,
            rules=beside,
            block=max(1, steps // 3),
            only=only,
            title=graph.graph.get("title") or given.graph,
            progress=bar.update,
        )
    return page.write(path)
