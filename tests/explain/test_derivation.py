"""Do the printed equations say what the program does? They are evaluated here, and compared with its gradient."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import compiled, error
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import declare, problem, vanilla

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.explain.notation import LIMIT, Equations, Line, Symbol
from forwardgrad.graph import Network
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems

# Evaluating equations.


class Evaluated:
    """Equations of one parameter, executed as they are written, for one sample, a step at a time."""

    def __init__(self, program: fg.Program, given: Problem, name: str, sample: int) -> None:
        self.equations: Equations = program.rules[name].equations
        self.network, self.params, self.seed = program.network, given.params, program.chosen[name].seed
        self.parameter = self.network.parameters[name]
        inputs = {node: x[:, sample : sample + 1] for node, x in given.inputs.items()}
        self.values = {node: v[:, 0] for node, v in program.run(given.params, inputs).items()}
        self.steps = given.steps
        self.losses = {node: self._loss(program, given, node, sample) for node in given.loss}
        self.past: dict[Symbol, list[Array]] = {}

    def _loss(self, program: fg.Program, given: Problem, node: str, sample: int) -> Array:
        """The derivative of the loss by a node, `(time, size)`."""
        mask = given.mask[node] if isinstance(given.mask, dict) else given.mask
        weight = np.ones((given.steps, given.batch)) if mask is None else np.asarray(mask, float)
        weight = np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, (given.steps, given.batch))
        outputs = np.repeat(self.values[node][:, None], given.batch, axis=1)
        return loss_table.evaluate(program.losses[node], outputs, given.targets[node], weight)[1][:, sample]

    def gradient(self) -> Array:
        total: Any = np.zeros(self.entries)
        for t in range(self.steps):
            for line in self.equations.influence:
                self.past.setdefault(_bare(line.left), []).append(self._line(line, t))
            self.signals: dict[Symbol, Array] = {}
            for line in reversed(self.equations.signals):
                self.signals[_bare(line.left)] = self._line(line, t)
            total = total + self._line(self.equations.gradient, t)
        pattern = self.parameter.pattern
        if pattern is None:
            return np.asarray(total)
        synapses = np.asarray(total[pattern.rows, pattern.columns])
        if pattern.entries is None:
            return synapses
        return np.bincount(pattern.entries, synapses, int(np.prod(pattern.kernel))).reshape(pattern.kernel)

    @property
    def entries(self) -> tuple[int, ...]:
        """Shape of the parameter, a sparse one as a matrix."""
        pattern = self.parameter.pattern
        return self.parameter.shape if pattern is None else pattern.shape

    def _line(self, line: Line, t: int) -> Array:
        if line.left.index or line.left.kind == "gradient" or self._single(line):
            return self._by_unit(line, t)
        size = self.network.nodes[line.left.name].size
        total = np.zeros((size, *(() if line.left.kind == "L" else self.entries)))
        for term in line.right:
            product: Any = np.eye(size) if not term.factors else self._whole(term.factors[-1], t)
            for factor in reversed(term.factors[:-1]):
                left = self._whole(factor, t)
                product = np.tensordot(left, product, 1) if np.ndim(left) else left * product
            total = total + term.number * product
        return total

    def _single(self, line: Line) -> bool:
        """Whether the left side is one number for all units: a bias in layout `scalar`."""
        return line.left.kind in ("eps", "e", "ebar") and line.left.name in self._uniform

    @property
    def _uniform(self) -> set[str]:
        notes = self.equations.notes
        same = [n.about for n in notes if n.about and "the same for every i" in n.text and n.about.index == ""]
        return {symbol.name for symbol in same}

    def _by_unit(self, line: Line, t: int) -> Array:
        """Einstein sums: the letters on the left, all others summed over."""
        out = line.left.index.replace(",", "")
        total: Any = 0.0
        for term in line.right:
            letters = [factor.index.replace(",", "") for factor in term.factors]
            assert set(term.over).isdisjoint(out)
            assert set("".join(letters)) <= {*out, *term.over}, term
            arrays = [self._array(factor, t) for factor in term.factors]
            for letter in out:
                letters.append(letter)
                arrays.append(np.ones(self._size(line, letter)))
            product = np.einsum(",".join(letters) + "->" + out, *arrays) if letters else 1.0
            total = total + term.number * product
        return np.asarray(total)

    def _size(self, line: Line, letter: str) -> int:
        """How far an index on the left of a line goes."""
        if letter == "j":
            return self.entries[-1]
        return self.entries[0] if line.left.kind == "gradient" else self.network.nodes[line.left.name].size

    def _array(self, symbol: Symbol, t: int) -> Array:
        """A symbol with its indices."""
        if symbol.kind in ("S", "eps", "e", "ebar"):
            return self._influence(symbol, t)
        if symbol.kind == "L":
            return self.signals[_bare(symbol)]
        if symbol.kind == "E":
            return self.losses[symbol.name][t]
        if symbol.kind == "value":
            return self._value(symbol.name, t - (symbol.delay or 0))
        if symbol.kind in ("D", "psi", "J"):
            return self._derivative(symbol.name, t)
        return self._weight(symbol)

    def _whole(self, symbol: Symbol, t: int) -> Array:
        """A symbol without indices: a matrix, a vector, a number or an influence on all units."""
        if symbol.kind == "identity":
            return np.eye(self.entries[0])
        array = self._array(symbol, t)
        if symbol.kind in ("eps", "e", "ebar"):
            return self._widened(symbol, array)
        if symbol.kind in ("D", "psi"):
            return np.diag(array)
        if symbol.form == "outer":
            rows = self.entries[0]
            return np.einsum("ki,j->kij", np.eye(rows), array)
        if symbol.form == "diagonal":
            return np.diag(array) if array.ndim == 1 else np.diag(np.diag(array))
        if symbol.form.startswith("rest"):
            array = array - np.diag(np.diag(array))
        return array.T if symbol.form.endswith("transposed") else array

    def _widened(self, symbol: Symbol, array: Array) -> Array:
        if self.parameter.kind == "scalar":
            return array
        (left,) = (line.left for line in self.equations.influence if _bare(line.left) == _bare(symbol))
        rows = np.eye(self.network.nodes[symbol.name].size)
        index = left.index.replace(",", "")
        own = "ij" if len(self.entries) == 2 else "i"
        return np.einsum(f"ki,{index}->k{own}", rows, array)

    def _influence(self, symbol: Symbol, t: int) -> Array:
        past, delay = self.past[_bare(symbol)] if _bare(symbol) in self.past else [], symbol.delay or 0
        if t < delay:
            (left,) = (line for line in self.equations.influence if _bare(line.left) == _bare(symbol))
            if left.left.index or self._single(left):
                return np.zeros([self._size(left, letter) for letter in left.left.index.replace(",", "")])
            return np.zeros((self.network.nodes[symbol.name].size, *self.entries))
        return past[t - delay]

    def _value(self, node: str, t: int) -> Array:
        return self.values[node][t] if t >= 0 else np.asarray(self.network.nodes[node].initial, float)

    def _derivative(self, name: str, t: int) -> Array:
        node_name, _, port = name.partition(",")
        node = self.network.nodes[node_name]
        ports = [self._port(node_name, q, t) for q in node.ports]
        name, y = port or node.ports[0], self.values[node_name][t][None]
        return node.op.jacobian(name, node.ports, ports, y, node.options)[0]

    def _port(self, name: str, port: str, t: int) -> Array:
        node = self.network.nodes[name]
        total = np.zeros((1, node.size))
        if node.bias is not None and node.bias_port == port:
            total = total + self.params[node.bias]
        for edge in self.network.into[name]:
            if edge.port == port:
                weight = 1.0 if edge.kind == "identity" else self._of_edge(edge.name)
                value = self._value(edge.source, t - edge.delay)
                total = total + (weight @ value if np.ndim(weight) == 2 else weight * value)
        return total

    def _of_edge(self, name: str) -> Array:
        edge = self.network.edges[name]
        array = self.params[edge.param] if edge.param is not None else edge.value
        return _matrix(self.network, name, np.asarray(array))

    def _weight(self, symbol: Symbol) -> Array:
        if symbol.kind == "B":
            edge = self.network.edges[symbol.name]
            shape = self.params[edge.param].shape if edge.param else np.shape(edge.value)
            return _matrix(self.network, symbol.name, random_feedback(symbol.name, shape, self.seed))
        if symbol.name in self.network.parameters:
            return self._of_edge(self.network.parameters[symbol.name].edges[0])
        return self._of_edge(symbol.name)


def _matrix(network: Network, name: str, array: Array) -> Array:
    pattern = network.edges[name].pattern
    if pattern is None:
        return array
    matrix = np.zeros(pattern.shape)
    matrix[pattern.rows, pattern.columns] = array if pattern.entries is None else array.ravel()[pattern.entries]
    return matrix


def _bare(symbol: Symbol) -> Symbol:
    return Symbol(symbol.kind, symbol.name, mode=symbol.mode)


def evaluated(program: fg.Program, given: Problem) -> dict[str, Array]:
    """The gradients by the equations."""
    return {
        name: sum(Evaluated(program, given, name, sample).gradient() for sample in range(given.batch))
        for name in program.rules
    }


def assert_equations_hold(given: Problem, rule: Any) -> fg.Program:
    """Assert that the equations of every parameter, executed as they are written, give the program's gradient."""
    program = compiled(given, rule)
    wanted = program.gradient(given.params, given.inputs, given.targets, block=1, mask=given.mask).grads
    found = {name: np.broadcast_to(g, wanted[name].shape) for name, g in evaluated(program, given).items()}
    assert error(found, {name: wanted[name] for name in found}) <= 1e-10
    return program


