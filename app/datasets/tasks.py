"""The job that makes conversations of an uploaded file. Nothing of it shows before it has been read to its end."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import attributes, findings, repository, service
from app.datasets.conversations import messages_of
from app.datasets.counts import Arrivals, Cell, Counts
from app.datasets.findings import Findings, SeenConversation, SplitPlan
from app.datasets.fingerprint import stored_signature
from app.datasets.placement import stored_bands
from app.datasets.service import Definitions
from app.errors import AppError
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.files import repository as files
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.storage import Storage
from app.infra.tables.datasets import ConversationBand, ConversationRow, DatasetState, Label, LabelSource
from app.infra.tables.files import FileKind
from app.infra.tables.jobs import Job, JobKind
from app.jobs.context import JobContext
from app.jobs.ends import JobOutcome
from app.jobs.handlers import register
from app.tenants import service as tenants
from evaluation.contract import record
from evaluation.contract.record import Reject
from evaluation.formats.incoming import Unreadable
from evaluation.formats.reader import Reader
from evaluation.formats.redaction import Redaction

ROWS_AT_ONCE = 200  # a transaction's; on SQLite nobody else writes meanwhile
_REPORT_EVERY = 100


class Stopped(Exception):
    """The job is to end now."""


class FileNotSeen(AppError):
    """The file was stored by the API, and the worker looks elsewhere."""

    code = "file_not_seen"


class RowProblem(NamedTuple):
    """Why a dataset cannot be used, and what to do."""

    code: str
    message: str


class DatasetWork(NamedTuple):
    """What the job begins with. labels: what they are checked against. check_only: nothing is to be taken.

    redaction: where anything is taken out, the file goes once its rows are taken.
    """

    dataset_id: UUID
    schema_id: UUID
    file: Path
    key: str
    labels: Definitions
    check_only: bool
    redaction: Redaction


class DatasetReading(NamedTuple):
    """spool, rejects: JSONL. good: of each line of the spool, what is kept in memory. problem: why nothing of the file
    is used, if so.
    """

    spool: Path
    rejects: Path
    good: list[SeenConversation]
    plan: SplitPlan
    findings: Findings
    problem: RowProblem | None

    @property
    def rejected(self) -> int:
        return self.plan.arrivals.rejected


async def validate(context: JobContext) -> JobOutcome:
    work = await _begin(context)
    try:
        await context.in_thread(context.storage.get_file, work.key, work.file)
    except FileNotFoundError:
        raise FileNotSeen(
            "the worker does not find the uploaded file in its storage: the API and every worker need the same "
            "STEERWISE_STORAGE_URL, and a folder must be one that all of them see"
        ) from None
    reading = await context.in_thread(_read, context, work)
    rejects_key = await context.in_thread(_keep_rejects, context, work, reading)
    if reading.problem is not None:
        found, state = Counts({}, Arrivals(rejected=reading.rejected)), DatasetState.failed
    elif work.check_only:
        found, state = Counts({}, Arrivals()), DatasetState.empty
    else:
        found, state = await _store(context, work, reading), DatasetState.ready
    redacts = work.redaction is not Redaction.nothing
    gone = work.key if redacts and not work.check_only else None
    end = _End(work.dataset_id, state, found, reading.problem, rejects_key, reading.findings, gone)
    result = {"state": end.state.value, "conversations": found.conversations, "rejected": reading.rejected}
    return JobOutcome(result, apply=partial(_apply, context.scope, context.storage, end))


async def _begin(context: JobContext) -> DatasetWork:
    """An attempt before this one may have stored a part; every attempt begins with nothing."""
    async with context.transaction() as session:
        dataset = await service.get(session, context.scope, context.job.subject_id, lock=True)
        upload = await repository.upload(session, context.scope, dataset.id)
        assert upload is not None and upload.completed_at is not None  # one transaction wrote it and the job
        dataset.state = DatasetState.validating
        labels = await service.definitions(session, context.scope, dataset.schema_id)
        redaction = (await tenants.get(session, context.scope)).incoming_redaction
    gone = 1
    while gone:
        async with context.transaction() as session:
            gone = await repository.clear(session, context.scope, dataset.id)
    file = context.workdir / "upload"
    return DatasetWork(dataset.id, dataset.schema_id, file, upload.key, labels, upload.check_only, redaction)


# ----------------------------------------------------------------------------------------------------- in a thread


def _read(context: JobContext, work: DatasetWork) -> DatasetReading:
    spool, rejects = context.workdir / "spool.jsonl", context.workdir / "rejects.jsonl"
    good: list[SeenConversation] = []
    shown: list[Reject] = []
    rejected, problem = 0, None
    reader = Reader(work.file, work.labels.schema, redaction=work.redaction)
    with spool.open("wb") as spooled, rejects.open("wb") as refused:
        try:
            for one in _reported(context, reader):
                if isinstance(one, Reject):
                    rejected += 1
                    shown += [one] if len(shown) < findings.MAX_REJECTS else []
                    _write(refused, one._asdict())
                else:
                    good.append(findings.seen(one))
                    _write(spooled, one.model_dump(mode="json", exclude_unset=True) | attributes.plain(one))
        except Unreadable as error:
            problem = RowProblem(error.code, f"the file {error}")
    if problem is None and not good:
        reason = "the reject file says why, line by line" if rejected else "it is empty"
        problem = RowProblem("no_conversation", f"the file has no conversation that can be used; {reason}")
    context.progress(0, len(good), "grouping")
    plan = findings.plan(good, rejected)
    told = findings.findings(reader, good, plan, shown, None if problem is None else problem.message)
    return DatasetReading(spool, rejects, good, plan, told, problem)


def _reported(context: JobContext, reader: Reader) -> Iterator[record.Conversation | Reject]:
    for number, one in enumerate(reader):
        if number % _REPORT_EVERY == 0:
            if context.cancelled():
                raise Stopped
            context.progress(*reader.progress, "reading")
        yield one


def _write(file: BinaryIO, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _keep_rejects(context: JobContext, work: DatasetWork, reading: DatasetReading) -> str | None:
    if not reading.rejected:
        return None
    with reading.rejects.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    key = f"tenants/{context.scope.tenant_id}/datasets/{work.dataset_id}/rejects/{sha256}.jsonl"
    made = NewFile(key, FileKind.rejects, MadeFrom(dataset_id=work.dataset_id))
    context.files.put_from_thread(reading.rejects, made)
    return key


# ------------------------------------------------------------------------------------------------ into the database


async def _store(context: JobContext, work: DatasetWork, reading: DatasetReading) -> Counts:
    cells: Counter[Cell] = Counter()
    rows = _rows(work, reading)
    done = 0
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        async with context.transaction() as session:
            await _insert(session, context.scope, batch)
        cells.update(row.cell for row in batch)
        done += len(batch)
        context.progress(done, len(reading.good), "storing")
    return Counts(cells, reading.plan.arrivals)


class _Row(NamedTuple):
    conversation: dict[str, Any]
    bands: list[dict[str, Any]]
    label: dict[str, Any] | None
    cell: Cell


async def _insert(session: AsyncSession, scope: TenantScope, batch: Sequence[_Row]) -> None:
    await repository.insert_rows(session, scope, ConversationRow, [row.conversation for row in batch])
    await repository.insert_rows(session, scope, ConversationBand, [b for row in batch for b in row.bands])
    labels = [row.label for row in batch if row.label is not None]
    await repository.insert_rows(session, scope, Label, labels)


def _rows(work: DatasetWork, reading: DatasetReading) -> Iterator[_Row]:
    """In the order of the file, which lists keep: each a microsecond after the one before it."""
    began, plan = utc_now(), reading.plan
    with reading.spool.open("rb") as lines:
        for number, (line, good) in enumerate(zip(lines, reading.good, strict=True)):
            given = record.Conversation.model_validate_json(line)
            row = {
                "id": uuid4(),
                "dataset_id": work.dataset_id,
                "external_id": given.id,
                "messages": messages_of(given),
                "text_sha256": good.printed.text_sha256,
                "signature": stored_signature(good.printed.signature),
                "group_id": plan.groups[number],
                "split": plan.splits[number],
                "created_at": began + timedelta(microseconds=number),
                **attributes.stored(given),
            }
            whose = {"dataset_id": work.dataset_id, "conversation_id": row["id"]}
            bands = [whose | {"band": band} for band in stored_bands(good.printed)]
            cell = Cell(plan.splits[number], given.labelled, given.category)
            yield _Row(row, bands, _label(work, row, given) if given.labelled else None, cell)


def _label(work: DatasetWork, row: dict[str, Any], given: record.Conversation) -> dict[str, Any]:
    return {
        "conversation_id": row["id"],
        "schema_id": work.schema_id,
        "schema_version_id": work.labels.version_id,
        "category_key": given.category,
        "criterion": given.criterion,
        "source": LabelSource.import_,
        "created_at": row["created_at"],
    }


# --------------------------------------------------------------------------------------------------------- its end


class _End(NamedTuple):
    """file_gone: the key of the file where nothing of it may stay."""

    dataset_id: UUID
    state: DatasetState
    counts: Counts
    problem: RowProblem | None
    rejects_key: str | None
    findings: Findings
    file_gone: str | None


async def _apply(scope: TenantScope, storage: Storage, end: _End, session: AsyncSession) -> None:
    dataset = await service.get(session, scope, end.dataset_id, lock=True)
    dataset.state, dataset.counts, dataset.rejects_uri = end.state, end.counts.stored, end.rejects_key
    dataset.problem = None if end.problem is None else end.problem._asdict()
    dataset.findings = end.findings.model_dump(mode="json")
    if end.file_gone is not None:
        upload = await repository.upload(session, scope, end.dataset_id)
        assert upload is not None  # it was read
        upload.key = ""
        await files.let_go_of_keys(session, scope, [end.file_gone])
        await asyncio.to_thread(storage.delete, end.file_gone)


async def _gave_up(session: AsyncSession, job: Job) -> None:
    """Every attempt failed, or somebody cancelled: our trouble, and the file may be sent again."""
    scope = TenantScope(job.tenant_id)
    dataset = await repository.dataset(session, scope, job.subject_id, lock=True)
    if dataset is None or dataset.state not in service.BUSY:
        return
    code = (job.error or {}).get("code", "cancelled")
    message = "the file could not be checked, and not because of what is in it; upload it again"
    if code == FileNotSeen.code:  # sent again, it would not be seen either
        message = (
            f"{(job.error or {})['message']}. Once whoever runs this has mended that, upload the file again"
        )
    dataset.state, dataset.problem = DatasetState.failed, RowProblem(code, message)._asdict()


register(JobKind.validate_dataset, validate, _gave_up)
