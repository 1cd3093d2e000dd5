"""The job that puts a deployment live, and the sweeps that keep what is live true: adapters loaded, edits decided."""

import asyncio
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog

from app.deployments import editing, repository, service
from app.deployments.repository import LiveModel, Whose
from app.errors import AppError, Conflict, ServingAway, ServingFull, ServingLost
from app.gates import repository as gate_repository
from app.gates import service as gates
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.storage import Storage, open_storage
from app.infra.tables.deployments import DeploymentState
from app.infra.tables.jobs import JobKind
from app.infra.tables.runs import ModelVersion
from app.jobs.context import JobContext
from app.jobs.ends import JobOutcome
from app.jobs.handlers import register, register_sweep
from app.jobs.sweeping import each
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.serving.adapter_store import fetch_for_serving
from app.serving.base import codes_for, misfit, served_base
from app.serving.replica import Replica, is_broken
from app.serving.replicas import ONCE_MORE, opened
from app.settings import Settings
from evaluation.contract.mode import Mode
from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Codes, PredictorError, VllmPredictor

CANARY = conversation_from_text("Hello, I have a question about my order.")
AT_ONCE = 50
RECONCILE_EVERY_S = 5.0
DYING_S = 1.0
SPARE = 3  # places that are kept for a gate, which compares up to three stages
WAIT_FOR_PLACE = timedelta(minutes=15)
_SHA256_LENGTH = 64
log = structlog.get_logger()


class CanaryFailed(AppError):
    """A model server with the new model did not give a valid answer to a plain question."""

    code = "canary_failed"


class NoPlaceLeft(Conflict):
    """The model servers are full of others' models, and stayed so; a deployment does not wait for that for ever."""

    code = "no_place_left"


class DeploymentWork(NamedTuple):
    model: ModelVersion
    schema: CategorySchema
    mode: Mode


class PreparedDeployment(NamedTuple):
    folder: Path
    codes: Codes


# ----------------------------------------------------------------------------------------------------------- the job


async def deploy(context: JobContext) -> JobOutcome:
    """Every replica has the adapter and has answered with it before users see it."""
    work = await _begin(context)
    prepared = await context.in_thread(_prepare, context, work)
    name = work.model.adapter_sha256
    async with opened(context.settings) as replicas:
        present = replicas.present()
        for number, replica in enumerate(present):
            context.progress(number, len(present), "loading")
            await _load(context, replica, prepared.folder, work.model)
            await _try_canary(replica, name, prepared.codes, work)
    apply = partial(service.activate, scope=context.scope, deployment_id=context.job.subject_id)
    return JobOutcome({"replicas": len(present), "adapter": name}, apply=apply)


async def _load(context: JobContext, replica: Replica, folder: Path, model: ModelVersion) -> None:
    """Places may come free: gates give theirs back. Raises: NoPlaceLeft, and what loading raises."""
    try:
        await replica.load(folder, model.adapter_sha256, model.adapter_key)
    except ServingFull as full:
        if utc_now() - context.job.created_at < WAIT_FOR_PLACE:
            raise
        raise NoPlaceLeft(
            f"{full}, and none came free; retire a deployment, or raise STEERWISE_VLLM_MAX_ADAPTERS"
        ) from None


async def _begin(context: JobContext) -> DeploymentWork:
    scope = context.scope
    async with context.transaction() as session:
        row = await service.begin(session, scope, context.job.subject_id)
        model = await gate_repository.model(session, scope, row.model_version_id)
        version = await schema_repository.version_by_id(session, scope, row.schema_version_id)
        assert model is not None and version is not None  # foreign keys, and nobody removes them
        mode = (await gates.result(session, scope, row.gate_result_id)).mode
    return DeploymentWork(model, schemas.content_of(version), mode)


def _prepare(context: JobContext, work: DeploymentWork) -> PreparedDeployment:
    """Raises: AdapterRefused, Damaged, InputError."""
    base = served_base(context.settings, work.model)
    folder = _place(context.storage, context.settings, work.model)
    return PreparedDeployment(folder, codes_for(base.folder, work.schema).beside(folder))


def _place(storage: Storage, settings: Settings, model: ModelVersion) -> Path:
    return fetch_for_serving(storage, settings, model.adapter_key, model.adapter_sha256)


async def _try_canary(replica: Replica, name: str, codes: Codes, work: DeploymentWork) -> None:
    """Raises: CanaryFailed, ServingAway, ServingLost."""
    predictor = VllmPredictor(replica.client, name, codes, sending=ONCE_MORE, mode=work.mode)
    try:
        prediction = await predictor.predict(work.schema, CANARY)
    except PredictorError as error:
        broken = is_broken(error)
        if error.status is None or (broken and not await _stays_well(replica)):
            raise ServingLost("the model server ended under the canary") from error
        if replica.is_to_blame(error, name) and not broken:
            raise ServingAway("a model server did not answer the canary") from error
        raise CanaryFailed(f"a model server refused the canary: {error}") from error
    if prediction.failure is not None:
        raise CanaryFailed(f"the canary's answer has no valid code ({prediction.failure.value})")


