"""Where one more conversation belongs among those that are there: its group, and with that its split."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import counts, repository
from app.datasets.counts import Arrivals
from app.datasets.fingerprint import (
    Fingerprint,
    Signature,
    bands,
    fingerprint,
    read_signature,
    stored_signature,
)
from app.datasets.grouping import NEAR, similarity
from app.datasets.repository import Alike
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.datasets import Dataset
from app.tenants import service as tenants
from evaluation.contract import record
from evaluation.contract.overlap import most_held_out
from evaluation.contract.record import Split
from evaluation.contract.splits import split_of
from evaluation.formats.redaction import Redaction, Redactor

MAX_ALIKE = 200  # conversations compared with the new one: those that share most bands with it
_SIGNED_AT_ONCE = 20  # a megabyte each


class Placed(NamedTuple):
    group_id: str
    split: Split


class Prepared(NamedTuple):
    """A conversation as it is to be stored, with what it is compared by: what takes long, before anything is locked."""

    given: record.Conversation
    text_sha256: str
    signature: Signature
    bands: list[int]


async def prepare(
    database: Database, scope: TenantScope, dataset_id: UUID, given: record.Conversation
) -> Prepared:
    """Raises: NotFound."""
    async with transaction(database, scope, read_only=True) as session:
        redaction = (await tenants.get(session, scope)).incoming_redaction
    prepared = await asyncio.to_thread(_prepared, given, redaction)
    await _sign_older(database, scope, dataset_id, prepared.bands)
    return prepared


def _prepared(given: record.Conversation, redaction: Redaction) -> Prepared:
    if redaction is not Redaction.nothing:
        redactor = Redactor([m.text for m in given.messages], redaction)
        messages = tuple(m.model_copy(update={"text": redactor.text(m.text)}) for m in given.messages)
        metadata = given.metadata and redactor.metadata(given.metadata)
        given = given.model_copy(update={"messages": messages, "metadata": metadata})
    printed = fingerprint(given)
    return Prepared(given, printed.text_sha256, printed.signature, stored_bands(printed))


async def _sign_older(database: Database, scope: TenantScope, dataset_id: UUID, numbers: list[int]) -> None:
    """Rows of before signatures were kept have theirs made once, when they are first compared with."""
    async with transaction(database, scope, read_only=True) as session:
        found = await repository.alike(session, scope, dataset_id, numbers, MAX_ALIKE)
    unsigned = [row.id for row in found if row.signature is None]
    for start in range(0, len(unsigned), _SIGNED_AT_ONCE):
        some = unsigned[start : start + _SIGNED_AT_ONCE]
        async with transaction(database, scope, read_only=True) as session:
            texts = await repository.messages_of(session, scope, some)
        signatures = await asyncio.to_thread(_signatures, texts)
        async with transaction(database, scope) as session:
            await repository.sign(session, scope, signatures)


def _signatures(texts: Mapping[UUID, list[dict[str, Any]]]) -> dict[UUID, bytes]:
    records = {
        key: record.Conversation.model_validate({"id": "stored", "messages": messages})
        for key, messages in texts.items()
    }
    return {key: stored_signature(fingerprint(one).signature) for key, one in records.items()}


async def place(session: AsyncSession, scope: TenantScope, dataset: Dataset, prepared: Prepared) -> Placed:
    """dataset: locked. Groups that hang together through the new one become one, in their most held-out split."""
    asked = prepared.given.split
    near = await _near(session, scope, dataset.id, prepared)
    names = {row.group_id for row in near} | {prepared.text_sha256}
    groups = await repository.splits_of_groups(session, scope, dataset.id, names)
    name = min(groups, default=prepared.text_sha256)
    wanted = [*groups.values(), *([asked] if asked is not None else [])]
    split = most_held_out(wanted) if wanted else split_of(name)
    moved = await _bring_together(session, scope, dataset, groups, name, split)
    moved += asked not in (None, split)
    exact = any(row.text_sha256 == prepared.text_sha256 for row in near)
    arrivals = Arrivals(exact=int(exact), near=len(groups) - int(exact), moved=moved)
    dataset.counts = counts.from_stored(dataset.counts).changed(arrivals=arrivals).stored
    return Placed(name, split)


def stored_bands(printed: Fingerprint) -> list[int]:
    return sorted({int(band) for band in bands(printed.signature[None])[0]})


async def _near(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, prepared: Prepared
) -> list[Alike]:
    """One without a signature, which an older version of this program stored meanwhile, is near if it is equal."""
    rows = await repository.alike(session, scope, dataset_id, prepared.bands, MAX_ALIKE)
    return [row for row in rows if _is_near(row, prepared)]


def _is_near(row: Alike, prepared: Prepared) -> bool:
    if row.signature is None:
        return row.text_sha256 == prepared.text_sha256
    return bool(similarity(prepared.signature, read_signature(row.signature)[None])[0] >= NEAR)


async def _bring_together(
    session: AsyncSession,
    scope: TenantScope,
    dataset: Dataset,
    groups: Mapping[str, Split],
    name: str,
    split: Split,
) -> int:
    """Returns how many conversations are in another split than before."""
    if all(group == name and was is split for group, was in groups.items()):
        return 0
    before = await repository.cells(session, scope, dataset.id, list(groups))
    await repository.merge_groups(session, scope, dataset.id, groups, (name, split))
    after = await repository.cells(session, scope, dataset.id, [name])
    dataset.counts = (
        counts.from_stored(dataset.counts)
        .changed(gone=Counter(before).elements(), come=Counter(after).elements())
        .stored
    )
    return sum(count for cell, count in before.items() if cell.split is not split)
