"""Answers are kept where a tenant wants it, without personal data, until their time is over; and never at the cost of
one that is given."""

import csv
import io
import json
import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from app.answers import repository, tasks
from app.answers import writer as writing
from app.auth.principal import Scope
from app.infra import metrics
from app.infra.db.base import utc_now
from app.infra.db.session import transaction
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.tenants import HeldKind
from app.tenants import repository as tenants
from evaluation.formats.redaction import Redaction
from tests.app.answers.keeping import Keeping
from tests.app.classify.serving_contexts import set_tenant

pytestmark = pytest.mark.anyio
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
AUXILIARY_ITEMS = {
    "language": "en",
    "channel": "chat",
    "time": "2026-01-02T10:30:00Z",
    "customer_reference": "customer-1",
    "conversation_reference": "chat-1",
    "metadata": {"country": "DE", "total": 49.9, "gift": True},
}


async def test_an_answer_is_kept_as_it_was_given_with_what_is_known_beside_it(keeping: Keeping) -> None:
    given = await keeping.ask(**AUXILIARY_ITEMS)
    (kept,) = await keeping.listed()
    for name in ("category", "mode", "reasoning", "evidence", "decided_by", "confidence", "label_mass"):
        assert kept[name] == given[name], name
    assert kept["id"] == given["id"] and kept["probabilities"] == given["probabilities"]
    assert kept["deployment_id"] == given["deployment_id"]
    assert kept["model_version_id"] == given["model_version"]
    assert {name: kept[name] for name in AUXILIARY_ITEMS} == AUXILIARY_ITEMS
    assert kept["messages"] == [{"role": "customer", "text": "Where is my parcel?"}]
    assert (await keeping.reader.get(f"/v1/answers/{given['id']}")).json() == kept


@on_sqlite
async def test_personal_data_is_taken_out_of_everything_that_people_wrote(keeping: Keeping) -> None:
    text = "Where is my parcel? I am ann@shop.example, +49 30 1234567, card 4111 1111 1111 1111."
    messages = [{"role": "user", "text": text}, {"role": "assistant", "text": "write to bo@shop.example"}]
    body = {
        "schema_id": keeping.live.schema_id,
        "messages": messages,
        "metadata": {"mail": "ann@shop.example", "card": 4111111111111111, "total": 49.9},
    }
    given = await keeping.live.client.post("/v1/classify", json=body)
    assert given.status_code == 200
    (kept,) = await keeping.listed()
    clean = "Where is my parcel? I am [email], [phone], card [card]."
    assert kept["messages"] == [
        {"role": "customer", "text": clean},
        {"role": "agent", "text": "write to [email]"},
    ]
    assert kept["metadata"] == {"mail": "[email]", "card": "[card]", "total": 49.9}
    async with transaction(keeping.callers.database) as session:
        rows = [str(row) for row in await session.execute(select(KeptAnswer.__table__))]
    assert "@shop" not in "".join(rows) and "4111" not in "".join(rows)


def test_quotes_and_reasons_are_words_of_the_customer_too() -> None:
    row = {
        "messages": [],
        "reasoning": 'They write "ann@shop.example".',
        "evidence": [{"quote": "ann@shop.example", "message_index": 0}],
        "extra": None,
    }
    clean = writing._without_personal_data(row, Redaction.by_form)
    assert clean["reasoning"] == 'They write "[email]".'
    assert clean["evidence"] == [{"quote": "[email]", "message_index": 0}]


@on_sqlite
async def test_names_go_too_where_the_tenant_wants_that(keeping: Keeping) -> None:
    text = "Hello, my name is Ann Lee. Where is my parcel? Thanks, Ann"
    body = {
        "schema_id": keeping.live.schema_id,
        "messages": [{"role": "agent", "text": "Dear Mrs Lee, yes?"}, {"role": "customer", "text": text}],
        "metadata": {"customer_name": "Ann Lee", "product": "Lee 501"},
        "customer_reference": "ann-7",
    }
    for names in (False, True):
        await set_tenant(keeping.callers, keeping.live, redact_names=names)
        assert (await keeping.live.client.post("/v1/classify", json=body)).status_code == 200
        kept = (await keeping.listed())[0]
        if not names:
            assert kept["messages"][1]["text"] == text and kept["metadata"] == body["metadata"]
    assert [one["text"] for one in kept["messages"]] == [
        "Dear Mrs [name], yes?",
        "Hello, my name is [name]. Where is my parcel? Thanks, [name]",
    ]
    assert kept["metadata"] == {"customer_name": "[name]", "product": "[name] 501"}
    assert kept["customer_reference"] == "ann-7"


