"""Stages done by a worker: real processes that train quickly, and everything around them as it is."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.infra.db.clock import now
from app.infra.db.session import transaction
from app.infra.processes import spawn
from app.infra.tables.jobs import Job, JobState
from app.jobs import repository as job_repository
from app.jobs import service as jobs
from app.runs import service
from app.runs.artifacts import adapter_key
from app.runs.folders import folder_of
from app.serving.adapter_store import Damaged, fetch_adapter
from evaluation.contract.budget import ANSWER_TOKENS
from tests.app.runs import work
from tests.app.runs.conftest import STAGES, Shop

pytestmark = [pytest.mark.anyio, pytest.mark.seconds]
ROOT = Path(__file__).parents[3]
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def until_waiting(shop: Shop, run_id: str, number: int, kind: str, step: int) -> None:
    """The trainer has come to the step after which it waits."""
    events = folder_of(shop.settings, UUID(run_id)).stage(number, kind) / "events.jsonl"
    async with asyncio.timeout(100):
        while not (events.exists() and f'"step": {step}' in events.read_text()):
            await asyncio.sleep(0.1)


def wait_in(shop: Shop, kind: str, step: int) -> None:
    (shop.play / f"{kind}.stop_at").write_text(str(step))


def go_on(shop: Shop, kind: str) -> None:
    (shop.play / f"{kind}.go_on").touch()


async def lose(shop: Shop, job: Job) -> None:
    """As the dispatcher does once a lease is over."""
    async with transaction(shop.database, shop.scope) as session:
        held = await jobs.hold(session, jobs.ticket_of(job))
        await job_repository.write(session, held, {"lease_until": now(-1)})
        assert await jobs.expire(session, jobs.ticket_of(job)) is not None
    async with transaction(shop.database, shop.scope) as session:  # not after a back-off
        again = await jobs.get(session, shop.scope, job.id)
        await job_repository.write(session, again, {"available_at": now()})


async def test_a_run_goes_through_its_stages_and_ends_in_a_model_version(shop: Shop) -> None:
    run = await shop.run()
    for kind in STAGES:
        job = await shop.work(run["id"], kind)
        assert job.state is JobState.succeeded, job.error
        if kind == "traces":
            assert (await shop.get(f"runs/{run['id']}"))["state"] == "running"
    assert shop.starts() == [f"{kind} 0" for kind in STAGES]
    done = await shop.get(f"runs/{run['id']}")
    assert (done["state"], done["error"]) == ("succeeded", None) and done["finished_at"] is not None
    assert [stage["metrics"]["loss_last"] for stage in done["stages"]] == [pytest.approx(1 / 6)] * 4
    assert done["progress"] == {"stage": "rl", "done": 6, "total": 6, "message": "training", "eta_s": None}
    [model] = (await shop.get("model-versions"))["items"]
    assert model == await shop.get(f"model-versions/{done['model_version_id']}")
    assert [stage["kind"] for stage in model["stages"]] == STAGES
    assert (model["run_id"], model["schema_id"], model["schema_version"]) == (run["id"], shop.schema_id, 1)
    assert model["adapter_sha256"] == model["stages"][-1]["sha256"]
    assert model["answer_tokens"] == ANSWER_TOKENS
    assert len({stage["sha256"] for stage in model["stages"]}) == 4
    assert (await shop.stranger.get(f"/v1/model-versions/{model['id']}")).status_code == 404
    await check_artifacts(shop, model)
    log = await shop.client.get(f"/v1/runs/{run['id']}/stages/sft/log")
    assert "=== start 1 ===" in log.text and "sft reads train.jsonl" in log.text
    assert str(shop.settings.home) not in log.text


async def check_artifacts(shop: Shop, model: dict[str, Any]) -> None:
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        row = await service.model_version(session, shop.scope, UUID(model["id"]))
    assert row.adapter_key == adapter_key(shop.scope.tenant_id, row.adapter_sha256)
    assert [stage["adapter_key"] is None for stage in row.stages] == [True, False, False, False]
    folder = fetch_adapter(shop.storage, row.adapter_key, row.adapter_sha256, shop.settings.home / "adapters")
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    with shop.storage.open_read(row.stages[0]["artifact_key"]) as traces:
        assert json.loads(traces.read())["completion"] == "Answer: A"


async def test_a_queued_run_is_cancelled_at_once(shop: Shop) -> None:
    run = await shop.run()
    cancelled = await shop.client.post(f"/v1/runs/{run['id']}/cancel")
    assert cancelled.status_code == 202 and cancelled.json()["state"] == "cancelled"
    assert {stage["state"] for stage in cancelled.json()["stages"]} == {"cancelled"}
    await shop.work(run["id"], "traces")
    assert shop.starts() == []
    again = await shop.client.post(f"/v1/runs/{run['id']}/cancel")
    assert (again.status_code, again.json()) == (202, cancelled.json())


async def test_a_running_run_is_cancelled_with_its_process(shop: Shop) -> None:
    run = await shop.run()
    wait_in(shop, "traces", 3)
    working = asyncio.create_task(shop.work(run["id"], "traces"))
    await until_waiting(shop, run["id"], 1, "traces", 3)
    seen = await progress_of(shop, run["id"])
    assert (seen["stage"], seen["done"], seen["total"]) == ("traces", 3, 6)
    first = (await shop.get(f"runs/{run['id']}"))["stages"][0]
    assert first["heard_at"] >= first["started_at"] and 0 <= first["silent_s"] < 60
    asked = (await shop.client.post(f"/v1/runs/{run['id']}/cancel")).json()
    assert asked["state"] == "running"  # until its process has ended
    assert [stage["state"] for stage in asked["stages"]] == ["running", *["cancelled"] * 3]
    async with asyncio.timeout(100):
        job = await working
    assert job.state is JobState.cancelled
    ended = await shop.get(f"runs/{run['id']}")
    assert (ended["state"], ended["error"], ended["model_version_id"]) == ("cancelled", None, None)


async def progress_of(shop: Shop, run_id: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            seen = (await shop.get(f"runs/{run_id}"))["progress"]
            if seen["done"] == 3:
                return seen
            await asyncio.sleep(0.2)


async def test_a_stage_that_cannot_succeed_fails_its_run_with_what_to_do(shop: Shop) -> None:
    run = await shop.run()
    said = f"{shop.settings.home}/runs/x/train.jsonl has no labels; see /var/lib/some where and train/test"
    fail = {"status": "failed", "code": "no_examples", "message": said}
    (shop.play / "traces.fail").write_text(json.dumps(fail))
    job = await shop.work(run["id"], "traces")
    assert (job.state, job.attempt) == (JobState.failed, 1)
    ended = await shop.get(f"runs/{run['id']}")
    assert ended["state"] == "failed" and ended["finished_at"] is not None
    told = {"code": "no_examples", "message": "train.jsonl has no labels; see some where and train/test"}
    assert ended["error"] == told | {"details": [], "stage": "traces"}
    assert ended["stages"][0]["error"] == told | {"details": []}
    assert [stage["state"] for stage in ended["stages"]] == ["failed", *["cancelled"] * 3]


@ON_SQLITE
async def test_a_run_that_failed_goes_on_from_the_stage_that_failed_and_there_from_its_checkpoint(
    shop: Shop,
) -> None:
    run = await shop.run()
    assert (await shop.client.post(f"/v1/runs/{run['id']}/retry")).json()["code"] == "run_not_failed"
    await shop.work(run["id"], "traces")
    (shop.play / "sft.fail").write_text(json.dumps({"status": "failed", "code": "no_examples"}))
    assert (await shop.work(run["id"], "sft")).state is JobState.failed
    other = await shop.run(dataset_id=run["dataset_id"])  # whose worker tidies up, and leaves what may go on
    await shop.work(other["id"], "traces")
    (shop.play / "sft.fail").unlink()
    assert (await shop.stranger.post(f"/v1/runs/{run['id']}/retry")).status_code == 404
    again = await shop.client.post(f"/v1/runs/{run['id']}/retry")
    assert again.status_code == 202, again.text
    shown = again.json()
    assert (shown["state"], shown["error"], shown["finished_at"]) == ("running", None, None)
    assert [stage["state"] for stage in shown["stages"]] == ["succeeded", "queued", "blocked", "blocked"]
    assert [stage["attempt"] for stage in shown["stages"]] == [1, 0, 0, 0]
    assert (await shop.client.post(f"/v1/runs/{run['id']}/retry")).status_code == 409
    for kind in STAGES[1:]:
        assert (await shop.work(run["id"], kind)).state is JobState.succeeded
    assert (await shop.get(f"runs/{run['id']}"))["state"] == "succeeded"
    assert shop.starts() == ["traces 0", "sft 0", "traces 0", "sft 6", "distill 0", "rl 0"]


@ON_SQLITE
async def test_a_full_disk_or_a_teacher_that_is_away_costs_a_stage_no_attempt(shop: Shop) -> None:
    run = await shop.run()
    for code in ("disk_full", "teacher_unavailable"):
        (shop.play / "traces.fail").write_text(
            json.dumps({"status": "failed", "code": code, "message": "not now"})
        )
        for _ in range(4):
            job = await shop.work(run["id"], "traces")
            assert (job.state, job.attempt, job.losses) == (JobState.queued, 0, 0)
            assert job.error is not None and job.error["code"] == code
            await make_due(shop, job)
    (shop.play / "traces.fail").unlink()
    assert (await shop.work(run["id"], "traces")).state is JobState.succeeded


@ON_SQLITE
async def test_a_storage_that_is_away_costs_a_stage_no_attempt(shop: Shop) -> None:
    run = await shop.run()
    storage = Path(shop.settings.storage_url)
    storage.rename(storage.with_name("elsewhere"))
    storage.write_text("no folder")
    for _ in range(4):
        job = await shop.work(run["id"], "traces")
        assert (job.state, job.attempt, job.losses) == (JobState.queued, 0, 0), job.error
        await make_due(shop, job)
    storage.unlink()
    storage.with_name("elsewhere").rename(storage)
    assert (await shop.work(run["id"], "traces")).state is JobState.succeeded


async def make_due(shop: Shop, job: Job) -> None:
    async with transaction(shop.database, shop.scope) as session:
        await job_repository.write(session, job, {"available_at": now()})


async def test_a_process_that_dies_is_tried_again_from_its_checkpoint_and_then_given_up(shop: Shop) -> None:
    run = await shop.run()
    (shop.play / "traces.die").touch()
    for attempt in (1, 2, 3):
        job = await shop.work(run["id"], "traces")
        async with transaction(shop.database, shop.scope) as session:
            await job_repository.write(session, job, {"available_at": now()})
        assert job.attempt == attempt
    assert shop.starts() == ["traces 0", "traces 6", "traces 6"]
    ended = await shop.get(f"runs/{run['id']}")
    assert ended["state"] == "failed" and "SIGKILL" in ended["error"]["message"]
    assert str(shop.settings.home) not in json.dumps(ended)
    log = (await shop.client.get(f"/v1/runs/{run['id']}/stages/traces/log")).text
    assert log.count("=== start") == 3 and log.count("traces reads") == 3


async def test_a_stage_goes_on_from_its_checkpoint_when_its_lease_was_lost(shop: Shop) -> None:
    run = await shop.run()
    wait_in(shop, "traces", 3)
    working = asyncio.create_task(shop.work(run["id"], "traces"))
    await until_waiting(shop, run["id"], 1, "traces", 3)
    [job, *_] = await shop.jobs(run["id"])
    await lose(shop, job)
    async with asyncio.timeout(100):
        await working
    assert (await shop.jobs(run["id"]))[0].losses == 1
    go_on(shop, "traces")
    job = await shop.work(run["id"], "traces")  # its next checkpoint ends the count of losses
    assert (job.state, job.attempt, job.losses, job.epoch) == (JobState.succeeded, 1, 0, 2), job.error
    assert shop.starts() == ["traces 0", "traces 3"]


@pytest.mark.fault
@ON_SQLITE
async def test_a_stage_goes_on_from_its_checkpoint_when_its_worker_was_killed(shop: Shop) -> None:
    run = await shop.run()
    wait_in(shop, "traces", 3)
    [job, *_] = await shop.jobs(run["id"])
    settings = shop.settings
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "STEERWISE_HOME": str(settings.home),
        "STEERWISE_DATABASE_URL": settings.database_url,
        "STEERWISE_STORAGE_URL": settings.storage_url,
    }
    argv = [sys.executable, "-m", work.__name__, str(job.id)]
    worker = spawn(argv, shop.play / "worker.log", environment)
    await until_waiting(shop, run["id"], 1, "traces", 3)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    await lose(shop, (await shop.jobs(run["id"]))[0])
    assert (await shop.jobs(run["id"]))[0].losses == 1
    go_on(shop, "traces")
    job = await shop.work(run["id"], "traces")
    assert (job.state, job.losses, job.epoch) == (JobState.succeeded, 0, 2), job.error
    assert shop.starts() == ["traces 0", "traces 3"]


@ON_SQLITE
async def test_a_stage_goes_on_from_its_checkpoint_on_another_machine(shop: Shop, tmp_path: Path) -> None:
    run = await shop.run()
    await shop.work(run["id"], "traces")
    wait_in(shop, "sft", 4)
    working = asyncio.create_task(shop.work(run["id"], "sft"))
    async with asyncio.timeout(100):
        while True:
            job = (await shop.jobs(run["id"]))[1]
            if (job.checkpoint_uri or "").endswith("sft-4.tar"):
                break
            await asyncio.sleep(0.1)
    await lose(shop, job)
    async with asyncio.timeout(100):
        await working
    go_on(shop, "sft")
    elsewhere = shop.settings.model_copy(update={"home": tmp_path / "elsewhere"})
    job = await shop.work(run["id"], "sft", elsewhere)
    assert job.state is JobState.succeeded, job.error
    assert shop.starts() == ["traces 0", "sft 0", "sft 4"]


@ON_SQLITE
@pytest.mark.parametrize("same_machine", [True, False])
async def test_a_stage_that_was_finished_before_its_worker_was_lost_is_not_run_again(
    shop: Shop, tmp_path: Path, same_machine: bool
) -> None:
    run = await shop.run()
    job = await shop.work(run["id"], "traces")
    async with transaction(shop.database) as session:  # its end was not written
        await job_repository.write(session, job, {"state": JobState.queued, "available_at": now()})
    elsewhere = shop.settings.model_copy(update={"home": tmp_path / "elsewhere"})
    again = await shop.work(run["id"], "traces", shop.settings if same_machine else elsewhere)
    assert again.state is JobState.succeeded and again.epoch == 2
    assert shop.starts() == ["traces 0"]


@ON_SQLITE
async def test_folders_and_checkpoints_of_ended_runs_go_when_the_next_run_begins(shop: Shop) -> None:
    dataset_id = await shop.dataset()
    first = await shop.run(dataset_id=dataset_id)
    await shop.work(first["id"], "traces")
    await shop.client.post(f"/v1/runs/{first['id']}/cancel")
    second = await shop.run(dataset_id=dataset_id)
    await shop.work(second["id"], "traces")
    assert [path.name for path in (shop.settings.home / "runs").iterdir()] == [second["id"]]


@ON_SQLITE
async def test_a_dataset_that_was_damaged_in_the_storage_is_not_learned_from(shop: Shop) -> None:
    run = await shop.run()
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        row = await service.get(session, shop.scope, UUID(run["id"]))
    Path(shop.settings.storage_url, row.snapshot_key).write_bytes(b"{}\n")
    job = await shop.work(run["id"], "traces")
    assert job.error is not None and job.error["code"] == Damaged.code
    assert shop.starts() == []
