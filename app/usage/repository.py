from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.scope import TenantScope
from app.infra.tables.records import AnswerHour, UsageDay


class Use(NamedTuple):
    """What is to be added to a tenant's day."""

    tenant_id: UUID
    day: date
    requests: int
    prompt_tokens: int
    completion_tokens: int


class AnsweredHour(NamedTuple):
    """What is to be added to the answers of an hour; see `AnswerHour`."""

    tenant_id: UUID
    model_version_id: UUID
    schema_version_id: UUID
    hour: datetime
    outcome: str
    schema_id: UUID
    answers: int
    masses: int
    mass_sum: float
    mass_squares: float


async def add(session: AsyncSession, uses: Sequence[Use]) -> None:
    """For tenants of all kinds, so in a session of the platform; in one order, so that two of us cannot block each
    other for good."""
    added = ("requests", "prompt_tokens", "completion_tokens")
    await _add(session, UsageDay, ["tenant_id", "day"], added, [use._asdict() for use in sorted(uses)])


async def add_answers(session: AsyncSession, hours: Sequence[AnsweredHour]) -> None:
    """Likewise."""
    key = ["tenant_id", "model_version_id", "schema_version_id", "hour", "outcome"]
    added = ("answers", "masses", "mass_sum", "mass_squares")
    await _add(session, AnswerHour, key, added, [one._asdict() for one in sorted(hours)])


async def _add(
    session: AsyncSession,
    table: type[UsageDay | AnswerHour],
    key: Sequence[str],
    added: Sequence[str],
    rows: list[dict[str, Any]],
) -> None:
    """added: the columns that are added to a row that is there."""
    made = session.get_bind().dialect.name
    insert = postgresql.insert(table) if made == "postgresql" else sqlite.insert(table)
    statement = insert.values(rows)
    changed = {name: getattr(table, name) + statement.excluded[name] for name in added}
    await session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changed))


async def forget_answers(session: AsyncSession, before: datetime) -> None:
    """The hours of every tenant."""
    old = delete(AnswerHour).where(AnswerHour.hour < before)
    await session.execute(old, execution_options={"synchronize_session": False})


async def days(session: AsyncSession, scope: TenantScope, first: date, last: date) -> list[UsageDay]:
    """Newest first, both ends included; days without use are missing."""
    query = (
        select(UsageDay)
        .where(UsageDay.tenant_id == scope.tenant_id, UsageDay.day >= first, UsageDay.day <= last)
        .order_by(UsageDay.day.desc())
    )
    return list(await session.scalars(query))
