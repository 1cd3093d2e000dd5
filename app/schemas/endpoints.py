from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Response

from app.auth.dependencies import Caller, tenant_scope
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.errors import (
    Forbidden,
    IdempotencyKeyReused,
    IfMatchMissing,
    NameTaken,
    NotFound,
    RequestInFlight,
    Stale,
)
from app.http.idempotency.reservation import Once, once
from app.http.paging import Page, Paging, Position
from app.http.preconditions import OptionalIfMatch, RequiredIfMatch, etag
from app.http.problems import responses
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session
from app.infra.tables.schemas import Schema
from app.schemas import diff, repository, service
from app.schemas.payloads import (
    MAX_NUMBER,
    DiffOut,
    DraftIn,
    DraftOut,
    RestoreIn,
    SchemaIn,
    SchemaOut,
    VersionOut,
)
from app.schemas.service import SchemaNotReady
from app.tenants.share import QuotaExceeded

router = keyed_router("/v1/schemas", tags=["schemas"])
SchemaId = Annotated[
    UUID, Path(description="Id of a schema.", examples=["3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"])
]
Number = Annotated[int, Path(description="Number of a version.", examples=[2], ge=1, le=MAX_NUMBER)]
Reader = Annotated[TenantScope, Depends(tenant_scope(Scope.schemas_read))]
Editor = Annotated[TenantScope, Depends(tenant_scope(Scope.schemas_write))]
OnceForEditor = Annotated[Once, Depends(once(Scope.schemas_write))]
_TAGGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": {"description": "Of the draft.", "schema": {"type": "string"}}}}
}


@router.post(
    "",
    status_code=201,
    operation_id="create_schema",
    responses=responses(Forbidden, NotFound, NameTaken, QuotaExceeded, RequestInFlight, IdempotencyKeyReused),
)
async def create(
    body: SchemaIn, caller: Caller, scope: Editor, session: Session, request_once: OnceForEditor
) -> SchemaOut:
    """Make a schema with a first draft. Send an `Idempotency-Key` and it is safe to send the request again."""
    row = await service.create(session, scope, caller.key_id, body.name, body.draft.root)
    return await request_once.keep(session, 201, SchemaOut.of(row, None, None))


@router.get("", operation_id="list_schemas", responses=responses(NotFound))
async def listed(scope: Reader, session: Session, paging: Paging) -> Page[SchemaOut]:
    """The tenant's schemas."""
    rows = await repository.listed(session, scope, paging)
    ids = [row.id for row in rows]
    latest = await repository.latest_numbers(session, scope, ids)
    current = await repository.current_numbers(session, scope, ids)
    return paging.page(rows, lambda row: SchemaOut.of(row, latest.get(row.id), current.get(row.id)))


@router.get("/{schema_id}", operation_id="get_schema", responses=responses(NotFound))
async def get(schema_id: SchemaId, scope: Reader, session: Session) -> SchemaOut:
    """One schema; its categories are in its draft and its versions."""
    row = await service.get(session, scope, schema_id)
    latest = await repository.latest_numbers(session, scope, [row.id])
    current = await repository.current_numbers(session, scope, [row.id])
    return SchemaOut.of(row, latest.get(row.id), current.get(row.id))


@router.get("/{schema_id}/draft", operation_id="get_schema_draft", responses=responses(NotFound) | _TAGGED)
async def get_draft(schema_id: SchemaId, scope: Reader, session: Session, response: Response) -> DraftOut:
    """The draft, its ETag, and what is to be mended before it can be published."""
    return await _draft(await service.get(session, scope, schema_id), response)


@router.put(
    "/{schema_id}/draft",
    operation_id="put_schema_draft",
    responses=responses(Forbidden, NotFound, QuotaExceeded, Stale, IfMatchMissing) | _TAGGED,
)
async def put_draft(
    schema_id: SchemaId,
    scope: Editor,
    if_match: RequiredIfMatch,
    body: DraftIn,
    session: Session,
    response: Response,
) -> DraftOut:
    """Replace the draft. It may be incomplete: it is stored as it is given, and the answer lists what is missing."""
    return await _draft(await service.write_draft(session, scope, schema_id, if_match, body.root), response)


@router.post(
    "/{schema_id}/publish",
    operation_id="publish_schema",
    status_code=201,
    responses=responses(Forbidden, NotFound, QuotaExceeded, SchemaNotReady, Stale)
    | {200: {"model": VersionOut, "description": "A version with this content was there already."}},
)
async def publish(
    schema_id: SchemaId,
    caller: Caller,
    scope: Editor,
    if_match: OptionalIfMatch,
    session: Session,
    response: Response,
) -> VersionOut:
    """Freeze the draft as the next version. Publishing equal content returns the version that has it, with 200, and
    makes it the current one again: that is how an edit is taken back.

    With `If-Match` only the draft that was read is published.
    """
    published = await service.publish(session, scope, caller.key_id, schema_id, if_match)
    response.status_code = 201 if published.new else 200
    return VersionOut.of(published.version)


@router.get("/{schema_id}/versions", operation_id="list_schema_versions", responses=responses(NotFound))
async def versions(schema_id: SchemaId, scope: Reader, session: Session, paging: Paging) -> Page[VersionOut]:
    """The published versions."""
    await service.get(session, scope, schema_id)
    paging = paging.shortened(await repository.sizes(session, scope, schema_id, paging))
    rows = await repository.versions(session, scope, schema_id, paging)
    return paging.page(rows, VersionOut.of, lambda row: Position(row.published_at, row.id))


@router.get(
    "/{schema_id}/versions/{number}", operation_id="get_schema_version", responses=responses(NotFound)
)
async def version(schema_id: SchemaId, number: Number, scope: Reader, session: Session) -> VersionOut:
    """One published version."""
    return VersionOut.of(await service.version(session, scope, schema_id, number))


@router.get("/{schema_id}/diff", operation_id="diff_schema_versions", responses=responses(NotFound))
async def difference(
    schema_id: SchemaId,
    from_version: Annotated[
        int, Query(alias="from", description="The older version.", examples=[1], ge=1, le=MAX_NUMBER)
    ],
    to_version: Annotated[
        int, Query(alias="to", description="The newer version.", examples=[2], ge=1, le=MAX_NUMBER)
    ],
    scope: Reader,
    session: Session,
) -> DiffOut:
    """What changed from one version to another, as data and as text."""
    old = service.content_of(await service.version(session, scope, schema_id, from_version))
    new = service.content_of(await service.version(session, scope, schema_id, to_version))
    return DiffOut.of(from_version, to_version, diff.compare(old, new))


@router.post(
    "/{schema_id}/restore",
    operation_id="restore_schema_version",
    responses=responses(Forbidden, NotFound, QuotaExceeded, Stale, IfMatchMissing) | _TAGGED,
)
async def restore(
    schema_id: SchemaId,
    scope: Editor,
    if_match: RequiredIfMatch,
    body: RestoreIn,
    session: Session,
    response: Response,
) -> DraftOut:
    """Make the content of an old version the draft. Nothing is published by it."""
    return await _draft(await service.restore(session, scope, schema_id, if_match, body.number), response)


async def _draft(row: Schema, response: Response) -> DraftOut:
    response.headers["ETag"] = etag(row.draft_revision)
    return DraftOut.of(row, await service.problems_of(row))
