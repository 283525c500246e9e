"""Weights of recurrent layers of PyTorch, as a graph with parameters and back; and programs as its modules.

PyTorch itself is needed for `Module` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from forwardgrad import cells
from forwardgrad.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from forwardgrad.bridges.torch_module import Module

__all__ = ["Module", "from_state_dict", "to_state_dict"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """How PyTorch stacks the weights of a layer.

    Args:
        gates: the nodes of the cell to which the blocks of `weight_ih` go, in their order.
        recurrent: those to which the blocks of `weight_hh` go.
        add: adds the cell.
        ops: those that its units may have.
    """

    gates: tuple[str, ...]
    recurrent: tuple[str, ...]
    add: Callable[..., str]
    ops: tuple[str, ...] = ("tanh",)


LAYERS: Mapping[str, Layer] = {
    "rnn": Layer(("h",), ("h",), cells.elman, ("tanh", "relu")),
    "lstm": Layer(("i", "f", "g", "o"), ("i", "f", "g", "o"), cells.lstm),
    "gru": Layer(
        ("r", "z", "n"),
        ("r", "z", "recalled"),
        lambda graph, name, **options: cells.gru(graph, name, reset="after", **options),
    ),
}
"""The layers by the names of their classes, in lower case."""

KEY = re.compile(r"(weight|bias)_(ih|hh|hr)_l(\d+)(_reverse)?")


def from_state_dict(
    kind: str, state_dict: Mapping[str, Any], *, prefix: str = "", nonlinearity: str = "tanh"
) -> tuple[nx.MultiDiGraph[str], Arrays]:
    """The graph and the parameters of an `nn.RNN`, `nn.GRU` or `nn.LSTM`.

    The graph has the input `x` and for each layer a cell: `l1`, whose output is `l1.h`, `l2`, and so on. Add a readout
    to it, compile, and put the parameters in: `program.init() | params`. Both biases of PyTorch, which only ever act
    as a sum, become one, but for the `n` gate of a GRU. Whether a layer was `batch_first` is not in its weights: arrays
    are `(time, batch, size)` here, so transpose them.

    Args:
        kind: `"rnn"`, `"gru"` or `"lstm"`.
        state_dict: of the layer, or of a module that holds it: tensors or arrays by name.
        prefix: how the names of the layer begin in it, such as `"encoder.lstm."`.
        nonlinearity: of an `nn.RNN`: `"tanh"` or `"relu"`.

    Returns:
        The graph, and the parameters by name: `x->l1.i`, `l1.h->l1.i`, `l1.i.bias`, ...

    Raises:
        DataError: if there are no such weights, they belong to another kind of layer, or the layer is bidirectional or
            has projections, which have no counterpart here.

    Source of the equations: https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers.

    >>> rng = np.random.default_rng(0)
    >>> layer = {"weight_ih_l0": rng.normal(size=(12, 3)), "weight_hh_l0": rng.normal(size=(12, 4))}
    >>> graph, params = from_state_dict("gru", layer)
    >>> sorted(params)[:3], params["x->l1.n"].shape
    (['l1.h->l1.r', 'l1.h->l1.recalled', 'l1.h->l1.z'], (4, 3))
    """
    layer = _layer(kind)
    if nonlinearity not in layer.ops:
        raise DataError(f"from_state_dict: nonlinearity is 'tanh', or 'relu' for an RNN, got {nonlinearity!r}.")
    found = _weights(kind, state_dict, prefix)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    params: Arrays = {}
    source = "x"
    for number in range(len({key[2] for key in found})):
        inputs, recurrent = found["weight", "ih", number], found["weight", "hh", number]
        units, gates = recurrent.shape[1], len(layer.gates)
        if number == 0:
            graph.add_node("x", op="input", size=inputs.shape[1])
        wanted = {"ih": (gates * units, graph.nodes[source]["size"]), "hh": (gates * units, units)}
        for word, array in (("ih", inputs), ("hh", recurrent)):
            if array.shape != wanted[word]:
                name = f"{prefix}weight_{word}_l{number}"
                raise DataError(
                    f"{name!r} has shape {array.shape}; that of {_article(kind)} with {units} units is {wanted[word]}."
                )
        name = f"l{number + 1}"
        before = set(graph)
        output = layer.add(graph, name, input=source, size=units)
        if len(layer.ops) > 1:
            graph.nodes[output]["op"] = nonlinearity
        biases = [found.get(("bias", word, number)) for word in ("ih", "hh")]
        params |= _split(layer, name, source, output, inputs, recurrent, biases)
        if biases[0] is None:
            for node in set(graph) - before:
                graph.nodes[node].pop("bias", None)
        source = output
    return graph, params


def _split(
    layer: Layer,
    name: str,
    source: str,
    output: str,
    inputs: NDArray[Any],
    recurrent: NDArray[Any],
    biases: list[NDArray[Any] | None],
) -> Arrays:
    """The parameters of a layer, gate by gate."""
    params: Arrays = {}
    blocks = len(layer.gates)
    for gate, array in zip(layer.gates, np.split(inputs, blocks), strict=True):
        params[f"{source}->{name}.{gate}"] = array.copy()
    for gate, array in zip(layer.recurrent, np.split(recurrent, blocks), strict=True):
        params[f"{output}->{name}.{gate}"] = array.copy()
    for gates, bias in zip((layer.gates, layer.recurrent), biases, strict=True):
        for gate, array in zip(gates, np.split(bias, blocks) if bias is not None else (), strict=False):
            key = f"{name}.{gate}.bias"
            params[key] = params[key] + array if key in params else array.copy()
    return params


def to_state_dict(kind: str, params: Mapping[str, Any]) -> Arrays:
    """The weights of an `nn.RNN`, `nn.GRU` or `nn.LSTM`, from the parameters of cells `l1`, `l2`, ...

    The inverse of `from_state_dict`: outputs are the same. All of a bias is in `bias_ih`, and `bias_hh` is zero, but
    for the `n` gate of a GRU.

    Args:
        kind: `"rnn"`, `"gru"` (with `reset="after"`) or `"lstm"`.
        params: by name; those of other nodes are passed over.

    Returns:
        Arrays by PyTorch's names, for `load_state_dict` once they are tensors.

    Raises:
        DataError: if a parameter of a layer is missing.

    >>> graph, params = from_state_dict("rnn", {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.eye(2)})
    >>> sorted(to_state_dict("rnn", params))
    ['weight_hh_l0', 'weight_ih_l0']
    """
    layer = _layer(kind)
    found: Arrays = {}
    source, number = "x", 1
    while number == 1 or any(name.startswith(f"{source}->l{number}.") for name in params):
        name, output = f"l{number}", f"l{number}.h"

        def stacked(gates: tuple[str, ...], name: str, begin: str) -> NDArray[Any]:
            keys = [f"{begin}->{name}.{gate}" for gate in gates]
            for key in keys:
                if key not in params:
                    raise DataError(
                        f"to_state_dict: parameter {key!r} of {_article(kind)} is missing.",
                        did_you_mean(key, list(params)),
                    )
            return np.concatenate([np.asarray(params[key]) for key in keys])

        found[f"weight_ih_l{number - 1}"] = stacked(layer.gates, name, source)
        found[f"weight_hh_l{number - 1}"] = stacked(layer.recurrent, name, output)
        biases = [[params.get(f"{name}.{gate}.bias") for gate in each] for each in (layer.gates, layer.recurrent)]
        if all(bias is not None for each in biases for bias in each):
            again = [gate in layer.gates for gate in layer.recurrent]
            found[f"bias_ih_l{number - 1}"] = np.concatenate([np.asarray(bias) for bias in biases[0]])
            second = [
                np.zeros_like(bias) if known else np.asarray(bias) for bias, known in zip(biases[1], again, strict=True)
            ]
            found[f"bias_hh_l{number - 1}"] = np.concatenate(second)
        source, number = output, number + 1
    return found


def _layer(kind: Any) -> Layer:
    if kind not in LAYERS:
        raise DataError(f"unknown kind of layer {kind!r}.", did_you_mean(kind, LAYERS))
    return LAYERS[kind]


def _article(kind: str) -> str:
    return f"{'a' if kind == 'gru' else 'an'} {kind.upper()}"


def _weights(kind: str, state_dict: Mapping[str, Any], prefix: str) -> dict[tuple[str, str, int], NDArray[Any]]:
    """The arrays of a layer by `weight` or `bias`, `ih` or `hh`, and the number of the layer; all of each layer."""
    found: dict[tuple[str, str, int], NDArray[Any]] = {}
    own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    for name, value in own.items():
        match = KEY.fullmatch(name)
        if match is None:
            continue  # of another module
        word, place, number, reverse = match.groups()
        if reverse or place == "hr":
            what = "is bidirectional: no online rule runs backward in time" if reverse else "has projections"
            raise DataError(
                f"the layer {what} ({prefix + name!r}).",
                "" if reverse else "Leave out proj_size: a projection is a node of its own here.",
            )
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.ndim != 2 - (word == "bias") or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise DataError(
                f"{prefix + name!r} has shape {array.shape} and type {array.dtype}: it is not finite weights."
            )
        found[word, place, int(number)] = array
    numbers = {key[2] for key in found}
    if numbers != set(range(len(numbers))) or not numbers:
        begins = sorted({name[: match.start()] for name in state_dict if (match := KEY.search(name))} - {prefix})
        hint = f"Names of layers begin with {', '.join(map(repr, begins))}: give one as `prefix`." if begins else ""
        raise DataError(f"no weights of {_article(kind)} are called {prefix + 'weight_ih_l0'!r} and so on.", hint)
    biased = any(key[0] == "bias" for key in found)
    for number in sorted(numbers):
        for word in ("weight", "bias") if biased else ("weight",):
            for place in ("ih", "hh"):
                key, name = (word, place, number), f"{prefix}{word}_{place}_l{number}"
                if key not in found or ("weight", "hh", number) not in found:
                    lacking = name if key not in found else f"{prefix}weight_hh_l{number}"
                    raise DataError(f"{lacking!r} is missing.")
                rows, units = len(found[key]), found["weight", "hh", number].shape[1]
                wanted = len(LAYERS[kind].gates) * units
                if rows != wanted:
                    raise DataError(
                        f"{name!r} has {rows} rows; that of {_article(kind)} with {units} units has {wanted}."
                    )
    return found


def __getattr__(name: str) -> Any:
    if name == "Module":
        from forwardgrad.bridges.torch_module import Module

        return Module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
