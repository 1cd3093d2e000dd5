"""Whether the database really keeps tenants apart for us. Every process asks as it starts."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import AppError
from app.infra import outage
from app.infra.db.engine import Database

_QUESTION = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
_PREPARED = text("SELECT to_regproc('is_platform_role')")
_PLATFORM = text("SELECT is_platform_role()")


class IsolationOff(AppError):
    """A role that we connect as may see other rows than it should; the message says which, and what to do."""

    exit_code = 2
    code = "isolation_off"


async def check_isolation(database: Database) -> None:
    """Raises: IsolationOff. On SQLite the session itself is the guard, whoever opened the file."""
    if database.engine.dialect.name != "postgresql":
        return
    if await _is_platform(database.engine, "STEERWISE_DATABASE_URL"):
        raise IsolationOff(
            "the role of STEERWISE_DATABASE_URL may see every tenant; connect as one that `steerwise migrate` was told "
            "of with --app-role"
        )
    if database.platform is None:
        raise IsolationOff(
            "set STEERWISE_PLATFORM_DATABASE_URL to the same database as a role that `steerwise migrate` was told of "
            "with --platform-role"
        )
    if await _is_platform(database.platform, "STEERWISE_PLATFORM_DATABASE_URL") is False:
        raise IsolationOff(
            "the role of STEERWISE_PLATFORM_DATABASE_URL is no role of the platform; run `steerwise migrate` with "
            "--platform-role"
        )


async def _is_platform(engine: AsyncEngine, whose: str) -> bool | None:
    """None: the database is not prepared yet. Raises: IsolationOff."""
    async with engine.connect() as connection:
        if await connection.scalar(_QUESTION):
            raise IsolationOff(
                f"the role of {whose} is a superuser or has BYPASSRLS, so row-level security does not hold for it; "
                "connect as a role without either"
            )
        if await connection.scalar(_PREPARED) is None:
            return None
        return bool(await connection.scalar(_PLATFORM))


async def check_at_start(database: Database) -> None:
    """Raises: IsolationOff. A database that is away is no reason not to start: it may be starting too."""
    try:
        await check_isolation(database)
    except Exception as error:
        if not outage.passes(error):
            raise
