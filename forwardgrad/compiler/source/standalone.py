"""How does generated source become a module that runs on its own? With constants, helpers, ops and losses put to it."""

from __future__ import annotations

import base64
import inspect
import zlib
from collections.abc import Mapping

import numpy as np

from forwardgrad.compiler.keys import influence_key, value_key
from forwardgrad.compiler.layouts import stored_shape
from forwardgrad.compiler.source import support
from forwardgrad.compiler.source.build import HELPERS, Build
from forwardgrad.compiler.source.functions import Functions
from forwardgrad.compiler.source.module import Source
from forwardgrad.compiler.source.text import loaded, shown
from forwardgrad.ops import Array
from forwardgrad.ops.formula import Printable
from forwardgrad.ops.losses import Loss
from forwardgrad.structure import Structure

SHORT = 64
"""Entries up to which an array is printed as numbers."""

_EVALUATE = '''
def evaluate(value, gradient, y, target, mask):
    """The loss of a block, and its derivative by the output: the sum over time of the weighed mean over the batch."""
    target = np.asarray(target, dtype if target.dtype.kind == "f" else None)
    rows, targets = y.reshape(-1, y.shape[-1]), target.reshape(-1, *target.shape[2:])
    weight = np.full(y.shape[:2], 1 / y.shape[1], dtype)
    if mask is not None:
        weight *= mask if mask.ndim == 2 else mask[:, None]
    loss = float((np.asarray(value(rows.copy(), targets.copy())) * weight.ravel()).sum())
    slope = np.asarray(gradient(rows.copy(), targets.copy()), dtype).reshape(y.shape)
    return loss, slope * weight[..., None]
'''

_STEP = '''
def step(params, state, inputs, targets, mask=None, fresh=False, last=False{signals}):
    """Run a block of any number of steps with fixed weights.

    Args:
        params: arrays by parameter.
        state: from `start`, or from the block before.
        inputs: `(steps, batch, size)` by input node.
        targets: by output node.
        mask: `(steps,)` or `(steps, batch)`, or none.
        fresh: whether the state holds no influence yet.
        last: whether the state after the block is not needed.

    Returns:
        The state after the block (none after the last), the loss, and the gradient by parameter.
    """
    steps, batch = next(iter({shape}.values())).shape[:2]
    params = {{name: np.asarray(array, dtype) for name, array in params.items()}}
    inputs = {{name: np.asarray(array, dtype) for name, array in inputs.items()}}
    tape = forward(params, state, inputs, steps, batch)
    tape |= slopes(tape)
    total, losses = 0.0, {{}}
    for name, (value, slope) in LOSSES.items():
        loss, losses[name] = evaluate(value, slope, tape[OUTPUTS[name]][-steps:], targets[name], mask)
        total += loss
    grads = gradients(tape, state, credit(tape, losses, {given}), fresh)
    return None if last else advance(tape, state, fresh), total, grads


def gradient(params, inputs, targets, block, mask=None{signals}):
    """The gradient over a sequence, weights frozen, in blocks: the loss, and arrays by parameter."""
    given = {shape}
    steps, batch = next(iter(given.values())).shape[:2]
    state, total, grads = start(batch), 0.0, {{}}
    for first in range(0, steps, block):
        now = slice(first, first + block)
        state, loss, found = step(
            params,
            state,
            {{name: array[now] for name, array in inputs.items()}},
            {{name: array[now] for name, array in targets.items()}},
            None if mask is None else mask[now],
            fresh=first == 0,
            last=first + block >= steps,{cut}
        )
        total += loss
        grads = {{name: found[name] + grads.get(name, 0) for name in found}}
    return total, grads
'''


def standalone(source: Source, losses: Mapping[str, Loss], title: str) -> str:
    """The text of a module that needs NumPy and nothing else.

    Args:
        source: the generated functions.
        losses: by output node.
        title: what is said of the program, lines.
    """
    build = source.build
    signals = any(place.signal == "given" for place in build.plan.product.places)
    shape = "inputs" if build.network.inputs else "targets"
    words: dict[str, str] = {
        "shape": shape,
        "signals": ", signals=None" if signals else "",
        "given": "signals" if signals else "{}",
        "cut": "\n            signals={name: array[now] for name, array in signals.items()}," if signals else "",
    }
    functions = Functions(build.names)
    ops = [_op(source, name, *what, functions) for name, what in source.calls.items()]
    table = _losses(build, losses, functions)
    body = [source.text, _start(source), _EVALUATE, table, _STEP.format(**words)]
    used = _used("\n".join([*ops, *body]))
    head = [
        f'"""{_comment(title)}\n"""',
        "from __future__ import annotations\n",
        *(f"import {name}" for name in ("base64", "zlib") if any(_packed(a) for a in source.constants.values())),
        "import numpy as np\n",
        f"dtype = np.{build.dtype.name}",
        "Array = np.ndarray",
        *([f"CACHED = {support.CACHED}"] if {"add_scaled", "flush_all"} & used else []),
        *([f"ROWS = {support.ROWS}"] if "by_columns" in used else []),
        *(["matmul = np.matmul"] if "matmul" in used else []),
        "",
        *_constants(source.constants),
        *(f"{name} = {table!r}" for name, table in source.tables.items()),
    ]
    helpers = [inspect.getsource(getattr(support, name)) for name in HELPERS if name in used - {"matmul"}]
    parts = ["\n".join(head), *helpers, *functions.texts.values(), *ops, *body]
    return "\n\n".join(part.strip("\n") + "\n" for part in parts if part.strip())


