"""What a fault run reads of the database: as the platform, which sees every tenant."""

from collections import defaultdict
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.faults.history import (
    Claim,
    FoundDataset,
    FoundJob,
    FoundModel,
    FoundRun,
    LiveDeployment,
    LiveLook,
)
from app.infra.tables.datasets import ConversationRow, Dataset, UploadRow
from app.infra.tables.deployments import Deployment, DeploymentState
from app.infra.tables.gates import GateResult
from app.infra.tables.jobs import Job, JobEvent, JobState
from app.infra.tables.runs import ModelVersion, Run
from app.infra.tables.schemas import Schema, SchemaVersion


class CheckedFile(NamedTuple):
    """adapter: its key is that of a folder. sha256: None where any content will do, if only it is there."""

    key: str
    sha256: str | None
    adapter: bool = False


async def claims(session: AsyncSession) -> list[Claim]:
    query = select(Job.id, Job.epoch, Job.owner).where(Job.state == JobState.running)
    return [Claim(str(job_id), epoch, owner) for job_id, epoch, owner in await session.execute(query)]


async def live(session: AsyncSession, base_sha256: str) -> list[LiveLook]:
    """Of every schema."""
    schemas = await session.scalars(select(Schema.id))
    of_schema: dict[UUID, list[LiveDeployment]] = {schema_id: [] for schema_id in schemas}
    query = (
        select(Deployment, GateResult.verdict, ModelVersion.base_sha256)
        .join(GateResult, GateResult.id == Deployment.gate_result_id)
        .join(ModelVersion, ModelVersion.id == Deployment.model_version_id)
        .where(Deployment.state == DeploymentState.live)
    )
    for row, verdict, base in await session.execute(query):
        told = None if verdict is None else verdict.value
        of_schema[row.schema_id].append(LiveDeployment(str(row.id), told, base == base_sha256))
    return [LiveLook(str(schema_id), tuple(found)) for schema_id, found in of_schema.items()]


async def datasets(session: AsyncSession) -> dict[str, FoundDataset]:
    counted = select(ConversationRow.dataset_id, func.count()).group_by(ConversationRow.dataset_id)
    rows = {row[0]: row[1] for row in await session.execute(counted)}
    hashes = {upload.dataset_id: upload.sha256 for upload in await session.scalars(select(UploadRow))}
    return {
        str(one.id): FoundDataset(one.state.value, hashes.get(one.id), rows.get(one.id, 0))
        for one in await session.scalars(select(Dataset))
    }


async def versions(session: AsyncSession) -> dict[tuple[str, int], str]:
    found = await session.scalars(select(SchemaVersion))
    return {(str(one.schema_id), one.number): one.content["categories"][0]["definition"] for one in found}


async def runs(session: AsyncSession) -> list[FoundRun]:
    found = await session.scalars(select(Run))
    return [
        FoundRun(str(one.id), one.seed, one.state.value, str(one.error) if one.error else None)
        for one in found
    ]


async def jobs(session: AsyncSession) -> list[FoundJob]:
    events: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in await session.scalars(select(JobEvent).order_by(JobEvent.id)):
        events[row.job_id].append(row.event)
    return [
        FoundJob(
            str(one.id),
            one.kind.value,
            None if one.run_id is None else str(one.run_id),
            str(one.subject_id),
            one.state.value,
            one.epoch,
            events[one.id],
        )
        for one in await session.scalars(select(Job))
    ]


async def models(session: AsyncSession) -> list[FoundModel]:
    found = await session.scalars(select(ModelVersion))
    return [
        FoundModel(str(one.id), str(one.run_id), {stage["kind"]: stage["sha256"] for stage in one.stages})
        for one in found
    ]


async def gates(session: AsyncSession) -> dict[str, str]:
    return {str(one.id): one.state.value for one in await session.scalars(select(GateResult))}


async def deployments(session: AsyncSession) -> dict[str, str]:
    return {str(one.id): one.state.value for one in await session.scalars(select(Deployment))}


async def files(session: AsyncSession) -> list[CheckedFile]:
    """Everything that a row names together with its hash, and the reports of gates."""
    found = [
        CheckedFile(upload.key, upload.sha256)
        for upload in await session.scalars(select(UploadRow))
        if upload.sha256 is not None and upload.encoding is None
    ]
    found += [
        CheckedFile(run.snapshot_key, run.snapshot_sha256) for run in await session.scalars(select(Run))
    ]
    for model in await session.scalars(select(ModelVersion)):
        for stage in model.stages:
            adapter = stage["adapter_key"] is not None
            found.append(CheckedFile(stage["artifact_key"], stage["sha256"], adapter))
    reports = await session.scalars(select(GateResult.report_key).where(GateResult.report_key.is_not(None)))
    return [*found, *(CheckedFile(key, None) for key in reports if key is not None)]
