"""What are the arrays of a program's state called?"""

from __future__ import annotations

import json

from forwardgrad.compiler.plan import Plan


def key_of(kind: str, *names: str) -> str:
    """A key of the state; JSON keeps names apart that hold the separators.

    >>> key_of("influence", "h->h", "h", "state")
    'influence["h->h", "h", "state"]'
    """
    return kind + json.dumps(names, ensure_ascii=False)


def is_influence(key: str) -> bool:
    """Whether a key of the state is one of influence; the others are of values."""
    return key.startswith("influence[")


def names_of(key: str) -> list[str]:
    """The names in a key of the state, that of the parameter or node first.

    >>> names_of('influence["h->h", "h", "state"]')
    ['h->h', 'h', 'state']
    """
    return json.loads(key[key.index("[") :])


def meaning(key: str) -> str:
    """What a key of the state stands for, in words.

    >>> meaning(key_of("influence", "h->h", "h", "state"))
    "the influence of parameter 'h->h' on node 'h'"
    >>> meaning(value_key("h"))
    "the value of node 'h'"
    """
    names = names_of(key)
    if not is_influence(key):
        return f"the value of node {names[0]!r}"
    return f"the influence of parameter {names[0]!r} on {f'node {names[1]!r}' if len(names) > 2 else names[1]}"


def value_key(node: str) -> str:
    """The key of a node's past values."""
    return key_of("value", node)


def influence_key(plan: Plan, name: str, part: int | str) -> str:
    """The key of what a parameter stores: an influence on a place, or something of a name of its own."""
    if isinstance(part, str):
        return key_of("influence", name, part)
    place = plan.product.places[part]
    return key_of("influence", name, place.node, place.label)
