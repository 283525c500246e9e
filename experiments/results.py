"""Results of an experiment: a file of JSON with one line per run, to which runs are added, and what is asked of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.experiment import Experiment, Setting
from forwardgrad.support.atomic import write_bytes

FOLDER = Path(__file__).parent / "results"


class OtherSettingsError(Exception):
    """The runs of a file were made with other settings than those of the experiment."""


@dataclass
class Run:
    """One run.

    Args:
        setting, seed: which one.
        found: what it found, plain data.
        seconds: how long it took.
        made: versions that it was made with.
    """

    setting: dict[str, Any]
    seed: int
    found: dict[str, Any]
    seconds: float
    made: str

    @property
    def key(self) -> str:
        """Tells runs apart."""
        return key(self.setting, self.seed)


def key(setting: Setting, seed: int) -> str:
    """A text that tells runs apart, whatever the order in which their settings are named."""
    return json.dumps([dict(setting), seed], sort_keys=True)


@dataclass
class Spread:
    """A number over seeds; `None` stands for a run without one, mostly because something overflowed."""

    values: list[float | None]

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def median(self) -> float:
        """NaN where there is none."""
        return statistics.median(self.known) if self.known else float("nan")

    @property
    def worst(self) -> float:
        """The median, or infinity where there is none: for whoever looks for the least."""
        return self.median if self.known else float("inf")

    def text(self, digits: int = 4, missing: str = "overflowed") -> str:
        """The median, and the range in brackets if there are several.

        >>> Spread([0.5, 0.25, 1.0]).text(2)
        '0.50 (0.25 to 1.00)'
        >>> Spread([0.5, None]).text(2)
        '0.50, 1 of 2 overflowed'
        """
        known, without = self.known, len(self.values) - len(self.known)
        if not self.values:
            return "not run"
        note = f"{without} of {len(self.values)} {missing}" if without else ""
        if not known:
            return note
        span = f" ({min(known):.{digits}f} to {max(known):.{digits}f})" if len(known) > 1 else ""
        return ", ".join(filter(None, (f"{self.median:.{digits}f}{span}", note)))


@dataclass
class Results:
    """All runs of an experiment.

    Args:
        experiment: its name.
        fixed: what held for all runs.
        runs: by their keys.
    """

    experiment: str
    fixed: dict[str, Any]
    runs: dict[str, Run] = field(default_factory=dict[str, Run])

    def add(self, runs: Iterable[Run]) -> None:
        """Add runs; those that are there already are replaced."""
        self.runs.update((run.key, run) for run in runs)

    def chosen(self, **setting: Any) -> list[Run]:
        """The runs with these settings, in the order of their seeds."""
        fitting = [run for run in self.runs.values() if all(run.setting.get(k) == v for k, v in setting.items())]
        return sorted(fitting, key=lambda run: run.seed)

    def spread(self, number: str, **setting: Any) -> Spread:
        """One number over the seeds of a setting."""
        return Spread([run.found.get(number) for run in self.chosen(**setting)])

    def median(self, number: str, **setting: Any) -> float:
        """The median over the seeds of a setting; NaN where there is none."""
        return self.spread(number, **setting).median

    @property
    def seeds(self) -> str:
        """How many seeds the settings have, as text."""
        counts: dict[str, int] = {}
        for run in self.runs.values():
            of = key(run.setting, 0)
            counts[of] = counts.get(of, 0) + 1
        least, most = min(counts.values(), default=0), max(counts.values(), default=0)
        return f"{least}" if least == most else f"{least} to {most}"

    def text(self) -> str:
        """The content of a file."""
        head = {"experiment": self.experiment, "fixed": self.fixed}
        lines = [json.dumps(vars(self.runs[each])) for each in sorted(self.runs)]
        return json.dumps(head)[:-1] + ', "runs": [\n' + ",\n".join(lines) + "\n]}\n"

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, self.text().encode())


def read(path: Path) -> Results:
    """Read a file."""
    held = json.loads(path.read_text(encoding="utf-8"))
    found = Results(held["experiment"], held["fixed"])
    found.add(Run(**each) for each in held["runs"])
    return found


def of(experiment: Experiment, path: Path, fixed: Mapping[str, Any]) -> Results:
    """The results in a file, or none yet.

    Raises:
        OtherSettingsError: if they were made for another experiment or with other settings.
    """
    plain = json.loads(json.dumps(dict(fixed)))
    if not path.exists():
        return Results(experiment.name, plain)
    found = read(path)
    if found.experiment != experiment.name:
        raise OtherSettingsError(f"{path} holds results of {found.experiment!r}, not of {experiment.name!r}.")
    differing = sorted(k for k in {*found.fixed, *plain} if found.fixed.get(k) != plain.get(k))
    if differing:
        raise OtherSettingsError(
            f"{path}: its runs were made with another {', '.join(differing)}. Remove the file, or name another one."
        )
    return found
