"""What a tenant may still spend with the installation's teachers.

A run is granted an amount when its traces begin, and what it spends is written as it goes. What other runs were
granted and may still spend counts as spent, so that several at once do not pass the budget together.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Refused, Unavailable
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.jobs.lease import Event
from app.runs import repository
from app.runs.teachers import installed, named
from app.settings import Settings
from app.tenants import repository as tenants
from training.config import Traces
from training.protocol import COSTS


class TeacherBudgetSpent(Refused):
    """The tenant has spent what it may spend with this teacher in a month; another teacher, or the next month."""

    code = "teacher_budget_spent"
    status = 429

    def __init__(self, name: str):
        now = utc_now()
        wait_s = int((_next_month(now) - now).total_seconds()) + 1
        message = f"the tenant has spent its budget of this month with the teacher {name}"
        super().__init__(message, headers={"Retry-After": str(wait_s)})


async def check(session: AsyncSession, scope: TenantScope, stage: Traces, settings: Settings) -> None:
    """Before a run is taken. Raises: TeacherBudgetSpent."""
    month = _month(utc_now())
    for name, budget in _budgets(stage, settings).items():
        if await repository.teacher_usd(session, scope, name, month, open_as_granted=False) >= budget:
            raise TeacherBudgetSpent(name)


async def grant(
    session: AsyncSession, scope: TenantScope, run_id: UUID, stage: Traces, settings: Settings
) -> dict[str, float]:
    """What each of its teachers may cost the run from now on. Raises: TeacherBudgetSpent, Unavailable."""
    budgets = _budgets(stage, settings)
    if budgets:
        await tenants.lock(session, scope)
    month, granted = _month(utc_now()), {}
    for name, budget in budgets.items():
        own = await repository.spending(session, scope, run_id, name)
        others = await repository.teacher_usd(session, scope, name, month, but_for=run_id)
        spent = own.spent_usd if own is not None and own.month == month else 0.0
        left = budget - others - spent
        if left <= 0:
            certain = await repository.teacher_usd(session, scope, name, month, open_as_granted=False)
            if certain >= budget:
                raise TeacherBudgetSpent(name)
            raise Unavailable(
                f"what is left with the teacher {name} was granted to another run, which has not ended"
            )
        granted[name] = left if stage.max_usd is None else min(left, stage.max_usd)
        await repository.set_grant(session, scope, run_id, name, month, spent + granted[name])
    return granted


class Costs:
    """What a run's teachers have cost: what the stage's process said last, on top of what was written before it began.

    Called from the thread that follows the process.
    """

    def __init__(self, before: Mapping[str, float]):
        self._before = before
        self.usd: dict[str, float] = {}

    def heard(self, event: Event) -> None:
        for metric, usd in event.items():
            if metric.startswith(COSTS):
                name = metric.removeprefix(COSTS)
                self.usd[name] = usd + self._before.get(name, 0.0)


def _budgets(stage: Traces, settings: Settings) -> dict[str, float]:
    found = {teacher.name: installed(teacher.name, settings).tenant_usd_per_month for teacher in named(stage)}
    return {name: budget for name, budget in found.items() if budget is not None}


def _month(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)


def _next_month(at: datetime) -> datetime:
    first = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
