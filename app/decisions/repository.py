from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.scope import TenantScope
from app.infra.tables.schemas import Schema, SchemaVersion

_MOST: Final = 1000  # neither wire has pages of models


class PublishedSchema(NamedTuple):
    name: str
    first_at: datetime


async def published(session: AsyncSession, scope: TenantScope) -> Sequence[PublishedSchema]:
    """Schemas of the tenant with a version, by name."""
    query = (
        select(Schema.name, func.min(SchemaVersion.published_at))
        .join(SchemaVersion, SchemaVersion.schema_id == Schema.id)
        .where(Schema.tenant_id == scope.tenant_id, SchemaVersion.tenant_id == scope.tenant_id)
        .group_by(Schema.name)
        .order_by(Schema.name)
        .limit(_MOST)
    )
    return [PublishedSchema(*row) for row in (await session.execute(query)).all()]
