"""Parts of the runs that need neither database nor process."""

import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from app.errors import AdapterRefused, AppError, InputError, NoSpace, StageProcessFailed
from app.infra.storage import open_storage
from app.jobs.lease import Event
from app.runs import artifacts, checkpoints, folders, reporting, time_left
from app.runs.failure import told, without_paths
from app.runs.folders import FolderBusy, RunFolder
from app.runs.reporting import StageReporter
from app.runs.supervisor import Result
from app.serving import adapter_store
from tests.app.serving.test_adapters import adapter
from tests.factories.doors import UnlistedDoor
from training.protocol import FailureCode, Fault


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no rows in /srv/steer/runs/1/train.jsonl", "no rows in train.jsonl"),
        ("[Errno 28] full: '/srv/steer/x.bin'", "[Errno 28] full: 'x.bin'"),
        ("its log: ~/runs/stage.log;", "its log: stage.log;"),
        ("the split train/test of https://example.org/a/b has 1/2", None),
        ("and / or", None),
    ],
)
def test_a_message_names_files_but_not_where_they_lie(text: str, shown: str | None) -> None:
    assert without_paths(text) == (text if shown is None else shown)


def test_a_known_place_with_spaces_goes_too() -> None:
    assert without_paths("in /my data/runs/a.txt", Path("/my data")) == "in a.txt"


def failed(code: str) -> Result:
    return Result("failed", code, f"{code}: see /tmp/x/log", "0" * 64, {})


@pytest.mark.parametrize(
    ("error", "result", "code", "fault"),
    [
        (StageProcessFailed("s"), failed("non_finite_loss"), "non_finite_loss", Fault.theirs),
        (StageProcessFailed("s"), failed("out_of_memory"), "out_of_memory", Fault.ours),
        (StageProcessFailed("stage died; its log: /tmp/y/log"), None, "stage_failed", Fault.ours),
        (StageProcessFailed("s"), failed("teacher_unavailable"), "teacher_unavailable", Fault.away),
        (NoSpace("full"), failed("disk_full"), "disk_full", Fault.full),
        (InputError("too long"), failed("cancelled"), "bad_input", Fault.theirs),
    ],
)
def test_only_what_the_inputs_are_to_blame_for_is_final(
    error: AppError, result: Result | None, code: str, fault: Fault
) -> None:
    made = told(error, result, ())
    assert (made.code, made.fault) == (code, fault)
    assert "/tmp" not in str(made)


class Heard:
    def __init__(self) -> None:
        self.at: list[tuple[int, int | None, str]] = []
        self.events: list[Event] = []

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        self.at.append((done, total, message))

    def event(self, event: Event) -> None:
        self.events.append(event)


def metric(step: int, **more: Any) -> dict[str, Any]:
    return {
        "at": "t",
        "stage": "sft",
        "event": "metric",
        "step": step,
        "total_steps": 10,
        "message": "",
        **more,
    }


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (reporting, time_left):
        monkeypatch.setattr(module, "time", made)
    return made


def test_what_is_left_is_reckoned_from_the_pace_since_the_first_step(clock: Clock) -> None:
    heard = Heard()
    reporter = StageReporter(heard, "sft", None)
    reporter({"event": "started", "message": "on /srv/base"})
    reporter({"event": "progress", "step": 0, "total_steps": 10, "message": "resuming from checkpoint-4"})
    for clock.now, step in ((30.0, 5), (32.0, 6), (36.0, 8)):
        reporter(metric(step, loss=1.0))
    assert heard.at == [(0, 10, "resuming from checkpoint-4"), *((n, 10, "training") for n in (5, 6, 8))]
    assert [event.get("eta_s") for event in heard.events] == [None, None, 8.0, 4.0]
    assert heard.events[-1]["metrics"] == {"loss": 1.0} and "/srv" not in str(heard.events)


def test_a_stage_with_a_limit_takes_no_longer_than_that(clock: Clock) -> None:
    heard = Heard()
    reporter = StageReporter(heard, "sft", 12.0)
    for clock.now, step in ((0.0, 1), (10.0, 2)):
        reporter(metric(step, loss=1.0))
    assert heard.events[-1]["eta_s"] == 2.0


def test_steps_of_an_attempt_before_are_no_pace(clock: Clock) -> None:
    watched = time_left.TimeLeft()
    clock.now = 20.0
    assert watched.left_s(0, 24) is None and watched.left_s(16, 24) is None
    clock.now = 120.0
    assert watched.left_s(17, 24) == 700.0
    assert watched.left_s(17, 24, most_s=300.0) == 180.0


def test_many_metrics_are_thinned_and_the_last_is_kept(clock: Clock) -> None:
    heard = Heard()
    reporter = StageReporter(heard, "sft", None)
    for step in range(1, 11):
        clock.now = step / 10
        reporter(metric(step, loss=1.0))
    reporter.close()
    reporter.close()
    assert [event["step"] for event in heard.events] == [1, 10]
    assert len(heard.at) == 10


