"""The bench itself: it counts, keeps, goes on where it was, and says what it could not try."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.program import cli
from app.errors import InputError
from app.settings import Settings
from app.studies.security import bench, results
from app.studies.security.bench import SecurityOrder
from app.studies.security.lab import Lab
from app.studies.security.results import (
    SecurityCheck,
    Skipped,
    SliceFound,
    SliceRecord,
    SliceWork,
    slice_seed,
)
from tests.app.studies.quiet import QUIET


class Slices:
    """A check whose slices are counted; the one with the number `stops` is stopped from outside."""

    def __init__(self, stops: int | None = None):
        self.seeds: list[int] = []
        self.stops = stops

    def run(self, _lab: Lab, seed: int, size: int) -> SliceFound:
        if len(self.seeds) == self.stops:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        return SliceFound(size, ["wrong"] if len(self.seeds) == 2 else [], {"longest_s": len(self.seeds)})


def skipping(_lab: Lab, _seed: int, _size: int) -> SliceFound:
    raise Skipped("there is no vLLM")


def checks_of(monkeypatch: pytest.MonkeyPatch, *checks: SecurityCheck) -> None:
    monkeypatch.setattr(bench, "CHECKS", checks)


def a_check(name: str, run: Any) -> SecurityCheck:
    return SecurityCheck(name, "a case", run, SliceWork(10, 4), SliceWork(2, 2))


def measured(
    out: Path | None, seed: int = 0, *, short: bool = False, scale: float = 1.0
) -> results.SecurityFindings:
    return bench.measure(SecurityOrder(seed, short, scale), out, Settings(), QUIET)


def test_slices_are_made_until_there_are_enough_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = Slices()
    checks_of(monkeypatch, a_check("counted", slices.run), a_check("left out", skipping))
    found = measured(None)
    [counted, left_out] = found.checks
    assert (counted.cases, counted.failures, counted.told, counted.measured) == (
        12,
        1,
        ["wrong"],
        {"longest_s": 3},
    )
    assert left_out.skipped == "there is no vLLM" and left_out.cases == 0
    assert len(set(slices.seeds)) == 3
    assert measured(None, short=True).checks[0].cases == 2
    assert measured(None, scale=0.5).checks[0].cases == 8


def test_a_bench_that_was_stopped_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped, again, whole = Slices(stops=2), Slices(), Slices()
    checks_of(monkeypatch, a_check("counted", stopped.run))
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path)
    with (tmp_path / "seed-0.jsonl").open("a") as file:
        file.write('{"check": "coun')  # as a process that was killed leaves it
    checks_of(monkeypatch, a_check("counted", again.run))
    assert measured(tmp_path).checks[0].cases == 12
    checks_of(monkeypatch, a_check("counted", whole.run))
    measured(None)
    assert stopped.seeds + again.seeds == whole.seeds
    assert measured(tmp_path).checks[0].cases == 12 and len(whole.seeds) == 3  # nothing was left to do
    measured(tmp_path, seed=1)
    assert len(whole.seeds) == 6


def test_what_was_found_in_other_code_is_not_taken_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = SliceRecord(tmp_path, 0)
    record.keep("counted", 0, 4, SliceFound(4, []), 1.0)
    assert SliceRecord(tmp_path, 0).find("counted", 0, 4) is not None
    monkeypatch.setattr(results, "code", lambda: "another")
    assert SliceRecord(tmp_path, 0).find("counted", 0, 4) is None


def test_a_check_that_tries_nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    checks_of(
        monkeypatch,
        SecurityCheck("empty", "a case", lambda *_: SliceFound(0, []), SliceWork(1, 1), SliceWork(1, 1)),
    )
    assert measured(None).failures == 1


def test_a_check_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="there is no check 'everything'; there are rights"):
        bench.measure(SecurityOrder(only=("everything",)), None, Settings(), QUIET)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert slice_seed(0, "files", 0) == 3_166_294_879
    assert slice_seed(0, "files", 1) != slice_seed(1, "files", 0)


@pytest.mark.parametrize(
    ("failing", "skipped", "code"), [(False, False, 0), (True, False, 3), (False, True, 4)]
)
def test_the_command_ends_with_what_was_found(
    failing: bool, skipped: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_lab: Lab, _seed: int, size: int) -> SliceFound:
        if skipped:
            raise Skipped("no vLLM")
        return SliceFound(size, ["wrong"] * failing)

    checks_of(monkeypatch, a_check("counted", run))
    ended = CliRunner().invoke(cli, ["bench", "security", "--json"])
    assert ended.exit_code == code, ended.output
    assert json.loads(ended.stdout)["checks"][0]["skipped"] == ("no vLLM" if skipped else None)
    shown = CliRunner().invoke(cli, ["bench", "security"], env={"COLUMNS": "120"})
    assert ("wrong" in shown.stdout) is failing


def test_a_check_that_breaks_is_a_failure_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_lab: Lab, _seed: int, _size: int) -> SliceFound:
        raise ZeroDivisionError

    checks_of(monkeypatch, a_check("broken", breaks), a_check("counted", Slices().run))
    [broken, counted] = measured(None).checks
    assert (broken.failures, broken.told) == (1, ["the check itself broke: ZeroDivisionError()"])
    assert counted.cases == 12