@on_sqlite
async def test_nothing_is_kept_where_nobody_wants_it(keeping: Keeping) -> None:
    await set_tenant(keeping.callers, keeping.live, keep_answers_days=None)
    await keeping.ask()
    assert await keeping.listed() == [] and await keeping.stored() == 0
    assert not keeping.writer._waiting, "what nobody keeps does not wait either"


async def test_answers_are_found_by_all_that_is_known_of_them(keeping: Keeping) -> None:
    parcel = await keeping.ask(**AUXILIARY_ITEMS)
    money = await keeping.ask(
        "I want my money back.", language="de", metadata={"country": "FR", "größe": "ü"}
    )
    await set_tenant(keeping.callers, keeping.live, abstain_below=1.0)
    keeping.callers.api.state.serving_context.servings._known._kept.clear()
    unsure = await keeping.ask("Where is my parcel?", channel="mail")
    assert unsure["abstained"]
    now = utc_now()
    before, after = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    everything = [unsure["id"], money["id"], parcel["id"]]
    some: list[tuple[dict[str, Any], list[str]]] = [
        ({}, everything),
        ({"schema_id": keeping.live.schema_id, "mode": "reasoned", "degraded": "false"}, everything),
        ({"category": "refund"}, [money["id"]]),
        ({"category": "(none)"}, []),
        ({"abstained": "true"}, [unsure["id"]]),
        ({"degraded": "true"}, []),
        ({"max_confidence": "0.1"}, []),
        ({"min_confidence": "0.1", "abstained": "false"}, [money["id"], parcel["id"]]),
        ({"schema_version_id": str(uuid4())}, []),
        ({"model_version_id": str(keeping.live.told.model.id), "language": "de"}, [money["id"]]),
        ({"from": before, "to": after}, everything),
        ({"to": before}, []),
        ({"from": after}, []),
        ({"language": "EN"}, [parcel["id"]]),
        ({"time_from": "2026-01-02T11:30:00+01:00", "time_to": "2026-01-02T10:30:01Z"}, [parcel["id"]]),
        ({"time_to": "2026-01-02T10:30:00Z"}, []),
        ({"channel": "mail"}, [unsure["id"]]),
        ({"customer_reference": "customer-1"}, [parcel["id"]]),
        ({"conversation_reference": "chat-1"}, [parcel["id"]]),
        ({"metadata": "country=DE"}, [parcel["id"]]),
        ({"metadata": ["country=DE", "total=49.9"]}, [parcel["id"]]),
        ({"metadata": ["country=DE", "total=1"]}, []),
        ({"metadata": "gift=true"}, [parcel["id"]]),
        ({"metadata": "gift=false"}, []),
        ({"metadata": "größe=ü"}, [money["id"]]),
        ({"feedback": "false"}, everything),
        ({"feedback": "true"}, []),
    ]
    for query, expected in some:
        assert [one["id"] for one in await keeping.listed(**query)] == expected, query
    for wrong in ("country", '"=x', "=x"):
        refused = await keeping.reader.get("/v1/answers", params={"metadata": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), wrong


@on_sqlite
async def test_a_page_is_cut_by_everything_that_its_answers_say(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.http.paging.PAGE_BYTES", 1500)
    for _ in range(3):
        await keeping.ask(metadata={f"note {number}": "ü" * 100 for number in range(5)})
    page = (await keeping.reader.get("/v1/answers")).json()
    assert await keeping.stored() == 3
    assert len(page["items"]) == 1 and page["next_cursor"], "each has a thousand bytes of metadata"


@on_sqlite
async def test_reading_needs_a_scope_of_its_own(keeping: Keeping) -> None:
    given = await keeping.ask()
    others = [scope for scope in Scope if scope not in (Scope.answers_read, Scope.admin)]
    stranger = await keeping.callers.of(keeping.live.told.scope, *others)
    for path in ("/v1/answers", "/v1/answers/export", f"/v1/answers/{given['id']}"):
        assert (await stranger.get(path)).status_code == 403, path
        assert (await keeping.reader.get(path)).status_code == 200, path
    assert (await keeping.reader.delete("/v1/answers?customer_reference=x")).status_code == 403


@on_sqlite
async def test_an_export_has_every_answer_as_jsonl_and_as_csv(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.answers.export.AT_ONCE", 2)
    texts = ["Where is my parcel?", '=cmd|"/C calc"!A1, where is my parcel?', "I want my money back."]
    given = [await keeping.ask(text, customer_reference=text[:4]) for text in texts]
    lines = (await keeping.reader.get("/v1/answers/export")).text.splitlines()
    assert [json.loads(line) for line in lines] == await keeping.listed()
    assert len(lines) == 3
    file = await keeping.reader.get("/v1/answers/export", params={"format": "csv"})
    assert file.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert [row["id"] for row in rows] == [one["id"] for one in reversed(given)]
    assert rows[1]["customer_reference"] == "'=cmd", "a spreadsheet would calculate it"
    assert rows[1]["text"] == f"customer: {texts[1]}"
    assert (rows[0]["category"], rows[0]["abstained"]) == ("refund", "false")
    some = await keeping.reader.get("/v1/answers/export", params={"format": "csv", "category": "refund"})
    assert len(some.text.splitlines()) == 2


@on_sqlite
async def test_a_row_of_the_csv_is_a_row_to_every_reader(keeping: Keeping) -> None:
    await keeping.ask("hi\r=1+1\r\nwhere is my parcel; =2", channel="＝1")
    file = await keeping.reader.get("/v1/answers/export", params={"format": "csv"})
    (row,) = csv.DictReader(io.StringIO(file.text, newline=""))
    assert row["text"] == "customer: hi\n=1+1\nwhere is my parcel; =2"
    assert row["channel"] == "'＝1" and "\r" not in file.text
    cells = file.text.splitlines()[0].split(",")
    assert all(cell.startswith('"') and cell.endswith('"') for cell in cells)


async def test_what_is_over_is_not_shown_and_is_swept(keeping: Keeping) -> None:
    old, new = await keeping.ask(), await keeping.ask()
    assert len(await keeping.listed()) == 2
    async with transaction(keeping.callers.database) as session:
        over = {"expires_at": utc_now() - timedelta(seconds=1)}
        await session.execute(update(KeptAnswer).where(KeptAnswer.id == UUID(old["id"])).values(**over))
    assert [one["id"] for one in await keeping.listed()] == [new["id"]]
    assert (await keeping.reader.get(f"/v1/answers/{old['id']}")).status_code == 404
    await _sweep(keeping)
    assert await keeping.stored() == 1


async def _held(keeping: Keeping) -> dict[HeldKind, int]:
    """Bytes of its quota, by what has them."""
    scope = keeping.live.told.scope
    async with transaction(keeping.callers.database, scope, read_only=True) as session:
        found = await tenants.held_bytes(session, scope)
    return {kind: size for (kind, _), size in found.items()}


async def _held_by_answers(keeping: Keeping) -> int:
    return (await _held(keeping)).get(HeldKind.answers, 0)


async def test_answers_count_in_the_quota_until_they_are_gone(keeping: Keeping) -> None:
    given = [await keeping.ask(customer_reference=name) for name in ("a", "b", "c", "d")]
    assert len(await keeping.listed()) == 4
    all_of_them = await _held_by_answers(keeping)
    assert all_of_them > 4 * len("Where is my parcel?")
    assert (await keeping.forget(customer_reference="a")).status_code == 200
    assert await _held_by_answers(keeping) == all_of_them * 3 / 4
    right = await keeping.feedback(given[1]["id"], right=True)
    eraser = await keeping.callers.of(keeping.live.told.scope, Scope.admin)
    copy = right.json()["feedback"]["conversation_id"]
    assert (await eraser.delete(f"/v1/conversations/{copy}")).status_code == 200
    assert await _held_by_answers(keeping) == all_of_them / 2
    async with transaction(keeping.callers.database) as session:
        await session.execute(update(KeptAnswer).values(expires_at=utc_now() - timedelta(seconds=1)))
    await _sweep(keeping)
    assert await _held_by_answers(keeping) == 0


async def test_an_answer_for_which_the_quota_has_no_room_is_not_kept(keeping: Keeping) -> None:
    await keeping.ask()
    assert len(await keeping.listed()) == 1
    one = await _held_by_answers(keeping)
    await set_tenant(
        keeping.callers, keeping.live, upload_quota_bytes=sum((await _held(keeping)).values()) + one
    )
    before = _not_kept("quota")
    for _ in range(3):
        await keeping.ask()
    assert len(await keeping.listed()) == 2
    assert _not_kept("quota") == before + 2


async def test_fewer_days_hold_for_what_is_there_already(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "SWEPT_AT_ONCE", 2)
    for _ in range(5):
        await keeping.ask()
    assert len(await keeping.listed()) == 5
    async with transaction(keeping.callers.database) as session:
        await session.execute(update(KeptAnswer).values(created_at=utc_now() - timedelta(days=8)))
    await _sweep(keeping)
    assert await keeping.stored() == 5
    await set_tenant(keeping.callers, keeping.live, keep_answers_days=7)
    assert await keeping.listed() == [], "before anything is swept"
    await _sweep(keeping)
    assert await keeping.stored() == 0


@on_sqlite
async def test_a_store_that_is_away_costs_no_answer_and_gets_them_later(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = repository.add

    async def away(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("gone"))

    monkeypatch.setattr(repository, "add", away)
    given = await keeping.ask()
    with pytest.raises(OperationalError):
        await keeping.writer.flush()
    assert (await keeping.reader.get("/v1/answers")).status_code == 503
    monkeypatch.setattr(repository, "add", real)
    assert [one["id"] for one in await keeping.listed()] == [given["id"]]


@on_sqlite
async def test_what_finds_no_room_is_answered_at_once_and_counted_as_not_kept(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_ANSWERS", 1)
    counted = _not_kept("full")
    first, _second = await keeping.ask(), await keeping.ask()
    assert _not_kept("full") == counted + 1
    assert [one["id"] for one in await keeping.listed()] == [first["id"]]
    monkeypatch.setattr(writing, "MOST_CHARS", 5)
    await keeping.ask()
    assert _not_kept("full") == counted + 2


async def test_one_that_the_store_refuses_takes_no_other_with_it(keeping: Keeping) -> None:
    counted = _not_kept("refused")
    good = await keeping.ask()
    waiting = keeping.writer._waiting
    foreign = waiting[0].row | {"id": uuid4(), "schema_version_id": uuid4()}
    keeping.writer.offer(waiting[0]._replace(row=foreign))
    also = await keeping.ask()
    assert [one["id"] for one in await keeping.listed()] == [also["id"], good["id"]]
    assert _not_kept("refused") == counted + 1


@on_sqlite
async def test_all_that_people_wrote_counts_for_the_room_that_there_is(keeping: Keeping) -> None:
    text = "Where is my parcel?"
    await keeping.ask(text, metadata={"note": "n" * 500})
    (waiting,) = keeping.writer._waiting
    assert waiting.chars >= len(text) + 500 + len(waiting.row["reasoning"])


@on_sqlite
async def test_one_that_cannot_be_cleaned_is_not_kept_and_holds_up_no_other(keeping: Keeping) -> None:
    counted = _not_kept("refused")
    good = await keeping.ask()
    waiting = keeping.writer._waiting
    for broken in ({"messages": None}, {"reasoning": "half of a pair: \ud83d"}):
        waiting.appendleft(waiting[0]._replace(row=waiting[-1].row | {"id": uuid4()} | broken))
    assert [one["id"] for one in await keeping.listed()] == [good["id"]]
    assert _not_kept("refused") == counted + 2


@on_sqlite
async def test_a_store_that_hangs_delays_neither_answers_nor_the_end_of_the_process_for_long(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object) -> None:
        await anyio.sleep(3600)

    monkeypatch.setattr(repository, "add", hangs)
    monkeypatch.setattr(writing, "_LAST_TRY_S", 0.2)
    counted, began = _not_kept("ended"), time.monotonic()
    await keeping.ask()
    await keeping.writer.close()
    assert time.monotonic() - began < 10
    assert _not_kept("ended") == counted + 1
    monkeypatch.undo()
    await keeping.writer.flush()


def _not_kept(reason: str) -> float:
    return metrics.ANSWERS_NOT_KEPT.labels(reason)._value.get()


async def _sweep(keeping: Keeping) -> None:
    await tasks.sweep(keeping.callers.database, keeping.callers.api.state.settings)


@on_sqlite
async def test_an_admin_of_the_platform_who_takes_answers_along_is_in_the_tenants_trail(
    keeping: Keeping,
) -> None:
    scope = keeping.live.told.scope
    platform = await keeping.callers.platform()
    told = {"X-Tenant": str(scope.tenant_id)}
    assert (await platform.get("/v1/answers/export", headers=told)).status_code == 200
    admin = await keeping.callers.of(scope, Scope.admin)
    read = (await admin.get("/v1/audit", params={"action": "platform.read"})).json()["items"]
    assert [event["detail"]["operation"] for event in read] == ["export_answers"]
