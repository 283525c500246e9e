"""Which parameters does a graph have, where does each stand, and how is it drawn at first?"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.errors import DataError, GraphError
from forwardgrad.graph.network import Edge, Node, Parameter
from forwardgrad.graph.schema import name_of, where
from forwardgrad.ops import Array
from forwardgrad.support.attributes import is_whole, numbers, show
from forwardgrad.weights import KINDS

_ARGUMENTS: Mapping[str, tuple[float, ...]] = {"normal": (0.1,), "uniform": (-0.1, 0.1), "orthogonal": (1.0,)}


def edge_parameters(
    graph: nx.MultiDiGraph[str], edges: Mapping[str, Edge], sizes: Mapping[str, int], ties: Mapping[str, list[Any]]
) -> dict[str, Parameter]:
    """The parameters that stand on edges, by name.

    Raises:
        GraphError: if edges that share a parameter differ in kind, shape, pattern, trainability or start.
    """
    return {name: _shared(graph, edges, sizes, name, places) for name, places in ties.items()}


def _shared(
    graph: nx.MultiDiGraph[str], edges: Mapping[str, Edge], sizes: Mapping[str, int], name: str, places: list[Any]
) -> Parameter:
    first = edges[name_of(*places[0])]
    trainable = _trainable(graph.edges[places[0]])
    shape = _shape(first, sizes)
    init: Any = None
    for place in places:
        edge, attributes = edges[name_of(*place)], graph.edges[place]
        for what, one, other in (
            ("kind", first.weight, edge.weight),
            ("shape", shape, _shape(edge, sizes)),
            ("pattern", first.pattern, edge.pattern),
            ("trainability", trainable, _trainable(attributes)),
        ):
            if one != other:
                raise GraphError(
                    f"{where(*places[0])} and {where(*place)} share parameter {name!r} and differ in {what}"
                    + (": they have other synapses." if what == "pattern" else f": {one} and {other}."),
                    "Give one of them another 'param'.",
                )
        if attributes.get("init") is not None:
            if init is not None and not _same(init, attributes["init"]):
                raise GraphError(
                    f"{where(*place)}: parameter {name!r} has two different 'init'.", "Give 'init' on one edge only."
                )
            init = attributes["init"]
    init = KINDS[first.weight].init if init is None else init
    _check_init(where(*places[0]), init, shape)
    return Parameter(
        name=name,
        kind=first.kind,
        shape=shape,
        trainable=trainable,
        init=init,
        fan=_fan(first, sizes),
        edges=tuple(name_of(*place) for place in places),
        pattern=first.pattern,
    )


def _shape(edge: Edge, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return KINDS[edge.weight].form.shape(sizes[edge.source], sizes[edge.target], edge.pattern)


def _trainable(attributes: Mapping[str, Any]) -> bool:
    return bool(attributes["trainable"]) if attributes.get("trainable") is not None else True


def _same(a: Any, b: Any) -> bool:
    return a == b if isinstance(a, str) or isinstance(b, str) else np.array_equal(a, b)


def _fan(edge: Edge, sizes: Mapping[str, int]) -> tuple[float, float]:
    if edge.pattern is None and len(_shape(edge, sizes)) == 2:
        return float(sizes[edge.source]), float(sizes[edge.target])
    if edge.pattern is not None:
        entries = len(edge.pattern.rows)
        return entries / len(set(edge.pattern.rows.tolist())), entries / len(set(edge.pattern.columns.tolist()))
    return 1.0, 1.0


def bias_parameter(node: Node, attributes: Mapping[str, Any]) -> Parameter:
    """The bias of a node that has one."""
    given = attributes["bias"]
    start: Any = 0.0 if isinstance(given, bool | np.bool_) else given
    _check_shape(f"node {node.name!r}", "bias", start, (node.size,))
    trainable = attributes.get("bias_trainable")
    assert node.bias is not None
    return Parameter(
        name=node.bias,
        kind="bias",
        shape=(node.size,),
        trainable=True if trainable is None else bool(trainable),
        init=start,
        node=node.name,
    )


def _check_init(place: str, init: Any, shape: tuple[int, ...]) -> None:
    if isinstance(init, str):
        word, arguments = _call(place, init)
        number = len(_ARGUMENTS.get(word, ()))
        if len(arguments) not in (0, number):
            raise GraphError(f"{place}: init {show(init)} has {len(arguments)} arguments, and {word!r} takes {number}.")
        if word == "normal" and arguments and arguments[0] < 0:
            raise GraphError(f"{place}: init {init!r}: the deviation of 'normal' must not be negative.")
        if word == "uniform" and arguments and arguments[0] > arguments[1]:
            raise GraphError(
                f"{place}: init {init!r}: the bounds of 'uniform' must ascend.",
                f"Did you mean uniform({arguments[1]:g}, {arguments[0]:g})?",
            )
        if word in ("orthogonal", "identity") and len(shape) != 2:
            raise GraphError(f"{place}: init {init!r} needs a dense weight, and this one has shape {shape}.")
        return
    _check_shape(place, "init", init, shape)


def _check_shape(place: str, key: str, value: Any, shape: tuple[int, ...]) -> None:
    array = numbers(value)
    assert array is not None  # the schema has checked it
    if array.shape not in ((), shape):
        hint = "Did you mean its transpose?" if array.shape[::-1] == shape else ""
        raise GraphError(f"{place}: {key!r} must be a number or of shape {shape}, got {array.shape}.", hint)


def _call(place: str, text: str) -> tuple[str, tuple[float, ...]]:
    """`"normal(0.1)"` as `("normal", (0.1,))`."""
    word, bracket, rest = text.partition("(")
    if not bracket:
        return word.strip(), ()
    inside, bracket, after = rest.partition(")")
    try:
        arguments = tuple(float(argument) for argument in inside.split(","))
    except ValueError:
        arguments = ()
    if not bracket or after.strip() or not arguments or not np.isfinite(arguments).all():
        raise GraphError(f"{place}: init {show(text)} is not readable.", "Write it as normal(0.1) or uniform(0, 1).")
    return word.strip(), arguments


def stream(seed: int, name: str, *more: int) -> np.random.Generator:
    """Random numbers of a stream of their own for every name."""
    return np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogatepass")), *more])


def draw(parameter: Parameter, seed: int) -> Array:
    """An initial value of a parameter, float64, drawn from a stream of its own.

    `glorot`, `he` and `lecun` are uniform on the interval that gives variance `2 / (in + out)`, `2 / in` and
    `1 / in`; `normal(deviation)`, `uniform(low, high)`, `orthogonal(gain)`, `zeros`, `ones`, `identity`.

    Raises:
        DataError: if the seed is not a whole number >= 0.
    """
    if not is_whole(seed) or seed < 0:
        raise DataError(f"a seed must be a whole number >= 0, got {show(seed)}.")
    if not isinstance(parameter.init, str):
        return np.broadcast_to(np.asarray(parameter.init, dtype=np.float64), parameter.shape).copy()
    word, given = _call(f"parameter {parameter.name!r}", parameter.init)
    arguments = (*given, *_ARGUMENTS.get(word, ())[len(given) :])
    random = stream(seed, parameter.name)
    inputs, outputs = parameter.fan
    match word:
        case "glorot" | "he" | "lecun":
            variance = {"glorot": 2 / (inputs + outputs), "he": 2 / inputs, "lecun": 1 / inputs}[word]
            bound = float(np.sqrt(3 * variance))
            return random.uniform(-bound, bound, parameter.shape)
        case "normal":
            return random.normal(0.0, arguments[0], parameter.shape)
        case "uniform":
            return random.uniform(arguments[0], arguments[1], parameter.shape)
        case "orthogonal":
            return arguments[0] * _orthogonal(random, parameter.shape)
        case "identity":
            return np.eye(parameter.shape[0], parameter.shape[1])
        case "ones":
            return np.ones(parameter.shape)
        case _:
            return np.zeros(parameter.shape)


def _orthogonal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    tall = random.normal(size=(max(shape), min(shape)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    return q if shape[0] >= shape[1] else q.T
