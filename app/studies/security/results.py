"""What a check is, what it found, and how it is kept, so that a bench that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from pydantic import BaseModel, ValidationError

from app.studies.security.lab import Lab

TOLD = 20  # failures of a check that are shown; all are counted
_PACKAGES = ("app", "evaluation")


class Skipped(Exception):
    """A check that cannot be made here; the message says why, and what would have to be there."""


class SliceFound(NamedTuple):
    """cases: tried. failures: one sentence for each case that failed. measured: the largest of each."""

    cases: int
    failures: list[str]
    measured: Mapping[str, float] = MappingProxyType({})


RunSlice: TypeAlias = Callable[[Lab, int, int], SliceFound]  # with a seed and a size of its own


class SliceWork(NamedTuple):
    """cases: slices are made until there are as many. size: of a slice, in whatever the check counts."""

    cases: int
    size: int


class SecurityCheck(NamedTuple):
    """case: what one is, for people. Raises, as a slice is run: Skipped."""

    name: str
    case: str
    run: RunSlice
    long: SliceWork
    short: SliceWork


class CheckFindings(BaseModel):
    """failures: how many cases failed. told: of the first of them, what was wrong. skipped: why nothing was tried."""

    name: str
    case: str
    cases: int
    failures: int
    told: list[str] = []
    measured: dict[str, float] = {}
    seconds: float = 0.0
    skipped: str | None = None


class SecurityFindings(BaseModel):
    """scale: of the cases of the long bench. code: hash of what was examined."""

    checks: list[CheckFindings]
    seed: int
    short: bool
    scale: float
    processors: int
    code: str

    @property
    def failures(self) -> int:
        return sum(check.failures for check in self.checks)


class _KeptSlice(BaseModel):
    check: str
    number: int
    size: int
    code: str
    cases: int
    failures: list[str]
    measured: dict[str, float]
    seconds: float


class SliceRecord:
    """One file for each seed, a line for each slice. What was found in other code is not taken for an answer."""

    def __init__(self, folder: Path | None, seed: int):
        self._file = None if folder is None else folder / f"seed-{seed}.jsonl"
        self._kept = {(one.check, one.number, one.size): one for one in self._read() if one.code == code()}

    def _read(self) -> Iterator[_KeptSlice]:
        if self._file is None or not self._file.is_file():
            return
        for line in self._file.read_text().split("\n"):
            with suppress(ValidationError):  # the last one, of a bench that was killed, may be torn
                yield _KeptSlice.model_validate_json(line)

    def find(self, check: str, number: int, size: int) -> tuple[SliceFound, float] | None:
        """With the seconds that it took."""
        kept = self._kept.get((check, number, size))
        return None if kept is None else (SliceFound(kept.cases, kept.failures, kept.measured), kept.seconds)

    def keep(self, check: str, number: int, size: int, found: SliceFound, seconds: float) -> None:
        if self._file is None:
            return
        made = _KeptSlice(
            check=check,
            number=number,
            size=size,
            code=code(),
            cases=found.cases,
            failures=found.failures,
            measured=dict(found.measured),
            seconds=seconds,
        )
        self._file.parent.mkdir(parents=True, exist_ok=True)
        torn = self._file.is_file() and not self._file.read_bytes().endswith(b"\n")
        with self._file.open("a") as file:
            file.write(("\n" if torn else "") + made.model_dump_json() + "\n")


@cache
def code() -> str:
    """Of the modules that are examined, and that examine."""
    root = Path(__file__).parents[3]
    files = sorted(path for package in _PACKAGES for path in (root / package).rglob("*.py"))
    digests = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


def slice_seed(seed: int, check: str, number: int) -> int:
    """The same on every machine, and another for every slice."""
    return int.from_bytes(hashlib.sha256(f"{seed} {check} {number}".encode()).digest()[:4])
