"""Which graphs do the tests of pictures draw?"""

from __future__ import annotations

import networkx as nx

Graph = nx.MultiDiGraph

NAMES = [
    'say "hello"',
    "back\\slash",
    "\\N \\G \\E \\L \\l",
    'end\\"]; evil [label="x',
    "ends in \\",
    "<b>bold</b>",
    "<TABLE><TR><TD>x</TD></TR></TABLE>",
    "</text><script>alert(1)</script>",
    "&lt;b&gt; &amp; &#65; &",
    "--> <!-- ]]>",
    "node",
    "strict digraph",
    "n0",
    "n0:port:ne",
    "{a|b}",
    "-4.2",
    "# comment // /* */",
    "日本語 ∂h/∂θ 🙂",
    "'; DROP TABLE",
]
"""Names that must be drawn as they are written."""

UNSEEN = {
    "two\nlines": "two\\nlines",
    "a\ttab\r": "a\\ttab\\r",
    "null\x00": "null\\x00",
    "bell\x07\x1b[31m": "bell\\x07\\x1b[31m",
    "\u202eright to left": "\\u202eright to left",
    "half \udc80": "half \\udc80",
    "x" * 10_000: "x" * 59 + "…",
    '"\\\n' * 4_000: '"\\\\n' * 19 + '"\\' + "…",
}
"""Names with what is drawn of them."""


def stack() -> Graph:
    """Two recurrent layers and a readout."""
    g: Graph = nx.MultiDiGraph()
    g.add_node("x", op="input", size=3)
    g.add_node("l1", op="tanh", size=8, bias=True, layer="lower")
    g.add_node("l2", op="tanh", size=8, bias=True, layer="upper")
    g.add_node("y", op="linear", size=1)
    g.add_edge("x", "l1", weight="dense")
    g.add_edge("l1", "l1", weight="dense", delay=1)
    g.add_edge("l1", "l2", weight="dense")
    g.add_edge("l2", "l2", weight="dense", delay=1)
    g.add_edge("l2", "y", weight="dense")
    return g


def everything() -> Graph:
    """Each attribute that a picture shows, once at least."""
    g: Graph = nx.MultiDiGraph()
    g.add_node("x", op="input", size=3)
    g.add_node("v", op="linear", size=4, layer="spiking", bias=0.5, bias_trainable=False)
    g.add_node("z", op="spike", size=4, layer="spiking", threshold=0.6, width=[1.0, 2.0, 1.0, 1.0], initial=1.0)
    g.add_node("gate", op="sigmoid", size=4, layer="gated")
    g.add_node("gated", op="mul", layer="gated", bias=True, bias_port="a")
    g.add_node("y", op="linear", size=2)
    g.add_edge("x", "v", weight="dense", delay=3)
    g.add_edge("v", "v", value=0.9, delay=1)
    g.add_edge("v", "z")
    g.add_edge("z", "v", weight="dense", delay=1, param="tied")
    g.add_edge("z", "v", key="reset", value=-0.6, delay=1, role="reset")
    g.add_edge("z", "gate", weight="dense", param="tied")
    g.add_edge("gate", "gate", weight="scalar", delay=12)
    g.add_edge("gate", "gated", port="a")
    g.add_edge("z", "gated", port="b", weight="diagonal")
    g.add_edge("gated", "y", weight="sparse", density=0.5, pattern_seed=1)
    g.add_edge("gated", "v", weight="dense", trainable=False, delay=1, role="topdown", credit="cut")
    g.add_edge("y", "y", value=[0.5, 0.9], delay=1, role="readout", credit="keep")
    g.add_edge("x", "y", value=[[1, 0, 0], [0, 1, 0]])
    return g


def chain(length: int, layers: int) -> Graph:
    """A long chain with a loop on every node; `layers=0` for none."""
    g: Graph = nx.MultiDiGraph()
    g.add_node("x", op="input", size=2)
    before = "x"
    for index in range(length):
        g.add_node(f"h{index}", op="tanh", **({"layer": f"l{index * layers // length}"} if layers else {}))
        g.add_edge(before, f"h{index}", weight="dense" if index == 0 else "diagonal")
        g.add_edge(f"h{index}", f"h{index}", weight="diagonal", delay=1)
        before = f"h{index}"
    g.nodes["h0"]["size"] = 4
    return g


def named(name: str) -> Graph:
    """A graph that has this name wherever a name can stand."""
    g: Graph = nx.MultiDiGraph()
    g.add_node("in", op="input", size=2)
    g.add_node(name, op="mul", layer=name)
    g.add_edge("in", name, port=name, weight="diagonal", role=name, param=name)
    g.add_edge(name, name, port="the other port", weight="diagonal", delay=1, param=name)
    return g
