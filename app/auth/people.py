"""People who come with a token of the OIDC issuer: which tenant they belong to, what they may do, and who they were."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import repository, service
from app.auth.principal import Identity, KeyRole, Principal, Scope
from app.auth.service import LAST_USE_RESOLUTION, NOT_VALID, RefusedKey
from app.auth.tokens import PersonTokens
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.settings import OidcIssuer

ADMIN = "admin"  # of a tenant; nobody is the platform's by a token
_MAX_SUBJECT, _MAX_NAME = 255, 300
_NAMESPACE = UUID("a3b7c0de-6a53-4f0e-9a55-3f2a1c9d7e10")


async def come_in(database: Database, tokens: PersonTokens, text: str) -> Principal:
    """Whom the token vouches for. Raises: RefusedKey, Unavailable."""
    found = principal_of(tokens.oidc, await tokens.verify(text))
    assert found.tenant_id is not None and found.identity is not None
    async with transaction(database, read_only=True) as session:
        await _check_tenant(session, found.tenant_id)
        row = await repository.person(session, found.key_id)
    stale = row is None or row.last_seen_at < utc_now() - LAST_USE_RESOLUTION
    if stale or row is None or row.name != found.identity.name:
        async with transaction(database, TenantScope(found.tenant_id)) as session:
            await repository.note_person(session, found.key_id, found.tenant_id, found.identity, utc_now())
    return found


async def check_standing(session: AsyncSession, caller: Principal) -> None:
    """Of a person whose token was verified before. Raises: Unauthorized."""
    service.check_expiry(caller)
    assert caller.tenant_id is not None
    await _check_tenant(session, caller.tenant_id)


def principal_of(oidc: OidcIssuer, claims: Mapping[str, Any]) -> Principal:
    """claims: verified. Raises: RefusedKey."""
    tenant_id = _tenant(oidc, _claim(claims, oidc.tenant_claim))
    subject = claims["sub"]
    if not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise RefusedKey(NOT_VALID, "token_claims")
    name = None if oidc.name_claim is None else _claim(claims, oidc.name_claim)
    named = name[:_MAX_NAME] if isinstance(name, str) and name.isprintable() and name else None
    ends = min(float(claims["exp"]), float(claims["iat"]) + oidc.token_max_s) + oidc.clock_skew_s
    return Principal(
        uuid5(_NAMESPACE, f"{tenant_id}\n{oidc.issuer}\n{subject}"),
        tenant_id,
        _scopes(oidc, _claim(claims, oidc.roles_claim)),
        datetime.fromtimestamp(ends, UTC),
        Identity(oidc.issuer, subject, named),
    )


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """None where it is not there. A name that begins with a slash is a path into claims that hold others."""
    found: Any = claims
    for step in name[1:].split("/") if name.startswith("/") else [name]:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _tenant(oidc: OidcIssuer, value: Any) -> UUID:
    try:
        if isinstance(value, str):
            return oidc.tenants[value] if oidc.tenants else UUID(value)
    except (KeyError, ValueError):
        pass
    raise RefusedKey(f"this token's claim {oidc.tenant_claim!r} names no tenant of ours", "token_tenant")


def _scopes(oidc: OidcIssuer, value: Any) -> frozenset[Scope]:
    """None where no role of ours is named: such a person may ask who they are, and nothing else."""
    words = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    roles = {oidc.roles[word] for word in words if isinstance(word, str) and word in oidc.roles}
    given = (frozenset({Scope.admin}) if role == ADMIN else KeyRole(role).scopes for role in roles)
    return frozenset[Scope]().union(*given)


async def _check_tenant(session: AsyncSession, tenant_id: UUID) -> None:
    if not await repository.tenant_exists(session, tenant_id):
        raise RefusedKey("the tenant that this token names is not there", "token_tenant")
