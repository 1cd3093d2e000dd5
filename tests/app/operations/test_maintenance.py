"""In a maintenance no job begins, what runs ends, and nothing that is accepted is lost."""

import asyncio
from uuid import UUID

import httpx
import pytest

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobKind, JobState
from app.jobs import service as jobs
from app.jobs.dispatcher import Dispatcher, Notifier
from app.jobs.ends import JobOutcome, Succeeded
from app.jobs.runner import run_job
from app.settings import Settings
from tests.app.jobs.factory import enqueue, make_run, read
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def test_no_job_begins_and_what_runs_is_waited_for(
    platform: httpx.AsyncClient,
    client: httpx.AsyncClient,
    database: Database,
    settings: Settings,
    scope: TenantScope,
) -> None:
    made = await make_run(database, scope)
    running, waits = await enqueue(database, made, JobKind.sft), await enqueue(database, made, JobKind.sft)
    async with transaction(database) as session:
        claimed = await jobs.claim(session, running.id, "a worker", 60)
    assert claimed is not None
    assert (await client.put("/v1/maintenance", json={"reason": "x"})).status_code == 403
    begun = (await platform.put("/v1/maintenance", json={"reason": "an upgrade"})).json()
    assert (begun["reason"], begun["running"]) == ("an upgrade", 1) and begun["began_at"]
    again = (await platform.put("/v1/maintenance", json={"reason": "another"})).json()
    assert again == begun
    rung: list[UUID] = []
    notifier = Notifier(lambda _queue, job_id: rung.append(job_id), lambda _queue: 0)
    dispatcher = Dispatcher(database, notifier, settings)
    await dispatcher.round()
    assert rung == []
    await asyncio.to_thread(run_job, waits.id, settings)  # of a message that was on its way
    assert ((left := await read(database, waits)).state, left.attempt) == (JobState.queued, 0)
    async with transaction(database, scope) as session:
        await jobs.finish(session, jobs.ticket_of(claimed), Succeeded(JobOutcome()))
    assert (await platform.get("/v1/maintenance")).json()["running"] == 0
    ended = (await platform.delete("/v1/maintenance")).json()
    assert (ended["began_at"], ended["reason"]) == (None, None)
    await dispatcher.round()
    assert rung == [waits.id]
    actions = [event["action"] for event in (await platform.get("/v1/audit")).json()["items"]]
    assert "maintenance.begun" in actions and "maintenance.ended" in actions


async def test_readyz_says_that_it_is_on(callers: Callers, platform: httpx.AsyncClient) -> None:
    await platform.put("/v1/maintenance", json={"reason": "an upgrade"})
    ready = (await (await callers.anonymous()).get("/readyz")).json()
    assert [problem for problem in ready["problems"] if "maintenance (an upgrade)" in problem]
