from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query

from app.auth import repository, service
from app.auth.access import needs
from app.auth.dependencies import Caller, KeyOwner, OwnSight
from app.auth.payloads import ApiKeyIn, ApiKeyOut, MeOut, NewApiKeyOut, PersonOut
from app.auth.route import keyed_router
from app.auth.service import LineTooLong, TooManyKeys
from app.errors import Forbidden, NotFound
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.session import Session

router = keyed_router("/v1", tags=["api keys"])
KeyId = Annotated[
    UUID, Path(description="Id of an API key.", examples=["0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11"])
]


@router.post(
    "/api-keys",
    status_code=201,
    operation_id="create_api_key",
    responses=responses(Forbidden, NotFound, LineTooLong, TooManyKeys),
)
async def create(body: ApiKeyIn, caller: Caller, owner: KeyOwner, session: Session) -> NewApiKeyOut:
    """Make an API key for the tenant, or, as an admin of the platform without `X-Tenant`, for the platform."""
    return NewApiKeyOut.made(await service.create(session, caller, owner.tenant_id, body.order()))


@router.get("/api-keys", operation_id="list_api_keys", responses=responses(Forbidden, NotFound))
async def listed(owner: KeyOwner, session: Session, paging: Paging) -> Page[ApiKeyOut]:
    """The keys of the tenant, or of the platform, revoked and expired ones included."""
    return paging.page(await repository.listed(session, owner.tenant_id, paging), ApiKeyOut.of)


@router.post(
    "/api-keys/{key_id}/revoke", operation_id="revoke_api_key", responses=responses(Forbidden, NotFound)
)
async def revoke(
    key_id: KeyId,
    caller: Caller,
    owner: KeyOwner,
    session: Session,
    keep_children: Annotated[
        bool,
        Query(
            description="Keys that were made with it stay, as if the key that made this one had made them. A key "
            "cannot ask for it of itself, nor one that was made with it.",
            examples=[False],
        ),
    ] = False,
) -> ApiKeyOut:
    """From now on the key is refused, and all that were made with it. Revoking it again changes nothing."""
    ended = await service.revoke(session, caller.key_id, owner.tenant_id, key_id, keep_children=keep_children)
    return ApiKeyOut.of(ended)


@router.get("/me", operation_id="get_me", responses=responses(), dependencies=[Depends(needs())])
async def me(caller: OwnSight, session: Session) -> MeOut:
    """Who the key or the token of this request belongs to, and what it may do."""
    person = PersonOut.of(caller)
    key = None if person else ApiKeyOut.of(await service.get(session, caller.tenant_id, caller.key_id))
    name = None if caller.tenant_id is None else await repository.tenant_name(session, caller.tenant_id)
    return MeOut(key=key, person=person, tenant_name=name, platform_admin=caller.is_platform_admin)
