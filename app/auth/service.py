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
from app.errors import Conflict, Forbidden, InvalidRequest, Problem, Unauthorized, existing
from app.infra.db.base import utc_now
from app.infra.tables.auth import ApiKey

MAX_LIVE_OF_A_NAME = 2  # the old one and the new one, while clients change over
LAST_USE_RESOLUTION = timedelta(minutes=1)  # a row written for every request would be a queue of its own
MAX_LINE = 8  # keys that made one another; each is looked up whenever the last of them is used
MAX_LIFETIME = timedelta(days=3660)
NOT_VALID = "this is not a valid API key"  # whatever is wrong with what came, a token included
_NO_DIGEST = "0" * 64


class TooManyKeys(Conflict):
    """Two live keys have this name already; revoke one of them first."""

    code = "too_many_keys"


class LineTooLong(Conflict):
    """Keys that made one another stand in a row of eight already; make it with a key further up."""

    code = "line_too_long"


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
        raise RefusedKey(NOT_VALID, "unknown")
    await _check_line(session, row)
    return row


async def check_standing(session: AsyncSession, key_id: UUID) -> None:
    """Of a key that was verified before. Raises: Unauthorized."""
    row = await repository.any_owners(session, key_id)
    if row is None:
        raise Unauthorized("this API key is gone")
    await _check_line(session, row)


async def _check_line(session: AsyncSession, row: ApiKey) -> None:
    """A key ends with the one that made it, whatever its own row says."""
    if row.revoked_at is not None:
        at = row.revoked_at.isoformat(timespec="seconds")
        raise RefusedKey(f"this API key was revoked at {at}", "revoked", row)
    if row.expires_at is not None and row.expires_at <= utc_now():
        at = row.expires_at.isoformat(timespec="seconds")
        raise RefusedKey(f"this API key expired at {at}", "expired", row)
    maker_id = row.parent_id
    while maker_id is not None:
        maker = await repository.any_owners(session, maker_id)
        if maker is None or not is_live(maker):
            raise RefusedKey("the API key that made this one has ended, and this one with it", "revoked", row)
        maker_id = maker.parent_id


def check_expiry(caller: Principal) -> None:
    """Raises: Unauthorized."""
    if caller.expires_at is not None and caller.expires_at <= utc_now():
        what = "API key" if caller.identity is None else "token"
        raise Unauthorized(f"this {what} expired at {caller.expires_at.isoformat(timespec='seconds')}")


def principal_of(row: ApiKey) -> Principal:
    scopes = frozenset(Scope(scope) for scope in row.scopes)
    return Principal(row.id, row.tenant_id, scopes, row.expires_at)


def use_is_to_be_noted(row: ApiKey) -> bool:
    return row.last_used_at is None or row.last_used_at < utc_now() - LAST_USE_RESOLUTION


async def note_use(session: AsyncSession, row: ApiKey) -> None:
    now = utc_now()
    await repository.note_use(session, row.id, now, now - LAST_USE_RESOLUTION)


async def create(
    session: AsyncSession, maker: Principal | None, tenant_id: UUID | None, order: KeyOrder
) -> MadeKey:
    """maker: None where the installation itself makes it. A key ends no later than its maker, and with it.

    Raises: Forbidden, InvalidRequest, LineTooLong, TooManyKeys.
    """
    if maker is not None and maker.identity is not None:
        raise Forbidden("a key would outlive the token of this request; make it with an admin's API key")
    expires_at = _end(maker, order.expires_at)
    _check(tenant_id, order)
    if maker is not None and len(await _line(session, maker.key_id)) >= MAX_LINE:
        raise LineTooLong(f"{MAX_LINE} keys made one another already; make this one with a key further up")
    await repository.lock_owner(session, tenant_id)
    live = [row for row in await repository.all_of(session, tenant_id, order.name) if is_live(row)]
    if len(live) >= MAX_LIVE_OF_A_NAME:
        raise TooManyKeys(f"{len(live)} live keys are named {order.name!r}; revoke one of them first")
    made = keys.generate()
    row = ApiKey(
        tenant_id=tenant_id,
        parent_id=None if maker is None else maker.key_id,
        name=order.name,
        prefix=made.prefix,
        digest=made.digest,
        scopes=sorted({scope.value for scope in order.scopes}),
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    detail = {"name": order.name, "scopes": row.scopes, "prefix": made.prefix}
    audit.record(session, row.parent_id, tenant_id, Act("api_key.created", f"api_key:{row.id}", detail))
    return MadeKey(row, made.text)


def _end(maker: Principal | None, asked: datetime | None) -> datetime | None:
    """Left out, it is the maker's own. Raises: InvalidRequest."""
    latest = None if maker is None else maker.expires_at
    if latest is None or asked is None:
        return asked or latest
    if asked > latest:
        reason = f"must not be after {latest.isoformat(timespec='seconds')}, when the key that makes it ends"
        raise InvalidRequest(f"body.expires_at: {reason}", problems=[Problem("body.expires_at", reason)])
    return asked


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
    session: AsyncSession,
    actor_key_id: UUID | None,
    tenant_id: UUID | None,
    key_id: UUID,
    *,
    keep_children: bool = False,
) -> ApiKey:
    """With the keys that it made, and theirs. keep_children: they pass to the one that had made it instead.

    A key that is revoked already stays as it is. Raises: Forbidden, NotFound.
    """
    row = await get(session, tenant_id, key_id)
    if keep_children:
        await _keep_children(session, actor_key_id, row)
    ending = [row]
    while ending:
        one = ending.pop()
        ending += await repository.children(session, one.id)
        if one.revoked_at is None:
            one.revoked_at = utc_now()
            audit.record(session, actor_key_id, one.tenant_id, Act("api_key.revoked", f"api_key:{one.id}"))
    return row


async def _line(session: AsyncSession, key_id: UUID) -> list[UUID]:
    """The key, the one that made it, and so on, as far as the session sees."""
    line, upwards = list[UUID](), await repository.any_owners(session, key_id)
    while upwards is not None:
        line.append(upwards.id)
        made_by = upwards.parent_id
        upwards = None if made_by is None else await repository.any_owners(session, made_by)
    return line


async def _keep_children(session: AsyncSession, actor_key_id: UUID | None, row: ApiKey) -> None:
    """Whoever holds a stolen key cannot make what they made with it outlive it. Raises: Forbidden."""
    if actor_key_id is not None and row.id in await _line(session, actor_key_id):
        raise Forbidden("a key cannot keep what was made with it; ask whoever made the key")
    for child in await repository.children(session, row.id):
        child.parent_id = row.parent_id
    await session.flush()
