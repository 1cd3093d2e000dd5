"""Decisions about triggers: which there may be, whether one is met, and what follows."""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.datasets import service as datasets
from app.errors import Conflict, InvalidRequest, NameTaken, Problem, existing
from app.infra.db.scope import TenantScope
from app.infra.storage import Storage
from app.infra.tables.runs import Run, RunState
from app.infra.tables.triggers import Trigger, TriggerOutcome
from app.jobs.priority import Priority
from app.runs import requests
from app.runs import service as runs
from app.runs.kinds import ENDED
from app.runs.presets import Preset
from app.runs.requests import RunRequest
from app.runs.service import Cause
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.settings import Settings
from app.tenants import repository as tenants
from app.triggers import repository, rules
from app.triggers.conditions import Finding, Held, Limits, Started, TriggerEvidence, evaluate, held
from app.triggers.periods import ComparedTotals, periods
from app.triggers.repository import RunOfSchema
from app.triggers.rules import (
    Comparing,
    CorrectionsRule,
    DriftRule,
    FailedEditRule,
    LabelMassRule,
    NoneRateRule,
    Rule,
    ScheduleRule,
)
from app.triggers.simulation import CountedAnswers, LabelGiven, PublishedEdit, RunBegun, TriggerHistory

MOST = 50
BY_HAND = "somebody started it by hand"


class TooManyTriggers(Conflict):
    """The tenant has as many triggers as it may have; delete one that is not needed."""

    code = "too_many_triggers"


class TriggerHeldBack(Conflict):
    """It may not start now: its cool-down, its budget, a run that has not ended, or nothing new to learn."""

    code = "trigger_held_back"


class CheckedTrigger(NamedTuple):
    """A trigger that was checked, and what was found. trigger: as it was claimed."""

    trigger: Trigger
    finding: Finding


async def create(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, values: dict[str, Any]
) -> Trigger:
    """values: columns. Raises: InvalidRequest, NameTaken, NotFound, TooManyTriggers."""
    await check_pair(session, scope, values["schema_id"], values["dataset_id"])
    await tenants.lock(session, scope)  # so that two requests do not both make the last one
    if await repository.count(session, scope) >= MOST:
        raise TooManyTriggers(f"the tenant has {MOST} triggers, and more are not taken")
    now = await repository.clock(session)
    row = Trigger(
        tenant_id=scope.tenant_id, created_by=actor_key_id, counts_from=now, next_check_at=now, **values
    )
    session.add(row)
    await _flush(session, row.name)
    detail = {"name": row.name, "kind": row.kind.value, "schema_id": str(row.schema_id)}
    audit.record(session, actor_key_id, scope.tenant_id, Act("trigger.created", f"trigger:{row.id}", detail))
    return row


async def get(session: AsyncSession, scope: TenantScope, trigger_id: UUID, *, lock: bool = False) -> Trigger:
    """Raises: NotFound."""
    return existing(await repository.get(session, scope, trigger_id, lock=lock), "trigger")


async def change(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, trigger_id: UUID, values: dict[str, Any]
) -> Trigger:
    """values: columns to change. A schedule counts anew from now, as does one that is resumed.

    Raises: NameTaken, NotFound.
    """
    row = await get(session, scope, trigger_id, lock=True)
    now = await repository.clock(session)
    if "rule" in values or (row.paused and values.get("paused") is False):
        row.counts_from = now
    for name, value in values.items():
        setattr(row, name, value)
    row.next_check_at, row.checks = now, row.checks + 1  # a check that is under way judges by the old rule
    await _flush(session, row.name)
    detail = {name: str(value) for name, value in values.items() if name != "rule"}
    act = Act(
        "trigger.changed", f"trigger:{row.id}", detail | ({"rule": row.rule} if "rule" in values else {})
    )
    audit.record(session, actor_key_id, scope.tenant_id, act)
    return row


async def remove(session: AsyncSession, scope: TenantScope, actor_key_id: UUID, trigger_id: UUID) -> None:
    """Runs that it started stay. Raises: NotFound."""
    row = await get(session, scope, trigger_id, lock=True)
    await session.delete(row)
    await session.flush()
    act = Act("trigger.deleted", f"trigger:{trigger_id}", {"name": row.name})
    audit.record(session, actor_key_id, scope.tenant_id, act)


async def check_pair(session: AsyncSession, scope: TenantScope, schema_id: UUID, dataset_id: UUID) -> None:
    """Raises: InvalidRequest, NotFound."""
    await schemas.get(session, scope, schema_id)
    if (await datasets.get(session, scope, dataset_id)).schema_id != schema_id:
        problem = Problem("body.dataset_id", "is a dataset of another schema")
        raise InvalidRequest(f"{problem.where} {problem.message}", problems=[problem])


