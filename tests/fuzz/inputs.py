"""Which inputs are tried? Valid ones, changed in their structure or in their text, and texts made up freely."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import numpy as np
import tomli_w
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad.graph import library
from forwardgrad.rules.table import TABLE

TRAP = "executed"
"""The folder that a payload would make if something executed it."""

PAYLOADS = [
    f"__import__('os').mkdir('{TRAP}')",
    f"'+__import__('os').mkdir('{TRAP}')+'",
    f'"""\n__import__("os").mkdir("{TRAP}")\n"""',
    f"\n__import__('os').mkdir('{TRAP}')\n#",
    f"{{__import__('os').mkdir('{TRAP}')}}",
    f"!!python/object/apply:os.mkdir ['{TRAP}']",
]
ATOMS: list[Any] = [
    *PAYLOADS,
    *(10**12, 2**31 - 1, 2**63, 10**400, -1, 0, 1, 100_000, 1e308, -1e-308, float("nan"), float("inf"), True, False),
    *(
        "",
        " ",
        "x" * 2000,
        "x",
        "h",
        "\ud7ff",
        "../../x",
        "/etc/passwd",
        "a\0b",
        "normal(1e9)",
        "orthogonal(-1)",
        "dense",
    ),
    *([], {}, [[]], [[1, 0], [1]], [1.5] * 70, {"array": "a0"}, {"array": "../a0"}, {"a": {"b": 1}}, ["x", None]),
    *("sparse", "scalar", "tanh", "softmax", "mul", "spike", "input", "mse", "cross_entropy"),
]
TOKENS = [
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    "=",
    ",",
    "\n",
    "[[edges]]\n",
    "[nodes.x]\n",
    "nan",
    "1e999",
    "0x",
    "-",
    "\\u0000",
]
TOKENS += ["[" * 3000, "{" * 3000, "9" * 5000, "a." * 2000, "#", "\0", "é", '"""', "null", "true"]


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A nested value, changed at one to four places."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        places = list(_places(value))
        if draw(st.integers(0, 9)):  # mostly inside of what the file lists
            places = [place for place in places if place[0] is not value] or places
        if not places:
            break
        _change(draw, *draw(st.sampled_from(places)))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list inside a value, with every key of it: most are attributes of nodes and edges."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _change(draw: st.DrawFn, at: Any, key: Any) -> None:
    how = draw(st.sampled_from(["set", "set", "set", "drop", "double", "rename"]))
    if how == "set":
        at[key] = copy.deepcopy(draw(st.sampled_from(ATOMS)))  # it may be changed next
    elif how == "drop":
        del at[key]
    elif isinstance(at, list):
        at.append(copy.deepcopy(at[key]))
    else:
        words = [atom for atom in ATOMS if isinstance(atom, str)] + [
            "size",
            "delay",
            "value",
            "mask",
            "density",
            "bias",
        ]
        at[draw(st.sampled_from(words))] = at[key] if how == "double" else at.pop(key)


