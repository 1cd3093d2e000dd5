"""A process that is kept alive: seen to be ready, started again, given up where it never comes up."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from app.faults.process_tree import alive
from app.infra.processes import spawn
from app.local import part
from app.local.part import Health, Part, PartFailed, PartRecipe
from app.local.watch import StopSignal, watch
from tests.app.infra.test_processes import until

pytestmark = pytest.mark.seconds

LASTS = "import time; time.sleep(120)"


class Kept(NamedTuple):
    part: Part
    starts: list[int]
    told: list[str]

    def looks(self, holds: Callable[[], bool]) -> None:
        def look() -> bool:
            self.part.look()
            return holds()

        assert until(look, timeout_s=60), self.told


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "BACKOFF_S", (0.05, 0.1))
    monkeypatch.setattr(part, "_PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(part, "_LOOK_EVERY_S", 0.02)


def kept(
    folder: Path,
    code: str,
    health: Callable[[], Health],
    start_timeout_s: float = 60,
    silence_s: float | None = None,
) -> Kept:
    starts: list[int] = []
    told: list[str] = []
    log = folder / "part.log"

    def start() -> subprocess.Popen[bytes]:
        child = spawn([sys.executable, "-c", code], log, {})
        starts.append(child.pid)
        return child

    recipe = PartRecipe("part", start, lambda _child: health(), log, start_timeout_s, 1, silence_s)
    return Kept(Part(recipe, lambda name, what: told.append(f"{name} {what}")), starts, told)


def test_what_was_ready_and_is_killed_is_started_again_for_ever(tmp_path: Path) -> None:
    found = kept(tmp_path, LASTS, lambda: Health.well)
    try:
        for count in range(1, 6):
            found.looks(lambda count=count: found.part.ready and len(found.starts) == count)
            assert found.part.child is not None
            found.part.child.kill()
    finally:
        found.part.stop()
    assert not any(alive(pid) for pid in found.starts)
    assert any("SIGKILL" in line and str(tmp_path / "part.log") in line for line in found.told)


def test_what_never_comes_up_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    found = kept(tmp_path, "import sys; sys.exit('no memory')", lambda: Health.silent)
    with pytest.raises(PartFailed, match=r"part does not start \(exit code 1\)") as caught:
        found.looks(lambda: False)
    assert caught.value.details[-1] == "no memory"
    assert len(found.starts) == part.GIVE_UP_AFTER


def test_what_is_not_ready_in_time_is_started_again(tmp_path: Path) -> None:
    found = kept(tmp_path, LASTS, lambda: Health.silent, start_timeout_s=0.1)
    with pytest.raises(PartFailed, match="not ready after"):
        found.looks(lambda: False)
    assert not any(alive(pid) for pid in found.starts)


def test_what_says_that_it_is_sick_is_started_again_and_silence_is_borne(tmp_path: Path) -> None:
    health = [Health.well]
    found = kept(tmp_path, LASTS, lambda: health[0])
    try:
        found.looks(lambda: found.part.ready)
        health[0] = Health.silent
        for _ in range(10):
            time.sleep(0.03)
            found.part.look()
        assert len(found.starts) == 1
        health[0] = Health.sick
        found.looks(lambda: len(found.starts) == 2)
    finally:
        found.part.stop()


def test_what_hangs_is_started_again(tmp_path: Path) -> None:
    health = [Health.well]
    found = kept(tmp_path, LASTS, lambda: health[0], silence_s=0.1)
    try:
        found.looks(lambda: found.part.ready)
        health[0] = Health.silent
        found.looks(lambda: len(found.starts) == 2)
        assert any("has not answered" in line for line in found.told)
    finally:
        found.part.stop()


def test_all_have_ended_when_one_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    good = kept(tmp_path / "good", LASTS, lambda: Health.well)
    bad = kept(tmp_path, "import sys; sys.exit(3)", lambda: Health.silent)
    with pytest.raises(PartFailed):
        watch([good.part, bad.part], StopSignal(), lambda: pytest.fail("it was never ready"))
    assert not any(alive(pid) for pid in good.starts)
