"""The visual code: what colours, lines and shapes mean, in every picture and on every page.

What it says is in docs/design.md. A role is drawn by attributes of DOT, which are those of light paper, and carries its
name as a class, to which the stylesheet gives the colours of light and dark screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SCOPE = "forwardgrad"
"""The class of what the stylesheet applies to."""

PALETTE: Mapping[str, tuple[str, str]] = {
    "ground": ("#ffffff", "#0d1117"),
    "ink": ("#24292f", "#e6edf3"),
    "soft": ("#57606a", "#9198a1"),
    "frame": ("#d0d7de", "#3d444d"),
    "passive": ("#7a838d", "#7d8590"),
    "delayed": ("#0550ae", "#79c0ff"),
    "kept": ("#116329", "#56d364"),
    "cut": ("#a40e26", "#ff7b72"),
    "enters": ("#8250df", "#d2a8ff"),
    "state": ("#ddeaf9", "#12304f"),
    "stored": ("#ffecb3", "#463609"),
    "trace0": ("#ffffff", "#0d1117"),
    "trace1": ("#fff8e1", "#1f1906"),
    "trace2": ("#ffecb3", "#362a08"),
    "trace3": ("#ffd97a", "#4d3b0b"),
    "trace4": ("#f9bf3b", "#654d0d"),
    "trace5": ("#e69f00", "#7d5f10"),
    "shared0": ("#7c4a03", "#d9a066"),
    "shared1": ("#0f766e", "#5eead4"),
    "shared2": ("#a21caf", "#f0abfc"),
    "shared3": ("#5c6b00", "#c3d34b"),
}
"""Colours by role, on light and on dark ground. Roles also differ in line or shape, as not everybody sees colours."""

LIGHT: Mapping[str, str] = {name: light for name, (light, _) in PALETTE.items()}

TRACES = 5
"""Steps of the scale of traces; the lowest, `trace0`, is nothing."""

SHARED = 4
"""Colours of shared parameters, used in turn."""

FONT = "Helvetica,Arial,sans-serif"


@dataclass(frozen=True)
class Line:
    """How an edge is drawn.

    Args:
        role: `weight`, `fixed`, `delayed`, `shared0` ... in pictures of what is declared; `kept`, `cut`, `dead`,
            `enters`, `passive` in those of credit and traces.
        delayed: whether it reads an earlier step: then it is dashed.
        width: in points; by default that of the role.
        tip: the arrow at its target.
        root: the arrow at its source, or none.
    """

    role: str
    delayed: bool = False
    width: float | None = None
    tip: str = "normal"
    root: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """Of DOT."""
        color = LIGHT[{"weight": "ink", "fixed": "passive", "dead": "passive"}.get(self.role, self.role)]
        width = self.width if self.width is not None else _WIDTHS.get(self.role, 1.0)
        style = "dotted" if self.role == "dead" else "dashed" if self.delayed else "solid"
        return {
            "class": f"{self.role} delayed" if self.delayed and self.role != "delayed" else self.role,
            "color": color,
            "fontcolor": color,
            "penwidth": f"{width:g}",
            "style": style,
        }


_WIDTHS = {"kept": 2.2, "cut": 1.6, "enters": 2.2, "dead": 1.2, "passive": 0.7}


def weight(*, delayed: bool, trained: bool, shared: int | None = None) -> Line:
    """An edge of a declared graph; `shared` counts the shared parameters."""
    role = "fixed" if not trained else "delayed" if delayed else "weight"
    return Line(role if shared is None else f"shared{shared % SHARED}", delayed)


def credit(fate: str, delayed: bool) -> Line:
    """An edge that is `kept`, `cut`, `dead`, `passive`, or by which a parameter `enters`."""
    return Line(fate, delayed, tip="tee" if fate == "cut" else "normal", root="dot" if fate == "enters" else "")


def node(*roles: str) -> dict[str, str]:
    """The attributes of a node of some roles: `state`, `stored`, `trace0` ... (its ground); `kept`, `enters`, `passive`
    (its outline); `learning` (two outlines)."""
    found: dict[str, str] = {"class": " ".join(roles)} if roles else {}
    for role in roles:
        if role in ("state", "stored") or role.startswith("trace"):
            found["fillcolor"] = LIGHT[role]
        elif role == "learning":
            found["peripheries"] = "2"
        else:
            found["color"] = LIGHT[role]
            found |= {"fontcolor": LIGHT[role]} if role == "passive" else {"penwidth": "2"}
    return found


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a sample, and what it means. Without a sample it is a line of text.

    Args:
        text: what it means.
        line: a sample of an edge.
        node: the attributes of a sample of a node.
    """

    text: str
    line: Line | None = None
    node: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        """In words, where no sample can be drawn."""
        role = self.line.role if self.line else self.node.get("class", "")
        seen = _SEEN.get(f"{role} delayed" if self.line and self.line.delayed else role, "")
        return f"{seen}: {self.text}" if seen else self.text


