"""Whether an error says that the database is away, so that the same may work a little later."""

from sqlalchemy import exc

# asyncpg reports what the server says about itself (shutting down, starting, too many connections) without a class of
# its own; wrong statements and refused rows have one each.
_MISTAKES = (exc.ProgrammingError, exc.IntegrityError, exc.DataError, exc.NotSupportedError)


def is_away(error: BaseException) -> bool:
    if isinstance(error, exc.DBAPIError):
        return not isinstance(error, _MISTAKES)
    return isinstance(error, OSError | exc.TimeoutError)  # refused, timed out; or no free connection
