"""All checks, one after the other, slice by slice: what `steerwise bench security` runs."""

import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from app.cli.console import Progress
from app.errors import InputError
from app.settings import Settings
from app.studies import neighbours
from app.studies.security import (
    conformance,
    deletion,
    histories,
    inputs,
    leaks,
    learned_words,
    prefix_cache,
    rights,
    worst_bodies,
)
from app.studies.security.lab import Lab, lab
from app.studies.security.results import (
    TOLD,
    CheckFindings,
    RunSlice,
    SecurityCheck,
    SecurityFindings,
    Skipped,
    SliceFound,
    SliceRecord,
    SliceWork,
    code,
    slice_seed,
)

WHOLE = SliceWork(1, 1)  # of what is all there is: one slice
MOST_RATIO = 1.2  # of the quiet tenant's 99th percentiles, beside a noisy one and alone


def _neighbours(lab: Lab, _seed: int, size: int) -> SliceFound:
    """size: cycles; none in the short bench, where they would take longer than all the rest."""
    if not size:
        raise Skipped("takes several minutes; it is part of the long bench, and `steerwise bench neighbours`")
    found = neighbours.measure(size, 60, lab.settings, _Silent())
    failures = [f"{found.failed} requests of the quiet tenant, alone, were not answered"] * bool(found.failed)
    for felt in found.noises:
        if felt.failed:
            failures.append(f"beside {felt.noise}: {felt.failed} requests were not answered")
        if felt.p99_ratio > MOST_RATIO:
            failures.append(
                f"beside {felt.noise}: the quiet tenant's p99 is {felt.p99_ratio:.2f} times as high"
            )
    measured = {f"p99_ratio_{felt.noise}": felt.p99_ratio for felt in found.noises}
    return SliceFound(found.asked, failures, measured)


class _Silent:
    def note(self, text: str) -> None:
        pass

    def update(
        self, stage: str, done: int, total: int | None, message: str = "", most_s: float | None = None
    ) -> None:
        pass

    def end(self, stage: str, message: str = "") -> None:
        pass


def _with_a_vllm(run: RunSlice) -> RunSlice:
    """Not in the short bench, whose slices of it have no size."""

    def run_where_long(lab: Lab, seed: int, size: int) -> SliceFound:
        if not size:
            raise Skipped("starts a vLLM; it is part of the long bench")
        return run(lab, seed, size)

    return run_where_long


CHECKS = (
    SecurityCheck("rights", "an operation, and who must not", rights.run, WHOLE, WHOLE),
    SecurityCheck("worst bodies", "a body, and the event loop", worst_bodies.run, WHOLE, WHOLE),
    SecurityCheck(
        "conformance", "a request of Schemathesis", conformance.run, SliceWork(20_000, 20), SliceWork(200, 1)
    ),
    SecurityCheck("histories", "a step", histories.run, SliceWork(2_000, 2), SliceWork(100, 2)),
    SecurityCheck("files", "a file", inputs.run_files, SliceWork(120_000, 4_000), SliceWork(1_000, 1_000)),
    SecurityCheck("swelling files", "a file", inputs.run_swelling, SliceWork(1, 1024), SliceWork(1, 16)),
    SecurityCheck(
        "contract", "an answer of a model", inputs.run_contract, SliceWork(80_000, 4_000), SliceWork(500, 500)
    ),
    SecurityCheck("neighbours", "a request of the quiet one", _neighbours, SliceWork(1, 8), SliceWork(1, 0)),
    SecurityCheck("deletion", "a word", deletion.run, WHOLE, WHOLE),
    SecurityCheck("leaks", "a question", leaks.run, WHOLE, WHOLE),
    SecurityCheck(
        "prefix cache", "a guess", _with_a_vllm(prefix_cache.run), SliceWork(30, 30), SliceWork(1, 0)
    ),
    SecurityCheck(
        "learned words", "an answer", _with_a_vllm(learned_words.run), SliceWork(1, 100), SliceWork(1, 0)
    ),
)


class SecurityOrder(NamedTuple):
    """scale: part of the cases of the long bench that are tried. only: names of checks; none: all of them."""

    seed: int = 0
    short: bool = False
    scale: float = 1.0
    only: tuple[str, ...] = ()

    def work(self, check: SecurityCheck) -> SliceWork:
        if self.short:
            return check.short
        return check.long._replace(cases=max(1, round(check.long.cases * self.scale)))


def measure(
    order: SecurityOrder, out: Path | None, settings: Settings, progress: Progress
) -> SecurityFindings:
    """out: a folder in which slices are kept, so that the same bench goes on where it was. Raises: InputError."""
    names = [check.name for check in CHECKS]
    if unknown := [name for name in order.only if name not in names]:
        raise InputError(f"there is no check {unknown[0]!r}; there are {', '.join(names)}")
    record = SliceRecord(out, order.seed)
    with (
        tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder,
        lab(Path(folder), settings) as place,
    ):
        found = [
            _made(check, order.work(check), place, record, order.seed, progress)
            for check in CHECKS
            if not order.only or check.name in order.only
        ]
    processors = len(os.sched_getaffinity(0))
    return SecurityFindings(
        checks=found,
        seed=order.seed,
        short=order.short,
        scale=order.scale,
        processors=processors,
        code=code(),
    )


def _made(
    check: SecurityCheck, work: SliceWork, place: Lab, record: SliceRecord, seed: int, progress: Progress
) -> CheckFindings:
    made = CheckFindings(name=check.name, case=check.case, cases=0, failures=0)
    number = 0
    while made.cases < work.cases:
        progress.update(check.name, made.cases, work.cases if work.cases > 1 else None)
        kept = record.find(check.name, number, work.size)
        if kept is None:
            began = time.monotonic()
            try:
                found = check.run(place, slice_seed(seed, check.name, number), work.size)
            except Skipped as reason:
                progress.end(check.name, f"NOT TRIED: {reason}")
                return made.model_copy(update={"skipped": str(reason)})
            except Exception as error:  # noqa: BLE001 (what the others have found is not lost for it)
                progress.end(check.name, f"BROKEN: {error!r}")
                broken = SliceFound(1, [f"the check itself broke: {error!r}"])
                return _with(made, broken, time.monotonic() - began)
            kept = found, time.monotonic() - began
            record.keep(check.name, number, work.size, *kept)
        if not kept[0].cases:
            kept = kept[0]._replace(cases=1, failures=["nothing was tried", *kept[0].failures]), kept[1]
        made = _with(made, *kept)
        number += 1
    progress.end(check.name, f"{made.cases} cases, {made.failures} failures")
    return made


def _with(made: CheckFindings, found: SliceFound, seconds: float) -> CheckFindings:
    highest = {name: max(value, made.measured.get(name, value)) for name, value in found.measured.items()}
    return made.model_copy(
        update={
            "cases": made.cases + found.cases,
            "failures": made.failures + len(found.failures),
            "told": [*made.told, *found.failures][:TOLD],
            "measured": made.measured | highest,
            "seconds": made.seconds + seconds,
        }
    )


def table(found: SecurityFindings) -> Table:
    shown = Table("check", "a case is", "cases", "failures", "at most", "seconds")
    for check in found.checks:
        measured = ", ".join(f"{name} {value:.3g}" for name, value in check.measured.items())
        if check.skipped is not None:
            shown.add_row(check.name, check.case, "not tried", "–", check.skipped, "–")
            continue
        counts = str(check.cases), str(check.failures)
        shown.add_row(check.name, check.case, *counts, measured, f"{check.seconds:.0f}")
        for told in check.told:
            shown.add_row("", told, "", "", "", "")
    return shown
