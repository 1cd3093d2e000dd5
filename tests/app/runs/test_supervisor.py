"""A stage's child, played by small real processes that end in every way that a stage can end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.errors import NoSpace, StageProcessFailed
from app.runs.supervisor import Event, EventReader, StageStopped, read_result, run_stage, supervise
from app.settings import Settings

pytestmark = pytest.mark.seconds

RESULT = {
    "status": "succeeded",
    "code": None,
    "message": "",
    "manifest_sha256": "0" * 64,
    "metrics": {"loss": 1.0},
}
SETTINGS = Settings(stage_stop_timeout_s=2)


def child(out: Path, body: str) -> list[str]:
    """A process with `out` and `write_result` at hand."""
    start = f"""
import json, os, signal, sys, time
from pathlib import Path

out = Path({str(out)!r})
def write_result(**changed):
    (out / "result.json").write_text(json.dumps({RESULT!r} | changed))
def event(**fields):
    with (out / "events.jsonl").open("a") as sink:
        sink.write(json.dumps(fields) + "\\n")
"""
    return [sys.executable, "-c", start + body]


def test_events_arrive_while_the_stage_runs_and_the_result_at_its_end(tmp_path: Path) -> None:
    seen: list[Event] = []
    body = (
        "for step in range(3):\n    event(event='progress', step=step)\n    time.sleep(0.3)\nwrite_result()"
    )
    result = supervise(child(tmp_path, body), tmp_path, SETTINGS, seen.append)
    assert [e["step"] for e in seen] == [0, 1, 2]
    assert result.succeeded
    assert result.body["metrics"] == {"loss": 1.0}


def test_a_named_failure_is_passed_on(tmp_path: Path) -> None:
    body = (
        "write_result(status='failed', code='non_finite_loss', message='loss is NaN at step 12'); sys.exit(1)"
    )
    with pytest.raises(StageProcessFailed, match=r"non_finite_loss.*loss is NaN at step 12"):
        supervise(child(tmp_path, body), tmp_path, SETTINGS, lambda event: None)


def test_a_full_disk_has_an_error_of_its_own(tmp_path: Path) -> None:
    body = "write_result(status='failed', code='disk_full'); sys.exit(1)"
    with pytest.raises(NoSpace, match="disk is full"):
        supervise(child(tmp_path, body), tmp_path, SETTINGS, lambda event: None)


def test_a_child_without_a_result_died_and_its_last_words_are_shown(tmp_path: Path) -> None:
    body = "print('Killed by the kernel', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(StageProcessFailed, match=r"died without a result .signal SIGKILL") as caught:
        supervise(child(tmp_path, body), tmp_path, SETTINGS, lambda event: None)
    assert "Killed by the kernel" in caught.value.details


def test_an_old_result_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    with pytest.raises(StageProcessFailed, match="died without a result"):
        supervise(child(tmp_path, "sys.exit(0)"), tmp_path, SETTINGS, lambda event: None)


def test_success_is_not_believed_of_a_child_that_ended_badly(tmp_path: Path) -> None:
    with pytest.raises(StageProcessFailed):
        supervise(child(tmp_path, "write_result(); sys.exit(1)"), tmp_path, SETTINGS, lambda event: None)


def test_a_stage_that_is_no_longer_wanted_is_ended(tmp_path: Path) -> None:
    seen: list[Event] = []
    body = "event(event='progress', pid=os.getpid())\ntime.sleep(60)"
    started = time.monotonic()
    with pytest.raises(StageStopped):
        supervise(child(tmp_path, body), tmp_path, SETTINGS, seen.append, stopped=lambda: bool(seen))
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0]["pid"], 0)
    assert time.monotonic() - started < 50


def test_a_manifest_that_cannot_be_read_fails_the_real_training_process(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    with pytest.raises(StageProcessFailed, match="exit code 2") as caught:
        run_stage(manifest, tmp_path, SETTINGS, lambda event: None)
    assert any("Field required" in line for line in caught.value.details), caught.value.details


def test_a_line_that_is_still_being_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    path, seen = tmp_path / "events.jsonl", list[Event]()
    events = EventReader(path)
    path.write_text('{"step": 1}\n{"st')
    events.pass_on(seen.append)
    with path.open("a") as sink:
        sink.write('ep": 2}\n')
    events.pass_on(seen.append)
    assert seen == [{"step": 1}, {"step": 2}]


def test_what_an_earlier_attempt_reported_is_not_reported_again(tmp_path: Path) -> None:
    path, seen = tmp_path / "events.jsonl", list[Event]()
    path.write_text('{"step": 1}\n')
    events = EventReader(path)
    with path.open("a") as sink:
        sink.write('{"step": 2}\n')
    events.pass_on(seen.append)
    assert seen == [{"step": 2}]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "succeeded"}', "\x00\x01"])
def test_half_a_result_is_no_result(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_supervisor_takes_its_stage_along(number: signal.Signals, tmp_path: Path) -> None:
    stage = tmp_path / "stage.py"
    stage.write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}} ')\ntime.sleep(60)"
    )
    body = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from app.cli.program import _session\nfrom app.runs.supervisor import supervise\n"
        # Tests started in the background of a shell inherit that SIGINT is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with _session() as (settings, progress):\n"
        f"    supervise([sys.executable, {str(stage)!r}], Path({str(tmp_path)!r}), settings, print)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", body], stderr=subprocess.PIPE, text=True, env=environment
    ) as ours:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text().endswith(" "):
            assert time.monotonic() < deadline
            assert ours.poll() is None
            time.sleep(0.1)
        pid = int((tmp_path / "pid").read_text())
        ours.send_signal(number)
        _, said = ours.communicate(timeout=30)
    assert "To go on: steerwise" in said
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