def _comment(text: str) -> str:
    return text.replace("\\", "/").replace('"""', "'''")


def _used(text: str) -> set[str]:
    """The helpers that a text calls, and those that these call."""
    found = set(loaded(text.split("\n"))) & set(HELPERS)
    while True:
        more = {
            name for helper in found for name in loaded(inspect.getsource(getattr(support, helper)).split("\n"))
        } & set(HELPERS)
        if more <= found:
            return found
        found |= more


def _packed(array: Array) -> bool:
    return array.size > SHORT


def _constants(constants: Mapping[str, Array]) -> list[str]:
    lines: list[str] = []
    if any(_packed(array) for array in constants.values()):
        lines.append(
            "\ndef unpacked(text, kind, shape):\n"
            '    """An array from its compressed bytes."""\n'
            "    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).reshape(shape)\n\n"
        )
    for name, array in constants.items():
        kind = array.dtype.str
        if _packed(array):
            data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
            lines.append(f"{name} = unpacked({data!r}, {kind!r}, {array.shape})")
        else:
            lines.append(f"{name} = np.array({array.tolist()!r}, {kind!r}).reshape({array.shape})")
    return lines


def _op(source: Source, name: str, node_name: str, port_name: str, functions: Functions) -> str:
    """A function that calls an op by rows."""
    build = source.build
    node = build.network.nodes[node_name]
    port = node.op.port(port_name, node.ports) if port_name else None
    declared = node.op.value if port is None else port.derivative
    what = f"the value of op {node.op.name!r}"
    what = what if port is None else f"the derivative of op {node.op.name!r} by port {port_name!r}"
    count = len(node.ports) + (port is not None)
    call = build.expression(node, declared, [f"rows[{place}]" for place in range(count)])
    if call is None:
        known = functions.name(declared)
        options = ", ".join(f"{key!r}: {build.option(node, key, value)}" for key, value in node.options.items())
        call = None if known is None else f"{known}(*rows{f', **{{{options}}}' if options else ''})"
    lines = [f"def {name}(*ports):", f'    """{shown(what).capitalize()}, by rows."""']
    if call is None:
        lines.append("    # The function you registered has no text of its own. Put it here, for rows (rows, size).")
        lines.append(f"    raise NotImplementedError({what!r})")
        return "\n".join(lines)
    word = Structure.DIAGONAL if port is None else port.structure
    tail = {Structure.FULL: f"{node.size}, {node.size}", Structure.DIAGONAL: str(node.size)}.get(word, "1")
    return "\n".join(
        [
            *lines,
            f"    rows = [np.array(port.reshape(-1, {node.size})) for port in ports]",
            f"    made = np.array({call}, dtype)",
            f"    return np.broadcast_to(made, (len(rows[0]), {tail})).reshape(*ports[0].shape[:-1], {tail})",
        ]
    )


def _losses(build: Build, losses: Mapping[str, Loss], functions: Functions) -> str:
    rows: list[str] = []
    stubs: list[str] = []
    for node, loss in losses.items():
        names: list[str] = []
        for kind, function in (("value", loss.value), ("gradient", loss.gradient)):
            known = functions.name(function)
            if isinstance(function, Printable):
                known = build.names.of(f"loss_{loss.name}_{kind}", "loss", loss.name, kind, node)
                text = function.printed(["y", "target"], {})
                stubs += [f"def {known}(y, target):", f"    return {text}", "", ""]
            elif known is None:
                known = build.names.of(f"loss_{loss.name}_{kind}", "loss", loss.name, kind, node)
                stubs += [
                    f"def {known}(y, target):",
                    "    # The function you gave has no text of its own. Put it here, for rows (rows, size).",
                    f"    raise NotImplementedError({f'the {kind} of loss {loss.name!r}'!r})",
                    "",
                    "",
                ]
            names.append(known)
        rows.append(f"{node!r}: ({', '.join(names)})")
    outputs = ", ".join(f"{node!r}: {build.value(node).name!r}" for node in losses)
    return "\n".join([*stubs, f"LOSSES = {{{', '.join(rows)}}}", f"OUTPUTS = {{{outputs}}}"])


def _start(source: Source) -> str:
    build, plan = source.build, source.build.plan
    lines = ["def start(batch):", '    """The state before the first block: initial values, and no influence."""']
    lines.append("    return {")
    for name, node in build.network.nodes.items():
        if build.history[name]:
            first = np.asarray(node.initial)
            value = repr(float(first.flat[0])) if np.all(first == first.flat[0]) else _array(first)
            shape = f"({build.history[name]}, batch, {node.size})"
            lines.append(f"        {value_key(name)!r}: np.full({shape}, {value}, dtype),")
    for name, places in plan.entries.items():
        for place in places:
            parameter = plan.network.parameters[name]
            rest = stored_shape(plan.network, parameter, plan.layouts[name, place], plan.size(place))
            shape = f"({', '.join(map(str, (plan.depth[place], 'batch', *rest)))})"
            lines.append(f"        {influence_key(plan, name, place)!r}: np.zeros({shape}, dtype),")
    return "\n".join([*lines, "    }"])


def _array(array: Array) -> str:
    return f"np.array({array.tolist()!r})"
