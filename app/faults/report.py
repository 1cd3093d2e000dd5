"""What a fault run found, for people and for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from app.faults.checker import Invariant, Violation

MOST = 1.5  # times the ideal
_SHOWN = 20


class Happened(NamedTuple):
    """at_s, until_s: since the first fault was due. share, lost_s, place: of `app.faults.injections.Injected`."""

    name: str
    at_s: float
    until_s: float
    share: float
    lost_s: float
    place: str | None = None


class Times(NamedTuple):
    """took_s: from the first fault until all that was accepted had ended. jobs: that ended meanwhile.

    pace: jobs a second without faults, None where that was not measured. held_s: what faults kept from being done, in
    seconds of all workers.
    """

    took_s: float
    jobs: int
    pace: float | None
    held_s: float

    @property
    def work_s(self) -> float | None:
        return None if self.pace is None else self.jobs / self.pace

    @property
    def ideal_s(self) -> float | None:
        return None if self.work_s is None else self.work_s + self.held_s

    @property
    def ratio(self) -> float | None:
        return None if self.ideal_s is None else self.took_s / self.ideal_s

    @property
    def lines(self) -> list[str]:
        work_s, ideal_s, ratio = self.work_s, self.ideal_s, self.ratio
        if work_s is None or ideal_s is None or ratio is None:
            return [f"time         {self.took_s:.0f} s; faults held workers for {self.held_s:.0f} s of it"]
        return [
            f"time         {self.took_s:.0f} s, {ratio:.2f} x the ideal {ideal_s:.0f} s (at most {MOST})",
            f"ideal        {work_s:.0f} s for {self.jobs} jobs at the pace without faults, and "
            f"{self.held_s:.0f} s that faults held it",
        ]


class FaultReport(NamedTuple):
    """borders: failpoints that were come to, and how many of them ended a process. told: counts of what customers met.

    surprises: what was answered to them, and was no fault's doing as far as is known.
    """

    seed: int
    database: str
    lease_s: float
    happened: Sequence[Happened]
    stages: int
    runs: int
    times: Times
    borders: tuple[int, int]
    violations: Sequence[Violation]
    not_injected: Mapping[str, str]
    told: Mapping[str, int]
    surprises: Sequence[str]
    looks: int

    @property
    def lost(self) -> int:
        return sum(violation.rule is Invariant.lost for violation in self.violations)

    @property
    def doubled(self) -> int:
        return sum(violation.rule is Invariant.doubled for violation in self.violations)

    @property
    def kinds(self) -> dict[str, int]:
        return dict(sorted(Counter(one.name for one in self.happened).items()))

    def lines(self) -> list[str]:
        others = len(self.violations) - self.lost - self.doubled
        seen, hit = self.borders
        return [
            f"database     {self.database}",
            f"seed         {self.seed}",
            f"faults       {len(self.happened)}: {', '.join(f'{name} {n}' for name, n in self.kinds.items())}",
            f"failpoints   {hit} of {seen} that were come to ended a process",
            f"stages       {self.stages}, of {self.runs} runs",
            f"lost         {self.lost}",
            f"duplicated   {self.doubled}",
            f"other        {others} violations, at {self.looks} looks",
            *self.times.lines,
            f"lease        {self.lease_s:g} s",
            *(f"not here     {name}: {why}" for name, why in self.not_injected.items()),
            *(f"met          {name}: {count}" for name, count in sorted(self.told.items())),
            *(f"surprise     {line}" for line in self.surprises[:_SHOWN]),
            *(f"VIOLATION    {one.rule.value}: {one.what}" for one in self.violations[:_SHOWN]),
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "database": self.database,
            "lease_s": self.lease_s,
            "faults": len(self.happened),
            "kinds": self.kinds,
            "failpoints": {"seen": self.borders[0], "hit": self.borders[1]},
            "stages": self.stages,
            "runs": self.runs,
            "lost": self.lost,
            "duplicated": self.doubled,
            "violations": [{"rule": one.rule.value, "what": one.what} for one in self.violations],
            "took_s": round(self.times.took_s, 1),
            "ideal_s": _rounded(self.times.ideal_s, 1),
            "held_s": round(self.times.held_s, 1),
            "jobs": self.times.jobs,
            "ratio": _rounded(self.times.ratio, 3),
            "not_injected": dict(self.not_injected),
            "met": dict(self.told),
            "surprises": list(self.surprises),
            "looks": self.looks,
            "happened": [one._asdict() for one in self.happened],
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def held_s(happened: Sequence[Happened]) -> float:
    """What the faults kept from being done, in seconds of all workers: faults at one time hold no more than all."""
    marks = sorted(
        mark for one in happened for mark in ((one.at_s, one.share), (one.until_s + one.lost_s, -one.share))
    )
    total, share, before = 0.0, 0.0, 0.0
    for at, change in marks:
        total += (at - before) * min(1.0, share)
        share, before = share + change, at
    return total
