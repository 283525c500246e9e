"""Is what is malformed refused by name?"""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import pytest
from bridges.nir_nets import CHAIN, DT, SPIKING, WINDOWS, affine, chain, conv2d, net, neuron, nir, ones

from forwardgrad.bridges.nir import from_nir
from forwardgrad.errors import GraphError


def replaced(node: Any, **fields: Any) -> Any:
    """A primitive with other fields, none of which NIR checks."""
    for name, value in fields.items():
        setattr(node, name, value)
    return node


REFUSED: dict[str, tuple[Any, str]] = {
    "tau below dt": (
        lambda: chain(replaced(neuron("LIF"), tau=ones * 1e-4)),
        r"'n' \(LIF\): 'tau' has 0.0001, .* less than dt",
    ),
    "tau zero": (lambda: chain(replaced(neuron("LIF"), tau=ones * 0)), r"'n' \(LIF\): 'tau' must be greater than 0"),
    "tau infinite": (lambda: chain(replaced(neuron("LIF"), tau=ones / 1e-320)), r"'n' \(LIF\): 'tau' must be finite"),
    "tau_syn": (
        lambda: chain(replaced(neuron("CubaLIF"), tau_syn=-ones)),
        r"'n' \(CubaLIF\): 'tau_syn' must be greater",
    ),
    "nan": (
        lambda: chain(fc=nir.Linear(np.full((3, 4), np.nan))),
        r"'fc' \(Linear\): 'weight' must be finite",
    ),
    "text": (lambda: chain(replaced(neuron("LIF"), r="much")), r"'n' \(LIF\): 'r' must be finite numbers, got 'much'"),
    "lists": (lambda: chain(replaced(neuron("LIF"), r=[[1], [2, 3]])), r"'n' \(LIF\): 'r' must be finite numbers"),
    "missing": (lambda: chain(replaced(neuron("LIF"), r=None)), r"'n' \(LIF\): field 'r' is missing"),
    "two shapes": (
        lambda: chain(replaced(neuron("LIF"), r=np.ones(2))),
        r"'n' \(LIF\): 'r' has shape \(2,\), and other",
    ),
    "sizes": (lambda: chain(fc=affine(2, 4)), r"'n' \(LIF\) takes shape \(3,\), and that of 'fc' is \(2,\)"),
    "matrix": (lambda: chain(fc=nir.Linear(np.ones((2, 3, 4)))), r"'fc' \(Linear\): 'weight' must be a matrix"),
    "bias": (
        lambda: chain(fc=replaced(affine(3, 4), bias=np.ones(2))),
        r"'fc' \(Affine\): 'bias' must have shape \(3,\)",
    ),
    "kind": (lambda: chain(type("Izhikevich", (), {})()), r"'n': 'Izhikevich' is not a primitive of NIR"),
    "no such node": (
        lambda: nir.NIRGraph(chain().nodes, [*CHAIN, ("n", "m")], type_check=False),
        r"'n' -> 'm': there is no node 'm'",
    ),
    "twice": (
        lambda: nir.NIRGraph(chain().nodes, [*CHAIN, CHAIN[0]], type_check=False),
        r"'input' -> 'fc' is there twice",
    ),
    "edges": (lambda: nir.NIRGraph(chain().nodes, [("n",)], type_check=False), "must be pairs of names"),
    "edges of numbers": (lambda: nir.NIRGraph(chain().nodes, [(1, 2)], type_check=False), "must be pairs of names"),
    "no edges": (lambda: nir.NIRGraph(chain().nodes, None, type_check=False), "must be pairs of names"),
    "into an input": (
        lambda: nir.NIRGraph(
            chain(neuron("LIF", 4), affine(4, 4)).nodes | {"output": nir.Output(np.array([4]))},
            [*CHAIN, ("n", "input")],
            type_check=False,
        ),
        r"'input' \(Input\): an edge leads to it",
    ),
    "from nowhere": (
        lambda: net({"n": neuron("LIF"), "m": neuron("LIF")}, [("n", "output"), ("m", "n")]),
        r"'m' \(LIF\): nothing leads to it",
    ),
    "delay": (
        lambda: net({"d": nir.Delay(np.full(4, 0.0015))}, [("input", "d"), ("d", "output")], outputs=4),
        r"'d' \(Delay\): a delay of 0.0015 is 1.5 steps",
    ),
    "negative delay": (
        lambda: net({"d": nir.Delay(np.full(4, -DT))}, [("input", "d"), ("d", "output")], outputs=4),
        r"'d' \(Delay\): a delay of -0.001 is -1 steps",
    ),
    "unequal delays": (
        lambda: net({"d": nir.Delay(np.arange(4) * DT)}, [("input", "d"), ("d", "output")], outputs=4),
        r"'d' \(Delay\): its units have different delays",
    ),
    "a linear cycle": (
        lambda: net(
            {"a": affine(4, 4), "b": affine(4, 4)}, [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")], outputs=4
        ),
        "cycle of NIR nodes without a neuron or a Delay: '[ab]' -> '[ab]' -> '[ab]'",
    ),
    "a cycle of delays": (
        lambda: net(
            {"a": nir.Delay(np.full(4, DT)), "b": nir.Delay(np.full(4, DT)), "n": neuron("LI", 4)},
            [("input", "n"), ("a", "b"), ("b", "a"), ("n", "output")],
            outputs=4,
        ),
        "cycle of NIR nodes that nothing enters",
    ),
    "convolved vector": (
        lambda: net({"c": conv2d(1, 1, (2, 2))}, [("input", "c"), ("c", "output")]),
        r"'c' \(Conv2d\): needs 3 axes, channels first, got \(4,\)",
    ),
    "padding": (
        lambda: net(
            {"input": nir.Input(np.array([1, 4, 4])), "c": conv2d(1, 1, (2, 2), padding="same")},
            [("input", "c"), ("c", "output")],
        ),
        r"'c' \(Conv2d\): padding 'same' pads the two ends",
    ),
    "stride": (
        lambda: net(
            {"input": nir.Input(np.array([1, 4, 4])), "c": replaced(conv2d(1, 1, (2, 2)), stride=(0, 1))},
            [("input", "c"), ("c", "output")],
        ),
        r"'c' \(Conv2d\): 'stride' must be a whole number >= 1, or 2",
    ),
    "kernel": (
        lambda: net(
            {"input": nir.Input(np.array([1, 4, 4])), "c": conv2d(1, 1, (5, 5))}, [("input", "c"), ("c", "output")]
        ),
        r"'c' \(Conv2d\): a kernel of \(5, 5\) does not fit",
    ),
    "shape": (
        lambda: net({"input": nir.Input(np.array([0.5]))}, [("input", "output")]),
        r"'input' \(Input\): its shape must be whole numbers",
    ),
    "name": (
        lambda: nir.NIRGraph({"": neuron("LIF"), 3: neuron("LI")}, [], type_check=False),
        "a name of a NIR node is a non-empty string",
    ),
    "two of a name": (
        lambda: net(
            {"n": neuron("LIF"), "n.v": neuron("Threshold"), "fc": affine(3, 4)},
            [*CHAIN, ("fc", "n.v"), ("n.v", "output")],
        ),
        "two nodes of the graph would be called 'n.v",
    ),
    "two inner inputs": (
        lambda: net(
            {
                "g": nir.NIRGraph(
                    {"a": nir.Input(ones), "b": nir.Input(ones), "o": nir.Output(ones)},
                    [("a", "o"), ("b", "o")],
                    type_check=False,
                )
            },
            [("input", "g"), ("g", "output")],
        ),
        "'input' -> 'g': the graph 'g' has 2 nodes of kind Input",
    ),
    "no inner output": (
        lambda: net(
            {"g": nir.NIRGraph({"a": nir.Input(ones), "n": neuron("LIF")}, [("a", "n")], type_check=False)},
            [("input", "g"), ("g", "output")],
        ),
        "the graph 'g' has 0 nodes of kind Output",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_graphs_are_refused_by_name(name: str) -> None:
    """If this fails, users learn neither which node of their network is wrong nor how."""
    make, message = REFUSED[name]
    with np.errstate(all="ignore"):
        graph = make()
    with pytest.raises(GraphError, match=message):
        from_nir(graph, dt=DT, reset="zero")


NONSENSE: list[Any] = [
    *(None, 3, -1, 1e308, float("nan"), 2**70, True, "same", b"x", [], {}, (1, 2, 3), [[1], [2, 3]], object()),
    *(np.ones((2, 2)), np.ones(0), np.array("a"), np.array(3), np.array([1.5]), np.ones(3, complex)),
    *(np.array([None]), np.array([2**40]), np.array(2**40)),
]


@pytest.mark.parametrize("name", ["conv2d", "mean", *SPIKING, "CubaLI", "I"])
def test_nonsense_in_a_field_ends_in_our_errors(name: str) -> None:
    """If this fails, a field of an unexpected type ends in an error of NumPy's, or takes all memory."""

    def made() -> Any:
        if name not in WINDOWS:
            nodes = {"fc": affine(3, 4), "n": neuron(name), "d": nir.Delay(np.full(3, DT)), "s": nir.Scale(ones)}
            return net(nodes, [*CHAIN[:2], ("n", "d"), ("d", "s"), ("s", "output")])
        shape, node = WINDOWS[name]
        f = nir.Flatten({"input": np.array(shape)}, 0, -1)
        edges = [("input", "f"), ("input", "c"), ("c", "output"), ("f", "out")]
        ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(None), "out": nir.Output(None)}
        return nir.NIRGraph({"c": copy.deepcopy(node), "f": f, **ends}, edges, type_check=False)

    from_nir(made(), dt=DT, reset="zero")
    refused = 0
    for place in made().nodes:
        for field in list[str](vars(made().nodes[place])):
            for value in NONSENSE:
                graph = made()
                setattr(graph.nodes[place], field, value)
                try:
                    from_nir(graph, dt=DT, reset="zero")
                except GraphError:
                    refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0}, "'dt' must be a number of seconds greater than 0, got 0"),
        ({"dt": "soon"}, "'dt' must be"),
        ({"dt": True}, "'dt' must be"),
        ({"dt": float("nan")}, "'dt' must be"),
        ({"reset": None}, r"NIR node 'n' \(LIF\) spikes, .*\n  Give reset='zero'.*\n  snnTorch"),
        ({"reset": "one"}, "unknown reset 'one'"),
        ({"reset": {"m*": "zero"}}, r"NIR node 'n' \(LIF\) spikes"),
        ({"reset": {"n": "zero", "m": 3}}, "unknown reset 3"),
        ({"surrogate": "square"}, "node 'n.z': attribute 'surrogate' must be one of"),
        ({"dampening": -1}, "node 'n.z': attribute 'dampening' must be"),
        ({"trainable": "fd"}, "'trainable' names 'fd', .*\n  Known: fc"),
        ({"trainable": 3}, "'trainable' must be True, False or patterns"),
        ({"trainable": [3]}, "'trainable' must be True, False or patterns"),
        ({"reset": "subtract_next"}, r"NIR node 'n' \(LIF\): reset 'subtract_next' subtracts .* 'v_reset' is not zero"),
    ],
)
def test_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    """If this fails, a typing error trains another network."""
    with pytest.raises(GraphError, match=message):
        cast(Any, from_nir)(chain(), **({"dt": DT, "reset": "zero"} | arguments))
