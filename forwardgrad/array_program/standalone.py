"""A module of readable NumPy: the functions of an array program, and beside them what they need to run on their own."""

from __future__ import annotations

import ast
import base64
import inspect
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.lowering.context import Context, LayoutCall, OpCall
from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.array_program.lowering.lower import Lowered, lower
from forwardgrad.array_program.numpy_source import Printed, printed
from forwardgrad.array_program.numpy_texts import calling
from forwardgrad.array_program.regions import ArrayProgram
from forwardgrad.array_program.taken_along import Functions
from forwardgrad.compiler.keys import influence_key, value_key
from forwardgrad.compiler.plan import Plan
from forwardgrad.errors import RuleError
from forwardgrad.graph import Node
from forwardgrad.layouts.draws import DRAW
from forwardgrad.ops import Array
from forwardgrad.ops.formula import Printable, free_names, tree
from forwardgrad.ops.losses import Loss
from forwardgrad.structure import Structure
from forwardgrad.support.names import shown

SHORT = 64
"""Entries up to which an array is printed as numbers."""

_IN_PARTS = '''
def in_parts(work, firsts):
    """Compute the parts of something, given the first index of each."""
    for first in firsts:
        work(first)
'''

HELPERS: Mapping[str, str] = {
    name: _IN_PARTS if name == "in_parts" else inspect.getsource(function)  # without threads
    for name, function in vars(numpy_helpers).items()
    if inspect.isfunction(function) and name != "matmul"  # which is NumPy's
}
"""The texts of the functions that printed source may call, by name."""

_EVALUATE = '''
def evaluate(value, gradient, y, target, mask):
    """The loss of a block, and its derivative by the output: the sum over time of the weighed mean over the batch."""
    target = np.asarray(target, dtype if target.dtype.kind == "f" else None)
    rows, targets = y.reshape(-1, y.shape[-1]), target.reshape(-1, *target.shape[2:])
    weight = np.full(y.shape[:2], SHARE, dtype)
    if mask is not None:
        weight *= mask if mask.ndim == 2 else mask[:, None]
    loss = float((np.asarray(value(rows.copy(), targets.copy())) * weight.ravel()).sum()MEAN)
    slope = np.asarray(gradient(rows.copy(), targets.copy()), dtype).reshape(y.shape)
    return loss, slope * weight[..., None]
'''

_STEP = '''
def step(params, inputs, targets, mask=None{signals}, *, state, fresh=False, last=False):
    """Run a block of any number of steps with fixed weights.

    Args:
        params: arrays by parameter.
        inputs: `(steps, batch, size)` by input node.
        targets: by output node.
        mask: `(steps,)` or `(steps, batch)`, or none.
        state: from `start`, or from the block before.
        fresh: whether the state holds no influence yet.
        last: whether the state after the block is not needed.

    Returns:
        The state after the block (none after the last), the loss, and the gradient by parameter.
    """
    steps, batch = next(iter({shape}.values())).shape[:2]
'''

_GRADIENT = '''
def gradient(params, inputs, targets, mask=None{signals}, *, block{draw}):
    """The gradient over a sequence, weights frozen, in blocks: the loss, and arrays by parameter.{drawn}"""
    given = {shape}
    steps, batch = next(iter(given.values())).shape[:2]
    state, total, grads = start(batch{number}), 0.0, {{}}
    for first in range(0, steps, block):
        now = slice(first, first + block)
        state, loss, found = step(
            params,
            {{name: array[now] for name, array in inputs.items()}},
            {{name: array[now] for name, array in targets.items()}},
            None if mask is None else mask[now],{cut}
            state=state,
            fresh=first == 0,
            last=first + block >= steps,
        )
        total += loss
        grads = {{name: found[name] + grads.get(name, 0) for name in found}}
    return total, grads
'''


