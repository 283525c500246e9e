"""Is a program inside a model of PyTorch a layer like any other, with the gradients of its rule?"""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.errors import DataError

torch = pytest.importorskip("torch")

from forwardgrad.bridges.torch import Module  # noqa: E402

INPUTS, UNITS, STEPS, BATCH = 3, 4, 7, 3


def network() -> nx.MultiDiGraph[str]:
    """Two recurrent layers; the second is the output."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=INPUTS)
    cells.elman(graph, "l1", input="x", size=UNITS)
    cells.elman(graph, "l2", input="l1.h", size=UNITS)
    return graph


def parts_of(rule: Any = "rtrl", backend: str = "numpy", **options: Any) -> tuple[Any, Any, Any]:
    """An encoder, the program, and a head."""
    torch.manual_seed(1)
    program = fg.compile(network(), loss={"l2.h": "mse"}, rule=rule, backend=backend)
    layer = Module(program, program.init(seed=2), **options)
    return torch.nn.Linear(2, INPUTS).double(), layer, torch.nn.Linear(UNITS, 1).double()


def by_autograd(layer: Any, encoded: Any, ends: tuple[int, ...] = ()) -> Any:
    """The same two layers as operations of PyTorch; credit over time ends after these steps."""
    w = layer.weights
    state = [torch.zeros(encoded.shape[1], UNITS, dtype=torch.float64)] * 2
    outputs = []
    for t, given in enumerate(encoded):
        now, below = given, "x"
        for i, name in enumerate(("l1.h", "l2.h")):
            fed = now @ w[f"{below}->{name}"].T + state[i] @ w[f"{name}->{name}"].T + w[f"{name}.bias"]
            now = state[i] = torch.tanh(fed)
            below = name
        outputs.append(now)
        if t + 1 in ends:
            state = [each.detach() for each in state]
    return torch.stack(outputs)


def data() -> tuple[Any, Any]:
    torch.manual_seed(3)
    return torch.randn(STEPS, BATCH, 2, dtype=torch.float64), torch.randn(STEPS, BATCH, 1, dtype=torch.float64)


def cleared(parts: Any) -> list[list[Any]]:
    """The gradients of each part, which are cleared."""
    found = [[each.grad.numpy().copy() for each in part.parameters()] for part in parts]
    for part in parts:
        part.zero_grad()
    return found


def same(found: list[Any], wanted: list[Any], within: float = 1e-12) -> bool:
    return all(np.allclose(a, b, rtol=0, atol=within) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("backend", ["numpy", "interpreter", "jax", "c"])
def test_gradients_are_those_of_autograd(backend: str) -> None:
    """Below, inside and above it over a whole sequence. In blocks its own and those above stay exact, and below it they
    are those of a network whose credit ends with the block.
    """
    skip_without(backend)
    encoder, layer, head = parts = parts_of(backend=backend)
    x, y = data()
    (head(by_autograd(layer, encoder(x))) - y).square().mean().backward()
    wanted = cleared(parts)
    assert min(np.abs(grad).max() for part in wanted for grad in part) > 1e-4
    (head(layer(encoder(x))) - y).square().mean().backward()
    for found, exact in zip(cleared(parts), wanted, strict=True):
        assert same(found, exact)
    layer.reset()
    for block in (slice(0, 2), slice(2, 3), slice(3, 7)):
        ((head(layer(encoder(x[block]))) - y[block]).square().sum() / y.numel()).backward()
    below, inside, above = cleared(parts)
    assert same(inside, wanted[1])
    assert same(above, wanted[2])
    (head(by_autograd(layer, encoder(x), ends=(2, 3))) - y).square().mean().backward()
    truncated = cleared(parts)[0]
    assert same(below, truncated)
    assert not same(truncated, wanted[0], within=1e-5)


def test_blocks_may_wait_for_their_backward_pass() -> None:
    """One loss over several blocks, as users write it who know nothing of traces."""
    encoder, layer, head = parts = parts_of()
    x, y = data()
    (head(by_autograd(layer, encoder(x))) - y).square().mean().backward()
    wanted = cleared(parts)
    outputs = torch.cat([layer(encoder(x[block])) for block in (slice(0, 4), slice(4, 7))])
    (head(outputs) - y).square().mean().backward()
    found = cleared(parts)
    assert same(found[1], wanted[1])
    assert same(found[2], wanted[2])


@pytest.mark.parametrize("rule", ["eprop", "eprop-deep", "snap(1)", "tbptt", {"l1.*": "eprop", "*": "rtrl"}])
def test_a_rule_has_its_own_gradients(rule: Any) -> None:
    """In blocks those of the program with the same loss, which are not the exact ones."""
    encoder, layer, _ = parts_of(rule)
    x, _ = data()
    program = fg.compile(network(), loss={"l2.h": "mse"}, rule=rule)
    params = {name: tensor.detach().numpy() for name, tensor in layer.weights.items()}
    goal = torch.zeros(STEPS, BATCH, UNITS, dtype=torch.float64)
    encoded = encoder(x).detach()
    for block in (slice(0, 3), slice(3, 7)):
        (layer(encoded[block]) - goal[block]).square().mean(dim=(1, 2)).sum().backward()
    wanted = _in_blocks(program, params, encoded.numpy(), goal.numpy())
    for name, grad in wanted.items():
        assert np.allclose(layer.weights[name].grad.numpy(), grad, rtol=0, atol=1e-13), name


def _in_blocks(program: fg.Program, params: Any, x: Any, y: Any) -> dict[str, Any]:
    state, total = program.start(BATCH), dict[str, Any]()
    for block in (slice(0, 3), slice(3, 7)):
        state, step = program.step(params, {"x": x[block]}, {"l2.h": y[block]}, state=state)
        total = {name: grad + total.get(name, 0) for name, grad in step.grads.items()}
    return total


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "immediate"])
def test_the_gradient_by_inputs_follows_the_paths_of_the_rule(rule: str) -> None:
    """Its sum over steps and samples is what the oracle finds for a bias that is added to the input."""
    relayed = nx.relabel_nodes(network(), {"x": "fed"})
    relayed.nodes["fed"].update(op="linear", bias=True)
    relayed.add_node("x", op="input", size=INPUTS)
    relayed.add_edge("x", "fed")
    program = fg.compile(network(), loss={"l2.h": "mse"}, rule=rule, by_inputs=True)
    params, random = program.init(seed=4), np.random.default_rng(5)
    x, y = random.normal(size=(STEPS, BATCH, INPUTS)), random.normal(size=(STEPS, BATCH, UNITS))
    _, step = program.step(params, {"x": x}, {"l2.h": y}, state=program.start(BATCH))
    given = {name.replace("x->", "fed->"): array for name, array in params.items()} | {"fed.bias": np.zeros(INPUTS)}
    wanted = oracle.reverse(relayed, given, {"x": x}, {"l2.h": y}, {"l2.h": "mse"}, rule=rule).grads["fed.bias"]
    assert np.abs(wanted).max() > 1e-3
    assert np.allclose(step.by_inputs["x"].sum(axis=(0, 1)), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
def test_inputs_that_share_an_adjoint_each_get_it(backend: str) -> None:
    """Sums and skips: the adjoint of an input is then that of another one, or of the output itself."""
    skip_without(backend)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name in ("a", "b", "skip"):
        graph.add_node(name, op="input", size=2)
    graph.add_node("h", op="linear", size=2, bias=True)
    graph.add_node("y", op="linear", size=2)
    for source, target in (("a", "h"), ("b", "h"), ("skip", "y")):
        graph.add_edge(source, target)
    graph.add_edge("h", "h", weight="dense", delay=1)
    graph.add_edge("h", "y", weight="dense")
    layer = Module(fg.compile(graph, loss={"y": "mse"}, backend=backend))
    given = {name: torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True) for name in ("a", "b", "skip")}
    goal = torch.randn(3, 2, 2, dtype=torch.float64)
    (layer(given) * goal).sum().backward()
    found = {name: tensor.grad.clone() for name, tensor in given.items()}
    h, loss, w = torch.zeros(2, 2, dtype=torch.float64), 0, layer.weights
    for tensor in given.values():
        tensor.grad = None
    for a, b, skip, g in zip(given["a"], given["b"], given["skip"], goal, strict=True):
        h = a + b + h @ w["h->h"].T + w["h.bias"]
        loss = loss + ((h @ w["h->y"].T + skip) * g).sum()
    loss.backward()
    for name, tensor in given.items():
        assert torch.allclose(found[name], tensor.grad, rtol=0, atol=1e-12), name


def test_an_optimizer_of_pytorch_trains_all_parts() -> None:
    """The loss falls, and every part has moved."""
    encoder, layer, head = parts_of()
    x, y = data()
    weights = [each for part in (encoder, layer, head) for each in part.parameters()]
    before = [each.detach().clone() for each in weights]
    optimizer, losses = torch.optim.Adam(weights, lr=0.01), []
    for _ in range(60):
        layer.reset()
        loss = (head(layer(encoder(x))) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(before, weights, strict=True))


def test_memory_does_not_grow_with_the_sequence() -> None:
    """After the backward pass nothing holds what a block began with, also before garbage is collected."""
    _, layer, _ = parts_of()
    gc.disable()
    try:
        held: list[weakref.ref[Any]] = []
        for _ in range(20):
            layer(torch.ones(5, BATCH, INPUTS, dtype=torch.float64)).square().sum().backward()
            held += [weakref.ref(array) for array in layer.state.values()]
        assert sum(reference() is not None for reference in held) == len(layer.state)
    finally:
        gc.enable()


def test_several_inputs_and_outputs_are_told_apart_by_name() -> None:
    """And frozen weights are buffers."""
    graph = network()
    graph.add_node("z", op="input", size=2)
    graph.add_edge("z", "l1.h", weight="dense", trainable=False)
    layer = Module(fg.compile(graph, loss={"l1.h": "mse", "l2.h": "mse"}), keep=False)
    given = {"z": torch.ones(2, 1, 2), "x": torch.ones(2, 1, INPUTS, requires_grad=True)}
    found = layer(given)
    assert found.keys() == {"l1.h", "l2.h"}
    assert found["l1.h"].dtype == torch.float32
    found["l1.h"].sum().backward()
    assert given["x"].grad.abs().max() > 0
    assert {name for name, _ in layer.named_buffers()} == {"z->l1_h"}
    assert layer.state_dict().keys() == {name.replace(".", "_") for name in layer.weights}
    assert torch.equal(copy.deepcopy(layer)(given)["l2.h"], layer(given)["l2.h"])


def test_the_batch_may_come_first_and_samples_start_afresh() -> None:
    """A sample that is reset goes on as one that has just begun."""
    _, layer, _ = parts_of(batch_first=True)
    _, other, _ = parts_of()
    x = torch.randn(BATCH, STEPS, INPUTS, dtype=torch.float64)
    first = layer(x)
    assert torch.equal(first, other(x.transpose(0, 1)).transpose(0, 1))
    layer.reset([True, False, False])
    again = layer(x)
    assert torch.equal(again[0], first[0])
    assert not torch.equal(again[1], first[1])
    with torch.no_grad():
        layer.reset()
        assert torch.equal(layer(x), first)


def test_what_does_not_fit_is_refused() -> None:
    """In the user's words."""
    _, layer, _ = parts_of()
    x = torch.ones(2, BATCH, INPUTS, dtype=torch.float64)
    layer(x)
    with pytest.raises(DataError, match=r"(?s)the last block had 3 samples, and this one has 2.*reset\(\)"):
        layer(x[:, :2])
    with pytest.raises(DataError, match="input 'x' must be a tensor of three axes"):
        layer(x[0])
    with pytest.raises(DataError, match="input 'x' must be a tensor of three axes"):
        layer(x.numpy())
    with pytest.raises(DataError, match=r"expected shape \(time, 3, 3\)"):
        layer(torch.ones(2, BATCH, 5, dtype=torch.float64))
    with pytest.raises(DataError, match="unknown name 'u'"):
        layer({"u": x})
    with pytest.raises(DataError, match=r"takes learning signals on 'l2\.h' from you"):
        Module(fg.compile(network(), loss={"l2.h": "mse"}, rule="rtrl; feedback=signal"))
    with pytest.raises(DataError, match=r"parameter 'x->l1\.h': expected shape"):
        Module(layer.program, {"x->l1.h": np.ones(3)})
    graph = network()
    graph.edges["x", "l1.h", 0]["param"] = "state"
    with pytest.raises(DataError, match="parameter 'state' cannot be registered as 'state': that name is taken"):
        Module(fg.compile(graph, loss={"l2.h": "mse"}))
    outputs = layer(x)
    with torch.no_grad():
        layer.weights["l1.h->l1.h"].mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()
