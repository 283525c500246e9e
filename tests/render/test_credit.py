"""Do pictures of credit show which paths a rule keeps, where it cuts, and what flows at a step?"""

from __future__ import annotations

import re
from typing import Any

import drawn_graphs as graphs
import numpy as np
import pytest
from nets import stack, vanilla
from test_declared import attributes
from test_engines import HERE, texts

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.errors import DataError, RenderError, RuleError
from forwardgrad.render import engines
from forwardgrad.render.fates import CUT_BY_CREDIT, CUT_BY_RULE, DEAD, KEPT, fates
from forwardgrad.render.style import LIGHT

CARRIES, CUTS, ENTRY = "kept", "cut", "enters"
ARROW = re.compile(r"^\s*(\w+) -> (\w+) \[(.*)\]$", re.MULTILINE)
RULES = ("rtrl", "eprop-deep", "eprop", "hops(2)", "immediate")


def program(rule: Any = "eprop", graph: Any = None, **options: Any) -> fg.Program:
    return fg.compile(stack() if graph is None else graph, {"y": "mse"}, rule, dead="ignore", **options)


def arrows(source: str) -> list[dict[str, str]]:
    """What is drawn as an arrow, apart from what only keeps rows in order."""
    found = [{**attributes(rest), "from": tail, "to": head} for tail, head, rest in ARROW.findall(source)]
    return [arrow for arrow in found if arrow.get("style") != "invis"]


def role(arrow: dict[str, str]) -> str:
    """The role in which an arrow is drawn."""
    return arrow["class"].split()[0]


def coloured(source: str, wanted: str) -> set[str]:
    """The edges drawn in a role, by name."""
    found = {edge_of(arrow) for arrow in arrows(source) if role(arrow) == wanted}
    color = LIGHT["passive" if wanted == "dead" else wanted]
    assert all(arrow["color"] == color for arrow in arrows(source) if role(arrow) == wanted)
    return found


def edge_of(arrow: dict[str, str]) -> str:
    """The name of the edge that an arrow stands for: the first line of its tooltip."""
    return arrow["tooltip"].split("\\n")[0]


def moment(rule: str = "eprop") -> Any:
    found, random = program(rule), np.random.default_rng(0)
    inputs, targets = {"x": random.normal(size=(6, 2, 2))}, {"y": random.normal(size=(6, 2, 2))}
    return found.record(found.init(0), inputs, targets, block=2)


def test_golden_credit(golden: Any) -> None:
    golden(render.credit(program(), "x->a1").source, "credit_stack.dot")


def test_golden_credit_of_a_large_graph(golden: Any) -> None:
    large = fg.compile(graphs.chain(12, layers=3), {"h11": "mse"}, "eprop", dead="ignore")
    golden(render.credit(large, "x->h0", cap=10).source, "credit_collapsed.dot")


def test_golden_unrolled(golden: Any) -> None:
    golden(render.unrolled(program("hops(2)", vanilla()), "h->h", 3).source, "unrolled_vanilla.dot")


def test_golden_flow(golden: Any) -> None:
    source = render.flow(moment(), 3, "x->a1").source
    golden(re.sub(r"(?<=\d\.\d)\d+", "", source), "flow_stack.dot")  # digits that rounding may change are left out


def test_edges_say_what_becomes_of_credit() -> None:
    """If this fails, a picture shows credit where there is none, or hides a cut."""
    source = render.credit(program("eprop"), "x->a1").source
    assert coloured(source, ENTRY) == {"x->a1"}
    assert coloured(source, CARRIES) == {"a1->h1", "h1->h1", "h1->a2", "a2->h2", "h2->y"}
    assert coloured(source, CUTS) == {"h1->a1", "h2->h2", "h2->a2"}
    by_edge = {edge_of(arrow): arrow for arrow in arrows(source)}
    assert by_edge["h1->a1"]["label"] == "cut z⁻¹ 2"
    assert (by_edge["h1->a1"]["style"], by_edge["h1->a1"]["arrowtail"]) == ("dashed", "tee")
    assert by_edge["a1->h1"]["label"] == "1→2"
    assert by_edge["a1->h1"]["tooltip"] == "a1->h1\\nkept: fresh,own → state,own"
    assert "1 = fresh,own: no state of this layer passed yet" in source
    assert "2 = state,own: held in a state" in source
    exact = render.credit(program("rtrl"), "x->a1").source
    assert coloured(exact, CUTS) == set()
    assert "exact" in exact