def standalone(plan: Plan, dtype: Any, losses: Mapping[str, Loss], title: str) -> str:
    """The text of a module that needs NumPy and nothing else.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
        losses: by output node.
        title: what is said of the program, lines.

    Raises:
        RuleError: if the plan is so large that it is interpreted.
    """
    if not is_small(plan):
        raise RuleError(
            "source: too many places act on each other for this program to be written out; it is interpreted.",
            "Give some parameters a rule that stores less, such as eprop.",
        )
    lowered = lower(plan, dtype)
    context, written = lowered.context, printed(lowered.functions)
    random = any(DRAW in influence.parts for influence in lowered.influences.values())
    signals = any(place.signal == "given" for place in plan.product.places)
    words: dict[str, str] = {
        "shape": "inputs" if plan.network.inputs else "targets",
        "signals": ", signals=None" if signals else "",
        "cut": "\n            signals={name: array[now] for name, array in signals.items()}," if signals else "",
        "draw": ", draw=0" if random else "",
        "drawn": " Another draw has other signs." if random else "",
        "number": ", draw" if random else "",
    }
    functions = Functions(context.names)
    calls = [_called(context, name, what, functions) for name, what in context.calls.items()]
    table = _losses(context, losses, functions)
    step = _STEP.format(**words) + "\n".join(_Step(lowered.program, context, written).lines(losses))
    body = [written.text, _start(lowered, random), _evaluate(plan.per_sample), table, step, _GRADIENT.format(**words)]
    used = _used("\n".join([*calls, *functions.texts.values(), *body]))
    constants = {value.name: array for value, array in context.constants.items()}
    head = [
        f'"""{_comment(title)}\n"""',
        "from __future__ import annotations\n",
        *(f"import {name}" for name in ("base64", "zlib") if name in used or any(map(_is_long, constants.values()))),
        "import numpy as np\n",
        f"dtype = np.{np.dtype(dtype).name}",
        "Array = np.ndarray",
        *(
            f"{name} = {getattr(numpy_helpers, name)}"
            for name in ("CACHED", "FEW", "MANY", "PART", "PERIOD", "WORTH")
            if name in used
        ),
        *(["matmul = np.matmul"] if "matmul" in used else []),
        "",
        *_constants(constants),
    ]
    helpers = [text for name, text in HELPERS.items() if name in used]
    parts = ["\n".join(head), *helpers, *functions.texts.values(), *calls, *body]
    return "\n\n".join(part.strip("\n") + "\n" for part in parts if part.strip())


def _evaluate(per_sample: bool) -> str:
    """The function that evaluates a loss; its derivative is that of the mean over the batch, or of single samples."""
    share, mean = ("1", " / y.shape[1]") if per_sample else ("1 / y.shape[1]", "")
    return _EVALUATE.replace("SHARE", share).replace("MEAN", mean)


class _Step:
    """Prints how a block is run: each array under its name, each function called once.

    Args:
        program: the array program.
        context: of its lowering.
        written: its text.
    """

    def __init__(self, program: ArrayProgram, context: Context, written: Printed) -> None:
        self.program, self.context, self.written = program, context, written
        self.bound: set[str] = set()

    def lines(self, losses: Iterable[str]) -> list[str]:
        """The lines of the function after its first one."""
        lines = [*self.fetched("forward"), *self.called("forward"), *self.fetched("slopes"), *self.called("slopes")]
        lines.append("    total = 0.0")
        for name in losses:
            series = self.context.nodes[name]
            y = str(series.value) if series.first == affine(0) else f"{series.value}[{series.first}:]"
            word = self.context.names.of(f"loss_{name}", "losses", name)
            lines.append(f"    loss, {word} = evaluate(*LOSSES[{name!r}], {y}, targets[{name!r}], mask)")
            lines.append("    total += loss")
        if any(rule.lossy for rule in self.context.plan.rules.values()):  # gradients read the state after the block
            return [*lines, *self.advanced(), *self.credited(), "    return None if last else made, total, grads"]
        lines += [*self.credited(), "    if last:", "        return None, total, grads", *self.advanced()]
        return [*lines, "    return made, total, grads"]

    def credited(self) -> list[str]:
        """The lines that find the gradients."""
        lines = [line for name in ("credit", "gradients") for line in (*self.fetched(name), *self.called(name))]
        return lines + self.dictionary("grads", "grads")

    def advanced(self) -> list[str]:
        """The lines that make the state after the block."""
        lines = [*self.fetched("advance"), "    noted = []", "    with noting_underflow(noted):"]
        lines += [f"    {line}" for line in self.called("advance") or ["    pass"]]
        lines += self.dictionary("made", "after")
        flushed = "        flush_all(array for key, array in made.items() if key.startswith('influence'))"
        return [*lines, "    if noted:", flushed]

    def fetched(self, name: str) -> list[str]:
        """The lines that fetch what a function takes from outside."""
        lines: list[str] = []
        for word in self.written.arguments[name]:
            group, key = self.program.bindings.get(word, ("", ""))
            if group in ("params", "inputs", "signals", "state") and word not in self.bound:
                self.bound.add(word)
                found = f"{group}[{key!r}]"
                shared = " * dtype(1 / batch)" if group == "signals" and not self.context.plan.per_sample else ""
                lines.append(f"    {word} = {found if group == 'state' else f'np.asarray({found}, dtype){shared}'}")
        return lines

    def called(self, name: str) -> list[str]:
        """The lines that call a function; none where it gives nothing."""
        results = [str(value) for value in self.program.function(name).body.results]
        return calling(results, name, self.written.arguments[name], "    ") if results else []

    def dictionary(self, name: str, group: str) -> list[str]:
        """The lines that put what functions gave into a dictionary, as a program does."""
        bound = [(word, key) for word, (where, key) in self.program.bindings.items() if where == group]
        return [f"    {name} = {{", *(f"        {key!r}: {word}," for word, key in bound), "    }"]


