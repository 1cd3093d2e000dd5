"""A fault run as an operator starts it: short, but with real processes; and what it must never touch."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from app.errors import InputError
from app.faults import injections
from app.faults.injections import Injected, Injection
from app.faults.report import Happened, held_s
from app.faults.scratch import MARK, scratch_folder

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "app.cli.program", "faults", "run"]


def environment(elsewhere: Path) -> dict[str, str]:
    """An installation that somebody has, which a fault run must not come near."""
    named = {"STEERWISE_HOME": elsewhere, "STEERWISE_DATABASE_URL": f"sqlite:///{elsewhere}/steerwise.db"}
    return os.environ | {"PYTHONPATH": str(ROOT)} | {name: str(value) for name, value in named.items()}


@pytest.mark.fault
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_short_fault_run_loses_nothing_and_does_nothing_twice(database: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    told = subprocess.run(
        [*COMMAND, "--seed", "1", "--minutes", "0.3", "--every", "0.8", "--database", database, "--json"],
        env=environment(elsewhere),
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    report = json.loads(told.stdout)
    assert (report["lost"], report["duplicated"], report["violations"]) == (0, 0, [])
    assert report["faults"] >= 8 and report["stages"] >= 8, report
    assert not elsewhere.exists()


@pytest.mark.fault
def test_a_fault_run_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with subprocess.Popen(
        [*COMMAND, "--scratch", str(scratch)],
        env=environment(tmp_path / "elsewhere"),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        while not child.stdout.readline().startswith("ready"):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    time.sleep(0.5)
    left = [path for path in Path("/proc").glob("[0-9]*/environ") if str(scratch) in _readable(path)]
    assert left == []


def _readable(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "steerwise.db").write_text("somebody's")
    with pytest.raises(InputError, match="no fault run has made"), scratch_folder(tmp_path, keep=False):
        pass
    assert (tmp_path / "steerwise.db").read_text() == "somebody's"


def test_what_an_earlier_fault_run_left_is_used_again(tmp_path: Path) -> None:
    (tmp_path / MARK).touch()
    (tmp_path / "old").touch()
    with scratch_folder(tmp_path, keep=True) as folder:
        assert [path.name for path in folder.iterdir()] == [MARK]


def test_faults_come_in_an_order_that_the_seed_decides_and_none_is_left_out() -> None:
    known = [Injection(name, name, lambda plant, rng: Injected(0)) for name in "abc"]
    known.append(Injection("often", "often", lambda plant, rng: Injected(0), 3))
    first, again, other = (
        [fault.name for fault in islice(injections.schedule(known, random.Random(seed)), 12)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert sorted(first[:6]) == ["a", "b", "c", "often", "often", "often"]


def test_faults_at_one_time_hold_no_more_than_all_workers() -> None:
    def fault(at_s: float, until_s: float, share: float, lost_s: float = 0) -> Happened:
        return Happened("x", at_s, until_s, share, lost_s)

    assert held_s([fault(0, 4, 0.5)]) == pytest.approx(2)
    assert held_s([fault(0, 4, 1), fault(2, 6, 1)]) == pytest.approx(6)
    assert held_s([fault(0, 1, 0.5, 3), fault(10, 10, 0.5, 4)]) == pytest.approx(4)
