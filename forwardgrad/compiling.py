"""What does `forwardgrad.compile` do? Read graph, losses and rules, make the plan, refuse what cannot learn."""

from __future__ import annotations

import copy
import copyreg
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import networkx as nx
import numpy as np

from forwardgrad.backends import BACKENDS, Devices
from forwardgrad.compiler import Plan, make_plan, merged_layers
from forwardgrad.errors import (
    DataError,
    DeadParameterWarning,
    ForwardgradError,
    GraphError,
    MergedLayersWarning,
    RuleError,
    UnverifiedWarning,
    did_you_mean,
)
from forwardgrad.graph import Network, validate
from forwardgrad.ops import losses as loss_table
from forwardgrad.ops.losses import Loss
from forwardgrad.program import Program
from forwardgrad.program.fingerprints import changed, fingerprints
from forwardgrad.rules.paths import PathRule
from forwardgrad.rules.table import Rule
from forwardgrad.rules.table import rule as read_rule
from forwardgrad.support.defaults import BACKEND, DTYPE, RULE


def compile(
    graph: nx.MultiDiGraph[str],
    loss: Mapping[str, str | Loss] | None = None,
    rule: str | Rule | PathRule | Mapping[str, Any] = RULE,
    *,
    dtype: Any = DTYPE,
    backend: str = BACKEND,
    devices: int | Mapping[str, int] | Devices | None = None,
    traces: str | None = None,
    dead: Literal["error", "warn", "ignore"] = "error",
    by_inputs: bool = False,
    per_sample: bool = False,
    verify: bool = False,
) -> Program:
    """Compile a declared graph to an online learning algorithm.

    Args:
        graph: a `networkx.MultiDiGraph`; it is not changed.
        loss: the loss of each output node, by name or as a `Loss`; by default the one its file names.
        rule: a rule as text (`"eprop"`, `"eprop-deep & cut(['h->y'])"`), a path rule, or a mapping from patterns of
            parameter names to rules: the first pattern that fits is used.
        dtype: `float64` or `float32`.
        backend: `numpy` runs printed NumPy (`Program.source`), `jax` the same program under JAX, on any of its
            devices (extra `jax`), `c` the same as C, for which the machine needs a C compiler; `interpreter` defines
            what these must compute.
        devices: over how many devices the backend `jax` splits the batch; or, as `{"batch": 2, "influence": 4}`, the
            batch and the influence of each parameter. Gradients are those of one device, which is the default.
        traces: `bfloat16` has the backend `jax` keep influence between blocks in two bytes per number, and compute in
            `dtype`; docs/accelerators.md has the error. By default it is kept in `dtype`.
        dead: what a trainable parameter without a kept path to a loss is: an `error`, worth a warning, or
            ignored; its gradient is zero then. With `ignore`, no `MergedLayersWarning` is given either.
        by_inputs: whether a step also gives the gradient by its inputs (`Step.by_inputs`), along the paths of the rule
            inside its block: what layers below need. Of several rules, an input has that of a parameter of its name.
        per_sample: whether gradients keep the axis of the batch: `(batch, *shape)`, of each sample what it would have
            alone. Their mean over the batch is the gradient that there is without.
        verify: compare what was derived with the oracle, on nodes of two and three units and random numbers. It takes
            the same time however many units nodes have: under a second for a few layers, and more for each further one.
            An `UnverifiedWarning` names what could not be compared.

    Returns:
        The program.

    Raises:
        GraphError: if the graph or a loss node is malformed.
        DataError: if another argument is none of these, or there are fewer devices.
        RuleError: if a rule is unknown or cannot serve this graph.
        MissingExtraError: if the machine lacks what a backend needs.
        CompilerError: if the machine's C compiler does not work.
        CheckError: if `verify` finds a gradient that differs from the oracle's.

    Warns:
        MergedLayersWarning: if a delayed edge back from a later layer makes one recurrent layer of two, and a rule
            stores less because of it. The edge is named; the role `topdown` keeps the layers apart.
    """
    network = validate(graph)
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise DataError(f"compile: dtype must be float64 or float32, got {dtype!r}.") from None
    if dtype.name not in ("float64", "float32"):
        raise DataError(f"compile: dtype must be float64 or float32, got {dtype}.")
    if backend not in BACKENDS:
        raise DataError(f"compile: unknown backend {backend!r}.", did_you_mean(backend, BACKENDS))
    grid = None if devices is None else Devices.read(devices)
    grid = grid if traces is None else (grid or Devices()).keeping(traces)
    if dead not in ("error", "warn", "ignore"):
        raise DataError(f"compile: dead must be 'error', 'warn' or 'ignore', got {dead!r}.")
    losses = _read_losses(network, graph.graph.get("loss") if loss is None else loss)
    asked = network.inputs if by_inputs else ()
    assigned = _assign(tuple(dict.fromkeys((*network.trainable, *asked))), rule)
    rules = {name: assigned[name] for name in network.trainable}
    probed = {name: replace(assigned[name], layout=Rule.layout) for name in asked}
    plan = make_plan(network, tuple(losses), rules, probed, bool(per_sample))
    if plan.dead and dead != "ignore":
        _report_dead(plan, rules, dead)
    if dead != "ignore":
        _report_merged(plan)
    program = Program(nx.freeze(copy.deepcopy(graph)), plan, losses, rules, dtype, backend, grid)
    if verify:
        _verify(program)
    return program


