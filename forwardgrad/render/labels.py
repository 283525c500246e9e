"""What is on a node and on an edge of a declared graph?"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from forwardgrad.graph import Edge, Network, Node
from forwardgrad.render.text import lines, power
from forwardgrad.weights import KINDS


def about(node: Node) -> str:
    """Op and size, or shape."""
    return f"{node.op.name} · {'×'.join(map(str, node.shape))}"


def _bias(network: Network, node: Node) -> str:
    if node.bias is None:
        return ""
    bias = "bias" if network.parameters[node.bias].trainable else "fixed bias"
    return f" · {bias}" + ("" if node.bias_port == "in" else f" on {node.bias_port}")


def node(network: Network, node: Node) -> str:
    """Name; op, size and bias; then what differs from its default."""
    options = [
        f"{key} {_number(value)}"
        for key, value in node.options.items()
        if not _equal(value, node.op.options[key].default)
    ]
    if np.any(node.initial):
        options.append(f"initial {_number(node.initial)}")
    return lines(node.name, about(node) + _bias(network, node), *options)


ROOM = "stores 1,234,567 B"
"""The longest line for which every node has room."""


def node_slot(network: Network, of: Node) -> str:
    """A label that takes the room of what is on a node in any kind of picture: four lines at least."""
    text = node(network, of)
    return "\\n".join([text, ROOM, *["x"] * (2 - text.count("\\n"))])


def shape(word: str) -> dict[str, str]:
    """The outline of a node by the shape of its op: ellipses are drawn as rounded boxes, which hold more text."""
    if word == "ellipse":
        return {"shape": "box", "style": "rounded,filled"}
    return {"shape": word}


def shared(network: Network) -> dict[str, int]:
    """The parameters that are on several edges, counted."""
    names = [name for name, parameter in network.parameters.items() if len(parameter.edges) > 1]
    return {name: index for index, name in enumerate(names)}


def edge_slot(network: Network, of: Edge, shared: Collection[str]) -> str:
    """A label that takes the room of what is on an edge in any kind of picture."""
    return edge(network, of, shared) or "z⁻¹ 1→2"


def edge(network: Network, edge: Edge, shared: Collection[str]) -> str:
    """Weight; delay; port, role, credit; the name of a shared parameter."""
    parameter = network.parameters.get(edge.param or "")
    return lines(
        edge.param if edge.param is not None and edge.param in shared else "",
        _weight(network, edge) + (" frozen" if parameter is not None and not parameter.trainable else ""),
        power(edge.delay) if edge.delay else "",
        f"port {edge.port}" if edge.port != "in" else "",
        f"role {edge.role}" if edge.role else "",
        f"credit {edge.credit}" if edge.credit else "",
    )


def _weight(network: Network, edge: Edge) -> str:
    """Kind and shape of a weight, `target×source`; of a fixed number, the number; of an identity, nothing."""
    source, target = network.nodes[edge.source].size, network.nodes[edge.target].size
    fixed = "fixed " if edge.value is not None and KINDS[edge.weight].weighted else ""
    match edge.kind:
        case "identity":
            return ""
        case "scalar":
            return edge.weight if edge.value is None else f"×{_number(edge.value)}"
        case "diagonal":
            return f"{fixed}{edge.weight} {target}"
        case "sparse":
            assert edge.pattern is not None
            if edge.moves and len(edge.pattern.rows) < target:
                return f"{edge.weight} at {edge.pattern.rows[0]}"
            if not KINDS[edge.weight].weighted:
                return f"{edge.weight} {target}×{source}"
            if edge.pattern.entries is not None:
                return f"{fixed}{edge.weight} {'×'.join(map(str, edge.pattern.kernel))}"
            return f"{fixed}{edge.weight} {target}×{source}, {len(edge.pattern.rows)} entries"
        case _:
            return f"{fixed}{edge.weight} {target}×{source}"


def _number(value: object) -> str:
    """A number in few digits, an array by its range, a word as it is."""
    if isinstance(value, str):
        return value
    array = np.asarray(value, dtype=np.float64)
    low, high = f"{array.min():.4g}", f"{array.max():.4g}"
    return low if low == high else f"{low}…{high}"


def _equal(value: object, default: object) -> bool:
    return value == default if isinstance(value, str) else bool(np.all(np.asarray(value) == default))
