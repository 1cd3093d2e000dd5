"""Decisions about API keys: who may come in, how many keys of one name there are, and when one ends."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.auth import keys, repository
from app.auth.principal import Principal, Scope
from app.errors import Conflict, InvalidRequest, Problem, Unauthorized, existing
from app.infra.db.base import utc_now
from app.infra.tables.auth import ApiKey

MAX_LIVE_OF_A_NAME = 2  # the old one and the new one, while clients change over
LAST_USE_RESOLUTION = timedelta(minutes=1)  # a row written for every request would be a queue of its own
MAX_LIFETIME = timedelta(days=3660)
_NO_DIGEST = "0" * 64


class TooManyKeys(Conflict):
    """Two live keys have this name already; revoke one of them first."""

    code = "too_many_keys"


class RefusedKey(Unauthorized):
    """A key that came and is not, or no longer, one of ours. tenant_id, prefix: of a key that is known."""

    def __init__(self, message: str, reason: str, row: ApiKey | None = None):
        super().__init__(message)
        self.reason = reason
        self.tenant_id = None if row is None else row.tenant_id
        self.prefix = None if row is None else row.prefix


class KeyOrder(NamedTuple):
    name: str
    scopes: Sequence[Scope]
    expires_at: datetime | None = None


class MadeKey(NamedTuple):
    """text: the key itself, to be shown now and never again."""

    row: ApiKey
    text: str


async def verify(session: AsyncSession, text: str) -> ApiKey:
    """Raises: RefusedKey. Why is said only to one who holds the right key."""
    prefix = keys.prefix_of(text)
    row = None if prefix is None else await repository.find(session, prefix)
    if not keys.matches(text, row.digest if row is not None else _NO_DIGEST) or row is None:
        raise RefusedKey("this is not a valid API key", "unknown")
    if row.revoked_at is not None:
        at = row.revoked_at.isoformat(timespec="seconds")
        raise RefusedKey(f"this API key was revoked at {at}", "revoked", row)
    if row.expires_at is not None and row.expires_at <= utc_now():
        at = row.expires_at.isoformat(timespec="seconds")
        raise RefusedKey(f"this API key expired at {at}", "expired", row)
    return row


def principal_of(row: ApiKey) -> Principal:
    return Principal(row.id, row.tenant_id, frozenset(Scope(scope) for scope in row.scopes))


def use_is_to_be_noted(row: ApiKey) -> bool:
    return row.last_used_at is None or row.last_used_at < utc_now() - LAST_USE_RESOLUTION


async def note_use(session: AsyncSession, row: ApiKey) -> None:
    now = utc_now()
    await repository.note_use(session, row.id, now, now - LAST_USE_RESOLUTION)


async def create(
    session: AsyncSession, actor_key_id: UUID | None, tenant_id: UUID | None, order: KeyOrder
) -> MadeKey:
    """Raises: InvalidRequest, TooManyKeys."""
    _check(tenant_id, order)
    await repository.lock_owner(session, tenant_id)
    live = [row for row in await repository.all_of(session, tenant_id, order.name) if is_live(row)]
    if len(live) >= MAX_LIVE_OF_A_NAME:
        raise TooManyKeys(f"{len(live)} live keys are named {order.name!r}; revoke one of them first")
    made = keys.generate()
    row = ApiKey(
        tenant_id=tenant_id,
        name=order.name,
        prefix=made.prefix,
        digest=made.digest,
        scopes=sorted({scope.value for scope in order.scopes}),
        expires_at=order.expires_at,
    )
    session.add(row)
    await session.flush()
    detail = {"name": order.name, "scopes": row.scopes, "prefix": made.prefix}
    audit.record(session, actor_key_id, tenant_id, Act("api_key.created", f"api_key:{row.id}", detail))
    return MadeKey(row, made.text)


def _check(tenant_id: UUID | None, order: KeyOrder) -> None:
    if tenant_id is None and list(order.scopes) != [Scope.admin]:
        problem = Problem("body.scopes", "a key of the platform has the scope admin, and only that")
        raise InvalidRequest(problem.message, problems=[problem])
    now = utc_now()
    if order.expires_at is not None and not now < order.expires_at <= now + MAX_LIFETIME:
        problem = Problem("body.expires_at", "must be in the future, and at most ten years ahead")
        raise InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])


def is_live(row: ApiKey) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > utc_now())


async def get(session: AsyncSession, tenant_id: UUID | None, key_id: UUID) -> ApiKey:
    return existing(await repository.get(session, tenant_id, key_id), "API key")


async def revoke(
    session: AsyncSession, actor_key_id: UUID | None, tenant_id: UUID | None, key_id: UUID
) -> ApiKey:
    """A key that is revoked already stays as it is. Raises: NotFound."""
    row = await get(session, tenant_id, key_id)
    if row.revoked_at is None:
        row.revoked_at = utc_now()
        audit.record(session, actor_key_id, tenant_id, Act("api_key.revoked", f"api_key:{row.id}"))
    return row
