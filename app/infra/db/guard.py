"""What keeps a session inside its tenant.

PostgreSQL does it by row-level security, from two settings that hold for one transaction. SQLite has none, so the
session adds the tenant to every query of mapped classes, and a statement that still reaches the database without the
tenant among its parameters is refused there. A session that was told nothing sees nothing on either. On PostgreSQL the
setting for the platform means something for one role only, which has connections of its own: a statement that somebody
smuggled into a tenant's session cannot see more by changing it.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, event, func, select
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, with_loader_criteria

from app.infra.db.base import Base, TenantOrPlatformOwned, TenantOwned

PLATFORM = "platform"  # in a session's info: the engine of the role that may see every tenant


class OutsideTenant(RuntimeError):
    """A statement or a row that is not the session's tenant's: a mistake of ours, never of the caller's."""


class Sight:
    """What one session may see: nothing, one tenant, or (platform) everything."""

    def __init__(self) -> None:
        self.tenant_id: UUID | None = None
        self.platform = False
        self.connection: Connection | None = None  # of the transaction that has begun
        self.flushing = False  # rows found through this session are written back by their primary key alone


class GuardedSession(Session):
    """The session class of every database that `open_database` opens."""

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        """Of the role that may see what the session may see. Once it has begun it stays on its connection."""
        sight, own = sight_of(self), super().get_bind(*args, **kwargs)
        platform: Engine | None = self.info.get(PLATFORM)
        if sight.connection is not None:
            return sight.connection
        if platform is None or not sight.platform:
            return own
        return platform.execution_options(**own.get_execution_options())


def sight_of(session: Session) -> Sight:
    found: Sight = session.info.setdefault("sight", Sight())
    return found


def narrow(session: Session, sight: Sight) -> None:
    """Make a change of `sight` hold at once where the session's transaction has begun already."""
    if sight.connection is not None:
        _tell(sight.connection, sight)


@event.listens_for(GuardedSession, "after_begin")
def _begun(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    sight = sight_of(session)
    sight.connection = connection
    _tell(connection, sight)


@event.listens_for(GuardedSession, "after_transaction_end")
def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        sight_of(session).connection = None


def _tell(connection: Connection, sight: Sight) -> None:
    """PostgreSQL's settings hold until the transaction ends: a pooled connection hands nothing to its next user."""
    if connection.dialect.name != "postgresql":
        connection.execution_options(sight=sight)
        return
    tenant = "" if sight.tenant_id is None else str(sight.tenant_id)
    platform = "on" if sight.platform else ""
    connection.execute(
        select(
            func.set_config("app.tenant_id", tenant, True), func.set_config("app.platform", platform, True)
        )
    )


@event.listens_for(GuardedSession, "do_orm_execute")
def _add_tenant(state: ORMExecuteState) -> None:
    tenant_id = sight_of(state.session).tenant_id
    if tenant_id is None or state.is_insert:
        return
    if state.is_column_load and isinstance(state.statement, Select) and state.bind_mapper is not None:
        owner = state.bind_mapper.c.get("tenant_id")  # refreshing a row: loader criteria are left out there
        state.statement = state.statement if owner is None else state.statement.where(owner == tenant_id)
        return
    state.statement = state.statement.options(
        with_loader_criteria(TenantOwned, lambda table: table.tenant_id == tenant_id, include_aliases=True),
        with_loader_criteria(
            TenantOrPlatformOwned, lambda table: table.tenant_id == tenant_id, include_aliases=True
        ),
    )


@event.listens_for(GuardedSession, "before_flush")
def _check_rows(session: Session, _context: Any, _instances: Any) -> None:
    sight = sight_of(session)
    if sight.tenant_id is not None:
        for row in (*session.new, *session.dirty, *session.deleted):
            if _owner(row) != sight.tenant_id:
                raise OutsideTenant(f"a row of {type(row).__name__} belongs to another tenant")
    sight.flushing = sight.platform or sight.tenant_id is not None


def _owner(row: Any) -> UUID | None:
    owner: UUID | None = row.tenant_id if hasattr(row, "tenant_id") else row.id  # else it is a tenant
    return owner


@event.listens_for(GuardedSession, "after_flush")
def _flushed(session: Session, _context: Any) -> None:
    sight_of(session).flushing = False


@event.listens_for(GuardedSession, "after_soft_rollback")
def _rolled_back(session: Session, _transaction: SessionTransaction) -> None:
    sight_of(session).flushing = False  # after_flush does not come where a flush failed


def watch(engine: Engine) -> None:
    """Refuse what the sessions of this engine would send without their tenant."""
    event.listen(engine, "before_cursor_execute", _check_statement)


def _check_statement(
    connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
) -> None:
    sight: Sight | None = connection.get_execution_options().get("sight")
    if sight is None or sight.platform or sight.flushing or not _our_tables().search(statement):
        return
    sets = parameters if executemany else [parameters]
    if sight.tenant_id is None or not all(_names(one, sight.tenant_id) for one in sets):
        raise OutsideTenant(f"a query without the tenant: {statement}")


def _names(parameters: Any, tenant_id: UUID) -> bool:
    values: Iterable[Any] = parameters.values() if isinstance(parameters, dict) else parameters
    return tenant_id.hex in values


def _our_tables() -> re.Pattern[str]:
    return _pattern(frozenset(Base.metadata.tables))


@cache
def _pattern(names: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(sorted(names))})\b")
