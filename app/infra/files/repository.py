"""The register of stored files: each has its row before it is written, and until it is gone."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.clock import now
from app.infra.db.scope import TenantScope
from app.infra.tables.datasets import Dataset
from app.infra.tables.files import FileKind, StoredFile
from app.infra.tables.runs import Run
from app.infra.tables.tenants import Tenant

AT_ONCE = 200
_PLAIN = {"synchronize_session": False}


class MadeFrom(NamedTuple):
    """read_at: when the conversations were read that it is made from, by the database's clock."""

    dataset_id: UUID | None = None
    run_id: UUID | None = None
    gate_id: UUID | None = None
    read_at: datetime | None = None


class NewFile(NamedTuple):
    key: str
    kind: FileKind
    made_from: MadeFrom = MadeFrom()


class Registered(NamedTuple):
    """Of any tenant's. without: see `StoredFile`."""

    id: UUID
    scope: TenantScope
    kind: FileKind
    key: str
    dataset_id: UUID | None
    made_at: datetime
    without: tuple[str, ...] | None


async def note(session: AsyncSession, scope: TenantScope, file: NewFile) -> UUID:
    """Makes the file's row. Where what it is made from was deleted meanwhile, the row says at once that it goes, or
    that something is to be taken out of it.

    A file whose name follows from its content has one row, whoever was there first.
    """
    fate = await _fate(session, scope, file)
    own = (StoredFile.tenant_id == scope.tenant_id, StoredFile.key == file.key)
    there = await session.scalar(select(StoredFile.id).where(*own))
    if there is not None:
        await session.execute(update(StoredFile).where(*own).values(fate), execution_options=_PLAIN)
        return there
    row = {"id": uuid4(), "tenant_id": scope.tenant_id, "kind": file.kind, "key": file.key, "made_at": now()}
    row |= {name: getattr(file.made_from, name) for name in ("dataset_id", "run_id", "gate_id")}
    await session.execute(insert(StoredFile).values(row | fate))
    return UUID(str(row["id"]))


async def _fate(session: AsyncSession, scope: TenantScope, file: NewFile) -> dict[str, object]:
    """What its row says of how long it stays, and what is to be taken out of it."""
    made_from = file.made_from
    goes: dict[str, object] = {"kept_until": now(), "without": None}
    if await session.scalar(select(Tenant.deleted_at).where(Tenant.id == scope.tenant_id)) is not None:
        return goes
    if made_from.run_id is not None:
        query = select(Run.lost_rows_at).where(Run.tenant_id == scope.tenant_id, Run.id == made_from.run_id)
        run = (await session.execute(query)).one_or_none()
        if run is None or (run.lost_rows_at is not None and made_from.gate_id is None):
            return goes
    if await _has_lost_rows(session, scope, made_from):
        return {"kept_until": None, "without": []} if file.kind is FileKind.report else goes
    return {"kept_until": None, "without": None}


async def _has_lost_rows(session: AsyncSession, scope: TenantScope, made_from: MadeFrom) -> bool:
    if made_from.dataset_id is None or made_from.read_at is None:
        return False
    query = select(Dataset.id).where(
        Dataset.tenant_id == scope.tenant_id,
        Dataset.id == made_from.dataset_id,
        Dataset.lost_rows_at >= made_from.read_at,
    )
    return await session.scalar(query) is not None


async def is_wanted(session: AsyncSession, scope: TenantScope, file_id: UUID) -> bool:
    """False where it is to go, or is gone."""
    query = select(StoredFile.id).where(StoredFile.tenant_id == scope.tenant_id, StoredFile.id == file_id)
    return await session.scalar(query.where(StoredFile.kept_until.is_(None))) is not None


async def is_being_changed(session: AsyncSession, scope: TenantScope, key: str) -> bool:
    """Something is yet to be taken out of it."""
    query = select(StoredFile.id).where(StoredFile.tenant_id == scope.tenant_id, StoredFile.key == key)
    return await session.scalar(query.where(StoredFile.without.is_not(None))) is not None