_SEEN = {
    "delayed delayed": "blue, dashed",
    "passive delayed": "dashed",
    "kept delayed": "thick, green, dashed",
    "state": "blue ground",
    "fixed": "grey",
    "shared0": "other colours",
    "kept": "thick, green",
    "cut": "red, ends in a bar",
    "dead": "dotted",
    "passive": "thin, grey",
    "enters": "violet, begins in a dot",
    "learning": "two outlines",
    "stored": "yellow ground",
}


DELAYED = Key("reads an earlier step (z⁻¹: one step, z⁻²: two)", Line("delayed", True))
DASHED = Key("reads an earlier step (z⁻¹: one step, z⁻²: two)", credit("passive", True))
STATE = Key("holds a state", node=node("state"))
FIXED = Key("not trained", Line("fixed"))
SHARED_KEY = Key("one shared parameter, named on each of its edges", Line("shared0"))
KEPT = Key("carries credit", credit("kept", False))
CARRIED = Key("carries credit to a later step", credit("kept", True))
CUT = Key("cut: credit ends here", credit("cut", False))
DEAD = Key("leads to no loss", credit("dead", False))
PASSIVE = Key("not on the way of its credit", credit("passive", False))
ENTERS = Key("where the parameter enters", credit("enters", False))
ENTERS_NODE = Key("where the bias enters", node=node("enters"))
LEARNING = Key("a learning signal enters", node=node("learning"))
STORED = Key("stores a trace between blocks", node=node("stored"))


def stylesheet() -> str:
    """The stylesheet of every SVG picture, and of pictures on pages."""
    light = ";".join(f"--{name}:{of[0]}" for name, of in PALETTE.items())
    dark = ";".join(f"--{name}:{of[1]}" for name, of in PALETTE.items())
    rules = [
        f".{SCOPE}{{{light}}}",
        f"@media screen and (prefers-color-scheme:dark){{.{SCOPE}{{{dark}}}}}",
        _rule("> polygon", "> g:not([class]) polygon", fill="ground"),
        _rule("text", fill="ink"),
        _rule(".cluster path", ".cluster polygon", stroke="frame"),
        _rule(".cluster text", ".soft text", ".node.passive text", fill="soft"),
        _node("", fill="ground", stroke="ink"),
        *(_node(f".{role}", fill=role) for role in ("state", "stored", *(f"trace{n}" for n in range(TRACES + 1)))),
        *(_node(f".{role}", stroke=role) for role in ("passive", "kept", "enters")),
        _node(".bare", fill="ground", stroke="ground"),
        _rule(".edge path", stroke="ink"),
        _rule(*(f".edge {shape}" for shape in _TIPS), fill="ink", stroke="ink"),
    ]
    shared = [f"shared{n}" for n in range(SHARED)]
    for role in ("delayed", "passive", "fixed", "dead", "kept", "cut", "enters", *shared):
        color = "passive" if role in ("fixed", "dead") else role
        rules.append(_rule(f".edge.{role} path", stroke=color))
        rules.append(_rule(*(f".edge.{role} {shape}" for shape in _TIPS), fill=color, stroke=color))
        rules.append(_rule(f".edge.{role} text", fill=color))
    return "\n".join(rules)


_TIPS = ("polygon", "polyline", "ellipse")


def _node(role: str, *, fill: str = "", stroke: str = "") -> str:
    """Colours of a node of some role; what is not filled, as a second outline, stays so."""
    shapes = (*_TIPS, "path")
    rules = [_rule(*(f".node{role} {shape}:not([fill=none])" for shape in shapes), fill=fill)] if fill else []
    return "".join(rules + ([_rule(*(f".node{role} {shape}" for shape in shapes), stroke=stroke)] if stroke else []))


def _rule(*selectors: str, fill: str = "", stroke: str = "") -> str:
    """Colours by role for what the selectors find in a picture."""
    found = {"fill": fill, "stroke": stroke}
    body = ";".join(f"{name}:var(--{role})" for name, role in found.items() if role)
    return ",".join(f".{SCOPE} {selector}" for selector in selectors) + f"{{{body}}}"


def ground(share: float) -> str:
    """The role of a node whose trace is this share of the largest, by its square root, so that small ones are seen."""
    return f"trace{1 + round((TRACES - 1) * min(max(share, 0.0), 1.0) ** 0.5)}" if share > 0 else "trace0"


def met(keys: Sequence[tuple[Key, object]]) -> list[Key]:
    """The keys of what there is in a picture."""
    return [key for key, there in keys if there]
