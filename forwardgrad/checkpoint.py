"""How is a learner written to a file and read back? One `.npz`: arrays, and a JSON text that says what each of them is.

Nothing in the file is executed. It carries a digest of its own content, and the program it belongs to as text.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from forwardgrad import losses, optimizers, rules
from forwardgrad.atomic import write_bytes
from forwardgrad.compiling import compile
from forwardgrad.errors import FileError, ForwardgradError
from forwardgrad.graph import files
from forwardgrad.ops import Array
from forwardgrad.optimizers import Optimizer
from forwardgrad.program import Program

FORMAT = 1
"""Version of the layout of the file."""

Groups = dict[str, dict[str, Array] | None]


def describe(program: Program) -> dict[str, Any]:
    """What a program is, as texts. `complete` says whether it can be compiled again from them."""
    chosen = {name: derived.rule for name, derived in program.rules.items()}
    named = {node: loss.name for node, loss in program.losses.items()}
    complete = all(_has_text(rule) for rule in chosen.values()) and all(
        loss.name in losses.names() and losses.get(loss.name) == loss for loss in program.losses.values()
    )
    return {
        "graph": files.dumps(program.graph),
        "losses": named,
        "rules": {name: str(rule.paths) for name, rule in chosen.items()},
        "dtype": program.dtype.name,
        "complete": complete,
    }


def _has_text(rule: rules.Rule) -> bool:
    try:
        return rules.rule(str(rule.paths)) == rule
    except ForwardgradError:
        return False


def match(path: str | os.PathLike[str], described: Mapping[str, Any], program: Program | None) -> Program:
    """The program that a checkpoint belongs to: compiled from its texts, or the one given if it is that one.

    Raises:
        FileError: if the program given is another one, or none is given and the texts do not suffice.
    """
    place = f"checkpoint {str(path)!r}"
    if program is None:
        if not described["complete"]:
            raise FileError(
                f"{place}: its program uses a path rule or a loss that has no text.",
                "Compile the program and give it: Learner.load(path, program).",
            )
        graph = files.loads(described["graph"])
        return compile(
            graph, described["losses"], _exactly(described["rules"]), dtype=described["dtype"], dead="ignore"
        )
    own = describe(program)
    for what in ("graph", "losses", "rules", "dtype"):
        if own[what] != described[what]:
            raise FileError(f"{place}: belongs to another program; the {what} differ.")
    return program


def _exactly(chosen: Mapping[str, str]) -> Mapping[str, str]:
    """Rules by parameter name, as patterns that fit that name only."""
    return {"".join(f"[{c}]" if c in "*?[" else c for c in name): rule for name, rule in chosen.items()}


def write(
    path: str | os.PathLike[str], meta: Mapping[str, Any], groups: Mapping[str, Mapping[str, Array] | None]
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: where to.
        meta: what JSON can hold.
        groups: named groups of named arrays; `None` is kept apart from an empty group.

    Raises:
        FileError: if it cannot be written.
    """
    arrays: dict[str, Any] = {}
    index: dict[str, dict[str, str] | None] = {}
    for group, members in groups.items():
        index[group] = None if members is None else {}
        for name, array in (members or {}).items():
            key = f"a{len(arrays)}"
            arrays[key] = np.asarray(array)
            cast("dict[str, str]", index[group])[name] = key
    text = json.dumps({"forwardgrad": FORMAT, "meta": meta, "index": index, "digest": _digest(arrays)})
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    write_bytes(path, buffer.getvalue())


def _digest(arrays: Mapping[str, Array]) -> str:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Groups]:
    """Read a checkpoint: what `write` was given.

    Raises:
        FileError: if the file cannot be read, is no checkpoint, is of a newer format, or is damaged.
    """
    place = f"checkpoint {str(path)!r}"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{place}: {error.strerror or error}.") from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
        document = json.loads(arrays.pop("meta").tobytes().decode())
        version, digest = document["forwardgrad"], document["digest"]
        meta, index = document["meta"], document["index"]
    except Exception as error:  # damaged or foreign files make their readers raise anything
        raise FileError(f"{place}: is no checkpoint, or is damaged: {error}.") from error
    if version != FORMAT:
        raise FileError(f"{place}: is of format {version}, and this version reads format {FORMAT}.")
    if digest != _digest(arrays):
        raise FileError(f"{place}: is damaged: its arrays are not those it was written with.")
    groups: Groups = {
        group: None if members is None else {name: arrays[key] for name, key in members.items()}
        for group, members in index.items()
    }
    return meta, groups


def _array(data: bytes) -> Array:
    return cast(Array, np.load(io.BytesIO(data), allow_pickle=False))


def optimizer(path: str | os.PathLike[str], config: Mapping[str, Any]) -> Optimizer:
    """The optimiser of a checkpoint; raises `FileError` if it is unknown here."""
    try:
        return optimizers.get(**config)
    except ForwardgradError as error:
        raise FileError(f"checkpoint {str(path)!r}: {error}") from error