@st.composite
def cut_up(draw: st.DrawFn, text: str) -> str:
    """A text with pieces taken out, doubled, or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        put = draw(st.sampled_from(["", text[start:end] * 2, *TOKENS]) | st.text(max_size=8))
        text = text[:start] + put + text[end:]
    return text


def _json(graph: nx.MultiDiGraph[str]) -> Any:
    return nx.node_link_data(graph, edges="edges")


def _toml(graph: nx.MultiDiGraph[str]) -> Any:
    about = {key: value for key, value in graph.graph.items() if key != "forwardgrad"}
    edges = [{"from": u, "to": v, "key": key, **data} for u, v, key, data in graph.edges(keys=True, data=True)]
    cells = [
        {"cell": "lstm", "name": "c", "input": "x", "size": 2},
        {"cell": "lif", "name": "d", "input": "x", "size": 2, "refractory": 2},
        {"cell": "delay_line", "name": "e", "input": "x", "size": 2, "taps": 2},
        {"cell": "rtu", "name": "f", "input": "x", "size": 2, "r_min": 0.5, "seed": 1},
    ]
    return {"graph": {"format": 1, **about}, "nodes": dict(graph.nodes(data=True)), "edges": edges, "cells": cells}


def _toml_text(value: Any) -> str:
    try:
        return tomli_w.dumps(value)
    except (TypeError, AttributeError, ValueError):  # no TOML holds `None`, and not every key is one
        return "# not TOML\n" + repr(value)


def _json_text(value: Any) -> str:
    return json.dumps(value)


def graph_texts(suffix: str) -> st.SearchStrategy[str]:
    """Texts of graph files of this suffix."""
    plain, text = {".json": (_json, _json_text), ".toml": (_toml, _toml_text)}[suffix]
    loaded = [json.dumps(plain(fg.load(name)), default=np.ndarray.tolist) for name in library.names()]
    documents: list[Any] = [json.loads(document) for document in loaded]  # arrays as lists
    whole = st.sampled_from(documents)
    valid: Callable[[Any], str] = text
    return st.one_of(
        *[whole.flatmap(mutated).map(valid)] * 5,
        whole.map(valid).flatmap(cut_up),
        st.text(max_size=200) | st.lists(st.sampled_from(TOKENS)).map("".join),
    )


WORDS = [
    "hops(2)",
    "snap(1)",
    "window(3)",
    "dsf(0.5)",
    "cut(['h->h'])",
    " & ",
    "; ",
    ", ",
    "=",
    "feedback",
    "random",
    "seed",
]
WORDS += [
    "layout",
    "operator",
    "carry",
    "autapses",
    "{'a': 1}",
    "[",
    "(",
    ")",
    "]",
    "1e999",
    "9" * 400,
    "-" * 900,
    "\0",
    *PAYLOADS,
]
WORDS += list(TABLE)
RULES = ["eprop & near", "hops(2) & near; feedback=random, seed=3", "snap(2)", "cut(['h->h', 'x->h']) & eprop-deep"]
RULES += ["rtrl; operator={'explicit': 0.5}, carry=False", "window(2); layout=snap(1)"]


def rule_texts() -> st.SearchStrategy[str]:
    """Texts of rules."""
    return st.one_of(
        st.sampled_from([*RULES, *TABLE]).flatmap(cut_up),
        st.lists(st.sampled_from(WORDS), max_size=9).map("".join),
        st.text(max_size=60),
    )


COMMANDS = [
    ["graphs", "--json"],
    ["rules", "eprop", "--json"],
    ["explain", "small.toml", "--rule", "eprop", "--param", "h*", "--loss", "y=mse", "--decisions"],
    ["explain", "small.toml", "--equations", "--latex", "--json"],
    ["check", "small.toml", "--rule", "eprop", "--samples", "1", "--steps", "3", "--loss", "y=mse"],
    ["audit", "small.toml", "--rules", "rtrl,eprop", "--seeds", "1", "--steps", "3", "--batch", "1", "--block", "2"],
    ["render", "small.toml", "-o", "out.dot", "--param", "h->h", "--rule", "eprop", "--unrolled", "2"],
    [
        "train",
        "small.toml",
        "--data",
        "wave.csv",
        "--train-samples",
        "40",
        "--passes",
        "1",
        "--block",
        "8",
        "--out",
        "o",
    ],
    ["train", "small.toml", "--data", "wave.csv", "--train-samples", "40", "--learning-rate", "0.01", "--clip", "1"],
]
ARGUMENTS = [
    "",
    "-1",
    "0",
    "2",
    "nan",
    "inf",
    "1e400",
    str(10**12),
    "9" * 5000,
    "x",
    "y=mse",
    "=",
    "a=b=c",
    "--",
    "-",
    "--json",
]
ARGUMENTS += [
    "small.toml",
    "wave.csv",
    "none.toml",
    ".",
    "../x.toml",
    "é",
    "*",
    "[",
    "h->h",
    "rtrl;seed=1",
    "elman",
    "eprop,",
]
ARGUMENTS += ["--rule", "--loss", "--steps", "--out", "--max-memory", "1KiB", "--dtype", "float16", "--seed", *PAYLOADS]


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """Arguments of the command line."""
    arguments = list(draw(st.sampled_from(COMMANDS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(arguments)))
        put = draw(st.sampled_from(ARGUMENTS) | st.text(st.characters(exclude_characters="\0"), max_size=8))
        how = draw(st.sampled_from(["replace", "replace", "insert", "drop"]))
        arguments[at : at + (how != "insert")] = [] if how == "drop" else [put]
    return arguments
