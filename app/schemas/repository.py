from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, cast, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.http.paging import PageRequest
from app.infra.db.scope import TenantScope
from app.infra.tables.schemas import Republication, Schema, SchemaVersion


class Current(NamedTuple):
    """since: when its content was published last."""

    version: SchemaVersion
    since: datetime


async def get(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, *, lock: bool = False
) -> Schema | None:
    """lock: until the end of the transaction nobody else changes or publishes it."""
    query = select(Schema).where(Schema.tenant_id == scope.tenant_id, Schema.id == schema_id)
    return await session.scalar(query.with_for_update() if lock else query)


async def id_of(session: AsyncSession, scope: TenantScope, name: str) -> UUID | None:
    query = select(Schema.id).where(Schema.tenant_id == scope.tenant_id, Schema.name == name)
    return await session.scalar(query)


async def listed(session: AsyncSession, scope: TenantScope, paging: PageRequest) -> list[Schema]:
    query = select(Schema).where(Schema.tenant_id == scope.tenant_id)
    return list(await session.scalars(paging.newest_first(query, Schema.created_at, Schema.id)))


async def latest_numbers(
    session: AsyncSession, scope: TenantScope, schema_ids: Sequence[UUID]
) -> dict[UUID, int]:
    """A schema that was never published is missing."""
    query = (
        select(SchemaVersion.schema_id, func.max(SchemaVersion.number))
        .where(SchemaVersion.tenant_id == scope.tenant_id, SchemaVersion.schema_id.in_(schema_ids))
        .group_by(SchemaVersion.schema_id)
    )
    return dict((await session.execute(query)).all())


async def current_numbers(
    session: AsyncSession, scope: TenantScope, schema_ids: Sequence[UUID]
) -> dict[UUID, int]:
    """A schema that was never published is missing."""
    query = (
        select(SchemaVersion.schema_id, SchemaVersion.number)
        .where(SchemaVersion.tenant_id == scope.tenant_id, SchemaVersion.schema_id.in_(schema_ids))
        .where(is_current(SchemaVersion))
    )
    return dict((await session.execute(query)).all())


async def current(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> Current | None:
    query = (
        select(SchemaVersion, published_last(SchemaVersion))
        .where(SchemaVersion.tenant_id == scope.tenant_id, SchemaVersion.schema_id == schema_id)
        .where(is_current(SchemaVersion))
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else Current(*row)


def published_last(versions: type[SchemaVersion]) -> ColumnElement[datetime]:
    """When the content of each was published, for the first time or again."""
    again = select(func.max(Republication.published_at)).where(Republication.schema_version_id == versions.id)
    return func.coalesce(again.correlate(versions).scalar_subquery(), versions.published_at)


def is_current(versions: type[SchemaVersion]) -> ColumnElement[bool]:
    """Nothing of its schema was published after it."""
    later: Any = aliased(SchemaVersion)
    after = or_(
        published_last(later) > published_last(versions),
        and_(published_last(later) == published_last(versions), later.number > versions.number),
    )
    return ~exists().where(later.schema_id == versions.schema_id, after).correlate(versions)


async def version(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, number: int
) -> SchemaVersion | None:
    return await session.scalar(_versions(scope, schema_id).where(SchemaVersion.number == number))


async def version_by_id(session: AsyncSession, scope: TenantScope, version_id: UUID) -> SchemaVersion | None:
    query = select(SchemaVersion).where(SchemaVersion.tenant_id == scope.tenant_id)
    return await session.scalar(query.where(SchemaVersion.id == version_id))


async def version_with_content(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, sha256: str
) -> SchemaVersion | None:
    return await session.scalar(_versions(scope, schema_id).where(SchemaVersion.sha256 == sha256))


async def sizes(session: AsyncSession, scope: TenantScope, schema_id: UUID, paging: PageRequest) -> list[int]:
    """Of the versions of a page, in characters."""
    length = func.length(cast(SchemaVersion.content, Text))
    query = select(length).where(
        SchemaVersion.tenant_id == scope.tenant_id, SchemaVersion.schema_id == schema_id
    )
    return list(
        await session.scalars(paging.newest_first(query, SchemaVersion.published_at, SchemaVersion.id))
    )


async def versions(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, paging: PageRequest
) -> list[SchemaVersion]:
    query = _versions(scope, schema_id)
    return list(
        await session.scalars(paging.newest_first(query, SchemaVersion.published_at, SchemaVersion.id))
    )


def _versions(scope: TenantScope, schema_id: UUID) -> Select[SchemaVersion]:
    return select(SchemaVersion).where(
        SchemaVersion.tenant_id == scope.tenant_id, SchemaVersion.schema_id == schema_id
    )
