"""The price of a program: bytes alive at the peak, and operations, known before it runs.

What is taken and given back is followed once for all long blocks, and then only added up, so that many lengths of a
block can be weighed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forwardgrad.array_program.allocations import Allocations, FunctionCall
from forwardgrad.array_program.arithmetic import operations, total
from forwardgrad.array_program.buffers import Analysed, analysed
from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.inlining import bodies
from forwardgrad.array_program.instructions import Read, Slice
from forwardgrad.array_program.memory import Account, Held
from forwardgrad.array_program.numpy_helpers import MANY
from forwardgrad.array_program.regions import ArrayProgram, Invoke, When
from forwardgrad.array_program.values import Value
from forwardgrad.ops import Array


@dataclass(frozen=True)
class Price:
    """What a block costs.

    Args:
        peaks: for each function that is run, in order, the most bytes alive while it runs, beside what the block is
            given: parameters, state, inputs and learning signals.
        alive: what is alive at the highest of the peaks: bytes, by the name in whose computation they were taken.
        left: for each of them, the bytes alive when it has returned.
    """

    peaks: Mapping[str, int]
    alive: Mapping[str, int]
    left: Mapping[str, int]

    @property
    def peak(self) -> int:
        """The most bytes alive."""
        return max(self.peaks.values(), default=0)


@dataclass(frozen=True)
class _Followed:
    """What a block takes and gives back.

    Args:
        account: in order.
        ends: for each function in order, how many moves were made when it returned.
    """

    account: Account
    ends: Mapping[str, int]

    @cached_property
    def places(self) -> Array:
        """Of each move, the place of its size."""
        return np.array([buffer.size for buffer, _ in self.account.moves], np.int64)

    @cached_property
    def signs(self) -> Array:
        """Of each move, whether it takes or gives back."""
        return np.array([sign for _, sign in self.account.moves], np.int64)


class Prices:
    """The prices of a program's blocks.

    Args:
        program: the program.
        order: the functions that a block runs, in order; what they return is held until its end. All functions that no
            other one invokes, by default.
        functions: the program's functions, `analysed`, if they are already.
    """

    def __init__(
        self,
        program: ArrayProgram,
        order: Sequence[str] | None = None,
        functions: Mapping[str, Analysed] | None = None,
    ) -> None:
        self.program = program
        self.order = list(outermost(program)) if order is None else list(order)
        self.long = max(2 * max(reaches(program), default=0) + 8, MANY + 2)
        """Steps of a block from which on all blocks do the same."""
        self._functions = analysed(program) if functions is None else functions
        self._followed: dict[tuple[int, int], _Followed] = {}

    def at(self, steps: int, batch: int, seeds: int = 1, fresh: bool = False) -> Price:
        """The price of a block.

        Args:
            steps: its length.
            batch: the number of samples.
            seeds: of a sweep that has several.
            fresh: whether nothing came before it.
        """
        symbols = {"steps": steps, "batch": batch, "seeds": seeds, "fresh": int(fresh)}
        followed = self._follow(min(steps, self.long), int(fresh))
        moved = followed.account.sizes(symbols)[followed.places] * followed.signs
        alive = np.concatenate(([0], np.cumsum(moved)))
        peaks, first = dict[str, int](), 0
        for name, end in followed.ends.items():
            peaks[name], first = int(alive[first : end + 1].max()), end
        holders: dict[str, float] = {}
        for (buffer, _), size in zip(followed.account.moves[: int(alive.argmax())], moved.tolist(), strict=False):
            holders[buffer.name] = holders.get(buffer.name, 0) + size
        return Price(
            peaks,
            {name: int(size) for name, size in holders.items() if size},
            {name: int(alive[end]) for name, end in followed.ends.items()},
        )

    def operations(self, steps: int, batch: int, seeds: int = 1, fresh: bool = False) -> dict[str, int]:
        """For each function, the additions, multiplications and other functions of numbers in such a block."""
        symbols = {"steps": steps, "batch": batch, "seeds": seeds, "fresh": int(fresh)}
        return {name: total(operations(self.program, name, symbols), symbols) for name in self.order}

    def _follow(self, steps: int, fresh: int) -> _Followed:
        """What blocks of that length take and give back, in order."""
        found = self._followed.get((steps, fresh))
        if found is None:
            account, ends, known = Account(self.program.dtype), dict[str, int](), dict[str, Held]()
            symbols = {"steps": steps, "batch": 2, "seeds": 2, "fresh": fresh}
            for name in self.order:
                function = self.program.function(name)
                inputs = [known.get(value.name, _given(value)) for value in function.inputs]
                made = Allocations(self._functions, account, FunctionCall(name, symbols, {})).results_of(inputs)
                known |= {value.name: array for value, array in zip(function.body.results, made, strict=True)}
                ends[name] = len(account.moves)
            found = self._followed[steps, fresh] = _Followed(account, ends)
        return found


def _given(value: Value) -> Held:
    return Held(value.dims, None, value.type.dtype)


def outermost(program: ArrayProgram) -> Iterator[str]:
    """The functions that no other one invokes."""
    invoked = {
        statement.instruction.function
        for function in program.functions
        for body in bodies(function.body)
        for statement in body.statements
        if isinstance(statement.instruction, Invoke)
    }
    return (function.name for function in program.functions if function.name not in invoked)


def reaches(program: ArrayProgram) -> Iterator[int]:
    """The numbers of steps from which on the tests in a program no longer change."""
    for function in program.functions:
        for body in bodies(function.body):
            for statement in body.statements:
                forms: tuple[Affine, ...] = ()
                match statement.instruction:
                    case When(form=form):
                        forms = (form,)
                    case Read(series=series, at=at, or_zero=True):
                        forms = at, series.dims[0]
                    case Slice(start=start, size=size, or_zero=True):
                        forms = start, size
                    case Invoke(symbols=symbols):
                        forms = tuple(form for _, form in symbols)
                    case _:
                        continue
                yield sum(abs(form.constant) for form in forms)
