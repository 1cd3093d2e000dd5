"""Triggers over the API and by the sweep: what starts a run, what keeps one from it, and that it starts once."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from app.auth.principal import Scope
from app.datasets.counts import NOTHING, Cell
from app.infra.db.base import utc_now
from app.infra.db.clock import now
from app.infra.db.session import transaction
from app.infra.tables.datasets import ConversationRow, Dataset, DatasetState, Label, LabelSource
from app.infra.tables.deployments import EditState, ServedEdit
from app.infra.tables.runs import Run, RunState
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.triggers import Trigger
from app.triggers import repository, service, tasks
from app.usage import repository as usage
from app.usage.repository import AnsweredHour
from evaluation.contract.record import Split
from evaluation.reporting.report import Verdict
from tests.app.runs.conftest import Shop
from tests.factories.rows import deployment_of, gate_of, model_of, save, sha256, story

pytestmark = pytest.mark.anyio
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# What says nothing of SQL is tried on one database.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def dataset(shop: Shop, train: int = 30, test: int = 24) -> str:
    """Ready and labelled, without the upload and the job that make one."""
    own = {"tenant_id": shop.scope.tenant_id}
    splits = [Split.train] * train + [Split.test] * test
    keys = ["refund" if number % 2 else "delivery" for number in range(len(splits))]
    row = Dataset(id=uuid4(), schema_id=UUID(shop.schema_id), name="chats", state=DatasetState.ready, **own)
    row.counts = NOTHING.changed(come=map(Cell, splits, repeat(True), keys)).stored
    conversations = [
        ConversationRow(
            id=uuid4(),
            dataset_id=row.id,
            external_id=str(number),
            messages=[{"role": "customer", "text": f"my parcel number {number}"}],
            text_sha256=sha256(),
            group_id=str(number),
            split=split,
            **own,
        )
        for number, split in enumerate(splits)
    ]
    labels = [
        Label(
            conversation_id=conversation.id,
            schema_id=row.schema_id,
            category_key=key,
            source=LabelSource.import_,
            **own,
        )
        for conversation, key in zip(conversations, keys, strict=True)
    ]
    async with transaction(shop.database, shop.scope) as session:
        for rows in ([row], conversations, labels):
            session.add_all(rows)
            await session.flush()
    return str(row.id)


async def trigger(shop: Shop, dataset_id: str, **changes: Any) -> dict[str, Any]:
    body = {"name": f"trigger {uuid4().hex[:6]}", "schema_id": shop.schema_id, "dataset_id": dataset_id}
    body |= {"rule": {"kind": "schedule", "every_days": 1}, "preset": "smoke"}
    made = await shop.client.post("/v1/triggers", json=body | changes)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def shown(shop: Shop, made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await shop.get(f"triggers/{made['id']}")
    return found


async def runs(shop: Shop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await shop.get("runs"))["items"]
    return found


async def set_row(shop: Shop, made: dict[str, Any], **values: Any) -> None:
    async with transaction(shop.database, shop.scope) as session:
        own = (Trigger.tenant_id == shop.scope.tenant_id, Trigger.id == UUID(made["id"]))
        await session.execute(update(Trigger).where(*own).values(**values))


async def make_due(shop: Shop, made: dict[str, Any]) -> None:
    """A schedule whose time has come."""
    await set_row(shop, made, counts_from=now(-2 * 86_400), next_check_at=now(-1))


async def check(shop: Shop, made: dict[str, Any]) -> dict[str, Any]:
    await set_row(shop, made, next_check_at=now(-1))
    await tasks.sweep(shop.database, shop.settings)
    return await shown(shop, made)


async def end(
    shop: Shop, run_id: str, state: RunState = RunState.succeeded, ago: timedelta = DAY * 0
) -> None:
    """As if it had been begun a while ago and had ended."""
    if state is not RunState.succeeded:
        await shop.client.post(f"/v1/runs/{run_id}/cancel")
    async with transaction(shop.database, shop.scope) as session:
        own = (Run.tenant_id == shop.scope.tenant_id, Run.id == UUID(run_id))
        values = {"state": state, "finished_at": utc_now(), "created_at": utc_now() - ago}
        await session.execute(update(Run).where(*own).values(**values))


async def correct(
    shop: Shop, dataset_id: str, count: int, source: LabelSource = LabelSource.reviewer
) -> None:
    async with transaction(shop.database, shop.scope) as session:
        rows = list(
            await session.scalars(
                select(ConversationRow)
                .where(
                    ConversationRow.tenant_id == shop.scope.tenant_id,
                    ConversationRow.dataset_id == UUID(dataset_id),
                )
                .limit(count)
            )
        )
        for row in rows:
            label = Label(
                tenant_id=shop.scope.tenant_id,
                conversation_id=row.id,
                schema_id=UUID(shop.schema_id),
                category_key="refund",
                source=source,
            )
            session.add(label)


async def count_answers(shop: Shop, days: Sequence[float], **outcomes: int) -> None:
    """In the hours that were so many days ago, by one model under one version."""
    async with transaction(shop.database) as session:
        version = await session.scalar(
            select(SchemaVersion.id).where(SchemaVersion.schema_id == UUID(shop.schema_id))
        )
        assert version is not None
        hours = [
            AnsweredHour(
                shop.scope.tenant_id,
                UUID(int=7),
                version,
                (utc_now() - ago * DAY).replace(minute=0, second=0, microsecond=0),
                outcome,
                UUID(shop.schema_id),
                count,
                count,
                count * 0.9,
                count * 0.82,
            )
            for ago in days
            for outcome, count in outcomes.items()
        ]
        await usage.add_answers(session, hours)


async def test_a_schedule_that_is_due_begins_a_run_that_says_why(shop: Shop) -> None:
    made = await trigger(shop, await dataset(shop))
    assert (made["outcome"], made["checked_at"], made["run_id"]) == (None, None, None)
    found = await check(shop, made)
    assert found["outcome"] == "not_met" and found["checked_at"] and "next time" in found["reason"]
    assert await runs(shop) == []
    await make_due(shop, made)
    await tasks.sweep(shop.database, shop.settings)
    [run] = await runs(shop)
    found = await shown(shop, made)
    assert (found["outcome"], found["run_id"]) == ("started", run["id"]) and found["started_at"]
    why = run["trigger"]
    assert (why["trigger_id"], why["name"], why["kind"]) == (made["id"], made["name"], "schedule")
    assert "its time was" in why["reason"] and why["figures"]["due_at"] and why["rule"]["every_days"] == 1
    assert run["preset"] == "smoke" and run["stages"][0]["state"] == "queued"
    assert run["priority"] == "low"  # behind what somebody asked for
    newest = (await shop.get("audit"))["items"][:2]
    assert {event["action"] for event in newest} == {"trigger.started", "run.created"}
    assert {event["actor_key_id"] for event in newest} == {None}


async def test_two_dispatchers_start_it_once(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    made = [await trigger(shop, dataset_id) for _ in range(2)]
    for one in made:
        await make_due(shop, one)
    await asyncio.gather(*(tasks.sweep(shop.database, shop.settings) for _ in range(2)))
    assert len(await runs(shop)) == 1  # the second trigger waits for the run of the first
    outcomes = [(await shown(shop, one))["outcome"] for one in made]
    assert sorted(outcomes) == ["held_back", "started"]


async def test_a_check_that_was_overtaken_writes_and_starts_nothing(shop: Shop) -> None:
    made = await trigger(shop, await dataset(shop))
    await make_due(shop, made)
    async with transaction(shop.database, shop.scope) as session:
        claimed = await repository.claim(session, shop.scope, UUID(made["id"]), 60)
        assert claimed is not None
        assert await repository.claim(session, shop.scope, UUID(made["id"]), 60) is None
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        checked = service.CheckedTrigger(claimed, await service.check(session, shop.scope, claimed))
    assert checked.finding.met
    paused = await shop.client.patch(f"/v1/triggers/{made['id']}", json={"paused": True})
    assert paused.json()["paused"] is True
    async with transaction(shop.database, shop.scope) as session:
        started = await service.start(session, shop.storage, shop.scope, checked, shop.settings)
    assert started is None and await runs(shop) == []


async def test_it_cools_down_and_then_needs_something_new(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    made = await trigger(shop, dataset_id)
    await make_due(shop, made)
    await tasks.sweep(shop.database, shop.settings)
    [run] = await runs(shop)
    await make_due(shop, made)
    found = await check(shop, made)
    assert found["outcome"] == "held_back" and "has not ended" in found["held_reason"]
    await end(shop, run["id"], ago=HOUR)
    await make_due(shop, made)
    found = await check(shop, made)
    assert "cools down until" in found["held_reason"] and "not started" in found["reason"]
    await end(shop, run["id"], ago=2 * DAY)
    async with transaction(shop.database, shop.scope) as session:
        old = update(Label).where(Label.tenant_id == shop.scope.tenant_id)
        await session.execute(old.values(created_at=utc_now() - 3 * DAY))
    await make_due(shop, made)
    found = await check(shop, made)
    assert "would learn the same" in found["held_reason"]
    found = await check(shop, made)  # the time was passed over, and what kept it is still told
    assert found["outcome"] == "not_met" and "would learn the same" in found["held_reason"]
    await correct(shop, dataset_id, 1)
    await make_due(shop, made)
    assert (await check(shop, made))["outcome"] == "started"


async def test_corrections_start_a_run_once_there_are_enough_in_its_dataset(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    made = await trigger(shop, dataset_id, rule={"kind": "corrections", "corrections": 5}, cool_down_h=1)
    await correct(shop, dataset_id, 9, LabelSource.import_)
    await correct(shop, dataset_id, 4)
    found = await check(shop, made)
    assert found["outcome"] == "not_met" and found["figures"] == {"corrections": 4, "in_other_datasets": 0}
    await correct(shop, dataset_id, 5)  # four of them again
    found = await check(shop, made)
    assert (found["outcome"], found["figures"]["corrections"]) == ("started", 5)
    [run] = await runs(shop)
    assert run["trigger"]["threshold"] == 5
    await end(shop, run["id"])
    assert (await check(shop, made))["figures"]["corrections"] == 0


async def test_drift_is_seen_in_counted_answers_where_none_is_kept(shop: Shop) -> None:
    rule = {"kind": "drift", "window_h": 48, "min_answers": 50}
    made = await trigger(shop, await dataset(shop), rule=rule)
    assert "nothing has been answered" in (await check(shop, made))["reason"]
    await count_answers(shop, [20.0, 19.5], refund=40, delivery=10)
    assert "0 answers in the last 48 h" in (await check(shop, made))["reason"]
    await count_answers(shop, [0.0, 0.5], refund=10, delivery=40)
    found = await check(shop, made)
    assert found["outcome"] == "started" and found["figures"]["stability_index"] > 0.2
    assert found["figures"]["answers"] == 100
    [run] = await runs(shop)
    assert run["trigger"]["window_h"] == 48 and "stability index" in run["trigger"]["reason"]


async def test_an_edit_that_failed_its_gate_starts_a_run_for_its_version(shop: Shop) -> None:
    made = await trigger(shop, await dataset(shop), rule={"kind": "failed_edit"})
    assert (await check(shop, made))["outcome"] == "not_met"
    told = story()
    async with transaction(shop.database, shop.scope) as session:
        version = (await session.scalars(select(SchemaVersion))).one()
        run = told.run
        run.tenant_id, run.schema_version_id = shop.scope.tenant_id, version.id
        run.dataset_id = UUID(made["dataset_id"])
        run.state, run.created_at = RunState.succeeded, utc_now() - 9 * DAY
        model = model_of(run)
        passed, failed = gate_of(model, version, Verdict.passed), gate_of(model, version, Verdict.failed)
        failed.policy_sha256 = "1" * 64
        live = deployment_of(
            told._replace(model=model, gate=passed, version=version), tenant_id=shop.scope.tenant_id
        )
        live.schema_id, live.model_version_id = version.schema_id, model.id
        live.gate_result_id, live.schema_version_id = passed.id, version.id
        edit = ServedEdit(
            tenant_id=shop.scope.tenant_id,
            schema_id=version.schema_id,
            deployment_id=live.id,
            schema_version_id=version.id,
            gate_result_id=failed.id,
            state=EditState.reverted,
            decided_at=utc_now() - HOUR,
        )
        await save(session, run, model, passed, failed, live, edit)
    found = await check(shop, made)
    assert found["outcome"] == "started" and found["figures"]["schema_version"] == 1
    started = [one for one in await runs(shop) if one["trigger"]]
    await end(shop, started[0]["id"])
    assert "no edit that is current" in (await check(shop, made))["reason"]


@ON_SQLITE
async def test_what_a_run_lacks_is_said_and_not_tried_without_end(shop: Shop) -> None:
    made = await trigger(shop, await dataset(shop, train=6, test=4))
    await make_due(shop, made)
    await tasks.sweep(shop.database, shop.settings)
    found = await shown(shop, made)
    assert found["outcome"] == "refused" and "needs 20" in found["held_reason"]
    assert await runs(shop) == []
    assert "next time" in (await check(shop, made))["reason"]


@ON_SQLITE
async def test_the_tenants_share_holds_for_triggers_too(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    made = await trigger(shop, dataset_id)
    await make_due(shop, made)
    none_left = shop.settings.model_copy(update={"tenant_gpu_s_per_day": 1e-9})
    other = await shop.run(dataset_id=dataset_id)
    job = (await shop.jobs(other["id"]))[0]
    async with transaction(shop.database, shop.scope) as session:
        held = type(job)
        own = (held.tenant_id == shop.scope.tenant_id, held.id == job.id)
        await session.execute(update(held).where(*own).values(started_at=now(-60), worked_s=60.0))
    await end(shop, other["id"], RunState.cancelled)
    await tasks.sweep(shop.database, none_left)
    found = await shown(shop, made)
    assert found["outcome"] == "refused" and "training and gates within a day" in found["held_reason"]


@ON_SQLITE
async def test_a_paused_trigger_is_not_checked_and_a_resumed_schedule_counts_from_then(shop: Shop) -> None:
    made = await trigger(shop, await dataset(shop), paused=True)
    await make_due(shop, made)
    await tasks.sweep(shop.database, shop.settings)
    assert (await shown(shop, made))["checked_at"] is None
    refused = await shop.client.post(f"/v1/triggers/{made['id']}/start")
    assert refused.status_code == 409 and "paused" in refused.json()["detail"]
    resumed = await shop.client.patch(f"/v1/triggers/{made['id']}", json={"paused": False})
    assert resumed.json()["paused"] is False
    assert (await check(shop, made))["outcome"] == "not_met" and await runs(shop) == []


@ON_SQLITE
async def test_it_starts_by_hand_once_and_is_then_held_back(shop: Shop) -> None:
    made = await trigger(shop, await dataset(shop), rule={"kind": "by_hand"})
    assert (await check(shop, made))["checked_at"] is None
    key = {"Idempotency-Key": "once"}
    path = f"/v1/triggers/{made['id']}/start"
    first, again = [await shop.client.post(path, headers=key) for _ in range(2)]
    assert first.status_code == 202 and again.json() == first.json()
    [run] = await runs(shop)
    assert first.json()["run_id"] == run["id"] and run["trigger"]["reason"] == service.BY_HAND
    refused = await shop.client.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "trigger_held_back")
    assert run["id"] in refused.json()["detail"]
    actions = [event["action"] for event in (await shop.get("audit"))["items"]]
    assert actions[0] in ("trigger.started", "run.created") and actions.count("trigger.started") == 1


async def test_what_a_trigger_would_have_started_is_simulated_from_what_is_kept(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    await count_answers(shop, [20.0, 19.5], refund=40, delivery=10)
    await count_answers(shop, [3.0, 2.5], refund=10, delivery=40)
    body = {"schema_id": shop.schema_id, "dataset_id": dataset_id}
    body |= {"rule": {"kind": "drift", "window_h": 48, "min_answers": 50}}
    before = await rows(shop)
    answer = await shop.client.post("/v1/triggers/simulate", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert len(found["starts"]) == 1 and "stability index" in found["starts"][0]["reason"]
    at = datetime.fromisoformat(found["starts"][0]["at"])
    assert 2.4 * DAY < utc_now() - at < 3.1 * DAY
    assert found["events"] == {"labels": 54, "runs": 0, "edits": 1, "answers": 200}
    assert await rows(shop) == before == (0, 0)
    early = body | {"last": (utc_now() - 4 * DAY).isoformat()}
    assert (await shop.client.post("/v1/triggers/simulate", json=early)).json()["starts"] == []
    backwards = body | {"first": utc_now().isoformat(), "last": (utc_now() - DAY).isoformat()}
    assert (await shop.client.post("/v1/triggers/simulate", json=backwards)).status_code == 422
    stranger = await shop.stranger.post("/v1/triggers/simulate", json=body)
    assert stranger.status_code == 404


async def rows(shop: Shop) -> tuple[int, int]:
    return len(await runs(shop)), len((await shop.get("triggers"))["items"])


@ON_SQLITE
async def test_triggers_are_named_once_changed_and_deleted(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    made = await trigger(shop, dataset_id, name="nightly")
    body = {
        "name": "nightly",
        "schema_id": shop.schema_id,
        "dataset_id": dataset_id,
        "rule": {"kind": "by_hand"},
    }
    twice = await shop.client.post("/v1/triggers", json=body)
    assert (twice.status_code, twice.json()["code"]) == (409, "name_taken")
    path = f"/v1/triggers/{made['id']}"
    patch = {"rule": {"kind": "schedule", "cron": "0  3 * * 1"}, "budget": {"runs": 1, "gpu_s": 60}}
    changed = (await shop.client.patch(path, json=patch)).json()
    assert changed["rule"] == {"kind": "schedule", "cron": "0 3 * * 1", "every_days": None}
    assert changed["budget"] == {"window_h": 168, "runs": 1, "gpu_s": 60} and changed["name"] == "nightly"
    for wrong in ({}, {"rule": None}, {"rule": {"kind": "schedule", "cron": "soon"}}, {"cool_down_h": 0}):
        assert (await shop.client.patch(path, json=wrong)).status_code == 422
    kept = await shop.client.delete(f"/v1/datasets/{dataset_id}")
    assert kept.status_code == 409 and "trigger" in kept.json()["detail"]
    assert (await shop.stranger.delete(path)).status_code == 404
    assert (await shop.client.delete(path)).status_code == 204
    assert (await shop.client.delete(f"/v1/datasets/{dataset_id}")).status_code == 204


@ON_SQLITE
async def test_a_dataset_of_another_schema_is_refused_and_only_admins_change_triggers(shop: Shop) -> None:
    dataset_id = await dataset(shop)
    draft = {"categories": [{"key": "a", "name": "A", "definition": "A thing."}]}
    other = (await shop.client.post("/v1/schemas", json={"name": "other", "draft": draft})).json()["id"]
    body = {"name": "one", "schema_id": other, "dataset_id": dataset_id, "rule": {"kind": "by_hand"}}
    refused = await shop.client.post("/v1/triggers", json=body)
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body.dataset_id")
    made = await trigger(shop, dataset_id)
    editor = await shop.callers.of(shop.scope, Scope.runs_write)
    assert (await editor.get(f"/v1/triggers/{made['id']}")).status_code == 200
    for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/start")):
        asked = await editor.request(method, f"/v1/triggers/{made['id']}{path}", json={"paused": True})
        assert asked.status_code == 403


@ON_SQLITE
async def test_a_tenant_has_so_many_triggers_at_most(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST", 1)
    dataset_id = await dataset(shop)
    await trigger(shop, dataset_id)
    body = {
        "name": "more",
        "schema_id": shop.schema_id,
        "dataset_id": dataset_id,
        "rule": {"kind": "by_hand"},
    }
    assert (await shop.client.post("/v1/triggers", json=body)).json()["code"] == "too_many_triggers"


async def test_counts_of_answers_are_forgotten_after_their_time(shop: Shop) -> None:
    await count_answers(shop, [100.0, 1.0], refund=5)
    await tasks.forget(shop.database, shop.settings)
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        kept = await repository.answer_hours(session, shop.scope, UUID(shop.schema_id), utc_now())
    assert [row.answers for row in kept] == [5]
