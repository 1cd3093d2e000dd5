"""Decisions about datasets as a whole: making, removing, and freezing one for a run."""

import hashlib
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.datasets import counts, repository
from app.datasets.counts import Cell
from app.datasets.refusals import NothingToTake
from app.datasets.repository import HeldOut, Sealed
from app.errors import Conflict, existing
from app.infra.db.scope import TenantScope
from app.infra.files import repository as files
from app.infra.files.door import put_within
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.storage import Storage
from app.infra.tables.datasets import Dataset, DatasetState
from app.infra.tables.files import FileKind
from app.infra.tables.jobs import Job, JobKind
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.tenants import HeldKind
from app.jobs import service as jobs
from app.schemas import drafts
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.tenants import share
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.contract.splits import too_few

MOST_HELD_OUT = 5000  # many times what a gate asks
BUSY = (DatasetState.uploaded, DatasetState.validating)
# A frozen dataset goes with the last run that has it: one of another dataset may have the same.
_OF_DATASET = tuple(kind for kind in FileKind if kind is not FileKind.snapshot)


class DatasetBusy(Conflict):
    """Its file is being checked; wait until it is `ready` or `failed`."""

    code = "dataset_busy"


class DatasetInUse(Conflict):
    """Runs were made from it; delete those first. Or a trigger begins runs from it."""

    code = "dataset_in_use"


class Definitions(NamedTuple):
    """What labels of a dataset are checked against. schema: None while it has neither a version nor a usable draft."""

    schema: CategorySchema | None
    version_id: UUID | None


class FrozenDataset(NamedTuple):
    """A dataset as it was: one labelled conversation a line, in the upload's format, with its split, sorted by id.

    counts: by split and category. left_out: labelled, with a category that the schema version does not have.
    """

    key: str
    sha256: str
    counts: dict[Cell, int]
    left_out: int


async def create(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, name: str, schema_id: UUID
) -> Dataset:
    """Raises: NotFound, for the schema."""
    await schemas.get(session, scope, schema_id)
    row = Dataset(tenant_id=scope.tenant_id, schema_id=schema_id, name=name, counts={})
    session.add(row)
    await session.flush()
    detail = {"name": name, "schema_id": str(schema_id)}
    audit.record(session, actor_key_id, scope.tenant_id, Act("dataset.created", f"dataset:{row.id}", detail))
    return row


async def get(session: AsyncSession, scope: TenantScope, dataset_id: UUID, *, lock: bool = False) -> Dataset:
    """Raises: NotFound."""
    return existing(await repository.dataset(session, scope, dataset_id, lock=lock), "dataset")