async def _flush(session: AsyncSession, name: str) -> None:
    try:
        await session.flush()
    except IntegrityError:
        raise NameTaken(f"another trigger is named {name!r}") from None


# --------------------------------------------------------------------------------------------------------- checking


async def check(session: AsyncSession, scope: TenantScope, row: Trigger) -> Finding:
    """What is known now, judged by its rule."""
    assert row.checked_at is not None  # by whoever has claimed it
    rule = rules.read(row.rule)
    return evaluate(rule, await _evidence(session, scope, row, rule, row.checked_at))


async def _evidence(
    session: AsyncSession, scope: TenantScope, row: Trigger, rule: Rule, at: datetime
) -> TriggerEvidence:
    known = TriggerEvidence(at, row.counts_from)
    match rule:
        case CorrectionsRule():
            inside, elsewhere = await _corrections(session, scope, row)
            return known._replace(corrections=inside, elsewhere=elsewhere)
        case FailedEditRule():
            edit = await repository.failed_current_edit(session, scope, row.schema_id)
            return known._replace(failed_edit=edit)
        case DriftRule() | NoneRateRule() | LabelMassRule():
            return known._replace(compared=await _compared(session, scope, row, rule, at))
        case _:
            return known


async def _corrections(session: AsyncSession, scope: TenantScope, row: Trigger) -> tuple[int, int]:
    """In the trigger's dataset, and in others of the schema."""
    found = await repository.runs(session, scope, row.schema_id)
    since = max(
        (run.created_at for run in found if run.dataset_id == row.dataset_id and _learns(run)), default=None
    )
    counted = await repository.corrections(session, scope, row.schema_id, row.dataset_id, since)
    return counted.get(True, 0), counted.get(False, 0)


async def _compared(
    session: AsyncSession, scope: TenantScope, row: Trigger, rule: Comparing, at: datetime
) -> ComparedTotals | str:
    pair = await repository.answering(session, scope, row.schema_id)
    hours = [] if pair is None else await repository.hours(session, scope, pair)
    found = periods(hours, at, rule.window_h, rule.min_answers)
    if pair is None or isinstance(found, str):
        return found if isinstance(found, str) else ""
    return ComparedTotals(*[await repository.totals(session, scope, pair, period) for period in found])


# -------------------------------------------------------------------------------------------------------- what follows


async def note(
    session: AsyncSession, scope: TenantScope, checked: CheckedTrigger, outcome: TriggerOutcome, why: str
) -> None:
    """What the check came to, unless the trigger was changed or checked since."""
    row, finding = checked
    values: dict[str, Any] = {"outcome": outcome, "reason": finding.reason, "figures": finding.figures}
    if outcome in (TriggerOutcome.held_back, TriggerOutcome.refused):
        values |= {
            "held_at": row.checked_at,
            "held_reason": why,
            "reason": f"{finding.reason}; not started: {why}",
        }
        if isinstance(rules.read(row.rule), ScheduleRule):
            values["counts_from"] = row.checked_at  # this time is passed over
    await repository.write(session, scope, row.id, row.checks, values)


async def start(
    session: AsyncSession, storage: Storage, scope: TenantScope, checked: CheckedTrigger, settings: Settings
) -> Run | Held | None:
    """None: the trigger was changed or checked since. What holds it back is not an error.

    Raises: what `runs.create` raises.
    """
    row = await repository.get(session, scope, checked.trigger.id, lock=True)
    if row is None or row.paused or row.checks != checked.trigger.checks:
        return None
    assert row.checked_at is not None
    return await _start(
        session, storage, scope, None, CheckedTrigger(row, checked.finding), row.checked_at, settings
    )


async def start_by_hand(
    session: AsyncSession,
    storage: Storage,
    scope: TenantScope,
    actor_key_id: UUID,
    trigger_id: UUID,
    settings: Settings,
) -> Trigger:
    """Raises: NotFound, TriggerHeldBack, and what `runs.create` raises."""
    row = await get(session, scope, trigger_id, lock=True)
    if row.paused:
        raise TriggerHeldBack("it is paused; resume it first")
    at = await repository.clock(session)
    row.checks += 1
    checked = CheckedTrigger(row, Finding(True, BY_HAND, {}))
    made = await _start(session, storage, scope, actor_key_id, checked, at, settings)
    if isinstance(made, Held):
        raise TriggerHeldBack(f"it may not start now: {made.reason}")
    return row


