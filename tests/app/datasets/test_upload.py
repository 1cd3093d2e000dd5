"""How a file comes in: at once, in pieces, cut off, too large, at the wrong place; and that nothing of it is lost."""

import asyncio
import gzip
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.datasets import partial, receiver
from app.errors import InputError
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobKind
from app.jobs import service as jobs
from tests.app.datasets.conftest import Product, jsonl, row
from tests.app.datasets.steps import offset

pytestmark = pytest.mark.anyio
CONTENT = jsonl(*(row(f"c{i}", f"text number {os.urandom(40).hex()}") for i in range(16_000)))  # 2.8 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def put_raw(
    product: Product, dataset_id: str, messages: list[dict[str, Any]], headers: dict[str, str]
) -> tuple[int, bytes]:
    """A request whose sender goes away, or says nothing for ever: below httpx, as the server sees it."""
    pending = list(messages)

    async def receive() -> dict[str, Any]:
        if not pending:
            await asyncio.sleep(3600)
        return pending.pop(0)

    answer: dict[str, Any] = {"status": 0, "body": b""}

    async def send(message: Any) -> None:
        answer["status"] = message.get("status", answer["status"])
        answer["body"] += message.get("body", b"")

    told = {"authorization": product.client.headers["authorization"], "content-type": "application/jsonl"}
    scope = {
        "type": "http",
        "method": "PUT",
        "path": f"/v1/datasets/{dataset_id}/content",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in (told | headers).items()],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
    }
    await product.api(scope, receive, send)
    return answer["status"], answer["body"]


def body(content: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


GONE = {"type": "http.disconnect"}


async def test_a_file_is_stored_as_it_came_and_a_job_awaits_it(product: Product) -> None:
    dataset_id = await product.dataset()
    assert await offset(product, dataset_id) == (0, "?0")
    sent = await product.put(dataset_id, CONTENT)
    assert (sent.status_code, sent.json()["sha256"], sent.json()["state"]) == (202, SHA256, "uploaded")
    assert sent.headers["Upload-Complete"] == "?1"
    key = f"tenants/{product.scope.tenant_id}/datasets/{dataset_id}/uploads/{SHA256}"
    with product.storage.open_read(key) as file:
        assert file.read() == CONTENT
    assert await offset(product, dataset_id) == (len(CONTENT), "?1")
    assert list((product.settings.home / "uploads").iterdir()) == []
    told = await product.get(f"datasets/{dataset_id}")
    assert told["validation"]["state"] == "queued"


async def test_a_body_that_does_not_say_its_length_ends_where_it_ends(product: Product) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for at in range(0, len(CONTENT), 300_001):
            yield CONTENT[at : at + 300_001]

    sent = await product.put(await product.dataset(), blocks())
    assert (sent.status_code, sent.json()["sha256"]) == (202, SHA256)


async def test_pieces_are_put_together(product: Product) -> None:
    dataset_id = await product.dataset()
    total, at = len(CONTENT), 0
    for size in (1, 1_000_000, 1_345_678, total):
        end = min(at + size, total)
        sent = await product.put(dataset_id, CONTENT[at:end], Content_Range=f"bytes {at}-{end - 1}/{total}")
        assert sent.status_code == 202
        assert sent.json()["received_bytes"] == end and sent.json()["total_bytes"] == total
        assert sent.json()["complete"] is (end == total)
        at = end
    assert sent.json()["sha256"] == SHA256


async def test_a_piece_at_the_wrong_place_is_told_the_right_one(product: Product) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, CONTENT[:100], Content_Range="bytes 0-99/200")
    for start in (50, 101, 150):
        refused = await product.put(dataset_id, b"x" * 10, Content_Range=f"bytes {start}-{start + 9}/200")
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong_offset")
        assert refused.headers["Upload-Offset"] == "100"
    assert await offset(product, dataset_id) == (100, "?0")
    empty = await product.dataset("another")
    refused = await product.put(empty, b"x" * 10, Content_Range="bytes 10-19/20")
    assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, "0")


async def test_a_request_that_begins_at_0_begins_again(product: Product) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, b"rubbish" * 10_000, Content_Range="bytes 0-69999/99999999")
    sent = await product.put(dataset_id, CONTENT)
    assert sent.json()["sha256"] == SHA256


@pytest.mark.parametrize("cut", [0, 1, 1_048_576, 2_500_000])
async def test_what_came_before_the_line_broke_is_kept(product: Product, cut: int) -> None:
    dataset_id = await product.dataset()
    blocks = [body(CONTENT[at : min(at + 65_536, cut)]) for at in range(0, cut, 65_536)]
    await put_raw(product, dataset_id, [*blocks, GONE], {"content-length": str(len(CONTENT))})
    assert await offset(product, dataset_id) == (cut, "?0")
    total = len(CONTENT)
    sent = await product.put(dataset_id, CONTENT[cut:], Content_Range=f"bytes {cut}-{total - 1}/{total}")
    assert (sent.status_code, sent.json()["sha256"]) == (202, SHA256)