def test_nodes_say_what_is_stored_and_its_price() -> None:
    """If this fails, a reader is told another price than the program's."""
    found = program("eprop-deep", dtype="float64")
    source = render.credit(found, "x->a1").source
    derived = found.rules["x->a1"]
    assert "stores diagonal 3×2: 48 B" in source
    assert "stores full 3×3×2: 144 B" in source
    assert sum(int(n.replace(",", "")) for n in re.findall(r"stores [^:]*: ([\d,]+) B", source)) == derived.bytes


def test_cuts_of_the_graph_are_told_from_those_of_the_rule() -> None:
    """If this fails, a user looks for a cut in the rule that stands in the graph."""
    graph = stack()
    graph.edges["h1", "a2", 0]["credit"] = "cut"
    graph.add_edge("h1", "y", weight="dense")
    found = fates(program("rtrl", graph), "x->a1")
    assert {arc.edge for arc in found.arcs if arc.fate == CUT_BY_CREDIT} == {"h1->a2"}
    assert not any(arc.fate == CUT_BY_RULE for arc in found.arcs)
    assert "cut by graph" in render.credit(program("rtrl", graph), "x->a1").source
    assert "cut by graph" not in render.credit(program("eprop", stack()), "x->a1").source


def test_ways_to_no_loss_are_dotted() -> None:
    """If this fails, credit seems to go where no loss is."""
    graph = vanilla()
    graph.add_node("aside", op="tanh", size=2)
    graph.add_edge("h", "aside", weight="dense", trainable=False)
    found = fates(program("rtrl", graph), "x->h")
    assert {arc.edge for arc in found.arcs if arc.fate == DEAD} == {"h->aside"}
    (arrow,) = (a for a in arrows(render.credit(program("rtrl", graph), "x->h").source) if edge_of(a) == "h->aside")
    assert arrow["style"] == "dotted"


def test_a_bias_is_marked_on_its_node() -> None:
    """If this fails, nobody sees where a bias enters."""
    source = render.credit(program("eprop", vanilla()), "h.bias").source
    (line,) = [line for line in source.splitlines() if "\\nbias enters" in line]
    assert attributes(line)["tooltip"].startswith("h")
    assert coloured(source, ENTRY) == set()


def test_rules_are_told_apart_in_time() -> None:
    """If this fails, two rules that keep different paths look alike."""
    drawn = {rule: render.unrolled(program(rule), "x->a1", 4, title="").source for rule in RULES}
    assert len(set(drawn.values())) == len(RULES)
    kept = {rule: sum(role(a) == CARRIES for a in arrows(source)) for rule, source in drawn.items()}
    assert kept["immediate"] < kept["eprop"] < kept["eprop-deep"] < kept["rtrl"] < kept["hops(2)"]  # in two modes
    assert {rule for rule, source in drawn.items() if any(role(a) == CUTS for a in arrows(source))} == {*RULES} - {
        "rtrl"
    }


def test_the_paths_in_time_are_those_that_the_oracle_counts() -> None:
    """If this fails, an arrow is drawn that no path takes, or a path has no arrow."""
    numbers = {node: index for index, node in enumerate(program().network.order)}
    for rule in RULES:
        found = program(rule)
        ends: dict[str, set[str]] = {}
        for arrow in arrows(render.unrolled(found, "x->a1", 4).source):
            if role(arrow) == CARRIES:
                ends.setdefault(arrow["from"], set()).add(arrow["to"])
        reached, queue = set[str](), [f"t0_n{numbers['a1']}"]
        while queue:
            for cell in ends.get(queue.pop(), ()):
                if cell not in reached:
                    reached.add(cell)
                    queue.append(cell)
        drawn = {t for t in range(4) if any(cell.startswith(f"t{t}_n{numbers['y']}") for cell in reached)}
        assert drawn == _reaching(rule), rule


def _reaching(rule: str) -> set[int]:
    """The delays after which one use of `x->a1` has credit for the loss: by the oracle, with an input at one step."""
    graph, steps, random = stack(), 4, np.random.default_rng(3)
    params = {name: random.normal(size=array.shape) for name, array in program("rtrl").init(0).items()}
    inputs = {"x": np.zeros((steps, 1, 2))}
    inputs["x"][0] = 1.0  # what x->a1 multiplies later is zero
    targets = {"y": random.normal(size=(steps, 1, 2))}
    found: set[int] = set()
    for t in range(steps):
        mask = np.eye(steps)[t]
        grads = fg.oracle.reverse(graph, params, inputs, targets, {"y": "mse"}, rule, mask).grads
        if np.abs(grads["x->a1"]).max() > 0:
            found.add(t)
    return found


def test_delays_skip_columns_and_ends_are_left_out() -> None:
    """If this fails, a delay of several steps is drawn as one."""
    found = program("rtrl", vanilla(delay=2))
    drawn = arrows(render.unrolled(found, "x->h", 5).source)
    jumps = {int(arrow["to"][1]) - int(arrow["from"][1]) for arrow in drawn if arrow["from"].startswith("t")}
    assert jumps == {0, 2}