async def _start(
    session: AsyncSession,
    storage: Storage,
    scope: TenantScope,
    actor_key_id: UUID | None,
    checked: CheckedTrigger,
    at: datetime,
    settings: Settings,
) -> Run | Held:
    """The trigger's row is locked. The tenant's too, from here on: of two triggers that are met at once the second sees
    the run of the first."""
    row, finding = checked
    await tenants.lock(session, scope)
    version = await schema_repository.current(session, scope, row.schema_id)
    version_id = None if version is None else version.version.id
    found = await repository.runs(session, scope, row.schema_id)
    labelled_at = await repository.newest_label_at(session, scope, row.dataset_id)
    limits = Limits(row.cool_down_h, row.budget_window_h, row.budget_runs, row.budget_gpu_s)
    kept = held(limits, at, [_started(run, row, version_id) for run in found], labelled_at)
    if kept is not None:
        return kept
    order = RunRequest(
        schema_id=row.schema_id,
        schema_version=None,
        dataset_id=row.dataset_id,
        preset=Preset(row.preset),
        plan=requests.planned(Preset(row.preset), ()),
        seed=row.seed,
        base=settings.base,
        priority=Priority.low,
    )
    requests.check(order, settings)
    record = record_of(row, finding, at)
    run = await runs.create(session, storage, scope, actor_key_id, order, settings, Cause(row.id, record))
    row.outcome, row.reason, row.figures = TriggerOutcome.started, finding.reason, finding.figures
    row.started_at, row.run_id, row.counts_from = at, run.id, at
    await session.flush()
    act = Act("trigger.started", f"trigger:{row.id}", {"run_id": str(run.id), "reason": finding.reason})
    audit.record(session, actor_key_id, scope.tenant_id, act)
    return run


def record_of(row: Trigger, finding: Finding, at: datetime) -> dict[str, Any]:
    """What the run says of why it began."""
    return {
        "trigger_id": str(row.id),
        "name": row.name,
        "kind": row.kind.value,
        "reason": finding.reason,
        "figures": finding.figures,
        "threshold": finding.threshold,
        "window_h": finding.window_h,
        "rule": row.rule,
        "at": at.astimezone(UTC).isoformat(),
    }


def _started(run: RunOfSchema, row: Trigger, version_id: UUID | None) -> Started:
    same = (run.dataset_id, run.schema_version_id, run.preset) == (row.dataset_id, version_id, row.preset)
    return Started(
        at=run.created_at,
        by_trigger=run.trigger_id == row.id,
        ended=run.state in ENDED,
        learned=same and run.state is RunState.succeeded,
        gpu_s=run.gpu_s,
        id=run.id,
    )


def _learns(run: RunOfSchema) -> bool:
    """It has not failed, and was not cancelled."""
    return run.state not in ENDED or run.state is RunState.succeeded


# ------------------------------------------------------------------------------------------------------ what has been


async def history(
    session: AsyncSession,
    scope: TenantScope,
    schema_id: UUID,
    dataset_id: UUID,
    until: datetime,
    without: UUID | None,
) -> TriggerHistory:
    """What is kept of the schema's past. without: a trigger whose runs are left out."""
    hours = await repository.answer_hours(session, scope, schema_id, until)
    answers = [
        CountedAnswers(
            row.hour,
            f"{row.model_version_id}/{row.schema_version_id}",
            row.outcome,
            row.answers,
            row.masses,
            row.mass_sum,
            row.mass_squares,
        )
        for row in hours
    ]
    labels = [
        LabelGiven(at, str(conversation_id), by_person)
        for at, conversation_id, by_person in await repository.labels(session, scope, dataset_id)
        if at <= until
    ]
    begun = [
        RunBegun(run.created_at, run.gpu_s, _learns(run) and run.dataset_id == dataset_id)
        for run in await repository.runs(session, scope, schema_id)
        if run.created_at <= until and (without is None or run.trigger_id != without)
    ]
    edits = [
        PublishedEdit(at, number) for number, at in await repository.published(session, scope, schema_id)
    ]
    edits += [
        PublishedEdit(edit.failed_at, edit.version, failed=True)
        for edit in await repository.failed_edits(session, scope, schema_id)
    ]
    return TriggerHistory(
        sorted(answers, key=lambda one: (one.at, one.by)),
        labels,
        begun,
        sorted((edit for edit in edits if edit.at <= until), key=lambda edit: edit.at),
    )
