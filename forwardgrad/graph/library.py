"""Which graphs are shipped, and where do they lie?

An installed wheel carries them inside the package; in a checkout they are the folder `graphs/` beside it.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

from forwardgrad.errors import FileError, did_you_mean


def folder() -> Path:
    """The folder of the shipped graphs.

    Raises:
        FileError: if the installation has none.
    """
    package = Path(str(files("forwardgrad")))
    if (package / "_graphs").is_dir():
        return package / "_graphs"
    checkout = package.parent
    if (checkout / "graphs").is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout / "graphs"
    raise FileError(
        f"the shipped graphs are neither in {str(package / '_graphs')!r} nor in {str(checkout / 'graphs')!r}.",
        "Install forwardgrad again.",
    )


def names() -> list[str]:
    """The names of the shipped graphs, sorted.

    >>> "leaky_stack" in names()
    True
    """
    return sorted(file.stem for file in folder().glob("*.toml"))


def path(name: str) -> Path:
    """The file of a shipped graph.

    Raises:
        FileError: if there is none of that name.

    >>> path("lstm").name
    'lstm.toml'
    """
    known = names()
    if name not in known:
        raise FileError(
            f"unknown graph {name!r}.",
            did_you_mean(name, known),
            "A file of your own is given by a path to .toml or .json.",
        )
    return folder() / f"{name}.toml"


def titles() -> dict[str, str]:
    """One line on each shipped graph, by name.

    >>> titles()["elman"]
    'Simple recurrent network: one tanh layer, linear readout'
    """
    return {
        name: tomllib.loads(path(name).read_text(encoding="utf-8")).get("graph", {}).get("title", "")
        for name in names()
    }
