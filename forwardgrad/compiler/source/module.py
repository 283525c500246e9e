"""Which functions does the generated source of a program consist of? They stand in the order of a block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwardgrad.compiler.keys import value_key
from forwardgrad.compiler.plan import Plan
from forwardgrad.compiler.source.build import Build
from forwardgrad.compiler.source.credit import Sweep, Swept
from forwardgrad.compiler.source.forward import forward, slopes
from forwardgrad.compiler.source.influence import Influences
from forwardgrad.compiler.source.text import Series, broken, function, loaded, reading
from forwardgrad.ops import Array
from forwardgrad.structure import Structure

FEW = 4
"""Places up to which each has a function of its own, that can be read by itself."""


@dataclass(frozen=True)
class Jacobian:
    """The function that sweeps from some stored places.

    Args:
        name: of the function.
        out: what it leaves.
        late: whether it can be asked for an earlier step than the block's last.
        several: whether it must be told from which place.
    """

    name: str
    out: Swept
    late: bool
    several: bool


@dataclass(frozen=True)
class Source:
    """Generated source, and what it refers to.

    Args:
        text: the functions.
        constants: arrays by the names by which the text knows them.
        tables: tables of names, likewise.
        slopes: by node and port, the array over time of its derivative, where that is not one number.
        calls: by name, the node and port (none for the value) whose op is called because it is no formula.
        credit: what the sweep from the losses leaves.
        jacobians: by stored place, the function that sweeps from it.
        build: the names of everything.
    """

    text: str
    constants: Mapping[str, Array]
    tables: Mapping[str, Any]
    slopes: Mapping[tuple[str, str], Series]
    calls: Mapping[str, tuple[str, str]]
    credit: Swept
    jacobians: Mapping[int, Jacobian]
    build: Build


def generate(plan: Plan, dtype: Any) -> Source:
    """Write the source of a plan.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """
    build = Build(plan, dtype)
    lossless = [name for name in plan.entries if not plan.rules[name].lossy]
    lossy = [name for name in plan.entries if plan.rules[name].lossy]
    held = sorted({place for name in lossy for place in plan.entries[name]})
    text = forward(build)
    lines, found = slopes(build)
    tape = _tape(build)
    text += _slopes(build, lines, tape)
    tape |= {line.split(" = ")[0] for line in lines}
    sweep = Sweep(build, found, held=held, noisy=held)
    credit = _credit(build, sweep, tape, lossy=bool(held))
    jacobians, swept = _jacobians(build, found, tape)
    influences = Influences(build, lossless)
    text += [*credit, *swept]
    text += _gradients(build, influences, sweep.out, tape, lossy=bool(held))
    text += _advance(build, influences, jacobians, tape)
    series = {port: slope.series for port, slope in found.items() if slope.series is not None}
    whole = "\n".join([*_weights(build), *text])
    return Source(whole, build.constants, build.tables, series, build.calls, sweep.out, jacobians, build)


def returned(names: Sequence[str]) -> str:
    """The statement that returns arrays by their names."""
    return broken("return {", [f"{name!r}: {name}" for name in names], "}")


def _tape(build: Build) -> set[str]:
    """The names of the arrays of the forward pass."""
    names = {build.value(name).name for name in build.network.nodes}
    return names | {build.ports[port].name for port in build.needed} | {"steps", "batch"}


def _known(build: Build, tape: Collection[str]) -> set[str]:
    return {*tape, *(line.split(" = ")[0] for line in build.weights)}


def _weights(build: Build) -> list[str]:
    names = [line.split(" = ")[0] for line in build.weights]
    doc = "The weights of a block: parameters, and what is made of them."
    return function("weights", ["params"], doc, [*build.weights, returned(names)])


def _slopes(build: Build, lines: Sequence[str], tape: Collection[str]) -> list[str]:
    names = [line.split(" = ")[0] for line in lines]
    body = reading([*lines, returned(names)], tape)
    return function("slopes", ["tape"], "The derivatives of nodes by their ports, over the block.", body)


def _results(out: Swept, gates: Collection[tuple[int, str | None]]) -> list[str]:
    """The names of the arrays that a sweep hands on."""
    names = [out.ports[gate].name for gate in sorted(gates, key=str) if gate in out.ports]
    return list(dict.fromkeys([*names, *out.past.values(), *(name for name, _ in out.stacks.values())]))


def _credit(build: Build, sweep: Sweep, tape: Collection[str], lossy: bool) -> list[str]:
    body = sweep.written()
    body = reading([*body, returned(_results(sweep.out, sweep.injected))], _known(build, tape))
    doc = "The sweep from the losses: adjoints of ports inside the block, and of what was before it."
    arguments = ["tape", "losses", "signals"]
    return function("credit", [*arguments, "noise", "hold", "held"] if lossy else arguments, doc, body)


def _jacobians(build: Build, found: Any, tape: Collection[str]) -> tuple[dict[int, Jacobian], list[str]]:
    """The functions that sweep from stored places; places of equal words share one."""
    plan = build.plan
    groups: dict[Any, list[int]] = {}
    for target in plan.stored:
        words = tuple(sorted(plan.words[target].items()))
        groups.setdefault((words, plan.depth[target] > 1), []).append(target)
    jacobians: dict[int, Jacobian] = {}
    text: list[str] = []
    for targets in groups.values():
        sweep = Sweep(build, found, targets=targets)
        body = sweep.written()
        several = len(targets) > 1
        seeds: list[str] = []
        for target in targets:
            size, word = plan.size(target), plan.words[target][target]
            seed = build.names.of(f"seed_{build.place(target)}", "seed", target)
            ones = f"np.ones((batch, {1 if word is Structure.SCALAR else size}), dtype)"
            eye = f"np.broadcast_to(np.eye({size}, dtype=dtype), (batch, {size}, {size}))"
            made = eye if word is Structure.FULL else ones
            if several:
                none = "np.zeros((batch, 1, 1), dtype)" if word is Structure.FULL else "np.zeros((batch, 1), dtype)"
                none = none if word is not Structure.FULL else f"np.zeros((batch, size, {size}), dtype)"
                made = f"{made} if target == {build.place(target)!r} else {none}"
            seeds.append(f"{seed} = {made}")
        sizes = {build.place(target): plan.size(target) for target in targets}
        size = f"{sizes!r}[target]" if several else str(plan.size(targets[0]))
        body = [f"size = {size}", *seeds, *body] if "size" in loaded([*seeds, *body]) else [*seeds, *body]
        body = reading([*body, returned(_results(sweep.out, sweep.injected))], _known(build, tape))
        name = build.names.of(f"jacobian_{build.place(targets[0])}", "jacobian", *targets)
        where = " or ".join(build.place(target) for target in targets[:FEW])
        where += " or others" if len(targets) > FEW else ""
        doc = f"The sweep from {where} at the end of the block: its Jacobian by what was before, and by ports inside."
        arguments = ["tape", *(["end"] if sweep.late else []), *(["target"] if several else [])]
        text += function(name, arguments, doc, body)
        for target in targets:
            jacobians[target] = Jacobian(name, sweep.out, sweep.late, several)
    return jacobians, text


def _fetched(names: Sequence[str], body: Sequence[str]) -> list[str]:
    """The lines that fetch what a body reads from what a sweep found."""
    read = set(loaded(body)) if body else set[str]()
    return [f"{name} = found[{name!r}]" for name in names if name in read]


def _gradients(build: Build, influences: Influences, out: Swept, tape: Collection[str], lossy: bool) -> list[str]:
    body = influences.gradients(out)
    names = [*(series.name for series in out.ports.values()), *out.past.values()]
    names = list(dict.fromkeys([*names, *(name for name, _ in out.stacks.values())]))
    followers = [
        f"grads[{follower!r}] = grads[{name!r}].copy()"
        for follower, name in build.plan.followers.items()
        if name in influences.names
    ]
    body = ["grads = {}", *_fetched(names, body), *body, *followers, "return grads"]
    doc = (
        "The block's part of the gradient: inside the block, and through the influence on what was before it.\n\n"
        "Args:\n    tape: from `forward`, with `slopes`.\n    state: what came before the block.\n"
        "    found: from `credit`.\n    fresh: whether nothing came before, so that there is no influence."
    )
    return function("gradients", ["tape", "state", "found", "fresh"], doc, reading(body, tape))


def _alike(build: Build, influences: Influences, jacobians: Mapping[int, Jacobian]) -> list[list[int]]:
    """The stored places, those together whose influence is advanced alike: by one sweep, in the same layouts."""
    groups: dict[Any, list[int]] = {}
    for target, jacobian in jacobians.items():
        stored = influences.stored_on(target)
        layouts = tuple((name, build.plan.layouts[name, target]) for name in stored)
        if stored:
            groups.setdefault((jacobian.name, build.plan.depth[target], layouts), []).append(target)
    return [part for group in groups.values() for part in ([group] if len(group) > FEW else [[t] for t in group])]


def _advance_of(
    build: Build, influences: Influences, jacobian: Jacobian, targets: Sequence[int], tape: Collection[str]
) -> tuple[str, list[str]]:
    """The function that advances the influence on one place, or on each of several: its name and text."""
    target, out, shared = targets[0], jacobian.out, len(targets) > 1
    stored = influences.stored_on(target)
    body = influences.advance(target, out, jacobian.late, shared)
    names = list(dict.fromkeys([*(series.name for series in out.ports.values()), *out.past.values()]))
    given = ["tape", *(["end"] if jacobian.late else [])]
    given += (["target"] if shared else [repr(build.place(target))]) if jacobian.several else []
    body = [f"found = {jacobian.name}({', '.join(given)})", *_fetched(names, body), *body]
    keys = tuple(build.key(name, target) for name in stored)
    head = build.table("keys = ", keys, "").split("\n")
    if shared:
        head = ["own = KEYS[target]", "keys = tuple(own.values())"]
    head.append("made = {key: empty(state[key].shape, dtype) for key in keys}")
    if jacobian.late:
        body = [
            f"for lag in range(1, {build.plan.depth[target] + 1}):",
            "    if lag > steps:  # that step lies before the block",
            "        for key in keys:",
            "            made[key][lag - 1] = state[key][lag - 1 - steps]",
            "        continue",
            "    end = steps - lag + 1",
            *(f"    {line}" for line in body),
        ]
    body = [*head, *body, "return made"]
    where = " or ".join(build.place(place) for place in targets[:FEW])
    name = build.names.of(f"advance_{build.place(target)}", "advance", target)
    doc = f"The influence on {where}{' or others' if len(targets) > FEW else ''} after the block: J S + I."
    arguments = ["tape", "state", "fresh", *(["target"] if shared else [])]
    return name, function(name, arguments, doc, reading(body, tape))


def _advance(
    build: Build, influences: Influences, jacobians: Mapping[int, Jacobian], tape: Collection[str]
) -> list[str]:
    text: list[str] = []
    calls: list[str] = []
    for targets in _alike(build, influences, jacobians):
        name, function_ = _advance_of(build, influences, jacobians[targets[0]], targets, tape)
        text += function_
        if len(targets) == 1:
            calls.append(f"made |= {name}(tape, state, fresh)")
        else:
            places = tuple(build.place(target) for target in targets)
            calls += [*build.table("for target in ", places, ":").split("\n")]
            calls.append(f"    made |= {name}(tape, state, fresh, target)")
    if "KEYS" in loaded(text):
        build.tables["KEYS"] = {
            build.place(place): {name: build.key(name, place) for name in influences.stored_on(place)}
            for place in jacobians
        }
    values: list[str] = []
    for name in build.network.nodes:
        if build.history[name]:
            values.append(f"{value_key(name)!r}: {build.value(name).name}[steps:][::-1].copy(),")
    carried = ["noted = []", "with noting_underflow(noted):", *(f"    {line}" for line in calls)]
    carried += ["if noted:", "    flush_all(made)"]
    body = ["made = {}", *(carried if calls else []), "return {", *(f"    {line}" for line in values), "} | made"]
    doc = (
        "The state after the block, as far as the layouts are lossless.\n\n"
        "Args:\n    tape, state, fresh: as in `gradients`."
    )
    return [*text, *function("advance", ["tape", "state", "fresh"], doc, reading(body, tape))]
