"""A word that a customer said is nowhere any more once it was asked to be forgotten."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from app.erasure import tasks
from app.infra.db.session import transaction
from app.infra.files import repository as files
from app.infra.storage import Storage
from app.runs import repository as runs
from app.runs.artifacts import sha256_of
from tests.app.erasure import searching
from tests.app.erasure.steps import CUSTOMER, WORD, keep_an_answer, lines, swept, trained, upload
from tests.app.runs.conftest import Shop

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
_LEFT_BEFORE = (
    "home/teachers/", "storage/jobs/", "/runs/", "/snapshots/", "/traces/", "/uploads/",
)  # fmt: skip


@pytest.mark.seconds
async def test_a_word_is_nowhere_after_its_conversations_were_deleted(shop: Shop, tmp_path: Path) -> None:
    dataset_id = await upload(shop, lines())
    run_id = await trained(shop, dataset_id)
    waiting = await shop.run(dataset_id=dataset_id)
    await keep_an_answer(shop, run_id)
    before = searching.in_files(tmp_path, WORD)
    assert [place for place in _LEFT_BEFORE if not any(place in path for path in before)] == []
    assert {"conversations", "datasets", "kept_answers"} <= set(await searching.in_rows(shop.database, WORD))
    assert await tasks.unlisted(shop.database, shop.storage) == []

    gone = await shop.client.delete("/v1/answers", params={"customer_reference": CUSTOMER})
    assert gone.status_code == 200, gone.text
    told = gone.json()
    model = (await shop.get(f"runs/{run_id}"))["model_version_id"]
    assert (told["answers"], len(told["conversations"])) == (1, 3)
    assert (set(told["runs"]), told["model_versions"]) == ({run_id, waiting["id"]}, [model])
    await swept(shop)
    (shop.play / "aloud").unlink()

    assert await searching.in_rows(shop.database, WORD) == []
    assert searching.in_files(tmp_path, WORD) == []
    assert await tasks.unlisted(shop.database, shop.storage) == []


@pytest.mark.seconds
@ON_SQLITE
async def test_a_run_whose_frozen_dataset_lost_a_row_ends_and_says_why(shop: Shop) -> None:
    dataset_id = await upload(shop, lines())
    run_id = await trained(shop, dataset_id)
    waiting = await shop.run(dataset_id=dataset_id)
    (shop.play / "traces.fail").write_text(json.dumps({"status": "failed", "code": "no_examples"}))
    failed = await shop.run(dataset_id=dataset_id)
    await shop.work(failed["id"], "traces")
    [one] = [c for c in await conversations(shop, dataset_id) if c["external_id"] == "said-1"]

    gone = (await shop.client.delete(f"/v1/conversations/{one['id']}")).json()
    assert gone["runs"] == [run_id, waiting["id"], failed["id"]]
    ended = await shop.get(f"runs/{waiting['id']}")
    assert (ended["state"], ended["error"]["code"]) == ("cancelled", "conversation_deleted")
    assert "begin another run" in ended["error"]["message"]
    retried = await shop.client.post(f"/v1/runs/{failed['id']}/retry")
    assert (retried.status_code, retried.json()["code"]) == (409, "run_not_failed")
    assert "was deleted" in retried.json()["detail"]
    assert (await shop.get(f"runs/{run_id}"))["state"] == "succeeded"
    again = await shop.client.post("/v1/runs", json=await shop.order(dataset_id=dataset_id))
    assert again.status_code == 202, again.text


@pytest.mark.seconds
@ON_SQLITE
async def test_a_frozen_dataset_goes_on_without_what_was_deleted(shop: Shop, tmp_path: Path) -> None:
    dataset_id = await upload(shop, lines())
    run_id = await trained(shop, dataset_id)
    before = await frozen(shop, run_id, tmp_path / "before.jsonl")
    for one in await conversations(shop, dataset_id):
        if one["external_id"] in ("said-1", "test-3"):
            assert (await shop.client.delete(f"/v1/conversations/{one['id']}")).status_code == 200
    await swept(shop)
    after = await frozen(shop, run_id, tmp_path / "after.jsonl")
    assert after == [line for line in before if json.loads(line)["id"] not in ("said-1", "test-3")]
    assert len(after) == len(before) - 2


@pytest.mark.seconds
@ON_SQLITE
async def test_what_is_deleted_while_a_frozen_dataset_loses_a_row_goes_from_it_too(
    shop: Shop, tmp_path: Path
) -> None:
    dataset_id = await upload(shop, lines())
    await trained(shop, dataset_id)
    first, *others = [c for c in await conversations(shop, dataset_id) if WORD in str(c["messages"])]
    await shop.client.delete(f"/v1/conversations/{first['id']}")
    async with transaction(shop.database, read_only=True) as session:
        begun = await files.to_change(session)  # as a sweep does that takes its time
    for other in others:
        await shop.client.delete(f"/v1/conversations/{other['id']}")
    for one in begun:
        await tasks._change(shop.database, shop.storage, one)
    await swept(shop)
    assert searching.in_files(tmp_path / "storage", WORD) == []
    assert await tasks.unlisted(shop.database, shop.storage) == []
    snapshots = [key for key in shop.storage.listed() if "/snapshots/" in key]
    assert len(snapshots) == 1


async def conversations(shop: Shop, dataset_id: str) -> list[dict[str, str]]:
    page = await shop.get(f"datasets/{dataset_id}/conversations?limit=200")
    found: list[dict[str, str]] = page["items"]
    return found


async def frozen(shop: Shop, run_id: str, local: Path) -> list[str]:
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        row = await runs.get(session, shop.scope, UUID(run_id))
    assert row is not None
    shop.storage.get_file(row.snapshot_key, local)
    assert sha256_of(local) == row.snapshot_sha256
    return local.read_text().splitlines()


# ------------------------------------------------------------------------------------- that a fault would be seen


@ON_SQLITE
async def test_a_file_without_a_row_is_seen_and_swept(shop: Shop, tmp_path: Path) -> None:
    await upload(shop, lines())
    planted = tmp_path / "planted"
    planted.write_text(f"a copy that nobody lists: {WORD}")
    storage: Storage = shop.storage
    storage.put_file(planted, f"tenants/{shop.scope.tenant_id}/copies/1")
    assert await tasks.unlisted(shop.database, storage) == [f"tenants/{shop.scope.tenant_id}/copies/1"]
    assert f"storage/tenants/{shop.scope.tenant_id}/copies/1" in searching.in_files(tmp_path, WORD)
    storage.put_file(planted, "elsewhere/of-another-program")
    await tasks.sweep_unlisted(shop.database, shop.settings)
    assert len(await tasks.unlisted(shop.database, storage)) == 2  # somebody may be about to make its row
    await tasks.sweep_unlisted(shop.database, shop.settings, older_than_s=0)
    assert await tasks.unlisted(shop.database, storage) == ["elsewhere/of-another-program"]


@ON_SQLITE
async def test_a_word_that_only_free_pages_hold_is_found_before_and_not_after_vacuum(
    shop: Shop, tmp_path: Path
) -> None:
    """So that the search is known to look there."""
    import sqlite3

    path = tmp_path / "steerwise.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE scratch (said TEXT)")
        connection.executemany("INSERT INTO scratch VALUES (?)", [(f"{WORD} {n} " * 50,) for n in range(200)])
    connection.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DROP TABLE scratch")
    connection.close()
    assert await searching.in_rows(shop.database, WORD) == []
    assert searching.in_files(tmp_path, WORD) != []
    await swept(shop)
    assert searching.in_files(tmp_path, WORD) == []
