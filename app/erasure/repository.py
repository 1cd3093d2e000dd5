"""What goes, of every table: runs with all that was made of them, tenants with all that they own."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.base import utc_now
from app.infra.db.clock import now
from app.infra.db.scope import TenantScope
from app.infra.files import repository as files
from app.infra.tables.all import METADATA
from app.infra.tables.auth import ApiKey
from app.infra.tables.datasets import ConversationRow, Dataset, DatasetState
from app.infra.tables.deployments import Deployment, DeploymentState, ServedEdit
from app.infra.tables.files import FileKind, StoredFile
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.jobs import Job, JobEvent, JobState
from app.infra.tables.runs import ModelVersion, Run, RunState
from app.infra.tables.tenants import Tenant

AT_ONCE = 1000
# Audit events hold ids only and stay, and with them the row that they name; files are swept one by one.
STAYS = frozenset({"tenants", "audit_events", "audit_links", "stored_files"})
COUNTED_FOR = timedelta(days=2)  # jobs of runs that are gone: for so long they count in the tenant's share
_OPEN_JOBS = (JobState.blocked, JobState.queued, JobState.running)
_IN_PLACE = {"synchronize_session": False}


class MadeByRun(NamedTuple):
    models: list[ModelVersion]
    gates: list[UUID]
    deployments: list[Deployment]


# ---------------------------------------------------------------------------------------------------------------- runs


async def made_by(session: AsyncSession, scope: TenantScope, run_id: UUID) -> MadeByRun:
    models = list(
        await session.scalars(
            select(ModelVersion).where(
                ModelVersion.tenant_id == scope.tenant_id, ModelVersion.run_id == run_id
            )
        )
    )
    ids = [model.id for model in models]
    gates = select(GateResult.id).where(GateResult.tenant_id == scope.tenant_id)
    deployments = select(Deployment).where(Deployment.tenant_id == scope.tenant_id)
    return MadeByRun(
        models,
        list(await session.scalars(gates.where(GateResult.model_version_id.in_(ids)))),
        list(
            await session.scalars(
                deployments.where(Deployment.model_version_id.in_(ids)),
                execution_options={"populate_existing": True},
            )
        ),
    )


async def open_gates(session: AsyncSession, scope: TenantScope, gate_ids: Collection[UUID]) -> int:
    query = select(func.count()).select_from(GateResult)
    query = query.where(GateResult.tenant_id == scope.tenant_id, GateResult.id.in_(gate_ids))
    return await session.scalar(query.where(GateResult.state.in_((GateState.queued, GateState.running)))) or 0


async def remove_run(session: AsyncSession, scope: TenantScope, run: Run, made: MadeByRun) -> None:
    """Its jobs stay for a while without what they said, so that what workers did for the tenant goes on being counted;
    what it spent with teachers stays too."""
    gone = [one.id for one in made.deployments]
    own = Deployment.tenant_id == scope.tenant_id
    await _change(
        session, update(Deployment).where(own, Deployment.replaces_id.in_(gone)).values(replaces_id=None)
    )
    edits = or_(ServedEdit.deployment_id.in_(gone), ServedEdit.gate_result_id.in_(made.gates))
    await _change(session, delete(ServedEdit).where(ServedEdit.tenant_id == scope.tenant_id, edits))
    await _change(session, delete(Deployment).where(own, Deployment.id.in_(gone)))
    gates = (GateResult.tenant_id == scope.tenant_id, GateResult.id.in_(made.gates))
    await _change(session, delete(GateResult).where(*gates))
    await _silence(session, scope, or_(Job.run_id == run.id, Job.subject_id.in_([*made.gates, *gone])))
    own_run = (Run.tenant_id == scope.tenant_id, Run.id == run.id)
    await _change(session, update(Run).where(*own_run).values(model_version_id=None))
    models = (ModelVersion.tenant_id == scope.tenant_id, ModelVersion.run_id == run.id)
    await _change(session, delete(ModelVersion).where(*models))
    await _change(session, delete(Run).where(*own_run))


async def _silence(session: AsyncSession, scope: TenantScope, which: ColumnElement[bool]) -> None:
    own = (Job.tenant_id == scope.tenant_id, which)
    jobs = list(await session.scalars(select(Job.id).where(*own)))
    events = delete(JobEvent).where(JobEvent.tenant_id == scope.tenant_id, JobEvent.job_id.in_(jobs))
    await _change(session, events)
    nothing: dict[str, Any] = {"run_id": None, "payload": {}, "progress": None, "error": None}
    nothing |= {"checkpoint_uri": None, "inputs_hash": None}
    await _change(
        session, update(Job).where(Job.tenant_id == scope.tenant_id, Job.id.in_(jobs)).values(nothing)
    )


async def forget_counted_jobs(session: AsyncSession) -> None:
    """Of every tenant: what stayed of jobs whose run, gate or deployment is gone, once it counts no longer."""
    old = and_(Job.state.not_in(_OPEN_JOBS), Job.finished_at < utc_now() - COUNTED_FOR, Job.run_id.is_(None))
    told = exists().where(JobEvent.job_id == Job.id)  # jobs that have a say still
    some = select(Job.id).where(old, ~told).limit(AT_ONCE)
    await _change(session, delete(Job).where(Job.id.in_(some)))


async def shared_adapters(
    session: AsyncSession, scope: TenantScope, made: MadeByRun, keys: Collection[str]
) -> dict[str, UUID]:
    """Those of these folders that models of other runs have too, with one of those runs."""
    gone = [model.id for model in made.models]
    query = select(ModelVersion).where(
        ModelVersion.tenant_id == scope.tenant_id, ModelVersion.id.not_in(gone)
    )
    found: dict[str, UUID] = {}
    for model in await session.scalars(query):
        for key in (model.adapter_key, *(stage.get("adapter_key") for stage in model.stages)):
            if key is not None and key in keys:
                found[key] = model.run_id
    return found


async def give_to_run(session: AsyncSession, scope: TenantScope, folder: str, run_id: UUID) -> None:
    """The files below this key are those of another run from now on."""
    files = update(StoredFile).where(
        StoredFile.tenant_id == scope.tenant_id, StoredFile.key.startswith(folder, autoescape=True)
    )
    await _change(session, files.values(run_id=run_id))


async def freezes(
    session: AsyncSession, scope: TenantScope, key: str, *, but_for: UUID | None = None
) -> bool:
    """Whether a run has this frozen dataset."""
    query = select(Run.id).where(Run.tenant_id == scope.tenant_id, Run.snapshot_key == key)
    if but_for is not None:
        query = query.where(Run.id != but_for)
    return await session.scalar(query.limit(1)) is not None


async def refreeze(session: AsyncSession, scope: TenantScope, old: str, new: str, sha256: str) -> None:
    """For the runs that lost a row of it: another frozen dataset in the place of this one."""
    which = (Run.tenant_id == scope.tenant_id, Run.snapshot_key == old, Run.lost_rows_at.is_not(None))
    await _change(session, update(Run).where(*which).values(snapshot_key=new, snapshot_sha256=sha256))


# ------------------------------------------------------------------------------------------------------------- tenants


async def bury(session: AsyncSession, scope: TenantScope) -> datetime | None:
    """From now on the tenant is gone for everybody, with all its keys. None where it is already, or never was."""
    own = (Tenant.id == scope.tenant_id, Tenant.deleted_at.is_(None))
    named = {"name": f"deleted {scope.tenant_id}", "deleted_at": now()}
    nothing_more = {"keep_answers_days": None, "upload_quota_bytes": 0}
    change = update(Tenant).where(*own).values(named | nothing_more).returning(Tenant.deleted_at)
    at = await session.scalar(change, execution_options=_IN_PLACE)
    if at is not None:
        await _change(session, delete(ApiKey).where(ApiKey.tenant_id == scope.tenant_id))
    return at


async def buried(session: AsyncSession) -> list[TenantScope]:
    """Of which something may be left."""
    query = select(Tenant.id).where(Tenant.deleted_at.is_not(None), Tenant.erased_at.is_(None))
    return [TenantScope(tenant_id) for tenant_id in await session.scalars(query)]


async def erase_some(session: AsyncSession, scope: TenantScope) -> int:
    """Returns how many rows went: 0 where none are left."""
    for name, column in (("runs", "model_version_id"), ("deployments", "replaces_id")):
        found = METADATA.tables[name]
        own = (found.c.tenant_id == scope.tenant_id, found.c[column].is_not(None))
        await session.execute(update(found).where(*own).values({column: None}))
    gone = 0
    for table in owned_tables():
        if table.name not in STAYS and gone < AT_ONCE:
            gone += await _erase_some_of(session, scope, table, AT_ONCE - gone)
    return gone


async def _erase_some_of(session: AsyncSession, scope: TenantScope, table: Table, most: int) -> int:
    key = list(table.primary_key.columns)
    own = table.c.tenant_id == scope.tenant_id
    some = select(*key).where(own).limit(most)
    which = key[0].in_(some) if len(key) == 1 else tuple_(*key).in_(some)
    gone = await session.execute(delete(table).where(own, which))
    return int(getattr(gone, "rowcount", 0))


def owned_tables() -> list[Table]:
    """That a tenant has rows in, each before those that it refers to."""
    return [table for table in reversed(METADATA.sorted_tables) if "tenant_id" in table.c]


async def note_erased(session: AsyncSession, scope: TenantScope, quiet_for: timedelta) -> None:
    """Unless it is so recent that somebody may still be writing, or files are left."""
    files = exists().where(StoredFile.tenant_id == scope.tenant_id)
    own = (Tenant.id == scope.tenant_id, Tenant.deleted_at < utc_now() - quiet_for, ~files)
    await _change(session, update(Tenant).where(*own).values(erased_at=now()))


# ------------------------------------------------------------------------------------------------------------- export

_ROWS_AT_ONCE = 500
_FETCHED = 20


def exported_tables(left_out: Collection[str]) -> list[Table]:
    """Each after those that it refers to; the tenant's own first."""
    found = [table for table in reversed(owned_tables()) if table.name not in left_out]
    return [METADATA.tables["tenants"], *found]


