"""The sweep that links what was recorded."""

from app.audit import chain
from app.infra.db.engine import Database
from app.jobs.handlers import register_sweep
from app.settings import Settings

EVERY_S = 2.0


async def sweep(database: Database, _settings: Settings) -> None:
    while await chain.link(database) == chain.AT_ONCE:
        pass


register_sweep("audit", sweep, EVERY_S)
