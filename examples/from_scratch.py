"""Where does e-prop come from? From RTRL by hand, in NumPy, on one small network; then what the compiler derives.

Read it from top to bottom. Each part has a problem, a few lines that solve it, and a call in `main` that shows it work.
The network is one layer of leaky tanh units and a linear readout:

    a(t) = tanh(W x(t) + U h(t-1))                  the drive mixes units
    h(t) = alpha h(t-1) + (1 - alpha) a(t)          the state: every unit keeps its own
    y(t) = V h(t)
    loss = sum over t of mean((y(t) - y*(t))^2)

Sources: RTRL is Williams & Zipser 1989; e-prop is Bellec et al. 2020, doi 10.1038/s41467-020-17236-y.
"""

from __future__ import annotations

import networkx as nx
import numpy as np

import forwardgrad as fg

ALPHA = 0.8

# Part 0: the network
# -------------------
# W and U stand side by side in M = [W U], which reads z(t) = [x(t), h(t-1)]. What holds for M holds for both.


def forward(M, V, x):
    """Run the network. Returns z `(T, inputs + units)`, a and h `(T, units)`, y `(T, outputs)`."""
    h, zs, drives, states = np.zeros(len(M)), [], [], []
    for x_t in x:
        z = np.concatenate([x_t, h])
        a = np.tanh(M @ z)
        h = ALPHA * h + (1 - ALPHA) * a
        zs.append(z)
        drives.append(a)
        states.append(h)
    return np.array(zs), np.array(drives), np.array(states), np.array(states) @ V.T


def loss(M, V, x, target):
    """The loss of a sequence."""
    return float(np.sum(np.mean((forward(M, V, x)[3] - target) ** 2, axis=1)))


def central_differences(M, V, x, target, epsilon=1e-5):
    """The slow gradient by M that needs no thought: two runs of the network for every number in M."""
    gradient = np.zeros_like(M)
    for place in np.ndindex(M.shape):
        step = np.zeros_like(M)
        step[place] = epsilon
        gradient[place] = (loss(M + step, V, x, target) - loss(M - step, V, x, target)) / (2 * epsilon)
    return gradient


# Part 1: RTRL
# ------------
# The problem: BPTT needs the whole past. We want the gradient while time goes forward.
#
# The influence of M on the state, S(t)[k, i, j] = dh_k(t) / dM_ij, follows from the one of the step before:
#
#     S(t) = D(t) S(t-1) + I(t)
#     D(t) = dh(t) / dh(t-1) = alpha 1 + (1 - alpha) diag(1 - a(t)^2) U
#     I(t)[k, i, j] = (1 - alpha) (1 - a_k(t)^2) z_j(t) where k = i, else 0
#
# I is the injection: what M_ij does in this step, the past held fixed. It enters unit i and no other. The gradient of
# the loss of this step is the learning signal c(t) = dloss(t) / dh(t), times the influence.


def injection(slope, z):
    """I(t), `(units, units, inputs + units)`, from the slope dh_k(t) / d(M z)_k of every unit."""
    return np.eye(len(slope))[:, :, None] * slope[:, None, None] * z


def learning_signal(y, target, V):
    """c(t) = dloss(t) / dh(t), `(units,)`: the error of this step, brought back through the readout."""
    return 2 * (y - target) / len(y) @ V


def rtrl(M, V, x, target):
    """The exact gradient by M, online. Memory: units x M numbers, whatever the length of the sequence."""
    zs, drives, _, ys = forward(M, V, x)
    U = M[:, x.shape[1] :]
    S, gradient = np.zeros((len(M), *M.shape)), np.zeros_like(M)
    for z, a, y, y_star in zip(zs, drives, ys, target, strict=True):
        slope = (1 - ALPHA) * (1 - a**2)
        D = ALPHA * np.eye(len(M)) + slope[:, None] * U
        S = np.einsum("kl,lij->kij", D, S) + injection(slope, z)
        gradient += np.einsum("k,kij->ij", learning_signal(y, y_star, V), S)
    return gradient


# Part 2: drop the explicit recurrence
# ------------------------------------
# The problem: S has units x M numbers, n^3 for n units, and D S costs n^4 a step. Where does the cost come from?
#
# D has two terms. alpha 1 is the implicit recurrence: a unit's own state from one step to the next. The other term,
# with U in it, is the explicit recurrence: what a unit tells the others, and itself, through weights. Drop the second:
#
#     D = alpha 1
#
# Now nothing in S(t) = D S(t-1) + I(t) leads from unit i to another unit. An entry with k != i starts at zero and stays
# there. S is as large as before, and all but one number per synapse is zero.


def influence_without_explicit(M, V, x):
    """S(T) with D = alpha 1, written down in full, `(units, units, inputs + units)`."""
    zs, drives, _, _ = forward(M, V, x)
    S = np.zeros((len(M), *M.shape))
    for z, a in zip(zs, drives, strict=True):
        S = ALPHA * S + injection((1 - ALPHA) * (1 - a**2), z)
    return S


