"""How many operations does a gradient take? Nominal counts, to tell which part of the machine's rate is achieved.

Counted are the products and sums of matrix products, and no elementwise work. With P the dense weights of a network, of
which P_l enter layer l, per sample and step:

    forward           2 P
    weight gradients  2 P
    adjoint           2 (those of P through which the rule sends credit)

and for the influence, per sample and block of K steps but the last, where n_a are the units of layer a:

    diagonal   injections 2 K P_l, carrying 2 P_l, reading off 2 P_l        (one number a synapse)
    scalar     2 K (sources of P_l)                                         (a filtered input)
    full       for layers l <= b <= a, and weights between l and a counted in the sweep:
               sweep with n_a seeds 2 K n_a (recurrent and joining weights up to a), injections 2 K n_a P_l,
               carrying 2 n_a n_b P_l, reading off 2 n_a P_l                (Schmidhuber 1992)
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import machine
from benchmarks.networks import Network

VALUES = {"rnn": 1, "lstm": 6, "lif": 2, "lru": 1}
"""Values of a unit that have to be kept for the way back."""

NUMBER = 4
"""Bytes of a number in `float32`."""

GATES = {"rnn": 1, "lstm": 4, "lif": 1, "lru": 1}


def nominal(network: Network, rule: str, steps: int, batch: int, block: int) -> float:
    """The operations of one gradient."""
    gates, units = GATES[network.cell], network.units
    below = (network.inputs, *units[:-1])
    recurrent = [0 if network.cell == "lru" else gates * n * n for n in units]
    entering = [gates * n * m for n, m in zip(units, below, strict=True)]
    weights = [sum(pair) for pair in zip(entering, recurrent, strict=True)]
    readout = network.outputs * units[-1]
    full = rule == "rtrl" and network.cell != "lru"
    joining = sum(entering[1:])
    per_step = 4 * (sum(weights) + readout) + 2 * (readout + joining + (sum(recurrent) if full else 0))
    if full:
        per_block = sum(
            2 * block * n * (sum(recurrent[: a + 1]) + sum(entering[1 : a + 1]))
            + sum(2 * n * weights[at] * (block + 1 + sum(units[at : a + 1])) for at in range(a + 1))
            for a, n in enumerate(units)
        )
    elif network.cell == "lif":
        per_block = 2 * block * sum(m + n for m, n in zip(below, units, strict=True))
    else:
        per_block = sum(2 * (block + 2) * held for held in weights)
    advances = -(-steps // block) - 1
    return float(batch * (steps * per_step + advances * per_block))


def touched(network: Network, rule: str, steps: int, batch: int, block: int) -> float:
    """The bytes that have to be written once and read once: inputs, values, adjoints of gates, and influence."""
    gates, units = GATES[network.cell], network.units
    per_step = network.inputs + network.outputs + sum(units) * (VALUES[network.cell] + gates)
    below = (network.inputs, *units[:-1])
    weights = [gates * n * ((0 if network.cell == "lru" else n) + m) for n, m in zip(units, below, strict=True)]
    if rule == "rtrl" and network.cell != "lru":
        held = sum(n * sum(weights[: at + 1]) for at, n in enumerate(units))
    else:
        held = sum(below) + sum(units) if network.cell == "lif" else sum(weights)
    return 2.0 * NUMBER * batch * (steps * per_step + (-(-steps // block) - 1) * held)


@dataclass(frozen=True)
class Floor:
    """The least time of a gradient: the products at the rate of the machine, and one pass over memory.

    Args:
        products, memory: seconds of each.
        rate, bandwidth: operations and bytes a second of this machine, measured in this run.
    """

    products: float
    memory: float
    rate: float
    bandwidth: float

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.products + self.memory


def floor(network: Network, rule: str, steps: int, batch: int, block: int) -> Floor:
    """The least time of a gradient on this machine. Where units spike, products with zeros are counted all the same."""
    rate, bandwidth = machine.rates()
    work = nominal(network, rule, steps, batch, block), touched(network, rule, steps, batch, block)
    return Floor(work[0] / rate, work[1] / bandwidth, rate, bandwidth)
