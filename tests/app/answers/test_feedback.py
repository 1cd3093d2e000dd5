"""What people say of an answer becomes a label; what is forgotten is gone from the data sets too."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.auth.principal import Scope
from app.datasets.counts import Arrivals, Counts
from app.infra.db.base import utc_now
from app.infra.db.session import transaction
from app.infra.tables.datasets import Dataset, DatasetState, UploadRow
from app.infra.tables.files import FileKind, StoredFile
from tests.app.answers.keeping import Keeping
from tests.app.classify.serving_contexts import set_tenant
from tests.factories.rows import model_of, run_of, save, story

pytestmark = pytest.mark.anyio
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def admin(keeping: Keeping) -> httpx.AsyncClient:
    return await keeping.callers.of(keeping.live.told.scope, Scope.admin)


async def conversations(keeping: Keeping, name: str = "feedback") -> list[dict[str, Any]]:
    client = await admin(keeping)
    sets = (await client.get("/v1/datasets")).json()["items"]
    (dataset,) = [one for one in sets if one["name"] == name]
    return list((await client.get(f"/v1/datasets/{dataset['id']}/conversations")).json()["items"])


async def test_a_right_answer_becomes_a_label_with_its_source(keeping: Keeping) -> None:
    given = await keeping.ask(conversation_reference="chat-1", customer_reference="c-1", language="en")
    told = await keeping.feedback(given["id"], right=True, source="reviewer")
    assert told.status_code == 200, told.text
    said = told.json()["feedback"]
    assert (said["right"], said["labelled"], said["category_key"]) == (True, True, given["category"])
    (made,) = await conversations(keeping)
    assert made["id"] == said["conversation_id"] and made["dataset_id"] == said["dataset_id"]
    assert (made["label"]["category_key"], made["label"]["source"]) == ("delivery", "reviewer")
    assert (made["customer_reference"], made["language"]) == ("c-1", "en")
    assert [one["id"] for one in await keeping.listed(feedback="true")] == [given["id"]]


async def test_the_newest_feedback_counts_and_stays_in_one_dataset(keeping: Keeping) -> None:
    given = await keeping.ask()
    for body in (
        {"right": True},
        {"right": False, "category_key": "refund"},
        {"right": False, "category_key": None},
    ):
        assert (await keeping.feedback(given["id"], **body)).status_code == 200
    (made,) = await conversations(keeping)
    assert (made["label"]["category_key"], made["label"]["source"]) == (None, "correction")
    wrong = (await keeping.feedback(given["id"], right=False)).json()["feedback"]
    assert (wrong["right"], wrong["labelled"]) == (False, False)
    (made,) = await conversations(keeping)
    assert made["label"]["category_key"] is None, "that one is wrong says not which is right"


@on_sqlite
async def test_a_label_can_go_to_a_dataset_that_is_named(keeping: Keeping) -> None:
    given, told = await keeping.ask(), keeping.live.told
    await keeping.feedback(given["id"], right=True, dataset_id=str(told.dataset.id))
    found = await conversations(keeping, told.dataset.name)
    assert f"answer-{given['id']}" in [one["external_id"] for one in found]


@on_sqlite
async def test_a_conversation_has_one_label_in_however_many_datasets(keeping: Keeping) -> None:
    given, told = await keeping.ask(), keeping.live.told
    await keeping.feedback(given["id"], right=True)
    moved = await keeping.feedback(
        given["id"], right=False, category_key="refund", dataset_id=str(told.dataset.id)
    )
    assert moved.status_code == 200 and moved.json()["feedback"]["dataset_id"] == str(told.dataset.id)
    third = Dataset(
        tenant_id=told.scope.tenant_id,
        schema_id=told.dataset.schema_id,
        name="third",
        state="empty",
        counts={},
    )
    async with transaction(keeping.callers.database) as session:
        await save(session, third)
    again = {"category_key": "refund", "source": "reviewer", "dataset_id": str(third.id)}
    assert (await keeping.feedback(given["id"], right=False, **again)).status_code == 200
    for name in (told.dataset.name, "feedback", "third"):
        found = {one["external_id"]: one["label"] for one in await conversations(keeping, name)}
        label = found[f"answer-{given['id']}"]
        assert (label["category_key"], label["source"]) == ("refund", "reviewer"), name


@on_sqlite
async def test_feedback_that_makes_no_sense_is_refused_with_what_to_do(keeping: Keeping) -> None:
    given = await keeping.ask()
    foreign = story()
    async with transaction(keeping.callers.database) as session:
        await save(session, *foreign)
    wrong = [
        ({"right": True, "category_key": "refund"}, "leave it out"),
        ({"right": True, "source": "import"}, "source"),
        ({"right": False, "category_key": "no_such"}, "not in the schema"),
        ({"category_key": "refund"}, "right"),
        ({"right": False, "category_key": given["category"]}, "is what was answered"),
    ]
    for body, words in wrong:
        refused = await keeping.feedback(given["id"], **body)
        assert refused.status_code == 422 and words in refused.text, (body, refused.text)
    stranger = await keeping.feedback(given["id"], right=True, dataset_id=str(foreign.dataset.id))
    assert stranger.status_code == 404
    assert (await keeping.listed())[0]["feedback"] is None, "nothing of a refused feedback stays"
    other = await keeping.callers.of(foreign.scope, Scope.admin)
    assert (await other.post(f"/v1/answers/{given['id']}/feedback", json={"right": True})).status_code == 404


@on_sqlite
async def test_an_answer_that_named_no_category_cannot_be_right(keeping: Keeping) -> None:
    await set_tenant(keeping.callers, keeping.live, abstain_below=1.0)
    given = await keeping.ask()
    assert given["abstained"]
    refused = await keeping.feedback(given["id"], right=True)
    assert refused.status_code == 422 and "category_key" in refused.text
    assert (await keeping.feedback(given["id"], right=False, category_key="delivery")).status_code == 200


async def test_a_customer_is_forgotten_in_answers_and_datasets_and_the_models_are_named(
    keeping: Keeping,
) -> None:
    told = keeping.live.told
    given = await keeping.ask(customer_reference="c-1", conversation_reference="chat-1")
    other = await keeping.ask(customer_reference="c-2")
    await keeping.feedback(given["id"], right=True)
    client = await admin(keeping)
    uploaded = {
        "id": "chat-7",
        "messages": [{"role": "customer", "text": "I want my money back now."}],
        "category": "refund",
        "customer_reference": "c-1",
    }
    path = f"/v1/datasets/{told.dataset.id}/conversations"
    assert (await client.post(path, json=uploaded)).status_code == 201
    run = run_of(told.version, told.dataset)
    model = model_of(run)
    async with transaction(keeping.callers.database) as session:
        await save(session, run, model)
    gone = await keeping.forget(customer_reference="c-1")
    assert gone.status_code == 200, gone.text
    body = gone.json()
    assert body["answers"] == 1 and len(body["conversations"]) == 2
    assert body["model_versions"] == [str(model.id)]
    assert [one["id"] for one in await keeping.listed()] == [other["id"]]
    assert await conversations(keeping) == []
    left = (await client.get(path)).json()["items"]
    assert "chat-7" not in [one["external_id"] for one in left]
    again = (await keeping.forget(customer_reference="c-1")).json()
    assert (again["answers"], again["conversations"]) == (0, [])


@on_sqlite
async def test_a_conversation_is_forgotten_by_the_id_that_its_sender_gave_it(keeping: Keeping) -> None:
    told = keeping.live.told
    given = await keeping.ask(conversation_reference="chat-1")
    await keeping.feedback(given["id"], right=True)
    client = await admin(keeping)
    uploaded = {"id": "chat-1", "messages": [{"role": "customer", "text": "I want my money back now."}]}
    await client.post(f"/v1/datasets/{told.dataset.id}/conversations", json=uploaded)
    body = (await keeping.forget(conversation_reference="chat-1")).json()
    assert body["answers"] == 1 and len(body["conversations"]) == 2


@on_sqlite
async def test_what_was_forgotten_is_told_again_to_whoever_did_not_hear_it(keeping: Keeping) -> None:
    await keeping.ask(customer_reference="c-1")
    once = {"Idempotency-Key": "forget-c-1"}
    first, again = [
        await keeping.eraser.delete("/v1/answers?customer_reference=c-1", headers=once) for _ in range(2)
    ]
    assert first.json()["answers"] == 1 and again.json() == first.json()


async def _with_file(keeping: Keeping, state: DatasetState, rejected: int = 0) -> Dataset:
    told = keeping.live.told
    stored = Counts({}, Arrivals(rejected=rejected)).stored
    own = {"tenant_id": told.scope.tenant_id}
    dataset = Dataset(schema_id=told.dataset.schema_id, name="file", state=state, counts=stored, **own)
    async with transaction(keeping.callers.database) as session:
        await save(session, dataset)
        key = f"uploads/{dataset.id}"
        made = {"dataset_id": dataset.id, "key": key} | own
        upload = UploadRow(media_type="text/csv", completed_at=utc_now(), **made)
        await save(session, upload, StoredFile(kind=FileKind.upload, **made))
    return dataset


async def test_a_file_that_holds_what_became_no_row_goes_with_whoever_is_forgotten(keeping: Keeping) -> None:
    """Nobody knows of whom such a line speaks."""
    whole = await _with_file(keeping, DatasetState.ready)
    partly = await _with_file(keeping, DatasetState.ready, rejected=1)
    failed = await _with_file(keeping, DatasetState.failed)
    checked = await _with_file(keeping, DatasetState.empty)
    assert (await keeping.forget(customer_reference="c-1")).status_code == 200
    async with transaction(keeping.callers.database) as session:
        kept = list(await session.scalars(select(UploadRow.dataset_id).where(UploadRow.key != "")))
        going = select(StoredFile.dataset_id).where(StoredFile.kept_until.is_not(None))
        gone = set(await session.scalars(going))
    assert whole.id in kept and not {partly.id, failed.id, checked.id} & set(kept)
    assert gone == {partly.id, failed.id, checked.id}
    await _with_file(keeping, DatasetState.validating)
    busy = await keeping.forget(customer_reference="c-1")
    assert (busy.status_code, busy.json()["code"]) == (409, "dataset_busy")


@on_sqlite
async def test_nobody_is_forgotten_by_no_name_at_all(keeping: Keeping) -> None:
    await keeping.ask(customer_reference="c-1")
    refused = await keeping.forget()
    assert refused.status_code == 422 and "customer_reference" in refused.text
    assert len(await keeping.listed()) == 1


async def test_another_tenants_answers_are_neither_shown_nor_exported_nor_forgotten(keeping: Keeping) -> None:
    given = await keeping.ask(customer_reference="c-1", conversation_reference="chat-1")
    assert len(await keeping.listed()) == 1
    other = story()
    async with transaction(keeping.callers.database) as session:
        await save(session, *other)
    stranger = await keeping.callers.of(other.scope, Scope.admin)
    assert given["id"] not in (await stranger.get("/v1/answers")).text
    for form in ("jsonl", "csv"):
        assert given["id"] not in (await stranger.get(f"/v1/answers/export?format={form}")).text
    gone = (await stranger.delete("/v1/answers?customer_reference=c-1")).json()
    assert (gone["answers"], gone["conversations"]) == (0, [])
    assert len(await keeping.listed()) == 1