# Part 3: e-prop
# --------------
# So keep only that number, S(t)[i, i, j] = e(t)[i, j]. It is the eligibility trace:
#
#     e(t)[i, j] = alpha e(t-1)[i, j] + (1 - alpha) (1 - a_i(t)^2) z_j(t)
#     gradient   = sum over t of c_i(t) e(t)[i, j]
#
# Each synapse keeps one number and meets the learning signal of its own unit. That is e-prop. Its gradient lacks all
# credit that goes through other units in time; credit of the same step, through V, is in the learning signal.


def eprop(M, V, x, target):
    """The e-prop gradient by M, online. Memory: one number a synapse."""
    zs, drives, _, ys = forward(M, V, x)
    e, gradient = np.zeros_like(M), np.zeros_like(M)
    for z, a, y, y_star in zip(zs, drives, ys, target, strict=True):
        e = ALPHA * e + ((1 - ALPHA) * (1 - a**2))[:, None] * z
        gradient += learning_signal(y, y_star, V)[:, None] * e
    return gradient


# Part 4: what the compiler derives
# ---------------------------------
# The problem: for another network, or another rule, all of this has to be done again. So declare the network, and let
# the compiler find D, I and what of S needs to be stored.


def declare(inputs, units, outputs):
    """The same network as a graph."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=inputs)
    graph.add_node("a", op="tanh", size=units)
    graph.add_node("h", op="linear")
    graph.add_node("y", op="linear", size=outputs)
    graph.add_edge("x", "a", weight="dense")  # W
    graph.add_edge("h", "a", weight="dense", delay=1)  # U, explicit: it mixes units
    graph.add_edge("h", "h", value=ALPHA, delay=1)  # implicit: every unit its own
    graph.add_edge("a", "h", value=1 - ALPHA)
    graph.add_edge("h", "y", weight="dense")  # V
    return graph


def derived(rule, M, V, x, target, block):
    """The gradient by M as compiled, in blocks of so many steps, and the program."""
    program = fg.compile(declare(x.shape[1], len(M), len(V)), loss={"y": "mse"}, rule=rule)
    params = {"x->a": M[:, : x.shape[1]], "h->a": M[:, x.shape[1] :], "h->y": V}
    # Arrays are (time, batch, size); here is one sample.
    result = program.gradient(params, {"x": x[:, None]}, {"y": target[:, None]}, block=block)
    return np.concatenate([result.grads["x->a"], result.grads["h->a"]], axis=1), program


def compare(name, by_hand, M, V, x, target):
    """Print both gradients side by side, and assert that they are one, at several block lengths."""
    blocks = (1, 3, len(x))
    worst = 0.0
    for block in blocks:
        found, program = derived(name, M, V, x, target, block)
        worst = max(worst, float(np.abs(found - by_hand).max()) / float(np.abs(by_hand).max()))
    assert worst <= 1e-12, f"{name}: relative difference {worst}"
    print(f"{name}: dloss/dU by hand, and as derived")
    first = x.shape[1]
    for left, right in zip(by_hand[:, first:], found[:, first:], strict=True):
        print("  " + " ".join(f"{g:+.6f}" for g in left) + "  |  " + " ".join(f"{g:+.6f}" for g in right))
    print(f"  largest relative difference {worst:.1e} at blocks of {', '.join(map(str, blocks))} steps")
    of_u = program.rules["h->a"]
    print(f"  the program stores for U: {of_u.stored}; gradient: {of_u.verdict}\n")


def main(steps=40, units=4, seed=0):
    """Derive, compare, print."""
    random = np.random.default_rng(seed)
    x, target = random.normal(size=(steps, 2)), random.normal(size=(steps, 2))
    M, V = random.normal(size=(units, 2 + units)), random.normal(size=(2, units))
    print(f"{units} leaky tanh units, {steps} steps, loss {loss(M, V, x, target):.4f}\n")

    exact = rtrl(M, V, x, target)
    slow = central_differences(M, V, x, target)
    difference = float(np.abs(exact - slow).max() / np.abs(slow).max())
    assert difference <= 1e-6, difference
    print(f"1. RTRL by hand agrees with central differences to {difference:.0e}\n")

    S = influence_without_explicit(M, V, x)
    off = S[~np.eye(units, dtype=bool)]
    assert not off.any()
    assert np.count_nonzero(S) == M.size
    print(f"2. Without explicit recurrence, {M.size} of the {S.size} numbers in S are not zero: one a synapse\n")

    local = eprop(M, V, x, target)
    cosine = float(np.sum(exact * local) / np.linalg.norm(exact) / np.linalg.norm(local))
    assert not np.allclose(exact, local, rtol=1e-3)
    print(f"3. e-prop is not the gradient: its cosine with RTRL is {cosine:.3f} here\n")

    print("4. The same from the declared graph\n")
    compare("rtrl", exact, M, V, x, target)
    compare("eprop", local, M, V, x, target)


if __name__ == "__main__":
    main()
