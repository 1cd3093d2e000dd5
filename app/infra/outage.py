"""Whose fault an error is: one classification for requests, jobs, stages and commands.

`away` and `full` pass by themselves or by an operator's hand. Whoever meets one waits, or says when to come back; it
never costs a job an attempt, and is never told as a mistake of the caller's or of ours.
"""

import errno
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import structlog
from sqlalchemy import exc

from app.errors import AppError, NoSpace, Unavailable
from training.protocol import Fault

log = structlog.get_logger()
_WRITTEN_EVERY_S = 30.0
FULL = (errno.ENOSPC, errno.EDQUOT)
# A disk or a mount that is gone, a peer that does not answer, a limit of the machine that others use up.
_AWAY = frozenset(
    number
    for name in (
        "EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EIO", "EMFILE",
        "ENETDOWN", "ENETUNREACH", "ENFILE", "ENOTCONN", "EREMOTEIO", "EROFS", "ESTALE", "ETIMEDOUT",
    )
    if (number := getattr(errno, name, None)) is not None
)  # fmt: skip
# Of SQLSTATE: connection, rolled back (deadlock, serialization), resources, operator intervention, system error.
_SQLSTATE_AWAY = ("08", "40", "53", "57", "58")
_STATES_AWAY = ("25006", "25P03", "25P04", "55P03")  # a standby; idle for too long; a lock that is held
_STATE_FULL = "53100"
_SQLITE_AWAY = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
)  # fmt: skip
# By name: these clients are not imported by everybody who asks, and that of S3 is not installed everywhere.
_CLIENTS_AWAY = frozenset(
    {
        "redis.exceptions.ConnectionError", "redis.exceptions.TimeoutError", "redis.exceptions.ReadOnlyError",
        "kombu.exceptions.OperationalError", "httpx.TransportError", "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.ConnectionError", "botocore.exceptions.NoCredentialsError",
        "aiohttp.client_exceptions.ClientError",
    }
)  # fmt: skip
_CLIENTS_FULL = frozenset({"redis.exceptions.OutOfMemoryError"})
# Unknown role, wrong password, no such database: for somebody to mend, so nobody waits; no command shows a traceback.
_STATES_REFUSED = ("28", "3D")


class DatabaseAway(Unavailable):
    """The database does not answer now, or does not let us in; `Retry-After` says when to come back."""

    exit_code = 2
    code = "database_away"


def fault_of(error: BaseException) -> Fault:
    match error:
        case AppError():
            return error.fault
        case exc.DBAPIError():
            return _of_driver(error)
        case exc.TimeoutError():  # no connection of the pool became free
            return Fault.away
        case asyncpg.PostgresError():
            return _of_sqlstate(_sqlstate(error))
        case OSError():
            return _of_system(error)
    return _of_client(error)


def passes(error: BaseException) -> bool:
    """Whether the same may well work later, without anybody's changing what was asked."""
    return fault_of(error) in (Fault.away, Fault.full)


def is_database(error: BaseException) -> bool:
    return isinstance(error, exc.SQLAlchemyError | asyncpg.PostgresError)


def told(error: BaseException) -> AppError | None:
    """An outage in our own words, which never hold a URL or a statement; None where it is none."""
    if isinstance(error, AppError):
        return error if passes(error) else None
    match fault_of(error):
        case Fault.full:
            what = "the disk of the database" if is_database(error) else "the disk"
            return NoSpace(f"{what} is full; the same goes on when there is room")
        case Fault.away if is_database(error):
            return DatabaseAway("the database does not answer now; try again")
        case Fault.away:
            return Unavailable("something that this needs cannot be reached; try again")
    return None


@contextmanager
def said_plainly() -> Iterator[None]:
    """For commands that need the database. Raises: DatabaseAway, NoSpace."""
    try:
        yield
    except (OSError, exc.SQLAlchemyError, asyncpg.PostgresError) as error:
        if fault_of(error) is Fault.full:
            raise told(error) or error from None
        if not passes(error) and not _sqlstate(error).startswith(_STATES_REFUSED):
            raise
        raise DatabaseAway(
            f"the database of STEERWISE_DATABASE_URL cannot be used: {reason(error)}"
        ) from None


class OutageLog:
    """One line when something is away, and one every half minute while it stays so: not one for each request."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}  # when it was written last, and how many met it since

    def note(self, outage: AppError, error: BaseException) -> None:
        written_at, unwritten = self._seen.get(outage.code, (-_WRITTEN_EVERY_S, 0))
        if time.monotonic() < written_at + _WRITTEN_EVERY_S:
            self._seen[outage.code] = (written_at, unwritten + 1)
            return
        self._seen[outage.code] = (time.monotonic(), 0)
        why = f"{type(error).__name__}: {reason(error)}"
        log.warning("outage", code=outage.code, error=why, met_since_last_line=unwritten)


def _of_driver(error: exc.DBAPIError) -> Fault:
    if isinstance(error.orig, sqlite3.Error):
        return _of_sqlite(error.orig)
    state = _sqlstate(error)
    if state:
        return _of_sqlstate(state)
    if isinstance(getattr(error.orig, "__cause__", None), asyncpg.DataError):
        return (
            Fault.ours
        )  # an argument that does not fit its column: asyncpg calls that a trouble of the interface
    gone = error.connection_invalidated or isinstance(error, exc.InterfaceError | exc.OperationalError)
    return Fault.away if gone else Fault.ours


def _sqlstate(error: BaseException) -> str:
    """Empty where no PostgreSQL has spoken."""
    return getattr(error.orig if isinstance(error, exc.DBAPIError) else error, "sqlstate", None) or ""


def _of_sqlstate(state: str) -> Fault:
    if state == _STATE_FULL:
        return Fault.full
    return Fault.away if state[:2] in _SQLSTATE_AWAY or state in _STATES_AWAY else Fault.ours


def _of_sqlite(error: sqlite3.Error) -> Fault:
    code = (
        getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    )  # the rest says more about the same
    if code == sqlite3.SQLITE_FULL:
        return Fault.full
    return Fault.away if code in _SQLITE_AWAY else Fault.ours


def _of_system(error: OSError) -> Fault:
    if error.errno in FULL:
        return Fault.full
    passing = isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or error.errno in _AWAY
    several = type(error) is OSError and error.errno is None  # each address of a host refused in its own way
    return Fault.away if passing or several else _of_client(error)


def _of_client(error: BaseException) -> Fault:
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if names & _CLIENTS_FULL:
        return Fault.full
    return Fault.away if names & _CLIENTS_AWAY else Fault.ours


def reason(error: BaseException) -> str:
    """For the log. Without the statement and the link that SQLAlchemy adds."""
    line = str(getattr(error, "orig", None) or error).partition("\n")[0]
    behind = error.__cause__ if isinstance(error, AppError) else None
    return line if behind is None else f"{line} ({type(behind).__name__}: {reason(behind)})"