async def settled(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> Dataset:
    """Locked, and nothing is being checked. Raises: DatasetBusy, NotFound."""
    row = await get(session, scope, dataset_id, lock=True)
    check_settled(row)
    return row


def check_settled(row: Dataset) -> None:
    """Raises: DatasetBusy."""
    if row.state in BUSY:
        raise DatasetBusy(
            f"the file of dataset {row.id} is being checked; wait until its state is `ready` or `failed`"
        )


async def validation(session: AsyncSession, scope: TenantScope, row: Dataset) -> Job | None:
    """The job that checks its file, or did so last."""
    return await jobs.newest_of(session, scope, JobKind.validate_dataset, row.id)


async def definitions(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> Definitions:
    """The current version; before the first, the draft, so that a dataset can come before its schema is published."""
    current = await schema_repository.current(session, scope, schema_id)
    if current is not None:
        return Definitions(schemas.content_of(current.version), current.version.id)
    row = await schemas.get(session, scope, schema_id)
    return Definitions(drafts.check(row.draft, row.name).schema, None)


async def remove(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, dataset_id: UUID
) -> list[str]:
    """With its conversations and labels. Returns the keys in storage to remove once this is committed.

    Raises: DatasetBusy, DatasetInUse, NotFound.
    """
    row = await settled(session, scope, dataset_id)
    if await repository.is_used_by_runs(session, scope, dataset_id):
        raise DatasetInUse(
            "runs were made from this dataset; delete those first. Single conversations can be deleted"
        )
    if await repository.is_used_by_triggers(session, scope, dataset_id):
        raise DatasetInUse("a trigger begins runs from this dataset; delete the trigger first")
    detail = {"name": row.name, "conversations": counts.from_stored(row.counts).conversations}
    keys = await discard_content(session, scope, row)
    await files.let_go_of_dataset(session, scope, dataset_id, _OF_DATASET)
    await share.release(session, scope, HeldKind.conversations, dataset_id)
    await session.delete(row)
    await session.flush()
    audit.record(
        session, actor_key_id, scope.tenant_id, Act("dataset.deleted", f"dataset:{dataset_id}", detail)
    )
    return keys


async def discard_content(session: AsyncSession, scope: TenantScope, row: Dataset) -> list[str]:
    """What its file left, and what came of it. Returns the keys in storage to remove once this is committed."""
    keys = await repository.upload_keys(session, scope, row.id)
    keys += [row.rejects_uri] if row.rejects_uri else []
    await files.let_go_of_keys(session, scope, keys)
    await repository.delete_uploads(session, scope, row.id)
    await share.release(session, scope, HeldKind.upload, row.id)
    while await repository.clear(session, scope, row.id):
        pass
    row.state, row.counts, row.problem, row.rejects_uri = DatasetState.empty, {}, None, None
    row.findings = None
    return keys


async def take(session: AsyncSession, scope: TenantScope, actor_key_id: UUID, dataset_id: UUID) -> Dataset:
    """The rows of a file that was only checked so far. Raises: DatasetBusy, NotFound, NothingToTake."""
    dataset = await settled(session, scope, dataset_id)
    upload = await repository.upload(session, scope, dataset_id)
    if dataset.state is not DatasetState.empty or upload is None or upload.completed_at is None:
        raise NothingToTake(f"the dataset is {dataset.state.value}; send a file with `?check=true` first")
    if not upload.key:
        raise NothingToTake(
            "the file is no longer kept, as the tenant's `keep_files_days` says or because somebody was to be "
            "forgotten; send it again"
        )
    upload.check_only = False
    dataset.state = DatasetState.uploaded
    await jobs.enqueue(session, scope, JobKind.validate_dataset, dataset_id)
    act = Act("dataset.taken", f"dataset:{dataset_id}", {"sha256": upload.sha256})
    audit.record(session, actor_key_id, scope.tenant_id, act)
    await session.flush()
    return dataset


async def shortfall(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, version: SchemaVersion
) -> list[str]:
    """What is missing to train and to judge, one sentence each; empty: a run can begin. Raises: NotFound."""
    row = await get(session, scope, dataset_id)
    if row.schema_id != version.schema_id:
        return ["the dataset belongs to another schema"]
    if row.state is not DatasetState.ready:
        return [f"the dataset is {row.state.value}, not ready"]
    schema = schemas.content_of(version)
    if len(schema.answers) < 2:
        return ["the schema version has one category and no none-of-these: there is nothing to decide"]
    have = counts.from_stored(row.counts)
    missing = list(too_few(have.labels(schema.answers)))
    unknown = sorted({c.category or "none of these" for c in have.cells if _is_strange(c, schema)})
    if missing and unknown:
        missing.append(
            f"labels that this schema version does not have are not counted: {', '.join(unknown[:8])}"
        )
    return missing


def _is_strange(cell: Cell, schema: CategorySchema) -> bool:
    return cell.labelled and cell.category not in schema.answers


async def freeze(
    session: AsyncSession, storage: Storage, scope: TenantScope, dataset_id: UUID, version: SchemaVersion
) -> FrozenDataset:
    """Equal labelled conversations give equal bytes, and so the same key. Raises: DatasetBusy, NotFound."""
    row = await settled(session, scope, dataset_id)  # the lock: groups must not move between splits meanwhile
    answers = schemas.content_of(version).answers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.jsonl"
        with path.open("wb") as file:
            writer = _Writer(file)
            async for sealed in repository.all_labelled(session, scope, row.id):
                writer.write(sealed, known=sealed.category in answers)
        snapshot = writer.snapshot(scope)
        made = NewFile(snapshot.key, FileKind.snapshot, MadeFrom(dataset_id=row.id))
        await put_within(session, storage, scope, path, made)
    return snapshot


async def held_out(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> list[Conversation]:
    """Those that are never learned from, with the labels that they have by now."""
    rows = await repository.held_out(session, scope, dataset_id, MOST_HELD_OUT)
    return [_conversation(one) for one in rows]


def _conversation(held: HeldOut) -> Conversation:
    row = held.conversation
    said: dict[str, Any] = {"id": row.external_id, "messages": row.messages, "split": row.split}
    label = {"category": held.category, "criterion": held.criterion} if held.labelled else {}
    return Conversation.model_validate(said | label)


class _Writer:
    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()
        self._counts: Counter[Cell] = Counter()
        self._left_out = 0

    def write(self, sealed: Sealed, known: bool) -> None:
        if not known:
            self._left_out += 1
            return
        line = _canonical(sealed)
        self._file.write(line)
        self._digest.update(line)
        self._counts[Cell(sealed.conversation.split, True, sealed.category)] += 1

    def snapshot(self, scope: TenantScope) -> FrozenDataset:
        sha256 = self._digest.hexdigest()
        key = f"tenants/{scope.tenant_id}/snapshots/{sha256}.jsonl"
        return FrozenDataset(key, sha256, dict(self._counts), self._left_out)


def _canonical(sealed: Sealed) -> bytes:
    row = sealed.conversation
    shown: dict[str, Any] = {
        "id": row.external_id,
        "messages": [{"role": m["role"], "text": m["text"]} for m in row.messages],
        "category": sealed.category,
        "split": row.split.value,
    }
    if sealed.criterion is not None:
        shown["criterion"] = sealed.criterion
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
