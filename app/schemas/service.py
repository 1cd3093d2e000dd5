"""A draft is edited freely; a published version never changes again."""

import asyncio
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.errors import InvalidRequest, NameTaken, NotFound, Problem, existing
from app.http.preconditions import IfMatch
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.schemas import Republication, Schema, SchemaVersion
from app.infra.tables.tenants import HeldKind
from app.schemas import drafts, repository
from app.schemas.drafts import Checked
from app.tenants import share
from evaluation.contract.schema import CategorySchema


class SchemaNotReady(InvalidRequest):
    """The draft cannot be used yet; `problems` names category and field of everything that is missing."""

    code = "schema_not_ready"


class Published(NamedTuple):
    """new: False where a version with equal content was there already."""

    version: SchemaVersion
    new: bool


async def create(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, name: str, draft: dict[str, Any]
) -> Schema:
    """Raises: NameTaken, QuotaExceeded."""
    found = _kept(await _check(draft, name))
    row = Schema(tenant_id=scope.tenant_id, name=name, draft=draft, draft_problems=found, draft_revision=1)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise NameTaken(f"another schema is named {name!r}") from None
    await share.hold(session, scope, HeldKind.draft, row.id, share.size_of(draft))
    audit.record(
        session, actor_key_id, scope.tenant_id, Act("schema.created", f"schema:{row.id}", {"name": name})
    )
    return row


async def get(session: AsyncSession, scope: TenantScope, schema_id: UUID, *, lock: bool = False) -> Schema:
    """Raises: NotFound."""
    return existing(await repository.get(session, scope, schema_id, lock=lock), "schema")


async def version(session: AsyncSession, scope: TenantScope, schema_id: UUID, number: int) -> SchemaVersion:
    """Raises: NotFound."""
    row = await repository.version(session, scope, schema_id, number)
    if row is None:
        await get(session, scope, schema_id)
        raise NotFound(f"the schema has no version {number}")
    return row


async def current(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> SchemaVersion | None:
    """What was published last, for the first time or again."""
    found = await repository.current(session, scope, schema_id)
    return None if found is None else found.version


def content_of(row: SchemaVersion) -> CategorySchema:
    return CategorySchema.model_validate(row.content)


async def content_of_draft(row: Schema) -> CategorySchema:
    """As publishing would freeze it. Raises: SchemaNotReady."""
    return await ready(row.draft, row.name)


async def ready(draft: dict[str, Any], name: str) -> CategorySchema:
    """Raises: SchemaNotReady."""
    schema, problems = await _check(draft, name)
    if schema is None:
        raise SchemaNotReady("the categories cannot be used yet; see `problems`", problems=problems)
    return schema


async def write_draft(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, if_match: IfMatch, draft: dict[str, Any]
) -> Schema:
    """Stored as it is given, with what is wrong with it: nobody looks for that again.

    Raises: NotFound, QuotaExceeded, Stale.
    """
    found = await _check(draft, "schema")  # before the row is locked; no problem depends on its name
    row = await get(session, scope, schema_id, lock=True)
    if_match.check(row.draft_revision)
    await share.hold(session, scope, HeldKind.draft, row.id, share.size_of(draft))
    row.draft, row.draft_problems = draft, _kept(found)
    row.draft_revision, row.updated_at = row.draft_revision + 1, utc_now()
    await session.flush()
    return row


async def problems_of(row: Schema) -> list[Problem]:
    """Of its draft."""
    if row.draft_problems is None:
        return (await _check(row.draft, row.name)).problems
    return [Problem(**problem) for problem in row.draft_problems]


async def _check(draft: dict[str, Any], name: str) -> Checked:
    """In a thread, since it takes as long as the draft."""
    return await asyncio.to_thread(drafts.check, draft, name)


def _kept(found: Checked) -> list[dict[str, Any]]:
    return [problem._asdict() for problem in found.problems]


async def restore(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, if_match: IfMatch, number: int
) -> Schema:
    """The content of a version becomes the draft; nothing is published. Raises: NotFound, QuotaExceeded, Stale."""
    old = await version(session, scope, schema_id, number)
    return await write_draft(session, scope, schema_id, if_match, old.content)


async def publish(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID,
    schema_id: UUID,
    if_match: IfMatch | None = None,
) -> Published:
    """Freeze the draft as the next version. Content that some version has makes that version the current one again.

    Raises: NotFound, QuotaExceeded, SchemaNotReady, Stale.
    """
    row = await get(session, scope, schema_id, lock=True)
    if if_match is not None:
        if_match.check(row.draft_revision)
    schema = await content_of_draft(row)
    published = await _publish(session, scope, actor_key_id, row, schema)
    detail = {"number": published.version.number, "sha256": schema.sha256, "new": published.new}
    audit.record(session, actor_key_id, scope.tenant_id, Act("schema.published", f"schema:{row.id}", detail))
    return published


async def _publish(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, row: Schema, schema: CategorySchema
) -> Published:
    equal = await repository.version_with_content(session, scope, row.id, schema.sha256)
    current = await repository.current(session, scope, row.id)
    if equal is not None and current is not None and equal.id == current.version.id:
        return Published(equal, new=False)
    # Later than what was current, whatever the clocks of two machines say.
    at = utc_now() if current is None else max(utc_now(), current.since + timedelta(microseconds=1))
    if equal is not None:
        again = {"schema_version_id": equal.id, "published_at": at, "published_by": actor_key_id}
        session.add(Republication(tenant_id=scope.tenant_id, schema_id=row.id, **again))
        await session.flush()
        return Published(equal, new=False)
    latest = (await repository.latest_numbers(session, scope, [row.id])).get(row.id, 0)
    made = SchemaVersion(
        tenant_id=scope.tenant_id,
        schema_id=row.id,
        number=latest + 1,
        content=schema.model_dump(mode="json", exclude_none=True),
        sha256=schema.sha256,
        published_at=at,
        published_by=actor_key_id,
    )
    await share.hold_more(session, scope, HeldKind.versions, row.id, share.size_of(made.content))
    session.add(made)
    await session.flush()
    return Published(made, new=True)
