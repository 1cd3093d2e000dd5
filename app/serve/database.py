"""The database brought up to date, or a sentence about why it is not."""

import asyncpg
from sqlalchemy.exc import DBAPIError

from app.db import migrate
from app.errors import AppError
from app.jobs.outage import is_away

# asyncpg's own, while it connects: SQLAlchemy passes them on as they are.
_REFUSALS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class DatabaseAway(AppError):
    """It does not answer, or does not let us in."""

    exit_code = 2
    code = "database_away"
    status = 503


def bring_up_to_date(url: str, app_role: str | None = None) -> None:
    """Raises: DatabaseAway, InputError. The message never holds the URL, which may carry a password."""
    try:
        migrate.upgrade(url, app_role=app_role)
    except (OSError, DBAPIError, *_REFUSALS) as error:
        if isinstance(error, DBAPIError) and not is_away(error):
            raise
        raise DatabaseAway(
            f"the database of STEERWISE_DATABASE_URL cannot be used: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    """Without the statement and the link that SQLAlchemy adds."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]