async def some_rows(
    session: AsyncSession, scope: TenantScope, table: Table, after: tuple[Any, ...] | None, most_bytes: int
) -> tuple[list[dict[str, Any]], bool]:
    """In the order of the key, those behind `after`, about `most_bytes` of them; and whether there may be more."""
    key = list(table.primary_key.columns)
    owner = table.c.id if table.name == "tenants" else table.c.tenant_id
    query = select(table).where(owner == scope.tenant_id).order_by(*key).limit(_ROWS_AT_ONCE)
    if after is not None:
        last = [literal(value, column.type) for value, column in zip(after, key, strict=True)]
        query = query.where(tuple_(*key) > tuple_(*last))
    rows: list[dict[str, Any]] = []
    size = 0
    found = await session.stream(query.execution_options(yield_per=_FETCHED))
    async for row in found.mappings():
        rows.append(dict(row))
        size += len(str(rows[-1]))
        if size >= most_bytes:
            await found.close()
            return rows, True
    return rows, len(rows) == _ROWS_AT_ONCE


async def keys(session: AsyncSession, scope: TenantScope, after: str) -> list[tuple[FileKind, str]]:
    """Of its files, in their order, some at a time."""
    query = select(StoredFile.kind, StoredFile.key).where(
        StoredFile.tenant_id == scope.tenant_id, StoredFile.kept_until.is_(None), StoredFile.key > after
    )
    rows = await session.execute(query.order_by(StoredFile.key).limit(_ROWS_AT_ONCE))
    return [(kind, key) for kind, key in rows]


