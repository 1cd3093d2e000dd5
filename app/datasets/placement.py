"""Where one more conversation belongs among those that are there: its group, and with that its split."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import counts, repository
from app.datasets.counts import Arrivals
from app.datasets.fingerprint import Fingerprint, bands, fingerprint
from app.datasets.grouping import NEAR, similarity
from app.infra.db.scope import TenantScope
from app.infra.tables.datasets import ConversationRow, Dataset
from evaluation.contract import record
from evaluation.contract.overlap import most_held_out
from evaluation.contract.record import Split
from evaluation.contract.splits import split_of

MAX_ALIKE = 200  # conversations compared with the new one: those that share most bands with it


class Placed(NamedTuple):
    text_sha256: str
    bands: list[int]
    group_id: str
    split: Split


async def place(
    session: AsyncSession, scope: TenantScope, dataset: Dataset, given: record.Conversation
) -> Placed:
    """dataset: locked. Groups that hang together through the new one become one, in their most held-out split."""
    printed = await asyncio.to_thread(fingerprint, given)
    numbers = stored_bands(printed)
    near = await _near(session, scope, dataset.id, printed, numbers)
    names = {row.group_id for row in near} | {printed.text_sha256}
    groups = await repository.splits_of_groups(session, scope, dataset.id, names)
    name = min(groups, default=printed.text_sha256)
    wanted = [*groups.values(), *([given.split] if given.split is not None else [])]
    split = most_held_out(wanted) if wanted else split_of(name)
    moved = await _bring_together(session, scope, dataset, groups, name, split)
    moved += given.split not in (None, split)
    exact = any(row.text_sha256 == printed.text_sha256 for row in near)
    arrivals = Arrivals(exact=int(exact), near=len(groups) - int(exact), moved=moved)
    dataset.counts = counts.from_stored(dataset.counts).changed(arrivals=arrivals).stored
    return Placed(printed.text_sha256, numbers, name, split)


def stored_bands(printed: Fingerprint) -> list[int]:
    return sorted({int(band) for band in bands(printed.signature[None])[0]})


async def _near(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, printed: Fingerprint, numbers: list[int]
) -> list[ConversationRow]:
    rows = await repository.alike(session, scope, dataset_id, numbers, MAX_ALIKE)
    return await asyncio.to_thread(_as_near, printed, rows) if rows else []


def _as_near(printed: Fingerprint, rows: list[ConversationRow]) -> list[ConversationRow]:
    there = np.stack([fingerprint(as_record(row)).signature for row in rows])
    return [row for row, like in zip(rows, similarity(printed.signature, there), strict=True) if like >= NEAR]


def as_record(row: ConversationRow) -> record.Conversation:
    return record.Conversation.model_validate({"id": row.external_id, "messages": row.messages})


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
