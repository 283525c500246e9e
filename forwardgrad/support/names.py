"""Names for what is written as source: unique identifiers in the user's words."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Collection, Hashable, Iterable

RESERVED = frozenset(
    {"np", "t", "dtype", "steps", "batch", "seeds", "fresh", "state", "params", "inputs", "targets", "signals", "mask"}
    | {"weights", "forward", "slopes", "credit", "gradients", "advance", "start", "step", "gradient", "evaluate"}
    | {"loss", "losses", "grads", "made", "noted", "total", "last", "first", "block", "now", "given", "found"}
    | {"annotations", "zlib", "base64", "unpacked", "Array", "LOSSES", "CACHED", "MANY", "name", "array", "key"}
    | {"port", "ports", "rows", "value", "target", "weight", "slope", "y", "text", "kind", "shape"}
    | {"draw", "influence", "stored", "random"}
)
"""Words of the source itself, helpers apart."""

LONGEST = 40
"""Characters of a name that are kept."""


class Names:
    """Identifiers in the user's words, each of them unique.

    Args:
        taken: words that are none of them.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*RESERVED, *dir(builtins), *taken}
        self._known: dict[Hashable, str] = {}

    def of(self, wanted: str, *what: Hashable) -> str:
        """The identifier of a thing, made from the wanted word when it is first asked for."""
        key = (wanted, *what)
        if key not in self._known:
            word = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_")[:LONGEST] or "it"
            word = f"n{word}" if word[0].isdigit() else word
            name, count = word, 1
            while name in self._taken or keyword.iskeyword(name):
                count += 1
                name = f"{word}_{count}"
            self._taken.add(name)
            self._known[key] = name
        return self._known[key]

    def own(self, word: str, avoided: Collection[str], *what: Hashable) -> str:
        """The identifier of a thing that has a name of its own, which it keeps where nothing else has it."""
        key = ("own", word, *what)
        if key not in self._known:
            name, count = word, 1
            while name in self._taken or (count > 1 and name in avoided):
                count += 1
                name = f"{word}_{count}"
            self._taken.add(name)
            self._known[key] = name
        return self._known[key]


def shown(name: str) -> str:
    """A user's name, with what could end a comment or a string taken out."""
    return re.sub(r"[^\w.>\- ]", "?", name)[:LONGEST]
