"""The sweep that removes answers whose time is over."""

from app.answers import repository
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.jobs.handlers import register_sweep
from app.settings import Settings

EVERY_S = 60.0


async def sweep(database: Database, _settings: Settings) -> None:
    """Some at a time: on SQLite nobody else writes meanwhile."""
    gone = repository.SWEPT_AT_ONCE
    while gone == repository.SWEPT_AT_ONCE:
        async with transaction(database) as session:
            gone = await repository.sweep(session, utc_now())


register_sweep("answers", sweep, EVERY_S)
