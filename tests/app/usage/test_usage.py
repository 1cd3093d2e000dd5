"""Use is counted for each tenant and day, in batches, and nothing of it is lost where the process ends in order."""

from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.records import AnswerHour, UsageDay
from app.usage import repository
from app.usage.repository import Use
from app.usage.service import AnswerOf, Meter, metering, outcome_of
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def stored(database: Database, scope: TenantScope) -> list[tuple[int, int, int]]:
    async with transaction(database, scope) as session:
        rows = await session.scalars(select(UsageDay).order_by(UsageDay.day))
        return [(row.requests, row.prompt_tokens, row.completion_tokens) for row in rows]


async def test_counts_of_a_day_are_added_up_for_each_tenant(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    meter = Meter(database)
    meter.count(scope, 100, 7)
    meter.count(other_scope, 1, 1)
    await meter.flush()
    meter.count(scope, 50, 3)
    meter.count(scope, None, None)
    await meter.flush()
    await meter.flush()
    assert await stored(database, scope) == [(3, 150, 10)]
    assert await stored(database, other_scope) == [(1, 1, 1)]


async def test_what_could_not_be_stored_is_stored_later(database: Database, scope: TenantScope) -> None:
    unknown = TenantScope(scope.tenant_id.__class__(int=1))
    meter = Meter(database)
    meter.count(scope, 10, 1)
    meter.count(unknown, 10, 1)  # there is no such tenant, so the whole flush fails
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await meter.flush()
    assert await stored(database, scope) == []
    for counts in (meter._requests, meter._prompt, meter._completion):
        for day in [day for day in counts if day.tenant_id == unknown.tenant_id]:
            del counts[day]
    meter.count(scope, 10, 1)
    await meter.flush()
    assert await stored(database, scope) == [(2, 20, 2)]


async def test_answers_are_counted_by_what_they_were_and_added_to_what_others_have_counted(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    def by(whose: TenantScope) -> AnswerOf:
        return AnswerOf(whose, UUID(int=1), UUID(int=2), UUID(int=3))

    for _ in range(2):  # two processes
        meter = Meter(database)
        for mass in (0.5, 1.0, None):
            meter.answered(by(scope), "refund", mass)
        meter.answered(by(scope), outcome_of(None, abstained=False, failed=False), 0.25)
        meter.answered(by(other_scope), outcome_of("refund", abstained=True, failed=False), None)
        await meter.flush()
        await meter.flush()
    for whose, counted in (
        (scope, {"refund": (6, 4, 3.0, 2.5), "(none)": (2, 2, 0.5, 0.125)}),
        (other_scope, {"(abstained)": (2, 0, 0.0, 0.0)}),
    ):
        async with transaction(database, whose, read_only=True) as session:
            rows = list(await session.scalars(select(AnswerHour)))
        found = {row.outcome: (row.answers, row.masses, row.mass_sum, row.mass_squares) for row in rows}
        assert found == counted


async def test_answers_that_could_not_be_stored_stay_counted(database: Database, scope: TenantScope) -> None:
    meter = Meter(database)
    nobody = AnswerOf(TenantScope(UUID(int=1)), UUID(int=1), UUID(int=2), UUID(int=3))
    meter.answered(nobody, "refund", 0.5)
    meter.answered(nobody._replace(scope=scope), "refund", 0.5)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await meter.flush()
    for counted in [one for one in meter._answers if one.tenant_id == UUID(int=1)]:
        del meter._answers[counted]
    meter.answered(nobody._replace(scope=scope), "refund", 0.25)
    await meter.flush()
    async with transaction(database, scope, read_only=True) as session:
        (row,) = await session.scalars(select(AnswerHour))
    assert (row.answers, row.masses, row.mass_sum) == (2, 2, 0.75)


async def test_nothing_is_lost_when_the_process_ends(database: Database, scope: TenantScope) -> None:
    async with metering(database) as meter:
        meter.count(scope, 100, 7)
        assert await stored(database, scope) == []
    assert await stored(database, scope) == [(1, 100, 7)]


async def test_a_tenant_reads_its_days_up_to_the_last_answer(
    client: httpx.AsyncClient,
    other_client: httpx.AsyncClient,
    callers: Callers,
    scope: TenantScope,
) -> None:
    today = utc_now().date()
    uses = [Use(scope.tenant_id, today - timedelta(days=ago), ago, 10 * ago, ago) for ago in (1, 40)]
    async with transaction(callers.database) as session:
        await repository.add(session, uses)
    callers.api.state.meter.count(scope, 100, 7)
    usage = (await client.get("/v1/usage")).json()
    assert [day["day"] for day in usage["days"]] == [str(today), str(today - timedelta(days=1))]
    assert (usage["requests"], usage["prompt_tokens"], usage["completion_tokens"]) == (2, 110, 8)
    early = await client.get("/v1/usage", params={"from": str(today - timedelta(days=60)), "to": str(today)})
    assert early.json()["requests"] == 42
    assert (await other_client.get("/v1/usage")).json()["days"] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"from": "2020-01-01", "to": "2026-01-01"},
        {"from": "yesterday"},
    ],
)
async def test_days_that_cannot_be_read_are_refused(client: httpx.AsyncClient, asked: dict[str, str]) -> None:
    refused = await client.get("/v1/usage", params=asked)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("last", ["0001-01-01", "9999-12-31"])
async def test_the_ends_of_the_calendar_are_days_too(client: httpx.AsyncClient, last: str) -> None:
    assert (await client.get("/v1/usage", params={"to": last})).status_code == 200
