"""No request reaches a database of another version, where tables are not there, or not as they should be."""

import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from app.infra import outage
from app.infra.db.engine import Database
from app.infra.db.version import DatabaseMisfit, DatabaseVersion, check_version

_AGAIN_S = 1.0


class DatabaseWatch:
    """Asks until the two fit, once a second at most; afterwards a request costs nothing."""

    def __init__(self) -> None:
        self._fits = False
        self._asked_at = -_AGAIN_S
        self._problem: DatabaseMisfit | None = None

    async def look(self, database: Database) -> DatabaseVersion:
        """Raises: DatabaseMisfit, and what says that the database is away."""
        self._asked_at = time.monotonic()
        try:
            found = await check_version(database)
        except DatabaseMisfit as error:
            self._fits, self._problem = False, error
            raise
        self._fits, self._problem = True, None
        return found

    async def check(self, database: Database) -> None:
        """Raises: DatabaseMisfit. A database that is away is met by whoever asks it something."""
        if self._fits:
            return
        if time.monotonic() < self._asked_at + _AGAIN_S:
            if self._problem is not None:
                raise DatabaseMisfit(str(self._problem))
            return
        try:
            await self.look(database)
        except DatabaseMisfit:
            raise
        except Exception as error:
            if not outage.passes(error):
                raise


class DatabaseFits:
    """Middleware, inside of what renders errors."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            state: Any = scope["app"].state
            await state.database_watch.check(state.database)
        await self.app(scope, receive, send)
