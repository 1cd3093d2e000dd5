"""Who did what. Rows are only ever added; the database refuses to change one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.tables.records import AuditEvent

_NOTED = "audit.noted"


class Act(NamedTuple):
    """action: `thing.done`. subject: `thing:id`. detail: ids, names of settings, counts; never message text."""

    action: str
    subject: str
    detail: Mapping[str, Any] = MappingProxyType({})


def record(session: AsyncSession, actor_key_id: UUID | None, tenant_id: UUID | None, act: Act) -> None:
    """Part of the caller's transaction: what was rolled back was not done. actor_key_id: None for the command line.

    In an operation of the API: what it declares (`app.audit.operations`), with what only the code behind it knows.
    """
    session.info.setdefault(_NOTED, []).append(act)
    session.add(
        AuditEvent(
            tenant_id=tenant_id,
            actor_key_id=actor_key_id,
            action=act.action,
            subject=act.subject,
            detail=dict(act.detail),
        )
    )


def noted(session: AsyncSession) -> list[Act]:
    """What was recorded in this session."""
    return list(session.info.get(_NOTED, ()))