# ---------------------------------------------------------------------------------------------------------- retention


class Keeps(NamedTuple):
    """For how many days; None: for as long as what it belongs to."""

    scope: TenantScope
    conversations: int | None
    files: int | None


async def keeping(session: AsyncSession) -> list[Keeps]:
    """The tenants that have said how long."""
    said = or_(Tenant.keep_conversations_days.is_not(None), Tenant.keep_files_days.is_not(None))
    query = select(Tenant).where(said, Tenant.deleted_at.is_(None))
    return [
        Keeps(TenantScope(row.id), row.keep_conversations_days, row.keep_files_days)
        for row in await session.scalars(query)
    ]


async def old_conversations(
    session: AsyncSession, scope: TenantScope, came_before: datetime, limit: int
) -> list[UUID]:
    """Of datasets whose file nobody is reading now; dataset by dataset."""
    settled = (DatasetState.empty, DatasetState.ready, DatasetState.failed)
    query = (
        select(ConversationRow.id)
        .join(Dataset, Dataset.id == ConversationRow.dataset_id)
        .where(
            ConversationRow.tenant_id == scope.tenant_id,
            Dataset.tenant_id == scope.tenant_id,
            Dataset.state.in_(settled),
            ConversationRow.created_at < came_before,
        )
    )
    query = query.order_by(ConversationRow.dataset_id, ConversationRow.created_at, ConversationRow.id)
    return list(await session.scalars(query.limit(limit)))


