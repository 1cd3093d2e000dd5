"""Whether an error says that the database is away, so that the same may work a little later."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import exc

from app.errors import AppError

# asyncpg reports what the server says about itself (shutting down, starting, too many connections) without a class of
# its own; wrong statements and refused rows have one each.
_MISTAKES = (exc.ProgrammingError, exc.IntegrityError, exc.DataError, exc.NotSupportedError)
# asyncpg's own, while it connects: SQLAlchemy passes them on as they are. First those that pass by themselves.
_NOT_NOW = (asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
_REFUSALS = (
    *_NOT_NOW,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class DatabaseAway(AppError):
    """It does not answer, or does not let us in."""

    exit_code = 2
    code = "database_away"
    status = 503


def is_away(error: BaseException) -> bool:
    if isinstance(error, exc.DBAPIError):
        return not isinstance(error, _MISTAKES)
    # Refused or timed out; no free connection; or the server says so itself.
    return isinstance(error, (OSError, exc.TimeoutError, *_NOT_NOW))


@contextmanager
def said_plainly() -> Iterator[None]:
    """For commands. Raises: DatabaseAway, whose message never holds the URL, which may carry a password."""
    try:
        yield
    except (OSError, exc.DBAPIError, *_REFUSALS) as error:
        if isinstance(error, exc.DBAPIError) and not is_away(error):
            raise
        raise DatabaseAway(
            f"the database of STEERWISE_DATABASE_URL cannot be used: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    """Without the statement and the link that SQLAlchemy adds."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