def test_flow_says_the_numbers_of_the_record() -> None:
    """If this fails, a picture shows other numbers than were recorded."""
    record = moment()
    source = render.flow(record, 4, "x->a1").source
    for name, sizes in record.nodes("x->a1").items():
        (label,) = re.findall(rf'\[label="{name}\\n([^"]*)"', source)
        assert sizes.signal is not None
        assert label == f"trace {sizes.trace[4]:.3g}\\nsignal {sizes.signal[4]:.3g}\\ngradient {sizes.product[4]:.3g}"
    widths = {edge_of(a): float(a["penwidth"]) for a in arrows(source) if role(a) == CARRIES}
    edges = record.edges("x->a1")
    for arrow in arrows(source):
        if role(arrow) == CARRIES:
            sizes = edges[edge_of(arrow)]
            assert f"trace {sizes.trace[4]:.3g}, gradient {sizes.product[4]:.3g}" in arrow["tooltip"]
    largest = max(edges, key=lambda name: edges[name].trace[4])
    assert widths[largest] == max(widths.values())
    assert set(widths) == set(edges)
    assert render.flow(record, -2, "x->a1").source == source
    assert render.flow(record, 4).source != source


def test_flow_of_a_large_graph_is_that_of_its_layers() -> None:
    """If this fails, what flows in a large graph cannot be looked at."""
    found, random = fg.compile(graphs.chain(12, layers=3), {"h11": "mse"}, "rtrl"), np.random.default_rng(0)
    record = found.record(found.init(0), {"x": random.normal(size=(4, 1, 2))}, {"h11": np.ones((4, 1, 4))})
    source = render.flow(record, 2, "h2->h2", cap=10).source
    nodes = record.nodes("h2->h2")
    trace = np.sqrt(sum(nodes[f"h{i}"].trace[2] ** 2 for i in range(4) if f"h{i}" in nodes))
    assert f"l0\\n4 nodes\\n16 units\\ntrace {trace:.3g}\\n" in source
    assert "one node per layer" in source


def test_all_parameters_together_are_roots_of_squares() -> None:
    """If this fails, the flow of all parameters is not that of each."""
    record = moment()
    together = record.nodes()["h2"]
    each = [record.nodes(name)["h2"] for name in record.parameters if "h2" in record.nodes(name)]
    np.testing.assert_allclose(together.trace, np.sqrt(sum(np.square(one.trace) for one in each)))
    np.testing.assert_allclose(together.product, np.sqrt(sum(np.square(one.product) for one in each)))


@pytest.mark.parametrize(("number", "name"), list(enumerate([*graphs.NAMES, *graphs.UNSEEN])), ids=repr)
def test_names_are_drawn_as_names(number: int, name: str) -> None:
    """If this fails, a name changes a picture, or is lost in it. An engine draws one of three pictures in turn."""
    graph = graphs.named(name)
    graph.add_node("out", op="linear", size=2)
    graph.add_edge(name, "out", weight="dense")
    found = fg.compile(graph, {"out": "mse"}, "rtrl")
    random = np.random.default_rng(0)
    record = found.record(found.init(0), {"in": random.normal(size=(3, 1, 2))}, {"out": np.zeros((3, 1, 2))})
    pictures = (
        render.credit(found, name),
        render.unrolled(found, name, 2),
        render.flow(record, 1, name),
    )
    for drawing in pictures:
        assert drawing.source.count("subgraph") <= 2
    if HERE:
        drawn = texts(engines.render(pictures[number % 3].source, "svg", engine=HERE[-1]))
        assert (graphs.UNSEEN.get(name) or name).replace("\xa0", " ") in drawn


@pytest.mark.parametrize("engine", [rung.name for rung in engines.LADDER])
def test_each_engine_draws_each_kind(engine: str) -> None:
    """If this fails, a picture depends on which engine a machine has."""
    if engine not in HERE:
        pytest.skip(f"{engine} is not installed")
    found = program()
    for drawing in (render.credit(found, "x->a1"), render.unrolled(found, "x->a1"), render.flow(moment(), 2)):
        drawn = engines.render(drawing.source, "svg", engine=engine)
        assert {"h1", "a2"} <= {text.split("\n")[0] for text in texts(drawn)}