async def test_a_line_that_breaks_again_and_again_only_ever_goes_forward(product: Product) -> None:
    dataset_id = await product.dataset()
    total, at, steps = len(CONTENT), 0, 0
    while at < total:
        headers = (
            {"content-range": f"bytes {at}-{total - 1}/{total}"} if at else {"content-length": str(total)}
        )
        step = [body(CONTENT[at : at + 700_000], more=True), GONE]
        await put_raw(product, dataset_id, step, headers)
        now, _ = await offset(product, dataset_id)
        assert now == min(at + 700_000, total)
        at, steps = now, steps + 1
    assert steps == -(-total // 700_000)
    # The last answer went nowhere, but the file was whole.
    assert (await product.get(f"datasets/{dataset_id}/upload"))["sha256"] == SHA256


async def test_a_sender_that_falls_silent_is_let_go_and_loses_nothing(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "IDLE_TIMEOUT_S", 0.2)
    dataset_id = await product.dataset()
    status, answer = await put_raw(product, dataset_id, [body(CONTENT[:10_000])], {"content-length": "20000"})
    assert (status, b"upload_stalled" in answer) == (408, True)
    assert await offset(product, dataset_id) == (10_000, "?0")


async def test_a_sender_that_dribbles_is_let_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "IDLE_TIMEOUT_S", 0.2)

    async def dribbled() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    with partial.opened(tmp_path / "a.part") as file:
        file.begin(0)
        bounds = receiver.Bounds(None, 1 << 30, InputError("too long"))
        receiving = receiver.Receiver(file, bounds, lambda _length: asyncio.sleep(0))
        async with asyncio.timeout(10):
            await receiving.take(dribbled())
        assert receiving.stalled and file.received_bytes > 0


async def test_a_file_that_was_whole_when_its_server_died_is_finished_without_sending_it_again(
    product: Product,
) -> None:
    dataset_id = await product.dataset()
    total = len(CONTENT)
    await product.put(dataset_id, CONTENT[:-1], Content_Range=f"bytes 0-{total - 2}/{total}")
    with (product.settings.home / "uploads" / f"{dataset_id}.part").open("ab") as file:
        file.write(CONTENT[-1:])
    assert await offset(product, dataset_id) == (total, "?0")
    sent = await product.put(dataset_id, b"", Content_Range=f"bytes */{total}")
    assert (sent.status_code, sent.json()["sha256"]) == (202, SHA256)


async def test_asking_with_an_empty_body_changes_nothing(product: Product) -> None:
    dataset_id = await product.dataset()
    refused = await product.put(dataset_id, b"", Content_Range="bytes */200")
    assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, "0")
    await product.put(dataset_id, CONTENT[:100], Content_Range="bytes 0-99/200")
    path = f"/v1/datasets/{dataset_id}/content"
    asked = await product.client.put(path, headers={"Content-Range": "bytes */200"})
    assert (asked.status_code, asked.json()["received_bytes"], asked.json()["complete"]) == (202, 100, False)


async def test_one_request_at_a_time_sends_a_file(product: Product) -> None:
    dataset_id = await product.dataset()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[:1000]
        await go_on.wait()
        yield CONTENT[1000:]

    first = asyncio.create_task(product.put(dataset_id, slow()))
    path = product.settings.home / "uploads" / f"{dataset_id}.part"
    while not path.exists():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    second = await product.put(dataset_id, b"something else")
    assert (second.status_code, second.json()["code"]) == (409, "upload_in_progress")
    assert second.headers["Retry-After"]
    go_on.set()
    assert (await first).json()["sha256"] == SHA256


async def test_no_transaction_is_open_while_bytes_come_in(product: Product) -> None:
    """On SQLite every other write would wait for it."""
    dataset_id = await product.dataset()
    made: list[str] = []

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[:2_000_000]
        made.append(await product.dataset("made meanwhile"))
        yield CONTENT[2_000_000:]

    sent = await product.put(dataset_id, slow())
    assert sent.status_code == 202 and made


async def test_a_dataset_takes_one_file(product: Product) -> None:
    dataset_id = await product.filled(row("a", "give it back"))
    refused = await product.put(dataset_id, CONTENT)
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_has_content")


async def test_a_full_or_absent_storage_loses_nothing(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = await product.dataset()
    root = product.settings.home / "storage"
    root.chmod(0o700)
    (root / "tenants").write_text("a file where a folder should be")
    refused = await product.put(dataset_id, CONTENT)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_away")
    assert refused.headers["Retry-After"] and "finish later" in refused.json()["detail"]
    (root / "tenants").unlink()
    sent = await product.put(dataset_id, b"", Content_Range=f"bytes */{len(CONTENT)}")
    assert (sent.status_code, sent.json()["sha256"]) == (202, SHA256)


async def test_a_dataset_that_is_deleted_while_its_file_comes_in_stays_deleted(product: Product) -> None:
    dataset_id = await product.dataset()

    async def blocks() -> AsyncIterator[bytes]:
        yield CONTENT[:1000]
        assert (await product.client.delete(f"/v1/datasets/{dataset_id}")).status_code == 204
        yield CONTENT[1000:]

    assert (await product.put(dataset_id, blocks())).status_code == 404
    key = f"tenants/{product.scope.tenant_id}/datasets/{dataset_id}/uploads/{SHA256}"
    assert not product.storage.exists(key)


async def test_the_job_is_there_exactly_if_the_file_is(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue: Callable[..., Awaitable[Any]] = jobs.enqueue

    async def failing(*given: Any, **more: Any) -> Any:
        await enqueue(*given, **more)
        raise RuntimeError("the database went away before the commit")

    dataset_id = await product.dataset()
    monkeypatch.setattr(jobs, "enqueue", failing)
    assert (await product.put(dataset_id, CONTENT)).status_code == 500
    monkeypatch.undo()
    async with transaction(product.database, product.scope) as session:
        assert (
            await jobs.newest_of(session, product.scope, JobKind.validate_dataset, UUID(dataset_id)) is None
        )
    assert await offset(product, dataset_id) == (len(CONTENT), "?0")
    sent = await product.put(dataset_id, b"", Content_Range=f"bytes */{len(CONTENT)}")
    assert sent.json()["complete"]


async def test_a_packed_file_is_stored_packed(product: Product) -> None:
    packed = gzip.compress(CONTENT)
    sent = await product.put(await product.dataset(), packed, Content_Encoding="gzip")
    assert sent.json()["sha256"] == hashlib.sha256(packed).hexdigest()