_NAMES: tuple[tuple[str, str, Any], ...] = (
    ("uploads", "key", ""),
    ("datasets", "rejects_uri", None),
    ("gate_results", "report_key", None),
)


async def let_go_of_older(
    session: AsyncSession, scope: TenantScope, kinds: Collection[FileKind], made_before: datetime
) -> None:
    """But for what a run that has not ended goes on with. No row goes on naming one of them."""
    going_on = exists().where(Run.id == StoredFile.run_id, Run.state.in_((RunState.queued, RunState.running)))
    query = select(StoredFile.key).where(
        StoredFile.tenant_id == scope.tenant_id,
        StoredFile.kind.in_(kinds),
        StoredFile.made_at < made_before,
        StoredFile.kept_until.is_(None),
        ~going_on,
    )
    for key in list(await session.scalars(query.limit(AT_ONCE))):
        await drop_name(session, scope, key)
        await files.let_go_of_keys(session, scope, [key])


async def drop_name(session: AsyncSession, scope: TenantScope, key: str) -> None:
    """Of a file that goes."""
    for name, column, nothing in _NAMES:
        table = METADATA.tables[name]
        own = (table.c.tenant_id == scope.tenant_id, table.c[column] == key)
        await session.execute(update(table).where(*own).values({column: nothing}))


# ------------------------------------------------------------------------------------------ what lies on a machine


async def wanted_datasets(session: AsyncSession, ids: Sequence[UUID]) -> set[UUID]:
    return set(await session.scalars(select(Dataset.id).where(Dataset.id.in_(ids))))


async def runs(session: AsyncSession, ids: Sequence[UUID]) -> list[Run]:
    """Of any tenant."""
    return list(await session.scalars(select(Run).where(Run.id.in_(ids))))


async def running_jobs(session: AsyncSession, ids: Sequence[UUID]) -> set[UUID]:
    query = select(Job.id).where(Job.id.in_(ids), Job.state == JobState.running)
    return set(await session.scalars(query))


async def owners(session: AsyncSession, ids: Sequence[UUID]) -> set[UUID]:
    """Those of them that are tenants, deleted ones too, or jobs."""
    tenants = await session.scalars(select(Tenant.id).where(Tenant.id.in_(ids)))
    return {*tenants, *(await session.scalars(select(Job.id).where(Job.id.in_(ids))))}


async def adapters(session: AsyncSession) -> set[str]:
    """By their digests: those of every model that there is."""
    found: set[str] = set()
    for sha256, stages in await session.execute(select(ModelVersion.adapter_sha256, ModelVersion.stages)):
        found |= {sha256, *(stage["sha256"] for stage in stages)}
    return found


LIVE = (DeploymentState.live, DeploymentState.pending, DeploymentState.loading)


async def _change(session: AsyncSession, statement: Any) -> None:
    await session.execute(statement, execution_options=_IN_PLACE)
