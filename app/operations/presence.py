"""That a process of the background lives: a row that it renews, by the database's clock, as long as it does."""

import asyncio
import os
import platform
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog

from app.erasure.tidying import kept_tidy
from app.infra import outage
from app.infra.db.engine import Database, open_database
from app.infra.db.session import transaction
from app.infra.db.version import RELEASE
from app.infra.tables.processes import ProcessKind
from app.operations import repository
from app.settings import Settings

EVERY_S = 10.0
ALIVE_S = 30.0  # one that was not seen for so long is taken for dead
_GOODBYE_S = 2.0
log = structlog.get_logger()


class Announcement(NamedTuple):
    id: UUID
    kind: ProcessKind
    about: dict[str, Any]


def announcement(kind: ProcessKind, **about: Any) -> Announcement:
    """about: besides the versions and the machine."""
    versions = {
        "release": RELEASE,
        "version": metadata.version("steerwise"),
        "python": platform.python_version(),
    }
    machine = {"pid": os.getpid(), "cores": os.cpu_count()}
    return Announcement(uuid4(), kind, versions | machine | about)


async def keep(database: Database, me: Announcement) -> None:
    """Until it is cancelled. No trouble with this is a reason to end what lives."""
    row = {"id": me.id, "kind": me.kind, "host": socket.gethostname()[:200], "about": me.about}
    away = False
    try:
        while True:
            try:
                async with transaction(database) as session:
                    await repository.note_seen(session, row)
                away = False
            except Exception as error:
                if not away:
                    unexpected = None if outage.passes(error) else error
                    log.warning("presence_not_written", error=outage.reason(error), exc_info=unexpected)
                away = True
            await asyncio.sleep(EVERY_S)
    finally:
        with suppress(Exception):  # who cannot say goodbye is taken for dead a little later
            async with asyncio.timeout(_GOODBYE_S), transaction(database) as session:
                await repository.forget(session, me.id)


@contextmanager
def announced(settings: Settings, me: Announcement) -> Iterator[None]:
    """From a thread with a connection of its own, for a process whose main thread is somebody else's. Its home is kept
    tidy meanwhile."""
    ended = threading.Event()

    async def run() -> None:
        database = open_database(settings.database_url, settings.platform_database_url)
        present = asyncio.create_task(keep(database, me))
        waiting = asyncio.create_task(asyncio.to_thread(ended.wait))
        async with kept_tidy(database, settings):
            await asyncio.wait([present, waiting], return_when=asyncio.FIRST_COMPLETED)
        present.cancel()
        await asyncio.gather(present, return_exceptions=True)
        await database.close()

    thread = threading.Thread(target=asyncio.run, args=[run()], name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2 * _GOODBYE_S)