def checkpoint(out: Path, step: int, made_for: str = "a" * 64) -> Path:
    folder = out / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "state").write_text(str(step))
    (folder / "complete.json").write_text(json.dumps({"manifest_sha256": made_for}))
    return folder


def test_the_newest_whole_checkpoint_of_the_same_manifest_goes_from_one_machine_to_another(
    tmp_path: Path,
) -> None:
    here, there, storage = tmp_path / "here", tmp_path / "there", open_storage(str(tmp_path / "storage"))
    for step in (9, 10):
        checkpoint(here, step)
    checkpoint(here, 11, "b" * 64)
    (checkpoint(here, 12) / "complete.json").unlink()
    found = checkpoints.newest(here, "a" * 64)
    assert found is not None and found.step == 10
    packed = checkpoints.pack(found, tmp_path)
    assert packed is not None
    key = checkpoints.key_of("runs/1", "sft", 10)
    assert checkpoints.step_of(key) == 10
    storage.put_file(packed, key)
    checkpoints.restore(storage, key, there, tmp_path)
    again = checkpoints.newest(there, "a" * 64)
    assert again is not None and (again.step, (again.folder / "state").read_text()) == (10, "10")


def test_a_checkpoint_that_the_trainer_removes_meanwhile_is_not_kept(tmp_path: Path) -> None:
    found = checkpoints.Checkpoint(3, checkpoint(tmp_path, 3))
    (found.folder / "complete.json").unlink()
    assert checkpoints.pack(found, tmp_path) is None
    gone = checkpoints.Checkpoint(4, tmp_path / "checkpoints" / "checkpoint-4")
    assert checkpoints.pack(gone, tmp_path) is None


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    storage, evil = open_storage(str(tmp_path / "storage")), tmp_path / "evil.tar"
    (tmp_path / "file").write_text("x")
    with tarfile.open(evil, "w") as archive:
        archive.add(tmp_path / "file", arcname="../outside")
    storage.put_file(evil, "evil-1.tar")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(tarfile.OutsideDestinationError):
        checkpoints.restore(storage, "evil-1.tar", tmp_path / "out", work)
    assert not (work / "outside").exists() and not (tmp_path / "outside").exists()


def test_an_adapter_is_fetched_once_and_mended_where_it_was_damaged(tmp_path: Path) -> None:
    from uuid import uuid4

    from app.infra.db.scope import TenantScope

    storage, scope = open_storage(str(tmp_path / "storage")), TenantScope(uuid4())
    source = adapter(tmp_path / "made")
    key, sha256 = artifacts.put_adapter(UnlistedDoor(storage, scope), uuid4(), source, tmp_path, 8)
    assert key == artifacts.adapter_key(scope.tenant_id, sha256)
    cache = tmp_path / "cache"
    folder = adapter_store.fetch_adapter(storage, key, sha256, cache)
    assert folder == cache / sha256
    (folder / "adapter_model.safetensors").write_bytes(b"broken")
    assert adapter_store.fetch_adapter(storage, key, sha256, cache) == folder
    (tmp_path / "storage" / key / "adapter_config.json").write_text("{}")
    assert (
        adapter_store.fetch_adapter(storage, key, sha256, cache) == folder
    )  # it needs the storage no longer
    with pytest.raises(AdapterRefused):
        adapter_store.fetch_adapter(storage, key, sha256, tmp_path / "another")
    assert [path.name for path in cache.iterdir()] == [sha256]


def test_an_adapter_under_another_ones_name_is_refused(tmp_path: Path) -> None:
    from uuid import uuid4

    from app.infra.db.scope import TenantScope

    storage = open_storage(str(tmp_path / "storage"))
    door = UnlistedDoor(storage, TenantScope(uuid4()))
    key, _ = artifacts.put_adapter(door, uuid4(), adapter(tmp_path / "made"), tmp_path, 8)
    with pytest.raises(adapter_store.Damaged):
        adapter_store.fetch_adapter(storage, key, "0" * 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_attempts_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    first = folders.lock(folder, 0, lambda: False)
    inherited = os.dup(first.fileno())  # as the child of the first has it
    first.close()
    with pytest.raises(FolderBusy):
        folders.lock(folder, 0.3, lambda: False)
    threading.Timer(0.3, os.close, [inherited]).start()
    folders.lock(folder, 30, lambda: False).close()


@pytest.mark.parametrize("code", FailureCode)
def test_whose_fault_a_stage_is_is_what_its_failure_code_says(code: FailureCode) -> None:
    assert told(StageProcessFailed("s"), failed(code.value), ()).fault is code.fault


def test_a_wrong_setting_is_not_tried_again() -> None:
    assert told(StageProcessFailed("s"), failed("unfit_settings"), ()).fault is Fault.theirs


def test_a_failure_of_another_version_is_tried_again() -> None:
    assert told(StageProcessFailed("s"), failed("unheard_of"), ()).fault is Fault.ours
