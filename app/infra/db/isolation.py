"""Whether the database really keeps tenants apart for us. Every process asks as it starts."""

from sqlalchemy import text

from app.errors import AppError
from app.infra import outage
from app.infra.db.engine import Database

_QUESTION = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")


class IsolationOff(AppError):
    """The role that we connect as may see every tenant's rows; connect as one without SUPERUSER and BYPASSRLS."""

    exit_code = 2
    code = "isolation_off"


async def check_isolation(database: Database) -> None:
    """Raises: IsolationOff. On SQLite the session itself is the guard, whoever opened the file."""
    if database.engine.dialect.name != "postgresql":
        return
    async with database.engine.connect() as connection:
        if await connection.scalar(_QUESTION):
            raise IsolationOff(
                "the database role is a superuser or has BYPASSRLS, so row-level security does not hold for it; "
                "connect as a role without either"
            )


async def check_at_start(database: Database) -> None:
    """Raises: IsolationOff. A database that is away is no reason not to start: it may be starting too."""
    try:
        await check_isolation(database)
    except Exception as error:
        if not outage.passes(error):
            raise