def _verify(program: Program) -> None:
    from forwardgrad.verification import verify  # with the oracle, which few programs need

    for left_out in verify(program).unverified:
        warnings.warn(left_out, UnverifiedWarning, stacklevel=3)


def _read_losses(network: Network, given: Any) -> dict[str, Loss]:
    if not isinstance(given, Mapping) or not given:
        raise GraphError("no loss is given.", "Say which node has which: compile(graph, loss={'y': 'mse'}).")
    losses: dict[str, Loss] = {}
    for name, loss in cast("Mapping[Any, Any]", given).items():
        if name not in network.nodes:
            raise GraphError(f"loss on {name!r}: the graph has no such node.", did_you_mean(name, network.nodes))
        if name in network.inputs:
            raise GraphError(f"loss on {name!r}: it is an input, on which no parameter has influence.")
        losses[name] = loss_table.get(loss)
    return losses


def _assign(names: Sequence[str], given: Any) -> dict[str, Rule]:
    """The rule of each of these parameters, and inputs if their gradient is asked for."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, read_rule(given))
    patterns = {pattern: read_rule(rule) for pattern, rule in cast("Mapping[Any, Any]", given).items()}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise RuleError(f"rule for {pattern!r}: a pattern of parameter names is a string, such as 'l1.*'.")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RuleError(f"rule for {pattern!r}: fits no trainable parameter.", did_you_mean(pattern, names))
    rules: dict[str, Rule] = {}
    for name in names:
        fitting = [rule for pattern, rule in patterns.items() if fnmatchcase(name, pattern)]
        if not fitting:
            raise RuleError(f"parameter {name!r}: no pattern of the rules fits it.", "End the mapping with '*'.")
        rules[name] = fitting[0]
    return rules


def _report_dead(plan: Plan, rules: Mapping[str, Rule], dead: str) -> None:
    name = plan.dead[0]
    others = f" (and {len(plan.dead) - 1} more)" if len(plan.dead) > 1 else ""
    at = ", ".join(plan.dropped[name])
    why = f"Credit is cut at: {at}." if at else "There no edge leads on to a loss."
    text = f"parameter {name!r}{others}: rule '{rules[name]}' keeps no path from it to a loss."
    hint = f"{why} Freeze it with trainable=False, or choose another rule."
    if dead == "error":
        raise RuleError(text, hint)
    warnings.warn(f"{text} {hint}", DeadParameterWarning, stacklevel=3)


def _report_merged(plan: Plan) -> None:
    merged = merged_layers(plan)
    if merged is None:
        return
    first, *more = merged.edges
    parameter, node = merged.unstored[0]
    others = f" (and {len(more)} more)" if more else ""
    warnings.warn(
        f"edge {first!r}{others}: this delayed edge leads back from a later layer, and makes one recurrent "
        f"layer of both. So rule '{plan.rules[parameter]}' does not store the influence of {parameter!r} on {node!r}. "
        "Give the edge role='topdown' to keep the layers apart, or give both ends the same `layer` if they are one.",
        MergedLayersWarning,
        stacklevel=3,
    )


def recompiled(
    graph: nx.MultiDiGraph[str],
    losses: Mapping[str, str | Loss],
    rules: Mapping[str, Any],
    dtype: str,
    backend: str,
    by_inputs: bool = False,
    devices: Devices | None = None,
    per_sample: bool = False,
) -> Program:
    """The program of a graph, and of losses, and of the rule of each parameter (and input) by its name."""
    exactly = {"".join(f"[{c}]" if c in "*?[" else c for c in name): rule for name, rule in rules.items()}
    return compile(
        graph,
        losses,
        exactly,
        dtype=dtype,
        backend=backend,
        devices=devices,
        dead="ignore",
        by_inputs=by_inputs,
        per_sample=per_sample,
    )


def _pickled(program: Program) -> tuple[Any, ...]:
    """What a pickle holds of a program: what was declared, from which it is compiled again."""
    for node, loss in program.losses.items():
        if loss.name not in loss_table.names() or loss_table.get(loss.name) != loss:
            raise DataError(
                f"pickle: the loss {loss.name!r} on {node!r} is not registered, and losses are pickled by name.",
                f"Register it: register_loss({loss.name!r}, value, gradient), here and where the program is loaded.",
            )
    losses = {node: loss.name for node, loss in program.losses.items()}
    rules, probed = {**program.plan.probed, **program.chosen}, bool(program.plan.probed)
    declared = (program.graph, losses, rules, program.dtype.name, program.backend, probed, program.devices)
    return _unpickled, (*declared, program.plan.per_sample, fingerprints(program))


def _unpickled(*declared: Any) -> Program:
    *arguments, functions = declared
    try:
        program = recompiled(*arguments)
    except ForwardgradError as error:
        raise DataError(
            f"a pickled program cannot be compiled: {error}",
            "Where it uses an op, a loss or a layout of your own, register that before loading.",
        ) from error
    for what in changed(functions, program):
        raise DataError(
            f"a pickled program cannot be loaded: {what} is another function than the one that it was pickled with.",
            "Register the same function before loading, or compile the program again.",
        )
    return program


copyreg.pickle(Program, _pickled)
