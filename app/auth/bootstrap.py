"""The first key of the platform, without which there is nobody who could make a key: `steerwise admin bootstrap`."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import repository, service
from app.auth.principal import Scope
from app.auth.service import KeyOrder, MadeKey
from app.errors import Conflict
from app.infra.db.engine import Database, open_database, parse_url
from app.infra.db.migrate import upgrade
from app.infra.db.session import transaction
from app.infra.db.version import check_version
from app.infra.outage import said_plainly
from app.infra.private import private_home
from app.settings import Settings

NAME = "bootstrap"


class AlreadyBootstrapped(Conflict):
    """The platform has an admin's key already."""

    code = "already_bootstrapped"


def run(settings: Settings, *, another: bool = False) -> MadeKey:
    """On SQLite the file is made where there is none.

    Raises: AlreadyBootstrapped, DatabaseAway, DatabaseMisfit, InputError, TooManyKeys.
    """
    if parse_url(settings.database_url).get_backend_name() == "sqlite":
        private_home(settings.home)
        upgrade(settings.database_url)
    with said_plainly():
        return asyncio.run(_run(settings, another))


async def _run(settings: Settings, another: bool) -> MadeKey:
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        await check_version(database)
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
