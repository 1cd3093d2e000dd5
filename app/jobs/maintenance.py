"""A pause in which no job begins, for whoever works on the installation. What runs goes on to its end; what is
accepted meanwhile is kept, and begins afterwards; answers are given as ever.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.tables.jobs import JobState
from app.jobs import repository


class Pause(NamedTuple):
    """began_at: None where jobs may begin. running: jobs that have not ended yet."""

    began_at: datetime | None
    reason: str | None
    running: int


async def state(session: AsyncSession) -> Pause:
    row = await repository.maintenance(session)
    running = await repository.count_in(session, (JobState.running,))
    return Pause(None, None, running) if row is None else Pause(row.began_at, row.reason, running)


async def is_on(session: AsyncSession) -> bool:
    return await repository.maintenance(session) is not None


async def begin(session: AsyncSession, reason: str) -> bool:
    """Whether it was not on before; else the first reason stays."""
    if await is_on(session):
        return False
    await repository.begin_maintenance(session, reason)
    return True


async def end(session: AsyncSession) -> bool:
    """Whether it was on."""
    if not await is_on(session):
        return False
    await repository.end_maintenance(session)
    return True
