"""What does a block take? The engine `numpy`, run on phantoms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import FunctionType
from typing import Any

from forwardgrad.backends.generated import Generated
from forwardgrad.backends.phantom import Ledger, Numpy, Phantom
from forwardgrad.compiler import Plan
from forwardgrad.compiler.source import support
from forwardgrad.structure import Structure


class Rehearsal(Generated):
    """An engine whose arrays are phantoms.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.ledger = Ledger()
        self._numpy = Numpy(self.ledger)
        super().__init__(plan, dtype)
        for traces in self.traces.values():
            traces.rehearse(self._numpy)

    def _compiled(self) -> dict[str, Callable[..., Any]]:
        names: dict[str, Any] = super()._compiled()
        # What these functions loop over are samples, which take the same memory, one after the other.
        few: dict[str, Any] = {"range": _first_range, "enumerate": _first_pairs}
        shared = {**vars(support), "np": self._numpy, **few}
        for name, value in vars(support).items():
            if isinstance(value, FunctionType) and value.__module__ == support.__name__:
                shared[name] = names[name] = _within(value, shared)
        names["np"] = self._numpy
        for name, value in names.items():
            if getattr(value, "__globals__", None) is names:  # of the generated source
                names[name] = self._marked(value)
        return names

    def _marked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is a part of a block."""

        def marked(*given: Any, **named: Any) -> Any:
            self.ledger.mark()
            made = function(*given, **named)
            self.ledger.mark()
            return made

        return marked

    def _op(self, node: str, port: str) -> Callable[..., Any]:
        """An op that is called is any Python: priced as copies of what it gets, and twice what it makes."""
        declared = self.plan.network.nodes[node]
        word = declared.op.port(port, declared.ports).structure if port else Structure.DIAGONAL

        def made(*ports: Phantom) -> Phantom:
            copies = [port.copy() for port in ports]
            shape = copies[0].shape
            tail = {Structure.FULL: (shape[-1],) * 2, Structure.DIAGONAL: shape[-1:]}.get(word, (1,))
            return self._numpy.empty((*shape[:-1], *tail), self.dtype).copy()

        return made

    def _swept(self, *given: Any, **named: Any) -> Any:
        return self._with_phantoms(Generated._swept)(self, *given, **named)

    def _pulled(self, *given: Any, **named: Any) -> Any:
        return self._with_phantoms(Generated._pulled)(self, *given, **named)

    def _with_phantoms(self, method: Any) -> Callable[..., Any]:
        return _within(method, {**method.__globals__, "np": self._numpy})

    def peaks(self, batch: int, steps: int, last: bool = False) -> list[int]:
        """The most bytes alive in each part of a block, beside what it is given.

        Args:
            batch: number of samples.
            steps: of the block.
            last: whether it is the last block of a sequence, which is not advanced unless its gradient needs that.
        """
        ledger, plan = self.ledger, self.plan

        def given(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
            return {name: ledger.given(shape, self.dtype) for name, shape in shapes.items()}

        def series(*names: str) -> dict[str, Any]:
            return given({name: (steps, batch, plan.network.nodes[name].size) for name in names})

        params = given({name: parameter.shape for name, parameter in plan.parameters.items()})
        state, signals = given(self.shapes(batch)), [p.node for p in plan.product.places if p.signal == "given"]
        ledger.begin()
        tape = self.forward(params, state, series(*plan.network.inputs), (steps, batch))
        outputs: Any = {name: tape.values(name).copy() for name in plan.outputs}
        losses: Any = {name: _evaluated(y) for name, y in outputs.items()}
        after = self.advance(tape, state, fresh=False) if not last or self.lossy else None
        grads = self.gradients(tape, state, after, losses, series(*signals), fresh=False)
        ledger.mark()
        del grads, after
        return ledger.peaks.copy()


def _first_range(*ends: int) -> range:
    return range(*ends)[:2]


def _first_pairs(found: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(islice(found, 2))


def _within(function: Any, names: dict[str, Any]) -> Any:
    """The same function where names mean something else."""
    made = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _evaluated(y: Phantom) -> Phantom:
    """A loss, which is any Python, gets copies, makes about three arrays of the outputs' size, and leaves one."""
    rows = [y.copy() for _ in range(5)]
    return rows[-1]
