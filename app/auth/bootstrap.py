"""The first key of the platform, without which there is nobody who could make a key: `steerwise admin bootstrap`."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import repository, service
from app.auth.principal import Scope
from app.auth.service import KeyOrder, MadeKey
from app.errors import Conflict, InputError
from app.infra.db.engine import Database, open_database, parse_url
from app.infra.db.migrate import is_current, upgrade
from app.infra.db.outage import said_plainly
from app.infra.db.session import transaction
from app.settings import Settings

NAME = "bootstrap"


class AlreadyBootstrapped(Conflict):
    """The platform has an admin's key already."""

    code = "already_bootstrapped"


def run(settings: Settings, *, another: bool = False) -> MadeKey:
    """On SQLite the file is made where there is none.

    Raises: AlreadyBootstrapped, DatabaseAway, InputError, TooManyKeys.
    """
    if parse_url(settings.database_url).get_backend_name() == "sqlite":
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        upgrade(settings.database_url)
    with said_plainly():
        return asyncio.run(_run(settings, another))


async def _run(settings: Settings, another: bool) -> MadeKey:
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        if not await is_current(database):
            raise InputError("the database is not prepared for this version; run `steerwise migrate` first")
        return await bootstrap(database, another=another)
    finally:
        await database.close()


async def bootstrap(database: Database, *, another: bool = False) -> MadeKey:
    """A key for an admin of the platform. another: although there is a live one, whose holder may have lost it.

    Raises: AlreadyBootstrapped, TooManyKeys.
    """
    async with transaction(database) as session:
        if not another and await _has_live_admin(session):
            raise AlreadyBootstrapped(
                "the platform has a live admin key; if it is lost, make another with --new"
            )
        return await service.create(session, None, None, KeyOrder(NAME, [Scope.admin]))


async def _has_live_admin(session: AsyncSession) -> bool:
    await repository.lock_owner(session, None)
    return any(service.is_live(row) for row in await repository.all_of(session, None))
