"""A gate and a deletion at the same time: no report, suite or frozen dataset has the word afterwards."""

import asyncio
import hashlib
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from app.datasets import conversations as deleting
from app.erasure import tasks
from app.gates import service
from app.infra.db.base import utc_now
from app.infra.db.engine import Database, open_database
from app.infra.db.session import transaction
from app.infra.storage import open_storage
from app.infra.tables.datasets import ConversationRow, Label, LabelSource
from app.infra.tables.gates import GateResult
from app.infra.tables.jobs import JobKind, JobState
from app.settings import Settings
from evaluation.contract.record import Conversation, Split
from evaluation.reporting.report import Report
from tests.app.erasure import searching
from tests.app.erasure.steps import WORD
from tests.evaluation.fake_server import Asked, Reply
from tests.evaluation.models import oracle
from tests.evaluation.shop import conversations
from tests.factories.rows import save
from tests.factories.trained import Trained, trained
from tests.model_server import Worker, handlers, settings, vllm, vllm_url, worker
from tests.servers.vllm import FakeVllm

__all__ = ["handlers", "settings", "vllm", "vllm_url", "worker"]
pytestmark = [pytest.mark.anyio, pytest.mark.slow]
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def said() -> list[Conversation]:
    """The test shop's, of whose held-out conversations each says the word."""
    return [_with_word(one) if one.split is Split.test else one for one in conversations()]


def _with_word(one: Conversation) -> Conversation:
    first, *rest = one.messages
    worded = first.model_copy(update={"text": f"{first.text} {WORD}"})
    return one.model_copy(update={"messages": (worded, *rest)})


async def with_rows(database: Database, told: Trained) -> list[UUID]:
    """As if the run had frozen them: conversations with labels that are older than it."""
    before, rows = utc_now() - timedelta(hours=1), list[Any]()
    for one in said():
        if one.split is Split.test:
            row = ConversationRow(
                id=uuid4(), tenant_id=told.scope.tenant_id, dataset_id=told.dataset_id, external_id=one.id,
                messages=[message.model_dump(mode="json") for message in one.messages],
                text_sha256=hashlib.sha256(one.id.encode()).hexdigest(), group_id=one.id, split=Split.test,
            )  # fmt: skip
            rows += [row, Label(
                tenant_id=told.scope.tenant_id, conversation_id=row.id, schema_id=told.schema_id,
                schema_version_id=told.version.id, category_key=one.category, source=LabelSource.import_,
                created_at=before,
            )]  # fmt: skip
    async with transaction(database, told.scope) as session:
        await save(session, *rows)
    return [row.id for row in rows if isinstance(row, ConversationRow)]


async def requested(database: Database, told: Trained) -> GateResult:
    async with transaction(database, told.scope) as session:
        return await service.request(session, told.scope, told.key_id, told.model.id, told.version.id)


def delete_all(settings: Settings, told: Trained, ids: list[UUID]) -> None:
    """From another thread than the test's."""

    async def run() -> None:
        database = open_database(settings.database_url)
        try:
            async with transaction(database, told.scope) as session:
                for one in ids:
                    await deleting.delete(session, told.scope, told.key_id, one)
        finally:
            await database.close()

    asyncio.run(run())


@on_sqlite
async def test_what_is_deleted_while_a_gate_measures_is_not_in_its_report(
    database: Database, settings: Settings, scope: Any, vllm: FakeVllm, worker: Worker, tmp_path: Path
) -> None:
    told = await trained(database, settings, scope, frozen=said())
    ids = await with_rows(database, told)
    once, deleted = threading.Lock(), []

    def deletes(seen: Asked) -> Reply:
        if once.acquire(blocking=False):
            deleting_now = threading.Thread(target=delete_all, args=(settings, told, ids))
            deleting_now.start()
            deleting_now.join()
            deleted.append(True)
        return oracle()(seen)

    vllm.models[told.adapters["rl"]] = deletes
    gate = await requested(database, told)
    job = await worker.work(scope, JobKind.gate, gate.id)
    assert job.state is JobState.succeeded and deleted, job.error
    async with transaction(database, scope, read_only=True) as session:
        left = await session.scalars(
            select(ConversationRow.id).where(ConversationRow.tenant_id == scope.tenant_id)
        )
        assert list(left) == []
    storage = open_storage(settings.storage_url)
    for _ in range(3):
        await tasks.sweep_files(database, settings)
    assert searching.in_files(tmp_path / "storage", WORD) == []
    assert await tasks.unlisted(database, storage) == []
    async with transaction(database, scope, read_only=True) as session:
        row = await service.result(session, scope, gate.id)
    assert row.report_key is not None and row.verdict is not None
    with storage.open_read(row.report_key) as file:
        assert Report.model_validate_json(file.read()).wordless
    assert storage.exists(service.page_key(row.report_key))


@on_sqlite
async def test_a_gate_waits_for_the_frozen_dataset_to_lose_its_row(
    database: Database, settings: Settings, scope: Any, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope, frozen=said())
    ids = await with_rows(database, told)
    vllm.models[told.adapters["rl"]] = oracle()
    await asyncio.to_thread(delete_all, settings, told, ids[:2])
    gate = await requested(database, told)
    job = await worker.work(scope, JobKind.gate, gate.id)
    assert (job.state, job.attempt) == (JobState.queued, 0)
    assert job.error is not None and "being taken out" in job.error["message"]
