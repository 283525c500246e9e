"""How is a learner written to a file and read back? One `.npz`: arrays, and a JSON text that says what each of them is.

Nothing in the file is executed. It carries a digest of its own content, and the program it belongs to as text.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.backends import Devices
from forwardgrad.compiling import recompiled
from forwardgrad.errors import DataError, FileError, ForwardgradError
from forwardgrad.graph import files
from forwardgrad.graph.schema import is_drawing
from forwardgrad.learning import optimizers
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array, losses
from forwardgrad.program import Program
from forwardgrad.program.fingerprints import changed, fingerprints
from forwardgrad.rules import table as rules
from forwardgrad.support import archive
from forwardgrad.support.atomic import write_bytes
from forwardgrad.support.attributes import is_whole
from forwardgrad.support.packing import packed

FORMAT = 3
"""Version of the layout of the file."""

READ = (2, FORMAT)
"""The versions that are read. Format 2 does not know episodes, which matter to random layouts alone."""

META = ("program", "optimizer", "clip", "on_nonfinite", "seen", "episodes", "notes")
"""What a checkpoint says beside its arrays."""

GROUPS = ("params", "optimizer_state", "state")
"""The groups of arrays of a learner."""

KEPT = "kept."
"""How the names of other groups begin."""

TEXTS = {"graph": str, "losses": dict, "rules": dict, "dtype": str}
"""What is said of a program, and of which type each is. Two programs of which it is the same learn the same."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Args:
        program: texts that say which program it belongs to, as `describe` gives them.
        optimizer: name and settings of the optimiser.
        clip: largest norm of a block's gradients, or `None`.
        on_nonfinite: what to do with a block in which something is not finite.
        seen: steps learned from.
        episodes: how often all samples have started afresh.
        params, optimizer_state: arrays by name.
        state: activations and influence, or `None` before the first block.
        notes: what the writer adds, as plain data. A learner is read without them.
        kept: groups of arrays that the writer adds, by name. A learner is read without them.
    """

    program: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    clip: float | None
    on_nonfinite: str
    seen: int
    episodes: int
    params: Mapping[str, Array]
    optimizer_state: Mapping[str, Array]
    state: Mapping[str, Array] | None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kept: Mapping[str, Mapping[str, Array]] = field(default_factory=dict[str, Mapping[str, Array]])


def describe(program: Program) -> dict[str, Any]:
    """What a program is, as texts, and a digest of them.

    `complete` says whether it can be compiled again from the texts. `backend` is what ran it: going on bit for bit
    needs the same one, and going on to learn needs none in particular.
    """
    chosen = program.chosen
    complete = all(_has_text(rule) for rule in chosen.values()) and all(
        loss.name in losses.names() and losses.get(loss.name) == loss for loss in program.losses.values()
    )
    texts: dict[str, Any] = {
        "graph": files.dumps(_bare(program.graph)),
        "losses": {node: loss.name for node, loss in program.losses.items()},
        "rules": {name: rule.text for name, rule in chosen.items()},
        "dtype": program.dtype.name,
    }
    return {
        **texts,
        "sha256": _identity(texts),
        "functions": fingerprints(program),
        "backend": program.backend,
        "traces": "" if program.devices is None else program.devices.traces,
        "complete": complete,
    }


def _identity(described: Mapping[str, Any]) -> str:
    """The digest of graph, losses, rules and dtype."""
    return hashlib.sha256(json.dumps([described[what] for what in TEXTS]).encode()).hexdigest()


def _bare(graph: nx.MultiDiGraph[str]) -> nx.MultiDiGraph[str]:
    """The graph without what a program does not depend on: titles and attributes for drawing, of whatever type."""
    bare: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, attributes in graph.nodes(data=True):
        bare.add_node(name)
        bare.nodes[name].update({key: value for key, value in attributes.items() if not is_drawing(key, value)})
    multigraph = cast("nx.MultiDiGraph[str]", nx.MultiDiGraph(graph))  # from a DiGraph, perhaps
    for u, v, key, attributes in multigraph.edges(keys=True, data=True):
        bare.add_edge(u, v, key)
        bare.edges[u, v, key].update({key: value for key, value in attributes.items() if not is_drawing(key, value)})
    return bare


def _has_text(rule: rules.Rule) -> bool:
    try:
        return rules.rule(rule.text) == rule
    except ForwardgradError:
        return False


def match(
    path: str | os.PathLike[str], described: Mapping[str, Any], program: Program | None, devices: Any = None
) -> Program:
    """The program that a checkpoint belongs to: compiled from its texts, or the one given if it is that one.

    Args:
        path: of the checkpoint.
        described: its texts.
        program: the program, if one is given.
        devices: what the program is to run on if none is given, as for `compile`.

    Raises:
        FileError: if the program given is another one, or none is given and the texts do not suffice.
        DataError: if the devices are malformed, or a program has devices of its own.
    """
    place = f"checkpoint {str(path)!r}"
    grid = None if devices is None else Devices.read(devices)
    if program is not None and grid is not None:
        raise DataError("load: the program that is given has devices.", "Give devices= to compile, or no program.")
    if program is not None:
        own = describe(program)
        differing = [what for what in TEXTS if own[what] != described[what]]
        if differing:
            raise FileError(
                f"{place}: belongs to another program; what differs: {', '.join(differing)}.",
                f"sha256 of graph, losses, rules and dtype: {described['sha256'][:16]} in the file, "
                f"{own['sha256'][:16]} given.",
                *(
                    f"{what}: {described[what]} in the file, {own[what]} given."
                    for what in differing
                    if what != "graph"
                ),
            )
        return _same_functions(place, described, program)
    if not described["complete"]:
        raise FileError(
            f"{place}: its program uses a path rule or a loss that has no text.",
            "Compile the program and give it: Learner.load(path, program).",
        )
    try:
        program = recompiled(
            files.loads(described["graph"]),
            described["losses"],
            described["rules"],
            described["dtype"],
            described["backend"] if grid is None else "jax",
            devices=(grid or Devices()).keeping(traces) if (traces := described.get("traces")) else grid,
        )
    except (ForwardgradError, TypeError, ValueError, RecursionError) as error:
        raise FileError(
            f"{place}: its program cannot be compiled: {error}",
            "Where it uses an op, a loss or a layout of your own, register that first.",
        ) from error
    return _same_functions(place, described, program)


def _same_functions(place: str, described: Mapping[str, Any], program: Program) -> Program:
    """The program, if the functions of users in it are those that a checkpoint was written with."""
    differing = changed(described["functions"], program) if "functions" in described else []  # older files have none
    if differing:
        raise FileError(
            f"{place}: belongs to another program; what has the same name and is another function here: "
            f"{', '.join(differing)}.",
            "Register the functions that it was written with.",
        )
    return program


def optimizer(path: str | os.PathLike[str], config: Mapping[str, Any], given: Optimizer | None) -> Optimizer:
    """The optimiser of a checkpoint, or the one given if it is that one.

    Raises:
        FileError: if the one given is another, or none is given and it is unknown here.
    """
    place = f"checkpoint {str(path)!r}"
    if given is not None:
        own = json.loads(_json(given.config()))
        if own != config:
            raise FileError(f"{place}: belongs to another optimizer: {dict(config)} in the file, {own} given.")
        return given
    try:
        return optimizers.get(**config)
    except (ForwardgradError, TypeError) as error:
        raise FileError(
            f"{place}: {error}", "An optimizer of your own must be given: Learner.load(path, optimizer=...)."
        ) from error


def check(
    path: str | os.PathLike[str],
    what: str,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    *,
    more: bool = False,
) -> None:
    """Raise `FileError` unless all expected arrays are found, each of the shape and type expected, and no more."""
    for name in found:
        if name not in expected and not more:
            raise FileError(f"checkpoint {str(path)!r}: {what}: array {name!r} is not known here.")
    for name, array in expected.items():
        wanted = f"{array.dtype} of shape {array.shape}"
        got = f"{found[name].dtype} of shape {found[name].shape}" if name in found else "none"
        if wanted != got:
            raise FileError(f"checkpoint {str(path)!r}: {what}: array {name!r} should be {wanted}, got {got}.")


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        FileError: if it cannot be written, or holds what no file can.
    """
    _check_path(path)
    arrays: dict[str, Any] = {}
    index: dict[str, dict[str, str] | None] = {}
    groups: dict[str, Mapping[str, Array] | None] = {group: getattr(checkpoint, group) for group in GROUPS}
    for group, members in {**groups, **{KEPT + name: each for name, each in checkpoint.kept.items()}}.items():
        keys = None if members is None else {name: f"a{len(arrays) + n}" for n, name in enumerate(members)}
        index[group] = keys
        for name, array in (members or {}).items():
            arrays[cast("dict[str, str]", keys)[name]] = _plain(name, array)
    meta = {what: getattr(checkpoint, what) for what in META}
    content = _json({"meta": meta, "index": index})
    text = _json({"forwardgrad": FORMAT, "content": content, "digest": _digest(content, arrays)})
    write_bytes(path, packed({"meta": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}))


