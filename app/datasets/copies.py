"""What a conversation leaves behind elsewhere, for the moment in which it is deleted.

Rows are changed at once, with it. Files are told of in their rows, and go, or lose it, with the next sweep
(`app.erasure.tasks`).
"""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import counts, repository
from app.datasets.service import check_settled
from app.infra.db.scope import TenantScope
from app.infra.files import repository as files
from app.infra.tables.datasets import ConversationRow, Dataset, DatasetState
from app.infra.tables.files import FileKind
from app.infra.tables.runs import Run
from app.infra.tables.tenants import HeldKind
from app.jobs import service as jobs
from app.tenants import share

# Made of a whole dataset, and again where they are missing, but for the file, of which the rows are what counts.
_OF_DATASET = (FileKind.upload, FileKind.suite, FileKind.log, FileKind.teachers_answers)
# Of a run. What goes on being needed goes on without it: its frozen dataset and the reports on its model.
_OF_RUN = (FileKind.traces, FileKind.result, FileKind.checkpoint, FileKind.log)

_COPY = "answer-"


async def lose(
    session: AsyncSession, scope: TenantScope, dataset: Dataset, row: ConversationRow
) -> list[Run]:
    """dataset: locked. Returns the runs that froze it; those that have not ended end. Call before it is deleted."""
    first = await repository.first_label(session, scope, row.id)
    runs = await repository.runs_made_with(session, scope, row, first)
    for run in runs:
        await jobs.lock_open_of_run(session, scope, run.id)
    await repository.lose_rows(session, scope, dataset.id, runs)
    for run in runs:
        await jobs.request_cancel_of_run(session, scope, run.id)  # `app.runs.service.end_badly` says why
    ids = [run.id for run in runs]
    await jobs.forget_words(session, scope, ids)
    for run in runs:
        run.error = None if run.error is None else run.error | {"details": []}
    await files.let_go_of_runs(session, scope, ids, _OF_RUN)
    await _lose_file(session, scope, dataset)
    await files.let_go_of_dataset(session, scope, dataset.id, _OF_DATASET)
    snapshots = {run.snapshot_key for run in runs}
    await files.take_out(session, scope, dataset.id, row.external_id, snapshots)
    if (answer_id := copied_answer(row.external_id)) is not None:
        size = await repository.forget_answer(session, scope, answer_id)
        await share.give_back(session, scope, HeldKind.answers, scope.tenant_id, size)
    return runs


def id_of_copy(answer_id: UUID) -> str:
    """In a dataset, of the conversation of a kept answer."""
    return f"{_COPY}{answer_id}"


def copied_answer(external_id: str) -> UUID | None:
    """The kept answer whose conversation has this id in a dataset, if it is such a one."""
    try:
        return UUID(external_id.removeprefix(_COPY)) if external_id.startswith(_COPY) else None
    except ValueError:
        return None


async def lose_unread(session: AsyncSession, scope: TenantScope) -> None:
    """Of all the tenant's datasets, the files that hold what became no row: nobody knows of whom they speak.

    Raises: DatasetBusy where a file is being read, which may become rows of anybody.
    """
    for dataset, upload in await repository.kept_uploads(session, scope):
        check_settled(dataset)
        if dataset.state is not DatasetState.ready or counts.from_stored(dataset.counts).arrivals.rejected:
            upload.key = ""
            await files.let_go_of_dataset(session, scope, dataset.id, (FileKind.upload,))


async def _lose_file(session: AsyncSession, scope: TenantScope, dataset: Dataset) -> None:
    """The file as it came; and of what was found in it, the beginnings of texts."""
    upload = await repository.upload(session, scope, dataset.id)
    if upload is not None:
        upload.key = ""
    if dataset.findings is not None and dataset.findings.get("contradicting"):
        dataset.findings = dataset.findings | {"contradicting": []}
