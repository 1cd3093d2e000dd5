"""The sweep that checks triggers and starts what is met, and the one that forgets counts whose time is over.

A check is claimed in SQL, and what comes of it is written only if there has been no other since: two dispatchers check
in turn, and start once.
"""

import asyncio
from datetime import timedelta
from functools import partial

import structlog

from app.errors import AppError
from app.infra import metrics, outage
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.storage import open_storage
from app.infra.tables.triggers import TriggerKind, TriggerOutcome
from app.jobs.handlers import register_sweep
from app.jobs.sweeping import each
from app.settings import Settings
from app.triggers import repository, service
from app.triggers.conditions import Held
from app.triggers.repository import DueTrigger
from app.triggers.service import CheckedTrigger
from app.usage import repository as usage

EVERY_S = 10.0
LOOK_EVERY_S = 300.0  # at each trigger
_BY_THE_CLOCK_S = 30.0  # for one that has a time
AT_ONCE = 50
COUNTS_EVERY_S = 3600.0
COUNTS_KEPT = timedelta(days=90)
log = structlog.get_logger()


async def sweep(database: Database, settings: Settings) -> None:
    async with transaction(database, read_only=True) as session:
        due = await repository.due(session, AT_ONCE)
    await each("triggers", due, partial(check, database, settings))


async def check(database: Database, settings: Settings, due: DueTrigger) -> None:
    """At one trigger, unless another dispatcher is faster."""
    scope = due.scope
    every_s = _BY_THE_CLOCK_S if due.kind is TriggerKind.schedule else LOOK_EVERY_S
    async with transaction(database, scope) as session:
        trigger = await repository.claim(session, scope, due.id, every_s)
    if trigger is None:
        return
    async with transaction(database, scope, read_only=True) as session:
        checked = CheckedTrigger(trigger, await service.check(session, scope, trigger))
    if checked.finding.met:
        await _start(database, settings, due, checked)
    else:
        await _note(database, due, checked, TriggerOutcome.not_met, "")


async def _start(database: Database, settings: Settings, due: DueTrigger, checked: CheckedTrigger) -> None:
    """What is away is waited for, and tried at the next check; what else keeps a run from beginning is noted."""
    try:
        storage = await asyncio.to_thread(open_storage, settings.storage_url)
        async with transaction(database, due.scope) as session:
            made = await service.start(session, storage, due.scope, checked, settings)
    except AppError as error:
        if outage.passes(error):
            raise
        details = "; ".join([str(error), *error.details])
        await _note(database, due, checked, TriggerOutcome.refused, details)
        return
    if isinstance(made, Held):
        await _note(database, due, checked, TriggerOutcome.held_back, made.reason)
    elif made is not None:
        metrics.TRIGGERS.labels(checked.trigger.kind.value, TriggerOutcome.started.value).inc()
        log.info(
            "trigger_started", trigger_id=str(due.id), run_id=str(made.id), reason=checked.finding.reason
        )


async def _note(
    database: Database, due: DueTrigger, checked: CheckedTrigger, outcome: TriggerOutcome, why: str
) -> None:
    async with transaction(database, due.scope) as session:
        await service.note(session, due.scope, checked, outcome, why)
    metrics.TRIGGERS.labels(checked.trigger.kind.value, outcome.value).inc()


async def forget(database: Database, _settings: Settings) -> None:
    async with transaction(database) as session:
        await usage.forget_answers(session, utc_now() - COUNTS_KEPT)


register_sweep("triggers", sweep, EVERY_S)
register_sweep("answer counts", forget, COUNTS_EVERY_S)
