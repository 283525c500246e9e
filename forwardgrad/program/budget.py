"""Does a program fit in memory? What is free, how sizes are read and written, and the refusal that names ways out."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from forwardgrad.errors import DataError, ForwardgradError, MemoryBudgetError
from forwardgrad.program.cost import Cost
from forwardgrad.support.attributes import is_whole, show
from forwardgrad.support.headroom import headroom

SHARE = 0.8
"""The part of what is free that is taken as the budget where none is given."""

CHEAPER = ("rtrl", "eprop-deep", "ostl", "snap(1)", "eprop", "immediate")
"""The rules that are weighed in place of one that does not fit, those that keep the most first."""

_BINARY = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZE = r"\s*([0-9]{1,40}(?:\.[0-9]{1,40})?)\s*([a-z]*)\s*"

MOST = 2**63 - 1
"""The most bytes that can be meant: no machine counts further."""

_UNITS = {**_BINARY, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size_text(size: int) -> str:
    """A number of bytes as a person reads it.

    >>> size_text(1_395_864_371)
    '1.3 GiB'
    >>> size_text(512)
    '512 bytes'
    """
    if size < 1024:
        return f"{size} bytes"
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(len(units) - 1, (size.bit_length() - 1) // 10)
    return f"{size / 1024**power:.1f} {units[power]}"


def size_of(given: int | str) -> int:
    """A number of bytes, given as such or as a text.

    Raises:
        DataError: if it is neither.

    >>> size_of("2 GiB")
    2147483648
    """
    size = 0
    if is_whole(given):
        size = int(given)
    elif isinstance(given, str) and (match := re.fullmatch(_SIZE, given.lower())):
        size = int(float(match[1]) * _UNITS.get(match[2], 0))
    if not 0 < size <= MOST:
        raise DataError(
            f"max_memory must be a number of bytes or a text such as '2GiB', got {show(given)}.",
            "From 1 byte to 2^63 - 1 bytes." if size else "",
        )
    return size


def usual() -> int | None:
    """The budget where none is given: most of what is free, or none where nothing tells what is.

    Free is what machine, resource limits and control groups leave to this process, whichever leaves the least.
    """
    found = headroom()
    return None if found is None else int(SHARE * found)


def room(what: str, size: int) -> None:
    """Refuse an array, or several, that most of what is free has no room for; raises `MemoryBudgetError`."""
    limit = usual()
    if limit is not None and size > limit:
        raise MemoryBudgetError(f"{what} would take {size_text(size)}, and {size_text(limit)} may be taken.")


def hold(
    what: str,
    cost: Cost,
    limit: int,
    price: Callable[[str], Cost],
    rules: Mapping[str, str],
    shorter: Callable[[int], Cost],
) -> None:
    """Refuse a program that costs more than the limit, before anything is allocated.

    Args:
        what: the call that would run it.
        cost: of the program.
        limit: in bytes.
        price: the cost of the same graph under another rule.
        rules: the rule of each parameter, as text.
        shorter: the cost of the same program in shorter blocks.

    Raises:
        MemoryBudgetError: naming the dearest parameters, and the rules and blocks that would fit with their price.
    """
    if cost.total <= limit:
        return
    dearest = sorted(cost.influence.items(), key=lambda item: -item[1])[:3]
    named = ", ".join(f"{name} {size_text(size)} under {rules[name]}" for name, size in dearest if size)
    fitting: list[tuple[int, str]] = []
    for rule in CHEAPER:
        try:
            other = price(rule)
        except ForwardgradError:  # a rule that cannot serve this graph is no way out
            continue
        if other.total <= limit and rule not in rules.values():
            fitting.append((other.total, rule))
    out = ", ".join(f"{rule} {size_text(total)}" for total, rule in sorted(fitting))
    blocks = ""
    steps = cost.block
    while steps > 1 and not blocks:
        steps //= 2
        total = shorter(steps).total
        blocks = f"Blocks of {steps} steps take {size_text(total)}." if total <= limit else ""
    block = f" for a block of {cost.block:,} steps" if cost.block > 1 else ""
    raise MemoryBudgetError(
        f"{what}: batch {cost.batch} needs {size_text(cost.total)}{block}, and {size_text(limit)} may be taken.",
        f"The dearest influences: {named}." if named else "",
        blocks,
        f"Rules that fit: {out}." if out else "" if blocks else "No other rule fits; take a smaller batch.",
    )


@contextmanager
def told(what: str) -> Generator[None]:
    """Say in our words that memory ran out: what was refused by the system before it could be priced, or beside it.

    Args:
        what: names the call in the error.
    """
    try:
        yield
    except MemoryBudgetError:
        raise
    except MemoryError as error:
        hint = "Hand over shorter pieces, each with the state that the one before returned, or take a smaller batch."
        raise MemoryBudgetError(f"{what}: the memory of this process is used up ({error}).", hint) from error
