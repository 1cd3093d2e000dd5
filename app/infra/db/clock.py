"""The database's own clock, in SQL: leases are judged by one clock, whatever the machines' clocks say."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import literal
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from app.infra.db.base import UtcDateTime


class _Now(FunctionElement[datetime]):
    """Takes one argument, the seconds to add."""

    type = UtcDateTime()
    inherit_cache = True


def now(plus_s: float = 0) -> ColumnElement[datetime]:
    """The time at which this statement runs (not at which its transaction began), `plus_s` seconds later."""
    return _Now(literal(float(plus_s), Float()))


@compiles(_Now, "postgresql")
def _postgresql(element: _Now, compiler: Any, **options: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(_Now, "sqlite")
def _sqlite(element: _Now, compiler: Any, **options: Any) -> str:
    """In the same text as a stored time, so that they compare as text."""
    seconds = compiler.process(element.clauses, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+f seconds', {seconds})))"


class _Since(FunctionElement[float]):
    """Takes one argument, a time."""

    type = Float()
    inherit_cache = True


def seconds_since(at: ColumnElement[Any]) -> ColumnElement[float]:
    """From `at` to now, by the same clock; NULL where `at` is."""
    return _Since(at)


@compiles(_Since, "postgresql")
def _since_postgresql(element: _Since, compiler: Any, **options: Any) -> str:
    return f"EXTRACT(EPOCH FROM clock_timestamp() - {compiler.process(element.clauses, **options)})::float8"


@compiles(_Since, "sqlite")
def _since_sqlite(element: _Since, compiler: Any, **options: Any) -> str:
    return f"((julianday('now') - julianday({compiler.process(element.clauses, **options)})) * 86400.0)"
