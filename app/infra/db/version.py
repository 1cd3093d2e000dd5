"""Whether the database and this code fit together. Every process asks before it works, and while it does.

A process serves any database from its own version to those of the next release: migrations expand first, and contract
a release later. An older database, or one that is further ahead, is waited for.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import NamedTuple

import structlog
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import Unavailable
from app.infra import outage
from app.infra.db.engine import Database
from app.infra.db.migrate import migrations_folder

RELEASE = 1  # of this code. What the next release adds to the database begins with `r2_`, and so on.
_OF_RELEASE = re.compile(r"r(\d+)_")
_LOOK_EVERY_S = 2.0
log = structlog.get_logger()


class DatabaseMisfit(Unavailable):
    """The database has another version than this process can work with; the message says which, and what to do."""

    exit_code = 2
    code = "database_version"


class DatabaseVersion(NamedTuple):
    """found: what the database is at. missing: what this code needs and is not there, in its order."""

    found: tuple[str, ...]
    expected: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        """What to do, where the two do not fit."""
        newer = max((release_of(name) for name in self.found), default=0)
        if newer > RELEASE + 1:
            return (
                f"the database is at {_named(self.found)}, of release {newer}, and this process serves up to release "
                f"{RELEASE + 1}: bring it up to date"
            )
        if self.missing:
            at = _named(self.found) if self.found else "empty"
            return (
                f"the database is {at} and this process needs {_named(self.expected)} (missing: "
                f"{_named(self.missing)}): run `steerwise migrate`"
            )
        return None


def release_of(revision: str) -> int:
    """Those without a number are of the first."""
    named = _OF_RELEASE.match(revision)
    return int(named[1]) if named else 1


async def version_of(database: Database) -> DatabaseVersion:
    async with database.engine.execution_options(read_only=True).connect() as connection:
        found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
    known = known_versions()
    order = [revision.revision for revision in known.walk_revisions()][::-1]
    ours = [name for name in found if name in order]
    there = {one.revision for name in ours for one in known.iterate_revisions(name, "base")}
    # A database at a version that this code does not know has everything that came before it.
    missing = () if len(ours) < len(found) else tuple(name for name in order if name not in there)
    return DatabaseVersion(tuple(sorted(found)), tuple(sorted(known.get_heads())), missing)


async def check_version(database: Database) -> DatabaseVersion:
    """Raises: DatabaseMisfit, and what says that the database is away."""
    found = await version_of(database)
    if found.problem is not None:
        raise DatabaseMisfit(found.problem)
    return found


async def until_it_fits(database: Database, look: Callable[[Database], Awaitable[object]]) -> None:
    """Waits while the database is away or has another version; one line says for what.

    look: what is asked of it. Raises: what no waiting mends.
    """
    waiting_for: str | None = None
    while True:
        try:
            await look(database)
        except Exception as error:
            if not outage.passes(error):
                raise
            if waiting_for != (reason := outage.reason(error)):
                log.warning("waiting_for_database", reason=reason)
            waiting_for = reason
            await asyncio.sleep(_LOOK_EVERY_S)
        else:
            if waiting_for is not None:
                log.info("database_found")
            return


@cache
def known_versions() -> ScriptDirectory:
    """Read once: with all the files of the versions, it takes a moment."""
    found = ScriptDirectory(str(migrations_folder()))
    found.get_heads()
    return found


def _named(revisions: tuple[str, ...]) -> str:
    return ", ".join(revisions)