def _plain(name: str, array: Any) -> Array:
    found = np.asarray(array)
    if found.dtype.hasobject:
        raise FileError(f"cannot write a checkpoint: {name!r} is an array of Python objects.")
    return found


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise FileError(
            f"cannot write a checkpoint: the optimizer's config(), or a note, holds more than JSON can: {error}."
        ) from error


def _digest(content: str, arrays: Mapping[str, Array]) -> str:
    found = hashlib.sha256(content.encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _check_path(path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        raise FileError(f"a checkpoint is saved and loaded by path, got {type(path).__name__}.")


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint: what `write` was given.

    Raises:
        FileError: if the file cannot be read, is no checkpoint, is of another format, or is damaged.
    """
    place = f"checkpoint {str(path)!r}"
    _check_path(path)
    try:
        arrays = archive.arrays(archive.read_archive(Path(path)))
        document = json.loads(arrays.pop("meta").tobytes().decode())
        version = document["forwardgrad"]
        if version not in READ:
            known = " and ".join(map(str, READ))
            raise FileError(f"{place}: is of format {version!r}, and this version reads formats {known}.")
        if document["digest"] != _digest(document["content"], arrays):
            raise FileError(f"{place}: is damaged: its content is not what it was written with.")
        return _understand(json.loads(document["content"]), arrays)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{place}: {error.strerror or error}.") from error
    except Exception as error:  # damaged or foreign files make their readers raise anything
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise FileError(f"{place}: is no checkpoint, or is damaged: {reason}.") from error


def _understand(content: Any, arrays: Mapping[str, Array]) -> Checkpoint:
    """The checkpoint that a text and arrays make up; raises `KeyError` or `TypeError` where they do not."""
    meta, index = content["meta"], content["index"]
    program, clip, seen, episodes = meta["program"], meta["clip"], meta["seen"], meta.get("episodes", 0)
    for what, kind in {**TEXTS, "sha256": str, "backend": str, "complete": bool}.items():
        if not isinstance(program[what], kind):
            raise TypeError(f"{what!r} is {program[what]!r}")
    if program["sha256"] != _identity(program):
        raise TypeError("its digest of the program is another one")
    functions: Any = program.get("functions", {})
    if not isinstance(functions, dict) or not all(
        isinstance(text, str) and " " in text for text in cast("dict[str, Any]", functions).values()
    ):
        raise TypeError(f"'functions' is {functions!r}")
    texts = (*program["losses"].values(), *program["rules"].values())
    if not isinstance(meta["optimizer"], dict) or not all(isinstance(text, str) for text in texts):
        raise TypeError("a name is not a text")
    if not (clip is None or isinstance(clip, float)):
        raise TypeError(f"'clip' is {clip!r}")
    for what, counted in (("seen", seen), ("episodes", episodes)):
        if not is_whole(counted) or counted < 0:
            raise TypeError(f"{what!r} is {counted!r}")
    notes = meta.get("notes", {})  # an older file has none
    if not isinstance(notes, dict):
        raise TypeError(f"'notes' is {notes!r}")
    groups = {
        group: None if names is None else {name: arrays[key] for name, key in names.items()}
        for group, names in index.items()
    }
    if groups["params"] is None or groups["optimizer_state"] is None:
        raise TypeError("it holds no parameters")
    return Checkpoint(
        program,
        meta["optimizer"],
        clip,
        meta["on_nonfinite"],
        seen,
        episodes,
        groups["params"],
        groups["optimizer_state"],
        groups["state"],
        cast("dict[str, Any]", notes),
        {name.removeprefix(KEPT): each for name, each in groups.items() if name.startswith(KEPT) and each is not None},
    )