RULES = ["rtrl", "eprop", "eprop-deep", "ostl", "immediate", "hops(2)", "rtrl; autapses=implicit"]


@pytest.mark.parametrize("rule", [*RULES, "eprop-random", "rtrl; operator={'implicit': 0.7}"])
@pytest.mark.parametrize("name", ["lif", "leaky_stack", "elman", "lstm", "gru"])
def test_equations_of_shipped_graphs_give_the_gradient(name: str, rule: str) -> None:
    """If this fails, a printed equation is not what is computed."""
    graph = fg.load(name)
    for node in graph:
        if graph.nodes[node].get("size") == 32:
            graph.nodes[node]["size"] = 3
    given = problem(graph, "y", steps=5, gain=2.0)
    program = assert_equations_hold(given, rule)
    assert all(d.equation.count("\n") for d in program.rules.values() if d.layouts)


@given(st.data())
@settings(max_examples=12)
def test_equations_of_random_graphs_give_the_gradient(data: st.DataObject) -> None:
    """If this fails, some graph or rule is put into equations that are not what is computed."""
    given_ = data.draw(problems(max_nodes=5, least_steps=5, most_steps=6, max_batch=1))
    assert_structure(assert_equations_hold(given_, data.draw(path_rules(given_.edges))))


def assert_structure(program: fg.Program) -> None:
    """Assert that each stored place has one line, and that only weights of kept edges are multiplied by."""
    plan = program.plan
    names = {name for arc in plan.product.arcs for name in (arc.edge, plan.network.edges[arc.edge].param)}
    for name, derived in program.rules.items():
        found = derived.equations
        left = [line.left for line in (*found.influence, *found.signals)]
        assert len({_bare(symbol) for symbol in left}) == len(left)
        nodes = {symbol.name for symbol in left}
        stored = {plan.product.places[place].node for place in plan.entries[name]}
        filtered = {note.text.rpartition(" leak of ")[2] for note in found.notes}
        assert stored <= nodes | filtered
        for line in (*found.influence, *found.signals):
            weights = {factor.name for term in line.right for factor in term.factors if factor.kind in ("W", "w")}
            assert weights <= names


