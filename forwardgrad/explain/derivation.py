"""How does a person read what was derived? One line a parameter: rule, layouts, exact or what it drops, price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

from forwardgrad.compiler.plan import Plan
from forwardgrad.explain.equations import equations
from forwardgrad.explain.notation import Equations, printable
from forwardgrad.explain.tables import html_table, table
from forwardgrad.graph import Network
from forwardgrad.ops.losses import Loss
from forwardgrad.rules.table import Rule
from forwardgrad.structure import Structure


@dataclass(frozen=True, repr=False)
class Derived:
    """What was derived for one parameter.

    Args:
        parameter: its name.
        rule: the rule, as it was asked for.
        layouts: per stored influence, named `"node (mode)"`, its structure word.
        shapes: the shape of each for one sample and one lag.
        lags: how many past steps of each are stored.
        exact: whether the gradient is exact with respect to the declared derivatives, by proof on the product.
        dropped: the edges at which credit is dropped.
        reasons: what else keeps the gradient from being exact, in words.
        bytes: of influence, per sample.
        flops: floating-point operations of carrying it one step, per sample, with blocks of one step.
        plan: the derived algorithm that the equations are read off.
    """

    parameter: str
    rule: Rule
    layouts: Mapping[str, Structure]
    shapes: Mapping[str, tuple[int, ...]]
    lags: Mapping[str, int]
    exact: bool
    dropped: tuple[str, ...]
    reasons: tuple[str, ...]
    bytes: int
    flops: int
    plan: Plan = field(repr=False, compare=False)

    @property
    def stored(self) -> str:
        """The stored influences as text, such as `h (state): diagonal (8, 3)`."""
        parts = [
            f"{name}: {word} {'x'.join(map(str, self.shapes[name])) or '1'}"
            + (f" x {self.lags[name]} lags" if self.lags[name] > 1 else "")
            for name, word in self.layouts.items()
        ]
        return "; ".join(parts) or "nothing"

    @property
    def equations(self) -> Equations:
        """The recursion of the influence, the learning signal and the gradient, as symbols."""
        return equations(self.plan, self.parameter)

    @property
    def equation(self) -> str:
        """The recursion of the influence, the learning signal and the gradient, as plain text.

        >>> import forwardgrad as fg
        >>> program = fg.compile(fg.load("lif"), rule="eprop")
        >>> print(program.rules["z->v"].equation.partition("  ")[0])
        eps_v[j](t) = 0.9 eps_v[j](t-1) + z[j](t-1)
        e_z[i,j](t) = psi_z[i](t) eps_v[j](t)
        ebar_z[i,j](t) = 0.8 ebar_z[i,j](t-1) + e_z[i,j](t)
        L_z[i](t) = sum_k W_{z->y}[k,i] dE/dy[k](t)
        dE/dW_{z->v}[i,j] = sum_t L_z[i](t) ebar_z[i,j](t)
        <BLANKLINE>
        """
        return self.equations.text()

    def latex(self) -> str:
        """The same as LaTeX, for a document that uses `amsmath`."""
        return self.equations.latex()

    @property
    def verdict(self) -> str:
        """`exact`, or the edges at which credit is dropped and what else stands in the way."""
        drops = ["drops " + ", ".join(self.dropped)] if self.dropped else []
        return "exact" if self.exact else "; ".join([*drops, *self.reasons])

    def __repr__(self) -> str:
        about = f"{self.parameter}: {self.rule}, {self.verdict}, {self.bytes:,} bytes per sample"
        return f"Derived({printable(about)})"

    def _repr_html_(self) -> str:
        return html_table("What was derived", HEADER, _lines([self], {}), self.equation)


class _Compiled(Protocol):
    """What a listing shows of a program."""

    @property
    def network(self) -> Network: ...
    @property
    def rules(self) -> Mapping[str, Derived]: ...
    @property
    def losses(self) -> Mapping[str, Loss]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def chosen(self) -> Mapping[str, Rule]: ...


def about(program: _Compiled) -> str:
    """A program in one line."""
    network, trained = program.network, [program.network.parameters[name] for name in program.rules]
    return (
        f"{len(network.nodes)} nodes, {len(network.edges)} edges, {len(trained)} trainable "
        f"parameters ({sum(prod(p.shape) for p in trained):,} numbers), {program.dtype}, "
        f"loss {', '.join(f'{loss.name} on {name}' for name, loss in program.losses.items())}"
    )


HEADER = ("parameter", "rule", "stores influence on", "gradient", "bytes/sample", "flops/step")


def listing(program: _Compiled) -> str:
    """A program as text, one line for each parameter."""
    return f"Program: {about(program)}\n\n{table(HEADER, _program_lines(program))}"


def listing_html(program: _Compiled) -> str:
    """The same for a notebook."""
    return html_table(f"Program: {about(program)}", HEADER, _program_lines(program))


def _program_lines(program: _Compiled) -> list[list[str]]:
    return _lines(list(program.rules.values()), {name: program.chosen[name] for name in program.plan.untrained})


def _lines(derived: Sequence[Derived], untrained: Mapping[str, Rule]) -> list[list[str]]:
    """One line for each parameter, with the untrained ones at the end."""
    rows = [[d.parameter, str(d.rule), d.stored, d.verdict, f"{d.bytes:,}", f"{d.flops:,}"] for d in derived]
    return rows + [[name, str(rule), "nothing", f"untrained ({rule})", "0", "0"] for name, rule in untrained.items()]
