"""The job that measures a gate on the serving vLLM, and the sweep that sees to it that every model has one.

The same code as the main job on files: suite, predictor, report and policy. What differs is where the models are: a
replica of the service answers, with the candidate's adapters loaded beside those of everybody else.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from app.datasets import service as datasets
from app.errors import InputError, Unavailable
from app.gates import evaluation, repository, service, suites
from app.gates import material as gate_material
from app.gates.confidence import Fitted
from app.gates.evaluation import GateEvaluation, LabelFreeEvaluation
from app.gates.material import Material, Room
from app.gates.repository import Pair
from app.gates.service import GateDecision
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.files import repository as files
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.tables.files import FileKind
from app.infra.tables.gates import GateResult
from app.infra.tables.jobs import JobKind
from app.infra.tables.runs import ModelVersion, Run
from app.jobs.context import JobContext
from app.jobs.ends import JobOutcome
from app.jobs.handlers import register, register_sweep
from app.jobs.sweeping import each
from app.runs import artifacts
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.serving.adapter_store import fetch_for_serving
from app.serving.base import codes_for, context_of, served_base, token_counter
from app.serving.replica import Replica
from app.serving.replicas import opened, while_serving
from app.serving.vllm import BASE_NAME
from app.settings import Settings
from app.tenants import service as tenants
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.gating import label_free
from evaluation.gating.label_free import LabelFree, LabelFreeRun
from evaluation.gating.policy import load_policy
from evaluation.inference.predictor import Codes
from evaluation.inference.stage_client import ServedStage
from evaluation.metrics import out_of_distribution
from evaluation.reporting.assembly import LIVE
from evaluation.reporting.report import Check, Report, Verdict

AT_ONCE = 50
LAST_ONLY = "candidate"
LABEL_FREE_SHARE = 0.25  # of the benchmark's requests
OTHER_VERSION = "the labels of the run are of another schema version"


class GateWork(NamedTuple):
    """threshold: below which the tenant's answers abstain. live: what answers the tenant now, if another model does.

    held_out_now: of the run's dataset, with the labels of today. began_at: by the database's clock, before
    any of it was read.
    """

    gate: GateResult
    model: ModelVersion
    live: ModelVersion | None
    run: Run
    schema: CategorySchema
    threshold: float | None
    held_out_now: list[Conversation]
    began_at: datetime

    @property
    def of_own_version(self) -> bool:
        return self.gate.schema_version_id == self.model.schema_version_id

    @property
    def made_from(self) -> MadeFrom:
        """The dataset, as it was when the job began."""
        return MadeFrom(dataset_id=self.run.dataset_id, read_at=self.began_at)


class Candidate(NamedTuple):
    """A stage's adapter as it lies on this machine, where the model server can read it, and under `key` in the storage,
    from where the model server takes it where it shares no disk with us."""

    stage: str
    sha256: str
    folder: Path
    key: str


class PreparedGate(NamedTuple):
    codes: Codes
    material: Material
    candidates: list[Candidate]


class Steps:
    """The evaluation's progress as the job's: questions answered of those that are to be asked, as far as is known.

    A stage that has not begun will be asked as many as another, and all of them more where the verdict stays open.
    """

    def __init__(self, context: JobContext, stages: int):
        self._context, self._stages = context, stages
        self._seen: dict[str, tuple[int, int]] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        self._seen[what] = (done, max(done, total))
        message = f"evaluate {what}{': done' if done == total else ''}"
        totals = [total for _, total in self._seen.values()]
        waiting = max(0, self._stages - len(totals)) * max(totals, default=0)
        self._context.progress(sum(done for done, _ in self._seen.values()), sum(totals) + waiting, message)


async def measure(context: JobContext) -> JobOutcome:
    async with opened(context.settings) as replicas:
        replica = await replicas.roomiest()  # before anything else: without one the job waits
        work = await _begin(context)
        context.progress(0, None, "preparing")
        prepared = await context.in_thread(_prepare, context, work)
        decision = await _decide(context, work, prepared, replica)
    result = {"verdict": decision.verdict.value, "reasons": decision.reasons}
    apply = partial(service.decide, scope=context.scope, gate_id=work.gate.id, decision=decision)
    return JobOutcome(result, apply=apply)


async def _begin(context: JobContext) -> GateWork:
    scope = context.scope
    async with context.transaction() as session:
        gate = await service.begin(session, scope, context.job.subject_id)
        model = await repository.model(session, scope, gate.model_version_id)
        version = await schema_repository.version_by_id(session, scope, gate.schema_version_id)
        assert model is not None and version is not None  # foreign keys, and nobody removes them
        run = await repository.run(session, scope, model.run_id)
        if await files.is_being_changed(session, scope, run.snapshot_key):
            raise Unavailable(
                "a conversation that was deleted is being taken out of the run's frozen dataset"
            )
        live = await repository.live_model(session, scope, version.schema_id)
        threshold = (await tenants.get(session, scope)).abstain_below
        held_out = await datasets.held_out(session, scope, run.dataset_id)
    comparable = live and live.id != model.id and live.base_sha256 == model.base_sha256
    schema, live = schemas.content_of(version), live if comparable else None
    assert context.job.started_at is not None  # it was claimed
    return GateWork(gate, model, live, run, schema, threshold, held_out, context.job.started_at)


# ----------------------------------------------------------------------------------------------------- in a thread


def _prepare(context: JobContext, work: GateWork) -> PreparedGate:
    """Raises: AdapterRefused, Damaged, InputError, SnapshotBroken."""
    base = served_base(context.settings, work.model)
    codes = codes_for(base.folder, work.schema, *(schema for schema, _ in out_of_distribution.shipped()))
    local = context.workdir / "snapshot.jsonl"
    artifacts.fetch_file(context.storage, work.run.snapshot_key, work.run.snapshot_sha256, local)
    room = Room(codes.texts, token_counter(base.folder), context_of(base.folder, context.settings))
    material = gate_material.read(local, work.schema, room, work.held_out_now)
    return PreparedGate(codes, material, _candidates(context, work))


def _candidates(context: JobContext, work: GateWork) -> list[Candidate]:
    """Every stage under the version that the model was trained for, so that the report compares them. The judged one
    comes last."""
    model = work.model
    stages = [stage for stage in model.stages if stage.get("adapter_key")] if work.of_own_version else []
    named = [(stage["kind"], stage["adapter_key"], stage["sha256"]) for stage in stages]
    if not named or named[-1][2] != model.adapter_sha256:
        last = model.stages[-1]["kind"] if model.stages else LAST_ONLY
        named.append((last, model.adapter_key, model.adapter_sha256))
    if work.live is not None:
        named.insert(0, (LIVE, work.live.adapter_key, work.live.adapter_sha256))
    fetch = partial(fetch_for_serving, context.storage, context.settings)
    return [Candidate(kind, sha256, fetch(key, sha256), key) for kind, key, sha256 in named]


# ------------------------------------------------------------------------------------------------- the evaluation


async def _decide(
    context: JobContext, work: GateWork, prepared: PreparedGate, replica: Replica
) -> GateDecision:
    """Raises: ServingAway, ServingError, ServingFull."""
    if len(work.schema.answers) < 2:
        return _nothing(work, ["the schema version allows one answer only: there is nothing to decide"])
    material = prepared.material
    try:
        settings, local = gate_material.benchmark_of(work.run), context.workdir / "suite.json"
        suite = await context.in_thread(
            suites.stored, context.files, work.made_from, material.inputs, settings, local
        )
    except InputError as error:
        found = await _without_labels(context, work, prepared, replica)
        return _nothing(work, [str(error), *material.left_out], found)
    for one in prepared.candidates:
        await replica.load(one.folder, one.sha256, one.key)
    served = [ServedStage("base", BASE_NAME, work.model.base_sha256)]
    served += [ServedStage(one.stage, one.sha256, one.sha256, one.folder) for one in prepared.candidates]
    kept = context.workdir / "benchmark"
    auxiliary_suites = evaluation.auxiliary_suites_of(suite, material.inputs, settings)
    asked = GateEvaluation(
        material.inputs,
        suite,
        auxiliary_suites,
        load_policy(),
        prepared.codes,
        kept,
        None if work.of_own_version else OTHER_VERSION,
        work.threshold,
        work.gate.mode,
        context.scope.cache_salt,
    )
    steps = Steps(context, len(served))
    evaluating = evaluation.evaluate(asked, replica.endpoint, served, context.settings, steps)
    report = await while_serving(replica, [one.sha256 for one in prepared.candidates], evaluating)
    assert report.gate is not None
    found = None
    if report.gate.verdict is Verdict.incomplete:
        found = await _without_labels(context, work, prepared, replica, report.gate.checks)
    return await _stored(context, work, _told(report, material, found), found)


async def _without_labels(
    context: JobContext,
    work: GateWork,
    prepared: PreparedGate,
    replica: Replica,
    checks: Sequence[Check] = (),
) -> LabelFree | None:
    """What needs no labels, and which of them are missing; None where they are not what is missing.

    checks: of an incomplete gate.
    """
    material, settings = prepared.material, gate_material.benchmark_of(work.run)
    held_out = [*material.inputs.splits[Split.test], *material.unlabelled]
    needed = label_free.needed(load_policy(), checks)
    if not material.unlabelled or len(material.inputs.splits[Split.test]) >= needed:
        return None
    last = prepared.candidates[-1]
    await replica.load(last.folder, last.sha256, last.key)
    run = LabelFreeRun(
        work.schema,
        held_out,
        needed,
        seed=settings.seed,
        max_items=int(settings.max_items * LABEL_FREE_SHARE),
    )
    asked = LabelFreeEvaluation(
        run,
        prepared.codes,
        context.workdir / "label-free",
        work.gate.mode,
        ServedStage(last.stage, last.sha256, last.sha256, last.folder),
        context.scope.cache_salt,
    )
    asking = evaluation.evaluate_without_labels(asked, replica.endpoint, context.settings, Steps(context, 1))
    return await while_serving(replica, [last.sha256], asking)


def _nothing(work: GateWork, reasons: Sequence[str], found: LabelFree | None = None) -> GateDecision:
    told = [] if found is None else label_free.reasons(found)
    return GateDecision(
        Verdict.incomplete, [*reasons, *told], work.gate.policy_sha256, None, label_free=found
    )


def _told(report: Report, material: Material, found: LabelFree | None) -> Report:
    """An incomplete gate says which conversations it could not use, and which labels it lacks."""
    assert report.gate is not None
    more = [*material.left_out, *([] if found is None else label_free.reasons(found))]
    if report.gate.verdict is not Verdict.incomplete or not more:
        return report
    reasons = [*report.gate.reasons, *more]
    return report.model_copy(update={"gate": report.gate.model_copy(update={"reasons": reasons})})


async def _stored(
    context: JobContext, work: GateWork, report: Report, label_free_found: LabelFree | None
) -> GateDecision:
    """Under the epoch too: an attempt that has lost its job writes over nobody's report."""
    assert report.gate is not None
    key = f"tenants/{context.scope.tenant_id}/gates/{work.gate.id}/{context.ticket.epoch}/report.json"
    local, page = context.workdir / "report.json", context.workdir / "report.html"
    await context.in_thread(evaluation.write, report, local, page)
    made_from = work.made_from._replace(run_id=work.run.id, gate_id=work.gate.id)
    await context.files.put(page, NewFile(service.page_key(key), FileKind.report, made_from))
    await context.files.put(local, NewFile(key, FileKind.report, made_from))
    gate, found = report.gate, report.stages[-1].auxiliary
    fitted = Fitted.of(found.calibration, found.auto) if found and found.calibration else None
    return GateDecision(gate.verdict, gate.reasons, gate.policy_sha256, key, fitted, label_free_found)


# -------------------------------------------------------------------------------------------------------- the sweep


async def sweep(database: Database, _settings: Settings) -> None:
    """A model version that nobody has asked a gate for gets one on its own schema version."""
    async with transaction(database, read_only=True) as session:
        waiting = await repository.ungated(session, AT_ONCE)
    await each("gates", waiting, partial(_request, database))


async def _request(database: Database, pair: Pair) -> None:
    async with transaction(database, pair.scope) as session:
        await service.request(session, pair.scope, None, pair.model_version_id, pair.schema_version_id)


register(JobKind.gate, measure, service.give_up)
register_sweep("gates", sweep)