async def teachers_answers(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> UUID:
    """Of the file that has what teachers answered about this dataset. Its key is below a worker's home."""
    query = select(StoredFile.id).where(
        StoredFile.tenant_id == scope.tenant_id,
        StoredFile.kind == FileKind.teachers_answers,
        StoredFile.dataset_id == dataset_id,
        StoredFile.kept_until.is_(None),
    )
    found = await session.scalar(query.order_by(StoredFile.made_at, StoredFile.id).limit(1))
    if found is not None:
        return found
    made = uuid4()
    row = {"id": made, "tenant_id": scope.tenant_id, "kind": FileKind.teachers_answers}
    row |= {"key": f"teachers/{made}.sqlite", "dataset_id": dataset_id, "made_at": now()}
    await session.execute(insert(StoredFile).values(row))
    return made


# ------------------------------------------------------------------------------------------------------ what is to go


async def let_go_of_dataset(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, kinds: Collection[FileKind] = tuple(FileKind)
) -> None:
    await _let_go(session, scope, StoredFile.dataset_id == dataset_id, StoredFile.kind.in_(kinds))


async def let_go_of_runs(
    session: AsyncSession, scope: TenantScope, run_ids: Collection[UUID], kinds: Collection[FileKind]
) -> None:
    await _let_go(session, scope, StoredFile.run_id.in_(run_ids), StoredFile.kind.in_(kinds))


async def let_go_of_keys(session: AsyncSession, scope: TenantScope, keys: Collection[str]) -> None:
    await _let_go(session, scope, StoredFile.key.in_(keys))


async def let_go_of_all(session: AsyncSession, scope: TenantScope) -> None:
    await _let_go(session, scope)


async def _let_go(session: AsyncSession, scope: TenantScope, *which: ColumnElement[bool]) -> None:
    own = (StoredFile.tenant_id == scope.tenant_id, StoredFile.kept_until.is_(None))
    change = update(StoredFile).where(*own, *which).values(kept_until=now())
    await session.execute(change, execution_options=_PLAIN)


async def take_out(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, conversation: str, snapshots: Collection[str]
) -> None:
    """The conversation from these frozen datasets, and all words from the reports of this dataset.

    conversation: its id in a frozen dataset.
    """
    reports = (StoredFile.kind == FileKind.report) & (StoredFile.dataset_id == dataset_id)
    query = select(StoredFile).where(StoredFile.tenant_id == scope.tenant_id, StoredFile.kept_until.is_(None))
    query = query.where(or_(StoredFile.key.in_(snapshots), reports)).with_for_update()
    for row in await session.scalars(query, execution_options={"populate_existing": True}):
        row.without = [*(row.without or ()), conversation]
    await session.flush()


# -------------------------------------------------------------------------------------------------------- for sweeps


async def to_go(session: AsyncSession) -> list[Registered]:
    """Of every tenant, those first that have waited longest."""
    query = select(StoredFile).where(StoredFile.kept_until <= now())
    rows = await session.scalars(query.order_by(StoredFile.kept_until, StoredFile.id).limit(AT_ONCE))
    return [_registered(row) for row in rows]


async def to_change(session: AsyncSession) -> list[Registered]:
    query = select(StoredFile).where(StoredFile.without.is_not(None), StoredFile.kept_until.is_(None))
    rows = await session.scalars(query.order_by(StoredFile.made_at, StoredFile.id).limit(AT_ONCE))
    return [_registered(row) for row in rows]


async def forget(session: AsyncSession, scope: TenantScope, file_id: UUID) -> None:
    """That the file is gone; unless it is wanted again by now."""
    own = (StoredFile.tenant_id == scope.tenant_id, StoredFile.id == file_id)
    gone = delete(StoredFile).where(*own, StoredFile.kept_until.is_not(None))
    await session.execute(gone, execution_options=_PLAIN)


async def forget_keys(session: AsyncSession, keys: Sequence[str]) -> None:
    """Of files that are gone, of any tenant's."""
    await session.execute(delete(StoredFile).where(StoredFile.key.in_(keys)), execution_options=_PLAIN)


async def changed(session: AsyncSession, one: Registered) -> bool:
    """What was to be taken out of it is out. False where there is more by now."""
    own = (StoredFile.tenant_id == one.scope.tenant_id, StoredFile.id == one.id)
    query = select(StoredFile).where(*own).with_for_update()
    row = await session.scalar(query, execution_options={"populate_existing": True})
    if row is None or one.without is None or row.without != list(one.without):
        return False
    row.without = None
    await session.flush()
    return True


async def known_keys(session: AsyncSession, keys: Collection[str]) -> set[str]:
    """Those of them that have a row, of any tenant's."""
    return set(await session.scalars(select(StoredFile.key).where(StoredFile.key.in_(keys))))


async def wanted(session: AsyncSession, ids: Collection[UUID]) -> set[UUID]:
    """Those of them that have a row and are not to go, of any tenant's."""
    query = select(StoredFile.id).where(StoredFile.id.in_(ids), StoredFile.kept_until.is_(None))
    return set(await session.scalars(query))


def _registered(row: StoredFile) -> Registered:
    without = None if row.without is None else tuple(row.without)
    return Registered(
        row.id, TenantScope(row.tenant_id), row.kind, row.key, row.dataset_id, row.made_at, without
    )
