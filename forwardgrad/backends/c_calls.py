"""Calls of C: the functions of a shared object, given arrays of NumPy, and given memory for what they make."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from threading import local
from typing import Any, cast

import numpy as np

from forwardgrad.array_program.dimensions import SYMBOLS
from forwardgrad.array_program.in_c.source import Unit
from forwardgrad.array_program.numpy_helpers import number
from forwardgrad.array_program.values import Value
from forwardgrad.layouts.draws import signs
from forwardgrad.ops import Array
from forwardgrad.support import reuse
from forwardgrad.support.blas import HELPERS, threads

LINE = 64
"""Bytes of a line of the cache, at which arrays begin."""

SMALL = 2**20
"""Bytes of memory for arrays in between that each thread keeps for the next call."""

FRAMES = 64
"""Functions, each for a length and a batch, of which it is remembered where they put what they make."""

DRAWS = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 3, *[ctypes.c_void_p] * 3)
"""The function that draws random signs: of which number, for how many steps and samples, by and into which arrays."""


SHARES = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t)
"""The function that has the pieces of a job done: the job, and how many pieces there are."""


class Call(ctypes.Structure):
    """What a function in C is told besides its arrays."""

    _fields_ = (
        *((symbol, ctypes.c_ssize_t) for symbol in SYMBOLS),
        ("threads", ctypes.c_ssize_t),
        ("constants", ctypes.c_void_p),
        ("signs", DRAWS),
        ("share", SHARES),
    )


Addresses = dict[str, tuple[Array, int]]
"""Arrays by name, each with its address, which takes NumPy a microsecond to tell."""


@dataclass(frozen=True)
class Frame:
    """A function, ready to be called for one length of blocks and one batch.

    Args:
        function: where the function is in the shared object.
        symbols: what `SYMBOLS` stand for.
        threads: how many of them may take part.
        inputs: the names and dtypes of what it reads.
        made: of what it makes: name, shape, dtype, and where it begins in memory that holds all of it, in bytes.
        size: the numbers that this memory has room for.
        room: the bytes that the function needs besides.
        results: the names of what comes out.
        pointers: the type of its list of arrays.
    """

    function: int
    symbols: tuple[int, ...]
    threads: int
    inputs: tuple[tuple[str, np.dtype[Any]], ...]
    made: tuple[tuple[str, tuple[int, ...], np.dtype[Any], int], ...]
    size: int
    room: int
    results: tuple[str, ...]
    pointers: Any


class BoundCall(partial[None]):
    """A function in C with its arguments. An error while others were asked to take part, as an interrupt, is raised.

    Attributes:
        kept: what must not be given back as long as it can be called.
        check: raises that error.
    """

    kept: tuple[Any, ...] = ()
    check: Callable[[], None]

    def __call__(self) -> None:
        super().__call__()
        self.check()


class CompiledUnit:
    """The functions of a program in a shared object. They can be called by several threads at once.

    Args:
        unit: the program as C.
        library: what was compiled of it.
        constants: the constants of the program.
        dtype: what `float` stands for.
    """

    def __init__(
        self, unit: Unit, library: ctypes.CDLL, constants: Mapping[Value, Array], dtype: np.dtype[Any]
    ) -> None:
        self.unit, self.dtypes = unit, {"float": dtype, "int": np.dtype(np.intp), "bool": np.dtype(np.bool_)}
        self._library, self._local, self._item = library, local(), dtype.itemsize
        self._constants = {
            value.name: as_read(constants[value], self.dtypes[value.type.dtype]) for value in unit.constants
        }
        self._held = (ctypes.c_void_p * max(len(constants), 1))(*map(address_of, self._constants.values()))
        self._enter: Any = library["enter"]
        self._enter.argtypes, self._enter.restype = (ctypes.c_void_p,) * 4, None
        self._compute: Any = library["compute"]
        self._compute.argtypes, self._compute.restype = (ctypes.c_void_p, ctypes.c_ssize_t), None
        self._draws, self._shares = DRAWS(self._draw), SHARES(self._share)
        self._frame = lru_cache(FRAMES)(self._new_frame)

    def run(
        self, name: str, arrays: Mapping[str, Any], symbols: Mapping[str, int], addresses: Addresses | None = None
    ) -> dict[str, Array]:
        """What a function gives, by name.

        Args:
            name: of the function in the program.
            arrays: those that it reads, by name, and others.
            symbols: the numbers that `steps`, `batch` and `fresh` stand for.
            addresses: of arrays that were found before, by name; others are added.
        """
        frame = self._frame(name, tuple([symbols.get(symbol, 1) for symbol in SYMBOLS]), threads())
        addresses = {} if addresses is None else addresses
        known: dict[str, Array] = {}
        places: list[int] = []
        for word, dtype in frame.inputs:
            known[word] = array = as_read(arrays[word], dtype)
            found = addresses.get(word)
            if found is None or found[0] is not array:
                found = addresses[word] = array, address_of(array)
            places.append(found[1])
        if frame.made:
            memory = reuse.empty((frame.size,), self.dtypes["float"])
            start = address_of(memory)
            shift = -start % LINE
            for word, shape, dtype, offset in frame.made:
                known[word] = array = np.ndarray(shape, dtype, memory, shift + offset)
                addresses[word] = array, start + shift + offset
                places.append(start + shift + offset)
        call = self._call(frame.symbols, frame.threads)
        with self._room(frame.room) as rest:
            self._enter(frame.function, ctypes.byref(call), frame.pointers(*places), rest)
        self._check()
        return {word: known[word] if word in known else self._constants[word] for word in frame.results}

    def bound(self, name: str, symbols: Mapping[str, int], arrays: Sequence[Array]) -> BoundCall:
        """A function with its arrays and its memory, to be called over and over, by one thread at a time.

        Args:
            name: of the function in the program.
            symbols: what `SYMBOLS` stand for.
            arrays: those that it reads, and then those that it makes, of the dtypes and the order that it expects.
        """
        frame = self._frame(name, tuple([symbols[symbol] for symbol in SYMBOLS]), threads())
        call = self._call(frame.symbols, frame.threads)
        memory = np.empty(frame.room + LINE, np.uint8)
        start = address_of(memory)
        given = ctypes.byref(call), frame.pointers(*map(address_of, arrays)), start + -start % LINE
        ready = BoundCall(self._enter, frame.function, *given)
        ready.kept, ready.check = (self, memory, *arrays), self._check
        return ready

    def _check(self) -> None:
        """Raise the error that the last call of this thread had to leave for later."""
        failure: BaseException | None = self._local.__dict__.pop("failure", None)
        if failure is not None:
            raise failure

    @contextmanager
    def _room(self, size: int) -> Generator[int]:
        """The address of that many bytes, which small calls of a thread share."""
        held: tuple[Array, int] | None = getattr(self._local, "room", None)
        if held is None or size > held[1]:
            count = size + LINE if size > SMALL else max(2 * size, LINE)
            memory = reuse.empty((-(-(count + LINE) // self._item),), self.dtypes["float"])
            held = memory, count
            if size <= SMALL:
                self._local.room = held
        start = address_of(held[0])
        yield start + -start % LINE

    def _call(self, symbols: tuple[int, ...], threads: int) -> Call:
        return Call(*symbols, threads, ctypes.addressof(self._held), self._draws, self._shares)

    def _new_frame(self, name: str, numbers: tuple[int, ...], threads: int) -> Frame:
        printed = self.unit.functions[name]
        function, symbols = printed.function, dict(zip(SYMBOLS, numbers, strict=True))
        room = self._library[printed.room]
        room.argtypes, room.restype = (ctypes.c_void_p,), ctypes.c_size_t
        made: list[tuple[str, tuple[int, ...], np.dtype[Any], int]] = []
        size = 0
        for value in printed.outputs:
            shape, dtype = tuple(dim.at(symbols) for dim in value.dims), self.dtypes[value.type.dtype]
            made.append((value.name, shape, dtype, size))
            size += -(-prod(shape) * dtype.itemsize // LINE) * LINE
        call = self._call(numbers, threads)
        return Frame(
            function=_address(self._library[printed.name]),
            symbols=numbers,
            threads=threads,
            inputs=tuple((value.name, self.dtypes[value.type.dtype]) for value in function.inputs),
            made=tuple(made),
            size=(size + LINE) // self._item,
            room=room(ctypes.byref(call)),
            results=tuple(value.name for value in function.body.results),
            pointers=ctypes.c_void_p * max(len(function.inputs) + len(made), 1),
        )

    def _draw(self, stream: int, steps: int, batch: int, draw: int, block: int, into: int) -> None:
        """Draw random signs, the same ones as under any backend."""
        wanted, symbols = self.unit.signs[stream], {"steps": steps, "batch": batch}
        shapes = [[dim.at(symbols) for dim in dims] for dims in (wanted.draw.dims, wanted.block.dims, wanted.dims)]
        counts, blocks, result = map(self._at, (draw, block, into), shapes)
        result[...] = signs(wanted.seed, wanted.stream, number(counts), number(blocks), result.shape)

    def _share(self, job: int, pieces: int) -> None:
        """Have the pieces of a job done. What raises an error here, such as an interrupt, is raised after the call."""
        try:
            HELPERS.compute([partial(self._compute, job, piece) for piece in reversed(range(pieces))], pieces)
        except BaseException as failure:
            self._local.failure = failure

    def _at(self, place: int, shape: Sequence[int]) -> Array:
        """The array of numbers at an address."""
        memory: Any = (ctypes.c_char * (prod(shape) * self._item)).from_address(place)
        return np.frombuffer(memory, self.dtypes["float"]).reshape(shape)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def as_read(array: Any, dtype: np.dtype[Any]) -> Array:
    """An array as C reads it: of its dtype, row by row."""
    if isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.c_contiguous:
        return cast("Array", array)
    return np.ascontiguousarray(array, dtype).reshape(np.shape(array))


def address_of(array: Array) -> int:
    """Where the first entry of an array is."""
    return array.__array_interface__["data"][0]