def test_equations_read_as_text_where_python_shows_them() -> None:
    """If this fails, a terminal, and a page without mathematics, show the fields of a data class."""
    equations = fg.compile(fg.load("elman"), rule="eprop").rules["h->h"].equations
    assert repr(equations) == equations.text()


def test_equations_read_like_the_papers(golden: Callable[[str, str], None]) -> None:
    """If this fails, the equations that a reader knows from the papers are printed in another form."""
    wanted = {
        ("lif", "eprop"): ["z->v", "x->v", "z->y", "y.bias"],
        ("leaky_stack", "eprop-deep"): ["x->a1", "h1->a2", "a1.bias"],
        ("elman", "rtrl"): ["h->h", "x->h", "h.bias"],
        ("elman", "eprop-random"): ["h->h"],
        ("lstm", "eprop"): ["x->l1.i", "l1.h->l1.o"],
        ("gru", "eprop"): ["x->l1.n", "l1.h->l1.r"],
        ("lif", "hops(2)"): ["z->v"],
        ("leaky_stack", "snap(2)"): ["h1->a1"],
        ("elman", "rtrl; autapses=implicit, layout=uoro"): ["h->h"],
    }
    parts: list[str] = []
    for (graph, rule), names in wanted.items():
        program = fg.compile(fg.load(graph), rule=rule)
        parts += [f"{graph}, {rule}, {name}\n\n{program.rules[name].equation}\n" for name in names]
    golden("\n".join(parts), "equations.txt")


def test_latex_of_shipped_graphs(golden: Callable[[str, str], None]) -> None:
    """If this fails, the LaTeX of an equation has changed."""
    wanted = (("lif", "eprop", "z->v"), ("elman", "rtrl", "h->h"))
    found = [fg.compile(fg.load(graph), rule=rule).rules[name].latex() for graph, rule, name in wanted]
    golden("\n\n".join(found) + "\n", "equations.tex")