def _comment(text: str) -> str:
    return text.replace("\\", "/").replace('"""', "'''")


def _used(text: str) -> set[str]:
    """The words of a text, and of the helpers that it calls."""
    found, read = set[str](), _words(text)
    while read:
        found |= read
        read = {word for name in read & HELPERS.keys() for word in _words(HELPERS[name])} - found
    return found


def _words(text: str) -> set[str]:
    return {node.id for node in ast.walk(tree(text, "exec")) if isinstance(node, ast.Name)}


def _is_long(array: Array) -> bool:
    return array.size > SHORT


def _constants(constants: Mapping[str, Array]) -> list[str]:
    lines: list[str] = []
    if any(map(_is_long, constants.values())):
        lines.append(
            "\ndef unpacked(text, kind, shape):\n"
            '    """An array from its compressed bytes."""\n'
            "    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).reshape(shape)\n\n"
        )
    for name, array in constants.items():
        kind = array.dtype.str
        if _is_long(array):
            data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
            lines.append(f"{name} = unpacked({data!r}, {kind!r}, {array.shape})")
        else:
            lines.append(f"{name} = np.array({array.tolist()!r}, {kind!r}).reshape({array.shape})")
    return lines


def _called(context: Context, name: str, called: OpCall | LayoutCall, functions: Functions) -> str:
    """A function that can only be called."""
    if isinstance(called, LayoutCall):
        return _layout(context, name, called, functions)
    return _op(context, name, called.node, called.port, functions)


def _layout(context: Context, name: str, called: LayoutCall, functions: Functions) -> str:
    """A function that compresses influence, or expands what is stored."""
    traces, compression = called.traces, called.traces.compression
    function = compression.expand if called.what == "expand" else compression.compress
    known, word = functions.name(function), "stored" if called.what == "expand" else "influence"
    random = called.what == "compress" and compression.random
    what = "Expand" if called.what == "expand" else "Compress"
    lines = [
        f"def {name}({word}{', draw, block' if random else ''}):",
        f'    """{what} the influence of {shown(traces.name)}, layout {shown(compression.name)!r}."""',
    ]
    if known is None:
        lines.append("    # The function you registered has no text of its own. Put it here, for arrays (batch, ...).")
        lines.append(f"    raise NotImplementedError({f'{called.what} of layout {compression.name!r}'!r})")
        return "\n".join(lines)
    given = [f"{word}.copy()"]
    if called.what == "expand":
        given.append(f"(len(stored), {', '.join(map(str, traces.full_shape(called.place)))})")
    given += map(repr, traces.argument)
    if random:
        stream = traces.stream(called.place, called.lag)
        lines.append(f"    random = generator({traces.rule.seed}, {stream!r}, number(draw), number(block))")
        given.append("random")
    return "\n".join([*lines, f"    return np.asarray({known}({', '.join(given)}), dtype)"])