async def _stays_well(replica: Replica) -> bool:
    """An engine that is dying answers for a moment more."""
    await asyncio.sleep(DYING_S)
    return await replica.healthy()


# -------------------------------------------------------------------------------------------------- edits of schemas


async def sweep_edits(database: Database, _settings: Settings) -> None:
    async with transaction(database, read_only=True) as session:
        unnoticed = await repository.unnoticed_edits(session, AT_ONCE)
        undecided = await repository.edits_to_decide(session, AT_ONCE)
    await each("edits", unnoticed, partial(_begin_edit, database))
    await each("edits", undecided, partial(_decide_edit, database))


async def _begin_edit(database: Database, deployment: Whose) -> None:
    async with transaction(database, deployment.scope) as session:
        await editing.begin(session, deployment.scope, deployment.id)


async def _decide_edit(database: Database, edit: Whose) -> None:
    async with transaction(database, edit.scope) as session:
        await editing.decide(session, edit.scope, edit.id)


# ------------------------------------------------------------------------------------------------ adapters of vLLMs


class Wanted(NamedTuple):
    """models: that must be there, the live ones first. names: adapters that must stay, those of gates and deployments
    to come too."""

    models: list[ModelVersion]
    names: frozenset[str]


async def reconcile(database: Database, settings: Settings) -> None:
    """A vLLM that was started again has no adapters: it gets those of the live deployments back, and of what those
    may fall back on."""
    if not settings.vllm_urls:
        return
    async with transaction(database, read_only=True) as session:
        live = await repository.wanted_models(session, [DeploymentState.live])
        before = await repository.models_to_fall_back_on(session)
        coming = await repository.wanted_models(session, repository.OPEN)
        judged = await gate_repository.models_in_the_balance(session)
    models = in_turns([*live, *(model for model in before if model not in live)])
    wanted = Wanted(models, frozenset(_names([*models, *coming, *judged])))
    async with opened(settings) as replicas:
        await each("adapters", replicas.all, partial(_mend, settings, wanted))


def in_turns(models: list[ModelVersion]) -> list[ModelVersion]:
    """One of each tenant, then a second of each: where there are fewer places than models, no tenant has them all."""
    seen = Counter[UUID]()
    turns = []
    for model in models:
        turns.append(seen[model.tenant_id])
        seen[model.tenant_id] += 1
    return [model for _, model in sorted(zip(turns, models, strict=True), key=lambda pair: pair[0])]


def _names(models: list[ModelVersion]) -> list[str]:
    stages = [stage["sha256"] for model in models for stage in model.stages if stage.get("adapter_key")]
    return [*stages, *(model.adapter_sha256 for model in models)]


async def _mend(settings: Settings, wanted: Wanted, replica: Replica) -> None:
    there = await replica.adapters()
    missing = [model for model in wanted.models if model.adapter_sha256 not in there]
    await _make_room(replica, there, wanted, settings.vllm_max_adapters - SPARE - len(missing))
    if missing:
        storage = await asyncio.to_thread(open_storage, settings.storage_url)
        await each("adapters", missing, partial(_put_back, settings, storage, replica))


async def _make_room(replica: Replica, there: list[str], wanted: Wanted, most: int) -> None:
    """The oldest that nobody wants go, once room runs short: until then a step back finds its model there."""
    idle = [name for name in there if name not in wanted.names and len(name) == _SHA256_LENGTH]
    for name in idle[: max(0, len(there) - most)]:
        await replica.unload(name)
        log.info("adapter_unloaded", adapter=name, replica=replica.url)


async def _put_back(settings: Settings, storage: Storage, replica: Replica, model: ModelVersion) -> None:
    """Never on another base than the one that it was judged on: its adapter would load, and answer something else."""
    if await asyncio.to_thread(misfit, settings, model) is not None:
        return  # which is told of by `check_fit`
    folder = await asyncio.to_thread(_place, storage, settings, model)
    await replica.load(folder, model.adapter_sha256, model.adapter_key)
    log.info("adapter_loaded", adapter=model.adapter_sha256, replica=replica.url)


# ------------------------------------------------------------------------------------------ what no longer fits here


async def check_fit(database: Database, settings: Settings) -> None:
    """Each live deployment says whether its model may answer on the base that is served now."""
    async with transaction(database, read_only=True) as session:
        live = await repository.live_models(session)
    await each("fit", live, partial(_check_one, database, settings))


async def _check_one(database: Database, settings: Settings, live: LiveModel) -> None:
    problem = await asyncio.to_thread(misfit, settings, live.model)
    if problem == live.row.problem:
        return
    scope = TenantScope(live.row.tenant_id)
    async with transaction(database, scope) as session:
        await service.note_problem(session, scope, live.row.id, problem)
    told = {"deployment": str(live.row.id), "model_version": str(live.model.id)}
    if problem is None:
        log.info("deployment_served_again", **told)
    else:
        log.error("deployment_not_served", **told, reason=problem)


register(JobKind.deploy, deploy, service.give_up)
register_sweep("fit", check_fit, RECONCILE_EVERY_S)
register_sweep("edits", sweep_edits)
register_sweep("adapters", reconcile, RECONCILE_EVERY_S)