def test_tied_delayed_and_parallel_edges_and_several_losses() -> None:
    """If this fails, a site, a delay, an edge or a loss is missing from an equation."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "a": {"op": "tanh", "size": 2},
            "b": {"op": "linear", "size": 2},
            "y": {"op": "linear", "size": 1},
        },
        ("x", "a", {"weight": "dense", "param": "tied"}),
        ("a", "b", {"weight": "dense", "param": "tied", "delay": 3}),
        ("a", "a", {"weight": "diagonal", "delay": 2}),
        ("a", "b", {"weight": "scalar"}),
        ("a", "b", {"key": "other", "value": -0.5, "delay": 1}),
        ("b", "y", {"weight": "dense"}),
    )
    program = assert_equations_hold(problem(graph, "b", "y", steps=8), "rtrl")
    text = program.rules["tied"].equation
    for part in ("(t-3)", "(t-2)", "dE/db", "dE/dy"):
        assert part in text
    assert_structure(program)


def test_what_happens_besides_is_said() -> None:
    """If this fails, a lossy layout or a dropped influence reads like the exact recursion."""
    said = {
        "snap(3)": "n - 1 = 2 transitions",
        "uoro": "a b^T",
        "kf-rtrl": "Kronecker",
        "tbptt": "dropped",
    }
    for rule, words in said.items():
        rules = {"h->h": rule, "*": "rtrl"}
        assert words in fg.compile(vanilla(), loss={"y": "mse"}, rule=rules).rules["h->h"].equation.splitlines()[-1]
    given_ = fg.compile(vanilla(), loss={"y": "mse"}, rule="rtrl; feedback=signal").rules["h->h"].equation
    assert "the learning signal that is given" in given_
    adaptive = fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop-adaptive").rules["h->h"].equation
    assert "B_{h->y}: adaptive feedback" in adaptive
    assert "W_{h->y}" not in adaptive


def test_untrained_parameters_are_listed_and_have_no_equation() -> None:
    """If this fails, a frozen reservoir looks trained, or vanishes from the listing."""
    program = fg.compile(fg.load("elman"), rule="reservoir")
    assert "h->h" not in program.rules
    assert [line for line in str(program).splitlines() if line.startswith("h->h") and "untrained (reservoir)" in line]


HOSTILE = ["a_b", "c^2", "\\input{x}", "50%", "$", "#1 & ~", "}{", "line\nbreak", "it's"]


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_of_hostile_names(name: str) -> None:
    """If this fails, a name of the user's breaks the document that its equation stands in, or a line of text."""
    graph = declare(
        {"x": {"op": "input", "size": 1}, name: {"op": "tanh", "size": 2}, "y": {"op": "linear", "size": 1}},
        ("x", name, {"weight": "dense"}),
        (name, name, {"weight": "dense", "delay": 1}),
        (name, "y", {"weight": "dense"}),
    )
    derived = fg.compile(graph, loss={"y": "mse"}, rule="hops(2)").rules[f"{name}->{name}"]
    latex = derived.latex()
    bare = re.sub(r"\\[\\{}_^%$#&]", "", latex)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[%#~]", bare)
    assert bare.count("&") == bare.count("&=")
    assert bare.count("$") % 2 == 0
    assert "\\input" not in latex
    assert "\nbreak" not in derived.equation


def test_dozens_of_places_stay_readable() -> None:
    """If this fails, the equation of a long chain runs over pages, or the compiler runs out of stack."""
    graph = declare({"x": {"op": "input", "size": 1}})
    for i in range(60):
        graph.add_node(f"n{i}", op="tanh", size=1)
        graph.add_edge(f"n{i - 1}" if i else "x", f"n{i}", weight="dense")
        graph.add_edge(f"n{i}", f"n{i}", weight="dense", delay=1)
    text = fg.compile(graph, loss={"n59": "mse"}, rule="rtrl").rules["x->n0"].equation
    assert "... and 20 more" in text
    assert len(text.splitlines()) < 3 * LIMIT


def test_explain_prints_equations(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, the command line shows other equations than the program, or those of other parameters."""
    derived = fg.compile(fg.load("lif"), rule="eprop").rules["z->v"]
    assert cli.main(["explain", "lif", "--rule", "eprop", "--param", "z->*"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {line}\n" in printed for line in derived.equation.splitlines())
    assert "dE/dW_{x->v}" not in printed
    assert cli.main(["explain", "lif", "--rule", "eprop", "--param", "z->v", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["parameters"].values()
    assert (found["equation"], found["latex"]) == (derived.equation, derived.latex())
    assert cli.main(["explain", "lif", "--rule", "eprop", "--param", "q"]) == 2
    assert "fits no trained parameter" in capsys.readouterr().err