def _op(context: Context, name: str, node_name: str, port_name: str, functions: Functions) -> str:
    """A function that calls an op by rows."""
    node = context.network.nodes[node_name]
    port = node.op.port(port_name, node.ports) if port_name else None
    declared = node.op.value if port is None else port.derivative
    what = f"the value of op {node.op.name!r}"
    what = what if port is None else f"the derivative of op {node.op.name!r} by port {port_name!r}"
    count = len(node.ports) + (port is not None)
    call = _call(context, node, declared, count, functions)
    lines = [f"def {name}(*ports):", f'    """{shown(what).capitalize()}, by rows."""']
    if call is None:
        lines.append("    # The function you registered has no text of its own. Put it here, for rows (rows, size).")
        lines.append(f"    raise NotImplementedError({what!r})")
        return "\n".join(lines)
    word = Structure.DIAGONAL if port is None else port.structure
    tail = {Structure.FULL: f"{node.size}, {node.size}", Structure.DIAGONAL: str(node.size)}.get(word, "1")
    end = "[..., 0]" if word is Structure.SCALAR else ""  # one entry for all units: the axis of units is left out
    return "\n".join(
        [
            *lines,
            f"    rows = [np.array(port.reshape(-1, {node.size})) for port in ports]",
            f"    made = np.array({call}, dtype)",
            f"    return np.broadcast_to(made, (len(rows[0]), {tail})).reshape(*ports[0].shape[:-1], {tail}){end}",
        ]
    )


def _call(context: Context, node: Node, declared: Any, count: int, functions: Functions) -> str | None:
    """The expression that computes an op's value or derivative of `rows`; `None` if it has no text."""

    def written(name: str, value: Any) -> str:
        if getattr(value, "ndim", 0):
            return context.constant(f"{name}_{node.name}", value).name
        return repr(value if isinstance(value, str) else float(value))

    if isinstance(declared, Printable):
        text = declared.printed([f"rows[{place}]" for place in range(count)], node.options, written)
        return None if "group" in free_names(text) else text  # it has a word of NumPy besides that has no instruction
    known = functions.name(declared)
    options = ", ".join(f"{key!r}: {written(key, value)}" for key, value in node.options.items())
    return None if known is None else f"{known}(*rows{f', **{{{options}}}' if options else ''})"


def _losses(context: Context, losses: Mapping[str, Loss], functions: Functions) -> str:
    """The table of losses, each a function of its value and one of its derivative, and before it those functions."""
    rows: list[str] = []
    texts: list[str] = []
    for node, loss in losses.items():
        names: list[str] = []
        for kind, function in (("value", loss.value), ("gradient", loss.gradient)):
            known = None if isinstance(function, Printable) else functions.name(function)
            if known is None:
                known = context.names.of(f"loss_{loss.name}_{kind}", "loss", loss.name, kind, node)
                texts += [f"def {known}(y, target):", *_loss(loss.name, kind, function), "", ""]
            names.append(known)
        rows.append(f"{node!r}: ({', '.join(names)})")
    return "\n".join([*texts, f"LOSSES = {{{', '.join(rows)}}}"])


def _loss(name: str, kind: str, function: Any) -> Sequence[str]:
    if isinstance(function, Printable):
        return [f"    return {function.printed(['y', 'target'], {})}"]
    return [
        "    # The function you gave has no text of its own. Put it here, for rows (rows, size).",
        f"    raise NotImplementedError({f'the {kind} of loss {name!r}'!r})",
    ]


def _start(lowered: Lowered, random: bool) -> str:
    plan = lowered.context.plan
    lines = [f"def start(batch{', draw=0' if random else ''}):"]
    doc = "The state before the first block: initial values, and no influence."
    lines.append(f'    """{doc}{" Another draw has other signs." if random else ""}"""')
    lines.append("    return {")
    for name, node in plan.network.nodes.items():
        if history := plan.network.history(name):
            first = np.asarray(node.initial)
            equal = np.all(first == first.flat[0])
            value = repr(float(first.flat[0])) if equal else f"np.array({first.tolist()!r})"
            lines.append(f"        {value_key(name)!r}: np.full(({history}, batch, {node.size}), {value}, dtype),")
    for name, influence in lowered.influences.items():
        for part in influence.parts:
            lags, *rest = influence.shape_of(part)
            shape = f"({', '.join(map(str, (lags, 'batch', *rest)))})"
            made = f"np.full({shape}, draw, dtype)" if part == DRAW else f"np.zeros({shape}, dtype)"
            lines.append(f"        {influence_key(plan, name, part)!r}: {made},")
    return "\n".join([*lines, "    }"])
