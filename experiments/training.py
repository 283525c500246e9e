"""What experiments share: programs, learning step by step or sequence by sequence, and gradients compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad.errors import CompilerError, ForwardgradError
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.program import Program

Arrays = dict[str, Any]
Batch = tuple[Mapping[str, Any], Mapping[str, Any], Any]
"""Inputs, targets and mask of sequences, or `None` for a mask."""

KRONECKER = {"*bias": "uoro", "*": "kf-rtrl"}
"""Under `kf-rtrl` biases are learned by `uoro`: the layout is one of dense weights."""


@cache
def backend() -> str:
    """`c` where a compiler works, else `numpy`; they agree to rounding."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=1)
    graph.add_node("y", op="linear", size=1)
    graph.add_edge("x", "y", weight="dense")
    try:
        program = fg.compile(graph, {"y": "mse"}, backend="c")
        program.gradient(program.init(), {"x": np.ones((1, 1, 1))}, {"y": np.ones((1, 1, 1))})
    except (CompilerError, ForwardgradError):
        return "numpy"
    return "c"


def compiled(
    graph: nx.MultiDiGraph[str], loss: str, rule: Any, dtype: str = "float32", *, more: Mapping[str, str] | None = None
) -> Program:
    """The program of a graph under a rule, to learn by; of parameters without a kept path the gradient is zero.

    Args:
        graph, loss, rule, dtype: as for `forwardgrad.compile`; the loss is on `y`.
        more: losses of other nodes.
    """
    given = KRONECKER if rule == "kf-rtrl" else rule
    return fg.compile(graph, {"y": loss, **(more or {})}, given, dtype=dtype, backend=backend(), dead="ignore")


def measured(graph: nx.MultiDiGraph[str], loss: str, rule: Any) -> Program:
    """The same in double precision, for a gradient or two: a compilation by a C compiler would take longer."""
    given = KRONECKER if rule == "kf-rtrl" else rule
    return fg.compile(graph, {"y": loss}, given, backend="numpy", dead="ignore")


def stream(
    program: Program,
    params: Mapping[str, Any],
    optimizer: Optimizer,
    steps: Iterable[tuple[Any, Any, Any]],
) -> tuple[Arrays, list[float]]:
    """Learn online: an update after every step.

    Args:
        program, params, optimizer: what learns.
        steps: input, target and whether all samples start afresh, step by step.

    Returns:
        The parameters in the end, and the loss of each step before its update.
    """
    learner, losses = None, list[float]()
    for x, y, afresh in steps:
        if learner is None:
            learner = program.stream(dict(params), batch=len(x), optimizer=optimizer)
        elif afresh:
            learner.reset()
        losses.append(learner.step(x, y).loss)
    return (dict(params) if learner is None else dict(learner.params)), losses


def sequences(
    program: Program,
    params: Mapping[str, Any],
    optimizer: Optimizer,
    batches: Iterable[Batch],
    after: Callable[[int, Arrays], None] = lambda number, params: None,
) -> tuple[Arrays, list[float]]:
    """Learn sequence by sequence: an update after each, along the paths of the rule, each sequence one block.

    The gradient is that of the mean loss per answer. Layouts that lose something lose nothing in one block, so this is
    for path rules only.

    Args:
        program, params, optimizer: what learns.
        batches: fresh sequences.
        after: is given the number of updates so far and the parameters, before the first and after each.

    Returns:
        The parameters in the end, and the mean loss per answer of each batch before its update.
    """
    trained = (*program.rules, *program.plan.followers)
    params, losses = dict(params), list[float]()
    memory = optimizer.start({name: params[name] for name in trained})
    after(0, params)
    for inputs, targets, mask in batches:
        steps = len(next(iter(inputs.values())))
        found = program.gradient(params, inputs, targets, mask=mask, block=steps)
        answers = steps if mask is None else float(np.sum(mask) / np.shape(mask)[1])
        grads = {name: np.asarray(grad) / answers for name, grad in found.grads.items()}
        params, memory = optimizer.update(params, grads, memory)
        losses.append(found.loss / answers)
        after(len(losses), params)
    return params, losses


def gradient(program: Program, params: Mapping[str, Any], batch: Batch, *, block: int | None = None) -> Arrays:
    """The gradient of sequences, in one block unless another length is given.

    Of the parameters those are taken that the program has, and matrices of feedback that are missing are drawn.
    """
    inputs, targets, mask = batch
    steps = len(next(iter(inputs.values())))
    given = {name: params.get(name, array) for name, array in program.init(0).items()}
    return dict(program.gradient(given, inputs, targets, mask=mask, block=block or steps).grads)


def cosine(found: Mapping[str, Any], exact: Mapping[str, Any], names: Iterable[str] | None = None) -> float:
    """The cosine between two gradients, of these parameters or of all; what is not trained is zero."""
    wanted = list(exact) if names is None else list(names)
    a = np.concatenate([np.ravel(found.get(name, np.zeros_like(exact[name]))) for name in wanted]).astype(np.float64)
    b = np.concatenate([np.ravel(exact[name]) for name in wanted]).astype(np.float64)
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size else 0.0


def quietly(function: Callable[[], Any]) -> Any:
    """The value of a function, or `None` if numbers overflow in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return function()
        except fg.NonFiniteError:
            return None
