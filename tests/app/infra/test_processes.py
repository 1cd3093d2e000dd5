"""No child outlives us: not a stopped one, not one that ignores SIGTERM, not its own children, not after our death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.faults.process_tree import alive
from app.infra.processes import how_it_ended, log_tail, spawn, stop

pytestmark = pytest.mark.seconds

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
PARENT = """
import os, sys, time
from pathlib import Path
from app.infra.processes import spawn

child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], Path(sys.argv[1]), dict(os.environ))
print(child.pid, flush=True)
time.sleep(60)
"""


def until(holds: Callable[[], bool], timeout_s: float = 15) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.fault
def test_stop_ends_a_group_that_ignores_sigterm_grandchildren_included(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = spawn([sys.executable, "-c", STUBBORN], log, dict(os.environ))
    assert until(lambda: len(log.read_text().split()) == 2)
    pids = [int(pid) for pid in log.read_text().split()]
    assert all(alive(pid) for pid in pids)
    started = time.monotonic()
    stop(child, timeout_s=0.5)
    assert child.returncode == -signal.SIGKILL
    assert until(lambda: not any(alive(pid) for pid in pids))
    assert time.monotonic() - started < 10


@pytest.mark.fault
def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
    assert until(lambda: not alive(pid))


def test_stop_is_harmless_on_a_child_that_has_ended(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", "print('done')"], tmp_path / "log", dict(os.environ))
    child.wait()
    stop(child, timeout_s=1)
    assert child.returncode == 0
    assert log_tail(tmp_path / "log") == ["done"]


def test_a_child_is_not_in_our_process_group(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", dict(os.environ))
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    finally:
        stop(child, timeout_s=5)


def test_an_ending_is_told_in_words() -> None:
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(-9) == "signal SIGKILL; the machine probably ran out of memory"
    assert how_it_ended(-15) == "signal SIGTERM"


def test_the_tail_of_a_long_log_is_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(f"line {i}" for i in range(50_000)))
    assert log_tail(tmp_path / "log", lines=2) == ["line 49998", "line 49999"]
    assert log_tail(tmp_path / "none") == []