def test_what_cannot_be_drawn_is_named() -> None:
    """If this fails, bad arguments give an empty picture or an error of somebody else."""
    found, record = program(), moment()
    with pytest.raises(DataError, match="no parameter 'x->a3'"):
        render.credit(found, "x->a3")
    graph = vanilla(trainable=False)
    with pytest.raises(RuleError, match="'h->h' is not trained: it is frozen"):
        render.unrolled(program("eprop", graph), "h->h")
    with pytest.raises(RuleError, match="its rule leaves it as it is"):
        render.credit(program({"h->h": "reservoir", "*": "eprop"}, vanilla()), "h->h")
    for steps in (0, -1, 1.5, True, "4"):
        with pytest.raises(RenderError, match="steps must be a whole number >= 1"):
            render.unrolled(found, "x->a1", steps)  # pyright: ignore[reportArgumentType]
    with pytest.raises(RenderError, match=r"6 nodes over 100 steps are \d+ nodes to draw"):
        render.unrolled(found, "x->a1", 100)
    for t in (6, -7, 1.5, True, "1"):
        with pytest.raises(DataError, match="there is no step"):
            render.flow(record, t)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="'y' was not recorded"):
        render.flow(record, 0, "y")
    with pytest.raises(RenderError, match="too large to draw"):
        render.flow(record, 0, cap=2)
    with pytest.raises(RenderError, match="too large to draw"):
        render.credit(found, "x->a1", cap=3)


def test_every_entry_has_an_arrow_of_its_own() -> None:
    """If this fails, a tied weight seems to enter several times from one place."""
    graph = vanilla(param="w", delay=1)
    graph.add_node("z", op="input", size=3)
    graph.add_edge("z", "h", weight="dense", param="w", delay=2)
    source = render.unrolled(program("rtrl", graph), "w", 2).source
    assert {"h(t-1)", "z(t-2)"} <= set(re.findall(r'enters_\d \[label="([^"]*)"', source))


def test_learning_signals_are_marked_where_they_enter() -> None:
    """If this fails, a picture says that a loss teaches where a signal of the user's does."""
    found = program({"h->y": "rtrl", "*": 'eprop; feedback={"h": "signal"}'}, vanilla())
    source = render.credit(found, "x->h").source
    assert "signal given" in source
    assert "loss mse" not in source
    two = {attributes(line)["tooltip"] for line in source.splitlines() if "peripheries" in line}
    assert two == {"h\\nsignal given"}


def test_layers_say_what_happens_inside() -> None:
    """If this fails, the picture of a large graph hides where a parameter enters or is cut."""
    large = fg.compile(graphs.chain(12, layers=3), {"h11": "mse"}, "rtrl & cut(['h6->h7'])", dead="ignore")
    assert "the parameter enters here" in render.credit(large, "h1->h2", cap=10).source
    assert "1 cut inside" in render.credit(large, "h1->h2", cap=10).source


def test_prices_on_pictures_add_up_for_lossy_layouts() -> None:
    """If this fails, an estimate seems to cost less than it does."""
    found = program({"h->h": "uoro", "*": "rtrl"}, vanilla())
    source = render.credit(found, "h->h").source
    assert f"stores {found.rules['h->h'].bytes} B per sample" in source
    assert "stores uoro 3: 24 B" in source


def test_parts_of_a_weight_are_told_apart() -> None:
    """If this fails, two arrows of one edge say the same and mean different things."""
    source = render.credit(program("eprop; autapses=implicit", vanilla()), "x->h").source
    loops = [arrow for arrow in arrows(source) if edge_of(arrow) == "h->h"]
    assert [("(diagonal)" in a["tooltip"], "(rest)" in a["tooltip"]) for a in loops] == [(True, False), (False, True)]
    assert [role(a) for a in loops] == [CARRIES, CUTS]
    assert re.fullmatch(r"z⁻¹ \d \(diagonal\); cut \d \(rest\)", loops[0]["label"])


def test_what_cannot_be_unrolled_is_refused_at_once() -> None:
    """If this fails, a slip of the finger fills the memory."""
    with pytest.raises(RenderError, match="too large to unroll"):
        render.unrolled(program(), "x->a1", 10**9)


def test_truncation_stands_in_the_title() -> None:
    """If this fails, truncated BPTT looks like the exact gradient."""
    assert "exact" not in render.unrolled(program("tbptt", vanilla()), "x->h", 2).source.split("label=")[1][:120]


def test_kept_fates_are_those_of_the_plan() -> None:
    """If this fails, pictures follow other paths than the program."""
    for rule in RULES:
        found = program(rule)
        for name in found.rules:
            drawn = fates(found, name)
            reached = found.plan.product.reach([i.place for i in found.plan.product.injections if i.parameter == name])
            kept = {arc.edge for arc in found.plan.product.arcs if arc.source in reached and not arc.factor.numeric}
            assert {arc.edge for arc in drawn.arcs if arc.fate == KEPT} >= kept, (rule, name)
            assert set(found.rules[name].dropped) <= {arc.edge for arc in drawn.arcs if arc.target is None}
